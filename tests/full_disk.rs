//! A disk that is full: the engine says so and stops; nothing accepted is lost (`SPEC.md` §2). One that has
//! no room for a checkpoint only does not stop it.
//!
//! The data directory stands on a small file system of its own, which only root can make; without it
//! a test says that it was skipped.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_engine::engine::{CheckpointPolicy, Engine, Mode, Notice};
use forebay_engine::error::EngineError;
use forebay_storage::{StoreOptions, WriteOp};
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow_with, one_audience, rule};
use forebay_tests::place::{Silent, feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{PATIENCE, Place, Program, Record, Seed};

/// Size of the file system: the whole input fits, if nothing else is there.
const DISK_MIB: usize = 80;

/// What is taken away at first, and given back.
const BALLAST_MIB: usize = 60;

const RECORDS: usize = 12_000;

/// Dataflows that each export every customer, so that exports take more than the log.
const FLOWS: [&str; 4] = ["a", "b", "c", "d"];

/// Customers that are exported by each.
const EXPORTED: usize = 1_500;

/// Room for their records, and for a part of their exports.
const EXPORTS_BALLAST_MIB: usize = 58;

/// What is left free where there is to be no room for a checkpoint, but for all else.
const LEFT_BYTES: u64 = 24 << 20;

const COMMAND: &str = "run --input in.ndjson --drain --output json";

/// A file system in memory, mounted until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at `at`, or tells why that cannot be.
    fn mount(at: &Path) -> Result<Self, String> {
        std::fs::create_dir(at).map_err(|error| error.to_string())?;
        let options = format!("size={DISK_MIB}m,mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let output = command.output().map_err(|error| format!("no mount command: {error}"))?;
        if output.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.0).status();
        let is_unmounted = unmounted.is_ok_and(|status| status.success());
        assert!(is_unmounted || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

/// Mounts a small file system where the data of `place` is to be; without one, says that the test is
/// skipped.
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn small_disk(place: &Place) -> Option<SmallDisk> {
    match SmallDisk::mount(&place.data()) {
        Ok(disk) => Some(disk),
        Err(why) => {
            println!("skipped: a small file system cannot be mounted here: {why}");
            None
        }
    }
}

/// Records that hardly compress: each of a customer of its own, with 2 KiB of random digits.
fn input(records: usize) -> String {
    let mut seed = Seed::new(7);
    let record = |n: usize| {
        let digits: Vec<String> = (0..128).map(|_| format!("{:016x}", seed.next_u64())).collect();
        let digits = digits.concat();
        let members = format!("\"n\":{},\"x\":\"{digits}\"", n % 10);
        Record::profile(&format!("c{n}")).at("01T00:00:00").with(&members)
    };
    ndjson((0..records).map(record).collect::<Vec<_>>())
}

#[test]
fn a_full_disk_stops_the_engine_and_loses_nothing() {
    // Nobody is in the audience: this is about the log.
    let place = Place::new(&one_audience("n > 100"));
    let Some(disk) = small_disk(&place) else { return };
    place.write("in.ndjson", input(RECORDS));
    let ballast = place.data().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_MIB << 20]).unwrap();
    let program = Program::at(place.path());

    for attempt in ["first", "second"] {
        let run = program.run(COMMAND);
        assert_eq!(run.status, Some(1), "{attempt}: {run:?}");
        run.tells(&["No space left on device", "data", "make room and start again"]);
        assert!(!run.stderr.contains("panicked"), "{attempt}: {}", run.stderr);
    }

    std::fs::remove_file(&ballast).unwrap();
    let kept = program.run("log stats --output json").expect_status(0).json();
    let kept = kept["records"].as_u64().unwrap();
    let run = program.run(COMMAND).expect_status(0);
    let summary = run.json();
    assert_eq!(summary["profiles"], RECORDS);
    assert_eq!(summary["records"]["accepted"].as_u64(), Some(RECORDS as u64 - kept));
    assert!(kept > 0, "the disk was full before anything was accepted");
    drop(disk);
}

/// Dataflows that export every customer whole; nothing is sent while they are paused.
fn four_flows(paused: bool) -> String {
    let flow = |id| dataflow_with(id, &["any"], &["n", "x"], &format!("paused = {paused}"));
    let flows = FLOWS.map(flow).concat();
    [EVENT_CLOCK, &rule("any", "n >= 0"), SINK, &flows].concat()
}

#[test]
fn a_disk_that_exports_fill_stops_the_engine_and_all_of_them_arrive_once_there_is_room() {
    let place = Place::new(&four_flows(true));
    let Some(disk) = small_disk(&place) else { return };
    place.write("in.ndjson", input(EXPORTED));
    let ballast = place.data().join("ballast");
    std::fs::write(&ballast, vec![1; EXPORTS_BALLAST_MIB << 20]).unwrap();
    let program = Program::at(place.path());

    for attempt in ["first", "second"] {
        let run = program.run(COMMAND);
        assert_eq!(run.status, Some(1), "{attempt}: {run:?}");
        run.tells(&["No space left on device", "data/state", "make room and start again"]);
        assert!(!run.stderr.contains("panicked"), "{attempt}: {}", run.stderr);
    }
    assert_eq!(place.receiver.requests().len(), 0, "they are paused");

    std::fs::remove_file(&ballast).unwrap();
    place.configure(&four_flows(false));
    let summary = program.run(COMMAND).expect_status(0).json();
    assert_eq!(summary["profiles"], EXPORTED);
    let mut arrived = BTreeMap::new();
    for request in place.receiver.requests() {
        *arrived.entry((request.dataflow().to_owned(), request.sequence())).or_insert(0) += 1;
    }
    for flow in FLOWS {
        let ended = &summary["dataflows"][flow];
        assert_eq!(
            (&ended["delivered"], &ended["waiting"]),
            (&EXPORTED.into(), &0.into()),
            "{flow}"
        );
        let stored = ended["exports"].as_u64().unwrap();
        assert!(stored > 0, "{flow}: the disk was full only when all was stored");
        let sequences = 1..=EXPORTED as u64;
        let once = sequences.into_iter().all(|n| arrived.get(&(flow.to_owned(), n)) == Some(&1));
        assert!(once, "{flow}: not every export arrived exactly once");
    }
    assert_eq!(arrived.len(), FLOWS.len() * EXPORTED, "and no other");
    drop(disk);
}

/// The files of the checkpoints of a place.
fn checkpoints(place: &Place) -> Vec<String> {
    let files = std::fs::read_dir(place.data().join("checkpoint")).expect("there was one");
    let name = |file: std::fs::DirEntry| file.file_name().to_string_lossy().into_owned();
    files.map(|file| name(file.expect("an entry can be read"))).collect()
}

fn customers(from: usize) -> String {
    let record =
        |n: usize| Record::profile(&format!("c{n}")).at("01T00:00:00").with(&format!("\"n\":{n}"));
    ndjson((from..from + 50).map(record).collect::<Vec<_>>())
}

/// Takes 50 customers and a delete while `fill` has left no room for a checkpoint, and compacts when
/// `clear` has made some.
fn check_without_room_for_a_checkpoint(
    place: &Place,
    storage: &dyn Fn() -> StoreOptions,
    (fill, clear): (&dyn Fn(), &dyn Fn()),
) {
    let open = || place.try_open_with(Mode::Deliver, storage()).expect("the engine starts");
    let drain = |engine: &Engine| engine.drain(PATIENCE, &Silent).expect("the engine drains");
    let engine = open();
    feed(&engine, &customers(0));
    drain(&engine);
    engine.close().expect("the engine stops");
    let before = checkpoints(place);
    assert_eq!(before.len(), 1, "{before:?}");

    fill();
    let engine = open();
    feed(&engine, &customers(50));
    feed(&engine, &ndjson([Record::delete("c7")]));
    drain(&engine);
    let refused = engine.compact().expect_err("a checkpoint must be replaced before");
    assert!(matches!(&refused, EngineError::NoRoom(_)), "{refused:?}");
    assert!(refused.to_string().contains("make room on the disk"), "{refused}");
    feed(&engine, &ndjson([Record::profile("late").at("01T00:00:00").with("\"n\":1")]));
    drain(&engine);
    let told = engine.notices().into_iter().filter_map(|notice| match notice {
        Notice::CheckpointRefused { reason } => Some(reason),
        _ => None,
    });
    let told: Vec<String> = told.collect();
    let [reason] = &told[..] else { panic!("it is told once: {told:?}") };
    assert!(reason.contains("no room for") && reason.contains("checkpoint/"), "{reason}");
    assert_eq!(engine.log_stats().expect("it answers").sizes.expect("they are told").stubs, 0);
    engine.close().expect("without a checkpoint it stops like with one");
    assert_eq!(checkpoints(place), before, "the earlier one stays, and nothing of another");
    assert_eq!(place.receiver.requests().len(), 101);

    clear();
    let engine = open();
    assert!(profile_line(&engine, "c99").is_some() && profile_line(&engine, "c7").is_none());
    engine.compact().expect("there is room");
    let sizes = engine.log_stats().expect("it answers").sizes.expect("they are told");
    assert_eq!(sizes.stubs, 2, "the profile and its delete");
    drain(&engine);
    engine.close().expect("the engine stops");
    let after = checkpoints(place);
    assert!(after.len() == 1 && after > before, "{after:?}");
    assert_eq!(place.receiver.requests().len(), 101, "nothing is sent twice");
}

#[test]
fn a_checkpoint_that_finds_no_room_stops_neither_intake_nor_delivery_nor_the_end() {
    for operation in [WriteOp::WriteCheckpoint, WriteOp::NameCheckpoint] {
        let mut place = Place::new(&one_audience("n >= 0"));
        place.checkpoints = CheckpointPolicy::EAGER;
        let is_full = Arc::new(AtomicBool::new(false));
        let storage = || {
            let is_full = Arc::clone(&is_full);
            let faults = move |op| {
                let is_hit = op == operation && is_full.load(Ordering::SeqCst);
                if is_hit { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
            };
            StoreOptions { faults: Some(Arc::new(faults)), ..StoreOptions::default() }
        };
        let fill = || is_full.store(true, Ordering::SeqCst);
        let clear = || is_full.store(false, Ordering::SeqCst);
        check_without_room_for_a_checkpoint(&place, &storage, (&fill, &clear));
    }
}

#[test]
fn a_disk_with_no_room_for_a_checkpoint_goes_on_with_the_rest() {
    let mut place = Place::new(&one_audience("n >= 0"));
    let Some(disk) = small_disk(&place) else { return };
    place.checkpoints = CheckpointPolicy::EAGER;
    let ballast = place.data().join("ballast");
    let fill = || {
        let free = place.ask(|engine| engine.disk().expect("it answers").free_bytes);
        let bytes = usize::try_from(free - LEFT_BYTES).expect("it is more than is left");
        std::fs::write(&ballast, vec![1; bytes]).unwrap();
    };
    let clear = || std::fs::remove_file(&ballast).unwrap();
    check_without_room_for_a_checkpoint(&place, &StoreOptions::default, (&fill, &clear));
    drop(disk);
}
