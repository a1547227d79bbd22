//! Which format a list has, by its content; a file's name is a hint that breaks ties only.
//!
//! Rules stand from the most telling to the least, and the first one that fits decides. Where a second format fits as
//! well it is named, and the safer of the two is taken: the one that does not turn refusals or remarks into recipients.

use super::action::{self, strip};
use super::aliases::name_and_target;
use super::cyrus::{is_dumped, is_mailbox};
use super::encoding::Decoder;
use super::lines::{is_idle, trim_end, trim_start};
use super::mailertable::is_route;
use super::proxy::kind;
use super::syntax::{Shape, is_domain, is_full_domain, is_local, is_network, key_and_value, shape};
use super::{Format, access, cdb, csv};

/// What was found out about a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detection {
    /// The format to read it as.
    pub format: Format,
    /// The evidence, for people: `line 3 has a tag of sendmail's access file: To:example.org ...`.
    pub why: String,
    /// Others that would fit.
    pub also: Vec<Format>,
}

/// As much of a list as is looked at.
const MAX_HEAD: usize = 64 * 1024;

impl Detection {
    /// What it is when a domain is to be attached: then words with dots are local parts, for domains need none.
    pub fn with_domain(self) -> Detection {
        let format = match self.format {
            Format::Domains => Format::Plain,
            Format::Virtualdomains => Format::Aliases,
            _ => return self,
        };
        found(format, "words with dots, to which `domain` is attached", &[self.format])
    }
}

/// Finds out the format of a list from its first 64 KiB; `name` is the name of its file, if it has one.
pub fn detect(head: &[u8], name: &str) -> Detection {
    if cdb::is_cdb(head) {
        return found(Format::Cdb, "it begins with the 256 tables of a cdb file", &[]);
    }
    match Sample::new(head, name) {
        Err(why) => found(Format::Plain, why, &[]),
        Ok(sample) => RULES
            .iter()
            .find_map(|rule| rule(&sample))
            .unwrap_or_else(|| found(Format::Plain, "nothing more special fits", &[])),
    }
}

type Rule = fn(&Sample) -> Option<Detection>;

const RULES: &[Rule] = &[
    ldif,
    csv_header,
    cyrus,
    mailman,
    users_assign,
    ad_export,
    userdb,
    accounts,
    access_tags,
    virtualdomains,
    verdicts,
    keyed,
    routes,
    virtusertable,
    access_values,
    qmail_recipients,
    rcptto,
    domains,
    postmap,
    addresses,
    words,
];

fn found(format: Format, why: impl Into<String>, also: &[Format]) -> Detection {
    Detection { format, why: why.into(), also: also.to_vec() }
}

/// The lines of the beginning.
struct Sample {
    /// Number and text of lines that are neither empty nor comments; continuation lines are left out.
    lines: Vec<(usize, Vec<u8>)>,
    comments: Vec<(usize, Vec<u8>)>,
    /// Some line is indented: it may go on with the one before.
    indented: bool,
    /// The file's name without folders, in lower case.
    name: String,
}

impl Sample {
    fn new(head: &[u8], name: &str) -> Result<Sample, String> {
        let head = head.get(..MAX_HEAD).unwrap_or(head);
        let (mut decoder, mut text) = (Decoder::new(), Vec::new());
        let mut push = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(())
        };
        decoder.feed(head, &mut push).and_then(|()| decoder.finish(&mut push)).map_err(|e| e.to_string())?;
        let indented =
            text.split(|&b| b == b'\n').any(|line| matches!(line, [b' ' | b'\t', ..]) && !is_idle(trim_end(line)));
        let said = text
            .split(|&b| b == b'\n')
            .enumerate()
            .map(|(at, line)| (at + 1, trim_end(line).to_vec()))
            .filter(|(_, line)| !matches!(line.as_slice(), [] | [b' ' | b'\t', ..]));
        let (comments, mut lines): (Vec<_>, Vec<_>) = said.partition(|(_, line)| line.starts_with(b"#"));
        // A last line that the limit has cut proves nothing.
        if head.len() == MAX_HEAD && !text.ends_with(b"\n") && lines.len() > 1 {
            lines.pop();
        }
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        Ok(Sample { lines, comments, indented, name })
    }

    /// The first line of which `test` holds, with its number: evidence to be shown.
    fn first(&self, test: impl Fn(&[u8]) -> bool) -> Option<String> {
        self.lines.iter().find(|(_, line)| test(line)).map(shown)
    }

    fn comment(&self, words: &[&str]) -> Option<String> {
        let has = |line: &[u8], word: &str| line.windows(word.len()).any(|w| w == word.as_bytes());
        self.comments.iter().find(|(_, line)| words.iter().any(|word| has(line, word))).map(shown)
    }

    /// Of how many lines in a hundred `test` holds.
    fn share(&self, test: impl Fn(&[u8]) -> bool) -> usize {
        self.lines.iter().filter(|(_, line)| test(line)).count() * 100 / self.lines.len().max(1)
    }

    /// Whether it holds of at least half of them: lists have remarks and errors in them, a short one more than few.
    fn most(&self, test: impl Fn(&[u8]) -> bool) -> bool {
        self.share(test) >= 50
    }

    fn named(&self, name: &str) -> bool {
        self.name.contains(name)
    }
}

fn shown((number, line): &(usize, Vec<u8>)) -> String {
    let text = String::from_utf8_lossy(line.get(..40).unwrap_or(line));
    format!("line {number} is \"{}\"", text.escape_debug().to_string().replace("\\\"", "\""))
}

fn key(line: &[u8]) -> &[u8] {
    key_and_value(line).map_or(line, |(key, _)| key)
}

fn value(line: &[u8]) -> &[u8] {
    key_and_value(line).map_or(b"", |(_, value)| value)
}

fn is_address(text: &[u8]) -> bool {
    matches!(shape(text), Ok(Shape::Address { .. }))
}

/// An address, `@domain` or `user@`.
fn has_at(text: &[u8]) -> bool {
    matches!(shape(text), Ok(Shape::Address { .. } | Shape::At { .. } | Shape::AtDot { .. } | Shape::User { .. }))
}

/// `example.org` or `.example.org`.
fn declares(word: &[u8]) -> bool {
    is_full_domain(word.strip_prefix(b".").unwrap_or(word))
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|&b| b == b':').collect()
}

fn ldif(sample: &Sample) -> Option<Detection> {
    // Somebody's alias may be called dn, too.
    let is_name = |name: &[u8]| name.contains(&b'=') || name.starts_with(b":");
    let dn = |line: &[u8]| {
        line.split_at_checked(3).is_some_and(|(dn, name)| dn.eq_ignore_ascii_case(b"dn:") && is_name(name))
    };
    sample.first(dn).map(|why| found(Format::Ldif, format!("{why}, which begins an LDIF entry"), &[]))
}

fn csv_header(sample: &Sample) -> Option<Detection> {
    if let Some(why) = sample.comments.first().filter(|(_, line)| line.starts_with(b"#TYPE ")).map(shown) {
        return Some(found(Format::Csv, format!("{why}, which Export-Csv writes"), &[]));
    }
    let mut lines = sample.lines.iter().skip_while(|(_, line)| line.starts_with(b"sep="));
    let header = lines.next()?;
    csv::is_header(&header.1, lines.map(|(_, line)| line.as_slice()))
        .then(|| found(Format::Csv, format!("{}, the header of a CSV export", shown(header)), &[]))
}

fn cyrus(sample: &Sample) -> Option<Detection> {
    let why = sample.first(is_mailbox)?;
    // Beside the inboxes there are many folders, and those that are shared are named as one likes.
    let dumped = |line: &[u8]| is_mailbox(line) || is_dumped(line) || matches!(line, [b'"', ..] | b"{" | b"}");
    sample.most(dumped).then(|| found(Format::Cyrus, format!("{why}, a mailbox of Cyrus"), &[]))
}

fn mailman(sample: &Sample) -> Option<Detection> {
    if let Some(why) = sample.comment(&["AUTOMATICALLY GENERATED BY MAILMAN", "STANZA START: "]) {
        return Some(found(Format::Mailman, format!("{why}, which Mailman writes"), &[]));
    }
    let pattern =
        |line: &[u8]| key(line).starts_with(b"/^") && key(line).ends_with(b"$/") && value(line).starts_with(b"lmtp:");
    if let Some(why) = sample.first(pattern) {
        return Some(found(Format::Mailman, format!("{why}, a pattern as Mailman writes it"), &[]));
    }
    let helper = |line: &[u8]| {
        is_address(key(line)) && key(line).windows(9).any(|w| w == b"-bounces@") && value(line).starts_with(b"lmtp:")
    };
    // Of version 2, should its comments be gone: every list leads to the name of its own. Other maps have catch-alls.
    let own = |line: &[u8]| matches!(shape(key(line)), Ok(Shape::Address { local, .. }) if local == value(line));
    let version_2 = |line: &[u8]| own(line) && key(line).starts_with(b"mailman-loop@");
    let why = sample.first(helper).or_else(|| sample.first(version_2).filter(|_| sample.share(own) == 100))?;
    Some(found(Format::Mailman, format!("{why}, a list's helper address"), &[Format::Postmap]))
}

fn users_assign(sample: &Sample) -> Option<Detection> {
    let assignment = |line: &[u8]| matches!(line, [b'=' | b'+', ..]) && fields(line).len() == 8;
    let why = sample.first(assignment)?;
    let fits = sample.most(|line| assignment(line) || line == b".");
    fits.then(|| found(Format::UsersAssign, format!("{why}, an assignment of qmail-users"), &[]))
}

fn ad_export(sample: &Sample) -> Option<Detection> {
    const TYPES: [&str; 7] = ["smtp", "x400", "x500", "sip", "spo", "eum", "ms"];
    let typed = |text: &[u8]| {
        kind(text).is_some_and(|(kind, rest)| {
            !rest.is_empty() && TYPES.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(kind))
        })
    };
    let entry = |line: &[u8]| {
        typed(line) || kind(line).is_some_and(|(_, value)| value.starts_with(b" ") && typed(trim_start(value)))
    };
    let why = sample.first(entry)?;
    sample.most(entry).then(|| found(Format::AdExport, format!("{why}, an address with its type"), &[]))
}

fn userdb(sample: &Sample) -> Option<Detection> {
    let field = |line: &[u8]| {
        !value(line).is_empty() && (key(line).ends_with(b":maildrop") || key(line).ends_with(b":mailname"))
    };
    sample.first(field).map(|why| found(Format::Userdb, format!("{why}, a field of sendmail's user database"), &[]))
}

/// passwd, or passwd-file: a name with a domain, or a password with its scheme.
fn accounts(sample: &Sample) -> Option<Detection> {
    let number = |field: Option<&&[u8]>| field.is_some_and(|f| !f.is_empty() && f.iter().all(u8::is_ascii_digit));
    let scheme = |line: &[u8]| {
        let fields = fields(line);
        let name = fields.first().copied().unwrap_or_default();
        let password = fields.get(1).copied().unwrap_or_default();
        (is_address(name) || is_local(name)) && (password.starts_with(b"{") || (is_address(name) && fields.len() >= 6))
    };
    if sample.most(scheme) {
        return Some(found(Format::PasswdFile, "every line is a user and a password", &[]));
    }
    let account = |line: &[u8]| {
        let fields = fields(line);
        matches!(line, [b'+' | b'-', ..]) || fields.len() >= 7 && number(fields.get(2)) && number(fields.get(3))
    };
    let fits = sample.most(account) && sample.lines.iter().any(|(_, line)| fields(line).len() >= 7);
    fits.then(|| found(Format::Passwd, "every line has the fields of passwd(5)", &[]))
}

/// sendmail's tags (cf/README and the features that bring their own).
fn is_access_tag(tag: &[u8]) -> bool {
    const TAGS: [&str; 16] = [
        "to",
        "from",
        "connect",
        "spam",
        "clientrate",
        "clientconn",
        "greetpause",
        "tls_clt",
        "tls_srv",
        "tls_rcpt",
        "tls_clt_features",
        "tls_srv_features",
        "try_tls",
        "srv_features",
        "clt_features",
        "authinfo",
    ];
    TAGS.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(tag))
}

fn access_tags(sample: &Sample) -> Option<Detection> {
    let tagged = |line: &[u8]| {
        !value(line).is_empty()
            && access::tag(key(line)).is_some_and(|(tag, name)| !name.is_empty() && is_access_tag(tag))
    };
    sample.first(tagged).map(|why| found(Format::Access, format!("{why}, with a tag of sendmail's access file"), &[]))
}

fn virtualdomains(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| match fields(line).as_slice() {
        [name, prepend] => (declares(name) || is_address(name)) && (prepend.is_empty() || is_local(prepend)),
        _ => false,
    };
    let alias = |line: &[u8]| matches!(fields(line).as_slice(), [name, _] if is_local(name) && !declares(name));
    let why = sample.first(entry).filter(|_| sample.first(alias).is_none())?;
    sample.most(entry).then(|| found(Format::Virtualdomains, format!("{why}, as qmail's virtualdomains has it"), &[]))
}

/// Words that nothing but a cache of verdicts has, or the verdicts of Postfix.
fn verdicts(sample: &Sample) -> Option<Detection> {
    let word = |line: &[u8]| {
        line.split(|&b| matches!(b, b' ' | b'\t' | b',' | b';'))
            .any(|word| word.eq_ignore_ascii_case(b"valid") || word.eq_ignore_ascii_case(b"invalid"))
    };
    let digits = |f: &&[u8]| !f.is_empty() && f.iter().all(u8::is_ascii_digit);
    let postfix = |line: &[u8]| fields(value(line)).get(..3).is_some_and(|status| status.iter().all(digits));
    let has_address = |line: &[u8]| line.contains(&b'@');
    let exim = |line: &[u8]| line.windows(9).any(|piece| piece == b" callout=");
    let entry = |line: &[u8]| exim(line) || has_address(line) && (word(line) || postfix(line));
    let why = sample.first(entry)?;
    sample.most(entry).then(|| found(Format::Backlist, format!("{why}, a verdict"), &[Format::Postmap]))
}

/// `key: value`: aliases, or an Exim lsearch file, which is told by its wildcards and full addresses.
fn keyed(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| {
        name_and_target(line).is_ok_and(|(name, target)| {
            let default = name.starts_with(b"*") && key(name) == name;
            !target.is_empty() && (default || is_local(name) || is_address(name))
        })
    };
    let wild = |line: &[u8]| entry(line) && line.starts_with(b"*");
    let full = |line: &[u8]| entry(line) && name_and_target(line).is_ok_and(|(name, _)| is_address(name));
    let why = sample.first(entry).filter(|_| sample.most(entry))?;
    Some(match sample.first(wild) {
        Some(why) => found(Format::Lsearch, format!("{why}, a default as Exim has it"), &[Format::Aliases]),
        None if sample.most(full) => found(Format::Lsearch, format!("{why}, a key and a colon"), &[Format::Aliases]),
        None => found(Format::Aliases, format!("{why}, a name and a colon"), &[Format::Lsearch]),
    })
}

/// Domains and next hops. As sources of domains, the two formats are alike but for continuation lines.
fn routes(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| is_route(value(line)) && (declares(key(line)) || matches!(key(line), b"." | b"*"));
    let why = sample.first(entry).filter(|_| sample.most(entry))?;
    let postfix = |line: &[u8]| {
        let value = value(line);
        key(line) == b"*" || value == b":" || value.starts_with(b"lmtp:unix:") || value.windows(2).any(|w| w == b"]:")
    };
    let transport = !sample.named("mailertable") && (sample.named("transport") || sample.first(postfix).is_some());
    Some(match transport {
        true => found(Format::Transport, format!("{why}, a route"), &[Format::Mailertable]),
        false => found(Format::Mailertable, format!("{why}, a route"), &[Format::Transport]),
    })
}

fn virtusertable(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| has_at(key(line)) && !value(line).is_empty();
    let is_error = |line: &[u8]| strip(&String::from_utf8_lossy(value(line)), "error:").is_some();
    let word = |line: &[u8]| action::access(value(line)).is_ok() && !is_error(line);
    let telling = |line: &[u8]| {
        let has = |text: &[u8], piece: &[u8]| text.windows(piece.len()).any(|w| w == piece);
        entry(line)
            && (["%0", "%1", "%2", "%3"].iter().any(|p| has(value(line), p.as_bytes()))
                || has(key(line), b"+*@")
                || has(key(line), b"++@")
                || is_error(line))
            && !word(line)
    };
    // An access file has errors, too, and beside them words that are no targets.
    let why = sample.first(telling).filter(|_| sample.most(entry) && sample.first(word).is_none())?;
    Some(found(Format::Virtusertable, format!("{why}, as a virtusertable has it"), &[]))
}

/// Values that only an access file has. Read as a list of recipients, its refusals would become recipients.
fn access_values(sample: &Sample) -> Option<Detection> {
    let word = |line: &[u8]| action::access(value(line)).is_ok();
    let telling = |line: &[u8]| word(line) && !value(line).eq_ignore_ascii_case(b"OK");
    let refusal = |line: &[u8]| word(line) && action::is_refusal(value(line));
    let why = sample.first(refusal).or_else(|| sample.first(telling)).filter(|_| sample.most(word))?;
    Some(found(Format::Access, format!("{why}, with a value of an access file"), &[Format::Postmap]))
}

fn qmail_recipients(sample: &Sample) -> Option<Detection> {
    let special = |line: &[u8]| match line {
        [b'!', domain @ ..] => is_domain(domain),
        _ => line.contains(&b'|') && matches!(line, [b'@' | b'*', ..]) && value(line).is_empty(),
    };
    sample
        .first(special)
        .map(|why| found(Format::QmailRecipients, format!("{why}, as control/recipients of s/qmail has it"), &[]))
}

/// qmail's lists, told by a minus in front, or by their names: what badrcptto refuses looks like what others accept.
fn rcptto(sample: &Sample) -> Option<Detection> {
    let alone = |line: &[u8]| value(line).is_empty() && (has_at(line) || is_local(line));
    let minus = |line: &[u8]| line.strip_prefix(b"-").is_some_and(|entry| has_at(entry) && value(line).is_empty());
    if !sample.most(alone) {
        return None;
    }
    if sample.named("badrcptto") {
        return Some(found(Format::Badrcptto, "its name is badrcptto", &[Format::Plain]));
    }
    if let Some(why) = sample.first(minus) {
        return Some(found(Format::Validrcptto, format!("{why}, a refusal as validrcptto has it"), &[Format::Plain]));
    }
    let named = [(Format::Validrcptto, "validrcptto"), (Format::Goodrcptto, "goodrcptto")];
    let (format, name) = named.into_iter().find(|(_, name)| sample.named(name))?;
    Some(found(format, format!("its name is {name}"), &[Format::Plain]))
}

fn domains(sample: &Sample) -> Option<Detection> {
    let bare = |line: &[u8]| {
        let name = key(line.split(|&b| b == b'#').next().unwrap_or(line));
        declares(name) || is_network(name)
    };
    let address = |line: &[u8]| has_at(key(line));
    // A few addresses are mistakes in a list of domains; many are people, beside names with dots.
    let fits = sample.most(bare) && sample.share(address) <= 20;
    fits.then(|| found(Format::Domains, "its lines begin with domain names", &[]))
}

fn postmap(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| (has_at(key(line)) || declares(key(line))) && !value(line).is_empty();
    let attribute = |line: &[u8]| {
        let has = |name: &str| value(line).windows(name.len()).any(|w| w == name.as_bytes());
        entry(line) && ["state=", "until=", "text="].into_iter().any(has)
    };
    if let Some(why) = sample.first(attribute) {
        return Some(found(Format::Plain, format!("{why}, with an attribute"), &[Format::Postmap]));
    }
    // Postfix would pass over a key without a value; whoever wrote it meant somebody.
    let alone = |line: &[u8]| has_at(key(line)) && value(line).is_empty();
    let is_map = sample.indented || sample.lines.iter().any(|(_, line)| declares(key(line)));
    if sample.most(entry)
        && !is_map
        && let Some(why) = sample.first(alone)
    {
        return Some(found(Format::Plain, format!("{why}, without the value that others have"), &[Format::Postmap]));
    }
    sample.most(entry).then(|| found(Format::Postmap, "every line is an address and a value", &[Format::Plain]))
}

fn addresses(sample: &Sample) -> Option<Detection> {
    let entry = |line: &[u8]| has_at(key(line)) || line.starts_with(b"<");
    let word = |line: &[u8]| is_local(line);
    let also: &[Format] = if sample.first(word).is_some() { &[Format::Goodrcptto] } else { &[] };
    sample
        .most(|line| entry(line) || word(line) && sample.first(entry).is_some())
        .then(|| found(Format::Plain, "an address a line", also))
}

fn words(sample: &Sample) -> Option<Detection> {
    sample.most(is_local).then(|| found(Format::Plain, "a local part a line", &[Format::Goodrcptto]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(name: &str, text: &str) -> (Format, Vec<Format>) {
        let detection = detect(text.as_bytes(), name);
        (detection.format, detection.also)
    }

    #[test]
    fn by_content() {
        use Format::*;
        for (text, format, also) in [
            ("a@example.org OK\nb@example.org x\n@example.net OK\n", Postmap, vec![Plain]),
            ("a@example.org\n\n# c\nb@example.org\n", Plain, vec![]),
            ("a@example.org OK\nb@example.org\nc@example.org x\n", Plain, vec![Postmap]),
            ("a@example.org\nb@example.org\nc@example.org x\n", Plain, vec![]),
            ("a@example.org OK\nb@example.org\n  x\n", Postmap, vec![Plain]),
            ("example.org x\na@example.org OK\nb@example.org\n", Postmap, vec![Plain]),
            ("Connect:emailblast.example REJECT\nTo:a@example.org RELAY\nb@example.org REJECT\n", Access, vec![]),
            ("email: anna\nanna: anna@inside.example\n", Aliases, vec![Lsearch]),
            ("dn: anna\nroot: anna\n", Aliases, vec![Lsearch]),
            ("anna.adler:root\nbert:root\n", Aliases, vec![Lsearch]),
            ("anna.adler\nbert.blau\nanna@example.org\n", Plain, vec![Goodrcptto]),
            ("email\nanna\nbert\n", Plain, vec![Goodrcptto]),
            ("a@example.org\npostmaster\n", Plain, vec![Goodrcptto]),
            ("anna\nbert\n", Plain, vec![Goodrcptto]),
            ("a@example.org OK\nb@example.org state=full\n", Plain, vec![Postmap]),
            ("example.org\nexample.net # x\n.example.com\n", Domains, vec![]),
            ("From:x.example OK\na@example.org RELAY\n", Access, vec![]),
            ("a@example.org OK\nb@example.org REJECT\n", Access, vec![Postmap]),
            ("a@example.org anna\n@example.org error:nouser no\n", Virtusertable, vec![]),
            ("a+*@example.org x\n", Virtusertable, vec![]),
            ("a@example.org error:nouser no\nb@example.org RELAY\n", Access, vec![Postmap]),
            ("example.org smtp:[a]\n. esmtp:b\n", Mailertable, vec![Transport]),
            ("example.org smtp:[a]:25\n* smtp:[b]:25\n", Transport, vec![Mailertable]),
            ("a: b\nc: d, e\n", Aliases, vec![Lsearch]),
            ("a: b\n*: :fail: no\n", Lsearch, vec![Aliases]),
            ("a@example.org: b\nc@example.org: d\n", Lsearch, vec![Aliases]),
            ("a:maildrop a@b.example\n", Userdb, vec![]),
            ("a@example.org\n-b@example.org\n", Validrcptto, vec![Plain]),
            ("a@example.org\n!example.net\n", QmailRecipients, vec![]),
            ("example.org:anna\n.example.net:bert\n", Virtualdomains, vec![]),
            ("=a:a:1:1:/:::\n.\n", UsersAssign, vec![]),
            ("root:x:0:0:root:/root:/bin/sh\n", Passwd, vec![]),
            ("a@example.org:{SSHA}x:1:1::/:\n", PasswdFile, vec![]),
            ("alias: SMTP:a@example.org\r\nalias: sip:a@example.org\r\n", AdExport, vec![]),
            ("smtp:a@example.org\n", AdExport, vec![]),
            ("version: 1\n\ndn: cn=a\nmail: a@example.org\n", Ldif, vec![]),
            ("\"PrimarySmtpAddress\",\"EmailAddresses\"\n", Csv, vec![]),
            ("Mail\na@example.org\n", Csv, vec![]),
            ("# STANZA START: chess\nchess: \"|/x post chess\"\n", Mailman, vec![]),
            ("chess@l.example lmtp:[::1]:8024\nchess-bounces@l.example lmtp:[::1]:8024\n", Mailman, vec![Postmap]),
            ("mailman-loop@l.example mailman-loop\nchess@l.example chess\n", Mailman, vec![Postmap]),
            ("a@example.org valid\nb@example.org invalid\n", Backlist, vec![Postmap]),
            ("a@example.org\t0:1783000000:1783000000:ok\n", Backlist, vec![Postmap]),
            ("29-Oct-2026 12:34:56 a@example.org callout=accept\n", Backlist, vec![Postmap]),
            ("user.a\t0 default a\tlrs\nuser.a.Sent\t0 default a\tlrs\n", Cyrus, vec![]),
            ("{\n\"user.a\": {\"name\": \"user.a\", \"mbtype\": \"e\"}\n}\n", Cyrus, vec![]),
            ("/var/spool/cyrus/a/user/anna\n", Cyrus, vec![]),
            ("user/anna@example.org\nuser/bert@example.org\n", Cyrus, vec![]),
            ("user.example.com\tsmtp:[a]\nexample.org\tsmtp:[b]\n", Mailertable, vec![Transport]),
            ("user.example.com\tRELAY\nexample.org\tRELAY\n", Access, vec![Postmap]),
            ("mailman-loop@l.example mailman-loop\n@other.example @l.example\n", Postmap, vec![Plain]),
            ("user.example\nexample.org\nexample.net\n", Domains, vec![]),
            ("user.one@example.org\tOK\nuser.two@example.org\tOK\n", Postmap, vec![Plain]),
            ("user.one@example.org\n", Plain, vec![]),
            ("*: :fail: No such person\n", Lsearch, vec![Aliases]),
            ("", Plain, vec![]),
        ] {
            assert_eq!(detected("list", text), (format, also), "{text}");
        }
    }

    #[test]
    fn by_name_where_content_leaves_it_open() {
        use Format::*;
        let text = "a@example.org\nb\n";
        assert_eq!(detected("/var/qmail/control/badrcptto", text), (Badrcptto, vec![Plain]));
        assert_eq!(detected("/var/qmail/control/goodrcptto", text), (Goodrcptto, vec![Plain]));
        assert_eq!(detected("validrcptto", text), (Validrcptto, vec![Plain]));
        assert_eq!(detected("mailertable", "example.org smtp:[a]:25\n"), (Mailertable, vec![Transport]));
        assert_eq!(detected("badrcptto", "a@example.org OK\n"), (Postmap, vec![Plain]), "the content decides");
    }

    #[test]
    fn a_binary_file_is_told_as_such() {
        let detection = detect(b"PK\x03\x04 and so on", "list.xlsx");
        assert_eq!(detection.format, Format::Plain);
        assert!(detection.why.contains("Excel"), "{}", detection.why);
    }

    #[test]
    fn a_line_that_the_limit_has_cut_is_not_looked_at() {
        let text = format!("{}b@example.org\n", "a@example.org OK\n".repeat(4000));
        assert_eq!(detected("list", &text), (Format::Postmap, vec![Format::Plain]));
    }
}
