//! The verdict cache: what probes taught us about addresses.
//!
//! Keys are folded addresses (`local@domain`). An entry holds *when* something was learnt, not when it expires, so that
//! changed life times apply at once to what is there, and raising them before a planned outage is enough (REQUIREMENTS,
//! S1-39). Only answers that are believed get in ([`Cache::learn`]); a failed probe leaves no trace but the time of the
//! attempt ([`Cache::tried`]), so it can't overwrite a good answer.
//!
//! | age of | answers | asked again in the background | with the backend down |
//! |---|---|---|---|
//! | exists below `valid_refresh` | yes | no | yes |
//! | exists below `valid` | yes | yes | yes |
//! | exists below `valid + stale` | no | - | yes ([`Freshness::Stale`]) |
//! | absent below `absent_refresh` | yes | no | yes |
//! | absent below `absent` | yes | yes | yes |
//! | absent of a short life: below `absent_refresh` | yes | no | yes |
//!
//! Bounded; the least recently used entry makes room. 40 bytes an entry, some 8 in the table, and the key with what the
//! allocator adds.

use std::time::Duration;

use hashbrown::HashTable;

use super::classify::Life;
use crate::config;
use crate::map::HashKey;
use crate::proto::smtp::Status;
use crate::verdict::Verdict;

/// Seconds since 1970, by the calendar, for what outlives the process. Good until 2106.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

impl Epoch {
    /// How long ago `earlier` was; zero when that is to come.
    pub fn since(self, earlier: Epoch) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0).into())
    }
}

/// What is believed of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// It exists.
    Exists,
    /// It was taken by a next hop that takes everything, for which the configuration says `blind = "exists"`.
    Blind,
    /// There is no such recipient.
    Absent,
    /// The same, not to be believed for long.
    AbsentShort,
}

impl Known {
    /// All of them.
    pub const ALL: [Known; 4] = [Known::Exists, Known::Blind, Known::Absent, Known::AbsentShort];

    /// The word in dumps and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Known::Exists => "exists",
            Known::Blind => "blind",
            Known::Absent => "absent",
            Known::AbsentShort => "absent-short",
        }
    }

    /// As a verdict.
    pub fn verdict(self) -> Verdict {
        match self {
            Known::Exists | Known::Blind => Verdict::Exists,
            Known::Absent | Known::AbsentShort => Verdict::Absent,
        }
    }

    /// What an answer leaves in the cache; `None`: nothing.
    pub fn absent(life: Life) -> Option<Known> {
        match life {
            Life::Full => Some(Known::Absent),
            Life::Short => Some(Known::AbsentShort),
            Life::Once => None,
        }
    }
}

/// A server of a backend, as the configuration names it: what it said is worth nothing once somebody else is to be asked.
/// A digest, the same in every run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// The reply behind an entry; code 0 where there is none (imported).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// Who said it.
    pub by: ServerId,
    /// The reply code.
    pub code: u16,
    /// The enhanced status code.
    pub status: Option<Status>,
}

/// What may be done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Freshness {
    /// It answers.
    Fresh,
    /// It answers, and should be asked again in the background.
    Due,
    /// It serves only where asking again is in vain.
    Stale,
}

/// An entry that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What is believed.
    pub known: Known,
    /// What may be done with it.
    pub freshness: Freshness,
    /// When it was learnt.
    pub learnt: Epoch,
    /// Why.
    pub evidence: Evidence,
}

/// What became of an entry from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Import {
    /// It is in.
    Taken,
    /// The same or something newer is known.
    Known,
    /// It is too old to serve.
    Dead,
}

/// After a failed refresh the next one waits so long.
const RETRY: Duration = Duration::from_secs(60);
/// Seconds by which clocks differ that nobody has set.
const TOLERANCE: u32 = 60;
/// No neighbour in the list of use, or no vacant slot.
const NONE: u32 = u32::MAX;

/// An entry, or with an empty key a vacant slot whose `next` is the next vacant one.
struct Slot {
    key: Box<[u8]>,
    learnt: Epoch,
    tried: Epoch,
    /// Used more recently.
    prev: u32,
    /// Used less recently.
    next: u32,
    by: ServerId,
    said: Said,
}

/// What is believed and the reply behind it: two bits, and three of the numbers below 1000 that replies are made of.
#[derive(Clone, Copy)]
struct Said(u32);

/// In place of a status: none.
const NO_STATUS: u32 = 1023;

impl Said {
    fn new(known: Known, evidence: Evidence) -> Said {
        let number = |number: u16| u32::from(number).min(999);
        let (subject, detail) =
            evidence.status.map_or((NO_STATUS, 0), |status| (number(status.subject), number(status.detail)));
        Said(known as u32 | number(evidence.code) << 2 | subject << 12 | detail << 22)
    }

    fn known(self) -> Known {
        Known::ALL[(self.0 & 3) as usize]
    }

    fn evidence(self, by: ServerId) -> Evidence {
        let number = |at: u32| (self.0 >> at & 1023) as u16;
        let (code, subject, detail) = (number(2), number(12), number(22));
        let status = Status { class: (code / 100) as u8, subject, detail };
        Evidence { by, code, status: (u32::from(subject) != NO_STATUS).then_some(status) }
    }
}

/// The cache.
pub struct Cache {
    lives: config::Cache,
    hash: HashKey,
    table: HashTable<u32>,
    slots: Vec<Slot>,
    vacant: u32,
    /// Most recently used.
    first: u32,
    /// Least recently used.
    last: u32,
    /// Entries that made room for others.
    evicted: u64,
    /// What was learnt and forgotten.
    changes: u64,
    /// Where a walk over all entries is.
    cursor: u32,
}

impl Cache {
    /// An empty cache.
    pub fn new(lives: config::Cache, hash: HashKey) -> Cache {
        let (table, slots) = (HashTable::new(), Vec::new());
        Cache { lives, hash, table, slots, vacant: NONE, first: NONE, last: NONE, evicted: 0, changes: 0, cursor: NONE }
    }

    /// An empty one of the same kind.
    pub fn another(&self) -> Cache {
        Cache::new(self.lives.clone(), self.hash.clone())
    }

    /// Takes in what another cache of the same kind holds. What is known here stays, unless the other one knows something
    /// newer, and counts as used later. It costs what there is here, not what comes in: that may be a million entries.
    pub fn take_in(&mut self, other: Cache) {
        let mut here = std::mem::replace(self, other);
        std::mem::swap(&mut self.lives, &mut here.lives);
        self.changes += here.changes;
        self.evicted += here.evicted;
        let mut at = here.last;
        while let Some(slot) = here.slots.get_mut(at as usize) {
            at = slot.prev;
            let place = match self.index(&slot.key) {
                Some(place) => {
                    self.unlink(place);
                    place
                }
                None => self.add(&slot.key),
            };
            let there = &mut self.slots[place as usize];
            if there.learnt <= slot.learnt {
                std::mem::swap(there, slot);
            }
            self.link_first(place);
        }
        self.set_lives(self.lives.clone());
    }

    /// Other life times and another size, for what is there as well.
    pub fn set_lives(&mut self, lives: config::Cache) {
        self.lives = lives;
        while self.len() > self.lives.entries {
            self.evict();
        }
    }

    /// How many entries there are, expired ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many entries made room for others so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// A number that grows with all that is learnt and forgotten.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Bytes of the heap, without the keys and what the allocator adds to them.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.table.allocation_size()
    }

    /// What is known of an address; it has then been used.
    pub fn find(&mut self, key: &[u8], now: Epoch) -> Option<Hit> {
        let at = self.index(key)?;
        let hit = self.hit(&self.slots[at as usize], now)?;
        self.unlink(at);
        self.link_first(at);
        Some(hit)
    }

    /// The same, without using it.
    pub fn peek(&self, key: &[u8], now: Epoch) -> Option<Hit> {
        self.hit(&self.slots[self.index(key)? as usize], now)
    }

    /// Takes an answer in that is believed.
    pub fn learn(&mut self, key: &[u8], known: Known, evidence: Evidence, now: Epoch) {
        if key.is_empty() || self.lives.entries == 0 {
            return;
        }
        let at = match self.index(key) {
            Some(at) => {
                self.unlink(at);
                at
            }
            None => {
                while self.len() >= self.lives.entries {
                    self.evict();
                }
                self.add(key)
            }
        };
        self.changes += 1;
        let slot = &mut self.slots[at as usize];
        (slot.learnt, slot.tried, slot.by, slot.said) =
            (now, Epoch::default(), evidence.by, Said::new(known, evidence));
        self.link_first(at);
    }

    /// Takes in what was learnt elsewhere, or some time ago.
    pub fn import(&mut self, key: &[u8], known: Known, evidence: Evidence, learnt: Epoch, now: Epoch) -> Import {
        // The clock was set back since, and nobody knows how old it is: a refusal is not believed then.
        let is_to_come = now.0.saturating_add(TOLERANCE) < learnt.0 && known.verdict() == Verdict::Absent;
        let learnt = learnt.min(now);
        if is_to_come || !self.is_alive(known, learnt, now) {
            return Import::Dead;
        }
        match self.peek(key, now) {
            Some(hit)
                if hit.evidence.by == evidence.by
                    && (hit.learnt > learnt || hit.learnt == learnt && hit.known == known) =>
            {
                Import::Known
            }
            _ => {
                self.learn(key, known, evidence, learnt);
                Import::Taken
            }
        }
    }

    /// An attempt to learn something newer, which may be in vain.
    pub fn tried(&mut self, key: &[u8], now: Epoch) {
        if let Some(at) = self.index(key) {
            self.slots[at as usize].tried = now;
        }
    }

    /// Drops an entry.
    pub fn forget(&mut self, key: &[u8]) -> bool {
        self.index(key).is_some_and(|at| {
            self.remove(at);
            true
        })
    }

    /// Drops the entries that `which` chooses by local part and domain, and tells how many.
    pub fn forget_where(&mut self, which: impl FnMut(&[u8], &[u8]) -> bool) -> usize {
        let before = self.len();
        self.forget_among(0, usize::MAX, which);
        before - self.len()
    }

    /// The same among the entries at some places, from `from` on; and the place where it goes on.
    pub fn forget_among(
        &mut self,
        from: usize,
        places: usize,
        mut which: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Option<usize> {
        let end = from.saturating_add(places).min(self.slots.len());
        for at in from as u32..end as u32 {
            let key = &self.slots[at as usize].key;
            let cut = memchr::memrchr(b'@', key).unwrap_or(key.len());
            if !key.is_empty() && which(&key[..cut], key.get(cut + 1..).unwrap_or_default()) {
                self.remove(at);
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    /// Drops everything; what comes back may take long to be freed.
    pub fn clear(&mut self) -> Cache {
        let empty = Cache { changes: self.changes + 1, evicted: self.evicted, ..self.another() };
        std::mem::replace(self, empty)
    }

    /// Begins a walk over all entries, least recently used first; there is one at a time.
    pub fn begin_walk(&mut self) {
        self.cursor = self.last;
    }

    /// The next entry of the walk, if it may still serve; `None`: it is over. Whatever happens between two steps, every
    /// entry that stays is met; one that is used meanwhile may be met again.
    pub fn walk(&mut self, now: Epoch) -> Option<(&[u8], Option<Hit>)> {
        let slot = self.slots.get(self.cursor as usize)?;
        self.cursor = slot.prev;
        Some((&slot.key, self.hit(slot, now)))
    }

    /// Entries by place, from `from` on, at most so many places; and the place where it goes on.
    pub fn page(&self, from: usize, places: usize, now: Epoch) -> (impl Iterator<Item = (&[u8], Hit)>, Option<usize>) {
        let from = from.min(self.slots.len());
        let end = from.saturating_add(places).min(self.slots.len());
        let entries = self.slots[from..end].iter().filter(|slot| !slot.key.is_empty());
        (
            entries.filter_map(move |slot| Some((&*slot.key, self.hit(slot, now)?))),
            (end < self.slots.len()).then_some(end),
        )
    }

    /// All entries that may still serve, least recently used first: what is read back in this order keeps it.
    pub fn iter(&self, now: Epoch) -> impl Iterator<Item = (&[u8], Hit)> {
        let mut at = self.last;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.prev;
            Some(slot)
        })
        .filter_map(move |slot| Some((&*slot.key, self.hit(slot, now)?)))
    }

    /// Whether an entry may still serve.
    fn is_alive(&self, known: Known, learnt: Epoch, now: Epoch) -> bool {
        self.freshness(known, learnt, Epoch::default(), now).is_some()
    }

    fn freshness(&self, known: Known, learnt: Epoch, tried: Epoch, now: Epoch) -> Option<Freshness> {
        let lives = &self.lives;
        let age = now.since(learnt);
        let (refresh, life, stale) = match known {
            Known::Exists | Known::Blind => (lives.valid_refresh, lives.valid, lives.stale),
            Known::Absent => (lives.absent_refresh, lives.absent, Duration::ZERO),
            Known::AbsentShort => (lives.absent_refresh, lives.absent_refresh.min(lives.absent), Duration::ZERO),
        };
        if age < refresh.min(life) {
            Some(Freshness::Fresh)
        } else if age < life {
            Some(if now.since(tried) < RETRY { Freshness::Fresh } else { Freshness::Due })
        } else {
            (age < life + stale).then_some(Freshness::Stale)
        }
    }

    fn hit(&self, slot: &Slot, now: Epoch) -> Option<Hit> {
        let known = slot.said.known();
        let freshness = self.freshness(known, slot.learnt, slot.tried, now)?;
        Some(Hit { known, freshness, learnt: slot.learnt, evidence: slot.said.evidence(slot.by) })
    }

    fn index(&self, key: &[u8]) -> Option<u32> {
        let hash = self.hash.hash_one(key);
        self.table.find(hash, |&at| *self.slots[at as usize].key == *key).copied()
    }

    fn add(&mut self, key: &[u8]) -> u32 {
        let slot = Slot {
            key: key.into(),
            learnt: Epoch::default(),
            tried: Epoch::default(),
            prev: NONE,
            next: NONE,
            by: ServerId::default(),
            said: Said::new(Known::Absent, Evidence::default()),
        };
        let at = match self.slots.get_mut(self.vacant as usize) {
            Some(vacant) => {
                let at = self.vacant;
                self.vacant = vacant.next;
                *vacant = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        let (hash, slots) = (&self.hash, &self.slots);
        self.table.insert_unique(hash.hash_one(key), at, |&at| hash.hash_one(&*slots[at as usize].key));
        at
    }

    fn evict(&mut self) {
        let at = self.last;
        if at != NONE {
            self.remove(at);
            self.evicted += 1;
        }
    }

    fn remove(&mut self, at: u32) {
        self.changes += 1;
        self.unlink(at);
        let hash = self.hash.hash_one(&*self.slots[at as usize].key);
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        let slot = &mut self.slots[at as usize];
        slot.key = Box::default();
        slot.next = self.vacant;
        self.vacant = at;
    }

    fn unlink(&mut self, at: u32) {
        let Slot { prev, next, .. } = self.slots[at as usize];
        if self.cursor == at {
            self.cursor = prev;
        }
        match self.slots.get_mut(prev as usize) {
            Some(slot) => slot.next = next,
            None => self.first = next,
        }
        match self.slots.get_mut(next as usize) {
            Some(slot) => slot.prev = prev,
            None => self.last = prev,
        }
    }

    fn link_first(&mut self, at: u32) {
        let first = std::mem::replace(&mut self.first, at);
        match self.slots.get_mut(first as usize) {
            Some(slot) => slot.prev = at,
            None => self.last = at,
        }
        (self.slots[at as usize].prev, self.slots[at as usize].next) = (NONE, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lives(entries: usize) -> config::Cache {
        config::Cache { entries, ..config::Cache::default() }
    }

    fn cache(entries: usize) -> Cache {
        Cache::new(lives(entries), HashKey::with_seeds(1, 2, 3, 4))
    }

    const YES: Evidence = Evidence { by: ServerId(7), code: 250, status: None };
    const NO: Evidence =
        Evidence { by: ServerId(u32::MAX), code: 550, status: Some(Status { class: 5, subject: 1, detail: 1 }) };
    const HOUR: u32 = 3600;
    const DAY: u32 = 24 * HOUR;

    fn freshness(cache: &Cache, key: &[u8], now: u32) -> Option<Freshness> {
        cache.peek(key, Epoch(now)).map(|hit| hit.freshness)
    }

    #[test]
    fn entries_age() {
        let mut cache = cache(10);
        cache.learn(b"a@x", Known::Exists, YES, Epoch(DAY));
        cache.learn(b"b@x", Known::Absent, NO, Epoch(DAY));
        cache.learn(b"c@x", Known::AbsentShort, NO, Epoch(DAY));
        for (key, age, expected) in [
            (b"a@x", 0, Some(Freshness::Fresh)),
            (b"a@x", 12 * HOUR - 1, Some(Freshness::Fresh)),
            (b"a@x", 12 * HOUR, Some(Freshness::Due)),
            (b"a@x", 24 * HOUR - 1, Some(Freshness::Due)),
            (b"a@x", 24 * HOUR, Some(Freshness::Stale)),
            (b"a@x", 32 * DAY - 1, Some(Freshness::Stale)),
            (b"a@x", 32 * DAY, None),
            (b"b@x", 899, Some(Freshness::Fresh)),
            (b"b@x", 900, Some(Freshness::Due)),
            (b"b@x", 3000, None),
            (b"c@x", 899, Some(Freshness::Fresh)),
            (b"c@x", 900, None),
        ] {
            assert_eq!(freshness(&cache, key, DAY + age), expected, "{} after {age}", key.escape_ascii());
        }
        let hit = cache.find(b"b@x", Epoch(DAY)).expect("there");
        assert_eq!((hit.known, hit.evidence, hit.learnt), (Known::Absent, NO, Epoch(DAY)));
        assert_eq!(cache.find(b"a@x", Epoch(DAY)).expect("there").evidence, YES);
    }

    #[test]
    fn changed_lives_apply_to_what_is_there() {
        let mut cache = cache(10);
        cache.learn(b"a@x", Known::Exists, YES, Epoch(0));
        assert_eq!(freshness(&cache, b"a@x", 2 * DAY), Some(Freshness::Stale));
        cache.set_lives(config::Cache { valid: Duration::from_secs(7 * 86_400), ..lives(10) });
        assert_eq!(freshness(&cache, b"a@x", 2 * DAY), Some(Freshness::Due));
    }

    #[test]
    fn a_failed_refresh_waits_before_the_next_and_changes_nothing() {
        let mut cache = cache(10);
        cache.learn(b"a@x", Known::Exists, YES, Epoch(0));
        let due = 13 * HOUR;
        cache.tried(b"a@x", Epoch(due));
        assert_eq!(freshness(&cache, b"a@x", due + 59), Some(Freshness::Fresh));
        assert_eq!(freshness(&cache, b"a@x", due + 60), Some(Freshness::Due));
        cache.tried(b"nobody@x", Epoch(due));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = cache(3);
        for key in [&b"a@x"[..], b"b@x", b"c@x"] {
            cache.learn(key, Known::Exists, YES, Epoch(0));
        }
        assert!(cache.find(b"a@x", Epoch(0)).is_some());
        cache.learn(b"d@x", Known::Exists, YES, Epoch(0));
        assert!(cache.peek(b"b@x", Epoch(0)).is_none());
        let order: Vec<&[u8]> = cache.iter(Epoch(0)).map(|(key, _)| key).collect();
        assert_eq!(order, [&b"c@x"[..], b"a@x", b"d@x"]);
        cache.set_lives(lives(1));
        assert_eq!((cache.len(), cache.evicted()), (1, 3));
        assert!(cache.peek(b"d@x", Epoch(0)).is_some());
    }

    #[test]
    fn what_another_one_holds_comes_in_below_what_is_known() {
        let names = |cache: &Cache| -> Vec<(String, Known, u32)> {
            let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
            cache.iter(Epoch(100)).map(|(key, hit)| (text(key), hit.known, hit.learnt.0)).collect()
        };
        let mut file = cache(4);
        for key in [&b"a@x"[..], b"b@x", b"c@x", b"d@x"] {
            file.learn(key, Known::Exists, YES, Epoch(50));
        }
        let mut here = cache(4);
        here.learn(b"e@x", Known::Absent, NO, Epoch(60));
        here.learn(b"d@x", Known::Absent, NO, Epoch(50));
        here.learn(b"b@x", Known::Absent, NO, Epoch(40));
        here.tried(b"d@x", Epoch(70));
        let before = here.changes();
        here.take_in(file);
        let expected = [("c@x", Known::Exists, 50), ("e@x", Known::Absent, 60), ("d@x", Known::Absent, 50)];
        let mut expected: Vec<_> = expected.map(|(key, known, learnt)| (key.to_owned(), known, learnt)).into();
        // It was asked for meanwhile, but the file knows something newer.
        expected.push(("b@x".to_owned(), Known::Exists, 50));
        assert_eq!(names(&here), expected);
        assert!(here.len() == 4 && here.evicted() == 1 && here.changes() > before);
        // It grows and shrinks as before.
        here.learn(b"f@x", Known::Exists, YES, Epoch(90));
        assert_eq!(here.iter(Epoch(100)).next().map(|(key, _)| key.to_vec()), Some(b"e@x".to_vec()));
        assert!(here.forget(b"b@x") && here.forget(b"f@x") && here.len() == 2);
        let mut small = cache(1);
        small.take_in(here);
        assert_eq!(small.len(), 1);
        let mut none = cache(4);
        none.take_in(cache(4));
        assert!(none.is_empty() && none.iter(Epoch(0)).next().is_none());
    }

    #[test]
    fn what_comes_from_elsewhere_is_as_old_as_it_says() {
        let mut cache = cache(10);
        let mut import = |key: &[u8], known, learnt, now| {
            let done = cache.import(key, known, Evidence::default(), Epoch(learnt), Epoch(now));
            (done, cache.peek(key, Epoch(now)).map(|hit| (hit.known, hit.learnt.0, hit.freshness)))
        };
        let now = 100 * DAY;
        let yes = |learnt, freshness| Some((Known::Exists, learnt, freshness));
        assert_eq!(
            import(b"a@x", Known::Exists, now - 2 * DAY, now),
            (Import::Taken, yes(now - 2 * DAY, Freshness::Stale))
        );
        assert_eq!(import(b"a@x", Known::Exists, now - 9, now), (Import::Taken, yes(now - 9, Freshness::Fresh)));
        for (known, learnt) in [(Known::Exists, now - 9), (Known::Absent, now - 10)] {
            assert_eq!(import(b"a@x", known, learnt, now), (Import::Known, yes(now - 9, Freshness::Fresh)));
        }
        assert_eq!(
            import(b"a@x", Known::Absent, now + 5, now),
            (Import::Taken, Some((Known::Absent, now, Freshness::Fresh)))
        );
        assert_eq!(import(b"b@x", Known::Absent, now - HOUR, now), (Import::Dead, None));
        // The clock was set back since: how old it is, nobody knows.
        assert_eq!(import(b"b@x", Known::Absent, now + HOUR, now), (Import::Dead, None));
        assert_eq!(import(b"c@x", Known::Exists, now + HOUR, now), (Import::Taken, yes(now, Freshness::Fresh)));
        assert_eq!(import(b"b@x", Known::Exists, now - 40 * DAY, now), (Import::Dead, None));
    }

    #[test]
    fn entries_are_dropped_by_address_and_domain() {
        let mut cache = cache(10);
        for key in [&b"a@x"[..], b"b@x", b"a@y", b"\"@\"@x"] {
            cache.learn(key, Known::Exists, YES, Epoch(0));
        }
        assert!(cache.forget(b"a@x") && !cache.forget(b"a@x"));
        assert_eq!(cache.forget_among(0, 2, |_, domain| domain == b"x"), Some(2));
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.forget_where(|_, domain| domain == b"x"), 1);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.clear().len(), 1);
        assert!(cache.is_empty() && cache.iter(Epoch(0)).next().is_none());
    }

    #[test]
    fn what_is_kept_of_a_reply_comes_back() {
        for known in Known::ALL {
            for (code, status) in
                [(0, None), (250, None), (599, Some((0, 0))), (550, Some((1, 1))), (554, Some((999, 999)))]
            {
                let status = status.map(|(subject, detail)| Status { class: (code / 100) as u8, subject, detail });
                let evidence = Evidence { by: ServerId(3), code, status };
                let said = Said::new(known, evidence);
                assert_eq!((said.known(), said.evidence(ServerId(3))), (known, evidence));
            }
        }
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Slot>(), 40);
        let mut cache = cache(100_000);
        for n in 0..100_000 {
            cache.learn(format!("{n}@x").as_bytes(), Known::Exists, YES, Epoch(0));
        }
        // As it grows, without the key: at worst a table and a vector that have just doubled.
        assert!(cache.heap_bytes() <= 100_000 * 64, "{}", cache.heap_bytes());
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(acts in proptest::collection::vec((0u8..4, 0u8..12), 0..200)) {
            let mut cache = cache(5);
            let mut list: Vec<u8> = Vec::new();
            for (act, n) in acts {
                let key = [b'a' + n, b'@', b'x'];
                let there = list.iter().position(|&m| m == n);
                match act {
                    0 => {
                        if there.is_some() {
                            list.retain(|&m| m != n);
                        } else if list.len() == 5 {
                            list.remove(0);
                        }
                        list.push(n);
                        cache.learn(&key, Known::Exists, YES, Epoch(0));
                    }
                    1 => {
                        list.retain(|&m| m != n);
                        prop_assert_eq!(cache.forget(&key), there.is_some());
                    }
                    _ => {
                        prop_assert_eq!(cache.find(&key, Epoch(0)).is_some(), there.is_some());
                        if there.is_some() {
                            list.retain(|&m| m != n);
                            list.push(n);
                        }
                    }
                }
                let order: Vec<u8> = cache.iter(Epoch(0)).map(|(key, _)| key[0] - b'a').collect();
                prop_assert_eq!(&order, &list);
                prop_assert_eq!(cache.len(), list.len());
            }
        }
    }
}
