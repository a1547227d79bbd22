//! The daemon under test, as an administrator runs it: with a configuration file, two lists and two listeners.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::unistd::User;

use super::poll_until;

/// The user that the daemon becomes; owns the folder of the socket, as the service manager makes it.
const USER: &str = "nobody";
/// The port that the snippets name; free in every network namespace.
const PORT: u16 = 8910;
/// The ports of the milter and of the tcp_table.
const MILTER_PORT: u16 = 8911;
const TABLE_PORT: u16 = 8912;
/// Name of the socket in [`Files::sockets`].
const SOCKET: &str = "rcptmapd.sock";

/// Is answered with OK as soon as the daemon knows anything, whatever its lists hold.
const READY: &str = "rcpt postmaster@example.com\n";

/// The recipient list of a fresh [`Files`].
pub const RECIPIENTS: &str = "\
anna@example.com
otto@example.com
\"first last\"@example.com
";
/// The sendmail access file of a fresh [`Files`].
pub const ACCESS: &str = "\
From:spammer.example\tREJECT
Connect:127.0.0.66\tREJECT
To:leaver@example.com\t550 5.7.1 Left the company
";

/// What the daemon reads, and the folder of its socket.
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Lays everything out in `dir`.
    pub fn new(dir: &Path) -> io::Result<Files> {
        let files = Files { dir: dir.to_owned() };
        fs::create_dir_all(files.sockets())?;
        let user = User::from_name(USER)?.expect("every system has this account");
        chown(files.sockets(), Some(user.uid.as_raw()), None)?;
        fs::write(files.recipients(), RECIPIENTS)?;
        fs::write(files.access(), ACCESS)?;
        fs::write(
            files.configuration(),
            format!(
                r#"
user = "{USER}"
state_dir = ""
control = ""
[log]
target = "stderr"
level = "debug"
[[listen]]
on = "unix:{socket}"
mode = "0666"
[[listen]]
on = "inet:{PORT}@127.0.0.1"
[[listen]]
on = "unix:{milter}"
mode = "0666"
protocol = "milter"
[[listen]]
on = "inet:{MILTER_PORT}@127.0.0.1"
protocol = "milter"
[[listen]]
on = "inet:{TABLE_PORT}@127.0.0.1"
protocol = "tcp-table"
[skip]
clients = ["127.0.0.32/28", "192.0.2.32/28", "2001:db8:32::/48"]
daemons = ["MSA", "ORIGINATING"]
[[source]]
name = "recipients"
path = "{recipients}"
[[source]]
name = "access"
path = "{access}"
format = "access"
[[domain]]
names = ["example.com"]
"#,
                socket = files.socket().display(),
                milter = files.sockets().join("milter.sock").display(),
                recipients = files.recipients().display(),
                access = files.access().display(),
            ),
        )?;
        Ok(files)
    }

    /// The folder that the MTA's root shows as /run/rcptmapd: the folder, since each start makes a new socket.
    pub fn sockets(&self) -> PathBuf {
        self.dir.join("sockets")
    }

    /// The recipient list.
    pub fn recipients(&self) -> PathBuf {
        self.dir.join("recipients")
    }

    /// The sendmail access file.
    pub fn access(&self) -> PathBuf {
        self.dir.join("access")
    }

    fn socket(&self) -> PathBuf {
        self.sockets().join(SOCKET)
    }

    /// What the daemon printed so far, over all its starts, for people.
    pub fn said(&self) -> String {
        let printed = fs::read(self.printed()).unwrap_or_default();
        format!("--- daemon\n{}", String::from_utf8_lossy(&printed))
    }

    fn printed(&self) -> PathBuf {
        self.dir.join("printed")
    }

    /// Adds lines to the configuration; they hold from the next start on.
    pub fn configure(&self, lines: &str) {
        let text = fs::read_to_string(self.configuration()).expect("it was written");
        fs::write(self.configuration(), text + lines).expect("the folder is ours");
    }

    /// A file or folder beside the others.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn configuration(&self) -> PathBuf {
        self.dir.join("rcptmapd.toml")
    }

    /// Asks the daemon in its line protocol, past any MTA.
    fn ask(&self, request: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.write_all(request.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }
}

/// A running daemon; ended when dropped, and when the test is killed.
pub struct Daemon {
    child: Child,
    /// Takes the names of signals, one a line; the daemon is killed when it closes.
    signals: Option<ChildStdin>,
    files: Files,
}

/// Starts the daemon over `dir`'s files and waits until it has read what there is to read.
pub fn start_daemon(dir: &Path) -> Daemon {
    let files = Files { dir: dir.to_owned() };
    let output = File::options().create(true).append(true).open(files.printed()).expect("the folder is ours");
    let mut child = Command::new("sh")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/warden.sh"))
        .arg(env!("CARGO_BIN_EXE_rcptmapd"))
        .args(["serve", "-c"])
        .arg(files.configuration())
        .stdin(Stdio::piped())
        .stdout(output.try_clone().expect("a descriptor is to be had"))
        .stderr(output)
        .spawn()
        .expect("sh is on every system");
    let signals = child.stdin.take();
    let mut daemon = Daemon { child, signals, files };
    poll_until("the daemon has read its lists", || {
        assert!(!daemon.ended(), "the daemon ended at once:\n{}", daemon.files.said());
        TcpStream::connect(("127.0.0.1", PORT)).is_ok()
            && daemon.files.ask(READY).is_ok_and(|reply| reply.starts_with("OK "))
    });
    daemon
}

impl Daemon {
    /// Sends SIGHUP and waits until `request` on the line protocol is answered with `reply`.
    pub fn reload(&mut self, request: &str, reply: &str) {
        self.signal("HUP");
        poll_until("the daemon has reloaded", || {
            self.files.ask(&format!("{request}\n")).is_ok_and(|found| found == format!("{reply}\n"))
        });
    }

    /// Sends SIGHUP and waits until the daemon has said this about it.
    pub fn reload_says(&mut self, text: &str) {
        let before = self.files.said().len();
        self.signal("HUP");
        poll_until(text, || self.files.said()[before..].contains(text));
    }

    /// Waits until the daemon has said this.
    pub fn has_said(&self, text: &str) {
        poll_until(text, || self.files.said().contains(text));
    }

    /// Ends the daemon as the service manager does.
    pub fn stop(mut self) {
        self.signal("TERM");
        poll_until("the daemon has ended", || self.ended());
    }

    fn signal(&mut self, name: &str) {
        let signals = self.signals.as_mut().expect("only drop takes it");
        writeln!(signals, "{name}").expect("the daemon is running");
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.signals.take());
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for the daemon: {error}");
        }
    }
}
