//! Fail-stop: the n-th operation fails, for every n, and from then on nothing is written.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use forebay_storage::{
    DeadLetterRow, Derived, ExportRow, Faults, FlowExports, Offset, ProgressRow, StorageError,
    Store, StoreOptions, WriteOp,
};

use crate::support::{copy_tree, entries, records};

/// Fails at operation number `at`, and notes all operations.
fn failing_at(at: usize) -> (Faults, Arc<Mutex<Vec<WriteOp>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let count = AtomicUsize::new(0);
    let faults = move |op| {
        noted.lock().unwrap().push(op);
        if count.fetch_add(1, Ordering::SeqCst) == at {
            return Err(io::Error::other("no space left"));
        }
        Ok(())
    };
    (Arc::new(faults), seen)
}

/// What a run of the script has been told is done.
#[derive(Default)]
struct Acknowledged {
    entries: u64,
    sequence: u64,
    dead: u64,
}

fn script(store: &Store, done: &mut Acknowledged) -> Result<(), StorageError> {
    for round in 0..3_u64 {
        let log = store.log();
        let next = log.append(&[records(&[b"a", b"b"])])?.plus(2);
        log.sync()?;
        done.entries = next.as_u64();
        let rows = [1, 2].map(|profile| ExportRow { profile, ..ExportRow::default() }).to_vec();
        let flow = FlowExports { dataflow: "to".to_owned(), first_sequence: 2 * round + 1, rows };
        store.outbox().commit(&Derived { next, flows: vec![flow], ..Derived::default() })?;
        store.sync_state()?;
        done.sequence = 2 * round + 2;
        store.dead_letters().put("to", round, &DeadLetterRow::default())?;
        let row = ProgressRow { watermark: round + 1, ..ProgressRow::default() };
        store.progress().write("to", &row, &[])?;
        store.outbox().withdraw("to", &|row| row.profile == 1, 7)?;
        store.dead_letters().withdraw("to", &|row| row.profile == 1)?;
        store.outbox().trim("to", 2 * round)?;
        store.meta().put("clock", &[1])?;
        store.sync_state()?;
        done.dead = round + 1;
    }
    Ok(())
}

fn assert_stopped(store: &Store, at: usize) {
    let log = store.log();
    let before = log.next_offset();
    let attempts = [
        ("append", log.append(&[records(&[b"late"])]).map(drop)),
        ("sync of the log", log.sync()),
        ("commit", store.outbox().commit(&Derived { next: before, ..Derived::default() })),
        ("progress", store.progress().write("to", &ProgressRow::default(), &[])),
        ("dead letter", store.dead_letters().put("to", 9, &DeadLetterRow::default())),
        ("named value", store.meta().put("clock", &[2])),
        ("sync of the state", store.sync_state()),
    ];
    for (name, result) in attempts {
        let stopped = matches!(&result, Err(StorageError::Stopped { .. }));
        assert!(stopped, "{name} after a fault at operation {at}: {result:?}");
    }
    assert_eq!(log.next_offset(), before);
    assert_eq!(store.dead_letters().get("to", 9).unwrap(), None);
}

#[test]
fn after_a_fault_nothing_is_written_and_nothing_acknowledged_is_lost() {
    let options =
        |faults| StoreOptions { faults: Some(faults), segment_bytes: 1, ..StoreOptions::default() };
    let mut kinds = std::collections::HashSet::new();
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (faults, seen) = failing_at(at);
        let mut done = Acknowledged::default();
        let copy = tempfile::tempdir().unwrap();
        let result = Store::open(dir.path(), options(faults)).and_then(|store| {
            let result = script(&store, &mut done);
            if result.is_err() {
                assert_stopped(&store, at);
            }
            copy_tree(dir.path(), copy.path());
            result
        });
        kinds.extend(seen.lock().unwrap().iter().copied());
        if result.is_ok() {
            assert!(at > 30, "{at} operations are not the whole script");
            break;
        }
        let store = Store::open(copy.path(), StoreOptions::default()).unwrap();
        assert!(store.log().next_offset().as_u64() >= done.entries, "at {at}");
        let offsets = 0..store.log().next_offset().as_u64();
        assert!(entries(&store, Offset::START).iter().map(|e| e.0).eq(offsets), "at {at}");
        assert!(store.outbox().next_sequence("to") > done.sequence, "at {at}");
        assert!(store.outbox().derived_next() <= store.log().next_offset(), "at {at}");
        assert!(store.dead_letters().count("to") >= done.dead, "at {at}");
        let watermark = store.progress().read("to").unwrap().watermark;
        assert!(watermark <= store.dead_letters().count("to"), "done before buried, at {at}");
    }
    assert!(kinds.len() >= 11, "only {kinds:?} were ever hit");
}
