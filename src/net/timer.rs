//! Deadlines by session, in order of time.
//!
//! A session is armed once, when it is registered, and again only when its deadline moves forward; a later deadline is
//! noticed when the earlier one fires. So a look-up costs no timer work, and a session that is served before it is
//! registered none at all.

use std::collections::BTreeSet;
use std::time::Instant;

use super::token::SessionId;

/// Armed deadlines.
#[derive(Default)]
pub struct Timers {
    by_time: BTreeSet<(Instant, SessionId)>,
}

impl Timers {
    /// Arms a session that is not armed, or moves its deadline forward. A later deadline than the armed one is left to
    /// [`Timers::expired`]'s caller, who arms again.
    pub fn arm(&mut self, id: SessionId, armed: &mut Option<Instant>, deadline: Instant) {
        match *armed {
            Some(at) if at <= deadline => return,
            Some(at) => {
                self.by_time.remove(&(at, id));
            }
            None => {}
        }
        self.by_time.insert((deadline, id));
        *armed = Some(deadline);
    }

    /// Disarms a session.
    pub fn cancel(&mut self, id: SessionId, armed: &mut Option<Instant>) {
        if let Some(at) = armed.take() {
            self.by_time.remove(&(at, id));
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|&(at, _)| at)
    }

    /// Takes one that is due. The session is no longer armed.
    pub fn expired(&mut self, now: Instant) -> Option<SessionId> {
        let &(at, id) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_fire_in_order_and_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let id = |slot| SessionId { slot, generation: 0 };
        let mut timers = Timers::default();
        let (mut a, mut b, mut c) = (None, None, None);
        timers.arm(id(1), &mut a, at(30));
        timers.arm(id(2), &mut b, at(20));
        timers.arm(id(3), &mut c, at(10));
        // later: stays as it is; earlier: moves
        timers.arm(id(3), &mut c, at(40));
        timers.arm(id(1), &mut a, at(5));
        timers.cancel(id(2), &mut b);
        assert_eq!((a, b, c), (Some(at(5)), None, Some(at(10))));
        assert_eq!(timers.next(), Some(at(5)));
        assert_eq!(timers.expired(at(4)), None);
        assert_eq!(timers.expired(at(50)), Some(id(1)));
        assert_eq!(timers.expired(at(50)), Some(id(3)));
        assert_eq!(timers.expired(at(50)), None);
        assert_eq!(timers.next(), None);
    }
}
