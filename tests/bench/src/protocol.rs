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
    /// Postfix policy delegation, with the attributes of Postfix 3.12.
    Policy,
    /// Postfix tcp_table: `get user@domain`.
    TcpTable,
    /// The milter protocol: a RCPT, in a session that began with CONNECT and MAIL.
    Milter,
    /// Redis: `GET user@domain` in RESP.
    Redis,
    /// memcached's text protocol: `get user@domain`.
    Memcached,
}

/// What stands before the recipient in a policy request of Postfix 3.12.
const POLICY_BEFORE: &[u8] = b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n\
    client_address=192.0.2.9\nclient_name=mx.example.net\nclient_port=40000\nreverse_client_name=mx.example.net\n\
    server_address=192.0.2.1\nserver_port=25\nhelo_name=mx.example.net\nsender=s@src.example\nrecipient=";
/// What stands behind it.
const POLICY_BEHIND: &[u8] = b"\nrecipient_count=0\nqueue_id=\ninstance=4d2.6564a3b1.7a120.0\nsize=0\netrn_domain=\n\
    stress=\nsasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n\
    ccert_pubkey_fingerprint=\nencryption_protocol=\nencryption_cipher=\nencryption_keysize=0\ntls_sni=\n\
    policy_context=\ncompatibility_level=3.12\nmail_version=3.12\n\n";

impl Protocol {
    /// Appends what a connection begins with, and the reply to it.
    pub fn open(self, request: &mut Vec<u8>, reply: &mut Vec<u8>) {
        if self == Protocol::Milter {
            request.extend_from_slice(b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff");
            request.extend_from_slice(b"\0\0\0\x1dCmx.example.net\x004\x9c@192.0.2.9\0\0\0\0\x11M<s@src.example>\0");
            reply.extend_from_slice(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\x03\x72\0\0\0\x01c\0\0\0\x01c");
        }
    }

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
            Protocol::Policy => {
                request.extend_from_slice(POLICY_BEFORE);
                Recipients::push_address(number, listed, request);
                request.extend_from_slice(POLICY_BEHIND);
                let action: &[u8] = if listed { b"action=DUNNO\n\n" } else { b"action=550 5.1.1 User unknown\n\n" };
                reply.extend_from_slice(action);
            }
            Protocol::TcpTable => {
                request.extend_from_slice(b"get ");
                Recipients::push_address(number, listed, request);
                request.push(b'\n');
                if listed {
                    reply.extend_from_slice(b"200 ");
                    Recipients::push_address(number, listed, reply);
                    reply.push(b'\n');
                } else {
                    reply.extend_from_slice(b"500 unknown\n");
                }
            }
            Protocol::Milter => {
                request.extend_from_slice(b"\0\0\0\x23R<");
                Recipients::push_address(number, listed, request);
                request.extend_from_slice(b">\0");
                let answer: &[u8] = if listed { b"\0\0\0\x01c" } else { b"\0\0\0\x18y550 5.1.1 User unknown\0" };
                reply.extend_from_slice(answer);
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
    fn packets_tell_their_length() {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        Protocol::Milter.open(&mut request, &mut reply);
        for listed in [true, false] {
            Protocol::Milter.push(Question { number: 42, listed }, &mut request, &mut reply);
        }
        for mut rest in [&request[..], &reply[..]] {
            let mut packets = 0;
            while let Some((length, behind)) = rest.split_first_chunk::<4>() {
                rest = behind.get(u32::from_be_bytes(*length) as usize..).expect("a whole packet");
                packets += 1;
            }
            assert_eq!(packets, 5);
        }
    }

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
