//! Counters of one loop: plain numbers, counted where things happen, and put into words only when somebody asks.

use std::fmt::Write as _;

use crate::proto::Reply;
use crate::proto::detect::Dialect;
use crate::resolve::Answer;
use crate::skip::Reason;
use crate::verdict::Verdict;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer had all its answers and closed.
    Finished,
    /// It broke the protocol.
    Error,
    /// The connection broke.
    Reset,
    /// Nothing came for `limits.idle`.
    Idle,
    /// A request was not complete within `limits.request`.
    RequestTimeout,
    /// It did not take its replies within `limits.request`.
    OutputTimeout,
    /// It made room for a new one at `limits.sessions`.
    Evicted,
    /// The server stopped.
    Stopped,
}

impl Ended {
    /// Every way, in the order of the counters.
    pub const ALL: [Ended; 8] = [
        Ended::Finished,
        Ended::Error,
        Ended::Reset,
        Ended::Idle,
        Ended::RequestTimeout,
        Ended::OutputTimeout,
        Ended::Evicted,
        Ended::Stopped,
    ];

    /// The word for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Ended::Finished => "finished",
            Ended::Error => "error",
            Ended::Reset => "reset",
            Ended::Idle => "idle",
            Ended::RequestTimeout => "request-timeout",
            Ended::OutputTimeout => "output-timeout",
            Ended::Evicted => "evicted",
            Ended::Stopped => "stopped",
        }
    }
}

/// What a request ended in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A verdict about a recipient.
    Verdict(Verdict),
    /// A table or the domains: found.
    Found,
    /// A table or the domains: not found.
    NotFound,
    /// No such map, or no data for it yet.
    NoMap,
}

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Outcome; 7] = [
        Outcome::Verdict(Verdict::Exists),
        Outcome::Verdict(Verdict::Absent),
        Outcome::Verdict(Verdict::Unknown),
        Outcome::Verdict(Verdict::Foreign),
        Outcome::Found,
        Outcome::NotFound,
        Outcome::NoMap,
    ];

    /// The word for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Verdict(verdict) => verdict.name(),
            Outcome::Found => "found",
            Outcome::NotFound => "not-found",
            Outcome::NoMap => "no-map",
        }
    }

    fn of(answer: &Answer<'_>) -> Outcome {
        match (answer.verdict, &answer.reply) {
            (Some(verdict), _) => Outcome::Verdict(verdict),
            (None, Reply::Ok(_)) => Outcome::Found,
            (None, Reply::NotFound) => Outcome::NotFound,
            (None, Reply::Temp(_) | Reply::UnknownMap(_)) => Outcome::NoMap,
        }
    }

    fn place(self) -> usize {
        match self {
            Outcome::Verdict(Verdict::Exists) => 0,
            Outcome::Verdict(Verdict::Absent) => 1,
            Outcome::Verdict(Verdict::Unknown) => 2,
            Outcome::Verdict(Verdict::Foreign) => 3,
            Outcome::Found => 4,
            Outcome::NotFound => 5,
            Outcome::NoMap => 6,
        }
    }
}

/// Dialects in the order of the counters.
pub const DIALECTS: [(Dialect, &str); 6] = [
    (Dialect::Socketmap, "socketmap"),
    (Dialect::Line, "line"),
    (Dialect::Policy, "policy"),
    (Dialect::Http, "http"),
    (Dialect::TcpTable, "tcp-table"),
    (Dialect::Milter, "milter"),
];

fn place_of(dialect: Dialect) -> usize {
    match dialect {
        Dialect::Socketmap => 0,
        Dialect::Line => 1,
        Dialect::Policy => 2,
        Dialect::Http => 3,
        Dialect::TcpTable => 4,
        Dialect::Milter => 5,
    }
}

/// The counters.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    requests: [[u64; Outcome::ALL.len()]; DIALECTS.len()],
    violations: [u64; DIALECTS.len()],
    ended: [u64; Ended::ALL.len()],
    skipped: [u64; Reason::ALL.len()],
    /// Messages that were dropped without a word (`bitbucket`).
    pub discarded: u64,
    /// Recipients that exist only because their domain does not enforce refusals.
    pub spared: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed at once: the peer is in no `allow` list.
    pub not_allowed: u64,
    /// Connections closed at once: `limits.sessions_per_peer`, or `limits.sessions` with nobody idle.
    pub turned_away: u64,
    /// Times that accept failed for want of descriptors or memory.
    pub accept_failures: u64,
    /// Reloads that took everything.
    pub reloads: u64,
    /// Reloads that left something as it was.
    pub reload_failures: u64,
}

impl Stats {
    /// Counts an answered request.
    #[inline]
    pub fn count_answer(&mut self, dialect: Dialect, answer: &Answer<'_>) {
        self.requests[place_of(dialect)][Outcome::of(answer).place()] += 1;
        self.spared += u64::from(answer.spared);
    }

    /// Counts a decision about a recipient.
    pub fn count_decision(&mut self, dialect: Dialect, outcome: Outcome, spared: bool) {
        self.requests[place_of(dialect)][outcome.place()] += 1;
        self.spared += u64::from(spared);
    }

    /// Counts a recipient that was not checked.
    pub fn count_skip(&mut self, reason: Reason) {
        self.skipped[reason as usize] += 1;
    }

    /// Recipients that were not checked for this reason.
    pub fn skipped(&self, reason: Reason) -> u64 {
        self.skipped[reason as usize]
    }

    /// Counts a broken request.
    pub fn count_violation(&mut self, dialect: Dialect) {
        self.violations[place_of(dialect)] += 1;
    }

    /// Counts the end of a session.
    pub fn count_end(&mut self, how: Ended) {
        self.ended[how as usize] += 1;
    }

    /// Requests of a dialect that ended so.
    pub fn requests(&self, dialect: Dialect, outcome: Outcome) -> u64 {
        self.requests[place_of(dialect)][outcome.place()]
    }

    /// Requests that ended so, of all dialects.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        DIALECTS.iter().map(|&(dialect, _)| self.requests(dialect, outcome)).sum()
    }

    /// Broken requests of a dialect.
    pub fn violations(&self, dialect: Dialect) -> u64 {
        self.violations[place_of(dialect)]
    }

    /// Sessions that ended so.
    pub fn ended(&self, how: Ended) -> u64 {
        self.ended[how as usize]
    }

    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.iter().flatten().sum()
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let mut text = format!("{} requests", self.total());
        for outcome in Outcome::ALL {
            match self.outcome(outcome) {
                0 => {}
                count => {
                    let _ = write!(text, ", {} {count}", outcome.name());
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_place() {
        for (place, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.place(), place);
        }
        for (place, (dialect, _)) in DIALECTS.into_iter().enumerate() {
            assert_eq!(place_of(dialect), place);
        }
        for (place, how) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(how as usize, place);
        }
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn the_summary_leaves_out_what_never_happened() {
        let mut stats = Stats::default();
        let exists = Answer { reply: Reply::NotFound, verdict: Some(Verdict::Exists), spared: false, domain: None };
        stats.count_answer(Dialect::Line, &exists);
        stats.count_answer(
            Dialect::Socketmap,
            &Answer { reply: Reply::NotFound, verdict: None, spared: false, domain: None },
        );
        assert_eq!(stats.summary(), "2 requests, exists 1, not-found 1");
    }
}
