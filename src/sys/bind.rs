//! Listening sockets: bound so that nobody's is stolen, and reachable only when everything about them is right.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, User, chown, fchownat, geteuid};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Account, Activated, SysError, file_error, group_id, user_id};
use crate::config::{CONTROL_MODE, Endpoint, Listen, reason};

/// A socket that listens and does not block.
#[derive(Debug)]
pub enum Listener {
    /// On a path.
    Unix(UnixListener),
    /// On an address and port. `TCP_NODELAY` and keep-alive are set, and accepted connections inherit them.
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Listener::Unix(socket) => socket.set_nonblocking(on),
            Listener::Tcp(socket) => socket.set_nonblocking(on),
        }
    }
}

/// A listener that was bound.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub listener: Listener,
    /// Where it listens: the port that was chosen for 0, the address of a host name.
    pub endpoint: Endpoint,
    /// What systemd handed over is systemd's: it stays when we go.
    pub activated: bool,
    /// Device and inode of a path of ours.
    file: Option<(u64, u64)>,
}

/// Takes the path of a UNIX socket away, if it is still ours: at the end, when it is no longer configured, and when the start
/// fails after it was bound. Where we may not, it stays: the next start finds that nobody listens there, and takes its place.
impl Drop for Bound {
    fn drop(&mut self) {
        if let (Endpoint::Unix(path), Some(file)) = (&self.endpoint, self.file)
            && std::fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == file)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Why a listener can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path is taken by something else than a socket.
    #[error("there is a {0} of this name; remove it, or choose another path")]
    Exists(&'static str),
    /// Somebody listens there.
    #[error("somebody listens there already; is rcptmapd running? Stop it, or choose another path")]
    Live,
    /// There is a socket, and it can't be told whether somebody listens.
    #[error("there is a socket of this name, and it can't be told whether somebody listens there ({}); remove it, or \
             choose another path", reason(.0))]
    Unclear(io::Error),
    /// The folder is missing.
    #[error(
        "there is no folder {folder}; create it: install -d -o {user} {folder}",
        folder = .0.display(),
        user = user()
    )]
    NoFolder(PathBuf),
    /// The folder is not for us.
    #[error(
        "user {user} may not create a socket in {folder}; start as root, or choose a folder of that user",
        folder = .0.display(),
        user = user()
    )]
    Folder(PathBuf),
    /// The group can't be given.
    #[error("user {user} may not give it to group {0}; start as root, or add the user: usermod -aG {0} {user}", user = user())]
    Group(String),
    /// The owner can't be given.
    #[error("user {user} may not give it to user {0}; start as root, or take `owner` out", user = user())]
    Owner(String),
    /// User or group unknown.
    #[error(transparent)]
    Account(Box<SysError>),
    /// The port is taken.
    #[error("the port is taken; `ss -ltnp sport = :{0}` tells by whom: stop that, or choose another port")]
    Busy(u16),
    /// The port is for root.
    #[error(
        "user {user} may not use port {0}; start as root, give the service AmbientCapabilities=CAP_NET_BIND_SERVICE, or \
         choose a port from 1024",
        user = user()
    )]
    LowPort(u16),
    /// The address is another host's.
    #[error("this host has no address {0}; `ip address` shows those that it has")]
    NoAddress(std::net::IpAddr),
    /// The host name has no address.
    #[error("can't find the address of {host}: {}; write the address itself", reason(.error))]
    Host {
        /// The name.
        host: String,
        /// What the system says.
        error: io::Error,
    },
    /// Not started by a socket unit.
    #[error("systemd handed over no socket of this name{}; the socket unit needs FileDescriptorName={wanted}", There(.names))]
    NotActivated {
        /// The name that is configured.
        wanted: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// Anything else.
    #[error("{}", reason(.0))]
    Io(io::Error),
}

struct There<'a>(&'a [String]);

impl std::fmt::Display for There<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str(", nor any other") } else { write!(f, ", only {}", self.0.join(", ")) }
    }
}

/// Who we are, for advice.
fn user() -> String {
    let uid = geteuid();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name)
}

/// Binds a listener, or takes it from systemd. A host name may have several addresses, a name of systemd's several sockets.
pub fn bind(listen: &Listen, backlog: u32, activated: &mut Activated) -> Result<Vec<Bound>, SysError> {
    let failed = |error| SysError::Bind { place: listen.place.clone(), endpoint: listen.on.to_string(), error };
    let taken = activated.take(&listen.on);
    if !taken.is_empty() {
        let bound = taken.into_iter().map(|listener| Bound {
            endpoint: listener.endpoint().unwrap_or_else(|| listen.on.clone()),
            listener,
            activated: true,
            file: None,
        });
        return Ok(bound.collect());
    }
    match &listen.on {
        Endpoint::Unix(path) => {
            let (owner, group) = (listen.owner.as_deref(), listen.group.as_deref());
            unix(path, listen.mode, owner, group, backlog).map(|b| vec![b]).map_err(failed)
        }
        Endpoint::Tcp(address) => tcp(*address, backlog).map(|b| vec![b]).map_err(failed),
        Endpoint::Host(host, port) => host_name(host, *port, |address| tcp(address, backlog)).map_err(failed),
        Endpoint::Fd(name) => {
            let names = activated.names().into_iter().map(str::to_owned).collect();
            Err(failed(BindError::NotActivated { wanted: name.clone(), names }))
        }
    }
}

/// Binds the control socket: for its owner alone.
pub fn bind_control(path: &Path, owner: Option<&Account>) -> Result<Bound, SysError> {
    let owner = owner.filter(|_| geteuid().is_root()).map(|a| a.name.as_str());
    unix(path, CONTROL_MODE, owner, None, 16).map_err(|error| SysError::Bind {
        place: None,
        endpoint: format!("control socket {}", path.display()),
        error,
    })
}

/// Creates the folder of a socket below `/run`, which is empty after each boot, and gives it to `owner`. Folders
/// elsewhere are the administrator's. systemd's `RuntimeDirectory=` does the same before we start.
pub fn runtime_folder(socket: &Path, owner: Option<&Account>) -> Result<(), SysError> {
    let Some(folder) = socket.parent() else { return Ok(()) };
    let below_run = folder.parent().is_some_and(|p| p == Path::new("/run") || p == Path::new("/var/run"));
    if below_run { create_folder(folder, owner) } else { Ok(()) }
}

/// Creates the folder of what is kept from one run to the next, and gives it to `owner`. Those above are the
/// administrator's. systemd's `StateDirectory=` does the same before we start.
pub fn state_folder(folder: &Path, owner: Option<&Account>) -> Result<(), SysError> {
    create_folder(folder, owner)
}

pub(super) fn create_folder(folder: &Path, owner: Option<&Account>) -> Result<(), SysError> {
    match std::fs::create_dir(folder) {
        Ok(()) => {}
        // there, or not ours to create: what is wrong with it is told when the socket is bound
        Err(_) => return Ok(()),
    }
    let set = || -> io::Result<()> {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        if let Some(owner) = owner.filter(|_| geteuid().is_root()) {
            chown(folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
        }
        Ok(())
    };
    set().map_err(|e| file_error(folder, e, ""))
}

/// Changes mode, owner and group of the path of a socket that listens already.
pub fn permit(path: &Path, mode: u32, owner: Option<&str>, group: Option<&str>) -> Result<(), BindError> {
    let account = |e| BindError::Account(Box::new(e));
    if let Some(name) = owner {
        let uid = Uid::from_raw(user_id(name).map_err(account)?);
        change_owner(path, Some(uid), None).map_err(|e| not_permitted(e, BindError::Owner(name.into())))?;
    }
    if let Some(name) = group {
        let gid = Gid::from_raw(group_id(name).map_err(account)?);
        change_owner(path, None, Some(gid)).map_err(|e| not_permitted(e, BindError::Group(name.into())))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(BindError::Io)
}

fn change_owner(path: &Path, uid: Option<Uid>, gid: Option<Gid>) -> Result<(), Errno> {
    fchownat(nix::fcntl::AT_FDCWD, path, uid, gid, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
}

fn not_permitted(e: Errno, error: BindError) -> BindError {
    if e == Errno::EPERM { error } else { BindError::Io(e.into()) }
}

/// A UNIX socket on `path`, in the place of one where nobody listens any more.
fn unix(path: &Path, mode: u32, owner: Option<&str>, group: Option<&str>, backlog: u32) -> Result<Bound, BindError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    // two that start at once would both find the old socket stale, and one would take away what the other just bound
    let _lock = lock(folder);
    vacate(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(BindError::Io)?;
    // Linux gives the mode of the descriptor to the path (unix(7)), so no umask has to change under other threads
    let _ = fchmod(&socket, Mode::from_bits_truncate(0o600));
    socket.bind(&SockAddr::unix(path).map_err(BindError::Io)?).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => BindError::NoFolder(folder.into()),
        io::ErrorKind::PermissionDenied => BindError::Folder(folder.into()),
        io::ErrorKind::AddrInUse => BindError::Live,
        _ => BindError::Io(e),
    })?;
    let remove = |e| {
        let _ = std::fs::remove_file(path);
        e
    };
    // nobody gets in before listen(), so no moment of a wrong mode or owner can be used
    permit(path, mode, owner, group).map_err(remove)?;
    let meta = std::fs::symlink_metadata(path).map_err(BindError::Io)?;
    socket.listen(clamp(backlog)).and_then(|()| socket.set_nonblocking(true)).map_err(BindError::Io).map_err(remove)?;
    Ok(Bound {
        listener: Listener::Unix(OwnedFd::from(socket).into()),
        endpoint: Endpoint::Unix(path.into()),
        activated: false,
        file: Some((meta.dev(), meta.ino())),
    })
}

fn clamp(backlog: u32) -> i32 {
    i32::try_from(backlog).unwrap_or(i32::MAX)
}

/// Locks a folder against others like us, for a moment. Where that is not possible there is no lock.
fn lock(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    let patience = Instant::now() + Duration::from_secs(2);
    while let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
        if Instant::now() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(file)
}

/// Takes a socket away where nobody listens, and nothing else.
fn vacate(path: &Path) -> Result<(), BindError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(BindError::Io(e)),
    };
    if kind.is_dir() {
        return Err(BindError::Exists("folder"));
    }
    if !kind.is_socket() {
        return Err(BindError::Exists(if kind.is_symlink() { "symbolic link" } else { "file" }));
    }
    let probe = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?; // a full backlog would make us wait
        socket.connect(&SockAddr::unix(path)?)
    };
    match probe() {
        Ok(()) => Err(BindError::Live),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(BindError::Live),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| match e.kind() {
                io::ErrorKind::PermissionDenied => BindError::Folder(path.parent().unwrap_or(Path::new("/")).into()),
                _ => BindError::Io(e),
            })
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(BindError::Unclear(e)),
    }
}

fn tcp(address: SocketAddr, backlog: u32) -> Result<Bound, BindError> {
    let socket = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?; // connections of an earlier run linger in TIME_WAIT
        if address.is_ipv6() {
            socket.set_only_v6(true)?; // so that "[::]:8910" and "0.0.0.0:8910" can stand side by side
        }
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(true)?; // a peer that vanished is noticed within the idle time
        socket.bind(&address.into())?;
        socket.listen(clamp(backlog))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let socket = socket().map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => BindError::Busy(address.port()),
        io::ErrorKind::PermissionDenied => BindError::LowPort(address.port()),
        io::ErrorKind::AddrNotAvailable => BindError::NoAddress(address.ip()),
        _ if e.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => BindError::NoAddress(address.ip()),
        _ => BindError::Io(e),
    })?;
    let listener = Listener::Tcp(socket.into());
    let endpoint = listener.endpoint().unwrap_or(Endpoint::Tcp(address));
    Ok(Bound { listener, endpoint, activated: false, file: None })
}

/// All addresses of a host name that this host has; of `localhost` usually 127.0.0.1 and ::1.
fn host_name(
    host: &str,
    port: u16,
    mut bind: impl FnMut(SocketAddr) -> Result<Bound, BindError>,
) -> Result<Vec<Bound>, BindError> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| BindError::Host { host: host.to_owned(), error })?;
    let mut bound = Vec::new();
    let mut missing = None;
    let mut seen: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        if seen.contains(&address) {
            continue;
        }
        seen.push(address);
        match bind(address) {
            Ok(b) => bound.push(b),
            Err(e @ BindError::NoAddress(_)) => missing = Some(e), // IPv6 may be switched off
            Err(e) => return Err(e),
        }
    }
    if bound.is_empty() {
        let error = io::Error::from(io::ErrorKind::NotFound);
        return Err(missing.unwrap_or(BindError::Host { host: host.to_owned(), error }));
    }
    Ok(bound)
}
