//! What has changed from one content of a source to the next: how many entries, where, and the first of them by name.
//!
//! Each entry of the one is looked up in the other, without an allocation per entry. Both contents must have been built
//! under the same hash key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::content::{Builder, Content, key_of};
use super::rule::{Entry, Grant, Item, Key, KeyText};
use super::table::{ClassNumber, DomainNumber};

/// Entries that are told by name.
pub const SHOWN: usize = 10;

/// The difference of two contents of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Statements of the old content.
    pub before: usize,
    /// Statements of the new one.
    pub after: usize,
    /// Statements that only the new one has.
    pub added: usize,
    /// Statements that only the old one has.
    pub removed: usize,
    /// Keys about which they say different things.
    pub changed: usize,
    /// Domains in which something has changed, by name.
    pub domains: Vec<DomainChange>,
    /// The first that were added, in the order of the list.
    pub first_added: Vec<String>,
    /// The first that were removed.
    pub first_removed: Vec<String>,
}

/// What has changed in one domain. The one without a name is "any domain".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainChange {
    /// Folded.
    pub name: Box<[u8]>,
    /// Keys before.
    pub before: usize,
    /// Keys that are new.
    pub added: usize,
    /// Keys that are gone.
    pub removed: usize,
    /// Keys about which something else is said.
    pub changed: usize,
}

impl Changes {
    /// From nothing to a content.
    pub fn from_nothing(new: &Content) -> Changes {
        let after = new.statements();
        let domain = |(name, entries): (&[u8], usize)| DomainChange {
            name: name.into(),
            added: entries,
            ..DomainChange::default()
        };
        Changes { after, added: after, domains: new.domains().map(domain).collect(), ..Changes::default() }
    }

    /// Whether the contents say the same.
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }
}

impl Content {
    /// What `new` has changed of this content.
    pub fn changes_to(&self, new: &Content) -> Changes {
        let mut changes = Changes { before: self.statements(), after: new.statements(), ..Changes::default() };
        let there = domain_numbers(new, self);
        let mut common = vec![0_usize; there.len()];
        let mut changed = vec![0_usize; there.len()];
        let mut doubted = vec![0_usize; there.len()];
        let mut first = First::default();
        let _ = new.each_in(self, &there, |number, local, class, old| {
            let domain = new.domain_of(class);
            match old {
                // Whom it accepted, and can't tell about now, is as good as gone.
                Some(old) if is_lost(self.entry(old), new.entry(class)) => doubted[domain.0 as usize] += 1,
                Some(old) => {
                    common[domain.0 as usize] += 1;
                    changed[domain.0 as usize] += usize::from(self.entry(old) != new.entry(class));
                }
                // Whom it never accepted, and can't tell about, is told of among the bad lines.
                None if *new.entry(class) == Entry::Unknown => doubted[domain.0 as usize] += 1,
                None => first.take(number, || text(local, new.domain_name(domain))),
            }
            ControlFlow::Continue(())
        });
        changes.first_added = first.texts();
        let mut old_common = vec![0_usize; self.entries_by_number().count()];
        let mut domains: BTreeMap<&[u8], DomainChange> = BTreeMap::new();
        for (at, entries) in new.entries_by_number().enumerate() {
            if let Some(old) = there[at] {
                old_common[old.0 as usize] = common[at];
            }
            let added = entries - common[at] - doubted[at];
            let domain = DomainChange { added, changed: changed[at], ..DomainChange::default() };
            domains.insert(new.domain_name(DomainNumber(at as u32)), domain);
        }
        for (at, entries) in self.entries_by_number().enumerate() {
            let domain = domains.entry(self.domain_name(DomainNumber(at as u32))).or_default();
            domain.before = entries;
            domain.removed = entries - old_common[at];
        }
        for (name, domain) in domains {
            changes.added += domain.added;
            changes.removed += domain.removed;
            changes.changed += domain.changed;
            if domain.added + domain.removed + domain.changed > 0 {
                changes.domains.push(DomainChange { name: name.into(), ..domain });
            }
        }
        if changes.removed > 0 {
            changes.first_removed = self.first_not_in(new);
        }
        self.compare_rest(new, &mut changes);
        changes
    }

    /// Addresses that this content accepts and `new` does not list, in a content of their own; `None`: there are none.
    /// Wildcards and refusals are not among them.
    pub fn vanished_in(&self, new: &Content) -> Option<Content> {
        let mut builder = Builder::new(self.key.clone(), true, self.case_sensitive().into_iter().collect());
        let there = domain_numbers(self, new);
        let _ = self.each_in(new, &there, |_, local, class, found| {
            let key = key_of(local, self.domain_name(self.domain_of(class)));
            let is_gone = found.is_none_or(|found| is_lost(self.entry(class), new.entry(found)));
            if let (true, Entry::Accept { value }) = (is_gone, self.entry(class))
                && matches!(key, Key::Recipient { .. } | Key::AnyDomain { .. })
            {
                // It was in a table, so it fits into one.
                let _ = builder.add_folded(&Item { key, grant: Grant::Accept { value } });
            }
            ControlFlow::Continue(())
        });
        (!builder.is_empty()).then(|| builder.finish(|_| {}))
    }

    /// What several contents accept, in one; where two have a key, the first counts.
    pub fn joined<'a>(contents: impl IntoIterator<Item = &'a Content>) -> Content {
        let contents: Vec<&Content> = contents.into_iter().collect();
        let case_sensitive = contents.iter().flat_map(|content| content.case_sensitive()).collect();
        let key = contents.first().map_or_else(|| super::HashKey::with_seeds(1, 2, 3, 4), |first| first.key.clone());
        let mut builder = Builder::new(key, true, case_sensitive);
        for listed in contents.iter().flat_map(|content| content.listed()) {
            if let Entry::Accept { value } = listed.entry {
                let _ = builder.add_folded(&Item { key: listed.key, grant: Grant::Accept { value } });
            }
        }
        builder.finish(|_| {})
    }

    /// Domains whose local parts are as they were written, in order; those about which something is said. (A domain of an
    /// unfit line has a number, too.)
    pub fn case_sensitive(&self) -> BTreeSet<Box<[u8]>> {
        let numbers = self.entries_by_number().enumerate().map(|(at, entries)| (DomainNumber(at as u32), entries));
        numbers
            .filter(|&(number, _)| self.keeps_case(number))
            .map(|(number, entries)| (self.domain_name(number), entries))
            .filter(|&(name, entries)| entries > 0 || self.names(name))
            .map(|(name, _)| name.into())
            .collect()
    }

    /// Whether names at the domains that both name were folded alike, so that they can be compared.
    pub fn is_folded_like(&self, other: &Content) -> bool {
        let numbers = domain_numbers(self, other).into_iter().enumerate();
        numbers
            .filter_map(|(at, there)| Some((DomainNumber(at as u32), there?)))
            .all(|(here, there)| self.keeps_case(here) == other.keeps_case(there))
    }

    fn first_not_in(&self, other: &Content) -> Vec<String> {
        let there = domain_numbers(self, other);
        let mut first = First::default();
        let _ = self.each_in(other, &there, |number, local, class, found| {
            if found.is_none_or(|found| is_lost(self.entry(class), other.entry(found))) {
                first.take(number, || text(local, self.domain_name(self.domain_of(class))));
            }
            // A batch is not in order, so it is not left in its middle.
            if first.is_settled(number) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        first.texts()
    }

    /// Domains that are only named, and pairs: there are few.
    fn compare_rest(&self, new: &Content, changes: &mut Changes) {
        let mut note = |key: String, added: bool| {
            let (count, first) = if added {
                (&mut changes.added, &mut changes.first_added)
            } else {
                (&mut changes.removed, &mut changes.first_removed)
            };
            *count += 1;
            if first.len() < SHOWN {
                first.push(key);
            }
        };
        let bare = |content: &Content| -> Vec<Box<[u8]>> { content.bare_domains().map(Box::from).collect() };
        for (one, other, added) in [(new, self, true), (self, new, false)] {
            for name in bare(one) {
                if !other.names(&name) {
                    note(String::from_utf8_lossy(&name).into_owned(), added);
                }
            }
            for (key, _) in one.pairs().iter() {
                if other.pairs().find(key).is_none() {
                    note(String::from_utf8_lossy(key).into_owned(), added);
                }
            }
        }
        let differs = |(key, value): &(&[u8], &[u8])| self.pairs().find(key).is_some_and(|old| old != *value);
        changes.changed += new.pairs().iter().filter(differs).count();
    }

    fn each_in<'a>(
        &'a self,
        other: &'a Content,
        there: &[Option<DomainNumber>],
        mut heard: impl FnMut(usize, &'a [u8], ClassNumber, Option<ClassNumber>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.table.each_in(
            &other.table,
            &self.key,
            |class| self.domain_of(class),
            |domain| there.get(domain.0 as usize).copied().flatten(),
            |class| other.domain_of(class),
            |number, record, found| heard(number, record.local, record.class, found),
        )
    }
}

/// Whether somebody was accepted, and the list can't tell any more.
fn is_lost(old: &Entry, new: &Entry) -> bool {
    old.accepts() && *new == Entry::Unknown
}

/// For each domain of `one`, its number in `other`.
fn domain_numbers(one: &Content, other: &Content) -> Vec<Option<DomainNumber>> {
    let number = |at: usize| match at {
        0 => Some(DomainNumber(0)),
        at => other.domain(one.domain_name(DomainNumber(at as u32))),
    };
    (0..one.entries_by_number().count()).map(number).collect()
}

fn text(local: &[u8], domain: &[u8]) -> String {
    KeyText(key_of(local, domain)).to_string()
}

/// The first of what comes nearly in order.
#[derive(Default)]
struct First(Vec<(usize, String)>);

impl First {
    fn take(&mut self, number: usize, text: impl FnOnce() -> String) {
        if self.0.len() == SHOWN {
            if self.0.last().is_some_and(|(last, _)| *last < number) {
                return;
            }
            self.0.pop();
        }
        let at = self.0.partition_point(|(other, _)| *other < number);
        self.0.insert(at, (number, text()));
    }

    /// Whether nothing in the batch of `number` or behind it can be among the first.
    fn is_settled(&self, number: usize) -> bool {
        const BATCH: usize = super::table::BATCH;
        self.0.len() == SHOWN && self.0.last().is_some_and(|(last, _)| number >= last + 2 * BATCH)
    }

    fn texts(self) -> Vec<String> {
        self.0.into_iter().map(|(_, text)| text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Domains, HashKey};
    use proptest::prelude::*;

    fn content(addresses: &[&str]) -> Content {
        let mut builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), true, Domains::new());
        for address in addresses {
            let (address, value) = address.split_once(' ').unwrap_or((address, ""));
            let (local, domain) = address.split_once('@').unwrap_or(("", address));
            let (local, domain) = (local.as_bytes(), domain.as_bytes());
            let key = match address.contains('@') {
                true if local.is_empty() => Key::CatchAll { domain },
                true => Key::Recipient { local, domain },
                false => Key::Domain { domain },
            };
            let grant = match value {
                "!" => Grant::Refuse(None),
                value => Grant::Accept { value: value.as_bytes() },
            };
            builder.add(&Item { key, grant }).expect("a good address");
        }
        builder.finish(|_| {})
    }

    #[test]
    fn counts_and_names_tell_what_has_changed() {
        let old = content(&["a@one.example", "b@one.example", "c@two.example x", "@three.example", "bare.example"]);
        let new = content(&["b@one.example", "c@two.example y", "d@one.example", "e@four.example", "new.example"]);
        let changes = old.changes_to(&new);
        assert_eq!((changes.before, changes.after), (5, 5));
        assert_eq!((changes.added, changes.removed, changes.changed), (3, 3, 1));
        assert_eq!(changes.first_added, ["d@one.example", "e@four.example", "new.example"]);
        assert_eq!(changes.first_removed, ["a@one.example", "@three.example", "bare.example"]);
        let names: Vec<_> =
            changes.domains.iter().map(|d| (&*d.name, d.before, d.added, d.removed, d.changed)).collect();
        assert_eq!(
            names,
            [
                (&b"four.example"[..], 0, 1, 0, 0),
                (b"one.example", 2, 1, 1, 0),
                (b"three.example", 1, 0, 1, 0),
                (b"two.example", 1, 0, 0, 1),
            ]
        );
    }

    #[test]
    fn what_has_vanished_is_a_content_of_its_own() {
        let old = content(&["a@one.example x", "b@one.example", "no@one.example !", "@three.example"]);
        let vanished = old.vanished_in(&content(&["b@one.example"])).expect("one has");
        let keys: Vec<String> = vanished.listed().map(|l| format!("{} {}", KeyText(l.key), l.entry)).collect();
        assert_eq!(keys, ["a@one.example accept, \"x\""]);
        assert!(old.vanished_in(&old).is_none());
    }

    #[test]
    fn the_digest_knows_what_is_said_but_no_order() {
        let digest = |addresses: &[&str]| content(addresses).digest();
        let one = digest(&["a@one.example", "b@two.example x", "c.example"]);
        assert_eq!(digest(&["b@two.example x", "c.example", "A@one.example", "a@one.example"]), one);
        // The first of two equal keys counts, also where the order of the list is another.
        assert_eq!(digest(&["b@two.example x", "b@two.example y", "c.example", "a@one.example"]), one);
        for other in [
            &["a@one.example", "b@two.example y", "c.example"][..],
            &["b@two.example y", "b@two.example x", "c.example", "a@one.example"],
            &["a@one.example", "b@two.example x"],
            &["a@two.example", "b@one.example x", "c.example"],
            &["a@one.example !", "b@two.example x", "c.example"],
            &["@one.example", "b@two.example x", "c.example"],
        ] {
            assert_ne!(digest(other), one, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn sets_agree(old in proptest::collection::vec(0_u32..60, 0..80), new in proptest::collection::vec(0_u32..60, 0..80)) {
            let address = |n: &u32| format!("u{}@d{}.example", n / 3, n % 3);
            let texts = |numbers: &[u32]| numbers.iter().map(address).collect::<Vec<String>>();
            let (old, new) = (texts(&old), texts(&new));
            let build = |texts: &[String]| content(&texts.iter().map(String::as_str).collect::<Vec<_>>());
            let (a, b) = (build(&old), build(&new));
            let changes = a.changes_to(&b);
            let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.iter().collect(), new.iter().collect());
            prop_assert_eq!(changes.added, new.difference(&old).count());
            prop_assert_eq!(changes.removed, old.difference(&new).count());
            prop_assert_eq!(a.digest() == b.digest(), old == new);
            prop_assert_eq!(changes.is_empty(), old == new);
            prop_assert_eq!(changes.first_removed.len(), old.difference(&new).count().min(SHOWN));
            let vanished = a.vanished_in(&b).map_or(0, |content| content.len());
            prop_assert_eq!(vanished, old.difference(&new).count());
        }
    }
}
