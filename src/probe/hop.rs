//! One next hop: its servers, its queue, what is known about it. The scheduler decides; this keeps the books.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::{Epoch, Hit, Known, ServerId};
use super::classify::Finding;
use super::outcome::{JobId, Settings, Start};
use super::pace::{Allowed, Breaker, Rate};
use super::route::{NextHop, server_id};
use super::schedule::Target;
use crate::config::{Backend, BackendServer, Blind, Unavailable};
use crate::proto::smtp::{Capabilities, HostName, Mailbox, Unwritable};

/// How a next hop is asked.
#[derive(Clone, Debug)]
pub struct HopConfig {
    /// The backend's name, or the next hop in the words of the table it comes from.
    pub name: Box<str>,
    /// Tried in order.
    pub servers: NextHop,
    /// How it is spoken to.
    pub dialogue: Arc<Settings>,
    /// Sessions at once.
    pub sessions: usize,
    /// RCPTs a second; 0: no limit.
    pub probes_per_second: u32,
    /// What holds while it is down.
    pub unavailable: Unavailable,
    /// What holds when it takes everything.
    pub blind: Blind,
    /// How long the result of the accept-all test holds; `None`: it is not made.
    pub catch_all_test: Option<Duration>,
    /// Refusals are believed only while this address is taken.
    pub known_good: Option<Mailbox>,
}

/// Why a backend can't be asked as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// No servers.
    #[error("no servers")]
    NoServers,
    /// Our name in the greeting.
    #[error("helo = {0:?}: {1}")]
    Helo(String, Unwritable),
    /// An address of the configuration.
    #[error("{0:?}: {1}")]
    Address(String, Unwritable),
    /// A code of `absent_codes`.
    #[error("absent_codes: {0:?} is no enhanced status code")]
    Code(String),
}

impl HopConfig {
    /// Out of a `[[backend]]`; `host_name` is ours.
    pub fn new(backend: &Backend, host_name: &str) -> Result<HopConfig, HopError> {
        let address = |text: &str| {
            let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
            Mailbox::new(local.as_bytes(), domain.as_bytes()).map_err(|error| HopError::Address(text.into(), error))
        };
        let senders = backend.sender.iter().map(|sender| match sender.as_str() {
            "" | "<>" => Ok(None),
            text => address(text).map(Some),
        });
        let mut senders = senders.collect::<Result<Vec<_>, _>>()?;
        if senders.is_empty() {
            senders.push(None);
        }
        let helo = backend.helo.as_deref().unwrap_or(host_name);
        let codes = backend.absent_codes.iter().map(|code| code.parse().map_err(|_| HopError::Code(code.clone())));
        Ok(HopConfig {
            name: backend.name.as_str().into(),
            servers: NextHop::new(backend.servers.clone()).ok_or(HopError::NoServers)?,
            dialogue: Arc::new(Settings {
                greeting: backend.greeting,
                helo: HostName::new(helo).map_err(|error| HopError::Helo(helo.into(), error))?,
                senders,
                tls: backend.tls,
                connect_timeout: backend.connect_timeout,
                reply_timeout: backend.reply_timeout,
                total_timeout: backend.total_timeout,
                idle: backend.idle,
                recipients: backend.recipients_per_session.max(1),
                absent_codes: codes.collect::<Result<_, _>>()?,
            }),
            sessions: backend.sessions.max(1) as usize,
            probes_per_second: backend.probes_per_second,
            unavailable: backend.unavailable,
            blind: backend.blind,
            catch_all_test: backend.catch_all_test,
            known_good: backend.known_good.as_deref().map(address).transpose()?,
        })
    }

    /// For a next hop of a table: it is spoken to as the backend for all domains is, else as the first one, else with the
    /// defaults.
    pub fn of_table(hop: &NextHop, backends: &[Backend], host_name: &str) -> Result<HopConfig, HopError> {
        match backends.iter().find(|backend| backend.all_domains).or(backends.first()) {
            Some(template) => Ok(HopConfig::new(template, host_name)?.for_next_hop(hop.clone())),
            None => HopConfig::new(&Backend::new(hop.to_string(), hop.servers().to_vec()), host_name),
        }
    }

    /// The same settings for another next hop, one of a table.
    pub fn for_next_hop(&self, servers: NextHop) -> HopConfig {
        HopConfig { name: servers.to_string().into(), servers, known_good: None, ..self.clone() }
    }
}

/// A server of a next hop.
#[derive(Debug)]
pub struct Server {
    /// Where, and what it speaks.
    pub spec: BackendServer,
    /// What it is known by in what is remembered.
    pub id: ServerId,
    /// Whether it may be tried.
    pub breaker: Breaker,
    /// Of its addresses, the one that is used.
    pub address: usize,
    /// Addresses that failed since one worked.
    pub failed_addresses: usize,
    /// Sessions in a row that broke before a single answer.
    pub broken: u32,
}

/// Numbers of a next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HopStats {
    /// Connections begun.
    pub sessions: u64,
    /// Questions put, tests included.
    pub questions: u64,
    /// Answered: exists.
    pub exists: u64,
    /// Answered: absent.
    pub absent: u64,
    /// Answered: anything else.
    pub unknown: u64,
    /// Sessions that failed.
    pub failures: u64,
}

/// What was learnt, and when by the loop's clock.
pub type Lesson<T> = Option<(T, Instant)>;

/// What sessions taught holds for so long.
const LESSON_LIFE: Duration = Duration::from_secs(86_400);
/// The first sign of a limit is remembered for so long.
const SIGN_LIFE: Duration = Duration::from_secs(600);
/// Answers of a group are given out all at once: it should not take longer than this.
const GROUP_TIME: Duration = Duration::from_secs(2);
/// Recipients of a group while it is not known how long they take.
const FIRST_GROUP: usize = 10;
/// For each session that was turned away, one more is tried after so long.
const CROWD_LIFE: Duration = Duration::from_secs(10);
/// After a session broke in the middle, recipients are asked one by one for so long.
const CAUTION: Duration = Duration::from_secs(60);
/// A canary that was taken vouches for refusals for so long.
const CANARY_LIFE: Duration = Duration::from_secs(30);

/// A server at one of its addresses. What is proved of one says nothing of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Which server.
    pub by: ServerId,
    /// Where it was reached.
    pub at: Target,
}

/// What is known of such a server that tells what its answers are worth.
#[derive(Debug, Default)]
pub struct Proofs {
    /// The last time the canary was taken.
    pub canary: Option<Instant>,
    /// The canary was refused: nothing that it refuses is believed.
    pub canary_refused: bool,
    /// The last time it was: what had been refused until then is not believed any more.
    pub doubted: Option<Epoch>,
    /// The test that is under way.
    pub canary_job: Option<JobId>,
    /// By domain, whether every address of it is taken.
    pub domains: HashMap<Box<[u8]>, CatchAll>,
    /// The tests that are under way, by domain.
    pub domain_jobs: HashMap<Box<[u8]>, JobId>,
}

/// The result of an accept-all test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchAll {
    /// A made-up address was taken.
    pub blind: bool,
    /// The server gave an answer at all.
    pub sure: bool,
    /// When it did; else when it was first asked.
    pub learnt: Epoch,
    /// When it was last asked. Without an answer it is asked again soon, and what it said before stands.
    pub tried: Epoch,
}

/// Results of accept-all tests that are kept of one server.
pub const MAX_DOMAINS: usize = 10_000;
/// Servers and addresses of one next hop about which something is known.
const MAX_PLACES: usize = 64;
/// A test without a result is made again after so long.
const RETEST: Duration = Duration::from_secs(600);

impl Proofs {
    /// Whether every address of the domain is taken, if that is known; it holds for `life`.
    fn is_blind(&self, domain: &[u8], life: Duration, now: Epoch) -> Option<bool> {
        let fact = self.domains.get(domain)?;
        let holds = fact.sure && now.since(fact.learnt) < life || now.since(fact.tried) < life.min(RETEST);
        holds.then_some(fact.blind)
    }

    /// Keeps the result of an accept-all test (`None`: no answer), and tells what holds now.
    pub fn learn_domain(&mut self, domain: &[u8], blind: Option<bool>, now: Epoch) -> CatchAll {
        let before = self.domains.get(domain).copied();
        let fact = match (blind, before) {
            (None, Some(before)) => CatchAll { tried: now, ..before },
            _ => CatchAll { blind: blind == Some(true), sure: blind.is_some(), learnt: now, tried: now },
        };
        if before.is_none() && self.domains.len() >= MAX_DOMAINS {
            // The oldest tenth makes room.
            let mut ages: Vec<Epoch> = self.domains.values().map(|fact| fact.learnt).collect();
            let (_, &mut oldest, _) = ages.select_nth_unstable(MAX_DOMAINS / 10);
            self.domains.retain(|_, fact| fact.learnt > oldest);
        }
        self.domains.insert(domain.into(), fact);
        fact
    }

    /// Whether a test is under way.
    fn is_busy(&self) -> bool {
        self.canary_job.is_some() || !self.domain_jobs.is_empty()
    }
}

/// A next hop.
#[derive(Debug)]
pub struct Hop {
    /// How it is asked.
    pub config: HopConfig,
    /// Its servers, in order.
    pub servers: Vec<Server>,
    /// Slots of the sessions.
    pub links: Vec<u32>,
    /// Tests, on which answers wait.
    pub urgent: VecDeque<JobId>,
    /// Questions that somebody waits for.
    pub waiting: VecDeque<JobId>,
    /// Refreshes, and questions that nobody waits for any more.
    pub background: VecDeque<JobId>,
    /// RCPTs a second.
    pub rate: Rate,
    /// When it is to be looked at again.
    pub armed: Option<Instant>,
    /// What the last session was offered.
    pub capabilities: Option<Capabilities>,
    /// Refusals that a session may have.
    pub limit: Lesson<u32>,
    /// The same, by the first sign of it.
    pub limit_sign: Lesson<u32>,
    /// How long a recipient of a group takes.
    pub pace: Option<Duration>,
    /// Sessions at once that were taken when one more was not.
    pub crowd: Lesson<usize>,
    /// The sender that is taken.
    pub sender: Lesson<usize>,
    /// STARTTLS failed.
    pub tls_failed: Lesson<()>,
    /// A session broke.
    pub broke: Lesson<()>,
    /// What the answers of its servers are worth.
    pub places: HashMap<Place, Proofs>,
    /// The last alarm that was logged, and when.
    pub alarm: Lesson<Box<str>>,
    /// The last thing that went wrong.
    pub last_error: Option<Arc<Finding>>,
    /// It could not be asked at all when last tried; logged at the edges.
    pub down: bool,
    /// Numbers.
    pub stats: HopStats,
}

impl Hop {
    /// A next hop of which nothing is known.
    pub fn new(config: HopConfig) -> Hop {
        Hop {
            servers: servers(&config.servers, Vec::new()),
            rate: Rate::new(config.probes_per_second),
            config,
            links: Vec::new(),
            urgent: VecDeque::new(),
            waiting: VecDeque::new(),
            background: VecDeque::new(),
            armed: None,
            capabilities: None,
            limit: None,
            limit_sign: None,
            crowd: None,
            pace: None,
            sender: None,
            tls_failed: None,
            broke: None,
            places: HashMap::new(),
            alarm: None,
            last_error: None,
            down: false,
            stats: HopStats::default(),
        }
    }

    /// Another configuration of the same next hop. What was learnt stays where it still applies.
    pub fn reconfigure(&mut self, config: HopConfig) {
        if config.servers != self.config.servers {
            self.servers = servers(&config.servers, std::mem::take(&mut self.servers));
            (self.capabilities, self.limit, self.limit_sign, self.tls_failed) = (None, None, None, None);
            (self.crowd, self.pace) = (None, None);
            let servers = &self.servers;
            self.places.retain(|place, _| servers.iter().any(|server| server.id == place.by));
        }
        if config.dialogue.senders != self.config.dialogue.senders {
            self.sender = None;
        }
        if config.known_good != self.config.known_good {
            self.places.values_mut().for_each(|proofs| (proofs.canary, proofs.canary_refused) = (None, false));
        }
        if config.probes_per_second != self.config.probes_per_second {
            self.rate = Rate::new(config.probes_per_second);
        }
        self.config = config;
    }

    /// Whether this is one of its servers.
    pub fn has(&self, by: ServerId) -> bool {
        self.servers.iter().any(|server| server.id == by)
    }

    /// Whether what is remembered of an address counts for it: who said it is one of its servers, and nothing that was
    /// proved since speaks against it.
    pub fn stands_by(&self, key: &[u8], hit: &Hit) -> bool {
        let by = hit.evidence.by;
        let mut proofs = self.places.iter().filter(|(place, _)| place.by == by).map(|(_, proofs)| proofs);
        self.has(by)
            && match hit.known {
                Known::Exists => true,
                Known::Blind => {
                    let domain = memchr::memrchr(b'@', key).map_or(&b""[..], |at| &key[at + 1..]);
                    let differs = |fact: &CatchAll| fact.sure && !fact.blind && fact.learnt > hit.learnt;
                    self.config.blind == Blind::Exists
                        && !proofs.any(|proofs| proofs.domains.get(domain).is_some_and(differs))
                }
                Known::Absent | Known::AbsentShort => {
                    !proofs.any(|p| p.canary_refused || p.doubted.is_some_and(|until| hit.learnt <= until))
                }
            }
    }

    /// What is known of a server of its own, for adding to it.
    pub fn proofs(&mut self, place: &Place) -> Option<&mut Proofs> {
        if !self.has(place.by) {
            return None;
        }
        if !self.places.contains_key(place) {
            if self.places.len() >= MAX_PLACES {
                let oldest = self.places.iter().filter(|(_, proofs)| !proofs.is_busy() && proofs.doubted.is_none());
                let oldest = oldest.min_by_key(|(_, proofs)| proofs.canary).map(|(place, _)| place.clone());
                self.places.remove(&oldest?);
            }
            self.places.insert(place.clone(), Proofs::default());
        }
        self.places.get_mut(place)
    }

    /// Questions and tests in its queues.
    pub fn queued(&self) -> usize {
        self.urgent.len() + self.waiting.len() + self.background.len()
    }

    /// Whether no session can be had now, nor is one under way.
    pub fn is_hopeless(&self, now: Instant) -> bool {
        self.links.is_empty() && self.servers.iter().all(|s| matches!(s.breaker.allows(now), Allowed::NotBefore(_)))
    }

    /// When a server may be tried again, if none may be now.
    pub fn next_trial(&self, now: Instant) -> Option<Instant> {
        let times = self.servers.iter().map(|server| match server.breaker.allows(now) {
            Allowed::NotBefore(at) => Some(at),
            _ => None,
        });
        times.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// With what knowledge a session with this server begins.
    pub fn start(&self, server: usize, now: Instant) -> Start {
        Start {
            lmtp: self.servers.get(server).is_some_and(|server| server.spec.lmtp),
            pipelining: holds(self.broke, CAUTION, now).is_none(),
            starttls: holds(self.tls_failed, LESSON_LIFE, now).is_none(),
            sender: holds(self.sender, LESSON_LIFE, now).unwrap_or(0),
            refusals: holds(self.limit, LESSON_LIFE, now),
        }
    }

    /// Whether recipients are asked in groups, as far as that is known.
    pub fn pipelines(&self, now: Instant) -> bool {
        self.capabilities.is_none_or(|c| c.pipelining) && holds(self.broke, CAUTION, now).is_none()
    }

    /// A session that began at `begun` slowed down, or ended, after so many refusals. That is a sign; a session that begins
    /// after it must show the same: a server that restarts ends all that there are, and one that is busy is slow in all of
    /// them. Returns what is news.
    pub fn learn_limit(&mut self, refusals: u32, begun: Instant, now: Instant) -> Option<u32> {
        let sign = holds(self.limit_sign, SIGN_LIFE, now).zip(self.limit_sign.map(|(_, at)| at));
        let refusals = match sign {
            // What else ends sessions does it earlier, never later.
            Some((before, at)) if begun > at => before.max(refusals),
            Some((before, at)) => {
                self.limit_sign = Some((before.max(refusals), at));
                return None;
            }
            None => {
                self.limit_sign = Some((refusals, now));
                return None;
            }
        };
        self.limit_sign = None;
        let known = holds(self.limit, LESSON_LIFE, now);
        // One that is weaker is not the one that is known, and makes that no younger.
        if known.is_none_or(|known| refusals <= known) {
            self.limit = Some((refusals, now));
        }
        known.is_none_or(|known| refusals < known).then_some(refusals)
    }

    /// Recipients that a group should have at most.
    pub fn group(&self) -> usize {
        let Some(pace) = self.pace else { return FIRST_GROUP };
        let fits = GROUP_TIME.as_micros().checked_div(pace.as_micros()).unwrap_or(u128::MAX);
        usize::try_from(fits).unwrap_or(usize::MAX).max(1)
    }

    /// A group took so long for each recipient. What is slower counts at once, what is faster by and by.
    pub fn learn_pace(&mut self, pace: Duration) {
        self.pace = Some(self.pace.map_or(pace, |known| pace.max((known * 3 + pace) / 4)));
    }

    /// Sessions that it may have at once. After one was turned away while others stood, one more is tried now and then.
    pub fn most_sessions(&self, now: Instant) -> usize {
        let Some((taken, at)) = self.crowd else { return self.config.sessions };
        let grown = now.saturating_duration_since(at).as_secs() / CROWD_LIFE.as_secs();
        taken.saturating_add(grown as usize).min(self.config.sessions)
    }

    /// A session was turned away while so many others stood. Tells whether that is news.
    pub fn learn_crowd(&mut self, others: usize, now: Instant) -> bool {
        let is_news = self.most_sessions(now) == self.config.sessions;
        self.crowd = Some((others, now));
        is_news
    }

    /// Whether every address of the domain is taken there, if that is known or not to be tested.
    pub fn is_blind(&self, place: &Place, domain: &[u8], now: Epoch) -> Option<bool> {
        let Some(life) = self.config.catch_all_test else { return Some(false) };
        self.places.get(place)?.is_blind(domain, life, now)
    }

    /// The domains of which one of its servers takes every address.
    pub fn blind_domains(&self, now: Epoch) -> Vec<Box<[u8]>> {
        let Some(life) = self.config.catch_all_test else { return Vec::new() };
        let blind = self.places.values().flat_map(|proofs| {
            proofs.domains.keys().filter(move |domain| proofs.is_blind(domain, life, now) == Some(true))
        });
        let blind: std::collections::BTreeSet<_> = blind.collect();
        blind.into_iter().cloned().collect()
    }

    /// Whether refusals of that server are believed: there is no canary, or it took it just now.
    pub fn is_believed(&self, place: &Place, now: Instant) -> bool {
        let taken = self.places.get(place).and_then(|proofs| proofs.canary);
        self.config.known_good.is_none() || taken.is_some_and(|at| now < at + CANARY_LIFE)
    }
}

/// The servers of a next hop; those that were there before are as they were.
fn servers(hop: &NextHop, mut before: Vec<Server>) -> Vec<Server> {
    let server = |spec: &BackendServer| match before.iter().position(|server| server.spec == *spec) {
        Some(at) => before.swap_remove(at),
        None => Server {
            spec: spec.clone(),
            id: server_id(spec),
            breaker: Breaker::default(),
            address: 0,
            failed_addresses: 0,
            broken: 0,
        },
    };
    hop.servers().iter().map(server).collect()
}

fn holds<T>(lesson: Lesson<T>, life: Duration, now: Instant) -> Option<T> {
    lesson.filter(|(_, learnt)| now < *learnt + life).map(|(lesson, _)| lesson)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DEFAULT_CONNECT_TIMEOUT, Greeting, Tls};

    fn backend() -> Backend {
        Backend {
            name: "hub".into(),
            servers: vec![BackendServer { lmtp: false, at: "192.0.2.1:25".parse().expect("good") }],
            all_domains: false,
            helo: None,
            greeting: Greeting::Ehlo,
            sender: vec!["<>".into(), "probe@gw.example".into()],
            tls: Tls::Off,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            reply_timeout: DEFAULT_CONNECT_TIMEOUT,
            total_timeout: DEFAULT_CONNECT_TIMEOUT,
            sessions: 5,
            recipients_per_session: 50,
            probes_per_second: 0,
            idle: DEFAULT_CONNECT_TIMEOUT,
            unavailable: Unavailable::Tempfail,
            blind: Blind::Exists,
            catch_all_test: None,
            known_good: Some("postmaster@x.example".into()),
            absent_codes: vec!["5.4.1".into()],
            place: None,
        }
    }

    #[test]
    fn a_backend_becomes_a_next_hop_or_says_why_not() {
        let config = HopConfig::new(&backend(), "gw.example").expect("a good backend");
        assert_eq!(config.dialogue.senders.len(), 2);
        assert_eq!(config.known_good.map(|m| m.bytes().to_vec()), Some(b"postmaster@x.example".to_vec()));
        let fault = |change: fn(&mut Backend)| {
            let mut backend = backend();
            change(&mut backend);
            HopConfig::new(&backend, "gw.example").expect_err("a bad backend").to_string()
        };
        assert_eq!(fault(|b| b.servers.clear()), "no servers");
        assert!(fault(|b| b.helo = Some("a b".into())).starts_with("helo = \"a b\": "));
        assert!(fault(|b| b.known_good = Some("anna".into())).starts_with("\"anna\": "));
        assert!(fault(|b| b.sender = vec!["a\r\n@x".into()]).starts_with("\"a\\r\\n@x\": "));
        assert!(fault(|b| b.absent_codes = vec!["550".into()]).contains("\"550\""));
    }

    #[test]
    fn one_sign_of_a_limit_is_none() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut hop = Hop::new(HopConfig::new(&backend(), "gw.example").expect("a good backend"));
        // A restart ends all sessions, whatever they have just been told.
        for refusals in [3, 1, 7] {
            assert_eq!(hop.learn_limit(refusals, at(0), at(10)), None);
        }
        assert_eq!(hop.start(0, at(10)).refusals, None);
        // Another one, much later.
        assert_eq!(hop.learn_limit(2, at(4000), at(5000)), None);
        // One that begins after that, and ends in the same way.
        assert_eq!(hop.learn_limit(5, at(5001), at(5002)), Some(5));
        assert_eq!(hop.start(0, at(5002)).refusals, Some(5));
    }

    #[test]
    fn lessons_are_forgotten() {
        let (now, day) = (Instant::now(), Duration::from_secs(86_400));
        let mut hop = Hop::new(HopConfig::new(&backend(), "gw.example").expect("a good backend"));
        let mut twice = |refusals, at| {
            assert_eq!(hop.learn_limit(refusals, at, at), None);
            hop.learn_limit(refusals, at + SIGN_LIFE / 2, at + SIGN_LIFE / 2)
        };
        assert_eq!(twice(10, now - SIGN_LIFE / 2), Some(10));
        assert_eq!(twice(20, now + day / 2), None);
        assert_eq!(hop.start(0, now).refusals, Some(10));
        assert_eq!(hop.start(0, now + day).refusals, None, "what is weaker makes it no younger");
        hop.limit = None;
        assert_eq!(hop.learn_limit(20, now, now + day), None);
        assert_eq!(hop.start(0, now + day).refusals, None);
        let at = |address: &str| Target::Tcp(address.parse().expect("an address"));
        let place = Place { by: hop.servers[0].id, at: at("192.0.2.1:25") };
        let other = Place { at: at("192.0.2.2:25"), ..place.clone() };
        assert!(!hop.is_believed(&place, now));
        hop.proofs(&place).expect("its own").canary = Some(now);
        assert!(hop.is_believed(&place, now) && !hop.is_believed(&place, now + CANARY_LIFE));
        assert!(!hop.is_believed(&other, now), "one says nothing of the other");
        assert!(hop.proofs(&Place { by: ServerId(0), ..other }).is_none());
    }

    #[test]
    fn a_sure_result_stands_until_there_is_another() {
        let mut proofs = Proofs::default();
        let (day, hour) = (Duration::from_secs(86_400), 3600);
        let mut learn = |blind, at| {
            proofs.learn_domain(b"x", blind, Epoch(at));
            let later = |seconds| proofs.is_blind(b"x", day, Epoch(at + seconds));
            [later(0), later(599), later(600), later(86_399), later(86_400)]
        };
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(learn(None, 0), [no, no, None, None, None]);
        assert_eq!(learn(yes, hour), [yes, yes, yes, yes, None]);
        assert_eq!(learn(None, 30 * hour), [yes, yes, None, None, None]);
        assert_eq!(learn(no, 31 * hour), [no, no, no, no, None]);
    }
}
