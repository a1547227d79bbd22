//! `grace`: addresses that have vanished from a source, and are still accepted for a time.
//!
//! A restart does not shorten their time: the store keeps each generation under the time at which it ends.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::map::Content;

/// Steps into which a time of grace is parted: those that vanish within one step have their time together, so that a
/// source that changes every minute does not become a thousand contents.
const STEPS: u32 = 32;

/// What has vanished from one source.
#[derive(Default)]
pub struct Vanished {
    generations: Vec<Generation>,
    /// All of them that are not listed again, for the snapshot.
    joined: Option<Arc<Content>>,
}

struct Generation {
    until: Instant,
    /// The same for another process. (In this one the clock may be set without ending anybody's time.)
    until_time: SystemTime,
    step_ends: Instant,
    content: Arc<Content>,
}

impl Vanished {
    /// What is still accepted.
    pub fn content(&self) -> Option<&Arc<Content>> {
        self.joined.as_ref()
    }

    /// What is to be saved, and until when each counts.
    pub fn generations(&self) -> impl ExactSizeIterator<Item = (SystemTime, &Content)> {
        self.generations.iter().map(|generation| (generation.until_time, &*generation.content))
    }

    /// Begins with what was saved. `grace` is the longest time that anybody has.
    pub fn restore(&mut self, saved: Vec<(SystemTime, Content)>, current: &Content, grace: Duration, now: Instant) {
        let (time, longest) = (SystemTime::now(), grace + grace / STEPS);
        self.generations = saved
            .into_iter()
            .filter_map(|(until_time, content)| {
                let left = until_time.duration_since(time).ok()?.min(longest);
                let content = Arc::new(content);
                Some(Generation { until: now + left, until_time, step_ends: now, content })
            })
            .collect();
        self.generations.sort_by_key(|generation| generation.until);
        self.join(current);
    }

    /// How many addresses that are.
    pub fn len(&self) -> usize {
        self.joined.as_ref().map_or(0, |content| content.len())
    }

    /// The source changes from one content to another.
    pub fn note(&mut self, old: &Content, new: &Content, grace: Duration, now: Instant) {
        if grace.is_zero() {
            *self = Vanished::default();
            return;
        }
        self.generations.retain(|generation| generation.until > now);
        if let Some(content) = old.vanished_in(new) {
            match self.generations.last_mut().filter(|last| last.step_ends > now) {
                Some(last) => last.content = Arc::new(Content::joined([&*last.content, &content])),
                None => self.generations.push(Generation {
                    until: now + grace + grace / STEPS,
                    until_time: SystemTime::now() + grace + grace / STEPS,
                    step_ends: now + grace / STEPS,
                    content: Arc::new(content),
                }),
            }
        }
        self.join(new);
    }

    /// Lets go whose time has passed. `true`: there were some.
    pub fn expire(&mut self, current: &Content, now: Instant) -> bool {
        let before = self.generations.len();
        self.generations.retain(|generation| generation.until > now);
        let expired = self.generations.len() < before;
        if expired {
            self.join(current);
        }
        expired
    }

    /// When the time of the next ones ends.
    pub fn next(&self) -> Option<Instant> {
        self.generations.iter().map(|generation| generation.until).min()
    }

    fn join(&mut self, current: &Content) {
        let gone: Vec<Content> = self.generations.iter().filter_map(|g| g.content.vanished_in(current)).collect();
        self.joined = if gone.is_empty() { None } else { Some(Arc::new(Content::joined(&gone))) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Builder, Domains, Grant, HashKey, Item, Key, KeyText};

    fn content(names: &str) -> Content {
        let mut builder = Builder::new(HashKey::with_seeds(1, 2, 3, 4), false, Domains::new());
        for name in names.bytes() {
            let key = Key::Recipient { local: &[name], domain: b"a.example" };
            builder.add(&Item { key, grant: Grant::ACCEPT }).expect("a good address");
        }
        builder.finish(|_| {})
    }

    fn shown(vanished: &Vanished) -> String {
        let mut names: Vec<String> = vanished
            .content()
            .iter()
            .flat_map(|content| content.listed())
            .map(|listed| KeyText(listed.key).to_string().trim_end_matches("@a.example").to_owned())
            .collect();
        names.sort();
        names.concat()
    }

    #[test]
    fn who_vanishes_has_a_time_of_grace_and_may_come_back() {
        let (hour, start) = (Duration::from_secs(3600), Instant::now());
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        let mut vanished = Vanished::default();
        vanished.note(&content("abcd"), &content("cd"), hour, at(0));
        assert_eq!(shown(&vanished), "ab");
        vanished.note(&content("cd"), &content("ad"), hour, at(1));
        assert_eq!(shown(&vanished), "bc", "a is listed again, c vanished");
        vanished.note(&content("ad"), &content("d"), hour, at(30));
        assert_eq!(shown(&vanished), "abc");
        assert!(!vanished.expire(&content("d"), at(59)));
        assert!(vanished.expire(&content("d"), at(62)));
        assert_eq!(shown(&vanished), "a");
        assert!(vanished.expire(&content("d"), at(95)));
        assert_eq!((shown(&vanished).as_str(), vanished.next()), ("", None));
    }

    #[test]
    fn what_was_saved_has_what_is_left_of_its_time() {
        let (hour, now, time) = (Duration::from_secs(3600), Instant::now(), SystemTime::now());
        let saved = vec![
            (time + hour / 2, content("b")),
            (time - hour, content("a")),
            (time + hour * 9, content("c")),
            (time + hour / 4, content("d")),
        ];
        let mut vanished = Vanished::default();
        vanished.restore(saved, &content("d"), hour, now);
        assert_eq!(shown(&vanished), "bc", "the time of a is over, d is listed again");
        assert!(vanished.expire(&content("d"), now + hour * 3 / 4));
        assert_eq!(shown(&vanished), "c");
        assert!(vanished.expire(&content("d"), now + hour * 5 / 4), "nobody has longer than is configured now");
        vanished.restore(Vec::new(), &content(""), hour, now);
        assert_eq!(shown(&vanished), "");
    }

    #[test]
    fn many_changes_are_few_generations() {
        let (hour, start) = (Duration::from_secs(3600), Instant::now());
        let mut vanished = Vanished::default();
        for second in (0..7200).step_by(20) {
            let now = start + Duration::from_secs(second);
            let (old, new) = if second % 40 == 0 { ("ab", "a") } else { ("ac", "ab") };
            vanished.note(&content(old), &content(new), hour, now);
        }
        assert!(vanished.generations.len() <= STEPS as usize + 2, "{}", vanished.generations.len());
    }
}
