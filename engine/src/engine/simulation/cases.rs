//! Single moments that a simulation has found, once more and on purpose.

use forebay_storage::WriteOp;

use super::disk::{Crash, Disk};
use super::random::Random;
use super::script::{Line, Script};
use super::world::World;

/// A world with these lines; a segment of the log is sealed after so many bytes.
fn world(lines: &[(&str, bool)], segment_bytes: u64) -> World {
    let (mut random, disk) = (Random::new(1), Disk::new(segment_bytes));
    let line =
        |(text, is_good): &(&str, bool)| Line { text: (*text).to_owned(), is_good: *is_good };
    let lines = lines.iter().map(line).collect();
    let script = Script::of_lines(&mut random, &disk.beside(""), lines);
    let mut world = World::of(1, random, (disk, script));
    world.is_calm = true;
    world.open();
    world
}

const PROFILE: &str = r#"{"profile":{"identityMap":{"CRMID":[{"id":"c1"}]},"n":1}}"#;

#[test]
fn a_line_refused_in_a_block_that_a_crash_cuts_off_is_refused_once() {
    // Two blocks in one group; the second begins a segment, so that the first is durable before it.
    let mut world = world(&[(PROFILE, true), ("{}", false)], 1);
    world.read(1);
    world.read(1);
    world.disk.arm(1, Crash::Kill, Some(WriteOp::Append));
    world.append(2);
    assert_eq!(world.acknowledged.entries.len(), 2, "the definitions, and the first block");
    world.come_to_rest();
    world.check_end();
}
