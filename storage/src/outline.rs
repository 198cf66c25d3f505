//! Outlines: what a chunk holds, in short, so that who looks for something need not unpack it.
//!
//! Whoever appends a chunk gives its outline, in terms that mean something to them alone: bits for kinds
//! of entries, hashes of names. The log keeps it under a key of its own, in the order of the chunks and
//! apart from them, so that many are read at the cost of a few chunks.
//!
//! # Invariants
//!
//! 1. An outline is written in the batch of its chunk, in the same tree: after a crash both are there or
//!    neither, and never one with another chunk at its offset.
//! 2. A chunk needs none. Of one without, or with one that cannot be read, nothing is known: it may hold
//!    anything. So a log that was written before there were outlines reads as it always did.
//! 3. Erasing from a chunk takes its outline away, with the hashes of whoever is gone. Whoever erases may
//!    tell what remains; an erasure that goes on after a crash has nobody to ask.

use std::sync::Arc;

use crate::chunk::{self, Chunk};
use crate::codec::{self, Decode, Encode};
use crate::hash_filter::HashFilter;
use crate::parts::{Scan, Value};
use crate::segment::Segment;
use crate::shelf::Shelf;
use crate::{Offset, StorageError, keys};

const WHAT: &str = "an outline of a chunk";

/// What a chunk holds, as far as whoever appended it told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Outline {
    /// The highest time that any of its entries carries, in milliseconds since the epoch.
    pub highest_ms: Option<i64>,
    /// The kinds of its entries, as bits.
    pub kinds: u8,
    /// The hashes of all names in it.
    pub names: HashFilter,
}

/// Tells what a chunk holds, of its entries; `None` if that is not known.
pub type OutlineOf<'a> = dyn Fn(&Chunk<'_>) -> Option<Outline> + Sync + 'a;

/// An outline as it is stored, with what tells where its chunk ends and when it was appended.
#[derive(Encode, Decode)]
struct Row<O> {
    entries: u32,
    now_ms: i64,
    outline: O,
}

/// A chunk that was not unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlinedChunk {
    /// Offset of its first entry.
    pub first: Offset,
    /// The offset behind its last entry.
    pub next: Offset,
    /// What `now` was when it was appended, in milliseconds since the epoch.
    pub now_ms: i64,
    /// What it holds; `None`: it may hold anything.
    pub outline: Option<Outline>,
}

/// The stored value of an outline.
pub(crate) fn row(outline: &Outline, entries: u32, now_ms: i64) -> Vec<u8> {
    codec::encode(&Row { entries, now_ms, outline })
}

/// The chunks of a log from an offset on, in order and without gaps, with their outlines.
///
/// Of a chunk with an outline nothing else is read; of another one, its head. It ends where the log
/// ended when it was made, or after the first error. It keeps a segment open, as a reader does.
pub struct Outlines {
    shelf: Arc<Shelf>,
    position: Offset,
    end: Offset,
    /// Declared before the segment it reads, so that it is dropped first.
    rows: Option<Rows>,
    segment: Option<Arc<Segment>>,
}

/// The outlines of one segment, of which the next one is known.
struct Rows {
    scan: Scan,
    next: Option<(Offset, Row<Outline>)>,
}

impl Outlines {
    pub(crate) fn new(shelf: Arc<Shelf>, from: Offset, end: Offset) -> Self {
        Self { shelf, position: from, end, rows: None, segment: None }
    }

    fn step(&mut self) -> Result<OutlinedChunk, StorageError> {
        if self.segment.is_none() {
            self.enter()?;
        }
        let mut found = self.look()?;
        if found.is_none() {
            // The segment ends here, so the next one must start here.
            self.enter()?;
            found = self.look()?;
        }
        found.ok_or_else(|| {
            StorageError::corrupt("the log", format!("nothing at {}", self.position))
        })
    }

    /// Finds the segment of the position; moves back to where the chunk that holds it starts.
    fn enter(&mut self) -> Result<(), StorageError> {
        let segment = self.shelf.holding(self.position)?;
        self.position = segment.chunk_holding(self.position)?;
        self.rows = Some(Rows { scan: segment.outlines(self.position), next: None });
        self.segment = Some(segment);
        Ok(())
    }

    /// The chunk at the position, by its outline or its head; `None` if the segment has none there.
    fn look(&mut self) -> Result<Option<OutlinedChunk>, StorageError> {
        if let Some(row) = self.rows.as_mut().and_then(|rows| rows.at(self.position)) {
            return Ok(Some(self.pass((u64::from(row.entries), row.now_ms), Some(row.outline))));
        }
        let Some(segment) = &self.segment else { return Ok(None) };
        let Some(value) = segment.find_chunk(self.position)? else { return Ok(None) };
        let (now_ms, entries) = chunk::time(value.bytes())?;
        Ok(Some(self.pass((entries, now_ms), None)))
    }

    fn pass(&mut self, (entries, now_ms): (u64, i64), outline: Option<Outline>) -> OutlinedChunk {
        let first = self.position;
        self.position = first.plus(entries);
        OutlinedChunk { first, next: self.position, now_ms, outline }
    }
}

impl Iterator for Outlines {
    type Item = Result<OutlinedChunk, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end {
            return None;
        }
        let found = self.step();
        if found.is_err() {
            self.end = self.position;
        }
        Some(found)
    }
}

impl Rows {
    /// The row of the chunk at `position`, which must not be below the one asked for before.
    fn at(&mut self, position: Offset) -> Option<Row<Outline>> {
        while self.next.as_ref().is_none_or(|(first, _)| *first < position) {
            self.next = Some(self.read()?);
        }
        self.next.take_if(|(first, _)| *first == position).map(|(_, row)| row)
    }

    /// The next row that can be read; a scan that fails is over.
    fn read(&mut self) -> Option<(Offset, Row<Outline>)> {
        self.scan.find_map(|stored| {
            let (key, value) = stored.ok()?;
            Some((keys::outlined_first(&key).ok()?, decode(&value).ok()?))
        })
    }
}

fn decode(value: &Value) -> Result<Row<Outline>, StorageError> {
    let row: Row<Outline> = codec::decode(WHAT, value.bytes())?;
    if row.entries == 0 {
        return Err(StorageError::corrupt(WHAT, "a chunk without entries"));
    }
    Ok(row)
}
