//! `rcptmapd query`: asks a running daemon as an MTA would.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use super::pipeline::{self, Asking, Dialect, Lines, Named, Trouble};
use super::{Failure, client, exit, text};
use crate::config::{Endpoint, ListenProtocol};

/// Ask a running daemon as an MTA would
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  rcptmapd query anna@example.org
  rcptmapd query --to unix:/run/rcptmapd/rcptmapd.sock --map check anna@example.org
  rcptmapd query --map access to:anna@example.org connect:192.0.2.7
  rcptmapd query - < addresses | grep -v 'OK '

For one key its reply is printed; for several, and with '-', a line KEY<TAB>REPLY each, in the order of the keys. \
Control bytes are shown as \\xNN.

Exit status: 0 all exist, 1 some do not, 75 some can't be told now, 69 there is no daemon. In the maps check and \
access a value that refuses counts as \"does not exist\".")]
pub struct Args {
    /// Configuration file of the daemon, which names its listeners
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to ask; by default the first listener of the configuration, else 127.0.0.1:8910
    #[arg(long, value_name = "ENDPOINT")]
    to: Option<Endpoint>,
    /// Map to ask; by default rcpt, with --line the listener's own
    #[arg(long, value_name = "NAME", value_parser = map_name)]
    map: Option<String>,
    /// Ask by lines, as Exim and netcat do, in place of netstrings
    #[arg(long)]
    line: bool,
    /// How long each answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::duration)]
    timeout: Duration,
    /// What to look up; '-' reads keys from standard input, one a line
    #[arg(value_name = "ADDRESS", required = true)]
    keys: Vec<OsString>,
}

fn map_name(name: &str) -> Result<String, String> {
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"@\"".contains(&b));
    if good { Ok(name.to_owned()) } else { Err("a map's name is one word, without @ and quotes".to_owned()) }
}

/// Asks, and prints the answers.
pub fn run(args: &Args) -> Result<u8, Failure> {
    let keys: Vec<Vec<u8>> = args.keys.iter().map(|key| key.clone().into_vec()).collect();
    let from_stdin = keys.iter().any(|key| key == b"-");
    if from_stdin && keys.len() > 1 {
        return Err(Failure::new(exit::USAGE, "'-' stands alone: the keys come from standard input then"));
    }
    let (dialect, speaks) = match args.line {
        true => (Dialect::Line, [ListenProtocol::Auto, ListenProtocol::Line]),
        false => (Dialect::Socketmap, [ListenProtocol::Auto, ListenProtocol::Socketmap]),
    };
    let endpoint = match &args.to {
        Some(to) => to.clone(),
        None => client::listener(args.config.as_deref(), &speaks)?,
    };
    let stream = client::connect(&endpoint, args.timeout)?;
    let asking = Asking { dialect, map: args.map.clone() };
    let mut printer = Printer::new(io::stdout().lock(), from_stdin || keys.len() > 1);
    let done = if from_stdin {
        printer.ask(stream, &asking, Lines::new(io::stdin()))
    } else {
        printer.ask(stream, &asking, Named::new(keys))
    };
    // What was answered before a trouble is worth having.
    let flushed = printer.out.flush().map_err(Trouble::Output);
    match done.and(flushed) {
        Ok(()) => Ok(printer.worst),
        // Who reads our output has heard enough.
        Err(Trouble::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(printer.worst),
        Err(trouble) => {
            let code = match trouble {
                Trouble::Closed | Trouble::Read(_) => exit::UNAVAILABLE,
                Trouble::Late => exit::TEMPORARY,
                Trouble::NoNetstring | Trouble::Garbled => exit::PROTOCOL,
                Trouble::Keys(_) | Trouble::Output(_) => exit::IO,
            };
            let after = match printer.answers {
                0 => String::new(),
                answers => format!(", after {}", text::count(answers, "answer")),
            };
            Err(Failure::new(code, format!("{endpoint}: {trouble}{after}")))
        }
    }
}

/// Prints answers, and remembers the worst.
struct Printer<W: Write> {
    out: BufWriter<W>,
    line: Vec<u8>,
    with_keys: bool,
    worst: u8,
    answers: usize,
}

impl<W: Write> Printer<W> {
    fn new(out: W, with_keys: bool) -> Printer<W> {
        let out = BufWriter::with_capacity(64 * 1024, out);
        Printer { out, line: Vec::new(), with_keys, worst: exit::OK, answers: 0 }
    }

    fn ask(
        &mut self,
        stream: client::Stream,
        asking: &Asking,
        keys: impl pipeline::Keys + Send + 'static,
    ) -> Result<(), Trouble> {
        pipeline::ask(stream, asking, keys, self)
    }
}

impl<W: Write> pipeline::Answers for Printer<W> {
    fn answer(&mut self, key: &[u8], reply: &[u8]) -> io::Result<()> {
        self.answers += 1;
        self.worst = worse(self.worst, meaning(reply));
        self.line.clear();
        if self.with_keys {
            text::printable(key, &mut self.line);
            self.line.push(b'\t');
        }
        text::printable(reply, &mut self.line);
        self.line.push(b'\n');
        self.out.write_all(&self.line)
    }

    fn pause(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The exit code that a reply stands for.
fn meaning(reply: &[u8]) -> u8 {
    let Some(value) = reply.strip_prefix(b"OK ") else {
        return if reply.starts_with(b"NOTFOUND") { exit::NO } else { exit::TEMPORARY };
    };
    let refusal = value.strip_prefix(b"ERROR:").unwrap_or(value);
    match refusal {
        // "550 5.1.1 User unknown", "5.1.1:"550 ...""; an address never looks like that.
        [b'5', b'0'..=b'9', b'0'..=b'9', b' ', b'5', b'.', ..] | [b'5', b'.', b'0'..=b'9', b'.', ..] => exit::NO,
        [b'4', b'0'..=b'9', b'0'..=b'9', b' ', b'4', b'.', ..] | [b'4', b'.', b'0'..=b'9', b'.', ..] => exit::TEMPORARY,
        _ if value == b"REJECT" || value.starts_with(b"REJECT ") => exit::NO,
        _ if value.starts_with(b"DEFER_IF_PERMIT") || value.starts_with(b"DEFER ") => exit::TEMPORARY,
        _ => exit::OK,
    }
}

/// What can't be told outweighs what is not there.
fn worse(one: u8, other: u8) -> u8 {
    one.max(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_an_exit_code() {
        for (reply, code) in [
            ("OK anna@example.org", 0),
            ("OK OK", 0),
            ("OK RELAY", 0),
            ("OK DUNNO", 0),
            ("OK 5.1@example.org", 0),
            ("OK 550@example.org", 0),
            ("NOTFOUND ", 1),
            ("OK 550 5.1.1 User unknown", 1),
            ("OK ERROR:5.1.1:\"550 5.1.1 User unknown\"", 1),
            ("OK REJECT", 1),
            ("OK 452 4.2.2 Mailbox full", 75),
            ("OK ERROR:4.2.2:\"452 4.2.2 Mailbox full\"", 75),
            ("OK DEFER_IF_PERMIT 4.3.0 later", 75),
            ("TEMP no data yet", 75),
            ("PERM what", 75),
            ("", 75),
        ] {
            assert_eq!(meaning(reply.as_bytes()), code, "{reply}");
        }
        assert_eq!([worse(0, 1), worse(75, 1), worse(1, 75), worse(0, 0)], [1, 75, 75, 0]);
    }

    #[test]
    fn several_answers_bear_their_keys() {
        let mut printer = Printer::new(Vec::new(), true);
        pipeline::Answers::answer(&mut printer, b"a\tb@example.org", b"NOTFOUND ").expect("room");
        pipeline::Answers::answer(&mut printer, b"anna@example.org", b"OK anna@example.org").expect("room");
        let out = printer.out.into_inner().expect("room");
        assert_eq!(out, b"a\\x09b@example.org\tNOTFOUND \nanna@example.org\tOK anna@example.org\n");
        assert_eq!((printer.worst, printer.answers), (1, 2));
    }

    #[test]
    fn map_names_are_words() {
        assert!(
            map_name("rcpt").is_ok() && map_name("a b").is_err() && map_name("").is_err() && map_name("a@b").is_err()
        );
    }
}
