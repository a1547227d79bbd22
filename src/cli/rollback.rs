//! `rcptmapd rollback`: puts an old list of a source in force.

use super::client::Whom;
use super::order::order;
use super::{Failure, exit, text};

/// Put an old list of a source in force, until the source changes
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd rollback exchange
  rcptmapd rollback exchange 17

Accepted lists are kept in state_dir (keep_versions); `rcptmapd status --json` tells the version in force. Without a \
version the one before it is taken. It holds until the list says something else than it says now, also over reloads and \
restarts.

Exit status: 0 it is in force, 65 there is no such version, 69 there is no daemon, 77 the control socket is not for you.")]
pub struct Args {
    /// Which source
    #[arg(value_name = "SOURCE")]
    source: String,
    /// The number of the version
    #[arg(value_name = "VERSION")]
    version: Option<u64>,
    #[command(flatten)]
    whom: Whom,
}

/// Asks for it, waits, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let mut parameters = vec![("source", args.source.clone())];
    parameters.extend(args.version.map(|version| ("version", version.to_string())));
    let (status, said) = order(&args.whom, "/rollback", &parameters)?;
    if status != 200 {
        return Err(Failure::new(exit::DATA, said));
    }
    text::print(&format!("{said}\n"))?;
    Ok(exit::OK)
}
