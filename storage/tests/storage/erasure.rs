//! Erasing: the bytes go from every file, everything else stays, whatever crashes in between.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forebay_storage::{
    Chunk, Compression, DeadLetterRow, Derived, Entry, EntryKind, Erased, ExportRow, Faults,
    FlowExports, Offset, ProgressRow, RejectsMark, SourceMark, StorageError, Store, StoreOptions,
    StoredChunk, Stub, WriteOp,
};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::support::{copy_tree, noise, records};

/// What an erased record holds, and no other.
const SECRET: &str = "ana@example.com";

fn options(faults: Option<Faults>) -> StoreOptions {
    // Small segments, so that an erasure concerns several; nothing packed, so that bytes can be found.
    StoreOptions {
        faults,
        compression: Compression::None,
        segment_bytes: 40_000,
        ..StoreOptions::default()
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, options(None)).unwrap()
}

fn chunks(store: &Store) -> Vec<StoredChunk> {
    store.log().read(Offset::START).collect::<Result<_, _>>().unwrap()
}

/// The files below `dir` that hold `bytes`.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if memchr::memmem::find(&fs::read(&path).unwrap(), bytes).is_some() {
            found.push(path);
        }
    }
    found
}

/// Names in `dir` of what is being built, was set aside, or is planned.
fn left_overs(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = [dir.to_owned(), dir.join("log")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains(".new") || name.contains(".old") || name == "erasure");
    names
}

/// Twelve appends of a control entry and records of which two are secret; the offsets of those.
fn fill(store: &Store) -> Vec<Erased> {
    let mut erased = Vec::new();
    for round in 0..12_u64 {
        let secrets = [format!("{SECRET} {round} a"), format!("{round} {SECRET} b")];
        let (large, small) = (noise(round, 9_000), noise(round, 30));
        let control = format!("control {round}");
        let entries = [
            (EntryKind::Record, &small[..]),
            (EntryKind::Record, secrets[0].as_bytes()),
            (EntryKind::Control, control.as_bytes()),
            (EntryKind::Record, secrets[1].as_bytes()),
            (EntryKind::Record, &large[..]),
        ];
        let chunk = Chunk {
            now_ms: 1_000 + i64::try_from(round).unwrap(),
            mark: (round % 2 == 0).then(|| mark(round)),
            rejects: Some(RejectsMark { generation: 1, length: round }),
            outline: None,
            entries: entries.map(|(kind, bytes)| Entry { kind, bytes }).to_vec(),
        };
        let first = store.log().append(&[chunk, records(&[b"one more"])]).unwrap();
        for at in [1, 3] {
            let stub = Stub { timestamp_ms: (at == 1).then_some(77) };
            erased.push(Erased { offset: first.plus(at), stub });
        }
    }
    store.log().sync().unwrap();
    erased
}

fn mark(round: u64) -> SourceMark {
    let source = "/data/in.ndjson".to_owned();
    SourceMark { source, head_len: 9, head_hash: [7; 32], position: 100 * round, line: round }
}

/// A chunk as it must be, and the bytes of its entries.
type Expected = (StoredChunk, Vec<Vec<u8>>);

/// What the log must hold once `erased` is erased from `before`.
fn expected(before: &[StoredChunk], erased: &[Erased]) -> Vec<Expected> {
    let stub_of = |offset| erased.iter().find(|e| e.offset == offset).map(|e| e.stub.to_bytes());
    before
        .iter()
        .map(|chunk| {
            let mut bare = chunk.clone();
            let mut all = Vec::new();
            for ((kind, _), (offset, was, bytes)) in bare.entries.iter_mut().zip(chunk.iter()) {
                let stub = stub_of(offset).filter(|_| was == EntryKind::Record);
                if stub.is_some() {
                    *kind = EntryKind::Stub;
                }
                all.push(stub.unwrap_or_else(|| bytes.to_vec()));
            }
            (bare, all)
        })
        .collect()
}

fn assert_log(store: &Store, expected: &[Expected], what: &str) {
    let found = chunks(store);
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, (chunk, entries)) in found.iter().zip(expected) {
        let around = |c: &StoredChunk| (c.first, c.now_ms, c.mark.clone(), c.rejects);
        assert_eq!(around(found), around(chunk), "{what}");
        let kinds = |c: &StoredChunk| c.entries.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
        assert_eq!(kinds(found), kinds(chunk), "{what}: {}", found.first);
        assert!(found.iter().map(|(_, _, bytes)| bytes).eq(entries), "{what}: {}", found.first);
    }
}

#[test]
fn what_is_erased_is_in_no_file_and_the_rest_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let erased = fill(&store);
    let (before, controls) = (chunks(&store), store.log().controls().unwrap());
    let stats = store.log().stats().unwrap();
    assert!(stats.segments > 2, "{stats:?}");
    assert!(!holding(dir.path(), SECRET.as_bytes()).is_empty(), "it is there before");

    let erasure = store.log().erase(&erased, &|| true).unwrap();
    assert_eq!((erasure.records, erasure.is_complete), (24, true));
    assert_eq!(erasure.segments, stats.segments);
    assert_eq!(holding(dir.path(), SECRET.as_bytes()), Vec::<PathBuf>::new());
    assert_eq!(left_overs(dir.path()), Vec::<String>::new());
    let expected = expected(&before, &erased);
    let check = |store: &Store, what: &str| {
        assert_log(store, &expected, what);
        assert_eq!(store.log().controls().unwrap(), controls, "{what}");
        let after = store.log().stats().unwrap();
        assert_eq!((after.entries, after.records), (stats.entries, stats.records - 24), "{what}");
        assert_eq!((after.chunks, after.next_offset), (stats.chunks, stats.next_offset), "{what}");
    };
    check(&store, "at once");
    drop(store);
    let store = open(dir.path());
    check(&store, "opened again");
    store.log().erase(&erased, &|| true).unwrap();
    check(&store, "erased once more");
    assert_eq!(store.log().append(&[records(&[b"next"])]).unwrap(), stats.next_offset);
    drop(store);
    assert_eq!(open(dir.path()).log().next_offset(), stats.next_offset.next());
}

#[test]
fn a_stub_says_when_its_record_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let erased = fill(&store);
    store.log().erase(&erased, &|| true).unwrap();
    let mut stubs = Vec::new();
    for chunk in chunks(&store) {
        let found = chunk.iter().filter(|(_, kind, _)| *kind == EntryKind::Stub);
        let read = |(offset, _, bytes)| Erased { offset, stub: Stub::from_bytes(bytes).unwrap() };
        stubs.extend(found.map(read));
    }
    assert_eq!(stubs, erased);
}

#[test]
fn only_records_that_are_there_are_erased() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let control = Entry { kind: EntryKind::Control, bytes: b"stays" };
    store.log().append(&[Chunk { entries: vec![control], ..records(&[]) }]).unwrap();
    let at = |offset| Erased { offset: Offset::from_u64(offset), stub: Stub::default() };
    assert!(matches!(store.log().erase(&[at(1)], &|| true), Err(StorageError::Refused { .. })));
    store.log().erase(&[at(0)], &|| true).unwrap();
    assert_eq!(store.log().controls().unwrap(), [(Offset::START, b"stays".to_vec())]);
    let nothing = store.log().erase(&[], &|| true).unwrap();
    assert_eq!((nothing.records, nothing.segments, nothing.is_complete), (0, 0, true));
}

#[test]
fn readers_go_on_with_what_they_read_and_appends_go_on_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let erased = fill(&store);
    let before = chunks(&store);
    let mut reader = store.log().read(Offset::START);
    let first = reader.next().unwrap().unwrap();
    let appended = Mutex::new(0);
    let append = || {
        store.log().append(&[records(&[b"meanwhile"])]).unwrap();
        *appended.lock().unwrap() += 1;
        true
    };
    store.log().erase(&erased, &append).unwrap();
    let rest: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
    let read: Vec<_> = std::iter::once(first).chain(rest).collect();
    // Each chunk as it was or as it is; none is missing.
    assert!(
        read.iter()
            .map(|c| (c.first, c.entries.len()))
            .eq(before.iter().map(|c| (c.first, c.entries.len())))
    );
    let appended = appended.into_inner().unwrap();
    assert!(appended > 2, "{appended}");
    assert_eq!(chunks(&store).len(), before.len() + appended);
}

/// What is done with a store whose directory is at `dir`: rows that go and rows that stay, in every
/// tree; the secret removed from all of them, and from the log.
fn erase_everywhere(store: &Store, erased: &[Erased]) -> Result<(), StorageError> {
    store.log().erase(erased, &|| true)?;
    store.outbox().withdraw("to", &|row| row.payload.starts_with(SECRET.as_bytes()), 7)?;
    store.outbox().trim("to", 2)?;
    store.dead_letters().remove("to", 7)?;
    store.meta().put("who", b"nobody")?;
    store.sync_state()?;
    store.rewrite_state()
}

fn fill_state(store: &Store) {
    let secret = |n: u64| format!("{SECRET} {n}").into_bytes();
    let row = |payload: Vec<u8>| ExportRow { payload, ..ExportRow::default() };
    let rows = vec![row(secret(1)), row(secret(2)), row(b"stays".to_vec())];
    // Each in a chunk of its own.
    for (first_sequence, row) in (1..).zip(rows) {
        let flow = FlowExports { dataflow: "to".to_owned(), first_sequence, rows: vec![row] };
        let next = store.log().next_offset();
        let derived = Derived { next, flows: vec![flow], ..Derived::default() };
        store.outbox().commit(&derived).unwrap();
    }
    let letter = |payload| DeadLetterRow { export: row(payload), ..DeadLetterRow::default() };
    store.dead_letters().put("to", 7, &letter(secret(7))).unwrap();
    store.dead_letters().put("to", 8, &letter(b"stays".to_vec())).unwrap();
    store.meta().put("who", &secret(9)).unwrap();
    let progress = ProgressRow { watermark: 2, ..ProgressRow::default() };
    store.progress().write("to", &progress, &[]).unwrap();
    store.sync_state().unwrap();
}

fn assert_state(store: &Store, what: &str) {
    let rows = store.outbox().read("to", 0, usize::MAX).unwrap();
    let payloads: Vec<_> = rows.iter().map(|(n, row)| (*n, row.payload.as_slice())).collect();
    assert_eq!(payloads, [(3, &b"stays"[..])], "{what}");
    assert_eq!(store.outbox().next_sequence("to"), 4, "{what}");
    assert_eq!(store.outbox().derived_next(), store.log().next_offset(), "{what}");
    assert_eq!(store.dead_letters().count("to"), 1, "{what}");
    assert_eq!(store.dead_letters().get("to", 8).unwrap().unwrap().export.payload, b"stays");
    assert_eq!(store.progress().read("to").unwrap().watermark, 2, "{what}");
    assert_eq!(store.meta().get("who").unwrap().unwrap(), b"nobody", "{what}");
}

/// A directory whose log and state hold the secret, closed; what to erase, and what is left then.
fn filled() -> (TempDir, Vec<Erased>, Vec<Expected>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let erased = fill(&store);
    fill_state(&store);
    let expected = expected(&chunks(&store), &erased);
    drop(store);
    (dir, erased, expected)
}

#[test]
fn stale_pages_of_the_state_go_when_it_is_rewritten() {
    let (dir, erased, expected) = filled();
    let log_id = open(dir.path()).meta().log_id();
    let store = open(dir.path());
    assert!(!holding(&dir.path().join("state"), SECRET.as_bytes()).is_empty());
    erase_everywhere(&store, &erased).unwrap();
    assert_eq!(holding(dir.path(), SECRET.as_bytes()), Vec::<PathBuf>::new());
    for what in ["at once", "opened again"] {
        let opened = (what != "at once").then(|| open(dir.path()));
        let store = opened.as_ref().unwrap_or(&store);
        assert_state(store, what);
        assert_log(store, &expected, what);
        assert_eq!(store.meta().log_id(), log_id, "{what}");
        store.meta().put("more", b"is written").unwrap();
        store.sync_state().unwrap();
        if opened.is_none() {
            break;
        }
    }
}

/// Finishes what a crash or a fault has interrupted, in the directory `dir`.
fn assert_completes(dir: &Path, after: &str, wanted: (&[Erased], &[Expected])) {
    let (erased, expected) = wanted;
    let store = open(dir);
    let in_log = holding(&dir.join("log"), SECRET.as_bytes());
    let kinds: BTreeSet<bool> = chunks(&store)
        .iter()
        .flat_map(|chunk| chunk.iter().map(|(_, kind, _)| kind == EntryKind::Stub))
        .collect();
    assert_eq!(in_log.is_empty(), kinds.contains(&true), "all or nothing is erased, {after}");
    assert_eq!(left_overs(dir), Vec::<String>::new(), "{after}");
    erase_everywhere(&store, erased).unwrap();
    assert_log(&store, expected, after);
    assert_state(&store, after);
    assert_eq!(holding(dir, SECRET.as_bytes()), Vec::<PathBuf>::new(), "{after}");
}

#[test]
fn after_a_crash_between_any_two_steps_all_live_data_is_there_and_erasing_completes() {
    let (dir, erased, expected) = filled();
    let copies = Arc::new(Mutex::new(Vec::<(WriteOp, TempDir)>::new()));
    let (noted, at) = (Arc::clone(&copies), dir.path().to_owned());
    let copying: Faults = Arc::new(move |op| {
        let copy = tempfile::tempdir()?;
        copy_tree(&at, copy.path());
        noted.lock().unwrap().push((op, copy));
        Ok(())
    });
    let store = Store::open(dir.path(), options(Some(copying))).unwrap();
    erase_everywhere(&store, &erased).unwrap();
    drop(store);
    let copies = std::mem::take(&mut *copies.lock().unwrap());
    let kinds: BTreeSet<String> = copies.iter().map(|(op, _)| format!("{op:?}")).collect();
    for op in ["PlanErasure", "CopySegment", "SwapSegment", "RemoveSegment", "FinishErasure"] {
        assert!(kinds.contains(op), "{op} is none of {kinds:?}");
    }
    for op in ["CopyState", "SwapState", "RemoveState"] {
        assert!(kinds.contains(op), "{op} is none of {kinds:?}");
    }
    for (number, (op, copy)) in copies.iter().enumerate() {
        let after = format!("crashed at step {number}, before {op:?}");
        assert_completes(copy.path(), &after, (&erased, &expected));
    }
}

#[test]
fn after_a_fault_at_any_step_nothing_is_lost_and_erasing_completes() {
    let mut failed = 0;
    for at in 0.. {
        let (dir, erased, expected) = filled();
        let count = AtomicUsize::new(0);
        let failing: Faults = Arc::new(move |_| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            if number == at { Err(io::Error::other("no space left")) } else { Ok(()) }
        });
        let result = Store::open(dir.path(), options(Some(failing))).and_then(|store| {
            let result = erase_everywhere(&store, &erased);
            if result.is_err() {
                let late = store.log().append(&[records(&[b"late"])]);
                assert!(matches!(late, Err(StorageError::Stopped { .. })), "{late:?}");
            }
            result
        });
        assert_completes(dir.path(), &format!("failed at step {at}"), (&erased, &expected));
        if result.is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 20, "{failed} steps are not the whole erasure");
}

#[test]
fn an_erasure_that_is_told_to_stop_goes_on_when_the_log_is_opened() {
    let (dir, erased, expected) = filled();
    let store = open(dir.path());
    let asked = AtomicUsize::new(0);
    let twice = || asked.fetch_add(1, Ordering::SeqCst) < 2;
    let stopped = store.log().erase(&erased, &twice).unwrap();
    assert!(!stopped.is_complete);
    assert!(!holding(&dir.path().join("log"), SECRET.as_bytes()).is_empty());
    drop(store);
    let store = open(dir.path());
    assert_log(&store, &expected, "opened again");
    assert_eq!(holding(&dir.path().join("log"), SECRET.as_bytes()), Vec::<PathBuf>::new());
    assert_eq!(left_overs(dir.path()), Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Any chunks, any records erased in any number of erasures, with appends and restarts between.
    #[test]
    fn whatever_is_erased_the_rest_stays(
        rounds in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(0..9_000_usize, 1..6), 1..5), any::<u64>()),
            1..5,
        )
    ) {
        let dir = tempfile::tempdir()?;
        let mut store = open(dir.path());
        let mut model: Vec<Option<Vec<u8>>> = Vec::new();
        for (lengths, seed) in rounds {
            let owned: Vec<Vec<Vec<u8>>> = lengths
                .iter()
                .map(|chunk| chunk.iter().map(|length| noise(seed ^ *length as u64, *length)).collect())
                .collect();
            let slices: Vec<Vec<&[u8]>> =
                owned.iter().map(|chunk| chunk.iter().map(Vec::as_slice).collect()).collect();
            let appended: Vec<_> = slices.iter().map(|chunk| records(chunk)).collect();
            store.log().append(&appended).unwrap();
            model.extend(owned.into_iter().flatten().map(Some));
            let chosen = noise(seed, model.len());
            let erased: Vec<Erased> = (0..)
                .zip(&chosen)
                .filter(|(_, chance)| **chance < 60)
                .map(|(offset, _)| Erased { offset: Offset::from_u64(offset), stub: Stub::default() })
                .collect();
            for erased in &erased {
                model[usize::try_from(erased.offset.as_u64()).unwrap()] = None;
            }
            prop_assert!(store.log().erase(&erased, &|| true).unwrap().is_complete);
            if seed % 3 == 0 {
                drop(store);
                store = open(dir.path());
            }
            let mut found: Vec<Option<Vec<u8>>> = Vec::new();
            for chunk in chunks(&store) {
                let kept = |(_, kind, bytes): (_, EntryKind, &[u8])| {
                    (kind == EntryKind::Record).then(|| bytes.to_vec())
                };
                found.extend(chunk.iter().map(kept));
            }
            prop_assert!(found == model);
            let live = model.iter().flatten().count() as u64;
            prop_assert_eq!(store.log().stats().unwrap().records, live);
        }
    }
}
