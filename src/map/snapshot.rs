//! The snapshot: our domains, their policies, and the contents of all sources; and the one way to look an address up.
//!
//! [`Snapshot::lookup`] is the order of DESIGN, section 4. The maps, the control socket and `explain` all call it; what
//! `explain` prints is what its [`Trace`] was told on the way.

use std::sync::Arc;

use hashbrown::HashTable;

use super::HashKey;
use super::content::{ANY_DOMAIN, Content, mark};
use super::rule::Entry;
use super::table::{DomainNumber, LocalHash};
use crate::address::{self, Domain, LocalPart, NoAddress};
use crate::verdict::{Reply, Verdict};

/// What holds for a group of our domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Domains below are ours as well.
    pub subdomains: bool,
    /// The main domain whose recipients this one has, too (folded).
    pub same_as: Option<Box<[u8]>>,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// Characters that part a local part from its detail (RFC 5233).
    pub delimiters: Box<[u8]>,
    /// Local parts keep their case.
    pub case_sensitive: bool,
    /// Local parts that exist without being listed (folded); `postmaster` always does.
    pub always: Vec<Box<[u8]>>,
    /// Take BATV tags off.
    pub batv: bool,
    /// A well-formed SRS address exists.
    pub srs: bool,
    /// The reply for who does not exist.
    pub absent: Reply,
    /// The reply when we can't tell.
    pub unknown: Reply,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            subdomains: false,
            same_as: None,
            mode: Mode::Enforce,
            delimiters: (*b"+").into(),
            case_sensitive: false,
            always: Vec::new(),
            batv: true,
            srs: false,
            absent: Reply::absent(),
            unknown: Reply::unknown(),
        }
    }
}

/// Whether a domain's refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// Everybody exists; who would have been refused is logged and counted.
    Warn,
    /// Everybody exists.
    Off,
}

/// Domains that share a policy.
#[derive(Clone, Debug)]
pub struct DomainGroup {
    /// Folded names.
    pub names: Vec<Box<[u8]>>,
    /// What holds for them.
    pub policy: Policy,
}

/// A source as the snapshot sees it.
#[derive(Clone)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// The higher wins.
    pub priority: i32,
    /// What it lists; `None`: never read, and nothing saved.
    pub content: Option<Arc<Content>>,
}

/// One of our domains.
#[derive(Clone, Debug)]
pub struct RelayDomain {
    /// Folded name.
    pub name: Box<[u8]>,
    policy: u32,
    /// Where a name that is not listed here may be listed still: the main domain, or the parent.
    next: Option<u32>,
}

/// No number: this content does not name the domain.
const NOT_NAMED: u32 = u32::MAX;

/// The immutable directory out of which every answer comes.
pub struct Snapshot {
    sources: Vec<Source>,
    /// Contents of `sources`, highest priority first; the number is the place in `sources`.
    contents: Vec<(usize, Arc<Content>)>,
    key: HashKey,
    domains: Vec<RelayDomain>,
    index: HashTable<u32>,
    /// For each domain, its number in each content.
    numbers: Vec<u32>,
    policies: Vec<Policy>,
    /// Priority of the highest source that was never read.
    missing: Option<i32>,
    /// All of our domains are known: what is none of them is foreign.
    domains_known: bool,
    /// Some content has the shape at all.
    any_domain: bool,
    detail: bool,
    below: bool,
    prefixes: Vec<u8>,
}

/// Space that look-ups use again and again, so that they need no allocation.
#[derive(Default)]
pub struct Scratch {
    domain: Vec<u8>,
    local: Vec<u8>,
    lower: Vec<u8>,
    marked: Vec<u8>,
}

impl Scratch {
    /// A buffer for a domain to be folded into.
    pub fn domain_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.domain
    }
}

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
    /// Whose entry it is: see [`Snapshot::sources`].
    pub source: usize,
}

/// Hears of every step of a look-up. The unit type hears nothing and costs nothing.
pub trait Trace {
    /// `key` was looked for at `domain`, with this result; [`super::key_of`] tells what the two stand for. At
    /// [`Step::Domain`] it is our domain, and empty for a foreign one.
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
    /// The address as it was looked for: local part (empty for a foreign one) and domain.
    pub address: Option<(&'k [u8], &'k [u8])>,
    /// What the verdict would be if the domain's refusals were carried out (`mode`).
    pub enforced: Verdict,
}

impl<'s> Found<'s, '_> {
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
            Some(Entry::Accept { value }) => value,
            _ => b"",
        }
    }
}

impl Snapshot {
    /// Joins sources and domains. `groups`: our domains; without any, every domain that a source names is ours under
    /// `implied`. `groups_complete`: every domain file could be read.
    pub fn new(
        key: HashKey,
        sources: Vec<Source>,
        groups: Vec<DomainGroup>,
        groups_complete: bool,
        implied: Policy,
    ) -> Snapshot {
        let mut contents: Vec<(usize, Arc<Content>)> = sources
            .iter()
            .enumerate()
            .filter_map(|(at, source)| source.content.as_ref().map(|content| (at, Arc::clone(content))))
            .collect();
        // Stable: among equals the order of the configuration stays.
        contents.sort_by_key(|&(at, _)| std::cmp::Reverse(sources[at].priority));
        let missing = sources.iter().filter(|s| s.content.is_none()).map(|s| s.priority).max();
        let shapes = || contents.iter().map(|(_, content)| content.shapes());
        let mut prefixes: Vec<u8> = shapes().flat_map(|shapes| shapes.prefixes.iter().copied()).collect();
        prefixes.sort_unstable_by(|a, b| b.cmp(a));
        prefixes.dedup();
        let mut snapshot = Snapshot {
            any_domain: shapes().any(|shapes| shapes.any_domain),
            detail: shapes().any(|shapes| shapes.detail),
            below: shapes().any(|shapes| shapes.subdomains),
            prefixes,
            sources,
            contents,
            key,
            domains: Vec::new(),
            index: HashTable::new(),
            numbers: Vec::new(),
            policies: Vec::new(),
            missing,
            domains_known: groups_complete,
        };
        if groups.is_empty() {
            snapshot.imply_domains(implied);
        } else {
            snapshot.declare_domains(groups);
        }
        snapshot.join();
        snapshot
    }

    /// Before the first load: nothing is known, not even which domains are ours.
    pub fn empty() -> Snapshot {
        let never_read = Source { name: "".into(), priority: 0, content: None };
        let key = HashKey::with_seeds(1, 2, 3, 4);
        Snapshot::new(key, vec![never_read], Vec::new(), false, Policy::default())
    }

    /// The sources, in the order of the configuration.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Our domains.
    pub fn domains(&self) -> &[RelayDomain] {
        &self.domains
    }

    /// What holds for one of [`Snapshot::domains`].
    pub fn policy(&self, domain: &RelayDomain) -> &Policy {
        &self.policies[domain.policy as usize]
    }

    /// Keys in all sources, foreign domains included.
    pub fn len(&self) -> usize {
        self.contents.iter().map(|(_, content)| content.len()).sum()
    }

    /// Whether no source lists anything.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every source has been read, and every domain file.
    pub fn is_complete(&self) -> bool {
        self.missing.is_none() && self.domains_known
    }

    /// Keys of a content whose domain is none of ours.
    pub fn foreign_keys(&self, content: &Content) -> usize {
        content
            .domains()
            .filter(|(name, _)| {
                let name = name.strip_prefix(b".").unwrap_or(name);
                self.relay_domain(name).is_none()
            })
            .map(|(_, entries)| entries)
            .sum()
    }

    /// What an access file says about a key that is no recipient of ours; `folded` is in lower case.
    pub fn pair(&self, folded: &[u8]) -> Option<&[u8]> {
        self.contents.iter().find_map(|(_, content)| content.pairs().find(folded))
    }

    /// Whether all of our domains are known, so that another one is foreign.
    pub fn domains_known(&self) -> bool {
        self.domains_known
    }

    /// The domain of ours that a folded name is, or lies below.
    pub fn relay_domain(&self, name: &[u8]) -> Option<&RelayDomain> {
        self.covering(name).map(|at| &self.domains[at])
    }

    fn covering(&self, name: &[u8]) -> Option<usize> {
        if let Some(at) = self.find_domain(name) {
            return Some(at);
        }
        let mut rest = name;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            rest = &rest[dot + 1..];
            if let Some(at) = self.find_domain(rest)
                && self.policy(&self.domains[at]).subdomains
            {
                return Some(at);
            }
        }
        None
    }

    /// Looks an address up, in the order of DESIGN, section 4.
    pub fn lookup<'s, 'k, T: Trace>(&'s self, key: &[u8], scratch: &'k mut Scratch, trace: &mut T) -> Found<'s, 'k> {
        let Scratch { domain, local, lower, marked } = scratch;
        let undecided =
            |verdict, step| Found { verdict, step, hit: None, policy: None, address: None, enforced: verdict };
        let raw = match address::split(key) {
            Ok(raw) => raw,
            Err(NoAddress::NoDomain) if address::is_bare_postmaster(key) => {
                trace.note(Step::Always, &"every SMTP server has the bare postmaster (RFC 5321, 4.5.1)");
                local.clear();
                local.extend_from_slice(b"postmaster");
                return Found { address: Some((local, b"")), ..undecided(Verdict::Exists, Step::Always) };
            }
            Err(why) => {
                trace.note(Step::Parse, &why);
                return undecided(Verdict::Foreign, Step::Parse);
            }
        };
        let domain = match address::fold_domain(raw.domain, domain) {
            Ok(domain) => domain,
            Err(why) => {
                trace.note(Step::Parse, &why);
                return undecided(Verdict::Foreign, Step::Parse);
            }
        };
        let Some(ours) = self.covering(domain.bytes()) else {
            let verdict = if self.domains_known { Verdict::Foreign } else { Verdict::Unknown };
            trace.step(Step::Domain, b"", domain.bytes(), None);
            return Found { address: Some((b"", domain.bytes())), ..undecided(verdict, Step::Domain) };
        };
        let policy = self.policy(&self.domains[ours]);
        trace.step(Step::Domain, &self.domains[ours].name, domain.bytes(), None);
        let finding = |enforced: Verdict, step: Step, hit: Option<Hit<'s>>, local: &'k [u8]| {
            let verdict = if policy.mode == Mode::Enforce { enforced } else { Verdict::Exists };
            let address = Some((local, domain.bytes()));
            Found { verdict, step, hit, policy: Some(policy), address, enforced }
        };
        let local = match address::fold_local_part(raw.local, policy.case_sensitive, local) {
            Ok(local) => local,
            Err(odd) => {
                trace.note(Step::Parse, &odd);
                return finding(Verdict::Absent, Step::Parse, None, b"");
            }
        };
        let mut search = Search { snapshot: self, ours, policy, domain, marked, trace };
        let any_case = if policy.case_sensitive && (self.any_domain || !self.prefixes.is_empty()) {
            address::fold_local_part(raw.local, false, lower).unwrap_or(local)
        } else {
            local
        };
        let (step, decision) = search.all_steps(local, any_case);
        let (verdict, hit) = match decision {
            Decision::Exists(hit) => (Verdict::Exists, hit),
            Decision::Refused(hit) => (self.refused(hit), Some(hit)),
            Decision::NotListed => (if self.missing.is_some() { Verdict::Unknown } else { Verdict::Absent }, None),
        };
        finding(verdict, step, hit, local.bytes())
    }

    /// A refusal stands unless it is a temporary one, or a source that may know better was never read.
    fn refused(&self, hit: Hit<'_>) -> Verdict {
        let temporary = matches!(hit.entry, Entry::Refuse(Some(reply)) if reply.is_temporary());
        let outranked = self.missing.is_some_and(|missing| missing > self.sources[hit.source].priority);
        if temporary || outranked { Verdict::Unknown } else { Verdict::Absent }
    }

    fn find_domain(&self, name: &[u8]) -> Option<usize> {
        let same = |&at: &u32| *self.domains[at as usize].name == *name;
        self.index.find(self.key.hash_one(name), same).map(|&at| at as usize)
    }

    /// The entry of the highest source that has the key; among equals a refusal wins.
    #[inline]
    fn best<'s>(
        &'s self,
        hash: LocalHash,
        local: &[u8],
        number_in: impl Fn(usize, &Content) -> Option<DomainNumber>,
    ) -> Option<Hit<'s>> {
        let mut best: Option<Hit<'s>> = None;
        for (place, (source, content)) in self.contents.iter().enumerate() {
            if best.is_some_and(|best| self.sources[best.source].priority > self.sources[*source].priority) {
                break;
            }
            let Some(number) = number_in(place, content) else { continue };
            let Some(entry) = content.get(hash, number, local) else { continue };
            let hit = Hit { entry, source: *source };
            if !entry.accepts() {
                return Some(hit);
            }
            best.get_or_insert(hit);
        }
        best
    }

    /// The entry for a key at one of our domains.
    #[inline]
    fn best_at(&self, hash: LocalHash, local: &[u8], domain: usize) -> Option<Hit<'_>> {
        let first = domain * self.contents.len();
        self.best(hash, local, |place, _| {
            let number = self.numbers[first + place];
            (number != NOT_NAMED).then_some(DomainNumber(number))
        })
    }

    fn add_domain(&mut self, name: &[u8], policy: u32) {
        if self.find_domain(name).is_some() {
            return;
        }
        let at = self.domains.len() as u32;
        self.domains.push(RelayDomain { name: name.into(), policy, next: None });
        let Snapshot { index, domains, key, .. } = self;
        index.insert_unique(key.hash_one(name), at, |&at| key.hash_one(&*domains[at as usize].name));
    }

    /// No domain is declared: those that a source names are ours, and are all known once every source was read.
    fn imply_domains(&mut self, implied: Policy) {
        self.domains_known &= self.missing.is_none();
        let with_subdomains = Policy { subdomains: true, ..implied.clone() };
        self.policies = vec![implied, with_subdomains];
        let contents: Vec<_> = self.contents.iter().map(|(_, content)| Arc::clone(content)).collect();
        let names = || contents.iter().flat_map(|content| content.domains());
        // `@.lab.example.org` makes lab.example.org's subdomains ours, and it goes first: the first policy stays.
        for below in names().filter_map(|(name, _)| name.strip_prefix(b".")) {
            self.add_domain(below, 1);
        }
        for (name, _) in names().filter(|(name, _)| !name.starts_with(b".")) {
            self.add_domain(name, 0);
        }
    }

    fn declare_domains(&mut self, groups: Vec<DomainGroup>) {
        for group in groups {
            let policy = self.policies.len() as u32;
            self.policies.push(group.policy);
            for name in &group.names {
                self.add_domain(name, policy);
            }
        }
        // A subdomain that some source names gets its own numbers, and goes on to the domain above it. Upper ones first,
        // so that the chain does not depend on the order of the lists.
        let contents: Vec<_> = self.contents.iter().map(|(_, content)| Arc::clone(content)).collect();
        let mut named: Vec<&[u8]> =
            contents.iter().flat_map(|content| content.domains()).map(|(name, _)| name).collect();
        named.retain(|name| !name.starts_with(b"."));
        named.sort_unstable_by_key(|name| (memchr::memchr_iter(b'.', name).count(), *name));
        for name in named {
            if self.find_domain(name).is_some() {
                continue;
            }
            if let Some(above) = self.covering(name) {
                self.add_domain(name, self.domains[above].policy);
                if let Some(last) = self.domains.last_mut() {
                    last.next = Some(above as u32);
                }
            }
        }
    }

    /// Sets `next` of alias domains, and looks up every domain's number in every content.
    fn join(&mut self) {
        for at in 0..self.domains.len() {
            let main = self.policy(&self.domains[at]).same_as.as_deref().and_then(|main| self.find_domain(main));
            if let Some(main) = main.filter(|&main| main != at) {
                self.domains[at].next = Some(main as u32);
            }
        }
        self.numbers = self
            .domains
            .iter()
            .flat_map(|domain| {
                self.contents.iter().map(|(_, content)| content.domain(&domain.name).map_or(NOT_NAMED, |n| n.0))
            })
            .collect();
    }
}

enum Decision<'s> {
    Exists(Option<Hit<'s>>),
    Refused(Hit<'s>),
    NotListed,
}

/// One look-up in a domain of ours.
struct Search<'s, 'a, T> {
    snapshot: &'s Snapshot,
    /// Its place in the snapshot's list.
    ours: usize,
    policy: &'s Policy,
    /// The domain that was asked for: ours, or one below it.
    domain: Domain<'a>,
    marked: &'a mut Vec<u8>,
    trace: &'a mut T,
}

/// No chain of alias and parent domains is longer; a cycle that the configuration let through ends here.
const MAX_CHAIN: usize = 8;

impl<'s, T: Trace> Search<'s, '_, T> {
    fn all_steps(&mut self, local: LocalPart<'_>, any_case: LocalPart<'_>) -> (Step, Decision<'s>) {
        if let Some(found) = self.named(local) {
            return found;
        }
        let (local, any_case) = match self.unwrapped(local) {
            Unwrapped::Proof => return (Step::Unwrap, Decision::Exists(None)),
            Unwrapped::Plain(plain) => {
                self.trace.note(Step::Unwrap, &"without its BATV tag");
                if let Some(found) = self.named(plain) {
                    return found;
                }
                (plain, any_case.without_batv().unwrap_or(plain))
            }
            Unwrapped::NoTag => (local, any_case),
        };
        if let Some(found) = self.without_detail(local) {
            return found;
        }
        if self.snapshot.any_domain
            && let Some(hit) = self.any_domain(any_case)
        {
            return (Step::AnyDomain, decide(hit));
        }
        if let Some(hit) = self.prefix(local, any_case) {
            return (Step::Prefix, decide(hit));
        }
        if let Some(hit) = self.catch_all(local) {
            return (Step::CatchAll, decide(hit));
        }
        if self.snapshot.below
            && let Some(hit) = self.subdomains()
        {
            return (Step::Subdomains, decide(hit));
        }
        (Step::Verify, Decision::NotListed)
    }

    /// Listed as it is, or one of the names that exist always.
    fn named(&mut self, local: LocalPart<'_>) -> Option<(Step, Decision<'s>)> {
        let hit = self.in_chain(Step::Exact, local.bytes());
        let postmaster = local.bytes().eq_ignore_ascii_case(b"postmaster");
        match hit {
            // An explicit refusal of postmaster is against RFC 5321, 4.5.1; the load has warned about it.
            Some(hit) if hit.entry.accepts() || !postmaster => return Some((Step::Exact, decide(hit))),
            _ => {}
        }
        if postmaster || self.policy.always.iter().any(|name| **name == *local.bytes()) {
            self.trace.note(Step::Always, &"exists without being listed");
            return Some((Step::Always, Decision::Exists(None)));
        }
        None
    }

    fn unwrapped<'l>(&mut self, local: LocalPart<'l>) -> Unwrapped<'l> {
        if self.policy.srs && local.is_srs() {
            self.trace.note(Step::Unwrap, &"a well-formed SRS address");
            return Unwrapped::Proof;
        }
        match local.without_batv().filter(|_| self.policy.batv) {
            Some(plain) => Unwrapped::Plain(plain),
            None => Unwrapped::NoTag,
        }
    }

    /// `user++@`, `user+*@`, then the base itself; longest base first. Without a detail only `user+*@`.
    fn without_detail(&mut self, local: LocalPart<'_>) -> Option<(Step, Decision<'s>)> {
        if self.snapshot.detail
            && let Some(hit) = self.marked(Step::Detail, mark::DETAIL, local.bytes())
        {
            return Some((Step::Detail, decide(hit)));
        }
        let delimiters = &self.policy.delimiters;
        for (base, detail) in local.subaddresses(delimiters) {
            if self.snapshot.detail {
                if !detail.is_empty()
                    && let Some(hit) = self.marked(Step::Detail, mark::DETAIL_REQUIRED, base.bytes())
                {
                    return Some((Step::Detail, decide(hit)));
                }
                if let Some(hit) = self.marked(Step::Detail, mark::DETAIL, base.bytes()) {
                    return Some((Step::Detail, decide(hit)));
                }
            }
            match self.named(base) {
                Some((Step::Always, decision)) => return Some((Step::Always, decision)),
                Some((_, decision)) => return Some((Step::Detail, decision)),
                None => {}
            }
        }
        None
    }

    /// `user@`, with its detail and then without.
    fn any_domain(&mut self, local: LocalPart<'_>) -> Option<Hit<'s>> {
        let delimiters = &self.policy.delimiters;
        let bases = local.subaddresses(delimiters).map(|(base, _)| base);
        for base in std::iter::once(local).chain(bases) {
            let hash = LocalHash::of(base.bytes(), &self.snapshot.key);
            let hit = self.snapshot.best(hash, base.bytes(), |_, _| Some(ANY_DOMAIN));
            self.trace.step(Step::AnyDomain, base.bytes(), b"", hit);
            if hit.is_some() {
                return hit;
            }
        }
        None
    }

    fn prefix(&mut self, local: LocalPart<'_>, any_case: LocalPart<'_>) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        for &len in &snapshot.prefixes {
            if let Some(prefix) = local.bytes().get(..usize::from(len))
                && let Some(hit) = self.marked(Step::Prefix, mark::PREFIX, prefix)
            {
                return Some(hit);
            }
            if let Some(prefix) = any_case.bytes().get(..usize::from(len)) {
                self.set_marked(mark::PREFIX, prefix);
                let hash = LocalHash::of(self.marked, &snapshot.key);
                let hit = snapshot.best(hash, self.marked, |_, _| Some(ANY_DOMAIN));
                if hit.is_some() {
                    self.trace.step(Step::Prefix, self.marked, b"", hit);
                    return hit;
                }
            }
        }
        None
    }

    /// `++@domain` and `+*@domain` for who has a detail, then `@domain`.
    fn catch_all(&mut self, local: LocalPart<'_>) -> Option<Hit<'s>> {
        if self.snapshot.detail {
            let delimiters = &self.policy.delimiters;
            let detail = local.subaddresses(delimiters).next();
            if detail.is_some_and(|(_, detail)| !detail.is_empty())
                && let Some(hit) = self.marked(Step::CatchAll, mark::DETAIL_REQUIRED, b"")
            {
                return Some(hit);
            }
            if let Some(hit) = self.marked(Step::CatchAll, mark::DETAIL, b"") {
                return Some(hit);
            }
        }
        self.in_chain(Step::CatchAll, b"")
    }

    /// `@.parent`, nearest parent first.
    fn subdomains(&mut self) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        let hash = LocalHash::of(b"", &snapshot.key);
        for parent in self.domain.parents() {
            self.marked.clear();
            self.marked.push(b'.');
            self.marked.extend_from_slice(parent.bytes());
            let hit = snapshot.best(hash, b"", |_, content| content.domain(self.marked));
            self.trace.step(Step::Subdomains, b"", self.marked, hit);
            if hit.is_some() {
                return hit;
            }
        }
        None
    }

    fn marked(&mut self, step: Step, mark: u8, local: &[u8]) -> Option<Hit<'s>> {
        self.set_marked(mark, local);
        let key = std::mem::take(self.marked);
        let hit = self.in_chain(step, &key);
        *self.marked = key;
        hit
    }

    fn set_marked(&mut self, mark: u8, local: &[u8]) {
        self.marked.clear();
        self.marked.push(mark);
        self.marked.extend_from_slice(local);
    }

    /// The first domain of the chain (the domain itself, its parent or main domain) that has the key decides.
    #[inline]
    fn in_chain(&mut self, step: Step, local: &[u8]) -> Option<Hit<'s>> {
        let snapshot = self.snapshot;
        let hash = LocalHash::of(local, &snapshot.key);
        let mut at = self.ours;
        for _ in 0..MAX_CHAIN {
            let domain = &snapshot.domains[at];
            let hit = snapshot.best_at(hash, local, at);
            self.trace.step(step, local, &domain.name, hit);
            if hit.is_some() {
                return hit;
            }
            at = domain.next? as usize;
        }
        None
    }
}

enum Unwrapped<'l> {
    NoTag,
    Plain(LocalPart<'l>),
    Proof,
}

fn decide(hit: Hit<'_>) -> Decision<'_> {
    if hit.entry.accepts() { Decision::Exists(Some(hit)) } else { Decision::Refused(hit) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Builder, Domains, Grant, Item, Key};

    fn key() -> HashKey {
        HashKey::with_seeds(1, 2, 3, 4)
    }

    fn accept(key: Key<'_>) -> Item<'_> {
        Item { key, grant: Grant::Accept { value: b"" } }
    }

    fn recipient(address: &str) -> Item<'_> {
        let (local, domain) = address.rsplit_once('@').expect("an address");
        accept(Key::Recipient { local: local.as_bytes(), domain: domain.as_bytes() })
    }

    fn refuse<'a>(item: Item<'a>, reply: &str) -> Item<'a> {
        Item { grant: Grant::Refuse(reply.parse().ok()), ..item }
    }

    fn content(items: &[Item<'_>]) -> Option<Arc<Content>> {
        let mut builder = Builder::new(key(), true, Domains::new());
        for item in items {
            builder.add(item).expect("a fit item");
        }
        Some(Arc::new(builder.finish(|_| {})))
    }

    fn source(priority: i32, items: &[Item<'_>]) -> Source {
        Source { name: "list".into(), priority, content: content(items) }
    }

    fn group(names: &[&str], policy: Policy) -> DomainGroup {
        DomainGroup { names: names.iter().map(|name| name.as_bytes().into()).collect(), policy }
    }

    fn snapshot(sources: Vec<Source>, groups: Vec<DomainGroup>) -> Snapshot {
        Snapshot::new(key(), sources, groups, true, Policy::default())
    }

    fn ask(snapshot: &Snapshot, address: &str) -> (Verdict, Step) {
        let mut scratch = Scratch::default();
        let found = snapshot.lookup(address.as_bytes(), &mut scratch, &mut ());
        (found.verdict, found.step)
    }

    use Verdict::{Absent, Exists, Foreign, Unknown};

    #[test]
    fn the_steps_come_in_their_order() {
        let list = source(
            0,
            &[
                recipient("anna@a.example"),
                refuse(recipient("leaver@a.example"), "550 5.7.1 Left"),
                accept(Key::Detail { local: b"info", domain: b"a.example", required: false }),
                accept(Key::Detail { local: b"help", domain: b"a.example", required: true }),
                accept(Key::AnyDomain { local: b"office" }),
                accept(Key::Prefix { prefix: b"list-", domain: b"a.example" }),
                refuse(accept(Key::Prefix { prefix: b"list-old-", domain: b"a.example" }), "550 5.1.6 Gone"),
                accept(Key::CatchAll { domain: b"open.example" }),
                refuse(recipient("not@open.example"), "550 5.1.1 No"),
                accept(Key::Subdomains { domain: b"lab.example" }),
            ],
        );
        let snapshot = snapshot(vec![list], vec![]);
        for (address, answer) in [
            ("Anna@A.example", (Exists, Step::Exact)),
            ("anna+x@a.example", (Exists, Step::Detail)),
            ("leaver@a.example", (Absent, Step::Exact)),
            ("leaver+x@a.example", (Absent, Step::Detail)),
            ("info@a.example", (Exists, Step::Detail)),
            ("info+x@a.example", (Exists, Step::Detail)),
            ("help@a.example", (Absent, Step::Verify)),
            ("help+@a.example", (Absent, Step::Verify)),
            ("help+x@a.example", (Exists, Step::Detail)),
            ("office@a.example", (Exists, Step::AnyDomain)),
            ("office+x@open.example", (Exists, Step::AnyDomain)),
            ("list-x@a.example", (Exists, Step::Prefix)),
            ("list-old-x@a.example", (Absent, Step::Prefix)),
            ("whoever@open.example", (Exists, Step::CatchAll)),
            ("not+x@open.example", (Absent, Step::Detail)),
            ("x@deep.lab.example", (Exists, Step::Subdomains)),
            ("postmaster@a.example", (Exists, Step::Always)),
            ("postmaster", (Exists, Step::Always)),
            ("prvs=0123456789=anna@a.example", (Exists, Step::Exact)),
            ("prvs=0123456789=anna+x@a.example", (Exists, Step::Detail)),
            ("nobody@a.example", (Absent, Step::Verify)),
            ("anna%b.example@a.example", (Absent, Step::Parse)),
            ("anna%b.example@b.example", (Foreign, Step::Domain)),
            ("b.example!anna@open.example", (Absent, Step::Parse)),
            ("anna@b.example", (Foreign, Step::Domain)),
            ("anna", (Foreign, Step::Parse)),
        ] {
            assert_eq!(ask(&snapshot, address), answer, "{address}");
        }
    }

    #[test]
    fn nothing_is_absent_before_the_first_load() {
        let snapshot = Snapshot::empty();
        assert_eq!(ask(&snapshot, "anna@a.example"), (Unknown, Step::Domain));
        assert_eq!(ask(&snapshot, "a%b@a.example"), (Unknown, Step::Domain));
        assert_eq!(ask(&snapshot, "postmaster"), (Exists, Step::Always));
    }

    #[test]
    fn a_source_that_was_never_read_makes_absent_unknown() {
        let never = |priority| Source { name: "ad".into(), priority, content: None };
        let list = [recipient("anna@a.example"), refuse(recipient("leaver@a.example"), "550 5.7.1 Left")];
        let groups = || vec![group(&["a.example"], Policy::default())];
        let incomplete = snapshot(vec![source(0, &list), never(0)], groups());
        assert_eq!(ask(&incomplete, "anna@a.example").0, Exists);
        assert_eq!(ask(&incomplete, "nobody@a.example").0, Unknown);
        assert_eq!(ask(&incomplete, "leaver@a.example").0, Absent);
        assert_eq!(ask(&incomplete, "anna@b.example").0, Foreign);
        // A higher source may know better than the refusal.
        assert_eq!(ask(&snapshot(vec![source(0, &list), never(1)], groups()), "leaver@a.example").0, Unknown);
        // Without declared domains the missing source may name others.
        assert_eq!(ask(&snapshot(vec![source(0, &list), never(0)], vec![]), "anna@b.example").0, Unknown);
    }

    #[test]
    fn the_higher_source_wins_and_among_equals_the_refusal() {
        let yes = [recipient("anna@a.example")];
        let no = [refuse(recipient("anna@a.example"), "550 5.7.1 Left")];
        assert_eq!(ask(&snapshot(vec![source(0, &no), source(1, &yes)], vec![]), "anna@a.example").0, Exists);
        assert_eq!(ask(&snapshot(vec![source(1, &no), source(0, &yes)], vec![]), "anna@a.example").0, Absent);
        assert_eq!(ask(&snapshot(vec![source(0, &yes), source(0, &no)], vec![]), "anna@a.example").0, Absent);
    }

    #[test]
    fn subdomains_and_alias_domains_go_on() {
        let list =
            source(0, &[recipient("anna@a.example"), recipient("dev@d.a.example"), recipient("only@alias.example")]);
        let subdomains = Policy { subdomains: true, ..Policy::default() };
        let alias = Policy { same_as: Some(b"a.example"[..].into()), ..Policy::default() };
        let groups = vec![group(&["a.example"], subdomains), group(&["alias.example"], alias)];
        let snapshot = snapshot(vec![list], groups);
        for (address, verdict) in [
            ("anna@d.a.example", Exists),
            ("anna@x.d.a.example", Exists),
            ("dev@d.a.example", Exists),
            ("dev@x.d.a.example", Exists),
            ("dev@a.example", Absent),
            ("dev@x.a.example", Absent),
            ("anna@alias.example", Exists),
            ("only@alias.example", Exists),
            ("only@a.example", Absent),
            ("anna@x.alias.example", Foreign),
        ] {
            assert_eq!(ask(&snapshot, address).0, verdict, "{address}");
        }
    }

    #[test]
    fn refusals_for_now_and_modes() {
        let full = [refuse(recipient("anna@a.example"), "452 4.2.2 Mailbox full")];
        assert_eq!(ask(&snapshot(vec![source(0, &full)], vec![]), "anna@a.example"), (Unknown, Step::Exact));
        for mode in [Mode::Warn, Mode::Off] {
            let groups = vec![group(&["a.example"], Policy { mode, ..Policy::default() })];
            let snapshot = snapshot(vec![source(0, &[])], groups);
            let mut scratch = Scratch::default();
            let found = snapshot.lookup(b"nobody@a.example", &mut scratch, &mut ());
            assert_eq!((found.verdict, found.enforced), (Exists, Absent));
        }
    }

    #[test]
    fn postmaster_cannot_be_refused() {
        let list = source(0, &[refuse(recipient("postmaster@a.example"), "550 5.1.1 No")]);
        assert_eq!(ask(&snapshot(vec![list], vec![]), "postmaster@a.example"), (Exists, Step::Always));
    }
}
