//! What a session tells its owner, and what its owner tells it.

use std::time::{Duration, Instant};

use super::classify::Finding;
use crate::config::{Greeting, Tls};
use crate::proto::smtp::{Capabilities, HostName, Mailbox, Status};

/// How a next hop is spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// EHLO, HELO or LHLO first; servers that are reached by LMTP get LHLO anyway.
    pub greeting: Greeting,
    /// Our name.
    pub helo: HostName,
    /// Reverse-paths in the order in which they are tried; `None` is the null one. Never empty.
    pub senders: Vec<Option<Mailbox>>,
    /// STARTTLS.
    pub tls: Tls,
    /// Patience with the connection.
    pub connect_timeout: Duration,
    /// Patience with each reply.
    pub reply_timeout: Duration,
    /// Patience with connecting and greeting, and with each group.
    pub total_timeout: Duration,
    /// How long an unused session is kept.
    pub idle: Duration,
    /// Recipients in one session.
    pub recipients: u32,
    /// Further codes that mean absent.
    pub absent_codes: Vec<Status>,
}

/// What earlier sessions taught about the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The server speaks LMTP.
    pub lmtp: bool,
    /// Use PIPELINING if it is offered.
    pub pipelining: bool,
    /// Use STARTTLS if it is offered and not required.
    pub starttls: bool,
    /// Which sender to begin with.
    pub sender: usize,
    /// So many refusals in a session are free.
    pub refusals: Option<u32>,
}

/// What its owner knows a question by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u32);

/// What the machine tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The greeting is done, this is what the server offers.
    Greeted(Capabilities),
    /// Begin the handshake, then [`handle_tls_established`](super::machine::Machine::handle_tls_established).
    StartTls,
    /// The answer to a question.
    Answer(JobId, Finding),
    /// This sender is taken where an earlier one is not.
    Sender(usize),
    /// More refusals than this make the server slow, or hang up.
    Limit(u32),
    /// How long a recipient of a group took, on an average.
    Pace(Duration),
    /// It is over; drop the connection.
    Closed(Closed),
}

/// How a session ended, and which questions it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// How.
    pub end: End,
    /// Why; `None` when we said QUIT.
    pub finding: Option<Finding>,
    /// Asked, without an answer that counts.
    pub in_flight: Vec<JobId>,
    /// Not asked yet.
    pub untouched: Vec<JobId>,
}

/// The kinds of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// As we wished.
    InOrder,
    /// The server gave up a session that was idle.
    Gone,
    /// No session could be had.
    Refused,
    /// There were more refusals than it takes.
    Limit,
    /// In the middle of asking for recipients.
    Broken,
}

/// Who ended the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// The server closed it.
    Closed,
    /// The system's words: refused, unreachable, reset, TLS failure.
    Error(Box<str>),
}

/// A line of the dialogue, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// Who said it.
    pub voice: Voice,
    /// The line, printable.
    pub text: Box<str>,
}

/// Who says a line of a dialogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// We.
    Ours,
    /// The server.
    Server,
    /// Nobody: what happened besides.
    Note,
}

/// The dialogue of a session.
#[derive(Debug, Default)]
pub struct Transcript(Vec<Line>);

/// Longest transcript.
const MAX_TRANSCRIPT: usize = 1000;

impl Transcript {
    /// Adds what was said, one line or several.
    pub fn push(&mut self, voice: Voice, bytes: &[u8], at: Instant) {
        for line in bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            if self.0.len() < MAX_TRANSCRIPT {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                self.0.push(Line { at, voice, text: line.escape_ascii().to_string().into() });
            }
        }
    }

    /// The lines.
    pub fn lines(&self) -> &[Line] {
        &self.0
    }
}
