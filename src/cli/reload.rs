//! `rcptmapd reload`: has a running daemon read everything again, and tells what came of it.

use std::time::Duration;

use serde_json::Value;

use super::client::{self, Whom};
use super::status::{self, Status};
use super::text::{self, Style};
use super::{Failure, exit};

/// How long the daemon may take: a little more than it gives itself.
const PATIENCE: Duration = Duration::from_secs(610);

/// Have a running daemon read configuration and lists again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd reload
  rcptmapd reload || echo 'a list was not taken' | mail -s rcptmapd postmaster

Waits until it is done, and shows the status. What can't be taken stays as it was. The signal HUP does the same, \
without an answer.

Exit status: 0 everything was taken, 65 some list was not, 78 the configuration was not, 69 there is no daemon, 77 \
the control socket is not for you.")]
pub struct Args {
    #[command(flatten)]
    whom: Whom,
    /// For programs
    #[arg(long)]
    json: bool,
}

/// Asks for it, waits, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let endpoint = args.whom.control()?.ok_or_else(|| {
        let text = "the configuration has no control socket (control = \"\"); send the daemon a signal instead: \
                    systemctl reload rcptmapd, or kill -HUP PID";
        Failure::new(exit::CONFIG, text)
    })?;
    let mut stream = client::connect(&endpoint, client::PAGE_PATIENCE)?;
    let patience = stream.set_read_timeout(PATIENCE);
    patience.map_err(|e| Failure::new(exit::OS, format!("{endpoint}: {}", crate::config::reason(&e))))?;
    let (code, body) = client::page(&mut stream, "POST", "/reload")?;
    if code != 200 && code != 409 {
        let text = format!("{endpoint}: the daemon answers {code} to a reload; is this its control socket?");
        return Err(Failure::new(exit::PROTOCOL, text));
    }
    let value: Value = status::json(&body)?;
    let status = Status::of(&value)?;
    if args.json {
        text::print_json(&value)?;
    } else {
        text::print(&status.text(text::now(), Style::of_stdout()))?;
    }
    Ok(match (code, &status.configuration_error) {
        (200, _) => exit::OK,
        (_, Some(_)) => exit::CONFIG,
        _ => exit::DATA,
    })
}
