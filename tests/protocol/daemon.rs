//! A daemon (`tests/common`) that speaks every protocol, on a UNIX and a TCP listener each, and connections to it that are
//! of either kind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::common::{self, PATIENCE};

/// What the daemon is to look like.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines of the list; `None`: the list is not there, and no data ever come.
    pub list: Option<Vec<String>>,
    /// Further maps: name and kind.
    pub maps: Vec<(String, String)>,
    /// Protocols; each gets a UNIX and a TCP listener.
    pub protocols: Vec<&'static str>,
    /// Lines of `[limits]`.
    pub limits: Vec<&'static str>,
}

impl Setup {
    fn config(&self) -> String {
        let mut config = format!(
            "[log]\ntarget = \"stderr\"\nlevel = \"debug\"\n[[source]]\nname = \"list\"\npath = \"list\"\nformat = \
             \"plain\"\n[limits]\n{}\n",
            self.limits.join("\n")
        );
        for protocol in &self.protocols {
            let _ = writeln!(config, "[[listen]]\non = \"unix:DIR/{protocol}\"\nprotocol = {protocol:?}");
            let _ = writeln!(config, "[[listen]]\non = \"127.0.0.1:0\"\nprotocol = {protocol:?}");
        }
        for (name, kind) in &self.maps {
            let _ = writeln!(config, "[[map]]\nname = {name:?}\nkind = {kind:?}");
        }
        config
    }
}

/// Which kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Unix,
    Tcp,
}

pub const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];

/// A running daemon; killed when dropped.
pub struct Daemon {
    daemon: common::Daemon,
    /// Where each protocol is spoken.
    sockets: BTreeMap<&'static str, (PathBuf, SocketAddr)>,
}

impl Daemon {
    /// Starts one and waits until it has read its list (or has found out that it can't).
    pub fn start(setup: &Setup) -> Daemon {
        let mut files = common::Setup::new();
        if let Some(lines) = &setup.list {
            files = files.file("list", lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        let daemon = files.config(&setup.config()).start();
        let sockets = setup.protocols.iter().zip(daemon.listeners().chunks(2)).map(|(protocol, pair)| {
            let path = pair[0].strip_prefix("unix:").expect("a path");
            (*protocol, (path.into(), pair[1].parse().expect("an address")))
        });
        Daemon { sockets: sockets.collect(), daemon }
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    fn try_connect(&self, transport: Transport, protocol: &str) -> io::Result<Peer> {
        let (path, address) = self.sockets.get(protocol).unwrap_or_else(|| panic!("no listener {protocol}"));
        Ok(match transport {
            Transport::Unix => Peer::Unix(common::connect_unix(path)?),
            Transport::Tcp => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Peer::Tcp(stream)
            }
        })
    }

    pub fn connect(&self, transport: Transport, protocol: &str) -> Peer {
        self.try_connect(transport, protocol)
            .unwrap_or_else(|e| panic!("{transport:?} {protocol}: {e}\n{}", self.log()))
    }

    /// A look-up on a connection of its own, to see that others are served.
    pub fn still_answers(&self) {
        let mut peer = self.connect(Transport::Unix, "auto");
        let reply = peer.exchange_to_end(b"postmaster\n").unwrap_or_else(|e| panic!("no answer: {e}\n{}", self.log()));
        assert!(reply.ends_with(b"\n"), "{}", reply.escape_ascii());
    }

    /// All metrics by name and labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut peer = self.connect(Transport::Unix, "http");
        let page = peer.exchange_to_end(b"GET /metrics HTTP/1.0\r\n\r\n").expect("the metrics page");
        let page = String::from_utf8(page).expect("text");
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        page.lines()
            .filter(|line| line.starts_with("rcptmapd_"))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }

    /// One metric; 0 if it is not there yet.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics().get(name).copied().unwrap_or(0.0) as u64
    }

    /// Waits until a metric has a value and not another. What a peer sees of its end comes before it is counted.
    pub fn settles(&self, name: &str, number: u64) {
        let until = Instant::now() + PATIENCE;
        while self.metric(name) != number {
            if Instant::now() > until {
                let metrics: Vec<String> =
                    self.metrics().iter().filter(|(_, n)| **n != 0.0).map(|(name, n)| format!("{name} {n}")).collect();
                panic!("{name} never is {number}; there are\n{}", metrics.join("\n"));
            }
            std::thread::yield_now();
        }
    }

    /// Resident memory.
    pub fn resident_bytes(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.daemon.pid())).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }
}

/// One connection of a client.
pub enum Peer {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Peer {
    /// Says that nothing more will come.
    pub fn half_close(&self) -> io::Result<()> {
        match self {
            Peer::Unix(stream) => stream.shutdown(Shutdown::Write),
            Peer::Tcp(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    pub fn set_nonblocking(&self, on: bool) {
        match self {
            Peer::Unix(stream) => stream.set_nonblocking(on),
            Peer::Tcp(stream) => stream.set_nonblocking(on),
        }
        .expect("a socket");
    }

    /// Sends, closes the sending side, and reads to the end.
    pub fn exchange_to_end(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.write_all(bytes)?;
        self.half_close()?;
        let mut reply = Vec::new();
        self.read_to_end(&mut reply)?;
        Ok(reply)
    }

    /// Drops the connection so that the other side gets a reset.
    pub fn reset(self) {
        match self {
            // a UNIX socket resets when it is closed with unread bytes; there is nothing to be set
            Peer::Unix(stream) => drop(stream),
            Peer::Tcp(stream) => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
                drop(stream);
            }
        }
    }
}

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Peer::Unix(stream) => stream.read(buffer),
            Peer::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Unix(stream) => stream.write(bytes),
            Peer::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
