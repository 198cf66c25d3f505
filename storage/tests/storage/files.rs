//! What lies in a data directory: a lock, private files, whole databases, no unsynced ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use forebay_storage::{Derived, ExportRow, FlowExports, Offset, StorageError, Store, StoreOptions};

use crate::support::{Host, noise, records};

#[test]
fn a_directory_is_opened_once_at_a_time() {
    let mut host = Host::new(StoreOptions::default());
    let error = Store::open(host.dir(), StoreOptions::default()).err().unwrap();
    assert!(matches!(&error, StorageError::InUse { dir } if dir == host.dir()), "{error}");
    assert!(error.to_string().contains(&host.dir().display().to_string()), "{error}");
    host.reopen();
}

#[test]
fn a_directory_is_private_and_made_with_what_is_above_it() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("a").join("b");
    let mode = || fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
    drop(Store::open(&dir, StoreOptions::default()).unwrap());
    assert_eq!(mode(), 0o700);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    drop(Store::open(&dir, StoreOptions::default()).unwrap());
    assert_eq!(mode(), 0o700);
}

#[test]
fn the_log_id_is_drawn_once() {
    let mut host = Host::new(StoreOptions::default());
    let id = host.store().meta().log_id();
    assert_ne!(id, Host::new(StoreOptions::default()).store().meta().log_id());
    assert!(host.store().meta().put("log_id", &[0; 16]).is_err());
    host.crash();
    assert_eq!(host.store().meta().log_id(), id);
}

#[test]
fn named_values_are_replaced_whatever_their_length() {
    let mut host = Host::new(StoreOptions::default());
    for length in [0, 200_000, 5, 61_440, 61_441] {
        host.store().meta().put("clock", &noise(1, length)).unwrap();
        assert_eq!(host.store().meta().get("clock").unwrap().unwrap(), noise(1, length));
        host.reopen();
        assert_eq!(host.store().meta().get("clock").unwrap().unwrap(), noise(1, length));
    }
    assert_eq!(host.store().meta().get("other").unwrap(), None);
}

#[test]
fn a_snapshot_that_was_being_written_keeps_nothing_from_opening() {
    let mut host = Host::new(StoreOptions::default());
    host.store().log().append(&[records(&[b"a"])]).unwrap();
    host.store().log().sync().unwrap();
    host.store().meta().put("clock", b"event").unwrap();
    host.store().sync_state().unwrap();
    let dirs = [host.dir().join("state"), host.dir().join("log").join(format!("{:020}", 0))];
    host.edit(|| {
        for dir in &dirs {
            fs::write(dir.join("snap.7FFFFFFFFFFFFFFF.generating"), b"half of").unwrap();
        }
    });
    host.reopen();
    assert_eq!(host.store().log().next_offset(), Offset::START.next());
    assert_eq!(host.store().meta().get("clock").unwrap().unwrap(), b"event");
}

#[test]
fn a_value_of_an_unknown_format_is_named_and_not_guessed() {
    let mut host = Host::new(StoreOptions::default());
    host.store().log().append(&[records(&[b"a"])]).unwrap();
    let segment = host.dir().join("log").join(format!("{:020}", 0));
    host.edit(|| {
        let config = sled::Config::new().path(&segment).segment_size(8 << 20).flush_every_ms(None);
        let database = config.open().unwrap();
        let chunks = database.open_tree("chunks").unwrap();
        let (key, value) = chunks.first().unwrap().unwrap();
        let mut newer = value.to_vec();
        newer[0] = 9;
        chunks.insert(key, newer).unwrap();
        database.flush().unwrap();
    });
    let error = Store::open(host.dir(), StoreOptions::default()).err().unwrap();
    assert!(matches!(error, StorageError::UnknownFormat { found: 9, known: 2, .. }), "{error}");
}

/// Such files are never synced by the backend: one of them, and a power cut loses the database.
#[test]
fn no_value_goes_to_a_file_of_its_own() {
    let host = Host::new(StoreOptions { segment_bytes: 30 << 20, ..StoreOptions::default() });
    let large = noise(1, 1 << 20);
    let part = noise(2, 60 * 1024 - 100);
    let mut next = Offset::START;
    for round in 0..40 {
        let chunks = [records(&[&large]), records(&[&part]), records(&[&part, b"small"])];
        next = host.store().log().append(&chunks).unwrap().plus(4);
        host.store().log().sync().unwrap();
        let rows: Vec<_> = [&large, &part, &part]
            .map(|payload| ExportRow { payload: payload.clone(), ..ExportRow::default() })
            .to_vec();
        let first_sequence = 3 * round + 1;
        let flow = FlowExports { dataflow: "to".to_owned(), first_sequence, rows };
        let derived = Derived { next, flows: vec![flow], ..Derived::default() };
        host.store().outbox().commit(&derived).unwrap();
        host.store().sync_state().unwrap();
        host.store().outbox().trim("to", first_sequence.saturating_sub(30)).unwrap();
        assert_eq!(unsynced_files(host.dir()), Vec::<PathBuf>::new());
    }
    assert_eq!(host.store().outbox().derived_next(), next);
    assert!(host.store().log().stats().unwrap().segments > 1);
}

fn unsynced_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(unsynced_files(&path));
        } else if path.parent().unwrap().ends_with("blobs") {
            found.push(path);
        }
    }
    found
}
