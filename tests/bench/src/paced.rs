//! Open-loop load: a fixed number of requests a second, sent when they are due, answered or not.
//!
//! Each latency counts from the moment its request was *due*. A server that stalls is charged for all that
//! should have been asked meanwhile: nothing is left out because nobody was asking (coordinated omission).
//!
//! With a [`Reload`] the daemon gets SIGHUP on the way, and one more connection asks every 20 ms for a marker
//! that only the new list has: its first `OK` ends the reload.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, recv};

use crate::endpoint::{PATIENCE, Stream};
use crate::load::{Connection, Progress, Target};
use crate::recipients::Questions;

/// How requests are spread.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Requests a second, over all connections.
    pub rate: u32,
    /// Connections, asked in turn.
    pub connections: usize,
    /// How long; with a reload: how long before it, and half as long after it.
    pub duration: Duration,
    /// Never sleep: for a load generator with a core of its own.
    pub spin: bool,
}

/// A reload on the way.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Request for a key that only the new list has.
    pub marker_request: Vec<u8>,
    /// Beginning of the reply once the new list is in force.
    pub marker_reply: Vec<u8>,
    /// Give up after this long.
    pub patience: Duration,
}

/// Latencies in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// The latency that `quantile` of all requests did not exceed, in microseconds.
    pub fn quantile_us(&mut self, quantile: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        self.0.sort_unstable();
        let rank = (self.0.len() as f64 * quantile).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1] as f64 / 1000.0
    }

    /// Adds what another round measured.
    pub fn extend(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    /// Number of requests.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// What a paced stretch came to.
#[derive(Clone, Debug, Default)]
pub struct Paced {
    /// Without a reload, or before it.
    pub quiet: Latencies,
    /// Requests due while the reload ran.
    pub during: Latencies,
    /// From the signal to the first answer out of the new list.
    pub reload: Option<Duration>,
}

struct Lane {
    connection: Connection,
    /// When each outstanding request was due, and the bytes of its reply.
    due: VecDeque<(Instant, usize)>,
    /// Bytes received of the oldest outstanding reply.
    received: usize,
}

/// Asks at `pace`; every reply is checked.
pub fn paced(target: &Target, seed: u64, pace: Pace, reload: Option<&Reload>) -> Result<Paced> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?;
    let mut lanes = (0..pace.connections)
        .map(|token| {
            let connection = Connection::open(&target.endpoint, &epoll, token as u64)?;
            Ok(Lane { connection, due: VecDeque::new(), received: 0 })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut questions = Questions::new(target.recipients, seed);
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 64 * 1024];
    let mut result = Paced::default();
    let interval = Duration::from_secs(1) / pace.rate.max(1);
    let begin = Instant::now();
    let mut watch = reload.map(|reload| Watch::new(reload, begin + pace.duration, target, &epoll)).transpose()?;
    let mut next_due = begin;
    let mut lane_number = 0;
    let mut outstanding = 0;
    let mut last_answer = begin;

    loop {
        let now = Instant::now();
        let end = match &watch {
            None => Some(begin + pace.duration),
            Some(watch) => watch.finished.map(|finished| finished + pace.duration / 2),
        };
        let over = end.is_some_and(|end| next_due >= end);
        if over && outstanding == 0 {
            break;
        }
        while !over && next_due <= now {
            let lane = &mut lanes[lane_number];
            lane_number = (lane_number + 1) % pace.connections;
            let reply_bytes = lane.connection.ask(target.protocol, &mut questions);
            lane.due.push_back((next_due, reply_bytes));
            lane.connection.flush()?;
            outstanding += 1;
            next_due += interval;
            if end.is_some_and(|end| next_due >= end) {
                break;
            }
        }
        if let Some(watch) = &mut watch {
            watch.turn(target, now)?;
        }
        let timeout = if pace.spin {
            EpollTimeout::ZERO
        } else {
            EpollTimeout::from(u8::from(over || next_due > now + Duration::from_millis(1)))
        };
        let count = match epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        if count == 0 && outstanding > 0 {
            ensure!(last_answer.elapsed() < PATIENCE, "no reply within {PATIENCE:?}, {outstanding} requests wait");
        }
        for event in &events[..count] {
            if event.data() == WATCH {
                watch.as_mut().map_or(Ok(()), Watch::read)?;
                continue;
            }
            let lane = &mut lanes[event.data() as usize];
            let mut bytes = lane.connection.receive(&mut buffer)?;
            let answered = Instant::now();
            last_answer = answered;
            while let Some(&(due, reply_bytes)) = lane.due.front() {
                if lane.received + bytes < reply_bytes {
                    lane.received += bytes;
                    break;
                }
                bytes -= reply_bytes - lane.received;
                lane.received = 0;
                lane.due.pop_front();
                outstanding -= 1;
                let latency = answered.duration_since(due).as_nanos() as u64;
                match watch.as_ref().map_or(Phase::Quiet, |watch| watch.phase(due)) {
                    Phase::Quiet => result.quiet.0.push(latency),
                    Phase::During => result.during.0.push(latency),
                }
            }
            if lane.connection.progress() == Progress::Waiting {
                lane.connection.flush()?;
            }
        }
    }
    result.reload = watch.and_then(|watch| Some(watch.finished? - watch.signalled?));
    Ok(result)
}

enum Phase {
    Quiet,
    During,
}

/// Token of the marker's connection.
const WATCH: u64 = u64::MAX;
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Sends the signal when it is time and looks for the marker afterwards.
struct Watch<'a> {
    reload: &'a Reload,
    stream: Stream,
    signal_at: Instant,
    signalled: Option<Instant>,
    finished: Option<Instant>,
    /// When the marker was asked for last; `None` while no reply is owed.
    asked: Option<Instant>,
    ask_at: Instant,
}

impl<'a> Watch<'a> {
    fn new(reload: &'a Reload, signal_at: Instant, target: &Target, epoll: &Epoll) -> Result<Self> {
        let stream = target.endpoint.connect().context("cannot connect")?;
        epoll.add(stream.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, WATCH))?;
        Ok(Watch { reload, stream, signal_at, signalled: None, finished: None, asked: None, ask_at: signal_at })
    }

    fn turn(&mut self, target: &Target, now: Instant) -> Result<()> {
        if self.finished.is_some() || now < self.signal_at {
            return Ok(());
        }
        let Some(signalled) = self.signalled else {
            kill(target.pid, Signal::SIGHUP).context("cannot send SIGHUP")?;
            self.signalled = Some(now);
            return Ok(());
        };
        if now > signalled + self.reload.patience {
            bail!("SIGHUP {:?} ago and still the old answers: see the daemon's log", now - signalled);
        }
        if self.asked.is_none() && now >= self.ask_at {
            self.stream.write_all(&self.reload.marker_request).context("cannot ask for the marker")?;
            self.asked = Some(now);
            self.ask_at = now + WATCH_INTERVAL;
        }
        Ok(())
    }

    /// The reply is short: it comes in one piece.
    fn read(&mut self) -> Result<()> {
        let mut reply = [0; 256];
        match recv(self.stream.as_fd().as_raw_fd(), &mut reply, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error).context("cannot read about the marker"),
            Ok(0) => bail!("the daemon closed a connection during the reload"),
            Ok(_) => {}
        }
        self.asked = None;
        if reply.starts_with(&self.reload.marker_reply) {
            self.finished = Some(Instant::now());
        }
        Ok(())
    }

    fn phase(&self, due: Instant) -> Phase {
        match self.signalled {
            Some(signalled) if due >= signalled && self.finished.is_none_or(|finished| due < finished) => Phase::During,
            _ => Phase::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let mut latencies = Latencies((1..=1000).rev().map(|n| n * 1000).collect());
        assert_eq!(latencies.quantile_us(0.5), 500.0);
        assert_eq!(latencies.quantile_us(0.99), 990.0);
        assert_eq!(latencies.quantile_us(0.999), 999.0);
    }
}
