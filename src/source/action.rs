//! What the value of a sendmail table does with a recipient: `OK`, `REJECT`, `ERROR:5.1.1:"550 text"`, `450 text`.
//!
//! Access file and virtusertable of sendmail (cf/README, "ACCESS DATABASE" and "VIRTUSER DOMAIN"); transport maps of
//! Postfix have a part of it. Nobody's case matters.

use crate::verdict::{MAX_REPLY, Reply, is_status};

use super::Fault;
use super::syntax::unquoted;

/// What a value says about its recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It exists: `OK`, `RELAY`; also `DISCARD` and `QUARANTINE:`, whose effect is the MTA's.
    Accept,
    /// No opinion.
    Skip,
    /// It is refused.
    Refuse(Option<Reply>),
}

/// Reads the value of an access file.
pub(super) fn access(value: &[u8]) -> Result<Action, Fault> {
    let text = String::from_utf8_lossy(value);
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("OK") || is("RELAY") || is("DISCARD") || strip(&text, "QUARANTINE:").is_some() {
        Ok(Action::Accept)
    } else if is("SKIP") || is("DUNNO") {
        Ok(Action::Skip)
    } else if is("ERROR") {
        Ok(Action::Refuse(None))
    } else if let Some(reply) = refusal(&text) {
        Ok(Action::Refuse(reply))
    } else if code(&text).is_some() {
        Ok(Action::Refuse(said(&text, None)))
    } else {
        Err(Fault::Value)
    }
}

/// What a value refuses with that begins with a word for it; none: it does not begin with one.
fn refusal(text: &str) -> Option<Option<Reply>> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    let behind = |word: &str| strip(text, word)?.strip_prefix(' ');
    if is("REJECT") {
        // confRCPTREJ_MSG
        Some(make(550, "5.2.1", "Mailbox disabled for this recipient"))
    } else if let Some(text) = behind("REJECT") {
        // Postfix's (access(5)), as the next ones
        Some(said_as(Class::Never, text, "5.7.1"))
    } else if is("DEFER") || is("DEFER_IF_PERMIT") {
        Some(make(450, "4.7.1", "Try again later"))
    } else if let Some(text) = behind("DEFER").or_else(|| behind("DEFER_IF_PERMIT")) {
        Some(said_as(Class::Later, text, "4.7.1"))
    } else {
        strip(text, "ERROR:").map(error_mailer)
    }
}

/// What follows `error:` in a virtusertable, mailertable or access file: `5.7.0:550 text`, `nouser 550 text`, `text`.
/// `None`: it says nothing of its own.
pub fn error_mailer(rest: &str) -> Option<Reply> {
    let (first, text) = rest.split_once([':', ' ', '\t']).unwrap_or((rest, ""));
    match word_status(first) {
        Some(status) => said(text, Some(status)).or_else(|| default_text(status)),
        None if is_status(first) && !first.starts_with('2') => said(text, Some(first)).or_else(|| default_text(first)),
        None => said(rest, None),
    }
}

/// Whether a value that follows no rule of ours begins with `4xx` or `5xx` and a blank, or with a word by which an access
/// file refuses, or Exim.
pub(super) fn is_refusal(value: &[u8]) -> bool {
    match value {
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', ..] => true,
        // Most values begin otherwise, and are not looked at further.
        [b'R' | b'r' | b'D' | b'd' | b'E' | b'e' | b':', ..] => {
            let text = String::from_utf8_lossy(value);
            refusal(&text).is_some() || [":fail:", ":defer:"].iter().any(|word| strip(&text, word).is_some())
        }
        _ => false,
    }
}

/// What a word says that decides whether it is for now or for good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// 4xx
    Later,
    /// 5xx
    Never,
}

/// `[550 ][5.1.1 ]text`, perhaps in quotes. A status inside the text wins over `status`, the class of the reply code
/// over that of the status.
pub(super) fn said(text: &str, status: Option<&str>) -> Option<Reply> {
    worded(None, text, status)
}

/// The same behind a word whose class the text does not change: `DEFER 5.7.1 not now` is 450 4.7.1.
pub(super) fn said_as(class: Class, text: &str, status: &str) -> Option<Reply> {
    worded(Some(class), text, Some(status))
}

fn worded(class: Option<Class>, text: &str, status: Option<&str>) -> Option<Reply> {
    let text = text.trim();
    let text = std::str::from_utf8(unquoted(text.as_bytes())).unwrap_or(text).trim();
    let (number, rest) = match code(text) {
        Some(number) => (Some(number), text.get(4..).unwrap_or_default().trim_start()),
        None => (None, text),
    };
    let (inner, rest) = match rest.split_once(' ') {
        Some((first, rest)) if is_status(first) => (Some(first), rest),
        None if is_status(rest) => (Some(rest), ""),
        _ => (None, rest),
    };
    let status = inner.or(status);
    let of = |class, number: &u16| (class == Class::Later) == (*number < 500);
    let by_status = if status.is_some_and(|s| s.starts_with('4')) { Class::Later } else { Class::Never };
    let number = number.filter(|number| class.is_none_or(|class| of(class, number)));
    let number = number.unwrap_or(match class.unwrap_or(by_status) {
        Class::Later => 450,
        Class::Never => 550,
    });
    let class = if number < 500 { '4' } else { '5' };
    let status = match status.and_then(|s| s.get(1..)) {
        Some(rest) => format!("{class}{rest}"),
        None => format!("{class}.0.0"),
    };
    if rest.trim().is_empty() && inner.is_none() && text.is_empty() {
        return None;
    }
    make(number, &status, if rest.trim().is_empty() { words(&status) } else { rest })
}

fn default_text(status: &str) -> Option<Reply> {
    make(if status.starts_with('4') { 450 } else { 550 }, status, words(status))
}

fn words(status: &str) -> &'static str {
    match status {
        "5.1.1" => "User unknown",
        "5.1.2" => "Host unknown",
        s if s.starts_with('4') => "Try again later",
        _ => "Recipient refused",
    }
}

/// A reply whose text is cut where it is too long.
pub(super) fn make(code: u16, status: &str, text: &str) -> Option<Reply> {
    let mut end = text.len().min(MAX_REPLY - 20);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Reply::new(code, status, text.get(..end)?).ok()
}

/// The reply code that `text` begins with.
fn code(text: &str) -> Option<u16> {
    match text.as_bytes() {
        [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'] | [b'4' | b'5', b'0'..=b'9', b'0'..=b'9', b' ', ..] => {
            text.get(..3)?.parse().ok()
        }
        _ => None,
    }
}

/// sendmail's words for exit codes.
fn word_status(word: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 8] = [
        ("nouser", "5.1.1"),
        ("nohost", "5.1.2"),
        ("usage", "5.5.4"),
        ("unavailable", "5.0.0"),
        ("software", "5.3.0"),
        ("protocol", "5.5.1"),
        ("config", "5.3.5"),
        ("tempfail", "4.3.0"),
    ];
    WORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, status)| *status)
}

/// `text` without `prefix`, whatever its case.
pub(super) fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|p| p.eq_ignore_ascii_case(prefix)).and_then(|_| text.get(prefix.len()..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(value: &str) -> String {
        match access(value.as_bytes()) {
            Ok(Action::Refuse(Some(reply))) => reply.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_value_of_an_access_file() {
        for value in ["OK", "ok", "RELAY", "Discard", "QUARANTINE:look at it"] {
            assert_eq!(access(value.as_bytes()), Ok(Action::Accept), "{value}");
        }
        assert_eq!(access(b"skip"), Ok(Action::Skip));
        assert_eq!(access(b"ERROR"), Ok(Action::Refuse(None)));
        assert_eq!(access(b"error:"), Ok(Action::Refuse(None)));
        for (value, expected) in [
            ("REJECT", "550 5.2.1 Mailbox disabled for this recipient"),
            ("REJECT Left the company", "550 5.7.1 Left the company"),
            ("reject 5.1.1 Gone", "550 5.1.1 Gone"),
            ("DEFER not now", "450 4.7.1 not now"),
            ("reject 4.1.1 Gone", "550 5.1.1 Gone"),
            ("REJECT 450 4.1.1 Gone", "550 5.1.1 Gone"),
            ("REJECT 554 Gone", "554 5.7.1 Gone"),
            ("DEFER 5.7.1 come later", "450 4.7.1 come later"),
            ("DEFER 5.7.1", "450 4.7.1 Try again later"),
            ("DEFER 550 5.7.1 come later", "450 4.7.1 come later"),
            ("DEFER 451 come later", "451 4.7.1 come later"),
            ("DEFER_IF_PERMIT 5.7.1 come later", "450 4.7.1 come later"),
            ("DEFER", "450 4.7.1 Try again later"),
            ("DEFER_IF_PERMIT not now", "450 4.7.1 not now"),
            ("ERROR:5.1.1:\"550 5.1.1 Nobody here by that name\"", "550 5.1.1 Nobody here by that name"),
            ("error:5.1.1:\"550 User unknown\"", "550 5.1.1 User unknown"),
            ("ERROR:5.1.1:User unknown", "550 5.1.1 User unknown"),
            ("ERROR:4.2.2:Mailbox full", "450 4.2.2 Mailbox full"),
            ("ERROR:4.2.2:\"452 Mailbox full\"", "452 4.2.2 Mailbox full"),
            ("ERROR:5.1.1:\"450 busy\"", "450 4.1.1 busy"),
            ("ERROR:5.1.1", "550 5.1.1 User unknown"),
            ("ERROR:5.7.1:550", "550 5.7.1 Recipient refused"),
            ("ERROR:\"550 Gone\"", "550 5.0.0 Gone"),
            ("ERROR:Gone away", "550 5.0.0 Gone away"),
            ("error:nouser 550 No such user here", "550 5.1.1 No such user here"),
            ("error:nouser No such user here", "550 5.1.1 No such user here"),
            ("error:tempfail:later", "450 4.3.0 later"),
            ("550 5.7.1 Left the company", "550 5.7.1 Left the company"),
            ("554 no", "554 5.0.0 no"),
            ("451 4.7.1 slowly", "451 4.7.1 slowly"),
        ] {
            assert_eq!(refusal(value), expected, "{value}");
        }
        for value in ["x", "anna@example.org", "55 no", "250 2.0.0 ok", "5500 x", "FRIEND"] {
            assert_eq!(access(value.as_bytes()), Err(Fault::Value), "{value}");
        }
    }

    #[test]
    fn a_refusal_is_known_among_the_values_of_any_list() {
        for value in [
            "REJECT",
            "reject gone",
            "DEFER",
            "defer 4.7.1 later",
            "DEFER_IF_PERMIT",
            "DEFER_IF_PERMIT later",
            "ERROR:5.1.1:gone",
            "550 gone",
            "450 4.2.1 later",
            ":fail: gone",
            ":DEFER:",
        ] {
            assert!(is_refusal(value.as_bytes()), "{value}");
        }
        for value in ["OK", "rejects@x.example", "deferred", "error", "550", "dora", ":blackhole:", "DISCARD", ""] {
            assert!(!is_refusal(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let reply = refusal(&format!("550 5.1.1 {}", "ü".repeat(400)));
        assert!(reply.starts_with("550 5.1.1 ??") && reply.len() <= MAX_REPLY, "{reply}");
    }
}
