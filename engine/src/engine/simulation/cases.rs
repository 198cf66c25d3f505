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

const PROFILE: &str = r#"{"profile":{"identityMap":{"CRMID":[{"id":"c1"}]},"n":1},"line":0}"#;

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

/// Every kind of operation, but for the opening of a state of which a GiB was written.
const OPERATIONS: [WriteOp; 22] = [
    WriteOp::Append,
    WriteOp::SyncLog,
    WriteOp::OpenSegment,
    WriteOp::PlanErasure,
    WriteOp::CopySegment,
    WriteOp::SwapSegment,
    WriteOp::RemoveSegment,
    WriteOp::FinishErasure,
    WriteOp::OpenState,
    WriteOp::CopyState,
    WriteOp::SwapState,
    WriteOp::RemoveState,
    WriteOp::StoreExports,
    WriteOp::TrimExports,
    WriteOp::WithdrawExports,
    WriteOp::Progress,
    WriteOp::DeadLetter,
    WriteOp::Meta,
    WriteOp::SyncState,
    WriteOp::WriteCheckpoint,
    WriteOp::NameCheckpoint,
    WriteOp::RemoveCheckpoint,
];

/// Kinds of operation that a full disk is tried at: whatever grows with what is derived and delivered.
const WRITES: [WriteOp; 6] = [
    WriteOp::StoreExports,
    WriteOp::Progress,
    WriteOp::DeadLetter,
    WriteOp::SyncState,
    WriteOp::WriteCheckpoint,
    WriteOp::NameCheckpoint,
];

/// Seeds within which each kind of operation must come.
const SEEDS: u64 = 60;

/// In some seed there is such a crash at such an operation, and all is as if there had been none.
fn check_crash(operation: WriteOp, crash: Crash) {
    let comes = |seed: &u64| World::aimed(*seed, operation, crash);
    let came = (1..=SEEDS).find(comes);
    assert!(came.is_some(), "{crash:?} at {operation:?} does not come in {SEEDS} seeds");
}

#[test]
fn a_full_disk_loses_nothing_and_one_without_room_for_a_checkpoint_stops_nothing() {
    for operation in WRITES {
        check_crash(operation, Crash::Full);
    }
}

#[test]
fn after_a_crash_at_any_kind_of_operation_all_is_as_if_there_had_been_none() {
    for operation in OPERATIONS {
        for crash in [Crash::Kill, Crash::Fault] {
            check_crash(operation, crash);
        }
    }
}
