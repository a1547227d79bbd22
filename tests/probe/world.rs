//! A network of scripted next hops around the scheduler: fake clock, seeded chance, invariants.

#![allow(dead_code, reason = "two test programs use different parts of it")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcptmapd::config::{self, BackendServer, Blind, Endpoint, Greeting, Tls, Unavailable};
use rcptmapd::map::HashKey;
use rcptmapd::probe::cache::{Cache, Epoch};
use rcptmapd::probe::hop::HopConfig;
use rcptmapd::probe::outcome::{Hangup, Settings};
use rcptmapd::probe::pace::Random;
use rcptmapd::probe::route::NextHop;
use rcptmapd::probe::schedule::{Answer, Basis, Command, HopId, Limits, LinkId, Question, Scheduler, Target, Ticket};
use rcptmapd::proto::smtp::{HostName, Mailbox};
use rcptmapd::verdict::Verdict;

/// How a server behaves towards one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Good,
    Slow,
    Drip,
    Greylist,
    AcceptAll,
    /// 550 5.1.1 to everybody: its directory is gone.
    RefuseAll,
    /// 550 5.7.1 to everybody.
    Policy,
    EhloRefused,
    NullRefused,
    /// 452 from the third recipient of a transaction on.
    Few,
    /// A second each after two refusals.
    Tarpit,
    /// 421 after three refusals.
    Strict,
    /// Closes what is idle for 1.5 s, and keeps all but the first waiting for the banner.
    IdleHangup,
    /// Takes so many connections at once.
    Crowded(u8),
    /// Takes 0.6 s for each recipient, one after the other.
    Laborious,
    /// At the given command (0: the banner).
    Silent(u8),
    Hangup(u8),
    Reset(u8),
    Busy(u8),
    Garbage(u8),
    /// One reply too many there, at once.
    Surplus(u8),
    /// Its reply there comes twice, and those to RCPT take their time.
    Twice(u8),
    /// No reply there, but to what follows.
    Gap(u8),
    NoConnection,
    Unreachable,
}

pub fn manner(random: &mut Random) -> Manner {
    let at = random.below(6) as u8;
    match random.below(35) {
        0..8 => Manner::Good,
        8 => Manner::Slow,
        9 => Manner::Drip,
        10 => Manner::Greylist,
        11 | 12 => Manner::AcceptAll,
        13 => Manner::RefuseAll,
        14 => Manner::Policy,
        15 => Manner::EhloRefused,
        16 => Manner::NullRefused,
        17 => Manner::Few,
        18 => Manner::Tarpit,
        19 => Manner::Strict,
        20 => Manner::Silent(at),
        21 => Manner::Hangup(at),
        22 => Manner::Reset(at),
        23 => Manner::Busy(at),
        24 => Manner::Garbage(at),
        25 | 26 => Manner::Surplus(at.max(1)),
        27 => Manner::Gap(at.max(1)),
        28 => Manner::NoConnection,
        29 => Manner::Unreachable,
        30 => Manner::IdleHangup,
        31 => Manner::Crowded(1 + at),
        32 => Manner::Laborious,
        _ => Manner::Twice(at.max(1)),
    }
}

pub struct Server {
    pub hop: usize,
    /// Its users: those whose number is this, by three.
    pub users: u32,
    /// Until when, what.
    pub manners: Vec<(Instant, Manner)>,
    pub pipelining: bool,
    /// It has the same words for everything that is well.
    pub terse: bool,
}

pub struct Conn {
    pub server: usize,
    pub manner: Manner,
    pub input: Vec<u8>,
    pub commands: u8,
    pub mail: bool,
    pub rcpts: u32,
    pub recipients: HashSet<String>,
    pub refusals: u32,
    /// Nothing arrives before what was sent earlier.
    pub last: Instant,
    pub over: bool,
}

#[derive(Debug)]
pub enum Event {
    Connected(LinkId),
    Failed(LinkId),
    Bytes(LinkId, Vec<u8>),
    Closed(LinkId, bool),
    /// Closes, unless a command has come since that many.
    Idle(LinkId, u8),
    Resolved(String),
    Ask,
    Reload(usize),
}

pub struct Asked {
    pub key: String,
    pub hop: usize,
    pub deadline: Instant,
    pub unavailable: Unavailable,
    pub cancelled: bool,
    pub answers: u32,
    pub answer: Option<(Verdict, Basis)>,
    pub answered: Option<Instant>,
}

pub struct World {
    pub show: bool,
    pub random: Random,
    pub start: Instant,
    pub now: Instant,
    pub rtt: Duration,
    pub events: BTreeMap<(Instant, u64), Event>,
    pub sequence: u64,
    /// How far the calendar is ahead of its beginning, without the time that has passed.
    pub calendar_set: i64,
    pub servers: Vec<Server>,
    pub hops: Vec<(HopId, HopConfig)>,
    pub conns: HashMap<LinkId, Conn>,
    pub scheduler: Scheduler,
    pub asked: Vec<Asked>,
    pub left_to_ask: u32,
    /// Which server last refused whom for good, and when; and who took whom.
    pub refused: HashMap<(String, usize), Instant>,
    pub accepted: HashSet<(String, usize)>,
    pub greylisted: HashSet<String>,
    /// When which server took its canary.
    pub canary: HashMap<usize, Vec<Instant>>,
    pub rcpt_times: HashMap<usize, Vec<Instant>>,
    /// Connections begun.
    pub sessions: u32,
    /// Of these, told that there are too many.
    pub turned_away: u32,
    /// Servers that a next hop may have.
    pub pools: Vec<Vec<BackendServer>>,
    /// What was logged.
    pub log: Vec<String>,
    /// Servers that take everything, always.
    pub blind: HashSet<usize>,
    /// How long answers are kept.
    pub lives: config::Cache,
    /// Whether refusals have needed a canary from the beginning, by next hop.
    pub canary_since: [bool; 2],
    /// Whether the accept-all test was never switched off.
    pub always_tested: bool,
    /// How answers came about.
    pub seen: HashSet<String>,
}

/// What is known to be good, by next hop.
pub const CANARY: [&str; 2] = ["canary@d0.example", "canary@d2.example"];

/// Which of the world's servers this is.
fn number_of(spec: &BackendServer) -> usize {
    match &spec.at {
        Endpoint::Tcp(addr) => usize::from(addr.port() - 1000),
        Endpoint::Host(_, port) => usize::from(port - 1000),
        other => panic!("{other}"),
    }
}

/// The calendar when the world begins.
const BEGINNING: Epoch = Epoch(1_764_230_400);

pub fn mailbox(address: &str) -> Mailbox {
    let (local, domain) = address.split_once('@').expect("an address");
    Mailbox::new(local.as_bytes(), domain.as_bytes()).expect("a good address")
}

impl World {
    pub fn new(seed: u64, show: bool) -> World {
        let random = Random::new(seed);
        let start = Instant::now();
        let key = HashKey::with_seeds(seed, 1, 2, 3);
        let cache = Cache::new(config::Cache::default(), key.clone());
        let scheduler = Scheduler::new(cache, Limits::default(), key, seed, start, BEGINNING);
        World {
            show,
            start,
            now: start,
            rtt: Duration::from_millis(50),
            events: BTreeMap::new(),
            sequence: 0,
            calendar_set: 0,
            servers: Vec::new(),
            hops: Vec::new(),
            conns: HashMap::new(),
            scheduler,
            asked: Vec::new(),
            left_to_ask: 0,
            sessions: 0,
            turned_away: 0,
            pools: Vec::new(),
            log: Vec::new(),
            blind: HashSet::new(),
            lives: config::Cache::default(),
            canary_since: [true; 2],
            always_tested: true,
            seen: HashSet::new(),
            refused: HashMap::new(),
            accepted: HashSet::new(),
            greylisted: HashSet::new(),
            canary: HashMap::new(),
            rcpt_times: HashMap::new(),
            random,
        }
    }

    /// Next hops, limits, life times, questions: all by chance.
    pub fn random(seed: u64, show: bool) -> World {
        let mut world = World::new(seed, show);
        let lives = config::Cache {
            valid: Duration::from_secs(40),
            valid_refresh: Duration::from_secs(20),
            absent: Duration::from_secs(20),
            absent_refresh: Duration::from_secs(10),
            entries: 1 + world.random.below(50) as usize,
            ..config::Cache::default()
        };
        world.scheduler.cache().set_lives(lives.clone());
        world.lives = lives;
        world.scheduler.set_limits(Limits {
            queue: 1 + world.random.below(40) as usize,
            background: 1 + world.random.below(10) as usize,
            tickets: 5 + world.random.below(100) as usize,
        });
        world.rtt = Duration::from_millis(world.random.below(100));
        world.left_to_ask = 2 + world.random.below(60) as u32;
        for hop in 0..1 + world.random.below(2) as usize {
            world.add_random_hop(hop);
        }
        world.at(Duration::ZERO, Event::Ask);
        world
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    /// A server of the next hop to be added, and how it behaves: until when, what; Good after that.
    pub fn server(&mut self, manners: Vec<(Duration, Manner)>, pipelining: bool) -> BackendServer {
        let number = self.servers.len() as u16;
        let manners = manners.into_iter().map(|(until, manner)| (self.start + until, manner)).collect();
        self.servers.push(Server { hop: self.hops.len(), users: 0, manners, pipelining, terse: false });
        BackendServer { lmtp: false, at: Endpoint::Tcp(([192, 0, 2, 1], 1000 + number).into()) }
    }

    /// A next hop with the defaults of the configuration, but for the accept-all test.
    pub fn config(&self, servers: Vec<BackendServer>) -> HopConfig {
        HopConfig {
            name: format!("hop{}", self.hops.len()).into(),
            servers: NextHop::new(servers).expect("some servers"),
            dialogue: Arc::new(Settings {
                greeting: Greeting::Ehlo,
                helo: HostName::new("gw.example").expect("a name"),
                senders: vec![None],
                tls: Tls::Off,
                connect_timeout: Duration::from_secs(2),
                reply_timeout: Duration::from_secs(3),
                total_timeout: Duration::from_secs(15),
                idle: Duration::from_secs(10),
                recipients: 50,
                absent_codes: Vec::new(),
            }),
            sessions: 5,
            probes_per_second: 0,
            unavailable: Unavailable::Tempfail,
            blind: Blind::Exists,
            catch_all_test: None,
            known_good: None,
        }
    }

    /// Adds a next hop of the servers that were added last.
    pub fn add_hop(&mut self, config: HopConfig) {
        let id = self.scheduler.set_hop(config.clone(), self.now);
        self.hops.push((id, config));
    }

    pub fn add_random_hop(&mut self, at: usize) {
        let mut specs = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let mut until = Duration::ZERO;
            let mut manners = Vec::new();
            for _ in 0..1 + self.random.below(4) {
                until += Duration::from_millis(self.random.below(20_000));
                manners.push((until, manner(&mut self.random)));
            }
            let blind = self.chance(20);
            if blind {
                manners = vec![(Duration::from_secs(1_000_000), Manner::AcceptAll)];
            }
            let pipelining = !self.chance(3);
            let mut spec = self.server(manners, pipelining);
            let terse = self.chance(6);
            let number = self.servers.len() - 1;
            self.servers[number].terse = terse;
            self.servers[number].users = self.random.below(2) as u32;
            if blind {
                self.blind.insert(number);
            }
            spec.lmtp = self.chance(5);
            if self.chance(4) {
                let number = self.servers.len() as u16 - 1;
                spec.at = Endpoint::Host(format!("s{number}.example"), 1000 + number);
            }
            specs.push(spec);
        }
        let standard = self.config(specs.clone());
        self.pools.push(specs);
        let two = vec![None, Some(mailbox("probe@gw.example"))];
        let dialogue = Settings {
            greeting: if self.chance(4) { Greeting::Helo } else { Greeting::Ehlo },
            senders: if self.chance(2) { vec![None] } else { two },
            total_timeout: Duration::from_secs(8),
            idle: Duration::from_secs(self.random.below(10)),
            recipients: 1 + self.random.below(20) as u32,
            ..(*standard.dialogue).clone()
        };
        let config = HopConfig {
            dialogue: Arc::new(dialogue),
            sessions: 1 + self.random.below(4) as usize,
            probes_per_second: if self.chance(4) { 1 + self.random.below(20) as u32 } else { 0 },
            unavailable: if self.chance(2) { Unavailable::Accept } else { Unavailable::Tempfail },
            blind: if self.chance(2) { Blind::Exists } else { Blind::Tempfail },
            catch_all_test: (!self.chance(3)).then_some(Duration::from_secs(30)),
            known_good: self.chance(3).then(|| mailbox(CANARY[at])),
            ..standard
        };
        self.add_hop(config);
    }

    pub fn at(&mut self, later: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + later, self.sequence), event);
    }

    pub fn say(&self, text: impl FnOnce() -> String) {
        if self.show {
            println!("{:9.3} {}", (self.now - self.start).as_secs_f64(), text());
        }
    }

    /// Sets the calendar by so many seconds; the daemon looks at it.
    pub fn set_calendar(&mut self, by: i64) {
        self.calendar_set += by;
        let passed = (self.now - self.start).as_secs() as i64;
        let calendar = (i64::from(BEGINNING.0) + self.calendar_set + passed).clamp(0, i64::from(u32::MAX));
        self.scheduler.set_clock(self.now, Epoch(calendar as u32));
    }

    /// Runs to the end: everything asked, everything answered, nothing left.
    pub fn run(&mut self) {
        self.run_until(None);
        self.check_end();
    }

    /// Runs for a time.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(Some(self.now + time));
    }

    fn run_until(&mut self, end: Option<Instant>) {
        for _ in 0..200_000 {
            self.obey();
            let event = self.events.first_key_value().map(|(&(at, _), _)| at);
            let Some(next) = event.into_iter().chain(self.scheduler.poll_timeout()).min() else {
                self.now = end.unwrap_or(self.now);
                return;
            };
            if let Some(end) = end.filter(|end| next > *end) {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().expect("just seen");
                self.happen(event);
            } else {
                self.scheduler.handle_timeout(self.now);
            }
        }
        panic!("it never ends");
    }

    pub fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Ask => self.ask_by_chance(),
            Event::Connected(link) if self.conns.contains_key(&link) => {
                self.scheduler.handle_connected(link, now);
                match self.conns[&link] {
                    Conn { manner: Manner::Crowded(most), server, .. } if self.open_at(server) > most.into() => {
                        self.turned_away += 1;
                        self.reply(link, 0, "421 4.7.0 too many connections");
                        self.hang_up(link, false);
                    }
                    _ => self.reply(link, 0, "220 hello"),
                }
            }
            Event::Failed(link) if self.conns.contains_key(&link) => {
                self.scheduler.handle_close(link, &Hangup::Error("connection refused".into()), now);
            }
            Event::Bytes(link, bytes) if self.conns.contains_key(&link) => {
                self.say(|| format!("  {link:?} > {}", bytes.escape_ascii()));
                self.scheduler.handle_input(link, &bytes, now);
            }
            Event::Closed(link, reset) if self.conns.contains_key(&link) => {
                let hangup = if reset { Hangup::Error("connection reset by peer".into()) } else { Hangup::Closed };
                self.scheduler.handle_close(link, &hangup, now);
            }
            Event::Idle(link, commands) if self.conns.get(&link).is_some_and(|c| c.commands == commands && !c.over) => {
                self.hang_up(link, false);
            }
            Event::Resolved(name) => {
                let found = match self.random.below(5) {
                    0 => Err("no such name".to_owned()),
                    1 => Ok(Vec::new()),
                    _ => Ok(vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]),
                };
                self.scheduler.handle_resolved(&name, found, Duration::from_secs(20), now);
            }
            Event::Reload(hop) => {
                if self.left_to_ask > 0 {
                    self.change_by_chance(hop);
                }
                let config = self.hops[hop].1.clone();
                self.scheduler.set_hop(config, now);
            }
            _ => {}
        }
    }

    /// Connections that the server has.
    fn open_at(&self, server: usize) -> usize {
        self.conns.values().filter(|conn| conn.server == server && !conn.over).count()
    }

    /// Another configuration: these of the servers that the next hop may have.
    pub fn use_servers(&mut self, hop: usize, which: &[usize]) {
        let servers = which.iter().map(|&at| self.pools[hop][at].clone()).collect();
        self.hops[hop].1.servers = NextHop::new(servers).expect("some servers");
        let config = self.hops[hop].1.clone();
        self.scheduler.set_hop(config, self.now);
    }

    /// Other servers, or other rules.
    fn change_by_chance(&mut self, hop: usize) {
        let Some(pool) = self.pools.get(hop).cloned() else { return };
        if self.chance(2) {
            let first = self.random.below(pool.len() as u64) as usize;
            let most = 1 + self.random.below(pool.len() as u64) as usize;
            let servers = pool.iter().cycle().skip(first).take(most).cloned().collect();
            self.hops[hop].1.servers = NextHop::new(servers).expect("some servers");
        }
        if self.chance(4) {
            let (good, config) = (mailbox(CANARY[hop]), &mut self.hops[hop].1);
            self.canary_since[hop] &= config.known_good.is_some();
            config.known_good = if config.known_good.is_some() { None } else { Some(good) };
        }
        if self.chance(4) {
            let blind = &mut self.hops[hop].1.blind;
            *blind = if *blind == Blind::Exists { Blind::Tempfail } else { Blind::Exists };
        }
    }

    /// Puts a question; returns its number.
    pub fn put(&mut self, hop: usize, key: &str, patience: Duration, unavailable: Option<Unavailable>) -> usize {
        let (id, config) = &self.hops[hop];
        let number = self.asked.len();
        let deadline = self.now + patience;
        self.asked.push(Asked {
            key: key.to_owned(),
            hop,
            deadline,
            unavailable: unavailable.unwrap_or(config.unavailable),
            cancelled: false,
            answers: 0,
            answer: None,
            answered: None,
        });
        self.say(|| format!("ask {number} {key} at hop{hop}"));
        let (question, ticket) = (Question { key: key.as_bytes(), hop: *id, unavailable }, Ticket(number as u64));
        if let Some(answer) = self.scheduler.ask(&question, ticket, deadline, self.now) {
            self.check_answer(ticket, &answer);
        }
        number
    }

    /// Nobody waits for the answer any more.
    pub fn cancel(&mut self, number: usize) {
        // What is already on its way can't be called back.
        self.obey();
        if self.asked[number].answers == 0 {
            self.scheduler.cancel(Ticket(number as u64));
            self.asked[number].cancelled = true;
        }
    }

    pub fn ask_by_chance(&mut self) {
        let hop = self.random.below(self.hops.len() as u64) as usize;
        let key = match self.random.below(20) {
            0 => CANARY[hop].to_owned(),
            n => format!("u{}@d{}.example", self.random.below(40), hop as u64 * 2 + n % 2),
        };
        let patience = Duration::from_millis(500 + self.random.below(15_000));
        let unavailable = match self.random.below(4) {
            0 => Some(Unavailable::Accept),
            1 => Some(Unavailable::Tempfail),
            _ => None,
        };
        let number = self.put(hop, &key, patience, unavailable);
        if self.chance(15) {
            self.cancel(number);
        }
        if self.chance(30) {
            self.at(Duration::from_millis(500), Event::Reload(hop));
        }
        if self.chance(60) {
            let by = self.random.below(200_000) as i64 - 100_000;
            self.set_calendar(by);
        }
        self.left_to_ask -= 1;
        if self.left_to_ask > 0 {
            let later = if self.chance(8) { 15_000 } else { 400 };
            let later = if self.chance(2) { 0 } else { self.random.below(later) };
            self.at(Duration::from_millis(later), Event::Ask);
        }
    }

    /// Does what the scheduler says.
    pub fn obey(&mut self) {
        while let Some(command) = self.scheduler.poll_command() {
            match command {
                Command::Resolve(name) => {
                    let later = Duration::from_millis(if self.chance(10) { 15_000 } else { 20 });
                    self.at(later, Event::Resolved(name.into()));
                }
                Command::Connect { link, to } => self.connect(link, to),
                Command::Transmit { link, bytes } => self.receive(link, &bytes),
                Command::Close(link) => {
                    self.say(|| format!("  {link:?} dropped"));
                    assert!(self.conns.remove(&link).is_some(), "dropped twice");
                }
                Command::StartTls { .. } => panic!("TLS is off"),
                Command::Deliver(ticket, answer) => self.check_answer(ticket, &answer),
                Command::Log(level, text) => {
                    self.say(|| format!("{level:?} {text}"));
                    self.log.push(text);
                }
            }
        }
    }

    pub fn connect(&mut self, link: LinkId, to: Target) {
        let Target::Tcp(addr) = to else { panic!("{to:?}") };
        let server = usize::from(addr.port() - 1000);
        let hop = self.servers[server].hop;
        let now = self.now;
        self.sessions += 1;
        let manners = &self.servers[server].manners;
        let manner = manners.iter().find(|(until, _)| now < *until).map_or(Manner::Good, |(_, manner)| *manner);
        self.say(|| format!("  {link:?} connect to server {server}: {manner:?}"));
        let conn = Conn {
            server,
            manner,
            input: Vec::new(),
            commands: 0,
            mail: false,
            rcpts: 0,
            recipients: HashSet::new(),
            refusals: 0,
            last: now,
            over: false,
        };
        assert!(self.conns.insert(link, conn).is_none(), "a link is used twice");
        let open = self.conns.values().filter(|conn| self.servers[conn.server].hop == hop).count();
        assert!(open <= self.hops[hop].1.sessions, "{open} sessions");
        match manner {
            Manner::NoConnection => self.at(self.rtt, Event::Failed(link)),
            Manner::Unreachable => {}
            _ => self.at(self.rtt, Event::Connected(link)),
        }
    }

    /// The server gets bytes.
    pub fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        self.say(|| format!("  {link:?} < {}", bytes.escape_ascii()));
        let conn = self.conns.get_mut(&link).expect("a live connection");
        conn.input.extend_from_slice(bytes);
        let text = String::from_utf8(std::mem::take(&mut conn.input)).expect("ASCII");
        let pipelining = self.servers[conn.server].pipelining;
        assert!(text.ends_with("\r\n"), "{text}");
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert!(pipelining || lines.len() == 1, "pipelined without being asked: {text}");
        for line in lines {
            self.command(link, line);
        }
    }

    pub fn command(&mut self, link: LinkId, line: &str) {
        let now = self.now;
        let conn = self.conns.get_mut(&link).expect("a live connection");
        conn.commands = conn.commands.saturating_add(1);
        let (at, hop, manner) = (conn.commands, self.servers[conn.server].hop, conn.manner);
        let offers = if self.servers[conn.server].pipelining { "250-hi\r\n250 PIPELINING" } else { "250 hi" };
        match line {
            "EHLO gw.example" if manner == Manner::EhloRefused => self.reply(link, at, "502 what"),
            "EHLO gw.example" | "LHLO gw.example" => self.reply(link, at, offers),
            "HELO gw.example" => self.reply(link, at, "250 hi"),
            "MAIL FROM:<>" if manner == Manner::NullRefused => self.reply(link, at, "550 5.7.1 no null sender"),
            "MAIL FROM:<>" | "MAIL FROM:<probe@gw.example>" => {
                conn.mail = true;
                conn.rcpts = 0;
                self.reply(link, at, "250 2.1.0 ok");
            }
            "RSET" => {
                conn.mail = false;
                self.reply(link, at, "250 2.0.0 ok");
            }
            "QUIT" => {
                self.reply(link, at, "221 bye");
                self.hang_up(link, false);
            }
            _ => {
                let key = line.strip_prefix("RCPT TO:<").and_then(|rest| rest.strip_suffix('>'));
                let key = key.unwrap_or_else(|| panic!("an odd command: {line}")).to_owned();
                if !conn.mail {
                    return self.reply(link, at, "503 5.5.1 need MAIL");
                }
                conn.rcpts += 1;
                let test = key == CANARY[hop] || !key.starts_with('u') || key.len() > 15;
                // One that is asked again in a new transaction (452) counts once; tests don't count in a session.
                let again = !conn.recipients.insert(if test { format!("test {key}") } else { key.clone() });
                let limit = self.hops[hop].1.dialogue.recipients as usize;
                let recipients = conn.recipients.iter().filter(|key| !key.starts_with("test")).count();
                assert!(recipients <= limit, "more than {limit} recipients");
                if !again {
                    self.rcpt_times.entry(hop).or_default().push(now);
                }
                self.rcpt(link, at, hop, &key);
            }
        }
    }

    pub fn rcpt(&mut self, link: LinkId, at: u8, hop: usize, key: &str) {
        let conn = self.conns.get_mut(&link).expect("a live connection");
        let number = key.strip_prefix('u').and_then(|rest| rest.split_once('@')?.0.parse::<u32>().ok());
        let server = conn.server;
        let exists = key == CANARY[hop] || number.is_some_and(|n| n % 3 == self.servers[server].users);
        let reply = match conn.manner {
            Manner::AcceptAll => "250 2.1.5 ok",
            Manner::RefuseAll => "550 5.1.1 who is that",
            Manner::Policy => "550 5.7.1 go away",
            Manner::Few if conn.rcpts > 2 => "452 4.5.3 too many",
            Manner::Strict if conn.refusals >= 3 => "421 4.7.0 too many errors",
            Manner::Greylist if self.greylisted.insert(key.to_owned()) => "450 4.7.1 later",
            _ if exists => "250 2.1.5 ok",
            _ => ["550 5.1.1 unknown", "550 unknown", "554 5.1.1 unknown", "550-no\r\n550 5.1.1 unknown"]
                [number.unwrap_or(0) as usize % 4],
        };
        if conn.manner == Manner::Laborious {
            conn.last = conn.last.max(self.now + self.rtt) + Duration::from_millis(600);
        }
        let refused = reply.starts_with("55") && !reply.contains("5.7.1");
        conn.refusals += u32::from(refused);
        if refused {
            self.refused.insert((key.to_owned(), server), self.now);
        } else if reply.starts_with('2') {
            self.accepted.insert((key.to_owned(), server));
            if key == CANARY[hop] {
                self.canary.entry(server).or_default().push(self.now);
            }
        }
        self.reply(link, at, reply);
        if reply.starts_with("421") {
            self.hang_up(link, false);
        }
    }

    /// The server answers its command number `at`, in its manner.
    pub fn reply(&mut self, link: LinkId, at: u8, text: &str) {
        let cut = self.chance(4);
        let alone = self.conns.len() == 1;
        let conn = self.conns.get_mut(&link).expect("a live connection");
        if conn.over {
            return;
        }
        let terse = self.servers[conn.server].terse && text.starts_with("250 2.");
        let text = if terse { "250 ok" } else { text };
        let mut bytes = format!("{text}\r\n").into_bytes();
        let mut delay = self.rtt;
        match conn.manner {
            Manner::Silent(n) if at >= n => return,
            Manner::Gap(n) if at == n => return,
            Manner::Hangup(n) if at == n => return self.hang_up(link, false),
            Manner::Reset(n) if at == n => return self.hang_up(link, true),
            Manner::Busy(n) if at == n => {
                bytes = b"421 4.3.2 busy\r\n".to_vec();
            }
            Manner::Garbage(n) if at == n => bytes = b"\x16\x03\x01 hello\r\n".to_vec(),
            Manner::Surplus(n) if at == n => bytes.extend_from_slice(b"550 5.1.1 surplus\r\n"),
            Manner::IdleHangup if at == 0 && !alone => delay += Duration::from_millis(600),
            Manner::Slow => delay += Duration::from_millis(700),
            Manner::Tarpit if conn.refusals > 2 => delay += Duration::from_secs(1),
            Manner::Twice(_) if conn.rcpts > 0 => delay += Duration::from_millis(300),
            _ => {}
        }
        // A tarpit makes each reply wait for the one before.
        let in_turn = matches!(conn.manner, Manner::Tarpit | Manner::Twice(_));
        let base = if in_turn { conn.last.max(self.now) } else { self.now };
        let when = (base + delay).max(conn.last);
        let busy = matches!(conn.manner, Manner::Busy(n) if at == n);
        let twice = matches!(conn.manner, Manner::Twice(n) if at == n);
        let drip = conn.manner == Manner::Drip;
        let mut last = when;
        if twice {
            self.at(when - self.now, Event::Bytes(link, bytes.clone()));
            self.at(when - self.now, Event::Bytes(link, bytes));
        } else if drip || cut {
            let pause = Duration::from_millis(if drip { 120 } else { 0 });
            for byte in bytes {
                self.at(last - self.now, Event::Bytes(link, vec![byte]));
                last += pause;
            }
        } else {
            self.at(when - self.now, Event::Bytes(link, bytes));
        }
        let conn = self.conns.get_mut(&link).expect("a live connection");
        conn.last = last;
        if conn.manner == Manner::IdleHangup {
            let commands = conn.commands;
            self.at(Duration::from_millis(1500), Event::Idle(link, commands));
        }
        if busy {
            self.hang_up(link, false);
        }
    }

    pub fn hang_up(&mut self, link: LinkId, reset: bool) {
        let conn = self.conns.get_mut(&link).expect("a live connection");
        conn.over = true;
        let when = conn.last.max(self.now + self.rtt);
        self.at(when - self.now, Event::Closed(link, reset));
    }

    pub fn check_answer(&mut self, ticket: Ticket, answer: &Answer) {
        let asked = &mut self.asked[ticket.0 as usize];
        asked.answers += 1;
        asked.answer = Some((answer.verdict, answer.basis));
        asked.answered = Some(self.now);
        self.seen.insert(format!("{} {:?}", answer.verdict, answer.basis));
        let asked = &self.asked[ticket.0 as usize];
        let why = answer.finding.as_ref().map(|f| f.to_string());
        self.say(|| format!("answer {} {}: {} {:?} {why:?}", ticket.0, asked.key, answer.verdict, answer.basis));
        assert_eq!(asked.answers, 1, "{} is answered twice", asked.key);
        assert!(!asked.cancelled, "{} is answered although nobody waits", asked.key);
        assert!(self.now <= asked.deadline, "{} is answered {:?} late", asked.key, self.now - asked.deadline);
        let config = &self.hops[asked.hop].1;
        let servers: Vec<usize> = config.servers.servers().iter().map(number_of).collect();
        let of = |server| (asked.key.clone(), server);
        match (answer.verdict, answer.basis) {
            (Verdict::Absent, Basis::Probe | Basis::Cache) => {
                let life = self.lives.absent + Duration::from_secs(30);
                let by = servers.iter().filter_map(|&server| Some((server, *self.refused.get(&of(server))?)));
                let by: Vec<(usize, Instant)> = by.filter(|(_, at)| self.now < *at + life).collect();
                assert!(!by.is_empty(), "{} was not refused by a server of this next hop lately", asked.key);
                let vouched = |(server, at): &(usize, Instant)| {
                    let taken = self.canary.get(server).into_iter().flatten();
                    taken
                        .into_iter()
                        .any(|taken| *taken < *at + Duration::from_secs(45) && *at < *taken + Duration::from_secs(45))
                };
                if config.known_good.is_some() && self.canary_since[asked.hop] {
                    assert!(by.iter().any(vouched), "{} was refused by a server that refuses its canary", asked.key);
                }
                let status = self.scheduler.status(self.now).find(|status| status.name == config.name);
                let is_doubted = servers.len() == 1 && status.is_some_and(|status| status.canary_refused);
                assert!(!is_doubted, "{} is absent while the canary is refused", asked.key);
            }
            (Verdict::Exists, Basis::Probe | Basis::Cache | Basis::Stale) => {
                // Without a test, or where it does not matter, one that takes everything is believed.
                let believes = config.catch_all_test.is_none() || config.blind == Blind::Exists || !self.always_tested;
                let is_proof =
                    |server: &usize| self.accepted.contains(&of(*server)) && (believes || !self.blind.contains(server));
                assert!(servers.iter().any(is_proof), "{} was not taken by a server of this next hop", asked.key);
            }
            (Verdict::Exists, Basis::Unavailable) => assert_eq!(asked.unavailable, Unavailable::Accept),
            (Verdict::Unknown, Basis::Unavailable) => assert_eq!(asked.unavailable, Unavailable::Tempfail),
            (Verdict::Unknown, Basis::Nothing) => {}
            other => panic!("{}: {other:?}", asked.key),
        }
    }

    pub fn check_end(&self) {
        assert!(self.scheduler.is_idle(), "something is left");
        assert!(self.conns.is_empty(), "connections are left");
        for asked in &self.asked {
            assert_eq!(asked.answers, u32::from(!asked.cancelled), "answers for {}", asked.key);
        }
        for (hop, times) in &self.rcpt_times {
            let config = &self.hops[*hop].1;
            let rate = config.probes_per_second as usize;
            if rate > 0 {
                // A burst of a second's worth; what was counted may be under way in each session.
                let most = 6 * rate + config.sessions * (1 + rate);
                for (at, first) in times.iter().enumerate() {
                    let end = times.partition_point(|time| *time < *first + Duration::from_secs(5));
                    let start = *first - self.start;
                    assert!(end - at <= most, "{} RCPTs at hop{hop} from {start:?} on at {rate} a second", end - at);
                }
            }
        }
    }
}
