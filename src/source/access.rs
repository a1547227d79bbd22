//! sendmail access file: key, blanks, the whole rest as value (cf/README, "ACCESS DATABASE").
//!
//! `To:` and untagged addresses speak of recipients and become items. What sendmail may ask under another name goes
//! to `pair` as it is, for `access` maps to serve verbatim: keys of other tags, and every key but `To:user@domain`
//! (an untagged address is asked for senders, too). An untagged host, net or domain is never taken for a domain of
//! ours. Duplicates are the sink's business (makemap keeps the first).

use memchr::memchr;

use super::action::{Action, access as action};
use super::lines::{is_blank, is_idle};
use super::postmap::tell;
use super::syntax::{Shape, is_domain, is_network, is_prose, key_and_value, shape};
use super::{Fault, Grant, Item, Key, Note, Options, Reader, Refused, Sink, Skip};

/// sendmail's MAXNAME: keys are cut there when it asks.
const MAX_NAME: usize = 256;

#[derive(Debug)]
pub(super) struct Access {
    noted_long: bool,
}

impl Reader for Access {
    fn new(_: &Options) -> Access {
        Access { noted_long: false }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        if let Err(fault) = self.entry(number, line, sink) {
            sink.fault(number, line, fault);
        }
        Ok(())
    }
}

impl Access {
    fn entry<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Fault> {
        if line.first().is_some_and(|&b| is_blank(b)) {
            return Err(Fault::LeadingBlank);
        }
        let (key, value) = key_and_value(line)?;
        if value.is_empty() {
            return Err(Fault::NoValue);
        }
        if key.len() > MAX_NAME {
            tell(&mut self.noted_long, number, Note::LongKey, sink);
        }
        match statement(key)? {
            None if tag(key).is_none() && is_prose(value) && action(value).is_err() => return Err(Fault::Prose),
            None => sink.pair(number, key, value),
            Some((of_recipient, asked_otherwise)) => {
                let action = action(value)?;
                if asked_otherwise {
                    sink.pair(number, key, value);
                }
                match action {
                    Action::Accept => sink.item(number, Item { key: of_recipient, grant: Grant::Accept { value } }),
                    Action::Refuse(reply) => sink.item(number, Item { key: of_recipient, grant: Grant::Refuse(reply) }),
                    Action::Skip => sink.skip(number, Skip::NoOpinion),
                }
            }
        }
        Ok(())
    }
}

/// What a key says about recipients, and whether it is asked for verbatim as well; `None`: nothing.
fn statement(key: &[u8]) -> Result<Option<(Key<'_>, bool)>, Fault> {
    let (tag, name) = match tag(key) {
        Some((tag, _)) if !tag.eq_ignore_ascii_case(b"To") => return Ok(None),
        Some((_, name)) => (true, name),
        None => (false, key),
    };
    Ok(match shape(name)? {
        Shape::Address { local: [local @ .., b'+', b'*'], domain } => {
            Some((Key::Detail { local, domain, required: false }, !tag))
        }
        Shape::Address { local, domain } => Some((Key::Recipient { local, domain }, !tag)),
        Shape::At { domain } => Some((Key::CatchAll { domain }, true)),
        Shape::AtDot { domain } => Some((Key::Subdomains { domain }, true)),
        Shape::User { local } => Some((Key::AnyDomain { local }, true)),
        Shape::Bare { word } if is_network(word) => None,
        Shape::Bare { word } => match word.strip_prefix(b".") {
            Some(domain) if is_domain(domain) => tag.then_some((Key::Subdomains { domain }, true)),
            None if is_domain(word) => tag.then_some((Key::CatchAll { domain: word }, true)),
            _ => return Err(Fault::Address),
        },
    })
}

/// `Tag:rest`, where it is one: a word before the first colon.
pub(super) fn tag(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (tag, rest) = key.split_at_checked(memchr(b':', key)?)?;
    let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (tag.first()?.is_ascii_alphabetic() && tag.iter().all(word)).then_some((tag, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    fn events(text: &str) -> Vec<String> {
        digest(Format::Access, text.as_bytes()).events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tags_and_values() {
        assert_eq!(
            events(
                "# banner ###############\nFrom:partner.example            OK\n\
                 To:example.org                  ERROR:5.1.1:\"550 5.1.1 Nobody here by that name\"\n\
                 To:example.com                  error:5.1.1:\"550 User unknown\"\n\
                 To:anna@example.org             RELAY\nto:office@                      OK\n\
                 To:.lab.example.org             RELAY\nTo:old.example.org              SKIP\n\
                 To:leaver@example.org           550 5.7.1 Left the company\n\
                 To:trap@example.org             DISCARD\nConnect:192.0.2.7               REJECT\n\
                 Spam:abuse@example.org          FRIEND\nbert@example.org                RELAY\n\
                 GreetPause:192.0.2              0\nTo:open.example.net  RELAY\nTo:info+*@example.org OK\n"
            ),
            [
                "2 pair From:partner.example = OK",
                "3 pair To:example.org = ERROR:5.1.1:\"550 5.1.1 Nobody here by that name\"",
                "3 catch-all @example.org ! 550 5.1.1 Nobody here by that name",
                "4 pair To:example.com = error:5.1.1:\"550 User unknown\"",
                "4 catch-all @example.com ! 550 5.1.1 User unknown",
                "5 recipient anna@example.org = RELAY",
                "6 pair to:office@ = OK",
                "6 any-domain office@ = OK",
                "7 pair To:.lab.example.org = RELAY",
                "7 subdomains @.lab.example.org = RELAY",
                "8 pair To:old.example.org = SKIP",
                "8 skip no opinion",
                "9 recipient leaver@example.org ! 550 5.7.1 Left the company",
                "10 recipient trap@example.org = DISCARD",
                "11 pair Connect:192.0.2.7 = REJECT",
                "12 pair Spam:abuse@example.org = FRIEND",
                "13 pair bert@example.org = RELAY",
                "13 recipient bert@example.org = RELAY",
                "14 pair GreetPause:192.0.2 = 0",
                "15 pair To:open.example.net = RELAY",
                "15 catch-all @open.example.net = RELAY",
                "16 detail info+*@example.org = OK",
            ]
        );
    }

    #[test]
    fn hosts_and_nets_never_become_domains() {
        assert_eq!(
            events(
                "192.0.2 REJECT\nIPv6:2001:db8::1 RELAY\n2001:db8 OK\nhost.example RELAY\n.example RELAY\nTo:192.0.2.1 OK\nTo:[192.0.2.1] OK"
            ),
            [
                "1 pair 192.0.2 = REJECT",
                "2 pair IPv6:2001:db8::1 = RELAY",
                "3 pair 2001:db8 = OK",
                "4 pair host.example = RELAY",
                "5 pair .example = RELAY",
                "6 pair To:192.0.2.1 = OK",
                "7 pair To:[192.0.2.1] = OK",
            ]
        );
    }

    #[test]
    fn what_is_no_entry_is_a_fault() {
        assert_eq!(
            events(
                "etc...\nand so on ...\nTo:anna@example.org\n  To:a@example.org OK\nTo:a@example.org maybe\nTo:a@@b OK\nTo: a@b OK\n(x) OK"
            ),
            [
                "1 fault NoValue | etc...",
                "2 fault Prose | and so on ...",
                "3 fault NoValue | To:anna@example.org",
                "3 recipient anna@example.org ?",
                "4 fault LeadingBlank |   To:a@example.org OK",
                "4 recipient a@example.org ?",
                "5 fault Value | To:a@example.org maybe",
                "5 recipient a@example.org ?",
                "6 fault Address | To:a@@b OK",
                "7 fault Address | To: a@b OK",
                "8 fault Address | (x) OK",
            ]
        );
    }

    #[test]
    fn a_key_that_sendmail_cuts_is_noted() {
        let long = format!("To:{}@example.org RELAY\n", "a".repeat(260));
        assert_eq!(events(&format!("{long}{long}"))[0], "1 note LongKey");
        assert_eq!(events(&format!("{long}{long}")).len(), 3);
    }
}
