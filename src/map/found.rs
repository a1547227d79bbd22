//! What a look-up tells: the steps on its way, and what it found.

use super::policy::{Mode, Policy, Verify};
use super::rule::Entry;
use crate::verdict::{Reply, Verdict};

/// A step of the look-up, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Could it be an address at all?
    Parse,
    /// Is the domain ours?
    Domain,
    /// Is the recipient listed as it is?
    Exact,
    /// Does the name exist without being listed?
    Always,
    /// A tag was taken off, or is proof by itself.
    Unwrap,
    /// Listed without its detail, or by a detail wildcard.
    Detail,
    /// Listed for any domain.
    AnyDomain,
    /// A prefix wildcard.
    Prefix,
    /// The domain's catch-all.
    CatchAll,
    /// A catch-all of a parent domain.
    Subdomains,
    /// Nothing said anything: the domain's way to verify decides.
    Verify,
}

impl Step {
    /// The word for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Step::Parse => "parse",
            Step::Domain => "domain",
            Step::Exact => "exact",
            Step::Always => "always",
            Step::Unwrap => "unwrap",
            Step::Detail => "detail",
            Step::AnyDomain => "any-domain",
            Step::Prefix => "prefix",
            Step::CatchAll => "catch-all",
            Step::Subdomains => "subdomains",
            Step::Verify => "verify",
        }
    }
}

/// An entry that was found, and the place of its source in the snapshot's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit<'s> {
    /// What it says.
    pub entry: &'s Entry,
    /// Whose entry it is: see [`Snapshot::sources`](super::Snapshot::sources).
    pub source: usize,
}

/// Hears of every step of a look-up. The unit type hears nothing and costs nothing.
pub trait Trace {
    /// `key` was looked for at `domain`, with this result.
    fn step(&mut self, step: Step, key: &[u8], domain: &[u8], hit: Option<Hit<'_>>) {
        let _ = (step, key, domain, hit);
    }

    /// Something that is no look-up: why an address is none of ours, a tag that was taken off.
    fn note(&mut self, step: Step, text: &dyn std::fmt::Display) {
        let _ = (step, text);
    }
}

impl Trace for () {}

/// The result of a look-up.
#[derive(Clone, Copy, Debug)]
pub struct Found<'s, 'k> {
    /// What to answer.
    pub verdict: Verdict,
    /// The step that decided.
    pub step: Step,
    /// The entry that decided, if it was one.
    pub hit: Option<Hit<'s>>,
    /// What holds for the domain; `None` when it is not ours.
    pub policy: Option<&'s Policy>,
    /// The domain's place in [`Snapshot::domains`](super::Snapshot::domains); `None` when it is not ours.
    pub domain: Option<u32>,
    /// The address as it was looked for: local part (empty for a foreign one) and domain.
    pub address: Option<(&'k [u8], &'k [u8])>,
    /// What the verdict would be if the domain's refusals were carried out (`mode`).
    pub enforced: Verdict,
}

impl<'s> Found<'s, '_> {
    /// Whether the backend has the last word about this recipient.
    pub fn wants_probe(&self) -> bool {
        let Some(policy) = self.policy else { return false };
        match policy.verify {
            _ if policy.mode == Mode::Off => false,
            Verify::List => false,
            Verify::Probe | Verify::ListThenProbe => self.step == Step::Verify,
            Verify::Both => self.enforced == Verdict::Exists && !matches!(self.step, Step::Always | Step::Unwrap),
        }
    }

    /// The same with the backend's word. Where a list that was never read may know better, its "no" is not the last one.
    pub fn verified(self, verdict: Verdict) -> Self {
        let verdict = match (verdict, self.enforced) {
            (Verdict::Absent, Verdict::Unknown) => Verdict::Unknown,
            _ => verdict,
        };
        let enforces = self.policy.is_none_or(|policy| policy.mode == Mode::Enforce);
        Found {
            verdict: if enforces { verdict } else { Verdict::Exists },
            enforced: verdict,
            step: Step::Verify,
            ..self
        }
    }

    /// The reply that refuses the recipient: the entry's own, else the domain's.
    pub fn refusal(&self) -> Option<&'s Reply> {
        match self.hit.map(|hit| hit.entry) {
            Some(Entry::Refuse(Some(reply))) => Some(reply),
            _ => self.policy.map(|policy| &policy.absent),
        }
    }

    /// The reply that puts the client off.
    pub fn deferral(&self) -> Option<&'s Reply> {
        match self.hit.map(|hit| hit.entry) {
            Some(Entry::Refuse(Some(reply))) if reply.is_temporary() => Some(reply),
            _ => self.policy.map(|policy| &policy.unknown),
        }
    }

    /// The list's own word for the recipient; empty without one.
    pub fn value(&self) -> &'s [u8] {
        match self.hit.map(|hit| hit.entry) {
            Some(Entry::Accept { value } | Entry::Follow { value, .. }) => value,
            _ => b"",
        }
    }
}
