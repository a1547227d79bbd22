//! The recipients that every server is loaded with and asked about.
//!
//! Number `i` always gives the same 31-byte address, so a server's answer can be checked without keeping
//! a list: `anna.00000017@mx042.example.org`. Numbers below [`Recipients::count`] are on the list; the
//! same address with a hyphen for the dot is on no list, in the same domain and of the same length.
//! Domains follow each other in no order, which is the hard case for whoever interns them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Domains the recipients are spread over.
pub const DOMAINS: u64 = 1000;

/// First names, of three to five letters: the number behind them fills up to 13 bytes.
const NAMES: [&str; 12] =
    ["anna", "ben", "clara", "david", "eva", "felix", "greta", "hugo", "ida", "jonas", "kim", "laura"];
const LOCAL_PART_BYTES: usize = 13;

/// The first `count` recipients.
#[derive(Clone, Copy, Debug)]
pub struct Recipients {
    /// How many are on the list.
    pub count: u64,
}

impl Recipients {
    /// Appends the address of recipient `i`; `listed = false` gives its unknown twin.
    pub fn push_address(i: u64, listed: bool, out: &mut Vec<u8>) {
        let name = NAMES[(i % NAMES.len() as u64) as usize].as_bytes();
        out.extend_from_slice(name);
        out.push(if listed { b'.' } else { b'-' });
        push_digits(i, LOCAL_PART_BYTES - name.len() - 1, out);
        out.extend_from_slice(b"@mx");
        push_digits(scatter(i) % DOMAINS, 3, out);
        out.extend_from_slice(b".example.org");
    }

    /// Writes the list in postmap format, `address OK`, a line each.
    pub fn write_postmap(self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut line = Vec::with_capacity(64);
        for i in 0..self.count {
            line.clear();
            Self::push_address(i, true, &mut line);
            line.extend_from_slice(b" OK\n");
            file.write_all(&line)?;
        }
        file.flush()
    }
}

fn push_digits(number: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = number;
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A fixed permutation of numbers (the finish of SplitMix64).
fn scatter(i: u64) -> u64 {
    let i = (i ^ (i >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let i = (i ^ (i >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    i ^ (i >> 31)
}

/// Chooses what to ask: any recipient, listed or not with equal chance. Repeatable by its seed.
#[derive(Debug)]
pub struct Questions {
    recipients: Recipients,
    state: u64,
}

/// One question and the truth about it.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Number of the recipient.
    pub number: u64,
    /// Whether the address asked about is on the list.
    pub listed: bool,
}

impl Questions {
    /// Questions about `recipients`; equal seeds ask the same.
    pub fn new(recipients: Recipients, seed: u64) -> Self {
        Questions { recipients, state: scatter(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)) | 1 }
    }

    /// The next question (xorshift64*).
    pub fn draw(&mut self) -> Question {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let number = ((random >> 32) * self.recipients.count) >> 32;
        Question { number, listed: random & 1 == 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_31_bytes_and_twins_differ() {
        for i in [0, 1, 2, 11, 999_999, 9_999_999] {
            let (mut address, mut twin) = (Vec::new(), Vec::new());
            Recipients::push_address(i, true, &mut address);
            Recipients::push_address(i, false, &mut twin);
            assert_eq!(address.len(), 31, "{}", String::from_utf8_lossy(&address));
            assert_eq!(twin.len(), 31);
            assert_ne!(address, twin);
        }
    }

    #[test]
    fn questions_stay_on_the_list_and_half_are_listed() {
        let mut questions = Questions::new(Recipients { count: 1000 }, 7);
        let mut listed = 0;
        for _ in 0..10_000 {
            let question = questions.draw();
            assert!(question.number < 1000);
            listed += u32::from(question.listed);
        }
        assert!((4_700..5_300).contains(&listed), "{listed}");
    }
}
