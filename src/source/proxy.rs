//! Addresses with a type in front, as Exchange keeps them: `SMTP:anna@example.org`, `smtp:...`, `X500:...`, `SIP:...`.

use memchr::memchr;

use super::syntax::{Shape, shape};
use super::{Fault, Key};

/// Entries of an export that ran into the usual limit of a directory server or of Exchange's commands.
pub(super) const LIMITS: [u32; 3] = [1000, 1500, 2000];

/// What one value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy<'a> {
    /// An SMTP address, with its type or without one.
    Address(Key<'a>),
    /// An address of another type.
    Other,
    /// No type and no `@`: a nickname, a word.
    Word,
}

/// Reads one value. What has a type of SMTP, or none, must be an address.
pub(super) fn proxy(value: &[u8]) -> Result<Proxy<'_>, Fault> {
    let smtp = |address| match shape(address)? {
        Shape::Address { local, domain } => Ok(Proxy::Address(Key::Recipient { local, domain })),
        _ => Err(Fault::Address),
    };
    match kind(value) {
        Some((kind, address)) if kind.eq_ignore_ascii_case(b"smtp") => smtp(address),
        Some(_) => Ok(Proxy::Other),
        None if memchr(b'@', value).is_some() => smtp(value),
        None => Ok(Proxy::Word),
    }
}

/// The type and what it is a type of: a word, then a colon. Users may have types of their own.
pub(super) fn kind(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let (kind, rest) = value.split_at_checked(memchr(b':', value)?)?;
    let word = !kind.is_empty() && kind.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    word.then_some((kind, rest.get(1..)?))
}

/// What PowerShell writes for a list that nobody joined.
pub(super) fn is_type_name(value: &[u8]) -> bool {
    const NAMES: [&[u8]; 5] = [
        b"System.String[]",
        b"System.Object[]",
        b"System.Collections.",
        b"Microsoft.Exchange.Data.",
        b"Microsoft.ActiveDirectory.Management.",
    ];
    let value = value.strip_prefix(b"{").unwrap_or(value);
    NAMES.iter().any(|name| value.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_apart() {
        let anna = Ok(Proxy::Address(Key::Recipient { local: b"anna", domain: b"example.org" }));
        for value in ["SMTP:anna@example.org", "smtp:anna@example.org", "anna@example.org"] {
            assert_eq!(proxy(value.as_bytes()), anna, "{value}");
        }
        for value in ["X400:c=DE;a= ;p=Example", "sip:anna@example.org", "x500:/o=Example/cn=a:b", "SPO:SPO_1@SPO_2"] {
            assert_eq!(proxy(value.as_bytes()), Ok(Proxy::Other), "{value}");
        }
        assert_eq!(proxy(b"anna"), Ok(Proxy::Word));
        assert_eq!(proxy(b"smtp:anna"), Err(Fault::Address));
        assert_eq!(proxy(b"a b@example.org"), Err(Fault::Address));
        assert!(is_type_name(b"System.String[]") && is_type_name(b"{Microsoft.Exchange.Data.ProxyAddress}"));
        assert!(!is_type_name(b"system@example.org"));
    }
}
