//! Call-ahead: many clients wait at once for answers of a backend that is far away.
//!
//! The backend is ours, in this process: it takes who begins with `known`, refuses all others as unknown, offers
//! PIPELINING, and everything it says comes one round trip after what it is said to, the banner after the connection.
//! It counts the sessions that are opened with it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;

use crate::endpoint::{Endpoint, PATIENCE, Stream};
use crate::load::{Target, ask_once};
use crate::paced::{Latencies, Pace, paced};
use crate::process;
use crate::protocol::Protocol;
use crate::recipients::{DOMAINS, Recipients};
use crate::server::Launcher;
use crate::table::{Row, Table, Verdict};

/// How far away the backend is.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Clients that wait at once, each for another address.
const CLIENTS: usize = 1_000;
/// The design's limits.
const MOST_SESSIONS: usize = 20;
const MOST_TIME: Duration = Duration::from_secs(2);
/// The domain whose recipients only the backend knows.
const DOMAIN: &str = "ahead.example";
/// Look-ups a second from lists meanwhile: so few that who asks sleeps between them, for the backend and its clients run
/// on the same core, and would else be starved or measured.
const RATE: u32 = 400;

/// Measures, and adds the lines.
pub fn measure(
    launcher: &Launcher,
    list: &Path,
    recipients: Recipients,
    pace: Duration,
    table: &mut Table,
) -> Result<()> {
    let backend = Backend::start()?;
    let daemon = Daemon::start(launcher, list, &backend)?;
    let endpoint = Endpoint::Unix(daemon.socket.clone());

    let first = burst(&endpoint, "first")?;
    let sessions = backend.sessions();
    let what = format!("{CLIENTS} clients, {CLIENTS} unknown addresses, backend {} ms away", ROUND_TRIP.as_millis());
    let mut line = |what: String, figure: String, ratio: String, target: String, verdict| {
        let figures = [figure, String::new(), String::new(), String::new()];
        table.push(Row { what, figures, ratio, target, verdict });
    };
    line(
        format!("{what}: sessions opened"),
        sessions.to_string(),
        String::new(),
        format!("<= {MOST_SESSIONS}"),
        Verdict::of(sessions <= MOST_SESSIONS),
    );
    line(
        format!("{what}: ms until the last answer"),
        ms(first),
        String::new(),
        format!("<= {}", MOST_TIME.as_millis()),
        Verdict::of(first <= MOST_TIME),
    );
    let again = burst(&endpoint, "first")?;
    ensure!(backend.sessions() == sessions, "the backend was asked again for what is in the cache");
    line(
        "the same out of the cache: ms until the last answer".into(),
        ms(again),
        String::new(),
        String::new(),
        Verdict::Told,
    );

    let target = Target { endpoint, protocol: Protocol::Socketmap, pid: daemon.pid(), recipients };
    let pace = Pace { rate: RATE, connections: 64, duration: pace, spin: false };
    let mut quiet = paced(&target, 1, pace, None)?.quiet;
    let (mut during, bursts) = while_bursting(&target.endpoint, || paced(&target, 2, pace, None).map(|p| p.quiet))?;
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let [quiet, during] =
            [&mut quiet, &mut during].map(|latencies: &mut Latencies| latencies.quantile_us(quantile));
        line(
            format!("list look-ups at {RATE} a second during {bursts} such bursts: {name} us"),
            format!("{during:.0}"),
            format!("{quiet:.0} without"),
            String::new(),
            Verdict::Told,
        );
    }
    Ok(())
}

fn ms(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

/// Runs `measure` while burst follows burst, always with new addresses; the number of bursts that were begun.
fn while_bursting<T>(endpoint: &Endpoint, measure: impl FnOnce() -> Result<T>) -> Result<(T, usize)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let bursting = scope.spawn(|| {
            let mut bursts = 0;
            while !over.load(Ordering::Relaxed) {
                bursts += 1;
                burst(endpoint, &format!("more-{bursts}"))?;
            }
            Ok(bursts)
        });
        let measured = measure();
        over.store(true, Ordering::Relaxed);
        let bursts: Result<usize> = bursting.join().unwrap_or_else(|_| bail!("the clients' thread panicked"));
        Ok((measured?, bursts?))
    })
}

/// Every client asks for an address of its own, at once, and waits: the time until the last answer. Half of them exist.
fn burst(endpoint: &Endpoint, name: &str) -> Result<Duration> {
    let mut clients: Vec<Stream> =
        (0..CLIENTS).map(|_| endpoint.connect()).collect::<std::io::Result<_>>().context("cannot connect")?;
    let address = |n: usize| format!("{}-{name}-{n}@{DOMAIN}", if n.is_multiple_of(2) { "known" } else { "guess" });
    let begin = Instant::now();
    for (n, client) in clients.iter_mut().enumerate() {
        client.write_all(&netstring(&format!("rcpt {}", address(n)))).context("cannot ask")?;
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let address = address(n);
        let wanted = if n.is_multiple_of(2) { format!("OK {address}") } else { "NOTFOUND ".to_owned() };
        let wanted = netstring(&wanted);
        let mut reply = vec![0; wanted.len()];
        client.read_exact(&mut reply).with_context(|| format!("no whole reply about {address}"))?;
        ensure!(reply == wanted, "{address}: a wrong reply, {:?}", String::from_utf8_lossy(&reply));
    }
    Ok(begin.elapsed())
}

fn netstring(text: &str) -> Vec<u8> {
    format!("{}:{text},", text.len()).into_bytes()
}

/// The backend; its threads end with the program.
struct Backend {
    address: SocketAddr,
    sessions: Arc<AtomicUsize>,
}

impl Backend {
    fn start() -> Result<Backend> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the backend")?;
        let backend = Backend { address: listener.local_addr()?, sessions: Arc::default() };
        let sessions = Arc::clone(&backend.sessions);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                sessions.fetch_add(1, Ordering::Relaxed);
                // A session that breaks ends; who was asked about there is told by the daemon's answers.
                thread::spawn(move || converse(stream));
            }
        });
        Ok(backend)
    }

    fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }
}

/// One session: what is read now is answered a round trip later, by another thread.
fn converse(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let (replies, outbox) = mpsc::channel::<(Instant, &'static [u8])>();
    thread::spawn(move || {
        for (due, reply) in outbox {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if out.write_all(reply).is_err() {
                return;
            }
        }
    });
    let say = |reply| replies.send((Instant::now() + ROUND_TRIP, reply)).map_err(std::io::Error::other);
    say(b"220 backend.example ESMTP\r\n")?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        match line.get(..4) {
            Some("EHLO") => say(b"250-backend.example\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n")?,
            Some("RCPT") if line.contains("<known") => say(b"250 2.1.5 ok\r\n")?,
            Some("RCPT") => say(b"550 5.1.1 no such user\r\n")?,
            Some("QUIT") => return say(b"221 2.0.0 bye\r\n"),
            Some("MAIL") => say(b"250 2.1.0 ok\r\n")?,
            _ => say(b"250 2.0.0 ok\r\n")?,
        }
        line.clear();
    }
    Ok(())
}

/// A daemon with a list and a backend; ended when dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    fn start(launcher: &Launcher, list: &Path, backend: &Backend) -> Result<Daemon> {
        let program = launcher.daemon.as_ref().context("there is no rcptmapd to start")?;
        let folder = tempfile::Builder::new().prefix("ahead").tempdir_in(&launcher.folder)?.keep();
        let [socket, domains, configuration, log] =
            ["socket", "domains", "rcptmapd.toml", "log"].map(|name| folder.join(name));
        let names: String = (0..DOMAINS).map(|n| format!("mx{n:03}.example.org\n")).collect();
        fs::write(&domains, names)?;
        fs::write(
            &configuration,
            format!(
                "user = \"\"\nstate_dir = \"\"\ncontrol = \"\"\n[log]\ntarget = \"stderr\"\n\
                 [[listen]]\non = \"unix:{}\"\n[[source]]\npath = \"{}\"\nformat = \"postmap\"\n\
                 [[domain]]\nfile = \"{}\"\n[[domain]]\nnames = [\"{DOMAIN}\"]\nverify = \"probe\"\nbackend = \"far\"\n\
                 [[backend]]\nname = \"far\"\nservers = [\"{}\"]\n",
                socket.display(),
                list.display(),
                domains.display(),
                backend.address,
            ),
        )?;
        let mut command = Command::new(program);
        command.args(["serve", "-c"]).arg(&configuration).stdin(Stdio::null());
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        process::pin(launcher.core)?;
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()));
        process::pin(launcher.own_core)?;
        let mut daemon = Daemon { child: child?, socket };
        daemon.wait_until_ready(&log)?;
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, log: &Path) -> Result<()> {
        let begin = Instant::now();
        let endpoint = Endpoint::Unix(self.socket.clone());
        let mut address = Vec::new();
        Recipients::push_address(0, true, &mut address);
        let request = netstring(&format!("rcpt {}", String::from_utf8_lossy(&address)));
        while !ask_once(&endpoint, &request).is_ok_and(|reply| reply.windows(3).any(|word| word == b"OK ")) {
            let said = || fs::read_to_string(log).unwrap_or_default();
            ensure!(self.child.try_wait()?.is_none(), "the daemon ended:\n{}", said());
            ensure!(begin.elapsed() < PATIENCE, "the daemon is not ready:\n{}", said());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // nothing to be done if it has ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
