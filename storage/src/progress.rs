//! Which exports are done, one row a dataflow.
//!
//! A row is written every 100 ms or so while a dataflow delivers, so it must be small: everything
//! below a watermark is done, and above it ranges of those that overtook the slow ones: one export
//! in a long backoff may have hundreds of thousands done above it.
//!
//! What ended since the row before goes to the journal ([`crate::Journal`]) in the same batch.
//!
//! A dead letter must be written **before** the row that counts its export as done. Both lie in the
//! same database, which keeps a prefix of the writes, so a crash then never loses the export: either
//! the row is missing and it is delivered again, or the dead letter is there.

use std::sync::Arc;

use crate::codec::{Decode, Encode};
use crate::parts::{self, Scan};
use crate::state::State;
use crate::{EndedExport, Journal, StorageError, WriteOp, codec, keys};

const WHAT: &str = "a progress row";

/// How far a dataflow has delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressRow {
    /// Every sequence below this one is done.
    pub watermark: u64,
    /// Ranges of sequences from the watermark on that are done, both ends included, ascending and not
    /// touching each other.
    pub done: Vec<(u64, u64)>,
    /// The newest request starts, for a rate limit that holds over restarts: wall time in milliseconds,
    /// and how many.
    pub last_starts: Vec<(i64, u64)>,
    /// Exports that were tried and not done: sequence, attempts so far, time of the next.
    pub attempts: Vec<(u64, u32, i64)>,
}

/// A row as it is stored: differences take a byte where numbers take nine.
#[derive(Encode, Decode)]
struct StoredRow {
    watermark: u64,
    /// From the end of the range before (at first the watermark) to the start of each, and on to its
    /// end.
    done_gaps: Vec<(u64, u64)>,
    /// From the time before (at first 0) to each, and how many.
    start_gaps: Vec<(i64, u64)>,
    attempts: Vec<(u64, u32, i64)>,
}

/// Delivery progress of all dataflows.
pub struct Progress {
    state: Arc<State>,
    journal: Arc<Journal>,
}

impl Progress {
    pub(crate) fn new(state: &Arc<State>, journal: &Arc<Journal>) -> Self {
        Self { state: Arc::clone(state), journal: Arc::clone(journal) }
    }

    /// Replaces the row of `dataflow`, and adds to its journal what ended since; visible on return,
    /// durable after a sync of the state.
    ///
    /// After a crash the row is not there without what ended; of very much that ended, some may be there
    /// without the row.
    pub fn write(
        &self,
        dataflow: &str,
        row: &ProgressRow,
        ended: &[EndedExport],
    ) -> Result<(), StorageError> {
        let value = codec::encode(&StoredRow::of(row));
        self.journal.write(dataflow, ended, WriteOp::Progress, |trees, batch| {
            parts::replace(&trees.progress, batch, &keys::progress(dataflow)?, &value)
        })?;
        self.state.wrote(value.len() as u64);
        Ok(())
    }

    /// The row of `dataflow`; one that counts nothing as done if there is none.
    pub fn read(&self, dataflow: &str) -> Result<ProgressRow, StorageError> {
        let trees = self.state.trees()?;
        match parts::get(WHAT, &trees.progress, &keys::progress(dataflow)?)? {
            Some(value) => Ok(codec::decode::<StoredRow>(WHAT, value.bytes())?.restore()),
            None => Ok(ProgressRow::default()),
        }
    }

    /// Every dataflow that has a row, by name.
    pub fn dataflows(&self) -> Result<Vec<String>, StorageError> {
        let trees = self.state.trees()?;
        let rows = Scan::new(WHAT, &trees.progress, keys::all_progress());
        rows.map(|item| keys::name_behind_letter(&item?.0)).collect()
    }
}

impl StoredRow {
    /// What is below the watermark is done anyway.
    fn of(row: &ProgressRow) -> Self {
        let above = row.done.iter().filter(|(_, last)| *last >= row.watermark);
        let mut end = row.watermark;
        let gap = |(first, last): &(u64, u64)| {
            let start = (*first).max(row.watermark);
            (start - std::mem::replace(&mut end, *last), last - start)
        };
        let done_gaps = above.map(gap).collect();
        let mut last = 0;
        let gap =
            |(at, count): &(i64, u64)| (at.wrapping_sub(std::mem::replace(&mut last, *at)), *count);
        let start_gaps = row.last_starts.iter().map(gap).collect();
        let attempts = row.attempts.clone();
        Self { watermark: row.watermark, done_gaps, start_gaps, attempts }
    }

    fn restore(self) -> ProgressRow {
        let mut end = self.watermark;
        let mut last = 0_i64;
        let mut add = |(gap, length): (u64, u64)| {
            let first = end.wrapping_add(gap);
            end = first.wrapping_add(length);
            (first, end)
        };
        let done = self.done_gaps.into_iter().map(&mut add).collect();
        let mut add = |(gap, count): (i64, u64)| {
            last = last.wrapping_add(gap);
            (last, count)
        };
        let last_starts = self.start_gaps.into_iter().map(&mut add).collect();
        ProgressRow { watermark: self.watermark, done, last_starts, attempts: self.attempts }
    }
}

#[cfg(test)]
mod tests {
    use super::{ProgressRow, StoredRow};
    use crate::codec;

    #[test]
    fn rows_come_back_as_they_mean() {
        let row = |watermark, done: &[(u64, u64)], starts: &[(i64, u64)]| ProgressRow {
            watermark,
            done: done.to_vec(),
            last_starts: starts.to_vec(),
            attempts: vec![(7, 2, -5)],
        };
        // (what it shows, written, read)
        let cases = [
            ("nothing done", row(0, &[], &[]), row(0, &[], &[])),
            ("ranges", row(5, &[(6, 6), (9, 40)], &[]), row(5, &[(6, 6), (9, 40)], &[])),
            ("the watermark itself may be done", row(5, &[(5, 9)], &[]), row(5, &[(5, 9)], &[])),
            (
                "below the watermark is implied",
                row(5, &[(1, 2), (3, 6)], &[]),
                row(5, &[(5, 6)], &[]),
            ),
            (
                "to the end of numbers",
                row(0, &[(2, 2), (4, u64::MAX)], &[]),
                row(0, &[(2, 2), (4, u64::MAX)], &[]),
            ),
            (
                "times may go back",
                row(1, &[], &[(9, 1), (-3, 400), (8, 2)]),
                row(1, &[], &[(9, 1), (-3, 400), (8, 2)]),
            ),
            (
                "extreme times",
                row(1, &[], &[(i64::MIN, 0), (i64::MAX, u64::MAX)]),
                row(1, &[], &[(i64::MIN, 0), (i64::MAX, u64::MAX)]),
            ),
        ];
        for (name, written, expected) in cases {
            let bytes = codec::encode(&StoredRow::of(&written));
            let read = codec::decode::<StoredRow>("a row", &bytes).unwrap().restore();
            assert_eq!(read, expected, "{name}");
        }
    }

    #[test]
    fn a_range_takes_about_two_bytes_however_long_the_log() {
        let first = 1_000_000_000;
        let done: Vec<(u64, u64)> = (0..10_000).map(|n| (first + 2 * n, first + 2 * n)).collect();
        let row = ProgressRow { watermark: first, done, ..ProgressRow::default() };
        assert!(codec::encode(&StoredRow::of(&row)).len() < 20_100);
    }
}
