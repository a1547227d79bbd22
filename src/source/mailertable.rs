//! sendmail mailertable and Postfix transport map as sources of domains: each key declares one, no recipient is named.
//!
//! `error:` closes a domain: whoever is not named elsewhere is refused with its text. The default route (`.`, `*`)
//! and routes of single addresses say nothing about domains. Next hops are read by `table` instead, verbatim.

use super::action::{error_mailer, strip};
use super::lines::{Join, is_blank, is_idle};
use super::syntax::{Shape, is_full_domain, is_prose, key_and_value, shape};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

/// sendmail's: a line is an entry.
#[derive(Debug)]
pub(super) struct Mailertable;

impl Reader for Mailertable {
    fn new(_: &Options) -> Mailertable {
        Mailertable
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match line {
            _ if is_idle(line) => {}
            [first, ..] if is_blank(*first) => sink.fault(number, line, Fault::LeadingBlank),
            _ => route(number, line, sink),
        }
        Ok(())
    }
}

/// Postfix's: an indented line goes on with the one before.
#[derive(Debug)]
pub(super) struct Transport;

impl Reader for Transport {
    const JOIN: Join = Join::Blank;

    fn new(_: &Options) -> Transport {
        Transport
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        route(number, line, sink);
        Ok(())
    }
}

fn route<S: Sink>(number: u32, line: &[u8], sink: &mut S) {
    match entry(line) {
        Ok(Ok(item)) => sink.item(number, item),
        Ok(Err(reason)) => sink.skip(number, reason),
        Err(fault) => sink.fault(number, line, fault),
    }
}

fn entry(line: &[u8]) -> Result<Result<Item<'_>, Skip>, Fault> {
    let (key, value) = key_and_value(line)?;
    let name = key.strip_prefix(b".").unwrap_or(key);
    let default = matches!(key, b"." | b"*");
    if value.is_empty() {
        return Err(Fault::NoValue);
    } else if !is_route(value) {
        return Err(if is_prose(value) { Fault::Prose } else { Fault::Value });
    } else if default || matches!(shape(key), Ok(Shape::Address { .. } | Shape::User { .. })) {
        return Ok(Err(Skip::Route));
    } else if !is_full_domain(name) {
        return Err(Fault::Domain);
    }
    Ok(Ok(match strip(&String::from_utf8_lossy(value), "error:") {
        None => Item { key: Key::Domain { domain: key }, grant: Grant::Accept { value } },
        Some(error) => {
            let key = if name == key { Key::CatchAll { domain: key } } else { Key::Subdomains { domain: name } };
            Item { key, grant: Grant::Refuse(error_mailer(error)) }
        }
    }))
}

/// `mailer:host`, `smtp:[host]:port`, `:`; `error:` may hold a text.
pub(super) fn is_route(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |&b| b == b':');
    let mailer = parts.next().unwrap_or_default();
    let word = mailer.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let rest = parts.next();
    word && rest
        .is_some_and(|rest| mailer.eq_ignore_ascii_case(b"error") || !rest.iter().any(|&b| is_blank(b) || b == b'"'))
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn domains_of_either_syntax() {
        let text = "example.org             smtp:[mbx1.inside.example.org]\n.example.org            esmtp:[192.0.2.10]\n\
                    example.net             relay:[2001:db8::25]\ndead.example            error:5.1.2:550 Domain closed\n\
                    here.example            local:\n.                       smtp:[hub.example.org]\n\
                    *  smtp:[hub.example.org]:25\nanna@example.org lmtp:unix:/run/lmtp\nopen.example :\n\
                    etc...\nand so on\nexample.com mbx\n.shut.example error:closed\n";
        for format in [Format::Mailertable, Format::Transport] {
            let events: Vec<String> = digest(format, text.as_bytes()).events.iter().map(ToString::to_string).collect();
            assert_eq!(
                events,
                [
                    "1 domain example.org = smtp:[mbx1.inside.example.org]",
                    "2 domain .example.org = esmtp:[192.0.2.10]",
                    "3 domain example.net = relay:[2001:db8::25]",
                    "4 catch-all @dead.example ! 550 5.1.2 Domain closed",
                    "5 domain here.example = local:",
                    "6 skip route",
                    "7 skip route",
                    "8 skip route",
                    "9 domain open.example = :",
                    "10 fault NoValue | etc...",
                    "11 fault Prose | and so on",
                    "12 fault Value | example.com mbx",
                    "12 any-domain example.com@ ?",
                    "13 subdomains @.shut.example ! 550 5.0.0 closed",
                ]
            );
        }
    }

    #[test]
    fn only_transport_lines_go_on() {
        let text = b"example.org\n  smtp:[a]\n";
        assert_eq!(digest(Format::Transport, text).events[0].to_string(), "1 domain example.org = smtp:[a]");
        assert_eq!(digest(Format::Mailertable, text).events[2].to_string(), "2 fault LeadingBlank |   smtp:[a]");
    }
}
