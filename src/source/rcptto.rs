//! qmail's lists of recipients, one a line: goodrcptto (chater's patch), badrcptto, and validrcptto (s/qmail, sagredo).
//!
//! A bare word stands for any local domain. validrcptto refuses with a leading `-`, and generators write
//! `user-default` where there is a `.qmail-user-default`: everything that begins with `user-`.

use super::lines::{is_idle, trim_start};
use super::syntax::{Shape, is_local, shape};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink};

/// Listed recipients exist.
#[derive(Debug)]
pub(super) struct Goodrcptto {
    domain: Vec<u8>,
}

/// Listed recipients are refused.
#[derive(Debug)]
pub(super) struct Badrcptto {
    domain: Vec<u8>,
}

/// The sign decides.
#[derive(Debug)]
pub(super) struct Validrcptto {
    domain: Vec<u8>,
}

impl Reader for Goodrcptto {
    fn new(options: &Options) -> Goodrcptto {
        Goodrcptto { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        tell(number, line, sink, |entry| Ok((key(entry, &self.domain)?, Grant::ACCEPT)));
        Ok(())
    }
}

impl Reader for Badrcptto {
    fn new(options: &Options) -> Badrcptto {
        Badrcptto { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        tell(number, line, sink, |entry| Ok((key(entry, &self.domain)?, Grant::Refuse(None))));
        Ok(())
    }
}

impl Reader for Validrcptto {
    fn new(options: &Options) -> Validrcptto {
        Validrcptto { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        tell(number, line, sink, |entry| signed(entry, &self.domain));
        Ok(())
    }
}

/// `[-]address`, with qmail's `-default`.
pub(super) fn signed<'a>(entry: &'a [u8], domain: &'a [u8]) -> Result<(Key<'a>, Grant<'a>), Fault> {
    let (entry, grant) = match entry {
        [b'-', entry @ ..] => (entry, Grant::Refuse(None)),
        _ => (entry, Grant::ACCEPT),
    };
    let key = match key(entry, domain)? {
        Key::Recipient { local: b"default", domain } => Key::CatchAll { domain },
        Key::Recipient { local, domain } if local.ends_with(b"-default") => {
            Key::Prefix { prefix: local.strip_suffix(b"default").unwrap_or(local), domain }
        }
        key => key,
    };
    Ok((key, grant))
}

fn tell<'a, S: Sink>(
    number: u32,
    line: &'a [u8],
    sink: &mut S,
    read: impl FnOnce(&'a [u8]) -> Result<(Key<'a>, Grant<'a>), Fault>,
) {
    if is_idle(line) {
        return;
    }
    match read(trim_start(line)) {
        Ok((key, grant)) => sink.item(number, Item { key, grant }),
        Err(fault) => sink.fault(number, line, fault),
    }
}

/// An address, `@domain`, or a bare word; nothing may follow.
fn key<'a>(entry: &'a [u8], attach: &'a [u8]) -> Result<Key<'a>, Fault> {
    match shape(entry)? {
        Shape::Address { local, domain } => Ok(Key::Recipient { local, domain }),
        Shape::At { domain } => Ok(Key::CatchAll { domain }),
        Shape::AtDot { domain } => Ok(Key::Subdomains { domain }),
        Shape::User { local } => Ok(Key::AnyDomain { local }),
        Shape::Bare { word } if entry.iter().any(|&b| matches!(b, b' ' | b'\t')) && !word.starts_with(b"\"") => {
            Err(Fault::Prose)
        }
        Shape::Bare { word } if !is_local(word) => Err(Fault::Address),
        Shape::Bare { word } if attach.is_empty() => Ok(Key::AnyDomain { local: word }),
        Shape::Bare { word } => Ok(Key::Recipient { local: word, domain: attach }),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, digest_chunks};

    fn events(format: Format, domain: &str, text: &str) -> Vec<String> {
        let options = Options { domain: domain.into(), ..Options::default() };
        let digest = digest_chunks(format, &options, [text.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn goodrcptto_has_bare_words_for_every_local_domain() {
        let text = "# c\nanna@example.org\npostmaster\netc...\nand so on\nbert@example.org OK\n";
        let faults = [
            "4 fault Address | etc...",
            "5 fault Prose | and so on",
            "6 fault Address | bert@example.org OK",
            "6 recipient bert@example.org ?",
        ];
        assert_eq!(
            events(Format::Goodrcptto, "", text),
            [&["2 recipient anna@example.org", "3 any-domain postmaster@"][..], &faults].concat()
        );
        assert_eq!(
            events(Format::Goodrcptto, "example.org", text),
            [&["2 recipient anna@example.org", "3 recipient postmaster@example.org"][..], &faults].concat()
        );
    }

    #[test]
    fn badrcptto_refuses() {
        assert_eq!(
            events(Format::Badrcptto, "", "anna@example.org\n@closed.example\nroot\netc...\n"),
            [
                "1 recipient anna@example.org ! absent",
                "2 catch-all @closed.example ! absent",
                "3 any-domain root@ ! absent",
                "4 fault Address | etc..."
            ]
        );
    }

    #[test]
    fn validrcptto_has_signs_and_defaults() {
        assert_eq!(
            events(
                Format::Validrcptto,
                "",
                "anna@example.org\n-leaver@example.org\n@open.example.net\n-@closed.example.com\nsales-default@example.org\n\
                 default@all.example\n-x-default@example.org\netc...\n-\nand so on\n"
            ),
            [
                "1 recipient anna@example.org",
                "2 recipient leaver@example.org ! absent",
                "3 catch-all @open.example.net",
                "4 catch-all @closed.example.com ! absent",
                "5 prefix sales-*@example.org",
                "6 catch-all @all.example",
                "7 prefix x-*@example.org ! absent",
                "8 fault Address | etc...",
                "9 fault Address | -",
                "10 fault Prose | and so on",
            ]
        );
    }
}
