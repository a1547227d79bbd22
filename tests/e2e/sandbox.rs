//! A program in a root of its own: mount, PID and UTS namespaces, chrooted into unpacked packages.
//!
//! Owns the programs' lives and what they said (standard error and syslog). Nothing survives: the first process of
//! the PID namespace ends as soon as the pipe to it does, even when the test was killed, and the kernel ends the
//! rest. What happens inside is in `sandbox.sh`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A root, and the outside folders that are mounted into it.
pub struct Root {
    path: PathBuf,
    mounts: Vec<(PathBuf, String)>,
}

impl Root {
    /// The unpacked packages at `path`, read-only.
    pub fn new(path: &Path) -> Root {
        Root { path: path.to_owned(), mounts: Vec::new() }
    }

    /// Shows the file or folder `outside` at the absolute path `inside`.
    pub fn mount(&mut self, outside: &Path, inside: &str) {
        self.mounts.push((outside.to_owned(), inside.to_owned()));
    }

    /// Runs `command` inside to its end.
    pub fn run(&self, command: &[&str]) -> io::Result<Output> {
        let mut child = self.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        // `wait_with_output` would close it, and so end the command.
        let lifeline = child.stdin.take();
        let output = child.wait_with_output();
        drop(lifeline);
        output
    }

    /// Starts the server `command` inside; what it prints and logs can be read later.
    pub fn start(&self, command: &[&str], dir: &Path) -> io::Result<Sandbox> {
        let log = MailLog::listen(&dir.join("log"))?;
        let printed = dir.join("printed");
        let output = File::create(&printed)?;
        let mut root = Root { path: self.path.clone(), mounts: self.mounts.clone() };
        root.mount(&log.path, "/dev/log");
        let mut child = root.command(command).stdout(output.try_clone()?).stderr(output).spawn()?;
        let lifeline = child.stdin.take();
        Ok(Sandbox { child, lifeline, log, printed })
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--uts", "--fork", "--kill-child", "--", "sh"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/sandbox.sh"))
            .arg(&self.path);
        for (outside, inside) in &self.mounts {
            unshare.arg(outside).arg(inside);
        }
        unshare.arg("--").args(command).stdin(Stdio::piped());
        unshare
    }
}

/// A running server.
pub struct Sandbox {
    child: Child,
    lifeline: Option<ChildStdin>,
    log: MailLog,
    printed: PathBuf,
}

impl Sandbox {
    /// Whether the server has ended.
    pub fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The mail log and what was printed, for people.
    pub fn said(&self) -> String {
        let printed = fs::read(&self.printed).unwrap_or_default();
        format!("--- mail log\n{}--- printed\n{}", self.log.text(), String::from_utf8_lossy(&printed))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if let Err(error) = self.child.wait() {
            eprintln!("waiting for the sandbox: {error}");
        }
    }
}

/// What programs send to syslog: `/dev/log` is a datagram socket of ours.
struct MailLog {
    path: PathBuf,
    socket: UnixDatagram,
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl MailLog {
    fn listen(path: &Path) -> io::Result<MailLog> {
        let socket = UnixDatagram::bind(path)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        let text = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let (socket, text) = (socket.try_clone()?, Arc::clone(&text));
            move || read_log(&socket, &text)
        });
        Ok(MailLog { path: path.to_owned(), socket, text, reader: Some(reader) })
    }

    fn text(&self) -> String {
        self.text.lock().expect("the reader doesn't panic").clone()
    }
}

impl Drop for MailLog {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Collects messages until the socket is shut down.
fn read_log(socket: &UnixDatagram, text: &Mutex<String>) {
    let mut message = [0; 4096];
    loop {
        match socket.recv(&mut message) {
            Ok(0) => return,
            Ok(length) => {
                let mut text = text.lock().expect("nobody panics while holding it");
                text.push_str(String::from_utf8_lossy(&message[..length]).trim_end_matches(['\0', '\n']));
                text.push('\n');
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
