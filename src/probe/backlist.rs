//! scam-backscatter's `BackList`: the text file in which it keeps what its backend said (REQUIREMENTS, S1-20).
//!
//! Its format has no public description (DESIGN.md 11.20), so everything is read that makes sense: a line with an
//! address and, anywhere else on it, a word or number for valid or invalid, and perhaps a time in seconds since 1970.
//! Lines of which that can't be said are reported, never guessed. We write `address valid|invalid seconds`.

use super::cache::{Epoch, Known};
use crate::address;

/// One line that made sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The folded address.
    pub key: &'a [u8],
    /// What the backend had said.
    pub known: Known,
    /// When; the time of reading where the line does not tell, or tells a time to come (it then is the expiry).
    pub learnt: Epoch,
}

/// Longest line.
const MAX_LINE: usize = 1024;
/// Numbers from here on are times: September 2001.
const EARLIEST: u32 = 1_000_000_000;

/// Reads a list: `entry` gets what made sense, `fault` the number of each other line.
pub fn read(bytes: &[u8], now: Epoch, mut entry: impl FnMut(Entry<'_>), mut fault: impl FnMut(usize, &[u8])) {
    let (mut local, mut domain) = (Vec::new(), Vec::new());
    for (at, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let parsed = (line.len() <= MAX_LINE).then(|| parse(line)).flatten();
        let key = parsed.and_then(|(raw, ..)| {
            let domain = address::fold_domain(raw.domain, &mut domain).ok()?;
            let local = address::fold_local_part(raw.local, false, &mut local).ok()?;
            Some([local.bytes(), b"@", domain.bytes()].concat())
        });
        match (parsed, key) {
            (Some((_, known, time)), Some(key)) => {
                entry(Entry { key: &key, known, learnt: time.filter(|time| *time <= now).unwrap_or(now) });
            }
            _ => fault(at + 1, line),
        }
    }
}

fn parse(line: &[u8]) -> Option<(address::Raw<'_>, Known, Option<Epoch>)> {
    let (mut found, mut known, mut time) = (None, None, None);
    let is_gap = |&b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b';' | b'|' | b'=' | b'"');
    // `=` and the like may be part of an address (VERP), so a word with `@` is cut only at blanks and commas.
    for word in line.split(|b| b.is_ascii_whitespace() || matches!(b, b',' | b';' | b'|')) {
        let word = word.strip_suffix(b":").unwrap_or(word);
        if word.contains(&b'@') {
            let (address, rest) = cut_address(word);
            if found.replace(address::split(address).ok()?).is_some() {
                return None;
            }
            for part in rest.split(|&b| b == b':').filter(|part| !part.is_empty()) {
                take(part, &mut known, &mut time)?;
            }
            continue;
        }
        for part in word.split(|b| is_gap(b) || *b == b':').filter(|part| !part.is_empty()) {
            take(part, &mut known, &mut time)?;
        }
    }
    Some((found?, known?, time))
}

/// `anna@example.org:valid` is an address and a word; IPv6 literals keep their colons.
fn cut_address(word: &[u8]) -> (&[u8], &[u8]) {
    let after = memchr::memrchr(b']', word).or_else(|| memchr::memrchr(b'@', word)).unwrap_or(0);
    match memchr::memchr(b':', &word[after..]) {
        Some(colon) => (&word[..after + colon], &word[after + colon + 1..]),
        None => (word, b""),
    }
}

/// `None`: the line contradicts itself.
fn take(word: &[u8], known: &mut Option<Known>, time: &mut Option<Epoch>) -> Option<()> {
    let number = std::str::from_utf8(word).ok().and_then(|word| word.parse::<u32>().ok());
    let what = match word.to_ascii_lowercase().as_slice() {
        b"valid" | b"ok" | b"yes" | b"true" | b"good" | b"exists" | b"found" | b"v" | b"y" => Known::Exists,
        b"invalid" | b"no" | b"false" | b"bad" | b"absent" | b"reject" | b"notfound" | b"i" | b"n" => Known::Absent,
        _ => match number {
            Some(1 | 250..=252) => Known::Exists,
            Some(0 | 550..=553) => Known::Absent,
            Some(seconds) if seconds >= EARLIEST => {
                // Two times: the earlier one is when it was learnt, the other one when it expires.
                let earlier = time.map_or(seconds, |other: Epoch| other.0.min(seconds));
                *time = Some(Epoch(earlier));
                return Some(());
            }
            // A word of somebody's own: a count, a name.
            _ => return Some(()),
        },
    };
    match known.replace(what) {
        Some(other) if other != what => None,
        _ => Some(()),
    }
}

/// Writes one line. Addresses with blanks or control bytes have no place in such a list.
pub fn write(key: &[u8], known: Known, learnt: Epoch, out: &mut Vec<u8>) {
    if key.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || matches!(b, b',' | b';' | b'|')) {
        return;
    }
    let word = match known {
        Known::Exists | Known::Blind => "valid",
        Known::Absent | Known::AbsentShort => "invalid",
    };
    out.extend_from_slice(key);
    out.extend_from_slice(format!(" {word} {}\n", learnt.0).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Epoch = Epoch(1_764_230_400);

    fn all(text: &[u8]) -> (Vec<String>, Vec<usize>) {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        let entry = |e: Entry<'_>| {
            entries.push(format!("{} {} {}", String::from_utf8_lossy(e.key), e.known.name(), e.learnt.0));
        };
        read(text, NOW, entry, |line, _| faults.push(line));
        (entries, faults)
    }

    #[test]
    fn lines_that_make_sense() {
        let now = NOW.0;
        for (line, expected) in [
            ("anna@example.org valid 1700000000", "anna@example.org exists 1700000000".to_owned()),
            ("1700000000 Anna@Example.ORG 1", "anna@example.org exists 1700000000".into()),
            ("anna@example.org:invalid:1700000000", "anna@example.org absent 1700000000".into()),
            ("<anna@example.org>, 550", format!("anna@example.org absent {now}")),
            ("anna@example.org\tOK\r", format!("anna@example.org exists {now}")),
            ("anna@example.org 0 1800000000", format!("anna@example.org absent {now}")),
            ("anna@example.org valid 1700086400 1700000000", "anna@example.org exists 1700000000".into()),
            ("list-bounces+u=d@example.org: valid", format!("list-bounces+u=d@example.org exists {now}")),
            ("anna@[IPv6:::1] valid", format!("anna@[ipv6:::1] exists {now}")),
        ] {
            assert_eq!(all(line.as_bytes()), (vec![expected], vec![]), "{line}");
        }
    }

    #[test]
    fn lines_that_make_none_are_reported() {
        let text = b"# a comment\n\nanna@example.org\nvalid\nanna@example.org valid invalid\na@x b@x valid\n@x valid\n";
        assert_eq!(all(text), (vec![], vec![3, 4, 5, 6, 7]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            all(&bytes);
        }

        #[test]
        fn what_is_written_is_read(local in "[a-z0-9.+=#'-]{1,20}", exists in any::<bool>(), at in EARLIEST..1_764_230_400) {
            let known = if exists { Known::Exists } else { Known::Absent };
            let mut out = Vec::new();
            let key = format!("{local}@x.example");
            write(key.as_bytes(), known, Epoch(at), &mut out);
            prop_assume!(!local.starts_with('#'));
            prop_assert_eq!(all(&out), (vec![format!("{key} {} {at}", known.name())], vec![]));
        }
    }
}
