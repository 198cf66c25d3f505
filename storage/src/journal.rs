//! The journal: how each export ended, kept for a while after its payload is gone.
//!
//! An export that is delivered leaves the outbox, and somebody may still ask what became of it. What is
//! kept is small: where in the log it came from, from which everything else can be derived again, and
//! its ending. Failed attempts are kept beside it, because nothing else tells them.
//!
//! # Form
//!
//! Rows lie in pages of [`PAGE_ROWS`] consecutive sequences, so a row is found by its number, and one
//! that ended late comes to lie with its neighbours. A row takes some 20 bytes. What ended between two
//! progress rows is written in the batch of the second ([`crate::Progress::write`]): the journal is no
//! further than progress, and no less.
//!
//! # What is bounded
//!
//! Rows go by age, when they are trimmed, by the page: a page goes once its newest row is old enough.
//! Failed attempts hold answers of up to 1 KiB and would outgrow everything else under an endpoint that
//! fails often, so past [`ATTEMPT_BYTES_MAX`] only their number is kept.

mod page;
mod trim;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sled::Batch;

use crate::codec::{Decode, Encode};
use crate::parts::{self, Scan};
use crate::state::{State, Trees};
use crate::{AttemptRow, StorageError, WriteOp, codec, keys};
use page::{PAGE_ROWS, Page};

pub use trim::{JournalPlace, Trimmed};

const COUNTS: &str = "the counters of a journal";
const ATTEMPTS: &str = "failed attempts of the journal";

/// Bytes of failed attempts that a dataflow's journal holds; past it only their number is kept.
pub const ATTEMPT_BYTES_MAX: u64 = 256 << 20;

/// Bytes after which a batch of pages is written, so that other writers do not wait for long.
const BATCH_BYTES: u64 = 192 << 10;

/// How an export ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Ending {
    /// It was delivered.
    Delivered {
        /// The status that the endpoint answered with.
        status: u16,
    },
    /// It was given up on. Its dead letter may have been replayed or purged since.
    DeadLettered,
    /// A newer export of its profile took its place (`backlog = "latest"`).
    Superseded,
    /// It was taken back: its profile was deleted.
    #[default]
    Withdrawn,
}

/// An export that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndedExport {
    /// Its number in its dataflow.
    pub sequence: u64,
    /// Which profile.
    pub profile: u64,
    /// Under which merge policy, as a number the engine gave it.
    pub policy: u32,
    /// Why, as a set of bits.
    pub causes: u8,
    /// Offset of the log entry whose step caused it.
    pub offset: u64,
    /// The instant of the window boundary whose step it was, in milliseconds since the epoch.
    pub boundary_ms: Option<i64>,
    /// The last entry derived when it was rendered, if not in its step.
    pub rendered_after: Option<u64>,
    /// When the record was accepted, in milliseconds since the epoch.
    pub accepted_ms: i64,
    /// When it ended, in milliseconds since the epoch.
    pub ended_ms: i64,
    /// How.
    pub ending: Ending,
    /// How many attempts failed before it ended; a dead letter has its own.
    pub failures: u32,
    /// Those of which details are kept, oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// How much a journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct JournalSize {
    /// Exports.
    pub rows: u64,
    /// Bytes of their pages, keys included, before the database's own overhead.
    pub row_bytes: u64,
    /// Bytes of failed attempts, in the same way.
    pub attempt_bytes: u64,
}

/// Failed attempts, with whose they were.
#[derive(Encode, Decode)]
struct StoredAttempts {
    policy: u32,
    profile: u64,
    attempts: Vec<AttemptRow>,
}

/// [`StoredAttempts`], as they are written.
#[derive(Encode)]
struct NewAttempts<'a> {
    policy: u32,
    profile: u64,
    attempts: &'a [AttemptRow],
}

impl EndedExport {
    /// What of it lies in its page.
    fn without_attempts(&self) -> Self {
        Self { attempts: Vec::new(), ..*self }
    }
}

/// The exports that ended, of all dataflows.
pub struct Journal {
    state: Arc<State>,
    /// How much each dataflow's holds; held by whoever writes.
    sizes: Mutex<HashMap<String, JournalSize>>,
}

impl Journal {
    pub(crate) fn open(state: &Arc<State>) -> Result<Self, StorageError> {
        let mut sizes = HashMap::new();
        let trees = state.trees()?;
        for item in Scan::new(COUNTS, &trees.progress, keys::journal_sizes()) {
            let (key, value) = item?;
            sizes.insert(keys::name_behind_letter(&key)?, codec::decode(COUNTS, value.bytes())?);
        }
        drop(trees);
        Ok(Self { state: Arc::clone(state), sizes: Mutex::new(sizes) })
    }

    /// Keeps how these exports of `dataflow` ended, in place of what was known of the same ones.
    ///
    /// For what does not come with a progress row. Visible on return, durable after a sync of the state.
    pub fn note(&self, dataflow: &str, ended: &[EndedExport]) -> Result<(), StorageError> {
        if ended.is_empty() {
            return Ok(());
        }
        self.write(dataflow, ended, WriteOp::Journal, |_, _| Ok(()))
    }

    /// The export of this dataflow and sequence; `None` if it has not ended, or is not kept any more.
    pub fn find(&self, dataflow: &str, sequence: u64) -> Result<Option<EndedExport>, StorageError> {
        let trees = self.state.trees()?;
        let number = sequence / PAGE_ROWS;
        let Some(page) = Page::read(&trees.progress, dataflow, number)? else { return Ok(None) };
        let Some(mut row) = page.into_row(sequence) else { return Ok(None) };
        if row.failures > 0 {
            let key = keys::journal_attempts(dataflow, sequence)?;
            if let Some(value) = parts::get(ATTEMPTS, &trees.progress, &key)? {
                row.attempts = codec::decode::<StoredAttempts>(ATTEMPTS, value.bytes())?.attempts;
            }
        }
        Ok(Some(row))
    }

    /// How much the journal of `dataflow` holds.
    pub fn size(&self, dataflow: &str) -> JournalSize {
        self.sizes().get(dataflow).copied().unwrap_or_default()
    }

    /// How much the journals of all dataflows hold together.
    pub fn total_size(&self) -> JournalSize {
        let sizes = self.sizes();
        sizes.values().fold(JournalSize::default(), |sum, size| JournalSize {
            rows: sum.rows + size.rows,
            row_bytes: sum.row_bytes + size.row_bytes,
            attempt_bytes: sum.attempt_bytes + size.attempt_bytes,
        })
    }

    /// Keeps how these exports ended, as [`Self::note`] does, as far as nothing is known of them yet.
    ///
    /// Only for who alone tells how exports of `dataflow` end.
    pub(crate) fn note_unknown(
        &self,
        dataflow: &str,
        ended: impl Iterator<Item = EndedExport>,
    ) -> Result<(), StorageError> {
        let mut unknown = Vec::new();
        for row in ended {
            if self.find(dataflow, row.sequence)?.is_none() {
                unknown.push(row);
            }
        }
        self.note(dataflow, &unknown)
    }

    /// Drops what endpoints answered to the failed attempts that `is_gone` picks, by merge policy,
    /// profile and attempts: an answer may say whose the export was. Time, status and error stay.
    ///
    /// Reads all failed attempts of the dataflow. In several batches; calling again after a crash does
    /// the rest.
    pub fn drop_answers(
        &self,
        dataflow: &str,
        is_gone: &dyn Fn(u32, u64, &[AttemptRow]) -> bool,
    ) -> Result<(), StorageError> {
        let mut start = keys::part(&keys::journal_attempts(dataflow, 0)?, 0);
        let end = keys::journal_attempts_end(dataflow)?;
        loop {
            let mut sizes = self.sizes();
            let trees = self.state.trees()?;
            let mut size = sizes.get(dataflow).copied().unwrap_or_default();
            let (mut batch, mut seen, mut last) = (Batch::default(), 0, None);
            for item in Scan::new(ATTEMPTS, &trees.progress, start.clone()..end.clone()) {
                let (key, value) = item?;
                seen += value.bytes().len() as u64;
                let mut row: StoredAttempts = codec::decode(ATTEMPTS, value.bytes())?;
                let has_answer = row.attempts.iter().any(|attempt| !attempt.answer.is_empty());
                if has_answer && is_gone(row.policy, row.profile, &row.attempts) {
                    row.attempts.iter_mut().for_each(|attempt| attempt.answer.clear());
                    size.attempt_bytes -= parts::remove(&trees.progress, &mut batch, &key)?;
                    // Later operations of a batch win over earlier ones on the same key.
                    size.attempt_bytes += parts::insert(&mut batch, &key, &codec::encode(&row));
                }
                last = Some(key);
                if seen >= BATCH_BYTES {
                    break;
                }
            }
            let Some(last) = last else { return Ok(()) };
            if sizes.get(dataflow) != Some(&size) {
                size.write(&mut batch, dataflow)?;
                trees.apply(WriteOp::Journal, &trees.progress, batch)?;
                sizes.insert(dataflow.to_owned(), size);
            }
            start = keys::part(&last, u16::MAX);
        }
    }

    /// Writes pages with these rows, in several batches if they are many; `last` adds to the last one,
    /// which is written as `op`.
    pub(crate) fn write(
        &self,
        dataflow: &str,
        ended: &[EndedExport],
        op: WriteOp,
        last: impl FnOnce(&Trees, &mut Batch) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let mut sizes = self.sizes();
        let trees = self.state.trees()?;
        let mut size = sizes.get(dataflow).copied().unwrap_or_default();
        let mut ended: Vec<&EndedExport> = ended.iter().collect();
        // Stable: of two endings of one export the later one counts.
        ended.sort_by_key(|row| row.sequence);
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for rows in ended.chunk_by(|a, b| a.sequence / PAGE_ROWS == b.sequence / PAGE_ROWS) {
            if bytes >= BATCH_BYTES {
                size.write(&mut batch, dataflow)?;
                trees.apply(WriteOp::Journal, &trees.progress, std::mem::take(&mut batch))?;
                sizes.insert(dataflow.to_owned(), size);
                self.state.wrote(std::mem::take(&mut bytes));
            }
            bytes += add(&trees, &mut batch, (dataflow, rows), &mut size)?;
        }
        if !ended.is_empty() {
            size.write(&mut batch, dataflow)?;
        }
        last(&trees, &mut batch)?;
        trees.apply(op, &trees.progress, batch)?;
        self.state.wrote(bytes);
        sizes.insert(dataflow.to_owned(), size);
        Ok(())
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<String, JournalSize>> {
        self.sizes.lock().expect("a write that panics stops the store")
    }
}

impl JournalSize {
    fn write(self, batch: &mut Batch, dataflow: &str) -> Result<(), StorageError> {
        // Always one part, so that nothing of an older one is left behind it.
        parts::insert(batch, &keys::journal_size(dataflow)?, &codec::encode(&self));
        Ok(())
    }
}

/// Adds rows of one page to it, and their failed attempts to what is kept; how many bytes that writes.
fn add(
    trees: &Trees,
    batch: &mut Batch,
    (dataflow, rows): (&str, &[&EndedExport]),
    size: &mut JournalSize,
) -> Result<u64, StorageError> {
    let number = rows[0].sequence / PAGE_ROWS;
    let mut page = Page::read(&trees.progress, dataflow, number)?.unwrap_or_default();
    size.rows -= page.len();
    size.row_bytes -= page.stored_bytes();
    let mut written = 0;
    for (at, row) in rows.iter().enumerate() {
        // Of two endings of one export the later one holds; what the batch has of the other could not be
        // taken out of it again.
        if rows[at + 1..].iter().any(|later| later.sequence == row.sequence) {
            continue;
        }
        let key = keys::journal_attempts(dataflow, row.sequence)?;
        let known = page.insert(row.without_attempts());
        if known.is_some_and(|known| known.failures > 0) {
            size.attempt_bytes -= parts::remove(&trees.progress, batch, &key)?;
        }
        if !row.attempts.is_empty() && size.attempt_bytes < ATTEMPT_BYTES_MAX {
            let stored =
                NewAttempts { policy: row.policy, profile: row.profile, attempts: &row.attempts };
            let bytes = parts::insert(batch, &key, &codec::encode(&stored));
            size.attempt_bytes += bytes;
            written += bytes;
        }
    }
    let bytes = page.write(batch, dataflow, number)?;
    size.rows += page.len();
    size.row_bytes += bytes;
    Ok(written + bytes)
}
