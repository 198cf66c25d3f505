//! A segment of the log: one database with the chunks from its base offset on.
//!
//! An ever-growing database could not be opened quickly after a kill, because opening reads what was
//! written since the last time. Segments bound that, and a sealed one is never written again.

use std::path::Path;
use std::sync::Arc;

use sled::{Batch, Tree};

use crate::chunk::{self, PackedChunk, Totals};
use crate::database::Database;
use crate::fail_stop::FailStop;
use crate::parts::{self, Scan, Value};
use crate::{Offset, StorageError, WriteOp, keys};

const WHAT: &str = "a chunk of the log";
/// Name of the tree that holds chunks, outlines and marks.
pub(crate) const TREE: &str = "chunks";

/// Bytes of page cache of a segment. Too small a cache evicts the leaf that is appended to.
pub(crate) const CACHE_BYTES: u64 = 256 << 20;

/// An open segment.
pub(crate) struct Segment {
    base: Offset,
    tree: Tree,
    database: Database,
}

impl Segment {
    /// Opens the segment at `path` that starts at `base`.
    pub(crate) fn open(
        path: &Path,
        base: Offset,
        fail_stop: &Arc<FailStop>,
    ) -> Result<Self, StorageError> {
        let database = Database::open(path, CACHE_BYTES, fail_stop)?;
        Ok(Self { base, tree: database.tree(TREE)?, database })
    }

    /// What stops writing to it.
    pub(crate) fn fail_stop(&self) -> &FailStop {
        self.database.fail_stop()
    }

    /// The offset of its first chunk.
    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    /// The offset behind its last chunk, and what it holds.
    pub(crate) fn end(&self) -> Result<(Offset, Totals), StorageError> {
        let Some(first) = self.chunk_before(&keys::chunks_end())? else {
            return Ok((self.base, Totals::default()));
        };
        let value = parts::get(WHAT, &self.tree, &keys::chunk(first))?
            .ok_or_else(|| StorageError::corrupt(WHAT, "its first part is missing"))?;
        let (entries, totals) = chunk::totals(value.bytes())?;
        Ok((first.plus(entries), totals))
    }

    /// Appends chunks from `first` on to a segment that holds `totals`; returns what it holds then.
    pub(crate) fn append(
        &self,
        chunks: &[PackedChunk],
        mut first: Offset,
        mut totals: Totals,
    ) -> Result<Totals, StorageError> {
        let mut batch = Batch::default();
        for chunk in chunks {
            let (value, after) = chunk.value(totals);
            parts::insert(&mut batch, &keys::chunk(first), &value);
            if let Some(outline) = chunk.outline() {
                parts::insert(&mut batch, &keys::outline(first), outline);
            }
            for control in chunk.controls(first) {
                parts::insert(&mut batch, &keys::control(control), &[]);
            }
            first = first.plus(chunk.entries());
            totals = after;
        }
        self.database.apply(WriteOp::Append, &self.tree, batch)?;
        Ok(totals)
    }

    /// Makes what was appended durable.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.database.sync(WriteOp::SyncLog)
    }

    /// The first offset of the chunk that holds `offset`, if the segment reaches that far.
    pub(crate) fn chunk_holding(&self, offset: Offset) -> Result<Offset, StorageError> {
        let behind = keys::part(&keys::chunk(offset), u16::MAX);
        self.chunk_before(&behind)?
            .ok_or_else(|| StorageError::corrupt(WHAT, format!("none holds offset {offset}")))
    }

    /// Chunks from the one that starts at `first` on, not unpacked.
    pub(crate) fn scan(&self, first: Offset) -> Scan {
        let from = keys::part(&keys::chunk(first), 0);
        Scan::new(WHAT, &self.tree, from..keys::chunks_end())
    }

    /// The chunk that starts at `first`, not unpacked.
    pub(crate) fn chunk(&self, first: Offset) -> Result<Value, StorageError> {
        self.find_chunk(first)?
            .ok_or_else(|| StorageError::corrupt(WHAT, format!("none starts at offset {first}")))
    }

    /// The same; `None` if none starts there.
    pub(crate) fn find_chunk(&self, first: Offset) -> Result<Option<Value>, StorageError> {
        parts::get(WHAT, &self.tree, &keys::chunk(first))
    }

    /// Outlines from that of the chunk at `first` on.
    pub(crate) fn outlines(&self, first: Offset) -> Scan {
        let from = keys::part(&keys::outline(first), 0);
        Scan::new("an outline of the log", &self.tree, from..keys::outlines_end())
    }

    /// The outline of the chunk at `first`, if it has one.
    pub(crate) fn outline(&self, first: Offset) -> Result<Option<Value>, StorageError> {
        parts::get("an outline of the log", &self.tree, &keys::outline(first))
    }

    /// The marks of its control entries, as they are stored.
    pub(crate) fn marks(&self) -> sled::Iter {
        self.tree.range(keys::controls())
    }

    /// The offsets of its control entries from `from` on.
    pub(crate) fn controls_from(&self, from: Offset) -> Result<Vec<Offset>, StorageError> {
        let range = keys::part(&keys::control(from), 0)..keys::controls().end;
        let marks = Scan::new("a mark of the log", &self.tree, range);
        marks.map(|mark| keys::control_offset(&mark?.0)).collect()
    }

    /// The first offset of the last chunk before a key.
    fn chunk_before(&self, key: &[u8]) -> Result<Option<Offset>, StorageError> {
        let mut before = self.tree.range(keys::chunks_start()..key.to_vec()).keys();
        let Some(stored) = before.next_back() else {
            return Ok(None);
        };
        let stored = stored.map_err(parts::cannot_read)?;
        keys::chunk_first(keys::split_part(&stored)?.0).map(Some)
    }
}
