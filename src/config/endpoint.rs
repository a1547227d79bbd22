//! Where a socket is: written as any of the MTAs writes it, read into one type with one canonical form.
//!
//! sendmail and milters write `inet:port@host`, `inet6:port@host`, `unix:/path`, `local:/path`; Postfix writes
//! `inet:host:port`, `unix:/path`; Exim writes `/path` and `host:port`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a UNIX socket on Linux, without the NUL that ends it (`sun_path`, unix(7)).
pub const MAX_UNIX_PATH: usize = 107;

/// The address of a socket that we listen on or connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A UNIX socket; the path is absolute.
    Unix(PathBuf),
    /// An address and a port. Port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A host name (lower case) and a port.
    Host(String, u16),
    /// A socket that systemd hands over, by its `FileDescriptorName=`.
    Fd(String),
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Nothing that we know.
    #[error(
        "an endpoint is needed, as in \"unix:/run/rcptmapd/rcptmapd.sock\", \"127.0.0.1:8910\", \"[::1]:8910\" or \
         \"inet:8910@127.0.0.1\""
    )]
    Unknown,
    /// A path that depends on the current folder.
    #[error("the path of a socket must begin with \"/\"")]
    Relative,
    /// The path is not one of a file.
    #[error("the path of a socket must end with the name of a file")]
    Folder,
    /// The kernel can't take it.
    #[error("the path of a socket may have at most {MAX_UNIX_PATH} bytes, this one has {0}")]
    TooLong(usize),
    /// The port is missing.
    #[error("a port is needed, as in \"127.0.0.1:8910\"")]
    NoPort,
    /// The port is no number that fits.
    #[error("a port is a number from 0 to 65535")]
    Port,
    /// The host is missing.
    #[error("a host is needed, as in \"127.0.0.1:8910\"; every address of this host is \"0.0.0.0\" or \"[::]\"")]
    NoHost,
    /// The host is neither an address nor a name.
    #[error("the host must be an address or a name")]
    Host,
    /// An IPv6 address without brackets is followed by a port.
    #[error("an IPv6 address stands in brackets, as in \"[::1]:8910\"")]
    Brackets,
    /// `inet6:` with an IPv4 address.
    #[error("\"inet6:\" needs an IPv6 address, as in \"inet6:8910@::1\"")]
    Family,
    /// `fd:` needs a name.
    #[error("\"fd:\" is followed by the FileDescriptorName= of a systemd socket, as in \"fd:rcptmapd\"")]
    FdName,
}

impl Endpoint {
    /// The path of a UNIX socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Endpoint::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// Whether it is a TCP address, or a name of one.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Endpoint::Tcp(_) | Endpoint::Host(..))
    }

    /// Whether only this host can reach it, as far as that can be told without asking the network.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Endpoint::Host(host, _) => host == "localhost",
            Endpoint::Fd(_) => false,
        }
    }
}

impl fmt::Display for Endpoint {
    /// The canonical form: `unix:/path`, `127.0.0.1:8910`, `[::1]:8910`, `localhost:8910`, `fd:name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(addr) => write!(f, "{addr}"),
            Endpoint::Host(host, port) => write!(f, "{host}:{port}"),
            Endpoint::Fd(name) => write!(f, "fd:{name}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(s: &str) -> Result<Endpoint, EndpointError> {
        if s.starts_with('/') {
            return unix(s);
        }
        if let Some(path) = s.strip_prefix("unix:").or_else(|| s.strip_prefix("local:")) {
            return unix(path);
        }
        if let Some(name) = s.strip_prefix("fd:") {
            // sd_listen_fds_with_names(3): at most 255 printable characters, no colon
            let good = (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
            return if good { Ok(Endpoint::Fd(name.to_owned())) } else { Err(EndpointError::FdName) };
        }
        if let Some(rest) = s.strip_prefix("inet6:") {
            return match inet(rest)? {
                Endpoint::Tcp(addr) if addr.is_ipv4() => Err(EndpointError::Family),
                endpoint => Ok(endpoint),
            };
        }
        inet(s.strip_prefix("inet:").unwrap_or(s))
    }
}

fn unix(path: &str) -> Result<Endpoint, EndpointError> {
    if !path.starts_with('/') {
        return Err(EndpointError::Relative);
    }
    if path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") || path.contains('\0') {
        return Err(EndpointError::Folder);
    }
    if path.len() > MAX_UNIX_PATH {
        return Err(EndpointError::TooLong(path.len()));
    }
    Ok(Endpoint::Unix(path.into()))
}

/// `port@host`, `host:port`, `[v6]:port`.
fn inet(s: &str) -> Result<Endpoint, EndpointError> {
    let (host, port) = if let Some((port, host)) = s.split_once('@') {
        (host, port)
    } else if let Some(rest) = s.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(EndpointError::Brackets)?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(EndpointError::Host);
        }
        (host, rest.strip_prefix(':').ok_or(EndpointError::NoPort)?)
    } else if s.parse::<Ipv6Addr>().is_ok() {
        return Err(EndpointError::Brackets);
    } else if let Some((host, port)) = s.rsplit_once(':') {
        if host.contains(':') {
            return Err(if host.parse::<Ipv6Addr>().is_ok() {
                EndpointError::Brackets
            } else {
                EndpointError::Unknown
            });
        }
        (host, port)
    } else if s.parse::<IpAddr>().is_ok() {
        return Err(EndpointError::NoPort);
    } else if s.parse::<u16>().is_ok() {
        return Err(EndpointError::NoHost);
    } else {
        return Err(EndpointError::Unknown);
    };
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(if port.is_empty() { EndpointError::NoPort } else { EndpointError::Port });
    }
    let port: u16 = port.parse().map_err(|_| EndpointError::Port)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Endpoint::Tcp(SocketAddr::new(ip, port)));
    }
    if is_host_name(host) { Ok(Endpoint::Host(host.to_ascii_lowercase(), port)) } else { Err(EndpointError::Host) }
}

/// Whether it may be the name of a host: letters, digits, `-`, `_` and dots, and no mistyped IPv4 address.
pub(super) fn is_host_name(s: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let name = s.strip_suffix('.').unwrap_or(s);
    name.len() <= 253
        && name.split('.').all(label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

/// Where `serve SOURCE` listens unless it is told otherwise.
pub const DEFAULT_LISTEN: Endpoint = Endpoint::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8910));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mail_servers_write_is_read_into_one_form() {
        for (text, canonical) in [
            ("unix:/run/rcptmapd/rcptmapd.sock", "unix:/run/rcptmapd/rcptmapd.sock"),
            ("local:/run/r.sock", "unix:/run/r.sock"),
            ("/run/r.sock", "unix:/run/r.sock"),
            ("inet:8910@127.0.0.1", "127.0.0.1:8910"),
            ("inet:127.0.0.1:8910", "127.0.0.1:8910"),
            ("127.0.0.1:8910", "127.0.0.1:8910"),
            ("inet:8910@localhost", "localhost:8910"),
            ("LocalHost:8910", "localhost:8910"),
            ("inet6:8910@::1", "[::1]:8910"),
            ("inet6:8910@[::1]", "[::1]:8910"),
            ("inet6:[::1]:8910", "[::1]:8910"),
            ("inet:[2001:db8::1]:8910", "[2001:db8::1]:8910"),
            ("[0:0:0:0:0:0:0:1]:8910", "[::1]:8910"),
            ("inet6:8910@mx.example.org", "mx.example.org:8910"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("fd:rcptmapd", "fd:rcptmapd"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(endpoint.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse(), Ok(endpoint), "{text}");
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        use EndpointError::*;
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, error) in [
            ("", Unknown),
            ("smtp", Unknown),
            ("tcp:127.0.0.1:8910", Unknown),
            ("unix:run/r.sock", Relative),
            ("unix:", Relative),
            ("unix:/run/", Folder),
            (long.as_str(), TooLong(108)),
            ("127.0.0.1", NoPort),
            ("127.0.0.1:", NoPort),
            ("[::1]", NoPort),
            ("127.0.0.1:smtp", Port),
            ("127.0.0.1:65536", Port),
            ("127.0.0.1:+25", Port),
            ("8910", NoHost),
            (":8910", NoHost),
            ("inet:8910@", NoHost),
            ("inet:8910", NoHost),
            ("::1:8910", Brackets),
            ("::1", Brackets),
            ("[::1:8910", Brackets),
            ("1.2.3.400:25", Host),
            ("a b:25", Host),
            ("inet6:25@127.0.0.1", Family),
            ("fd:", FdName),
            ("fd:a:b", FdName),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    #[test]
    fn local_is_what_only_this_host_can_reach() {
        let local = |s: &str| s.parse::<Endpoint>().expect("a good endpoint").is_local();
        assert!(local("/x") && local("127.0.0.1:1") && local("[::1]:1") && local("localhost:1"));
        assert!(local("127.8.0.1:1") && local("[::ffff:127.0.0.1]:1"));
        assert!(!local("0.0.0.0:1") && !local("[::]:1") && !local("192.0.2.1:1") && !local("mx.example.org:1"));
    }
}
