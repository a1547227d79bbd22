//! `rcptmapd serve`: from arguments to a running loop.
//!
//! The order of [`crate::sys`]: what can be told on the terminal comes first, what takes root's rights before they are
//! given up, threads last.

use std::path::PathBuf;
use std::sync::Arc;

use super::settings::Settings;
use super::{Failure, exit};
use crate::config::{Config, Endpoint, Overrides};
use crate::logging;
use crate::net::{Server, Setup};
use crate::reload::{self, Loader};
use crate::sys;

/// Run the daemon
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, in place of what the configuration says; may be given several times
    #[arg(long, value_name = "ENDPOINT")]
    listen: Vec<Endpoint>,
    /// Control socket for status, stats and reload
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

/// Starts and serves; returns when a signal ended it, or when it could not start.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let overrides = Overrides {
        sources: args.sources.clone(),
        listen: args.listen.clone(),
        user: args.user.clone(),
        pid_file: args.pid_file.clone(),
    };
    let Settings { mut config, file } = Settings::read(args.config.as_deref(), &overrides)?;
    if let Some(control) = &args.control {
        config.control = Some(std::path::absolute(control).unwrap_or_else(|_| control.clone()));
    }
    let settings = reload::Settings { file, overrides };
    serve(args, config, settings).map_err(|error| Failure::new(exit::OS, error.to_string()))?;
    Ok(exit::OK)
}

fn serve(args: &Args, config: Config, settings: reload::Settings) -> Result<(), Box<dyn std::error::Error>> {
    let mut activated = sys::Activated::from_env()?;
    let descriptors = sys::raise_nofile()?;
    sys::private_umask();
    let account = config.user.as_deref().map(sys::account).transpose()?;
    let mut bound = Vec::new();
    for listen in &config.listen {
        for socket in sys::bind(listen, config.limits.backlog, &mut activated)? {
            bound.push((listen.clone(), socket));
        }
    }
    let control = config.control.as_deref().map(|path| sys::bind_control(path, account.as_ref())).transpose()?;
    if args.detach {
        sys::daemonise()?;
    }
    let logger = logging::init(&config.log, logging::Outlets { detached: args.detach, ..Default::default() })?;
    let pid_file = config.pid_file.as_deref().map(sys::PidFile::create).transpose()?;
    if let Some(account) = &account {
        sys::drop_privileges(account)?;
    }
    let config = Arc::new(config);
    let notify = sys::Notify::from_env();
    let setup = Setup { config: Arc::clone(&config), bound, control, activated, descriptors, notify, logger };
    let served = Server::new(setup, |wake| Loader::start(config, settings, wake)).and_then(Server::run);
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    Ok(served?)
}
