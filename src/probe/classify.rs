//! What a reply proves about a recipient, by stage and code: the one table that turns SMTP into verdicts.
//!
//! PROTOCOLS.md sections 8.2 and 8.3, DESIGN.md 11.10. The rule above all others: only an answer to RCPT that speaks of
//! the recipient is "absent". A refusal before RCPT is about us, 5.7.x is about policy, 4xx and nonsense prove nothing.

use std::fmt;
use std::time::Duration;

use crate::proto::smtp::{self, Reply, Status};

/// How far a probe has come: names for people, and the place that a time-out is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The host's name is looked up.
    Resolve,
    /// The connection is made.
    Connect,
    /// The server's greeting is awaited.
    Banner,
    /// EHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// LHLO.
    Lhlo,
    /// The STARTTLS command.
    StartTls,
    /// The handshake that follows it.
    Tls,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
    /// Nothing is under way.
    Idle,
}

impl Stage {
    /// The word for logs.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Resolve => "name look-up",
            Stage::Connect => "connect",
            Stage::Banner => "banner",
            Stage::Ehlo => "EHLO",
            Stage::Helo => "HELO",
            Stage::Lhlo => "LHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Tls => "TLS handshake",
            Stage::Mail => "MAIL FROM",
            Stage::Rcpt => "RCPT TO",
            Stage::Rset => "RSET",
            Stage::Quit => "QUIT",
            Stage::Idle => "idle",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long "absent" may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// As configured.
    Full,
    /// Not long: a disabled mailbox comes back sooner than a new one is made.
    Short,
    /// Not at all: it was the spelling that was refused (501), not the mailbox.
    Once,
}

/// What a reply means at its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// The dialogue goes on.
    GoOn,
    /// EHLO is not spoken here; HELO may be.
    FallBack,
    /// The recipient exists.
    Exists {
        /// The server would take it but did not verify (252).
        weak: bool,
    },
    /// There is no such recipient.
    Absent(Life),
    /// Too many recipients in this transaction: to be asked again in a new one. In the first place of a transaction:
    /// unknown.
    TooMany,
    /// It proves nothing about the recipient.
    Unknown {
        /// Something is wrong between us and the server, which people should hear of.
        alarm: bool,
        /// The session is of no further use.
        close: bool,
    },
}

const UNKNOWN: Judgement = Judgement::Unknown { alarm: false, close: false };
const ALARM: Judgement = Judgement::Unknown { alarm: true, close: false };
const CLOSE: Judgement = Judgement::Unknown { alarm: false, close: true };
const ALARM_AND_CLOSE: Judgement = Judgement::Unknown { alarm: true, close: true };
const ABSENT: Judgement = Judgement::Absent(Life::Full);

/// The table. `absent_codes`: what else means "unknown user" at this next hop.
pub fn judge(stage: Stage, reply: &Reply<'_>, absent_codes: &[Status]) -> Judgement {
    match (stage, reply.class()) {
        (Stage::Quit, _) => Judgement::GoOn,
        (_, 3) => CLOSE,
        _ if reply.code == 421 => CLOSE,
        (Stage::Rcpt, 2) => Judgement::Exists { weak: reply.code == 252 },
        (Stage::Rcpt, 5) => refused(reply, absent_codes),
        (Stage::Rcpt, _) => match (reply.code, reply.status) {
            (452, None | Some(Status { subject: 5, detail: 3, .. })) => Judgement::TooMany,
            _ => UNKNOWN,
        },
        (_, 2) => Judgement::GoOn,
        // A greeting or a reverse-path that is refused for good is a matter for people: it will not pass by itself.
        (Stage::Ehlo, 5) if !matches!(reply.code, 550 | 554) => Judgement::FallBack,
        (Stage::Mail, _) => ALARM,
        (Stage::StartTls, _) => UNKNOWN,
        (Stage::Ehlo | Stage::Helo | Stage::Lhlo, _) | (Stage::Banner, 5) => ALARM_AND_CLOSE,
        _ => CLOSE,
    }
}

/// A 5xx to RCPT (PROTOCOLS.md, 8.3).
fn refused(reply: &Reply<'_>, absent_codes: &[Status]) -> Judgement {
    match reply.code {
        // Syntax, sequence, authentication, parameters; a domain that takes no mail (RFC 7504). Whatever the enhanced
        // code says: these are not about this recipient.
        500 | 502 | 503 | 504 | 530 | 535 | 555 | 556 => return ALARM,
        _ => {}
    }
    let judgement = match reply.status {
        Some(status) if absent_codes.contains(&status) => ABSENT,
        Some(status) => match (status.subject, status.detail) {
            (1, 0 | 1 | 3 | 4 | 6 | 10) => ABSENT,
            (1, 2 | 7 | 8) | (4, 4 | 6) => ALARM,
            (2, 1) => Judgement::Absent(Life::Short),
            // OpenSMTPD's word for an unknown user of a virtual table
            (2, 4) => ABSENT,
            (5, 3) => Judgement::TooMany,
            // 5.7.x is policy, 5.2.2 says that the mailbox exists, 5.0.0 and the rest say nothing.
            _ => UNKNOWN,
        },
        None => match reply.code {
            501 | 550 | 551 | 553 => ABSENT,
            // RFC 821 servers say "too many recipients" with it
            552 => Judgement::TooMany,
            _ => UNKNOWN,
        },
    };
    match judgement {
        ABSENT if reply.code == 501 => Judgement::Absent(Life::Once),
        other => other,
    }
}

/// Longest part of a server's text that is repeated.
const MAX_TEXT: usize = 200;

/// What happened, for a reason's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server said this; its last line, printable, at most 200 bytes of it.
    Reply {
        /// The code.
        code: u16,
        /// The enhanced status code.
        status: Option<Status>,
        /// The line, with its codes.
        line: Box<str>,
    },
    /// It said nothing for so long.
    Silence(Duration),
    /// All in all it took longer than this.
    TooSlow(Duration),
    /// It slowed down after so many refusals.
    SlowedDown(u32),
    /// It closed the connection.
    Closed,
    /// The system's words for a connection that failed or broke, or for a name that could not be looked up.
    Error(Box<str>),
    /// What it said is no SMTP.
    Garbage(smtp::Error),
    /// It answered what was not asked, or before it was asked.
    OutOfStep,
    /// The address needs SMTPUTF8, which is not offered.
    NoUtf8,
    /// STARTTLS is required and not offered.
    NoTls,
    /// It refused the recipient, but refuses the address as well that is known to be good.
    Canary,
    /// It took the recipient, but takes everything.
    Blind,
    /// All its servers are being left alone for a while.
    Down,
    /// So many questions wait already.
    Full,
    /// It did not answer before the asker had to be answered.
    Deadline,
    /// The address can't be written in a command.
    Unwritable(smtp::Unwritable),
    /// The next hop is no longer configured.
    Unconfigured,
}

impl Cause {
    /// A server's reply.
    pub fn reply(reply: &Reply<'_>) -> Cause {
        let line = reply.last_line();
        let text = line[..line.len().min(MAX_TEXT)].escape_ascii().to_string();
        Cause::Reply { code: reply.code, status: reply.status, line: text.into() }
    }

    /// The system's words, printable, and not without end.
    pub fn error(text: &str) -> Cause {
        Cause::Error(text.chars().map(|c| if c.is_control() { '?' } else { c }).take(MAX_TEXT).collect())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Reply { line, .. } => f.write_str(line),
            Cause::Silence(time) => write!(f, "no reply within {time:?}"),
            Cause::TooSlow(time) => write!(f, "not done within {time:?}"),
            Cause::SlowedDown(refusals) => write!(f, "slowed down after {refusals} refusals"),
            Cause::Closed => f.write_str("the server closed the connection"),
            Cause::Error(text) => f.write_str(text),
            Cause::Garbage(error) => error.fmt(f),
            Cause::OutOfStep => f.write_str("the server answered what was not asked"),
            Cause::NoUtf8 => f.write_str("the server does not offer SMTPUTF8"),
            Cause::NoTls => f.write_str("the server does not offer STARTTLS, which is required"),
            Cause::Canary => f.write_str("refused, but known_good is refused as well"),
            Cause::Blind => f.write_str("taken, but a made-up address is taken as well"),
            Cause::Down => f.write_str("no server can be reached, next try later"),
            Cause::Full => f.write_str("too many questions wait already"),
            Cause::Deadline => f.write_str("no answer in time"),
            Cause::Unwritable(error) => error.fmt(f),
            Cause::Unconfigured => f.write_str("the next hop is no longer configured"),
        }
    }
}

/// What was found out, where, and why: `RCPT TO: 550 5.1.1 User unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub stage: Stage,
    /// What it means.
    pub judgement: Judgement,
    /// Why.
    pub cause: Cause,
}

impl Finding {
    /// What a failure means: nothing.
    pub fn failure(stage: Stage, cause: Cause) -> Finding {
        Finding { stage, judgement: CLOSE, cause }
    }

    /// Whether people should hear of it.
    pub fn is_alarm(&self) -> bool {
        matches!(self.judgement, Judgement::Unknown { alarm: true, .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(judgement: Judgement) -> String {
        match judgement {
            Judgement::GoOn => "go on".into(),
            Judgement::FallBack => "HELO".into(),
            Judgement::Exists { weak } => if weak { "exists weak" } else { "exists" }.into(),
            Judgement::Absent(Life::Full) => "absent".into(),
            Judgement::Absent(Life::Short) => "absent short".into(),
            Judgement::Absent(Life::Once) => "absent once".into(),
            Judgement::TooMany => "too many".into(),
            Judgement::Unknown { alarm, close } => {
                format!("unknown{}{}", if alarm { " alarm" } else { "" }, if close { " close" } else { "" })
            }
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let rows = include_str!("../../tests/vectors/smtp/verdicts.txt");
        let (mut count, mut bad) = (0, Vec::new());
        for row in rows.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
            let fields: Vec<&str> = row.split('|').map(str::trim).collect();
            let [name, stage, bytes, codes, expected] = fields[..] else { panic!("{row}") };
            let stage = match stage {
                "banner" => Stage::Banner,
                "ehlo" => Stage::Ehlo,
                "helo" => Stage::Helo,
                "lhlo" => Stage::Lhlo,
                "starttls" => Stage::StartTls,
                "mail" => Stage::Mail,
                "rcpt" => Stage::Rcpt,
                "rset" => Stage::Rset,
                "quit" => Stage::Quit,
                other => panic!("{other}"),
            };
            let codes: Vec<Status> = codes.split_whitespace().map(|c| c.parse().expect("a status")).collect();
            let bytes = bytes.replace("\\r", "\r").replace("\\n", "\n").replace("{3000}", &"x".repeat(3000));
            let found = match smtp::decode(bytes.as_bytes()) {
                Ok(Some((reply, used))) => {
                    assert_eq!(used, bytes.len(), "{row}");
                    words(judge(stage, &reply, &codes))
                }
                Ok(None) => "open".into(),
                Err(error) => error.to_string(),
            };
            count += 1;
            if found != expected {
                bad.push(format!("{name}: {found}, not {expected}"));
            }
        }
        assert!(bad.is_empty(), "{bad:#?}");
        assert!(count > 70, "only {count} rows");
    }

    #[test]
    fn only_rcpt_can_say_absent() {
        for stage in [Stage::Banner, Stage::Ehlo, Stage::Helo, Stage::Lhlo, Stage::StartTls, Stage::Mail, Stage::Rset] {
            for code in 200..600 {
                let text = format!("{code} {}.1.1 User unknown\r\n", code / 100);
                let (reply, _) = smtp::decode(text.as_bytes()).expect("a reply").expect("a whole one");
                let judgement = judge(stage, &reply, &[Status { class: 5, subject: 1, detail: 1 }]);
                assert!(!matches!(judgement, Judgement::Absent(_) | Judgement::Exists { .. }), "{stage} {code}");
            }
        }
    }

    #[test]
    fn a_reason_names_stage_code_and_text_and_is_printable() {
        let (reply, _) = smtp::decode(b"550 5.1.1 no\x07 \xfcser\r\n").expect("a reply").expect("a whole one");
        let finding = Finding { stage: Stage::Rcpt, judgement: ABSENT, cause: Cause::reply(&reply) };
        assert_eq!(finding.to_string(), "RCPT TO: 550 5.1.1 no\\x07 \\xfcser");
        let finding = Finding::failure(Stage::Banner, Cause::Silence(Duration::from_secs(3)));
        assert_eq!(finding.to_string(), "banner: no reply within 3s");
    }
}
