//! The way of one address through a snapshot: the order of DESIGN, section 4, step by step.

use super::HashKey;
use super::content::mark;
use super::found::{AskedKey, Hit, Step, Trace};
use super::policy::{Mode, Policy, Verify};
use super::rule::Entry;
use super::snapshot::Snapshot;
use super::table::LocalHash;
use crate::address::{Domain, LocalPart};

/// A local part as it is looked for.
#[derive(Clone, Copy)]
pub(super) struct Name<'l> {
    pub(super) lower: LocalPart<'l>,
    /// As written, where some list keeps the case. One domain may and its alias may not: each is asked in its own way.
    pub(super) kept: Option<LocalPart<'l>>,
}

impl<'l> Name<'l> {
    pub(super) fn subaddresses(self, delimiters: &'l [u8]) -> impl Iterator<Item = (Name<'l>, &'l [u8])> {
        let mut kept = self.kept.map(|kept| kept.subaddresses(delimiters));
        self.lower.subaddresses(delimiters).map(move |(lower, detail)| {
            let kept = kept.as_mut().and_then(|kept| kept.next()).map(|(base, _)| base);
            (Name { lower, kept }, detail)
        })
    }

    pub(super) fn without_batv(self) -> Option<Name<'l>> {
        let kept = self.kept.and_then(|kept| kept.without_batv());
        Some(Name { lower: self.lower.without_batv()?, kept })
    }
}

/// A (marked) local part under its hash.
#[derive(Clone, Copy)]
pub(super) struct Key<'l> {
    pub(super) hash: LocalHash,
    pub(super) lower: &'l [u8],
    pub(super) kept: Option<(LocalHash, &'l [u8])>,
}

impl<'l> Key<'l> {
    #[inline]
    pub(super) fn new(lower: &'l [u8], kept: Option<&'l [u8]>, key: &HashKey) -> Key<'l> {
        let kept = kept.map(|kept| (LocalHash::of(kept, key), kept));
        Key { hash: LocalHash::of(lower, key), lower, kept }
    }

    #[inline]
    pub(super) fn of(name: Name<'l>, key: &HashKey) -> Key<'l> {
        Key::new(name.lower.bytes(), name.kept.map(|kept| kept.bytes()), key)
    }
}

pub(super) fn temporary(entry: &Entry) -> bool {
    matches!(entry, Entry::Refuse(Some(reply)) if reply.is_temporary())
}

pub(super) enum Decision<'s> {
    Exists(Option<Hit<'s>>),
    Refused(Hit<'s>),
    /// A list can't tell, and nothing that comes before it can.
    Unknown(Hit<'s>),
    NotListed,
}

/// Most catch-alls that lead to one another; what is longer is a ring.
const MAX_FOLLOWED: usize = 8;

/// Where a catch-all leads, in words.
struct Renamed<'a>(&'a [u8]);

impl std::fmt::Display for Renamed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "whoever exists at {}; looking there", self.0.escape_ascii())
    }
}

/// One look-up in a domain of ours.
pub(super) struct Search<'s, 'k, 'a, T> {
    pub(super) snapshot: &'s Snapshot,
    /// Its place in the snapshot's list.
    pub(super) ours: usize,
    pub(super) policy: &'s Policy,
    /// The domain that was asked for: ours, or one below it.
    pub(super) domain: Domain<'k>,
    pub(super) marked: &'a mut Vec<u8>,
    pub(super) kept: &'a mut Vec<u8>,
    pub(super) trace: &'a mut T,
    /// Catch-alls that led here.
    pub(super) followed: usize,
    /// Looks for nothing but what lists can't tell.
    pub(super) among_unknown: bool,
    /// The most lenient mode of the domains on the way.
    pub(super) mode: Mode,
    /// Names may be listed at a main domain that is not known.
    pub(super) unresolved: bool,
    /// Whom a backend has to be asked about, if `is_asked`.
    pub(super) asked: &'a mut AskedKey,
    pub(super) is_asked: bool,
    /// The name, when a tag was taken off.
    pub(super) untagged: Option<Name<'k>>,
    /// The domain of the chain whose entry was found.
    pub(super) found_at: usize,
}

impl<'s: 'k, 'k, T: Trace> Search<'s, 'k, '_, T> {
    /// The decision of the lists. A list that can't tell about a recipient takes an "absent" back, if it speaks of the
    /// recipient as closely as what refuses, and has no lower priority.
    pub(super) fn decision(&mut self, name: Name<'k>) -> (Step, Decision<'s>) {
        let (step, decision) = self.all_steps(name);
        let refusal = match decision {
            Decision::Refused(hit) if !temporary(hit.entry) => Some(hit),
            Decision::NotListed => None,
            _ => return (step, decision),
        };
        if !self.snapshot.unknown {
            return (step, decision);
        }
        self.trace.note(step, &"some lists can't tell about everybody; looking whether that is about this recipient");
        self.among_unknown = true;
        let found = self.all_steps(name);
        self.among_unknown = false;
        let sources = &self.snapshot.sources;
        match (found, refusal) {
            ((_, Decision::Refused(unknown)), None) => (step, Decision::Unknown(unknown)),
            ((closer, Decision::Refused(unknown)), Some(refusal))
                if closer < step
                    || closer == step && sources[unknown.source].priority >= sources[refusal.source].priority =>
            {
                (closer, Decision::Unknown(unknown))
            }
            _ => (step, decision),
        }
    }

    fn all_steps(&mut self, name: Name<'k>) -> (Step, Decision<'s>) {
        if let Some(found) = self.named(Step::Exact, name) {
            return found;
        }
        let name = match self.unwrapped(name) {
            Unwrapped::Proof => return (Step::Unwrap, Decision::Exists(None)),
            Unwrapped::Plain(plain) => {
                self.trace.note(Step::Unwrap, &"without its BATV tag");
                self.untagged = Some(plain);
                if let Some(found) = self.named(Step::Exact, plain) {
                    return found;
                }
                plain
            }
            Unwrapped::NoTag => name,
        };
        if let Some(found) = self.without_detail(name) {
            return found;
        }
        if self.snapshot.any_domain
            && let Some(hit) = self.any_domain(name.lower)
        {
            return (Step::AnyDomain, decide(hit));
        }
        if let Some(hit) = self.prefix(name) {
            return (Step::Prefix, decide(hit));
        }
        if let Some(hit) = self.catch_all(name.lower) {
            return self.follow(name, hit);
        }
        if self.snapshot.below
            && let Some(hit) = self.subdomains()
        {
            return (Step::Subdomains, decide(hit));
        }
        (Step::Verify, Decision::NotListed)
    }

    /// Finds out whether a backend has the last word after all steps. Where a catch-all led on, that of its target comes
    /// first.
    #[inline]
    pub(super) fn find_last_word(&mut self, name: Name<'k>, step: Step, decision: &Decision<'s>) {
        if self.snapshot.domains[self.ours].asks {
            self.last_word(name, step, decision);
        }
    }

    /// The last domain of the chain whose backend is asked.
    #[cold]
    fn last_word(&mut self, name: Name<'k>, step: Step, decision: &Decision<'s>) {
        let is_listed = match decision {
            Decision::Exists(_) => true,
            Decision::NotListed => false,
            // What a list can't tell a backend may know, if there is nothing else said.
            Decision::Unknown(_) if step == Step::Verify => false,
            Decision::Refused(_) | Decision::Unknown(_) => return,
        };
        if self.is_asked || matches!(step, Step::Always | Step::Unwrap) {
            return;
        }
        let (snapshot, name) = (self.snapshot, self.untagged.unwrap_or(name));
        for (at, called) in chain(snapshot, self.ours, self.domain) {
            let domain = &snapshot.domains[at];
            let policy = snapshot.policy(domain);
            let asks = match policy.verify {
                Verify::List => false,
                Verify::Probe | Verify::ListThenProbe => !is_listed,
                Verify::Both => is_listed,
            };
            if asks {
                let local = name.kept.filter(|_| policy.case_sensitive).unwrap_or(name.lower);
                self.asked.set(local.bytes(), called, domain.policy);
                self.is_asked = true;
            }
            if is_listed && at == self.found_at {
                break;
            }
        }
    }

    /// Whether a refusal stands, whatever a source of priority `missing` that was never read may say: it is about the very
    /// address that was asked for, so that no other entry comes before it, and that source does not outrank it.
    pub(super) fn is_certain(&self, name: Name<'_>, hit: Hit<'_>, missing: i32) -> bool {
        let snapshot = self.snapshot;
        missing <= snapshot.sources[hit.source].priority
            && *snapshot.domains[self.ours].name == *self.domain.bytes()
            && snapshot.best_at(Key::of(name, &snapshot.key), self.ours, false) == Some(hit)
    }

    /// Listed as it is, or one of the names that exist always.
    fn named(&mut self, step: Step, name: Name<'_>) -> Option<(Step, Decision<'s>)> {
        let hit = self.in_chain(step, Key::of(name, &self.snapshot.key));
        let lower = name.lower.bytes();
        let postmaster = lower == b"postmaster";
        match hit {
            // An explicit refusal of postmaster is against RFC 5321, 4.5.1; the load has warned about it.
            Some(hit) if hit.entry.accepts() || !postmaster => return Some((step, decide(hit))),
            _ => {}
        }
        if postmaster || self.policy.always.iter().any(|always| **always == *lower) {
            self.trace.note(Step::Always, &"exists without being listed");
            return Some((Step::Always, Decision::Exists(None)));
        }
        None
    }

    fn unwrapped<'l>(&mut self, name: Name<'l>) -> Unwrapped<'l> {
        if self.policy.srs && name.lower.is_srs() {
            self.trace.note(Step::Unwrap, &"a well-formed SRS address");
            return Unwrapped::Proof;
        }
        match self.policy.batv.then(|| name.without_batv()).flatten() {
            Some(plain) => Unwrapped::Plain(plain),
            None => Unwrapped::NoTag,
        }
    }

    /// `user++@`, `user+*@`, then the base itself; longest base first. Without a detail only `user+*@`.
    fn without_detail(&mut self, name: Name<'_>) -> Option<(Step, Decision<'s>)> {
        if self.snapshot.detail
            && let Some(hit) = self.marked(Step::Detail, mark::DETAIL, name)
        {
            return Some((Step::Detail, decide(hit)));
        }
        let delimiters = &self.policy.delimiters;
        for (base, detail) in name.subaddresses(delimiters) {
            if self.snapshot.detail {
                if !detail.is_empty()
                    && let Some(hit) = self.marked(Step::Detail, mark::DETAIL_REQUIRED, base)
                {
                    return Some((Step::Detail, decide(hit)));
                }
                if let Some(hit) = self.marked(Step::Detail, mark::DETAIL, base) {
                    return Some((Step::Detail, decide(hit)));
                }
            }
            if let Some(found) = self.named(Step::Detail, base) {
                return Some(found);
            }
        }
        None
    }

    /// `user@`, with its detail and then without.
    fn any_domain(&mut self, lower: LocalPart<'_>) -> Option<Hit<'s>> {
        let delimiters = &self.policy.delimiters;
        let bases = lower.subaddresses(delimiters).map(|(base, _)| base);
        for base in std::iter::once(lower).chain(bases) {
            let hit = self.snapshot.best_anywhere(base.bytes(), self.among_unknown);
            self.trace.step(Step::AnyDomain, base.bytes(), b"", hit);
            if hit.is_some() {
                return hit;
            }
        }
        None
    }

    fn prefix(&mut self, name: Name<'_>) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        let (lower, kept) = (name.lower.bytes(), name.kept.map(|kept| kept.bytes()));
        for &len in &snapshot.prefixes {
            let len = usize::from(len);
            if len > lower.len().max(kept.map_or(0, <[u8]>::len)) {
                continue;
            }
            let (lower, kept) = (lower.get(..len).unwrap_or(lower), kept.map(|kept| kept.get(..len).unwrap_or(kept)));
            if let Some(hit) = self.marked_bytes(Step::Prefix, mark::PREFIX, lower, kept) {
                return Some(hit);
            }
            set_marked(self.marked, mark::PREFIX, lower);
            let hit = snapshot.best_anywhere(self.marked, self.among_unknown);
            if hit.is_some() {
                self.trace.step(Step::Prefix, self.marked, b"", hit);
                return hit;
            }
        }
        None
    }

    /// `++@domain` and `+*@domain` for who has a detail, then `@domain`.
    fn catch_all(&mut self, lower: LocalPart<'_>) -> Option<Hit<'s>> {
        let nobody = |search: &mut Self, mark| search.marked_bytes(Step::CatchAll, mark, b"", Some(b""));
        if self.snapshot.detail {
            let delimiters = &self.policy.delimiters;
            if lower.subaddresses(delimiters).any(|(_, detail)| !detail.is_empty())
                && let Some(hit) = nobody(self, mark::DETAIL_REQUIRED)
            {
                return Some(hit);
            }
            if let Some(hit) = nobody(self, mark::DETAIL) {
                return Some(hit);
            }
        }
        if !self.snapshot.catch_all {
            return None;
        }
        self.in_chain(Step::CatchAll, Key::new(b"", Some(b""), &self.snapshot.key))
    }

    /// A catch-all that only renames the domain proves what is proved there.
    fn follow(&mut self, name: Name<'k>, hit: Hit<'s>) -> (Step, Decision<'s>) {
        let Entry::Follow { domain, .. } = hit.entry else { return (Step::CatchAll, decide(hit)) };
        let snapshot = self.snapshot;
        match snapshot.covering(domain) {
            Some(ours) if self.followed < MAX_FOLLOWED => {
                self.trace.note(Step::CatchAll, &Renamed(domain));
                let mut there = Search {
                    snapshot,
                    ours,
                    policy: snapshot.policy(&snapshot.domains[ours]),
                    domain: Domain::as_folded(domain),
                    marked: &mut *self.marked,
                    kept: &mut *self.kept,
                    trace: &mut *self.trace,
                    followed: self.followed + 1,
                    among_unknown: false,
                    mode: snapshot.policy(&snapshot.domains[ours]).mode,
                    unresolved: snapshot.domains[ours].unresolved,
                    asked: &mut *self.asked,
                    is_asked: false,
                    untagged: None,
                    found_at: ours,
                };
                let (step, decision) = there.decision(name);
                there.find_last_word(name, step, &decision);
                (self.is_asked, self.mode) = (there.is_asked, self.mode.max(there.mode));
                self.unresolved |= there.unresolved;
                match decision {
                    Decision::Exists(_) => (Step::CatchAll, Decision::Exists(Some(hit))),
                    Decision::Refused(hit) => (Step::CatchAll, Decision::Refused(hit)),
                    // Nothing is said there: as it was here.
                    Decision::Unknown(hit) if step != Step::Verify => (Step::CatchAll, Decision::Unknown(hit)),
                    decision => (Step::Verify, decision),
                }
            }
            // Somebody else's domain, or a ring: not ours to judge.
            _ => (Step::CatchAll, Decision::Exists(Some(hit))),
        }
    }

    /// `@.parent`, nearest parent first; then the parents of the main domain.
    fn subdomains(&mut self) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        let hash = LocalHash::of(b"", &snapshot.key);
        let (mut called, domain) = (None, self.domain);
        for (_, name) in chain(snapshot, self.ours, domain) {
            if called.replace(name) == Some(name) {
                continue;
            }
            for parent in Domain::as_folded(name).parents() {
                self.marked.clear();
                self.marked.push(b'.');
                self.marked.extend_from_slice(parent.bytes());
                let hit = snapshot
                    .best(self.among_unknown, |_, content| content.get(hash, content.domain(self.marked)?, b""));
                self.trace.step(Step::Subdomains, b"", self.marked, hit);
                if hit.is_some() {
                    return hit;
                }
            }
        }
        None
    }

    fn marked(&mut self, step: Step, mark: u8, name: Name<'_>) -> Option<Hit<'s>> {
        self.marked_bytes(step, mark, name.lower.bytes(), name.kept.map(|kept| kept.bytes()))
    }

    fn marked_bytes(&mut self, step: Step, mark: u8, lower: &[u8], kept: Option<&[u8]>) -> Option<Hit<'s>> {
        let (mut marked, mut buffer) = (std::mem::take(self.marked), std::mem::take(self.kept));
        set_marked(&mut marked, mark, lower);
        let kept = kept.map(|kept| set_marked(&mut buffer, mark, kept));
        let hit = self.in_chain(step, Key::new(&marked, kept, &self.snapshot.key));
        (*self.marked, *self.kept) = (marked, buffer);
        hit
    }

    /// The first domain of the chain (the domain itself, its parent or main domain) that has the key decides.
    #[inline]
    fn in_chain(&mut self, step: Step, key: Key<'_>) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        let mut at = self.ours;
        for _ in 0..snapshot.longest_chain {
            let domain = &snapshot.domains[at];
            let hit = if step == Step::CatchAll && key.lower.is_empty() && !domain.catch_all {
                None
            } else {
                snapshot.best_at(key, at, self.among_unknown)
            };
            self.trace.step(step, key.kept.map_or(key.lower, |(_, kept)| kept), &domain.name, hit);
            if hit.is_some() {
                self.found_at = at;
                return hit;
            }
            at = domain.next? as usize;
        }
        None
    }
}

/// The domains at which the names of one of ours are looked for, and by what domain a recipient is called there: below a
/// domain of ours it keeps its name, at a main domain it has that one's.
pub(super) fn chain<'s: 'k, 'k>(
    snapshot: &'s Snapshot,
    ours: usize,
    domain: Domain<'k>,
) -> impl Iterator<Item = (usize, &'k [u8])> + Clone {
    let next = move |&(at, called): &(usize, &'k [u8])| {
        let domain = &snapshot.domains[at];
        let main = snapshot.policy(domain).same_as.as_deref().filter(|_| domain.is_alias);
        Some((domain.next? as usize, main.unwrap_or(called)))
    };
    std::iter::successors(Some((ours, domain.bytes())), next).take(snapshot.domains[ours].chain)
}

fn set_marked<'b>(buffer: &'b mut Vec<u8>, mark: u8, local: &[u8]) -> &'b [u8] {
    buffer.clear();
    buffer.push(mark);
    buffer.extend_from_slice(local);
    buffer
}

enum Unwrapped<'l> {
    NoTag,
    Plain(Name<'l>),
    Proof,
}

pub(super) fn decide(hit: Hit<'_>) -> Decision<'_> {
    if hit.entry.accepts() { Decision::Exists(Some(hit)) } else { Decision::Refused(hit) }
}
