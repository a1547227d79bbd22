//! A listening socket, and what was agreed on it.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::stream::Stream;
use crate::config::{Endpoint, Listen, ListenProtocol};
use crate::sys;

/// How long a listener rests when the system has no descriptors or no memory for another connection. The connections
/// wait in the kernel meanwhile.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What holds for the sessions of a listener.
#[derive(Debug)]
pub struct Front {
    /// What is spoken there.
    pub protocol: ListenProtocol,
    /// The map of a request that names none.
    pub default_map: Box<str>,
    /// Commands are taken there, too: the control socket.
    pub control: bool,
    allow: Vec<IpNet>,
}

impl Front {
    /// What the configuration says of a listener.
    pub fn new(listen: &Listen) -> Front {
        Front {
            protocol: listen.protocol,
            default_map: listen.default_map.as_str().into(),
            control: false,
            allow: listen.allow.clone(),
        }
    }

    /// The control socket: pages, and commands.
    pub fn control() -> Front {
        Front { protocol: ListenProtocol::Http, default_map: "".into(), control: true, allow: Vec::new() }
    }

    /// Whether a peer may ask. Who can open a UNIX socket may.
    pub fn allows(&self, peer: Option<IpAddr>) -> bool {
        match peer.map(|peer| peer.to_canonical()) {
            Some(peer) => self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&peer)),
            None => true,
        }
    }
}

enum Socket {
    Tcp(mio::net::TcpListener),
    Unix(mio::net::UnixListener),
}

/// A listening socket in the loop.
pub struct Listener {
    socket: Socket,
    bound: sys::Bound,
    /// What holds for its sessions.
    pub front: Rc<Front>,
    /// The configuration that it was bound for; `None` for the control socket.
    pub listen: Option<Listen>,
    /// It rests until then.
    pub paused: Option<Instant>,
    /// There may be more to accept.
    pub ready: bool,
}

/// What accepting brought.
pub enum Accepted {
    /// A connection.
    Session(Stream, Option<IpAddr>),
    /// A connection that was gone before we took it.
    Gone,
    /// Nothing more for now.
    Nothing,
    /// The system has no descriptor or memory for it.
    Exhausted(io::Error),
}

impl Listener {
    /// Takes a bound socket into the loop.
    pub fn new(bound: sys::Bound, front: Front, listen: Option<Listen>) -> io::Result<Listener> {
        let socket = match &bound.listener {
            sys::Listener::Tcp(socket) => Socket::Tcp(mio::net::TcpListener::from_std(socket.try_clone()?)),
            sys::Listener::Unix(socket) => Socket::Unix(mio::net::UnixListener::from_std(socket.try_clone()?)),
        };
        Ok(Listener { socket, bound, front: Rc::new(front), listen, paused: None, ready: false })
    }

    /// Where it listens: with the port that the system chose.
    pub fn endpoint(&self) -> &Endpoint {
        &self.bound.endpoint
    }

    /// Accepts one connection.
    pub fn accept(&self) -> Accepted {
        let accepted = match &self.socket {
            Socket::Tcp(socket) => socket.accept().map(|(stream, peer)| (Stream::Tcp(stream), Some(peer.ip()))),
            Socket::Unix(socket) => socket.accept().map(|(stream, _)| (Stream::Unix(stream), None)),
        };
        match accepted {
            Ok((stream, peer)) => Accepted::Session(stream, peer.map(|peer| peer.to_canonical())),
            Err(e) => match (e.kind(), e.raw_os_error()) {
                (ErrorKind::WouldBlock, _) => Accepted::Nothing,
                (_, Some(errno)) if is_exhaustion(errno) => Accepted::Exhausted(e),
                // The connection was reset while it waited, or a network error of its own: accept(2).
                _ => Accepted::Gone,
            },
        }
    }

    /// Registers it.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.source().register(registry, token, Interest::READABLE)
    }

    /// Takes it out of the poll.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }

    fn source(&mut self) -> &mut dyn Source {
        match &mut self.socket {
            Socket::Tcp(socket) => socket,
            Socket::Unix(socket) => socket,
        }
    }
}

/// Errors of accept(2) that say something about us, not about the connection.
fn is_exhaustion(errno: i32) -> bool {
    use nix::errno::Errno;
    matches!(Errno::from_raw(errno), Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_let_in_by_network() {
        let mut listen = Listen::new("127.0.0.1:0".parse().expect("an endpoint"));
        listen.allow = vec!["192.0.2.0/24".parse().expect("a network"), "2001:db8::/32".parse().expect("a network")];
        let front = Front::new(&listen);
        let allows = |peer: &str| front.allows(Some(peer.parse().expect("an address")));
        assert!(allows("192.0.2.7") && allows("2001:db8::1") && allows("::ffff:192.0.2.7"));
        assert!(!allows("198.51.100.1") && !allows("2001:db9::1") && !allows("127.0.0.1"));
        assert!(front.allows(None));
        listen.allow.clear();
        assert!(Front::new(&listen).allows(Some("198.51.100.1".parse().expect("an address"))));
    }

    #[test]
    fn want_of_descriptors_is_ours_and_a_reset_is_not() {
        for (errno, ours) in [(24, true), (23, true), (105, true), (12, true), (103, false), (71, false)] {
            assert_eq!(is_exhaustion(errno), ours, "{errno}");
        }
    }
}
