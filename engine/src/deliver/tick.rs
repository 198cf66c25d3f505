//! One reading of both clocks, passed to everything that decides.

use std::time::Duration;

use crate::clock::{Clock, Moment, Timestamp};

/// The time at which something is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Monotonic time, for intervals.
    pub now: Moment,
    /// Wall time, for what is stored or sent.
    pub wall: Timestamp,
}

impl Tick {
    /// Reads `clock`.
    pub fn read(clock: &dyn Clock) -> Self {
        Self { now: clock.moment(), wall: clock.now() }
    }

    /// The wall time of a moment to come; now, if it is gone by.
    pub fn wall_of(self, moment: Moment) -> Timestamp {
        let ahead = moment.since(self.now).as_millis();
        self.wall.plus_millis(i64::try_from(ahead).unwrap_or(i64::MAX))
    }

    /// The moment of a wall time to come; now, if it is gone by.
    pub fn moment_of(self, wall: Timestamp) -> Moment {
        let ahead = wall.as_millis().saturating_sub(self.wall.as_millis());
        self.now.plus(Duration::from_millis(u64::try_from(ahead).unwrap_or(0)))
    }
}
