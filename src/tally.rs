//! What became of recipients, by map and by domain: since the start, in the last hour and in the last day.
//!
//! Pure: time is passed in. A recipient costs one addition for its map and one for its domain; what has happened in a
//! time is the difference between two sums, taken every five minutes. Maps and domains are known by the numbers that a
//! directory has for them, and by name from one directory to the next. The memory is bounded: beyond
//! [`MAX_DOMAINS`] domains that were asked about, all others are counted together.

use std::time::{Duration, Instant};

use crate::resolve::Directory;

/// Domains with counts of their own.
pub const MAX_DOMAINS: usize = 1000;
/// How often the sums are compared.
const STEP: Duration = Duration::from_secs(300);
/// Steps in an hour, and hours in a day.
const STEPS: usize = 12;
const HOURS: usize = 24;
/// No tally yet.
const NONE: u32 = u32::MAX;

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It exists, or is treated so.
    Accepted,
    /// It was refused, or its message dropped.
    Refused,
    /// Try again later.
    Deferred,
    /// It was not checked.
    Skipped,
    /// It is none of ours.
    Foreign,
}

impl Fate {
    /// Every fate, in the order of the counters.
    pub const ALL: [Fate; 5] = [Fate::Accepted, Fate::Refused, Fate::Deferred, Fate::Skipped, Fate::Foreign];

    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Fate::Accepted => "accepted",
            Fate::Refused => "refused",
            Fate::Deferred => "deferred",
            Fate::Skipped => "skipped",
            Fate::Foreign => "foreign",
        }
    }
}

/// Recipients by [`Fate`].
pub type Counts = [u64; Fate::ALL.len()];

/// The spans of time that are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// Since the start.
    pub start: Counts,
    /// The last hour, in steps of five minutes: up to 65 minutes.
    pub hour: Counts,
    /// The last day, in steps of an hour: up to 25 hours.
    pub day: Counts,
}

/// One line of counts.
#[derive(Clone, Debug, Default)]
struct Tally {
    total: Counts,
    /// `total` at the last step.
    before: Counts,
    hour: [[u32; Fate::ALL.len()]; STEPS],
    day: [[u32; Fate::ALL.len()]; HOURS],
}

impl Tally {
    /// Puts what has happened since the last step into the place of step `step`.
    fn step(&mut self, step: u64) {
        let place = &mut self.hour[step as usize % STEPS];
        for ((recent, total), before) in place.iter_mut().zip(self.total).zip(self.before) {
            *recent = u32::try_from(total - before).unwrap_or(u32::MAX);
        }
        self.before = self.total;
        if (step + 1).is_multiple_of(STEPS as u64) {
            let sums = sum(&self.hour);
            let place = &mut self.day[(step as usize / STEPS) % HOURS];
            for (recent, sum) in place.iter_mut().zip(sums) {
                *recent = u32::try_from(sum).unwrap_or(u32::MAX);
            }
        }
    }

    fn spans(&self, steps: u64) -> Spans {
        let mut hour = sum(&self.hour);
        let mut day = sum(&self.day);
        // The hour that is under way: its steps so far, and what has happened since the last one.
        let under_way = (steps % STEPS as u64) as usize;
        for (day, fresh) in day.iter_mut().zip(sum(&self.hour[..under_way])) {
            *day += fresh;
        }
        for at in 0..Fate::ALL.len() {
            let fresh = self.total[at] - self.before[at];
            hour[at] += fresh;
            day[at] += fresh;
        }
        Spans { start: self.total, hour, day }
    }
}

fn sum(slices: &[[u32; Fate::ALL.len()]]) -> Counts {
    let mut sums = Counts::default();
    for slice in slices {
        for (sum, &n) in sums.iter_mut().zip(slice) {
            *sum += u64::from(n);
        }
    }
    sums
}

/// All tallies.
pub struct Tallies {
    started: Instant,
    next_step: Instant,
    /// Steps that are over.
    steps: u64,
    maps: Vec<(Box<str>, Tally)>,
    domains: Vec<(Box<[u8]>, Tally)>,
    /// Domains beyond [`MAX_DOMAINS`]; its number is `MAX_DOMAINS`.
    others: Tally,
    /// For each map and domain of the directory in force, where it is counted.
    map_places: Vec<u32>,
    domain_places: Vec<u32>,
}

impl Tallies {
    /// Nothing has happened yet.
    pub fn new(now: Instant) -> Tallies {
        Tallies {
            started: now,
            next_step: now + STEP,
            steps: 0,
            maps: Vec::new(),
            domains: Vec::new(),
            others: Tally::default(),
            map_places: Vec::new(),
            domain_places: Vec::new(),
        }
    }

    /// A directory comes into force: from now on numbers are its numbers.
    pub fn follow(&mut self, directory: &Directory) {
        let maps = directory.maps();
        self.map_places = vec![NONE; maps.len()];
        for (place, (name, _)) in self.maps.iter().enumerate() {
            if let Some(at) = maps.iter().position(|map| map.name == *name) {
                self.map_places[at] = place as u32;
            }
        }
        let snapshot = directory.snapshot();
        self.domain_places = vec![NONE; snapshot.domains().len()];
        for (place, (name, _)) in self.domains.iter().enumerate() {
            if let Some(at) = snapshot.number_of(name) {
                self.domain_places[at] = place as u32;
            }
        }
    }

    /// Once a turn of the loop, before anything is counted in it.
    #[inline]
    pub fn turn(&mut self, now: Instant) {
        if now >= self.next_step {
            self.step(now);
        }
    }

    #[cold]
    fn step(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.started).as_secs() / STEP.as_secs();
        // After a long silence all places are to be emptied, but none of them twice.
        let most = (STEPS * (HOURS + 1)) as u64;
        let skipped = passed.saturating_sub(self.steps).saturating_sub(most) / STEPS as u64 * STEPS as u64;
        let last = self.steps;
        for step in (last..passed).filter(|step| *step == last || *step > last + skipped) {
            let tallies = self.maps.iter_mut().map(|(_, tally)| tally);
            let tallies = tallies.chain(self.domains.iter_mut().map(|(_, tally)| tally));
            tallies.chain([&mut self.others]).for_each(|tally| tally.step(step));
        }
        self.steps = passed;
        self.next_step = self.started + STEP * u32::try_from(passed + 1).unwrap_or(u32::MAX);
    }

    /// Where a domain of the directory is counted.
    #[inline]
    pub fn place(&mut self, domain: Option<u32>, directory: &Directory) -> Option<usize> {
        match self.domain_places.get(domain? as usize) {
            Some(&place) if place != NONE => Some(place as usize),
            _ => self.first_of_domain(domain?, directory),
        }
    }

    /// Counts a recipient for a map, by the directory's number, and for a domain, by its [`place`](Tallies::place).
    #[inline]
    pub fn count(&mut self, map: usize, place: Option<usize>, fate: Fate, directory: &Directory) {
        match self.map_places.get(map) {
            Some(&at) if at != NONE => self.maps[at as usize].1.total[fate as usize] += 1,
            _ => self.first_of_map(map, fate, directory),
        }
        if let Some(place) = place {
            match self.domains.get_mut(place) {
                Some((_, tally)) => tally.total[fate as usize] += 1,
                None => self.others.total[fate as usize] += 1,
            }
        }
    }

    #[cold]
    fn first_of_map(&mut self, map: usize, fate: Fate, directory: &Directory) {
        let (Some(place), Some(map)) = (self.map_places.get_mut(map), directory.maps().get(map)) else { return };
        *place = self.maps.len() as u32;
        let mut tally = Tally::default();
        tally.total[fate as usize] += 1;
        self.maps.push((map.name.clone(), tally));
    }

    #[cold]
    fn first_of_domain(&mut self, domain: u32, directory: &Directory) -> Option<usize> {
        let place = self.domain_places.get_mut(domain as usize)?;
        let name = &directory.snapshot().domains().get(domain as usize)?.name;
        if self.domains.len() < MAX_DOMAINS {
            *place = self.domains.len() as u32;
            self.domains.push((name.clone(), Tally::default()));
        } else {
            *place = MAX_DOMAINS as u32;
        }
        Some(*place as usize)
    }

    /// The name of a domain by its place.
    pub fn domain(&self, place: usize) -> Option<&[u8]> {
        self.domains.get(place).map(|(name, _)| &**name)
    }

    /// The counts of each map.
    pub fn maps(&self) -> impl Iterator<Item = (&str, Spans)> {
        self.maps.iter().map(|(name, tally)| (&**name, tally.spans(self.steps)))
    }

    /// The counts of each domain.
    pub fn domains(&self) -> impl Iterator<Item = (&[u8], Spans)> {
        self.domains.iter().map(|(name, tally)| (&**name, tally.spans(self.steps)))
    }

    /// The counts of all domains beyond [`MAX_DOMAINS`].
    pub fn others(&self) -> Spans {
        self.others.spans(self.steps)
    }

    /// All counts together.
    pub fn all(&self) -> Spans {
        let mut all = Spans::default();
        for (_, spans) in self.maps() {
            for at in 0..Fate::ALL.len() {
                all.start[at] += spans.start[at];
                all.hour[at] += spans.hour[at];
                all.day[at] += spans.day[at];
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{DomainGroup, HashKey, Policy, Snapshot};
    use proptest::prelude::*;

    fn directory(names: &[&str]) -> Directory {
        let names = names.iter().map(|name| name.as_bytes().into()).collect();
        let groups = vec![DomainGroup { names, policy: Policy::default() }];
        let key = HashKey::with_seeds(1, 2, 3, 4);
        Directory::new(Snapshot::new(key, Vec::new(), groups, true, Policy::default()), Vec::new())
    }

    fn number(directory: &Directory, name: &str) -> Option<u32> {
        directory.snapshot().number_of(name.as_bytes()).map(|at| at as u32)
    }

    #[test]
    fn counts_stay_with_the_name_from_directory_to_directory() {
        let mut tallies = Tallies::new(Instant::now());
        let first = directory(&["a.example", "b.example"]);
        tallies.follow(&first);
        let place = tallies.place(number(&first, "b.example"), &first);
        tallies.count(0, place, Fate::Refused, &first);
        let other = tallies.place(number(&first, "a.example"), &first);
        tallies.count(1, other, Fate::Accepted, &first);
        tallies.count(1, None, Fate::Foreign, &first);
        let second = directory(&["z.example", "b.example"]);
        tallies.follow(&second);
        assert_eq!(tallies.place(number(&second, "b.example"), &second), place);
        tallies.count(0, place, Fate::Refused, &second);
        assert_eq!(tallies.domain(place.expect("a place")), Some(&b"b.example"[..]));
        let domains: Vec<_> = tallies.domains().map(|(name, spans)| (name.to_vec(), spans.start)).collect();
        assert_eq!(domains, [(b"b.example".to_vec(), [0, 2, 0, 0, 0]), (b"a.example".to_vec(), [1, 0, 0, 0, 0])]);
        let maps: Vec<_> = tallies.maps().map(|(name, spans)| (name.to_owned(), spans.start)).collect();
        assert_eq!(maps, [("rcpt".to_owned(), [0, 2, 0, 0, 0]), ("valid".to_owned(), [1, 0, 0, 0, 1])]);
        assert_eq!(tallies.all().start, [1, 2, 0, 0, 1]);
        assert_eq!(tallies.all().hour, tallies.all().start);
        // before any directory, and with numbers that it does not have
        let mut empty = Tallies::new(Instant::now());
        assert_eq!(empty.place(Some(0), &first), None);
        empty.count(0, None, Fate::Refused, &first);
    }

    #[test]
    fn domains_beyond_the_limit_are_counted_together() {
        let names: Vec<String> = (0..MAX_DOMAINS + 5).map(|n| format!("d{n}.example")).collect();
        let directory = directory(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut tallies = Tallies::new(Instant::now());
        tallies.follow(&directory);
        for _ in 0..2 {
            for n in 0..names.len() as u32 {
                let place = tallies.place(Some(n), &directory);
                tallies.count(0, place, Fate::Accepted, &directory);
            }
        }
        assert_eq!(tallies.domains().count(), MAX_DOMAINS);
        assert_eq!(tallies.others().start, [10, 0, 0, 0, 0]);
    }

    #[test]
    fn an_hour_and_a_day_pass() {
        let start = Instant::now();
        let directory = directory(&["a.example"]);
        let mut tallies = Tallies::new(start);
        tallies.follow(&directory);
        let mut at = |minutes: u64, count: u64| {
            tallies.turn(start + Duration::from_secs(60 * minutes));
            (0..count).for_each(|_| tallies.count(0, None, Fate::Refused, &directory));
            let all = tallies.all();
            (all.start[1], all.hour[1], all.day[1])
        };
        assert_eq!(at(1, 10), (10, 10, 10));
        assert_eq!(at(30, 5), (15, 15, 15));
        assert_eq!(at(64, 0), (15, 15, 15));
        assert_eq!(at(66, 1), (16, 6, 16));
        assert_eq!(at(60 * 24, 2), (18, 2, 18));
        assert_eq!(at(60 * 25 + 1, 0), (18, 2, 3));
        assert_eq!(at(60 * 25 + 6, 0), (18, 0, 3));
        assert_eq!(at(60 * 26 + 1, 0), (18, 0, 2));
        assert_eq!(at(60 * 24 * 30, 0), (18, 0, 0));
        assert_eq!(at(60 * 24 * 30, 3), (21, 3, 3));
    }

    proptest! {
        /// Against a plain list of times.
        #[test]
        fn spans_are_those_of_the_clock(events in proptest::collection::vec((0u64..4000, 0u64..3), 1..120)) {
            let start = Instant::now();
            let directory = directory(&["a.example"]);
            let mut tallies = Tallies::new(start);
            tallies.follow(&directory);
            let mut seen: Vec<u64> = Vec::new();
            let mut at = 0;
            for (pause, count) in events {
                at += pause;
                tallies.turn(start + Duration::from_secs(at));
                for _ in 0..count {
                    tallies.count(0, None, Fate::Accepted, &directory);
                    seen.push(at);
                }
                let within = |seconds: u64| seen.iter().filter(|then| **then + seconds > at).count() as u64;
                let all = tallies.all();
                prop_assert_eq!(all.start[0], seen.len() as u64);
                prop_assert!(within(3600) <= all.hour[0] && all.hour[0] <= within(3900));
                prop_assert!(within(86_400) <= all.day[0] && all.day[0] <= within(90_000));
            }
        }
    }
}
