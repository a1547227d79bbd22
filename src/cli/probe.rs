//! `rcptmapd probe`: one call-ahead by its own, with the dialogue.
//!
//! Machine, connection and TLS are the daemon's ([`crate::probe::machine`], [`crate::net::Upstream`]); only the waiting is
//! done here. What the daemon remembers is neither asked nor changed, and its books of who is down don't count: it is to
//! be seen what the backend says now.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Instant;

use super::settings::Settings;
use super::text::{self, Style};
use super::{Failure, exit};
use crate::config::{BackendServer, Blind, Config, Endpoint, Overrides, Tls, Unavailable, reason};
use crate::map::{HashKey, Scratch};
use crate::net::{TlsClient, Upstream};
use crate::probe::classify::{Cause, Finding, Judgement, Stage};
use crate::probe::hop::HopConfig;
use crate::probe::machine::Machine;
use crate::probe::outcome::{Hangup, JobId, Line, Outcome, Start, Voice};
use crate::probe::pace::Random;
use crate::probe::route::{NextHop, Route};
use crate::probe::schedule::Target;
use crate::proto::smtp::Mailbox;
use crate::reload::Catalog;
use crate::sys;
use crate::verdict::Verdict;

/// Ask the backend about one recipient, and show the dialogue
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd probe anna@example.org
  rcptmapd probe -c rcptmapd.toml nobody@example.org

The servers of the next hop are tried in order, as the daemon would. In the same session a made-up address is asked \
for after a yes (catch_all_test), and known_good after a no. STARTTLS is used as `tls` of the backend says, and the \
dialogue tells where it begins. A running daemon is not asked, and learns nothing of it; see `rcptmapd cache` for what \
it remembers.

Exit status: 0 exists, 1 does not exist or is none of ours, 75 can't be told, 78 the configuration is wrong.")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to ask for
    #[arg(value_name = "ADDRESS")]
    address: OsString,
}

/// The question, and the tests.
const QUESTION: JobId = JobId(0);
const MADE_UP: JobId = JobId(1);
const CANARY: JobId = JobId(2);

/// Whom to ask, and about whom.
struct Plan {
    local: Vec<u8>,
    domain: Vec<u8>,
    hop: HopConfig,
    servers: NextHop,
    tls: TlsClient,
}

/// What one server said.
#[derive(Default)]
struct Said {
    began: Option<Instant>,
    lines: Vec<Line>,
    answer: Option<Finding>,
    made_up: Option<Finding>,
    canary: Option<Finding>,
    /// Why there is no answer.
    failure: Option<Finding>,
}

/// What is to be done for a machine.
enum Step {
    GoOn,
    StartTls,
    Over,
}

/// Reads the configuration, asks, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let settings = Settings::read(args.config.as_deref(), &Overrides::default())?;
    let (directory, _) = Catalog::new(false).load(&settings.config);
    let mut scratch = Scratch::default();
    let found = directory.snapshot().lookup(args.address.as_bytes(), &mut scratch, &mut ());
    let style = Style::of_stdout();
    let address = text::printable_text(args.address.as_bytes());
    let Some(recipient) = directory.recipient(&found) else {
        let code = if found.verdict == Verdict::Unknown { exit::TEMPORARY } else { exit::NO };
        let verdict = style.bad(found.verdict.name());
        text::print(&format!("{address}\n\nverdict: {verdict}\n  it is none of ours, so nobody is asked\n"))?;
        return Ok(code);
    };
    let (settled, route) = (recipient.settled(), recipient.route.clone());
    text::print(&format!(
        "{}\n{}: {route}\n",
        style.head(&address),
        if found.wants_probe() { "asked" } else { "settled by the lists, but asked" }
    ))?;
    let (hop, servers) = match hop(&route, &settings.config)? {
        Some(found) => found,
        None => {
            let verdict = settled.map_or(Verdict::Unknown, |(verdict, _)| verdict);
            text::print(&format!("\nverdict: {}\n", painted(verdict, style)))?;
            return Ok(code(verdict));
        }
    };
    let mut tls = TlsClient::new();
    tls.configure(hop.dialogue.tls == Tls::Required);
    let plan = Plan { local: recipient.local.to_vec(), domain: recipient.domain.to_vec(), hop, servers, tls };
    let mut last = None;
    for server in plan.servers.servers() {
        for (place, target) in targets(server) {
            let mut said = plan.ask(server, target.as_ref(), true);
            text::print(&dialogue(&place, &said, style))?;
            if plan.gives_up_tls(&said) {
                said = plan.ask(server, target.as_ref(), false);
                text::print(&dialogue(&format!("{place}, now in the clear"), &said, style))?;
            }
            let is_answered = said.answer.is_some();
            last = Some(said);
            if is_answered {
                return finish(&plan, last.as_ref(), style);
            }
        }
    }
    finish(&plan, last.as_ref(), style)
}

/// How the next hop of a route is asked.
fn hop(route: &Route<'_>, config: &Config) -> Result<Option<(HopConfig, NextHop)>, Failure> {
    let host_name = sys::host_name();
    let made = match route {
        Route::Backend(name, _) => {
            let backend = config.backends.iter().find(|backend| backend.name == *name);
            backend.map(|backend| HopConfig::new(backend, &host_name))
        }
        Route::Hop(hop) => Some(HopConfig::of_table(hop, &config.backends, &host_name)),
        _ => None,
    };
    let made = made.transpose().map_err(|e| Failure::new(exit::CONFIG, format!("{route}: {e}")))?;
    Ok(made.map(|hop| (hop.clone(), hop.servers)))
}

/// The addresses of a server, or why there are none.
fn targets(server: &BackendServer) -> Vec<(String, Result<Target, String>)> {
    let one = |target| vec![(server.to_string(), target)];
    match &server.at {
        Endpoint::Tcp(at) => one(Ok(Target::Tcp(*at))),
        Endpoint::Unix(path) => one(Ok(Target::Unix(path.clone()))),
        Endpoint::Fd(_) => one(Err("not an address".to_owned())),
        Endpoint::Host(host, port) => match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => found.map(|at| (format!("{server} ({})", at.ip()), Ok(Target::Tcp(at)))).collect(),
            Err(e) => one(Err(reason(&e))),
        },
    }
}

impl Plan {
    fn ask(&self, server: &BackendServer, target: Result<&Target, &String>, starttls: bool) -> Said {
        let mut said = Said::default();
        let failure = |stage, text: &str| Some(Finding::failure(stage, Cause::error(text)));
        let target = match target {
            Ok(target) => target,
            Err(why) => return Said { failure: failure(Stage::Resolve, why), ..said },
        };
        let mailbox = match Mailbox::new(&self.local, &self.domain) {
            Ok(mailbox) => mailbox,
            Err(e) => return Said { failure: failure(Stage::Idle, &e.to_string()), ..said },
        };
        let began = Instant::now();
        said.began = Some(began);
        let start = Start { lmtp: server.lmtp, pipelining: true, starttls, sender: 0, refusals: None };
        let mut machine = Machine::new(self.hop.dialogue.clone(), start, began);
        machine.keep_transcript();
        machine.ask(QUESTION, mailbox, true, began);
        let connected =
            Upstream::connect(target).and_then(|upstream| self.converse(&mut machine, upstream, server, &mut said));
        if let Err(e) = connected {
            machine.handle_close(&Hangup::Error(reason(&e).into()), Instant::now());
        }
        self.take(&mut machine, &mut said);
        said.lines = machine.transcript().to_vec();
        said
    }

    /// Drives the machine until it is done, or the connection has failed.
    fn converse(
        &self,
        machine: &mut Machine,
        mut upstream: Upstream,
        server: &BackendServer,
        said: &mut Said,
    ) -> io::Result<()> {
        let (name, verify) = (server.name(), self.hop.dialogue.tls == Tls::Required);
        let (mut out, mut is_connected) = (Vec::new(), false);
        loop {
            match self.take(machine, said) {
                Step::GoOn => {}
                Step::StartTls => upstream.start_tls(&self.tls, name.as_deref(), verify)?,
                Step::Over => {
                    upstream.close();
                    return Ok(());
                }
            }
            out.clear();
            while machine.poll_transmit(&mut out) {}
            upstream.send(&out)?;
            let Some(due) = machine.poll_timeout() else { return Ok(()) };
            upstream.wait(is_connected, due.saturating_duration_since(Instant::now()))?;
            if !is_connected && upstream.connect_result()? {
                is_connected = true;
                machine.handle_connected(Instant::now());
            }
            if is_connected {
                upstream.flush()?;
                self.read(machine, &mut upstream, name.as_deref())?;
            }
            machine.handle_timeout(Instant::now());
        }
    }

    fn read(&self, machine: &mut Machine, upstream: &mut Upstream, name: Option<&str>) -> io::Result<()> {
        let mut input = [0; 4096];
        loop {
            let read = upstream.read(&mut input);
            let now = Instant::now();
            if upstream.established() {
                let version = upstream.tls_version().unwrap_or("TLS");
                let checked = match (self.hop.dialogue.tls, name) {
                    (Tls::Required, Some(name)) => format!("the certificate proves {name}"),
                    _ => "the certificate is not checked".to_owned(),
                };
                machine.note(&format!("{version} from here on; {checked}"), now);
                machine.handle_tls_established(now);
            }
            match read {
                Ok(0) => {
                    machine.handle_close(&Hangup::Closed, now);
                    return Ok(());
                }
                Ok(read) => machine.handle_input(input.get(..read).unwrap_or_default(), now),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether the daemon would go on in the clear after that.
    fn gives_up_tls(&self, said: &Said) -> bool {
        let failed = said.failure.as_ref().is_some_and(|failure| failure.stage == Stage::Tls);
        said.answer.is_none() && failed && self.hop.dialogue.tls == Tls::Opportunistic
    }

    /// Takes what the machine has found out, and puts what has to be known besides.
    fn take(&self, machine: &mut Machine, said: &mut Said) -> Step {
        while let Some(outcome) = machine.poll_outcome() {
            match outcome {
                Outcome::Answer(QUESTION, finding) => {
                    let test = self.test(&finding);
                    said.answer = Some(finding);
                    match test {
                        Some((job, mailbox)) => machine.ask(job, mailbox, false, Instant::now()),
                        None => machine.finish(),
                    }
                }
                Outcome::Answer(job, finding) => {
                    *(if job == MADE_UP { &mut said.made_up } else { &mut said.canary }) = Some(finding);
                    machine.finish();
                }
                Outcome::StartTls => return Step::StartTls,
                Outcome::Closed(closed) => {
                    said.failure = closed.finding;
                    return Step::Over;
                }
                Outcome::Greeted(_) | Outcome::Sender(_) | Outcome::Limit(_) | Outcome::Pace(_) => {}
            }
        }
        Step::GoOn
    }

    /// What must be asked besides, for the answer to be believed.
    fn test(&self, finding: &Finding) -> Option<(JobId, Mailbox)> {
        match finding.judgement {
            Judgement::Exists { .. } if self.hop.catch_all_test.is_some() => {
                let local = Random::new(HashKey::new().hash_one(&self.local)).local_part();
                Mailbox::new(&local, &self.domain).ok().map(|mailbox| (MADE_UP, mailbox))
            }
            Judgement::Absent(_) => self.hop.known_good.clone().map(|mailbox| (CANARY, mailbox)),
            _ => None,
        }
    }

    /// The verdict, why, and what else is to be said.
    fn verdict(&self, said: &Said) -> (Verdict, String, Option<&'static str>) {
        let taken = |finding: &Option<Finding>| {
            finding.as_ref().is_some_and(|finding| matches!(finding.judgement, Judgement::Exists { .. }))
        };
        let Some(answer) = &said.answer else {
            let why = said.failure.as_ref().map_or_else(|| "no answer".to_owned(), ToString::to_string);
            let note = match self.hop.unavailable {
                Unavailable::Accept => "unavailable = \"accept\": mail servers are told that it exists",
                Unavailable::Tempfail => "mail servers are told to try again later, unless it is known to exist",
            };
            return (Verdict::Unknown, why, Some(note));
        };
        let why = answer.to_string();
        match answer.judgement {
            Judgement::Exists { .. } if taken(&said.made_up) => match self.hop.blind {
                Blind::Exists => (
                    Verdict::Exists,
                    why,
                    Some("blind: a made-up address is taken as well, so this proves nothing (blind = \"exists\")"),
                ),
                Blind::Tempfail => (
                    Verdict::Unknown,
                    why,
                    Some("blind: a made-up address is taken as well, so this proves nothing (blind = \"tempfail\")"),
                ),
            },
            Judgement::Exists { .. } => {
                let refused = said.made_up.as_ref().is_some_and(|f| matches!(f.judgement, Judgement::Absent(_)));
                (Verdict::Exists, why, refused.then_some("a made-up address is refused, so this counts"))
            }
            Judgement::Absent(_) if self.hop.known_good.is_some() && !taken(&said.canary) => {
                (Verdict::Unknown, why, Some("known_good is not taken either, so this refusal is not believed"))
            }
            Judgement::Absent(_) => (Verdict::Absent, why, None),
            _ => (Verdict::Unknown, why, Some("that says nothing about the recipient")),
        }
    }
}

fn finish(plan: &Plan, said: Option<&Said>, style: Style) -> Result<u8, Failure> {
    let nothing = Said::default();
    let (verdict, why, note) = plan.verdict(said.unwrap_or(&nothing));
    let mut out = format!("\nverdict: {}\n  {why}\n", painted(verdict, style));
    if let Some(note) = note {
        let _ = writeln!(out, "  {}", style.odd(note));
    }
    text::print(&out)?;
    Ok(code(verdict))
}

fn dialogue(place: &str, said: &Said, style: Style) -> String {
    let mut out = format!("\n{}\n", style.head(place));
    for line in &said.lines {
        let time = said.began.map_or(0, |began| line.at.saturating_duration_since(began).as_millis());
        let _ = writeln!(out, "{time:>6} ms {} {}", sign(line.voice), line.text);
    }
    if let (None, Some(failure)) = (&said.answer, &said.failure) {
        let _ = writeln!(out, "  {}", style.bad(&failure.to_string()));
    }
    out
}

fn sign(voice: Voice) -> char {
    match voice {
        Voice::Ours => '>',
        Voice::Server => '<',
        Voice::Note => '=',
    }
}

fn painted(verdict: Verdict, style: Style) -> String {
    match verdict {
        Verdict::Exists => style.good(verdict.name()),
        Verdict::Unknown => style.odd(verdict.name()),
        _ => style.bad(verdict.name()),
    }
}

fn code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Exists => exit::OK,
        Verdict::Absent | Verdict::Foreign => exit::NO,
        Verdict::Unknown => exit::TEMPORARY,
    }
}
