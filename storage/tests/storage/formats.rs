//! Every kind of stored value begins with its format version, and one of a version that this build does
//! not know is refused by name, never guessed. Only outlines of chunks are passed over, because nothing
//! but time depends on them.
//!
//! The kinds are what is found in the database of a filled store, so a new one that is not listed here
//! fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use forebay_storage::{
    AttemptRow, Chunk, DeadLetterRow, Derived, EndedExport, Entry, EntryKind, Erased, ExportRow,
    FlowExports, FlowMarks, LaneMark, Mark, MarkKey, Offset, Outline, ProgressRow, StorageError,
    Store, StoreOptions, Stub,
};

use crate::support::copy_tree;

const UNKNOWN: u8 = 99;

/// Tree, and the letter that keys of this kind begin with: what is stored there.
const KINDS: [(&str, u8, &str); 16] = [
    ("chunks", b'c', "a chunk of the log"),
    ("chunks", b'm', "a mark of the log"),
    ("dead_letters", b'n', "a count of dead letters"),
    ("dead_letters", b'r', "a dead letter"),
    ("meta", ANY, "a named value"),
    ("outbox", b'd', "the derived offset"),
    ("outbox", b'e', "a chunk of exports"),
    ("outbox", b'f', "the counters of a dataflow"),
    ("outbox", b'l', "a lane"),
    ("outbox", b'p', "a marked profile"),
    ("outbox", b'q', "a count of marked profiles"),
    ("outbox", b'w', "a range of withdrawn exports"),
    ("progress", b'a', "failed attempts of the journal"),
    ("progress", b'g', "a progress row"),
    ("progress", b'j', "a page of the journal"),
    ("progress", b's', "the counters of a journal"),
];

/// Outlines of chunks, which are passed over.
const OUTLINES: (&str, u8) = ("chunks", b'i');

/// Keys of this tree are names.
const ANY: u8 = b'*';

fn fill(store: &Store) {
    let entries = vec![
        Entry { kind: EntryKind::Control, bytes: b"control" },
        Entry { kind: EntryKind::Record, bytes: b"record" },
    ];
    let outline = Some(Outline::default());
    store
        .log()
        .append(&[Chunk { now_ms: 1, mark: None, rejects: None, outline, entries }])
        .unwrap();
    store.log().sync().unwrap();
    let row = |profile| ExportRow { profile, ..ExportRow::default() };
    let dataflow = || "to".to_owned();
    let rows = vec![row(1), row(2), row(1)];
    let set = BTreeMap::from([(MarkKey { policy: 0, profile: 9 }, Mark::default())]);
    let derived = Derived {
        next: Offset::from_u64(2),
        flows: vec![FlowExports { dataflow: dataflow(), first_sequence: 1, rows }],
        lanes: vec![LaneMark { lane: "lane".to_owned(), through: 4 }],
        marked: vec![FlowMarks { dataflow: dataflow(), set, ..FlowMarks::default() }],
    };
    store.outbox().commit(&derived).unwrap();
    store.outbox().withdraw("to", &|row| row.profile == 2, 5).unwrap();
    let attempts = vec![AttemptRow::default()];
    let ended =
        EndedExport { sequence: 1, failures: 1, attempts, ended_ms: 7, ..EndedExport::default() };
    store.progress().write("to", &ProgressRow::default(), &[ended]).unwrap();
    store.dead_letters().put("to", 3, &DeadLetterRow::default()).unwrap();
    store.sync_state().unwrap();
}

/// Reads what there is of every kind.
fn read_all(dir: &Path) -> Result<(), StorageError> {
    let store = Store::open(dir, StoreOptions::default())?;
    store.log().read(Offset::START).collect::<Result<Vec<_>, _>>()?;
    store.log().controls_from(Offset::START)?;
    store.outbox().read("to", 0, usize::MAX)?;
    store.outbox().marked_profiles("to", None, 9)?;
    store.progress().read("to")?;
    store.journal().find("to", 1)?;
    store.dead_letters().list(None, None, 9)?;
    Ok(())
}

/// The databases of a store's directory.
fn databases(dir: &Path) -> [PathBuf; 2] {
    [dir.join("state"), dir.join("log").join(format!("{:020}", 0))]
}

fn open_database(path: &Path) -> sled::Db {
    sled::Config::new().path(path).segment_size(8 << 20).flush_every_ms(None).open().unwrap()
}

/// The first row of each kind: tree, letter, database, key.
fn first_rows(dir: &Path) -> BTreeMap<(String, u8), (PathBuf, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for path in databases(dir) {
        let database = open_database(&path);
        for name in database.tree_names() {
            let tree = String::from_utf8(name.to_vec()).unwrap();
            for row in &database.open_tree(&name).unwrap() {
                let (key, _) = row.unwrap();
                let letter = if tree == "meta" { ANY } else { key[0] };
                found.entry((tree.clone(), letter)).or_insert((path.clone(), key.to_vec()));
            }
        }
    }
    found
}

#[test]
fn a_value_of_an_unknown_format_is_refused_by_its_kind() {
    let filled = tempfile::tempdir().unwrap();
    fill(&Store::open(filled.path(), StoreOptions::default()).unwrap());
    read_all(filled.path()).unwrap();
    let rows = first_rows(filled.path());
    let kinds = KINDS.iter().map(|(tree, letter, _)| (*tree, *letter)).chain([OUTLINES]);
    let kinds: BTreeSet<_> = kinds.map(|(tree, letter)| (tree.to_owned(), letter)).collect();
    assert_eq!(rows.keys().cloned().collect::<BTreeSet<_>>(), kinds, "each kind is listed above");
    for (tree, letter, what) in KINDS {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(filled.path(), copy.path());
        let (path, key) = &rows[&(tree.to_owned(), letter)];
        let database = open_database(&copy.path().join(path.strip_prefix(filled.path()).unwrap()));
        let tree = database.open_tree(tree).unwrap();
        let mut value = tree.get(key).unwrap().unwrap().to_vec();
        value[0] = UNKNOWN;
        tree.insert(key.as_slice(), value).unwrap();
        database.flush().unwrap();
        drop((tree, database));
        refused(&read_all(copy.path()).unwrap_err(), what);
    }
}

#[test]
fn so_is_a_file_and_a_stub() {
    let dir = tempfile::tempdir().unwrap();
    fill(&Store::open(dir.path(), StoreOptions::default()).unwrap());
    std::fs::write(dir.path().join("log/erasure"), [UNKNOWN, 0]).unwrap();
    refused(&read_all(dir.path()).unwrap_err(), "the list of records to erase");
    std::fs::remove_file(dir.path().join("log/erasure")).unwrap();

    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let erased = Erased { offset: Offset::from_u64(1), stub: Stub::default() };
    store.log().erase(&[erased], &|| true).unwrap();
    refused(&Stub::from_bytes(&[UNKNOWN, 0]).unwrap_err(), "a stub of the log");

    let next = Offset::from_u64(2);
    let block = store.checkpoints().pack(1, b"block".to_vec()).unwrap();
    store.checkpoints().write(next, &[block]).unwrap();
    let newest = std::fs::read_dir(dir.path().join("checkpoint")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(newest.path()).unwrap();
    bytes[0] = UNKNOWN;
    std::fs::write(newest.path(), bytes).unwrap();
    let error = store.checkpoints().read(next).map(drop).unwrap_err();
    assert!(matches!(error, StorageError::UnknownFormat { found: UNKNOWN, .. }), "{error}");
}

fn refused(error: &StorageError, what: &str) {
    let known = 2;
    assert_eq!(
        error.to_string(),
        format!(
            "{what} has storage format {UNKNOWN}, this version of forebay reads format {known}: use \
             the version that wrote it, or a newer one"
        )
    );
}
