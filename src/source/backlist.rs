//! What an earlier call-ahead has learnt: the BackList of scam-backscatter and the cache of milter-ahead
//! (`milter-cachedump.pl`), whose forms nobody has described, Postfix's verify cache (`postmap -s
//! btree:.../verify_cache`), and Exim's callout cache (`exim_dumpdb SPOOL callout`).
//!
//! A line with one address and a word or number for valid or invalid is understood, any other is a fault. Valid ones
//! exist. Invalid ones are left out and not refused: the knowledge is old, and who has been created since must not be
//! refused over the other sources' heads.

use memchr::memmem;

use super::lines::{is_blank, is_idle};
use super::syntax::{Shape, shape};
use super::{Fault, Grant, Item, Key, Options, Reader, Refused, Sink, Skip};

#[derive(Debug)]
pub(super) struct Backlist;

impl Reader for Backlist {
    fn new(_: &Options) -> Backlist {
        Backlist
    }

    fn line<S: Sink>(&mut self, number: u32, line: &[u8], sink: &mut S) -> Result<(), Refused> {
        if is_idle(line) {
            return Ok(());
        }
        match entry(line) {
            _ if is_about_no_address(line) => sink.skip(number, Skip::Undecided),
            Ok((key, Some(true))) => sink.item(number, Item { key, grant: Grant::ACCEPT }),
            Ok((_, Some(false))) => sink.skip(number, Skip::Invalid),
            Ok((_, None)) => sink.skip(number, Skip::Undecided),
            Err(fault) => sink.fault(number, line, fault),
        }
        Ok(())
    }
}

/// The address of a line, and whether it is valid, if that is known.
fn entry(line: &[u8]) -> Result<(Key<'_>, Option<bool>), Fault> {
    let words = line.split(|&b| is_blank(b) || matches!(b, b',' | b';' | b'|')).filter(|word| !word.is_empty());
    let (mut key, mut verdict) = (None, None);
    for word in words {
        match address(word) {
            Some(_) if key.is_some() => return Err(Fault::Fields),
            Some(address) => key = Some(address),
            // The first word that says something counts; times and next hops follow.
            None if verdict.is_none() => verdict = meaning(word),
            None => {}
        }
    }
    Ok((key.ok_or(Fault::Address)?, verdict.ok_or(Fault::Value)?))
}

/// What Exim says of a whole domain, and what Postfix notes for itself.
fn is_about_no_address(line: &[u8]) -> bool {
    line.starts_with(b"_LAST_CACHE_CLEANUP") || (memmem::find(line, b" callout=").is_some() && !line.contains(&b'@'))
}

fn address(word: &[u8]) -> Option<Key<'_>> {
    // Exim asked in this sender's name.
    let word = memmem::find(word, b"/<").and_then(|at| word.get(..at)).unwrap_or(word);
    let word = word.strip_suffix(b":").or_else(|| word.strip_suffix(b"=")).unwrap_or(word);
    let word = word.strip_prefix(b"<").and_then(|word| word.strip_suffix(b">")).unwrap_or(word);
    match shape(word) {
        Ok(Shape::Address { local, domain }) => Some(Key::Recipient { local, domain }),
        _ => None,
    }
}

/// `Some(None)`: it says that nothing is known.
fn meaning(word: &[u8]) -> Option<Option<bool>> {
    const VALID: [&str; 11] =
        ["valid", "ok", "good", "yes", "true", "exists", "known", "accept", "accepted", "relay", "1"];
    const INVALID: [&str; 11] =
        ["invalid", "bad", "no", "false", "unknown", "reject", "rejected", "notfound", "nouser", "absent", "0"];
    let word = std::str::from_utf8(word).ok()?;
    let word = match word.strip_prefix("callout=") {
        Some("unknown") => return Some(None),
        Some(word) => word,
        None => word,
    };
    let among = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(word));
    if among(&VALID) {
        return Some(Some(true));
    } else if among(&INVALID) {
        return Some(Some(false));
    }
    // Postfix: status:probed:updated:text; 0 ok, 1 deferred, 2 bounced, 3 being asked.
    if let [status, time, _, ..] = word.splitn(4, ':').collect::<Vec<_>>().as_slice()
        && !time.is_empty()
        && time.bytes().all(|b| b.is_ascii_digit())
    {
        return match *status {
            "0" => Some(Some(true)),
            "2" => Some(Some(false)),
            "1" | "3" => Some(None),
            _ => None,
        };
    }
    match word.as_bytes() {
        [b'2', b'0'..=b'9', b'0'..=b'9'] => Some(Some(true)),
        [b'5', b'0'..=b'9', b'0'..=b'9'] => Some(Some(false)),
        [b'4', b'0'..=b'9', b'0'..=b'9'] => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::source::{Format, digest};

    #[test]
    fn the_callout_cache_of_exim() {
        let text = "29-Oct-2026 12:34:56 anna@example.org callout=accept\n\
                    29-Oct-2026 02:00:00 bert@example.org/<me@example.net> callout=reject\n\
                    29-Oct-2026 12:34:57 carla@example.org/<me@example.net> callout=accept\n\
                    29-Oct-2026 12:34:56 example.org callout=accept postmaster=unknown random=reject (29-Oct-2026 12:34:56)\n\
                    29-Oct-2026 12:34:58 dora@example.org callout=unknown\n";
        let events: Vec<String> =
            digest(Format::Backlist, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org",
                "2 skip invalid",
                "3 recipient carla@example.org",
                "4 skip undecided",
                "5 skip undecided",
            ]
        );
    }

    #[test]
    fn valid_and_invalid_in_many_words() {
        let text = "anna@example.org valid\ninvalid bert@example.org\n<carla@example.org>: 250 1783000000\n\
                    dora@example.org,550,1783000000\nemil@example.org\t0:1783000000:1783000000:delivery ok\n\
                    frida@example.org 2:1783000000:0:no such user\ngert@example.org 450\nhugo@example.org\n\
                    etc...\nand so on\nida@example.org ida@example.net 1\nkarl@example.org perhaps\nlea@example.org=OK\nlea@example.org = OK\n";
        let events: Vec<String> =
            digest(Format::Backlist, text.as_bytes()).events.iter().map(ToString::to_string).collect();
        assert_eq!(
            events,
            [
                "1 recipient anna@example.org",
                "2 skip invalid",
                "3 recipient carla@example.org",
                "4 skip invalid",
                "5 recipient emil@example.org",
                "6 skip invalid",
                "7 skip undecided",
                "8 fault Value | hugo@example.org",
                "8 recipient hugo@example.org ?",
                "9 fault Address | etc...",
                "10 fault Address | and so on",
                "11 fault Fields | ida@example.org ida@example.net 1",
                "11 recipient ida@example.org ?",
                "11 recipient ida@example.net ?",
                "12 fault Value | karl@example.org perhaps",
                "12 recipient karl@example.org ?",
                "13 fault Address | lea@example.org=OK",
                "14 recipient lea@example.org",
            ]
        );
    }
}
