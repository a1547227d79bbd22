//! What is odd about lists that can be read: for `check`, never a reason not to take them.

use std::collections::{BTreeMap, HashSet};

use super::tell::plural_y;
use crate::map::{Content, Key, KeyText, Snapshot};

/// Names and domains that are told of each kind.
const SHOWN: usize = 5;

/// What is odd about the lists as a whole, and about the source with this number in the snapshot.
pub fn lint(snapshot: &Snapshot) -> Vec<(Option<usize>, String)> {
    let mut found = Vec::new();
    let mut with_postmaster: HashSet<Vec<u8>> = HashSet::new();
    for (number, source) in snapshot.sources().iter().enumerate() {
        let Some(content) = &source.content else { continue };
        let texts = lint_content(snapshot, content, &mut with_postmaster);
        found.extend(texts.into_iter().map(|text| (Some(number), text)));
    }
    let without: Vec<String> = snapshot
        .domains()
        .iter()
        .filter(|domain| !with_postmaster.contains(&*domain.name))
        .map(|domain| String::from_utf8_lossy(&domain.name).into_owned())
        .collect();
    if !without.is_empty() {
        let text =
            "postmaster is not listed, and exists all the same (RFC 5321, 4.5.1): the mailbox server must take it at";
        found.push((None, format!("{text} {}", shown(&without))));
    }
    found
}

fn lint_content(snapshot: &Snapshot, content: &Content, with_postmaster: &mut HashSet<Vec<u8>>) -> Vec<String> {
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut unreachable: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut look_alikes: Vec<String> = Vec::new();
    for listed in content.listed() {
        match listed.key {
            Key::Recipient { local, domain } => {
                if local == b"postmaster" {
                    with_postmaster.insert(domain.to_vec());
                }
                if !local.is_ascii() && is_mixed(&String::from_utf8_lossy(local)) {
                    look_alikes.push(KeyText(listed.key).to_string());
                }
            }
            Key::CatchAll { domain } if listed.entry.accepts() => {
                open.push(domain.to_vec());
                with_postmaster.insert(domain.to_vec());
            }
            Key::Detail { domain, .. } => {
                let policy = snapshot.relay_domain(domain).map(|ours| snapshot.policy(ours));
                if policy.is_some_and(|policy| policy.delimiters.is_empty()) {
                    let names = unreachable.entry(String::from_utf8_lossy(domain).into_owned()).or_default();
                    names.push(KeyText(listed.key).to_string());
                }
            }
            _ => {}
        }
    }
    let mut texts = Vec::new();
    for domain in open {
        let shadowed = content.domain_counts().find(|(name, ..)| *name == domain).map_or(0, |(_, keys, refusals)| {
            // The catch-all itself is one of them.
            (keys - refusals).saturating_sub(1)
        });
        if shadowed > 0 {
            let domain = String::from_utf8_lossy(&domain);
            let nothing = if shadowed == 1 { "changes nothing" } else { "change nothing" };
            texts.push(format!(
                "{} at {domain} {nothing}: everybody exists there by its catch-all",
                plural_y(shadowed, "entr")
            ));
        }
    }
    for (domain, names) in unreachable {
        texts.push(format!("never reached, since {domain} has no delimiter (subaddress = \"\"): {}", shown(&names)));
    }
    if !look_alikes.is_empty() {
        texts.push(format!(
            "letters of several alphabets in one name, which may only look alike: {}",
            shown(&look_alikes)
        ));
    }
    texts
}

fn shown(names: &[String]) -> String {
    let more = names.len().saturating_sub(SHOWN);
    let first = names[..names.len() - more].join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// Whether a name has Latin letters and such of Cyrillic or Greek, which look the same.
fn is_mixed(name: &str) -> bool {
    let is_latin = |c: char| c.is_ascii_alphabetic() || ('\u{c0}'..='\u{24f}').contains(&c);
    let is_other = |c: char| ('\u{370}'..='\u{3ff}').contains(&c) || ('\u{400}'..='\u{52f}').contains(&c);
    name.chars().any(is_latin) && name.chars().any(is_other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Builder, DomainGroup, Domains, Grant, HashKey, Item, Policy, Source};
    use std::sync::Arc;

    #[test]
    fn what_is_odd_is_told() {
        let key = || HashKey::with_seeds(1, 2, 3, 4);
        let mut builder = Builder::new(key(), false, Domains::new());
        let recipient = |local, domain| Key::Recipient { local, domain };
        for key in [
            recipient(b"anna", b"open.example"),
            recipient(b"bert", b"open.example"),
            Key::CatchAll { domain: b"open.example" },
            recipient(b"postmaster", b"good.example"),
            recipient("p\u{430}ypal".as_bytes(), b"good.example"),
            recipient("\u{438}\u{432}\u{430}\u{43d}".as_bytes(), b"good.example"),
            Key::Detail { local: b"info", domain: b"plain.example", required: true },
        ] {
            builder.add(&Item { key, grant: Grant::ACCEPT }).expect("a good entry");
        }
        let group = |name: &[u8], delimiters: &[u8]| DomainGroup {
            names: vec![name.into()],
            policy: Policy { delimiters: delimiters.into(), ..Policy::default() },
        };
        let groups = vec![group(b"open.example", b"+"), group(b"good.example", b"+"), group(b"plain.example", b"")];
        let source = Source::new("list", 0, Some(Arc::new(builder.finish(|_| {}))));
        let snapshot = Snapshot::new(key(), vec![source], groups, true, Policy::default());
        let texts: Vec<String> = lint(&snapshot).into_iter().map(|(_, text)| text).collect();
        assert_eq!(
            texts,
            [
                "2 entries at open.example change nothing: everybody exists there by its catch-all",
                "never reached, since plain.example has no delimiter (subaddress = \"\"): info++@plain.example",
                "letters of several alphabets in one name, which may only look alike: p\u{430}ypal@good.example",
                "postmaster is not listed, and exists all the same (RFC 5321, 4.5.1): the mailbox server must take it at \
                 plain.example",
            ]
        );
    }
}
