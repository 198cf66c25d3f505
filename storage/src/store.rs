//! A data directory, open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::Lock;
use crate::fail_stop::FailStop;
use crate::state::{RENEW_BYTES, State};
use crate::{
    Checkpoints, DeadLetters, EventLog, Journal, Meta, Outbox, Progress, StorageError,
    StoreOptions, directory,
};

/// The log and the state of one data directory, which this process alone has open.
pub struct Store {
    dir: PathBuf,
    log: EventLog,
    outbox: Outbox,
    progress: Progress,
    journal: Arc<Journal>,
    dead_letters: DeadLetters,
    meta: Meta,
    checkpoints: Checkpoints,
    state: Arc<State>,
    /// Last, so that the directory is free only when all above is closed.
    _lock: Lock,
}

impl Store {
    /// Opens the data directory `dir`, or creates it; recovers what a crash has left.
    ///
    /// The directory is private to its owner afterwards.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StorageError> {
        directory::create_private(dir)?;
        let lock = directory::lock(dir)?;
        let StoreOptions { faults, compression, segment_bytes, unit_bytes } = options;
        let fail_stop = Arc::new(FailStop::new(faults, unit_bytes));
        let state = Arc::new(State::open(&dir.join("state"), &fail_stop)?);
        let journal = Arc::new(Journal::open(&state)?);
        Ok(Self {
            dir: dir.to_owned(),
            log: EventLog::open(&dir.join("log"), (compression, segment_bytes), &fail_stop)?,
            outbox: Outbox::open(&state, &journal, compression)?,
            progress: Progress::new(&state, &journal),
            journal,
            dead_letters: DeadLetters::open(&state)?,
            meta: Meta::open(&state)?,
            checkpoints: Checkpoints::open(&dir.join("checkpoint"), compression, &fail_stop)?,
            state,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The event log.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// Exports that are owed.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Which exports are done.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How exports ended.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Exports that were given up on.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.dead_letters
    }

    /// The log id, and small named values.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What was derived from the log, to be derived again only from there on.
    pub fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Makes everything durable that was written to the state before this call.
    ///
    /// Callers that wait at the same time share one sync.
    pub fn sync_state(&self) -> Result<(), StorageError> {
        self.state.sync()
    }

    /// Opens the state anew if so much was written since the last time that recovering it after a
    /// kill would take long; returns whether it did.
    ///
    /// Meant for checkpoints: everything that uses the state waits meanwhile, up to a second.
    pub fn renew_state(&self) -> Result<bool, StorageError> {
        self.state.renew(RENEW_BYTES)
    }

    /// Copies the state to a new database, so that nothing that was removed or written over stays in a
    /// file; durable on return.
    ///
    /// Everything that uses the state waits meanwhile, about a second for 100 MB of live rows.
    pub fn rewrite_state(&self) -> Result<(), StorageError> {
        self.state.rewrite()
    }

    /// Bytes of all files of the data directory.
    pub fn disk_bytes(&self) -> Result<u64, StorageError> {
        directory::bytes(&self.dir)
    }
}
