//! The event loop: takes events and gives them to whom they belong, and nothing more.
//!
//! A turn is: wait; take the time once; let listeners accept, sessions work and the loader's news in; serve those whose
//! budget ran out in the last turn; close those whose patience ended. An answer never comes from two directories, since
//! a new one is taken between two events.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Waker};
use nix::sys::signal::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use super::core::{Core, Listening};
use super::listener::{Accepted, Front, Listener, PAUSE};
use super::pages;
use super::probing::Probing;
use super::session::{Session, Turn};
use super::stream::Stream;
use super::timer::Timers;
use super::token::{GENERATION_MASK, SessionId, Subject};
use crate::config::{Config, Listen};
use crate::logging::{Edge, Logger};
use crate::reload::{Loader, Order, Outcome, Ticket};
use crate::stats::Ended;
use crate::sys;

/// Connections that one listener may bring in a turn: a quarter of a millisecond, which those who are here already wait.
const ACCEPTS_PER_TURN: usize = 16;
/// Descriptors that sessions must leave to logs, lists and listeners.
const RESERVED_DESCRIPTORS: usize = 32;
/// A limit that has not been hit for so long counts as left.
const EDGE_QUIET: Duration = Duration::from_secs(10);
/// Idle sessions that one look over all of them finds to be let go, when they are too many.
const EVICTION_BATCH: usize = 64;

/// Why the loop could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A system call that the loop can't do without failed.
    #[error("event loop: {0}")]
    Poll(#[from] io::Error),
}

/// The event loop and all it owns.
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Slab<Listener>,
    sessions: Slab<Session>,
    generation: u32,
    timers: Timers,
    /// Sessions to be served again.
    run_queue: Vec<SessionId>,
    core: Core,
    config: Arc<Config>,
    /// What it began with: user, control socket and pid file stay.
    started_with: Arc<Config>,
    waker: Arc<Waker>,
    loader: Loader,
    /// The last reload that was ordered, until it is done.
    reloading: Option<Ticket>,
    /// Most sessions at once: the configured number, or what the descriptors allow.
    capacity: usize,
    descriptors: usize,
    full: Edge,
    exhausted: Edge,
    idle_longest: Vec<(SessionId, Instant)>,
    per_peer: HashMap<IpAddr, usize, ahash::RandomState>,
    activated: sys::Activated,
    notify: sys::Notify,
    logger: &'static Logger,
    watchdog: Option<Instant>,
    /// Set once: after that nothing is accepted, and at that time the rest is cut off.
    stop_at: Option<Instant>,
}

/// What a server is made of: everything that takes rights to get, so that it can run without them.
pub struct Setup {
    /// What to run on.
    pub config: Arc<Config>,
    /// Listening sockets, with the configuration of each.
    pub bound: Vec<(Listen, sys::Bound)>,
    /// The control socket.
    pub control: Option<sys::Bound>,
    /// What systemd handed over and no listener has claimed yet.
    pub activated: sys::Activated,
    /// How many files the process may have open.
    pub descriptors: u64,
    /// The line to systemd.
    pub notify: sys::Notify,
    /// The log.
    pub logger: &'static Logger,
}

impl Server {
    /// A loop that does not run yet; `start_loader` gets a call that wakes it.
    pub fn new(
        setup: Setup,
        start_loader: impl FnOnce(Box<dyn Fn() + Send>) -> io::Result<Loader>,
    ) -> Result<Server, ServerError> {
        let Setup { config, bound, control, activated, descriptors, notify, logger } = setup;
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2])?;
        // A list that is longer than `ulimit -f` allows can't be saved; that is no reason to die.
        signal_hook::flag::register(Signal::SIGXFSZ as i32, Arc::default())?;
        poll.registry().register(&mut signals, Subject::Signals.token(), Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), Subject::Wake.token())?);
        let wake = Box::new(wake_by(Arc::clone(&waker)));
        let now = Instant::now();
        let mut server = Server {
            poll,
            signals,
            listeners: Slab::new(),
            sessions: Slab::new(),
            generation: 0,
            timers: Timers::default(),
            run_queue: Vec::new(),
            core: Core::new(&config, logger, now),
            waker,
            loader: start_loader(wake)?,
            reloading: None,
            capacity: 0,
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
            full: Edge::new(EDGE_QUIET),
            exhausted: Edge::new(EDGE_QUIET),
            idle_longest: Vec::new(),
            per_peer: HashMap::default(),
            activated,
            watchdog: notify.watchdog_every().map(|_| now),
            notify,
            logger,
            stop_at: None,
            started_with: Arc::clone(&config),
            config,
        };
        server.set_capacity();
        for (listen, bound) in bound {
            server.listen(bound, Front::new(&listen), Some(listen))?;
        }
        if let Some(bound) = control {
            server.listen(bound, Front::control(), None)?;
        }
        Ok(server)
    }

    /// Serves until a signal says stop.
    pub fn run(mut self) -> Result<(), ServerError> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.core.now = Instant::now();
            self.core.watch.turn(self.core.now);
            let mut backends_said = false;
            for event in &events {
                match Subject::of(event.token()) {
                    Subject::Session(id) => {
                        if let Some(session) = self.session(id) {
                            session.handle_event(event);
                            self.serve(id);
                        }
                    }
                    Subject::Listener(slot) => {
                        if let Some(listener) = self.listeners.get_mut(slot as usize) {
                            listener.ready = true;
                        }
                    }
                    Subject::Signals => self.handle_signals(),
                    Subject::Wake => {
                        self.handle_loader();
                        if let Some(probing) = &mut self.core.ahead.probing {
                            probing.handle_wake(self.core.now);
                        }
                    }
                    Subject::Upstream(_) => backends_said = true,
                }
            }
            // Who is answered from memory does not wait until what backends said is worked off.
            for event in events.iter().filter(|_| backends_said) {
                if let (Subject::Upstream(id), Some(probing)) =
                    (Subject::of(event.token()), &mut self.core.ahead.probing)
                {
                    probing.handle_event(id, event, &mut self.core.buffers.read, self.core.now);
                }
            }
            self.accept_where_ready();
            self.serve_run_queue();
            self.drive_probes();
            self.expire();
            self.hand_over_orders();
            self.watch_edges();
            self.core.watch.tell();
            self.feed_watchdog();
            if self.is_stopped() {
                self.stopped();
                return Ok(());
            }
        }
    }

    /// How long the loop may wait for the next event.
    fn patience(&self) -> Option<Duration> {
        let work_is_left = |listener: &Listener| listener.ready && listener.paused.is_none();
        let probes_go_on = self.core.ahead.probing.as_ref().is_some_and(Probing::has_work);
        if probes_go_on
            || !self.run_queue.is_empty()
            || self.listeners.iter().any(|(_, listener)| work_is_left(listener))
        {
            return Some(Duration::ZERO);
        }
        let pauses = self.listeners.iter().filter_map(|(_, listener)| listener.paused);
        let harvest = self.core.watch.harvest.as_ref().and_then(|harvest| harvest.due());
        let probes = self.core.ahead.probing.as_ref().and_then(Probing::next_timeout);
        let next = pauses
            .chain(probes)
            .chain(self.timers.next())
            .chain(self.watchdog)
            .chain(self.stop_at)
            .chain(harvest)
            .min()?;
        Some(next.saturating_duration_since(self.core.now))
    }

    // --- sessions --------------------------------------------------------------------------------------------------

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(id.slot as usize).filter(|session| session.place.id == id)
    }

    fn serve(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(id.slot as usize) {
            let turn = session.serve(&mut self.core);
            self.after(id, turn);
        }
    }

    /// Registers, queues or closes a session that was served.
    fn after(&mut self, id: SessionId, turn: Turn) {
        if let Turn::Close(how) = turn {
            return self.close(id, how);
        }
        let Some(session) = self.sessions.get_mut(id.slot as usize) else { return };
        if turn == Turn::Again && !session.place.queued {
            session.place.queued = true;
            self.run_queue.push(id);
        }
        let wants_write = session.has_output();
        let place = session.place;
        if !place.registered || place.wants_write != wants_write {
            // Writable is asked for only while something is to be written: with both, a UNIX socket would wake us each
            // time that the peer takes a reply.
            let interest = if wants_write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let (registry, token) = (self.poll.registry(), Subject::Session(id).token());
            let done = if place.registered {
                registry.reregister(session.stream(), token, interest)
            } else {
                registry.register(session.stream(), token, interest)
            };
            if let Err(e) = done {
                log::warn!("can't watch a connection: {e}; closing it");
                return self.close(id, Ended::Reset);
            }
            session.place.registered = true;
            session.place.wants_write = wants_write;
        }
        let deadline = session.deadline(&self.core);
        self.timers.arm(id, &mut session.place.armed, deadline);
    }

    fn close(&mut self, id: SessionId, how: Ended) {
        let Some(mut session) = self.sessions.try_remove(id.slot as usize) else { return };
        self.core.sessions = self.sessions.len();
        self.timers.cancel(id, &mut session.place.armed);
        if let Some(probing) = &mut self.core.ahead.probing {
            probing.forget(id);
        }
        self.core.stats.count_end(how);
        if self.core.limits.sessions_per_peer > 0
            && let Some(peer) = session.peer()
        {
            self.forget_peer(peer);
        }
    }

    /// Lets the probes go on, and those who waited for one; what is more than fits into a turn comes in the next.
    fn drive_probes(&mut self) {
        let Some(probing) = &mut self.core.ahead.probing else { return };
        probing.handle_timeout(self.core.now);
        for (id, verdict) in probing.obey(self.poll.registry(), self.core.now) {
            let Some(session) = self.sessions.get_mut(id.slot as usize).filter(|s| s.place.id == id) else { continue };
            let turn = session.handle_found(verdict, &mut self.core);
            self.after(id, turn);
        }
    }

    /// Makes the prober, when there is somebody to be asked, and tells it about backends and next hops.
    fn configure_probing(&mut self) {
        let directory = Arc::clone(&self.core.directory);
        if self.core.ahead.probing.is_none() && directory.routes().is_empty() {
            return;
        }
        let now = self.core.now;
        if self.core.ahead.probing.is_none() {
            match Probing::new(&self.config, now, Arc::new(wake_by(Arc::clone(&self.waker)))) {
                Ok(probing) => self.core.ahead.probing = Some(probing),
                Err(e) => return log::error!("no backend can be asked: {e}"),
            }
        }
        if let Some(probing) = &mut self.core.ahead.probing {
            let own = self.listeners.iter().map(|(_, listener)| listener.endpoint().clone()).collect();
            probing.scheduler.set_own(own);
            probing.configure(&self.config, &directory, now);
        }
    }

    fn serve_run_queue(&mut self) {
        // Those that are queued again meanwhile come in the next turn.
        for id in std::mem::take(&mut self.run_queue) {
            if let Some(session) = self.session(id) {
                session.place.queued = false;
                self.serve(id);
            }
        }
    }

    fn expire(&mut self) {
        while let Some(id) = self.timers.expired(self.core.now) {
            let Some(session) = self.sessions.get_mut(id.slot as usize) else { continue };
            session.place.armed = None;
            let deadline = session.deadline(&self.core);
            if deadline > self.core.now {
                self.timers.arm(id, &mut session.place.armed, deadline);
            } else {
                let how = session.expired();
                log::debug!("closing a session of {}: {}", Peer(session.peer()), how.name());
                self.close(id, how);
            }
        }
    }

    // --- accepting -------------------------------------------------------------------------------------------------

    fn listen(&mut self, bound: sys::Bound, front: Front, listen: Option<Listen>) -> io::Result<usize> {
        let mut listener = Listener::new(bound, front, listen)?;
        let entry = self.listeners.vacant_entry();
        let slot = entry.key();
        listener.register(self.poll.registry(), Subject::Listener(slot as u32).token())?;
        if listener.listen.is_some() {
            log::info!("listening on {}", listener.endpoint());
        }
        entry.insert(listener);
        self.note_listeners();
        Ok(slot)
    }

    /// Puts down where requests come in.
    fn note_listeners(&mut self) {
        let shown = |listener: &Listener| {
            let listen = listener.listen.as_ref()?;
            Some(Listening {
                on: listener.endpoint().to_string(),
                protocol: listen.protocol,
                default_map: listen.default_map.clone(),
            })
        };
        self.core.listening = self.listeners.iter().filter_map(|(_, listener)| shown(listener)).collect();
    }

    fn accept_where_ready(&mut self) {
        for slot in 0..self.listeners.capacity() {
            let now = self.core.now;
            let Some(listener) = self.listeners.get_mut(slot) else { continue };
            if listener.paused.is_some_and(|until| until <= now) {
                listener.paused = None;
            }
            if listener.ready && listener.paused.is_none() {
                self.accept(slot);
            }
        }
    }

    fn accept(&mut self, slot: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.listeners.get_mut(slot) else { return };
            match listener.accept() {
                Accepted::Session(stream, peer) => {
                    let front = std::rc::Rc::clone(&listener.front);
                    self.welcome(stream, peer, front);
                }
                Accepted::Gone => {}
                Accepted::Nothing => {
                    listener.ready = false;
                    return;
                }
                Accepted::Exhausted(e) => {
                    listener.paused = Some(self.core.now + PAUSE);
                    if self.exhausted.hit(self.core.now) {
                        log::error!(
                            "can't accept connections: {e}; with {} sessions, trying again every {} ms \
                             (raise LimitNOFILE, or lower limits.sessions)",
                            self.sessions.len(),
                            PAUSE.as_millis()
                        );
                    }
                    self.core.stats.accept_failures += 1;
                    return;
                }
            }
        }
    }

    /// Accepts whoever is in the kernel's queue, in as many turns as that takes.
    fn accept_rest(&mut self, slot: usize) {
        let Some(listener) = self.listeners.get_mut(slot) else { return };
        listener.ready = true;
        for _ in 0..=self.config.limits.backlog as usize / ACCEPTS_PER_TURN {
            self.accept(slot);
            if self.listeners.get(slot).is_none_or(|listener| !listener.ready || listener.paused.is_some()) {
                return;
            }
        }
    }

    /// Takes a connection in, and serves it before it is registered: one that asks once and closes never is.
    fn welcome(&mut self, stream: Stream, peer: Option<IpAddr>, front: std::rc::Rc<Front>) {
        if !front.allows(peer) {
            self.core.stats.not_allowed += 1;
            log::debug!("turned away {}: in no allow list of this listener", Peer(peer));
            return;
        }
        if self.sessions.len() >= self.capacity && !self.make_room() {
            self.core.stats.turned_away += 1;
            return;
        }
        if let Some(peer) = peer
            && !self.remember_peer(peer)
        {
            self.core.stats.turned_away += 1;
            return;
        }
        self.core.stats.accepted += 1;
        self.generation = self.generation.wrapping_add(1) & GENERATION_MASK;
        let generation = self.generation;
        let id = SessionId { slot: self.sessions.vacant_key() as u32, generation };
        self.sessions.insert(Session::new(stream, front, peer, id, self.core.now));
        self.core.sessions = self.sessions.len();
        self.serve(id);
    }

    /// Counts a peer's session; `false` if it has too many.
    fn remember_peer(&mut self, peer: IpAddr) -> bool {
        let most = self.core.limits.sessions_per_peer;
        if most == 0 {
            return true;
        }
        let count = self.per_peer.entry(peer).or_default();
        if *count >= most {
            if *count == most {
                // One line until it is below the limit again.
                *count += 1;
                log::warn!("{peer} has {most} sessions (limits.sessions_per_peer); further ones are closed");
            }
            return false;
        }
        *count += 1;
        true
    }

    fn forget_peer(&mut self, peer: IpAddr) {
        if let Some(count) = self.per_peer.get_mut(&peer) {
            // A peer over its limit is marked by one too many.
            *count = (*count).min(self.core.limits.sessions_per_peer).saturating_sub(1);
            if *count == 0 {
                self.per_peer.remove(&peer);
            }
        }
    }

    /// Lets the session go that has been idle for longest. `false`: all are busy.
    fn make_room(&mut self) -> bool {
        if self.full.hit(self.core.now) {
            log::warn!(
                "at the limit of {} sessions: the longest idle ones make room (limits.sessions, LimitNOFILE)",
                self.capacity
            );
        }
        for _ in 0..2 {
            while let Some((id, since)) = self.idle_longest.pop() {
                if self.session(id).is_some_and(|session| session.is_idle() && session.idle_since() == since) {
                    self.close(id, Ended::Evicted);
                    return true;
                }
            }
            self.find_idle_longest();
        }
        false
    }

    /// One look over all sessions finds a batch, so that a flood of connections does not make us look each time.
    fn find_idle_longest(&mut self) {
        let mut idle: Vec<(Instant, SessionId)> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_idle())
            .map(|(_, session)| (session.idle_since(), session.place.id))
            .collect();
        if idle.len() > EVICTION_BATCH {
            idle.select_nth_unstable(EVICTION_BATCH);
            idle.truncate(EVICTION_BATCH);
        }
        idle.sort_unstable_by(|a, b| b.cmp(a));
        self.idle_longest = idle.into_iter().map(|(since, id)| (id, since)).collect();
    }

    /// Tells when a limit has been left.
    fn watch_edges(&mut self) {
        if let Some(left) = self.full.left(self.core.now) {
            let (sessions, lasted) = (self.sessions.len(), left.lasted.as_secs());
            log::warn!(
                "left the limit of {} sessions after {lasted} s, {} hits; {sessions} now",
                self.capacity,
                left.hits
            );
        }
        if let Some(left) = self.exhausted.left(self.core.now) {
            log::warn!("accepting again; failed {} times in {} s", left.hits, left.lasted.as_secs());
        }
    }

    fn set_capacity(&mut self) {
        self.capacity = self.config.limits.sessions.min(self.descriptors.saturating_sub(RESERVED_DESCRIPTORS)).max(1);
        if self.capacity < self.config.limits.sessions {
            log::warn!(
                "room for {} sessions only: the process may open {} files (raise LimitNOFILE for limits.sessions = {})",
                self.capacity,
                self.descriptors,
                self.config.limits.sessions
            );
        }
    }

    // --- signals, reloads, the end ---------------------------------------------------------------------------------

    fn handle_signals(&mut self) {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            match signal {
                SIGHUP => {
                    log::info!("SIGHUP: reading configuration and lists again");
                    self.reload();
                }
                SIGUSR1 => log::info!("{}", pages::status_line(&self.core)),
                SIGUSR2 => {
                    self.logger.reopen();
                    log::info!("SIGUSR2: log reopened");
                }
                _ => self.stop(signal),
            }
        }
    }

    fn reload(&mut self) {
        self.core.order(Order::Reload { force: Vec::new() });
    }

    /// Hands over to the loader what was ordered in this turn.
    fn hand_over_orders(&mut self) {
        for (ticket, order) in std::mem::take(&mut self.core.orders) {
            if matches!(order, Order::Reload { .. }) {
                self.reloading = Some(ticket);
                self.notify.reloading();
            }
            self.loader.order(ticket, order);
        }
    }

    fn handle_loader(&mut self) {
        while let Some(outcome) = self.loader.outcome() {
            self.take(outcome);
        }
    }

    fn take(&mut self, outcome: Outcome) {
        let stats = &mut self.core.stats;
        match (outcome.is_load, outcome.report.is_good()) {
            (true, true) => stats.reloads += 1,
            (true, false) => stats.reload_failures += 1,
            (false, _) => {}
        }
        let is_new = outcome.directory.is_some() || outcome.config.is_some();
        if let Some(directory) = outcome.directory {
            let old = self.core.set_directory(directory);
            self.loader.retire(old);
        }
        self.core.report = Arc::new(outcome.report);
        if let Some(config) = outcome.config {
            self.reconfigure(config);
        }
        if is_new {
            self.configure_probing();
        }
        // "Ready" with the old data, too, when the new could not be taken: the service is up, and says so in STATUS. Not
        // while a reload is under way that this was not, or before what it brought is saved.
        let is_done = self.reloading.is_some_and(|ticket| ticket <= outcome.done);
        if is_done || (outcome.is_load && self.reloading.is_none()) {
            self.reloading = None;
            self.notify.ready(&pages::status_line(&self.core));
        }
        let waiting: Vec<(SessionId, Ticket)> =
            self.sessions.iter().filter_map(|(_, session)| Some((session.place.id, session.awaits()?))).collect();
        for (id, ticket) in waiting {
            let own = outcome.answers.iter().find(|(answered, ..)| *answered == ticket);
            let (status, body) = match own {
                Some((_, status, text)) => (*status, text.clone()),
                None if ticket <= outcome.done => pages::reloaded(&self.core),
                None => continue,
            };
            if let Some(session) = self.sessions.get_mut(id.slot as usize) {
                let turn = session.handle_answer(status, pages::JSON, body.as_bytes(), &mut self.core);
                self.after(id, turn);
            }
        }
    }

    /// Takes over log, limits and listeners of a new configuration. Sockets that stay the same stay open; new ones are
    /// bound before old ones are closed, and when one can't be bound none is closed.
    fn reconfigure(&mut self, config: Arc<Config>) {
        self.logger.reconfigure(&config.log);
        self.core.configure(&config);
        let mut keep = Vec::new();
        self.core.listen_errors.clear();
        for listen in &config.listen {
            if self.keep_open(listen, &mut keep) {
                continue;
            }
            match sys::bind(listen, config.limits.backlog, &mut self.activated) {
                Ok(bound) => {
                    for bound in bound {
                        match self.listen(bound, Front::new(listen), Some(listen.clone())) {
                            Ok(slot) => keep.push(slot),
                            Err(e) => self.cannot_listen(format!("can't listen on {}: {e}", listen.on)),
                        }
                    }
                }
                Err(e) => self.cannot_listen(e.to_string()),
            }
        }
        let all_bound = self.core.listen_errors.is_empty();
        let gone = |slot: &usize, listener: &Listener| all_bound && listener.listen.is_some() && !keep.contains(slot);
        let gone: Vec<usize> =
            self.listeners.iter().filter(|(slot, listener)| gone(slot, listener)).map(|(slot, _)| slot).collect();
        for slot in gone {
            self.close_listener(slot);
        }
        self.note_listeners();
        for (what, changed) in [
            ("control", self.started_with.control != config.control),
            ("user", self.started_with.user != config.user),
            ("pid_file", self.started_with.pid_file != config.pid_file),
        ] {
            if changed {
                log::warn!("{what} has changed in the configuration; that takes a restart");
            }
        }
        self.config = config;
        self.set_capacity();
    }

    fn cannot_listen(&mut self, why: String) {
        log::error!("{why}; the listeners that are open stay open");
        self.core.listen_errors.push(why);
    }

    /// Keeps what is open for a listener of the new configuration; `false`: nothing is. Its path may get another mode,
    /// owner or group while it is open, and must not be bound again: we would find ourselves there.
    fn keep_open(&mut self, listen: &Listen, keep: &mut Vec<usize>) -> bool {
        let mut found = false;
        for (slot, listener) in &mut self.listeners {
            let Some(old) = listener.listen.as_ref().filter(|old| old.on == listen.on) else { continue };
            if keep.contains(&slot) {
                continue;
            }
            if let Some(path) = listen.on.path().filter(|_| !old.same_socket(listen))
                && let Err(e) = sys::permit(path, listen.mode, listen.owner.as_deref(), listen.group.as_deref())
            {
                log::error!("{}: {e}; the socket is as it was", listen.on);
            }
            listener.front = std::rc::Rc::new(Front::new(listen));
            listener.listen = Some(listen.clone());
            keep.push(slot);
            found = true;
        }
        found
    }

    fn close_listener(&mut self, slot: usize) {
        let mut listener = self.listeners.remove(slot);
        if let Err(e) = listener.deregister(self.poll.registry()) {
            log::debug!("closing a listener: {e}");
        }
    }

    /// Stops accepting, and gives those who asked already their answers.
    fn stop(&mut self, signal: i32) {
        if self.stop_at.is_some() {
            return;
        }
        log::info!(
            "{}: stopping; {}",
            if signal == SIGINT { "SIGINT" } else { "SIGTERM" },
            pages::status_line(&self.core)
        );
        self.notify.stopping();
        self.stop_at = Some(self.core.now + self.core.limits.stop);
        // Who is in the kernel's queue has connected, and may have asked.
        for slot in 0..self.listeners.capacity() {
            if self.listeners.contains(slot) {
                self.accept_rest(slot);
                self.close_listener(slot);
            }
        }
        let all: Vec<SessionId> = self.sessions.iter().map(|(_, session)| session.place.id).collect();
        for id in all {
            if let Some(session) = self.session(id) {
                session.look_again();
                self.serve(id);
            }
        }
    }

    /// Whether the stop is over: nobody is owed anything, or the time for it has passed.
    fn is_stopped(&mut self) -> bool {
        let Some(stop_at) = self.stop_at else { return false };
        let owed = |session: &Session| !session.is_idle();
        stop_at <= self.core.now || !self.sessions.iter().any(|(_, session)| owed(session))
    }

    fn stopped(&mut self) {
        for _ in self.sessions.drain() {
            self.core.stats.count_end(Ended::Stopped);
        }
        if let Some(probing) = &mut self.core.ahead.probing {
            probing.finish(self.poll.registry(), self.core.now);
        }
        log::info!("stopped; {}", self.core.stats.summary());
    }

    fn feed_watchdog(&mut self) {
        if let (Some(due), Some(every)) = (self.watchdog, self.notify.watchdog_every())
            && due <= self.core.now
        {
            self.notify.watchdog();
            self.watchdog = Some(self.core.now + every);
        }
    }
}

/// What wakes the loop from another thread.
fn wake_by(waker: Arc<Waker>) -> impl Fn() + Send + Sync {
    move || {
        if let Err(e) = waker.wake() {
            log::error!("can't wake the event loop: {e}");
        }
    }
}

/// A peer for the log.
struct Peer(Option<IpAddr>);

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(ip) => write!(f, "{ip}"),
            None => f.write_str("a local peer"),
        }
    }
}
