//! The protocols by which mail servers ask: codecs and server-side machines over byte slices.
//!
//! Nothing here owns a socket, reads a clock, draws a random number or logs; the caller has the bytes, says when the
//! peer has closed its side, and writes what it is given. Every decoder has the same shape:
//!
//! - `Ok(None)`: not complete, call again with more of the same bytes in front;
//! - `Ok(Some((request, used)))`: one request, which borrows from the input; drop `used` bytes and go on;
//! - `Err(error)`: the stream has no further meaning. `error.reply()` is what to say once before closing, if the
//!   framing leaves anything to say at all.
//!
//! What a decoder finds depends only on the bytes, never on how they were cut into reads, and everything has a limit
//! in [`Limits`] that is enforced before anything is stored.
//!
//! The replies are chosen for what the clients do with them; the head comment of each codec says so per client. Two
//! rules stand above all: a positive reply always carries a value (a bare `OK` crashes sendmail 8.17 and is "not found"
//! for Postfix up to 3.11), and our own faults are always temporary (sendmail takes `PERM` and invented words for "not
//! found", which is 550 for everybody).

pub mod detect;
pub mod http;
pub mod line;
pub mod milter;
pub mod netstring;
pub mod policy;
pub mod smtp;
pub mod socketmap;
pub mod tcp_table;

/// How much of anything a peer may send before it is told off.
///
/// Every codec has its own default here; the names are those of `[limits]` where the configuration has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload of one socketmap request. Default 10,500: map name, blank and the 10,000 bytes of key to which Postfix
    /// 3.12 limits itself (`socketmap_max_query_size`). Numbers have six digits, so more than 999,999 has no effect.
    pub request_bytes: usize,
    /// One request of the line protocol, without its LF. Default 1024; an address has at most 320 bytes.
    pub line_bytes: usize,
    /// Request line and header fields of an HTTP request, with the empty line. Default 8192, as most servers have it.
    pub http_head_bytes: usize,
    /// Body of an HTTP request; only `POST` on the control socket has one. Default 65,536.
    pub http_body_bytes: usize,
    /// One policy request with its empty line. Default 32,768; Postfix 3.12 sends some 1000 bytes.
    pub policy_bytes: usize,
    /// Attributes of one policy request. Default 64; Postfix 3.12 sends 33.
    pub policy_attributes: usize,
    /// One request of a tcp_table, without its LF. Default 40,010: a key of 10,000 bytes with every byte coded, and
    /// `get`.
    pub tcp_table_bytes: usize,
    /// Command byte and data of one milter packet. Default 66,560: sendmail and Postfix send at most 65,535 bytes of
    /// data.
    pub milter_bytes: usize,
}

impl Limits {
    /// The defaults of every limit, in one place.
    pub const DEFAULT: Limits = Limits {
        request_bytes: 10_500,
        line_bytes: 1024,
        http_head_bytes: 8192,
        http_body_bytes: 65_536,
        policy_bytes: 32_768,
        policy_attributes: 64,
        tcp_table_bytes: 40_010,
        milter_bytes: 66_560,
    };

    /// Most bytes that an unfinished request can have before its decoder finds it too long.
    pub fn longest_request(&self) -> usize {
        let Limits { request_bytes, line_bytes, http_head_bytes, http_body_bytes, .. } = *self;
        // A netstring has its number, a colon and a comma besides; a line may end in CR LF.
        [
            request_bytes + 8,
            line_bytes + 2,
            http_head_bytes + http_body_bytes,
            self.policy_bytes,
            self.tcp_table_bytes + 2,
            self.milter_bytes + 4,
        ]
        .into_iter()
        .fold(0, usize::max)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}

/// Longest part of a peer's map name that is repeated in a reply.
const MAX_NAME_ECHO: usize = 64;

const UNKNOWN_MAP: &[u8] = b"TEMP unknown map ";

/// A map's answer, as socketmap and line say it.
///
/// There is no `PERM` on purpose: sendmail takes it for "not found" and refuses the recipient (PROTOCOLS.md, rule 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Found, with this value.
    Ok(Value<'a>),
    /// Not there. Written with its blank, as every known client has been tested with it.
    NotFound,
    /// We can't tell now, for this reason. Clients log the text and do not show it to their peer.
    Temp(&'a [u8]),
    /// There is no map of this name: temporary too, because the fault is in a configuration, ours or the asker's, and
    /// not in the address. At most 64 bytes of the name are repeated, control bytes as `?`.
    UnknownMap(&'a [u8]),
}

/// What stands after `OK `: never empty on the wire, an empty value is written as `OK OK`.
///
/// sendmail replaces the looked-up text by an empty value and Postfix calls it a configuration error (451).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// These bytes, as they are.
    Bytes(&'a [u8]),
    /// An address; without a domain (a bare `postmaster`) only its local part.
    Address {
        /// The local part in the form to be shown, quoted if it has to be.
        local: &'a [u8],
        /// The domain, without `@`.
        domain: &'a [u8],
    },
    /// These parts, one behind the other: `ERROR:5.1.1:"550 5.1.1 User unknown"` without putting it together first.
    Parts([&'a [u8]; 5]),
}

impl Value<'_> {
    #[inline]
    fn len(&self) -> usize {
        match self {
            Value::Bytes(bytes) => bytes.len(),
            Value::Address { local, domain: [] } => local.len(),
            Value::Address { local, domain } => local.len() + 1 + domain.len(),
            Value::Parts(parts) => parts.iter().map(|part| part.len()).sum(),
        }
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Bytes(bytes) => out.extend_from_slice(bytes),
            Value::Address { local, domain } => {
                out.extend_from_slice(local);
                if !domain.is_empty() {
                    out.push(b'@');
                    out.extend_from_slice(domain);
                }
            }
            Value::Parts(parts) => parts.iter().for_each(|part| out.extend_from_slice(part)),
        }
    }
}

impl Reply<'_> {
    /// Bytes of the payload that [`Reply::write`] appends; never 0.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self {
            Reply::Ok(value) => match value.len() {
                0 => 5,
                n => 3 + n,
            },
            Reply::NotFound => 9,
            Reply::Temp(reason) => 5 + reason.len(),
            Reply::UnknownMap(name) => UNKNOWN_MAP.len() + name.len().min(MAX_NAME_ECHO),
        }
    }

    /// Appends the payload without any framing: `OK value`, `NOTFOUND ` or `TEMP reason`.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Ok(value) if value.len() == 0 => out.extend_from_slice(b"OK OK"),
            Reply::Ok(value) => {
                out.extend_from_slice(b"OK ");
                value.write(out);
            }
            Reply::NotFound => out.extend_from_slice(b"NOTFOUND "),
            Reply::Temp(reason) => {
                out.extend_from_slice(b"TEMP ");
                out.extend_from_slice(reason);
            }
            Reply::UnknownMap(name) => {
                out.extend_from_slice(UNKNOWN_MAP);
                out.extend(name.iter().take(MAX_NAME_ECHO).map(|&b| printable(b)));
            }
        }
    }
}

/// The byte itself, or `?` for a control byte: what a line-oriented reply or a log can carry. TAB counts as printable,
/// bytes above 0x7F pass (UTF-8).
#[inline]
const fn printable(b: u8) -> u8 {
    if b.is_ascii_control() && b != b'\t' { b'?' } else { b }
}

/// The value of a hexadecimal digit of either case.
const fn hex_value(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// Appends `%XX` in upper case, as both RFC 3986 and Postfix's tcp_table write it.
fn push_percent(b: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
}

/// Undoes `%XX` coding. `None`: a `%` that is not followed by two hexadecimal digits.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let high = hex_value(*bytes.next()?)?;
        let low = hex_value(*bytes.next()?)?;
        out.push(high << 4 | low);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(reply: Reply<'_>) -> String {
        let mut out = Vec::new();
        reply.write(&mut out);
        assert_eq!(out.len(), reply.len());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_positive_reply_always_has_a_value() {
        assert_eq!(written(Reply::Ok(Value::Bytes(b"RELAY"))), "OK RELAY");
        assert_eq!(written(Reply::Ok(Value::Bytes(b""))), "OK OK");
        assert_eq!(written(Reply::Ok(Value::Parts([b"", b"", b"", b"", b""]))), "OK OK");
        assert_eq!(written(Reply::Ok(Value::Address { local: b"", domain: b"" })), "OK OK");
    }

    #[test]
    fn values_are_put_together_on_the_way_out() {
        assert_eq!(written(Reply::Ok(Value::Address { local: b"bob", domain: b"x.example" })), "OK bob@x.example");
        assert_eq!(written(Reply::Ok(Value::Address { local: b"postmaster", domain: b"" })), "OK postmaster");
        let parts = Value::Parts([b"ERROR:", b"5.1.1", b":\"", b"550 5.1.1 User unknown", b"\""]);
        assert_eq!(written(Reply::Ok(parts)), "OK ERROR:5.1.1:\"550 5.1.1 User unknown\"");
    }

    #[test]
    fn negative_and_temporary_replies_keep_their_blank() {
        assert_eq!(written(Reply::NotFound), "NOTFOUND ");
        assert_eq!(written(Reply::Temp(b"no data yet")), "TEMP no data yet");
    }

    #[test]
    fn an_unknown_map_is_named_in_bounds_and_without_control_bytes() {
        assert_eq!(written(Reply::UnknownMap(b"nomap")), "TEMP unknown map nomap");
        assert_eq!(written(Reply::UnknownMap(b"a\r\n\0b")), "TEMP unknown map a???b");
        assert_eq!(written(Reply::UnknownMap(&[b'x'; 10_000])).len(), 17 + 64);
    }

    #[test]
    fn percent_coding_is_strict() {
        assert_eq!(percent_decode(b"a%20b%2Fc%2f"), Some(b"a b/c/".to_vec()));
        for bad in [&b"%"[..], b"%2", b"%g0", b"a%%", b"%0x"] {
            assert_eq!(percent_decode(bad), None);
        }
    }

    proptest! {
        #[test]
        fn percent_coding_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut coded = Vec::new();
            bytes.iter().for_each(|&b| push_percent(b, &mut coded));
            prop_assert_eq!(percent_decode(&coded), Some(bytes));
        }
    }
}
