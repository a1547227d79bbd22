//! What people and files are told: the state of each next hop, and all that should outlive the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Scheduler, cut};
use crate::probe::cache::Epoch;
use crate::probe::classify::Finding;
use crate::probe::hop::{CatchAll, HopStats};
use crate::probe::store::{self, Record, Summary, Writer};

/// The state of a next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopStatus {
    /// Its name.
    pub name: Box<str>,
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

impl Scheduler {
    /// The state of every next hop.
    pub fn status(&self, now: Instant) -> impl Iterator<Item = HopStatus> {
        let epoch = self.epoch(now);
        self.hops.iter().flatten().map(move |hop| HopStatus {
            name: hop.config.name.clone(),
            down: hop.next_trial(now).map(|at| at.saturating_duration_since(now)),
            sessions: hop.links.len(),
            queued: hop.queued(),
            background: hop.background.len(),
            blind: hop.domains.keys().filter(|d| hop.is_blind(d, epoch) == Some(true)).cloned().collect(),
            canary_refused: hop.canary_refused,
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
    pub fn save(&self, now: Instant) -> Vec<u8> {
        let mut writer = Writer::default();
        let epoch = self.epoch(now);
        for (key, hit) in self.cache.iter(epoch) {
            writer.push(&Record::Verdict { key, known: hit.known, evidence: hit.evidence, learnt: hit.learnt });
        }
        let ago = |at: Instant| {
            let passed = now.saturating_duration_since(at).as_secs();
            Epoch(epoch.0.saturating_sub(passed.try_into().unwrap_or(u32::MAX)))
        };
        for hop in self.hops.iter().flatten() {
            let name = &hop.config.name;
            for (domain, fact) in hop.domains.iter().filter(|(_, fact)| fact.sure) {
                writer.push(&Record::CatchAll { hop: name, domain, blind: fact.blind, learnt: fact.learnt });
            }
            if let Some((refusals, at)) = hop.limit {
                writer.push(&Record::Limit { hop: name, refusals, learnt: ago(at) });
            }
            if let Some((sender, at)) = hop.sender {
                writer.push(&Record::Sender { hop: name, sender: sender as u32, learnt: ago(at) });
            }
        }
        writer.finish()
    }

    /// Takes a saved file in. Next hops must have been set before; what is said of others is dropped. So are addresses
    /// that `keep` does not choose by their domain: those that are not ours any more.
    pub fn load(&mut self, bytes: &[u8], mut keep: impl FnMut(&[u8]) -> bool, now: Instant) -> Summary {
        let epoch = self.epoch(now);
        store::read(bytes, |record| match record {
            Record::Verdict { key, known, evidence, learnt } => {
                if keep(cut(key).1) {
                    self.cache.learn(key, known, evidence, learnt.min(epoch));
                }
            }
            Record::CatchAll { hop, domain, blind, learnt } => {
                let learnt = learnt.min(epoch);
                if let Some(hop) = self.hop(hop).and_then(|id| self.hop_mut(id)) {
                    hop.learn_domain(domain, CatchAll { blind, sure: true, learnt });
                }
            }
            Record::Limit { hop, learnt, refusals } => {
                let at = now.checked_sub(epoch.since(learnt));
                if let (Some(hop), Some(at)) = (self.hop(hop).and_then(|id| self.hop_mut(id)), at) {
                    hop.limit = Some((refusals.max(1), at));
                }
            }
            Record::Sender { hop, learnt, sender } => {
                let at = now.checked_sub(epoch.since(learnt));
                if let (Some(hop), Some(at)) = (self.hop(hop).and_then(|id| self.hop_mut(id)), at) {
                    hop.sender = Some((sender as usize, at));
                }
            }
        })
    }
}
