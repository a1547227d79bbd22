//! Text of a Postfix map (postmap(1), "INPUT FILE FORMAT"): key, white space, value.
//!
//! relay_recipient_maps and virtual_mailbox_maps, where the value only has to be there; virtual_alias_maps, where it
//! is an address list and the key is the recipient; the output of `postmap -s`. A key without `@` declares a domain.
//! Wildcards other than `@domain` mean nothing to Postfix and are taken literally, with a note.

use memchr::memchr;

use super::action::is_refusal;
use super::lines::{Join, is_blank};
use super::syntax::{Shape, attached, is_full_domain, is_prose, key_and_value, shape};
use super::unclear::{unknown, unknown_by_pattern};
use super::{Fault, Grant, Item, Key, Note, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Postmap {
    domain: Vec<u8>,
    detected: bool,
    noted_literal: bool,
    noted_refusal: bool,
}

impl Reader for Postmap {
    const JOIN: Join = Join::Blank;

    fn new(options: &Options) -> Postmap {
        Postmap {
            domain: options.domain.clone(),
            detected: options.detected,
            noted_literal: false,
            noted_refusal: false,
        }
    }

    #[inline]
    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match item(line, &self.domain) {
            Ok(item) => {
                if let Key::Recipient { local: [.., b'*'], .. } = item.key {
                    tell(&mut self.noted_literal, number, Note::Literal, sink);
                }
                if matches!(item.grant, Grant::Accept { value } if is_refusal(value)) {
                    if self.detected {
                        sink.fault(number, line, Fault::Refusal);
                        unknown(number, item.key, sink);
                        return Ok(());
                    }
                    tell(&mut self.noted_refusal, number, Note::RefusalValue, sink);
                }
                if self.detected
                    && let Grant::Accept { value } = item.grant
                    && has_entry(value)
                {
                    sink.fault(number, value, Fault::Indented);
                }
                sink.item(number, item);
            }
            Err(fault) => {
                sink.fault(number, line, fault);
                let key = key_and_value(line).map_or(line, |(key, _)| key);
                match (fault, shape(key)) {
                    (Fault::Regexp, _) => unknown_by_pattern(number, key, sink),
                    // Any value would do; that there is none changes nothing about whom the list names.
                    (Fault::NoValue, Ok(Shape::Address { local, domain })) => {
                        sink.item(number, Item { key: Key::Recipient { local, domain }, grant: Grant::ACCEPT });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Whether indented lines that a value goes on over may be entries of their own: an address behind a word that is neither
/// one nor ends in the comma of a list.
fn has_entry(value: &[u8]) -> bool {
    let is_address = |word: &[u8]| memchr(b'@', word).is_some();
    let mut before = None;
    memchr(b'@', value).is_some()
        && value.split(|&b| is_blank(b)).filter(|word| !word.is_empty()).any(|word| {
            let before: Option<&[u8]> = before.replace(word);
            is_address(word) && before.is_some_and(|before| !is_address(before) && !before.ends_with(b","))
        })
}

/// Tells a note the first time.
pub(super) fn tell<S: Sink>(told: &mut bool, line: u32, note: Note, sink: &mut S) {
    if !std::mem::replace(told, true) {
        sink.note(line, note);
    }
}

/// The item of a logical line.
#[inline]
pub(super) fn item<'a>(line: &'a [u8], attach: &'a [u8]) -> Result<Item<'a>, Fault> {
    let (key, value) = key_and_value(line)?;
    let key = match shape(key) {
        _ if value.is_empty() => return Err(Fault::NoValue),
        Err(_) | Ok(Shape::Bare { .. }) if key.starts_with(b"/") => return Err(Fault::Regexp),
        Err(fault) => return Err(fault),
        Ok(Shape::Address { local, domain }) => Key::Recipient { local, domain },
        Ok(Shape::At { domain }) => {
            // virtual(5): the same local part at another domain, when that is all there is
            let grant = match value.strip_prefix(b"@") {
                Some(target) if is_full_domain(target) => Grant::Follow { domain: target, value },
                _ => Grant::Accept { value },
            };
            return Ok(Item { key: Key::CatchAll { domain }, grant });
        }
        Ok(Shape::AtDot { domain }) => Key::Subdomains { domain },
        Ok(Shape::User { local }) => Key::AnyDomain { local },
        Ok(Shape::Bare { word }) => match word.strip_prefix(b".").unwrap_or(word) {
            _ if is_prose(value) => return Err(Fault::Prose),
            name if is_full_domain(name) => Key::Domain { domain: word },
            _ => attached(word, attach)?,
        },
    };
    Ok(Item { key, grant: Grant::Accept { value } })
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, digest_chunks};

    fn events(domain: &str, text: &str) -> Vec<String> {
        let options = Options { domain: domain.into(), ..Options::default() };
        let digest = digest_chunks(Format::Postmap, &options, [text.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_refusal_in_a_list_of_an_unsaid_format_is_not_taken_for_a_recipient() {
        let text = b"a@x.example anna\nb@x.example 550 5.7.1 Left\n@y.example REJECT\n";
        let said = |detected| {
            let options = Options { detected, ..Options::default() };
            let digest = digest_chunks(Format::Postmap, &options, [&text[..]]);
            digest.events.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            said(true),
            [
                "1 recipient a@x.example = anna",
                "2 fault Refusal | b@x.example 550 5.7.1 Left",
                "2 recipient b@x.example ?",
                "2 recipient b@x.example ?",
                "3 fault Refusal | @y.example REJECT",
                "3 catch-all @y.example ?",
                "3 catch-all @y.example ?",
            ]
        );
        assert_eq!(
            said(false)[1..],
            ["2 note RefusalValue", "2 recipient b@x.example = 550 5.7.1 Left", "3 catch-all @y.example = REJECT"]
        );
    }

    #[test]
    fn indented_entries_of_a_list_of_an_unsaid_format_are_not_lost_in_a_value() {
        let said = |text: &str| {
            let options = Options { detected: true, ..Options::default() };
            let digest = digest_chunks(Format::Postmap, &options, [text.as_bytes()]);
            digest.events.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            said("a@x.example OK\n b@x.example OK\n"),
            [
                "1 fault Indented | OK b@x.example OK",
                "1 recipient b@x.example ?",
                "1 recipient a@x.example = OK b@x.example OK",
            ]
        );
        for text in
            ["a@x.example b@y.example,\n  c@y.example\n", "a@x.example b, c@y.example\n", "a@x.example b@y c@y\n"]
        {
            assert_eq!(said(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn keys_values_and_continuations() {
        assert_eq!(
            events(
                "",
                "# people of example.org\nanna@example.org        OK\nBert@Example.ORG        x\n\
                 lists@example.org       this value may hold\n    blanks, and goes on over an indented line\n\
                 @open.example.net       OK\nexample.org anything\n\"john doe\"@example.org x\n\
                 late@example.org\n# comment\n  OK\n"
            ),
            [
                "2 recipient anna@example.org = OK",
                "3 recipient Bert@Example.ORG = x",
                "4 recipient lists@example.org = this value may hold    blanks, and goes on over an indented line",
                "6 catch-all @open.example.net = OK",
                "7 domain example.org = anything",
                "8 recipient \"john doe\"@example.org = x",
                "9 recipient late@example.org = OK",
            ]
        );
    }

    #[test]
    fn what_is_no_entry_is_a_fault() {
        assert_eq!(
            events(
                "",
                "  OK\netc...\netc... OK\nanna@example.org\nand so on\nanna x\nanna: bert\n/^a@b$/ OK\n\"a@b x\n192.0.2.1 OK\n"
            ),
            [
                "1 fault LeadingBlank |   OK",
                "2 fault NoValue | etc...",
                "3 fault Address | etc... OK",
                "4 fault NoValue | anna@example.org",
                "4 recipient anna@example.org ?",
                "4 recipient anna@example.org",
                "5 fault Prose | and so on",
                "6 fault NoDomain | anna x",
                "6 any-domain anna@ ?",
                "7 fault Address | anna: bert",
                "8 fault Regexp | /^a@b$/ OK",
                "8 prefix *@ ?",
                "9 fault Quote | \\\"a@b x",
                "10 fault NoDomain | 192.0.2.1 OK",
                "10 any-domain 192.0.2.1@ ?",
            ]
        );
    }

    #[test]
    fn a_bare_word_takes_the_attached_domain_unless_it_is_one() {
        assert_eq!(
            events("example.org", "root anna@mbx.example.org, bert\nexample.net x\n.example.net x\n"),
            [
                "1 recipient root@example.org = anna@mbx.example.org, bert",
                "2 domain example.net = x",
                "3 domain .example.net = x"
            ]
        );
    }

    #[test]
    fn values_and_wildcards_that_postfix_would_not_heed_are_noted_once() {
        assert_eq!(
            events("", "a@x.example REJECT\nb@x.example 550 no\n*@x.example OK\nc-*@x.example OK\n"),
            [
                "1 note RefusalValue",
                "1 recipient a@x.example = REJECT",
                "2 recipient b@x.example = 550 no",
                "3 note Literal",
                "3 recipient *@x.example = OK",
                "4 recipient c-*@x.example = OK",
            ]
        );
    }
}
