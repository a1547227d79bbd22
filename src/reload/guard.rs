//! What a new list must not look like: losses that nobody means.
//!
//! A list that is readable and well-formed may still be half of what it was: an export that ran out of rights, memory
//! or time. Compared are our own domains only; what happens to the others is of no consequence.

use std::fmt;

use crate::map::{Changes, Content};

/// Fewer entries than this are nothing to compute a share of.
const FEW_ENTRIES: usize = 20;
/// A domain with fewer entries may vanish.
const SMALL_DOMAIN: usize = 5;
/// Lost domains that are named.
const NAMED_DOMAINS: usize = 5;

/// Why a new list is not taken, though it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It lost more than it may.
    Shrunk {
        /// Entries that are gone.
        vanished: usize,
        /// Entries before.
        before: usize,
        /// Entries now.
        after: usize,
        /// `max_shrink`, in hundredths.
        limit: u8,
    },
    /// Nobody is left in a domain.
    LostDomain {
        /// The first such domains, with the entries that they had.
        domains: Vec<(String, usize)>,
        /// All such domains.
        count: usize,
    },
    /// It always said where it ends, and now it does not.
    NoEndMark,
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Guard::Shrunk { vanished, before, after, limit } => write!(
                f,
                "{vanished} of {before} entries are gone ({after} now), more than max_shrink = {limit}% allows"
            ),
            Guard::LostDomain { domains, count } => {
                let names: Vec<String> = domains.iter().map(|(name, had)| format!("{name} (had {had})")).collect();
                let more = count - domains.len();
                let more = if more > 0 { format!(" and {more} more domains") } else { String::new() };
                write!(f, "no entry is left in {}{more}", names.join(", "))
            }
            Guard::NoEndMark => f.write_str("it has no end mark (# end N lines) any more, so it is taken for cut off"),
        }
    }
}

/// Compares a list with the one in force. `marked`: whether each of them had an end mark; `ours`: whether a domain is
/// one of ours; `limit`: `max_shrink`.
pub fn check(
    old: &Content,
    changes: &Changes,
    marked: (bool, bool),
    limit: u8,
    ours: &dyn Fn(&[u8]) -> bool,
) -> Result<(), Guard> {
    if marked == (true, false) {
        return Err(Guard::NoEndMark);
    }
    let counts = |name: &[u8]| name.is_empty() || ours(name.strip_prefix(b".").unwrap_or(name));
    let is_lost = |domain: &&crate::map::DomainChange| {
        domain.before >= SMALL_DOMAIN && domain.removed == domain.before && domain.added == 0 && !domain.name.is_empty()
    };
    let lost: Vec<(String, usize)> = changes
        .domains
        .iter()
        .filter(is_lost)
        .filter(|domain| counts(&domain.name))
        .map(|domain| (String::from_utf8_lossy(&domain.name).into_owned(), domain.before))
        .collect();
    // Keys of our domains alone: what is said about others, about clients or about senders is no part of the sums.
    let change = |of: fn(&crate::map::DomainChange) -> usize| -> usize {
        changes.domains.iter().filter(|domain| counts(&domain.name)).map(of).sum()
    };
    let foreign = |&(name, _): &(&[u8], usize)| !counts(name);
    let before = old.len() - old.domains().filter(foreign).map(|(_, entries)| entries).sum::<usize>();
    let vanished = change(|domain| domain.removed);
    let after = before - vanished + change(|domain| domain.added);
    // With a whole domain gone the share may be small, and with a great share gone the domains don't matter: the share
    // says more, so it comes first.
    share(FEW_ENTRIES, before, vanished, after, limit)?;
    if lost.is_empty() || limit >= 100 {
        return Ok(());
    }
    let count = lost.len();
    Err(Guard::LostDomain { domains: lost.into_iter().take(NAMED_DOMAINS).collect(), count })
}

/// Whether so many of the entries may go: above a `few`, no more than `limit` hundredths.
pub fn share(few: usize, before: usize, vanished: usize, after: usize, limit: u8) -> Result<(), Guard> {
    if before > few && vanished * 100 > before * usize::from(limit) {
        return Err(Guard::Shrunk { vanished, before, after, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Builder, Domains, Grant, HashKey, Item, Key};

    fn content(domains: &[(&str, std::ops::Range<usize>)]) -> Content {
        let mut builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), false, Domains::new());
        for (domain, numbers) in domains {
            for number in numbers.clone() {
                let (local, domain) = (&format!("u{number}").into_bytes()[..], domain.as_bytes());
                let item = Item { key: Key::Recipient { local, domain }, grant: Grant::ACCEPT };
                builder.add(&item).expect("a good address");
            }
        }
        builder.finish(|_| {})
    }

    fn judge(old: &Content, new: &Content, limit: u8) -> Option<String> {
        let ours = |name: &[u8]| name != b"other.example";
        check(old, &old.changes_to(new), (false, false), limit, &ours).err().map(|guard| guard.to_string())
    }

    #[test]
    fn a_loss_beyond_the_limit_is_noticed_above_twenty_entries() {
        let old = content(&[("a.example", 0..100)]);
        assert_eq!(judge(&old, &content(&[("a.example", 20..100)]), 20), None);
        assert_eq!(
            judge(&old, &content(&[("a.example", 21..100)]), 20).as_deref(),
            Some("21 of 100 entries are gone (79 now), more than max_shrink = 20% allows")
        );
        assert_eq!(judge(&old, &content(&[("a.example", 21..100)]), 21), None);
        // Others in their place don't make up for them.
        assert!(judge(&old, &content(&[("a.example", 50..150)]), 20).is_some());
        assert_eq!(judge(&old, &content(&[("b.example", 0..1)]), 100), None);
        assert_eq!(judge(&content(&[("a.example", 0..20)]), &content(&[("a.example", 19..20)]), 20), None);
        assert!(judge(&content(&[("a.example", 0..21)]), &content(&[("a.example", 20..21)]), 20).is_some());
    }

    #[test]
    fn a_domain_of_ours_does_not_vanish_unnoticed() {
        let old = content(&[("a.example", 0..100), ("b.example", 0..5), ("c.example", 0..4), ("other.example", 0..9)]);
        let all_but = |name: &str| {
            let domains = [("a.example", 0..100), ("b.example", 0..5), ("c.example", 0..4), ("other.example", 0..9)];
            content(&domains.into_iter().filter(|(there, _)| *there != name).collect::<Vec<_>>())
        };
        assert_eq!(judge(&old, &all_but("b.example"), 20).as_deref(), Some("no entry is left in b.example (had 5)"));
        assert_eq!(judge(&old, &all_but("c.example"), 20), None, "four are few");
        assert_eq!(judge(&old, &all_but("other.example"), 20), None, "it is not ours");
        assert_eq!(judge(&old, &all_but("b.example"), 100), None, "any loss is allowed");
        // Somebody else in the domain is not nobody.
        let replaced = content(&[("a.example", 0..100), ("b.example", 5..10), ("c.example", 0..4)]);
        assert_eq!(judge(&old, &replaced, 20), None);
    }

    #[test]
    fn an_end_mark_once_had_is_wanted_again() {
        let old = content(&[("a.example", 0..10)]);
        let judge = |marked| check(&old, &old.changes_to(&old), marked, 20, &|_| true).is_err();
        assert!(judge((true, false)));
        assert!(!judge((true, true)) && !judge((false, false)) && !judge((false, true)));
    }
}
