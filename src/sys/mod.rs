//! What the operating system has to be asked for at start and at the end: accounts, limits, sockets, the pid file,
//! systemd. Every call is a safe one; nothing here is used while requests are served, but [`Notify::watchdog`].
//!
//! The order at start:
//!
//! 1. [`Activated::from_env`], while the process has one thread and its first number: `LISTEN_PID` names it.
//! 2. the configuration, read and checked: what is wrong with it is told on the terminal.
//! 3. [`raise_nofile`], [`private_umask`], and [`account`] if we are root: nobody else can become that user.
//! 4. [`runtime_folder`], [`bind`] for every listener and [`bind_control`], [`PidFile::create`]: as root, if we are.
//! 5. [`daemonise`] (`-D`): the parent ends with status 0, so all that is told by an exit status comes before. Threads
//!    don't survive it: none may run yet. Then [`PidFile::update`]: the number is the final one now.
//! 6. the log; a warning for [`Activated::left`]; [`drop_privileges`].
//! 7. [`Notify::from_env`], threads, the first load, [`Notify::ready`].
//!
//! At the end: [`Notify::stopping`], the sessions, then each [`Bound`] is dropped, [`PidFile::remove`].

mod account;
mod bind;
mod pid_file;
mod replace;
mod systemd;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

pub use account::{Account, Dropped, account, drop_privileges, group_id, is_root, user_id};
pub use bind::{BindError, Bound, Listener, bind, bind_control, permit, runtime_folder, state_folder};
pub use pid_file::PidFile;
pub use replace::replace;
pub use systemd::{Activated, Notify};

use crate::config::reason;

/// Our own name, for greetings.
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "localhost".to_owned())
}

/// Why the program can't run as it is told to.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// There is no such user.
    #[error(
        "unknown user {0}: create it with `useradd --system --no-create-home --shell /usr/sbin/nologin {0}`, or set \
         `user` (-u) to another; user = \"\" stays what it is"
    )]
    UnknownUser(String),
    /// There is no such group.
    #[error("unknown group {0}: create it with `groupadd --system {0}`, or name another")]
    UnknownGroup(String),
    /// The system doesn't tell.
    #[error("can't look up {what} {name}: {}", reason(.error))]
    LookUp {
        /// "user" or "group".
        what: &'static str,
        /// Its name.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// Not allowed to become somebody else.
    #[error("can't become user {user} ({step}): {}", reason(.error))]
    Become {
        /// The user.
        user: String,
        /// The call.
        step: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// The kernel would let us become root again.
    #[error("became user {0}, but could become root again: refusing to run like that")]
    StillRoot(String),
    /// A listener can't be had.
    #[error("{}{endpoint}: {error}", Prefix(.place))]
    Bind {
        /// Where it is configured.
        place: Option<crate::config::Place>,
        /// The listener.
        endpoint: String,
        /// Why.
        error: BindError,
    },
    /// The pid file belongs to a running process.
    #[error("{}: rcptmapd runs already{}; stop it, or name another pid_file (-P)", .path.display(), Number(.pid))]
    Running {
        /// The pid file.
        path: PathBuf,
        /// What it says.
        pid: Option<i32>,
    },
    /// The pid file is something else.
    #[error("{}: this is no pid file ({what}), so it is not overwritten; name another pid_file (-P)", .path.display())]
    NoPidFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A file or folder can't be used.
    #[error("{}: {}{advice}", .path.display(), reason(.error))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// What to do, with a blank in front.
        advice: &'static str,
    },
    /// The process can't leave the terminal.
    #[error("can't detach from the terminal: {0}")]
    Detach(String),
    /// systemd handed over something that we can't use.
    #[error("socket {name:?} (descriptor {fd}) from systemd: {what}")]
    Activation {
        /// `FileDescriptorName=`.
        name: String,
        /// The descriptor.
        fd: usize,
        /// What is wrong with it.
        what: String,
    },
}

struct Prefix<'a>(&'a Option<crate::config::Place>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |place| write!(f, "{place}: "))
    }
}

struct Number<'a>(&'a Option<i32>);

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |pid| write!(f, " as process {pid}"))
    }
}

/// Raises the number of descriptors that we may have to what the administrator allows, and tells it, so that the number
/// of sessions can be kept below. The default of 1024 is there for programs that use select(2).
pub fn raise_nofile() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Files that we create are for us to write, and for our group to read at most.
pub fn private_umask() {
    umask(Mode::from_bits_truncate(0o027));
}

/// Lowers the priority of the calling thread as far as it goes (nice 19), and tells whether that worked.
///
/// For the loader: at normal priority it would take the processor from the loop for a whole scheduling slice at a time.
/// `SCHED_IDLE` would serve a little better, but no crate offers it by a safe call. On Linux `setpriority(2)` with the
/// number 0 is about the calling thread, not the process, whatever POSIX says.
pub fn lower_own_priority() -> io::Result<()> {
    rustix::process::setpriority_process(None, 19).map_err(io::Error::from)
}

/// Leaves the terminal and becomes a child of init. The parent ends here with status 0.
///
/// To be called when the configuration is known to be good and all sockets are bound, so that a start that fails is seen
/// by who started it, and before any thread runs: threads stay behind in the parent. Relative paths end here (the
/// folder becomes `/`), standard input, output and error go to `/dev/null`.
pub fn daemonise() -> Result<(), SysError> {
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    // one that has been joined may be listed a moment longer
    for _ in 0..50 {
        if threads() == 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if threads() > 1 {
        return Err(SysError::Detach(format!("{} threads run already", threads())));
    }
    detach()
}

fn detach() -> Result<(), SysError> {
    nix::unistd::daemon(false, false).map_err(|e| SysError::Detach(reason(&e.into())))
}

/// What systemd tells us by the environment is for us alone: a child that inherits it could speak in our name.
///
/// The variables can't be removed from our own environment (that is unsafe while other threads may read it), so they are
/// kept from every child: [`scrub`].
pub const PRIVATE_ENV: [&str; 10] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
    "MAINPID",
    "MANAGERPID",
];

/// Keeps [`PRIVATE_ENV`] from a child.
pub fn scrub(command: &mut Command) -> &mut Command {
    PRIVATE_ENV.iter().fold(command, |command, name| command.env_remove(name))
}

fn file_error(path: &Path, error: io::Error, advice: &'static str) -> SysError {
    SysError::File { path: path.to_path_buf(), error, advice }
}
