//! The one path from a request to an answer: map name, key, snapshot, verdict, words.
//!
//! Every protocol that asks by map name (socketmap, line, the control socket's `query`) and `explain` come through
//! [`Directory::answer`]; what each kind of map says for each verdict is written here and nowhere else (DESIGN, section 2).
//! An answer comes out of one [`Directory`], and a reload replaces the directory as a whole.

use std::sync::Arc;

use crate::address;
use crate::map::{Asked, Content, Found, Policy, Scratch, Snapshot, Trace};
use crate::probe::route::{Ours, Route, Routes};
use crate::proto::{Reply, Value};
use crate::verdict::{self, Verdict};

/// What a map says about an address.
#[derive(Clone)]
pub enum Kind {
    /// Does the recipient exist? For `relay_recipient_maps`, rule sets and `${readsocket}`.
    Recipients(ValueOf),
    /// sendmail's access map: `to:` keys.
    Access,
    /// Postfix `check_recipient_access`.
    Check,
    /// Is the domain ours?
    Domains,
    /// Where does a domain's mail go?
    Nexthop,
    /// A file, served as it is; `None` until it could be read.
    Table(Option<Arc<Content>>),
}

/// What stands after `OK ` for a recipient that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOf {
    /// The address, folded.
    Echo,
    /// The source's own value.
    Source,
    /// This word.
    Word(Box<str>),
}

/// A map by its name.
#[derive(Clone)]
pub struct Map {
    /// The first word of a request.
    pub name: Box<str>,
    /// What it serves.
    pub kind: Kind,
}

/// The maps that are there without configuration.
pub const BUILT_IN: [&str; 7] = ["rcpt", "valid", "recipients", "access", "check", "domains", "nexthop"];

/// The snapshot, and the maps that show it: everything that answers come from.
pub struct Directory {
    snapshot: Snapshot,
    maps: Vec<Map>,
    routes: Routes,
    unknown: verdict::Reply,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The words.
    pub reply: Reply<'a>,
    /// What was found out about the recipient; `None` where the map is not about recipients.
    pub verdict: Option<Verdict>,
    /// The recipient exists only because its domain does not enforce refusals (`mode = "warn"`).
    pub spared: bool,
    /// The recipient's domain by its place in the snapshot, if it is ours.
    pub domain: Option<u32>,
}

/// A decision, and what it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided<'a> {
    /// What to do.
    pub decision: Decision<'a>,
    /// What was found out about the recipient.
    pub verdict: Verdict,
    /// See [`Answer::spared`].
    pub spared: bool,
    /// See [`Answer::domain`].
    pub domain: Option<u32>,
}

/// What a protocol that has its own words for it is to do with a recipient: policy, milter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// No objection: the recipient exists, or is none of ours.
    Pass,
    /// Refuse with this reply.
    Refuse(&'a verdict::Reply),
    /// Put off with this reply.
    Defer(&'a verdict::Reply),
    /// Take the message and drop it (`bitbucket`).
    Discard,
}

/// Asks further where the lists have not the last word (`verify` of a domain).
pub trait Prober {
    /// Whether the recipient exists; it is asked only where somebody has to be. `None`: that will be known later, and the request has to be asked again then.
    fn verify(&mut self, recipient: &Recipient<'_>) -> Option<Verdict>;
}

/// A recipient that a prober is asked about.
#[derive(Clone, Debug)]
pub struct Recipient<'a> {
    /// Folded, with its detail; see [`Asked`].
    pub local: &'a [u8],
    /// Folded; see [`Asked`].
    pub domain: &'a [u8],
    /// What holds for the domain.
    pub policy: &'a Policy,
    /// Who is asked about it.
    pub route: Route<'a>,
}

impl<'a> Recipient<'a> {
    /// A recipient as it is called at the domain whose backend is asked.
    pub fn new(asked: Asked<'a>, routes: &'a Routes) -> Recipient<'a> {
        let Asked { local, domain, policy } = asked;
        let ours = Ours::Yes(policy.backend.as_deref());
        Recipient { local, domain, policy, route: routes.find_address(local, domain, &policy.delimiters, ours) }
    }

    /// What it is known by, and asked for: the folded address.
    pub fn key(&self) -> Vec<u8> {
        [self.local, b"@", self.domain].concat()
    }

    /// What holds without asking anybody, and the words for it.
    pub fn settled(&self) -> Option<(Verdict, Option<&'a verdict::Reply>)> {
        match self.route {
            // Delivered here: the mail server itself knows, and is not to be contradicted.
            Route::Local => Some((Verdict::Exists, None)),
            Route::Refuse(reply) if reply.is_temporary() => Some((Verdict::Unknown, Some(reply))),
            Route::Refuse(reply) => Some((Verdict::Absent, Some(reply))),
            _ => None,
        }
    }
}

/// Says what is known already.
pub struct Remembered(pub Verdict);

impl Prober for Remembered {
    fn verify(&mut self, _: &Recipient<'_>) -> Option<Verdict> {
        Some(self.0)
    }
}

/// Asks nobody: what lists don't settle stays unknown.
impl Prober for () {
    fn verify(&mut self, _: &Recipient<'_>) -> Option<Verdict> {
        Some(Verdict::Unknown)
    }
}

/// The reason of a TEMP reply while no list has been read.
const NO_DATA: &[u8] = b"no data yet";

/// The same for a domain of whose next hop the table says what can't be understood.
const UNUSABLE: &[u8] = b"the next hop can't be understood";

impl Directory {
    /// A snapshot under the built-in maps and `more`; one of those with a built-in name takes its place.
    pub fn new(snapshot: Snapshot, more: Vec<Map>) -> Directory {
        let built_in = BUILT_IN.map(|name| {
            let kind = match name {
                "access" => Kind::Access,
                "check" => Kind::Check,
                "domains" => Kind::Domains,
                "nexthop" => Kind::Nexthop,
                _ => Kind::Recipients(ValueOf::Echo),
            };
            Map { name: name.into(), kind }
        });
        let taken = |name: &str| more.iter().any(|map| &*map.name == name);
        let mut maps: Vec<Map> = built_in.into_iter().filter(|map| !taken(&map.name)).collect();
        maps.extend(more);
        Directory { snapshot, maps, routes: Routes::default(), unknown: verdict::Reply::unknown() }
    }

    /// The same with what is known about next hops.
    pub fn with_routes(self, routes: Routes) -> Directory {
        Directory { routes, ..self }
    }

    /// Where the mail of our domains goes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Before the first load: every answer is "try again later", but for the names of maps that are built in.
    pub fn empty() -> Directory {
        Directory::new(Snapshot::empty(), Vec::new())
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The maps, built-in ones included.
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// The map of that name.
    #[inline]
    pub fn map(&self, name: &[u8]) -> Option<&Map> {
        self.maps.iter().find(|map| map.name.as_bytes() == name)
    }

    /// The place of the map of that name in [`Directory::maps`].
    #[inline]
    pub fn map_number(&self, name: &[u8]) -> Option<usize> {
        self.maps.iter().position(|map| map.name.as_bytes() == name)
    }

    /// The reply when nobody can tell, whoever is asked about.
    pub fn deferral(&self) -> &verdict::Reply {
        &self.unknown
    }

    /// Answers a request for a map by its name.
    #[inline]
    pub fn answer<'a>(&'a self, map: &'a [u8], key: &[u8], scratch: &'a mut Scratch) -> Answer<'a> {
        match self.map(map) {
            Some(map) => self.answer_from(&map.kind, key, scratch, &mut ()),
            None => plain(Reply::UnknownMap(map)),
        }
    }

    /// Answers a request for a map out of the lists alone; `trace` hears of the steps.
    pub fn answer_from<'a>(
        &'a self,
        kind: &'a Kind,
        key: &[u8],
        scratch: &'a mut Scratch,
        trace: &mut impl Trace,
    ) -> Answer<'a> {
        self.answer_by(kind, key, scratch, trace, &mut ()).unwrap_or(plain(Reply::Temp(NO_DATA)))
    }

    /// Answers a request for a map. `None`: the prober has to find out first.
    #[inline]
    pub fn answer_by<'a>(
        &'a self,
        kind: &'a Kind,
        key: &[u8],
        scratch: &'a mut Scratch,
        trace: &mut impl Trace,
        prober: &mut impl Prober,
    ) -> Option<Answer<'a>> {
        Some(match kind {
            Kind::Recipients(value) => {
                let found = self.find(key, scratch, trace, prober)?;
                self.of(&found, self.in_recipients(&found, value))
            }
            Kind::Check => {
                let found = self.find(key, scratch, trace, prober)?;
                self.of(&found, self.in_check(&found))
            }
            Kind::Access => match strip_tag(key) {
                Some(address) if is_full_address(address) => {
                    let found = self.find(address, scratch, trace, prober)?;
                    if found.verdict == Verdict::Foreign {
                        self.of(&found, self.pair(key))
                    } else {
                        self.of(&found, self.in_access(&found))
                    }
                }
                _ => plain(found_value(self.snapshot.pair(lower(key, scratch.domain_buffer())))),
            },
            Kind::Domains => plain(self.domain(key, scratch)),
            Kind::Nexthop => plain(self.nexthop(key, scratch)),
            Kind::Table(None) => plain(Reply::Temp(NO_DATA)),
            Kind::Table(Some(table)) => plain(found_value(table.pairs().find(lower(key, scratch.domain_buffer())))),
        })
    }

    /// The look-up, and what a prober adds to it.
    #[inline]
    fn find<'a>(
        &'a self,
        address: &[u8],
        scratch: &'a mut Scratch,
        trace: &mut impl Trace,
        prober: &mut impl Prober,
    ) -> Option<Found<'a, 'a>> {
        let found = self.snapshot.lookup(address, scratch, trace);
        match found.asked {
            None => Some(found),
            Some(key) => self.probed(found, self.snapshot.asked(key), prober),
        }
    }

    /// Whether an address may be at a domain of ours that we don't know of yet.
    pub fn may_be_ours(&self, address: &[u8], scratch: &mut Scratch) -> bool {
        !self.snapshot.domains_known() && self.snapshot.domain_of(address, scratch).is_none()
    }

    /// Shows the recipient that a prober would be asked about, if the lists leave that open.
    pub fn if_probed<T>(
        &self,
        address: &[u8],
        scratch: &mut Scratch,
        look: impl FnOnce(&Recipient<'_>) -> T,
    ) -> Option<T> {
        let found = self.snapshot.lookup(address, scratch, &mut ());
        found.asked.map(|key| look(&Recipient::new(self.snapshot.asked(key), &self.routes)))
    }

    /// What a backend would be asked about if it had to be. `None`: it is none of ours.
    pub fn recipient<'a>(&'a self, found: &Found<'a, 'a>) -> Option<Recipient<'a>> {
        self.snapshot.recipient(found).map(|asked| Recipient::new(asked, &self.routes))
    }

    #[cold]
    fn probed<'a>(&'a self, found: Found<'a, 'a>, asked: Asked<'a>, prober: &mut impl Prober) -> Option<Found<'a, 'a>> {
        let recipient = Recipient::new(asked, &self.routes);
        let (verdict, own) = match recipient.settled() {
            Some(settled) => settled,
            None => (prober.verify(&recipient)?, None),
        };
        Some(found.verified(verdict, own))
    }

    /// The place of a map that is about recipients, so that [`Directory::decide`] can speak for it.
    pub fn recipients_map(&self, name: &[u8]) -> Option<usize> {
        self.map_number(name)
            .filter(|&at| matches!(self.maps[at].kind, Kind::Recipients(_) | Kind::Access | Kind::Check))
    }

    /// Decides about a recipient, for protocols that have their own words.
    /// `None`: the prober has to find out first.
    pub fn decide<'a>(
        &'a self,
        recipient: &[u8],
        scratch: &'a mut Scratch,
        prober: &mut impl Prober,
    ) -> Option<Decided<'a>> {
        let found = self.find(recipient, scratch, &mut (), prober)?;
        let decision = match found.verdict {
            Verdict::Exists | Verdict::Foreign => Decision::Pass,
            Verdict::Absent => found.refusal().map_or(Decision::Pass, Decision::Refuse),
            Verdict::Unknown => Decision::Defer(found.deferral().unwrap_or(&self.unknown)),
        };
        let spared = found.verdict != found.enforced;
        Some(Decided { decision, verdict: found.verdict, spared, domain: found.domain })
    }

    fn of<'a>(&self, found: &Found<'_, '_>, reply: Reply<'a>) -> Answer<'a> {
        let spared = found.verdict != found.enforced;
        Answer { reply, verdict: Some(found.verdict), spared, domain: found.domain }
    }

    fn in_recipients<'a>(&'a self, found: &Found<'a, 'a>, value: &'a ValueOf) -> Reply<'a> {
        match found.verdict {
            Verdict::Exists => Reply::Ok(match (value, found.address) {
                (ValueOf::Echo, Some((local, domain))) if is_plain(local, domain) => Value::Address { local, domain },
                (ValueOf::Word(word), _) => Value::Bytes(word.as_bytes()),
                (ValueOf::Source, _) => Value::Bytes(found.value()),
                (ValueOf::Echo, _) => Value::Bytes(b"OK"),
            }),
            Verdict::Absent | Verdict::Foreign => Reply::NotFound,
            Verdict::Unknown => Reply::Temp(self.reason(found)),
        }
    }

    fn in_access<'a>(&'a self, found: &Found<'a, '_>) -> Reply<'a> {
        let error = |reply: &'a verdict::Reply| {
            let status = reply.status().as_bytes();
            Reply::Ok(Value::Parts([b"ERROR:", status, b":\"", reply.line().as_bytes(), b"\""]))
        };
        match (found.verdict, found.own_deferral()) {
            // A file of the administrator's that says DISCARD or QUARANTINE for a recipient means it.
            (Verdict::Exists, _) if says_more(found.value()) => Reply::Ok(Value::Bytes(found.value())),
            (Verdict::Exists, _) => Reply::Ok(Value::Bytes(b"RELAY")),
            (Verdict::Absent, _) => found.refusal().map_or(Reply::NotFound, error),
            (Verdict::Unknown, Some(reply)) => error(reply),
            (Verdict::Unknown, None) => Reply::Temp(self.reason(found)),
            (Verdict::Foreign, _) => Reply::NotFound,
        }
    }

    fn in_check<'a>(&'a self, found: &Found<'a, '_>) -> Reply<'a> {
        match (found.verdict, found.own_deferral()) {
            // Never "OK": it would end the list of restrictions, and may open a relay.
            (Verdict::Exists | Verdict::Foreign, _) => Reply::Ok(Value::Bytes(b"DUNNO")),
            (Verdict::Absent, _) => match found.refusal() {
                Some(reply) => Reply::Ok(Value::Bytes(reply.line().as_bytes())),
                None => Reply::Ok(Value::Bytes(b"DUNNO")),
            },
            (Verdict::Unknown, Some(reply)) => Reply::Ok(Value::Bytes(reply.line().as_bytes())),
            (Verdict::Unknown, None) => {
                let reply = found.deferral().unwrap_or(&self.unknown);
                let text = reply.status_and_text().as_bytes();
                Reply::Ok(Value::Parts([b"DEFER_IF_PERMIT ", text, b"", b"", b""]))
            }
        }
    }

    fn domain<'a>(&'a self, key: &[u8], scratch: &'a mut Scratch) -> Reply<'a> {
        match address::fold_domain(key, scratch.domain_buffer()) {
            Ok(domain) if self.snapshot.relay_domain(domain.bytes()).is_some() => {
                Reply::Ok(Value::Bytes(domain.bytes()))
            }
            Ok(domain) if memchr::memchr(b'@', domain.bytes()).is_none() && !self.snapshot.domains_known() => {
                Reply::Temp(NO_DATA)
            }
            _ => Reply::NotFound,
        }
    }

    /// The next hop of a domain, or of an address at it.
    fn nexthop<'a>(&'a self, key: &[u8], scratch: &'a mut Scratch) -> Reply<'a> {
        let (local, domain) = memchr::memrchr(b'@', key).map_or((None, key), |at| (Some(&key[..at]), &key[at + 1..]));
        let buffer = scratch.domain_buffer();
        let Ok(domain) = address::fold_domain(domain, buffer) else { return Reply::NotFound };
        let policy = self.snapshot.relay_domain(domain.bytes()).map(|domain| self.snapshot.policy(domain));
        let ours = match policy {
            Some(policy) => Ours::Yes(policy.backend.as_deref()),
            None if self.snapshot.domains_known() => Ours::No,
            None => return Reply::Temp(NO_DATA),
        };
        let delimiters = policy.map_or(&b""[..], |policy| &policy.delimiters);
        let route = match local {
            Some(local) => self.routes.find_address(local, domain.bytes(), delimiters, ours),
            None => self.routes.find(domain.bytes(), ours),
        };
        match route {
            Route::Backend(_, hop) | Route::Hop(hop) => {
                let text = hop.to_string();
                buffer.clear();
                buffer.extend_from_slice(text.as_bytes());
                Reply::Ok(Value::Bytes(buffer))
            }
            // "Not found" would send the mail where MX records say.
            Route::Unread => Reply::Temp(NO_DATA),
            Route::Unusable(_) => Reply::Temp(UNUSABLE),
            _ => Reply::NotFound,
        }
    }

    /// A key of an access file that is no recipient of ours: `connect:192.0.2.9`, `from:spammer.example`.
    fn pair(&self, key: &[u8]) -> Reply<'_> {
        found_value(self.snapshot.pair(&key.to_ascii_lowercase()))
    }

    /// Why we can't tell, for the log of who asked.
    fn reason<'a>(&'a self, found: &Found<'a, '_>) -> &'a [u8] {
        match found.own_deferral() {
            Some(reply) => reply.status_and_text().as_bytes(),
            None if !self.snapshot.is_complete() => NO_DATA,
            None => found.deferral().unwrap_or(&self.unknown).text().as_bytes(),
        }
    }
}

/// An answer that is not about a recipient.
fn plain(reply: Reply<'_>) -> Answer<'_> {
    Answer { reply, verdict: None, spared: false, domain: None }
}

/// The key as tables have it, in space that is used again.
fn lower<'b>(key: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    buffer.clear();
    buffer.extend(key.iter().map(u8::to_ascii_lowercase));
    buffer
}

fn found_value(value: Option<&[u8]>) -> Reply<'_> {
    value.map_or(Reply::NotFound, |value| Reply::Ok(Value::Bytes(value)))
}

/// The address of a `to:` key. Sendmail writes the tag in lower case.
fn strip_tag(key: &[u8]) -> Option<&[u8]> {
    let (tag, address) = key.split_at_checked(3)?;
    tag.eq_ignore_ascii_case(b"to:").then_some(address)
}

/// `user@domain`; not `user@`, which sendmail asks for local domains, nor a bare domain.
fn is_full_address(key: &[u8]) -> bool {
    memchr::memrchr(b'@', key).is_some_and(|at| at > 0 && at + 1 < key.len())
}

/// Whether sendmail can take the address as the result of a look-up: it is tokenised there, so comments, brackets and
/// quotes must balance, and 256 bytes are too many. Postfix wants UTF-8.
fn is_plain(local: &[u8], domain: &[u8]) -> bool {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut byte = 0;
        while byte < 0x80 {
            plain[byte] = !matches!(byte as u8, b'(' | b')' | b'<' | b'>' | b'"' | b'\\' | b',' | b';');
            byte += 1;
        }
        plain
    };
    local.len() + domain.len() < 250 && local.iter().all(|&byte| PLAIN[usize::from(byte)])
}

/// Values of an access file that ask for more than "accept".
fn says_more(value: &[u8]) -> bool {
    let starts = |word: &[u8]| value.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
    starts(b"DISCARD") || starts(b"QUARANTINE:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Builder, Domains, Grant, HashKey, Item, Key, Policy, Source};

    fn key() -> HashKey {
        HashKey::with_seeds(1, 2, 3, 4)
    }

    fn directory(more: Vec<Map>) -> Directory {
        let mut builder = Builder::new(key(), true, Domains::new());
        let at = |local: &'static [u8]| Key::Recipient { local, domain: b"a.example" };
        let refuse = |text: &str| Grant::Refuse(text.parse().ok());
        for (key, grant) in [
            (at(b"anna"), Grant::Accept { value: b"inner.example" }),
            (at(b"a b"), Grant::Accept { value: b"" }),
            (at(b"odd(x"), Grant::Accept { value: b"" }),
            (at(b"trap"), Grant::Accept { value: b"DISCARD" }),
            (at(b"leaver"), refuse("550 5.7.1 Left the company")),
            (at(b"full"), refuse("452 4.2.2 Mailbox full")),
        ] {
            builder.add(&Item { key, grant }).expect("a fit item");
        }
        builder.add_pair(b"Connect:192.0.2.7", b"REJECT");
        builder.add_pair(b"To:other.example", b"RELAY");
        let source = Source::new("list", 0, Some(Arc::new(builder.finish(|_| {}))));
        Directory::new(Snapshot::new(key(), vec![source], Vec::new(), true, Policy::default()), more)
    }

    fn ask(directory: &Directory, map: &str, key: &str) -> String {
        let mut out = Vec::new();
        directory.answer(map.as_bytes(), key.as_bytes(), &mut Scratch::default()).reply.write(&mut out);
        String::from_utf8(out).expect("replies to these keys are text")
    }

    #[test]
    fn each_kind_has_its_words() {
        let directory = directory(vec![
            Map { name: "relay".into(), kind: Kind::Recipients(ValueOf::Word("RELAY".into())) },
            Map { name: "own".into(), kind: Kind::Recipients(ValueOf::Source) },
            Map { name: "later".into(), kind: Kind::Table(None) },
        ]);
        for (map, key, reply) in [
            ("rcpt", "Anna+x@A.example", "OK anna+x@a.example"),
            ("rcpt", "\"a b\"@a.example", "OK a b@a.example"),
            ("rcpt", "odd(x@a.example", "OK OK"),
            ("rcpt", "nobody@a.example", "NOTFOUND "),
            ("rcpt", "leaver@a.example", "NOTFOUND "),
            ("rcpt", "full@a.example", "TEMP 4.2.2 Mailbox full"),
            ("rcpt", "anna@other.example", "NOTFOUND "),
            ("rcpt", "postmaster", "OK postmaster"),
            ("rcpt", "*", "NOTFOUND "),
            ("rcpt", "", "NOTFOUND "),
            ("relay", "anna@a.example", "OK RELAY"),
            ("own", "anna@a.example", "OK inner.example"),
            ("own", "a b@a.example", "OK OK"),
            ("access", "to:anna@a.example", "OK RELAY"),
            ("access", "TO:Anna@a.example", "OK RELAY"),
            ("access", "to:trap@a.example", "OK DISCARD"),
            ("access", "to:nobody@a.example", "OK ERROR:5.1.1:\"550 5.1.1 User unknown\""),
            ("access", "to:leaver@a.example", "OK ERROR:5.7.1:\"550 5.7.1 Left the company\""),
            ("access", "to:full@a.example", "OK ERROR:4.2.2:\"452 4.2.2 Mailbox full\""),
            ("access", "nobody@a.example", "NOTFOUND "),
            ("access", "from:nobody@a.example", "NOTFOUND "),
            ("access", "to:anna@", "NOTFOUND "),
            ("access", "to:a.example", "NOTFOUND "),
            ("access", "to:other.example", "OK RELAY"),
            ("access", "to:x@other.example", "NOTFOUND "),
            ("access", "connect:192.0.2.7", "OK REJECT"),
            ("access", "connect:192.0.2.8", "NOTFOUND "),
            ("check", "anna@a.example", "OK DUNNO"),
            ("check", "nobody@a.example", "OK 550 5.1.1 User unknown"),
            ("check", "full@a.example", "OK 452 4.2.2 Mailbox full"),
            ("check", "x@other.example", "OK DUNNO"),
            ("domains", "A.example.", "OK a.example"),
            ("domains", "other.example", "NOTFOUND "),
            ("domains", "anna@a.example", "NOTFOUND "),
            ("later", "x", "TEMP no data yet"),
            ("nomap", "anna@a.example", "TEMP unknown map nomap"),
        ] {
            assert_eq!(ask(&directory, map, key), reply, "{map} {key}");
        }
    }

    #[test]
    fn without_data_every_map_says_try_again() {
        let directory = Directory::empty();
        for (map, reply) in [
            ("rcpt", "TEMP no data yet"),
            ("check", "OK DEFER_IF_PERMIT 4.3.0 Recipient lookup failed, try again later"),
        ] {
            assert_eq!(ask(&directory, map, "anna@a.example"), reply);
        }
        assert_eq!(ask(&directory, "access", "to:anna@a.example"), "TEMP no data yet");
        assert_eq!(ask(&directory, "domains", "a.example"), "TEMP no data yet");
    }
}
