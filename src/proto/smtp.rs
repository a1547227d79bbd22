//! SMTP and LMTP, client side: reads replies, writes commands. For call-ahead, so only as far as RCPT.
//!
//! RFC 5321 sections 4.1 and 4.2, RFC 2033 (LMTP), RFC 2034 and 3463 (enhanced status codes), RFC 2920 (pipelining), RFC
//! 3207 (STARTTLS), RFC 6531 (SMTPUTF8); PROTOCOLS.md section 8.1. Replies are read leniently: bare LF, 8-bit text,
//! lines of up to 2048 bytes as Postfix takes them. Commands are written strictly: an address becomes a [`Mailbox`]
//! first, and no byte that could end a command or its path gets into one.
//!
//! What can be wrong with a reply: it is none ([`Error::NotAReply`]), it is endless ([`Error::TooLong`]), or its lines
//! contradict each other ([`Error::Disagree`]). After any of these nobody knows any more which reply belongs to which
//! command, so the connection is of no further use.

use std::fmt;
use std::str::FromStr;

/// Most lines of one reply.
pub const MAX_LINES: usize = 100;
/// Most bytes of one reply.
pub const MAX_REPLY: usize = 32 * 1024;
/// Longest line of a reply, without its LF. RFC 5321 says 512; Postfix reads 2048.
pub const MAX_LINE: usize = 2048;
/// Longest command that we write, with its CRLF (RFC 5321, 4.5.3.1.4).
///
/// The limit of 64 bytes for a local part is not ours to enforce: VERP and BATV addresses exceed it and are delivered,
/// so the next hop is asked and may say no by itself.
pub const MAX_COMMAND: usize = 512;

/// An enhanced status code: `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status {
    /// 2, 4 or 5.
    pub class: u8,
    /// What it is about: 1 address, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// What is wrong with that.
    pub detail: u16,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// The text is no enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an enhanced status code is needed, as in 5.1.1")]
pub struct NoStatus;

impl FromStr for Status {
    type Err = NoStatus;

    fn from_str(s: &str) -> Result<Status, NoStatus> {
        Status::read(s.as_bytes()).ok_or(NoStatus)
    }
}

impl Status {
    fn read(token: &[u8]) -> Option<Status> {
        let number = |part: &[u8]| {
            let good = (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit);
            good.then(|| part.iter().fold(0, |n, &digit| n * 10 + u16::from(digit - b'0')))
        };
        let mut parts = token.split(|&b| b == b'.');
        let class = match parts.next()? {
            [digit @ (b'2' | b'4' | b'5')] => digit - b'0',
            _ => return None,
        };
        let status = Status { class, subject: number(parts.next()?)?, detail: number(parts.next()?)? };
        parts.next().is_none().then_some(status)
    }

    /// The first word of a line's text, or what stands in `(#5.1.1)` at its end (qmail, and chkuser's `(#5.1.1 - ...)`).
    fn find(text: &[u8]) -> Option<Status> {
        let word = |text: &[u8]| text.split(|b| b.is_ascii_whitespace()).next().and_then(Status::read);
        word(text).or_else(|| {
            let inner = text.trim_ascii_end().strip_suffix(b")")?;
            word(inner.get(memchr::memmem::rfind(inner, b"(#")? + 2..)?)
        })
    }
}

/// Why bytes from a server have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line does not begin with three digits from 200 to 599 and a blank, a hyphen or the line's end.
    #[error("not an SMTP reply")]
    NotAReply,
    /// More than [`MAX_LINE`], [`MAX_LINES`] or [`MAX_REPLY`].
    #[error("endless reply")]
    TooLong,
    /// Its lines have codes of different classes.
    #[error("reply that contradicts itself")]
    Disagree,
}

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The code of the last line; all lines are of its class.
    pub code: u16,
    /// The enhanced status code, if there is one of the code's class: the last line's, else the nearest one above it.
    pub status: Option<Status>,
    bytes: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The first digit of the code.
    pub fn class(&self) -> u8 {
        (self.code / 100) as u8
    }

    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        self.class() == 2
    }

    /// The texts of its lines, without codes.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        lines(self.bytes).map(|line| line.get(4..).unwrap_or_default())
    }

    /// Its lines as they came, without their ends.
    pub fn raw_lines(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> {
        lines(self.bytes)
    }

    /// The last of them.
    pub fn last_line(&self) -> &'a [u8] {
        lines(self.bytes).next_back().unwrap_or_default()
    }
}

fn lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.split(|&b| b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// How a line begins.
enum Head {
    /// Too short to tell.
    Open,
    /// A code, and whether it is the last line.
    Code(u16, bool),
}

/// Looks at the first bytes of a line, of which `line` is all that is there; `ended`: its LF has come.
fn head(line: &[u8], ended: bool) -> Result<Head, Error> {
    let digits = line.get(..3).unwrap_or(line);
    let good = |(at, b): (usize, &u8)| b.is_ascii_digit() && (at > 0 || (b'2'..=b'5').contains(b));
    if !digits.iter().enumerate().all(good) {
        return Err(Error::NotAReply);
    }
    let code = || digits.iter().fold(0, |code, &digit| code * 10 + u16::from(digit - b'0'));
    match line.get(3..) {
        Some([b'-', ..]) => Ok(Head::Code(code(), false)),
        Some([b' ', ..]) => Ok(Head::Code(code(), true)),
        Some([] | [b'\r']) if ended => Ok(Head::Code(code(), true)),
        None | Some([] | [b'\r']) if !ended => Ok(Head::Open),
        _ => Err(Error::NotAReply),
    }
}

/// Takes one reply from the front of `input`.
///
/// `Ok(None)`: not complete, call again with more. What is found depends only on the bytes, not on how they came.
pub fn decode(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Error> {
    let mut class = None;
    let mut status: Option<Status> = None;
    let mut start = 0;
    for _ in 0..MAX_LINES {
        let rest = &input[start..];
        let end = memchr::memchr(b'\n', rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        let head = head(line, end.is_some())?;
        if let Head::Code(code, _) = head
            && *class.get_or_insert(code / 100) != code / 100
        {
            return Err(Error::Disagree);
        }
        if line.len() > MAX_LINE || start + line.len() >= MAX_REPLY {
            return Err(Error::TooLong);
        }
        let (Head::Code(code, last), Some(end)) = (head, end) else { return Ok(None) };
        let text = line.get(4..).unwrap_or_default();
        status = Status::find(text).filter(|status| u16::from(status.class) == code / 100).or(status);
        start += end + 1;
        if last {
            return Ok(Some((Reply { code, status, bytes: &input[..start] }, start)));
        }
    }
    Err(Error::TooLong)
}

/// What a server offers in its reply to EHLO or LHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920: several commands may be sent at once.
    pub pipelining: bool,
    /// RFC 6531: addresses in UTF-8.
    pub smtputf8: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 1870: the largest message; 0 is "no limit told".
    pub size: Option<u64>,
}

impl Capabilities {
    /// Reads the lines after the first. Unknown keywords are passed over; old servers write `AUTH=` and the like.
    pub fn read(reply: &Reply<'_>) -> Capabilities {
        let mut found = Capabilities::default();
        for line in reply.lines().skip(1) {
            let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_slice() {
                b"PIPELINING" => found.pipelining = true,
                b"SMTPUTF8" => found.smtputf8 = true,
                b"ENHANCEDSTATUSCODES" => found.enhanced_status_codes = true,
                b"STARTTLS" => found.starttls = true,
                b"SIZE" => {
                    let number = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
                    found.size = Some(number.unwrap_or(0));
                }
                _ => {}
            }
        }
        found
    }
}

/// Why an address, or a name, can't stand in a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A control byte, `<` or `>`, or nothing at all.
    #[error("the local part can't be written in an SMTP command")]
    LocalPart,
    /// Neither a host name nor an address in brackets.
    #[error("the domain can't be written in an SMTP command")]
    Domain,
    /// 8-bit bytes that are not UTF-8: RFC 6531 has no way to write them.
    #[error("the local part is not UTF-8")]
    NotUtf8,
    /// The command would have more than [`MAX_COMMAND`] bytes.
    #[error("the address is too long for an SMTP command")]
    TooLong,
}

/// An address as it stands between `<` and `>`, quoted where it has to be: safe to be written into a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: Box<[u8]>,
    needs_utf8: bool,
}

/// Longest text of a mailbox: what `MAIL FROM:<> SMTPUTF8` leaves of a command.
const MAX_MAILBOX: usize = MAX_COMMAND - b"MAIL FROM:<> SMTPUTF8\r\n".len();

impl Mailbox {
    /// Writes a local part (without quotes) and a domain (ASCII: an A-label where it is internationalised).
    pub fn new(local: &[u8], domain: &[u8]) -> Result<Mailbox, Unwritable> {
        if local.is_empty() || local.iter().any(|&b| b.is_ascii_control() || b == b'<' || b == b'>') {
            return Err(Unwritable::LocalPart);
        }
        if std::str::from_utf8(local).is_err() {
            return Err(Unwritable::NotUtf8);
        }
        if !is_domain(domain) {
            return Err(Unwritable::Domain);
        }
        let mut text = Vec::with_capacity(local.len() + domain.len() + 1);
        push_local_part(local, &mut text);
        text.push(b'@');
        text.extend_from_slice(domain);
        if text.len() > MAX_MAILBOX {
            return Err(Unwritable::TooLong);
        }
        Ok(Mailbox { text: text.into(), needs_utf8: !local.is_ascii() })
    }

    /// The text between `<` and `>`.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// Whether it can be written only to a server that offers SMTPUTF8.
    pub fn needs_utf8(&self) -> bool {
        self.needs_utf8
    }
}

fn is_domain(domain: &[u8]) -> bool {
    let inner = match domain {
        [b'[', inner @ .., b']'] => inner,
        _ => domain,
    };
    let literal = inner.len() != domain.len();
    let good = |&b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_') || literal && b == b':';
    !inner.is_empty() && domain.len() <= 255 && inner.iter().all(good)
}

/// RFC 5321, 4.1.2: a dot-string as it is, all else as a quoted string.
fn push_local_part(local: &[u8], out: &mut Vec<u8>) {
    let is_atext = |b: &u8| b.is_ascii_alphanumeric() || !b.is_ascii() || b"!#$%&'*+-/=?^_`{|}~".contains(b);
    if local.split(|&b| b == b'.').all(|atom| !atom.is_empty() && atom.iter().all(is_atext)) {
        out.extend_from_slice(local);
        return;
    }
    out.push(b'"');
    for &b in local {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(b);
    }
    out.push(b'"');
}

/// Our name in a greeting: a host name, or an address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostName(Box<[u8]>);

impl HostName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<HostName, Unwritable> {
        if is_domain(name.as_bytes()) { Ok(HostName(name.as_bytes().into())) } else { Err(Unwritable::Domain) }
    }
}

/// What we say. There is no DATA, VRFY or EXPN on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// `EHLO name`.
    Ehlo(&'a HostName),
    /// `HELO name`.
    Helo(&'a HostName),
    /// `LHLO name`.
    Lhlo(&'a HostName),
    /// `STARTTLS`.
    StartTls,
    /// `MAIL FROM:<...>`.
    Mail {
        /// `None`: the null reverse-path.
        sender: Option<&'a Mailbox>,
        /// With `SMTPUTF8`.
        utf8: bool,
    },
    /// `RCPT TO:<...>`.
    Rcpt(&'a Mailbox),
    /// `RSET`.
    Rset,
    /// `QUIT`.
    Quit,
}

impl Command<'_> {
    /// Appends the command with its CRLF: at most [`MAX_COMMAND`] bytes, one line whatever it was made of.
    pub fn write(&self, out: &mut Vec<u8>) {
        let parts: [&[u8]; 3] = match self {
            Command::Ehlo(name) => [b"EHLO ", &name.0, b""],
            Command::Helo(name) => [b"HELO ", &name.0, b""],
            Command::Lhlo(name) => [b"LHLO ", &name.0, b""],
            Command::StartTls => [b"STARTTLS", b"", b""],
            Command::Mail { sender, utf8 } => {
                let path = sender.map_or(&b""[..], |mailbox| mailbox.bytes());
                [b"MAIL FROM:<", path, if *utf8 { b"> SMTPUTF8" } else { b">" }]
            }
            Command::Rcpt(mailbox) => [b"RCPT TO:<", mailbox.bytes(), b">"],
            Command::Rset => [b"RSET", b"", b""],
            Command::Quit => [b"QUIT", b"", b""],
        };
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address;
    use proptest::prelude::*;

    fn one(input: &[u8]) -> (u16, Option<String>, usize) {
        match decode(input) {
            Ok(Some((reply, used))) => (reply.code, reply.status.map(|s| s.to_string()), used),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_ends_with_its_last_line() {
        assert_eq!(one(b"250 2.1.5 ok\r\nrest"), (250, Some("2.1.5".into()), 14));
        assert_eq!(one(b"250\r\n"), (250, None, 5));
        assert_eq!(one(b"250\n"), (250, None, 4));
        assert_eq!(one(b"250 \n"), (250, None, 5));
        assert_eq!(one(b"220-one\n220-\r\n220 three\n220 x\n").2, 24);
        assert_eq!(one(b"550-5.1.1 a\r\n551 b\r\n"), (551, Some("5.1.1".into()), 20));
        for open in [&b""[..], b"2", b"25", b"250", b"250\r", b"250 ok", b"250 ok\r", b"250-ok\r\n", b"250-ok\r\n250"] {
            assert_eq!(decode(open), Ok(None), "{}", open.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_reply() {
        for bad in
            [&b"2x"[..], b"x", b"\r\n", b"\n", b"25\n", b"2500", b"250ok", b"250\rx", b"199 x", b"600 x", b"650", b"\0"]
        {
            assert_eq!(decode(bad), Err(Error::NotAReply), "{}", bad.escape_ascii());
        }
        assert_eq!(decode(b"250-a\r\nhello\r\n"), Err(Error::NotAReply));
        assert_eq!(decode(b"250-a\r\n550 b\r\n"), Err(Error::Disagree));
        assert_eq!(decode(&[b"250 ".as_slice(), &[b'x'; 2044]].concat()), Ok(None));
        assert_eq!(decode(&[b"250 ".as_slice(), &[b'x'; 2045]].concat()), Err(Error::TooLong));
        assert_eq!(decode(&b"250-a\r\n".repeat(99)), Ok(None));
        assert_eq!(decode(&b"250-a\r\n".repeat(100)), Err(Error::TooLong));
        assert_eq!(decode(&[b"250-".as_slice(), &[b'x'; 1500], b"\n"].concat().repeat(30)), Err(Error::TooLong));
    }

    #[test]
    fn the_enhanced_code_stands_first_or_last() {
        let status = |text: &str| one(format!("{text}\r\n").as_bytes()).1.unwrap_or_default();
        for (text, found) in [
            ("550 5.1.1 User unknown", "5.1.1"),
            ("550 5.1.1", "5.1.1"),
            ("550 5.1.10 x", "5.1.10"),
            ("553 sorry, not in rcpthosts (#5.7.1)", "5.7.1"),
            ("511 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "5.1.1"),
            ("550 no (#5.1.1) here", ""),
            ("550 4.1.1 odd", ""),
            ("550 5.1 odd", ""),
            ("550 5.1.1.1 odd", ""),
            ("550 5.1234.1 odd", ""),
            ("550 x 5.1.1", ""),
            ("550 <a@b>: 5.1.1", ""),
            ("550-5.7.1 blocked\r\n550 see http://x.example/", "5.7.1"),
            ("550-Callout failed\r\n550 5.1.1 User unknown", "5.1.1"),
            ("550-5.7.1 no\r\n550 5.1.1 User unknown", "5.1.1"),
        ] {
            assert_eq!(status(text), found, "{text}");
        }
    }

    #[test]
    fn capabilities_are_the_lines_after_the_first() {
        let input = b"250-pipelining.example\r\n250-Pipelining\r\n250-SIZE 1000\r\n250-AUTH=LOGIN\r\n250 starttls\r\n";
        let (reply, _) = decode(input).expect("a reply").expect("a whole one");
        let expected = Capabilities { pipelining: true, starttls: true, size: Some(1000), ..Capabilities::default() };
        assert_eq!(Capabilities::read(&reply), expected);
        let (reply, _) = decode(b"250 PIPELINING\r\n").expect("a reply").expect("a whole one");
        assert_eq!(Capabilities::read(&reply), Capabilities::default());
    }

    fn rcpt(local: &[u8], domain: &str) -> Result<String, Unwritable> {
        let mailbox = Mailbox::new(local, domain.as_bytes())?;
        let mut out = Vec::new();
        Command::Rcpt(&mailbox).write(&mut out);
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn addresses_are_quoted_where_needed_and_refused_where_nothing_helps() {
        for (local, written) in [
            ("bob", "bob"),
            ("bob.b+x", "bob.b+x"),
            ("a b", "\"a b\""),
            (".bob", "\".bob\""),
            ("a..b", "\"a..b\""),
            ("a\"b\\", r#""a\"b\\""#),
            ("a@b", "\"a@b\""),
            ("j\u{fc}rgen", "j\u{fc}rgen"),
        ] {
            assert_eq!(rcpt(local.as_bytes(), "x.example"), Ok(format!("RCPT TO:<{written}@x.example>\r\n")));
        }
        assert_eq!(rcpt(b"a", "[IPv6:2001:db8::1]"), Ok("RCPT TO:<a@[IPv6:2001:db8::1]>\r\n".into()));
        for bad in [&b""[..], b"a\r\nDATA", b"a\nb", b"a\0b", b"a>b", b"<a", b"a\x7f"] {
            assert_eq!(rcpt(bad, "x.example"), Err(Unwritable::LocalPart));
        }
        assert_eq!(rcpt(b"a\xfcb", "x.example"), Err(Unwritable::NotUtf8));
        for bad in ["", "x y", "x\r\n", "x>", "x:25", "[]", "b\u{fc}cher.example", "a@b"] {
            assert_eq!(rcpt(b"a", bad), Err(Unwritable::Domain), "{bad}");
        }
        assert_eq!(rcpt(&[b'a'; 255], &"b".repeat(240)), Err(Unwritable::TooLong));
        assert!(HostName::new("gw.relay.example").is_ok() && HostName::new("[192.0.2.1]").is_ok());
        assert!(HostName::new("").is_err() && HostName::new("gw\r\nDATA").is_err());
    }

    #[test]
    fn commands_in_words() {
        let name = HostName::new("gw.example").expect("a name");
        let anna = Mailbox::new(b"anna", b"x.example").expect("an address");
        let mut out = Vec::new();
        for command in [
            Command::Ehlo(&name),
            Command::Helo(&name),
            Command::Lhlo(&name),
            Command::StartTls,
            Command::Mail { sender: None, utf8: false },
            Command::Mail { sender: Some(&anna), utf8: true },
            Command::Rset,
            Command::Quit,
        ] {
            command.write(&mut out);
        }
        let expected = "EHLO gw.example\r\nHELO gw.example\r\nLHLO gw.example\r\nSTARTTLS\r\nMAIL FROM:<>\r\n\
                        MAIL FROM:<anna@x.example> SMTPUTF8\r\nRSET\r\nQUIT\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    /// Bytes that look like replies more often than not.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"250".to_vec()),
            Just(b"550-".to_vec()),
            Just(b"550 5.1.1 x".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b" (#5.1.1)".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn decode_never_panics_and_does_not_mind_pieces(input in noise()) {
            let whole = decode(&input);
            let first = (0..=input.len()).map(|n| decode(&input[..n])).find(|r| *r != Ok(None));
            prop_assert_eq!(whole, first.unwrap_or(Ok(None)));
        }

        #[test]
        fn a_reply_comes_back(code in 200u16..600, texts in proptest::collection::vec("[^\r\n]{0,40}", 1..6)) {
            let last = texts.len() - 1;
            let line = |(at, text)| format!("{code}{}{text}\r\n", if at == last { ' ' } else { '-' });
            let input: String = texts.iter().enumerate().map(line).collect();
            let (reply, used) = decode(input.as_bytes()).expect("a reply").expect("a whole one");
            prop_assert_eq!((reply.code, used), (code, input.len()));
            prop_assert!(reply.lines().eq(texts.iter().map(|text| text.as_bytes())));
        }

        #[test]
        fn nothing_injects_a_command(local in proptest::collection::vec(any::<u8>(), 0..300), domain in "\\PC{0,30}") {
            if let Ok(text) = rcpt(&local, &domain) {
                prop_assert!(text.len() <= MAX_COMMAND);
                prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
                prop_assert_eq!(text.find('\r'), Some(text.len() - 2));
                prop_assert_eq!(text.find('<'), Some(8));
                prop_assert_eq!(text.find('>'), Some(text.len() - 3));
            }
        }

        #[test]
        fn what_is_written_is_read_back(local in "[ -;=?-~\u{e4}\u{fc}]{1,40}") {
            let mailbox = Mailbox::new(local.as_bytes(), b"x.example").expect("only good bytes");
            let raw = address::split(mailbox.bytes()).expect("an address");
            prop_assert_eq!(raw.domain, b"x.example");
            let mut out = Vec::new();
            match address::fold_local_part(raw.local, true, &mut out) {
                Ok(folded) => prop_assert_eq!(folded.bytes(), local.as_bytes()),
                Err(odd) => prop_assert!(local.contains(['%', '!']), "{odd}"),
            }
        }
    }
}
