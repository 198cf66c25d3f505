//! The outbox: exports that are owed to an endpoint, and how far the log has been derived.
//!
//! # Why it exists
//!
//! Deriving a record changes a profile and causes requests. The request cannot be part of a commit:
//! sent before it, it may announce what a crash then undoes; sent after it, it may never be sent. So
//! the intent to send is committed together with "derived up to here", and senders read intents.
//!
//! # Invariants
//!
//! 1. Exports, their sequence counters, marked profiles, lane marks and the next offset to derive
//!    become visible in one batch of one tree, so a crash never separates them.
//! 2. Sequences of a dataflow rise from 1 and are never given twice, also when exports are gone.
//! 3. What is in memory here (counters, marks) is what is in the database, never ahead of it.
//!
//! A caller trims only what a progress row written *before* counts as done: both lie in the same
//! database, so a crash that keeps the trimming keeps the row.

mod marked;
mod withdrawn;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use rayon::prelude::*;
use sled::{Batch, Tree};

use crate::codec::{Decode, Encode};
use crate::compression::{Packing, pack, unpack};
use crate::parts::{self, Scan};
use crate::state::{State, Trees};
use crate::{Compression, Journal, Offset, StorageError, WriteOp, codec, keys};
use withdrawn::Withdrawn;

pub use marked::{FlowMarks, Mark, MarkKey};

const WHAT: &str = "a chunk of exports";

/// Bytes of payload after which a chunk is full. Exports are read and dropped by the chunk.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks dropped in one batch, so that other writers do not wait for long.
const TRIM_CHUNKS_MAX: usize = 256;

/// One export, rendered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct ExportRow {
    /// Which profile.
    pub profile: u64,
    /// Under which merge policy, as a number the engine gave it.
    pub policy: u32,
    /// Why, as a set of bits.
    pub causes: u8,
    /// Offset of the log entry whose step caused it.
    pub offset: u64,
    /// The instant of the window boundary whose step it was, in milliseconds since the epoch; `None`:
    /// the entry's own step. With offset, profile and policy it names a step.
    pub boundary_ms: Option<i64>,
    /// For an export that shows its profile as it was later than in its step: the last entry derived
    /// when it was rendered.
    pub rendered_after: Option<u64>,
    /// When the record was accepted, in milliseconds since the epoch.
    pub accepted_ms: i64,
    /// The body of the request.
    pub payload: Vec<u8>,
}

/// What was derived from the log up to some offset, to be committed together.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// The first offset not yet derived.
    pub next: Offset,
    /// New exports, by dataflow.
    pub flows: Vec<FlowExports>,
    /// Lanes that moved.
    pub lanes: Vec<LaneMark>,
    /// Profiles that are marked, or are so no more.
    pub marked: Vec<FlowMarks>,
}

/// New exports of one dataflow.
#[derive(Clone, Debug, Default)]
pub struct FlowExports {
    /// Which dataflow.
    pub dataflow: String,
    /// Sequence of the first row; the others follow without gaps.
    pub first_sequence: u64,
    /// The exports, in order.
    pub rows: Vec<ExportRow>,
}

/// How far a lane (a backfill, say) has been drained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneMark {
    /// Which lane.
    pub lane: String,
    /// Everything up to here has been taken.
    pub through: u64,
}

/// Exports waiting to be delivered.
pub struct Outbox {
    state: Arc<State>,
    journal: Arc<Journal>,
    compression: Compression,
    marks: Mutex<Marks>,
    /// Locked only by who holds the marks, or reads.
    withdrawn: Mutex<Withdrawn>,
}

/// What the tree says beside the exports.
#[derive(Clone, Default)]
struct Marks {
    next: Offset,
    flows: HashMap<String, Counters>,
    lanes: HashMap<String, u64>,
    /// How many profiles are marked, by dataflow.
    marked: HashMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
struct Counters {
    next_sequence: u64,
    stored_bytes: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Self { next_sequence: 1, stored_bytes: 0 }
    }
}

/// What stands before the packed rows of a chunk.
#[derive(Encode, Decode)]
struct Head {
    first_sequence: u64,
    body: u32,
    packing: Packing,
}

/// A chunk of exports, ready to be stored.
struct PackedExports {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Outbox {
    pub(crate) fn open(
        state: &Arc<State>,
        journal: &Arc<Journal>,
        compression: Compression,
    ) -> Result<Self, StorageError> {
        let trees = state.trees()?;
        let marks = Mutex::new(Marks::read(&trees.outbox)?);
        let withdrawn = Mutex::new(Withdrawn::read(&trees.outbox)?);
        drop(trees);
        let (state, journal) = (Arc::clone(state), Arc::clone(journal));
        Ok(Self { state, journal, compression, marks, withdrawn })
    }

    /// Stores what was derived, all of it or nothing; visible on return.
    ///
    /// The log must be synced as far as `derived.next` before, and the state synced afterwards,
    /// before any of these exports is handed to a sender.
    pub fn commit(&self, derived: &Derived) -> Result<(), StorageError> {
        let packed = self.pack(derived)?;
        let mut marks = self.marks();
        let mut after = marks.advanced(derived)?;
        let mut batch = Batch::default();
        let mut written = 0;
        for (flow, chunks) in derived.flows.iter().zip(&packed) {
            let bytes: u64 =
                chunks.iter().map(|c| parts::insert(&mut batch, &c.key, &c.value)).sum();
            after.flows.entry(flow.dataflow.clone()).or_default().stored_bytes += bytes;
            written += bytes;
        }
        let trees = self.state.trees()?;
        after.write(&trees.outbox, &mut batch, derived)?;
        for flow in &derived.marked {
            written += marked::write(&trees.outbox, &mut batch, flow, &mut after.marked)?;
        }
        trees.apply(WriteOp::StoreExports, &trees.outbox, batch)?;
        self.state.wrote(written);
        *marks = after;
        Ok(())
    }

    /// The first offset not yet derived.
    pub fn derived_next(&self) -> Offset {
        self.marks().next
    }

    /// The sequence that the next export of `dataflow` gets: 1 if there never was one.
    pub fn next_sequence(&self, dataflow: &str) -> u64 {
        self.marks().flows.get(dataflow).copied().unwrap_or_default().next_sequence
    }

    /// Every dataflow that ever had an export, by name.
    pub fn dataflows(&self) -> Vec<String> {
        let mut names: Vec<String> = self.marks().flows.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// How far `lane` has been drained, if it ever was.
    pub fn lane(&self, lane: &str) -> Option<u64> {
        self.marks().lanes.get(lane).copied()
    }

    /// Bytes that the exports of `dataflow` take, before the database's own overhead.
    pub fn stored_bytes(&self, dataflow: &str) -> u64 {
        self.marks().flows.get(dataflow).copied().unwrap_or_default().stored_bytes
    }

    /// Exports of `dataflow` from sequence `from` on, ascending, by whole chunks until these have
    /// `max_bytes` of rows. Sequences may have gaps. Empty only if there is nothing more.
    pub fn read(
        &self,
        dataflow: &str,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<(u64, ExportRow)>, StorageError> {
        let start = keys::part(&keys::exports(dataflow, from)?, 0);
        let trees = self.state.trees()?;
        let scan = Scan::new(WHAT, &trees.outbox, start..keys::exports_end(dataflow)?);
        let mut rows = Vec::new();
        let mut bytes = 0;
        for item in scan {
            let (_, value) = item?;
            let (body, chunk) = unpack_rows(value.bytes())?;
            rows.extend(chunk.into_iter().filter(|(sequence, _)| *sequence >= from));
            bytes += body;
            if bytes >= max_bytes && !rows.is_empty() {
                break;
            }
        }
        Ok(rows)
    }

    /// Drops the chunks of `dataflow` that lie wholly below a sequence, and what was withdrawn there.
    ///
    /// In several batches; after a crash the lower ones may be gone and the others not.
    pub fn trim(&self, dataflow: &str, below: u64) -> Result<(), StorageError> {
        let end = keys::part(&keys::exports(dataflow, below)?, 0);
        let start = keys::part(&keys::exports(dataflow, 0)?, 0);
        loop {
            let trees = self.state.trees()?;
            let scan = Scan::new(WHAT, &trees.outbox, start.clone()..end.clone());
            let keys: Vec<_> =
                scan.take(TRIM_CHUNKS_MAX).map(|item| Ok(item?.0)).collect::<Result<_, _>>()?;
            drop(trees);
            let ranges = self.ranges().below(dataflow, below);
            if keys.is_empty() && ranges.is_empty() {
                return Ok(());
            }
            self.drop_chunks(dataflow, &keys, &ranges)?;
        }
    }

    /// Drops the chunks of `dataflow` that lie wholly within ranges of sequences (both ends
    /// included), of which each export is done.
    ///
    /// What [`Self::trim`] leaves because one export below waits for its retry. In several batches, as
    /// there. Cost: a look-up for each range, and a read of what is dropped.
    pub fn trim_within(&self, dataflow: &str, ranges: &[(u64, u64)]) -> Result<(), StorageError> {
        for &(first, last) in ranges {
            let mut keys = Vec::new();
            let start = keys::part(&keys::exports(dataflow, first)?, 0);
            let end = keys::part(&keys::exports(dataflow, last)?, u16::MAX);
            let trees = self.state.trees()?;
            for item in Scan::new(WHAT, &trees.outbox, start..end) {
                let (key, value) = item?;
                let (head, _) = codec::decode_front::<Head>(WHAT, value.bytes())?;
                if head.first_sequence >= first {
                    keys.push(key);
                }
            }
            drop(trees);
            for keys in keys.chunks(TRIM_CHUNKS_MAX) {
                self.drop_chunks(dataflow, keys, &[])?;
            }
        }
        Ok(())
    }

    /// Drops the chunks at these keys, and the ranges of withdrawn exports with these ends, in one
    /// batch.
    fn drop_chunks(
        &self,
        dataflow: &str,
        keys: &[Vec<u8>],
        ranges: &[u64],
    ) -> Result<(), StorageError> {
        let mut marks = self.marks();
        let trees = self.state.trees()?;
        let mut batch = Batch::default();
        let mut counters = marks.flows.get(dataflow).copied().unwrap_or_default();
        for key in keys {
            let freed = parts::remove(&trees.outbox, &mut batch, key)?;
            counters.stored_bytes = counters.stored_bytes.saturating_sub(freed);
        }
        for last in ranges {
            parts::remove(&trees.outbox, &mut batch, &keys::withdrawn(dataflow, *last)?)?;
        }
        counters.write(&trees.outbox, &mut batch, dataflow)?;
        trees.apply(WriteOp::TrimExports, &trees.outbox, batch)?;
        marks.flows.insert(dataflow.to_owned(), counters);
        self.ranges().forget(dataflow, ranges);
        Ok(())
    }

    /// Replaces the chunk at a key by one of the rows that are kept, and writes the rest of `batch`.
    fn rewrite(
        &self,
        trees: &Trees,
        mut batch: Batch,
        (dataflow, counters): (&str, &mut Counters),
        (key, kept): (&[u8], &[(u64, &ExportRow)]),
    ) -> Result<(), StorageError> {
        let freed = parts::remove(&trees.outbox, &mut batch, key)?;
        let mut written = 0;
        if !kept.is_empty() {
            // Later operations of a batch win over earlier ones on the same key.
            written = parts::insert(&mut batch, key, &pack_rows(kept, self.compression)?);
        }
        counters.stored_bytes = (counters.stored_bytes + written).saturating_sub(freed);
        counters.write(&trees.outbox, &mut batch, dataflow)?;
        trees.apply(WriteOp::WithdrawExports, &trees.outbox, batch)?;
        self.state.wrote(written);
        Ok(())
    }

    fn pack(&self, derived: &Derived) -> Result<Vec<Vec<PackedExports>>, StorageError> {
        let pack = |flow: &FlowExports| {
            let chunks: Vec<_> = flow.chunks().collect();
            let pack = |(first, rows): &(u64, &[ExportRow])| {
                let last = first + rows.len() as u64 - 1;
                let rows: Vec<_> = (*first..).zip(*rows).collect();
                let key = keys::exports(&flow.dataflow, last)?;
                Ok(PackedExports { key, value: pack_rows(&rows, self.compression)? })
            };
            if chunks.len() == 1 {
                return Ok(vec![pack(&chunks[0])?]);
            }
            chunks.par_iter().map(pack).collect::<Result<Vec<_>, _>>()
        };
        derived.flows.iter().map(pack).collect()
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().expect("a write that panics stops the store")
    }
}

impl FlowExports {
    /// Slices of the rows with their first sequences, each of about [`CHUNK_BYTES`].
    fn chunks(&self) -> impl Iterator<Item = (u64, &[ExportRow])> {
        let mut rest = &self.rows[..];
        let mut sequence = self.first_sequence;
        std::iter::from_fn(move || {
            let mut bytes = 0;
            let full = rest.iter().position(|row| {
                bytes += row.payload.len();
                bytes >= CHUNK_BYTES
            });
            let (chunk, after) = rest.split_at(full.map_or(rest.len(), |last| last + 1));
            let first = sequence;
            sequence += chunk.len() as u64;
            rest = after;
            (!chunk.is_empty()).then_some((first, chunk))
        })
    }
}

/// Packs rows with their sequences, at least one, ascending.
fn pack_rows(
    rows: &[(u64, &ExportRow)],
    compression: Compression,
) -> Result<Vec<u8>, StorageError> {
    let first_sequence = rows[0].0;
    let mut body = codec::encode(&(rows.len() as u64));
    for (sequence, row) in rows {
        codec::append(&mut body, &(sequence - first_sequence, *row));
    }
    let body_len = u32::try_from(body.len())
        .map_err(|_| StorageError::refused("a chunk of exports over 4 GiB"))?;
    let (packing, packed) = pack(compression, body)?;
    let mut value = codec::encode(&Head { first_sequence, body: body_len, packing });
    value.extend_from_slice(&packed);
    Ok(value)
}

/// The rows of a stored chunk with their sequences, and how many bytes they are unpacked.
fn unpack_rows(value: &[u8]) -> Result<(usize, Vec<(u64, ExportRow)>), StorageError> {
    let (head, packed) = codec::decode_front::<Head>(WHAT, value)?;
    let body_len = head.body as usize;
    let body = unpack(WHAT, head.packing, (body_len, packed))?;
    let rows: Vec<(u64, ExportRow)> = codec::decode(WHAT, &body)?;
    let rows = rows.into_iter().map(|(ahead, row)| (head.first_sequence + ahead, row)).collect();
    Ok((body_len, rows))
}

impl Marks {
    fn read(tree: &Tree) -> Result<Self, StorageError> {
        let mut marks = Self::default();
        if let Some(value) = parts::get("the derived offset", tree, &keys::derived())? {
            marks.next = Offset::from_u64(codec::decode("the derived offset", value.bytes())?);
        }
        for item in Scan::new("the counters of a dataflow", tree, keys::flows()) {
            let (key, value) = item?;
            let counters = codec::decode("the counters of a dataflow", value.bytes())?;
            marks.flows.insert(keys::name_behind_letter(&key)?, counters);
        }
        for item in Scan::new("a lane", tree, keys::lanes()) {
            let (key, value) = item?;
            let through = codec::decode("a lane", value.bytes())?;
            marks.lanes.insert(keys::name_behind_letter(&key)?, through);
        }
        marks.marked = marked::counts(tree)?;
        Ok(marks)
    }

    /// The marks once `derived` is stored, but for the bytes; refuses what would go backwards.
    fn advanced(&self, derived: &Derived) -> Result<Self, StorageError> {
        let mut after = self.clone();
        if derived.next < self.next {
            let reason = format!("derived up to {} after {}", derived.next, self.next);
            return Err(StorageError::refused(reason));
        }
        after.next = derived.next;
        for flow in &derived.flows {
            let counters = after.flows.entry(flow.dataflow.clone()).or_default();
            if flow.first_sequence < counters.next_sequence {
                return Err(StorageError::refused(format!(
                    "sequence {} of dataflow {} again, the next is {}",
                    flow.first_sequence, flow.dataflow, counters.next_sequence
                )));
            }
            counters.next_sequence = flow.first_sequence + flow.rows.len() as u64;
        }
        for mark in &derived.lanes {
            after.lanes.insert(mark.lane.clone(), mark.through);
        }
        Ok(after)
    }

    /// Writes what `derived` has changed.
    fn write(&self, tree: &Tree, batch: &mut Batch, derived: &Derived) -> Result<(), StorageError> {
        let next = codec::encode(&self.next.as_u64());
        parts::replace(tree, batch, &keys::derived(), &next)?;
        for flow in &derived.flows {
            self.flows[&flow.dataflow].write(tree, batch, &flow.dataflow)?;
        }
        for mark in &derived.lanes {
            let through = codec::encode(&mark.through);
            parts::replace(tree, batch, &keys::lane(&mark.lane)?, &through)?;
        }
        Ok(())
    }
}

impl Counters {
    fn write(self, tree: &Tree, batch: &mut Batch, dataflow: &str) -> Result<(), StorageError> {
        parts::replace(tree, batch, &keys::flow(dataflow)?, &codec::encode(&self))
    }
}
