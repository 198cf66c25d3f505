//! Positions in the event log.
//!
//! An offset names one entry for ever: profiles, exports and checkpoints are identified by them, so
//! offsets are dense, never reused once durable, and kept by compaction.

use std::fmt;

/// Position of an entry in the event log: 0 for the first ever appended, then without gaps.
///
/// Whoever stores how far it has read stores the offset to read *next*, so that an empty reader and
/// an empty log are both [`Offset::START`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// Where a reader that has never run starts.
    pub const START: Self = Self(0);

    /// The position with this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number of entries before this position.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// The position `entries` further on.
    #[must_use]
    pub const fn plus(self, entries: u64) -> Self {
        Self(self.0.checked_add(entries).expect("the log holds fewer than 2^64 entries"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
