//! Group commit: callers that ask for a sync while one runs share the next one.
//!
//! A sync costs the disk the same whether one caller waits for it or fifty. A caller is served by
//! any sync that *started* after it asked, never by one already running, which may have passed the
//! caller's bytes by.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::StorageError;

const NEVER_POISONED: &str = "nothing panics while it holds the gate";

/// Lets one caller sync at a time, on behalf of all who asked before it started.
#[derive(Default)]
pub(crate) struct SyncGate {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Callers that have asked so far; the last one's ticket.
    asked: u64,
    /// Every ticket up to this one is served.
    served: u64,
    running: bool,
}

impl SyncGate {
    /// Returns once a sync that started after this call has succeeded; `sync` may be that one.
    pub(crate) fn pass(
        &self,
        sync: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut queue = self.lock();
        queue.asked += 1;
        let ticket = queue.asked;
        while queue.running && queue.served < ticket {
            queue = self.changed.wait(queue).expect(NEVER_POISONED);
        }
        if queue.served >= ticket {
            return Ok(());
        }
        queue.running = true;
        let through = queue.asked;
        drop(queue);
        let _turn = Turn { gate: self };
        sync()?;
        let mut queue = self.lock();
        queue.served = queue.served.max(through);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect(NEVER_POISONED)
    }
}

/// Ends the running sync also when it fails or panics, so that the next in line finds out itself.
struct Turn<'a> {
    gate: &'a SyncGate,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.lock().running = false;
        self.gate.changed.notify_all();
    }
}
