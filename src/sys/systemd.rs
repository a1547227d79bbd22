//! systemd: sockets that it hands over (sd_listen_fds(3)) and what it wants to be told (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt};
use sd_notify::NotifyState;

use super::{Listener, SysError};
use crate::config::{Endpoint, reason};

/// Sockets that systemd opened for us.
#[derive(Debug, Default)]
pub struct Activated {
    sockets: Vec<(String, Option<Listener>)>,
}

impl Activated {
    /// Takes the sockets that are meant for this process. To be called first, while there is one thread, and once: the
    /// variables are gone afterwards.
    pub fn from_env() -> Result<Activated, SysError> {
        // listenfd takes sockets without LISTEN_PID, too; but then they may be meant for our parent
        let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()));
        if !ours {
            return Ok(Activated::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..fds.len() {
            let name = names.next().filter(|n| !n.is_empty()).unwrap_or("unknown").to_owned();
            let listener = take(&mut fds, index).map_err(|what| SysError::Activation {
                name: name.clone(),
                fd: index + 3,
                what,
            })?;
            sockets.push((name, Some(listener)));
        }
        Ok(Activated { sockets })
    }

    /// The sockets for an endpoint that were not taken yet: `fd:NAME` by name, all others by their address.
    pub fn take(&mut self, endpoint: &Endpoint) -> Vec<Listener> {
        let wanted = |name: &str, listener: &Listener| match endpoint {
            Endpoint::Fd(wanted) => wanted == name,
            Endpoint::Host(host, port) => (host.as_str(), *port)
                .to_socket_addrs()
                .is_ok_and(|addrs| addrs.into_iter().any(|a| listener.endpoint() == Some(Endpoint::Tcp(a)))),
            endpoint => listener.endpoint().as_ref() == Some(endpoint),
        };
        let sockets = self.sockets.iter_mut();
        sockets.filter_map(|(name, s)| s.take_if(|listener| wanted(name, listener))).collect()
    }

    /// The names of those that nobody took: a warning is due.
    pub fn left(&self) -> Vec<&str> {
        self.sockets.iter().filter(|(_, s)| s.is_some()).map(|(name, _)| name.as_str()).collect()
    }

    /// The names of all.
    pub fn names(&self) -> Vec<&str> {
        self.sockets.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn take(fds: &mut ListenFd, index: usize) -> Result<Listener, String> {
    let listener = match fds.take_unix_listener(index) {
        Ok(Some(socket)) => Listener::Unix(socket),
        _ => match fds.take_tcp_listener(index) {
            Ok(Some(socket)) => Listener::Tcp(socket),
            _ => return Err("it is no stream socket: the socket unit needs ListenStream=".into()),
        },
    };
    if !getsockopt(&listener, sockopt::AcceptConn).unwrap_or(false) {
        return Err("it does not listen: the socket unit needs Accept=no".into());
    }
    if let Listener::Tcp(socket) = &listener {
        // accepted connections inherit it; a socket unit would have to say NoDelay=yes
        let _ = socket2::SockRef::from(socket).set_tcp_nodelay(true);
    }
    listener.set_nonblocking(true).map_err(|e| reason(&e))?;
    Ok(listener)
}

/// The line to systemd. Without one, everything is done and nothing said; an error is never one of ours.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says. After [`super::daemonise`]: the watchdog is for a process by its number.
    pub fn from_env() -> Notify {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|path| Notify::connect(&path));
        let watchdog = sd_notify::watchdog_enabled().filter(|_| socket.is_some());
        Notify { socket, watchdog }
    }

    /// To a socket of that name; `@` is the abstract namespace (the sd-notify crate takes it for a file).
    fn connect(path: &OsStr) -> Option<UnixDatagram> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(path),
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?; // the loop sends, and must not wait
        socket.connect_addr(&address.ok()?).ok()?;
        Some(socket)
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if let Some(socket) = &self.socket {
            let lines: Vec<String> = states.iter().map(NotifyState::to_string).collect();
            let _ = socket.send(lines.join("\n").as_bytes());
        }
    }

    /// Whether somebody listens.
    pub fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Loaded and listening; also the end of a reload, whether it went well or not.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// A reload begins. One datagram with the time, or `Type=notify-reload` does not know which reload is meant.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// The end begins.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// A line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// A start or an end that takes longer: give us this much more, from now on.
    pub fn extend_timeout(&self, time: Duration) {
        let usec = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.send(&[NotifyState::ExtendTimeoutUsec(usec)]);
    }

    /// We are alive: from the loop itself, so that a loop that hangs is noticed.
    pub fn watchdog(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    /// How often [`Notify::watchdog`] is to be called: twice in the time that systemd waits.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog.map(|time| time / 2)
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The socket's own address.
impl Listener {
    /// Where it listens; `None` for what has no name.
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self {
            Listener::Unix(socket) => local_unix(socket),
            Listener::Tcp(socket) => local_tcp(socket),
        }
    }
}

fn local_unix(socket: &UnixListener) -> Option<Endpoint> {
    socket.local_addr().ok()?.as_pathname().map(|p| Endpoint::Unix(p.to_path_buf()))
}

fn local_tcp(socket: &TcpListener) -> Option<Endpoint> {
    socket.local_addr().ok().map(Endpoint::Tcp)
}

impl AsFd for Listener {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Listener::Unix(socket) => socket.as_fd(),
            Listener::Tcp(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(abstract_name: bool) -> (UnixDatagram, Notify, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let name = if abstract_name {
            format!("@rcptmapd-test-{}", std::process::id())
        } else {
            folder.path().join("notify").display().to_string()
        };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        let systemd = UnixDatagram::bind_addr(&address.expect("an address")).expect("a socket");
        systemd.set_nonblocking(true).expect("not blocking");
        let notify = Notify { socket: Notify::connect(OsStr::new(&name)), watchdog: Some(Duration::from_secs(30)) };
        assert!(notify.is_connected());
        (systemd, notify, folder)
    }

    fn read(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let len = socket.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    #[test]
    fn everything_is_said_in_one_datagram_each() {
        for abstract_name in [false, true] {
            let (systemd, notify, _folder) = pair(abstract_name);
            notify.ready("serving 5 recipients\nREADY=0");
            assert_eq!(read(&systemd), "READY=1\nSTATUS=serving 5 recipients READY=0");
            let monotonic = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("a clock");
            let before = monotonic();
            notify.reloading();
            let text = read(&systemd);
            let usec = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|n| n.parse::<i64>().ok());
            let usec = usec.unwrap_or_else(|| panic!("{text}"));
            let micros = |t: nix::sys::time::TimeSpec| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1_000;
            assert!((micros(before)..=micros(monotonic())).contains(&usec), "{text}");
            notify.stopping();
            notify.watchdog();
            notify.extend_timeout(Duration::from_secs(30));
            notify.status("loading");
            let rest: Vec<String> = (0..4).map(|_| read(&systemd)).collect();
            assert_eq!(rest, ["STOPPING=1", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=loading"]);
            assert_eq!(notify.watchdog_every(), Some(Duration::from_secs(15)));
        }
    }

    #[test]
    fn a_systemd_that_does_not_read_does_not_block_us() {
        let (_systemd, notify, _folder) = pair(false);
        (0..5000).for_each(|_| notify.watchdog());
    }

    #[test]
    fn without_systemd_nothing_happens() {
        let notify = Notify::default();
        notify.ready("x");
        assert!(!notify.is_connected() && notify.watchdog_every().is_none());
        assert!(Notify::connect(OsStr::new("/nonexistent")).is_none() && Notify::connect(OsStr::new("")).is_none());
    }
}
