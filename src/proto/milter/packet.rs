//! Packets of the milter protocol: a length, a command byte, data (PROTOCOLS.md sections 7.1 and 7.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Error;
use crate::proto::Limits;

/// One packet, not yet understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The command byte.
    pub command: u8,
    /// What follows it.
    pub data: &'a [u8],
}

/// Takes one packet from the front of `input`; see [`crate::proto`] for the meaning of the result.
///
/// Limit: [`milter_bytes`](Limits::milter_bytes), enforced on the length alone. `GET ` is a length too, of 1.1 GB.
#[inline]
pub fn decode<'a>(input: &'a [u8], limits: &Limits) -> Result<Option<(Packet<'a>, usize)>, Error> {
    let Some((head, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
    if len == 0 || len > limits.milter_bytes {
        return Err(Error::Length);
    }
    match rest.get(..len) {
        Some([command, data @ ..]) => Ok(Some((Packet { command: *command, data }, 4 + len))),
        _ => Ok(None),
    }
}

/// Appends a packet of a command and its data.
#[inline]
pub fn encode(command: u8, data: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(data.len() + 1).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.push(command);
    out.extend_from_slice(data);
}

/// Who has connected to the MTA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// An address; an IPv4 address mapped into IPv6 is an IPv4 address.
    Ip(IpAddr),
    /// A UNIX socket, or `sendmail -bs` and the like on this machine.
    Local,
    /// Not told, or not in a form that we know.
    #[default]
    Unknown,
}

/// The data of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The name that the MTA found for the client, `[192.0.2.9]` if none.
    pub host: &'a [u8],
    /// The client itself.
    pub client: Client,
}

/// Reads the data of CONNECT: host name, family and, unless the family is unknown, port and address.
pub fn connect(data: &[u8]) -> Result<Connect<'_>, Error> {
    let (host, rest) = string(data)?;
    let (&family, rest) = rest.split_first().ok_or(Error::Malformed)?;
    let address = |rest| -> Result<&[u8], Error> {
        let (_port, rest) = <[u8]>::split_first_chunk::<2>(rest).ok_or(Error::Malformed)?;
        string(rest).map(|(address, _)| address)
    };
    let client = match family {
        // sendmail -bs: nobody but a process of this machine
        b'U' if host == b"localhost" => Client::Local,
        b'U' => Client::Unknown,
        b'L' => address(rest).map(|_| Client::Local)?,
        b'4' | b'6' => ip(address(rest)?),
        _ => return Err(Error::Malformed),
    };
    Ok(Connect { host, client })
}

/// sendmail writes `IPv6:` in front of an IPv6 address, Postfix does not.
fn ip(text: &[u8]) -> Client {
    let Ok(text) = std::str::from_utf8(text) else { return Client::Unknown };
    let parsed = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => text[5..].parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => text.parse::<Ipv4Addr>().map(IpAddr::V4).or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6)),
    };
    parsed.map_or(Client::Unknown, |address| Client::Ip(address.to_canonical()))
}

/// The string at the front of `data`, without its NUL, and what follows.
pub fn string(data: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let end = memchr::memchr(0, data).ok_or(Error::Malformed)?;
    let (text, rest) = data.split_at_checked(end).ok_or(Error::Malformed)?;
    Ok((text, rest.get(1..).unwrap_or_default()))
}

/// The parameters behind the address of MAIL and RCPT: `SIZE=1000`, `NOTIFY=NEVER`.
pub fn strings(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (text, behind) = string(rest).ok()?;
        rest = behind;
        Some(text)
    })
}

/// The three numbers of OPTNEG: version, actions, protocol.
pub fn numbers(data: &[u8]) -> Result<[u32; 3], Error> {
    let (first, rest) = data.split_first_chunk::<4>().ok_or(Error::Malformed)?;
    let (second, rest) = rest.split_first_chunk::<4>().ok_or(Error::Malformed)?;
    let (third, _) = rest.split_first_chunk::<4>().ok_or(Error::Malformed)?;
    Ok([first, second, third].map(|number| u32::from_be_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_packet_is_taken_from_the_front() {
        let limits = Limits::DEFAULT;
        let found = decode(b"\0\0\0\x03Hx\0\0\0\0\x01Q", &limits);
        assert_eq!(found, Ok(Some((Packet { command: b'H', data: b"x\0" }, 7))));
        assert_eq!(decode(b"\0\0\0\x01", &limits), Ok(None));
        assert_eq!(decode(b"\0\0\0", &limits), Ok(None));
        for bad in
            [&b"\0\0\0\0"[..], b"GET / HTTP/1.1\r\n", b"\x7f\xff\xff\xff", b"\0\x01\x04\x01", b"\xff\xff\xff\xff"]
        {
            assert_eq!(decode(bad, &limits), Err(Error::Length), "{}", bad.escape_ascii());
        }
        assert_eq!(decode(b"\0\x01\x04\0", &limits), Ok(None));
    }

    #[test]
    fn clients() {
        let client = |data: &[u8]| connect(data).map(|c| c.client);
        let ip = |text: &str| Ok(Client::Ip(text.parse().expect("an address")));
        assert_eq!(client(b"mx.example.net\x004\x9c\x40192.0.2.9\0"), ip("192.0.2.9"));
        assert_eq!(client(b"[x]\x006\x9c\x40IPv6:2001:db8::9\0"), ip("2001:db8::9"));
        assert_eq!(client(b"[x]\x006\x9c\x402001:db8::9\0"), ip("2001:db8::9"));
        assert_eq!(client(b"[x]\x006\x9c\x40IPv6:::ffff:192.0.2.9\0"), ip("192.0.2.9"));
        assert_eq!(client(b"localhost\0U"), Ok(Client::Local));
        assert_eq!(client(b"mx\0U"), Ok(Client::Unknown));
        assert_eq!(client(b"localhost\0L\0\0/run/x\0"), Ok(Client::Local));
        assert_eq!(client(b"mx\x004\0\x19nonsense\0"), Ok(Client::Unknown));
        for bad in
            [&b""[..], b"mx", b"mx\0", b"mx\x004", b"mx\x004\0", b"mx\x004\0\x19", b"mx\x004\0\x19192.0.2.9", b"mx\0X"]
        {
            assert_eq!(connect(bad), Err(Error::Malformed), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn strings_end_with_nul() {
        assert_eq!(strings(b"SIZE=1\0BODY=8BITMIME\0rest").collect::<Vec<_>>(), [&b"SIZE=1"[..], b"BODY=8BITMIME"]);
        assert_eq!(strings(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in proptest::collection::vec(0u8..4, 0..24), max in 0usize..16) {
            let limits = Limits { milter_bytes: max, ..Limits::DEFAULT };
            let whole = decode(&input, &limits);
            let first = (0..=input.len()).map(|n| decode(&input[..n], &limits)).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn data_of_any_kind_is_survived(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = connect(&data);
            let _ = numbers(&data);
            prop_assert!(strings(&data).count() <= data.len());
        }

        #[test]
        fn a_packet_comes_back(command in any::<u8>(), data in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut out = Vec::new();
            encode(command, &data, &mut out);
            prop_assert_eq!(decode(&out, &Limits::DEFAULT), Ok(Some((Packet { command, data: &data }, out.len()))));
        }
    }
}
