//! `rcptmapd serve`: from arguments to a running loop.

use std::path::PathBuf;
use std::sync::Arc;

use super::settings::Settings;
use super::{Failure, exit};
use crate::config::{CONTROL_MODE, Endpoint, Listen, Overrides};
use crate::net::Server;
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
    let os = |error: &dyn std::fmt::Display| Failure::new(exit::OS, error.to_string());
    let bind = |listen: &Listen| sys::bind(listen, config.limits.backlog).map_err(|e| os(&e));
    let mut bound = Vec::new();
    for listen in &config.listen {
        bound.push((listen.clone(), bind(listen)?));
    }
    let control = match &config.control {
        Some(path) => {
            let listen = Listen { mode: CONTROL_MODE, ..Listen::new(Endpoint::Unix(path.clone())) };
            Some(bind(&listen)?)
        }
        None => None,
    };
    let config = Arc::new(config);
    let settings = reload::Settings { file, overrides };
    let loader = |wake| Loader::start(Arc::clone(&config), settings, wake);
    let server = Server::new(Arc::clone(&config), bound, control, 65536, sys::Notifier, loader).map_err(|e| os(&e))?;
    server.run().map_err(|e| os(&e))?;
    Ok(exit::OK)
}
