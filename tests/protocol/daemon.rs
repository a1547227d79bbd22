//! A daemon of our own for every test: a folder, a configuration, a process, and connections to it over both kinds of
//! sockets. Nothing here waits for a time to pass; reads have a limit only so that a fault ends in a message.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

/// Which kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Unix,
    Tcp,
}

pub const TRANSPORTS: [Transport; 2] = [Transport::Unix, Transport::Tcp];

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    ports: BTreeMap<&'static str, u16>,
}

impl Daemon {
    /// Starts one and waits until it has read its list (or has found out that it can't).
    pub fn start(setup: &Setup) -> Daemon {
        for _ in 0..10 {
            if let Some(daemon) = Daemon::try_start(setup) {
                return daemon;
            }
        }
        panic!("no free ports in ten attempts");
    }

    /// `None`: somebody else has taken a port meanwhile.
    fn try_start(setup: &Setup) -> Option<Daemon> {
        let dir = tempfile::tempdir().expect("a folder");
        // all at once, so that they differ
        let free: Vec<TcpListener> =
            setup.protocols.iter().map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: BTreeMap<&'static str, u16> = setup
            .protocols
            .iter()
            .zip(&free)
            .map(|(protocol, listener)| (*protocol, listener.local_addr().expect("an address").port()))
            .collect();
        drop(free);

        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut config = String::from(
            "user = \"\"\nstate_dir = \"\"\ncontrol = \"\"\n[log]\ntarget = \"stderr\"\nlevel = \"debug\"\n",
        );
        if let Some(lines) = &setup.list {
            fs::write(path("list"), lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("a list");
        }
        let _ = writeln!(config, "[[source]]\nname = \"list\"\npath = {:?}\nformat = \"plain\"", path("list"));
        let _ = writeln!(config, "[limits]\n{}", setup.limits.join("\n"));
        for (protocol, port) in &ports {
            let socket = path(protocol);
            let _ = writeln!(config, "[[listen]]\non = \"unix:{socket}\"\nprotocol = {protocol:?}");
            let _ = writeln!(config, "[[listen]]\non = \"127.0.0.1:{port}\"\nprotocol = {protocol:?}");
        }
        for (name, kind) in &setup.maps {
            let _ = writeln!(config, "[[map]]\nname = {name:?}\nkind = {kind:?}");
        }
        fs::write(path("rcptmapd.toml"), &config).expect("a configuration");

        let log = fs::File::create(path("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_rcptmapd"))
            .args(["serve", "-c", &path("rcptmapd.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        let mut daemon = Daemon { child, dir, ports };
        let until = Instant::now() + PATIENCE;
        while !daemon.is_ready() {
            if let Some(status) = daemon.child.try_wait().expect("a child") {
                let log = daemon.log();
                if log.contains("in use") {
                    return None;
                }
                panic!("the daemon ended with {status}:\n{config}\n{log}");
            }
            assert!(Instant::now() < until, "the daemon is never ready:\n{}", daemon.log());
            std::thread::yield_now();
        }
        Some(daemon)
    }

    /// Whether the first load has ended, well or not.
    fn is_ready(&self) -> bool {
        let Ok(mut peer) = self.try_connect(Transport::Unix, "http") else { return false };
        let Ok(status) = peer.exchange_to_end(b"GET /status HTTP/1.0\r\n\r\n") else { return false };
        let status = String::from_utf8_lossy(&status).into_owned();
        status.starts_with("HTTP/1.1 200") && !status.contains("\"state\":\"loading\"")
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn socket(&self, protocol: &str) -> PathBuf {
        self.dir.path().join(protocol)
    }

    fn try_connect(&self, transport: Transport, protocol: &str) -> io::Result<Peer> {
        Ok(match transport {
            Transport::Unix => {
                let stream = UnixStream::connect(self.socket(protocol))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Peer::Unix(stream)
            }
            Transport::Tcp => {
                let port = self.ports.get(protocol).copied().unwrap_or_else(|| panic!("no listener {protocol}"));
                let stream = TcpStream::connect(("127.0.0.1", port))?;
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
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap_or_default();
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("the daemon's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
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
