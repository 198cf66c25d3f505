//! What the data directory takes of the disk, and what is left of it.

use std::path::Path;

use crate::{CheckpointStats, JournalSize, StorageError, Store, directory};

/// How full the file system of the data directory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes it can hold.
    pub total: u64,
    /// Bytes that this process may still write.
    pub free: u64,
}

/// What takes how much of a data directory. Bytes on disk are lengths of files; live bytes are what
/// would be left if every database were copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSizes {
    /// The log on disk.
    pub log_disk: u64,
    /// Chunks of the log, packed.
    pub log_live: u64,
    /// The state on disk: outbox, progress, journal, dead letters.
    pub state_disk: u64,
    /// Exports that wait, or whose chunks hold one that does.
    pub outbox_live: u64,
    /// Exports that ended.
    pub journal: JournalSize,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointStats>,
    /// Everything in the directory.
    pub disk: u64,
}

impl StoreSizes {
    /// Bytes that are in use, dead letters aside, which nobody counts.
    pub fn live(&self) -> u64 {
        let checkpoint = self.checkpoint.map_or(0, |checkpoint| checkpoint.bytes);
        let journal = self.journal.row_bytes + self.journal.attempt_bytes;
        self.log_live + self.outbox_live + journal + checkpoint
    }
}

impl Store {
    /// How full the file system of the data directory is.
    pub fn disk_space(&self) -> Result<DiskSpace, StorageError> {
        space(self.dir())
    }

    /// What takes how much of the data directory.
    pub fn sizes(&self) -> Result<StoreSizes, StorageError> {
        let outbox = self.outbox();
        Ok(StoreSizes {
            log_disk: directory::bytes(&self.dir().join("log"))?,
            log_live: self.log().packed_bytes()?,
            state_disk: directory::bytes(&self.dir().join("state"))?,
            outbox_live: outbox.dataflows().iter().map(|id| outbox.stored_bytes(id)).sum(),
            journal: self.journal().total_size(),
            checkpoint: self.checkpoints().newest()?,
            disk: self.disk_bytes()?,
        })
    }
}

/// How full the file system of `dir` is.
pub(crate) fn space(dir: &Path) -> Result<DiskSpace, StorageError> {
    let found = rustix::fs::statvfs(dir).map_err(std::io::Error::from);
    let found = found.map_err(StorageError::io("measure the disk of", dir))?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(DiskSpace { total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}
