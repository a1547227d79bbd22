//! What a line of a list says about recipients, in the words that all formats are translated into.

use std::fmt;

use crate::verdict::Reply;

/// One statement of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Whom it is about.
    pub key: Key<'a>,
    /// What it says.
    pub grant: Grant<'a>,
}

/// Whom a statement is about. The bytes are as the list has them: the builder folds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// `anna@example.org`.
    Recipient {
        /// As written, with quotes if it has them.
        local: &'a [u8],
        /// As written.
        domain: &'a [u8],
    },
    /// `office@`: this local part at any of our domains.
    AnyDomain {
        /// As written.
        local: &'a [u8],
    },
    /// `info+*@example.org` (with or without a detail), `help++@example.org` (with one only).
    Detail {
        /// The base; empty in `++@example.org`: whoever is asked for with a detail.
        local: &'a [u8],
        /// As written.
        domain: &'a [u8],
        /// Whether a detail must be there.
        required: bool,
    },
    /// `list-*@example.org`: every local part that begins so.
    Prefix {
        /// The beginning, without the asterisk.
        prefix: &'a [u8],
        /// As written; empty for any of our domains.
        domain: &'a [u8],
    },
    /// `@example.org`: whoever is not named otherwise.
    CatchAll {
        /// As written.
        domain: &'a [u8],
    },
    /// `@.example.org`: everybody at every domain below.
    Subdomains {
        /// As written, without the dot in front.
        domain: &'a [u8],
    },
    /// Only says that there is such a domain. With a leading dot, as in rcpthosts: the domains below it are, itself not.
    Domain {
        /// As written.
        domain: &'a [u8],
    },
}

/// What a statement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant<'a> {
    /// The recipient exists; `value` is the list's own word for it, maybe empty.
    Accept {
        /// The right side.
        value: &'a [u8],
    },
    /// Of a catch-all: exists if the same local part exists at this domain, where that is ours; else exists
    /// (`@example.net  %1@example.org` of a virtusertable, `@example.net  @example.org` of a Postfix map).
    Follow {
        /// As written.
        domain: &'a [u8],
        /// The right side.
        value: &'a [u8],
    },
    /// The recipient is refused: with a reply of its own, or with the domain's. A 4xx reply is a refusal for now (a full
    /// mailbox).
    Refuse(Option<Reply>),
    /// The list can't tell: its line is not understood, or leaves the decision to somebody else. Who is not spoken for by
    /// any other statement is unknown, not absent. It names no domain.
    Unknown,
}

impl Grant<'static> {
    /// Exists, without a value.
    pub const ACCEPT: Grant<'static> = Grant::Accept { value: b"" };
}

/// What a snapshot says about a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// See [`Grant::Accept`].
    Accept {
        /// The right side; empty when no map wants it.
        value: Box<[u8]>,
    },
    /// See [`Grant::Follow`].
    Follow {
        /// Folded.
        domain: Box<[u8]>,
        /// The right side.
        value: Box<[u8]>,
    },
    /// See [`Grant::Refuse`].
    Refuse(Option<Reply>),
    /// See [`Grant::Unknown`].
    Unknown,
}

impl Entry {
    /// Whether it accepts, by itself or on condition.
    pub fn accepts(&self) -> bool {
        matches!(self, Entry::Accept { .. } | Entry::Follow { .. })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Accept { value } if value.is_empty() => f.write_str("accept"),
            Entry::Accept { value } => write!(f, "accept, \"{}\"", value.escape_ascii()),
            Entry::Follow { domain, .. } => write!(f, "accept who exists at {}", domain.escape_ascii()),
            Entry::Refuse(None) => f.write_str("refuse"),
            Entry::Refuse(Some(reply)) => write!(f, "refuse, \"{reply}\""),
            Entry::Unknown => f.write_str("can't tell"),
        }
    }
}

/// A key as lists write it: `anna@example.org`, `info+*@example.org`, `@example.org`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyText<'a>(pub Key<'a>);

impl fmt::Display for KeyText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match self.0 {
            Key::Recipient { local, domain } => write!(f, "{}@{}", text(local), text(domain)),
            Key::AnyDomain { local } => write!(f, "{}@", text(local)),
            Key::Detail { local, domain, required } => {
                write!(f, "{}+{}@{}", text(local), if required { "+" } else { "*" }, text(domain))
            }
            Key::Prefix { prefix, domain } => write!(f, "{}*@{}", text(prefix), text(domain)),
            Key::CatchAll { domain } => write!(f, "@{}", text(domain)),
            Key::Subdomains { domain } => write!(f, "@.{}", text(domain)),
            Key::Domain { domain } => f.write_str(&text(domain)),
        }
    }
}
