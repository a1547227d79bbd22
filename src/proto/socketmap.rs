//! Socketmap, server side: what sendmail's `K... socket` maps and Postfix's `socketmap:` tables speak.
//!
//! One netstring per request, `map SP key`, one per reply (sendmail `op.me` and `contrib/socketmapServer.pl`; Postfix
//! socketmap_table(5); PROTOCOLS.md sections 2 and 3). Everything behind the first blank is the key: it may hold blanks,
//! quotes, NULs and 8-bit bytes, and may be empty.
//!
//! What the clients do with the replies:
//!
//! | reply | sendmail 8.17 | Postfix, relay_recipient_maps | Exim, readsocket |
//! |---|---|---|---|
//! | `OK v` | value | accepted | whatever the ACL makes of it |
//! | `OK` or `OK ` | crashes, or an empty value | 550 or 451 | - |
//! | `NOTFOUND ` | default | 550 5.1.1 | |
//! | `TEMP x` | key and `-T` suffix | 451 4.3.0 | |
//! | `PERM x`, other words | **default, that is 550** | 451 4.3.5 | |
//!
//! So there is neither a bare `OK` nor a `PERM` here. Nothing may stand before or behind a reply: Postfix reads a stray
//! byte that comes in a packet of its own as the beginning of the answer to its next key, and every answer after it is
//! off by one.
//!
//! On a framing error one `TEMP` is said where the peer obviously speaks netstrings (Postfix and sendmail make 451 of it
//! and connect again); a peer whose first bytes are no length at all speaks something else and gets nothing. Then the
//! connection is closed in either case, since what follows can't be told from payload.

use super::netstring;
use super::{Limits, Reply};

/// Longest reply payload that Postfix reads (`socketmap_max_reply_size`); sendmail reads ten times as much.
///
/// A reply beyond it would spoil all later answers on that Postfix connection, so it is replaced by a `TEMP`.
pub const MAX_REPLY: usize = 100_000;

/// One look-up: `key` in `map`, both as the client wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The map's name: the `K` name of sendmail, the last word of Postfix's table. May be empty.
    pub map: &'a [u8],
    /// What is looked up, unfolded. May be empty.
    pub key: &'a [u8],
}

/// Why the input is no request. After any of these the stream has no further meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is no netstring, or too long a one.
    Framing(netstring::Error),
    /// A netstring without a blank: no map name, or no key.
    NoKey,
}

impl Error {
    /// What to say once before closing.
    pub fn reply(self) -> Option<Reply<'static>> {
        match self {
            Error::Framing(netstring::Error::Length) => None,
            Error::Framing(netstring::Error::TooLong) => Some(Reply::Temp(b"request too long")),
            Error::Framing(netstring::Error::Terminator) | Error::NoKey => Some(Reply::Temp(b"malformed request")),
        }
    }
}

/// Takes one request from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// Limit: [`request_bytes`](Limits::request_bytes).
#[inline]
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Option<(Request<'a>, usize)>, Error> {
    let Some((payload, used)) = netstring::decode(input, limits.request_bytes).map_err(Error::Framing)? else {
        return Ok(None);
    };
    // map names have a handful of bytes: a plain loop beats memchr here
    let blank = payload.iter().position(|&b| b == b' ').ok_or(Error::NoKey)?;
    let (map, rest) = payload.split_at_checked(blank).ok_or(Error::NoKey)?;
    let key = rest.get(1..).ok_or(Error::NoKey)?;
    Ok(Some((Request { map, key }, used)))
}

/// Appends the reply as one netstring.
#[inline]
pub fn encode(reply: &Reply<'_>, out: &mut Vec<u8>) {
    // nearly all replies are one of these two; pieces of constant size are stored without a call
    match reply {
        Reply::NotFound => return out.extend_from_slice(b"9:NOTFOUND ,"),
        Reply::Ok(value) => {
            let len = 3 + value.len();
            if let 10..100 = len {
                let digit = |n: usize| b'0' + n as u8;
                out.extend_from_slice(&[digit(len / 10), digit(len % 10), b':', b'O', b'K', b' ']);
                value.write(out);
                out.push(b',');
                return;
            }
        }
        _ => (),
    }
    encode_any(reply, out);
}

fn encode_any(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let len = reply.len();
    if len > MAX_REPLY {
        return encode(&Reply::Temp(b"value too long"), out);
    }
    netstring::encode_head(len, out);
    reply.write(out);
    out.push(b',');
}

/// Client side: appends the request for `key` in `map`, as `rcptmapd query` asks.
pub fn encode_request(map: &[u8], key: &[u8], out: &mut Vec<u8>) {
    netstring::encode_head(map.len() + 1 + key.len(), out);
    out.extend_from_slice(map);
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b',');
}

/// Client side: takes the payload of one reply (`OK value`) from the front of `input`.
pub fn decode_reply(input: &[u8]) -> Result<Option<(&[u8], usize)>, netstring::Error> {
    netstring::decode(input, MAX_REPLY)
}

#[cfg(test)]
mod tests {
    use super::super::Value;
    use super::*;
    use proptest::prelude::*;

    fn one(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Error> {
        decode(input, &Limits::DEFAULT)
    }

    fn request<'a>(map: &'a [u8], key: &'a [u8], used: usize) -> Result<Option<(Request<'a>, usize)>, Error> {
        Ok(Some((Request { map, key }, used)))
    }

    fn encoded(reply: Reply<'_>) -> String {
        let mut out = Vec::new();
        encode(&reply, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_key_is_everything_behind_the_first_blank() {
        assert_eq!(one(b"22:rcpt bob@relay.example,"), request(b"rcpt", b"bob@relay.example", 26));
        assert_eq!(one(b"20:rcpt a b@rel.example,"), request(b"rcpt", b"a b@rel.example", 24));
        assert_eq!(one(b"5:rcpt ,"), request(b"rcpt", b"", 8));
        assert_eq!(one(b"4: a\0,,"), request(b"", b"a\0,", 7));
        assert_eq!(one(b"1: ,"), request(b"", b"", 4));
    }

    #[test]
    fn without_a_blank_there_is_no_key() {
        assert_eq!(one(b"8:rcptonly,"), Err(Error::NoKey));
        assert_eq!(one(b"0:,"), Err(Error::NoKey));
        assert_eq!(Error::NoKey.reply(), Some(Reply::Temp(b"malformed request")));
    }

    #[test]
    fn a_stranger_gets_no_reply() {
        let error = one(b"GET / HTTP/1.1\r\n").expect_err("no netstring");
        assert_eq!(error.reply(), None);
        let error = one(b"200000:").expect_err("too long");
        assert_eq!(error.reply(), Some(Reply::Temp(b"request too long")));
    }

    #[test]
    fn replies_are_single_netstrings() {
        assert_eq!(encoded(Reply::Ok(Value::Bytes(b"bob@relay.example"))), "20:OK bob@relay.example,");
        assert_eq!(encoded(Reply::NotFound), "9:NOTFOUND ,");
        assert_eq!(encoded(Reply::Temp(b"backend down")), "17:TEMP backend down,");
        assert_eq!(encoded(Reply::UnknownMap(b"nomap")), "22:TEMP unknown map nomap,");
        let parts = Value::Parts([b"ERROR:", b"5.1.1", b":\"", b"550 5.1.1 User unknown", b"\""]);
        assert_eq!(encoded(Reply::Ok(parts)), "39:OK ERROR:5.1.1:\"550 5.1.1 User unknown\",");
    }

    #[test]
    fn a_value_that_postfix_would_not_read_is_temporary() {
        let long = vec![b'x'; MAX_REPLY];
        assert_eq!(encoded(Reply::Ok(Value::Bytes(&long))), "19:TEMP value too long,");
        assert_eq!(encoded(Reply::Ok(Value::Bytes(&long[3..]))).len(), MAX_REPLY + 8);
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in proptest::collection::vec(any::<u8>(), 0..64)) {
            let whole = one(&input);
            let first = (0..=input.len()).map(|n| one(&input[..n])).find(|r| *r != Ok(None)).unwrap_or(Ok(None));
            prop_assert_eq!(whole, first);
        }

        #[test]
        fn a_request_comes_back(map in "[a-z.]{0,12}", key in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut out = Vec::new();
            encode_request(map.as_bytes(), &key, &mut out);
            prop_assert_eq!(one(&out), request(map.as_bytes(), &key, out.len()));
        }

        #[test]
        fn a_reply_comes_back(value in proptest::collection::vec(any::<u8>(), 1..400)) {
            let mut out = Vec::new();
            encode(&Reply::Ok(Value::Bytes(&value)), &mut out);
            let (payload, used) = decode_reply(&out).expect("a netstring").expect("complete");
            prop_assert_eq!(used, out.len());
            prop_assert_eq!(payload.strip_prefix(b"OK "), Some(&value[..]));
        }
    }
}
