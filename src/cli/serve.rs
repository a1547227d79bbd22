//! `rcptmapd serve`: from arguments to a running loop.

use std::process::ExitCode;
use std::sync::Arc;

use super::{ServeArgs, exit};
use crate::config::{Config, Overrides};
use crate::net::Server;
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
    let mut bound = Vec::new();
    for listen in &config.listen {
        match sys::bind(listen, config.limits.backlog) {
            Ok(socket) => bound.push((listen.clone(), socket)),
            Err(error) => {
                eprintln!("rcptmapd: {error}");
                return exit::OS.into();
            }
        }
    }
    let config = Arc::new(config);
    let settings = Settings { file: args.config.clone(), overrides };
    let loader = |wake| Loader::start(Arc::clone(&config), settings, wake);
    match Server::new(Arc::clone(&config), bound, None, 65536, sys::Notifier, loader).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rcptmapd: {error}");
            exit::OS.into()
        }
    }
}
