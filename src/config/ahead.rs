//! Call-ahead and the clients that are known: `[nexthops]`, `[[backend]]`, `[cache]`, `[skip]`, `[harvest]`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::value::words;
use super::{Endpoint, Place};

/// See [`Backend::connect_timeout`].
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// See [`Backend::reply_timeout`].
pub const DEFAULT_REPLY_TIMEOUT: Duration = Duration::from_secs(3);
/// See [`Backend::total_timeout`].
pub const DEFAULT_TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// See [`Backend::sessions`].
pub const DEFAULT_BACKEND_SESSIONS: u32 = 5;
/// See [`Backend::recipients_per_session`].
pub const DEFAULT_RECIPIENTS_PER_SESSION: u32 = 50;
/// See [`Backend::idle`].
pub const DEFAULT_BACKEND_IDLE: Duration = Duration::from_secs(10);
/// See [`Backend::sender`].
pub const DEFAULT_SENDER: &str = "<>";
/// See [`Backend::catch_all_test`].
pub const DEFAULT_CATCH_ALL_TEST: Duration = Duration::from_secs(86_400);

/// See [`Cache::valid`].
pub const DEFAULT_VALID: Duration = Duration::from_secs(86_400);
/// See [`Cache::valid_refresh`].
pub const DEFAULT_VALID_REFRESH: Duration = Duration::from_secs(12 * 3600);
/// See [`Cache::absent`].
pub const DEFAULT_ABSENT: Duration = Duration::from_secs(50 * 60);
/// See [`Cache::absent_refresh`].
pub const DEFAULT_ABSENT_REFRESH: Duration = Duration::from_secs(15 * 60);
/// See [`Cache::stale`].
pub const DEFAULT_STALE: Duration = Duration::from_secs(31 * 86_400);
/// See [`Cache::entries`].
pub const DEFAULT_CACHE_ENTRIES: u32 = 1_000_000;
/// See [`Cache::file`].
pub const DEFAULT_CACHE_FILE: &str = "verdicts";

/// See [`Harvest::window`].
pub const DEFAULT_HARVEST_WINDOW: Duration = Duration::from_secs(600);
/// See [`Harvest::absent`].
pub const DEFAULT_HARVEST_ABSENT: u32 = 20;
/// See [`Harvest::ratio`].
pub const DEFAULT_HARVEST_RATIO: u8 = 50;

words! {
    /// What holds while a backend doesn't answer.
    Unavailable {
        /// The recipient exists.
        Accept = "accept",
        /// Try again later.
        Tempfail = "tempfail",
    }
}

words! {
    /// What the yes of a backend that takes everything proves.
    Blind {
        /// The recipient exists.
        Exists = "exists",
        /// Nothing: try again later.
        Tempfail = "tempfail",
    }
}

words! {
    /// How a probe greets.
    Greeting {
        /// EHLO, then HELO if that is refused.
        Ehlo = "ehlo",
        /// HELO.
        Helo = "helo",
        /// LHLO.
        Lhlo = "lhlo",
    }
}

words! {
    /// STARTTLS in probes.
    Tls {
        /// Never.
        Off = "off",
        /// Where it is offered, with any certificate; in the clear for a while after a failed handshake.
        Opportunistic = "opportunistic",
        /// Always, with a certificate that proves the name or address of the server, by an authority that the system
        /// trusts, or one in the file that the environment variable `SSL_CERT_FILE` names.
        Required = "required",
    }
}

words! {
    /// What a harvesting client gets.
    Action {
        /// It is only logged.
        None = "none",
        /// Try again later.
        Tempfail = "tempfail",
        /// A refusal.
        Reject = "reject",
        /// The end of its session.
        Disconnect = "disconnect",
    }
}

/// `[nexthops]`
#[derive(Clone, Debug)]
pub struct Nexthops {
    /// A mailertable or Postfix transport file.
    pub file: PathBuf,
    /// Whether every domain in it is ours.
    pub domains: bool,
    /// Where it is configured.
    pub place: Option<Place>,
}

/// A server of a [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackendServer {
    /// Whether it speaks LMTP.
    pub lmtp: bool,
    /// Where it is.
    pub at: Endpoint,
}

impl BackendServer {
    /// What its certificate has to prove: its name, or its address if it is known by that.
    pub fn name(&self) -> Option<Box<str>> {
        match &self.at {
            Endpoint::Host(host, _) => Some(host.as_str().into()),
            Endpoint::Tcp(address) => Some(address.ip().to_string().into()),
            Endpoint::Unix(_) | Endpoint::Fd(_) => None,
        }
    }
}

impl fmt::Display for BackendServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.lmtp { "lmtp:" } else { "" }, self.at)
    }
}

/// `[[backend]]`: a mailbox server that can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// Tried in order.
    pub servers: Vec<BackendServer>,
    /// Asked for every domain.
    pub all_domains: bool,
    /// Our name in the greeting; `None`: our host name.
    pub helo: Option<String>,
    /// The greeting.
    pub greeting: Greeting,
    /// Reverse-paths, the next when one is refused.
    pub sender: Vec<String>,
    /// STARTTLS.
    pub tls: Tls,
    /// Patience with the connection.
    pub connect_timeout: Duration,
    /// Patience with each reply.
    pub reply_timeout: Duration,
    /// Patience with the whole.
    pub total_timeout: Duration,
    /// Sessions at once.
    pub sessions: u32,
    /// Recipients in one session.
    pub recipients_per_session: u32,
    /// Questions a second; 0: no limit.
    pub probes_per_second: u32,
    /// How long an unused session is kept.
    pub idle: Duration,
    /// What holds while it is down.
    pub unavailable: Unavailable,
    /// What holds when it takes everything.
    pub blind: Blind,
    /// How often a random address is asked; `None`: never.
    pub catch_all_test: Option<Duration>,
    /// An address that must be accepted for refusals to be believed.
    pub known_good: Option<String>,
    /// Further enhanced status codes that mean absent.
    pub absent_codes: Vec<String>,
    /// Where it is configured.
    pub place: Option<Place>,
}

impl Backend {
    /// A backend with the defaults.
    pub fn new(name: String, servers: Vec<BackendServer>) -> Backend {
        Backend {
            name,
            servers,
            all_domains: false,
            helo: None,
            greeting: Greeting::Ehlo,
            sender: vec![DEFAULT_SENDER.to_owned()],
            tls: Tls::Off,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            reply_timeout: DEFAULT_REPLY_TIMEOUT,
            total_timeout: DEFAULT_TOTAL_TIMEOUT,
            sessions: DEFAULT_BACKEND_SESSIONS,
            recipients_per_session: DEFAULT_RECIPIENTS_PER_SESSION,
            probes_per_second: 0,
            idle: DEFAULT_BACKEND_IDLE,
            unavailable: Unavailable::Tempfail,
            blind: Blind::Exists,
            catch_all_test: Some(DEFAULT_CATCH_ALL_TEST),
            known_good: None,
            absent_codes: Vec::new(),
            place: None,
        }
    }
}

/// `[cache]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Life of exists.
    pub valid: Duration,
    /// Asked again in the background when used after this.
    pub valid_refresh: Duration,
    /// Life of absent.
    pub absent: Duration,
    /// Asked again in the background when used after this.
    pub absent_refresh: Duration,
    /// How long an expired exists may still serve while the backend is down.
    pub stale: Duration,
    /// How many.
    pub entries: usize,
    /// Its file in `state_dir`; `None`: memory only.
    pub file: Option<PathBuf>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            valid: DEFAULT_VALID,
            valid_refresh: DEFAULT_VALID_REFRESH,
            absent: DEFAULT_ABSENT,
            absent_refresh: DEFAULT_ABSENT_REFRESH,
            stale: DEFAULT_STALE,
            entries: DEFAULT_CACHE_ENTRIES as usize,
            file: Some(DEFAULT_CACHE_FILE.into()),
        }
    }
}

/// `[skip]`: who is not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// Addresses and networks.
    pub clients: Vec<IpNet>,
    /// Names of sendmail daemons; `None`: MSA.
    pub daemons: Option<Vec<String>>,
    /// Authenticated senders.
    pub authenticated: bool,
    /// Locally submitted mail.
    pub local: bool,
    /// Discard instead of refusing.
    pub bitbucket: bool,
}

impl Default for Skip {
    fn default() -> Skip {
        Skip { clients: Vec::new(), daemons: None, authenticated: true, local: true, bitbucket: false }
    }
}

/// `[harvest]`: directory harvest attacks, by ratio and count together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harvest {
    /// The section is there: guesses are counted. Without it nothing is, and nothing is spent on it.
    pub on: bool,
    /// How far back is counted.
    pub window: Duration,
    /// How many absent ones.
    pub absent: u32,
    /// Which share of all, in hundredths.
    pub ratio: u8,
    /// What is done.
    pub action: Action,
}

impl Default for Harvest {
    fn default() -> Harvest {
        Harvest {
            on: false,
            window: DEFAULT_HARVEST_WINDOW,
            absent: DEFAULT_HARVEST_ABSENT,
            ratio: DEFAULT_HARVEST_RATIO,
            action: Action::None,
        }
    }
}
