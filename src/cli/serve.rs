//! `rcptmapd serve`: from arguments to a running loop.
//!
//! The order of [`crate::sys`]: what can be told on the terminal comes first, what takes root's rights before they are
//! given up, threads last.

use std::process::ExitCode;
use std::sync::Arc;

use super::{ServeArgs, exit};
use crate::config::{Config, Overrides};
use crate::logging;
use crate::net::{Server, Setup};
use crate::reload::{Loader, Settings};
use crate::sys;

/// Starts and serves; returns when a signal ended it, or when it could not start.
pub fn run(args: &ServeArgs) -> ExitCode {
    let overrides = Overrides {
        sources: args.sources.clone(),
        listen: args.listen.clone(),
        user: args.user.clone(),
        pid_file: args.pid_file.clone(),
    };
    let config = match &args.config {
        Some(file) => match Config::load(file, &overrides) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("rcptmapd: {error}");
                return exit::CONFIG.into();
            }
        },
        None => Config::for_sources(&args.sources, &args.listen),
    };
    match start(args, config, overrides) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rcptmapd: {error}");
            exit::OS.into()
        }
    }
}

fn start(args: &ServeArgs, config: Config, overrides: Overrides) -> Result<(), Box<dyn std::error::Error>> {
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
    let settings = Settings { file: args.config.clone(), overrides };
    let notify = sys::Notify::from_env();
    let setup = Setup { config: Arc::clone(&config), bound, control, activated, descriptors, notify, logger };
    let served = Server::new(setup, |wake| Loader::start(config, settings, wake)).and_then(Server::run);
    if let Some(pid_file) = pid_file {
        pid_file.remove();
    }
    Ok(served?)
}
