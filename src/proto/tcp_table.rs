//! Postfix tcp_table(5), server side (PROTOCOLS.md section 5).
//!
//! One request per line, `get SP key LF`, one reply per line, strictly in turn. In a key every byte that is `%`, white
//! space, not printable or above 0x7E comes as `%XX`; the same coding holds for the text of *every* reply, also that of
//! a 4xx or 5xx.
//!
//! What Postfix does with the replies:
//!
//! - `200 text`: found. An empty text is a configuration error (451), so an empty value is written as `OK`.
//! - `500 text`: not found, 550 in `relay_recipient_maps`.
//! - `400 text`: temporary, 451, and Postfix closes the connection and comes back for the next look-up. Also for a map
//!   that we don't have: the fault is in a configuration, not in the address.
//! - Anything over 4096 bytes, bad coding, or a close without a reply: it waits a second and tries again, ten times. So
//!   a value that does not fit becomes a `400`, and every error here is said before closing.

use std::borrow::Cow;

use super::{Limits, Reply, Value, percent_decode, push_percent};

/// Longest reply with its LF that Postfix reads.
pub const MAX_REPLY: usize = 4096;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Look this key up in the listener's default map; coding undone, unfolded, without NUL. May be empty.
    Get(Cow<'a, [u8]>),
    /// An attempt to change the table, which old manuals describe and no client makes; see [`encode_read_only`].
    Put,
}

/// Why the input is no request. Say [`Error::reply`] once, then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Neither `get` nor `put`, no key, bad `%` coding, or a NUL in the key.
    Malformed,
    /// No LF within [`Limits::tcp_table_bytes`].
    TooLong,
}

impl Error {
    /// What to say once before closing.
    pub fn reply(self) -> Option<Reply<'static>> {
        match self {
            Error::Malformed => Some(Reply::Temp(b"malformed request")),
            Error::TooLong => Some(Reply::Temp(b"request too long")),
        }
    }
}

/// Takes one request from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// Limit: [`tcp_table_bytes`](Limits::tcp_table_bytes).
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Option<(Request<'a>, usize)>, Error> {
    // one byte beyond the limit, for the LF itself
    let window = input.get(..=limits.tcp_table_bytes).unwrap_or(input);
    let Some(end) = memchr::memchr(b'\n', window) else {
        return if input.len() > limits.tcp_table_bytes { Err(Error::TooLong) } else { Ok(None) };
    };
    let line = window.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let request = if let Some(key) = line.strip_prefix(b"get ") {
        let key = match memchr::memchr(b'%', key) {
            Some(_) => Cow::Owned(percent_decode(key).ok_or(Error::Malformed)?),
            None => Cow::Borrowed(key),
        };
        if memchr::memchr(0, &key).is_some() {
            return Err(Error::Malformed);
        }
        Request::Get(key)
    } else if line.starts_with(b"put ") {
        Request::Put
    } else {
        return Err(Error::Malformed);
    };
    Ok(Some((request, end + 1)))
}

/// Appends the reply as one line.
pub fn encode(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    match reply {
        Reply::Ok(value) => {
            out.extend_from_slice(b"200 ");
            match value {
                Value::Bytes(bytes) => push_text(bytes, out),
                Value::Address { local, domain } => {
                    push_text(local, out);
                    if !domain.is_empty() {
                        out.push(b'@');
                        push_text(domain, out);
                    }
                }
                Value::Parts(parts) => parts.iter().for_each(|part| push_text(part, out)),
            }
            if out.len() == start + 4 {
                out.extend_from_slice(b"OK");
            }
        }
        Reply::NotFound => out.extend_from_slice(b"500 unknown"),
        Reply::Temp(reason) => {
            out.extend_from_slice(b"400 ");
            push_text(reason, out);
        }
        Reply::UnknownMap(name) => {
            out.extend_from_slice(b"400 unknown map ");
            push_text(name.get(..super::MAX_NAME_ECHO).unwrap_or(name), out);
        }
    }
    // a blank at the end must not be one that a reader takes for decoration
    if out.len() > start + 4 && out.last() == Some(&b' ') {
        out.pop();
        push_percent(b' ', out);
    }
    out.push(b'\n');
    if out.len() - start > MAX_REPLY {
        out.truncate(start);
        out.extend_from_slice(b"400 value too long\n");
    }
}

/// Appends the reply to a [`Request::Put`].
pub fn encode_read_only(out: &mut Vec<u8>) {
    out.extend_from_slice(b"500 read only\n");
}

/// Text in `%XX` coding, in which only blanks stay as they are.
fn push_text(text: &[u8], out: &mut Vec<u8>) {
    for &b in text {
        match b {
            b'%' => push_percent(b, out),
            b' '..=b'~' => out.push(b),
            _ => push_percent(b, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Error> {
        decode(input, &Limits::DEFAULT)
    }

    fn get(key: &[u8], used: usize) -> Result<Option<(Request<'_>, usize)>, Error> {
        Ok(Some((Request::Get(Cow::Borrowed(key)), used)))
    }

    #[test]
    fn keys_are_decoded() {
        assert_eq!(one(b"get user@relay.example\nget"), get(b"user@relay.example", 23));
        assert_eq!(one(b"get a%20b%25c%09q\"x\"@ex%C3%A9.com+t\n"), get(b"a b%c\tq\"x\"@ex\xc3\xa9.com+t", 36));
        assert_eq!(one(b"get %e9\r\n"), get(b"\xe9", 9));
        assert_eq!(one(b"get \n"), get(b"", 5));
        assert_eq!(one(b"get x"), Ok(None));
        assert_eq!(one(b"put a b\n"), Ok(Some((Request::Put, 8))));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bad in
            [&b"get a%2\n"[..], b"get\n", b"HELO x\n", b"\n", b"GET x\n", b"get %00\n", b"get a\0\n", b"get %zz\n"]
        {
            assert_eq!(one(bad), Err(Error::Malformed), "{}", bad.escape_ascii());
        }
        assert_eq!(one(&[b'x'; 40_011]), Err(Error::TooLong));
        assert_eq!(one(&[b'x'; 40_010]), Ok(None));
    }

    fn encoded(reply: Reply<'_>) -> String {
        let mut out = Vec::new();
        encode(&reply, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn replies() {
        assert_eq!(encoded(Reply::Ok(Value::Bytes(b"user@relay.example"))), "200 user@relay.example\n");
        assert_eq!(encoded(Reply::Ok(Value::Address { local: b"a%b", domain: b"x" })), "200 a%25b@x\n");
        assert_eq!(encoded(Reply::Ok(Value::Bytes(b""))), "200 OK\n");
        assert_eq!(encoded(Reply::Ok(Value::Bytes(b"\xc3\xa9\n"))), "200 %C3%A9%0A\n");
        assert_eq!(encoded(Reply::Ok(Value::Bytes(b" "))), "200 %20\n");
        assert_eq!(encoded(Reply::NotFound), "500 unknown\n");
        assert_eq!(encoded(Reply::Temp(b"100% down")), "400 100%25 down\n");
        assert_eq!(encoded(Reply::Temp(b"")), "400 \n");
        assert_eq!(encoded(Reply::UnknownMap(b"nomap")), "400 unknown map nomap\n");
        assert_eq!(encoded(Reply::Ok(Value::Bytes(&[b'%'; 1400]))), "400 value too long\n");
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in "(get |put )?[a%20\r\n\\x00]{0,20}", max in 0usize..24) {
            let limits = Limits { tcp_table_bytes: max, ..Limits::DEFAULT };
            let bytes = input.as_bytes();
            let whole = decode(bytes, &limits);
            let first = (0..=bytes.len()).map(|n| decode(&bytes[..n], &limits)).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn a_value_comes_back(value in proptest::collection::vec(any::<u8>(), 1..200)) {
            let line = encoded(Reply::Ok(Value::Bytes(&value)));
            let text = line.strip_prefix("200 ").and_then(|rest| rest.strip_suffix('\n')).expect("one line");
            prop_assert_eq!(percent_decode(text.as_bytes()), Some(value));
        }
    }
}
