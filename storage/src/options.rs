//! How a store is opened, and where tests make it fail.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::database::UNIT_BYTES;

/// Stored bytes after which a log segment is sealed, if nothing else is asked for: 1 GiB.
///
/// Opening after a kill reads what the newest segment holds, about 0.75 s for each GiB.
const SEGMENT_BYTES: u64 = 1 << 30;

/// Called before every write and sync; an error makes the operation fail there.
pub type Faults = Arc<dyn Fn(WriteOp) -> io::Result<()> + Send + Sync>;

/// How a [`Store`](crate::Store) is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The seam for tests that fail or kill at the n-th operation.
    pub faults: Option<Faults>,
    /// How chunks of records and exports are compressed from now on.
    pub compression: Compression,
    /// Stored bytes after which a log segment is sealed and the next one begun.
    pub segment_bytes: u64,
    /// Unit in which each database lays out its file, kept from when it was created. For tests: a small
    /// one makes small stores quick to create, to copy and to open, and is safe only where all values
    /// stay below a hundredth of it.
    pub unit_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            faults: None,
            compression: Compression::Zstd,
            segment_bytes: SEGMENT_BYTES,
            unit_bytes: UNIT_BYTES,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("faults", &self.faults.is_some())
            .field("compression", &self.compression)
            .field("segment_bytes", &self.segment_bytes)
            .field("unit_bytes", &self.unit_bytes)
            .finish()
    }
}

/// How chunks are compressed before the database sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// Zstandard, level 1: records of 280 bytes take 27 on disk, and appending gets faster for it.
    #[default]
    Zstd,
}

/// An operation that changes the disk, as the fault hook sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriteOp {
    /// Entries are written to the log.
    Append,
    /// The log is made durable.
    SyncLog,
    /// A log segment is created.
    OpenSegment,
    /// What is to be erased from the log is written down.
    PlanErasure,
    /// A log segment is copied without what is erased.
    CopySegment,
    /// A log segment loses its name to the copy, or the copy gets it.
    SwapSegment,
    /// A log segment that was replaced is removed.
    RemoveSegment,
    /// An erasure is done, and its plan forgotten.
    FinishErasure,
    /// The state database is created.
    OpenState,
    /// The state database is closed and opened again.
    RenewState,
    /// The state database is copied.
    CopyState,
    /// The state database loses its name to the copy, or the copy gets it.
    SwapState,
    /// The state database that was replaced is removed.
    RemoveState,
    /// Exports are stored, with all that becomes visible together with them.
    StoreExports,
    /// Delivered exports are dropped.
    TrimExports,
    /// Exports are taken back before they were delivered.
    WithdrawExports,
    /// Delivery progress is written.
    Progress,
    /// The journal is written or trimmed, without progress.
    Journal,
    /// A dead letter is written or removed.
    DeadLetter,
    /// A small named value is written.
    Meta,
    /// The state is made durable.
    SyncState,
    /// A checkpoint is written to a file that has no name yet.
    WriteCheckpoint,
    /// A checkpoint gets its name.
    NameCheckpoint,
    /// A checkpoint is removed.
    RemoveCheckpoint,
}
