//! A wall clock that a test moves by hand, so that days pass in no time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forebay_engine::clock::{Clock, Moment, SystemClock, Timestamp};

use crate::PATIENCE;

/// `now` stands still until it is set; moments go on, because backoffs and timeouts are real, and
/// can be moved ahead.
#[derive(Debug)]
pub struct HandClock {
    now_ms: AtomicI64,
    moments: SystemClock,
    ahead_ms: AtomicU64,
}

impl HandClock {
    /// A clock that shows `now`, RFC 3339.
    pub fn at(now: &str) -> Self {
        let now_ms = AtomicI64::new(millis(now));
        Self { now_ms, moments: SystemClock::new(), ahead_ms: AtomicU64::new(0) }
    }

    /// Moves moments ahead. Who waits for one notices when it is woken.
    pub fn pass(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).expect("a test takes no ages");
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Makes the clock show `now`.
    pub fn set(&self, now: &str) {
        self.now_ms.store(millis(now), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms.load(Ordering::SeqCst))
    }

    fn moment(&self) -> Moment {
        let ahead = Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst));
        self.moments.moment().plus(ahead)
    }

    fn reread_after(&self) -> Duration {
        Duration::from_millis(5)
    }
}

/// The machine's clock, whose reader must not look at it again and again: a wait that nobody ends
/// lasts longer than any test.
#[derive(Debug, Default)]
pub struct QuietClock {
    machine: SystemClock,
    readings: AtomicU64,
}

impl QuietClock {
    /// How often the wall time was read.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::SeqCst)
    }
}

impl Clock for QuietClock {
    fn now(&self) -> Timestamp {
        self.readings.fetch_add(1, Ordering::SeqCst);
        self.machine.now()
    }

    fn moment(&self) -> Moment {
        self.machine.moment()
    }

    fn reread_after(&self) -> Duration {
        10 * PATIENCE
    }
}

/// The end of a test's patience, for conditions that cannot be waited for but only asked.
pub struct Deadline {
    clock: SystemClock,
    end: Moment,
}

impl Deadline {
    /// One that ends in [`PATIENCE`].
    pub fn new() -> Self {
        Self::after(PATIENCE)
    }

    /// One that ends after `patience`.
    pub fn after(patience: Duration) -> Self {
        let clock = SystemClock::new();
        let end = clock.moment().plus(patience);
        Self { clock, end }
    }

    /// Whether it has passed.
    pub fn has_passed(&self) -> bool {
        self.clock.moment() >= self.end
    }

    /// Asks `condition` again and again until it holds.
    ///
    /// # Panics
    ///
    /// Panics with `what` if it does not hold in time.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        while !condition() {
            assert!(!self.has_passed(), "waited in vain until {what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds since 1970 of an RFC 3339 time.
pub fn millis(time: &str) -> i64 {
    Timestamp::parse(time).expect("the time is RFC 3339").as_millis()
}
