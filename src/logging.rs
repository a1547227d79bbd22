//! The log: to the log daemon (RFC 3164) or to standard error, never in the way of the loop.
//!
//! The syslog crate brings the back end and the vocabulary; its front door is not used: `syslog::unix()` blocks when the
//! log daemon is slow, is silent for ever after a restart of it, and stamps UTC where RFC 3164 says local time. Here the
//! socket is ours and does not block. What it does not take is dropped and counted, and the count is told with the next
//! message that gets through. When the log daemon went away the socket is opened again, at most once a second.
//!
//! No line ever holds a control byte; text of a peer goes through [`escape`] first.

use std::ffi::OsStr;
use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, Local, Timelike};
use log::{Level, Log, Metadata, Record};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syslog::{LogFormat, LoggerBackend, Severity};

use crate::config::{self, Addresses, Facility, LogTarget, reason};

/// Where log daemons listen.
pub const LOG_SOCKET: &str = "/dev/log";
/// Longest datagram (RFC 3164, section 4.1).
pub const MAX_DATAGRAM: usize = 1024;
/// Longest line on standard error: well below what a pipe takes in one piece.
const MAX_LINE: usize = 2048;
/// The name in front of every message.
const TAG: &str = "rcptmapd";
/// How often a lost log daemon is looked for.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// What the log may use.
#[derive(Clone, Debug)]
pub struct Outlets {
    /// The socket of the log daemon.
    pub log_socket: PathBuf,
    /// Standard error is, or is about to be, closed (`-D`).
    pub detached: bool,
    /// How often a lost log daemon is looked for.
    pub reopen_every: Duration,
}

impl Default for Outlets {
    fn default() -> Outlets {
        Outlets { log_socket: LOG_SOCKET.into(), detached: false, reopen_every: REOPEN_EVERY }
    }
}

/// The log.
pub struct Logger {
    outlets: Outlets,
    state: Mutex<State>,
    dropped: AtomicU64,
}

struct State {
    config: config::Log,
    sink: Sink,
    /// Dropped since the last message that got through.
    lost: u64,
}

enum Sink {
    Syslog(Syslog),
    Stderr(Style),
}

/// How a line on standard error begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `<6>`, which the journal takes for the priority (sd-daemon(3)).
    Journal,
    /// The time.
    Terminal,
    /// Date and time.
    File,
}

/// Whether addresses are hashed; like the log itself there is one for the process.
static HASHED: AtomicBool = AtomicBool::new(false);
/// The key of the hashes: another one in each process, so that nobody finds an address by trying.
static ADDRESS_KEY: OnceLock<ahash::RandomState> = OnceLock::new();

/// A recipient's address, or text of a list, as the log may show it (`log.addresses`): plain and escaped, or a keyed hash,
/// by which one can still see that two lines speak of the same.
pub fn address(bytes: &[u8]) -> String {
    if HASHED.load(Ordering::Relaxed) {
        format!("<{:016x}>", ADDRESS_KEY.get_or_init(ahash::RandomState::new).hash_one(bytes))
    } else {
        escape(bytes).to_string()
    }
}

/// Makes the log that `config` asks for the log of the program. It lives until the end, as `log` wants it.
pub fn init(config: &config::Log, outlets: Outlets) -> Result<&'static Logger, log::SetLoggerError> {
    let logger: &'static Logger = Box::leak(Box::new(Logger::new(config, outlets)));
    log::set_logger(logger)?;
    log::set_max_level(config.level.max());
    HASHED.store(config.addresses == Addresses::Hashed, Ordering::Relaxed);
    Ok(logger)
}

impl Logger {
    /// A log. Where there is no log daemon it begins on standard error, and says so there.
    pub fn new(config: &config::Log, outlets: Outlets) -> Logger {
        let sink = Sink::new(config, &outlets);
        let state = Mutex::new(State { config: config.clone(), sink, lost: 0 });
        Logger { outlets, state, dropped: AtomicU64::new(0) }
    }

    /// Opens the log anew (SIGUSR2).
    pub fn reopen(&self) {
        let mut state = self.lock();
        state.sink = Sink::new(&state.config, &self.outlets);
    }

    /// Goes on as `config` says (SIGHUP). The socket stays open if it can.
    pub fn reconfigure(&self, config: &config::Log) {
        let mut state = self.lock();
        if state.config.target != config.target || state.config.facility != config.facility {
            state.sink = Sink::new(config, &self.outlets);
        }
        state.config = config.clone();
        log::set_max_level(config.level.max());
        HASHED.store(config.addresses == Addresses::Hashed, Ordering::Relaxed);
    }

    /// How many messages were dropped since the start, because nobody took them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.lock().config.level.level(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        let mut state = self.lock();
        if record.level() > state.config.level.level(record.target()) {
            return;
        }
        let text = message(record);
        if state.lost > 0 {
            let notice = format!("{} log messages were lost: nobody took them", state.lost);
            if state.sink.send(Level::Warn, &notice) {
                state.lost = 0;
            }
        }
        if !state.sink.send(record.level(), &text) {
            state.lost += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The text of a record in one line; what is for developers tells its topic.
fn message(record: &Record<'_>) -> String {
    let mut text = String::new();
    if record.level() >= Level::Debug {
        let topic = record.target().strip_prefix("rcptmapd::").unwrap_or(record.target());
        let _ = write!(text, "{topic}: "); // a String takes everything
    }
    let _ = write!(text, "{}", record.args());
    if text.contains(char::is_control) {
        text = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    text
}

impl Sink {
    fn new(config: &config::Log, outlets: &Outlets) -> Sink {
        let stderr = io::stderr();
        let journal = is_stream(std::env::var_os("JOURNAL_STREAM").as_deref(), &stderr);
        let terminal = stderr.is_terminal();
        if to_syslog(config.target, terminal, journal, outlets.detached) {
            let mut syslog = Syslog::new(config.facility, outlets);
            if let Err(e) = syslog.open(Instant::now()) {
                // with -D there is no standard error to fall back to
                syslog.fallback = (!outlets.detached).then_some(style(terminal, journal));
                if let Some(style) = syslog.fallback {
                    let what = format!("no log daemon at {}: {}", outlets.log_socket.display(), reason(&e));
                    write_line(style, Level::Warn, &format!("{what}; logging to standard error until there is one"));
                }
            }
            return Sink::Syslog(syslog);
        }
        Sink::Stderr(style(terminal, journal))
    }

    /// Whether somebody took it.
    fn send(&mut self, level: Level, text: &str) -> bool {
        match self {
            Sink::Syslog(syslog) => syslog.send(level, text, Instant::now()),
            Sink::Stderr(style) => write_line(*style, level, text),
        }
    }
}

fn to_syslog(target: LogTarget, terminal: bool, journal: bool, detached: bool) -> bool {
    match target {
        LogTarget::Syslog => true,
        LogTarget::Stderr => false,
        LogTarget::Auto => detached || !(terminal || journal),
    }
}

fn style(terminal: bool, journal: bool) -> Style {
    match (journal, terminal) {
        (true, _) => Style::Journal,
        (false, true) => Style::Terminal,
        (false, false) => Style::File,
    }
}

/// Whether `fd` is the stream of the journal: systemd writes its device and inode into `JOURNAL_STREAM`.
fn is_stream(value: Option<&OsStr>, fd: impl AsFd) -> bool {
    let Some((device, inode)) = value.and_then(OsStr::to_str).and_then(|v| v.split_once(':')) else { return false };
    nix::sys::stat::fstat(fd).is_ok_and(|stat| {
        device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino) // so a copied variable means nothing
    })
}

/// One line on standard error, if it takes it at once.
fn write_line(style: Style, level: Level, text: &str) -> bool {
    let stderr = io::stderr();
    let mut line = line(style, level, text, &Local::now());
    line.push('\n');
    // a reader that has stopped must not stop us: a pipe that is ready takes 4096 bytes without waiting (pipe(7))
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(0) {
        return false;
    }
    stderr.lock().write_all(line.as_bytes()).is_ok()
}

fn line(style: Style, level: Level, text: &str, now: &DateTime<Local>) -> String {
    let word = match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    };
    let (h, m, s) = (now.hour(), now.minute(), now.second());
    let mut line = match style {
        Style::Journal => format!("<{}>{text}", severity(level) as u8),
        Style::Terminal => format!("{h:02}:{m:02}:{s:02} {word}{text}"),
        Style::File => {
            let (year, month, day) = (now.year(), now.month(), now.day());
            format!("{year}-{month:02}-{day:02} {h:02}:{m:02}:{s:02} {word}{text}")
        }
    };
    cut(&mut line, MAX_LINE);
    line
}

/// Shortens `text` to `max` bytes, with dots where something is missing.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max.saturating_sub(3)));
        text.push_str("...");
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::Error => Severity::LOG_ERR,
        Level::Warn => Severity::LOG_WARNING,
        Level::Info => Severity::LOG_INFO,
        Level::Debug | Level::Trace => Severity::LOG_DEBUG,
    }
}

/// A connection to the log daemon.
struct Syslog {
    path: PathBuf,
    facility: Facility,
    reopen_every: Duration,
    logger: Option<syslog::Logger<LoggerBackend, Rfc3164>>,
    /// No attempt to open before this.
    next: Option<Instant>,
    /// Standard error takes the messages until the log daemon is there for the first time.
    fallback: Option<Style>,
}

impl Syslog {
    fn new(facility: Facility, outlets: &Outlets) -> Syslog {
        Syslog {
            path: outlets.log_socket.clone(),
            facility,
            reopen_every: outlets.reopen_every,
            logger: None,
            next: None,
            fallback: None,
        }
    }

    fn open(&mut self, now: Instant) -> io::Result<()> {
        self.next = Some(now + self.reopen_every);
        self.logger = None;
        let socket = connect(&self.path)?;
        let formatter = Rfc3164 { facility: code(self.facility) };
        self.logger = Some(syslog::Logger { formatter, backend: LoggerBackend::Unix(socket) });
        self.fallback = None;
        Ok(())
    }

    fn send(&mut self, level: Level, text: &str, now: Instant) -> bool {
        let may_open = self.next.is_none_or(|next| next <= now);
        match self.write(level, text) {
            Ok(()) => return true,
            // full: who reads is slow, and a new socket would change nothing
            Err(e) if is_full(&e) => return false,
            // the log daemon went away (ECONNREFUSED, then ENOTCONN), or wasn't there
            Err(_) if may_open => {}
            Err(_) => return self.fall_back(level, text),
        }
        if self.open(now).is_ok() && self.write(level, text).is_ok() {
            return true;
        }
        self.fall_back(level, text)
    }

    fn write(&mut self, level: Level, text: &str) -> io::Result<()> {
        let logger = self.logger.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match logger.formatter.format(&mut logger.backend, severity(level), text) {
            Ok(()) => Ok(()),
            Err(syslog::Error::Write(e) | syslog::Error::Io(e)) => Err(e),
            Err(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    fn fall_back(&self, level: Level, text: &str) -> bool {
        self.fallback.is_some_and(|style| write_line(style, level, text))
    }
}

fn is_full(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::WouldBlock || e.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// The facility as a number (RFC 3164, section 4.1.1).
fn code(facility: Facility) -> u8 {
    match facility {
        Facility::User => 1,
        Facility::Mail => 2,
        Facility::Daemon => 3,
        Facility::Auth => 4,
        Facility::Authpriv => 10,
        Facility::Local0 => 16,
        Facility::Local1 => 17,
        Facility::Local2 => 18,
        Facility::Local3 => 19,
        Facility::Local4 => 20,
        Facility::Local5 => 21,
        Facility::Local6 => 22,
        Facility::Local7 => 23,
    }
}

/// `<22>Nov  1 02:03:27 rcptmapd[1466]: text`: as glibc writes it, without a host name, in local time.
struct Rfc3164 {
    facility: u8,
}

impl<T: Display> LogFormat<T> for Rfc3164 {
    fn format<W: Write>(&self, w: &mut W, severity: Severity, message: T) -> syslog::Result<()> {
        // the number of the process is asked each time: -D changes it
        let text = datagram(self.facility, severity as u8, &Local::now(), std::process::id(), &message);
        w.write_all(text.as_bytes()).map_err(syslog::Error::Write)
    }
}

fn datagram(facility: u8, severity: u8, now: &DateTime<Local>, pid: u32, message: &dyn Display) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.get(now.month0() as usize).copied().unwrap_or("Jan");
    let priority = u32::from(facility) * 8 + u32::from(severity);
    let (day, h, m, s) = (now.day(), now.hour(), now.minute(), now.second());
    let mut text = format!("<{priority}>{month} {day:2} {h:02}:{m:02}:{s:02} {TAG}[{pid}]: {message}");
    cut(&mut text, MAX_DATAGRAM);
    text
}

/// Longest text of a peer in a log line.
pub const MAX_ESCAPED: usize = 200;

/// Bytes of a peer as they may stand in a log line: printable ASCII, all else as `\xNN`, and not too many.
pub fn escape(bytes: &[u8]) -> impl Display + '_ {
    struct Escaped<'a>(&'a [u8]);
    impl Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut room = MAX_ESCAPED;
            for &byte in self.0 {
                let escaped = std::ascii::escape_default(byte);
                let quote = matches!(byte, b'\'' | b'"'); // they are common in addresses, and harmless
                let len = if quote { 1 } else { escaped.len() };
                if len > room {
                    return write!(f, "... ({} bytes)", self.0.len());
                }
                room -= len;
                if quote { f.write_char(char::from(byte))? } else { write!(f, "{escaped}")? }
            }
            Ok(())
        }
    }
    Escaped(bytes)
}

/// The two edges of a limit: told once when it is reached, once when it has not been reached for a while.
///
/// A limit that is left and reached again all the time would otherwise fill the log with both.
#[derive(Debug)]
pub struct Edge {
    quiet: Duration,
    inside: Option<Inside>,
}

#[derive(Debug)]
struct Inside {
    since: Instant,
    last: Instant,
    hits: u64,
}

/// What to tell of a limit that was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// From the first hit to the last.
    pub lasted: Duration,
    /// How many hits there were.
    pub hits: u64,
}

impl Edge {
    /// A limit counts as left when it has not been hit for `quiet`.
    pub const fn new(quiet: Duration) -> Edge {
        Edge { quiet, inside: None }
    }

    /// The limit is hit. True for the first time: tell it.
    pub fn hit(&mut self, now: Instant) -> bool {
        match &mut self.inside {
            Some(inside) => {
                inside.hits += 1;
                inside.last = now;
                false
            }
            None => {
                self.inside = Some(Inside { since: now, last: now, hits: 1 });
                true
            }
        }
    }

    /// To be called now and then. What to tell when the limit has been left.
    pub fn left(&mut self, now: Instant) -> Option<Left> {
        let inside = self.inside.as_ref()?;
        if now.saturating_duration_since(inside.last) < self.quiet {
            return None;
        }
        let left = Left { lasted: inside.last.saturating_duration_since(inside.since), hits: inside.hits };
        self.inside = None;
        Some(left)
    }

    /// Whether the limit is being hit.
    pub fn is_inside(&self) -> bool {
        self.inside.is_some()
    }
}

/// At most one message in a time, for what a peer can provoke.
#[derive(Debug)]
pub struct Rate {
    every: Duration,
    next: Option<Instant>,
    kept: u64,
}

impl Rate {
    /// One message in `every`.
    pub const fn new(every: Duration) -> Rate {
        Rate { every, next: None, kept: 0 }
    }

    /// Whether to write the message now, and how many were kept back since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.kept += 1;
            return None;
        }
        self.next = Some(now + self.every);
        Some(std::mem::take(&mut self.kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn now() -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 11, 1, 2, 3, 7).single().expect("a moment that there was")
    }

    /// A log daemon of our own.
    struct Daemon {
        socket: UnixDatagram,
        _folder: Option<tempfile::TempDir>,
    }

    impl Daemon {
        fn bind(path: &Path) -> Daemon {
            let socket = UnixDatagram::bind(path).expect("a socket");
            socket.set_nonblocking(true).expect("a socket that does not block");
            Daemon { socket, _folder: None }
        }

        fn read(&self) -> Option<String> {
            let mut buffer = [0; 4096];
            let len = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
        }

        fn text(&self) -> Option<String> {
            self.read().map(|t| t.split_once("]: ").expect("a tag").1.to_owned())
        }
    }

    fn daemon() -> (Daemon, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let mut daemon = Daemon::bind(&path);
        daemon._folder = Some(folder);
        (daemon, path)
    }

    fn logger(path: &Path, reopen_every: Duration) -> Logger {
        let config = config::Log { target: LogTarget::Syslog, ..config::Log::default() };
        Logger::new(&config, Outlets { log_socket: path.into(), detached: true, reopen_every })
    }

    fn say(logger: &Logger, level: Level, target: &str, text: &str) {
        logger.log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
    }

    fn info(logger: &Logger, text: &str) {
        say(logger, Level::Info, "rcptmapd::net", text);
    }

    #[test]
    fn a_message_is_written_as_the_rfc_and_glibc_write_it() {
        assert_eq!(datagram(2, 6, &now(), 1466, &"hello world"), "<22>Nov  1 02:03:07 rcptmapd[1466]: hello world");
        let long = datagram(23, 3, &now(), 1, &"\u{fc}".repeat(2000));
        assert!(long.starts_with("<187>Nov") && long.ends_with("\u{fc}..."));
        assert!((MAX_DATAGRAM - 1..=MAX_DATAGRAM).contains(&long.len()), "{}", long.len());
    }

    #[test]
    fn the_log_daemon_gets_local_time_our_number_and_no_control_bytes() {
        let (daemon, path) = daemon();
        let logger = logger(&path, Duration::ZERO);
        let before = Local::now();
        info(&logger, "one\ntwo\r\x1b[1m\u{9b}\0");
        let text = daemon.read().expect("a message");
        assert!(text.ends_with(&format!(" rcptmapd[{}]: one?two??[1m??", std::process::id())), "{text:?}");
        let stamps = [before, Local::now()].map(|t| datagram(2, 6, &t, std::process::id(), &"one?two??[1m??"));
        assert!(stamps.contains(&text), "{text:?}");
    }

    #[test]
    fn levels_become_severities_and_topics_are_filtered() {
        let (daemon, path) = daemon();
        let level = "info,net=debug,sys=error".parse().expect("a filter");
        let config = config::Log { target: LogTarget::Syslog, level, facility: Facility::Local0, ..Default::default() };
        let logger = Logger::new(&config, Outlets { log_socket: path, ..Outlets::default() });
        for (level, target, expected) in [
            (Level::Error, "rcptmapd::sys", Some("<131>")),
            (Level::Warn, "rcptmapd::sys", None),
            (Level::Warn, "rcptmapd::reload", Some("<132>")),
            (Level::Info, "rcptmapd", Some("<134>")),
            (Level::Debug, "rcptmapd::reload", None),
            (Level::Debug, "rcptmapd::net::session", Some("<135>")),
            (Level::Trace, "rcptmapd::net::session", None),
        ] {
            say(&logger, level, target, "x");
            let got = daemon.read();
            assert_eq!(got.as_deref().map(|t| &t[..5]), expected, "{level} {target}");
            let enabled = logger.enabled(&Metadata::builder().level(level).target(target).build());
            assert_eq!(enabled, expected.is_some(), "{level} {target}");
        }
        say(&logger, Level::Debug, "rcptmapd::net::session", "x");
        assert_eq!(daemon.text().as_deref(), Some("net::session: x"));
    }

    #[test]
    fn a_full_socket_does_not_block_and_the_loss_is_told() {
        let (daemon, path) = daemon();
        let logger = logger(&path, Duration::ZERO);
        for i in 0..5000 {
            info(&logger, &format!("message {i}"));
        }
        let dropped = logger.dropped();
        assert!(dropped > 0, "the kernel takes only so many");
        let mut taken = 0;
        while daemon.read().is_some() {
            taken += 1;
        }
        assert_eq!(taken + dropped, 5000);
        info(&logger, "again");
        assert_eq!(daemon.text(), Some(format!("{dropped} log messages were lost: nobody took them")));
        assert_eq!(daemon.text().as_deref(), Some("again"));
        info(&logger, "and again");
        assert_eq!(daemon.text().as_deref(), Some("and again"), "told once");
        assert_eq!(logger.dropped(), dropped);
    }

    #[test]
    fn a_restarted_log_daemon_is_found_again() {
        let (mut daemon, path) = daemon();
        let folder = daemon._folder.take();
        let logger = logger(&path, Duration::ZERO);
        info(&logger, "before");
        assert_eq!(daemon.text().as_deref(), Some("before"));

        drop(daemon); // its socket stays on the disk, as after a kill -9
        info(&logger, "lost 1");
        info(&logger, "lost 2");
        std::fs::remove_file(&path).expect("the old socket");
        info(&logger, "lost 3");
        assert_eq!(logger.dropped(), 3);

        let daemon = Daemon::bind(&path);
        info(&logger, "after");
        // the first goes to find the new socket, so the count comes before the next
        let texts: Vec<String> = std::iter::from_fn(|| daemon.text()).collect();
        assert_eq!(texts, ["3 log messages were lost: nobody took them", "after"]);
        info(&logger, "later");
        assert_eq!(daemon.text().as_deref(), Some("later"));
        drop(folder);
    }

    #[test]
    fn a_restart_between_two_messages_loses_nothing() {
        let (mut daemon, path) = daemon();
        let _folder = daemon._folder.take();
        let logger = logger(&path, Duration::ZERO);
        info(&logger, "before");
        drop(daemon);
        std::fs::remove_file(&path).expect("the old socket");
        let daemon = Daemon::bind(&path);
        info(&logger, "after");
        assert_eq!((daemon.text().as_deref(), logger.dropped()), (Some("after"), 0));
    }

    #[test]
    fn a_lost_log_daemon_is_looked_for_at_a_limited_rate() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let outlets = Outlets { log_socket: path.clone(), detached: true, reopen_every: Duration::from_secs(60) };
        let mut syslog = Syslog::new(Facility::Mail, &outlets);
        let start = Instant::now();
        assert!(syslog.open(start).is_err());
        let daemon = Daemon::bind(&path);
        assert!(!syslog.send(Level::Info, "too early", start + Duration::from_secs(59)));
        assert!(syslog.send(Level::Info, "in time", start + Duration::from_secs(60)));
        assert_eq!((daemon.text().as_deref(), daemon.text()), (Some("in time"), None));
    }

    #[test]
    fn reopen_finds_a_log_daemon_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let logger = logger(&path, Duration::from_secs(3600));
        info(&logger, "nobody");
        let daemon = Daemon::bind(&path);
        info(&logger, "still nobody");
        assert_eq!((daemon.text(), logger.dropped()), (None, 2));
        logger.reopen();
        info(&logger, "somebody");
        assert_eq!(daemon.text().as_deref(), Some("2 log messages were lost: nobody took them"));
        assert_eq!(daemon.text().as_deref(), Some("somebody"));
    }

    #[test]
    fn without_a_log_daemon_standard_error_takes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let config = config::Log { target: LogTarget::Syslog, ..config::Log::default() };
        let outlets = Outlets { log_socket: path.clone(), detached: false, reopen_every: Duration::ZERO };
        let logger = Logger::new(&config, outlets);
        info(&logger, "(this line is part of a test)");
        assert_eq!(logger.dropped(), 0);
        let daemon = Daemon::bind(&path);
        info(&logger, "here");
        assert_eq!(daemon.text().as_deref(), Some("here"));
    }

    #[test]
    fn where_the_log_goes() {
        use LogTarget::*;
        assert!(to_syslog(Syslog, true, true, false) && !to_syslog(Stderr, false, false, true));
        assert!(!to_syslog(Auto, true, false, false), "a terminal");
        assert!(!to_syslog(Auto, false, true, false), "the journal");
        assert!(to_syslog(Auto, false, false, false), "neither");
        assert!(to_syslog(Auto, true, false, true), "a terminal that -D leaves");
    }

    #[test]
    fn lines_on_standard_error() {
        let line = |style, level| line(style, level, "text", &now());
        assert_eq!(line(Style::Journal, Level::Info), "<6>text");
        assert_eq!(line(Style::Journal, Level::Error), "<3>text");
        assert_eq!(line(Style::Terminal, Level::Info), "02:03:07 text");
        assert_eq!(line(Style::Terminal, Level::Warn), "02:03:07 warning: text");
        assert_eq!(line(Style::File, Level::Error), "2026-11-01 02:03:07 error: text");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = File::open("/proc/self/exe").expect("ourselves");
        let meta = file.metadata().expect("a file");
        let value = |ino: u64| std::ffi::OsString::from(format!("{}:{ino}", meta.dev()));
        assert!(is_stream(Some(&value(meta.ino())), &file));
        assert!(!is_stream(Some(&value(meta.ino() + 1)), &file));
        assert!(!is_stream(Some(OsStr::new("nonsense")), &file) && !is_stream(None, &file));
    }

    #[test]
    fn text_of_peers_is_escaped_and_bounded() {
        let e = |b: &[u8]| escape(b).to_string();
        assert_eq!(e(b"anna@example.org"), "anna@example.org");
        assert_eq!(e(b"\"a b\"@x, o'hara@x"), "\"a b\"@x, o'hara@x");
        assert_eq!(e(b"a\r\nb\0\xff\\"), r"a\r\nb\x00\xff\\");
        assert_eq!(e(&[b'x'; 200]), "x".repeat(200));
        assert_eq!(e(&[b'x'; 201]), format!("{}... (201 bytes)", "x".repeat(200)));
        assert_eq!(e(&[0; 1000]), format!("{}... (1000 bytes)", "\\x00".repeat(50)));
    }

    #[test]
    fn the_edges_of_a_limit_are_told_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut edge = Edge::new(Duration::from_secs(10));
        assert!(!edge.is_inside() && edge.left(at(0)).is_none());
        assert!(edge.hit(at(0)) && !edge.hit(at(5)) && edge.is_inside());
        assert_eq!(edge.left(at(14)), None);
        assert_eq!(edge.left(at(15)), Some(Left { lasted: Duration::from_secs(5), hits: 2 }));
        assert_eq!(edge.left(at(16)), None);
        assert!(edge.hit(at(17)), "and once more when it is reached again");
    }

    #[test]
    fn a_rate_tells_what_it_kept_back() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut rate = Rate::new(Duration::from_secs(10));
        assert_eq!([rate.allow(at(0)), rate.allow(at(1)), rate.allow(at(9))], [Some(0), None, None]);
        assert_eq!([rate.allow(at(10)), rate.allow(at(20))], [Some(2), Some(0)]);
    }
}
