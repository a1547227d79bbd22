//! The scheduler with its caches and breakers against scripted next hops, by chance: a fake network, a fake clock.
//!
//! `SIM_RUNS=100000 cargo test --release --test probe_sim` for more runs, `SIM_SEED=N` for one of them with its dialogue.

#[path = "probe/world.rs"]
mod world;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

/// One run; what kinds of answers it saw.
fn play(seed: u64, show: bool) -> HashSet<String> {
    let mut world = World::random(seed, show);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(()) => world.seen,
        Err(panic) => {
            println!("SIM_SEED={seed} cargo test --test probe_sim -- --nocapture");
            resume_unwind(panic);
        }
    }
}

#[test]
fn next_hops_of_every_kind() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("SIM_SEED") {
        play(seed, true);
        return;
    }
    let runs = number("SIM_RUNS").unwrap_or(if cfg!(debug_assertions) { 20_000 } else { 50_000 });
    let some = |from: u64, to: u64| (from..to).flat_map(|seed| play(seed, false)).collect::<HashSet<String>>();
    let half = std::thread::spawn(move || some(0, runs / 2));
    let mut seen = some(runs / 2, runs);
    match half.join() {
        Ok(more) => seen.extend(more),
        Err(panic) => resume_unwind(panic),
    }
    // Every way to an answer was gone.
    let mut seen: Vec<String> = seen.into_iter().collect();
    seen.sort();
    let expected = [
        "absent Cache",
        "absent Probe",
        "exists Cache",
        "exists Probe",
        "exists Stale",
        "exists Unavailable",
        "unknown Nothing",
        "unknown Unavailable",
    ];
    assert_eq!(seen, expected);
}
