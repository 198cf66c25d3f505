//! A process that is killed while it writes loses nothing it has acknowledged.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::{noise, seed};
use crate::writer::{Acks, Writer, check};

const ROUNDS: u64 = 20;

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let seed = seed();
    writeln!(std::io::stderr(), "kill: FOREBAY_SEED={seed}").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for round in 0..ROUNDS {
        let chance = noise(seed.wrapping_add(round), 2);
        let mut writer = Writer::start(dir.path());
        writer.wait_for(1 + u64::from(chance[0]) % 60);
        // Somewhere within what it does next.
        thread::park_timeout(Duration::from_micros(40 * u64::from(chance[1])));
        let acks = writer.kill();
        checked = check(dir.path(), acks, checked);
    }
    check(dir.path(), Acks::default(), 0);
}
