//! The files that Mailman writes for an MTA: version 3's postfix_lmtp (hash and regexp style), postfix_domains and
//! postfix_vmap, version 2's aliases and virtual-mailman.
//!
//! What each line is tells itself. Bounces and confirmations come back to `list-bounces+anna=example.net` and the like
//! (VERP), so `-bounces` and `-confirm` exist with `+` and whatever follows. Mailman cuts it itself: it is no detail of
//! the domain, and counts where the domain has another delimiter or none.

use memchr::memchr;

use super::aliases::entry;
use super::lines::Join;
use super::syntax::{Shape, is_domain, is_full_domain, is_local, is_prose, key_and_value, shape};
use super::unclear::unknown_by_pattern;
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink};

#[derive(Debug)]
pub(super) struct Mailman {
    domain: Vec<u8>,
}

impl Reader for Mailman {
    const JOIN: Join = Join::Blank;

    fn new(options: &Options) -> Mailman {
        Mailman { domain: options.domain.clone() }
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if let Err(fault) = self.entry(number, line, sink) {
            sink.fault(number, line, fault);
            if fault == Fault::Regexp {
                let pattern = key_and_value(line).map_or(line, |(key, _)| key);
                unknown_by_pattern(number, pattern, sink);
            }
        }
        Ok(())
    }
}

impl Mailman {
    fn entry<S: Sink>(&self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Fault> {
        let (key, value) = key_and_value(line)?;
        if let Some(pattern) = key.strip_prefix(b"/^") {
            let pattern = pattern.strip_suffix(b"$/").and_then(|p| std::str::from_utf8(p).ok()).ok_or(Fault::Regexp)?;
            let grant = Grant::Accept { value };
            if !pattern.contains('@') {
                let domain = literal(pattern).filter(|domain| is_full_domain(domain)).ok_or(Fault::Regexp)?;
                sink.item(number, Item { key: Key::Domain { domain: &domain }, grant });
                return Ok(());
            }
            let Pattern { locals, domain, detail } = Pattern::parse(pattern).ok_or(Fault::Regexp)?;
            for local in &locals {
                let (local, domain) = (local.as_slice(), domain.as_slice());
                sink.item(number, Item { key: Key::Recipient { local, domain }, grant: grant.clone() });
                if detail {
                    returns(number, local, domain, &grant, sink);
                }
            }
            return Ok(());
        }
        let mapped = |key| Item { key, grant: Grant::Accept { value } };
        let Item { key, grant } = match shape(key) {
            // `root:anna` needs no blank.
            Ok(Shape::Bare { word }) if memchr(b':', word).is_some() => entry(line, &self.domain)?,
            Ok(_) if value.is_empty() => return Err(Fault::NoValue),
            Ok(Shape::Address { local, domain }) => mapped(Key::Recipient { local, domain }),
            Ok(Shape::At { domain }) => mapped(Key::CatchAll { domain }),
            Ok(Shape::Bare { word }) if is_full_domain(word) && !is_prose(value) => {
                mapped(Key::Domain { domain: word })
            }
            _ => entry(line, &self.domain)?,
        };
        sink.item(number, Item { key, grant: grant.clone() });
        if let Key::Recipient { local, domain } = key
            && (local.ends_with(b"-bounces") || local.ends_with(b"-confirm"))
        {
            returns(number, local, domain, &grant, sink);
        }
        Ok(())
    }
}

/// What comes back to a list's address says in it whom it is about.
fn returns<S: Sink>(number: u32, local: &[u8], domain: &[u8], grant: &Grant<'_>, sink: &mut S) {
    let prefix = [local, b"+"].concat();
    sink.item(number, Item { key: Key::Prefix { prefix: &prefix, domain }, grant: grant.clone() });
}

/// `chess(-(bounces|confirm))?(\+.*)?@lists\.example\.org`: no more of regular expressions than Mailman writes.
struct Pattern {
    locals: Vec<Vec<u8>>,
    domain: Vec<u8>,
    detail: bool,
}

impl Pattern {
    fn parse(pattern: &str) -> Option<Pattern> {
        let (local, domain) = pattern.rsplit_once('@')?;
        let (local, detail) = match local.strip_suffix(r"(\+.*)?") {
            Some(local) => (local, true),
            None => (local, false),
        };
        let (base, suffixes) = match local.split_once("(-(") {
            None => (local, vec![""]),
            Some((base, alternatives)) => match alternatives.strip_suffix("))?") {
                Some(alternatives) => (base, [""].into_iter().chain(alternatives.split('|')).collect()),
                None => (base, alternatives.strip_suffix("))")?.split('|').collect()),
            },
        };
        let base = literal(base)?;
        let with = |suffix: &str| {
            let suffix = literal(suffix)?;
            let hyphen: &[u8] = if suffix.is_empty() { b"" } else { b"-" };
            Some([base.as_slice(), hyphen, &suffix].concat()).filter(|local| is_local(local))
        };
        let locals = suffixes.into_iter().map(with).collect::<Option<Vec<_>>>()?;
        Some(Pattern { locals, domain: literal(domain).filter(|domain| is_domain(domain))?, detail })
    }
}

/// The text that a piece of a pattern stands for, if it stands for one.
fn literal(pattern: &str) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(pattern.len());
    let mut bytes = pattern.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => text.push(bytes.next().filter(|b| !b.is_ascii_alphanumeric())?),
            b'.' | b'*' | b'+' | b'?' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'$' => return None,
            _ => text.push(b),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    fn events(text: &str) -> Vec<String> {
        digest(Format::Mailman, text.as_bytes()).events.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn version_3() {
        assert_eq!(
            events(
                "# AUTOMATICALLY GENERATED BY MAILMAN\nchess@lists.example.org               lmtp:[127.0.0.1]:8024\n\
                 chess-bounces@lists.example.org       lmtp:[127.0.0.1]:8024\nchess-join@lists.example.org lmtp:[127.0.0.1]:8024\n\
                 lists.example.org lists.example.org\nchess@alias.example.org chess@lists.example.org\netc...\nand so on\n"
            ),
            [
                "2 recipient chess@lists.example.org = lmtp:[127.0.0.1]:8024",
                "3 recipient chess-bounces@lists.example.org = lmtp:[127.0.0.1]:8024",
                "3 prefix chess-bounces+*@lists.example.org = lmtp:[127.0.0.1]:8024",
                "4 recipient chess-join@lists.example.org = lmtp:[127.0.0.1]:8024",
                "5 domain lists.example.org = lists.example.org",
                "6 recipient chess@alias.example.org = chess@lists.example.org",
                "7 fault NoValue | etc...",
                "8 fault Fields | and so on",
            ]
        );
    }

    #[test]
    fn version_3_with_patterns() {
        assert_eq!(
            events(
                "/^chess(-(bounces|confirm))?(\\+.*)?@lists\\.example\\.org$/   lmtp:[127.0.0.1]:8024\n\
                 /^go\\-club(-(join|leave))@lists\\.example\\.org$/ lmtp:x\n/^go@lists\\.example\\.org$/ lmtp:x\n\
                 /^lists\\.example\\.org$/ lists.example.org\n/^.*@lists\\.example\\.org$/ lmtp:x\n/^a@b/ lmtp:x\n/^a(b|c)?@b\\.c$/ lmtp:x\n"
            ),
            [
                "1 recipient chess@lists.example.org = lmtp:[127.0.0.1]:8024",
                "1 prefix chess+*@lists.example.org = lmtp:[127.0.0.1]:8024",
                "1 recipient chess-bounces@lists.example.org = lmtp:[127.0.0.1]:8024",
                "1 prefix chess-bounces+*@lists.example.org = lmtp:[127.0.0.1]:8024",
                "1 recipient chess-confirm@lists.example.org = lmtp:[127.0.0.1]:8024",
                "1 prefix chess-confirm+*@lists.example.org = lmtp:[127.0.0.1]:8024",
                "2 recipient go-club-join@lists.example.org = lmtp:x",
                "2 recipient go-club-leave@lists.example.org = lmtp:x",
                "3 recipient go@lists.example.org = lmtp:x",
                "4 domain lists.example.org = lists.example.org",
                "5 fault Regexp | /^.*@lists\\\\.example\\\\.org$/ lmtp:x",
                "5 catch-all @lists.example.org ?",
                "6 fault Regexp | /^a@b/ lmtp:x",
                "6 prefix *@ ?",
                "7 fault Regexp | /^a(b|c)?@b\\\\.c$/ lmtp:x",
                "7 catch-all @b.c ?",
            ]
        );
    }

    #[test]
    fn version_2() {
        assert_eq!(
            events(
                "# STANZA START: chess\nchess:              \"|/usr/lib/mailman/mail/mailman post chess\"\n\
                 chess-bounces:      \"|/usr/lib/mailman/mail/mailman bounces chess\"\n# STANZA END: chess\n\
                 mailman-loop@lists.example.org   mailman-loop\nchess@lists.example.org          chess\n"
            ),
            [
                "2 recipient chess@example.org = \"|/usr/lib/mailman/mail/mailman post chess\"",
                "3 recipient chess-bounces@example.org = \"|/usr/lib/mailman/mail/mailman bounces chess\"",
                "3 prefix chess-bounces+*@example.org = \"|/usr/lib/mailman/mail/mailman bounces chess\"",
                "5 recipient mailman-loop@lists.example.org = mailman-loop",
                "6 recipient chess@lists.example.org = chess",
            ]
        );
        // The file that they were put into is the system's own.
        assert_eq!(
            events(
                "root:anna\n# STANZA START: chess\nchess:\"|/x post chess\"\nchess-bounces :\"|/x\"\ngone: :fail: Left\n\
                 \"odd name\":anna\ndora@lists.example.org: dora\nlists.example.org lmtp:[::1]:8024\nx:\n"
            ),
            [
                "1 recipient root@example.org = anna",
                "3 recipient chess@example.org = \"|/x post chess\"",
                "4 recipient chess-bounces@example.org = \"|/x\"",
                "4 prefix chess-bounces+*@example.org = \"|/x\"",
                "5 recipient gone@example.org ! 550 5.1.1 Left",
                "6 recipient \"odd name\"@example.org = anna",
                "7 recipient dora@lists.example.org = dora",
                "8 domain lists.example.org = lmtp:[::1]:8024",
                "9 fault NoValue | x:",
                "9 any-domain x@ ?",
            ]
        );
    }
}
