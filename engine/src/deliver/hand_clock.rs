//! A clock for tests that shows what it is set to: hours pass in no time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Moment, Timestamp};

/// Stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct HandClock {
    nanos: AtomicU64,
    /// How far the wall clock was set ahead of the time that has passed.
    ahead_ms: AtomicI64,
}

impl HandClock {
    pub(crate) fn pass(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap();
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock to so much before or after what it shows. Moments go on as they did.
    pub(crate) fn set_wall(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    fn passed_ms(&self) -> i64 {
        i64::try_from(self.nanos.load(Ordering::SeqCst) / 1_000_000).unwrap()
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.passed_ms() + self.ahead_ms.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        Moment::from_nanos(self.nanos.load(Ordering::SeqCst))
    }
}
