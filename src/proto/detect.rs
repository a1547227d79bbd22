//! Which dialect a peer speaks, by its first bytes, on a listener with `protocol = "auto"`.
//!
//! DESIGN.md sections 3 and 11.4. Addresses may begin with digits (`123@example.org`) or hold a `=`
//! (`prvs=0417ab=anna@example.org`), so neither is enough: a netstring is one to six digits *and* `:`, a policy request
//! begins with `request=`, as every Postfix writes it. HTTP is a method and a path. All else is a line: SMTP, a TLS
//! ClientHello and noise end in `TEMP unknown map` or `TEMP line too long`, which no MTA takes for a verdict.
//!
//! tcp_table (its `get` looks like a map name) and milter (binary) need a listener that names them.

/// What a peer speaks. [`detect`] finds the first four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// [`crate::proto::socketmap`].
    Socketmap,
    /// [`crate::proto::line`].
    Line,
    /// [`crate::proto::policy`].
    Policy,
    /// [`crate::proto::http`].
    Http,
    /// [`crate::proto::tcp_table`]: only where the listener says so.
    TcpTable,
    /// [`crate::proto::milter`]: only where the listener says so.
    Milter,
}

/// Longest head that leaves the dialect open; after so many bytes [`detect`] always knows.
pub const MAX_HEAD: usize = 8;

/// What the bytes so far tell. `None`: more bytes are needed; with `eof` there is always an answer (of nothing at all,
/// [`Dialect::Line`], which then has no line either).
///
/// The answer never changes with more bytes behind it.
pub fn detect(head: &[u8], eof: bool) -> Option<Dialect> {
    let mut open = false;
    for (start, dialect) in [
        (&b"request="[..], Dialect::Policy),
        (b"GET /", Dialect::Http),
        (b"HEAD /", Dialect::Http),
        (b"POST /", Dialect::Http),
    ] {
        if head.starts_with(start) {
            return Some(dialect);
        }
        open |= start.starts_with(head);
    }
    let digits = head.iter().take_while(|b| b.is_ascii_digit()).count();
    match head.get(digits) {
        Some(b':') if (1..=6).contains(&digits) => return Some(Dialect::Socketmap),
        None if (1..=6).contains(&digits) => open = true,
        _ => (),
    }
    if open && !eof { None } else { Some(Dialect::Line) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dialects_by_their_first_bytes() {
        use Dialect::*;
        for (head, dialect) in [
            (&b"22:rcpt bob@relay.example,"[..], Socketmap),
            (b"0:", Socketmap),
            (b"000014:", Socketmap),
            (b"999999:", Socketmap),
            (b"0000014:", Line),
            (b":rcpt,", Line),
            (b"-1:,", Line),
            (b" 4:abcd,", Line),
            (b"123@example.org", Line),
            (b"1234567", Line),
            (b"request=smtpd_access_policy\n", Policy),
            (b"requests bob@x", Line),
            (b"prvs=0417ab=anna@x", Line),
            (b"GET / HTTP/1.0\r\n", Http),
            (b"HEAD /metrics", Http),
            (b"POST /reload", Http),
            (b"GET bob@x\n", Line),
            (b"get /\n", Line),
            (b"PUT / HTTP/1.1\r\n", Line),
            (b"\x16\x03\x01\x02\x00\x01", Line),
            (b"EHLO mx.example\r\n", Line),
            (b"\n", Line),
            (b"\0\0\0\x0dO", Line),
            (b"anna@example.org\n", Line),
        ] {
            assert_eq!(detect(head, false), Some(dialect), "{}", head.escape_ascii());
            assert_eq!(detect(head, true), Some(dialect), "{}", head.escape_ascii());
        }
    }

    #[test]
    fn what_is_still_open_is_a_line_at_the_end() {
        for head in [&b""[..], b"1", b"123456", b"r", b"request", b"G", b"GET", b"GET ", b"HEAD ", b"POST "] {
            assert_eq!(detect(head, false), None, "{}", head.escape_ascii());
            assert_eq!(detect(head, true), Some(Dialect::Line), "{}", head.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn more_bytes_never_change_the_answer(head in "[0-9:rqeust=GET /HADPO a@\\n]{0,16}") {
            let bytes = head.as_bytes();
            let whole = detect(bytes, false);
            for cut in 0..bytes.len() {
                if let Some(dialect) = detect(&bytes[..cut], false) {
                    prop_assert_eq!(whole, Some(dialect));
                }
            }
            prop_assert!(whole.is_some() || bytes.len() < MAX_HEAD);
        }
    }
}
