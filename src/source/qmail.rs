//! qmail's control files that route: virtualdomains (qmail-send(8)), users/assign (qmail-users(5)), and the
//! control/recipients of s/qmail and indimail.

use memchr::{memchr, memchr2};

use super::aliases::name_and_target;
use super::lines::{is_blank, is_idle, trim_start};
use super::syntax::{Shape, is_full_domain, is_local, shape};
use super::unclear::{EVERYBODY, unknown};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

/// `domain:prepend`, `.domain:prepend`, `user@domain:prepend`, `:prepend`; an empty prepend is an exception.
#[derive(Debug)]
pub(super) struct Virtualdomains;

impl Reader for Virtualdomains {
    fn new(_: &Options) -> Virtualdomains {
        Virtualdomains
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if !is_idle(line) {
            tell(number, line, virtualdomain(line), sink);
        }
        Ok(())
    }
}

fn virtualdomain(line: &[u8]) -> Result<Result<Item<'_>, Skip>, Fault> {
    let (name, value) = name_and_target(line)?;
    let key = match name {
        [] => return Ok(Err(Skip::Route)),
        _ if value.is_empty() => return Ok(Err(Skip::NoOpinion)),
        _ if value.iter().any(|&b| is_blank(b)) => return Err(Fault::Prose),
        _ => match shape(name)? {
            Shape::Address { local, domain } => Key::Recipient { local, domain },
            Shape::Bare { word } if is_full_domain(word.strip_prefix(b".").unwrap_or(word)) => {
                Key::Domain { domain: word }
            }
            _ => return Err(Fault::Domain),
        },
    };
    Ok(Ok(Item { key, grant: Grant::Accept { value } }))
}

/// `=local:...`, `+prefix:...`, and a lone dot at the end, without which qmail-newu takes nothing.
#[derive(Debug)]
pub(super) struct UsersAssign {
    domain: Vec<u8>,
    ended: bool,
}

impl Reader for UsersAssign {
    fn new(options: &Options) -> UsersAssign {
        UsersAssign { domain: options.domain.clone(), ended: false }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match line {
            _ if is_idle(line) => {}
            _ if self.ended => sink.skip(number, Skip::Banner),
            b"." => self.ended = true,
            _ => tell(number, line, assignment(line, &self.domain), sink),
        }
        Ok(())
    }

    fn end<S: Sink>(&mut self, lines: u32, _: &mut S) -> Result<(), Refused> {
        match self.ended {
            true => Ok(()),
            false => Err(Refused::CutOff { line: lines, what: "the line with a lone dot that ends users/assign" }),
        }
    }
}

fn assignment<'a>(line: &'a [u8], domain: &'a [u8]) -> Result<Result<Item<'a>, Skip>, Fault> {
    let mut fields = line.split(|&b| b == b':');
    let name = fields.next().unwrap_or_default();
    // user, uid, gid, home, dash, extension, and an empty one behind the last colon
    if fields.count() != 7 {
        return Err(Fault::Fields);
    }
    let key = match name {
        // The alias user takes the rest; its .qmail files decide who that is.
        b"+" => return Ok(Err(Skip::Route)),
        [b'=', local @ ..] if !is_local(local) => return Err(Fault::Address),
        [b'=', local @ ..] if domain.is_empty() => Key::AnyDomain { local },
        [b'=', local @ ..] => Key::Recipient { local, domain },
        [b'+', prefix @ ..] if is_local(prefix) => Key::Prefix { prefix, domain },
        _ => return Err(Fault::Address),
    };
    Ok(Ok(Item { key, grant: Grant::ACCEPT }))
}

/// Addresses and `@domain`; `!domain` is not checked. Programs and files can't be asked.
#[derive(Debug)]
pub(super) struct Recipients {
    domain: Vec<u8>,
}

impl Reader for Recipients {
    fn new(options: &Options) -> Recipients {
        Recipients { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if !is_idle(line) {
            let line = trim_start(line);
            tell(number, line, recipient(line, &self.domain), sink);
            elsewhere(number, line, sink);
        }
        Ok(())
    }
}

/// `@domain|program`, `domain:file`, `*|program`: who is not listed there is somebody else's to decide.
fn elsewhere<S: Sink>(number: u32, line: &[u8], sink: &mut S) {
    let Some(end) = memchr2(b'|', b':', line).filter(|_| !line.starts_with(b"\"")) else { return };
    let whom = line.get(..end).unwrap_or_default();
    let domain = whom.strip_prefix(b"@").unwrap_or(whom);
    let key = if is_full_domain(domain) {
        sink.item(number, Item { key: Key::Domain { domain }, grant: Grant::ACCEPT });
        Key::CatchAll { domain }
    } else {
        EVERYBODY
    };
    unknown(number, key, sink);
}

fn recipient<'a>(line: &'a [u8], domain: &'a [u8]) -> Result<Result<Item<'a>, Skip>, Fault> {
    if memchr(b'|', line).is_some() {
        return Err(Fault::Program);
    }
    let (key, grant) = match line {
        [b'!', domain @ ..] if is_full_domain(domain) => (Key::CatchAll { domain }, Grant::ACCEPT),
        _ if memchr(b':', line).is_some() && !line.starts_with(b"\"") => return Err(Fault::Reference),
        _ => super::rcptto::signed(line, domain)?,
    };
    Ok(Ok(Item { key, grant }))
}

fn tell<S: Sink>(number: u32, line: &[u8], entry: Result<Result<Item<'_>, Skip>, Fault>, sink: &mut S) {
    match entry {
        Ok(Ok(item)) => sink.item(number, item),
        Ok(Err(reason)) => sink.skip(number, reason),
        Err(fault) => sink.fault(number, line, fault),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, Refused, digest, digest_chunks};

    fn events(format: Format, text: &str) -> Vec<String> {
        digest(format, text.as_bytes()).events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn virtualdomains_are_domains() {
        assert_eq!(
            events(
                Format::Virtualdomains,
                "example.org:anna\n.example.net:alias-net\ncarla@example.com:carla\n:alias\nout.example:\netc...\nand: so on\n"
            ),
            [
                "1 domain example.org = anna",
                "2 domain .example.net = alias-net",
                "3 recipient carla@example.com = carla",
                "4 skip route",
                "5 skip no opinion",
                "6 fault Fields | etc...",
                "7 fault Prose | and: so on",
            ]
        );
    }

    #[test]
    fn users_assign_ends_with_a_dot() {
        let text = "=anna:anna:1000:1000:/home/anna:::\n+list-:lists:1001:1001:/home/lists:-::\n+:alias:7790:2108:/var/qmail/alias:-::\n\
                    etc...\n=b c:x:1:1:/:::\n.\nold\n";
        assert_eq!(
            events(Format::UsersAssign, text),
            [
                "1 recipient anna@example.org",
                "2 prefix list-*@example.org",
                "3 skip route",
                "4 fault Fields | etc...",
                "5 fault Address | =b c:x:1:1:/:::",
                "7 skip banner",
            ]
        );
        let digest = digest_chunks(Format::UsersAssign, &Options::default(), [text.as_bytes()]);
        assert_eq!(digest.events[0].to_string(), "1 any-domain anna@");
        assert_eq!(digest.events[1].to_string(), "2 prefix list-*@");
        let cut = &text.as_bytes()[..40];
        let what = "the line with a lone dot that ends users/assign";
        assert_eq!(super::super::digest(Format::UsersAssign, cut).outcome, Err(Refused::CutOff { line: 2, what }));
    }

    #[test]
    fn recipients_without_their_programs() {
        assert_eq!(
            events(
                Format::QmailRecipients,
                "anna@example.org\n@open.example\n!free.example\nexample.net:users.cdb\n@example.com|checkpassword\n*|vrfy\netc...\n"
            ),
            [
                "1 recipient anna@example.org",
                "2 catch-all @open.example",
                "3 catch-all @free.example",
                "4 fault Reference | example.net:users.cdb",
                "4 domain example.net",
                "4 catch-all @example.net ?",
                "5 fault Program | @example.com|checkpassword",
                "5 catch-all @example.com ?",
                "5 domain example.com",
                "5 catch-all @example.com ?",
                "6 fault Program | *|vrfy",
                "6 prefix *@ ?",
                "7 fault Address | etc...",
            ]
        );
    }
}
