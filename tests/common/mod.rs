//! A daemon of one's own for a test: in a temporary folder, on sockets that nobody else has, and gone with the test.
//!
//! ```ignore
//! let daemon = Setup::new().list("list", "anna@example.org\n").start();
//! assert_eq!(daemon.query("anna@example.org"), "OK anna@example.org");
//! daemon.write("list", "bob@example.org\n");
//! daemon.hup();
//! assert_eq!(daemon.query("anna@example.org"), "NOTFOUND ");
//! ```
//!
//! Nothing here sleeps, and no port is fixed: the daemon tells by `sd_notify` when it serves (after each load, too), and
//! by its control socket where. It is killed when the [`Daemon`] is dropped; when the test fails, its log is shown.

// Each test file takes what it needs.
#![allow(dead_code)]

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcptmapd::proto::{http, socketmap};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the test fails. Machines that build beside the tests are slow.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a finished command left.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// The program under test, without anything in its environment that could change what it does.
pub fn rcptmapd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rcptmapd"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run<S: AsRef<OsStr>>(args: &[S]) -> Ran {
    run_with_input(args, b"")
}

/// Runs a command to its end, with this on standard input.
pub fn run_with_input<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Ran {
    let mut command = rcptmapd();
    command.args(args);
    finish(command, input)
}

/// Runs a prepared command to its end.
pub fn finish(mut command: Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A command that needs no input does not read it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A folder with the files of a daemon, and how to start it.
///
/// It listens on a UNIX socket, on a free port of 127.0.0.1, and on a control socket, unless a configuration says
/// otherwise.
pub struct Setup {
    dir: TempDir,
    lists: Vec<PathBuf>,
    config: Option<String>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    limits: String,
    mounts: String,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

impl Setup {
    /// An empty folder.
    pub fn new() -> Setup {
        let dir = tempfile::Builder::new().prefix("rcptmapd-").tempdir().expect("a temporary folder");
        permit(dir.path(), 0o755);
        Setup {
            dir,
            lists: Vec::new(),
            config: None,
            args: Vec::new(),
            env: Vec::new(),
            limits: String::new(),
            mounts: String::new(),
        }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a file into the folder.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        write(&self.path(name), content.as_ref());
        self
    }

    /// Puts a list into the folder, and names it on the command line.
    pub fn list(mut self, name: &str, content: impl AsRef<[u8]>) -> Setup {
        self.lists.push(self.path(name));
        self.file(name, content)
    }

    /// Names a list on the command line that may not be there.
    pub fn list_named(mut self, name: &str) -> Setup {
        self.lists.push(self.path(name));
        self
    }

    /// Serves by a configuration file, `rcptmapd.toml` in the folder. Paths in it start there, so `path = "list"` will
    /// do; `DIR` is replaced by the folder. What it does not set itself is set so that it works in a test: `user`,
    /// `state_dir` (none), `control`, `[[listen]]`.
    pub fn config(mut self, text: &str) -> Setup {
        self.config = Some(text.to_owned());
        self
    }

    /// A further argument of `serve`.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Setup {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// A variable of the daemon's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Setup {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The most files that the daemon may have open (`ulimit -n`, the hard limit, too).
    pub fn descriptors(mut self, most: u32) -> Setup {
        self.limits += &format!("ulimit -n {most} && ");
        self
    }

    /// The longest file that the daemon may write, in blocks of 512 bytes (`ulimit -f`): a disk that is full.
    pub fn file_blocks(mut self, most: u32) -> Setup {
        self.limits += &format!("ulimit -f {most} && ");
        self
    }

    /// A file system of its own in the folder, which the daemon alone sees, and can only read. Needs root.
    pub fn read_only(mut self, name: &str) -> Setup {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("a folder");
        let path = path.display();
        self.mounts += &format!("mount -t tmpfs -o mode=0755 tmpfs {path} && mount -o remount,ro {path} && ");
        self
    }

    /// The text of a configuration with the settings that a test needs.
    pub fn complete_config(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        let sets = |key: &str| text.lines().any(|line| line.split('=').next().is_some_and(|k| k.trim() == key));
        let mut head = String::new();
        for (key, value) in [("user", ""), ("state_dir", ""), ("control", "DIR/control.sock")] {
            if !sets(key) {
                head += &format!("{key} = \"{value}\"\n");
            }
        }
        let mut tail = String::new();
        if !text.contains("[[listen]]") {
            tail += "\n[[listen]]\non = \"unix:DIR/rcptmapd.sock\"\n[[listen]]\non = \"127.0.0.1:0\"\n";
        }
        format!("{head}{text}{tail}").replace("DIR", &dir)
    }

    /// Starts the daemon and waits until its first load is over.
    pub fn start(self) -> Daemon {
        self.try_start().unwrap_or_else(|failed| panic!("the daemon did not start: {failed:?}"))
    }

    /// Starts the daemon; one that ends by itself is an error with what it said.
    pub fn try_start(self) -> Result<Daemon, Ran> {
        // Of a daemon that was here before.
        let _ = std::fs::remove_file(self.path("notify.sock"));
        let notify = UnixDatagram::bind(self.path("notify.sock")).expect("a socket in the folder");
        // As systemd's: who has become somebody else may still tell.
        permit(&self.path("notify.sock"), 0o777);
        notify.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let control = self.path("control.sock");
        let mut command = rcptmapd();
        command.arg("serve").current_dir(self.dir.path()).env("NOTIFY_SOCKET", self.path("notify.sock"));
        match &self.config {
            Some(text) => {
                let file = self.path("rcptmapd.toml");
                write(&file, self.complete_config(text).as_bytes());
                command.arg("-c").arg(file);
            }
            None => {
                let unix = format!("unix:{}", self.path("rcptmapd.sock").display());
                command.arg("--control").arg(&control).args(["--listen", &unix, "--listen", "127.0.0.1:0"]);
            }
        }
        command.args(&self.args).args(&self.lists).envs(self.env.iter().map(|(name, value)| (name, value)));
        if !self.limits.is_empty() {
            command = prepared(&["/bin/sh"], &self.limits, &command);
        }
        if !self.mounts.is_empty() {
            command = prepared(&["unshare", "--mount", "--", "/bin/sh"], &self.mounts, &command);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let log = Log::default();
        log.follow(child.stderr.take().expect("a pipe"));
        log.follow(child.stdout.take().expect("a pipe"));
        let mut daemon = Daemon { child, setup: self, notify, control, log, listeners: Vec::new() };
        match daemon.wait_for("READY=1") {
            Ok(()) => {
                daemon.listeners = daemon.ask_listeners();
                Ok(daemon)
            }
            Err(status) => {
                let err = daemon.log.to_end();
                Err(Ran { code: status.code(), out: String::new(), err })
            }
        }
    }
}

/// The same command, started by a shell that prepares something first: `... && `.
fn prepared(shell: &[&str], preparation: &str, command: &Command) -> Command {
    let (program, arguments) = shell.split_first().expect("a shell");
    let mut shell = Command::new(program);
    shell.args(arguments).arg("-c").arg(format!("{preparation}exec \"$0\" \"$@\"")).arg(command.get_program());
    shell.args(command.get_args()).env_clear().stdin(Stdio::null());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell
}

fn permit(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
}

/// Writes a file as an administrator should: beside it, then in its place.
fn write(path: &Path, content: &[u8]) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).expect("a writable folder");
    std::fs::rename(&beside, path).expect("a writable folder");
}

/// What the daemon writes, as it comes.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<LogText>, Condvar)>);

#[derive(Default)]
struct LogText {
    text: String,
    open: usize,
}

impl Log {
    fn follow(&self, pipe: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.0);
        shared.0.lock().expect("no panic").open += 1;
        thread::spawn(move || {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                shared.0.lock().expect("no panic").text += &String::from_utf8_lossy(&line);
                shared.1.notify_all();
                line.clear();
            }
            shared.0.lock().expect("no panic").open -= 1;
            shared.1.notify_all();
        });
    }

    fn wait(&self, until: impl Fn(&LogText) -> bool) -> String {
        let (text, changed) = &*self.0;
        let (text, waited) = changed
            .wait_timeout_while(text.lock().expect("no panic"), PATIENCE, |text| !until(text))
            .expect("no panic");
        let so_far = text.text.clone();
        // Who fails holds nothing that others need.
        drop(text);
        assert!(!waited.timed_out(), "the daemon did not write it; it wrote:\n{so_far}");
        so_far
    }

    fn to_end(&self) -> String {
        self.wait(|text| text.open == 0)
    }

    fn so_far(&self) -> String {
        self.0.0.lock().expect("no panic").text.clone()
    }
}

/// A running daemon.
pub struct Daemon {
    child: Child,
    setup: Setup,
    notify: UnixDatagram,
    control: PathBuf,
    log: Log,
    /// Where it listens, in the order of the configuration.
    listeners: Vec<String>,
}

impl Daemon {
    /// Serves these lists without a configuration.
    pub fn serving(lists: &[&str]) -> Daemon {
        let setup =
            lists.iter().enumerate().fold(Setup::new(), |setup, (n, list)| setup.list(&format!("list{n}"), list));
        setup.start()
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// Replaces a file in its folder by rename.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(&self.path(name), content.as_ref());
    }

    /// Replaces its configuration; see [`Setup::config`].
    pub fn write_config(&self, text: &str) {
        self.write("rcptmapd.toml", self.setup.complete_config(text));
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its control socket.
    pub fn control(&self) -> &Path {
        &self.control
    }

    /// Where it listens, in the order of the configuration: `unix:/path`, `127.0.0.1:40123`.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    /// Its first UNIX socket.
    pub fn unix(&self) -> PathBuf {
        let path = self.listeners.iter().find_map(|on| on.strip_prefix("unix:")).expect("a UNIX listener");
        path.into()
    }

    /// The address of its first TCP listener.
    pub fn tcp(&self) -> SocketAddr {
        self.listeners.iter().find_map(|on| on.parse().ok()).expect("a TCP listener")
    }

    /// A connection to its first UNIX socket; reads and writes give up after [`PATIENCE`].
    pub fn connect(&self) -> UnixStream {
        connect_unix(&self.unix()).expect("the daemon accepts")
    }

    /// A connection to its first TCP listener.
    pub fn connect_tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp()).expect("the daemon accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    /// What it says about an address in the map `rcpt`.
    pub fn query(&self, key: &str) -> String {
        self.ask("rcpt", key)
    }

    /// What it says about a key in a map, asked as sendmail and Postfix do.
    pub fn ask(&self, map: &str, key: impl AsRef<[u8]>) -> String {
        ask(&mut self.connect(), map, key.as_ref())
    }

    /// Sends these bytes, closes the sending side, and reads until the daemon closes.
    pub fn exchange(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect();
        // The daemon may have closed already, having said all there is to say.
        let _ = stream.write_all(bytes.as_ref());
        let _ = stream.shutdown(Shutdown::Write);
        read_to_end(&mut stream)
    }

    /// Status and body of a page of the control socket.
    pub fn http(&self, method: &str, target: &str) -> (u16, String) {
        http_over(connect_unix(&self.control).expect("the control socket accepts"), method, target)
    }

    /// What `rcptmapd status --json` shows.
    pub fn status(&self) -> Value {
        json(self.http("GET", "/status").1)
    }

    /// What `rcptmapd stats --json` shows.
    pub fn stats(&self) -> Value {
        json(self.http("GET", "/stats").1)
    }

    fn ask_listeners(&self) -> Vec<String> {
        // A configuration may do without a control socket; then the test knows where it listens.
        let Ok(stream) = connect_unix(&self.control) else { return Vec::new() };
        let status = json(http_over(stream, "GET", "/status").1);
        let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
        listeners.iter().filter_map(|listener| listener["on"].as_str().map(str::to_owned)).collect()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).expect("the daemon is there");
    }

    /// SIGHUP, and waits until what it asked for is done, well or not.
    pub fn hup(&mut self) {
        while self.notify.recv(&mut [0; 4096]).is_ok() {}
        self.signal(Signal::SIGHUP);
        for word in ["RELOADING=1", "READY=1"] {
            self.wait_for(word).unwrap_or_else(|status| panic!("the daemon ended with {status}"));
        }
        self.listeners = self.ask_listeners();
    }

    /// Waits until it has notified the service manager of this; an error if it ends before.
    pub fn wait_for(&mut self, word: &str) -> Result<(), ExitStatus> {
        let began = Instant::now();
        let mut buffer = [0; 4096];
        loop {
            match self.notify.recv(&mut buffer) {
                Ok(size) if buffer[..size].split(|&b| b == b'\n').any(|line| line == word.as_bytes()) => return Ok(()),
                Ok(_) => {}
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                    ) =>
                {
                    if let Some(status) = self.child.try_wait().expect("a child") {
                        return Err(status);
                    }
                }
                Err(e) => panic!("notify socket: {e}"),
            }
            assert!(began.elapsed() < PATIENCE, "no {word} from the daemon; it wrote:\n{}", self.log.so_far());
        }
    }

    /// What it has written so far: its log.
    pub fn log(&self) -> String {
        self.log.so_far()
    }

    /// Waits until it has written this, and tells all that it wrote.
    pub fn wait_for_log(&self, text: &str) -> String {
        self.log.wait(|log| log.text.contains(text))
    }

    /// SIGTERM, and waits for the end: exit code and log.
    pub fn stop(mut self) -> Ran {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Kills it, and starts it again on the same files.
    pub fn restart(mut self) -> Daemon {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for socket in ["notify.sock", "control.sock", "rcptmapd.sock"] {
            let _ = std::fs::remove_file(self.path(socket));
        }
        std::mem::take(&mut self.setup).start()
    }

    /// The same, and its folder for another one.
    pub fn stop_and_keep(mut self) -> (Ran, Setup) {
        self.signal(Signal::SIGTERM);
        let ran = self.wait();
        (ran, std::mem::take(&mut self.setup))
    }

    /// Kills it as a crash would, and leaves its folder for another one.
    pub fn kill_and_keep(mut self) -> Setup {
        self.signal(Signal::SIGKILL);
        self.wait();
        std::mem::take(&mut self.setup)
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> Ran {
        let status = self.child.wait().expect("a child");
        Ran { code: status.code(), out: String::new(), err: self.log.to_end() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the daemon wrote:\n{}---", self.log.so_far());
        }
    }
}

/// Asks again and again until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// A connection to a UNIX socket; reads and writes give up after [`PATIENCE`].
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One question and its answer, on a connection that stays open.
pub fn ask(stream: &mut (impl Read + Write), map: &str, key: &[u8]) -> String {
    let mut request = Vec::new();
    socketmap::encode_request(map.as_bytes(), key, &mut request);
    stream.write_all(&request).expect("the daemon reads");
    let mut input = Vec::new();
    loop {
        if let Some((reply, used)) = socketmap::decode_reply(&input).expect("a netstring") {
            assert_eq!(used, input.len(), "bytes behind the reply");
            return String::from_utf8_lossy(reply).into_owned();
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).expect("a reply");
        assert!(read > 0, "closed without a reply");
        input.extend_from_slice(&chunk[..read]);
    }
}

/// Reads until the peer closes; a reset is an end, too.
pub fn read_to_end(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return bytes,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => return bytes,
            Err(e) => panic!("after {:?}: {e}", String::from_utf8_lossy(&bytes)),
        }
    }
}

/// Status and body of an HTTP request.
pub fn http_over(mut stream: impl Read + Write, method: &str, target: &str) -> (u16, String) {
    let mut request = Vec::new();
    http::encode_request(method, target, &mut request);
    stream.write_all(&request).expect("the daemon reads");
    let response = read_to_end(&mut stream);
    let (status, body) = http::decode_response(&response, 1 << 26).expect("HTTP").expect("a whole response");
    (status, String::from_utf8_lossy(body).into_owned())
}

fn json(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The bytes of a path, for putting it into a configuration or a request.
pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
