//! The load: connections that ask, and check every reply against the truth.
//!
//! Three shapes. [`closed`]: each connection sends `pipeline` requests in one write, waits for all replies,
//! sends the next. [`one_shot`]: a connection for each request, as Exim does. [`paced`] in its own file: so
//! many a second, whatever the server does. A wrong byte in a reply ends the measurement with an error.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::Pid;

use crate::endpoint::{Endpoint, PATIENCE, Stream};
use crate::process;
use crate::protocol::Protocol;
use crate::recipients::{Questions, Recipients};

/// Whom to ask, in which words, and whose CPU time it costs.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What it speaks.
    pub protocol: Protocol,
    /// The process that answers.
    pub pid: Pid,
    /// What it was loaded with.
    pub recipients: Recipients,
}

/// What a stretch of load came to.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Look-ups asked, answered and found right.
    pub lookups: u64,
    /// CPU time the server took for them.
    pub cpu: Duration,
    /// Time by the clock.
    pub wall: Duration,
}

impl Slice {
    /// CPU microseconds a look-up.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.lookups.max(1) as f64
    }
}

/// When a closed loop ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After this long; a quarter of it runs before, unmeasured.
    Elapsed(Duration),
    /// After this many look-ups, nothing before.
    Lookups(u64),
}

/// One connection and what is still to come on it.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    request: Vec<u8>,
    sent: usize,
    expected: Vec<u8>,
    matched: usize,
    /// What the protocol begins with has been said.
    begun: bool,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All that was asked has been answered.
    Answered,
    /// More is to come.
    Waiting,
}

impl Connection {
    /// Connects and registers for events under `token`.
    pub fn open(endpoint: &Endpoint, epoll: &Epoll, token: u64) -> Result<Self> {
        let stream = endpoint.connect().with_context(|| format!("cannot connect to {endpoint}"))?;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        epoll.add(stream.as_fd(), EpollEvent::new(flags, token)).context("epoll_ctl")?;
        Ok(Connection { stream, request: Vec::new(), sent: 0, expected: Vec::new(), matched: 0, begun: false })
    }

    /// Adds one question to what the next [`flush`](Self::flush) sends; gives the bytes of its reply.
    pub fn ask(&mut self, protocol: Protocol, questions: &mut Questions) -> usize {
        if self.matched == self.expected.len() {
            self.expected.clear();
            self.matched = 0;
        }
        let before = self.expected.len();
        if !std::mem::replace(&mut self.begun, true) {
            protocol.open(&mut self.request, &mut self.expected);
        }
        protocol.push(questions.draw(), &mut self.request, &mut self.expected);
        self.expected.len() - before
    }

    /// Sends what the socket takes; the rest stays for the next call.
    pub fn flush(&mut self) -> Result<()> {
        while self.sent < self.request.len() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.stream.as_fd().as_raw_fd(), &self.request[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error).context("the server closed the connection while we asked"),
            }
        }
        self.request.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads once and checks every byte; how many came.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = match recv(self.stream.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => bail!("the server closed the connection before all was answered"),
            Ok(count) => count,
            Err(Errno::EAGAIN) => return Ok(0),
            Err(error) => return Err(error).context("cannot read the reply"),
        };
        let outstanding = &self.expected[self.matched..];
        if outstanding.get(..count) != Some(&buffer[..count]) {
            bail!(
                "WRONG ANSWER: got {:?}, the truth is {:?}",
                String::from_utf8_lossy(&buffer[..count]),
                String::from_utf8_lossy(&outstanding[..outstanding.len().min(count.max(80))])
            );
        }
        self.matched += count;
        Ok(count)
    }

    /// Whether replies are still owed.
    pub fn progress(&self) -> Progress {
        if self.matched == self.expected.len() { Progress::Answered } else { Progress::Waiting }
    }
}

/// `connections` of them, each with `pipeline` requests at a time.
pub fn closed(target: &Target, seed: u64, connections: usize, pipeline: usize, until: Until) -> Result<Slice> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?;
    let mut open = (0..connections)
        .map(|token| Connection::open(&target.endpoint, &epoll, token as u64))
        .collect::<Result<Vec<_>>>()?;
    let mut questions = Questions::new(target.recipients, seed);
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut buffer = vec![0; 64 * 1024];

    let begin = Instant::now();
    let (warm_up, end) = match until {
        Until::Elapsed(time) => (time / 4, Some(begin + time / 4 + time)),
        Until::Lookups(_) => (Duration::ZERO, None),
    };
    let mut started = None;
    let (mut lookups, mut waiting) = (0, 0);
    for connection in &mut open {
        for _ in 0..pipeline {
            connection.ask(target.protocol, &mut questions);
        }
        connection.flush()?;
        waiting += 1;
    }
    loop {
        let now = Instant::now();
        if started.is_none() && now >= begin + warm_up {
            lookups = 0;
            started = Some((now, process::cpu_time(target.pid)?));
        }
        let go_on = match until {
            Until::Elapsed(_) => end.is_some_and(|end| now < end),
            Until::Lookups(most) => lookups < most,
        };
        if waiting == 0 {
            break;
        }
        let timeout = EpollTimeout::try_from(PATIENCE).context("timeout")?;
        let count = match epoll.wait(&mut events, timeout) {
            Ok(0) => bail!("no reply within {PATIENCE:?}, {waiting} connections wait"),
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..count] {
            let connection = &mut open[event.data() as usize];
            connection.receive(&mut buffer)?;
            if connection.progress() == Progress::Waiting {
                continue;
            }
            lookups += pipeline as u64;
            if go_on {
                for _ in 0..pipeline {
                    connection.ask(target.protocol, &mut questions);
                }
                connection.flush()?;
            } else {
                waiting -= 1;
            }
        }
    }
    let (wall_start, cpu_start) = started.context("too short to measure")?;
    Ok(Slice { lookups, cpu: process::cpu_time(target.pid)? - cpu_start, wall: wall_start.elapsed() })
}

/// `lookups` requests, each on a connection of its own: connect, write, close our side, read to the end.
/// `concurrent` of them are under way at a time.
pub fn one_shot(target: &Target, seed: u64, concurrent: usize, lookups: u64) -> Result<Slice> {
    let mut questions = Questions::new(target.recipients, seed);
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let mut under_way: Vec<(Stream, Vec<u8>)> = Vec::with_capacity(concurrent);
    let cpu_start = process::cpu_time(target.pid)?;
    let begin = Instant::now();
    let mut done = 0;
    while done < lookups {
        for _ in 0..concurrent {
            let mut stream = target.endpoint.connect().context("cannot connect")?;
            request.clear();
            let mut expected = Vec::new();
            target.protocol.push(questions.draw(), &mut request, &mut expected);
            stream.write_all(&request).context("cannot ask")?;
            stream.shutdown_write().context("cannot close our side")?;
            under_way.push((stream, expected));
        }
        for (mut stream, expected) in under_way.drain(..) {
            reply.clear();
            stream.read_to_end(&mut reply).context("cannot read the reply to its end")?;
            ensure!(
                reply == expected,
                "WRONG ANSWER: got {:?}, the truth is {:?}",
                String::from_utf8_lossy(&reply),
                String::from_utf8_lossy(&expected)
            );
            done += 1;
        }
    }
    Ok(Slice { lookups: done, cpu: process::cpu_time(target.pid)? - cpu_start, wall: begin.elapsed() })
}

/// Connections that have asked once and now say nothing; closed when dropped.
#[derive(Debug)]
pub struct Idle {
    _streams: Vec<Stream>,
}

impl Idle {
    /// Opens `count` of them, one after the other.
    pub fn open(target: &Target, count: usize) -> Result<Self> {
        let mut questions = Questions::new(target.recipients, 1);
        let (mut request, mut expected, mut reply) = (Vec::new(), Vec::new(), Vec::new());
        let mut streams = Vec::with_capacity(count);
        for opened in 0..count {
            let mut stream = target
                .endpoint
                .connect()
                .with_context(|| format!("cannot open idle connection {opened} of {count} (ulimit -n?)"))?;
            request.clear();
            expected.clear();
            target.protocol.push(questions.draw(), &mut request, &mut expected);
            reply.resize(expected.len(), 0);
            stream.write_all(&request).and_then(|()| stream.read_exact(&mut reply)).with_context(|| {
                format!("idle connection {opened} of {count} was not answered (a limit of the server?)")
            })?;
            ensure!(reply == expected, "WRONG ANSWER: got {:?}", String::from_utf8_lossy(&reply));
            streams.push(stream);
        }
        Ok(Idle { _streams: streams })
    }
}

/// Asks one thing on a new connection; the whole reply as far as it came in one read.
pub fn ask_once(endpoint: &Endpoint, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = endpoint.connect()?;
    stream.write_all(request)?;
    let mut reply = vec![0; 4096];
    let count = stream.read(&mut reply)?;
    reply.truncate(count);
    Ok(reply)
}
