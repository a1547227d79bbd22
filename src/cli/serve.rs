//! `rcptmapd serve`: from arguments to a running loop.
//!
//! The order of [`crate::sys`]: what can be told on the terminal comes first, what takes root's rights before they are
//! given up, threads last.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use super::settings::Settings;
use super::watch::Watch;
use super::{Failure, exit};
use crate::config::{Endpoint, Overrides};
use crate::logging;
use crate::net::{Server, Setup};
use crate::reload::{self, Loader, Outcome};
use crate::sys::{self, SysError};

/// Run the daemon
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd serve /etc/postfix/relay_recipients
  rcptmapd serve --listen unix:/run/rcptmapd.sock --listen 127.0.0.1:8910 staff students
  rcptmapd serve -c /etc/rcptmapd/rcptmapd.toml
  rcptmapd serve -D -u nobody -P /run/rcptmapd.pid /etc/mail/access

The first one serves a list on 127.0.0.1:8910, and prints how to ask. Without -c and without a list \
/etc/rcptmapd/rcptmapd.toml is read. With -c, lists on the command line are served beside those of the file. Without \
-c nothing is kept on disk, and there is a control socket only with --control.

An ENDPOINT is written as the mail servers write it: unix:/path, /path, 127.0.0.1:8910, [::1]:8910, \
inet:8910@127.0.0.1, inet:127.0.0.1:8910, or fd:NAME for a socket of systemd's.

Signals: HUP reads configuration and lists again, TERM and INT stop, USR1 logs the status, USR2 opens the log again.

Exit status: 0 stopped by a signal, 67 unknown user or group, 71 a socket or a file can't be had, 78 the \
configuration is wrong.")]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, in place of what the configuration says; may be given several times
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<Endpoint>,
    /// Control socket, for `rcptmapd status`, `stats` and `reload`
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Detach from the terminal
    #[arg(short = 'D', long)]
    detach: bool,
    /// Become this user once the sockets are bound
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Write the process id there
    #[arg(short = 'P', long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Recipient lists; their formats are found out
    #[arg(value_name = "SOURCE")]
    sources: Vec<PathBuf>,
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Failure {
        let code = match &error {
            SysError::UnknownUser(_) | SysError::UnknownGroup(_) => exit::NO_USER,
            _ => exit::OS,
        };
        Failure::new(code, error.to_string())
    }
}

/// Starts and serves; returns when a signal ended it, or when it could not start.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let mut activated = sys::Activated::from_env()?;
    let overrides = Overrides {
        sources: args.sources.clone(),
        listen: args.listen.clone(),
        user: args.user.clone(),
        pid_file: args.pid_file.clone(),
        control: args.control.clone(),
    };
    let Settings { config, file } = Settings::read(args.config.as_deref(), &overrides)?;
    let os = |what: &str, e: &io::Error| Failure::new(exit::OS, format!("{what}: {}", crate::config::reason(e)));
    let descriptors = sys::raise_nofile().map_err(|e| os("limit of open files", &e))?;
    sys::private_umask();
    // Whoever isn't root stays who they are, so the user need not exist.
    let account = config.user.as_deref().filter(|_| sys::is_root()).map(sys::account).transpose()?;
    let mut bound = Vec::new();
    for listen in &config.listen {
        if let Some(path) = listen.on.path() {
            sys::runtime_folder(path, account.as_ref())?;
        }
        for socket in sys::bind(listen, config.limits.backlog, &mut activated)? {
            bound.push((listen.clone(), socket));
        }
    }
    let control = match config.control.as_deref() {
        Some(path) => {
            sys::runtime_folder(path, account.as_ref())?;
            Some(sys::bind_control(path, account.as_ref())?)
        }
        None => None,
    };
    if let Some(state_dir) = &config.state_dir {
        sys::state_folder(state_dir, account.as_ref())?;
    }
    let stays_root = sys::is_root() && account.is_none();
    // Before we detach, so that "runs already" is seen by who starts us; the number is the child's only afterwards.
    let mut pid_file = config.pid_file.as_deref().map(sys::PidFile::create).transpose()?;
    if args.detach {
        sys::daemonise()?;
        pid_file.as_mut().map(sys::PidFile::update).transpose()?;
    }
    let outlets = logging::Outlets { detached: args.detach, ..logging::Outlets::default() };
    let logger = logging::init(&config.log, outlets).map_err(|e| Failure::new(exit::OS, e.to_string()))?;
    if let Some(account) = &account
        && sys::drop_privileges(account)? == sys::Dropped::WantsRoot
    {
        log::warn!("`user` is root; name one that may read the lists and nothing else");
    }
    if stays_root {
        log::warn!("running as root; -u USER (`user` in the configuration) is better, it need only read the lists");
    }
    for name in activated.left() {
        log::warn!("socket {name} of systemd belongs to no listener, so nobody answers there");
    }
    let endpoints: Vec<Endpoint> = bound.iter().map(|(_, bound)| bound.endpoint.clone()).collect();
    let watch = (!args.detach && io::stderr().is_terminal()).then(|| Watch::new(&config, file.is_none(), endpoints));
    let config = Arc::new(config);
    let settings = reload::Settings { file, overrides };
    let notify = sys::Notify::from_env();
    let setup = Setup { config: Arc::clone(&config), bound, control, activated, descriptors, notify, logger };
    let served = Server::new(setup, |wake| {
        let mut watch = watch.map(Watch::start);
        let heard = move |outcome: &Outcome| {
            if let Some(watch) = watch.take() {
                watch.loaded(outcome);
            }
        };
        Loader::start(config, settings, heard, wake)
    })
    .and_then(Server::run);
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    served.map_err(|e| Failure::new(exit::OS, e.to_string()))?;
    Ok(exit::OK)
}
