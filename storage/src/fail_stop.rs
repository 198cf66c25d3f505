//! The switch that stops all writing after the first failure.
//!
//! A failed write or sync leaves the disk in an unknown state: the kernel may have dropped the dirty
//! pages, so that a second sync that succeeds proves nothing. The only honest way on is to stop, and
//! to recover from what is on disk by opening the store again.
//!
//! The exception is a file of its own that nothing depends on, such as a checkpoint, and the one failure
//! that says exactly what happened: there was no room for it. It is removed, and everything else goes on.
//!
//! It goes wherever something is written, and so carries along in which units that is done.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use crate::{Faults, StorageError, WriteOp};

/// Shared by everything that writes within one store.
pub(crate) struct FailStop {
    faults: Option<Faults>,
    unit_bytes: usize,
    stopped: OnceLock<String>,
}

impl FailStop {
    pub(crate) fn new(faults: Option<Faults>, unit_bytes: usize) -> Self {
        Self { faults, unit_bytes, stopped: OnceLock::new() }
    }

    /// The unit in which a database that is created lays out its file.
    pub(crate) fn unit_bytes(&self) -> usize {
        self.unit_bytes
    }

    /// Runs `work`, unless an earlier one failed; if it fails or panics, it is the last one.
    pub(crate) fn write<T>(
        &self,
        op: WriteOp,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.run(op, || self.fault(op).and_then(|()| work()))
    }

    /// Runs `work` in the same way, which writes the file `path` of which nothing is the only copy: where
    /// there is no room for it, the error is [`StorageError::NoRoom`], and writing goes on.
    ///
    /// Whoever calls it removes what there is of the file then.
    pub(crate) fn write_if_room<T>(
        &self,
        op: WriteOp,
        path: &Path,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let work = || self.fault(op).and_then(|()| work());
        self.run(op, || work().map_err(|error| error.if_no_room(path)))
    }

    fn run<T>(
        &self,
        op: WriteOp,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.check()?;
        let _stop = StopOnPanic { switch: self, op };
        let done = work();
        match &done {
            Ok(_) | Err(StorageError::NoRoom { .. }) => {}
            Err(error) => self.stop(op, error),
        }
        done
    }

    fn check(&self) -> Result<(), StorageError> {
        match self.stopped.get() {
            Some(reason) => Err(StorageError::Stopped { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn fault(&self, op: WriteOp) -> Result<(), StorageError> {
        self.faults.as_ref().map_or(Ok(()), |faults| faults(op)).map_err(StorageError::Fault)
    }

    fn stop(&self, op: WriteOp, why: &dyn fmt::Display) {
        // Only the first failure is the reason; those that follow are its consequences.
        let reason = self.stopped.get_or_init(|| format!("{op:?}: {why}"));
        tracing::error!(%reason, "storage has stopped");
    }
}

/// The backend panics on some failures; those must stop the store as an error would.
struct StopOnPanic<'a> {
    switch: &'a FailStop,
    op: WriteOp,
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.switch.stop(self.op, &"panicked");
        }
    }
}
