//! rcptmapd's own format: one address a line, a superset of what most scripts write.
//!
//! ```text
//! anna@example.org
//! bert@example.org  OK                               # anything behind a blank is the value
//! carla@example.org state=full                       # full, disabled, moved, refused
//! dora@example.org  until=2026-12-31                 # exists up to and on that day
//! emil@example.org  state=moved text="Now at example.net"
//! list-*@example.org  info+*@example.org  @open.example.org  @.example.org  office@     (each on its own line)
//! ```
//!
//! A bare local part needs a domain to attach, and bears attributes only: a second word would make prose of it.
//! States and replies: DESIGN, 11.13.

use memchr::memchr;

use super::action::{is_refusal, make};
use super::lines::{is_idle, trim_end, trim_start};
use super::syntax::{Shape, attached, key_and_value, shape, wildcard};
use super::unclear::unknown;
use super::{Date, Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

#[derive(Debug)]
pub(super) struct Plain {
    domain: Vec<u8>,
    today: Date,
    detected: bool,
}

impl Reader for Plain {
    fn new(options: &Options) -> Plain {
        Plain { domain: options.domain.clone(), today: options.today, detected: options.detected }
    }

    #[inline]
    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        match self.item(trim_start(line)) {
            // The list may be a map, or an access file, whose key without a value made it look like one of ours.
            Ok(Some(item)) if self.detected && matches!(item.grant, Grant::Accept { value } if is_refusal(value)) => {
                sink.fault(number, line, Fault::Refusal);
                unknown(number, item.key, sink);
            }
            Ok(Some(item)) => sink.item(number, item),
            Ok(None) => sink.skip(number, Skip::Expired),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

impl Plain {
    #[inline]
    fn item<'a>(&'a self, line: &'a [u8]) -> Result<Option<Item<'a>>, Fault> {
        let (key, rest) = key_and_value(line)?;
        let (key, bare) = match shape(unbracketed(key))? {
            Shape::Address { local, domain } => (wildcard(local, domain), false),
            Shape::At { domain } => (Key::CatchAll { domain }, false),
            Shape::AtDot { domain } => (Key::Subdomains { domain }, false),
            Shape::User { local } => (Key::AnyDomain { local }, false),
            Shape::Bare { word } => (attached(word, &self.domain)?, true),
        };
        if rest.is_empty() {
            return Ok(Some(Item { key, grant: Grant::ACCEPT }));
        }
        let (value, grant) = self.attributes(comment_cut(rest))?;
        if bare && !value.is_empty() {
            return Err(Fault::Prose);
        }
        Ok(grant.map(|grant| Item { key, grant }))
    }

    /// Value and attributes; no grant: expired.
    fn attributes<'a>(&self, rest: &'a [u8]) -> Result<(&'a [u8], Option<Grant<'a>>), Fault> {
        let Some(start) = first_attribute(rest) else {
            return Ok((rest, Some(Grant::Accept { value: rest })));
        };
        let (value, mut rest) = rest.split_at(start);
        let value = trim_end(value);
        let (mut state, mut text, mut expired) = (None, None, false);
        while !rest.is_empty() {
            let (name, argument, tail) = attribute(rest)?;
            let argument = std::str::from_utf8(argument).map_err(|_| Fault::Attribute)?;
            match name {
                b"state" => state = Some(argument),
                b"text" => text = Some(argument),
                _ => expired = argument.parse::<Date>().map_err(|_| Fault::Attribute)? < self.today,
            }
            rest = tail;
        }
        let grant = refusal(state, text)?.unwrap_or(Grant::Accept { value });
        Ok((value, (!expired).then_some(grant)))
    }
}

/// The refusal that a state means; none: the recipient exists.
fn refusal(state: Option<&str>, text: Option<&str>) -> Result<Option<Grant<'static>>, Fault> {
    let (code, status, words) = match state {
        None | Some("ok" | "active") => return Ok(None),
        Some("full") => (452, "4.2.2", "Mailbox full"),
        Some("disabled") => (550, "5.2.1", "Mailbox disabled"),
        Some("moved") => (551, "5.1.6", "Recipient has moved"),
        Some("refused") if text.is_none() => return Ok(Some(Grant::Refuse(None))),
        Some("refused") => (550, "5.1.1", "User unknown"),
        Some(_) => return Err(Fault::Attribute),
    };
    let own = text.and_then(|text| text.parse().ok()).or_else(|| make(code, status, text?));
    Ok(Some(Grant::Refuse(own.or_else(|| make(code, status, words)))))
}

const NAMES: [&[u8]; 3] = [b"state", b"until", b"text"];

/// Where the first attribute begins.
fn first_attribute(rest: &[u8]) -> Option<usize> {
    memchr(b'=', rest)?;
    let begins = |at: usize| {
        let word = rest.get(at..).unwrap_or_default();
        NAMES.iter().any(|name| word.strip_prefix(*name).is_some_and(|tail| tail.starts_with(b"=")))
    };
    let boundary = |at: usize| at.checked_sub(1).and_then(|at| rest.get(at)).is_none_or(|b| matches!(b, b' ' | b'\t'));
    (0..rest.len()).find(|&at| boundary(at) && begins(at))
}

/// Name, argument without quotes, and what follows.
type Attribute<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// The attribute that `text` begins with.
fn attribute(text: &[u8]) -> Result<Attribute<'_>, Fault> {
    let (name, argument) = memchr(b'=', text).and_then(|at| text.split_at_checked(at)).ok_or(Fault::Attribute)?;
    if !NAMES.contains(&name) {
        return Err(Fault::Attribute);
    }
    let (argument, rest) = match argument.get(1..).unwrap_or_default() {
        [b'"', quoted @ ..] => {
            let end = memchr(b'"', quoted).ok_or(Fault::Quote)?;
            (quoted.get(..end).unwrap_or_default(), quoted.get(end + 1..).unwrap_or_default())
        }
        plain => plain.split_at(plain.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(plain.len())),
    };
    match rest {
        [] => Ok((name, argument, rest)),
        [b' ' | b'\t', ..] => Ok((name, argument, trim_start(rest))),
        _ => Err(Fault::Attribute),
    }
}

/// Without `# comment`, outside quotes.
fn comment_cut(rest: &[u8]) -> &[u8] {
    if memchr(b'#', rest).is_none() {
        return rest;
    }
    let (mut quoted, mut before) = (false, b' ');
    for (at, &b) in rest.iter().enumerate() {
        match b {
            b'"' => quoted = !quoted,
            b'#' if !quoted && matches!(before, b' ' | b'\t') => return trim_end(rest.get(..at).unwrap_or_default()),
            _ => {}
        }
        before = b;
    }
    rest
}

/// `<anna@example.org>` without its brackets.
#[inline]
fn unbracketed(key: &[u8]) -> &[u8] {
    match key {
        [b'<', inner @ .., b'>'] => inner,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Format, digest_chunks};

    fn events(text: &str) -> Vec<String> {
        let options = Options {
            domain: b"example.org".to_vec(),
            today: "2026-11-30".parse().expect("a day"),
            ..Options::default()
        };
        let digest = digest_chunks(Format::Plain, &options, [text.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_values_and_comments() {
        assert_eq!(
            events(
                "# head\n\nanna@example.org\n  Bert@Example.ORG\tOK\r\ncarla@example.org two words # why\n\
                 <dora@example.org>\nemil@example.org #1\n\"john doe\"@example.org x\nanna"
            ),
            [
                "3 recipient anna@example.org",
                "4 recipient Bert@Example.ORG = OK",
                "5 recipient carla@example.org = two words",
                "6 recipient dora@example.org",
                "7 recipient emil@example.org",
                "8 recipient \"john doe\"@example.org = x",
                "9 recipient anna@example.org",
            ]
        );
    }

    #[test]
    fn a_refusal_in_a_list_of_an_unsaid_format_is_not_taken_for_a_recipient() {
        for refusal in ["REJECT", "DEFER", "550 gone", ":fail: gone"] {
            let text = format!("a@x.example anna\nb@x.example {refusal}\nc@x.example\nd@x.example dora\n");
            assert_eq!(crate::source::detect(text.as_bytes(), "list").format, Format::Plain, "{refusal}");
            let said = |detected| {
                let options = Options { detected, ..Options::default() };
                let digest = digest_chunks(Format::Plain, &options, [text.as_bytes()]);
                digest.events.iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            let put_off = said(true);
            assert_eq!(put_off[1], format!("2 fault Refusal | b@x.example {refusal}"));
            assert!(
                put_off[2..put_off.len() - 2].iter().all(|event| event == "2 recipient b@x.example ?"),
                "{put_off:?}"
            );
            assert_eq!(put_off[put_off.len() - 2..], ["3 recipient c@x.example", "4 recipient d@x.example = dora"]);
            assert_eq!(said(false)[1], format!("2 recipient b@x.example = {refusal}"));
        }
    }

    #[test]
    fn wildcards_of_every_kind() {
        assert_eq!(
            events(
                "@open.example.org\n@.example.org\noffice@\nlist-*@example.org\ninfo+*@example.org\n++@example.org\n*@example.org"
            ),
            [
                "1 catch-all @open.example.org",
                "2 subdomains @.example.org",
                "3 any-domain office@",
                "4 prefix list-*@example.org",
                "5 detail info+*@example.org",
                "6 detail ++@example.org",
                "7 catch-all @example.org",
            ]
        );
    }

    #[test]
    fn attributes_make_states() {
        assert_eq!(
            events(
                "a@x.example state=full\nb@x.example state=disabled\nc@x.example OK state=moved text=\"Now at example.net\"\n\
                 d@x.example until=2026-11-30\ne@x.example until=2026-11-29\nf@x.example state=refused\n\
                 g@x.example state=refused text=\"554 5.7.1 Not you\"\nh@x.example x until=2027-01-01 state=ok\n\
                 i@x.example dept=sales"
            ),
            [
                "1 recipient a@x.example ! 452 4.2.2 Mailbox full",
                "2 recipient b@x.example ! 550 5.2.1 Mailbox disabled",
                "3 recipient c@x.example ! 551 5.1.6 Now at example.net",
                "4 recipient d@x.example",
                "5 skip expired",
                "6 recipient f@x.example ! absent",
                "7 recipient g@x.example ! 554 5.7.1 Not you",
                "8 recipient h@x.example = x",
                "9 recipient i@x.example = dept=sales",
            ]
        );
    }

    #[test]
    fn what_is_no_entry_is_a_fault() {
        assert_eq!(
            events(
                "etc...\nand so on\nanna OK\nanna state=full\nsee <a@b>\na@x.example state=ful\na@x.example until=soon\na@x.example text=\"x\nAnna <a@x.example>\nsmtp:a@x.example"
            ),
            [
                "1 fault Address | etc...",
                "2 fault Prose | and so on",
                "3 fault Prose | anna OK",
                "4 recipient anna@example.org ! 452 4.2.2 Mailbox full",
                "5 fault Prose | see <a@b>",
                "6 fault Attribute | a@x.example state=ful",
                "6 recipient a@x.example ?",
                "7 fault Attribute | a@x.example until=soon",
                "7 recipient a@x.example ?",
                "8 fault Quote | a@x.example text=\\\"x",
                "8 recipient a@x.example ?",
                "9 fault Prose | Anna <a@x.example>",
                "9 recipient a@x.example ?",
                "10 fault Address | smtp:a@x.example",
                "10 recipient a@x.example ?",
            ]
        );
        let digest = digest_chunks(Format::Plain, &Options::default(), [&b"anna\n"[..]]);
        assert_eq!(digest.events[0].to_string(), "1 fault NoDomain | anna");
    }
}
