//! The whole engine in steps, without threads, against a disk, a clock and receivers that one seed
//! decides (`DESIGN.md` §7, `SPEC.md` §8).
//!
//! ```text
//!  script   configuration and lines            random   what a seed decides
//!     │                                           │
//!     ▼                                           ▼
//!  world    appender, deriver and workers, each step by step in any order; kills and faults at any
//!     │     storage operation or between two steps, and an opening of what is left (disk)
//!     ├──► watch   what receivers see, over all lives
//!     └──► twin    the same log, derived by a run that never crashed
//! ```
//!
//! The store is a real one, in memory if the machine has a file system there. Nothing waits and nothing
//! reads the machine's clock, so a seed does the same each time.

mod actors;
mod cases;
mod checks;
mod cuts;
mod disk;
mod mutants;
mod operator;
mod random;
mod receivers;
mod reloader;
mod script;
mod twin;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::panic::catch_unwind;

use world::World;

/// Seeds that run with the other tests.
const SEEDS: u64 = 200;

/// Runs the world of `seed`; what happened in it, and how often.
fn run(seed: u64) -> BTreeMap<String, u64> {
    let mut world = World::new(seed);
    world.run();
    world.seen()
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// `FOREBAY_SEED=7` runs that seed alone, `FOREBAY_SEEDS=20000` so many from the first on. Every seed is
/// run, whichever fail.
#[test]
fn simulation_of_the_whole_engine() {
    let alone = number("FOREBAY_SEED");
    let count = number("FOREBAY_SEEDS").unwrap_or(if alone.is_some() { 1 } else { SEEDS });
    let first = alone.unwrap_or(1);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in first..first + count {
        match catch_unwind(|| run(seed)) {
            Ok(happened) => {
                for (what, times) in happened {
                    *seen.entry(what).or_default() += times;
                }
            }
            Err(_) => failed.push(seed),
        }
    }
    writeln!(std::io::stderr(), "simulation: {count} seeds from {first}: {seen:?}").unwrap();
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}
