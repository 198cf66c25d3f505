//! What stopped delivery, where every thread can report it and the engine can see it.
//!
//! Delivery is fail-stop: a store that failed or a thread that panicked ends it, and the engine with
//! it. The first failure is kept; it is usually the cause of the others.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::error::DeliveryError;

/// A shared slot for the first failure, and the bell of those who wait for a change.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    first: Option<Arc<DeliveryError>>,
    changes: u64,
}

/// Reports a panic of the thread it lives in.
#[derive(Debug)]
pub(super) struct Guard(Failure);

impl Failure {
    pub(super) fn report(&self, error: DeliveryError) {
        self.state().first.get_or_insert_with(|| Arc::new(error));
        self.change();
    }

    pub(super) fn get(&self) -> Option<Arc<DeliveryError>> {
        self.state().first.clone()
    }

    /// Something that is waited for changed.
    pub(super) fn change(&self) {
        self.state().changes += 1;
        self.0.changed.notify_all();
    }

    /// Waits until there were more changes than `seen`, at most `timeout`; returns how many.
    pub(super) fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let is_same = |state: &mut State| state.changes <= seen;
        let waited = self.0.changed.wait_timeout_while(self.state(), timeout, is_same);
        waited.expect("no holder of the failure panics").0.changes
    }

    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of the failure panics")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current().name().unwrap_or("a thread of delivery").to_owned();
            self.0.report(DeliveryError::Panicked { thread });
        }
    }
}
