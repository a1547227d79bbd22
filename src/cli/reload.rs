//! `rcptmapd reload`: has a running daemon read everything again, and tells what came of it.

use serde_json::Value;

use super::client::Whom;
use super::order::order;
use super::status::{self, Status};
use super::text::{self, Style};
use super::{Failure, exit};

/// Have a running daemon read configuration and lists again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd reload
  rcptmapd reload --force exchange
  rcptmapd reload || echo 'a list was not taken' | mail -s rcptmapd postmaster

Waits until it is done, and shows the status. What can't be taken stays as it was. The signal HUP does the same, \
without an answer.

Exit status: 0 everything was taken, 65 some list was not, 78 the configuration was not, 69 there is no daemon, 77 \
the control socket is not for you.")]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// Take this source, or the domain file or table of this path, whatever it has lost (max_shrink, a whole domain,
    /// min_entries, the end mark); but not an empty one
    #[arg(long, value_name = "SOURCE")]
    force: Vec<String>,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Asks for it, waits, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let force = args.force.join("\n");
    let parameters = if force.is_empty() { vec![] } else { vec![("force", force)] };
    let (code, body) = order(&args.whom, "/reload", &parameters)?;
    let value: Value = status::json(&body)?;
    let status = Status::of(&value)?;
    if args.json {
        text::print_json(&value)?;
    } else {
        text::print(&status.text(text::now(), Style::of_stdout(), &args.whom.commands()))?;
    }
    Ok(match (code, &status.configuration_error) {
        (200, _) => exit::OK,
        (_, Some(_)) => exit::CONFIG,
        _ => exit::DATA,
    })
}
