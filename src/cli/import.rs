//! `rcptmapd import`: the configuration of another program as a rcptmapd.toml, and what it had learnt for the running
//! daemon.

mod backlist;
mod mailertable;
mod scam;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::settings::absolute;
use super::{Failure, exit, text};
use crate::config::{self, Endpoint};

/// Take over the configuration of another program, or what it had learnt
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd import scam-conf /etc/mail/scam.conf > rcptmapd.toml
  rcptmapd import mailertable /etc/mail/mailertable > rcptmapd.toml
  rcptmapd check -c rcptmapd.toml
  rcptmapd import backlist /var/spool/scam/backscatter.txt

What can't be carried over stands in a comment at the head of what is printed, and on standard error.

Exit status: 0 all was carried over, 65 something was not, or there was nothing to carry over.")]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand, Debug)]
enum From {
    /// scam-backscatter's settings
    #[command(after_help = "\
Examples:
  rcptmapd import scam-conf /etc/mail/scam.conf > rcptmapd.toml
  rcptmapd import scam-conf --usemailertable --ehlo /etc/mail/scam.conf
  rcptmapd import scam-conf --alldomains --domains /etc/mail/local-host-names /etc/mail/scam.conf

The first four options are what scam-back was compiled with: `scam-back -h` tells. -p, -u and -P are its own.")]
    ScamConf(ScamArgs),
    /// The next hops of a sendmail mailertable, or of a Postfix transport file
    #[command(after_help = "\
Examples:
  rcptmapd import mailertable /etc/mail/mailertable > rcptmapd.toml
  rcptmapd import mailertable /etc/postfix/transport")]
    Mailertable {
        /// The file
        file: PathBuf,
    },
    /// What scam-backscatter had learnt (BackList), into the running daemon's cache
    #[command(after_help = backlist::HELP)]
    Backlist(backlist::Args),
}

#[derive(clap::Args, Debug)]
struct ScamArgs {
    #[command(flatten)]
    switches: scam::Switches,
    /// The file, usually /etc/mail/scam.conf
    file: PathBuf,
}

/// A configuration, and what is not in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Import {
    /// Its sections.
    body: String,
    /// What could not be carried over, with its line.
    lost: Vec<String>,
    /// What else to know.
    notes: Vec<String>,
}

impl Import {
    /// What is printed.
    fn text(&self, from: &str) -> String {
        let mut out = format!("# rcptmapd.toml, made from {}.\n", text::printable_text(from.as_bytes()));
        let mut comments = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                let _ = writeln!(out, "#\n# {title}");
            }
            for line in lines {
                let _ = writeln!(out, "#   {line}");
            }
        };
        comments("Not carried over:", &self.lost);
        comments("Note:", &self.notes);
        out + &self.body
    }

    fn lose(&mut self, line: usize, what: impl AsRef<str>) {
        self.lost.push(format!("line {line}: {}", text::printable_text(what.as_ref().as_bytes())));
    }
}

/// A value of a configuration: a string of TOML.
fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A list of strings.
fn list<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| quoted(value.as_ref())).collect();
    format!("[{}]", values.join(", "))
}

/// Where sendmail's milter recipe and everybody else find the daemon, unless the old place is to be kept.
fn listeners(milter: Option<&Endpoint>) -> String {
    let milter = milter.map_or_else(|| "unix:/run/rcptmapd/milter.sock".to_owned(), Endpoint::to_string);
    format!(
        "\n# For sendmail and Postfix as a milter: INPUT_MAIL_FILTER, smtpd_milters.\n\
         [[listen]]\non = {}\nprotocol = \"milter\"\n\
         \n# For socket maps, Exim and `rcptmapd query`.\n[[listen]]\non = \"unix:/run/rcptmapd/rcptmapd.sock\"\n",
        quoted(&milter)
    )
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|e| Failure::new(exit::DATA, format!("{}: {}", file.display(), config::reason(&e))))
}

/// Reads, and prints.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let (file, import) = match &args.from {
        From::ScamConf(ScamArgs { switches, file }) => {
            let bytes = read(file)?;
            (file, scam::import(&String::from_utf8_lossy(&bytes), switches))
        }
        From::Mailertable { file } => (file, mailertable::import(&read(file)?, &absolute(file))),
        From::Backlist(args) => return backlist::run(args),
    };
    let name = file.display().to_string();
    let import = import.map_err(|what| Failure::new(exit::DATA, format!("{name}: {what}")))?;
    text::print(&import.text(&name))?;
    for line in &import.lost {
        eprintln!("rcptmapd: {name}: not carried over: {line}");
    }
    Ok(if import.lost.is_empty() { exit::OK } else { exit::DATA })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io;

    use super::*;
    use crate::config::{Config, Overrides, Reader};

    /// No file includes others.
    struct Nothing;

    impl Reader for Nothing {
        fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
            Ok(Vec::new())
        }

        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            Err(io::Error::other(path.display().to_string()))
        }
    }

    /// Reads what is printed as the daemon would.
    pub(super) fn parse(import: &Import) -> Config {
        let text = import.text("a file\nof ours");
        let config = Config::parse(Path::new("/x/rcptmapd.toml"), text.as_bytes(), &Nothing, &Overrides::default());
        config.unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn strings_of_toml() {
        assert_eq!(quoted("a\"b\\c\u{7f}\n\u{e9}"), "\"a\\\"b\\\\c\\u007f\\u000a\u{e9}\"");
        assert_eq!(list(["a", "b"]), "[\"a\", \"b\"]");
    }
}
