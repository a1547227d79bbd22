//! How fast and how often: probes a second, back-off after failures, and the randomness that spreads them.

use std::time::{Duration, Instant};

/// At most so many a second, in bursts of at most one second's worth: a token bucket as one instant (GCRA), the time at
/// which the bucket will be full again.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    interval: Duration,
    burst: Duration,
    full: Option<Instant>,
}

impl Rate {
    /// `per_second` 0: no limit.
    pub fn new(per_second: u32) -> Rate {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Rate { interval, burst: interval * per_second.saturating_sub(1), full: None }
    }

    /// When the next one is allowed; not later than `now`: at once.
    pub fn next(&self, now: Instant) -> Instant {
        self.full.and_then(|full| full.checked_sub(self.burst)).unwrap_or(now)
    }

    /// Counts one.
    pub fn take(&mut self, now: Instant) {
        if !self.interval.is_zero() {
            self.full = Some(self.full.map_or(now, |full| full.max(now)) + self.interval);
        }
    }
}

/// First pause after a failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(300);

/// A circuit breaker: closed while all is well, open for a growing while after a failure, then ready for one trial.
#[derive(Clone, Copy, Debug, Default)]
pub struct Breaker {
    failures: u32,
    until: Option<Instant>,
    trial: bool,
}

/// What a breaker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Anything.
    Freely,
    /// One trial.
    Trial,
    /// Nothing: the trial is under way.
    Awaiting,
    /// Nothing before that time.
    NotBefore(Instant),
}

impl Breaker {
    /// What is allowed now.
    pub fn allows(&self, now: Instant) -> Allowed {
        match self.until {
            None => Allowed::Freely,
            _ if self.trial => Allowed::Awaiting,
            Some(until) if until > now => Allowed::NotBefore(until),
            Some(_) => Allowed::Trial,
        }
    }

    /// The trial begins.
    pub fn begin_trial(&mut self) {
        self.trial = true;
    }

    /// The trial came to nothing either way.
    pub fn abandon_trial(&mut self) {
        self.trial = false;
    }

    /// It works. Tells whether that is news.
    pub fn succeed(&mut self) -> bool {
        std::mem::take(self).until.is_some()
    }

    /// It does not. Returns the pause, which doubles each time, give or take a quarter.
    pub fn fail(&mut self, now: Instant, random: &mut Random) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        let pause = pause.mul_f64(0.75 + 0.5 * random.fraction());
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
        self.trial = false;
        pause
    }
}

/// SplitMix64: good enough to spread things and to make up names; the caller brings the seed.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or(0)
    }

    /// A local part that nobody has: 20 letters and digits, beginning with a letter.
    pub fn local_part(&mut self) -> [u8; 20] {
        let mut out = [0; 20];
        for (at, byte) in out.iter_mut().enumerate() {
            let limit = if at == 0 { 26 } else { 36 };
            *byte = b"abcdefghijklmnopqrstuvwxyz0123456789"[self.below(limit) as usize];
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_allows_a_second_in_advance_and_no_more() {
        let start = Instant::now();
        let mut rate = Rate::new(10);
        let mut taken = 0;
        for ms in 0..3000 {
            let now = start + Duration::from_millis(ms);
            while rate.next(now) <= now {
                rate.take(now);
                taken += 1;
            }
            assert!(taken <= 10 + ms / 100, "{taken} after {ms} ms");
        }
        assert!(taken >= 39, "{taken}");
        let mut free = Rate::new(0);
        (0..1000).for_each(|_| free.take(start));
        assert_eq!(free.next(start), start);
        let mut one = Rate::new(1);
        one.take(start);
        assert_eq!(one.next(start), start + Duration::from_secs(1));
    }

    #[test]
    fn a_breaker_waits_longer_each_time_and_lets_one_try() {
        let (mut now, mut random, mut breaker) = (Instant::now(), Random::new(1), Breaker::default());
        assert_eq!(breaker.allows(now), Allowed::Freely);
        for step in 0..20 {
            let pause = breaker.fail(now, &mut random);
            let middle = FIRST.saturating_mul(1 << step.min(16)).min(LONGEST);
            assert!(pause >= middle.mul_f64(0.75) && pause <= middle.mul_f64(1.25), "{step}: {pause:?}");
            assert_eq!(breaker.allows(now), Allowed::NotBefore(now + pause));
            now += pause;
            assert_eq!(breaker.allows(now), Allowed::Trial);
            breaker.begin_trial();
            assert_eq!(breaker.allows(now), Allowed::Awaiting);
        }
        assert!(breaker.succeed() && !breaker.succeed());
        assert_eq!(breaker.allows(now), Allowed::Freely);
    }
}
