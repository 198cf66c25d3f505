//! The state database: what cannot be derived from the log again without sending twice.
//!
//! Opening a database reads what was written since it was opened before. The state is written for as
//! long as the engine runs, so it must now and then be opened anew ([`State::renew`]), at a moment
//! that the engine chooses.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use sled::{Batch, Tree};

use crate::database::{Database, Unfinished};
use crate::fail_stop::FailStop;
use crate::{StorageError, WriteOp, replacement};

/// Bytes of page cache of the state.
const CACHE_BYTES: u64 = 256 << 20;

/// Bytes written after which the state is worth opening anew: about a second of recovery.
pub(crate) const RENEW_BYTES: u64 = 1 << 30;

const NEVER_POISONED: &str = "nothing panics while it exchanges the state database";

/// The trees of the state, and the database they share.
pub(crate) struct Trees {
    pub(crate) outbox: Tree,
    pub(crate) progress: Tree,
    pub(crate) dead_letters: Tree,
    pub(crate) meta: Tree,
    database: Database,
}

/// The state database, open.
pub(crate) struct State {
    path: PathBuf,
    fail_stop: Arc<FailStop>,
    /// `None` only while it is being renewed, or after that failed.
    trees: RwLock<Option<Trees>>,
    /// Bytes written since it was opened.
    written: AtomicU64,
}

/// The trees, which are not exchanged while this is held.
pub(crate) struct Held<'a>(RwLockReadGuard<'a, Option<Trees>>);

impl std::ops::Deref for Held<'_> {
    type Target = Trees;

    fn deref(&self) -> &Trees {
        self.0.as_ref().expect("checked when it was taken")
    }
}

impl State {
    /// Opens the state at `path`, or creates it.
    pub(crate) fn open(path: &Path, fail_stop: &Arc<FailStop>) -> Result<Self, StorageError> {
        replacement::restore(path)?;
        if !path.is_dir() {
            fail_stop.write(WriteOp::OpenState, || Database::create(path, fail_stop))?;
        }
        let trees = Trees::open(path, fail_stop)?;
        Ok(Self {
            path: path.to_owned(),
            fail_stop: Arc::clone(fail_stop),
            trees: RwLock::new(Some(trees)),
            written: AtomicU64::new(0),
        })
    }

    /// The trees, to read. Must not be asked for by who holds them already.
    pub(crate) fn trees(&self) -> Result<Held<'_>, StorageError> {
        let trees = self.trees.read().expect(NEVER_POISONED);
        if trees.is_none() {
            return Err(not_open());
        }
        Ok(Held(trees))
    }

    /// Makes everything written before this call durable; concurrent callers share one sync.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.trees()?.database.sync(WriteOp::SyncState)
    }

    /// Notes that about `bytes` were written.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Closes and opens the state if at least `written_min` bytes were written since it was opened.
    pub(crate) fn renew(&self, written_min: u64) -> Result<bool, StorageError> {
        if self.written.load(Ordering::Relaxed) < written_min {
            return Ok(false);
        }
        self.sync()?;
        let mut trees = self.trees.write().expect(NEVER_POISONED);
        self.fail_stop.write(WriteOp::RenewState, || {
            drop(trees.take());
            *trees = Some(Trees::open(&self.path, &self.fail_stop)?);
            Ok(())
        })?;
        self.written.store(0, Ordering::Relaxed);
        Ok(true)
    }

    /// Copies the rows that are live to a new database that takes the place of this one. Whatever was
    /// written over or removed is in no file of the state afterwards.
    pub(crate) fn rewrite(&self) -> Result<(), StorageError> {
        self.sync()?;
        let mut trees = self.trees.write().expect(NEVER_POISONED);
        let Some(open) = trees.as_ref() else { return Err(not_open()) };
        self.fail_stop.write(WriteOp::CopyState, || {
            let built = Unfinished::begin(&self.path, CACHE_BYTES, &self.fail_stop)?;
            built.copy_all(&open.database)?;
            built.finish()
        })?;
        self.fail_stop.write(WriteOp::SwapState, || {
            drop(trees.take());
            replacement::set_aside(&self.path)
        })?;
        self.fail_stop.write(WriteOp::SwapState, || {
            replacement::take_place(&self.path)?;
            *trees = Some(Trees::open(&self.path, &self.fail_stop)?);
            Ok(())
        })?;
        drop(trees);
        self.written.store(0, Ordering::Relaxed);
        self.fail_stop.write(WriteOp::RemoveState, || replacement::remove_old(&self.path))
    }
}

fn not_open() -> StorageError {
    StorageError::corrupt("the state", "it could not be opened anew")
}

impl Trees {
    fn open(path: &Path, fail_stop: &Arc<FailStop>) -> Result<Self, StorageError> {
        let database = Database::open(path, CACHE_BYTES, fail_stop)?;
        Ok(Self {
            outbox: database.tree("outbox")?,
            progress: database.tree("progress")?,
            dead_letters: database.tree("dead_letters")?,
            meta: database.tree("meta")?,
            database,
        })
    }

    /// Writes a batch to one of the trees, all of it or nothing; visible on return, not durable.
    pub(crate) fn apply(&self, op: WriteOp, tree: &Tree, batch: Batch) -> Result<(), StorageError> {
        self.database.apply(op, tree, batch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::State;
    use crate::database::UNIT_BYTES;
    use crate::fail_stop::FailStop;
    use crate::meta::Meta;

    #[test]
    fn a_renewed_state_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let fail_stop = Arc::new(FailStop::new(None, UNIT_BYTES));
        let state = Arc::new(State::open(&dir.path().join("state"), &fail_stop).unwrap());
        let meta = Meta::open(&state).unwrap();
        meta.put("clock", b"event").unwrap();
        assert!(!state.renew(1 << 20).unwrap(), "so little is not worth it");
        assert!(state.renew(1).unwrap());
        assert_eq!(meta.get("clock").unwrap().as_deref(), Some(&b"event"[..]));
        assert!(!state.renew(1).unwrap(), "nothing was written since");
        meta.put("clock", b"wall").unwrap();
        state.sync().unwrap();
        assert_eq!(meta.get("clock").unwrap().as_deref(), Some(&b"wall"[..]));
    }
}
