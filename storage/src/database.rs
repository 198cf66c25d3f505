//! One database in one directory, opened with the settings that make it durable.
//!
//! What was measured of the backend, and is answered here:
//!
//! - Its `flush` asks the kernel to write pages, without the metadata that finds them again: after a
//!   power cut nothing acknowledged was left. So [`Database::sync`] syncs the file itself behind it.
//! - It never syncs the directories it makes. So a database is built under another name, synced with
//!   everything in it, and only then renamed (see [`crate::replacement`]): under its own name it is
//!   always whole.
//! - Values over a quarter of its internal segment go to files it never syncs (see [`crate::parts`]).
//! - It holds its file a moment longer than the value that is dropped, so opening again may have to
//!   wait for that.
//! - A crash or a full disk while it writes a snapshot leaves the half of one, which it takes for the
//!   newest the next time and refuses to open. So what it has not finished is removed before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sled::{Batch, Tree};

use crate::fail_stop::FailStop;
use crate::sync_gate::SyncGate;
use crate::{StorageError, WriteOp, directory, parts, replacement};

/// Unit of the backend's own log. At 8 MiB no value of ours reaches the size of its unsynced files.
pub(crate) const UNIT_BYTES: usize = 8 << 20;

/// How long an earlier opening in this process may take to let go of the file.
const RELEASE_WAIT: Duration = Duration::from_millis(5);
const RELEASE_WAITS_MAX: u32 = 2_000;

/// Extension of the backend's snapshot until all of it is written.
const UNFINISHED_SNAPSHOT: &str = "generating";

/// Page cache while a database is created.
const CREATE_CACHE_BYTES: u64 = 1 << 20;

/// Bytes of rows that are copied in one batch.
const COPY_BYTES: usize = 256 << 10;

/// A database: trees of sorted keys that share one write-ahead log.
pub(crate) struct Database {
    path: PathBuf,
    backend: sled::Db,
    /// The backend's data file, opened once more to be synced.
    file: File,
    gate: SyncGate,
    fail_stop: Arc<FailStop>,
}

impl Database {
    /// Creates an empty database at `path`, durably, and leaves it closed.
    pub(crate) fn create(path: &Path, fail_stop: &FailStop) -> Result<(), StorageError> {
        Unfinished::begin(path, CREATE_CACHE_BYTES, fail_stop)?.finish()?;
        replacement::take_place(path)
    }

    /// Opens the database at `path` with a page cache of about `cache_bytes`.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: u64,
        fail_stop: &Arc<FailStop>,
    ) -> Result<Self, StorageError> {
        // Opened first: the backend would create what is missing, and pass it off as empty.
        let data = path.join("db");
        let file = File::open(&data).map_err(StorageError::io("open", &data))?;
        let backend = open_backend(path, cache_bytes, fail_stop)?;
        Ok(Self {
            path: path.to_owned(),
            backend,
            file,
            gate: SyncGate::default(),
            fail_stop: Arc::clone(fail_stop),
        })
    }

    /// What stops writing to it.
    pub(crate) fn fail_stop(&self) -> &FailStop {
        &self.fail_stop
    }

    /// The tree of this name, created if need be.
    pub(crate) fn tree(&self, name: &str) -> Result<Tree, StorageError> {
        self.backend.open_tree(name).map_err(StorageError::database("open", &self.path))
    }

    /// Writes a batch to one tree, all of it or nothing; visible on return, not durable.
    pub(crate) fn apply(&self, op: WriteOp, tree: &Tree, batch: Batch) -> Result<(), StorageError> {
        self.fail_stop.write(op, || {
            tree.apply_batch(batch).map_err(StorageError::database("write to", &self.path))
        })
    }

    /// Makes everything written before this call durable; concurrent callers share one sync.
    pub(crate) fn sync(&self, op: WriteOp) -> Result<(), StorageError> {
        self.gate.pass(|| {
            self.fail_stop.write(op, || {
                self.backend.flush().map_err(StorageError::database("flush", &self.path))?;
                self.file.sync_data().map_err(StorageError::io("sync", &self.path))
            })
        })
    }
}

/// A database that is being built, and has no name of its own until it is.
pub(crate) struct Unfinished {
    /// Where it is to be in the end.
    path: PathBuf,
    backend: sled::Db,
}

impl Unfinished {
    /// Begins the database that is to be at `path`, where another may be.
    pub(crate) fn begin(
        path: &Path,
        cache_bytes: u64,
        fail_stop: &FailStop,
    ) -> Result<Self, StorageError> {
        replacement::remove_unfinished(path)?;
        let building = replacement::unfinished(path);
        directory::create(&building)?;
        let backend = open_backend(&building, cache_bytes, fail_stop)?;
        Ok(Self { path: path.to_owned(), backend })
    }

    /// The tree of this name, created if need be.
    pub(crate) fn tree(&self, name: impl AsRef<[u8]>) -> Result<Tree, StorageError> {
        self.backend.open_tree(name).map_err(StorageError::database("build", &self.path))
    }

    /// Writes a batch to one of its trees.
    pub(crate) fn apply(&self, tree: &Tree, batch: Batch) -> Result<(), StorageError> {
        tree.apply_batch(batch).map_err(StorageError::database("build", &self.path))
    }

    /// Copies rows, as they are stored, to one of its trees.
    pub(crate) fn copy_rows(&self, rows: sled::Iter, tree: &Tree) -> Result<(), StorageError> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for row in rows {
            let (key, value) = row.map_err(parts::cannot_read)?;
            bytes += key.len() + value.len();
            batch.insert(key, value);
            if bytes >= COPY_BYTES {
                self.apply(tree, std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.apply(tree, batch)
    }

    /// Copies all trees of another database.
    pub(crate) fn copy_all(&self, from: &Database) -> Result<(), StorageError> {
        for name in from.backend.tree_names() {
            let source = from
                .backend
                .open_tree(&name)
                .map_err(StorageError::database("read", &from.path))?;
            self.copy_rows(source.iter(), &self.tree(&name)?)?;
        }
        Ok(())
    }

    /// Makes all of it durable and closes it; it waits for its name then.
    pub(crate) fn finish(self) -> Result<(), StorageError> {
        let Self { path, backend } = self;
        backend.flush().map_err(StorageError::database("build", &path))?;
        drop(backend);
        directory::sync_all(&replacement::unfinished(&path))
    }
}

fn open_backend(
    path: &Path,
    cache_bytes: u64,
    fail_stop: &FailStop,
) -> Result<sled::Db, StorageError> {
    remove_unfinished_snapshots(path)?;
    let mut waits = 0;
    loop {
        let opened = sled::Config::new()
            .path(path)
            .segment_size(fail_stop.unit_bytes())
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .open();
        match opened {
            Err(error) if is_lock(&error) && waits < RELEASE_WAITS_MAX => {
                waits += 1;
                thread::park_timeout(RELEASE_WAIT);
            }
            other => return other.map_err(StorageError::database("open", path)),
        }
    }
}

/// Removes snapshots that were being written when the process or the disk came to its end. The backend
/// renames a snapshot when it is whole, and recovers from its log what a missing one would have told.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StorageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StorageError::io("list", path)(error)),
    };
    for entry in entries {
        let file = entry.map_err(StorageError::io("list", path))?.path();
        if file.extension().is_some_and(|extension| extension == UNFINISHED_SNAPSHOT) {
            fs::remove_file(&file).map_err(StorageError::io("remove", &file))?;
        }
    }
    Ok(())
}

/// The backend reports a held lock as text alone. Our own lock has kept other processes out, so the
/// holder can only be an opening in this one that is about to end.
fn is_lock(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}
