//! aliases(5): `name: target, ...`. The names are recipients; the targets are their values.
//!
//! sendmail's, Postfix's and Exim's files alike: continuation by leading blanks, quoted names, names with a domain of
//! their own. Exim's special targets (`:fail:` and kin, exim spec 22.7) are heeded.

use memchr::memchr;

use super::action::{Class, said, said_as, strip};
use super::lines::{Join, trim_end, trim_start};
use super::syntax::{Shape, attached, quoted_end, shape, unquoted};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Aliases {
    domain: Vec<u8>,
}

impl Reader for Aliases {
    const JOIN: Join = Join::Blank;

    fn new(options: &Options) -> Aliases {
        Aliases { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match entry(line, &self.domain) {
            Ok(item) => sink.item(number, item),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

/// `name: target`.
pub(super) fn entry<'a>(line: &'a [u8], domain: &'a [u8]) -> Result<Item<'a>, Fault> {
    let (name, target) = name_and_target(line)?;
    if target.is_empty() {
        return Err(Fault::NoValue);
    }
    Ok(Item { key: name_key(name, domain)?, grant: redirection(target) })
}

/// What stands before and behind the first colon outside quotes.
pub(super) fn name_and_target(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let start = if line.starts_with(b"\"") { quoted_end(line)? } else { 0 };
    let colon = memchr(b':', line.get(start..).unwrap_or_default()).ok_or(Fault::Fields)?;
    let (name, target) = line.split_at_checked(start + colon).ok_or(Fault::Fields)?;
    Ok((trim_end(name), trim_start(target.get(1..).unwrap_or_default())))
}

/// A name in the attached domain, or with one of its own.
pub(super) fn name_key<'a>(name: &'a [u8], domain: &'a [u8]) -> Result<Key<'a>, Fault> {
    match shape(name)? {
        Shape::Address { local, domain } => Ok(Key::Recipient { local, domain }),
        Shape::Bare { word } => attached(word, domain),
        _ => Err(Fault::Address),
    }
}

/// What a target says; Exim's special ones may refuse.
pub(super) fn redirection(target: &[u8]) -> Grant<'_> {
    let text = String::from_utf8_lossy(unquoted(target));
    if let Some(text) = strip(&text, ":fail:") {
        Grant::Refuse(said(text, Some("5.1.1")))
    } else if let Some(text) = strip(&text, ":defer:") {
        let text = if text.trim().is_empty() { "Try again later" } else { text };
        Grant::Refuse(said_as(Class::Later, text, "4.3.0"))
    } else if strip(&text, ":unknown:").is_some() {
        Grant::Refuse(None)
    } else {
        Grant::Accept { value: target }
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn a_deferral_is_for_now_whatever_its_text_says() {
        let text = b"anna: :defer: 550 5.7.1 moving\nbert: :defer: 5.7.1 moving\n";
        let events: Vec<String> = digest(Format::Aliases, text).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            ["1 recipient anna@example.org ! 450 4.7.1 moving", "2 recipient bert@example.org ! 450 4.7.1 moving"]
        );
    }

    #[test]
    fn names_are_recipients() {
        let text = "postmaster:     anna\nstaff:          anna, bert,\n                carla@example.net\n\
                    logs:           \"|/usr/local/bin/store -x\"\narchive:        /var/mail/archive\n\
                    big:            :include:/etc/mail/lists/big\nowner-big:      anna\n\"odd name\":     anna\n\
                    dora@example.net: dora\nemil :emil\ngone: :fail: Left the company\nbusy: :defer:\nx::unknown:\n\
                    nil: :blackhole:\n\netc...\nand so on\nalone:\nanna@example.org\nsee also: bert\n";
        let events: Vec<String> =
            digest(Format::Aliases, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient postmaster@example.org = anna",
                "2 recipient staff@example.org = anna, bert,                carla@example.net",
                "4 recipient logs@example.org = \"|/usr/local/bin/store -x\"",
                "5 recipient archive@example.org = /var/mail/archive",
                "6 recipient big@example.org = :include:/etc/mail/lists/big",
                "7 recipient owner-big@example.org = anna",
                "8 recipient \"odd name\"@example.org = anna",
                "9 recipient dora@example.net = dora",
                "10 recipient emil@example.org = emil",
                "11 recipient gone@example.org ! 550 5.1.1 Left the company",
                "12 recipient busy@example.org ! 450 4.3.0 Try again later",
                "13 recipient x@example.org ! absent",
                "14 recipient nil@example.org = :blackhole:",
                "16 fault Fields | etc...",
                "17 fault Fields | and so on",
                "18 fault NoValue | alone:",
                "18 any-domain alone@ ?",
                "19 fault Fields | anna@example.org",
                "19 recipient anna@example.org ?",
                "20 fault Address | see also: bert",
            ]
        );
    }
}
