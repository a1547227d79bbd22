//! The scheduler: who is asked what, when, over which session, and who gets the answer.
//!
//! Owns every next hop, session machine, queue, ticket and cache entry of call-ahead; owns no socket and reads no clock.
//! The shell tells it what happened ([`Scheduler::ask`], `handle_*`) and does what [`Scheduler::poll_command`] says; the
//! head comment of [`probe`](super) shows the whole conversation.
//!
//! # The life of a question
//!
//! 1. The cache answers: done, at once; when due, a background job asks again.
//! 2. Somebody asks for the same address already: the ticket joins that job.
//! 3. No server of the next hop may be tried now: a stale "exists" serves, else `unavailable` decides, at once.
//! 4. The queue is full, or too many tickets wait: a stale "exists" serves, else unknown, at once.
//! 5. Otherwise it is a job in the next hop's queue. Sessions take jobs when they are ready for a group; a session is
//!    opened when those that stand, or are being opened, can't take what waits.
//! 6. Its answer may need a proof: "exists" that a made-up address of the domain is refused, "absent" that `known_good`
//!    is taken, both by the server that gave the answer. Then it is held until the proof's own job is answered; one such
//!    job serves all that wait for it. Where another server answers that, they are asked again.
//! 7. The answer goes into the cache if it is believed, and to every ticket. Each ticket gets exactly one answer, at its
//!    deadline at the latest; a job whose tickets are gone goes on in the background, and its answer is kept.
//!
//! # What can fail
//!
//! A session that can't be had makes its server's breaker open; a server's addresses are tried first, then the next
//! server; when none is left, all that waits is answered by (3). A question that was under way in a session that broke
//! is asked once more, in a group of its own; one that only waited there is put back untouched. Nothing is asked more than
//! [`MAX_ROUNDS`] times, whatever the servers do.

mod proof;
mod report;
mod sessions;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::cache::{Cache, Epoch, Evidence, Freshness, Hit, Known, ServerId};
use super::classify::{Cause, Finding, Judgement, Stage};
use super::clock::Clock;
use super::hop::{Hop, HopConfig, Place};
use super::machine::Machine;
use super::outcome::JobId;
use super::pace::Random;
use crate::config::{Endpoint, Unavailable};
use crate::map::HashKey;
use crate::proto::smtp::Mailbox;
use crate::verdict::Verdict;

pub use report::{HopStatus, Loading, Saving};

/// How often a question is put into a session at most.
pub const MAX_ROUNDS: u8 = 12;
/// How often it may be under way when a session breaks.
const MAX_BROKEN: u8 = 2;

/// Everything has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Questions in the queue of one next hop; beyond that new ones are answered at once.
    pub queue: usize,
    /// Background jobs in the queue of one next hop; beyond that they are dropped.
    pub background: usize,
    /// Tickets that wait, over all.
    pub tickets: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { queue: 10_000, background: 1_000, tickets: 50_000 }
    }
}

/// A next hop, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopId(pub u32);

/// Who waits for an answer; the shell chooses them, no two alike at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A connection. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    slot: u32,
    generation: u32,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
}

/// How loud a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For who looks for a fault.
    Debug,
    /// A state that changed.
    Info,
    /// People should act.
    Warn,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look the name up, then [`Scheduler::handle_resolved`].
    Resolve(Box<str>),
    /// Connect, then [`Scheduler::handle_connected`] or [`Scheduler::handle_close`].
    Connect {
        /// What it is known by.
        link: LinkId,
        /// Where.
        to: Target,
    },
    /// Write.
    Transmit {
        /// Where.
        link: LinkId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Begin the handshake, then [`Scheduler::handle_tls_established`] or [`Scheduler::handle_close`].
    StartTls {
        /// Where.
        link: LinkId,
        /// The server's name, or its address if it is known by that, for its certificate.
        name: Option<Box<str>>,
        /// Whether the certificate must be right.
        verify: bool,
    },
    /// Drop the connection; its id means nothing any more.
    Close(LinkId),
    /// Hand out an answer.
    Deliver(Ticket, Answer),
    /// Write a line to the log.
    Log(Level, String),
}

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The cache.
    Cache,
    /// An "exists" in the cache that would have expired, while nothing newer is to be had.
    Stale,
    /// The next hop's own answer, just now.
    Probe,
    /// The next hop can't be asked, and `unavailable` says what holds.
    Unavailable,
    /// Nothing was found out.
    Nothing,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `Exists`, `Absent` or `Unknown`.
    pub verdict: Verdict,
    /// What it rests on.
    pub basis: Basis,
    /// The cache entry behind it.
    pub hit: Option<Hit>,
    /// What the probe found, or why there was none.
    pub finding: Option<Arc<Finding>>,
}

/// How requests were answered, over all next hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AskStats {
    /// Out of the cache.
    pub hits: u64,
    /// By asking, or not at all: the cache had nothing that answers.
    pub misses: u64,
    /// Of the misses, those that joined a question that was under way.
    pub joined: u64,
    /// Of the misses, those that an older "exists" has answered, as nothing newer was to be had.
    pub stale: u64,
    /// Hits for which the next hop was asked again in the background.
    pub refreshes: u64,
}

/// A question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The folded address, `local@domain`, with its detail: what the next hop is to be asked for.
    pub key: &'a [u8],
    /// Whom to ask.
    pub hop: HopId,
    /// What the domain says about a next hop that can't be asked; `None`: what the next hop's configuration says.
    pub unavailable: Option<Unavailable>,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    deadline: Instant,
    unavailable: Unavailable,
}

/// An answer that waits for a proof.
#[derive(Debug)]
struct Held {
    job: JobId,
    finding: Finding,
    place: Place,
}

#[derive(Debug)]
enum Kind {
    Question,
    /// A made-up address of the domain.
    CatchAll {
        place: Place,
        domain: Box<[u8]>,
        held: Vec<Held>,
    },
    /// The address that is known to be good.
    Canary {
        place: Place,
        held: Vec<Held>,
    },
}

#[derive(Debug)]
struct Job {
    key: Box<[u8]>,
    mailbox: Mailbox,
    hop: HopId,
    kind: Kind,
    waiters: Vec<Waiter>,
    /// In sessions it has been put into.
    rounds: u8,
    /// Of these, broke while it was under way.
    broken: u8,
}

struct Link {
    generation: u32,
    hop: HopId,
    /// Index in the hop's servers; past the end when they were replaced.
    server: usize,
    begun: Instant,
    place: Place,
    trial: bool,
    answered: bool,
    machine: Machine,
    armed: Option<Instant>,
}

#[derive(Debug, Default)]
struct Name {
    addresses: Vec<IpAddr>,
    expires: Option<Instant>,
    /// Since when an answer is awaited.
    asked: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Link(u32),
    Hop(HopId),
    Ticket(Ticket),
}

/// How a question ends.
enum Conclusion {
    /// Believed; what goes into the cache, and who said so.
    Verdict(Verdict, Option<Known>, ServerId),
    /// The next hop was asked, and it proves nothing.
    Unknown,
    /// The next hop could not be asked.
    Unavailable,
}

/// See the head of this file.
pub struct Scheduler {
    cache: Cache,
    limits: Limits,
    random: Random,
    own: Vec<Endpoint>,
    hops: Vec<Option<Hop>>,
    hop_ids: HashMap<Box<str>, HopId>,
    jobs: Slab<Job>,
    /// Questions by next hop and address.
    by_key: HashMap<Box<[u8]>, JobId, HashKey>,
    tickets: HashMap<Ticket, JobId, HashKey>,
    links: Slab<Link>,
    generation: u32,
    names: HashMap<Box<str>, Name>,
    wakes: BTreeSet<(Instant, Wake)>,
    commands: VecDeque<Command>,
    /// Whose answers are among the commands.
    delivering: HashSet<Ticket>,
    clock: Clock,
    stats: AskStats,
}

impl Scheduler {
    /// A scheduler without next hops. `now` and `epoch` are the same moment; `seed` should be unpredictable: made-up
    /// addresses come from it.
    pub fn new(cache: Cache, limits: Limits, hash: HashKey, seed: u64, now: Instant, epoch: Epoch) -> Scheduler {
        Scheduler {
            cache,
            limits,
            random: Random::new(seed),
            own: Vec::new(),
            hops: Vec::new(),
            hop_ids: HashMap::new(),
            jobs: Slab::new(),
            by_key: HashMap::with_hasher(hash.clone()),
            tickets: HashMap::with_hasher(hash),
            links: Slab::new(),
            generation: 0,
            names: HashMap::new(),
            wakes: BTreeSet::new(),
            commands: VecDeque::new(),
            delivering: HashSet::new(),
            clock: Clock::new(now, epoch),
            stats: AskStats::default(),
        }
    }

    /// Whether [`Scheduler::set_clock`] is due.
    pub fn calendar_is_due(&self, now: Instant) -> bool {
        self.clock.is_due(now)
    }

    /// How requests were answered so far.
    pub fn ask_stats(&self) -> AskStats {
        self.stats
    }

    /// Says what time it is by the calendar, now and then: the clock may have been set, or the machine have slept.
    pub fn set_clock(&mut self, now: Instant, calendar: Epoch) {
        self.clock.set(now, calendar);
    }

    /// The clock by which what is known grows old.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time by that clock.
    pub fn epoch(&self, now: Instant) -> Epoch {
        self.clock.time(now)
    }

    /// Our own listeners, which are never asked.
    pub fn set_own(&mut self, own: Vec<Endpoint>) {
        self.own = own;
    }

    /// Other limits; what waits already may exceed them.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What is known of addresses, for `explain`, dumps, life times and for dropping entries.
    pub fn cache(&mut self) -> &mut Cache {
        &mut self.cache
    }

    /// The same, for looking.
    pub fn known(&self) -> &Cache {
        &self.cache
    }

    /// Adds a next hop, or changes the one of that name.
    pub fn set_hop(&mut self, config: HopConfig, now: Instant) -> HopId {
        if let Some(id) = self.hop(&config.name) {
            if let Some(hop) = self.hop_mut(id) {
                hop.reconfigure(config);
                self.retire_links(id);
                self.work(id, now);
            }
            return id;
        }
        let id = HopId(self.hops.len() as u32);
        self.hop_ids.insert(config.name.clone(), id);
        self.hops.push(Some(Hop::new(config)));
        id
    }

    /// The next hop of that name.
    pub fn hop(&self, name: &str) -> Option<HopId> {
        self.hop_ids.get(name).copied()
    }

    /// Whoever waits for the answer of a next hop that is not the one to be asked any more is told "unknown". What the old
    /// one says is still taken in, under its own name.
    pub fn call_off(&mut self, mut is_asked_at: impl FnMut(&[u8], &str) -> bool) {
        let mut left = Vec::new();
        for (_, job) in &mut self.jobs {
            let hop = self.hops.get(job.hop.0 as usize).and_then(Option::as_ref);
            if !job.waiters.is_empty() && !hop.is_some_and(|hop| is_asked_at(&job.key, &hop.config.name)) {
                left.append(&mut job.waiters);
            }
        }
        for Waiter { ticket, deadline, .. } in left {
            self.tickets.remove(&ticket);
            self.wakes.remove(&(deadline, Wake::Ticket(ticket)));
            let finding = Some(failure(Cause::Unconfigured));
            let answer = Answer { verdict: Verdict::Unknown, basis: Basis::Nothing, hit: None, finding };
            self.deliver(ticket, answer);
        }
    }

    /// Drops the next hops that `keep` does not choose; whoever waits for them is told "unknown".
    pub fn retain_hops(&mut self, mut keep: impl FnMut(&str) -> bool, now: Instant) {
        let gone: BTreeSet<HopId> = self.hop_ids.extract_if(|name, _| !keep(name)).map(|(_, id)| id).collect();
        if gone.is_empty() {
            return;
        }
        for &id in &gone {
            let slots = self.hop_mut(id).map(|hop| std::mem::take(&mut hop.links)).unwrap_or_default();
            slots.into_iter().for_each(|slot| self.drop_link(slot));
        }
        let finding = Arc::new(Finding::failure(Stage::Idle, Cause::Unconfigured));
        let is_question = |job: &Job| gone.contains(&job.hop) && matches!(job.kind, Kind::Question);
        let questions = self.jobs.iter().filter(|(_, job)| is_question(job)).map(|(at, _)| JobId(at as u32));
        let questions: Vec<JobId> = questions.collect();
        questions.into_iter().for_each(|job| self.conclude(job, Conclusion::Unknown, &finding, now));
        self.jobs.retain(|_, job| !gone.contains(&job.hop));
        for &id in &gone {
            let hop = self.hops.get_mut(id.0 as usize).and_then(Option::take);
            if let Some(at) = hop.and_then(|hop| hop.armed) {
                self.wakes.remove(&(at, Wake::Hop(id)));
            }
        }
        let servers = self.hops.iter().flatten().flat_map(|hop| &hop.servers);
        let used = servers.filter_map(|server| match &server.spec.at {
            Endpoint::Host(host, _) => Some(host.as_str()),
            _ => None,
        });
        let used: HashSet<&str> = used.collect();
        self.names.retain(|name, _| used.contains(&**name));
    }

    /// Asks. `Some`: the answer. `None`: it will be delivered to the ticket, by the deadline at the latest.
    pub fn ask(&mut self, question: &Question<'_>, ticket: Ticket, deadline: Instant, now: Instant) -> Option<Answer> {
        self.cancel(ticket);
        let epoch = self.epoch(now);
        let hit = self.cache.find(question.key, epoch);
        let counts = |hit: &Hit| self.hop_ref(question.hop).is_some_and(|hop| hop.stands_by(question.key, hit));
        if let Some(hit) = hit.filter(|hit| hit.freshness != Freshness::Stale && counts(hit)) {
            self.stats.hits += 1;
            if hit.freshness == Freshness::Due {
                self.refresh(question, now);
            }
            return Some(Answer { verdict: hit.known.verdict(), basis: Basis::Cache, hit: Some(hit), finding: None });
        }
        self.stats.misses += 1;
        let Some(hop) = self.hop_ref(question.hop) else {
            return Some(self.fallback((question.hop, question.key), &failure(Cause::Unconfigured), None, now));
        };
        let unavailable = question.unavailable.unwrap_or(hop.config.unavailable);
        if let Some(&id) = self.by_key.get(&*joined(question.hop, question.key)) {
            if self.tickets.len() >= self.limits.tickets {
                return Some(self.fallback((question.hop, question.key), &failure(Cause::Full), None, now));
            }
            self.stats.joined += 1;
            self.join(id, Waiter { ticket, deadline, unavailable }, now);
            self.work(question.hop, now);
            return None;
        }
        if hop.is_hopeless(now) {
            let finding = hop.last_error.clone().unwrap_or_else(|| failure(Cause::Down));
            return Some(self.fallback((question.hop, question.key), &finding, Some(unavailable), now));
        }
        if hop.urgent.len() + hop.waiting.len() >= self.limits.queue || self.tickets.len() >= self.limits.tickets {
            return Some(self.fallback((question.hop, question.key), &failure(Cause::Full), None, now));
        }
        let id = match self.add_job(question) {
            Ok(id) => id,
            Err(finding) => return Some(self.fallback((question.hop, question.key), &finding, None, now)),
        };
        if let Some(hop) = self.hop_mut(question.hop) {
            hop.waiting.push_back(id);
        }
        self.join(id, Waiter { ticket, deadline, unavailable }, now);
        self.work(question.hop, now);
        None
    }

    /// Nobody waits for this ticket any more; an answer that is on its way does not arrive.
    pub fn cancel(&mut self, ticket: Ticket) {
        let Some(id) = self.tickets.remove(&ticket) else {
            if self.delivering.remove(&ticket) {
                self.commands.retain(|command| !matches!(command, Command::Deliver(to, _) if *to == ticket));
            }
            return;
        };
        let Some(job) = self.jobs.get_mut(id.0 as usize) else { return };
        if let Some(at) = job.waiters.iter().position(|waiter| waiter.ticket == ticket) {
            let waiter = job.waiters.swap_remove(at);
            self.wakes.remove(&(waiter.deadline, Wake::Ticket(ticket)));
        }
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        if let Some(Command::Deliver(ticket, _)) = &command {
            self.delivering.remove(ticket);
        }
        command
    }

    fn deliver(&mut self, ticket: Ticket, answer: Answer) {
        self.delivering.insert(ticket);
        self.commands.push_back(Command::Deliver(ticket, answer));
    }

    /// Whether there is something to be done.
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// When [`Scheduler::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Time has passed. Harmless when early.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, wake)) = self.wakes.first() {
            if at > now {
                return;
            }
            self.wakes.pop_first();
            match wake {
                Wake::Link(slot) => self.link_timeout(slot, now),
                Wake::Hop(id) => {
                    if let Some(hop) = self.hop_mut(id) {
                        hop.armed = None;
                        self.work(id, now);
                    }
                }
                Wake::Ticket(ticket) => self.overdue(ticket, now),
            }
        }
    }

    fn hop_ref(&self, id: HopId) -> Option<&Hop> {
        self.hops.get(id.0 as usize)?.as_ref()
    }

    fn hop_mut(&mut self, id: HopId) -> Option<&mut Hop> {
        self.hops.get_mut(id.0 as usize)?.as_mut()
    }

    fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id.0 as usize)
    }

    /// Asks again in the background, unless that is under way or in vain.
    fn refresh(&mut self, question: &Question<'_>, now: Instant) {
        let room = self.limits.background;
        let fits = |hop: &Hop| !hop.is_hopeless(now) && hop.background.len() < room;
        if self.by_key.contains_key(&*joined(question.hop, question.key))
            || !self.hop_ref(question.hop).is_some_and(fits)
        {
            return;
        }
        let epoch = self.epoch(now);
        self.cache.tried(question.key, epoch);
        if let Ok(id) = self.add_job(question) {
            if let Some(hop) = self.hop_mut(question.hop) {
                hop.background.push_back(id);
            }
            self.stats.refreshes += 1;
            self.work(question.hop, now);
        }
    }

    fn add_job(&mut self, question: &Question<'_>) -> Result<JobId, Arc<Finding>> {
        let (local, domain) = cut(question.key);
        let mailbox = Mailbox::new(local, domain).map_err(|error| failure(Cause::Unwritable(error)))?;
        let id = self.insert_job(question.key, mailbox, question.hop, Kind::Question);
        self.by_key.insert(joined(question.hop, question.key), id);
        Ok(id)
    }

    fn insert_job(&mut self, key: &[u8], mailbox: Mailbox, hop: HopId, kind: Kind) -> JobId {
        let job = Job { key: key.into(), mailbox, hop, kind, waiters: Vec::new(), rounds: 0, broken: 0 };
        JobId(self.jobs.insert(job) as u32)
    }

    fn join(&mut self, id: JobId, waiter: Waiter, now: Instant) {
        let Some(job) = self.jobs.get_mut(id.0 as usize) else { return };
        let first = job.waiters.is_empty();
        let hop = job.hop;
        self.tickets.insert(waiter.ticket, id);
        self.wakes.insert((waiter.deadline.max(now), Wake::Ticket(waiter.ticket)));
        job.waiters.push(Waiter { deadline: waiter.deadline.max(now), ..waiter });
        if !first {
            return;
        }
        // It may have been a refresh, or left alone: now somebody waits.
        let Some(hop) = self.hop_mut(hop) else { return };
        if let Some(at) = hop.background.iter().position(|&job| job == id) {
            hop.background.remove(at);
            hop.waiting.push_back(id);
        }
    }

    /// The deadline of a ticket has come: "unknown", unless the cache still has something. The job goes on.
    fn overdue(&mut self, ticket: Ticket, now: Instant) {
        let Some(&id) = self.tickets.get(&ticket) else { return };
        self.cancel(ticket);
        let Some((hop, key)) = self.job(id).map(|job| (job.hop, job.key.clone())) else { return };
        let answer = self.fallback((hop, &key), &failure(Cause::Deadline), None, now);
        self.deliver(ticket, answer);
    }

    /// What can be said without the next hop.
    fn fallback(
        &mut self,
        (hop, key): (HopId, &[u8]),
        why: &Arc<Finding>,
        policy: Option<Unavailable>,
        now: Instant,
    ) -> Answer {
        let finding = Some(why.clone());
        let counts = |hit: &Hit| {
            hit.known.verdict() == Verdict::Exists && self.hop_ref(hop).is_some_and(|hop| hop.stands_by(key, hit))
        };
        let hit = self.cache.peek(key, self.epoch(now)).filter(counts);
        let (verdict, basis) = match (hit, policy) {
            (Some(_), _) => {
                self.stats.stale += 1;
                (Verdict::Exists, Basis::Stale)
            }
            (None, Some(Unavailable::Accept)) => (Verdict::Exists, Basis::Unavailable),
            (None, Some(Unavailable::Tempfail)) => (Verdict::Unknown, Basis::Unavailable),
            (None, None) => (Verdict::Unknown, Basis::Nothing),
        };
        Answer { verdict, basis, hit, finding }
    }

    /// Ends a question: cache, tickets.
    fn conclude(&mut self, id: JobId, conclusion: Conclusion, finding: &Arc<Finding>, now: Instant) {
        let Some(job) = self.jobs.try_remove(id.0 as usize) else { return };
        self.by_key.remove(&joined(job.hop, &job.key));
        let epoch = self.epoch(now);
        let verdict = match conclusion {
            Conclusion::Verdict(verdict, known, by) => {
                if let Some(known) = known {
                    let evidence = match finding.cause {
                        Cause::Reply { code, status, .. } => Evidence { by, code, status },
                        _ => Evidence { by, ..Evidence::default() },
                    };
                    self.cache.learn(&job.key, known, evidence, epoch);
                }
                Some(verdict)
            }
            Conclusion::Unknown | Conclusion::Unavailable => {
                self.cache.tried(&job.key, epoch);
                None
            }
        };
        if let Some(hop) = self.hop_mut(job.hop) {
            match verdict {
                Some(Verdict::Exists) => hop.stats.exists += 1,
                Some(Verdict::Absent) => hop.stats.absent += 1,
                _ => hop.stats.unknown += 1,
            }
        }
        for waiter in job.waiters {
            self.tickets.remove(&waiter.ticket);
            self.wakes.remove(&(waiter.deadline, Wake::Ticket(waiter.ticket)));
            let answer = match verdict {
                Some(verdict) => Answer { verdict, basis: Basis::Probe, hit: None, finding: Some(finding.clone()) },
                None => {
                    let policy = matches!(conclusion, Conclusion::Unavailable).then_some(waiter.unavailable);
                    self.fallback((job.hop, &job.key), finding, policy, now)
                }
            };
            self.deliver(waiter.ticket, answer);
        }
    }

    fn log(&mut self, level: Level, text: String) {
        self.commands.push_back(Command::Log(level, text));
    }
}

fn failure(cause: Cause) -> Arc<Finding> {
    let judgement = Judgement::Unknown { alarm: false, close: false };
    Arc::new(Finding { stage: Stage::Idle, judgement, cause })
}

/// What a question is known by: the same address may be asked at two next hops for a while, after a reload.
fn joined(hop: HopId, key: &[u8]) -> Box<[u8]> {
    [&hop.0.to_ne_bytes(), key].concat().into()
}

/// Local part and domain of a folded address.
fn cut(key: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memrchr(b'@', key).unwrap_or(key.len());
    (&key[..at], key.get(at + 1..).unwrap_or_default())
}

/// What the resolver's answers are good for, when it does not say.
pub const NAME_LIFE: Duration = Duration::from_secs(300);
