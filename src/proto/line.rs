//! The line protocol, server side: what Exim's `${readsocket}`, netcat and scripts speak.
//!
//! One request per line, `[map SP] address LF`; one reply per line, `OK value`, `NOTFOUND ` or `TEMP reason`
//! (PROTOCOLS.md section 4, DESIGN.md sections 3 and 11.3).
//!
//! Exim writes its request, closes its sending side and reads until we close: the end of the input therefore ends the
//! last line, and the caller answers, flushes and closes after it. Exim takes a close without a byte for an empty
//! string, and drops everything when the answer is late; so every line gets exactly one reply, and a reply is always one
//! line: control bytes in it become `?`.
//!
//! - An **empty line** is a request with an empty key (`NOTFOUND `, as an empty key of a socketmap): a script that pipes
//!   a list through netcat gets as many lines back as it sent. Input that ends without a byte since the last LF is no
//!   line and gets no reply.
//! - A first word without `@` and `"` that is followed by a blank (or TAB) and more is a **map name**, whether there is
//!   such a map or not. A misspelt map in an ACL thus becomes `TEMP unknown map`, never part of an address and 550. An
//!   unquoted blank in a local part needs the map's name in front: `rcpt first last@example.com`.
//! - **Control bytes** but LF, and CR before LF, are passed on in the key; what they mean is the look-up's business.
//! - TLS, SMTP and binary bytes sent here are lines too: they name maps that we do not have, or never end and run into
//!   the limit.

use super::{Limits, Reply, printable};

/// Longest reply with its LF. What would be longer becomes a `TEMP`.
pub const MAX_REPLY: usize = 1024;

/// One request of the line protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The map's name, if the line has one; else the listener's default map is asked.
    pub map: Option<&'a [u8]>,
    /// What is looked up, unfolded. May be empty.
    pub key: &'a [u8],
}

/// Why the input is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No LF within the limit.
    TooLong,
}

impl Error {
    /// What to say once before closing.
    pub fn reply(self) -> Option<Reply<'static>> {
        match self {
            Error::TooLong => Some(Reply::Temp(b"line too long")),
        }
    }
}

/// Takes one request from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// With `eof` (the peer has closed its sending side, and `input` is all there is) the end of the input ends the line.
/// Limit: [`line_bytes`](Limits::line_bytes).
#[inline]
pub fn decode<'a>(input: &'a [u8], eof: bool, limits: &Limits) -> Result<Option<(Line<'a>, usize)>, Error> {
    // one byte beyond the limit, for the LF itself
    let window = input.get(..=limits.line_bytes).unwrap_or(input);
    let (line, used) = match memchr::memchr(b'\n', window) {
        Some(end) => (window.get(..end).unwrap_or_default(), end + 1),
        None if input.len() > limits.line_bytes => return Err(Error::TooLong),
        None if eof && !input.is_empty() => (input, input.len()),
        None => return Ok(None),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(Some((split(line), used)))
}

/// Tells map name and key apart.
#[inline]
fn split(line: &[u8]) -> Line<'_> {
    let whole = Line { map: None, key: line };
    // the first byte that decides: a blank ends a map name, '@' and '"' belong to an address
    let Some(at) = line.iter().position(|b| matches!(b, b' ' | b'\t' | b'@' | b'"')) else { return whole };
    match line.split_at_checked(at) {
        Some((map @ [_, ..], [b' ' | b'\t', key @ ..])) if !key.is_empty() => Line { map: Some(map), key },
        _ => whole,
    }
}

/// Appends the reply as one line.
#[inline]
pub fn encode(reply: &Reply<'_>, out: &mut Vec<u8>) {
    if reply.len() >= MAX_REPLY {
        return encode(&Reply::Temp(b"value too long"), out);
    }
    let start = out.len();
    reply.write(out);
    for byte in out.get_mut(start..).unwrap_or_default() {
        *byte = printable(*byte);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;
    use proptest::prelude::*;

    fn one(input: &[u8], eof: bool) -> Result<Option<(Line<'_>, usize)>, Error> {
        decode(input, eof, &Limits::DEFAULT)
    }

    fn line<'a>(map: Option<&'a str>, key: &'a str, used: usize) -> Result<Option<(Line<'a>, usize)>, Error> {
        Ok(Some((Line { map: map.map(str::as_bytes), key: key.as_bytes() }, used)))
    }

    #[test]
    fn a_line_ends_with_lf_or_with_the_input() {
        assert_eq!(one(b"bob@x.example\nrest", false), line(None, "bob@x.example", 14));
        assert_eq!(one(b"bob@x.example\r\n", false), line(None, "bob@x.example", 15));
        assert_eq!(one(b"bob@x.example", false), Ok(None));
        assert_eq!(one(b"bob@x.example", true), line(None, "bob@x.example", 13));
        assert_eq!(one(b"bob@x.example\r", true), line(None, "bob@x.example", 14));
    }

    #[test]
    fn an_empty_line_is_a_request_and_the_end_is_none() {
        assert_eq!(one(b"\n", false), line(None, "", 1));
        assert_eq!(one(b"\r\n", true), line(None, "", 2));
        assert_eq!(one(b"", false), Ok(None));
        assert_eq!(one(b"", true), Ok(None));
    }

    #[test]
    fn the_first_word_names_a_map_unless_it_is_part_of_an_address() {
        for (text, map, key) in [
            ("rcpt bob@x", Some("rcpt"), "bob@x"),
            ("rctp bob@x", Some("rctp"), "bob@x"),
            ("rcpt\tbob@x", Some("rcpt"), "bob@x"),
            ("rcpt  bob@x", Some("rcpt"), " bob@x"),
            ("rcpt first last@x", Some("rcpt"), "first last@x"),
            ("rcpt \"a b\"@x", Some("rcpt"), "\"a b\"@x"),
            ("\"a b\"@x", None, "\"a b\"@x"),
            ("a@\"b c", None, "a@\"b c"),
            ("bob@x trailing", None, "bob@x trailing"),
            ("first last@x", Some("first"), "last@x"),
            ("postmaster", None, "postmaster"),
            ("rcpt ", None, "rcpt "),
            (" bob@x", None, " bob@x"),
            (" ", None, " "),
            ("EHLO mx.example", Some("EHLO"), "mx.example"),
        ] {
            assert_eq!(split(text.as_bytes()), Line { map: map.map(str::as_bytes), key: key.as_bytes() }, "{text:?}");
        }
    }

    #[test]
    fn the_limit_is_for_the_line_without_its_end() {
        let limits = Limits { line_bytes: 4, ..Limits::DEFAULT };
        assert_eq!(decode(b"a@bc\n", false, &limits), line(None, "a@bc", 5));
        assert_eq!(decode(b"a@bc", false, &limits), Ok(None));
        assert_eq!(decode(b"a@bc", true, &limits), line(None, "a@bc", 4));
        assert_eq!(decode(b"a@bcd\n", false, &limits), Err(Error::TooLong));
        assert_eq!(decode(b"a@bcd", true, &limits), Err(Error::TooLong));
        assert_eq!(one(&[b'x'; 1025], false), Err(Error::TooLong));
    }

    #[test]
    fn a_reply_is_one_line_whatever_the_value_holds() {
        for (reply, expected) in [
            (Reply::Ok(Value::Bytes(b"bob@x")), "OK bob@x\n"),
            (Reply::NotFound, "NOTFOUND \n"),
            (Reply::Temp(b"line too long"), "TEMP line too long\n"),
            (Reply::Ok(Value::Bytes(b"a\nOK b\r\0\tc")), "OK a?OK b??\tc\n"),
            (Reply::Ok(Value::Bytes(&[b'x'; 1021])), "TEMP value too long\n"),
        ] {
            let mut out = b"before\n".to_vec();
            encode(&reply, &mut out);
            assert_eq!(out.strip_prefix(b"before\n"), Some(expected.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in proptest::collection::vec(any::<u8>(), 0..64), max in 0usize..40) {
            let limits = Limits { line_bytes: max, ..Limits::DEFAULT };
            let whole = decode(&input, false, &limits);
            let first = (0..=input.len()).map(|n| decode(&input[..n], false, &limits)).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn a_line_comes_back(map in "[a-z]{1,8}", key in "[^\r\n]{1,80}") {
            let text = format!("{map} {key}\r\n");
            prop_assert_eq!(one(text.as_bytes(), false), line(Some(&map), &key, text.len()));
        }

        #[test]
        fn a_reply_has_exactly_one_line_end(value in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let mut out = Vec::new();
            encode(&Reply::Ok(Value::Bytes(&value)), &mut out);
            prop_assert!(out.len() <= MAX_REPLY);
            prop_assert_eq!(out.iter().position(|&b| b == b'\n'), Some(out.len() - 1));
        }
    }
}
