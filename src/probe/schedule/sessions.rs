//! Sessions: opened, fed, driven, and buried.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Command, Hop, HopId, Kind, Level, Link, LinkId, MAX_BROKEN, MAX_ROUNDS, Scheduler, Target, Wake};
use crate::config::{Endpoint, Tls};
use crate::probe::classify::{Cause, Finding, Stage};
use crate::probe::hop::Place;
use crate::probe::machine::Machine;
use crate::probe::outcome::{Closed, End, Hangup, JobId, Outcome};
use crate::probe::pace::Allowed;
use crate::probe::route::is_ourselves;

/// The resolver has to answer within this.
const RESOLVER_PATIENCE: Duration = Duration::from_secs(10);
/// Old addresses of a name that can't be looked up any more are used for so long before it is tried again.
const RETRY_NAME: Duration = Duration::from_secs(30);
/// The same alarm is logged again after so long.
const ALARM_AGAIN: Duration = Duration::from_secs(3600);
/// Never wake up more often than this for one session, whatever its machine says.
const TICK: Duration = Duration::from_millis(1);

/// Of the tests that wait, so many are looked at for a session.
const TESTS_LOOKED_AT: usize = 64;

/// Whether it can be asked something now; `group`: most questions under way at once.
fn is_free(machine: &Machine, group: usize) -> bool {
    let pending = machine.pending();
    machine.is_ready() && (pending == 0 || machine.pipelines() && pending < group)
}

impl Scheduler {
    /// The connection stands.
    pub fn handle_connected(&mut self, link: LinkId, now: Instant) {
        self.with_machine(link, now, |machine| machine.handle_connected(now));
    }

    /// Bytes from the server.
    pub fn handle_input(&mut self, link: LinkId, bytes: &[u8], now: Instant) {
        self.with_machine(link, now, |machine| machine.handle_input(bytes, now));
    }

    /// The connection is gone, or could not be made.
    pub fn handle_close(&mut self, link: LinkId, hangup: &Hangup, now: Instant) {
        self.with_machine(link, now, |machine| machine.handle_close(hangup, now));
    }

    /// The handshake is done.
    pub fn handle_tls_established(&mut self, link: LinkId, now: Instant) {
        self.with_machine(link, now, |machine| machine.handle_tls_established(now));
    }

    /// What the resolver found; `life` is how long it holds.
    pub fn handle_resolved(&mut self, name: &str, found: Result<Vec<IpAddr>, String>, life: Duration, now: Instant) {
        let Some(entry) = self.names.get_mut(name) else { return };
        entry.asked = None;
        let error = match found {
            Ok(addresses) if !addresses.is_empty() => {
                entry.addresses = addresses;
                entry.expires = Some(now + life);
                None
            }
            _ if !entry.addresses.is_empty() => {
                entry.expires = Some(now + RETRY_NAME);
                None
            }
            Ok(_) => Some("the name has no addresses".to_owned()),
            Err(error) => Some(error),
        };
        let is_it = |at: &Endpoint| matches!(at, Endpoint::Host(host, _) if host == name);
        for at in 0..self.hops.len() {
            let id = HopId(at as u32);
            let Some(hop) = self.hop_ref(id) else { continue };
            let servers: Vec<usize> = (0..hop.servers.len()).filter(|&s| is_it(&hop.servers[s].spec.at)).collect();
            if servers.is_empty() {
                continue;
            }
            if let Some(error) = &error {
                let finding = Arc::new(Finding::failure(Stage::Resolve, Cause::error(&format!("{name}: {error}"))));
                servers.into_iter().for_each(|server| self.server_failed(id, server, &finding, now));
            }
            self.work(id, now);
        }
    }

    /// Says QUIT everywhere, for the end of the program.
    pub fn finish(&mut self, now: Instant) {
        self.links.iter_mut().for_each(|(_, link)| link.machine.finish());
        (0..self.hops.len() as u32).for_each(|at| self.work(HopId(at), now));
    }

    /// Lets the sessions of a next hop end when they are done, because its configuration changed.
    /// What a server says that is not one of its own any more counts for nothing.
    pub(super) fn retire_links(&mut self, id: HopId) {
        let slots = self.slots(id);
        let hop = self.hops.get(id.0 as usize).and_then(Option::as_ref);
        for slot in slots {
            let Some(link) = self.links.get_mut(slot as usize) else { continue };
            link.machine.finish();
            let place = |hop: &Hop| hop.servers.iter().position(|server| server.id == link.place.by);
            link.server = hop.and_then(place).unwrap_or(usize::MAX);
        }
    }

    /// Drops a session without a word; the hop has forgotten it.
    pub(super) fn drop_link(&mut self, slot: u32) {
        let Some(link) = self.links.try_remove(slot as usize) else { return };
        if let Some(at) = link.armed {
            self.wakes.remove(&(at, Wake::Link(slot)));
        }
        self.commands.push_back(Command::Close(LinkId { slot, generation: link.generation }));
    }

    pub(super) fn link_timeout(&mut self, slot: u32, now: Instant) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        link.armed = None;
        link.machine.handle_timeout(now);
        let hop = link.hop;
        self.work(hop, now);
    }

    fn with_machine(&mut self, id: LinkId, now: Instant, act: impl FnOnce(&mut Machine)) {
        let Some(link) = self.links.get_mut(id.slot as usize) else { return };
        if link.generation == id.generation {
            act(&mut link.machine);
            let hop = link.hop;
            self.work(hop, now);
        }
    }

    /// Does all that can be done for a next hop now.
    pub(super) fn work(&mut self, id: HopId, now: Instant) {
        while self.hear(id, now) | self.feed(id, now) | self.open(id, now) | self.speak(id) {}
        self.arm(id, now);
    }

    fn slots(&self, id: HopId) -> Vec<u32> {
        self.hop_ref(id).map(|hop| hop.links.clone()).unwrap_or_default()
    }

    /// Takes in what the machines have found out.
    fn hear(&mut self, id: HopId, now: Instant) -> bool {
        let mut progress = false;
        for slot in self.slots(id) {
            while let Some(outcome) = self.links.get_mut(slot as usize).and_then(|l| l.machine.poll_outcome()) {
                progress = true;
                self.outcome(id, slot, outcome, now);
            }
        }
        progress
    }

    /// Lets the machines say what they have to say.
    fn speak(&mut self, id: HopId) -> bool {
        let mut progress = false;
        for slot in self.slots(id) {
            let Some(link) = self.links.get_mut(slot as usize) else { continue };
            let mut bytes = Vec::new();
            if link.machine.poll_transmit(&mut bytes) {
                progress = true;
                let link = LinkId { slot, generation: link.generation };
                self.commands.push_back(Command::Transmit { link, bytes });
            }
        }
        progress
    }

    /// Puts questions to sessions that are ready.
    fn feed(&mut self, id: HopId, now: Instant) -> bool {
        let mut progress = false;
        while let Some(hop) = self.hop_ref(id).filter(|hop| hop.queued() > 0 && hop.rate.next(now) <= now) {
            let found = match self.test_for_session(hop) {
                Some((slot, at)) => self.hop_mut(id).and_then(|hop| hop.urgent.remove(at)).map(|job| (slot, job)),
                None => {
                    let ready = |&slot: &u32| {
                        self.links
                            .get(slot as usize)
                            .is_some_and(|l| is_free(&l.machine, hop.group()) && l.machine.room() > 0)
                    };
                    let slot = hop.links.iter().copied().find(ready);
                    slot.and_then(|slot| Some((slot, self.next_job(id)?)))
                }
            };
            let Some((slot, job)) = found else { break };
            progress = true;
            if let (Some(link), Some(entry)) = (self.links.get_mut(slot as usize), self.jobs.get_mut(job.0 as usize)) {
                entry.rounds += 1;
                let counts = matches!(entry.kind, Kind::Question);
                link.machine.ask(job, entry.mailbox.clone(), counts, now);
                if let Some(hop) = self.hop_mut(id) {
                    hop.rate.take(now);
                    hop.stats.questions += 1;
                }
            }
        }
        progress
    }

    /// A session for one of the tests that wait, and which of them it is. A test is for the server whose answer waits for
    /// it, as long as there is a session with that one.
    fn test_for_session(&self, hop: &Hop) -> Option<(u32, usize)> {
        let links = || hop.links.iter().filter_map(|&slot| Some((slot, self.links.get(slot as usize)?)));
        let takes = |link: &Link| link.machine.takes_tests();
        hop.urgent.iter().take(TESTS_LOOKED_AT).enumerate().find_map(|(at, &job)| {
            let place = match &self.job(job)?.kind {
                Kind::CatchAll { place, .. } | Kind::Canary { place, .. } => place,
                Kind::Question => return None,
            };
            let its_own = links().any(|(_, link)| link.place == *place && takes(link));
            let fits = |link: &Link| !its_own || link.place == *place;
            let (slot, _) =
                links().find(|(_, link)| is_free(&link.machine, hop.group()) && takes(link) && fits(link))?;
            Some((slot, at))
        })
    }

    /// The next question: what somebody waits for, then the rest.
    fn next_job(&mut self, id: HopId) -> Option<JobId> {
        let room = self.limits.background;
        let (hops, jobs) = (&mut self.hops, &mut self.jobs);
        let hop = hops.get_mut(id.0 as usize)?.as_mut()?;
        while let Some(job) = hop.waiting.pop_front() {
            match jobs.get(job.0 as usize) {
                Some(entry) if entry.waiters.is_empty() && hop.background.len() < room => hop.background.push_back(job),
                Some(_) => return Some(job),
                None => {}
            }
        }
        hop.background.pop_front()
    }

    /// Opens sessions while those that there are can't take what waits.
    fn open(&mut self, id: HopId, now: Instant) -> bool {
        let mut progress = false;
        while self.wants_session(id, now) {
            let Some((server, to)) = self.pick(id, now) else { break };
            let Some(hop) = self.hop_mut(id) else { break };
            progress = true;
            let start = hop.start(server, now);
            let place = Place { by: hop.servers[server].id, at: to.clone() };
            let settings = hop.config.dialogue.clone();
            let breaker = &mut hop.servers[server].breaker;
            let trial = breaker.allows(now) == Allowed::Trial;
            if trial {
                breaker.begin_trial();
            }
            hop.stats.sessions += 1;
            self.generation = self.generation.wrapping_add(1);
            let (generation, machine) = (self.generation, Machine::new(settings, start, now));
            let link =
                Link { generation, hop: id, server, begun: now, place, trial, answered: false, machine, armed: None };
            let slot = self.links.insert(link) as u32;
            if let Some(hop) = self.hop_mut(id) {
                hop.links.push(slot);
            }
            self.commands.push_back(Command::Connect { link: LinkId { slot, generation }, to });
        }
        if self.hop_ref(id).is_some_and(|hop| hop.queued() > 0 && hop.is_hopeless(now)) {
            self.abandon_queue(id, now);
            progress = true;
        }
        progress
    }

    fn wants_session(&self, id: HopId, now: Instant) -> bool {
        let Some(hop) = self.hop_ref(id) else { return false };
        let urgent = hop.urgent.len() + hop.waiting.len();
        let need = if hop.links.is_empty() { hop.queued() } else { urgent };
        if need == 0 || hop.links.len() >= hop.most_sessions(now) || hop.rate.next(now) > now {
            return false;
        }
        // A trial may fail: where another server is well, nobody has to wait for it.
        let another = hop.servers.iter().any(|server| server.breaker.allows(now) == Allowed::Freely);
        let takes = |link: &Link| {
            let greeted = link.machine.capabilities().is_some();
            let pipelines = if greeted { link.machine.pipelines() } else { hop.pipelines(now) };
            match link.machine.room() {
                _ if link.trial && another => 0,
                room if pipelines => room.min(hop.group()),
                room => room.min(1),
            }
        };
        let expected: usize = hop.links.iter().filter_map(|&slot| self.links.get(slot as usize)).map(takes).sum();
        need > expected
    }

    /// The first server that may be tried, and its address.
    fn pick(&mut self, id: HopId, now: Instant) -> Option<(usize, Target)> {
        let mut server = 0;
        loop {
            let hop = self.hop_ref(id)?;
            let spec = hop.servers.get(server)?;
            if matches!(spec.breaker.allows(now), Allowed::Freely | Allowed::Trial) {
                let (at, index) = (spec.spec.at.clone(), spec.address);
                let problem = match at {
                    Endpoint::Unix(path) => return Some((server, Target::Unix(path))),
                    Endpoint::Tcp(addr) => return Some((server, Target::Tcp(addr))),
                    Endpoint::Fd(_) => Cause::error("not an address"),
                    Endpoint::Host(host, port) => {
                        let entry = self.names.entry(host.as_str().into()).or_default();
                        if entry.asked.is_none() && entry.expires.is_none_or(|expires| expires <= now) {
                            entry.asked = Some(now);
                            self.commands.push_back(Command::Resolve(host.as_str().into()));
                        }
                        let entry = &self.names[host.as_str()];
                        let good = |ip: &&IpAddr| !is_ourselves(&Endpoint::Tcp((**ip, port).into()), &self.own);
                        let addresses: Vec<IpAddr> = entry.addresses.iter().filter(good).copied().collect();
                        match addresses.get(index % addresses.len().max(1)) {
                            Some(&ip) => return Some((server, Target::Tcp((ip, port).into()))),
                            None if !entry.addresses.is_empty() => Cause::error("this is rcptmapd itself"),
                            // It is being looked up: the servers behind it are for when that fails.
                            None if entry.asked.is_some_and(|asked| now < asked + RESOLVER_PATIENCE) => return None,
                            None => Cause::Silence(RESOLVER_PATIENCE),
                        }
                    }
                };
                let finding = Arc::new(Finding::failure(Stage::Resolve, problem));
                self.server_failed(id, server, &finding, now);
            }
            server += 1;
        }
    }

    fn outcome(&mut self, id: HopId, slot: u32, outcome: Outcome, now: Instant) {
        let (hops, links) = (&mut self.hops, &mut self.links);
        let Some(hop) = hops.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        let Some(link) = links.get_mut(slot as usize) else { return };
        match outcome {
            Outcome::Answer(job, finding) if link.server == usize::MAX => {
                self.put_back(id, job, false, &Arc::new(finding), now);
            }
            Outcome::Greeted(_) | Outcome::Sender(_) | Outcome::Limit(_) if link.server == usize::MAX => {}
            Outcome::Greeted(capabilities) => hop.capabilities = Some(capabilities),
            Outcome::Sender(sender) => hop.sender = Some((sender, now)),
            Outcome::Limit(refusals) => {
                if let Some(refusals) = hop.learn_limit(refusals, link.begun, now) {
                    let name = hop.config.name.clone();
                    self.log(Level::Info, format!("{name} takes {refusals} refusals in a session, no more"));
                }
            }
            Outcome::Pace(pace) => hop.learn_pace(pace),
            Outcome::StartTls => {
                let name = hop.servers.get(link.server).and_then(|server| server.spec.name());
                let verify = hop.config.dialogue.tls == Tls::Required;
                let link = LinkId { slot, generation: link.generation };
                self.commands.push_back(Command::StartTls { link, name, verify });
            }
            Outcome::Answer(job, finding) => {
                link.answered = true;
                let (news, place) = (hop.down, link.place.clone());
                hop.down = false;
                link.trial = false;
                if let Some(server) = hop.servers.get_mut(link.server) {
                    server.breaker.succeed();
                    server.broken = 0;
                    server.failed_addresses = 0;
                }
                if news {
                    let name = hop.config.name.clone();
                    self.log(Level::Info, format!("{name} answers again"));
                }
                self.answered(job, finding, &place, now);
            }
            Outcome::Closed(closed) => self.closed(id, slot, closed, now),
        }
    }

    fn closed(&mut self, id: HopId, slot: u32, closed: Closed, now: Instant) {
        let Some(hop) = self.hop_mut(id) else { return };
        hop.links.retain(|&other| other != slot);
        let Some(link) = self.links.get(slot as usize) else { return };
        let (server, trial, answered) = (link.server, link.trial, link.answered);
        self.drop_link(slot);
        let finding = Arc::new(closed.finding.unwrap_or_else(|| Finding::failure(Stage::Idle, Cause::Closed)));
        let mut failed = false;
        let mut crowded = None;
        let (hops, links) = (&mut self.hops, &self.links);
        if let Some(hop) = hops.get_mut(id.0 as usize).and_then(Option::as_mut) {
            let others = hop.links.iter().filter_map(|&slot| links.get(slot as usize));
            let others = others.filter(|other| other.server == server).count();
            let at_the_door = finding.stage <= Stage::Lhlo;
            let gives_up_tls = finding.stage == Stage::Tls && hop.config.dialogue.tls == Tls::Opportunistic;
            match closed.end {
                End::Refused if gives_up_tls => hop.tls_failed = Some(((), now)),
                // One too many, as long as there are others; should they all be turned away, the last of them tells.
                End::Refused if at_the_door && others > 0 && !trial => {
                    hop.last_error = Some(finding.clone());
                    hop.stats.failures += 1;
                    if hop.learn_crowd(others, now) {
                        crowded = Some((hop.config.name.clone(), others));
                    }
                }
                End::Refused => failed = true,
                End::Broken => {
                    hop.broke = Some(((), now));
                    hop.last_error = Some(finding.clone());
                    hop.stats.failures += 1;
                    if let Some(server) = hop.servers.get_mut(server) {
                        server.broken = if answered { 0 } else { server.broken + 1 };
                        // Once may be the question's fault; a trial has only this chance.
                        failed = server.broken >= 2 || trial;
                    }
                }
                End::InOrder | End::Gone | End::Limit => {}
            }
            if trial
                && !failed
                && let Some(server) = hop.servers.get_mut(server)
            {
                server.breaker.abandon_trial();
            }
        }
        if let Some((name, others)) = crowded {
            self.log(
                Level::Info,
                format!("{name} turned a session away beside {others} others, that many will do for now: {finding}"),
            );
        }
        self.alarm(id, &finding, now);
        if failed {
            self.server_failed(id, server, &finding, now);
        }
        let broke = closed.end == End::Broken;
        for job in closed.untouched.into_iter().rev() {
            self.put_back(id, job, false, &finding, now);
        }
        for job in closed.in_flight.into_iter().rev() {
            self.put_back(id, job, broke, &finding, now);
        }
    }

    /// Puts a question back to the front of the queue, unless it has been tried often enough.
    pub(super) fn put_back(&mut self, id: HopId, job: JobId, broke: bool, finding: &Arc<Finding>, now: Instant) {
        let Some(entry) = self.jobs.get_mut(job.0 as usize) else { return };
        entry.broken += u8::from(broke);
        let test = !matches!(entry.kind, Kind::Question);
        let idle = entry.waiters.is_empty();
        if entry.broken >= MAX_BROKEN || entry.rounds >= MAX_ROUNDS {
            return self.give_up(job, finding, false, now);
        }
        if let Some(hop) = self.hop_mut(id) {
            match (test, idle) {
                (true, _) => hop.urgent.push_front(job),
                (false, false) => hop.waiting.push_front(job),
                (false, true) => hop.background.push_front(job),
            }
        }
    }

    /// A server can't be asked: its next address, or its breaker.
    pub(super) fn server_failed(&mut self, id: HopId, server: usize, finding: &Arc<Finding>, now: Instant) {
        let addresses = match self.hop_ref(id).and_then(|hop| hop.servers.get(server)).map(|s| &s.spec.at) {
            Some(Endpoint::Host(host, _)) => self.names.get(host.as_str()).map_or(1, |name| name.addresses.len()),
            _ => 1,
        };
        let (hops, random) = (&mut self.hops, &mut self.random);
        let Some(hop) = hops.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        hop.stats.failures += 1;
        hop.last_error = Some(finding.clone());
        hop.crowd = None;
        let Some(entry) = hop.servers.get_mut(server) else { return };
        entry.address = (entry.address + 1) % addresses.max(1);
        entry.failed_addresses += 1;
        entry.broken = 0;
        if entry.failed_addresses < addresses && finding.stage != Stage::Resolve {
            return entry.breaker.abandon_trial();
        }
        entry.failed_addresses = 0;
        // Several sessions of one server fail together: that is one failure.
        if matches!(entry.breaker.allows(now), Allowed::NotBefore(_)) {
            return;
        }
        let was_well = entry.breaker.allows(now) == Allowed::Freely;
        let pause = entry.breaker.fail(now, random);
        let text = format!("{}: {} failed, left alone for {pause:.1?}: {finding}", hop.config.name, entry.spec);
        let edge = !hop.down;
        hop.down |= hop.servers.iter().all(|server| server.breaker.allows(now) != Allowed::Freely);
        let level = match (hop.down && edge, was_well) {
            (true, _) => Level::Warn,
            (false, true) => Level::Info,
            (false, false) => Level::Debug,
        };
        self.log(level, text);
    }

    /// No server is left: everybody who waits is told.
    fn abandon_queue(&mut self, id: HopId, now: Instant) {
        let Some(hop) = self.hop_mut(id) else { return };
        let last = hop.last_error.clone();
        let finding = last.unwrap_or_else(|| Arc::new(Finding::failure(Stage::Connect, Cause::Down)));
        let queues = [&mut hop.urgent, &mut hop.waiting, &mut hop.background];
        let jobs: Vec<JobId> = queues.into_iter().flat_map(std::mem::take).collect();
        jobs.into_iter().for_each(|job| self.give_up(job, &finding, true, now));
    }

    /// Tells people what they should know, once an hour.
    pub(super) fn alarm(&mut self, id: HopId, finding: &Finding, now: Instant) {
        if !finding.is_alarm() {
            return;
        }
        let text = finding.to_string();
        let Some(hop) = self.hop_mut(id) else { return };
        if hop.alarm.as_ref().is_some_and(|(last, at)| **last == *text && now < *at + ALARM_AGAIN) {
            return;
        }
        hop.alarm = Some((text.as_str().into(), now));
        let name = hop.config.name.clone();
        self.log(Level::Warn, format!("{name} does not answer the question: {text}"));
    }

    /// Sets the alarm clocks of a next hop and of its sessions.
    fn arm(&mut self, id: HopId, now: Instant) {
        for slot in self.slots(id) {
            let Some(link) = self.links.get_mut(slot as usize) else { continue };
            let due = link.machine.poll_timeout().map(|due| due.max(now + TICK));
            if link.armed != due {
                if let Some(at) = link.armed {
                    self.wakes.remove(&(at, Wake::Link(slot)));
                }
                self.wakes.extend(due.map(|at| (at, Wake::Link(slot))));
                link.armed = due;
            }
        }
        let hop = self.hops.get_mut(id.0 as usize).and_then(Option::as_mut);
        let Some(hop) = hop else { return };
        let mut due = None;
        if hop.queued() > 0 {
            let rate = Some(hop.rate.next(now)).filter(|&at| at > now);
            let names = hop.servers.iter().filter_map(|server| match &server.spec.at {
                Endpoint::Host(host, _) => Some(self.names.get(host.as_str())?.asked? + RESOLVER_PATIENCE),
                _ => None,
            });
            due = names.filter(|_| hop.links.is_empty()).chain(rate).min();
        }
        let due = due.map(|due| due.max(now + TICK));
        if hop.armed != due {
            if let Some(at) = hop.armed {
                self.wakes.remove(&(at, Wake::Hop(id)));
            }
            self.wakes.extend(due.map(|at| (at, Wake::Hop(id))));
            hop.armed = due;
        }
    }
}
