//! `rcptmapd import backlist`: what scam-backscatter had learnt, for the running daemon.
//!
//! The file may be one that only its owner can read, so it is read here and handed over the control socket in pieces; what
//! is to be taken of it is the daemon's to say, which knows the domains, the lists, and how long an answer is good for.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;

use super::{Failure, exit, read, text};
use crate::cli::client::{self, Whom};
use crate::cli::status;

pub(super) const HELP: &str = "\
Examples:
  rcptmapd import backlist /var/spool/scam/backscatter.txt
  rcptmapd import backlist -c rcptmapd.toml BackList
  rcptmapd cache --format backlist > BackList

Every line with an address, a word or number for valid or invalid, and perhaps the seconds since 1970 of the answer is \
taken as an answer of that age: what is too old is dropped, what is known to be otherwise since then stays, and \
addresses of foreign domains, or that a list settles, are left out. Lines of which that can't be said are named.

Exit status: 0 done, 65 some lines make no sense, 69 there is no daemon, 77 the control socket is not for you, \
78 the daemon has no backend to ask.";

/// Bytes that are handed over at once; the daemon answers others in between.
const PIECE: usize = 16 * 1024;
/// Lines without sense that are named.
const MOST_NAMED: usize = 10;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    whom: Whom,
    /// The file that BackList names
    file: PathBuf,
}

/// What became of the lines of a piece, or of all.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Done {
    taken: usize,
    known: usize,
    dead: usize,
    listed: usize,
    foreign: usize,
    /// Numbers of lines.
    faults: Vec<usize>,
    no_backend: bool,
}

impl Done {
    /// Adds what became of a piece that follows `lines` others.
    fn add(&mut self, piece: Done, lines: usize) {
        self.taken += piece.taken;
        self.known += piece.known;
        self.dead += piece.dead;
        self.listed += piece.listed;
        self.foreign += piece.foreign;
        self.faults.extend(piece.faults.into_iter().map(|line| lines + line));
    }

    fn text(&self) -> String {
        let mut out = format!("{} taken over\n", text::count(self.taken, "verdict"));
        for (count, what) in [
            (self.known, "known already, or otherwise since then"),
            (self.dead, "too old"),
            (self.listed, "settled by a list"),
            (self.foreign, "of domains that are not ours"),
        ] {
            if count > 0 {
                let _ = writeln!(out, "  {} {what}", text::number(count as u64));
            }
        }
        out
    }
}

/// Reads, hands over, and tells what became of it.
pub(super) fn run(args: &Args) -> Result<u8, Failure> {
    let bytes = read(&args.file)?;
    let name = args.file.display();
    let endpoint = args.whom.control()?.ok_or_else(|| {
        Failure::new(exit::CONFIG, "the configuration has no control socket (control = \"\"), and nothing else is told")
    })?;
    let (mut done, mut lines) = (Done::default(), 0);
    for piece in pieces(&bytes) {
        let mut stream = client::connect(&endpoint, client::PAGE_PATIENCE)?;
        let (code, body) = client::post(&mut stream, "/remember", piece)?;
        if code != 200 {
            let text = format!("{endpoint}: the daemon answers {code}; is this its control socket?");
            return Err(Failure::new(exit::PROTOCOL, text));
        }
        let part: Done = status::json(&body)?;
        if part.no_backend {
            let text =
                "the daemon has no backend to ask, so it would not use what it remembers ([[backend]], [nexthops])";
            return Err(Failure::new(exit::CONFIG, text));
        }
        done.add(part, lines);
        lines += memchr::memchr_iter(b'\n', piece).count();
    }
    text::print(&done.text())?;
    for line in done.faults.iter().take(MOST_NAMED) {
        eprintln!("rcptmapd: {name}: line {line} makes no sense");
    }
    if done.faults.len() > MOST_NAMED {
        eprintln!("rcptmapd: {name}: {} lines make no sense in all", text::number(done.faults.len() as u64));
    }
    Ok(if done.faults.is_empty() { exit::OK } else { exit::DATA })
}

/// Cuts a list behind ends of lines. A line that is longer than a piece is none of a list, and may be cut.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let whole = bytes.get(..PIECE).unwrap_or(bytes);
        let at = match memchr::memrchr(b'\n', whole) {
            Some(at) if whole.len() < bytes.len() => at + 1,
            _ => whole.len(),
        };
        let (piece, rest) = bytes.split_at_checked(at)?;
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_with_lines_and_make_the_whole() {
        let line = "anna@example.org valid 1764230400\n";
        let text = line.repeat(2_000) + "bob@example.org invalid";
        let cut: Vec<&[u8]> = pieces(text.as_bytes()).collect();
        assert!(cut.len() > 4 && cut.iter().all(|piece| piece.len() <= PIECE));
        assert!(cut[..cut.len() - 1].iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(cut.concat(), text.as_bytes());
        assert_eq!(pieces(b"").count(), 0);
        assert_eq!(pieces(&[b'a'; 2 * PIECE]).count(), 2);
    }

    #[test]
    fn lines_are_numbered_through_and_counted_in_words() {
        let mut done = Done::default();
        done.add(Done { taken: 1_000, foreign: 2, faults: vec![3], ..Done::default() }, 0);
        done.add(Done { taken: 234, dead: 1, faults: vec![1], ..Done::default() }, 5);
        assert_eq!(done.faults, [3, 6]);
        assert_eq!(done.text(), "1,234 verdicts taken over\n  1 too old\n  2 of domains that are not ours\n");
        assert_eq!(Done::default().text(), "0 verdicts taken over\n");
    }
}
