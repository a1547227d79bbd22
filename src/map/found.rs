//! What a look-up tells: the steps on its way, and what it found.

use super::policy::{Mode, Policy};
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

/// A recipient of which a backend has the last word, as it is called there.
///
/// The way of an address leads from the domain that was asked for to its main domain (`same_as`), and to the target of a
/// catch-all that renames. Who is not listed is asked about at the last domain on this way whose `verify` says so
/// (`probe`, `list-then-probe`): a main domain's mailbox server knows the recipients of the alias, by their names there,
/// while a domain with a backend of its own keeps it if the way leads on to one that has only lists. Who is listed is asked
/// about at the last domain with `verify = "both"`, up to the one that lists the recipient.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'k> {
    /// Without a tag that was taken off, with its detail; in lower case unless that domain is `case_sensitive`.
    pub local: &'k [u8],
    /// The domain by which the recipient is called there.
    pub domain: &'k [u8],
    /// What holds for that domain: whose backend it is, and what holds while it can't be asked.
    pub policy: &'k Policy,
}

/// The same as a look-up leaves it in its space, so that a [`Found`] stays small; see
/// [`Snapshot::asked`](super::Snapshot::asked).
#[derive(Clone, Debug, Default)]
pub struct AskedKey {
    address: Vec<u8>,
    local_len: usize,
    pub(super) policy: u32,
}

impl AskedKey {
    pub(super) fn set(&mut self, local: &[u8], domain: &[u8], policy: u32) {
        self.address.clear();
        self.address.extend_from_slice(local);
        self.address.extend_from_slice(domain);
        (self.local_len, self.policy) = (local.len(), policy);
    }

    /// Local part and domain.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.address.split_at_checked(self.local_len).unwrap_or_default()
    }
}

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
    /// What the verdict would be if refusals were carried out.
    pub enforced: Verdict,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// Whom a backend has to be asked about, before that is the verdict.
    pub asked: Option<&'k AskedKey>,
    /// What was said in the place of an answer of a backend.
    pub own: Option<&'s Reply>,
    /// A list that was never read, or is too old, may know better.
    pub lists_missing: bool,
}

impl<'s> Found<'s, '_> {
    /// Whether a backend has the last word about this recipient.
    pub fn wants_probe(&self) -> bool {
        self.asked.is_some()
    }

    /// The same with that word, and with the reply that came with it. Where a list that was never read may know better,
    /// "no" is not the last word. Where one only can't tell, it is.
    pub fn verified(self, verdict: Verdict, own: Option<&'s Reply>) -> Self {
        let enforced = match (verdict, self.enforced) {
            (Verdict::Absent, Verdict::Unknown) if self.lists_missing => Verdict::Unknown,
            _ => verdict,
        };
        let verdict = if self.mode == Mode::Enforce { enforced } else { Verdict::Exists };
        Found { verdict, enforced, step: Step::Verify, own, ..self }
    }

    /// The reply that refuses the recipient: the entry's own, else the domain's.
    pub fn refusal(&self) -> Option<&'s Reply> {
        self.own_reply().or(self.policy.map(|policy| &policy.absent))
    }

    /// The reply that puts the client off.
    pub fn deferral(&self) -> Option<&'s Reply> {
        self.own_deferral().or(self.policy.map(|policy| &policy.unknown))
    }

    /// The reply of the entry itself that puts the client off: a full mailbox says so.
    pub fn own_deferral(&self) -> Option<&'s Reply> {
        self.own_reply().filter(|reply| reply.is_temporary())
    }

    fn own_reply(&self) -> Option<&'s Reply> {
        match self.hit.map(|hit| hit.entry) {
            Some(Entry::Refuse(Some(reply))) => Some(reply),
            _ => self.own,
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
