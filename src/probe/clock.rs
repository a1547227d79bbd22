//! The time by which what is known grows old.
//!
//! The calendar alone won't do: set back, it would make a refusal young again for as long as the jump. Nor will the clock
//! of the loop: it stands still while the machine sleeps. So this clock never goes back, goes at least as fast as the
//! loop's, and goes along where the calendar jumps forward. What is written for others is told in the calendar's time.

use std::time::{Duration, Instant};

use super::cache::Epoch;

/// The furthest jump that it goes along with: more makes nothing older that serves.
const LONGEST_JUMP: u32 = 400 * 86_400;
/// Where it begins at the latest (2065), whatever the calendar says: it must never reach its end.
const LATEST_START: Epoch = Epoch(3_000_000_000);
/// The calendar is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// See the head of this file.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When it was set, by the loop's clock.
    set: Instant,
    /// Its time then.
    time: Epoch,
    /// How many seconds it is ahead of the calendar.
    ahead: i64,
}

impl Clock {
    /// Begins with the calendar's time.
    pub fn new(now: Instant, calendar: Epoch) -> Clock {
        let time = calendar.min(LATEST_START);
        Clock { set: now, time, ahead: ahead(time, calendar) }
    }

    /// Its time.
    pub fn time(&self, now: Instant) -> Epoch {
        let passed = now.saturating_duration_since(self.set).as_secs();
        Epoch(self.time.0.saturating_add(passed.try_into().unwrap_or(u32::MAX)))
    }

    /// Whether the calendar is to be looked at again.
    pub fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.set) >= LOOK_AGAIN
    }

    /// Says what time it is by the calendar.
    pub fn set(&mut self, now: Instant, calendar: Epoch) {
        let time = self.time(now);
        let jump = self.of_calendar(calendar).0.saturating_sub(time.0).min(LONGEST_JUMP);
        let time = Epoch(time.0.saturating_add(jump));
        *self = Clock { set: now, time, ahead: ahead(time, calendar) };
    }

    /// One of its times, as the calendar has it.
    pub fn in_calendar(&self, time: Epoch) -> Epoch {
        moved(time, -self.ahead)
    }

    /// A time of the calendar, as this clock has it.
    pub fn of_calendar(&self, calendar: Epoch) -> Epoch {
        moved(calendar, self.ahead)
    }
}

fn ahead(time: Epoch, calendar: Epoch) -> i64 {
    i64::from(time.0) - i64::from(calendar.0)
}

fn moved(time: Epoch, by: i64) -> Epoch {
    Epoch(u32::try_from((i64::from(time.0) + by).max(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Epoch = Epoch(1_764_230_400);
    const DAY: u32 = 86_400;

    #[test]
    fn it_never_goes_back_and_goes_along_forward() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = Clock::new(start, NOON);
        assert_eq!(clock.time(at(60)), Epoch(NOON.0 + 60));
        // A day back: it goes on, and a day later the calendar's time is written all the same.
        clock.set(at(60), Epoch(NOON.0 - DAY));
        assert_eq!(clock.time(at(70)), Epoch(NOON.0 + 70));
        assert_eq!(clock.in_calendar(clock.time(at(70))), Epoch(NOON.0 - DAY + 10));
        assert_eq!(clock.of_calendar(Epoch(NOON.0 - DAY + 10)), clock.time(at(70)));
        // The machine slept for an hour: the loop's clock knows nothing of it.
        clock.set(at(80), Epoch(NOON.0 - DAY + 20 + 3600));
        assert_eq!(clock.time(at(80)), Epoch(NOON.0 + 80 + 3600));
    }

    #[test]
    fn looking_often_makes_it_neither_faster_nor_slower() {
        let start = Instant::now();
        // The calendar's seconds begin 0.9 s before those of the loop's clock.
        let calendar = |ms: u64| Epoch(NOON.0 + ((ms + 900) / 1000) as u32);
        let mut clock = Clock::new(start, calendar(0));
        for ms in (0..1_000_000).step_by(777) {
            let now = start + Duration::from_millis(ms);
            clock.set(now, calendar(ms));
            assert_eq!(clock.time(now), calendar(ms), "after {ms} ms");
        }
    }

    #[test]
    fn nonsense_in_the_calendar_does_not_stop_it() {
        let start = Instant::now();
        let mut clock = Clock::new(start, Epoch(u32::MAX));
        for n in 0..10 {
            clock.set(start + Duration::from_secs(n), Epoch(u32::MAX));
        }
        let before = clock.time(start + Duration::from_secs(10));
        assert_eq!(clock.time(start + Duration::from_secs(20)), Epoch(before.0 + 10));
        let mut clock = Clock::new(start, Epoch(0));
        clock.set(start, NOON);
        assert_eq!(clock.time(start), Epoch(LONGEST_JUMP));
        assert_eq!(clock.in_calendar(clock.time(start)), NOON);
        assert!(!clock.is_due(start) && clock.is_due(start + LOOK_AGAIN));
    }
}
