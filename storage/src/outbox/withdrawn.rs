//! Exports that were taken back before they were delivered, and what is remembered of them.
//!
//! Exports are stored in the order of their sequences, so those of one profile are found by looking at
//! everything that its dataflow has stored: a withdrawal costs what reading the whole backlog costs,
//! and whoever has many to make makes them together.
//!
//! Their sequences stay used, and nobody should read the backlog to say how much of it is left. So a
//! withdrawal leaves, in the same batch, the ranges of sequences that are missing; they go when the
//! exports around them are trimmed.

use std::collections::{BTreeMap, HashMap};
use std::sync::MutexGuard;

use sled::{Batch, Tree};

use super::{ExportRow, Outbox, WHAT, unpack_rows};
use crate::parts::{self, Scan};
use crate::{EndedExport, Ending, StorageError, codec, keys};

const RANGE: &str = "a range of withdrawn exports";

/// Ranges dropped in one batch.
const FORGET_RANGES_MAX: usize = 1024;

/// The sequences that are missing, by dataflow: the first of each range by its last.
#[derive(Default)]
pub(super) struct Withdrawn(HashMap<String, BTreeMap<u64, u64>>);

/// The key of a chunk, and what is gone of its exports, with their sequences.
type Found = (Vec<u8>, Vec<(u64, ExportRow)>);

impl Outbox {
    /// Takes back the exports of `dataflow` that `is_gone` picks: those of a deleted profile, say.
    /// Their sequences stay used. Returns those, ascending. The journal tells that those of which it
    /// knows nothing else ended so at `at_ms`.
    ///
    /// One batch for each chunk that holds any; calling again after a crash does the rest.
    pub fn withdraw(
        &self,
        dataflow: &str,
        is_gone: &dyn Fn(&ExportRow) -> bool,
        at_ms: i64,
    ) -> Result<Vec<u64>, StorageError> {
        let mut gone = Vec::new();
        let mut from = 0;
        // Sought without a lock: whoever commits or trims does not wait for the search.
        while let Some((key, rows)) = self.find(dataflow, from, is_gone)? {
            let ended = rows.into_iter().map(|(sequence, row)| withdrawn(sequence, &row, at_ms));
            self.journal.note_unknown(dataflow, ended)?;
            gone.extend(self.withdraw_from(dataflow, &key, is_gone)?);
            from = keys::exports_last(&key)?.saturating_add(1);
        }
        Ok(gone)
    }

    /// The sequences of `dataflow` from `from` through `through` that were withdrawn, as ascending
    /// ranges, both ends included, which may touch; those trimmed since are not told.
    pub fn withdrawn(&self, dataflow: &str, from: u64, through: u64) -> Vec<(u64, u64)> {
        let ranges = self.ranges();
        let of_flow = ranges.0.get(dataflow).into_iter().flat_map(|ranges| ranges.range(from..));
        let clipped = of_flow.map(|(last, first)| ((*first).max(from), (*last).min(through)));
        clipped.take_while(|(first, last)| first <= last).collect()
    }

    /// The first chunk, of those that end at `from` or later, with exports that are gone: its key, and
    /// those.
    fn find(
        &self,
        dataflow: &str,
        from: u64,
        is_gone: &dyn Fn(&ExportRow) -> bool,
    ) -> Result<Option<Found>, StorageError> {
        let start = keys::part(&keys::exports(dataflow, from)?, 0);
        let trees = self.state.trees()?;
        for item in Scan::new(WHAT, &trees.outbox, start..keys::exports_end(dataflow)?) {
            let (key, value) = item?;
            let (_, mut rows) = unpack_rows(value.bytes())?;
            rows.retain(|(_, row)| is_gone(row));
            if !rows.is_empty() {
                return Ok(Some((key, rows)));
            }
        }
        Ok(None)
    }

    fn withdraw_from(
        &self,
        dataflow: &str,
        key: &[u8],
        is_gone: &dyn Fn(&ExportRow) -> bool,
    ) -> Result<Vec<u64>, StorageError> {
        let mut marks = self.marks();
        let trees = self.state.trees()?;
        // It may have been trimmed since it was found.
        let Some(value) = parts::get(WHAT, &trees.outbox, key)? else { return Ok(Vec::new()) };
        let (_, rows) = unpack_rows(value.bytes())?;
        let mut gone = Vec::new();
        let mut kept = Vec::new();
        for (sequence, row) in &rows {
            if is_gone(row) {
                gone.push(*sequence);
            } else {
                kept.push((*sequence, row));
            }
        }
        let ranges = ranges(&gone);
        let mut batch = Batch::default();
        for (first, last) in &ranges {
            let key = keys::withdrawn(dataflow, *last)?;
            parts::replace(&trees.outbox, &mut batch, &key, &codec::encode(first))?;
        }
        let mut counters = marks.flows.get(dataflow).copied().unwrap_or_default();
        self.rewrite(&trees, batch, (dataflow, &mut counters), (key, &kept))?;
        marks.flows.insert(dataflow.to_owned(), counters);
        self.ranges().add(dataflow, &ranges);
        Ok(gone)
    }

    pub(super) fn ranges(&self) -> MutexGuard<'_, Withdrawn> {
        self.withdrawn.lock().expect("a write that panics stops the store")
    }
}

impl Withdrawn {
    pub(super) fn read(tree: &Tree) -> Result<Self, StorageError> {
        let mut withdrawn = Self::default();
        for item in Scan::new(RANGE, tree, keys::all_withdrawn()) {
            let (key, value) = item?;
            let (dataflow, last) = keys::split_withdrawn(&key)?;
            withdrawn.add(&dataflow, &[(codec::decode(RANGE, value.bytes())?, last)]);
        }
        Ok(withdrawn)
    }

    /// The ranges that lie wholly below a sequence, as many as one batch drops: their last sequences.
    pub(super) fn below(&self, dataflow: &str, below: u64) -> Vec<u64> {
        let ranges = self.0.get(dataflow).into_iter().flat_map(|ranges| ranges.range(..below));
        ranges.take(FORGET_RANGES_MAX).map(|(last, _)| *last).collect()
    }

    pub(super) fn forget(&mut self, dataflow: &str, lasts: &[u64]) {
        if let Some(ranges) = self.0.get_mut(dataflow) {
            for last in lasts {
                ranges.remove(last);
            }
        }
    }

    fn add(&mut self, dataflow: &str, ranges: &[(u64, u64)]) {
        let known = self.0.entry(dataflow.to_owned()).or_default();
        known.extend(ranges.iter().map(|(first, last)| (*last, *first)));
    }
}

fn withdrawn(sequence: u64, row: &ExportRow, at_ms: i64) -> EndedExport {
    EndedExport {
        sequence,
        profile: row.profile,
        policy: row.policy,
        causes: row.causes,
        offset: row.offset,
        boundary_ms: row.boundary_ms,
        rendered_after: row.rendered_after,
        accepted_ms: row.accepted_ms,
        ended_ms: at_ms,
        ending: Ending::Withdrawn,
        failures: 0,
        attempts: Vec::new(),
    }
}

/// Ascending sequences as ranges, both ends included.
fn ranges(sequences: &[u64]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for sequence in sequences {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *sequence => *last = *sequence,
            _ => ranges.push((*sequence, *sequence)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_that_follow_each_other_are_one_range() {
        // (sequences, ranges)
        type Ranges = &'static [(u64, u64)];
        let cases: [(&[u64], Ranges); 4] = [
            (&[], &[]),
            (&[7], &[(7, 7)]),
            (&[1, 2, 3], &[(1, 3)]),
            (&[1, 3, 4, 9], &[(1, 1), (3, 4), (9, 9)]),
        ];
        for (sequences, expected) in cases {
            assert_eq!(ranges(sequences), expected, "{sequences:?}");
        }
    }
}
