//! The shape of keys: `local@domain`, `@domain`, `local@`, a bare word; quoted or not.
//!
//! Only the shape is judged, by a table look-up per byte, so that prose and foreign formats don't become entries; what
//! an address *means* is `address`'s business. Local parts are taken more liberally than RFC 5321 has them, since
//! `anna.@example.org` is a mailbox somewhere.

use memchr::{memchr, memchr2, memrchr};

use super::lines::{is_blank, trim_start};
use super::{Fault, Key};

/// What a key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// `local@domain`
    Address { local: &'a [u8], domain: &'a [u8] },
    /// `@domain`
    At { domain: &'a [u8] },
    /// `@.domain`
    AtDot { domain: &'a [u8] },
    /// `local@`
    User { local: &'a [u8] },
    /// Anything without `@`, not looked at.
    Bare { word: &'a [u8] },
}

const LOCAL: u8 = 1;
const DOMAIN: u8 = 2;
const DOT: u8 = 4;

/// Which bytes may stand where. 8-bit bytes may be anything: UTF-8 or what an old list was written in.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        if b.is_ascii_alphanumeric() || b >= 0x80 || matches!(b, b'-' | b'.' | b'_') {
            class[i] = LOCAL | DOMAIN;
        } else if b.is_ascii_graphic()
            && !matches!(b, b'"' | b'(' | b')' | b',' | b':' | b';' | b'<' | b'>' | b'@' | b'[' | b'\\' | b']')
        {
            class[i] = LOCAL;
        }
        i += 1;
    }
    class[b'.' as usize] |= DOT;
    class
};

#[inline]
fn all(text: &[u8], class: u8) -> bool {
    text.iter().fold(class, |common, &b| common & CLASS[usize::from(b)]) != 0
}

/// What `key` looks like.
#[inline]
pub(super) fn shape(key: &[u8]) -> Result<Shape<'_>, Fault> {
    let at = match key {
        [b'"', ..] => match quoted_end(key)? {
            end if end == key.len() => return Ok(quoted_whole(key)),
            end if key.get(end) == Some(&b'@') => end,
            _ => return Err(Fault::Address),
        },
        _ => match memchr(b'@', key) {
            Some(at) => at,
            None => return Ok(Shape::Bare { word: key }),
        },
    };
    let (local, domain) = key.split_at(at);
    let domain = domain.get(1..).unwrap_or_default();
    if !matches!(local, [b'"', ..]) && !all(local, LOCAL) {
        return Err(Fault::Address);
    }
    match (local, domain) {
        ([], [b'.', parent @ ..]) if is_domain(parent) => Ok(Shape::AtDot { domain: parent }),
        ([], _) if is_domain(domain) => Ok(Shape::At { domain }),
        ([_, ..], []) => Ok(Shape::User { local }),
        ([_, ..], _) if is_domain(domain) => Ok(Shape::Address { local, domain }),
        _ => Err(Fault::Address),
    }
}

/// `"anna@example.org"` is an address that an export has put into quotes, `"anna adler"` a local part.
#[cold]
fn quoted_whole(key: &[u8]) -> Shape<'_> {
    match shape(unquoted(key)) {
        Ok(address @ Shape::Address { local, domain }) if !local.starts_with(b"\"") && is_full_domain(domain) => {
            address
        }
        _ => Shape::Bare { word: key },
    }
}

/// Labels of letters, digits, hyphens, underscores and 8-bit bytes, a dot between them, perhaps one at the end; or an
/// address literal.
#[inline]
pub(super) fn is_domain(domain: &[u8]) -> bool {
    // No branch per byte: this is most of what loading a large list costs.
    let (mut common, mut empty, mut before) = (DOMAIN, 0, DOT);
    for &b in domain {
        let class = CLASS[usize::from(b)];
        common &= class;
        empty |= before & class & DOT;
        before = class;
    }
    (common != 0 && empty == 0 && !domain.is_empty()) || is_literal(domain)
}

fn is_literal(domain: &[u8]) -> bool {
    matches!(domain, [b'[', inner @ .., b']'] if !inner.is_empty()
        && inner.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-')))
}

/// A domain name that has at least two labels, and whose last one is not a number: no host address, no lone word.
pub(super) fn is_full_domain(domain: &[u8]) -> bool {
    let name = domain.strip_suffix(b".").unwrap_or(domain);
    is_domain(name) && !is_literal(name) && memchr(b'.', name).is_some() && !is_network(name)
}

/// A host address or the beginning of one, `192.0.2`, as in access files; also an IPv6 address or prefix, with or
/// without brackets, and a prefix length at the end.
pub(super) fn is_network(text: &[u8]) -> bool {
    let text = match text {
        [b'[', inner @ .., b']'] => inner,
        _ => text,
    };
    let (net, length) = match memrchr(b'/', text) {
        Some(at) => text.split_at(at),
        None => (text, &b""[..]),
    };
    let digits = |t: &[u8]| !t.is_empty() && t.iter().all(u8::is_ascii_digit);
    if !(length.is_empty() || length.get(1..).is_some_and(digits)) {
        return false;
    }
    let net = if net.get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"ipv6:")) {
        net.get(5..).unwrap_or_default()
    } else {
        net
    };
    match memchr(b':', net) {
        Some(_) => net.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.')),
        None => net.strip_suffix(b".").unwrap_or(net).split(|&b| b == b'.').all(digits),
    }
}

/// A bare word that can be a local part: RFC 5321's Dot-string, or quoted. Stricter than beside an `@`, where the
/// address itself says what it is; `etc...` is none.
pub(super) fn is_local(word: &[u8]) -> bool {
    match word {
        [b'"', ..] => quoted_end(word) == Ok(word.len()),
        _ => all(word, LOCAL) && word.split(|&b| b == b'.').all(|atom| !atom.is_empty()),
    }
}

/// Where the quoted string that `text` begins with ends; behind the closing quote.
pub(super) fn quoted_end(text: &[u8]) -> Result<usize, Fault> {
    let mut bytes = text.iter().enumerate().skip(1);
    while let Some((at, &b)) = bytes.next() {
        match b {
            b'\\' => _ = bytes.next(),
            b'"' => return Ok(at + 1),
            0..0x20 | 0x7f if b != b'\t' => return Err(Fault::Address),
            _ => {}
        }
    }
    Err(Fault::Quote)
}

/// The key in front of the first blank outside quotes, and the value behind the blanks.
#[inline]
pub(super) fn key_and_value(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let start = match line {
        [b'"', ..] => quoted_end(line)?,
        _ => 0,
    };
    let rest = line.get(start..).unwrap_or_default();
    let end = start + memchr2(b' ', b'\t', rest).unwrap_or(rest.len());
    let (key, value) = line.split_at_checked(end).unwrap_or((line, b""));
    Ok((key, trim_start(value)))
}

/// `"..."` without its quotes, where it has them.
pub(super) fn unquoted(text: &[u8]) -> &[u8] {
    match text {
        [b'"', inner @ .., b'"'] => inner,
        _ => text,
    }
}

/// Words with blanks between them and nothing else that a value of several words has. Asked only where the key is a
/// bare word, too: `and so on` is not somebody called `and`.
pub(super) fn is_prose(value: &[u8]) -> bool {
    value.iter().any(|&b| is_blank(b)) && !value.iter().any(|b| b"@,/|:;=\"\\%".contains(b))
}

/// The key of an address that may have wildcards at the end of its local part: `user+*`, `user++`, `list-*`, `*`.
pub(super) fn wildcard<'a>(local: &'a [u8], domain: &'a [u8]) -> Key<'a> {
    match local {
        [local @ .., b'+', b'+'] => Key::Detail { local, domain, required: true },
        [local @ .., b'+', b'*'] => Key::Detail { local, domain, required: false },
        b"*" => Key::CatchAll { domain },
        [prefix @ .., b'*'] => Key::Prefix { prefix, domain },
        _ => Key::Recipient { local, domain },
    }
}

/// The key of a bare local part, to which `domain` is attached.
pub(super) fn attached<'a>(word: &'a [u8], domain: &'a [u8]) -> Result<Key<'a>, Fault> {
    match (is_local(word), domain) {
        (false, _) => Err(Fault::Address),
        (true, []) => Err(Fault::NoDomain),
        (true, domain) => Ok(Key::Recipient { local: word, domain }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_by_shape() {
        let address = |local: &'static str, domain: &'static str| {
            Ok(Shape::Address { local: local.as_bytes(), domain: domain.as_bytes() })
        };
        for (key, expected) in [
            ("anna@example.org", address("anna", "example.org")),
            ("Anna.Adler+x@Example.ORG.", address("Anna.Adler+x", "Example.ORG.")),
            ("jürgen@bücher.example", address("jürgen", "bücher.example")),
            ("\"john doe\"@example.org", address("\"john doe\"", "example.org")),
            ("\"a\\\"@b\"@example.org", address("\"a\\\"@b\"", "example.org")),
            ("a@[192.0.2.1]", address("a", "[192.0.2.1]")),
            ("a@[IPv6:2001:db8::1]", address("a", "[IPv6:2001:db8::1]")),
            ("bert%inside@example.org", address("bert%inside", "example.org")),
            ("@example.org", Ok(Shape::At { domain: b"example.org" })),
            ("@.example.org", Ok(Shape::AtDot { domain: b"example.org" })),
            ("office@", Ok(Shape::User { local: b"office" })),
            ("anna", Ok(Shape::Bare { word: b"anna" })),
            ("etc...", Ok(Shape::Bare { word: b"etc..." })),
            ("\"john doe\"", Ok(Shape::Bare { word: b"\"john doe\"" })),
            ("@", Err(Fault::Address)),
            ("a@b@c", Err(Fault::Address)),
            ("a@.example.org", Err(Fault::Address)),
            ("a@example..org", Err(Fault::Address)),
            ("a@exam ple.org", Err(Fault::Address)),
            ("smtp:a@example.org", Err(Fault::Address)),
            ("<a@example.org>", Err(Fault::Address)),
            ("\"a\"b@example.org", Err(Fault::Address)),
            ("\"a@example.org", Err(Fault::Quote)),
            ("a\u{7f}@example.org", Err(Fault::Address)),
        ] {
            assert_eq!(shape(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn domains_networks_and_words() {
        for yes in ["example.org", "example.org.", "a.b-c._d", "bücher.example"] {
            assert!(is_full_domain(yes.as_bytes()), "{yes}");
        }
        for no in
            ["", ".", "org", "org.", ".example.org", "a..b", "etc...", "192.0.2.1", "192.0.2", "[192.0.2.1]", "a b.c"]
        {
            assert!(!is_full_domain(no.as_bytes()), "{no}");
        }
        for yes in [
            "192.0.2.1",
            "192.0",
            "192.0.2.",
            "10",
            "192.0.2.0/24",
            "2001:db8::1",
            "IPv6:2001:db8",
            "[192.0.2.1]",
            "[::1]",
        ] {
            assert!(is_network(yes.as_bytes()), "{yes}");
        }
        for no in ["example.org", "", "1.example", "fe80:x", "192.0.2.0/x"] {
            assert!(!is_network(no.as_bytes()), "{no}");
        }
        for yes in ["anna", "a.b", "\"john doe\"", "user+x", "jürgen"] {
            assert!(is_local(yes.as_bytes()), "{yes}");
        }
        for no in ["", "etc...", ".a", "a:", "a,b", "\"a\"b", "(x)"] {
            assert!(!is_local(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn keys_and_values_part_at_the_first_blank_outside_quotes() {
        let part = |line: &'static str| key_and_value(line.as_bytes());
        assert_eq!(part("a@b OK"), Ok((&b"a@b"[..], &b"OK"[..])));
        assert_eq!(part("a@b \t two words"), Ok((&b"a@b"[..], &b"two words"[..])));
        assert_eq!(part("a@b"), Ok((&b"a@b"[..], &b""[..])));
        assert_eq!(part("\"john doe\"@b x"), Ok((&b"\"john doe\"@b"[..], &b"x"[..])));
        assert_eq!(part("\"john doe x"), Err(Fault::Quote));
    }

    #[test]
    fn wildcards_end_a_local_part() {
        let key = |local: &'static str| wildcard(local.as_bytes(), b"d");
        assert_eq!(key("info+*"), Key::Detail { local: b"info", domain: b"d", required: false });
        assert_eq!(key("++"), Key::Detail { local: b"", domain: b"d", required: true });
        assert_eq!(key("list-*"), Key::Prefix { prefix: b"list-", domain: b"d" });
        assert_eq!(key("*"), Key::CatchAll { domain: b"d" });
        assert_eq!(key("c+"), Key::Recipient { local: b"c+", domain: b"d" });
    }
}
