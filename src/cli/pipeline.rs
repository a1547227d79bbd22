//! Asks for many keys on one connection without waiting for each answer, in order, and with bounded memory.
//!
//! A thread of its own reads keys and writes requests, in batches; this thread reads the answers. So the daemon can
//! always get rid of what it has to say, whatever waits for us to write: neither side ever waits for the other. A batch
//! is handed over before it is written, through a channel that holds one, so at most some three batches of keys are
//! under way. A batch ends when no further key is at hand, so a slow source of keys gets its answers at once.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::client::Stream;
use crate::proto::{netstring, socketmap};

/// Most keys in a batch.
const BATCH: usize = 64;
/// Longest key that is sent, as Postfix has it (`socketmap_max_query_size`); the daemon would close the connection
/// upon a longer one, and the keys behind it would get no answer.
const MAX_KEY: usize = 10_000;
/// The same on the line protocol, with the map's name.
const MAX_LINE: usize = 1_024;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Netstrings, as sendmail and Postfix write them.
    Socketmap,
    /// A line a request, as Exim and netcat write them.
    Line,
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Asking {
    /// What is spoken.
    pub dialect: Dialect,
    /// The map; `None`: on the line protocol the listener's default.
    pub map: Option<String>,
}

impl Asking {
    /// Appends a request. `false`: the key can't be sent.
    fn encode(&self, key: &[u8], out: &mut Vec<u8>) -> bool {
        let map = self.map.as_deref();
        match self.dialect {
            Dialect::Socketmap if key.len() > MAX_KEY => return false,
            Dialect::Socketmap => socketmap::encode_request(map.unwrap_or("rcpt").as_bytes(), key, out),
            Dialect::Line => {
                let name = map.map_or(0, |map| map.len() + 1);
                if name + key.len() > MAX_LINE || memchr::memchr(b'\n', key).is_some() {
                    return false;
                }
                if let Some(map) = map {
                    out.extend_from_slice(map.as_bytes());
                    out.push(b' ');
                }
                out.extend_from_slice(key);
                out.push(b'\n');
            }
        }
        true
    }

    /// Where in `input` the first reply is, and how many bytes it takes.
    fn decode(&self, input: &[u8]) -> Result<Option<(Range<usize>, usize)>, Trouble> {
        match self.dialect {
            Dialect::Socketmap => match socketmap::decode_reply(input) {
                Ok(Some((reply, used))) => Ok(Some((used - 1 - reply.len()..used - 1, used))),
                Ok(None) => Ok(None),
                Err(netstring::Error::Length) => Err(Trouble::NoNetstring),
                Err(netstring::Error::TooLong | netstring::Error::Terminator) => Err(Trouble::Garbled),
            },
            Dialect::Line => match memchr::memchr(b'\n', input) {
                Some(end) => Ok(Some((0..end, end + 1))),
                None if input.len() > socketmap::MAX_REPLY => Err(Trouble::Garbled),
                None => Ok(None),
            },
        }
    }
}

/// Why the answers end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The daemon closed.
    #[error("the daemon closed the connection; on TCP, `allow` says who may ask")]
    Closed,
    /// Nothing came in time.
    #[error("no answer in time (--timeout)")]
    Late,
    /// The answer is none.
    #[error(
        "the answer is no netstring; is this rcptmapd, and a listener that speaks socketmap? (--line asks by lines)"
    )]
    NoNetstring,
    /// The answer does not end.
    #[error("the answer can't be understood; is this rcptmapd?")]
    Garbled,
    /// The connection broke.
    #[error("{}", crate::config::reason(.0))]
    Read(io::Error),
    /// The keys can't be read.
    #[error("standard input: {}", crate::config::reason(.0))]
    Keys(io::Error),
    /// The answers can't be written.
    #[error("standard output: {}", crate::config::reason(.0))]
    Output(io::Error),
}

/// Keys that were asked, in order.
#[derive(Default)]
struct Batch {
    keys: Vec<u8>,
    /// Where each key ends, and whether it was sent.
    ends: Vec<(usize, bool)>,
    /// What ended the keys, if it was a fault.
    fault: Option<io::Error>,
}

/// Where keys come from.
pub trait Keys {
    /// The next key goes into `key`; `false`: there is none.
    fn next(&mut self, key: &mut Vec<u8>) -> io::Result<bool>;
    /// Whether the next one is there without waiting.
    fn at_hand(&self) -> bool;
}

/// Keys of the command line.
pub struct Named(std::vec::IntoIter<Vec<u8>>);

impl Named {
    /// These.
    pub fn new(keys: Vec<Vec<u8>>) -> Named {
        Named(keys.into_iter())
    }
}

impl Keys for Named {
    fn next(&mut self, key: &mut Vec<u8>) -> io::Result<bool> {
        Ok(self.0.next().map(|next| *key = next).is_some())
    }

    fn at_hand(&self) -> bool {
        self.0.len() > 0
    }
}

/// A key a line; LF or CRLF.
pub struct Lines<R>(BufReader<R>);

impl<R: Read> Lines<R> {
    /// The lines of this.
    pub fn new(input: R) -> Lines<R> {
        Lines(BufReader::with_capacity(64 * 1024, input))
    }
}

impl<R: Read> Keys for Lines<R> {
    fn next(&mut self, key: &mut Vec<u8>) -> io::Result<bool> {
        key.clear();
        if self.0.read_until(b'\n', key)? == 0 {
            return Ok(false);
        }
        if key.ends_with(b"\n") {
            key.pop();
            if key.ends_with(b"\r") {
                key.pop();
            }
        }
        Ok(true)
    }

    fn at_hand(&self) -> bool {
        memchr::memchr(b'\n', self.0.buffer()).is_some()
    }
}

/// Who wants to know.
pub trait Answers {
    /// A key and its reply.
    fn answer(&mut self, key: &[u8], reply: &[u8]) -> io::Result<()>;
    /// The next answer may take a while.
    fn pause(&mut self) -> io::Result<()>;
}

/// Asks for all keys.
pub fn ask(
    stream: Stream,
    asking: &Asking,
    keys: impl Keys + Send + 'static,
    answers: &mut impl Answers,
) -> Result<(), Trouble> {
    let (batches, inbox) = sync_channel(1);
    let (asks, writer) = (asking.clone(), stream.try_clone().map_err(Trouble::Read)?);
    // Not joined: it may wait for keys that never come, and ends with the process.
    thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || send(keys, &asks, writer, &batches))
        .map_err(Trouble::Read)?;
    receive(stream, asking, &inbox, answers)
}

fn send(mut keys: impl Keys, asking: &Asking, mut stream: Stream, batches: &SyncSender<Batch>) {
    let (mut key, mut requests) = (Vec::new(), Vec::new());
    loop {
        let mut batch = Batch::default();
        requests.clear();
        let mut more = true;
        while batch.ends.len() < BATCH {
            match keys.next(&mut key) {
                Ok(true) => {
                    let sent = asking.encode(&key, &mut requests);
                    batch.keys.extend_from_slice(&key);
                    batch.ends.push((batch.keys.len(), sent));
                }
                Ok(false) => more = false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    batch.fault = Some(e);
                    more = false;
                }
            }
            if !more || !keys.at_hand() {
                break;
            }
        }
        // Without the receiver nobody wants to know any more; when the daemon has closed, the receiver finds out.
        if batches.send(batch).is_err() || stream.write_all(&requests).is_err() {
            return;
        }
        if !more {
            if asking.dialect == Dialect::Line {
                // As Exim does. It also ends the last answer of a daemon that waits for more.
                let _ = stream.shutdown_write();
            }
            return;
        }
    }
}

fn receive(
    stream: Stream,
    asking: &Asking,
    batches: &Receiver<Batch>,
    answers: &mut impl Answers,
) -> Result<(), Trouble> {
    let mut replies = Replies { stream, input: Vec::new(), used: 0 };
    while let Ok(batch) = batches.recv() {
        let mut start = 0;
        for (end, sent) in batch.ends {
            let key = batch.keys.get(start..end).unwrap_or_default();
            start = end;
            let reply = if sent { replies.next(asking)? } else { b"TEMP key too long, or with a line end: not asked" };
            answers.answer(key, reply).map_err(Trouble::Output)?;
        }
        answers.pause().map_err(Trouble::Output)?;
        if let Some(fault) = batch.fault {
            return Err(Trouble::Keys(fault));
        }
    }
    Ok(())
}

/// Replies as they come in.
struct Replies {
    stream: Stream,
    input: Vec<u8>,
    used: usize,
}

impl Replies {
    fn next(&mut self, asking: &Asking) -> Result<&[u8], Trouble> {
        loop {
            let rest = self.input.get(self.used..).unwrap_or_default();
            if let Some((reply, used)) = asking.decode(rest)? {
                let reply = self.used + reply.start..self.used + reply.end;
                self.used += used;
                return Ok(self.input.get(reply).unwrap_or_default());
            }
            self.input.drain(..self.used);
            self.used = 0;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(read) => self.input.extend_from_slice(chunk.get(..read).unwrap_or_default()),
                Err(e) => match e.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(Trouble::Late),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => return Err(Trouble::Closed),
                    _ => return Err(Trouble::Read(e)),
                },
            }
        }
    }
}
