//! LDIF (RFC 2849), what ldapsearch prints and ldifde writes.
//!
//! Addresses are taken from the attributes that hold addresses of the entry itself, never from those that point
//! elsewhere (targetAddress, rfc822MailMember, mailRoutingAddress). A search that ended with an error, or whose own
//! count of entries differs, is not the whole truth and is refused. Entries are passed on value by value; only where
//! disabled accounts are to be dropped, an entry waits for its end, since userAccountControl may come last.

use memchr::memchr;

use super::base64::decode;
use super::lines::{Join, excerpt, trim_start};
use super::postmap::tell;
use super::proxy::{LIMITS, Proxy, proxy};
use super::{Disabled, Fault, Grant, Item, Note, Options, Reader, Refused, Sink, Skip};

/// Attributes that hold addresses of the entry (Exchange, Sendmail's and Netscape's mail schemas).
const ADDRESSES: [&[u8]; 6] =
    [b"proxyAddresses", b"mail", b"mailLocalAddress", b"mailAlternateAddress", b"mailEquivalentAddress", b"mailAlias"];

/// userAccountControl: ADS_UF_ACCOUNTDISABLE.
const ACCOUNT_DISABLED: u64 = 2;

/// More addresses of one entry than this don't wait for its end.
const MAX_WAITING: usize = 100_000;

#[derive(Debug)]
pub(super) struct Ldif {
    disabled: Disabled,
    /// Within an entry; the lines behind the last one tell how the search ended.
    in_entry: bool,
    entries: u32,
    /// Since the last `# numEntries`: with paging there is one per page.
    since_count: u32,
    /// In a change record, values behind `delete:` are gone.
    deleting: bool,
    account_disabled: bool,
    waiting: Vec<(u32, Vec<u8>)>,
    noted_range: bool,
}

impl Reader for Ldif {
    const JOIN: Join = Join::Fold;

    fn new(options: &Options) -> Ldif {
        Ldif {
            disabled: options.disabled,
            in_entry: false,
            entries: 0,
            since_count: 0,
            deleting: false,
            account_disabled: false,
            waiting: Vec::new(),
            noted_range: false,
        }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match line {
            [] => self.entry_ends(sink),
            [b'#', comment @ ..] => return self.comment(number, comment),
            b"-" => self.deleting = false,
            _ => match attribute(line) {
                Ok(attribute) => return self.attribute(number, line, attribute, sink),
                Err(fault) => sink.fault(number, line, fault),
            },
        }
        Ok(())
    }

    fn cut<S: Sink>(&mut self, number: u32, start: &[u8], sink: &mut S) -> Result<(), Refused> {
        match attribute(start) {
            Ok(attribute) if ADDRESSES.iter().any(|name| attribute.name.eq_ignore_ascii_case(name)) => {
                sink.fault(number, excerpt(start), Fault::TooLong);
                Ok(())
            }
            // A photograph or the like; the name of an entry counts however long it is.
            Ok(attribute) => self.attribute(number, start, attribute, sink),
            Err(_) => self.line(number, start, sink),
        }
    }

    fn end<S: Sink>(&mut self, lines: u32, sink: &mut S) -> Result<(), Refused> {
        self.entry_ends(sink);
        if LIMITS.contains(&self.entries) {
            sink.note(lines, Note::Rows(self.entries));
        }
        Ok(())
    }
}

/// A line's name, options and value.
struct Attribute<'a> {
    name: &'a [u8],
    options: &'a [u8],
    value: Value<'a>,
}

enum Value<'a> {
    Plain(&'a [u8]),
    Base64(&'a [u8]),
    Url,
}

fn attribute(line: &[u8]) -> Result<Attribute<'_>, Fault> {
    let (description, value) = memchr(b':', line).and_then(|at| line.split_at_checked(at)).ok_or(Fault::Fields)?;
    let (name, options) = match memchr(b';', description) {
        Some(at) => description.split_at(at),
        None => (description, &b""[..]),
    };
    if name.is_empty() || !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(Fault::Fields);
    }
    let value = match value.get(1..).unwrap_or_default() {
        [b':', value @ ..] => Value::Base64(trim_start(value)),
        [b'<', ..] => Value::Url,
        value => Value::Plain(trim_start(value)),
    };
    Ok(Attribute { name, options, value })
}

impl Ldif {
    /// `# numEntries: 12`, which ldapsearch prints at the end of a search or page.
    fn comment(&mut self, number: u32, comment: &[u8]) -> Result<(), Refused> {
        let counted = std::str::from_utf8(comment).ok().and_then(|c| c.trim().strip_prefix("numEntries:"));
        match counted.and_then(|count| count.trim().parse::<u32>().ok()) {
            Some(count) if count != std::mem::take(&mut self.since_count) => {
                Err(Refused::CutOff { line: number, what: "# numEntries does not agree with the entries before it" })
            }
            _ => Ok(()),
        }
    }

    fn attribute<S: Sink>(
        &mut self,
        number: u32,
        line: &[u8],
        attribute: Attribute<'_>,
        sink: &mut S,
    ) -> Result<(), Refused> {
        let is = |name: &[u8]| attribute.name.eq_ignore_ascii_case(name);
        if is(b"dn") {
            self.entry_ends(sink);
            self.in_entry = true;
            self.entries = self.entries.saturating_add(1);
            self.since_count = self.since_count.saturating_add(1);
        } else if !self.in_entry {
            if is(b"result") {
                return result(number, attribute.value);
            }
        } else if is(b"changetype") {
            self.deleting = matches!(attribute.value, Value::Plain(kind) if kind.eq_ignore_ascii_case(b"delete"));
        } else if is(b"delete") || is(b"add") || is(b"replace") {
            self.deleting = is(b"delete");
        } else if is(b"userAccountControl") {
            let bits = match attribute.value {
                Value::Plain(digits) => std::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok()),
                _ => None,
            };
            self.account_disabled = bits.is_some_and(|bits| bits & ACCOUNT_DISABLED != 0);
        } else if ADDRESSES.into_iter().any(is) {
            if attribute.options.to_ascii_lowercase().starts_with(b";range=") {
                tell(&mut self.noted_range, number, Note::Range, sink);
            }
            match attribute.value {
                _ if self.deleting => sink.skip(number, Skip::NoOpinion),
                Value::Url => sink.fault(number, line, Fault::Reference),
                Value::Plain(value) => self.value(number, line, value, sink),
                Value::Base64(text) => match decode(text) {
                    Some(value) => self.value(number, line, &value, sink),
                    None => sink.fault(number, line, Fault::Base64),
                },
            }
        }
        Ok(())
    }

    fn value<S: Sink>(&mut self, number: u32, line: &[u8], value: &[u8], sink: &mut S) {
        match proxy(value) {
            Ok(Proxy::Address(_)) if self.disabled == Disabled::Drop && self.waiting.len() < MAX_WAITING => {
                self.waiting.push((number, value.to_vec()));
            }
            Ok(Proxy::Address(key)) => sink.item(number, Item { key, grant: Grant::ACCEPT }),
            Ok(Proxy::Other) => sink.skip(number, Skip::AddressType),
            Ok(Proxy::Word) => sink.fault(number, line, Fault::Address),
            Err(fault) => sink.fault(number, line, fault),
        }
    }

    fn entry_ends<S: Sink>(&mut self, sink: &mut S) {
        self.in_entry = false;
        self.deleting = false;
        let disabled = std::mem::take(&mut self.account_disabled);
        for (number, value) in self.waiting.drain(..) {
            match proxy(&value) {
                Ok(Proxy::Address(key)) if !disabled => sink.item(number, Item { key, grant: Grant::ACCEPT }),
                _ => sink.skip(number, Skip::Disabled),
            }
        }
    }
}

/// `result: 4 Size limit exceeded`, behind the last entry.
fn result(number: u32, value: Value<'_>) -> Result<(), Refused> {
    let Value::Plain(value) = value else { return Ok(()) };
    let digits = value.split(|b| !b.is_ascii_digit()).next().unwrap_or_default();
    match std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()) {
        None | Some(0) => Ok(()),
        Some(code) => Err(Refused::Result { line: number, code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, digest, digest_chunks};

    fn events(text: &str) -> Vec<String> {
        digest(Format::Ldif, text.as_bytes()).events.iter().map(ToString::to_string).collect()
    }

    const ANNA: &str = "version: 1\n\ndn: CN=Anna Adler,OU=Users,DC=example,DC=org\nobjectClass: user\n\
        mail: anna.adler@example.org\nproxyAddresses: SMTP:anna.adler@example.org\nproxyAddresses: smtp:anna@exam\n ple.org\n\
        proxyAddresses:: c210cDpqw7xyZ2VuQGV4YW1wbGUub3Jn\nproxyAddresses: x500:/o=Example/ou=Exchange/cn=Recipients/cn=anna\n\
        mailLocalAddress: a.adler@example.org\nuserAccountControl: 514\n\n# search result\nsearch: 2\nresult: 0 Success\n";

    #[test]
    fn addresses_of_an_entry() {
        assert_eq!(
            events(ANNA),
            [
                "5 recipient anna.adler@example.org",
                "6 recipient anna.adler@example.org",
                "7 recipient anna@example.org",
                "9 recipient jürgen@example.org",
                "10 skip address type",
                "11 recipient a.adler@example.org",
            ]
        );
    }

    #[test]
    fn disabled_accounts_are_dropped_when_that_is_wanted() {
        let options = Options { disabled: Disabled::Drop, ..Options::default() };
        let text = format!("{ANNA}\ndn: cn=b\nuserAccountControl: 512\nmail: bert@example.org\n");
        let digest = digest_chunks(Format::Ldif, &options, [text.as_bytes()]);
        let events: Vec<String> = digest.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "10 skip address type",
                "5 skip disabled account",
                "6 skip disabled account",
                "7 skip disabled account",
                "9 skip disabled account",
                "11 skip disabled account",
                "20 recipient bert@example.org",
            ]
        );
    }

    #[test]
    fn what_points_elsewhere_is_not_a_recipient() {
        assert_eq!(
            events(
                "dn: cn=x\ntargetAddress: SMTP:x@elsewhere.example\nrfc822MailMember: y@elsewhere.example\nmailRoutingAddress: z@b\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn options_urls_comments_and_broken_values() {
        assert_eq!(
            events(
                "# folded\n  comment: mail: no@example.org\ndn: cn=x\nPROXYADDRESSES;range=0-1499: smtp:a@example.org\n\
                 mail:< file:///etc/passwd\nmail:: !!!\nmail: nobody\nmail;lang-de: b@example.org\netc...\n and more\n"
            ),
            [
                "4 note Range",
                "4 recipient a@example.org",
                "5 fault Reference | mail:< file:///etc/passwd",
                "6 fault Base64 | mail:: !!!",
                "7 fault Address | mail: nobody",
                "8 recipient b@example.org",
                "9 fault Fields | etc...and more",
            ]
        );
    }

    #[test]
    fn change_records_take_away_what_they_delete() {
        assert_eq!(
            events(
                "dn: cn=x\nchangetype: modify\ndelete: mail\nmail: old@example.org\n-\nadd: mail\nmail: new@example.org\n-\n\n\
                 dn: cn=y\nchangetype: delete\n"
            ),
            ["4 skip no opinion", "7 recipient new@example.org"]
        );
    }

    #[test]
    fn an_unfinished_search_is_refused() {
        let outcome = |text: &str| digest(Format::Ldif, text.as_bytes()).outcome.map(|s| s.lines);
        assert_eq!(
            outcome("dn: cn=x\nmail: a@b\n\nsearch: 2\nresult: 4 Size limit exceeded\n"),
            Err(Refused::Result { line: 5, code: 4 })
        );
        assert_eq!(outcome("dn: cn=x\nmail: a@b\nresult: 4\n"), Ok(3));
        let what = "# numEntries does not agree with the entries before it";
        assert_eq!(outcome("dn: cn=x\n\ndn: cn=y\n\n# numEntries: 3\n"), Err(Refused::CutOff { line: 5, what }));
        assert_eq!(outcome("dn: cn=x\n\n# numEntries: 1\n\ndn: cn=y\n\n# numEntries: 1\n"), Ok(7));
    }

    #[test]
    fn a_thousand_entries_are_a_limit() {
        let text = "dn: cn=x\n\n".repeat(1000);
        assert_eq!(events(&text), ["2000 note Rows(1000)"]);
    }
}
