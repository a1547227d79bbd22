//! `rcptmapd completions` and `rcptmapd man`: what shells and man(1) know about the command line, made from it.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, Failure, exit, text};

/// Print completions for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd completions bash > /etc/bash_completion.d/rcptmapd
  rcptmapd completions zsh > /usr/local/share/zsh/site-functions/_rcptmapd
  rcptmapd completions fish > ~/.config/fish/completions/rcptmapd.fish")]
pub struct Args {
    /// Shell
    shell: Shell,
}

/// Prints completions.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rcptmapd", &mut script);
    text::print_bytes(&script)?;
    Ok(exit::OK)
}

/// Print the manual page of rcptmapd, or of one of its commands
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd man > /usr/local/share/man/man8/rcptmapd.8
  rcptmapd man query | man -l -")]
pub struct ManArgs {
    /// Command
    command: Option<String>,
}

/// Prints a manual page.
pub fn man(args: &ManArgs) -> Result<u8, Failure> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => {
            let Some(found) = command.find_subcommand(name) else {
                let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
                return Err(Failure::new(exit::USAGE, format!("no command {name}; there are: {}", names.join(" "))));
            };
            found.clone()
        }
    };
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(page).section("8").manual("System Administration").source("rcptmapd");
    man.render(&mut text).map_err(|e| Failure::new(exit::IO, e.to_string()))?;
    text::print_bytes(&text)?;
    Ok(exit::OK)
}
