//! What the engine tells a person while it runs; the command line decides how.

use std::path::PathBuf;

/// Something worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An input goes on where it was accepted.
    Resumed {
        /// The input.
        source: String,
        /// The line it goes on at, from 1.
        line: u64,
        /// The byte it goes on at.
        byte: u64,
    },
    /// An input of this name was read before, but begins otherwise now.
    OtherBeginning {
        /// The input.
        source: String,
    },
    /// An input's first record lies before the event clock.
    BehindClock {
        /// The input.
        source: String,
        /// Its first timestamp.
        first: String,
        /// The clock.
        clock: String,
    },
    /// The last line of an input has no end and is no complete JSON; it was left unread.
    PartialLine {
        /// The input.
        source: String,
        /// The line, from 1.
        line: u64,
    },
    /// The disk of the data directory is nearly full.
    DiskLow {
        /// Where the data directory is.
        data: PathBuf,
        /// Bytes that can still be written.
        free_bytes: u64,
        /// Bytes the disk can hold.
        total_bytes: u64,
    },
    /// The disk of the data directory was nearly full, and is not any more.
    DiskRecovered {
        /// Bytes that can be written.
        free_bytes: u64,
    },
    /// Another configuration is in effect.
    Reloaded {
        /// What is otherwise than before, a line each; none if nothing is.
        changes: Vec<String>,
    },
    /// Another configuration cannot be used; the one in effect stays.
    ReloadRefused {
        /// Why.
        reason: String,
    },
    /// The newest checkpoint was not used, and the whole log was derived again.
    CheckpointUnused {
        /// Why.
        reason: String,
    },
    /// There is no room on the disk for a checkpoint; none is written until there is.
    CheckpointRefused {
        /// Which file, and what it would take.
        reason: String,
    },
    /// An input holds old records, and the clock is the wall clock.
    OldInput {
        /// The input.
        source: String,
        /// Its first timestamp.
        first: String,
    },
}
