//! The snapshot: our domains, their policies, and the contents of all sources; and the one way to look an address up.
//!
//! [`Snapshot::lookup`] is the order of DESIGN, section 4. The maps, the control socket and `explain` all call it; what
//! `explain` prints is what its [`Trace`] was told on the way.

use std::collections::HashMap;
use std::sync::Arc;

use hashbrown::HashTable;

use super::HashKey;
use super::content::{ANY_DOMAIN, Content};
use super::found::{Asked, AskedKey, Found, Hit, Step, Trace};
use super::policy::{DomainGroup, Mode, Policy, Verify};
use super::rule::Entry;
use super::search::{Decision, Key, Name, Search, chain, temporary};
use super::table::{DomainNumber, LocalHash};
use crate::address::{self, Domain, NoAddress};
use crate::verdict::Verdict;

/// A source as the snapshot sees it.
#[derive(Clone)]
pub struct Source {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// The higher wins.
    pub priority: i32,
    /// What it lists; `None`: never read, and nothing saved.
    pub content: Option<Arc<Content>>,
    /// What it listed until a while ago, and what is still accepted (`grace`).
    pub vanished: Option<Arc<Content>>,
    /// The content is too old (`max_age`) for anybody to be absent by it.
    pub is_old: bool,
}

impl Source {
    /// A source whose content is the whole truth.
    pub fn new(name: &str, priority: i32, content: Option<Arc<Content>>) -> Source {
        Source { name: name.into(), priority, content, vanished: None, is_old: false }
    }
}

/// One of our domains.
#[derive(Clone, Debug)]
pub struct RelayDomain {
    /// Folded name; with a leading dot: the domains below are ours.
    pub name: Box<[u8]>,
    pub(super) policy: u32,
    /// Where a name that is not listed here may be listed still: the main domain, or the parent.
    pub(super) next: Option<u32>,
    /// At how many domains its names are looked for, itself included.
    pub(super) chain: usize,
    /// `next` is the main domain.
    pub(super) is_alias: bool,
    /// It, or where the names go on, is an alias of a domain that is none of ours, as far as they are known: nobody is
    /// absent by silence.
    pub(super) unresolved: bool,
    /// A backend has the last word about some names, here or where they go on.
    pub(super) asks: bool,
    /// Some content lists local parts as written, here or where the names go on.
    pub(super) keeps_case: bool,
    /// Some content has a catch-all for it: without one none is looked for, and a miss costs one search in place of two.
    pub(super) catch_all: bool,
}

/// No number: this content does not name the domain.
const NOT_NAMED: u32 = u32::MAX;

/// The immutable directory out of which every answer comes.
pub struct Snapshot {
    pub(super) sources: Vec<Source>,
    /// Contents of `sources`, highest priority first, what has vanished behind what is there; the number is the place in
    /// `sources`.
    contents: Vec<(usize, Arc<Content>)>,
    pub(super) key: HashKey,
    pub(super) domains: Vec<RelayDomain>,
    index: HashTable<u32>,
    /// Domains below which all are ours, though they are not themselves; by their names without the dot.
    index_below: HashTable<u32>,
    /// For each domain, its number in each content.
    numbers: Vec<u32>,
    policies: Vec<Policy>,
    /// Priority of the highest source that was never read, or is too old.
    missing: Option<i32>,
    /// All of our domains are known: what is none of them is foreign.
    domains_known: bool,
    /// Domains from an alias or a subdomain to the last that its names may be listed at. A circle ends there, too.
    pub(super) longest_chain: usize,
    /// Some content has the shape at all.
    pub(super) any_domain: bool,
    pub(super) detail: bool,
    pub(super) catch_all: bool,
    pub(super) below: bool,
    /// Some content can't tell about somebody.
    pub(super) unknown: bool,
    pub(super) prefixes: Vec<u8>,
}

/// Space that look-ups use again and again, so that they need no allocation.
#[derive(Default)]
pub struct Scratch {
    plain: Vec<u8>,
    domain: Vec<u8>,
    local: Vec<u8>,
    lower: Vec<u8>,
    marked: Vec<u8>,
    kept: Vec<u8>,
    asked: AskedKey,
}

impl Scratch {
    /// A buffer for a domain to be folded into.
    pub fn domain_buffer(&mut self) -> &mut Vec<u8> {
        &mut self.domain
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
            .flat_map(|(at, source)| source.content.iter().chain(&source.vanished).map(move |c| (at, Arc::clone(c))))
            .collect();
        // Stable: among equals the order of the configuration stays.
        contents.sort_by_key(|&(at, _)| std::cmp::Reverse(sources[at].priority));
        let missing = sources.iter().filter(|s| s.content.is_none() || s.is_old).map(|s| s.priority).max();
        let shapes = || contents.iter().map(|(_, content)| content.shapes());
        let mut prefixes: Vec<u8> = shapes().flat_map(|shapes| shapes.prefixes.iter().copied()).collect();
        prefixes.sort_unstable_by(|a, b| b.cmp(a));
        prefixes.dedup();
        let mut snapshot = Snapshot {
            any_domain: shapes().any(|shapes| shapes.any_domain),
            detail: shapes().any(|shapes| shapes.detail),
            catch_all: shapes().any(|shapes| shapes.catch_all),
            below: shapes().any(|shapes| shapes.subdomains),
            unknown: shapes().any(|shapes| shapes.unknown),
            prefixes,
            sources,
            contents,
            key,
            domains: Vec::new(),
            index: HashTable::new(),
            index_below: HashTable::new(),
            numbers: Vec::new(),
            policies: Vec::new(),
            missing,
            domains_known: groups_complete,
            longest_chain: 0,
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
        let never_read = Source::new("", 0, None);
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

    /// Keys of a content whose domain is none of ours, and those of them that are listed to be refused.
    pub fn foreign_keys(&self, content: &Content) -> (usize, usize) {
        let foreign = content.domain_counts().filter(|(name, ..)| self.relay_domain(name).is_none());
        foreign.fold((0, 0), |(keys, refusals), (_, more, refused)| (keys + more, refusals + refused))
    }

    /// What an access file says about a key that is no recipient of ours; `folded` is in lower case.
    pub fn pair(&self, folded: &[u8]) -> Option<&[u8]> {
        self.contents.iter().find_map(|(_, content)| content.pairs().find(folded))
    }

    /// Whether all of our domains are known, so that another one is foreign.
    pub fn domains_known(&self) -> bool {
        self.domains_known
    }

    /// The domain of ours that a folded name is, or lies below. With a leading dot: one below which all are ours.
    pub fn relay_domain(&self, name: &[u8]) -> Option<&RelayDomain> {
        self.covering(name).map(|at| &self.domains[at])
    }

    /// The place of a domain with exactly this folded name in [`Snapshot::domains`].
    pub fn number_of(&self, name: &[u8]) -> Option<usize> {
        self.find_domain(name)
    }

    /// Our domain that an address belongs to, by its place in [`Snapshot::domains`], and what holds for it; without
    /// looking the recipient up.
    pub fn domain_of(&self, key: &[u8], scratch: &mut Scratch) -> Option<(u32, &Policy)> {
        let raw = address::split(key).ok()?;
        let domain = address::fold_domain(raw.domain, &mut scratch.domain).ok()?;
        let at = self.covering(domain.bytes())?;
        Some((at as u32, self.policy(&self.domains[at])))
    }

    pub(super) fn covering(&self, name: &[u8]) -> Option<usize> {
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
            if let Some(at) = self.find_below(rest) {
                return Some(at);
            }
        }
        None
    }

    /// Looks an address up, in the order of DESIGN, section 4.
    pub fn lookup<'s: 'k, 'k, T: Trace>(
        &'s self,
        key: &[u8],
        scratch: &'k mut Scratch,
        trace: &mut T,
    ) -> Found<'s, 'k> {
        let Scratch { plain, domain, local, lower, marked, kept, asked } = scratch;
        if let Some((lower, domain)) = address::fold_plain(key, plain)
            && let Some(ours) = self.find_domain(domain)
            && !self.domains[ours].keeps_case
        {
            let name = Name { lower, kept: None };
            return self.search(ours, name, Domain::as_folded(domain), (marked, kept, asked), trace);
        }
        let undecided = |verdict, step| Found {
            verdict,
            step,
            hit: None,
            policy: None,
            domain: None,
            address: None,
            enforced: verdict,
            mode: Mode::Enforce,
            asked: None,
            own: None,
            lists_missing: self.missing.is_some(),
        };
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
        // As written it is mostly one of ours already, and needs no folding.
        let known = self.find_domain(raw.domain);
        let folded = match known {
            Some(_) => Ok(Domain::folded(raw.domain, domain)),
            None => address::fold_domain(raw.domain, domain),
        };
        let domain = match folded {
            Ok(domain) => domain,
            Err(why) => {
                trace.note(Step::Parse, &why);
                return undecided(Verdict::Foreign, Step::Parse);
            }
        };
        let Some(ours) = known.or_else(|| self.covering(domain.bytes())) else {
            let verdict = if self.domains_known { Verdict::Foreign } else { Verdict::Unknown };
            trace.step(Step::Domain, b"", domain.bytes(), None);
            return Found { address: Some((b"", domain.bytes())), ..undecided(verdict, Step::Domain) };
        };
        let keeps_case = self.domains[ours].keeps_case;
        let local = match address::fold_local_part(raw.local, keeps_case, local) {
            Ok(local) => local,
            Err(odd) => {
                trace.step(Step::Domain, &self.domains[ours].name, domain.bytes(), None);
                trace.note(Step::Parse, &odd);
                let mode = self.policy(&self.domains[ours]).mode;
                let absent = self.finding(ours, mode, Verdict::Absent, Step::Parse, None);
                return Found { address: Some((b"", domain.bytes())), ..absent };
            }
        };
        let name = if keeps_case {
            Name { lower: address::fold_local_part(raw.local, false, lower).unwrap_or(local), kept: Some(local) }
        } else {
            Name { lower: local, kept: None }
        };
        self.search(ours, name, domain, (marked, kept, asked), trace)
    }

    /// Looks for a name at one of our domains. `buffers`: for what it is looked for as, and whom a backend is asked about.
    fn search<'s: 'k, 'k, T: Trace>(
        &'s self,
        ours: usize,
        name: Name<'k>,
        domain: Domain<'k>,
        (marked, kept, asked): (&mut Vec<u8>, &mut Vec<u8>, &'k mut AskedKey),
        trace: &mut T,
    ) -> Found<'s, 'k> {
        let policy = self.policy(&self.domains[ours]);
        trace.step(Step::Domain, &self.domains[ours].name, domain.bytes(), None);
        let mut search = Search {
            snapshot: self,
            ours,
            policy,
            domain,
            marked,
            kept,
            trace,
            followed: 0,
            among_unknown: false,
            mode: policy.mode,
            unresolved: self.domains[ours].unresolved,
            asked: &mut *asked,
            is_asked: false,
            untagged: None,
            found_at: ours,
        };
        let (step, decision) = search.decision(name);
        search.find_last_word(name, step, &decision);
        // What an unknown main domain has is like a source that was never read.
        let missing = |search: &Search<'_, '_, '_, T>| self.missing.or(search.unresolved.then_some(i32::MIN));
        let (verdict, hit) = match decision {
            Decision::Exists(hit) => (Verdict::Exists, hit),
            Decision::Refused(hit) if temporary(hit.entry) => (Verdict::Unknown, Some(hit)),
            Decision::Refused(hit) if missing(&search).is_none_or(|missing| search.is_certain(name, hit, missing)) => {
                (Verdict::Absent, Some(hit))
            }
            Decision::Refused(hit) | Decision::Unknown(hit) => (Verdict::Unknown, Some(hit)),
            Decision::NotListed => (if missing(&search).is_some() { Verdict::Unknown } else { Verdict::Absent }, None),
        };
        let lists_missing = missing(&search).is_some();
        let (mode, is_asked) = (search.mode, search.is_asked && search.mode != Mode::Off);
        let local = name.kept.unwrap_or(name.lower);
        Found {
            address: Some((local.bytes(), domain.bytes())),
            asked: is_asked.then_some(&*asked),
            lists_missing,
            ..self.finding(ours, mode, verdict, step, hit)
        }
    }

    /// A verdict about somebody at one of our domains, where refusals are carried out as `mode` says.
    fn finding<'s>(
        &'s self,
        ours: usize,
        mode: Mode,
        enforced: Verdict,
        step: Step,
        hit: Option<Hit<'s>>,
    ) -> Found<'s, 's> {
        Found {
            verdict: if mode == Mode::Enforce { enforced } else { Verdict::Exists },
            step,
            hit,
            policy: Some(self.policy(&self.domains[ours])),
            domain: Some(ours as u32),
            address: None,
            enforced,
            mode,
            asked: None,
            own: None,
            lists_missing: self.missing.is_some(),
        }
    }

    /// Whom a backend would be asked about if it had to be. `None`: it is none of ours.
    pub fn recipient<'a>(&'a self, found: &Found<'a, 'a>) -> Option<Asked<'a>> {
        if let Some(key) = found.asked {
            return Some(self.asked(key));
        }
        let ((local, domain), ours) = (found.address?, found.domain? as usize);
        let places = chain(self, ours, Domain::as_folded(domain));
        let called = places.map(|(at, domain)| Asked { local, domain, policy: self.policy(&self.domains[at]) });
        let (first, last) = (called.clone().next(), called.filter(|asked| asked.policy.verify != Verify::List).last());
        last.or(first)
    }

    /// Whom a backend has to be asked about, as one of this snapshot's look-ups left it.
    pub fn asked<'a>(&'a self, key: &'a AskedKey) -> Asked<'a> {
        let (local, domain) = key.parts();
        Asked { local, domain, policy: &self.policies[key.policy as usize] }
    }

    fn find_below(&self, name: &[u8]) -> Option<usize> {
        if self.index_below.is_empty() {
            return None;
        }
        let same = |&at: &u32| self.domains[at as usize].name.get(1..) == Some(name);
        self.index_below.find(self.key.hash_one(name), same).map(|&at| at as usize)
    }

    fn find_domain(&self, name: &[u8]) -> Option<usize> {
        let same = |&at: &u32| *self.domains[at as usize].name == *name;
        self.index.find(self.key.hash_one(name), same).map(|&at| at as usize)
    }

    /// The entry of the highest source that has one; among equals a refusal wins, and one for good before one for now.
    /// `unknown`: out of what the lists can't tell, else out of the rest.
    #[inline]
    pub(super) fn best<'s>(
        &'s self,
        unknown: bool,
        entry_in: impl Fn(usize, &'s Content) -> Option<&'s Entry>,
    ) -> Option<Hit<'s>> {
        let mut best: Option<Hit<'s>> = None;
        for (place, (source, content)) in self.contents.iter().enumerate() {
            if best.is_some_and(|best| self.sources[best.source].priority > self.sources[*source].priority) {
                break;
            }
            let Some(entry) = entry_in(place, content) else { continue };
            if matches!(entry, Entry::Unknown) != unknown {
                continue;
            }
            let hit = Hit { entry, source: *source };
            if !entry.accepts() && !temporary(entry) {
                return Some(hit);
            }
            if best.is_none_or(|best| best.entry.accepts() && !entry.accepts()) {
                best = Some(hit);
            }
        }
        best
    }

    /// The entry for a key at one of our domains.
    #[inline]
    pub(super) fn best_at(&self, key: Key<'_>, domain: usize, unknown: bool) -> Option<Hit<'_>> {
        let first = domain * self.contents.len();
        self.best(unknown, |place, content| {
            let number = self.numbers[first + place];
            if number == NOT_NAMED {
                return None;
            }
            let number = DomainNumber(number);
            match key.kept {
                Some((hash, kept)) if content.keeps_case(number) => content.get(hash, number, kept),
                _ => content.get(key.hash, number, key.lower),
            }
        })
    }

    /// The entry for a key at any domain.
    pub(super) fn best_anywhere(&self, lower: &[u8], unknown: bool) -> Option<Hit<'_>> {
        let hash = LocalHash::of(lower, &self.key);
        self.best(unknown, |_, content| content.get(hash, ANY_DOMAIN, lower))
    }

    /// Adds a domain, unless it is there. Below one whose subdomains are ours it has that one's policy, and its names go
    /// on there; else it has `policy`, and without one it is not ours. With a leading dot: the domains below are ours.
    fn add_domain(&mut self, name: &[u8], policy: Option<u32>, below: bool) {
        let dotted = name.strip_prefix(b".");
        let known = match dotted {
            Some(name) => self.find_below(name),
            None => self.find_domain(name),
        };
        if known.is_some() {
            return;
        }
        let above = if below { self.covering(name) } else { None };
        let Some(policy) = above.map(|above| self.domains[above].policy).or(policy) else { return };
        let at = self.domains.len() as u32;
        let next = above.map(|above| above as u32);
        self.domains.push(RelayDomain {
            name: name.into(),
            policy,
            next,
            chain: 1,
            is_alias: false,
            unresolved: false,
            asks: false,
            keeps_case: false,
            catch_all: false,
        });
        let Snapshot { index, index_below, domains, key, .. } = self;
        match dotted {
            Some(name) => index_below.insert_unique(key.hash_one(name), at, |&at| {
                key.hash_one(domains[at as usize].name.get(1..).unwrap_or_default())
            }),
            None => index.insert_unique(key.hash_one(name), at, |&at| key.hash_one(&*domains[at as usize].name)),
        };
    }

    /// No domain is declared: those that a source names are ours, and are all known once every source was read.
    fn imply_domains(&mut self, implied: Policy) {
        self.domains_known &= self.missing.is_none();
        self.policies = vec![implied];
        // `@.lab.example.org` makes lab.example.org's subdomains ours, itself not.
        self.add_named_domains(|name| Some((name, Some(0))));
    }

    fn declare_domains(&mut self, groups: Vec<DomainGroup>) {
        for group in groups {
            let policy = self.policies.len() as u32;
            self.policies.push(group.policy);
            for name in &group.names {
                self.add_domain(name, Some(policy), false);
            }
        }
        // A subdomain that some source names gets its own numbers.
        self.add_named_domains(|name| (!name.starts_with(b".")).then_some((name, None)));
    }

    /// Adds the domains that sources name, under the policy that `wanted` gives them; upper ones first, so that it does
    /// not depend on the order of the lists.
    fn add_named_domains(&mut self, wanted: impl Fn(&[u8]) -> Option<(&[u8], Option<u32>)>) {
        let contents: Vec<_> = self.contents.iter().map(|(_, content)| Arc::clone(content)).collect();
        let names = contents.iter().flat_map(|content| content.domains());
        // Where only a doubt is about a domain below ours, it must be found there; it makes no domain ours.
        let doubtful = contents.iter().flat_map(|content| content.doubtful_domains()).map(|name| (name, None));
        let mut names: Vec<_> = names.filter_map(|(name, _)| wanted(name)).chain(doubtful).collect();
        names.sort_by_cached_key(|&(name, _)| {
            let without_dot = name.strip_prefix(b".").unwrap_or(name);
            (memchr::memchr_iter(b'.', without_dot).count(), without_dot, name.len())
        });
        for (name, policy) in names {
            self.add_domain(name, policy, true);
        }
    }

    /// Sets `next` of alias domains, looks up every domain's number in every content, and finds out for every domain what
    /// those say at which its names go on.
    fn join(&mut self) {
        for at in 0..self.domains.len() {
            self.join_alias(at);
        }
        let number = |domain: &RelayDomain, content: &Content| match domain.name.first() {
            // What is said about everything below is a step of its own.
            Some(b'.') => NOT_NAMED,
            _ => content.domain(&domain.name).map_or(NOT_NAMED, |n| n.0),
        };
        let numbers = |domain| self.contents.iter().map(move |(_, content)| number(domain, content));
        self.numbers = self.domains.iter().flat_map(numbers).collect();
        let chains: Vec<Vec<usize>> = (0..self.domains.len()).map(|at| self.chain(at)).collect();
        self.longest_chain = chains.iter().map(Vec::len).max().unwrap_or(0);
        let policies = self.joined_policies(&chains);
        let keeps_case =
            |at: usize| self.policy(&self.domains[at]).case_sensitive || self.in_any_content(at, Content::keeps_case);
        let keeps_case: Vec<bool> = (0..self.domains.len()).map(keeps_case).collect();
        // A catch-all that renames may lead to where the case counts.
        let leads_to_case = keeps_case.contains(&true) && self.contents.iter().any(|(_, content)| content.renames());
        for (at, chain) in chains.iter().enumerate() {
            let any = |test: &dyn Fn(usize) -> bool| chain.iter().any(|&at| test(at));
            let has_catch_all = |at: usize| self.in_any_content(at, Content::has_catch_all);
            let unresolved = any(&|at| self.domains[at].unresolved);
            let asks = any(&|at| self.policy(&self.domains[at]).verify != Verify::List);
            let keeps_case = any(&|at| keeps_case[at]) || leads_to_case && any(&has_catch_all);
            let catch_all = has_catch_all(at);
            let domain = &mut self.domains[at];
            (domain.unresolved, domain.asks) = (unresolved, asks);
            (domain.keeps_case, domain.catch_all, domain.chain) = (keeps_case, catch_all, chain.len());
        }
        for (domain, policy) in self.domains.iter_mut().zip(policies) {
            domain.policy = policy;
        }
    }

    /// Where the names of a domain go on, if that is its main domain. A subdomain's names go on to the domain above it
    /// first, and from there to that one's main domain.
    fn join_alias(&mut self, at: usize) {
        let domain = &self.domains[at];
        let main = self.policy(domain).same_as.as_deref();
        if let (Some(name), None) = (domain.name.strip_prefix(b"."), main) {
            let same = self.find_domain(name).map(|same| same as u32);
            self.domains[at].next = same.or(self.domains[at].next);
            return;
        }
        if let (Some(main), None) = (main, domain.next) {
            let main = self.covering(main);
            let domain = &mut self.domains[at];
            domain.unresolved = main.is_none();
            domain.next = main.filter(|&main| main != at).map(|main| main as u32);
            domain.is_alias = domain.next.is_some();
        }
    }

    /// The domains at which a domain's names are looked for, from itself on.
    fn chain(&self, at: usize) -> Vec<usize> {
        let mut chain = vec![at];
        let mut next = self.domains[at].next;
        while let Some(at) = next.map(|at| at as usize).filter(|at| !chain.contains(at)) {
            chain.push(at);
            next = self.domains[at].next;
        }
        chain
    }

    /// For every domain its policy, with what it takes over from its main domains.
    fn joined_policies(&mut self, chains: &[Vec<usize>]) -> Vec<u32> {
        let mut joined: HashMap<Vec<u32>, u32> = HashMap::new();
        let mut numbers = Vec::with_capacity(chains.len());
        for chain in chains {
            let mut way: Vec<u32> = chain.iter().map(|&at| self.domains[at].policy).collect();
            way.dedup();
            numbers.push(match way[..] {
                [own] => own,
                _ => *joined.entry(way).or_insert_with_key(|way| {
                    let mut policies = way.iter().map(|&number| &self.policies[number as usize]);
                    let mut policy = policies.next().cloned().unwrap_or_default();
                    policies.for_each(|main| policy.take_over(main));
                    self.policies.push(policy);
                    self.policies.len() as u32 - 1
                }),
            });
        }
        numbers
    }

    /// Alias domains whose main domain is none of ours, as far as they are known, with its name.
    pub fn unresolved(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let is_own = |domain: &&RelayDomain| domain.unresolved && domain.next.is_none();
        self.domains
            .iter()
            .filter(is_own)
            .filter_map(|domain| Some((&*domain.name, self.policy(domain).same_as.as_deref()?)))
    }

    fn in_any_content(&self, domain: usize, test: impl Fn(&Content, DomainNumber) -> bool) -> bool {
        let numbers = self.numbers.iter().skip(domain * self.contents.len());
        self.contents.iter().zip(numbers).any(|((_, content), &number)| test(content, DomainNumber(number)))
    }
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
        Source::new("list", priority, content(items))
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
        let never = |priority| Source::new("ad", priority, None);
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
        let full = [refuse(recipient("anna@a.example"), "452 4.2.2 Mailbox full")];
        assert_eq!(ask(&snapshot(vec![source(0, &yes), source(0, &full)], vec![]), "anna@a.example").0, Unknown);
        assert_eq!(ask(&snapshot(vec![source(0, &full), source(0, &no)], vec![]), "anna@a.example").0, Absent);
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
    fn a_catch_all_that_renames_the_domain_proves_what_is_there() {
        let renames = |domain: &'static [u8], target: &'static [u8]| Item {
            key: Key::CatchAll { domain },
            grant: Grant::Follow { domain: target, value: b"" },
        };
        let list = source(
            0,
            &[
                recipient("anna@a.example"),
                refuse(recipient("leaver@a.example"), "550 5.7.1 Left"),
                renames(b"b.example", b"A.example"),
                recipient("only@b.example"),
                renames(b"c.example", b"b.example"),
                renames(b"out.example", b"elsewhere.example"),
                renames(b"ring.example", b"ring.example"),
            ],
        );
        let snapshot = snapshot(vec![list], vec![]);
        for (address, verdict) in [
            ("anna+x@b.example", Exists),
            ("nobody@b.example", Absent),
            ("leaver@b.example", Absent),
            ("only@b.example", Exists),
            ("anna@c.example", Exists),
            ("only@c.example", Exists),
            ("nobody@c.example", Absent),
            ("nobody@out.example", Exists),
            ("nobody@ring.example", Exists),
        ] {
            assert_eq!(ask(&snapshot, address).0, verdict, "{address}");
        }
    }

    #[test]
    fn what_a_list_cannot_tell_is_unknown_and_takes_back_no_acceptance() {
        let cannot_tell = |key| Item { key, grant: Grant::Unknown };
        let domain = &b"example.org"[..];
        let all = Key::Prefix { prefix: b"", domain: b"" };
        let of = |policy: Policy, unsure: &[Item<'_>]| {
            let sure = [
                recipient("anna@example.org"),
                refuse(recipient("gone@example.org"), "550 5.1.1 Gone"),
                refuse(accept(Key::CatchAll { domain: b"shut.example" }), "550 5.1.1 Shut"),
                accept(Key::CatchAll { domain: b"open.example" }),
            ];
            let names = ["example.org", "shut.example", "open.example", "other.example"];
            snapshot(vec![source(0, unsure), source(0, &sure)], vec![group(&names, policy)])
        };
        // Whom a line is about that nobody understands.
        let one = of(
            Policy::default(),
            &[
                cannot_tell(recipient("anna@example.org").key),
                cannot_tell(recipient("x@shut.example").key),
                cannot_tell(recipient("gone@example.org").key),
            ],
        );
        assert_eq!(ask(&one, "anna@example.org"), (Verdict::Exists, Step::Exact));
        assert_eq!(ask(&one, "gone@example.org"), (Verdict::Unknown, Step::Exact), "who knows which of the two holds");
        assert_eq!(ask(&one, "x@shut.example"), (Verdict::Unknown, Step::Exact), "closer than the catch-all");
        assert_eq!(ask(&one, "y@shut.example"), (Verdict::Absent, Step::CatchAll));
        assert_eq!(ask(&one, "y@example.org"), (Verdict::Absent, Step::Verify));
        // Somebody else decides about a domain, or about all.
        let domain_wide = of(Policy::default(), &[cannot_tell(Key::CatchAll { domain })]);
        assert_eq!(ask(&domain_wide, "anna@example.org"), (Verdict::Exists, Step::Exact));
        assert_eq!(ask(&domain_wide, "y@example.org"), (Verdict::Unknown, Step::Verify));
        assert_eq!(ask(&domain_wide, "gone@example.org"), (Verdict::Absent, Step::Exact));
        assert_eq!(ask(&domain_wide, "y@other.example"), (Verdict::Absent, Step::Verify));
        let probed = Policy { verify: super::super::Verify::ListThenProbe, ..Policy::default() };
        let everywhere = of(probed, &[cannot_tell(all)]);
        let mut scratch = Scratch::default();
        for (address, verdict, is_probed) in [
            ("y@open.example", Verdict::Exists, false),
            ("y@other.example", Verdict::Unknown, true),
            ("gone@example.org", Verdict::Absent, false),
        ] {
            let found = everywhere.lookup(address.as_bytes(), &mut scratch, &mut ());
            assert_eq!((found.verdict, found.wants_probe()), (verdict, is_probed), "{address}");
        }
        // It makes no domain ours.
        let implied = snapshot(
            vec![source(0, &[recipient("anna@example.org"), cannot_tell(recipient("b@big.example").key)])],
            vec![],
        );
        assert_eq!(ask(&implied, "b@big.example").0, Verdict::Foreign);
        // But it is found at one below ours that nothing else names.
        let below = |subdomains| {
            let list = source(0, &[recipient("anna@example.org"), cannot_tell(recipient("b@x.example.org").key)]);
            snapshot(vec![list], vec![group(&["example.org"], Policy { subdomains, ..Policy::default() })])
        };
        assert_eq!(ask(&below(true), "b@x.example.org").0, Verdict::Unknown);
        assert_eq!(ask(&below(true), "c@x.example.org").0, Verdict::Absent);
        assert_eq!(ask(&below(true), "anna@x.example.org").0, Verdict::Exists);
        assert_eq!(ask(&below(false), "b@x.example.org").0, Verdict::Foreign);
        // A higher source knows better.
        let higher = snapshot(
            vec![
                source(0, &[cannot_tell(recipient("gone@example.org").key)]),
                source(1, &[refuse(recipient("gone@example.org"), "550 5.1.1 Gone")]),
            ],
            vec![group(&["example.org"], Policy::default())],
        );
        assert_eq!(ask(&higher, "gone@example.org"), (Verdict::Absent, Step::Exact));
    }

    #[test]
    fn postmaster_cannot_be_refused() {
        let list = source(0, &[refuse(recipient("postmaster@a.example"), "550 5.1.1 No")]);
        assert_eq!(ask(&snapshot(vec![list], vec![]), "postmaster@a.example"), (Exists, Step::Always));
    }

    #[test]
    fn a_wildcard_refuses_nobody_whom_a_missing_source_may_name() {
        let list = source(
            5,
            &[
                refuse(accept(Key::CatchAll { domain: b"a.example" }), "550 5.1.1 No"),
                refuse(recipient("leaver@a.example"), "550 5.7.1 Left"),
            ],
        );
        let never = Source::new("ad", 0, None);
        let subdomains = Policy { subdomains: true, ..Policy::default() };
        let snapshot = snapshot(vec![list, never], vec![group(&["a.example"], subdomains)]);
        assert_eq!(ask(&snapshot, "leaver@a.example"), (Absent, Step::Exact));
        for maybe in ["anna@a.example", "leaver+x@a.example", "leaver@d.a.example", "prvs=0417ab=leaver@a.example"] {
            assert_eq!(ask(&snapshot, maybe).0, Unknown, "{maybe}");
        }
    }

    #[test]
    fn a_named_subdomain_of_an_alias_goes_on_to_the_alias() {
        let list = source(0, &[recipient("dev@d.b.example"), recipient("only@b.example"), recipient("anna@a.example")]);
        let alias = Policy { subdomains: true, same_as: Some(b"x.a.example"[..].into()), ..Policy::default() };
        let main = Policy { subdomains: true, ..Policy::default() };
        let snapshot = snapshot(vec![list], vec![group(&["b.example"], alias), group(&["a.example"], main)]);
        for name in ["dev", "only", "anna"] {
            assert_eq!(ask(&snapshot, &format!("{name}@d.b.example")).0, Exists, "{name}");
        }
        assert_eq!(ask(&snapshot, "dev@e.b.example").0, Absent);
    }

    #[test]
    fn aliases_in_a_circle_and_long_chains_end() {
        let to = |main: &str| Policy { same_as: Some(main.as_bytes().into()), subdomains: true, ..Policy::default() };
        let deep: Vec<String> = (0..12).map(|n| format!("anna{n}@{}a.example", "x.".repeat(n))).collect();
        let list = source(0, &deep.iter().map(|address| recipient(address)).collect::<Vec<_>>());
        let snapshot =
            snapshot(vec![list], vec![group(&["a.example"], to("b.example")), group(&["b.example"], to("a.example"))]);
        assert_eq!(ask(&snapshot, "nobody@a.example").0, Absent);
        assert_eq!(ask(&snapshot, "anna0@b.example").0, Exists);
        assert_eq!(ask(&snapshot, &format!("anna0@{}a.example", "x.".repeat(11))).0, Exists);
    }

    #[test]
    fn an_alias_is_verified_as_its_main_domain_is() {
        let main = Policy {
            verify: Verify::ListThenProbe,
            backend: Some("hub".into()),
            unavailable_exists: Some(true),
            ..Policy::default()
        };
        let to = |main: &str| Policy { same_as: Some(main.as_bytes().into()), ..Policy::default() };
        let other = |main: &str| Policy { verify: Verify::Probe, backend: Some("other".into()), ..to(main) };
        let groups = vec![
            group(&["c.example"], to("b.example")),
            group(&["b.example"], Policy { subdomains: true, ..to("a.example") }),
            group(&["a.example"], main),
            group(&["d.example"], other("a.example")),
            group(&["f.example"], other("e.example")),
            group(&["e.example"], Policy::default()),
        ];
        let snapshot = snapshot(vec![source(0, &[recipient("anna@a.example")])], groups);
        let mut scratch = Scratch::default();
        for (address, backend, name) in [
            ("x@a.example", Some("hub"), Some("a.example")),
            ("x@b.example", Some("hub"), Some("a.example")),
            ("x@sub.b.example", Some("hub"), Some("a.example")),
            ("x@c.example", Some("hub"), Some("a.example")),
            ("x@d.example", Some("hub"), Some("a.example")),
            ("x@f.example", Some("other"), Some("f.example")),
            ("x@e.example", None, None),
            ("anna@c.example", None, None),
        ] {
            let is_listed = address.starts_with("anna@");
            let found = snapshot.lookup(address.as_bytes(), &mut scratch, &mut ());
            let asked = found.asked.map(|key| snapshot.asked(key));
            assert_eq!(asked.and_then(|asked| asked.policy.backend.as_deref()), backend, "{address}");
            assert_eq!(asked.map(|asked| asked.domain), name.map(str::as_bytes), "{address}");
            let anyway = snapshot.recipient(&found).map(|asked| asked.domain);
            assert_eq!(anyway, name.or(Some(if is_listed { "a.example" } else { "e.example" })).map(str::as_bytes));
        }
    }

    #[test]
    fn each_domain_is_asked_in_the_case_in_which_it_is_listed() {
        let items = [recipient("Anna@a.example"), recipient("Bea@d.a.example"), recipient("Eve@b.example")];
        let mut builder = Builder::new(key(), true, Domains::from([b"a.example"[..].into()]));
        items.iter().for_each(|item| builder.add(item).expect("a fit item"));
        let list = Source::new("list", 0, Some(Arc::new(builder.finish(|_| {}))));
        let main = Policy { case_sensitive: true, subdomains: true, ..Policy::default() };
        let alias = Policy { same_as: Some(b"a.example"[..].into()), ..Policy::default() };
        let snapshot = snapshot(vec![list], vec![group(&["a.example"], main), group(&["b.example"], alias)]);
        for (address, verdict) in [
            ("Anna@a.example", Exists),
            ("anna@a.example", Absent),
            ("Anna+x@d.a.example", Exists),
            ("Bea@d.a.example", Exists),
            ("bea@d.a.example", Exists),
            ("Anna@b.example", Exists),
            ("anna@b.example", Absent),
            ("EVE@b.example", Exists),
            ("PostMaster@a.example", Exists),
        ] {
            assert_eq!(ask(&snapshot, address).0, verdict, "{address}");
        }
    }

    #[test]
    fn implied_subdomains_go_on_to_their_parent() {
        let list = source(0, &[recipient("anna@a.example"), recipient("dev@d.a.example")]);
        let implied = Policy { subdomains: true, ..Policy::default() };
        let snapshot = Snapshot::new(key(), vec![list], vec![], true, implied);
        assert_eq!(ask(&snapshot, "anna@d.a.example").0, Exists);
        assert_eq!(ask(&snapshot, "anna@e.a.example").0, Exists);
    }

    #[test]
    fn any_boundary_makes_a_detail_for_the_domain() {
        let list = source(0, &[accept(Key::Detail { local: b"", domain: b"a.example", required: true })]);
        let snapshot = snapshot(vec![list], vec![]);
        for (address, verdict) in [("x+y", Exists), ("x+y+", Exists), ("x+", Absent), ("+y", Absent), ("x", Absent)] {
            assert_eq!(ask(&snapshot, &format!("{address}@a.example")).0, verdict, "{address}");
        }
    }
}
