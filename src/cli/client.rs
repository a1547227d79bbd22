//! Talking to a running daemon, one blocking connection at a time: HTTP for its pages and commands; what an MTA would
//! say is in `pipeline.rs`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::settings::{Settings, absolute};
use super::{Failure, exit};
use crate::config::{DEFAULT_CONTROL, DEFAULT_LISTEN, Endpoint, Listen, ListenProtocol, reason};
use crate::proto::http;
use crate::reload::quoted;

/// Longest body of a page: the status of a thousand sources with all their bad lines is less.
const MAX_BODY: usize = 64 << 20;
/// How long a page may take.
pub const PAGE_PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// UNIX.
    Unix(UnixStream),
}

impl Stream {
    /// Another handle of the same connection.
    pub fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
        }
    }

    /// Says that nothing more will come.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// How long a read may wait.
    pub fn set_read_timeout(&self, patience: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(patience)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(patience)),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connects to where a daemon listens.
pub fn connect(endpoint: &Endpoint, patience: Duration) -> Result<Stream, Failure> {
    // A time of nothing would be refused by the system.
    let patience = patience.max(Duration::from_millis(1));
    let stream = open(endpoint, patience).map_err(|e| no_daemon(endpoint, &e, patience))?;
    stream.set_read_timeout(patience).map_err(|e| no_daemon(endpoint, &e, patience))?;
    Ok(stream)
}

/// The same; what the system says of it.
pub fn open(endpoint: &Endpoint, patience: Duration) -> io::Result<Stream> {
    match endpoint {
        Endpoint::Unix(path) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.connect_timeout(&SockAddr::unix(path)?, patience)?;
            Ok(Stream::Unix(OwnedFd::from(socket).into()))
        }
        Endpoint::Tcp(address) => tcp(*address, patience),
        Endpoint::Host(host, port) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in (host.as_str(), *port).to_socket_addrs()? {
                match tcp(address, patience) {
                    Ok(stream) => return Ok(stream),
                    Err(e) => last = e,
                }
            }
            Err(last)
        }
        Endpoint::Fd(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "only systemd knows where this is")),
    }
}

fn tcp(address: SocketAddr, patience: Duration) -> io::Result<Stream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

fn no_daemon(endpoint: &Endpoint, e: &io::Error, patience: Duration) -> Failure {
    let (code, what, advice) = match e.kind() {
        io::ErrorKind::NotFound => (exit::UNAVAILABLE, "there is no such socket", "is rcptmapd running?"),
        io::ErrorKind::ConnectionRefused => (exit::UNAVAILABLE, "nobody listens there", "is rcptmapd running?"),
        io::ErrorKind::PermissionDenied => {
            (exit::PERMISSION, "you may not use this socket", "ask as root, or as a user whom its owner and mode allow")
        }
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let text = format!("{endpoint}: no connection within {} s", patience.as_secs_f64());
            return Failure::new(
                exit::UNAVAILABLE,
                format!("{text}; is the daemon overloaded, or a firewall between?"),
            );
        }
        _ => return Failure::new(exit::UNAVAILABLE, format!("{endpoint}: {}", reason(e))),
    };
    Failure::new(code, format!("{endpoint}: {what}; {advice}"))
}

/// Asks for a page, or has something done.
pub fn page(stream: &mut Stream, method: &str, target: &str) -> Result<(u16, String), Failure> {
    exchange(stream, method, target, b"")
}

/// Hands something over.
pub fn post(stream: &mut Stream, target: &str, body: &[u8]) -> Result<(u16, String), Failure> {
    exchange(stream, "POST", target, body)
}

fn exchange(stream: &mut Stream, method: &str, target: &str, body: &[u8]) -> Result<(u16, String), Failure> {
    let broken =
        |what: &dyn fmt::Display| Failure::new(exit::UNAVAILABLE, format!("no answer from the daemon: {what}"));
    let mut request = Vec::new();
    http::encode_request_with(method, target, body, &mut request);
    stream.write_all(&request).map_err(|e| broken(&reason(&e)))?;
    let mut response = Vec::new();
    loop {
        match http::decode_response(&response, MAX_BODY) {
            Ok(Some((status, body))) => return Ok((status, String::from_utf8_lossy(body).into_owned())),
            Ok(None) => {}
            Err(_) => {
                let text = "the answer is no HTTP: is this the control socket, or a listener with protocol \"auto\" or \
                            \"http\"?";
                return Err(Failure::new(exit::PROTOCOL, text));
            }
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk) {
            Ok(0) => return Err(broken(&"it closed the connection; on TCP, `allow` says who may ask")),
            Ok(read) => response.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Err(broken(&"it takes too long")),
            Err(e) => return Err(broken(&reason(&e))),
        }
    }
}

/// How `status` and its kin find the daemon.
#[derive(clap::Args, Debug)]
pub struct Whom {
    /// Configuration file of the daemon, which names its control socket
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Control socket, in place of the configured one
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,
}

/// Where a page that needs no control socket is read, and how it is shown.
#[derive(clap::Args, Debug)]
pub struct PageArgs {
    #[command(flatten)]
    pub whom: Whom,
    /// Ask a listener in place of the control socket
    #[arg(long, value_name = "ENDPOINT", conflicts_with = "control")]
    pub to: Option<Endpoint>,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

/// What to type next, about the same daemon.
#[derive(Debug, Default)]
pub struct Commands {
    /// `-c FILE`, as it was given, with a blank in front.
    config: String,
    /// The same, or `--control PATH`.
    daemon: String,
}

impl Commands {
    /// Has a source read, and told what is in it.
    pub fn check(&self, origin: &str) -> String {
        let alone = self.config.is_empty() && !self.daemon.is_empty() && origin.starts_with('/');
        if alone { format!("rcptmapd check {}", quoted(origin)) } else { format!("rcptmapd check{}", self.config) }
    }

    /// Has everything read again.
    pub fn reload(&self) -> String {
        format!("rcptmapd reload{}", self.daemon)
    }
}

impl Whom {
    /// The commands that reach the same daemon.
    pub fn commands(&self) -> Commands {
        let option = |name: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!(" {name} {}", quoted(&path.to_string_lossy())))
        };
        let config = option("-c", &self.config).unwrap_or_default();
        Commands { daemon: option("--control", &self.control).unwrap_or_else(|| config.clone()), config }
    }

    /// The control socket; `None` when the configuration has none.
    pub fn control(&self) -> Result<Option<Endpoint>, Failure> {
        Ok(self.socket(Settings::of_daemon)?.0)
    }

    /// The control socket, else the first listener where pages can be read.
    pub fn pages(&self) -> Result<Endpoint, Failure> {
        let (control, settings) = self.socket(Settings::of_daemon)?;
        let listeners = settings.iter().flat_map(|settings| &settings.config.listen);
        control.or_else(|| first(listeners, &[ListenProtocol::Auto, ListenProtocol::Http])).ok_or_else(|| {
            Failure::new(
                exit::CONFIG,
                "the configuration has neither a control socket nor a listener that can be asked",
            )
        })
    }

    fn socket(
        &self,
        read: impl Fn(Option<&std::path::Path>) -> Result<Option<Settings>, Failure>,
    ) -> Result<(Option<Endpoint>, Option<Settings>), Failure> {
        if let Some(path) = &self.control {
            return Ok((Some(Endpoint::Unix(absolute(path))), None));
        }
        match read(self.config.as_deref())? {
            Some(settings) => Ok((settings.config.control.clone().map(Endpoint::Unix), Some(settings))),
            None => Ok((Some(Endpoint::Unix(DEFAULT_CONTROL.into())), None)),
        }
    }
}

/// Where MTAs ask: the first listener of the daemon's configuration that speaks one of these, else the default.
pub fn listener(config: Option<&std::path::Path>, speaks: &[ListenProtocol]) -> Result<Endpoint, Failure> {
    match Settings::of_daemon(config)? {
        None => Ok(DEFAULT_LISTEN),
        Some(settings) => first(&settings.config.listen, speaks).ok_or_else(|| {
            let words: Vec<&str> = speaks.iter().map(|protocol| protocol.word()).collect();
            let text =
                format!("no listener of the configuration speaks {}; say where to ask: --to", words.join(" or "));
            Failure::new(exit::CONFIG, text)
        }),
    }
}

fn first<'a>(listeners: impl IntoIterator<Item = &'a Listen>, speaks: &[ListenProtocol]) -> Option<Endpoint> {
    listeners.into_iter().filter(|listen| speaks.contains(&listen.protocol)).find_map(|listen| reachable(&listen.on))
}

/// How a listener is reached from this host: "any address" is a place to listen, not to go.
fn reachable(endpoint: &Endpoint) -> Option<Endpoint> {
    match endpoint {
        Endpoint::Fd(_) => None,
        Endpoint::Tcp(address) if address.port() == 0 => None,
        Endpoint::Tcp(address) if address.ip().is_unspecified() => {
            let ip = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            Some(Endpoint::Tcp(SocketAddr::new(ip, address.port())))
        }
        endpoint => Some(endpoint.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_reached_where_they_can_be() {
        let to = |on: &str| reachable(&on.parse().expect("an endpoint")).map(|endpoint| endpoint.to_string());
        assert_eq!(to("0.0.0.0:8910").as_deref(), Some("127.0.0.1:8910"));
        assert_eq!(to("[::]:8910").as_deref(), Some("[::1]:8910"));
        assert_eq!(to("unix:/run/r.sock").as_deref(), Some("unix:/run/r.sock"));
        assert_eq!((to("fd:rcptmapd"), to("127.0.0.1:0")), (None, None));
        let mut exim = Listen::new("127.0.0.1:1".parse().expect("an endpoint"));
        exim.protocol = ListenProtocol::Line;
        let any = Listen::new("127.0.0.1:2".parse().expect("an endpoint"));
        let found = first(&[exim, any], &[ListenProtocol::Auto, ListenProtocol::Socketmap]);
        assert_eq!(found.map(|endpoint| endpoint.to_string()).as_deref(), Some("127.0.0.1:2"));
    }

    #[test]
    fn what_is_wrong_with_a_daemon_is_told_with_advice() {
        let missing = connect(&Endpoint::Unix("/nonexistent/control.sock".into()), PAGE_PATIENCE).expect_err("nobody");
        assert_eq!(missing.code, exit::UNAVAILABLE);
        assert_eq!(missing.text, "unix:/nonexistent/control.sock: there is no such socket; is rcptmapd running?");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let refused = connect(&Endpoint::Tcp(address), PAGE_PATIENCE).expect_err("nobody");
        assert_eq!(refused.text, format!("{address}: nobody listens there; is rcptmapd running?"));
    }
}
