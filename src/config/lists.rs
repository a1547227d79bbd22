//! What exists: the sources of recipients, and our domains.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::value::words;
use super::{DomainName, Place, Unavailable};
use crate::source::Format;
use crate::verdict::Reply;

/// A list that lost more than this is not taken, in hundredths.
pub const DEFAULT_MAX_SHRINK: u8 = 20;
/// A list with fewer entries is not taken.
pub const DEFAULT_MIN_ENTRIES: u32 = 1;
/// Pause before a missing file is tried again.
pub const DEFAULT_RETRY: Duration = Duration::from_secs(2);
/// A command must be done within this.
pub const DEFAULT_SOURCE_TIMEOUT: Duration = Duration::from_secs(120);
/// Old contents of a source that are kept.
pub const DEFAULT_KEEP_VERSIONS: u32 = 5;
/// The lowest user id of people, on most systems.
pub const DEFAULT_UID_MIN: u32 = 1_000;

/// Delimiter of the detail.
pub const DEFAULT_SUBADDRESS: &str = "+";
/// Exists in every domain, whatever the configuration says (RFC 5321, 4.5.1).
pub const POSTMASTER: &str = "postmaster";

words! {
    /// How changes of a source are noticed, beside SIGHUP.
    Watch {
        /// They aren't.
        Off = "off",
        /// Size and time are looked at.
        Poll = "poll",
        /// The kernel tells.
        Inotify = "inotify",
    }
}

words! {
    /// What becomes of entries that their source calls disabled.
    Disabled {
        /// They exist.
        Keep = "keep",
        /// They don't.
        Drop = "drop",
    }
}

words! {
    /// Who knows the recipients of a domain.
    Verify {
        /// The sources.
        List = "list",
        /// The next hop.
        Probe = "probe",
        /// The next hop, for what the sources don't know.
        ListThenProbe = "list-then-probe",
        /// Both must know.
        Both = "both",
    }
}

words! {
    /// Whether a domain's unknown recipients are refused.
    Mode {
        /// They are.
        Enforce = "enforce",
        /// They exist, and are logged and counted.
        Warn = "warn",
        /// They exist.
        Off = "off",
    }
}

words! {
    /// Marks that senders' systems put around a local part.
    Wrapper {
        /// Bounce address tag validation: `prvs=`, `btv1==`.
        Batv = "batv",
        /// Sender rewriting scheme: `SRS0=`, `SRS1=`.
        Srs = "srs",
    }
}

/// Where the content of a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, a folder or a pattern; absolute when it comes from a file of ours.
    Path(PathBuf),
    /// The output of a program, run without a shell.
    Command(Vec<String>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Path(path) => write!(f, "{}", path.display()),
            Origin::Command(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// `[[source]]`, with what it doesn't say taken from `[defaults]`.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in messages and commands.
    pub name: String,
    /// The configuration gives it that name; else it is made of its file's or program's.
    pub is_named: bool,
    /// Where the content comes from.
    pub origin: Origin,
    /// How it is written; `None`: that is found out.
    pub format: Option<Format>,
    /// Attached to bare local parts.
    pub domain: Option<DomainName>,
    /// The higher wins where two sources disagree.
    pub priority: i32,
    /// A content that lost more than this, in hundredths, is not taken; 100: any loss is.
    pub max_shrink: u8,
    /// A content with fewer entries is not taken.
    pub min_entries: usize,
    /// Older than that, absent becomes unknown.
    pub max_age: Option<Duration>,
    /// A vanished address is kept this long.
    pub grace: Duration,
    /// Pause before a missing file is tried again, doubling up to 5 min.
    pub retry: Duration,
    /// How changes are noticed.
    pub watch: Watch,
    /// How often it is looked at, or run.
    pub refresh: Option<Duration>,
    /// A command must be done within this.
    pub timeout: Duration,
    /// Old contents that are kept.
    pub keep_versions: u32,
    /// passwd: the lowest user id that gets mail.
    pub uid_min: u32,
    /// passwd: the login shells of those who get mail; `None`: all that are no `nologin` or `false`.
    pub shells: Option<Vec<String>>,
    /// What becomes of disabled accounts.
    pub disabled: Disabled,
    /// Where it is configured.
    pub place: Option<Place>,
}

impl Source {
    /// A source with the defaults.
    pub fn new(name: String, origin: Origin) -> Source {
        Source {
            is_named: false,
            name,
            origin,
            format: None,
            domain: None,
            priority: 0,
            max_shrink: DEFAULT_MAX_SHRINK,
            min_entries: DEFAULT_MIN_ENTRIES as usize,
            max_age: None,
            grace: Duration::ZERO,
            retry: DEFAULT_RETRY,
            watch: Watch::Off,
            refresh: None,
            timeout: DEFAULT_SOURCE_TIMEOUT,
            keep_versions: DEFAULT_KEEP_VERSIONS,
            uid_min: DEFAULT_UID_MIN,
            shells: None,
            disabled: Disabled::Keep,
            place: None,
        }
    }
}

/// `[[domain]]`
#[derive(Clone, Debug, PartialEq)]
pub struct RelayDomain {
    /// The domains.
    pub names: Vec<DomainName>,
    /// A file that lists more of them.
    pub file: Option<PathBuf>,
    /// Whether their subdomains are ours as well.
    pub subdomains: bool,
    /// The domain whose recipients they have.
    pub same_as: Option<DomainName>,
    /// Who knows.
    pub verify: Verify,
    /// The name of the [`super::Backend`] that is asked.
    pub backend: Option<String>,
    /// Whether to refuse.
    pub mode: Mode,
    /// Delimiters of the detail: ASCII, none twice.
    pub subaddress: Vec<u8>,
    /// Whether local parts differ by case.
    pub case_sensitive: bool,
    /// Local parts that always exist, lower case unless `case_sensitive`; `postmaster` is among them.
    pub always: Vec<String>,
    /// Wrappers that are taken off.
    pub unwrap: Vec<Wrapper>,
    /// The reply for absent, a 5xx.
    pub absent: Reply,
    /// The reply for unknown, a 4xx.
    pub unknown: Reply,
    /// What holds while the backend is down; `None`: what the backend says.
    pub unavailable: Option<Unavailable>,
    /// Whether `[skip]` applies.
    pub skip: bool,
    /// Where it is configured.
    pub place: Option<Place>,
}

impl Default for RelayDomain {
    /// What holds for a domain that is only known from a list.
    fn default() -> RelayDomain {
        RelayDomain {
            names: Vec::new(),
            file: None,
            subdomains: false,
            same_as: None,
            verify: Verify::List,
            backend: None,
            mode: Mode::Enforce,
            subaddress: DEFAULT_SUBADDRESS.into(),
            case_sensitive: false,
            always: vec![POSTMASTER.to_owned()],
            unwrap: vec![Wrapper::Batv],
            absent: Reply::absent(),
            unknown: Reply::unknown(),
            unavailable: None,
            skip: true,
            place: None,
        }
    }
}
