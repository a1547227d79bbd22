//! The words that all layers share: the verdict about a recipient and the SMTP reply that says it.
//!
//! Specification: RFC 5321 section 4.2 (reply codes), RFC 3463 (enhanced status codes).

use std::fmt;
use std::str::FromStr;

/// What we can say about a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The recipient exists.
    Exists,
    /// The recipient's domain is ours, and the recipient does not exist (or is refused by an entry of its own).
    Absent,
    /// We can't tell now: the client must try again later. Never to be written as "absent".
    Unknown,
    /// The domain is not one of ours.
    Foreign,
}

impl Verdict {
    /// Every verdict, in the order in which counters and tables list them.
    pub const ALL: [Verdict; 4] = [Verdict::Exists, Verdict::Absent, Verdict::Unknown, Verdict::Foreign];

    /// The word for people, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Exists => "exists",
            Verdict::Absent => "absent",
            Verdict::Unknown => "unknown",
            Verdict::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A complete SMTP reply: `550 5.1.1 User unknown`.
///
/// Nearly always of one line. Only a milter can say more of them; all other protocols say the first.
///
/// Made of printable ASCII without double quotes, so it can be put into every protocol, and between quotes in a sendmail
/// rule, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    /// Code, blank, enhanced status code, blank, text.
    line: Box<str>,
    status_len: u8,
    /// Texts of further lines, without the codes.
    further: Box<[Box<str>]>,
}

/// Where the enhanced status code begins in a reply line.
const STATUS_AT: usize = 4;

/// Longest reply line that we send, without CRLF (RFC 5321, 4.5.3.1.5, allows 512 with it).
pub const MAX_REPLY: usize = 400;

/// Most lines of a reply, as sendmail takes them from a milter.
pub const MAX_LINES: usize = 32;

/// Why a text is no reply that refuses a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It does not begin with a code from 400 to 599.
    #[error("a reply begins with a code from 400 to 599, as in \"550 5.1.1 User unknown\"")]
    Code,
    /// The enhanced status code is of another class than the reply code (Postfix then drops the filter for the session).
    #[error("the enhanced status code must be of the same class as the reply code (5.x.x with 5xx, 4.x.x with 4xx)")]
    Class,
    /// There is nothing after the codes.
    #[error("a reply needs a text after its codes")]
    Text,
    /// Too long for one reply line.
    #[error("a reply may have at most 400 bytes")]
    Length,
    /// Too many lines.
    #[error("a reply may have at most 32 lines")]
    Lines,
}

impl Reply {
    /// A reply out of its parts; `status` as in `5.1.1`. Bytes other than printable ASCII become `?`.
    pub fn new(code: u16, status: &str, text: &str) -> Result<Reply, ReplyError> {
        if !(400..600).contains(&code) {
            return Err(ReplyError::Code);
        }
        if !is_status(status) || status.as_bytes()[0] != b'0' + (code / 100) as u8 {
            return Err(ReplyError::Class);
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(ReplyError::Text);
        }
        if STATUS_AT + status.len() + 1 + text.len() > MAX_REPLY {
            return Err(ReplyError::Length);
        }
        let line = format!("{code} {status} {}", clean(text)).into();
        Ok(Reply { line, status_len: status.len() as u8, further: Box::default() })
    }

    /// The same with further lines of text. An empty one is `-`, since a line without a text is none for some servers.
    pub fn with_lines<'a>(self, further: impl IntoIterator<Item = &'a str>) -> Result<Reply, ReplyError> {
        let line = |text: &str| match text.trim() {
            "" => "-".into(),
            text => clean(text).into(),
        };
        let further: Box<[Box<str>]> = further.into_iter().map(line).collect();
        if further.len() >= MAX_LINES {
            return Err(ReplyError::Lines);
        }
        if further.iter().any(|text| STATUS_AT + usize::from(self.status_len) + 1 + text.len() > MAX_REPLY) {
            return Err(ReplyError::Length);
        }
        Ok(Reply { further, ..self })
    }

    /// The default for a recipient that does not exist.
    pub fn absent() -> Reply {
        Reply { line: "550 5.1.1 User unknown".into(), status_len: 5, further: Box::default() }
    }

    /// The default for a recipient that we can't tell about now.
    pub fn unknown() -> Reply {
        let line = "451 4.3.0 Recipient lookup failed, try again later".into();
        Reply { line, status_len: 5, further: Box::default() }
    }

    /// The texts of further lines.
    pub fn further(&self) -> impl ExactSizeIterator<Item = &str> {
        self.further.iter().map(|text| &**text)
    }

    /// The whole line, without CRLF.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The reply code, 400 to 599.
    pub fn code(&self) -> u16 {
        self.line.bytes().take(3).fold(0, |code, digit| code * 10 + u16::from(digit - b'0'))
    }

    /// The enhanced status code, as in `5.1.1`.
    pub fn status(&self) -> &str {
        &self.line[STATUS_AT..STATUS_AT + usize::from(self.status_len)]
    }

    /// The text for people, without the codes.
    pub fn text(&self) -> &str {
        &self.line[STATUS_AT + usize::from(self.status_len) + 1..]
    }

    /// Enhanced status code and text: what stands after the reply code.
    pub fn status_and_text(&self) -> &str {
        &self.line[STATUS_AT..]
    }

    /// Whether it says "try again later" (4xx).
    pub fn is_temporary(&self) -> bool {
        self.line.starts_with('4')
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl FromStr for Reply {
    type Err = ReplyError;

    /// Reads `550 5.1.1 User unknown`, and further lines of text behind it; without an enhanced status code the general one of its class is put in
    /// (`5.0.0`; sendmail would do the same).
    fn from_str(s: &str) -> Result<Reply, ReplyError> {
        if let Some((first, further)) = s.trim().split_once('\n') {
            return first.parse::<Reply>()?.with_lines(further.split('\n'));
        }
        let (code, rest) = s.trim().split_once(' ').ok_or(ReplyError::Code)?;
        if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ReplyError::Code);
        }
        let code: u16 = code.parse().map_err(|_| ReplyError::Code)?;
        let rest = rest.trim_start();
        match rest.split_once(' ') {
            Some((status, text)) if is_status(status) => Reply::new(code, status, text),
            None if is_status(rest) => Err(ReplyError::Text),
            _ => Reply::new(code, if code < 500 { "4.0.0" } else { "5.0.0" }, rest),
        }
    }
}

/// Text that can be put into every protocol.
fn clean(text: &str) -> String {
    let clean = |c| match c {
        '"' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(clean).collect()
}

/// Whether `s` is an enhanced status code: class 2, 4 or 5, subject and detail of one to three digits (RFC 3463, 2).
pub fn is_status(s: &str) -> bool {
    let mut parts = s.split('.');
    let digits =
        |p: Option<&str>| p.is_some_and(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    matches!(parts.next(), Some("2" | "4" | "5"))
        && digits(parts.next())
        && digits(parts.next())
        && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_read_and_written_back() {
        for text in ["550 5.1.1 User unknown", "451 4.3.0 Recipient lookup failed, try again later"] {
            assert_eq!(text.parse::<Reply>().map(|r| r.to_string()), Ok(text.to_owned()));
        }
        let reply: Reply = "550 5.7.1 Left the company".parse().expect("a good reply");
        assert_eq!((reply.code(), reply.status(), reply.text()), (550, "5.7.1", "Left the company"));
    }

    #[test]
    fn further_lines_are_texts_without_codes() {
        let reply: Reply = "550 5.1.1 User unknown\n\nSee \"https://a.example/\"\n".parse().expect("a good reply");
        assert_eq!((reply.line(), reply.text()), ("550 5.1.1 User unknown", "User unknown"));
        assert_eq!(reply.further().collect::<Vec<_>>(), ["-", "See 'https://a.example/'"]);
        assert_eq!(format!("550 5.1.1 a{}", "\nb".repeat(32)).parse::<Reply>(), Err(ReplyError::Lines));
        assert_eq!(format!("550 5.1.1 a\n{}", "x".repeat(400)).parse::<Reply>(), Err(ReplyError::Length));
        assert_eq!("nonsense\n550 5.1.1 a".parse::<Reply>(), Err(ReplyError::Code));
    }

    #[test]
    fn a_missing_status_is_the_general_one() {
        assert_eq!("550 User unknown".parse::<Reply>().map(|r| r.to_string()), Ok("550 5.0.0 User unknown".into()));
        assert_eq!("450 5 apples".parse::<Reply>().map(|r| r.to_string()), Ok("450 4.0.0 5 apples".into()));
    }

    #[test]
    fn what_is_no_refusal_is_refused() {
        assert_eq!("250 2.1.5 ok".parse::<Reply>(), Err(ReplyError::Code));
        assert_eq!("5500 x".parse::<Reply>(), Err(ReplyError::Code));
        assert_eq!("REJECT".parse::<Reply>(), Err(ReplyError::Code));
        assert_eq!("550 4.1.1 odd".parse::<Reply>(), Err(ReplyError::Class));
        assert_eq!("550 5.1.1".parse::<Reply>(), Err(ReplyError::Text));
        assert_eq!(format!("550 5.1.1 {}", "x".repeat(500)).parse::<Reply>(), Err(ReplyError::Length));
    }

    #[test]
    fn control_bytes_8bit_bytes_and_quotes_cannot_get_into_a_reply() {
        let reply = Reply::new(550, "5.1.1", "a\r\nb\u{fc} \"c\"").expect("a good reply");
        assert_eq!(reply.text(), "a??b? 'c'");
    }
}
