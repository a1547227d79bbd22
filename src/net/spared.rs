//! `mode = "warn"`: who would have been refused, for the log and by domain.
//!
//! A flood of made-up names must not become a flood of lines: so many a minute are written, the rest is counted.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::logging::address;
use crate::map::Mode;
use crate::resolve::Directory;

/// Lines within [`SPAN`].
const LINES: u32 = 60;
const SPAN: Duration = Duration::from_secs(60);

/// Recipients that exist only because their domain does not enforce refusals yet.
#[derive(Default)]
pub struct Spared {
    domains: HashMap<Box<[u8]>, u64, ahash::RandomState>,
    since: Option<Instant>,
    written: u32,
    unwritten: u64,
}

impl Spared {
    /// One more; `domain` is its place in the snapshot. A domain that is not checked at all is not spoken of.
    #[cold]
    pub fn note(&mut self, domain: Option<u32>, recipient: &[u8], directory: &Directory, now: Instant) {
        let snapshot = directory.snapshot();
        let Some(domain) = domain.and_then(|domain| snapshot.domains().get(domain as usize)) else { return };
        if snapshot.policy(domain).mode != Mode::Warn {
            return;
        }
        match self.domains.get_mut(&domain.name) {
            Some(count) => *count += 1,
            None => {
                self.domains.insert(domain.name.clone(), 1);
            }
        }
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SPAN) {
            if self.unwritten > 0 {
                log::warn!("and {} more recipients would have been refused (mode = \"warn\")", self.unwritten);
            }
            (self.since, self.written, self.unwritten) = (Some(now), 0, 0);
        }
        if self.written < LINES {
            self.written += 1;
            log::warn!("{}: would have been refused (mode = \"warn\")", address(recipient));
        } else {
            self.unwritten += 1;
        }
    }

    /// How many in each domain, since the start.
    pub fn domains(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.domains.iter().map(|(name, count)| (&**name, *count))
    }
}
