//! Answers and what they are worth: the accept-all test and the canary.
//!
//! Both are made only when an answer depends on them: a domain of which only made-up addresses are asked costs no test
//! of a made-up address, and a next hop that refuses nobody no canary. An accept-all test that has no result (greylisted,
//! broken) leaves the benefit of the doubt: it said yes, and accepting is what happens without us. A canary without a
//! result leaves none: refusing for good needs proof.

use std::sync::Arc;
use std::time::Instant;

use super::{Conclusion, Held, HopId, Job, Kind, Level, Scheduler, cut};
use crate::config::Blind;
use crate::probe::cache::Known;
use crate::probe::classify::{Cause, Finding, Judgement};
use crate::probe::hop::CatchAll;
use crate::probe::outcome::JobId;
use crate::proto::smtp::Mailbox;
use crate::verdict::Verdict;

impl Scheduler {
    /// A session has answered.
    pub(super) fn answered(&mut self, id: JobId, finding: Finding, now: Instant) {
        let Some(hop) = self.job(id).map(|job| job.hop) else { return };
        self.alarm(hop, &finding, now);
        let Some(Job { kind, .. }) = self.jobs.get(id.0 as usize) else { return };
        match (kind, finding.judgement) {
            (Kind::CatchAll { .. }, _) => self.catch_all_known(id, Some(&finding), now),
            (Kind::Canary { .. }, judgement) => {
                let taken = matches!(judgement, Judgement::Exists { .. });
                self.canary_known(id, taken, Some(&finding), now);
            }
            (Kind::Question, Judgement::Exists { .. }) => self.exists(id, finding, now),
            (Kind::Question, Judgement::Absent(_)) => self.absent(id, finding, now),
            (Kind::Question, _) => self.conclude(id, Conclusion::Unknown, &Arc::new(finding), now),
        }
    }

    /// There will be no answer. `down`: because the next hop could not be asked at all.
    pub(super) fn give_up(&mut self, id: JobId, finding: &Arc<Finding>, down: bool, now: Instant) {
        match self.job(id).map(|job| &job.kind) {
            None => {}
            Some(Kind::CatchAll { .. }) => self.catch_all_known(id, None, now),
            Some(Kind::Canary { .. }) => self.canary_known(id, false, None, now),
            Some(Kind::Question) if down => self.conclude(id, Conclusion::Unavailable, finding, now),
            Some(Kind::Question) => self.conclude(id, Conclusion::Unknown, finding, now),
        }
    }

    /// The next hop took a recipient.
    fn exists(&mut self, id: JobId, finding: Finding, now: Instant) {
        let epoch = self.epoch(now);
        let Some(Job { key, hop, .. }) = self.jobs.get(id.0 as usize) else { return };
        let (hop_id, domain) = (*hop, cut(key).1);
        let Some(hop) = self.hop_ref(hop_id) else { return };
        match hop.is_blind(domain, epoch) {
            Some(blind) => self.exists_for_certain(id, blind, finding, now),
            None => {
                let domain: Box<[u8]> = domain.into();
                let test = match hop.domain_jobs.get(&domain) {
                    Some(&test) => Some(test),
                    None => self.start_catch_all(hop_id, &domain),
                };
                match test.and_then(|test| self.jobs.get_mut(test.0 as usize)).map(|job| &mut job.kind) {
                    Some(Kind::CatchAll { held, .. }) => held.push(Held { job: id, finding }),
                    _ => self.exists_for_certain(id, false, finding, now),
                }
            }
        }
    }

    fn exists_for_certain(&mut self, id: JobId, blind: bool, mut finding: Finding, now: Instant) {
        let policy = self.job(id).and_then(|job| self.hop_ref(job.hop)).map(|hop| hop.config.blind);
        let conclusion = match (blind, policy) {
            (false, _) => Conclusion::Verdict(Verdict::Exists, Some(Known::Exists)),
            (true, Some(Blind::Exists)) => Conclusion::Verdict(Verdict::Exists, Some(Known::Blind)),
            (true, _) => {
                finding.cause = Cause::Blind;
                Conclusion::Unknown
            }
        };
        self.conclude(id, conclusion, &Arc::new(finding), now);
    }

    fn start_catch_all(&mut self, hop_id: HopId, domain: &[u8]) -> Option<JobId> {
        let local = self.random.local_part();
        let mailbox = Mailbox::new(&local, domain).ok()?;
        let kind = Kind::CatchAll { domain: domain.into(), held: Vec::new() };
        let id = self.insert_job(&[&local, b"@".as_slice(), domain].concat(), mailbox, hop_id, kind);
        let hop = self.hop_mut(hop_id)?;
        hop.domain_jobs.insert(domain.into(), id);
        hop.urgent.push_back(id);
        Some(id)
    }

    /// The accept-all test is over; `None`: without a result.
    fn catch_all_known(&mut self, id: JobId, finding: Option<&Finding>, now: Instant) {
        let epoch = self.epoch(now);
        let Some(Job { hop: hop_id, kind: Kind::CatchAll { domain, held }, .. }) = self.jobs.try_remove(id.0 as usize)
        else {
            return;
        };
        // Any refusal for good tells a made-up address from a real one; "later" does not.
        let blind = matches!(finding.map(|f| f.judgement), Some(Judgement::Exists { .. }));
        let for_good = matches!(finding.map(|f| &f.cause), Some(Cause::Reply { code: 500.., .. }));
        let mut news = None;
        if let Some(hop) = self.hop_mut(hop_id) {
            hop.domain_jobs.remove(&domain);
            let before = hop.domains.get(&domain).is_some_and(|fact| fact.blind);
            hop.learn_domain(&domain, CatchAll { blind, sure: blind || for_good, learnt: epoch });
            if blind != before {
                news = Some((hop.config.name.clone(), hop.config.blind));
            }
        }
        if let Some((name, policy)) = news {
            let domain = domain.escape_ascii();
            if blind {
                let text = format!("{name} takes every address of {domain}: what it takes proves nothing ({policy})");
                self.log(Level::Warn, text);
            } else {
                self.log(Level::Info, format!("{name} no longer takes every address of {domain}"));
            }
        }
        for Held { job, finding } in held {
            self.exists_for_certain(job, blind, finding, now);
        }
    }

    /// The next hop refused a recipient.
    fn absent(&mut self, id: JobId, finding: Finding, now: Instant) {
        let Some(hop_id) = self.job(id).map(|job| job.hop) else { return };
        let Some(hop) = self.hop_ref(hop_id) else { return };
        if hop.is_believed(now) {
            return self.absent_for_certain(id, finding, now);
        }
        let canary = match (hop.canary_job, hop.config.known_good.clone()) {
            (Some(canary), _) => canary,
            (None, None) => return self.absent_for_certain(id, finding, now),
            (None, Some(mailbox)) => {
                let key: Box<[u8]> = mailbox.bytes().into();
                let canary = self.insert_job(&key, mailbox, hop_id, Kind::Canary { held: Vec::new() });
                if let Some(hop) = self.hop_mut(hop_id) {
                    hop.canary_job = Some(canary);
                    hop.urgent.push_back(canary);
                }
                canary
            }
        };
        match self.jobs.get_mut(canary.0 as usize).map(|job| &mut job.kind) {
            Some(Kind::Canary { held }) => held.push(Held { job: id, finding }),
            _ => self.conclude(id, Conclusion::Unknown, &Arc::new(finding), now),
        }
    }

    fn absent_for_certain(&mut self, id: JobId, finding: Finding, now: Instant) {
        let known = match finding.judgement {
            Judgement::Absent(life) => Known::absent(life),
            _ => None,
        };
        self.conclude(id, Conclusion::Verdict(Verdict::Absent, known), &Arc::new(finding), now);
    }

    /// The canary was taken or refused, or there is no telling.
    fn canary_known(&mut self, id: JobId, taken: bool, finding: Option<&Finding>, now: Instant) {
        let Some(Job { hop: hop_id, kind: Kind::Canary { held }, .. }) = self.jobs.try_remove(id.0 as usize) else {
            return;
        };
        let mut news = None;
        if let Some(hop) = self.hop_mut(hop_id) {
            hop.canary_job = None;
            hop.canary = taken.then_some(now);
            if finding.is_some() && hop.canary_refused == taken {
                hop.canary_refused = !taken;
                news = Some(hop.config.name.clone());
            }
        }
        if let Some(name) = news {
            match finding {
                Some(finding) if !taken => {
                    let text = format!("{name} refuses known_good, its refusals are not believed: {finding}");
                    self.log(Level::Warn, text);
                }
                _ => self.log(Level::Info, format!("{name} takes known_good again, its refusals are believed")),
            }
        }
        for Held { job, mut finding } in held {
            if taken {
                self.absent_for_certain(job, finding, now);
            } else {
                finding.cause = Cause::Canary;
                finding.judgement = Judgement::Unknown { alarm: false, close: false };
                self.conclude(job, Conclusion::Unknown, &Arc::new(finding), now);
            }
        }
    }
}
