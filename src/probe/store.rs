//! What the caches know, as a file: written and read here as bytes, on disk elsewhere (write, fsync, rename).
//!
//! ```text
//! rcptmapd verdicts 2
//! 5d2f9a01 exists 1764230400 250 2.1.5 4be05d11 anna@example.org
//! 0c11e2b7 absent 1764230410 550 5.1.1 4be05d11 nobody@example.org
//! 77a0be12 catch-all 1764230000 no example.org 4be05d11 192.0.2.1:25
//! 3b90d1aa limit 1764230000 10 hub
//! 91be0c3d sender 1764230000 1 hub
//! # end 5 lines
//! ```
//!
//! Every line begins with a checksum of the rest of it, so a damaged or cut-off file loses lines, never truth: a lost
//! line means that somebody is asked about again. What is said of an address bears the mark of the server that said it
//! ([`ServerId`]). A file of another version is not read: it is as if there were none. Addresses are folded and hold no control bytes; they and the names of
//! next hops may hold blanks, hence they stand last.

use super::cache::{Epoch, Evidence, Known, ServerId};
use crate::proto::smtp::Status;

/// The first line.
const HEAD: &str = "rcptmapd verdicts 2";
/// Longest line that is read.
const MAX_LINE: usize = 1024;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// An address.
    Verdict {
        /// The folded address.
        key: &'a [u8],
        /// What is believed.
        known: Known,
        /// Why.
        evidence: Evidence,
        /// When it was learnt.
        learnt: Epoch,
    },
    /// Whether a server takes every address of a domain.
    CatchAll {
        /// The server.
        by: ServerId,
        /// Where it was reached.
        at: &'a str,
        /// The domain.
        domain: &'a [u8],
        /// It does.
        blind: bool,
        /// When it was learnt.
        learnt: Epoch,
    },
    /// How many refusals in a session a next hop takes before it slows down.
    Limit {
        /// The next hop's name.
        hop: &'a str,
        /// So many.
        refusals: u32,
        /// When it was learnt.
        learnt: Epoch,
    },
    /// Which of the configured senders a next hop takes.
    Sender {
        /// The next hop's name.
        hop: &'a str,
        /// Its index.
        sender: u32,
        /// When it was learnt.
        learnt: Epoch,
    },
}

/// What a file held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines that were taken.
    pub taken: usize,
    /// Lines that were damaged.
    pub damaged: usize,
    /// The file is whole: its last line says so.
    pub complete: bool,
    /// It is of another version, and was not read.
    pub other_version: bool,
}

/// FNV-1a: against damage, not against malice.
fn checksum(line: &[u8]) -> u32 {
    line.iter().fold(0x811c_9dc5, |sum, &b| (sum ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// Writes a file, record by record.
pub struct Writer {
    out: Vec<u8>,
    lines: usize,
    line: Vec<u8>,
}

impl Default for Writer {
    fn default() -> Writer {
        Writer { out: format!("{HEAD}\n").into_bytes(), lines: 0, line: Vec::new() }
    }
}

impl Writer {
    /// Adds a record. One that could not be read back is left out.
    pub fn push(&mut self, record: &Record<'_>) {
        self.line.clear();
        let (head, tail): (String, &[u8]) = match *record {
            Record::Verdict { key, known, evidence: Evidence { by, code, status }, learnt } => {
                let status = status.map_or("-".into(), |status| status.to_string());
                (format!("{} {} {code} {status} {:08x} ", known.name(), learnt.0, by.0), key)
            }
            Record::CatchAll { by, at, domain, blind, learnt } => {
                let (answer, domain) = (if blind { "yes" } else { "no" }, String::from_utf8_lossy(domain));
                (format!("catch-all {} {answer} {domain} {:08x} ", learnt.0, by.0), at.as_bytes())
            }
            Record::Limit { hop, refusals, learnt } => (format!("limit {} {refusals} ", learnt.0), hop.as_bytes()),
            Record::Sender { hop, sender, learnt } => (format!("sender {} {sender} ", learnt.0), hop.as_bytes()),
        };
        self.line.extend_from_slice(head.as_bytes());
        self.line.extend_from_slice(tail);
        if parse(&self.line).as_ref() != Some(record) {
            return;
        }
        self.out.extend_from_slice(format!("{:08x} ", checksum(&self.line)).as_bytes());
        self.out.extend_from_slice(&self.line);
        self.out.push(b'\n');
        self.lines += 1;
    }

    /// What there is so far of the file, for writing it piece by piece.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// The whole file, or the rest of it.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(format!("# end {} lines\n", self.lines).as_bytes());
        self.out
    }
}

/// Whether this is such a file, of any version.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(b"rcptmapd verdicts ")
}

/// Reads a file; `take` gets every line that is sound.
pub fn read(bytes: &[u8], mut take: impl FnMut(Record<'_>)) -> Summary {
    let mut summary = Summary::default();
    let mut lines = bytes.split(|&b| b == b'\n');
    if is_one(bytes) && !bytes.starts_with(HEAD.as_bytes()) && bytes.contains(&b'\n') {
        return Summary { complete: true, other_version: true, ..summary };
    }
    if lines.next() != Some(HEAD.as_bytes()) {
        summary.damaged = usize::from(!bytes.is_empty());
        return summary;
    }
    for line in lines.filter(|line| !line.is_empty()) {
        if line.starts_with(b"#") {
            let count = summary.taken + summary.damaged;
            summary.complete = line == format!("# end {count} lines").as_bytes();
            continue;
        }
        summary.complete = false;
        match checked(line).and_then(parse) {
            Some(record) => {
                take(record);
                summary.taken += 1;
            }
            None => summary.damaged += 1,
        }
    }
    summary
}

fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = line.split_at_checked(8)?;
    let rest = rest.strip_prefix(b" ")?;
    (std::str::from_utf8(sum).ok()? == format!("{:08x}", checksum(rest))).then_some(rest)
}

fn parse(line: &[u8]) -> Option<Record<'_>> {
    if line.len() > MAX_LINE || line.iter().any(u8::is_ascii_control) {
        return None;
    }
    let (kind, rest) = word(line)?;
    let (learnt, rest) = word(rest)?;
    let learnt = Epoch(learnt.parse().ok()?);
    let name = |rest| std::str::from_utf8(rest).ok().filter(|name| !name.is_empty());
    match kind {
        "catch-all" => {
            let (answer, rest) = word(rest)?;
            let (domain, rest) = word(rest)?;
            let (by, at) = server(rest)?;
            let blind = match answer {
                "yes" => true,
                "no" => false,
                _ => return None,
            };
            Some(Record::CatchAll { by, at: name(at)?, domain: domain.as_bytes(), blind, learnt })
        }
        "limit" | "sender" => {
            let (number, rest) = word(rest)?;
            let (hop, number) = (name(rest)?, number.parse().ok()?);
            Some(match kind {
                "limit" => Record::Limit { hop, refusals: number, learnt },
                _ => Record::Sender { hop, sender: number, learnt },
            })
        }
        _ => {
            let known = Known::ALL.into_iter().find(|known| known.name() == kind)?;
            let (code, rest) = word(rest)?;
            let (status, rest) = word(rest)?;
            let (by, key) = server(rest)?;
            let code: u16 = code.parse().ok()?;
            let status: Option<Status> = if status == "-" { None } else { Some(status.parse().ok()?) };
            let fits = status.is_none_or(|status| u16::from(status.class) == code / 100);
            let is_address = memchr::memrchr(b'@', key).is_some_and(|at| at > 0 && at + 1 < key.len());
            let evidence = Evidence { by, code, status };
            (fits && is_address).then_some(Record::Verdict { key, known, evidence, learnt })
        }
    }
}

/// The mark of a server, and what follows its blank.
fn server(line: &[u8]) -> Option<(ServerId, &[u8])> {
    let (mark, rest) = word(line)?;
    Some((ServerId(u32::from_str_radix(mark, 16).ok()?), rest))
}

/// The first word, and what follows its blank.
fn word(line: &[u8]) -> Option<(&str, &[u8])> {
    let at = memchr::memchr(b' ', line)?;
    let word = std::str::from_utf8(&line[..at]).ok().filter(|word| !word.is_empty())?;
    Some((word, &line[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<Record<'static>> {
        let status = Some(Status { class: 5, subject: 1, detail: 1 });
        vec![
            Record::Verdict {
                key: b"anna@example.org",
                known: Known::Exists,
                evidence: Evidence { by: ServerId(0xabc), code: 250, status: None },
                learnt: Epoch(1_764_230_400),
            },
            Record::Verdict {
                key: "j\u{fc}rgen b@x".as_bytes(),
                known: Known::AbsentShort,
                evidence: Evidence { by: ServerId(u32::MAX), code: 550, status },
                learnt: Epoch(1),
            },
            Record::Verdict { key: b"\xfc@x", known: Known::Blind, evidence: Evidence::default(), learnt: Epoch(2) },
            Record::CatchAll { by: ServerId(9), at: "/run/a b", domain: b"x", blind: true, learnt: Epoch(3) },
            Record::Limit { hop: "hub", refusals: 10, learnt: Epoch(4) },
            Record::Sender { hop: "hub", sender: 1, learnt: Epoch(5) },
        ]
    }

    fn write(records: &[Record<'_>]) -> Vec<u8> {
        let mut writer = Writer::default();
        records.iter().for_each(|record| writer.push(record));
        writer.finish()
    }

    fn count(bytes: &[u8]) -> (Summary, usize) {
        let mut good = 0;
        let summary = read(bytes, |record| good += usize::from(sample().contains(&record)));
        (summary, good)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&sample());
        assert_eq!(count(&bytes), (Summary { taken: 6, damaged: 0, complete: true, other_version: false }, 6));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(text.starts_with("rcptmapd verdicts 2\n") && text.ends_with("\n# end 6 lines\n"), "{text}");
        assert!(text.contains(" exists 1764230400 250 - 00000abc anna@example.org\n"), "{text}");
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let verdict =
            |key| Record::Verdict { key, known: Known::Exists, evidence: Evidence::default(), learnt: Epoch(0) };
        let bytes =
            write(&[verdict(b"a\nb@x"), verdict(b"a@"), verdict(b"ab"), verdict(&[b'a'; 2000]), verdict(b"a@x")]);
        assert_eq!(read(&bytes, |_| {}), Summary { taken: 1, damaged: 0, complete: true, other_version: false });
    }

    #[test]
    fn a_cut_or_damaged_file_loses_lines_and_tells_no_lies() {
        let bytes = write(&sample());
        for end in 0..bytes.len() - 1 {
            let (summary, good) = count(&bytes[..end]);
            assert_eq!((good, summary.complete), (summary.taken, false), "cut at {end}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            let (summary, good) = count(&bad);
            assert_eq!(good, summary.taken, "damaged at {at}");
        }
        assert_eq!(
            read(b"something else\n", |_| {}),
            Summary { taken: 0, damaged: 1, complete: false, other_version: false }
        );
        assert_eq!(read(b"", |_| {}), Summary::default());
    }

    #[test]
    fn a_file_of_another_version_is_as_good_as_none() {
        for file in ["rcptmapd verdicts 1\n5d2f9a01 exists 1764230400 250 2.1.5 a@b\n", "rcptmapd verdicts 99\n"] {
            let summary = read(file.as_bytes(), |_| panic!("it was read"));
            assert!(summary.other_version && summary.complete && summary.damaged == 0, "{summary:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes, |_| {});
            read(&[HEAD.as_bytes(), b"\n", &bytes].concat(), |_| {});
            let _ = parse(&bytes);
        }
    }
}
