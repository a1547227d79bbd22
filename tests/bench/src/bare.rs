//! The yardstick: what a look-up server can't do without, and nothing else.
//!
//! One epoll loop, edge-triggered; one `recv` for an event, one `send` for all requests in it, the same
//! answer to each. An accepted connection is read before it is registered: with a connection per request
//! it mostly never needs to be. Requests are socketmap netstrings; their content is not looked at.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::protocol::CONSTANT_REPLY;

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS: usize = 1024;
/// Tokens of the listeners; connections are known by their descriptor.
const UNIX_LISTENER: u64 = u64::MAX;
const TCP_LISTENER: u64 = u64::MAX - 1;
const PEER_CLOSED: EpollFlags = EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLHUP);

/// Serves until it is killed.
pub fn serve(unix: Option<&Path>, tcp: Option<SocketAddr>) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?;
    let unix = unix
        .map(|path| UnixListener::bind(path).with_context(|| format!("cannot listen on unix:{}", path.display())))
        .transpose()?;
    let tcp = tcp
        .map(|address| TcpListener::bind(address).with_context(|| format!("cannot listen on {address}")))
        .transpose()?;
    let level = EpollFlags::EPOLLIN;
    if let Some(listener) = &unix {
        listener.set_nonblocking(true)?;
        // std listens with a backlog of 128 in some versions and the most allowed in others
        nix::sys::socket::listen(listener, nix::sys::socket::Backlog::new(4096)?)?;
        epoll.add(listener, EpollEvent::new(level, UNIX_LISTENER))?;
    }
    if let Some(listener) = &tcp {
        listener.set_nonblocking(true)?;
        nix::sys::socket::listen(listener, nix::sys::socket::Backlog::new(4096)?)?;
        epoll.add(listener, EpollEvent::new(level, TCP_LISTENER))?;
    }

    let mut connections = Connections {
        open: Vec::new(),
        buffers: Buffers { input: Box::new([0; BUFFER_BYTES]), output: Vec::with_capacity(BUFFER_BYTES) },
    };
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("epoll_wait"),
        };
        for event in &events[..count] {
            match event.data() {
                UNIX_LISTENER => {
                    accept_all(&epoll, &mut connections, || {
                        Ok(unix.as_ref().map(UnixListener::accept).transpose()?.map(|(stream, _)| stream.into()))
                    });
                }
                TCP_LISTENER => {
                    accept_all(&epoll, &mut connections, || {
                        Ok(tcp.as_ref().map(TcpListener::accept).transpose()?.map(|(stream, _)| stream.into()))
                    });
                }
                slot => connections.serve(slot as usize, event.events().intersects(PEER_CLOSED)),
            }
        }
    }
}

/// Accepts until the listener has no more; each connection is served before it is registered.
fn accept_all(epoll: &Epoll, connections: &mut Connections, accept: impl Fn() -> io::Result<Option<OwnedFd>>) {
    while let Ok(Some(socket)) = accept() {
        let mut rest = Vec::new();
        if !connections.buffers.exchange(&socket, &mut rest, true) {
            continue;
        }
        let slot = socket.as_raw_fd() as usize;
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        if epoll.add(socket.as_fd(), EpollEvent::new(flags, slot as u64)).is_ok() {
            if connections.open.len() <= slot {
                connections.open.resize_with(slot + 1, || None);
            }
            connections.open[slot] = Some((socket, rest));
        }
    }
}

struct Connections {
    /// By descriptor: the socket, and the beginning of an unfinished request.
    open: Vec<Option<(OwnedFd, Vec<u8>)>>,
    buffers: Buffers,
}

/// Shared by all connections.
struct Buffers {
    input: Box<[u8; BUFFER_BYTES]>,
    output: Vec<u8>,
}

impl Connections {
    fn serve(&mut self, slot: usize, until_end: bool) {
        let Some(entry) = self.open.get_mut(slot) else { return };
        let Some((socket, rest)) = entry else { return };
        if !self.buffers.exchange(socket, rest, until_end) {
            *entry = None;
        }
    }
}

impl Buffers {
    /// Reads, answers; `false` when the connection is over.
    ///
    /// A short read has drained the socket and the next change brings an event; with `until_end`, for a new
    /// connection or one whose peer has closed its side, the end is looked for all the same.
    fn exchange(&mut self, socket: &OwnedFd, rest: &mut Vec<u8>, until_end: bool) -> bool {
        let socket = socket.as_raw_fd();
        loop {
            let read = match recv(socket, &mut *self.input, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            };
            self.output.clear();
            let ok = if rest.is_empty() {
                answer(&self.input[..read], &mut self.output)
                    .map(|used| rest.extend_from_slice(&self.input[used..read]))
            } else {
                rest.extend_from_slice(&self.input[..read]);
                answer(rest, &mut self.output).map(|used| drop(rest.drain(..used)))
            };
            // a peer that does not read its answers is not served: this is no server for the world
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let sent = self.output.is_empty() || send(socket, &self.output, flags) == Ok(self.output.len());
            if ok.is_none() || !sent {
                return false;
            }
            if read < BUFFER_BYTES && !until_end {
                return true;
            }
        }
    }
}

/// One constant reply for each whole netstring at the front of `input`; how many bytes they were, or `None`
/// when it is no netstring.
fn answer(input: &[u8], output: &mut Vec<u8>) -> Option<usize> {
    let mut used = 0;
    while let Some(length) = netstring_length(&input[used..])? {
        output.extend_from_slice(CONSTANT_REPLY);
        used += length;
    }
    Some(used)
}

/// Bytes of the whole netstring at the front: `Some(None)` when it is not complete, `None` when it is none.
fn netstring_length(input: &[u8]) -> Option<Option<usize>> {
    let mut payload = 0;
    for (digits, &byte) in input.iter().enumerate() {
        match byte {
            b'0'..=b'9' if digits < 6 => payload = payload * 10 + usize::from(byte - b'0'),
            b':' if digits > 0 => {
                let end = digits + 1 + payload;
                return match input.get(end) {
                    Some(b',') => Some(Some(end + 1)),
                    Some(_) => None,
                    None => Some(None),
                };
            }
            _ => return None,
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_are_answered_and_the_rest_is_kept() {
        let mut output = Vec::new();
        assert_eq!(answer(b"3:abc,0:,4:ab", &mut output), Some(9));
        assert_eq!(output.len(), 2 * CONSTANT_REPLY.len());
        assert_eq!(answer(b"3:abcd", &mut output), None);
        assert_eq!(answer(b"GET / HTTP/1.1", &mut output), None);
        assert_eq!(answer(b"12", &mut output), Some(0));
    }
}
