//! What every session shares: the directory, the limits, the counters, and the buffers of the loop.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::probing::Ahead;
use super::spared::Spared;
use super::watch::{self, Act, Watch, Whom};
use crate::config::{Config, Limits, ListenProtocol};
use crate::harvest::{CLIENT_SUFFIX, client_and_key};
use crate::logging::Logger;
use crate::map::Scratch;
use crate::proto::detect::Dialect;
use crate::proto::{self, Reply};
use crate::reload::{Order, Report, Ticket};
use crate::resolve::{Decision, Directory};
use crate::stats::{Outcome, Stats};
use crate::tally::Fate;

/// Most bytes that one read takes: some hundred requests, and little to copy when the budget ends before they do.
pub const READ: usize = 16 * 1024;

/// Shared by all sessions of one loop.
pub struct Core {
    /// Where answers come from. Replaced between two events, never within one.
    pub directory: Arc<Directory>,
    /// What the last loads did.
    pub report: Arc<Report>,
    /// `[limits]`.
    pub limits: Limits,
    /// The same for the codecs.
    pub proto_limits: proto::Limits,
    /// Counters.
    pub stats: Stats,
    /// The time of this turn of the loop.
    pub now: Instant,
    /// When the loop started.
    pub started: Instant,
    /// The same by the calendar.
    pub started_at: SystemTime,
    /// Space for reading and writing.
    pub buffers: Buffers,
    /// What the loader is to do; the loop hands it over.
    pub orders: Vec<(Ticket, Order)>,
    last_ticket: Ticket,
    /// Sessions open.
    pub sessions: usize,
    /// Where requests come in, for those who want to know.
    pub listening: Vec<Listening>,
    /// Why they don't come in where the configuration says.
    pub listen_errors: Vec<String>,
    /// The log, which counts what it could not say.
    pub logger: &'static Logger,
    /// Who is not checked, who guesses, and what became of recipients.
    pub watch: Watch,
    /// Call-ahead.
    pub ahead: Ahead,
    /// Who would have been refused, where that is only told.
    pub spared: Spared,
    scratch: Scratch,
}

/// A listener as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub on: String,
    /// What is spoken.
    pub protocol: ListenProtocol,
    /// The map of requests that name none.
    pub default_map: String,
}

/// One buffer each for what is read and what is written, for all sessions.
#[derive(Default)]
pub struct Buffers {
    /// An unfinished request, and one read behind it.
    pub read: Vec<u8>,
    /// The replies of one batch.
    pub write: Vec<u8>,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(config: &Config, logger: &'static Logger, now: Instant) -> Core {
        let mut core = Core {
            directory: Arc::new(Directory::empty()),
            report: Arc::default(),
            limits: config.limits.clone(),
            proto_limits: proto::Limits::DEFAULT,
            stats: Stats::default(),
            now,
            started: now,
            started_at: SystemTime::now(),
            buffers: Buffers::default(),
            orders: Vec::new(),
            last_ticket: 0,
            sessions: 0,
            listening: Vec::new(),
            listen_errors: Vec::new(),
            logger,
            watch: Watch::new(now),
            ahead: Ahead::default(),
            spared: Spared::default(),
            scratch: Scratch::default(),
        };
        core.watch.tallies.follow(&core.directory);
        core.configure(config);
        core
    }

    /// Puts down an order to the loader.
    pub fn order(&mut self, order: Order) -> Ticket {
        self.last_ticket += 1;
        self.orders.push((self.last_ticket, order));
        self.last_ticket
    }

    fn set_limits(&mut self, limits: &Limits) {
        self.limits = limits.clone();
        self.proto_limits = proto::Limits {
            request_bytes: limits.request_bytes,
            line_bytes: limits.line_bytes,
            ..proto::Limits::DEFAULT
        };
        let longest = self.proto_limits.longest_request();
        // What is kept of a session is at most an unfinished request or the rest of one read; only ever grows, since a
        // session may hold something that was allowed when it came.
        let wanted = longest + 2 * READ;
        if self.buffers.read.len() < wanted {
            self.buffers.read.resize(wanted, 0);
        }
    }

    /// Takes over what a configuration says.
    pub fn configure(&mut self, config: &Config) {
        self.set_limits(&config.limits);
        self.watch.configure(config, self.now);
    }

    /// A new directory comes into force; the old one comes back.
    pub fn set_directory(&mut self, directory: Arc<Directory>) -> Arc<Directory> {
        self.watch.tallies.follow(&directory);
        std::mem::replace(&mut self.directory, directory)
    }

    /// Answers one request, and counts it. `false`: the answer comes later, and the request is to be asked again then.
    #[inline]
    pub fn answer(&mut self, dialect: Dialect, map: &[u8], key: &[u8], write: impl FnOnce(&Reply<'_>)) -> bool {
        let directory = &*self.directory;
        let Some(number) = directory.map_number(map) else { return self.answer_otherwise(dialect, map, key, write) };
        let mut asking = self.ahead.asking(patience(&self.limits, dialect), self.now);
        let kind = &directory.maps()[number].kind;
        let Some(answer) = directory.answer_by(kind, key, &mut self.scratch, &mut (), &mut asking) else {
            return false;
        };
        self.stats.count_answer(dialect, &answer);
        if answer.spared {
            self.spared.note(answer.domain, watch::without_tag(key), directory, self.now);
        }
        if let Some(verdict) = answer.verdict {
            let place = self.watch.tallies.place(answer.domain, directory);
            self.watch.tallies.count(number, place, watch::fate(verdict), directory);
            if let Some(harvest) = &mut self.watch.harvest {
                harvest.count(None, place, verdict, watch::without_tag(key));
            }
        }
        write(&answer.reply);
        true
    }

    /// Answers a request for a map that there is not, or for one whose keys begin with the client.
    #[cold]
    fn answer_otherwise(&mut self, dialect: Dialect, map: &[u8], key: &[u8], write: impl FnOnce(&Reply<'_>)) -> bool {
        let directory = &*self.directory;
        let base = map.strip_suffix(CLIENT_SUFFIX).and_then(|name| directory.recipients_map(name));
        let Some(number) = base else {
            let answer = directory.answer(map, key, &mut self.scratch);
            self.stats.count_answer(dialect, &answer);
            write(&answer.reply);
            return true;
        };
        let (client, key) = client_and_key(key);
        let mut asking = self.ahead.asking(patience(&self.limits, dialect), self.now);
        let kind = &directory.maps()[number].kind;
        // Who guesses is not to have a backend asked, too.
        let answered = match self.watch.is_put_off(client) {
            true => directory.answer_by(kind, key, &mut self.scratch, &mut (), &mut ()),
            false => directory.answer_by(kind, key, &mut self.scratch, &mut (), &mut asking),
        };
        let Some(answer) = answered else { return false };
        self.stats.count_answer(dialect, &answer);
        if answer.spared {
            self.spared.note(answer.domain, watch::without_tag(key), directory, self.now);
        }
        let Some(verdict) = answer.verdict else {
            write(&answer.reply);
            return true;
        };
        let (place, acted) = self.watch.judge(client, answer.domain, verdict, watch::without_tag(key), directory);
        // There are no words here that close an SMTP session: it is put off.
        let deferred = match acted {
            Some(Act::Tempfail(reply) | Act::Disconnect(reply)) => Some(reply),
            Some(Act::Reject(_)) | None => None,
        };
        let fate = if deferred.is_some() { Fate::Deferred } else { watch::fate(verdict) };
        let reply = deferred.map(|reply| Reply::Temp(reply.status_and_text().as_bytes()));
        write(reply.as_ref().unwrap_or(&answer.reply));
        self.watch.tallies.count(number, place, fate, directory);
        true
    }

    /// Decides about one recipient, for a protocol that says itself what is to be done, and who asks. `false`: the
    /// decision comes later, and the request is to be asked again then.
    pub fn decide(
        &mut self,
        dialect: Dialect,
        map: &[u8],
        recipient: &[u8],
        whom: Whom,
        write: impl FnOnce(&Decision<'_>),
    ) -> bool {
        let directory = &*self.directory;
        let Some(number) = directory.recipients_map(map) else {
            self.stats.count_decision(dialect, Outcome::NoMap, false);
            write(&Decision::Defer(directory.deferral()));
            return true;
        };
        if let Some(reason) = whom.skipped {
            let domain = directory.snapshot().domain_of(recipient, &mut self.scratch);
            if domain.is_none_or(|(_, policy)| policy.skip) {
                self.stats.count_skip(reason);
                let place = self.watch.tallies.place(domain.map(|(domain, _)| domain), directory);
                self.watch.tallies.count(number, place, Fate::Skipped, directory);
                write(&Decision::Pass);
                return true;
            }
        }
        let mut asking = self.ahead.asking(patience(&self.limits, dialect), self.now);
        // Who guesses is not to have a backend asked, too.
        let decided = match self.watch.is_put_off(whom.client) {
            true => directory.decide(recipient, &mut self.scratch, &mut ()),
            false => directory.decide(recipient, &mut self.scratch, &mut asking),
        };
        let Some(decided) = decided else { return false };
        self.stats.count_decision(dialect, Outcome::Verdict(decided.verdict), decided.spared);
        if decided.spared {
            self.spared.note(decided.domain, recipient, directory, self.now);
        }
        let bitbucket = self.watch.bitbucket;
        let (place, acted) = self.watch.judge(whom.client, decided.domain, decided.verdict, recipient, directory);
        let (decision, fate) = match (acted, decided.decision) {
            (Some(Act::Tempfail(reply)), _) => (Decision::Defer(reply), Fate::Deferred),
            (Some(Act::Disconnect(reply)), _) => (Decision::Refuse(reply), Fate::Deferred),
            (Some(Act::Reject(reply)), _) => (Decision::Refuse(reply), Fate::Refused),
            (None, Decision::Refuse(_)) if bitbucket => {
                self.stats.discarded += 1;
                (Decision::Discard, Fate::Refused)
            }
            (None, decision) => (decision, watch::fate(decided.verdict)),
        };
        write(&decision);
        self.watch.tallies.count(number, place, fate, directory);
        true
    }
}

/// By when a client of this dialect must have its answer; past that it has decided without us.
pub fn patience(limits: &Limits, dialect: Dialect) -> Duration {
    match dialect {
        Dialect::Line => limits.answer_line,
        Dialect::Milter => limits.answer_milter,
        _ => limits.answer,
    }
}
