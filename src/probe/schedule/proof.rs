//! Answers and what they are worth: the accept-all test and the canary.
//!
//! Both are made only when an answer depends on them: a domain of which only made-up addresses are asked costs no test
//! of a made-up address, and a next hop that refuses nobody no canary. An accept-all test that has no result (greylisted,
//! broken) leaves what was known before, else the benefit of the doubt: it said yes, and accepting is what happens without
//! us. A canary without a result leaves none: refusing for good needs proof.
//!
//! What a server proves holds for that server at that address, as long as it is one of the next hop's. An answer whose proof
//! came from another one is worth nothing: the question is put again.

use std::sync::Arc;
use std::time::Instant;

use super::{Conclusion, Held, HopId, Job, Kind, Level, Scheduler, cut};
use crate::config::Blind;
use crate::probe::cache::Known;
use crate::probe::classify::{Cause, Finding, Judgement};
use crate::probe::hop::Place;
use crate::probe::outcome::JobId;
use crate::proto::smtp::Mailbox;
use crate::verdict::Verdict;

impl Scheduler {
    /// A session has answered.
    pub(super) fn answered(&mut self, id: JobId, finding: Finding, place: &Place, now: Instant) {
        let Some(hop) = self.job(id).map(|job| job.hop) else { return };
        self.alarm(hop, &finding, now);
        let Some(Job { kind, .. }) = self.jobs.get(id.0 as usize) else { return };
        match (kind, finding.judgement) {
            (Kind::CatchAll { .. }, _) => self.catch_all_known(id, Some((place, &finding)), now),
            (Kind::Canary { .. }, _) => self.canary_known(id, Some((place, &finding)), now),
            (Kind::Question, Judgement::Exists { .. }) => {
                self.exists(Held { job: id, finding, place: place.clone() }, now)
            }
            (Kind::Question, Judgement::Absent(_)) => self.absent(Held { job: id, finding, place: place.clone() }, now),
            (Kind::Question, _) => {
                let finding = Arc::new(finding);
                // The server is well, and yet nobody gets an answer: status tells why.
                if let Some(hop) = self.hop_mut(hop) {
                    hop.last_error = Some(finding.clone());
                }
                self.conclude(id, Conclusion::Unknown, &finding, now);
            }
        }
    }

    /// There will be no answer. `down`: because the next hop could not be asked at all.
    pub(super) fn give_up(&mut self, id: JobId, finding: &Arc<Finding>, down: bool, now: Instant) {
        match self.job(id).map(|job| &job.kind) {
            None => {}
            Some(Kind::CatchAll { .. }) => self.catch_all_known(id, None, now),
            Some(Kind::Canary { .. }) => self.canary_known(id, None, now),
            Some(Kind::Question) if down => self.conclude(id, Conclusion::Unavailable, finding, now),
            Some(Kind::Question) => self.conclude(id, Conclusion::Unknown, finding, now),
        }
    }

    /// A server took a recipient.
    fn exists(&mut self, held: Held, now: Instant) {
        let epoch = self.epoch(now);
        let Some(Job { key, hop, .. }) = self.jobs.get(held.job.0 as usize) else { return };
        let (hop_id, domain) = (*hop, cut(key).1);
        let Some(hop) = self.hop_ref(hop_id) else { return };
        if let Some(blind) = hop.is_blind(&held.place, domain, epoch) {
            return self.exists_for_certain(held, blind, now);
        }
        let domain: Box<[u8]> = domain.into();
        let test = match hop.places.get(&held.place).and_then(|proofs| proofs.domain_jobs.get(&domain)) {
            Some(&test) => Some(test),
            None => self.start_catch_all(hop_id, &held.place, &domain),
        };
        match test.and_then(|test| self.jobs.get_mut(test.0 as usize)).map(|job| &mut job.kind) {
            Some(Kind::CatchAll { held: all, .. }) => all.push(held),
            _ => self.exists_for_certain(held, false, now),
        }
    }

    fn exists_for_certain(&mut self, held: Held, blind: bool, now: Instant) {
        let Held { job: id, mut finding, place } = held;
        let policy = self.job(id).and_then(|job| self.hop_ref(job.hop)).map(|hop| hop.config.blind);
        let conclusion = match (blind, policy) {
            (false, _) => Conclusion::Verdict(Verdict::Exists, Some(Known::Exists), place.by),
            (true, Some(Blind::Exists)) => Conclusion::Verdict(Verdict::Exists, Some(Known::Blind), place.by),
            (true, _) => {
                finding.cause = Cause::Blind;
                Conclusion::Unknown
            }
        };
        self.conclude(id, conclusion, &Arc::new(finding), now);
    }

    fn start_catch_all(&mut self, hop_id: HopId, place: &Place, domain: &[u8]) -> Option<JobId> {
        let local = self.random.local_part();
        let mailbox = Mailbox::new(&local, domain).ok()?;
        self.hop_mut(hop_id)?.proofs(place)?;
        let kind = Kind::CatchAll { place: place.clone(), domain: domain.into(), held: Vec::new() };
        let id = self.insert_job(&[&local, b"@".as_slice(), domain].concat(), mailbox, hop_id, kind);
        let hop = self.hop_mut(hop_id)?;
        hop.proofs(place)?.domain_jobs.insert(domain.into(), id);
        hop.urgent.push_back(id);
        Some(id)
    }

    /// The accept-all test is over; `None`: without a result.
    fn catch_all_known(&mut self, id: JobId, found: Option<(&Place, &Finding)>, now: Instant) {
        let epoch = self.epoch(now);
        let Some(Job { hop: hop_id, kind: Kind::CatchAll { place, domain, held }, .. }) =
            self.jobs.try_remove(id.0 as usize)
        else {
            return;
        };
        // Any refusal for good tells a made-up address from a real one; "later" does not.
        let blind = found.and_then(|(_, finding)| match (finding.judgement, &finding.cause) {
            (Judgement::Exists { .. }, _) => Some(true),
            (_, Cause::Reply { code: 500.., .. }) => Some(false),
            _ => None,
        });
        let answerer = found.map_or(&place, |(place, _)| place);
        let mut news = None;
        let mut fact = None;
        if let Some(hop) = self.hop_mut(hop_id) {
            if let Some(proofs) = hop.places.get_mut(&place) {
                proofs.domain_jobs.remove(&domain);
            }
            if let Some(proofs) = hop.proofs(answerer) {
                let before = proofs.domains.get(&domain).is_some_and(|fact| fact.blind);
                let blind = proofs.learn_domain(&domain, blind, epoch).blind;
                fact = Some(blind);
                if blind != before {
                    news = Some((blind, hop.config.name.clone(), hop.config.blind));
                }
            }
        }
        if let Some((blind, name, policy)) = news {
            let domain = domain.escape_ascii();
            if blind {
                let text = format!("{name} takes every address of {domain}: what it takes proves nothing ({policy})");
                self.log(Level::Warn, text);
            } else {
                self.log(Level::Info, format!("{name} no longer takes every address of {domain}"));
            }
        }
        for held in held {
            match fact.filter(|_| held.place == *answerer) {
                Some(blind) => self.exists_for_certain(held, blind, now),
                None => self.put_again(hop_id, held, now),
            }
        }
    }

    /// Another server gave the proof, or who gave the answer is none of the next hop's any more.
    fn put_again(&mut self, hop: HopId, held: Held, now: Instant) {
        self.put_back(hop, held.job, false, &Arc::new(held.finding), now);
    }

    /// A server refused a recipient.
    fn absent(&mut self, held: Held, now: Instant) {
        let Some(hop_id) = self.job(held.job).map(|job| job.hop) else { return };
        let Some(hop) = self.hop_ref(hop_id) else { return };
        if hop.is_believed(&held.place, now) {
            return self.absent_for_certain(held, now);
        }
        let under_way = hop.places.get(&held.place).and_then(|proofs| proofs.canary_job);
        let canary = under_way.or_else(|| self.start_canary(hop_id, &held.place));
        match canary.and_then(|canary| self.jobs.get_mut(canary.0 as usize)).map(|job| &mut job.kind) {
            Some(Kind::Canary { held: all, .. }) => all.push(held),
            _ => self.conclude(held.job, Conclusion::Unknown, &Arc::new(held.finding), now),
        }
    }

    fn start_canary(&mut self, hop_id: HopId, place: &Place) -> Option<JobId> {
        let hop = self.hop_mut(hop_id)?;
        let mailbox = hop.config.known_good.clone()?;
        hop.proofs(place)?;
        let key: Box<[u8]> = mailbox.bytes().into();
        let kind = Kind::Canary { place: place.clone(), held: Vec::new() };
        let id = self.insert_job(&key, mailbox, hop_id, kind);
        let hop = self.hop_mut(hop_id)?;
        hop.proofs(place)?.canary_job = Some(id);
        hop.urgent.push_back(id);
        Some(id)
    }

    fn absent_for_certain(&mut self, held: Held, now: Instant) {
        let Held { job: id, finding, place } = held;
        let known = match finding.judgement {
            Judgement::Absent(life) => Known::absent(life),
            _ => None,
        };
        self.conclude(id, Conclusion::Verdict(Verdict::Absent, known, place.by), &Arc::new(finding), now);
    }

    /// The canary was taken or refused, or there is no telling.
    fn canary_known(&mut self, id: JobId, found: Option<(&Place, &Finding)>, now: Instant) {
        let epoch = self.epoch(now);
        let Some(Job { hop: hop_id, kind: Kind::Canary { place, held }, mailbox, .. }) =
            self.jobs.try_remove(id.0 as usize)
        else {
            return;
        };
        let taken = found.is_some_and(|(_, finding)| matches!(finding.judgement, Judgement::Exists { .. }));
        // "Later" is no refusal: it proves nothing either way.
        let refused = !taken && found.is_some_and(|(_, f)| matches!(f.cause, Cause::Reply { code: 500.., .. }));
        let answerer = found.map_or(&place, |(place, _)| place);
        let mut news = None;
        let mut counts = false;
        if let Some(hop) = self.hop_mut(hop_id) {
            // A reload may have named another one meanwhile.
            let is_canary = hop.config.known_good.as_ref() == Some(&mailbox);
            if let Some(proofs) = hop.places.get_mut(&place) {
                proofs.canary_job = None;
            }
            if let Some(proofs) = hop.proofs(answerer).filter(|_| is_canary) {
                counts = true;
                proofs.canary = taken.then_some(now);
                if refused {
                    proofs.doubted = Some(epoch);
                }
                if (taken || refused) && proofs.canary_refused == taken {
                    proofs.canary_refused = refused;
                    news = Some(hop.config.name.clone());
                }
            }
        }
        if let Some(name) = news {
            match found {
                Some((_, finding)) if refused => {
                    let text = format!("{name} refuses known_good, its refusals are not believed: {finding}");
                    self.log(Level::Warn, text);
                }
                _ => self.log(Level::Info, format!("{name} takes known_good again, its refusals are believed")),
            }
        }
        for held in held {
            if !counts || held.place != *answerer {
                self.put_again(hop_id, held, now);
            } else if taken {
                self.absent_for_certain(held, now);
            } else {
                let Held { job, mut finding, .. } = held;
                finding.cause = Cause::Canary;
                finding.judgement = Judgement::Unknown { alarm: false, close: false };
                self.conclude(job, Conclusion::Unknown, &Arc::new(finding), now);
            }
        }
    }
}
