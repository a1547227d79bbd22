//! The servers under test: started by hand on sockets in a temporary folder, loaded, stopped when dropped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;

use crate::endpoint::{Endpoint, PATIENCE};
use crate::load::{Target, ask_once};
use crate::packages::Programs;
use crate::process;
use crate::protocol::Protocol;
use crate::recipients::{Question, Recipients};

/// The four that are compared, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// rcptmapd itself.
    Daemon,
    /// The bare epoll server.
    Bare,
    /// redis-server.
    Redis,
    /// memcached with one worker thread.
    Memcached,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Daemon, Kind::Bare, Kind::Redis, Kind::Memcached];

    /// What it is asked in.
    pub fn protocol(self) -> Protocol {
        match self {
            Kind::Daemon => Protocol::Socketmap,
            Kind::Bare => Protocol::Constant,
            Kind::Redis => Protocol::Redis,
            Kind::Memcached => Protocol::Memcached,
        }
    }

    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Daemon => "rcptmapd",
            Kind::Bare => "bare",
            Kind::Redis => "redis",
            Kind::Memcached => "memcached",
        }
    }
}

/// How to start the servers.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The rcptmapd binary, if there is one.
    pub daemon: Option<PathBuf>,
    /// redis and memcached, if there are any.
    pub programs: Option<Programs>,
    /// Put before each command line, as `valgrind --tool=callgrind`.
    pub wrapper: Vec<OsString>,
    /// memcached's limit of sessions, which it makes its limit of descriptors.
    pub memcached_sessions: String,
    /// Where sockets and logs go.
    pub folder: PathBuf,
    /// The core that servers run on.
    pub core: usize,
    /// The core that this program runs on when a server has another.
    pub own_core: usize,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Which one.
    pub kind: Kind,
    child: Child,
    unix: Option<PathBuf>,
    tcp: Option<std::net::SocketAddr>,
    log: PathBuf,
    recipients: Recipients,
    /// Resident before redis or memcached were given the recipients.
    empty_bytes: u64,
}

/// A daemon's start, as far as a client sees it.
#[derive(Clone, Copy, Debug)]
pub struct StartTime {
    /// From the start of the process to its first right answer.
    pub wall: Duration,
    /// CPU time it took for that.
    pub cpu: Duration,
}

impl Launcher {
    /// Whether `kind` can be started.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Bare => true,
            Kind::Daemon => self.daemon.is_some(),
            Kind::Redis | Kind::Memcached => self.programs.is_some(),
        }
    }

    /// Starts `kind` on a UNIX socket, on TCP as well where it can do both, and loads `recipients`.
    pub fn start(&self, kind: Kind, list: &Path, recipients: Recipients) -> Result<Server> {
        let tcp = Endpoint::free_tcp()?;
        let mut server = self.spawn(kind, list, recipients, true, (kind != Kind::Memcached).then_some(tcp))?;
        server.wait_until_ready(Duration::from_secs(120))?;
        server.empty_bytes = process::resident_bytes(server.pid())?;
        server.load()?;
        Ok(server)
    }

    /// memcached listens on a UNIX socket or on TCP, never on both: this is the second one.
    pub fn start_memcached_tcp(&self, recipients: Recipients) -> Result<Server> {
        let tcp = Endpoint::free_tcp()?;
        let mut server = self.spawn(Kind::Memcached, Path::new(""), recipients, false, Some(tcp))?;
        server.wait_until_ready(Duration::from_secs(30))?;
        server.load()?;
        Ok(server)
    }

    /// Starts the daemon and measures how long it takes until its first right answer.
    pub fn time_start(&self, list: &Path, recipients: Recipients) -> Result<(Server, StartTime)> {
        let begin = Instant::now();
        let mut server = self.spawn(Kind::Daemon, list, recipients, true, None)?;
        server.wait_until_ready(Duration::from_secs(600))?;
        let wall = begin.elapsed();
        let cpu = process::cpu_time(server.pid())?;
        Ok((server, StartTime { wall, cpu }))
    }

    fn spawn(
        &self,
        kind: Kind,
        list: &Path,
        recipients: Recipients,
        on_unix: bool,
        tcp: Option<std::net::SocketAddr>,
    ) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix(kind.name()).tempdir_in(&self.folder)?.keep();
        let unix = on_unix.then(|| folder.join("socket"));
        let log = folder.join("log");
        let (program, arguments) = self.command(kind, list, unix.as_deref(), tcp, &folder)?;
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, options)) => {
                let mut command = Command::new(wrapper);
                command.args(options).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command.args(&arguments).current_dir(&folder).stdin(Stdio::null());
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        if let (Some(programs), Kind::Redis | Kind::Memcached) = (&self.programs, kind)
            && !programs.libraries.is_empty()
        {
            command.env("LD_LIBRARY_PATH", &programs.libraries);
        }
        // the child inherits the core, without a moment on another one
        process::pin(self.core)?;
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()));
        process::pin(self.own_core)?;
        Ok(Server { kind, child: child?, unix, tcp, log, recipients, empty_bytes: 0 })
    }

    fn command(
        &self,
        kind: Kind,
        list: &Path,
        unix: Option<&Path>,
        tcp: Option<std::net::SocketAddr>,
        folder: &Path,
    ) -> Result<(PathBuf, Vec<OsString>)> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
        let port = tcp.map_or_else(|| "0".to_owned(), |tcp| tcp.port().to_string());
        let unix = unix.map(|path| path.to_string_lossy().into_owned());
        let programs = || self.programs.as_ref().context("redis and memcached are not to be had");
        let program = match kind {
            Kind::Bare => {
                add(&["bare"]);
                unix.iter().for_each(|path| add(&["--unix", path]));
                tcp.iter().for_each(|tcp| add(&["--tcp", &tcp.to_string()]));
                std::env::current_exe()?
            }
            Kind::Daemon => {
                let configuration = folder.join("rcptmapd.toml");
                fs::write(&configuration, daemon_configuration(list, unix.as_deref(), tcp))?;
                add(&["serve", "-c", &configuration.to_string_lossy()]);
                self.daemon.clone().context("there is no rcptmapd to start")?
            }
            Kind::Redis => {
                add(&["--save", "", "--appendonly", "no", "--daemonize", "no", "--maxclients", "15000"]);
                add(&["--bind", "127.0.0.1", "--port", &port]);
                unix.iter().for_each(|path| add(&["--unixsocket", path]));
                programs()?.redis.clone()
            }
            Kind::Memcached => {
                add(&["-t", "1", "-m", "8192", "-c", &self.memcached_sessions, "-b", "4096", "-u", &user_name()?]);
                match &unix {
                    Some(path) => add(&["-s", path]),
                    None => add(&["-l", "127.0.0.1", "-p", &port, "-U", "0"]),
                }
                programs()?.memcached.clone()
            }
        };
        Ok((program, arguments))
    }
}

fn user_name() -> Result<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    Ok(user.context("this user has no name, which memcached wants to know")?.name)
}

/// As few settings as a benchmark needs: nothing on disk, room for 10,064 sessions, our sockets.
/// Protocols that need a listener of their own, and what its path ends in.
const NAMED: [(&str, &str); 2] = [("milter", ".milter"), ("tcp-table", ".table")];

fn daemon_configuration(list: &Path, unix: Option<&str>, tcp: Option<std::net::SocketAddr>) -> String {
    let mut text = String::from("user = \"\"\nstate_dir = \"\"\ncontrol = \"\"\n[log]\ntarget = \"stderr\"\n");
    text.push_str("[limits]\nsessions = 15000\n");
    for on in unix.map(|path| format!("unix:{path}")).into_iter().chain(tcp.map(|tcp| tcp.to_string())) {
        text.push_str(&format!("[[listen]]\non = \"{on}\"\n"));
    }
    for (path, (protocol, suffix)) in unix.into_iter().flat_map(|path| NAMED.map(|named| (path, named))) {
        text.push_str(&format!("[[listen]]\non = \"unix:{path}{suffix}\"\nprotocol = \"{protocol}\"\n"));
    }
    text.push_str(&format!("[[source]]\nname = \"bench\"\npath = \"{}\"\nformat = \"postmap\"\n", list.display()));
    text
}

impl Server {
    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Resident bytes before redis or memcached were given the recipients.
    pub fn empty_bytes(&self) -> u64 {
        self.empty_bytes
    }

    /// What to measure on its UNIX socket.
    pub fn unix(&self) -> Result<Target> {
        let path = self.unix.clone().with_context(|| format!("this {} has no UNIX socket", self.kind.name()))?;
        Ok(self.target(Endpoint::Unix(path)))
    }

    /// What to measure on the daemon's UNIX socket for a protocol.
    pub fn speaking(&self, protocol: Protocol) -> Result<Target> {
        let mut target = self.unix()?;
        if let Endpoint::Unix(path) = &mut target.endpoint {
            match protocol {
                Protocol::Milter => path.as_mut_os_string().push(".milter"),
                Protocol::TcpTable => path.as_mut_os_string().push(".table"),
                _ => (),
            }
        }
        target.protocol = protocol;
        Ok(target)
    }

    /// What to measure on its TCP socket.
    pub fn tcp(&self) -> Result<Target> {
        let address = self.tcp.with_context(|| format!("this {} has no TCP socket", self.kind.name()))?;
        Ok(self.target(Endpoint::Tcp(address)))
    }

    fn target(&self, endpoint: Endpoint) -> Target {
        Target { endpoint, protocol: self.kind.protocol(), pid: self.pid(), recipients: self.recipients }
    }

    fn any_target(&self) -> Result<Target> {
        if self.unix.is_some() { self.unix() } else { self.tcp() }
    }

    /// What it wrote to its log, the last lines.
    pub fn log_tail(&self) -> String {
        let Ok(log) = File::open(&self.log) else { return String::new() };
        let lines: Vec<String> = BufReader::new(log).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Asks until there is an answer: for the daemon the right one about the last recipient of its list.
    fn wait_until_ready(&mut self, patience: Duration) -> Result<()> {
        let target = self.any_target()?;
        let (request, right): (Vec<u8>, Vec<u8>) = match self.kind {
            Kind::Redis => (b"PING\r\n".into(), b"+PONG\r\n".into()),
            Kind::Memcached => (b"mn\r\n".into(), b"MN\r\n".into()),
            Kind::Bare | Kind::Daemon => {
                let (mut request, mut right) = (Vec::new(), Vec::new());
                let last = Question { number: self.recipients.count - 1, listed: true };
                target.protocol.push(last, &mut request, &mut right);
                (request, right)
            }
        };
        let begin = Instant::now();
        let mut reply = String::from("nothing");
        while begin.elapsed() < patience {
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!("{} ended at once, {status}:\n{}", self.kind.name(), self.log_tail());
            }
            if let Ok(bytes) = ask_once(&target.endpoint, &request) {
                if bytes == right {
                    return Ok(());
                }
                reply = String::from_utf8_lossy(&bytes).into_owned();
            }
            thread::sleep(Duration::from_millis(1));
        }
        let what = self.kind.name();
        bail!("{what} is not ready after {patience:?}; its last reply: {reply:?}; its log:\n{}", self.log_tail())
    }

    /// Puts the recipients into redis or memcached, each with the value `1`.
    fn load(&self) -> Result<()> {
        let target = self.any_target()?;
        let (begin, end, done): (&[u8], &[u8], &str) = match self.kind {
            Kind::Bare | Kind::Daemon => return Ok(()),
            Kind::Redis => (b"CLIENT REPLY OFF\r\n", b"CLIENT REPLY ON\r\n", "+OK\r\n"),
            Kind::Memcached => (b"", b"mn\r\n", "MN\r\n"),
        };
        let mut stream = target.endpoint.connect()?;
        let mut chunk = begin.to_vec();
        for i in 0..self.recipients.count {
            match self.kind {
                Kind::Redis => {
                    chunk.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$31\r\n");
                    Recipients::push_address(i, true, &mut chunk);
                    chunk.extend_from_slice(b"\r\n$1\r\n1\r\n");
                }
                _ => {
                    chunk.extend_from_slice(b"set ");
                    Recipients::push_address(i, true, &mut chunk);
                    chunk.extend_from_slice(b" 0 0 1 noreply\r\n1\r\n");
                }
            }
            if chunk.len() > 60_000 {
                stream.write_all(&chunk).context("cannot load the recipients")?;
                chunk.clear();
            }
        }
        chunk.extend_from_slice(end);
        stream.write_all(&chunk).context("cannot load the recipients")?;
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).with_context(|| format!("not loaded within {PATIENCE:?}"))?;
        ensure!(reply == done, "{} did not take the recipients: {reply:?}", self.kind.name());
        Ok(())
    }

    /// Ends it as an administrator would and waits; for tools that report at the end.
    pub fn stop(mut self) -> Result<String> {
        nix::sys::signal::kill(self.pid(), nix::sys::signal::Signal::SIGTERM).context("cannot end the server")?;
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
        Ok(fs::read_to_string(&self.log)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nothing to be done if it has ended already
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
