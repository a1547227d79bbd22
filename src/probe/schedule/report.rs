//! What people and files are told: the state of each next hop, and all that should outlive the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{HopId, Scheduler, Target};
use crate::probe::backlist;
use crate::probe::cache::{Cache, Epoch, Evidence, Hit, Import, Known, ServerId};
use crate::probe::classify::Finding;
use crate::probe::clock::Clock;
use crate::probe::hop::{HopStats, Place};
use crate::probe::store::{self, Record, Summary, Writer};
use crate::verdict::Verdict;

/// Where a server was reached, in the file.
fn text_of(at: &Target) -> String {
    match at {
        Target::Tcp(at) => at.to_string(),
        Target::Unix(path) => path.to_string_lossy().into_owned(),
    }
}

fn target_of(text: &str) -> Option<Target> {
    if text.starts_with('/') { Some(Target::Unix(text.into())) } else { text.parse().ok().map(Target::Tcp) }
}

/// The state of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopStatus {
    /// Its name.
    pub name: Box<str>,
    /// It could not be asked when last tried.
    pub is_down: bool,
    /// It can't be asked now; the next try is in so long.
    pub down: Option<Duration>,
    /// Open sessions.
    pub sessions: usize,
    /// Questions and tests that wait.
    pub queued: usize,
    /// Of these, refreshes and what nobody waits for any more.
    pub background: usize,
    /// Domains of which it takes every address.
    pub blind: Vec<Box<[u8]>>,
    /// It refuses its canary.
    pub canary_refused: bool,
    /// Refusals that it takes in a session, if that was learnt.
    pub limit: Option<u32>,
    /// The last thing that went wrong: stage and cause.
    pub last_error: Option<Arc<Finding>>,
    /// Numbers.
    pub stats: HopStats,
}

/// A file that is being made, piece by piece.
pub struct Saving {
    writer: Writer,
    /// Refusals of these servers up to then are not believed.
    doubted: HashMap<ServerId, Epoch>,
    /// Entries that may still be met.
    left: usize,
    is_done: bool,
}

/// What a file holds: made ready on another thread, and then taken over by [`Scheduler::adopt`] at once.
pub struct Loading {
    cache: Cache,
    /// What is known about next hops, as a file of its own.
    facts: Writer,
    clock: Clock,
    epoch: Epoch,
    dead: usize,
}

impl Scheduler {
    /// The state of every next hop.
    pub fn status(&self, now: Instant) -> impl Iterator<Item = HopStatus> {
        let epoch = self.epoch(now);
        self.hops.iter().flatten().map(move |hop| HopStatus {
            name: hop.config.name.clone(),
            is_down: hop.down,
            down: hop.next_trial(now).map(|at| at.saturating_duration_since(now)),
            sessions: hop.links.len(),
            queued: hop.queued(),
            background: hop.background.len(),
            blind: hop.blind_domains(epoch),
            canary_refused: hop.places.values().any(|proofs| proofs.canary_refused),
            limit: hop.start(0, now).refusals,
            last_error: hop.last_error.clone(),
            stats: hop.stats,
        })
    }

    /// Whether nothing is under way: no job, ticket or session, and no alarm clock set.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.by_key.is_empty()
            && self.tickets.is_empty()
            && self.links.is_empty()
            && self.wakes.is_empty()
            && self.hops.iter().flatten().all(|hop| hop.links.is_empty() && hop.queued() == 0)
    }

    /// Tickets that wait.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// Everything that should outlive the process, as a file.
    pub fn save(&mut self, now: Instant) -> Vec<u8> {
        let mut saving = self.begin_save();
        let mut file = Vec::new();
        while let Some(bytes) = self.save_some(&mut saving, usize::MAX, now) {
            file.extend_from_slice(&bytes);
        }
        file
    }

    /// Begins such a file; there is one at a time.
    pub fn begin_save(&mut self) -> Saving {
        self.cache.begin_walk();
        let doubted = self.hops.iter().flatten().flat_map(|hop| &hop.places).filter_map(|(place, proofs)| {
            let until = if proofs.canary_refused { Some(Epoch(u32::MAX)) } else { proofs.doubted };
            Some((place.by, until?))
        });
        let mut until: HashMap<ServerId, Epoch> = HashMap::new();
        doubted.for_each(|(by, doubted)| {
            let until = until.entry(by).or_default();
            *until = doubted.max(*until);
        });
        let left = self.cache.len().saturating_mul(2);
        Saving { writer: Writer::default(), doubted: until, left, is_done: false }
    }

    /// The next piece of it, made of so many entries at most; `None`: there is nothing more. Life goes on between two
    /// pieces: an entry that is used meanwhile may be written twice, the newer line last.
    pub fn save_some(&mut self, saving: &mut Saving, entries: usize, now: Instant) -> Option<Vec<u8>> {
        if saving.is_done {
            return None;
        }
        let epoch = self.epoch(now);
        for _ in 0..entries {
            // The walk meets what is used meanwhile again, which might never end.
            let met = if saving.left > 0 { self.cache.walk(epoch) } else { None };
            let Some((key, hit)) = met else {
                self.save_facts(&mut saving.writer, now);
                saving.is_done = true;
                return Some(std::mem::take(&mut saving.writer).finish());
            };
            saving.left -= 1;
            if let Some(hit) = hit {
                let Hit { known, evidence, .. } = hit;
                let is_doubted = saving.doubted.get(&evidence.by).is_some_and(|until| hit.learnt <= *until);
                if is_doubted && known.verdict() == Verdict::Absent {
                    continue;
                }
                let learnt = self.clock.in_calendar(hit.learnt);
                saving.writer.push(&Record::Verdict { key, known, evidence, learnt });
            }
        }
        Some(saving.writer.take())
    }

    /// What is known about next hops.
    fn save_facts(&self, writer: &mut Writer, now: Instant) {
        let epoch = self.epoch(now);
        let ago = |at: Instant| {
            let passed = now.saturating_duration_since(at).as_secs();
            self.clock.in_calendar(Epoch(epoch.0.saturating_sub(passed.try_into().unwrap_or(u32::MAX))))
        };
        for hop in self.hops.iter().flatten() {
            let name = &hop.config.name;
            for (place, proofs) in &hop.places {
                let at = text_of(&place.at);
                for (domain, fact) in proofs.domains.iter().filter(|(_, fact)| fact.sure) {
                    let (blind, learnt) = (fact.blind, self.clock.in_calendar(fact.learnt));
                    writer.push(&Record::CatchAll { by: place.by, at: &at, domain, blind, learnt });
                }
            }
            if let Some((refusals, at)) = hop.limit {
                writer.push(&Record::Limit { hop: name, refusals, learnt: ago(at) });
            }
            if let Some((sender, at)) = hop.sender {
                writer.push(&Record::Sender { hop: name, sender: sender as u32, learnt: ago(at) });
            }
        }
    }

    /// Drops what next hops are known to take: all of a domain, or of every one.
    pub fn forget_facts(&mut self, domain: Option<&[u8]>) {
        for proofs in self.hops.iter_mut().flatten().flat_map(|hop| hop.places.values_mut()) {
            match domain {
                Some(domain) => drop(proofs.domains.remove(domain)),
                None => proofs.domains.clear(),
            }
        }
    }

    /// For a file that is read elsewhere.
    pub fn begin_load(&self, now: Instant) -> Loading {
        let epoch = self.epoch(now);
        Loading { cache: self.cache.another(), facts: Writer::default(), clock: self.clock, epoch, dead: 0 }
    }

    /// Takes over what a file holds. Next hops must have been set before; what is said of others is dropped. What was
    /// learnt since stays. It costs what was learnt since, however much comes in.
    pub fn adopt(&mut self, loaded: Loading, now: Instant) {
        self.cache.take_in(loaded.cache);
        let (epoch, clock) = (self.epoch(now), self.clock);
        let mut by_server: HashMap<ServerId, Vec<HopId>> = HashMap::new();
        for (at, hop) in self.hops.iter().enumerate() {
            for server in hop.iter().flat_map(|hop| &hop.servers) {
                by_server.entry(server.id).or_default().push(HopId(at as u32));
            }
        }
        let of_calendar = |learnt| clock.of_calendar(learnt);
        store::read(&loaded.facts.finish(), |record| match record {
            Record::Verdict { .. } => {}
            Record::CatchAll { by, at, domain, blind, learnt } => {
                let Some(at) = target_of(at) else { return };
                let (place, learnt) = (Place { by, at }, of_calendar(learnt).min(epoch));
                for &hop in by_server.get(&by).into_iter().flatten() {
                    if let Some(proofs) = self.hop_mut(hop).and_then(|hop| hop.proofs(&place))
                        && proofs.domains.get(domain).is_none_or(|fact| fact.learnt <= learnt)
                    {
                        proofs.learn_domain(domain, Some(blind), learnt);
                    }
                }
            }
            Record::Limit { hop, learnt, refusals } => {
                let at = now.checked_sub(epoch.since(of_calendar(learnt)));
                if let (Some(hop), Some(at)) = (self.hop(hop).and_then(|id| self.hop_mut(id)), at) {
                    hop.limit = hop.limit.or(Some((refusals.max(1), at)));
                }
            }
            Record::Sender { hop, learnt, sender } => {
                let at = now.checked_sub(epoch.since(of_calendar(learnt)));
                if let (Some(hop), Some(at)) = (self.hop(hop).and_then(|id| self.hop_mut(id)), at) {
                    hop.sender = hop.sender.or(Some((sender as usize, at)));
                }
            }
        });
    }

    /// Reads a saved file and takes it over at once.
    pub fn load(
        &mut self,
        bytes: &[u8],
        keep: impl FnMut(&[u8], Option<ServerId>) -> Option<ServerId>,
        now: Instant,
    ) -> Summary {
        let mut loading = self.begin_load(now);
        let summary = loading.read(bytes, keep);
        self.adopt(loading, now);
        summary
    }
}

impl Loading {
    /// Reads a saved file. `keep` is asked of every address and who has spoken about it, and tells whose word it is to be:
    /// nobody's where the address is not ours any more, where lists settle it or where somebody else is asked. What can't
    /// serve any more is dropped, too.
    pub fn read(&mut self, bytes: &[u8], mut keep: impl FnMut(&[u8], Option<ServerId>) -> Option<ServerId>) -> Summary {
        store::read(bytes, |record| match record {
            Record::Verdict { key, known, evidence, learnt } => {
                if keep(key, Some(evidence.by)).is_some() {
                    self.learn(key, known, evidence, learnt);
                }
            }
            fact => self.facts.push(&fact),
        })
    }

    /// Reads a list of scam-backscatter's. What it holds for good or bad is believed as long as an answer of a backend
    /// would be. The number of lines that make no sense is [`Summary::damaged`].
    pub fn read_backlist(
        &mut self,
        bytes: &[u8],
        mut keep: impl FnMut(&[u8], Option<ServerId>) -> Option<ServerId>,
    ) -> Summary {
        let (mut taken, mut damaged) = (0, 0);
        let epoch = self.clock.in_calendar(self.epoch);
        let entry = |entry: backlist::Entry<'_>| {
            taken += 1;
            if let Some(by) = keep(entry.key, None) {
                self.learn(entry.key, entry.known, Evidence { by, ..Evidence::default() }, entry.learnt);
            }
        };
        backlist::read(bytes, epoch, entry, |_, _| damaged += 1);
        Summary { taken, damaged, complete: true, other_version: false }
    }

    /// Addresses of which something is known.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Lines that were too old to serve.
    pub fn dead(&self) -> usize {
        self.dead
    }

    /// For dropping what was flushed meanwhile.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// The later line of a file counts, as it was written later; a list in no order may hold an older one there.
    fn learn(&mut self, key: &[u8], known: Known, evidence: Evidence, learnt: Epoch) {
        let done = self.cache.import(key, known, evidence, self.clock.of_calendar(learnt), self.epoch);
        self.dead += usize::from(done == Import::Dead);
    }
}
