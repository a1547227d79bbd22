//! Call-ahead in the loop: the scheduler, and the connections that it wants.
//!
//! The scheduler ([`crate::probe`]) decides everything; here its commands are carried out, and it is told what came of
//! them. Who asked is a session: its ticket is its id, so an answer for one that is gone finds nobody.

use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Interest, Registry};
use slab::Slab;

use super::tls::Client;
use super::token::{GENERATION_MASK, SessionId, Subject};
use super::upstream::Upstream;
use super::verdicts::{VerdictFile, Wake};
use crate::config::{Backend, Config, Tls, Unavailable};
use crate::map::{HashKey, Scratch};
use crate::probe::cache::{Cache, Epoch, ServerId};
use crate::probe::hop::HopConfig;
use crate::probe::outcome::Hangup;
use crate::probe::route::{Route, Table};
use crate::probe::schedule::{Answer, Command, Level, Limits, LinkId, Question, Scheduler, Target, Ticket};
use crate::resolve::{Directory, Prober, Recipient};
use crate::sys;
use crate::verdict::Verdict;

/// How long the addresses of a name are used.
const NAME_LIFE: Duration = Duration::from_secs(300);

/// The calendar, for what outlives the process.
pub fn epoch() -> Epoch {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Epoch(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// The scheduler, and its connections.
pub struct Probing {
    /// Who is asked what, and what is known.
    pub scheduler: Scheduler,
    /// Where what is known is kept.
    pub verdicts: VerdictFile,
    connections: Slab<Connection>,
    by_link: HashMap<LinkId, usize>,
    generation: u32,
    resolver: Resolver,
    tls: Client,
    /// What the next hops of the scheduler were made of.
    origin: Option<(Vec<Backend>, Table)>,
    sweep: Option<Sweep>,
    key: Vec<u8>,
}

/// Dropping what the cache holds about addresses that the lists settle now. They are not asked for there any more, so
/// it need not be done at once: that would take a second for a million entries.
struct Sweep {
    directory: Arc<Directory>,
    /// The next place of the cache.
    from: usize,
    began: Instant,
}

/// Sessions that get what a backend said in one turn: backends answer in bursts, and others are to be served meanwhile.
const ANSWERS_PER_TURN: usize = 32;

/// Places of the cache that are swept in a turn: 0.1 ms.
const PLACES_PER_TURN: usize = 256;

struct Connection {
    link: LinkId,
    generation: u32,
    connected: bool,
    upstream: Upstream,
}

/// The ticket of a session.
fn ticket(id: SessionId) -> Ticket {
    Ticket(u64::from(id.generation) << 32 | u64::from(id.slot))
}

/// The session of a ticket.
fn session(ticket: Ticket) -> SessionId {
    SessionId { slot: ticket.0 as u32, generation: (ticket.0 >> 32) as u32 }
}

impl Probing {
    /// Nothing is asked yet. `wake` is called when the resolver has found something, or the file is read.
    pub fn new(config: &Config, now: Instant, wake: Wake) -> io::Result<Probing> {
        let hash = HashKey::new();
        let cache = Cache::new(config.cache.clone(), hash.clone());
        let seed = hash.hash_one(now.elapsed().as_nanos());
        Ok(Probing {
            scheduler: Scheduler::new(cache, Limits::default(), hash, seed, now, epoch()),
            verdicts: VerdictFile::new(config, Arc::clone(&wake), now),
            connections: Slab::new(),
            by_link: HashMap::new(),
            generation: 0,
            resolver: Resolver::start(wake)?,
            tls: Client::new(),
            origin: None,
            sweep: None,
            key: Vec::new(),
        })
    }

    /// Takes over the backends of a configuration, and the next hops and lists of a directory.
    pub fn configure(&mut self, config: &Config, directory: &Arc<Directory>, now: Instant) {
        let routes = directory.routes();
        self.scheduler.cache().set_lives(config.cache.clone());
        self.scheduler.set_clock(now, epoch());
        self.tls.configure(config.backends.iter().any(|backend| backend.tls == Tls::Required));
        // A table may hold many thousands.
        if !self.origin.as_ref().is_some_and(|(backends, table)| *backends == config.backends && *table == routes.table)
        {
            self.origin = Some((config.backends.clone(), routes.table.clone()));
            self.set_hops(config, &routes.table, now);
        }
        let mut scratch = Scratch::default();
        // Where lists settle it now, the answer will not be listened to.
        self.scheduler.call_off(|key, hop| {
            directory.if_probed(key, &mut scratch, |r| r.route.name().is_some_and(|name| name == hop)) != Some(false)
        });
        self.sweep = Some(Sweep { directory: Arc::clone(directory), from: 0, began: now });
        self.sweep();
        self.verdicts.configure(config);
        let directory = Arc::clone(directory);
        let keep = move |key: &[u8], by: Option<ServerId>| match directory.may_be_ours(key, &mut scratch) {
            true => by,
            false => directory.if_probed(key, &mut scratch, |recipient| recipient.route.witness(by)).flatten(),
        };
        self.verdicts.read(&self.scheduler, Box::new(keep), now);
    }

    fn set_hops(&mut self, config: &Config, table: &Table, now: Instant) {
        let host_name = sys::host_name();
        let mut names: HashSet<Box<str>> = HashSet::new();
        let mut add = |scheduler: &mut Scheduler, hop: HopConfig| {
            names.insert(hop.name.clone());
            scheduler.set_hop(hop, now);
        };
        for backend in &config.backends {
            match HopConfig::new(backend, &host_name) {
                Ok(hop) => add(&mut self.scheduler, hop),
                Err(error) => log::error!("backend {}: {error}; it is not asked", backend.name),
            }
        }
        for hop in table.next_hops() {
            match HopConfig::of_table(hop, &config.backends, &host_name) {
                Ok(settings) => add(&mut self.scheduler, settings),
                Err(error) => log::error!("next hop {hop}: {error}; it is not asked"),
            }
        }
        self.scheduler.retain_hops(|name| names.contains(name), now);
    }

    /// Says goodbye to the backends, and saves what is known.
    pub fn finish(&mut self, registry: &Registry, now: Instant) {
        self.scheduler.finish(now);
        while self.has_work() {
            self.obey(registry, now);
        }
        self.verdicts.finish(&mut self.scheduler, now);
    }

    /// Goes on with the sweep that is under way.
    fn sweep(&mut self) {
        let Some(Sweep { directory, from, .. }) = &mut self.sweep else { return };
        let (mut scratch, mut key) = (Scratch::default(), std::mem::take(&mut self.key));
        let next = self.scheduler.cache().forget_among(*from, PLACES_PER_TURN, |local, domain| {
            key.clear();
            for part in [local, b"@", domain] {
                key.extend_from_slice(part);
            }
            let is_asked = directory.snapshot().lookup(&key, &mut scratch, &mut ()).wants_probe();
            !is_asked && !directory.may_be_ours(&key, &mut scratch)
        });
        self.key = key;
        match next {
            Some(next) => *from = next,
            None => self.sweep = None,
        }
    }

    /// A session is gone, or waits no more.
    pub fn forget(&mut self, id: SessionId) {
        self.scheduler.cancel(ticket(id));
    }

    /// When the scheduler wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let sweep = self.sweep.as_ref().map(|sweep| sweep.began);
        self.scheduler.poll_timeout().into_iter().chain(self.verdicts.next_timeout()).chain(sweep).min()
    }

    /// The scheduler, which knows what time it is.
    fn timely(&mut self, now: Instant) -> &mut Scheduler {
        if self.scheduler.calendar_is_due(now) {
            self.scheduler.set_clock(now, epoch());
        }
        &mut self.scheduler
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.timely(now);
        if self.scheduler.poll_timeout().is_some_and(|at| at <= now) {
            self.scheduler.handle_timeout(now);
        }
        self.verdicts.turn(&mut self.scheduler, now);
        self.sweep();
    }

    /// What the resolver found, and what the file held.
    pub fn handle_wake(&mut self, now: Instant) {
        self.verdicts.take(&mut self.scheduler, now);
        while let Ok((name, found)) = self.resolver.found.try_recv() {
            self.scheduler.handle_resolved(&name, found, NAME_LIFE, now);
        }
    }

    /// An event of one of the connections.
    pub fn handle_event(&mut self, id: SessionId, event: &mio::event::Event, buffer: &mut [u8], now: Instant) {
        let Some(connection) = self.connections.get_mut(id.slot as usize) else { return };
        if connection.generation != id.generation {
            return;
        }
        let link = connection.link;
        if !connection.connected && (event.is_writable() || event.is_error() || event.is_read_closed()) {
            match connection.upstream.connect_result() {
                Ok(false) => return,
                Ok(true) => {
                    connection.connected = true;
                    self.scheduler.handle_connected(link, now);
                }
                Err(error) => return self.scheduler.handle_close(link, &hangup(&error), now),
            }
        }
        if let Err(error) = connection.upstream.flush() {
            return self.scheduler.handle_close(link, &hangup(&error), now);
        }
        if event.is_readable() || event.is_read_closed() {
            self.read(id.slot as usize, link, buffer, now);
        }
    }

    fn read(&mut self, slot: usize, link: LinkId, buffer: &mut [u8], now: Instant) {
        loop {
            let Some(Connection { upstream, .. }) = self.connections.get_mut(slot) else { return };
            let read = upstream.read(buffer);
            if upstream.established() {
                self.scheduler.handle_tls_established(link, now);
            }
            match read {
                Ok(0) => return self.scheduler.handle_close(link, &Hangup::Closed, now),
                Ok(read) => self.scheduler.handle_input(link, &buffer[..read], now),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.scheduler.handle_close(link, &hangup(&e), now),
            }
        }
    }

    /// Whether the scheduler has said something that is not done yet.
    pub fn has_work(&self) -> bool {
        self.scheduler.has_commands()
    }

    /// Does what the scheduler says, up to a number of answers, which come back.
    pub fn obey(&mut self, registry: &Registry, now: Instant) -> Vec<(SessionId, Verdict)> {
        let mut answers = Vec::new();
        while answers.len() < ANSWERS_PER_TURN
            && let Some(command) = self.scheduler.poll_command()
        {
            match command {
                Command::Resolve(name) => self.resolver.look_up(name),
                Command::Connect { link, to } => {
                    if let Err(error) = self.connect(link, &to, registry) {
                        self.scheduler.handle_close(link, &hangup(&error), now);
                    }
                }
                Command::Transmit { link, bytes } => {
                    let sent = self.upstream(link).map(|upstream| upstream.send(&bytes));
                    if let Some(Err(error)) = sent {
                        self.scheduler.handle_close(link, &hangup(&error), now);
                    }
                }
                Command::StartTls { link, name, verify } => {
                    let connection = self.by_link.get(&link).and_then(|&slot| self.connections.get_mut(slot));
                    let begun = connection.map(|c| c.upstream.start_tls(&self.tls, name.as_deref(), verify));
                    if let Some(Err(error)) = begun {
                        self.scheduler.handle_close(link, &hangup(&error), now);
                    }
                }
                Command::Close(link) => {
                    let slot = self.by_link.remove(&link);
                    if let Some(connection) = slot.and_then(|slot| self.connections.try_remove(slot)) {
                        connection.upstream.close();
                    }
                }
                Command::Deliver(ticket, Answer { verdict, .. }) => answers.push((session(ticket), verdict)),
                Command::Log(level, text) => match level {
                    Level::Debug => log::debug!("{text}"),
                    Level::Info => log::info!("{text}"),
                    Level::Warn => log::warn!("{text}"),
                },
            }
        }
        answers
    }

    fn upstream(&mut self, link: LinkId) -> Option<&mut Upstream> {
        let &slot = self.by_link.get(&link)?;
        self.connections.get_mut(slot).map(|connection| &mut connection.upstream)
    }

    fn connect(&mut self, link: LinkId, to: &Target, registry: &Registry) -> io::Result<()> {
        let mut upstream = Upstream::connect(to)?;
        let entry = self.connections.vacant_entry();
        self.generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        let generation = self.generation;
        let id = SessionId { slot: entry.key() as u32, generation };
        registry.register(upstream.source(), Subject::Upstream(id).token(), Interest::READABLE | Interest::WRITABLE)?;
        self.by_link.insert(link, entry.key());
        entry.insert(Connection { link, generation, connected: false, upstream });
        Ok(())
    }
}

fn hangup(error: &io::Error) -> Hangup {
    Hangup::Error(crate::config::reason(error).into())
}

/// Call-ahead as sessions see it: who can be asked, for whom, and what has been found out.
#[derive(Default)]
pub struct Ahead {
    /// `None` without a backend.
    pub probing: Option<Probing>,
    /// The session that is being served.
    pub asker: Option<SessionId>,
    /// What was found out about the recipient of the request at the front of its input.
    pub resume: Option<Verdict>,
}

impl Ahead {
    /// Asks for the session that is being served; `patience`: how long it may wait for its answer.
    pub fn asking(&mut self, patience: Duration, now: Instant) -> Asking<'_> {
        let Ahead { probing, asker, resume } = self;
        Asking { probing: probing.as_mut().zip(*asker), patience, resume, now }
    }
}

/// Asks on behalf of one session, if there is anybody to be asked.
pub struct Asking<'a> {
    /// Who is asked, and who asks.
    probing: Option<(&'a mut Probing, SessionId)>,
    patience: Duration,
    resume: &'a mut Option<Verdict>,
    /// The time of this turn.
    now: Instant,
}

impl Prober for Asking<'_> {
    fn verify(&mut self, recipient: &Recipient<'_>) -> Option<Verdict> {
        if let Some(verdict) = self.resume.take() {
            return Some(verdict);
        }
        let Some((probing, session)) = &mut self.probing else { return Some(Verdict::Unknown) };
        probing.timely(self.now);
        let Probing { scheduler, key, .. } = probing;
        let hop = match recipient.route {
            Route::Backend(name, _) => scheduler.hop(name),
            Route::Hop(hop) => scheduler.hop(&hop.to_string()),
            _ => None,
        };
        let Some(hop) = hop else { return Some(Verdict::Unknown) };
        key.clear();
        key.extend_from_slice(recipient.local);
        key.push(b'@');
        key.extend_from_slice(recipient.domain);
        let unavailable = recipient
            .policy
            .unavailable_exists
            .map(|exists| if exists { Unavailable::Accept } else { Unavailable::Tempfail });
        let question = Question { key, hop, unavailable };
        scheduler.ask(&question, ticket(*session), self.now + self.patience, self.now).map(|answer| answer.verdict)
    }
}

/// A name, and its addresses or why there are none.
type Resolved = (Box<str>, Result<Vec<IpAddr>, String>);

/// Names to addresses, on a thread of its own: the system's resolver blocks.
struct Resolver {
    names: Sender<Box<str>>,
    found: Receiver<Resolved>,
}

impl Resolver {
    fn start(wake: Wake) -> io::Result<Resolver> {
        let (names, inbox) = channel::<Box<str>>();
        let (outbox, found) = channel();
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            for name in inbox {
                let addresses = (&*name, 0).to_socket_addrs().map(|found| found.map(|at| at.ip()).collect());
                if outbox.send((name, addresses.map_err(|e| crate::config::reason(&e)))).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Resolver { names, found })
    }

    fn look_up(&self, name: Box<str>) {
        if self.names.send(name).is_err() {
            log::error!("the resolver's thread has ended; names of backends can't be looked up");
        }
    }
}
