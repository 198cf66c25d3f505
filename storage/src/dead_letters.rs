//! Dead letters: exports that were given up on, kept until they are replayed or purged.
//!
//! A dead letter is written before the progress row that counts its export as done (see
//! [`crate::Progress`]); after a crash between the two the export is tried again, and its dead letter
//! written over.
//!
//! They are counted in the same batch that writes or removes them, because a refusing endpoint can
//! fill this tree with millions, and nobody should read those to show a number.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use sled::Batch;

use crate::codec::{Decode, Encode};
use crate::parts::{self, Scan};
use crate::state::{State, Trees};
use crate::{ExportRow, StorageError, WriteOp, codec, keys};

const WHAT: &str = "a dead letter";
const COUNT: &str = "a count of dead letters";

/// Dead letters looked at together while those to withdraw are sought.
const WITHDRAW_PAGE: usize = 256;

/// One request and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct AttemptRow {
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: String,
    /// The beginning of the answer.
    pub answer: Vec<u8>,
}

/// An export that was given up on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct DeadLetterRow {
    /// The export.
    pub export: ExportRow,
    /// What was tried.
    pub attempts: Vec<AttemptRow>,
    /// When it was given up, in milliseconds since the epoch.
    pub died_ms: i64,
    /// Whether it is to be sent again.
    pub replay: bool,
}

/// All dead letters, by dataflow and sequence.
pub struct DeadLetters {
    state: Arc<State>,
    /// How many each dataflow has; held by whoever writes.
    counts: Mutex<HashMap<String, u64>>,
}

impl DeadLetters {
    pub(crate) fn open(state: &Arc<State>) -> Result<Self, StorageError> {
        let mut counts = HashMap::new();
        let trees = state.trees()?;
        for item in Scan::new(COUNT, &trees.dead_letters, keys::dead_counts()) {
            let (key, value) = item?;
            counts.insert(keys::name_behind_letter(&key)?, codec::decode(COUNT, value.bytes())?);
        }
        drop(trees);
        Ok(Self { state: Arc::clone(state), counts: Mutex::new(counts) })
    }

    /// Keeps a dead letter, in place of one of the same dataflow and sequence.
    ///
    /// Visible on return, durable after a sync of the state.
    pub fn put(
        &self,
        dataflow: &str,
        sequence: u64,
        row: &DeadLetterRow,
    ) -> Result<(), StorageError> {
        let value = codec::encode(row);
        let key = keys::dead_row(dataflow, sequence)?;
        let mut counts = self.counts();
        let trees = self.state.trees()?;
        let mut batch = Batch::default();
        let known = parts::get(WHAT, &trees.dead_letters, &key)?.is_some();
        parts::replace(&trees.dead_letters, &mut batch, &key, &value)?;
        let count = of(&counts, dataflow) + u64::from(!known);
        write(&trees, batch, (dataflow, count))?;
        counts.insert(dataflow.to_owned(), count);
        self.state.wrote(value.len() as u64);
        Ok(())
    }

    /// Marks a dead letter to be sent again; returns whether it was there to be marked.
    ///
    /// Whoever removes it at the same time wins or loses as a whole: one that is gone does not come
    /// back.
    pub fn mark_for_replay(&self, dataflow: &str, sequence: u64) -> Result<bool, StorageError> {
        let key = keys::dead_row(dataflow, sequence)?;
        let counts = self.counts();
        let trees = self.state.trees()?;
        let Some(value) = parts::get(WHAT, &trees.dead_letters, &key)? else { return Ok(false) };
        let mut row: DeadLetterRow = codec::decode(WHAT, value.bytes())?;
        row.replay = true;
        let value = codec::encode(&row);
        let mut batch = Batch::default();
        parts::replace(&trees.dead_letters, &mut batch, &key, &value)?;
        write(&trees, batch, (dataflow, of(&counts, dataflow)))?;
        self.state.wrote(value.len() as u64);
        Ok(true)
    }

    /// The dead letter of this dataflow and sequence.
    pub fn get(
        &self,
        dataflow: &str,
        sequence: u64,
    ) -> Result<Option<DeadLetterRow>, StorageError> {
        let trees = self.state.trees()?;
        let key = keys::dead_row(dataflow, sequence)?;
        let value = parts::get(WHAT, &trees.dead_letters, &key)?;
        value.map(|value| codec::decode(WHAT, value.bytes())).transpose()
    }

    /// Removes a dead letter; returns whether there was one.
    pub fn remove(&self, dataflow: &str, sequence: u64) -> Result<bool, StorageError> {
        Ok(self.remove_all(dataflow, &[sequence])? > 0)
    }

    /// Removes the dead letters of `dataflow` whose export `is_gone` picks; returns their sequences.
    ///
    /// One batch for each page that holds any; calling again after a crash does the rest. Reads all of
    /// the dataflow's.
    pub fn withdraw(
        &self,
        dataflow: &str,
        is_gone: &dyn Fn(&ExportRow) -> bool,
    ) -> Result<Vec<u64>, StorageError> {
        let mut removed = Vec::new();
        let mut seen: Option<u64> = None;
        loop {
            let after = seen.map(|sequence| (dataflow, sequence));
            let page = self.list(Some(dataflow), after, WITHDRAW_PAGE)?;
            let Some((_, last, _)) = page.last() else { return Ok(removed) };
            seen = Some(*last);
            let gone = page.iter().filter(|(_, _, row)| is_gone(&row.export));
            let gone: Vec<u64> = gone.map(|(_, sequence, _)| *sequence).collect();
            self.remove_all(dataflow, &gone)?;
            removed.extend(gone);
        }
    }

    /// Removes dead letters in one batch; returns how many there were.
    fn remove_all(&self, dataflow: &str, sequences: &[u64]) -> Result<u64, StorageError> {
        let mut counts = self.counts();
        let trees = self.state.trees()?;
        let mut batch = Batch::default();
        let mut removed = 0;
        for sequence in sequences {
            let key = keys::dead_row(dataflow, *sequence)?;
            removed += u64::from(parts::remove(&trees.dead_letters, &mut batch, &key)? > 0);
        }
        if removed > 0 {
            let count = of(&counts, dataflow).saturating_sub(removed);
            write(&trees, batch, (dataflow, count))?;
            counts.insert(dataflow.to_owned(), count);
        }
        Ok(removed)
    }

    /// Up to `limit` dead letters of one dataflow or of all, by name and sequence, behind `after`:
    /// the name and sequence of the last one that the caller has seen.
    pub fn list(
        &self,
        dataflow: Option<&str>,
        after: Option<(&str, u64)>,
        limit: usize,
    ) -> Result<Vec<(String, u64, DeadLetterRow)>, StorageError> {
        let first = dataflow.map_or(Ok(keys::dead_rows_start()), |name| {
            Ok::<_, StorageError>(keys::part(&keys::dead_row(name, 0)?, 0))
        })?;
        let start = match after {
            Some((name, sequence)) => {
                first.max(keys::part(&keys::dead_row(name, sequence)?, u16::MAX))
            }
            None => first,
        };
        let end = keys::dead_rows_end(dataflow)?;
        if start >= end {
            return Ok(Vec::new());
        }
        let trees = self.state.trees()?;
        let scan = Scan::new(WHAT, &trees.dead_letters, start..end).take(limit);
        scan.map(|item| {
            let (key, value) = item?;
            let (name, sequence) = keys::split_dead_row(&key)?;
            Ok((name, sequence, codec::decode(WHAT, value.bytes())?))
        })
        .collect()
    }

    /// How many dead letters `dataflow` has.
    pub fn count(&self, dataflow: &str) -> u64 {
        of(&self.counts(), dataflow)
    }

    /// How many dead letters each dataflow has, those without left out.
    pub fn counts_by_dataflow(&self) -> BTreeMap<String, u64> {
        let counts = self.counts();
        let kept = counts.iter().filter(|(_, count)| **count > 0);
        kept.map(|(dataflow, count)| (dataflow.clone(), *count)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.counts.lock().expect("a write that panics stops the store")
    }
}

fn of(counts: &HashMap<String, u64>, dataflow: &str) -> u64 {
    counts.get(dataflow).copied().unwrap_or(0)
}

/// Writes a batch together with the count it leads to.
fn write(
    trees: &Trees,
    mut batch: Batch,
    (dataflow, count): (&str, u64),
) -> Result<(), StorageError> {
    let key = keys::dead_count(dataflow)?;
    parts::replace(&trees.dead_letters, &mut batch, &key, &codec::encode(&count))?;
    trees.apply(WriteOp::DeadLetter, &trees.dead_letters, batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{DeadLetterRow, DeadLetters};
    use crate::database::UNIT_BYTES;
    use crate::fail_stop::FailStop;
    use crate::state::State;

    #[test]
    fn only_what_is_there_can_be_marked() {
        let dir = tempfile::tempdir().unwrap();
        let fail_stop = Arc::new(FailStop::new(None, UNIT_BYTES));
        let state = Arc::new(State::open(&dir.path().join("state"), &fail_stop).unwrap());
        let letters = DeadLetters::open(&state).unwrap();
        let row = DeadLetterRow { died_ms: 7, ..DeadLetterRow::default() };
        letters.put("to", 3, &row).unwrap();
        assert!(letters.mark_for_replay("to", 3).unwrap());
        let marked = DeadLetterRow { replay: true, ..row };
        assert_eq!(letters.get("to", 3).unwrap(), Some(marked));
        assert!(!letters.mark_for_replay("to", 4).unwrap());
        assert!(letters.remove("to", 3).unwrap());
        assert!(!letters.mark_for_replay("to", 3).unwrap(), "what is gone does not come back");
        assert_eq!(letters.get("to", 3).unwrap(), None);
        assert!(letters.counts_by_dataflow().is_empty());
        letters.put("other", 1, &DeadLetterRow::default()).unwrap();
        assert_eq!(letters.counts_by_dataflow(), [("other".to_owned(), 1)].into());
    }
}
