//! The command line: what each command takes, and where it goes on.
//!
//! A file a command, thin: what is printed is made by pure functions of values, and tested without I/O. Whatever a
//! command finds wrong comes back as a [`Failure`], a text for the person who must act and an exit code of sysexits.h;
//! only [`run`] writes it.

mod cache;
mod check;
mod client;
mod completions;
mod diff;
mod explain;
mod hops;
mod import;
mod order;
mod pipeline;
mod probe;
mod query;
mod reload;
mod report;
mod rollback;
mod serve;
mod settings;
mod stats;
mod status;
mod text;
mod watch;

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use toml::Spanned;

use crate::config::{ConfigError, Raw, Value};

/// Exit codes: those of sysexits.h, and 1 for "no".
pub mod exit {
    /// All is well; the recipient exists.
    pub const OK: u8 = 0;
    /// The recipient does not exist; the daemon does not serve what it should.
    pub const NO: u8 = 1;
    /// The command line is wrong.
    pub const USAGE: u8 = 64;
    /// Bad input data: a list with faults, a list that is not taken.
    pub const DATA: u8 = 65;
    /// There is no such user or group.
    pub const NO_USER: u8 = 67;
    /// No daemon is there.
    pub const UNAVAILABLE: u8 = 69;
    /// The system refused something: a socket, a user.
    pub const OS: u8 = 71;
    /// What is printed can't be written.
    pub const IO: u8 = 74;
    /// We can't tell now.
    pub const TEMPORARY: u8 = 75;
    /// The daemon speaks, but not as expected.
    pub const PROTOCOL: u8 = 76;
    /// We may not ask.
    pub const PERMISSION: u8 = 77;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// Tells mail servers at RCPT time whether a recipient exists.
#[derive(Parser, Debug)]
#[command(
    name = "rcptmapd",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  rcptmapd check /etc/postfix/relay_recipients     what is in a list
  rcptmapd serve /etc/postfix/relay_recipients     serve it, and say how to ask
  rcptmapd query anna@example.org                  ask as a mail server would
  rcptmapd explain anna@example.org LIST           why it is answered so
  rcptmapd status                                  what a daemon serves

`rcptmapd COMMAND --help` has more examples, and the exit codes. Exit codes are those of sysexits.h; 64 is a wrong \
command line."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Query(query::Args),
    Explain(explain::Args),
    Probe(probe::Args),
    Status(status::Args),
    Stats(stats::Args),
    Report(report::Args),
    Reload(reload::Args),
    Rollback(rollback::Args),
    Cache(cache::Args),
    Flush(cache::FlushArgs),
    Import(import::Args),
    Completions(completions::Args),
    Man(completions::ManArgs),
}

/// Why a command could not do its work.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What is wrong, and what to do about it.
    pub text: String,
}

impl Failure {
    fn new(code: u8, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(exit::CONFIG, error.to_string().replace('\n', "\nrcptmapd: "))
    }
}

/// A time span of the command line, written as in the configuration.
fn duration(text: &str) -> Result<Duration, String> {
    let raw = Spanned::new(0..0, Raw::Text(text.to_owned()));
    Duration::read(&raw).map_err(|fault| fault.what)
}

/// Runs the command of the process's arguments.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for; everything else is a mistake.
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            let _ = error.print();
            return code.into();
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Cache(args) => cache::run(&args),
        Command::Flush(args) => cache::flush(&args),
        Command::Import(args) => import::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => completions::man(&args),
    };
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            eprintln!("rcptmapd: {failure}");
            failure.code.into()
        }
    }
}
