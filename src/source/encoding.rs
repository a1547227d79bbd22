//! How the text of a list is encoded: UTF-8 with or without BOM, UTF-16 of either order with BOM or evident without.
//!
//! The first bytes decide; files that are no text at all are refused by their magic numbers, with advice. UTF-8 and
//! any other 8-bit text pass through untouched and uncopied: whether they are valid is never asked of a list.

use super::{Binary, Refused, cdb};

/// How the text of a list is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, ASCII, or another 8-bit code, as it is.
    Bytes,
    /// UTF-16, little end first (PowerShell, `Export-Csv -Encoding Unicode`).
    Utf16Le,
    /// UTF-16, big end first.
    Utf16Be,
}

/// As much of the beginning as is looked at; every magic number is within, and the tables of a cdb.
const HEAD: usize = 2048;

/// As much of it as shows whether it is UTF-16 without a mark.
const EVIDENCE: usize = 64;

/// A wide code unit that has not found its second half yet.
#[derive(Debug, Default)]
struct Half {
    byte: Option<u8>,
    surrogate: Option<u16>,
}

/// Turns chunks of a file into chunks of 8-bit text.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The first bytes, until they are enough to tell.
    head: Vec<u8>,
    encoding: Option<Encoding>,
    half: Half,
    wide: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Decoder {
        Decoder { head: Vec::new(), encoding: None, half: Half::default(), wide: Vec::new() }
    }

    /// What was found, once the beginning has been seen.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(Encoding::Bytes)
    }

    /// Whether the text ends within a code unit.
    pub(super) fn is_torn(&self) -> bool {
        self.half.byte.is_some()
    }

    /// Passes on the text of `chunk`; a short beginning is kept back until it can be judged.
    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        text: &mut impl FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        match self.encoding {
            Some(encoding) => self.pass(encoding, chunk, text),
            None if self.head.is_empty() && chunk.len() >= HEAD => self.begin(chunk, text),
            None => {
                self.head.extend_from_slice(chunk);
                if self.head.len() < HEAD {
                    return Ok(());
                }
                let head = std::mem::take(&mut self.head);
                self.begin(&head, text)
            }
        }
    }

    /// Nothing follows.
    pub(super) fn finish(&mut self, text: &mut impl FnMut(&[u8]) -> Result<(), Refused>) -> Result<(), Refused> {
        if self.encoding.is_none() {
            let head = std::mem::take(&mut self.head);
            self.begin(&head, text)?;
        }
        match self.half.surrogate.take() {
            Some(_) => text("\u{fffd}".as_bytes()),
            None => Ok(()),
        }
    }

    fn begin(&mut self, start: &[u8], text: &mut impl FnMut(&[u8]) -> Result<(), Refused>) -> Result<(), Refused> {
        let (encoding, bom) = sniff(start).map_err(Refused::Binary)?;
        self.encoding = Some(encoding);
        self.pass(encoding, start.get(bom..).unwrap_or_default(), text)
    }

    fn pass(
        &mut self,
        encoding: Encoding,
        chunk: &[u8],
        text: &mut impl FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let unit = match encoding {
            Encoding::Bytes => return text(chunk),
            Encoding::Utf16Le => u16::from_le_bytes,
            Encoding::Utf16Be => u16::from_be_bytes,
        };
        self.wide.clear();
        for &byte in chunk {
            match self.half.byte.take() {
                None => self.half.byte = Some(byte),
                Some(first) => push_unit(&mut self.half.surrogate, unit([first, byte]), &mut self.wide),
            }
        }
        text(&self.wide)
    }
}

/// Appends a UTF-16 code unit as UTF-8; half a surrogate pair waits in `high`, a wrong one becomes U+FFFD.
fn push_unit(high: &mut Option<u16>, unit: u16, out: &mut Vec<u8>) {
    let mut push = |c: u32| {
        let c = char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    };
    let low = u32::from(unit);
    match (high.take(), unit) {
        (None, 0xd800..0xdc00) => *high = Some(unit),
        (Some(wrong), 0xd800..0xdc00) => {
            *high = Some(unit);
            push(wrong.into());
        }
        (Some(pair), 0xdc00..0xe000) => push(0x1_0000 + ((u32::from(pair) & 0x3ff) << 10 | low & 0x3ff)),
        (Some(wrong), _) => {
            push(wrong.into());
            push(low);
        }
        (None, _) => push(low),
    }
}

/// Encoding and length of the byte order mark, or what else the file is.
pub(super) fn sniff(head: &[u8]) -> Result<(Encoding, usize), Binary> {
    if let Some(binary) = binary(head) {
        return Err(binary);
    }
    Ok(match head {
        [0xef, 0xbb, 0xbf, ..] => (Encoding::Bytes, 3),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Err(Binary::Utf32),
        [0xff, 0xfe, ..] => (Encoding::Utf16Le, 2),
        [0xfe, 0xff, ..] => (Encoding::Utf16Be, 2),
        _ => (evident(head.get(..EVIDENCE).unwrap_or(head)), 0),
    })
}

/// UTF-16 without a mark: ASCII characters, each beside a NUL that is always on the same side.
fn evident(head: &[u8]) -> Encoding {
    let units = head.as_chunks::<2>().0;
    let wide = |high: usize, low: usize| {
        let latin = units.iter().filter(|u| u[high] == 0 && u[low] != 0).count();
        // A character such as U+0100 has its NUL on the other side.
        let odd = units.iter().filter(|u| u[low] == 0).count();
        units.len() >= 4 && latin * 4 >= units.len() * 3 && odd * 8 <= units.len()
    };
    match (wide(1, 0), wide(0, 1)) {
        (true, false) => Encoding::Utf16Le,
        (false, true) => Encoding::Utf16Be,
        _ => Encoding::Bytes,
    }
}

/// Files given in place of a list, by their magic numbers (file(1) has the same).
fn binary(head: &[u8]) -> Option<Binary> {
    let word = |at: usize| head.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let either = |at: usize, magic: u32| word(at).is_some_and(|w| w == magic || w.swap_bytes() == magic);
    // LMDB's pages have a head of 16 bytes, of 12 on 32-bit machines.
    // A Berkeley DB begins with 8 bytes of log sequence number and a page number.
    if either(12, 0x0005_3162) || either(12, 0x0006_1561) {
        Some(Binary::BerkeleyDb)
    } else if either(16, 0xbeef_c0de) || either(12, 0xbeef_c0de) {
        Some(Binary::Lmdb)
    } else if [0x1357_9acd, 0x1357_9ace, 0x1357_9acf].into_iter().any(|magic| either(0, magic)) {
        Some(Binary::Gdbm)
    } else if head.starts_with(b"SQLite format 3\0") {
        Some(Binary::Sqlite)
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        Some(Binary::Zip)
    } else if head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head.starts_with(b"\xfd7zXZ\0")
        || head.starts_with(b"BZh")
    {
        Some(Binary::Compressed)
    } else if cdb::is_cdb(head) {
        Some(Binary::Cdb)
    } else {
        None
    }
}

/// Windows-1252, which old scripts write, as UTF-8. Valid UTF-8 stays what it is (`None`).
pub(super) fn windows_1252(text: &[u8]) -> Option<Vec<u8>> {
    if text.is_ascii() || std::str::from_utf8(text).is_ok() {
        return None;
    }
    // 0x80 to 0x9f; the five that are not assigned are C1 controls, as browsers have it.
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    let decode = |&b: &u8| match b {
        0x80..=0x9f => HIGH[usize::from(b - 0x80)],
        _ => char::from(b),
    };
    Some(text.iter().map(decode).collect::<String>().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Result<(Vec<u8>, Encoding), Refused> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        let mut text = |t: &[u8]| {
            out.extend_from_slice(t);
            Ok(())
        };
        for chunk in chunks {
            decoder.feed(chunk, &mut text)?;
        }
        decoder.finish(&mut text)?;
        Ok((out, decoder.encoding()))
    }

    fn wide(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_comes_out_as_utf8() {
        let text = "jürgen@example.org OK\r\n😀@example.org\r\n".repeat(4);
        for bom in ["", "\u{feff}"] {
            let marked = format!("{bom}{text}");
            for (bytes, encoding) in [
                (marked.clone().into_bytes(), Encoding::Bytes),
                (wide(&marked, u16::to_le_bytes), Encoding::Utf16Le),
                (wide(&marked, u16::to_be_bytes), Encoding::Utf16Be),
            ] {
                let expected = Ok((text.clone().into_bytes(), encoding));
                assert_eq!(decode(&[&bytes]), expected);
                assert_eq!(decode(&bytes.chunks(1).collect::<Vec<_>>()), expected);
                for cut in 0..bytes.len() {
                    let (a, b) = bytes.split_at(cut);
                    assert_eq!(decode(&[a, b]), expected, "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn unpaired_surrogates_become_replacement_characters() {
        let le = |units: &[u16]| {
            let bytes: Vec<u8> = [0xfeff].iter().chain(units).flat_map(|u| u.to_le_bytes()).collect();
            decode(&[&bytes]).map(|(text, _)| String::from_utf8_lossy(&text).into_owned())
        };
        assert_eq!(le(&[0x61, 0xd83d, 0x62]).as_deref(), Ok("a\u{fffd}b"));
        assert_eq!(le(&[0xd83d, 0xd83d, 0xde00]).as_deref(), Ok("\u{fffd}😀"));
        assert_eq!(le(&[0xde00, 0x61]).as_deref(), Ok("\u{fffd}a"));
        assert_eq!(le(&[0x61, 0xd83d]).as_deref(), Ok("a\u{fffd}"));
    }

    #[test]
    fn half_a_code_unit_at_the_end_is_a_cut() {
        for (bytes, torn) in [(&b"\xff\xfea\0b"[..], true), (b"\xff\xfea\0b\0", false), (b"abc", false)] {
            let mut decoder = Decoder::new();
            let fed = decoder.feed(bytes, &mut |_| Ok(())).and_then(|()| decoder.finish(&mut |_| Ok(())));
            assert_eq!((fed, decoder.is_torn()), (Ok(()), torn));
        }
    }

    #[test]
    fn files_that_are_no_text_are_known_by_their_magic() {
        let at = |offset: usize, magic: &[u8]| {
            let mut head = vec![0; offset];
            head.extend_from_slice(magic);
            head.resize(100, 0);
            sniff(&head)
        };
        assert_eq!(at(12, &[0x61, 0x15, 0x06, 0]), Err(Binary::BerkeleyDb));
        assert_eq!(at(12, &[0x00, 0x05, 0x31, 0x62]), Err(Binary::BerkeleyDb));
        assert_eq!(at(16, &[0xde, 0xc0, 0xef, 0xbe]), Err(Binary::Lmdb));
        assert_eq!(at(0, &[0xce, 0x9a, 0x57, 0x13]), Err(Binary::Gdbm));
        assert_eq!(at(0, b"SQLite format 3\0"), Err(Binary::Sqlite));
        assert_eq!(at(0, b"PK\x03\x04"), Err(Binary::Zip));
        assert_eq!(at(0, &[0x1f, 0x8b, 8]), Err(Binary::Compressed));
        assert_eq!(at(0, &[0xff, 0xfe, 0, 0]), Err(Binary::Utf32));
    }

    #[test]
    fn windows_1252_is_decoded_and_utf8_left_alone() {
        assert_eq!(windows_1252(b"J\xfcrgen \x80"), Some("Jürgen €".into()));
        assert_eq!(windows_1252("Jürgen".as_bytes()), None);
        assert_eq!(windows_1252(b"Anna"), None);
    }
}
