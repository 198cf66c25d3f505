//! A crash some time after a checkpoint: nothing differs for it.
//!
//! What is compared is the same directory twice: as the crash has left it, and without its checkpoint,
//! so that the whole log is derived again.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_engine::engine::{CheckpointPolicy, Mode, Notice};
use forebay_engine::error::EngineError;
use forebay_storage::{Faults, StoreOptions, WriteOp};
use forebay_tests::place::{Silent, copy_tree};
use forebay_tests::record::ndjson;
use forebay_tests::{Place, Request, Seed};

use super::naive::POLICIES;
use super::random::{self, Happening, What};
use super::{configuration, members, play};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 25;

/// Records before the checkpoint, behind it, and after the crash.
const RECORDS: usize = 30;

/// A checkpoint of the first part, the second behind it, then a crash: two copies of what that left,
/// the second without the checkpoint.
fn crashed(configuration: &str, parts: [&[Happening]; 2]) -> [Place; 2] {
    let mut place = Place::new(configuration);
    place.checkpoints = CheckpointPolicy::EAGER;
    place.run_with(|engine| play(engine, parts[0]));
    place.checkpoints = CheckpointPolicy::NEVER;
    let engine = place.try_open(Mode::Derive).expect("the engine starts");
    play(&engine, parts[1]);
    let copies = [place.copied(configuration), place.copied(configuration)];
    engine.close().expect("the engine stops");
    fs::remove_dir_all(copies[1].data().join("checkpoint")).expect("it is there");
    copies
}

/// Every export that arrived, with what makes it one.
fn exports(requests: &[Request]) -> Vec<String> {
    let of = |request: &Request| {
        format!("{} {:09} {}", request.dataflow(), request.sequence(), request.text())
    };
    let mut all: Vec<_> = requests.iter().map(of).collect();
    all.sort();
    all
}

/// Goes on with `part` and tells everything that is known and exported then. Nothing is sent before all
/// of it is derived, so that what deletes withdraw does not depend on how quick delivery is.
fn gone_on(place: &Place, part: &[Happening]) -> (Vec<String>, Vec<String>) {
    let engine = place.try_open(Mode::Derive).expect("the engine starts");
    let is_unused = |notice: &Notice| matches!(notice, Notice::CheckpointUnused { .. });
    assert!(!engine.notices().iter().any(is_unused), "a checkpoint is used if there is one");
    play(&engine, part);
    engine.close().expect("the engine stops");
    let ran = place.run_with(|_| {});
    (place.ask(members), exports(&ran.requests))
}

/// What differs first.
fn first_difference<'a>(found: &'a [String], expected: &'a [String]) -> Option<(&'a str, &'a str)> {
    let longest = found.len().max(expected.len());
    let pairs = (0..longest).map(|at| {
        let line = |lines: &'a [String]| lines.get(at).map_or("nothing", String::as_str);
        (line(found), line(expected))
    });
    pairs.into_iter().find(|(found, expected)| found != expected)
}

#[test]
fn what_a_crash_leaves_is_the_same_with_a_checkpoint_and_without() {
    let configuration = configuration();
    let mut exported = 0;
    for seed in 0..SEEDS {
        let mut random = Seed::new(seed);
        let all = random::happenings(&mut random, 3 * RECORDS, POLICIES);
        let [first, second, third] = [0, 1, 2].map(|part| &all[part * RECORDS..][..RECORDS]);
        let [with, without] = crashed(&configuration, [first, second]);
        let (found, expected) = (with.ask(members), without.ask(members));
        assert_eq!(first_difference(&found, &expected), None, "seed {seed}, after the crash");
        let (found, expected) = (gone_on(&with, third), gone_on(&without, third));
        assert_eq!(first_difference(&found.0, &expected.0), None, "seed {seed}, members");
        assert_eq!(first_difference(&found.1, &expected.1), None, "seed {seed}, exports");
        exported += found.1.len();
    }
    assert!(exported > 100, "{exported} exports are too few to prove anything");
}

/// Happenings that one file holds; each is a job of the engine, and a checkpoint is made behind it.
const IN_A_FILE: usize = 12;

/// The files of a run.
const FILES: usize = 5;

/// Reads all files from where they were accepted; nothing is sent.
fn read_all(place: &Place, storage: StoreOptions) -> Result<(), EngineError> {
    let engine = place.try_open_with(Mode::Derive, storage)?;
    for number in 0..FILES {
        engine.read_file(&place.path().join(format!("{number}.ndjson")), &Silent)?;
    }
    engine.close()
}

/// Copies the data directory before each step of a checkpoint: what a process that dies then leaves.
fn copying(data: PathBuf, to: PathBuf) -> Faults {
    let count = AtomicUsize::new(0);
    Arc::new(move |op| {
        let is_step = matches!(
            op,
            WriteOp::WriteCheckpoint | WriteOp::NameCheckpoint | WriteOp::RemoveCheckpoint
        );
        if is_step {
            let number = count.fetch_add(1, Ordering::SeqCst);
            copy_tree(&data, &to.join(format!("{number:03} {op:?}")));
        }
        Ok(())
    })
}

#[test]
fn a_crash_at_any_step_of_a_checkpoint_changes_nothing() {
    let configuration = configuration();
    let mut random = Seed::new(7);
    let all = random::happenings(&mut random, IN_A_FILE * FILES, POLICIES);
    let records = all.iter().filter(|happening| !matches!(happening.what, What::Imported(_)));
    let lines: Vec<String> = records.map(Happening::line).collect();
    let write_files = |place: &Place| {
        for (number, lines) in lines.chunks(lines.len().div_ceil(FILES)).enumerate() {
            place.write(&format!("{number}.ndjson"), ndjson(lines));
        }
    };
    let mut place = Place::new(&configuration);
    write_files(&place);
    place.checkpoints = CheckpointPolicy::EAGER;
    let copies = tempfile::tempdir().expect("there is room for a directory");
    let faults = Some(copying(place.data(), copies.path().to_owned()));
    read_all(&place, StoreOptions { faults, ..StoreOptions::default() }).expect("it reads them");
    let expected = (place.ask(members), exports(&place.run_with(|_| {}).requests));
    assert!(expected.1.len() > 20, "{} exports are too few", expected.1.len());

    let mut steps = BTreeSet::new();
    for entry in fs::read_dir(copies.path()).expect("it can be read") {
        let copy = entry.expect("an entry can be read");
        let step = copy.file_name().to_string_lossy().into_owned();
        fs::remove_dir_all(place.data()).expect("it is there");
        copy_tree(&copy.path(), &place.data());
        place.checkpoints = CheckpointPolicy::NEVER;
        read_all(&place, StoreOptions::default()).expect("it goes on");
        let found = (place.ask(members), exports(&place.run_with(|_| {}).requests));
        assert_eq!(first_difference(&found.0, &expected.0), None, "{step}, members");
        assert_eq!(first_difference(&found.1, &expected.1), None, "{step}, exports");
        steps.insert(step[4..].to_owned());
    }
    assert_eq!(steps.len(), 3, "{steps:?}");
}
