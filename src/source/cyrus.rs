//! Cyrus IMAP's mailboxes: `ctl_mboxlist -d` (a line of text a mailbox, or, since version 3.4, JSON of one mailbox a line),
//! `mbpath`, and names alone.
//!
//! Who has an inbox gets mail: `user.anna`, `user/anna`, `example.org!user.anna` or `user/anna@example.org`. What lies below
//! one, shared folders, and mailboxes that are only remembered (deleted) are left out. A dot in a name is written `^`.

use memchr::{memchr, memmem, memrchr};

use super::lines::{is_idle, trim_start};
use super::syntax::{is_full_domain, is_local, quoted_end, unquoted};
use super::unclear::unknown;
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

/// Of the numbers that older versions write for a mailbox's type: it is only remembered.
const DELETED: u32 = 1 << 4;

#[derive(Debug)]
pub(super) struct Cyrus {
    domain: Vec<u8>,
    /// JSON has begun, and its end has not come.
    is_open: bool,
    local: Vec<u8>,
}

impl Reader for Cyrus {
    fn new(options: &Options) -> Cyrus {
        Cyrus { domain: options.domain.clone(), is_open: false, local: Vec::new() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        match line {
            _ if is_idle(line) => {}
            b"{" => self.is_open = true,
            b"}" => self.is_open = false,
            _ => match self.entry(trim_start(line)) {
                Ok(Some(key)) => sink.item(number, Item { key, grant: Grant::ACCEPT }),
                Ok(None) => sink.skip(number, Skip::NoInbox),
                Err(fault) => {
                    sink.fault(number, line, fault);
                    if fault == Fault::NoDomain {
                        unknown(number, Key::AnyDomain { local: &self.local }, sink);
                    }
                }
            },
        }
        Ok(())
    }

    fn end<S: Sink>(&mut self, lines: u32, _: &mut S) -> Result<(), Refused> {
        match self.is_open {
            false => Ok(()),
            true => Err(Refused::CutOff { line: lines, what: "the brace that ends the dump of ctl_mboxlist" }),
        }
    }
}

impl Cyrus {
    /// `None`: a mailbox that is nobody's inbox.
    fn entry<'a>(&'a mut self, line: &'a [u8]) -> Result<Option<Key<'a>>, Fault> {
        let Mailbox { name, is_deleted } = mailbox(line)?;
        let Some(Inbox { user, domain }) = inbox(name)? else { return Ok(None) };
        if is_deleted {
            return Ok(None);
        }
        self.local.clear();
        self.local.extend(user.iter().map(|&b| if b == b'^' { b'.' } else { b }));
        let domain = domain.unwrap_or(&self.domain);
        match (is_local(&self.local), domain) {
            (false, _) => Err(Fault::Address),
            (true, []) => Err(Fault::NoDomain),
            (true, domain) => Ok(Some(Key::Recipient { local: &self.local, domain })),
        }
    }
}

struct Mailbox<'a> {
    name: &'a [u8],
    is_deleted: bool,
}

/// The mailbox that a line is about.
fn mailbox(line: &[u8]) -> Result<Mailbox<'_>, Fault> {
    if line.starts_with(b"\"") {
        let (name, rest) = line.split_at_checked(quoted_end(line)?).ok_or(Fault::Quote)?;
        if memchr(b'\\', name).is_some() || !rest.starts_with(b": {") {
            return Err(Fault::Fields);
        }
        return Ok(Mailbox { name: unquoted(name), is_deleted: json_type(rest).contains(&b'd') });
    }
    let (name, rest) = line.split_at(memchr(b'\t', line).unwrap_or(line.len()));
    let number = rest.get(1..).unwrap_or_default().split(|b| !b.is_ascii_digit()).next().unwrap_or_default();
    let kind: u32 = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(0);
    Ok(Mailbox { name, is_deleted: kind & DELETED != 0 })
}

/// The letters of `"mbtype": "e"`; what is said later, of the mailbox's former names, doesn't count.
fn json_type(object: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"\"mbtype\": \"";
    let at = memmem::find(object, NAME).map_or(object.len(), |at| at + NAME.len());
    object.get(at..).unwrap_or_default().split(|&b| b == b'"').next().unwrap_or_default()
}

struct Inbox<'a> {
    user: &'a [u8],
    domain: Option<&'a [u8]>,
}

/// Whose inbox a mailbox is; `None`: nobody's.
fn inbox(name: &[u8]) -> Result<Option<Inbox<'_>>, Fault> {
    if name.starts_with(b"/") {
        return by_path(name);
    }
    let (domain, name) = match (memchr(b'!', name), memrchr(b'@', name)) {
        (Some(at), _) => (name.get(..at), name.get(at + 1..).unwrap_or_default()),
        (None, Some(at)) => (name.get(at + 1..), name.get(..at).unwrap_or_default()),
        (None, None) => (None, name),
    };
    if domain.is_some_and(|domain| !is_full_domain(domain)) {
        return Err(Fault::Domain);
    }
    let (user, separator) = match name {
        [b'u', b's', b'e', b'r', separator @ (b'.' | b'/'), user @ ..] => (user, *separator),
        _ if name.iter().any(|&b| matches!(b, b' ' | b'\t')) && !name.iter().any(|&b| matches!(b, b'.' | b'/')) => {
            return Err(Fault::Prose);
        }
        _ => return Ok(None),
    };
    Ok((!user.contains(&separator)).then_some(Inbox { user, domain }))
}

/// `/var/spool/cyrus/a/user/anna`, `/var/spool/cyrus/domain/e/example.org/a/user/anna`: letters stand between for speed.
fn by_path(path: &[u8]) -> Result<Option<Inbox<'_>>, Fault> {
    let parts: Vec<&[u8]> = path.split(|&b| b == b'/').skip(1).collect();
    let is_letter = |at: Option<usize>| at.and_then(|at| parts.get(at)).is_some_and(|part| part.len() == 1);
    let users = || (0..parts.len()).filter(|&at| parts.get(at) == Some(&&b"user"[..]) && at + 1 < parts.len());
    let at = users().find(|at| is_letter(at.checked_sub(1))).or_else(|| users().next()).ok_or(Fault::Address)?;
    let (before, behind) = parts.split_at_checked(at).ok_or(Fault::Address)?;
    let domain = before.iter().rposition(|part| *part == b"domain").and_then(|at| {
        let names = before.get(at + 1..).unwrap_or_default();
        names.iter().rfind(|part| part.len() > 1).copied()
    });
    match behind {
        [_, user] => Ok(Some(Inbox { user, domain })),
        _ => Ok(None),
    }
}

/// Whether a line goes on as those of a dump do: a tab, the number of a type, a partition.
pub(super) fn is_dumped(line: &[u8]) -> bool {
    let rest = memchr(b'\t', line).and_then(|at| line.get(at + 1..)).unwrap_or_default();
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b' ')
}

/// Whether a line can't be anything else. (`user.anna` alone may be a domain, `user.anna@example.org` an address.)
pub(super) fn is_mailbox(line: &[u8]) -> bool {
    let name = mailbox(line).map_or(&b""[..], |mailbox| mailbox.name);
    let own = memchr(b'!', name).and_then(|at| name.get(at + 1..)).unwrap_or(name);
    let has_more = is_dumped(line) || own.len() < name.len() || line.starts_with(b"\"");
    match own {
        _ if line.starts_with(b"\"") && memmem::find(line, b"\"mbtype\"").is_none() => false,
        [b'/', ..] => !line.contains(&b' ') && by_path(own).is_ok(),
        [b'u', b's', b'e', b'r', b'.', ..] => has_more && memchr(b'@', name).is_none(),
        _ => own.starts_with(b"user/"),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, Options, Refused, digest, digest_chunks};

    fn events(domain: &str, text: &str) -> Vec<String> {
        let options = Options { domain: domain.into(), ..Options::default() };
        let digest = digest_chunks(Format::Cyrus, &options, [text.as_bytes()]);
        digest.events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_has_an_inbox_is_a_recipient() {
        assert_eq!(
            events(
                "example.org",
                "user.anna\t0 default anna\tlrswipcda\t\nuser.anna.Sent Items\t0 default anna\tlrs\t\nuser.john^doe\t0 default x\n\
                 example.net!user.bert\t0 default bert\tlrs\t\nuser.gone\t16 default gone\tlrs\t\nshared.news\t0 default anyone\tp\n\
                 DELETED.user.old.5F3A91C0\t0 default old\tlrs\nuser/carla\nuser/carla/Sent\nuser/dora.d@example.com\n\
                 /var/spool/cyrus/mail/e/user/emil\n/var/spool/cyrus/mail/e/user/emil/Sent\n\
                 /srv/domain/e/example.com/f/user/frida\n/srv/domain/example.com/user/gert\n\
                 /home/user/spool/h/user/hugo\n/srv/uuid/a/b/abc\nand so on\nuser.a b\n"
            ),
            [
                "1 recipient anna@example.org",
                "2 skip no inbox",
                "3 recipient john.doe@example.org",
                "4 recipient bert@example.net",
                "5 skip no inbox",
                "6 skip no inbox",
                "7 skip no inbox",
                "8 recipient carla@example.org",
                "9 skip no inbox",
                "10 recipient dora.d@example.com",
                "11 recipient emil@example.org",
                "12 skip no inbox",
                "13 recipient frida@example.com",
                "14 recipient gert@example.com",
                "15 recipient hugo@example.org",
                "16 fault Address | /srv/uuid/a/b/abc",
                "17 fault Prose | and so on",
                "18 fault Address | user.a b",
            ]
        );
        assert_eq!(
            events("", "user.anna\t0 default x\n"),
            ["1 fault NoDomain | user.anna\\t0 default x", "1 any-domain user.anna@ ?", "1 any-domain anna@ ?"]
        );
    }

    #[test]
    fn json_is_complete_with_its_last_brace() {
        let text = "{\n\"user.anna\": {\"name\": \"user.anna\", \"mtime\": \"1\", \"mbtype\": \"e\", \"name_history\": [{\"mbtype\": \"d\"}]},\n\
                    \"user.anna.Sent\": {\"name\": \"user.anna.Sent\", \"mbtype\": \"e\"},\n\
                    \"user.old\": {\"name\": \"user.old\", \"mbtype\": \"d\"}\n}\n";
        assert_eq!(events("example.org", text), ["2 recipient anna@example.org", "3 skip no inbox", "4 skip no inbox"]);
        let cut = text.strip_suffix("}\n").expect("the end").as_bytes();
        let what = "the brace that ends the dump of ctl_mboxlist";
        assert_eq!(digest(Format::Cyrus, cut).outcome, Err(Refused::CutOff { line: 4, what }));
    }
}
