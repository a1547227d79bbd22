//! What every session shares: the directory, the limits, the counters, and the buffers of the loop.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::{Limits, ListenProtocol};
use crate::logging::Logger;
use crate::map::Scratch;
use crate::proto::detect::Dialect;
use crate::proto::{self, Reply};
use crate::reload::{Order, Report, Ticket};
use crate::resolve::{Decision, Directory};
use crate::stats::Stats;

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
    /// The log, which counts what it could not say.
    pub logger: &'static Logger,
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
    pub fn new(limits: &Limits, logger: &'static Logger, now: Instant) -> Core {
        let mut core = Core {
            directory: Arc::new(Directory::empty()),
            report: Arc::default(),
            limits: limits.clone(),
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
            logger,
            scratch: Scratch::default(),
        };
        core.set_limits(limits);
        core
    }

    /// Puts down an order to the loader.
    pub fn order(&mut self, order: Order) -> Ticket {
        self.last_ticket += 1;
        self.orders.push((self.last_ticket, order));
        self.last_ticket
    }

    /// Takes over `[limits]`.
    pub fn set_limits(&mut self, limits: &Limits) {
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

    /// Answers one request, and counts it.
    #[inline]
    pub fn answer(&mut self, dialect: Dialect, map: &[u8], key: &[u8], write: impl FnOnce(&Reply<'_>)) {
        let answer = self.directory.answer(map, key, &mut self.scratch);
        self.stats.count_answer(dialect, &answer);
        write(&answer.reply);
    }

    /// Decides about one recipient, for a protocol that says itself what is to be done.
    pub fn decide(&mut self, dialect: Dialect, map: &[u8], recipient: &[u8], write: impl FnOnce(&Decision<'_>)) {
        let (decision, outcome) = self.directory.decide(map, recipient, &mut self.scratch);
        self.stats.count_decision(dialect, outcome);
        write(&decision);
    }
}
