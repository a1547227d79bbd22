//! The replies that an SMTP client gets to see, to the letter.

/// A reply that may quote the recipient.
pub type Reply = fn(recipient: &str) -> String;

/// What one wiring says in each case, and how it takes an absence of the daemon.
pub struct Words {
    /// The recipient exists.
    pub accepted: Reply,
    /// The recipient doesn't exist.
    pub refused: Reply,
    /// The entry has a refusal of its own, "550 5.7.1 Left the company".
    pub left: Reply,
    /// Not one of our domains.
    pub foreign: Reply,
    /// A subdomain of one of our domains, none of ours itself: some MTAs relay for it nevertheless.
    pub subdomain: Reply,
    /// The daemon answers, but has no list yet.
    pub no_list: Reply,
    /// The daemon can't be reached.
    pub down: Reply,
    /// What the first recipient after the end of the daemon hears in a session that has asked it before, when that
    /// is something else than `down`.
    pub lost: Option<Reply>,
    /// How a session goes on once the daemon is back.
    pub recovery: Recovery,
}

/// How a session that lives longer than the daemon goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Asks again at once; a restart goes unnoticed.
    AtOnce,
    /// A restart goes unnoticed, but a session that has found the daemon down stays at that.
    NotWhenFoundDown,
    /// A session that has lost the daemon, or never found it, stays at that.
    Never,
    /// One recipient is lost after a restart, and a session that has found the daemon down stays at that.
    LosesOne,
}
