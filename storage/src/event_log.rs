//! The event log: every record and control entry, in the one order that all state is derived from.
//!
//! # Invariants
//!
//! 1. Offsets are dense from 0. An append is one atomic batch, and a segment begins only when all
//!    before it is durable, so a crash removes entries from the end and nowhere else.
//! 2. [`EventLog::next_offset`] never names an entry that a reader could not read.
//! 3. One append at a time; syncs and reads run beside it.
//! 4. No lock that a task on the thread pool could ask for is held while chunks are packed or
//!    unpacked: those run there, where a waiting task may be asked to do any other.
//! 5. Erasing keeps every offset: of an erased record a [`Stub`](crate::Stub) stays, and nothing else
//!    changes but that what is known of its chunk is forgotten. It happens in copies of sealed segments, so that appends and reads run beside it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rayon::prelude::*;

use crate::chunk::{self, Chunk, EntryKind, PackedChunk, Totals};
use crate::erasure_plan::ErasurePlan;
use crate::fail_stop::FailStop;
use crate::log_reader::LogReader;
use crate::outline::{OutlineOf, Outlines};
use crate::rewriting::Rewriting;
use crate::shelf::Shelf;
use crate::{Compression, Erased, Offset, StorageError, WriteOp};

/// The append-only sequence of entries.
pub struct EventLog {
    dir: PathBuf,
    fail_stop: Arc<FailStop>,
    shelf: Arc<Shelf>,
    /// Held by whoever erases.
    erasing: Mutex<()>,
    /// What the active segment holds; held by whoever appends.
    appending: Mutex<Totals>,
    next: AtomicU64,
    compression: Compression,
    segment_bytes: u64,
}

/// How large a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// All entries.
    pub entries: u64,
    /// Entries that are records.
    pub records: u64,
    /// The offset that will be assigned next.
    pub next_offset: Offset,
    /// Bytes of its files.
    pub disk_bytes: u64,
    /// Bytes of all entries as they were appended.
    pub raw_bytes: u64,
    /// Chunks the entries are stored in.
    pub chunks: u64,
    /// Segments the chunks are stored in.
    pub segments: u64,
}

/// What an erasure has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Records that are stubs now.
    pub records: u64,
    /// Segments that were rewritten for it.
    pub segments: u64,
    /// Whether all of it is done. If not, it goes on when the log is opened again.
    pub is_complete: bool,
}

impl EventLog {
    /// Opens the log at `dir`, or creates it. An erasure that was not finished is finished first.
    pub(crate) fn open(
        dir: &Path,
        (compression, segment_bytes): (Compression, u64),
        fail_stop: &Arc<FailStop>,
    ) -> Result<Self, StorageError> {
        let shelf = Shelf::open(dir, fail_stop)?;
        let (next, totals) = shelf.active().end()?;
        let log = Self {
            dir: dir.to_owned(),
            fail_stop: Arc::clone(fail_stop),
            shelf: Arc::new(shelf),
            erasing: Mutex::new(()),
            appending: Mutex::new(totals),
            next: AtomicU64::new(next.as_u64()),
            compression,
            segment_bytes,
        };
        if let Some(plan) = ErasurePlan::read(dir)? {
            log.carry_out(&plan, &|| true, &|_| None)?;
        }
        Ok(log)
    }

    /// Appends `chunks` in order and returns the offset of the first entry.
    ///
    /// Atomic and visible on return, but durable only after [`EventLog::sync`]. Chunks of some
    /// 256 KiB are packed best; an append of several is packed on all cores.
    pub fn append(&self, chunks: &[Chunk<'_>]) -> Result<Offset, StorageError> {
        let packed = self.pack(chunks)?;
        let mut totals = self.appending.lock().expect("an append that panics stops the store");
        let first = self.next_offset();
        if packed.is_empty() {
            return Ok(first);
        }
        if totals.chunks > 0 && totals.stored_bytes >= self.segment_bytes {
            self.shelf.roll(first)?;
            *totals = Totals::default();
        }
        *totals = self.shelf.active().append(&packed, first, *totals)?;
        let entries = packed.iter().map(PackedChunk::entries).sum();
        self.next.store(first.plus(entries).as_u64(), Ordering::Release);
        Ok(first)
    }

    /// Makes everything durable that was appended before this call.
    ///
    /// Callers that wait at the same time share one sync.
    pub fn sync(&self) -> Result<(), StorageError> {
        // A segment that was sealed meanwhile was synced for that.
        self.shelf.active().sync()
    }

    /// The offset that will be assigned next.
    pub fn next_offset(&self) -> Offset {
        Offset::from_u64(self.next.load(Ordering::Acquire))
    }

    /// Replaces records by stubs, durably: their bytes are in no file of the log afterwards.
    ///
    /// What else stands at an offset named stays, so that erasing again does nothing. Once begun, an
    /// erasure ends, by a later opening of the log if need be: after an error, a crash, or when
    /// `goes_on`, which is asked often, says no.
    ///
    /// Cost: every segment with a record to erase is copied, and the active one is sealed if it has
    /// any. Appends wait for the sealing alone.
    pub fn erase(
        &self,
        records: &[Erased],
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Erasure, StorageError> {
        self.erase_and_outline(records, goes_on, &|_| None)
    }

    /// The same; `outline_of` tells what the chunks hold that something was erased from.
    pub fn erase_and_outline(
        &self,
        records: &[Erased],
        goes_on: &dyn Fn() -> bool,
        outline_of: &OutlineOf<'_>,
    ) -> Result<Erasure, StorageError> {
        if records.iter().any(|erased| erased.offset >= self.next_offset()) {
            return Err(StorageError::refused("erasing a record that was not appended yet"));
        }
        let _alone = self.erasing.lock().expect("an erasure that panics stops the store");
        let plan = ErasurePlan::read(&self.dir)?.unwrap_or_default().with(records);
        if plan.last().is_none() {
            return Ok(Erasure { is_complete: true, ..Erasure::default() });
        }
        self.fail_stop.write(WriteOp::PlanErasure, || plan.write(&self.dir))?;
        self.carry_out(&plan, goes_on, outline_of)
    }

    /// Reads from the chunk that holds `from` to what is the end now.
    ///
    /// The first chunk is whole even if `from` lies in its middle. Chunks are unpacked ahead, on all
    /// cores.
    pub fn read(&self, from: Offset) -> LogReader {
        self.read_until(from, self.next_offset())
    }

    /// The same, to the chunk that holds the entry before `end`. No further one is unpacked.
    pub fn read_until(&self, from: Offset, end: Offset) -> LogReader {
        LogReader::new(Arc::clone(&self.shelf), from, end.min(self.next_offset()))
    }

    /// What is known of the chunks from the one that holds `from` to what is the end now. None is
    /// unpacked.
    pub fn outlines(&self, from: Offset) -> Outlines {
        Outlines::new(Arc::clone(&self.shelf), from, self.next_offset())
    }

    /// All control entries with their offsets, in order, without reading the rest of the log.
    pub fn controls(&self) -> Result<Vec<(Offset, Vec<u8>)>, StorageError> {
        self.controls_from(Offset::START)
    }

    /// The control entries from `from` on, in order, without reading anything else.
    pub fn controls_from(&self, from: Offset) -> Result<Vec<(Offset, Vec<u8>)>, StorageError> {
        let mut controls = Vec::new();
        let mut last: Option<chunk::StoredChunk> = None;
        let bases = self.shelf.bases();
        let before = bases.partition_point(|base| *base <= from).saturating_sub(1);
        for base in bases.into_iter().skip(before) {
            let segment = self.shelf.holding(base)?;
            for offset in segment.controls_from(from)? {
                let held = match last.take() {
                    Some(chunk) if (chunk.first..chunk.next()).contains(&offset) => chunk,
                    _ => {
                        let first = segment.chunk_holding(offset)?;
                        chunk::read(first, segment.chunk(first)?.bytes())?
                    }
                };
                controls.push((offset, control_bytes(&held, offset)?));
                last = Some(held);
            }
        }
        Ok(controls)
    }

    /// The offset of the first entry that was appended at `now_ms` or later; the next offset, if there is
    /// none. Chunks must have been appended with times that never went back.
    ///
    /// Cost: some twenty chunks are fetched, none is unpacked.
    pub fn first_since(&self, now_ms: i64) -> Result<Offset, StorageError> {
        let (mut low, mut high) = (Offset::START, self.next_offset());
        while low < high {
            let middle = low.plus((high.as_u64() - low.as_u64()) / 2);
            let segment = self.shelf.holding(middle)?;
            let first = segment.chunk_holding(middle)?;
            let (time, entries) = chunk::time(segment.chunk(first)?.bytes())?;
            if time < now_ms {
                low = first.plus(entries);
            } else {
                high = first;
            }
        }
        Ok(low)
    }

    /// How large the log is. Opens segments that were not asked before.
    pub fn stats(&self) -> Result<LogStats, StorageError> {
        let mut stats = LogStats {
            next_offset: self.next_offset(),
            disk_bytes: self.shelf.disk_bytes()?,
            ..LogStats::default()
        };
        for totals in self.shelf.totals()? {
            stats.entries += totals.entries;
            stats.records += totals.records;
            stats.raw_bytes += totals.raw_bytes;
            stats.chunks += totals.chunks;
            stats.segments += 1;
        }
        Ok(stats)
    }

    /// Bytes of all chunks, packed. Opens segments that were not asked before.
    pub(crate) fn packed_bytes(&self) -> Result<u64, StorageError> {
        Ok(self.shelf.totals()?.iter().map(|totals| totals.stored_bytes).sum())
    }

    /// How many control entries there are. Opens every segment.
    pub fn control_count(&self) -> Result<u64, StorageError> {
        let mut count = 0;
        for base in self.shelf.bases() {
            count += self.shelf.holding(base)?.controls_from(base)?.len() as u64;
        }
        Ok(count)
    }

    /// When the first and the last entry were appended, in milliseconds since the epoch; `None` if there
    /// are none.
    pub fn times(&self) -> Result<Option<(i64, i64)>, StorageError> {
        let Some(last) = self.next_offset().as_u64().checked_sub(1) else { return Ok(None) };
        let time = |offset| {
            let segment = self.shelf.holding(offset)?;
            let chunk = segment.chunk(segment.chunk_holding(offset)?)?;
            Ok::<_, StorageError>(chunk::time(chunk.bytes())?.0)
        };
        Ok(Some((time(Offset::START)?, time(Offset::from_u64(last))?)))
    }

    /// Rewrites the segments that a plan concerns, oldest first, and forgets the plan.
    fn carry_out(
        &self,
        plan: &ErasurePlan,
        goes_on: &dyn Fn() -> bool,
        outline_of: &OutlineOf<'_>,
    ) -> Result<Erasure, StorageError> {
        self.seal_through(plan.last())?;
        let mut erasure = Erasure { records: plan.len() as u64, ..Erasure::default() };
        let bases = self.shelf.bases();
        let ends = bases.iter().skip(1).copied().chain([self.next_offset()]);
        for (base, end) in bases.iter().copied().zip(ends) {
            let erased = plan.within(base..end);
            if erased.is_empty() {
                continue;
            }
            let segment = self.shelf.holding(base)?;
            let compression = self.compression;
            let rewriting = Rewriting { segment: &segment, erased, compression, outline_of };
            let path = self.shelf.path(base);
            let is_built =
                self.fail_stop.write(WriteOp::CopySegment, || rewriting.build(&path, goes_on))?;
            if !is_built {
                return Ok(erasure);
            }
            drop(segment);
            self.shelf.replace(base)?;
            erasure.segments += 1;
        }
        self.fail_stop.write(WriteOp::FinishErasure, || ErasurePlan::remove(&self.dir))?;
        Ok(Erasure { is_complete: true, ..erasure })
    }

    /// Seals the active segment if it reaches down to `last`: only sealed ones are rewritten.
    fn seal_through(&self, last: Option<Offset>) -> Result<(), StorageError> {
        let mut totals = self.appending.lock().expect("an append that panics stops the store");
        if totals.chunks > 0 && last >= Some(self.shelf.active().base()) {
            self.shelf.roll(self.next_offset())?;
            *totals = Totals::default();
        }
        Ok(())
    }

    fn pack(&self, chunks: &[Chunk<'_>]) -> Result<Vec<PackedChunk>, StorageError> {
        let pack = |chunk: &Chunk<'_>| PackedChunk::new(chunk, self.compression);
        match chunks {
            // Alone it is not worth waking another thread.
            [chunk] => Ok(vec![pack(chunk)?]),
            chunks => chunks.par_iter().map(pack).collect(),
        }
    }
}

fn control_bytes(chunk: &chunk::StoredChunk, offset: Offset) -> Result<Vec<u8>, StorageError> {
    let found = chunk.iter().find(|(at, kind, _)| *at == offset && *kind == EntryKind::Control);
    found
        .map(|(_, _, bytes)| bytes.to_vec())
        .ok_or_else(|| StorageError::corrupt("a mark of the log", format!("none at {offset}")))
}
