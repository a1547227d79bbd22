//! The configuration: what a file may say ([`FileConfig`]) and what we run on ([`Config`]).
//!
//! Reading is pure: a text goes in, with a [`Reader`] for included files, and a `Config` or everything that is wrong
//! with it comes out ([`Config::parse`]); only [`Config::load`] touches the disk. Users, groups, addresses of host names
//! and files that are named here are looked up by those who need them.
//!
//! Contract: `contrib/rcptmapd.toml`, a test reads it.

mod ahead;
mod endpoint;
mod error;
mod file;
mod filter;
mod lists;
mod resolve;
mod tree;
mod value;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use ahead::*;
pub use endpoint::{DEFAULT_LISTEN, Endpoint, EndpointError, MAX_UNIX_PATH};
pub use error::{ConfigError, Place, Problem};
pub use file::{FileConfig, keys};
pub use filter::{LogFilter, LogFilterError, TOPICS};
pub use lists::*;
pub use value::{DomainName, Fault, Leaf, Raw, Value};

use value::words;

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "/etc/rcptmapd/rcptmapd.toml";
/// Whom we become when started as root with a configuration.
pub const DEFAULT_USER: &str = "rcptmapd";
/// Where the last good lists are kept.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/rcptmapd";
/// Where `status` and its kin ask.
pub const DEFAULT_CONTROL: &str = "/run/rcptmapd/control.sock";
/// Mode of the control socket: it can reload and flush.
pub const CONTROL_MODE: u32 = 0o600;
/// Further files, beside the main one.
pub const DEFAULT_INCLUDE: &str = "conf.d/*.toml";
/// Mode of a UNIX socket: the MTA's group may ask, others may not.
pub const DEFAULT_MODE: u32 = 0o660;
/// The map of a request that names none.
pub const DEFAULT_MAP: &str = "rcpt";
/// Peers on TCP, unless told otherwise: this host.
pub const DEFAULT_ALLOW: [&str; 2] = ["127.0.0.0/8", "::1/128"];

/// Sessions at once.
pub const DEFAULT_SESSIONS: usize = 10_000;
/// Longest request. Postfix never asks for more than 10 kB, and sendmail's limit is lower.
pub const DEFAULT_REQUEST_BYTES: usize = 10_500;
/// Longest line of the line protocol: an address has at most 320 bytes, all quoted 640.
pub const DEFAULT_LINE_BYTES: usize = 1_024;
/// Most replies that wait for a peer to take them; then the session ends.
pub const DEFAULT_OUTPUT_BYTES: usize = 256 << 10;
/// Requests of one session before the others get their turn (memcached's `reqs_per_event`).
pub const DEFAULT_REQUESTS_PER_TURN: usize = 32;
/// Connections that the kernel holds until we accept them.
pub const DEFAULT_BACKLOG: u32 = 1_024;
/// Silence between requests. sendmail turns our close into a 451, and an SMTP session may pause long.
pub const DEFAULT_IDLE: Duration = Duration::from_secs(2 * 3600);
/// From the first byte of a request to its last.
pub const DEFAULT_REQUEST: Duration = Duration::from_secs(10);
/// From a request to its answer: sendmail waits 30 s, Postfix 100 s.
pub const DEFAULT_ANSWER: Duration = Duration::from_secs(20);
/// The same on the line protocol: Exim waits 5 s.
pub const DEFAULT_ANSWER_LINE: Duration = Duration::from_secs(4);
/// The same for milters: sendmail waits 10 s.
pub const DEFAULT_ANSWER_MILTER: Duration = Duration::from_secs(8);
/// After SIGTERM, what was asked is answered within this.
pub const DEFAULT_STOP: Duration = Duration::from_secs(5);

/// Names of maps that need no configuration (DESIGN, section 2).
pub const BUILT_IN_MAPS: [&str; 7] = ["rcpt", "valid", "recipients", "access", "check", "domains", "nexthop"];

words! {
    /// Where the log goes.
    LogTarget {
        /// Standard error on a terminal or under systemd, else syslog.
        Auto = "auto",
        /// The log daemon.
        Syslog = "syslog",
        /// Standard error.
        Stderr = "stderr",
    }
}

words! {
    /// How addresses appear in the log.
    Addresses {
        /// As they are.
        Plain = "plain",
        /// As a keyed hash.
        Hashed = "hashed",
    }
}

words! {
    /// Facilities of syslog(3) that a service may use.
    Facility {
        /// The mail system.
        Mail = "mail",
        /// Daemons without a facility of their own.
        Daemon = "daemon",
        /// User processes.
        User = "user",
        /// Authorization messages.
        Auth = "auth",
        /// Private authorization messages.
        Authpriv = "authpriv",
        /// For local use.
        Local0 = "local0",
        /// For local use.
        Local1 = "local1",
        /// For local use.
        Local2 = "local2",
        /// For local use.
        Local3 = "local3",
        /// For local use.
        Local4 = "local4",
        /// For local use.
        Local5 = "local5",
        /// For local use.
        Local6 = "local6",
        /// For local use.
        Local7 = "local7",
    }
}

words! {
    /// What is spoken on a listener.
    ListenProtocol {
        /// Found out by the first bytes: socketmap, line, policy or HTTP.
        Auto = "auto",
        /// Netstrings, as sendmail and Postfix write them.
        Socketmap = "socketmap",
        /// A line a request: Exim, netcat.
        Line = "line",
        /// Postfix policy delegation.
        Policy = "policy",
        /// `GET /metrics`, `/health`, `/status`.
        Http = "http",
        /// Postfix tcp_table(5).
        TcpTable = "tcp-table",
        /// The milter protocol.
        Milter = "milter",
    }
}

words! {
    /// What a map answers (DESIGN, section 2).
    MapKind {
        /// Valid recipients.
        Recipients = "recipients",
        /// sendmail's access_db.
        Access = "access",
        /// Postfix check_recipient_access.
        Check = "check",
        /// Our domains.
        Domains = "domains",
        /// Where mail goes next.
        Nexthop = "nexthop",
        /// A key-value file as it is.
        Table = "table",
    }
}

/// What we run on.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whom to become after binding when started as root; `None`: stay.
    pub user: Option<String>,
    /// Where the last good lists and the verdict cache are kept; `None`: nothing is kept on disk.
    pub state_dir: Option<PathBuf>,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// The control socket; its mode is [`CONTROL_MODE`].
    pub control: Option<PathBuf>,
    /// The log.
    pub log: Log,
    /// Where MTAs ask; at least one, no two the same.
    pub listen: Vec<Listen>,
    /// Everything has a limit.
    pub limits: Limits,
    /// What exists; no two of one name.
    pub sources: Vec<Source>,
    /// Our domains; none: every domain that occurs in the sources. No name twice.
    pub domains: Vec<RelayDomain>,
    /// Next hops by domain.
    pub nexthops: Option<Nexthops>,
    /// Mailbox servers that can be asked.
    pub backends: Vec<Backend>,
    /// What probes taught us.
    pub cache: Cache,
    /// Who is not checked.
    pub skip: Skip,
    /// Directory harvest attacks.
    pub harvest: Harvest,
    /// Maps beside the built-in ones; one of a built-in name takes the place of that one name.
    pub maps: Vec<MapConfig>,
    /// The files that were read; the first is the main one. None with [`Config::for_sources`].
    pub files: Vec<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where to.
    pub target: LogTarget,
    /// Syslog facility.
    pub facility: Facility,
    /// How much, per topic.
    pub level: LogFilter,
    /// How addresses appear.
    pub addresses: Addresses,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            target: LogTarget::Auto,
            facility: Facility::Mail,
            level: LogFilter::default(),
            addresses: Addresses::Plain,
        }
    }
}

/// `[[listen]]`
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where.
    pub on: Endpoint,
    /// Permissions of a UNIX socket.
    pub mode: u32,
    /// Its owner, a name or a number.
    pub owner: Option<String>,
    /// Its group, a name or a number.
    pub group: Option<String>,
    /// What is spoken.
    pub protocol: ListenProtocol,
    /// The map of requests that name none; a built-in one or one of [`Config::maps`].
    pub default_map: String,
    /// Peers on TCP; others are closed without a word.
    pub allow: Vec<IpNet>,
    /// Where it is configured.
    pub place: Option<Place>,
}

impl Listen {
    /// A listener with the defaults.
    pub fn new(on: Endpoint) -> Listen {
        Listen {
            on,
            mode: DEFAULT_MODE,
            owner: None,
            group: None,
            protocol: ListenProtocol::Auto,
            default_map: DEFAULT_MAP.to_owned(),
            allow: default_allow(),
            place: None,
        }
    }

    /// Whether the socket that is bound for `other` can serve this one as well (the rest can change while it is open).
    pub fn same_socket(&self, other: &Listen) -> bool {
        self.on == other.on && self.mode == other.mode && self.owner == other.owner && self.group == other.group
    }
}

fn default_allow() -> Vec<IpNet> {
    DEFAULT_ALLOW.iter().filter_map(|net| net.parse().ok()).collect()
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; at the limit the longest idle one makes room.
    pub sessions: usize,
    /// Sessions of one TCP peer; 0: no limit.
    pub sessions_per_peer: usize,
    /// Longest request.
    pub request_bytes: usize,
    /// Longest line of the line protocol.
    pub line_bytes: usize,
    /// Most replies that wait for a peer to take them.
    pub output_bytes: usize,
    /// Requests of one session in one turn of the loop.
    pub requests_per_turn: usize,
    /// Connections that the kernel holds until we accept them.
    pub backlog: u32,
    /// Silence between requests.
    pub idle: Duration,
    /// From the first byte of a request to its last.
    pub request: Duration,
    /// From a request to its answer.
    pub answer: Duration,
    /// The same on the line protocol.
    pub answer_line: Duration,
    /// The same for milters.
    pub answer_milter: Duration,
    /// After SIGTERM, what was asked is answered within this.
    pub stop: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions: DEFAULT_SESSIONS,
            sessions_per_peer: 0,
            request_bytes: DEFAULT_REQUEST_BYTES,
            line_bytes: DEFAULT_LINE_BYTES,
            output_bytes: DEFAULT_OUTPUT_BYTES,
            requests_per_turn: DEFAULT_REQUESTS_PER_TURN,
            backlog: DEFAULT_BACKLOG,
            idle: DEFAULT_IDLE,
            request: DEFAULT_REQUEST,
            answer: DEFAULT_ANSWER,
            answer_line: DEFAULT_ANSWER_LINE,
            answer_milter: DEFAULT_ANSWER_MILTER,
            stop: DEFAULT_STOP,
        }
    }
}

/// The value of what exists, in a map of kind `recipients`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapValue {
    /// The address that was asked.
    Echo,
    /// What the source says.
    Source,
    /// This word.
    Word(String),
}

/// `[[map]]`
#[derive(Clone, Debug, PartialEq)]
pub struct MapConfig {
    /// The first word of a request.
    pub name: String,
    /// What it answers.
    pub kind: MapKind,
    /// The file, for [`MapKind::Table`] and no other.
    pub path: Option<PathBuf>,
    /// The value of what exists, for [`MapKind::Recipients`].
    pub value: MapValue,
    /// Where it is configured.
    pub place: Option<Place>,
}

/// How included files are found and read.
pub trait Reader {
    /// The names in a folder, in any order; none if there is no such folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    /// The content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The disk.
pub struct Disk;

impl Reader for Disk {
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        match std::fs::read_dir(folder) {
            Ok(entries) => entries.map(|e| e.map(|e| e.file_name())).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// What the command line adds to a configuration file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `SOURCE`...: beside those of the file.
    pub sources: Vec<PathBuf>,
    /// `--listen`: in the place of those of the file, if there are any.
    pub listen: Vec<Endpoint>,
    /// `-u`
    pub user: Option<String>,
    /// `-P`
    pub pid_file: Option<PathBuf>,
    /// `--control`
    pub control: Option<PathBuf>,
}

impl Config {
    /// Reads a configuration file.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
        let text = Disk.read(path).map_err(|e| {
            let advice = match e.kind() {
                io::ErrorKind::NotFound => "; name another with -c FILE, or name the lists: rcptmapd serve LIST...",
                io::ErrorKind::PermissionDenied => "; start as root, or make it readable",
                _ => "",
            };
            ConfigError::whole_file(path, format!("can't read the configuration: {}{advice}", reason(&e)))
        })?;
        Config::parse(path, &text, &Disk, overrides)
    }

    /// Reads a configuration. Relative paths in it start from the folder of `name`.
    pub fn parse(name: &Path, text: &[u8], reader: &dyn Reader, overrides: &Overrides) -> Result<Config, ConfigError> {
        let tree = tree::read(name, text, reader)?;
        resolve::resolve(name, tree, overrides)
    }

    /// What `serve SOURCE...` runs on without a configuration file: see [`Config::without_file`].
    pub fn for_sources(sources: &[PathBuf], listen: &[Endpoint]) -> Config {
        let overrides = Overrides { sources: sources.to_vec(), listen: listen.to_vec(), ..Overrides::default() };
        Config::without_file(&overrides)
    }

    /// What the program runs on without a configuration file: nothing on disk, no control socket, this host's port 8910,
    /// and the user that we are, unless told otherwise.
    pub fn without_file(overrides: &Overrides) -> Config {
        let mut config = Config {
            user: None,
            state_dir: None,
            pid_file: None,
            control: None,
            log: Log::default(),
            listen: Vec::new(),
            limits: Limits::default(),
            sources: Vec::new(),
            domains: Vec::new(),
            nexthops: None,
            backends: Vec::new(),
            cache: Cache { file: None, ..Cache::default() },
            skip: Skip::default(),
            harvest: Harvest::default(),
            maps: Vec::new(),
            files: Vec::new(),
        };
        config.apply(overrides);
        config
    }

    /// Puts the command line's wishes in.
    fn apply(&mut self, overrides: &Overrides) {
        for path in &overrides.sources {
            // -D changes the folder, so a relative path must not stay one
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let origin = Origin::Path(path.clone());
            if self.sources.iter().any(|s| s.origin == origin) {
                continue;
            }
            let taken = |name: &String| self.sources.iter().any(|s| s.name == *name);
            let short = path.file_name().map(|n| n.to_string_lossy().into_owned());
            let name = short.filter(|n| !taken(n)).unwrap_or_else(|| path.display().to_string());
            self.sources.push(Source::new(name, origin));
        }
        if !overrides.listen.is_empty() {
            self.listen.clear();
            for on in &overrides.listen {
                if !self.listen.iter().any(|l| l.on == *on) {
                    self.listen.push(Listen::new(on.clone()));
                }
            }
        }
        if self.listen.is_empty() {
            self.listen.push(Listen::new(DEFAULT_LISTEN));
        }
        if let Some(user) = &overrides.user {
            self.user = Some(user.clone()).filter(|u| !u.is_empty());
        }
        if let Some(pid_file) = &overrides.pid_file {
            self.pid_file = Some(std::path::absolute(pid_file).unwrap_or_else(|_| pid_file.clone()));
        }
        if let Some(control) = &overrides.control {
            self.control = Some(std::path::absolute(control).unwrap_or_else(|_| control.clone()));
        }
    }

    /// The map of that name that the configuration adds.
    pub fn map(&self, name: &str) -> Option<&MapConfig> {
        self.maps.iter().find(|m| m.name == name)
    }
}

/// An I/O error for people: without "(os error 2)".
pub(crate) fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
