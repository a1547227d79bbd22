//! Relay domain to next hop: backends by domain, and mailertable or Postfix transport files as they are.
//!
//! FORMATS.md section 5.4, transport(5), sendmail's `FEATURE(mailertable)`, REQUIREMENTS S1-7, S1-10, S1-26. What comes
//! first: the backend that the domain names, the file (the address, with its detail and without; the domain; `.parent`
//! from the nearest on; then `.` or `*`), the backend that is asked for every domain.
//!
//! A domain without a dot in front is that domain alone, as sendmail has it, and Postfix unless `transport_maps` is in
//! `parent_domain_matches_subdomains`, where it is not by default (`postconf -d`, 3.7): the server of the domain above knows
//! nobody below it.
//!
//! A line that can't be understood speaks for its key all the same: where the mail server sends that mail, nobody knows, and
//! the next best line does not say it.
//!
//! A bare host name, without brackets, is a name to be looked up in MX records, which may well point at ourselves: it is
//! not asked (milter-ahead has the same rule). Probes go to our own next hops only: never to a domain that isn't ours,
//! never to one of our own listeners.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::cache::ServerId;
use crate::address;
use crate::config::{BackendServer, Endpoint};
use crate::source::error_mailer;
use crate::verdict::Reply;

/// Port of SMTP.
const SMTP: u16 = 25;
/// Port of LMTP, by convention; RFC 2033 forbids 25.
const LMTP: u16 = 24;
/// Most servers of one next hop.
const MAX_SERVERS: usize = 16;

/// Who is asked: servers, tried in order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NextHop(Vec<BackendServer>);

impl NextHop {
    /// A next hop of these servers; `None` if there are none.
    pub fn new(servers: Vec<BackendServer>) -> Option<NextHop> {
        (!servers.is_empty()).then_some(NextHop(servers))
    }

    /// What its servers are known by in what is remembered.
    pub fn ids(&self) -> impl Iterator<Item = ServerId> {
        self.0.iter().map(server_id)
    }

    /// The servers.
    pub fn servers(&self) -> &[BackendServer] {
        &self.0
    }
}

/// FNV-1a of what it is called: against mistakes, not against malice.
pub fn server_id(server: &BackendServer) -> ServerId {
    let name = format!("{} {}", if server.lmtp { "lmtp" } else { "smtp" }, server.at);
    ServerId(name.bytes().fold(0x811c_9dc5, |sum, b| (sum ^ u32::from(b)).wrapping_mul(0x0100_0193)))
}

impl fmt::Display for NextHop {
    /// As Postfix's transport maps and mailertables write it: `smtp:[host]:25`, `lmtp:unix:/path`; several servers, with
    /// commas, as Postfix has it since 3.5.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.0.first() else { return Ok(()) };
        let alike = |server: &&BackendServer| server.lmtp == first.lmtp && server.at.is_tcp();
        f.write_str(if first.lmtp { "lmtp:" } else { "smtp:" })?;
        if !first.at.is_tcp() {
            return write!(f, "{}", first.at);
        }
        for (at, server) in self.0.iter().filter(alike).enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match &server.at {
                Endpoint::Tcp(addr) => write!(f, "{comma}[{}]:{}", addr.ip(), addr.port())?,
                Endpoint::Host(host, port) => write!(f, "{comma}[{host}]:{port}")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a table says about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ask there.
    Hop(NextHop),
    /// Delivered on this host: nobody to ask.
    Local,
    /// Mail is refused or put off, in these words.
    Refuse(Reply),
    /// A name without brackets (or none): its MX records would have to be looked up.
    Mx(Box<str>),
    /// It can't be understood: nobody knows who would have to be asked, and the default doesn't either.
    Unusable(TargetError),
}

/// Why a line of a table is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nothing that we know.
    #[error("a next hop is needed, as in \"smtp:[host]:25\" or \"lmtp:unix:/path\"")]
    Unknown,
    /// A transport of the administrator's own, of which nobody knows what it speaks.
    #[error("transport of an unknown kind: its name should begin with smtp, esmtp, relay or lmtp")]
    Transport,
    /// A path that depends on the current folder.
    #[error("the path of a socket must begin with \"/\"")]
    Relative,
    /// RFC 2033, 5.
    #[error("LMTP is not spoken on port 25")]
    LmtpPort,
    /// Too many.
    #[error("more than {MAX_SERVERS} servers")]
    TooMany,
    /// The key is no domain.
    #[error("not a domain")]
    Key,
    /// A key of transport(5) for a single recipient that is none.
    #[error("not an address")]
    Address,
    /// There is nothing after the key.
    #[error("no value")]
    NoValue,
}

impl std::str::FromStr for Target {
    type Err = TargetError;

    fn from_str(value: &str) -> Result<Target, TargetError> {
        let value = value.trim();
        let (transport, rest) = match value.split_once(':') {
            Some((transport, rest)) if !transport.contains(['[', '.']) => (transport, rest.trim()),
            None if value == "local" => ("local", ""),
            _ => ("", value),
        };
        let transport = transport.to_ascii_lowercase();
        let is = |kinds: &[&str]| kinds.iter().any(|kind| transport.starts_with(kind));
        match transport.as_str() {
            "error" => return Ok(Target::Refuse(error_mailer(rest).unwrap_or_else(Reply::absent))),
            "retry" => return Ok(Target::Refuse(retry(rest))),
            "local" | "virtual" | "discard" => return Ok(Target::Local),
            _ => {}
        }
        let lmtp = is(&["lmtp"]);
        if !lmtp && !transport.is_empty() && !is(&["smtp", "esmtp", "dsmtp", "relay"]) {
            return Err(TargetError::Transport);
        }
        if let Some(path) = rest.strip_prefix("unix:").filter(|_| lmtp) {
            let at: Endpoint = format!("unix:{path}").parse().map_err(|_| TargetError::Relative)?;
            return Ok(Target::Hop(NextHop(vec![BackendServer { lmtp, at }])));
        }
        let rest = rest.strip_prefix("inet:").filter(|_| lmtp).unwrap_or(rest);
        hosts(rest, lmtp)
    }
}

/// What Postfix's retry(8) says: never for good.
fn retry(text: &str) -> Reply {
    error_mailer(text)
        .filter(Reply::is_temporary)
        .or_else(|| Reply::new(450, "4.0.0", text).ok())
        .unwrap_or_else(Reply::unknown)
}

/// `[a]:25`, `[a]:[b]:[c]` (sendmail), `[a]:25, [b]:25` (Postfix), `192.0.2.1`; a name without brackets is for MX.
fn hosts(text: &str, lmtp: bool) -> Result<Target, TargetError> {
    let mut servers = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Ok(Target::Mx("".into()));
    }
    while !rest.is_empty() {
        let (name, bare) = if let Some(inner) = rest.strip_prefix('[') {
            let (name, after) = inner.split_once(']').ok_or(TargetError::Unknown)?;
            rest = after;
            (name, false)
        } else {
            let end = rest.find([':', ',']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            rest = after;
            (name.trim(), true)
        };
        let mut port = if lmtp { LMTP } else { SMTP };
        if let Some(after) = rest.strip_prefix(':') {
            let end = after.find([':', ',']).unwrap_or(after.len());
            match after[..end].trim() {
                digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    port = digits.parse().map_err(|_| TargetError::Unknown)?;
                    rest = &after[end..];
                }
                service @ ("smtp" | "lmtp") => {
                    port = if service == "smtp" { SMTP } else { LMTP };
                    rest = &after[end..];
                }
                _ => {}
            }
        }
        if lmtp && port == SMTP {
            return Err(TargetError::LmtpPort);
        }
        let name = match name.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => &name[5..],
            _ => name,
        };
        let at = match name.parse::<IpAddr>() {
            Ok(ip) => Endpoint::Tcp(SocketAddr::new(ip, port)),
            // With "inet:" in front, a host called fd or unix is none of the other kinds of endpoint.
            Err(_) => match format!("inet:{name}:{port}").parse() {
                Ok(at @ Endpoint::Host(..)) => at,
                _ => return Err(TargetError::Unknown),
            },
        };
        // LMTP never looks MX records up.
        if bare && !lmtp && matches!(at, Endpoint::Host(..)) {
            return Ok(Target::Mx(name.into()));
        }
        servers.push(BackendServer { lmtp, at });
        if servers.len() > MAX_SERVERS {
            return Err(TargetError::TooMany);
        }
        rest = rest.trim_start();
        rest = rest.strip_prefix([':', ',']).unwrap_or(rest).trim_start();
    }
    NextHop::new(servers).map(Target::Hop).ok_or(TargetError::Unknown)
}

/// A mailertable or transport file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By folded domain; with a leading dot for subdomains only.
    targets: HashMap<Box<[u8]>, Target>,
    /// By folded address.
    addresses: HashMap<Box<[u8]>, Target>,
    default: Option<Target>,
}

impl Table {
    /// Reads a file: `#` comments, lines that begin with a blank continue the one before. `fault` gets what is of no use,
    /// with its line number.
    pub fn read(bytes: &[u8], mut fault: impl FnMut(usize, TargetError)) -> Table {
        let mut table = Table::default();
        let text = String::from_utf8_lossy(bytes);
        let mut entry: Option<(usize, String)> = None;
        let mut flush = |entry: Option<(usize, String)>| {
            let Some((line, text)) = entry else { return };
            let (key, value) = text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((&text, ""));
            if let Err(error) = table.insert(key, value) {
                fault(line, error);
            }
        };
        for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            match (&mut entry, line.starts_with([' ', '\t'])) {
                (Some((_, text)), true) => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                _ => flush(entry.replace((at + 1, line.trim().to_owned()))),
            }
        }
        flush(entry);
        table
    }

    /// Adds an entry. The first one of a domain counts, also where it is of no use: the next best line must not speak for
    /// it.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), TargetError> {
        let target = if value.trim().is_empty() { Err(TargetError::NoValue) } else { value.parse() };
        let done = target.as_ref().map(|_| ()).map_err(|&error| error);
        let target = target.unwrap_or_else(Target::Unusable);
        if matches!(key, "." | "*") {
            self.default.get_or_insert(target);
            return done;
        }
        if key.contains('@') {
            let address = folded(key.as_bytes()).ok_or(TargetError::Address)?;
            self.addresses.entry(address).or_insert(target);
            return done;
        }
        let (dot, name) = match key.strip_prefix('.') {
            Some(name) => (&b"."[..], name),
            None => (&b""[..], key),
        };
        let mut out = Vec::new();
        let domain = address::fold_domain(name.as_bytes(), &mut out).map_err(|_| TargetError::Key)?;
        self.targets.entry([dot, domain.bytes()].concat().into()).or_insert(target);
        done
    }

    /// What it says about an address, its parts folded: what it says about the domain, unless there is a line for it, with
    /// its detail or without.
    pub fn find_address(&self, local: &[u8], domain: &[u8], delimiters: &[u8]) -> Option<&Target> {
        let find = |local: &[u8]| self.addresses.get(&*folded(&[local, b"@", domain].concat())?);
        let line = || {
            let bases = (1..local.len()).rev().filter(|&at| delimiters.contains(&local[at])).map(|at| &local[..at]);
            std::iter::once(local).chain(bases).find_map(find)
        };
        // Mostly there is none.
        let own = if self.addresses.is_empty() { None } else { line() };
        own.or_else(|| self.find(domain))
    }

    /// What it says about a folded domain.
    pub fn find(&self, domain: &[u8]) -> Option<&Target> {
        if let Some(target) = self.targets.get(domain) {
            return Some(target);
        }
        let mut rest = domain;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            if let Some(target) = self.targets.get(&rest[dot..]) {
                return Some(target);
            }
            rest = &rest[dot + 1..];
        }
        self.default.as_ref()
    }

    /// Every next hop that it names, each once.
    pub fn next_hops(&self) -> impl Iterator<Item = &NextHop> {
        let mut seen = std::collections::HashSet::new();
        self.targets.values().chain(self.addresses.values()).chain(&self.default).filter_map(move |target| match target
        {
            Target::Hop(hop) if seen.insert(hop.to_string()) => Some(hop),
            _ => None,
        })
    }

    /// The addresses that have an entry of their own.
    pub fn addresses(&self) -> impl Iterator<Item = (&[u8], &Target)> {
        self.addresses.iter().map(|(address, target)| (&**address, target))
    }

    /// The domains that have an entry of their own, for `[nexthops] domains = true`; those with a dot are for subdomains.
    pub fn domains(&self) -> impl Iterator<Item = (&[u8], &Target)> {
        self.targets.iter().map(|(domain, target)| (&**domain, target))
    }
}

/// An address as keys have it: tables are looked up in lower case.
fn folded(address: &[u8]) -> Option<Box<[u8]>> {
    let raw = address::split(address).ok()?;
    let (mut local, mut domain) = (Vec::new(), Vec::new());
    let domain = address::fold_domain(raw.domain, &mut domain).ok()?;
    let local = address::fold_local_part(raw.local, false, &mut local).ok()?;
    Some([local.bytes(), b"@", domain.bytes()].concat().into())
}

/// What the configuration says about the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ours<'a> {
    /// It is not ours.
    No,
    /// It is, and this backend is asked, if one is named.
    Yes(Option<&'a str>),
}

/// Where a domain's recipients are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// At this `[[backend]]`.
    Backend(&'a str, &'a NextHop),
    /// At a next hop of the table.
    Hop(&'a NextHop),
    /// Nowhere: delivered here.
    Local,
    /// Nowhere: its mail is refused or put off, in these words.
    Refuse(&'a Reply),
    /// Nowhere: MX records would have to be looked up.
    Mx(&'a str),
    /// Nowhere: what the table says of it can't be understood.
    Unusable(TargetError),
    /// Nowhere: the table could not be read yet.
    Unread,
    /// Nowhere: it would be ourselves.
    Ourselves,
    /// Nowhere: it is not ours.
    Foreign,
    /// Nowhere: nothing is configured.
    None,
}

impl Route<'_> {
    /// The next hop that is asked.
    pub fn hop(&self) -> Option<&NextHop> {
        match self {
            Route::Backend(_, hop) | Route::Hop(hop) => Some(hop),
            _ => None,
        }
    }

    /// Under whose name something is remembered of a recipient that is asked for here, of which `by` is said to have said
    /// it; what comes from elsewhere counts as said by the first server. `None`: it is not, somebody else has to be asked.
    /// While it is not known whom the table names, nothing speaks against anybody.
    pub fn witness(&self, by: Option<ServerId>) -> Option<ServerId> {
        match self {
            Route::Unread => by,
            _ => self.hop()?.ids().find(|id| by.is_none_or(|by| by == *id)),
        }
    }

    /// The name of the next hop that is asked.
    pub fn name(&self) -> Option<String> {
        match self {
            Route::Backend(name, _) => Some((*name).to_owned()),
            Route::Hop(hop) => Some(hop.to_string()),
            _ => None,
        }
    }
}

impl fmt::Display for Route<'_> {
    /// Who is asked, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Route::Backend(name, hop) => write!(f, "backend {name} at {hop}"),
            Route::Hop(hop) => write!(f, "{hop}, by [nexthops]"),
            Route::Local => f.write_str("nobody: [nexthops] says that it is delivered here"),
            Route::Refuse(text) => write!(f, "nobody: [nexthops] refuses it ({text})"),
            Route::Mx(name) => {
                write!(f, "nobody: [nexthops] names {name:?} without brackets, which is one for MX records")
            }
            Route::Unusable(error) => write!(f, "nobody: what [nexthops] says can't be understood ({error})"),
            Route::Unread => f.write_str("nobody: [nexthops] could not be read yet"),
            Route::Ourselves => f.write_str("nobody: it would be ourselves"),
            Route::Foreign => f.write_str("nobody: it is not ours"),
            Route::None => f.write_str("nobody: there is no backend for it"),
        }
    }
}

/// All that tells the next hop of a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Our own listeners.
    pub own: Vec<Endpoint>,
    /// `[[backend]]`s by name.
    pub backends: Vec<(Box<str>, NextHop)>,
    /// The one that is asked for every domain.
    pub all_domains: Option<Box<str>>,
    /// `[nexthops]`.
    pub table: Table,
    /// Its file could not be read yet: nobody knows what it says.
    pub is_unread: bool,
}

impl Routes {
    /// Whether there is nobody to be asked.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.table.next_hops().next().is_none()
    }

    /// Where to ask for recipients of a folded domain that have no line of their own.
    pub fn find(&self, domain: &[u8], ours: Ours<'_>) -> Route<'_> {
        self.by(ours, || self.table.find(domain))
    }

    /// Where to ask for a recipient, its parts folded.
    pub fn find_address(&self, local: &[u8], domain: &[u8], delimiters: &[u8], ours: Ours<'_>) -> Route<'_> {
        self.by(ours, || self.table.find_address(local, domain, delimiters))
    }

    fn by<'a>(&'a self, ours: Ours<'_>, target: impl FnOnce() -> Option<&'a Target>) -> Route<'a> {
        let Ours::Yes(backend) = ours else { return Route::Foreign };
        let named = |wanted: &str| self.backends.iter().find(|(name, _)| **name == *wanted);
        let target = if backend.is_some() { None } else { target() };
        let route = match (backend, target, &self.all_domains) {
            (Some(name), ..) => named(name).map(|(name, hop)| Route::Backend(name, hop)),
            (None, ..) if self.is_unread => Some(Route::Unread),
            (None, Some(target), _) => Some(match target {
                Target::Hop(hop) => Route::Hop(hop),
                Target::Local => Route::Local,
                Target::Refuse(reply) => Route::Refuse(reply),
                Target::Mx(name) => Route::Mx(name),
                Target::Unusable(error) => Route::Unusable(*error),
            }),
            (None, None, Some(name)) => named(name).map(|(name, hop)| Route::Backend(name, hop)),
            (None, None, None) => None,
        };
        match route {
            Some(Route::Backend(_, hop) | Route::Hop(hop)) if hop.0.iter().any(|s| is_ourselves(&s.at, &self.own)) => {
                Route::Ourselves
            }
            Some(route) => route,
            None => Route::None,
        }
    }
}

/// Whether connecting there would reach one of our own listeners, as far as that can be told from here: the same socket,
/// or the same port on the listener's address, on the loopback, or on "any address".
pub fn is_ourselves(at: &Endpoint, own: &[Endpoint]) -> bool {
    let local = |ip: IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    own.iter().any(|own| match (at, own) {
        (Endpoint::Tcp(at), Endpoint::Tcp(own)) => {
            at.port() == own.port() && (at.ip().to_canonical() == own.ip().to_canonical() || local(at.ip()))
        }
        (Endpoint::Host(host, port), Endpoint::Tcp(own)) => host == "localhost" && *port == own.port(),
        (Endpoint::Tcp(at), Endpoint::Host(_, port)) => local(at.ip()) && at.port() == *port,
        _ => at == own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(value: &str) -> String {
        match value.parse() {
            Ok(Target::Hop(hop)) => hop.to_string(),
            Ok(Target::Local) => "local".into(),
            Ok(Target::Refuse(text)) => format!("refuse {text}"),
            Ok(Target::Mx(name)) => format!("mx {name}"),
            Ok(Target::Unusable(error)) => panic!("{error}: not out of a text"),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn values_of_mailertables_and_transport_maps() {
        for (value, expected) in [
            ("smtp:[mbx1.inside.example.org]", "smtp:[mbx1.inside.example.org]:25"),
            ("esmtp:[192.0.2.10]", "smtp:[192.0.2.10]:25"),
            ("relay:[2001:db8::25]", "smtp:[2001:db8::25]:25"),
            ("smtp:[IPv6:2001:db8::25]:2525", "smtp:[2001:db8::25]:2525"),
            ("smtp:[Hub.Example]:2525", "smtp:[hub.example]:2525"),
            ("smtp:[hub.example]:smtp", "smtp:[hub.example]:25"),
            ("smtp:[a.example]:[b.example]", "smtp:[a.example]:25, [b.example]:25"),
            ("smtp:[a.example]:2525:[b.example]", "smtp:[a.example]:2525, [b.example]:25"),
            ("smtp:[a.example]:25, [b.example]:26", "smtp:[a.example]:25, [b.example]:26"),
            ("smtp:192.0.2.1:2525", "smtp:[192.0.2.1]:2525"),
            ("smtp-out:[a.example]", "smtp:[a.example]:25"),
            ("SMTP:[a.example]", "smtp:[a.example]:25"),
            ("Relay:[a.example]", "smtp:[a.example]:25"),
            ("LMTP:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
            ("[a.example]:26", "smtp:[a.example]:26"),
            ("lmtp:unix:/run/lmtp", "lmtp:unix:/run/lmtp"),
            ("lmtp:unix:private/lmtp", "Relative"),
            ("lmtp:inet:hub.example:2003", "lmtp:[hub.example]:2003"),
            ("lmtp:[192.0.2.1]", "lmtp:[192.0.2.1]:24"),
            ("lmtp:hub.example", "lmtp:[hub.example]:24"),
            ("lmtp:[hub.example]:25", "LmtpPort"),
            ("error:5.1.2:550 Domain closed", "refuse 550 5.1.2 Domain closed"),
            ("error:4.3.0:451 moving, later", "refuse 451 4.3.0 moving, later"),
            ("error:closed", "refuse 550 5.0.0 closed"),
            ("error:", "refuse 550 5.1.1 User unknown"),
            ("retry:not now", "refuse 450 4.0.0 not now"),
            ("retry:4.4.1 no route", "refuse 450 4.4.1 no route"),
            ("retry:5.1.1 never for good", "refuse 450 4.0.0 5.1.1 never for good"),
            ("retry:", "refuse 451 4.3.0 Recipient lookup failed, try again later"),
            ("discard:", "local"),
            ("local:", "local"),
            ("local", "local"),
            ("smtp:hub.example", "mx hub.example"),
            ("hub.example", "mx hub.example"),
            ("smtp:", "mx "),
            (":", "mx "),
            (":[hub.example]", "smtp:[hub.example]:25"),
            ("uucp:[hub]", "Transport"),
            ("smtp:[hub", "Unknown"),
            ("smtp:[]", "Unknown"),
            ("smtp:[a b]", "Unknown"),
            ("smtp:[a]:99999", "Unknown"),
        ] {
            assert_eq!(target(value), expected, "{value}");
        }
        assert_eq!(target(&format!("smtp:{}", "[a]:".repeat(17))), "TooMany");
    }

    const FILE: &str = "# ours\nexample.org\tsmtp:[mbx1.inside.example.org]\n.example.org  esmtp:[192.0.2.10]\n\
        B\u{fc}cher.example\n  relay:[192.0.2.11]\ndead.example error:5.1.2:550 Domain closed\nhere.example local:\n\
        joe@example.org smtp:[x]\nodd\nx.example uucp:x\nmx.example smtp:hub.example\n.\tsmtp:[hub.example.org]\n";

    fn routes() -> Routes {
        let hop = |value: &str| match value.parse() {
            Ok(Target::Hop(hop)) => hop,
            other => panic!("{other:?}"),
        };
        let mut faults = Vec::new();
        let table = Table::read(FILE.as_bytes(), |line, error| faults.push((line, error)));
        assert_eq!(faults, [(9, TargetError::NoValue), (10, TargetError::Transport)]);
        Routes {
            own: vec!["127.0.0.1:8910".parse().expect("good"), "unix:/run/r.sock".parse().expect("good")],
            backends: vec![
                ("hub".into(), hop("smtp:[192.0.2.1]:25")),
                ("me".into(), hop("smtp:[127.0.0.1]:8910")),
                ("socket".into(), hop("lmtp:unix:/run/r.sock")),
            ],
            all_domains: None,
            table,
            is_unread: false,
        }
    }

    fn find(routes: &Routes, domain: &str, ours: Ours<'_>) -> String {
        match routes.find(domain.as_bytes(), ours) {
            Route::Backend(name, _) => format!("backend {name}"),
            Route::Hop(hop) => hop.to_string(),
            Route::Refuse(reply) => reply.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_nearest_entry_counts() {
        let mut routes = routes();
        for (domain, expected) in [
            ("example.org", "smtp:[mbx1.inside.example.org]:25"),
            ("a.b.example.org", "smtp:[192.0.2.10]:25"),
            ("xn--bcher-kva.example", "smtp:[192.0.2.11]:25"),
            // Without a dot in front it is the domain alone.
            ("a.xn--bcher-kva.example", "smtp:[hub.example.org]:25"),
            ("a.dead.example", "smtp:[hub.example.org]:25"),
            ("dead.example", "550 5.1.2 Domain closed"),
            ("x.example", "Unusable(Transport)"),
            ("odd", "Unusable(NoValue)"),
            ("here.example", "Local"),
            ("mx.example", "Mx(\"hub.example\")"),
            ("other.example", "smtp:[hub.example.org]:25"),
        ] {
            assert_eq!(find(&routes, domain, Ours::Yes(None)), expected, "{domain}");
        }
        assert_eq!(find(&routes, "example.org", Ours::Yes(Some("hub"))), "backend hub");
        assert_eq!(find(&routes, "example.org", Ours::Yes(Some("nohub"))), "None");
        routes.table = Table::default();
        assert_eq!(find(&routes, "example.org", Ours::Yes(None)), "None");
        routes.all_domains = Some("hub".into());
        assert_eq!(find(&routes, "example.org", Ours::Yes(None)), "backend hub");
        routes.is_unread = true;
        assert_eq!(find(&routes, "example.org", Ours::Yes(None)), "Unread");
        assert_eq!(find(&routes, "example.org", Ours::Yes(Some("hub"))), "backend hub");
    }

    #[test]
    fn an_address_may_have_a_line_of_its_own() {
        let file = "joe@y.example smtp:[right]\nAnna+News@y.example smtp:[news]\njane@y.example cyrus:\n@y.example smtp:[x]\n\
                    y.example smtp:[a]\n";
        let mut faults = Vec::new();
        let table = Table::read(file.as_bytes(), |line, error| faults.push((line, error)));
        assert_eq!(faults, [(3, TargetError::Transport), (4, TargetError::Address)]);
        let find = |local: &str, delimiters: &[u8]| match table.find_address(local.as_bytes(), b"y.example", delimiters)
        {
            Some(Target::Hop(hop)) => hop.to_string(),
            other => format!("{other:?}"),
        };
        for (local, expected) in [
            ("joe", "smtp:[right]:25"),
            ("Joe", "smtp:[right]:25"),
            ("joe+x+y", "smtp:[right]:25"),
            ("joe-x", "smtp:[a]:25"),
            ("anna+news", "smtp:[news]:25"),
            ("anna", "smtp:[a]:25"),
            ("jane", "Some(Unusable(Transport))"),
            ("+joe", "smtp:[a]:25"),
        ] {
            assert_eq!(find(local, b"+"), expected, "{local}");
        }
        assert_eq!(find("joe+x", b""), "smtp:[a]:25");
        assert_eq!(table.next_hops().count(), 3);
    }

    #[test]
    fn a_host_may_be_called_like_a_kind_of_endpoint() {
        for name in ["fd", "unix", "local", "inet", "inet6"] {
            let at = Endpoint::Host(name.to_owned(), 1);
            let hop = NextHop::new(vec![BackendServer { lmtp: false, at }]).expect("not empty");
            assert_eq!(hop.to_string().parse(), Ok(Target::Hop(hop)), "{name}");
        }
    }

    #[test]
    fn neither_strangers_nor_ourselves_are_asked() {
        let routes = routes();
        assert_eq!(find(&routes, "example.org", Ours::No), "Foreign");
        assert_eq!(find(&routes, "example.org", Ours::Yes(Some("me"))), "Ourselves");
        assert_eq!(find(&routes, "example.org", Ours::Yes(Some("socket"))), "Ourselves");
        let us = |at: &str, own: &str| is_ourselves(&at.parse().expect("good"), &[own.parse().expect("good")]);
        assert!(us("127.0.0.1:25", "0.0.0.0:25") && us("[::1]:25", "127.0.0.1:25") && us("localhost:25", "[::]:25"));
        assert!(us("192.0.2.1:25", "192.0.2.1:25") && us("0.0.0.0:25", "192.0.2.1:25") && us("127.0.0.1:25", "gw:25"));
        assert!(!us("127.0.0.1:24", "127.0.0.1:25") && !us("192.0.2.1:25", "192.0.2.2:25"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = text.parse::<Target>();
            let _ = format!("smtp:{text}").parse::<Target>();
            Table::read(&bytes, |_, _| {});
        }

        #[test]
        fn a_next_hop_comes_back(
            hosts in proptest::collection::vec(("[a-z][a-z0-9.]{0,8}[a-z]", 1u16..), 1..4),
            lmtp in any::<bool>(),
        ) {
            prop_assume!(hosts.iter().all(|(host, port)| !host.contains("..") && *port != 25));
            let server = |(host, port)| BackendServer { lmtp, at: Endpoint::Host(host, port) };
            let hop = NextHop::new(hosts.into_iter().map(server).collect()).expect("not empty");
            prop_assert_eq!(hop.to_string().parse(), Ok(Target::Hop(hop)));
        }
    }
}
