//! What is sent to each kind of server, and the one right answer to it, byte by byte.

use crate::recipients::{Question, Recipients};

/// Map name asked for in socketmap and line requests.
const MAP: &[u8] = b"rcpt";
/// The bare server's one reply: as long as a socketmap `OK` with one of our addresses.
pub const CONSTANT_REPLY: &[u8] = b"34:OK the-same-answer-to-each-request,";

/// A wire protocol, as far as one look-up needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Socketmap netstrings: `36:rcpt user@domain,`.
    Socketmap,
    /// Socketmap requests, [`CONSTANT_REPLY`] to each.
    Constant,
    /// The line protocol: `rcpt user@domain`.
    Line,
    /// Redis: `GET user@domain` in RESP.
    Redis,
    /// memcached's text protocol: `get user@domain`.
    Memcached,
}

impl Protocol {
    /// Appends the request to `request` and the only right reply to `reply`.
    pub fn push(self, question: Question, request: &mut Vec<u8>, reply: &mut Vec<u8>) {
        let Question { number, listed } = question;
        match self {
            Protocol::Socketmap | Protocol::Constant => {
                request.extend_from_slice(b"36:");
                request.extend_from_slice(MAP);
                request.push(b' ');
                Recipients::push_address(number, listed, request);
                request.push(b',');
                if self == Protocol::Constant {
                    reply.extend_from_slice(CONSTANT_REPLY);
                } else if listed {
                    reply.extend_from_slice(b"34:OK ");
                    Recipients::push_address(number, listed, reply);
                    reply.push(b',');
                } else {
                    reply.extend_from_slice(b"9:NOTFOUND ,");
                }
            }
            Protocol::Line => {
                request.extend_from_slice(MAP);
                request.push(b' ');
                Recipients::push_address(number, listed, request);
                request.push(b'\n');
                if listed {
                    reply.extend_from_slice(b"OK ");
                    Recipients::push_address(number, listed, reply);
                    reply.push(b'\n');
                } else {
                    reply.extend_from_slice(b"NOTFOUND \n");
                }
            }
            Protocol::Redis => {
                request.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$31\r\n");
                Recipients::push_address(number, listed, request);
                request.extend_from_slice(b"\r\n");
                reply.extend_from_slice(if listed { b"$1\r\n1\r\n" } else { b"$-1\r\n" });
            }
            Protocol::Memcached => {
                request.extend_from_slice(b"get ");
                Recipients::push_address(number, listed, request);
                request.extend_from_slice(b"\r\n");
                if listed {
                    reply.extend_from_slice(b"VALUE ");
                    Recipients::push_address(number, listed, reply);
                    reply.extend_from_slice(b" 0 1\r\n1\r\nEND\r\n");
                } else {
                    reply.extend_from_slice(b"END\r\n");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings_tell_their_length() {
        for listed in [true, false] {
            let (mut request, mut reply) = (Vec::new(), Vec::new());
            Protocol::Socketmap.push(Question { number: 42, listed }, &mut request, &mut reply);
            for netstring in [&request[..], &reply[..], CONSTANT_REPLY] {
                let text = String::from_utf8_lossy(netstring);
                let (length, payload) = text.split_once(':').expect("a colon");
                assert_eq!(length.parse(), Ok(payload.len() - 1), "{text}");
                assert!(payload.ends_with(','), "{text}");
            }
        }
    }
}
