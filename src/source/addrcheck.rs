//! The keys of a cdb as qmail's addrcheck has them: `@domain` (local), `Vdomain` (virtual, with its prefix), and `Llocal` with
//! `+` (exists), `-` (does not) or `?user` (that user's own program decides).
//!
//! A local part is looked for from long to short at its hyphens, behind the prefix of its domain: an entry counts for
//! itself and for whatever follows it behind a hyphen.

use super::syntax::{is_full_domain, is_local};
use super::{Fault, Grant, Item, Key, Sink};

/// Collects the records, since domains may stand behind the local parts.
#[derive(Debug, Default)]
pub(super) struct Addrcheck<'a> {
    domains: Vec<(&'a [u8], &'a [u8])>,
    locals: Vec<(u32, &'a [u8], &'a [u8])>,
}

/// Whether a record is one of these. A cdb of other keys has some that are not.
pub(super) fn is_record(key: &[u8], value: &[u8]) -> bool {
    match key {
        [b'L', ..] => matches!(value, b"+" | b"-" | [b'?', _, ..]),
        [b'V' | b'@', domain @ ..] => is_full_domain(domain),
        _ => false,
    }
}

impl<'a> Addrcheck<'a> {
    /// Takes a record for which [`is_record`] holds.
    pub(super) fn add(&mut self, number: u32, key: &'a [u8], value: &'a [u8]) {
        match key {
            [b'L', local @ ..] => self.locals.push((number, local, value)),
            [b'V', domain @ ..] => self.domains.push((domain, value)),
            [_, domain @ ..] => self.domains.push((domain, b"")),
            [] => {}
        }
    }

    /// Says what they mean together.
    pub(super) fn tell<S: Sink>(&self, sink: &mut S) {
        for &(number, local, value) in &self.locals {
            let grant = match value {
                b"+" => Grant::ACCEPT,
                b"-" => Grant::Refuse(None),
                _ => {
                    sink.fault(number, local, Fault::Program);
                    Grant::Unknown
                }
            };
            if !local.is_empty() && !is_local(local) {
                sink.fault(number, local, Fault::Address);
                continue;
            }
            for &(domain, prefix) in &self.domains {
                let rest = match prefix {
                    [] => Some(local),
                    _ if local == prefix => Some(&b""[..]),
                    _ => local.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(b"-")),
                };
                let item = |key| Item { key, grant: grant.clone() };
                match rest {
                    None => {}
                    Some([]) => sink.item(number, item(Key::CatchAll { domain })),
                    Some(local) => {
                        sink.item(number, item(Key::Recipient { local, domain }));
                        let prefix = [local, b"-"].concat();
                        sink.item(number, item(Key::Prefix { prefix: &prefix, domain }));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Collector;

    #[test]
    fn entries_count_behind_the_prefix_of_each_domain() {
        let records: [(&[u8], &[u8]); 8] = [
            (b"Lanna", b"+"),
            (b"Lanna-old", b"-"),
            (b"Lnet-bert", b"+"),
            (b"Lall", b"+"),
            (b"Lcarla", b"?carla"),
            (b"@example.org", b""),
            (b"Vexample.net", b"net"),
            (b"Vexample.com", b"all"),
        ];
        assert!(records.iter().all(|(key, value)| is_record(key, value)));
        for (key, value) in [(&b"Lanna@example.org"[..], &b"x"[..]), (b"anna@example.org", b""), (b"@localhost", b"")] {
            assert!(!is_record(key, value));
        }
        let (mut rules, mut sink) = (Addrcheck::default(), Collector::default());
        for (number, (key, value)) in (1..).zip(records) {
            rules.add(number, key, value);
        }
        rules.tell(&mut sink);
        let told: Vec<String> = sink.events.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "1 recipient anna@example.org",
                "1 prefix anna-*@example.org",
                "2 recipient anna-old@example.org ! absent",
                "2 prefix anna-old-*@example.org ! absent",
                "3 recipient net-bert@example.org",
                "3 prefix net-bert-*@example.org",
                "3 recipient bert@example.net",
                "3 prefix bert-*@example.net",
                "4 recipient all@example.org",
                "4 prefix all-*@example.org",
                "4 catch-all @example.com",
                "5 fault Program | carla",
                "5 recipient carla@example.org ?",
                "5 prefix carla-*@example.org ?",
            ]
        );
    }
}
