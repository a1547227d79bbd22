//! What the tests with real MTAs stand on: packages, sandboxes, the daemon, an SMTP client.

use std::thread;
use std::time::{Duration, Instant};

pub mod backends;
pub mod daemon;
pub mod exim;
pub mod lists;
pub mod network;
pub mod packages;
pub mod postfix;
pub mod sandbox;
pub mod scenarios;
pub mod sendmail;
pub mod slapd;
pub mod smtp;
pub mod snippet;
pub mod words;
pub mod world;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; fails, naming `what` was waited for, when it doesn't in time.
#[track_caller]
pub fn poll_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
