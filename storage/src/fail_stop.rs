//! The switch that stops all writing after the first failure.
//!
//! A failed write or sync leaves the disk in an unknown state: the kernel may have dropped the dirty
//! pages, so that a second sync that succeeds proves nothing. The only honest way on is to stop, and
//! to recover from what is on disk by opening the store again.
//!
//! It goes wherever something is written, and so carries along in which units that is done.

use std::fmt;
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
        self.check()?;
        let _stop = StopOnPanic { switch: self, op };
        let done = self.fault(op).and_then(|()| work());
        if let Err(error) = &done {
            self.stop(op, error);
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
