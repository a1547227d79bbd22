//! What holds for our domains.

use crate::verdict::Reply;

/// What holds for a group of our domains.
///
/// An alias domain (`same_as`) has every recipient that its main domain has, by whatever name it is known there: it takes
/// over the main domain's `always`, `delimiters`, `batv` and `srs` beside its own, and refusals are carried out only where
/// both domains enforce them (`mode`). Who has the last word (`verify`, with `backend`, `unavailable_exists` and
/// `case_sensitive`) is told at [`Asked`](super::Asked). The replies and `skip` are those of the domain that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Domains below are ours as well.
    pub subdomains: bool,
    /// The main domain whose recipients this one has, too (folded).
    pub same_as: Option<Box<[u8]>>,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// Characters that part a local part from its detail (RFC 5233).
    pub delimiters: Box<[u8]>,
    /// Local parts keep their case.
    pub case_sensitive: bool,
    /// Local parts that exist without being listed (folded); `postmaster` always does.
    pub always: Vec<Box<[u8]>>,
    /// Take BATV tags off.
    pub batv: bool,
    /// A well-formed SRS address exists.
    pub srs: bool,
    /// What decides about who is in no list.
    pub verify: Verify,
    /// The backend that is asked; `None`: what the next hops say.
    pub backend: Option<Box<str>>,
    /// Whether recipients exist while the backend can't be asked; `None`: what the backend's own setting says.
    pub unavailable_exists: Option<bool>,
    /// Clients that are not checked elsewhere (`[skip]`) are not checked here either.
    pub skip: bool,
    /// The reply for who does not exist.
    pub absent: Reply,
    /// The reply when we can't tell.
    pub unknown: Reply,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            subdomains: false,
            same_as: None,
            mode: Mode::Enforce,
            delimiters: (*b"+").into(),
            case_sensitive: false,
            always: Vec::new(),
            batv: true,
            srs: false,
            verify: Verify::List,
            backend: None,
            unavailable_exists: None,
            skip: true,
            absent: Reply::absent(),
            unknown: Reply::unknown(),
        }
    }
}

impl Policy {
    /// What an alias domain takes over from its main domain.
    pub(super) fn take_over(&mut self, main: &Policy) {
        self.mode = self.mode.max(main.mode);
        self.batv |= main.batv;
        self.srs |= main.srs;
        self.always.extend(main.always.iter().filter(|name| !self.always.contains(name)).cloned().collect::<Vec<_>>());
        let more = main.delimiters.iter().filter(|delimiter| !self.delimiters.contains(delimiter));
        self.delimiters = self.delimiters.iter().chain(more).copied().collect();
    }
}

/// Whether a domain's refusals are carried out; the more lenient is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// They are.
    #[default]
    Enforce,
    /// Everybody exists; who would have been refused is logged and counted.
    Warn,
    /// Everybody exists.
    Off,
}

/// What decides about a recipient besides refusals that lists spell out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// The lists: who is not in them does not exist.
    #[default]
    List,
    /// The backend, for whom the lists do not settle.
    Probe,
    /// The lists, and for who is not in them the backend.
    ListThenProbe,
    /// Lists and backend: who is in a list must exist there, too.
    Both,
}

/// Domains that share a policy.
#[derive(Clone, Debug)]
pub struct DomainGroup {
    /// Folded names; with a leading dot: the domains below are ours, itself not.
    pub names: Vec<Box<[u8]>>,
    /// What holds for them.
    pub policy: Policy,
}
