//! What several tests need: stores in temporary directories, chunks, and a crash that keeps the files.

use std::fs;
use std::path::Path;

use forebay_storage::{Chunk, Entry, EntryKind, Offset, Store, StoreOptions};
use tempfile::TempDir;

/// A store, and the directory that lives as long.
pub(crate) struct Host {
    store: Option<Store>,
    dir: TempDir,
    options: StoreOptions,
}

impl Host {
    pub(crate) fn new(options: StoreOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(Store::open(dir.path(), options.clone()).unwrap());
        Self { store, dir, options }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open between operations")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Closes the store and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.store = None;
        self.store = Some(Store::open(self.dir.path(), self.options.clone()).unwrap());
    }

    /// Closes the store for something done to its files; the store stays closed.
    pub(crate) fn edit(&mut self, edit: impl FnOnce()) {
        self.store = None;
        edit();
    }

    /// Copies the files as they lie and goes on with the copy, as after a kill: the process's memory
    /// is lost, what the kernel was given is there.
    pub(crate) fn crash(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.dir.path(), copy.path());
        self.store = None;
        self.dir = copy;
        self.store = Some(Store::open(self.dir.path(), self.options.clone()).unwrap());
    }
}

pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// A chunk of records with nothing around them.
pub(crate) fn records<'a>(entries: &[&'a [u8]]) -> Chunk<'a> {
    let entry = |bytes: &&'a [u8]| Entry { kind: EntryKind::Record, bytes };
    Chunk {
        now_ms: 1,
        mark: None,
        rejects: None,
        outline: None,
        entries: entries.iter().map(entry).collect(),
    }
}

/// All entries of a log from `from` on.
pub(crate) fn entries(store: &Store, from: Offset) -> Vec<(u64, EntryKind, Vec<u8>)> {
    let mut all = Vec::new();
    for chunk in store.log().read(from) {
        let chunk = chunk.unwrap();
        let entries = chunk.iter().filter(|(offset, _, _)| *offset >= from);
        all.extend(entries.map(|(offset, kind, bytes)| (offset.as_u64(), kind, bytes.to_vec())));
    }
    all
}

/// Bytes that no compressor shortens, the same for the same seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..length).map(next).collect()
}

/// The seed of this run: from `FOREBAY_SEED`, or drawn.
pub(crate) fn seed() -> u64 {
    match std::env::var("FOREBAY_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) << 20,
    }
}
