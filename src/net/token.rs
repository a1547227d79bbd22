//! What an event is about: kind, slot and generation in one mio token.
//!
//! Slots are used again while a batch of events is worked off; an event whose generation is not the slot's is an old
//! one and is dropped.

use mio::Token;

/// What a token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Signals that arrived.
    Signals,
    /// The loader or the resolver has something for us.
    Wake,
    /// A listening socket, by its slot.
    Listener(u32),
    /// A client.
    Session(SessionId),
    /// A connection to a backend.
    Upstream(SessionId),
}

/// A session's (or an upstream's) place and which of its tenants is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// Place in the slab.
    pub slot: u32,
    /// Counts the tenants; wraps at 28 bits.
    pub generation: u32,
}

/// Generations are compared in so many bits.
pub const GENERATION_MASK: u32 = (1 << 28) - 1;

const KIND_SHIFT: u32 = 60;

impl Subject {
    /// The token under which it is registered.
    pub fn token(self) -> Token {
        let (kind, generation, slot) = match self {
            Subject::Signals => (0, 0, 0),
            Subject::Wake => (1, 0, 0),
            Subject::Listener(slot) => (2, 0, slot),
            Subject::Session(id) => (3, id.generation & GENERATION_MASK, id.slot),
            Subject::Upstream(id) => (4, id.generation & GENERATION_MASK, id.slot),
        };
        Token(kind << KIND_SHIFT | (generation as usize) << 32 | slot as usize)
    }

    /// What a token was made of.
    pub fn of(token: Token) -> Subject {
        let slot = token.0 as u32;
        match token.0 >> KIND_SHIFT {
            0 => Subject::Signals,
            1 => Subject::Wake,
            2 => Subject::Listener(slot),
            kind => {
                let id = SessionId { slot, generation: (token.0 >> 32) as u32 & GENERATION_MASK };
                if kind == 3 { Subject::Session(id) } else { Subject::Upstream(id) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_what_it_was_made_of() {
        let session = |slot, generation| Subject::Session(SessionId { slot, generation });
        let upstream = |slot, generation| Subject::Upstream(SessionId { slot, generation });
        for subject in [
            Subject::Signals,
            Subject::Wake,
            Subject::Listener(7),
            session(0, 0),
            session(u32::MAX, GENERATION_MASK),
            session(3, 1),
            upstream(3, 1),
            upstream(u32::MAX, GENERATION_MASK),
        ] {
            assert_eq!(Subject::of(subject.token()), subject);
        }
    }
}
