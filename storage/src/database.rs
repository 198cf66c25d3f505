//! One database in one directory, opened with the settings that make it durable.
//!
//! What was measured of the backend, and is answered here:
//!
//! - Its `flush` asks the kernel to write pages, without the metadata that finds them again: after a
//!   power cut nothing acknowledged was left. So [`Database::sync`] syncs the file itself behind it.
//! - It never syncs the directories it makes. So a database is built under a name ending in `.new`,
//!   synced with everything in it, and only then renamed: under its own name it is always whole.
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
use crate::{StorageError, WriteOp, directory};

/// Unit of the backend's own log. At 8 MiB no value of ours reaches the size of its unsynced files.
pub(crate) const SLED_SEGMENT_BYTES: usize = 8 << 20;

/// How long an earlier opening in this process may take to let go of the file.
const RELEASE_WAIT: Duration = Duration::from_millis(5);
const RELEASE_WAITS_MAX: u32 = 2_000;

/// Extension of a database's directory until all of it is durable.
const UNFINISHED: &str = "new";

/// Extension of the backend's snapshot until all of it is written.
const UNFINISHED_SNAPSHOT: &str = "generating";

/// Page cache while a database is created.
const CREATE_CACHE_BYTES: u64 = 1 << 20;

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
    pub(crate) fn create(path: &Path) -> Result<(), StorageError> {
        let building = unfinished(path);
        remove_if_unfinished(&building)?;
        directory::create(&building)?;
        let backend = open_backend(&building, CREATE_CACHE_BYTES)?;
        backend.flush().map_err(StorageError::database("create", path))?;
        drop(backend);
        directory::sync_all(&building)?;
        fs::rename(&building, path).map_err(StorageError::io("create", path))?;
        directory::sync(directory::parent(path))
    }

    /// Opens the database at `path` with a page cache of about `cache_bytes`.
    pub(crate) fn open(
        path: &Path,
        cache_bytes: u64,
        fail_stop: &Arc<FailStop>,
    ) -> Result<Self, StorageError> {
        let backend = open_backend(path, cache_bytes)?;
        let data = path.join("db");
        let file = File::open(&data).map_err(StorageError::io("open", &data))?;
        Ok(Self {
            path: path.to_owned(),
            backend,
            file,
            gate: SyncGate::default(),
            fail_stop: Arc::clone(fail_stop),
        })
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

/// Where a database is built before it gets its name.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED)
}

/// Removes `path` if it is what a crash left of a database that was being created.
pub(crate) fn remove_if_unfinished(path: &Path) -> Result<(), StorageError> {
    if path.extension().is_some_and(|extension| extension == UNFINISHED) && path.is_dir() {
        fs::remove_dir_all(path).map_err(StorageError::io("remove", path))?;
    }
    Ok(())
}

fn open_backend(path: &Path, cache_bytes: u64) -> Result<sled::Db, StorageError> {
    remove_unfinished_snapshots(path)?;
    let mut waits = 0;
    loop {
        let opened = sled::Config::new()
            .path(path)
            .segment_size(SLED_SEGMENT_BYTES)
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
