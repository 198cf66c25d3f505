//! The directory of a simulated engine, and what happens to it.
//!
//! A kill is a copy of the files as they lie, made at a storage operation or between two steps: what the
//! process had only in memory is not in it. A fault is an operation that fails; the process must stop
//! then, and closes its databases, which writes what they hold. Both leave states that an opening must
//! get along with. On a full disk an operation fails in the same way, but a checkpoint stops nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use forebay_storage::{Compression, StoreOptions, WriteOp};
use tempfile::TempDir;

/// Where files are quickest.
const MEMORY: &str = "/dev/shm";

/// Unit of the databases' files: small, so that a crash costs little.
const UNIT_BYTES: usize = 64 << 10;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// At once: only its files are left.
    Kill,
    /// Because an operation failed.
    Fault,
    /// Because there was no room for an operation, unless it was for a checkpoint.
    Full,
}

/// The directory.
pub(super) struct Disk {
    root: TempDir,
    copies: u64,
    segment_bytes: u64,
    trap: Arc<Mutex<Trap>>,
}

/// Waits for an operation.
#[derive(Default)]
struct Trap {
    /// Operations left until it springs, and how.
    armed: Option<(u64, Crash)>,
    /// Springs only at operations of this kind.
    only: Option<WriteOp>,
    sprung: Option<(WriteOp, Crash)>,
    /// How many operations there were, by kind.
    seen: BTreeMap<String, u64>,
}

impl Disk {
    pub(super) fn new(segment_bytes: u64) -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("forebay-simulation-");
        let memory = Path::new(MEMORY);
        let root = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        let root = root.expect("a temporary directory can be made");
        Self { root, copies: 0, segment_bytes, trap: Arc::default() }
    }

    /// A place beside the data directory.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.copy(self.copies)
    }

    fn copy(&self, number: u64) -> PathBuf {
        self.root.path().join(format!("data-{number}"))
    }

    /// How the store in it is opened.
    pub(super) fn options(&self) -> StoreOptions {
        let trap = Arc::clone(&self.trap);
        let (from, to) = (self.data(), self.copy(self.copies + 1));
        let faults = move |op| {
            let mut trap = lock(&trap);
            *trap.seen.entry(format!("{op:?}")).or_default() += 1;
            match trap.passes(op) {
                None => Ok(()),
                Some(crash) => {
                    if crash == Crash::Kill {
                        copy_tree(&from, &to);
                    }
                    Err(match crash {
                        Crash::Full => io::ErrorKind::StorageFull.into(),
                        Crash::Kill | Crash::Fault => io::Error::other("simulated"),
                    })
                }
            }
        };
        StoreOptions {
            faults: Some(Arc::new(faults)),
            compression: Compression::None,
            segment_bytes: self.segment_bytes,
            unit_bytes: UNIT_BYTES,
        }
    }

    /// Has the operation after `others` more (of this kind, if one is named) be the last.
    pub(super) fn arm(&self, others: u64, crash: Crash, only: Option<WriteOp>) {
        let mut trap = lock(&self.trap);
        trap.armed = Some((others, crash));
        trap.only = only;
    }

    pub(super) fn disarm(&self) {
        lock(&self.trap).armed = None;
    }

    /// The operation that was the last, if one was.
    pub(super) fn sprung(&self) -> Option<(WriteOp, Crash)> {
        lock(&self.trap).sprung
    }

    /// Whether an operation found no room that a process goes on without.
    pub(super) fn has_refused_checkpoint(&self) -> bool {
        let is_for_checkpoint =
            |op| matches!(op, WriteOp::WriteCheckpoint | WriteOp::NameCheckpoint);
        self.sprung().is_some_and(|(op, crash)| crash == Crash::Full && is_for_checkpoint(op))
    }

    /// How many operations there were, by kind.
    pub(super) fn seen(&self) -> BTreeMap<String, u64> {
        lock(&self.trap).seen.clone()
    }

    /// Kills the process between two operations.
    pub(super) fn kill(&mut self) {
        copy_tree(&self.data(), &self.copy(self.copies + 1));
        self.move_on();
    }

    /// The process has ended as its trap had it; whatever it had open is closed.
    pub(super) fn ended(&mut self) {
        let sprung = {
            let mut trap = lock(&self.trap);
            trap.armed = None;
            trap.sprung.take()
        };
        if matches!(sprung, Some((_, Crash::Kill))) {
            self.move_on();
        }
    }

    /// Removes what a process that is gone has left behind.
    pub(super) fn tidy(&self) {
        for number in self.copies.saturating_sub(2)..self.copies {
            // It may be gone already.
            fs::remove_dir_all(self.copy(number)).ok();
        }
    }

    fn move_on(&mut self) {
        self.copies += 1;
    }
}

impl Trap {
    fn passes(&mut self, op: WriteOp) -> Option<Crash> {
        let (left, crash) = self.armed.as_mut()?;
        if self.only.is_some_and(|only| only != op) {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let crash = *crash;
        self.armed = None;
        self.sprung = Some((op, crash));
        Some(crash)
    }
}

fn lock(trap: &Mutex<Trap>) -> MutexGuard<'_, Trap> {
    trap.lock().expect("no holder of the trap panics")
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("the directory can be listed") {
        let entry = entry.expect("an entry can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied");
        }
    }
}
