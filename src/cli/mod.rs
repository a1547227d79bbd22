//! The command line: what each command takes, and where it goes on.

mod serve;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Endpoint;

/// Exit codes of sysexits.h that we use.
pub mod exit {
    /// Bad input data: a list with faults, a guard that would bite.
    pub const DATA: u8 = 65;
    /// No daemon is there.
    pub const UNAVAILABLE: u8 = 69;
    /// The system refused something: a socket, a user.
    pub const OS: u8 = 71;
    /// We can't tell now.
    pub const TEMPORARY: u8 = 75;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 78;
}

/// Tells mail servers at RCPT time whether a recipient exists.
#[derive(Parser, Debug)]
#[command(name = "rcptmapd", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Serve(ServeArgs),
}

/// Run the daemon.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Configuration file
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen; may be given several times
    #[arg(long, value_name = "ENDPOINT")]
    pub listen: Vec<Endpoint>,
    /// Detach from the terminal
    #[arg(short = 'D', long)]
    pub detach: bool,
    /// Become this user
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Write the process id there
    #[arg(short = 'P', long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Recipient lists
    #[arg(value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
}

/// Runs the command of the process's arguments.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
    }
}
