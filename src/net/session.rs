//! One client: its connection, what it has not finished saying, and what it has not taken yet.
//!
//! An idle session owns no buffer: bytes are read into the loop's shared buffer, and only an unfinished request, or a
//! reply that the peer does not take, is kept here. Every session has one deadline, for whatever it is waiting for; it
//! belongs to the whole request, so that a peer that sends a byte a minute gains nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::core::{Buffers, Core, READ, patience};
use super::dialect::{Batch, Next, Speech};
use super::listener::Front;
use super::pages;
use super::stream::Stream;
use super::token::SessionId;
use crate::proto::http;
use crate::reload::Ticket;
use crate::stats::Ended;
use crate::verdict::Verdict;

/// How long a session that was answered with an error may go on sending before it is cut off. Closing at once would
/// reset the connection while the peer's bytes are unread, and the reply would be lost on its way.
const LINGER: Duration = Duration::from_secs(2);

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next request.
    Idle,
    /// The rest of a request.
    Request,
    /// Room for our replies.
    Output,
    /// The loader, which is busy with this order.
    Order(Ticket),
    /// What a prober finds out about the recipient of the request at the front.
    Probe,
    /// The peer's close, after ours.
    Linger,
}

/// What the loop does with a session that was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Wait for an event.
    Wait,
    /// Serve it again in the next turn: its budget is used up, but not its requests.
    Again,
    /// Drop it.
    Close(Ended),
}

/// A client.
pub struct Session {
    stream: Stream,
    front: Rc<Front>,
    peer: Option<IpAddr>,
    speech: Speech,
    phase: Phase,
    /// Since when it is in this phase; in `Idle` the time of the last activity.
    since: Instant,
    /// The unfinished request, or (with `backlog`) what the last turn's budget did not reach.
    input: Vec<u8>,
    /// Replies that the peer has not taken.
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    sent: usize,
    /// There may be bytes to read.
    readable: bool,
    /// The peer has closed its side; read to the end.
    peer_closed: bool,
    /// The peer takes nothing any more either. Over TCP that shows only when something is written.
    gone: bool,
    /// Read to the end.
    eof: bool,
    /// `input` holds whole requests.
    backlog: bool,
    /// Nothing more is answered.
    closing: bool,
    /// The peer broke the protocol.
    broken: bool,
    /// What was found out about the recipient of the request at the front.
    found: Option<Verdict>,
    /// The loop's bookkeeping.
    pub place: Place,
}

/// What the loop knows about a session.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its place in the slab, and which tenant of it it is.
    pub id: SessionId,
    /// The deadline under which it is armed.
    pub armed: Option<Instant>,
    /// Registered with the poll.
    pub registered: bool,
    /// Registered for writing, too.
    pub wants_write: bool,
    /// In the run queue.
    pub queued: bool,
}

impl Session {
    /// A session for a connection that was just accepted.
    pub fn new(stream: Stream, front: Rc<Front>, peer: Option<IpAddr>, id: SessionId, now: Instant) -> Session {
        Session {
            stream,
            speech: Speech::new(front.protocol),
            front,
            peer,
            phase: Phase::Idle,
            since: now,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            readable: true,
            peer_closed: false,
            gone: false,
            eof: false,
            backlog: false,
            closing: false,
            broken: false,
            found: None,
            place: Place { id, armed: None, registered: false, wants_write: false, queued: false },
        }
    }

    /// The connection, for registering it.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The TCP peer.
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// Whether it may be dropped to make room: nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && !self.backlog
    }

    /// Since when nothing has come.
    pub fn idle_since(&self) -> Instant {
        self.since
    }

    /// Whether replies wait for the peer to take them.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// The order to the loader that it waits for.
    pub fn awaits(&self) -> Option<Ticket> {
        match self.phase {
            Phase::Order(ticket) => Some(ticket),
            _ => None,
        }
    }

    /// When the session's patience ends.
    pub fn deadline(&self, core: &Core) -> Instant {
        let limits = &core.limits;
        self.since
            + match self.phase {
                Phase::Idle => limits.idle,
                Phase::Request | Phase::Output => limits.request,
                Phase::Order(_) => pages::RELOAD_PATIENCE,
                // The scheduler answers in time; should it not, no late answer may reach the peer's next question.
                Phase::Probe => {
                    self.speech.dialect().map_or(limits.answer, |dialect| patience(limits, dialect)) + LINGER
                }
                Phase::Linger => LINGER,
            }
    }

    /// What to count when the deadline has passed.
    pub fn expired(&self) -> Ended {
        match self.phase {
            Phase::Idle => Ended::Idle,
            Phase::Request => Ended::RequestTimeout,
            Phase::Output | Phase::Order(_) | Phase::Probe => Ended::OutputTimeout,
            Phase::Linger => self.end(),
        }
    }

    /// Takes in what an event says.
    pub fn handle_event(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable();
        self.peer_closed |= event.is_read_closed();
        self.gone |= event.is_write_closed() || event.is_error();
    }

    /// Looks whether there are bytes to read, event or not: the last look before the server stops.
    pub fn look_again(&mut self) {
        self.readable = true;
    }

    /// Reads, answers and writes as far as possible.
    pub fn serve(&mut self, core: &mut Core) -> Turn {
        let mut buffers = std::mem::take(&mut core.buffers);
        let turn = self.work(core, &mut buffers).unwrap_or(Turn::Close(Ended::Reset));
        core.buffers = buffers;
        turn
    }

    /// The answer to an order, once it is known.
    pub fn handle_answer(&mut self, status: u16, media: &str, body: &[u8], core: &mut Core) -> Turn {
        http::encode(status, media, body, false, &mut self.output);
        self.closing = true;
        self.enter(Phase::Output, core.now);
        self.serve(core)
    }

    /// What was found out about the recipient that the session waits for.
    pub fn handle_found(&mut self, verdict: Verdict, core: &mut Core) -> Turn {
        self.found = Some(verdict);
        self.serve(core)
    }

    fn work(&mut self, core: &mut Core, buffers: &mut Buffers) -> io::Result<Turn> {
        if !self.flush()? {
            return Ok(Turn::Wait);
        }
        match self.phase {
            Phase::Linger => return self.linger(buffers),
            Phase::Order(_) => return Ok(Turn::Wait),
            Phase::Probe if self.gone => return Ok(Turn::Close(Ended::Reset)),
            Phase::Probe if self.found.is_none() => return Ok(Turn::Wait),
            Phase::Probe => self.enter(Phase::Request, core.now),
            _ if self.closing => return self.finish(core.now),
            // The rest of a request may be lying here since before the peer stopped reading.
            Phase::Output if !self.input.is_empty() => self.enter(Phase::Request, core.now),
            Phase::Output => self.enter(Phase::Idle, core.now),
            Phase::Idle | Phase::Request => {}
        }
        let mut budget = core.limits.requests_per_turn;
        loop {
            let kept = self.input.len();
            buffers.read[..kept].copy_from_slice(&self.input);
            let read = if self.backlog { 0 } else { self.read(&mut buffers.read[kept..kept + READ])? };
            if read == 0 && !self.backlog && !self.eof {
                return Ok(Turn::Wait);
            }
            buffers.write.clear();
            let input = &buffers.read[..kept + read];
            let before = budget;
            core.ahead.asker = Some(self.place.id);
            core.ahead.resume = self.found.take();
            let mut turn = Batch { front: &self.front, eof: self.eof, core, out: &mut buffers.write, budget };
            let advance = self.speech.advance(input, &mut turn);
            budget = turn.budget;
            // A reload may have settled what was asked for; the answer is for that request and no other.
            core.ahead.resume = None;
            self.keep(&input[advance.used..]);
            self.backlog = matches!(advance.next, Next::Again | Next::Probe);
            if self.input.is_empty() {
                self.enter(Phase::Idle, core.now);
            } else if before != budget || self.phase != Phase::Request {
                self.enter(Phase::Request, core.now);
            }
            let written = self.write(&buffers.write)?;
            self.broken = advance.next == Next::Close;
            self.closing = match advance.next {
                Next::Finish | Next::Close => true,
                Next::More => self.eof,
                Next::Again | Next::Probe | Next::Later(_) => false,
            };
            if let Next::Later(ticket) = advance.next {
                self.enter(Phase::Order(ticket), core.now);
                return Ok(Turn::Wait);
            }
            if !written {
                self.enter(Phase::Output, core.now);
                return Ok(Turn::Wait);
            }
            if advance.next == Next::Probe && self.gone {
                return Ok(Turn::Close(Ended::Reset));
            }
            if advance.next == Next::Probe {
                self.enter(Phase::Probe, core.now);
                return Ok(Turn::Wait);
            }
            if self.closing {
                return self.finish(core.now);
            }
            if self.backlog {
                return Ok(Turn::Again);
            }
            if !self.readable {
                return Ok(Turn::Wait);
            }
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }

    /// Reads once. A short read means that nothing is left, unless the peer has closed its side: then the end must be
    /// seen. A session that is not registered yet gets no event for what follows, and reads until it would block.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.readable && !self.eof {
            match self.stream.read(buffer) {
                Ok(0) => self.eof = true,
                Ok(read) => {
                    self.readable = read == buffer.len() || self.peer_closed || !self.place.registered;
                    return Ok(read);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(0)
    }

    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            // Not cleared but dropped: an idle session owns no buffer.
            if self.input.capacity() != 0 {
                self.input = Vec::new();
            }
        } else {
            self.input.clear();
            self.input.extend_from_slice(rest);
        }
    }

    /// Writes replies; what the peer does not take is kept. `false`: something is kept.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.output.extend_from_slice(bytes);
                    return Ok(false);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    /// Writes what was kept. `true`: nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.sent != 0 {
            self.output = Vec::new();
            self.sent = 0;
        }
        Ok(true)
    }

    /// Everything is answered and written: close, but not before the peer's bytes are read.
    fn finish(&mut self, now: Instant) -> io::Result<Turn> {
        if self.eof {
            return Ok(Turn::Close(self.end()));
        }
        self.stream.shutdown_write()?;
        self.input = Vec::new();
        self.readable = true;
        self.enter(Phase::Linger, now);
        Ok(Turn::Again)
    }

    fn end(&self) -> Ended {
        if self.broken { Ended::Error } else { Ended::Finished }
    }

    fn linger(&mut self, buffers: &mut Buffers) -> io::Result<Turn> {
        // A bounded number of reads: who sends without end is cut off by the deadline, and stalls nobody meanwhile.
        for _ in 0..4 {
            self.read(&mut buffers.read[..READ])?;
            if self.eof {
                return Ok(Turn::Close(self.end()));
            }
            if !self.readable {
                return Ok(Turn::Wait);
            }
        }
        Ok(Turn::Again)
    }
}
