//! Delivery's backlog, kept in the store.
//!
//! Exports that are done are dropped here: everything below the watermark at once, and what lies above
//! it when enough has come together. One export may wait hours for its retry; what was done above it
//! meanwhile must neither fill the disk nor count against its destination's budget.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use forebay_storage::{DeadLetterRow, ExportRow, ProgressRow, StorageError, Store};

use super::budget::{Delivered, Freed, done_count};
use super::journal;
use crate::clock::Timestamp;
use crate::deliver::backlog::{
    Attempted, Backlog, BacklogError, DeadLetter, EndedExport, Export, ExportKey, ProfileKey,
    ProgressMark,
};
use crate::deliver::rate::Starts;
use crate::deliver::withdrawal::Withdrawal;

/// The store as delivery sees it.
pub(super) struct StoredBacklog {
    store: Arc<Store>,
    freed: Arc<Freed>,
    /// How many exports were done above the watermark when they were dropped last, by dataflow.
    swept: Mutex<HashMap<String, u64>>,
}

impl StoredBacklog {
    /// The backlog of all dataflows in `store`; `freed` is told what is done.
    pub(super) fn new(store: &Arc<Store>, freed: &Arc<Freed>) -> Self {
        let (store, freed) = (Arc::clone(store), Arc::clone(freed));
        Self { store, freed, swept: Mutex::default() }
    }

    /// Random id of the log.
    pub(super) fn log_id(&self) -> [u8; 16] {
        self.store.meta().log_id()
    }

    /// Drops what is done above the watermark, if that became much since the last time.
    fn sweep(&self, dataflow: &str, mark: &ProgressMark) -> Result<(), StorageError> {
        let above = done_count(0, &mark.done);
        let mut swept = self.swept.lock().expect("no thread panics with this lock");
        let last = swept.entry(dataflow.to_owned()).or_default();
        *last = (*last).min(above);
        if above - *last < SWEEP_EXPORTS {
            return Ok(());
        }
        *last = above;
        drop(swept);
        let is_long = |(first, last): &(u64, u64)| last - first >= SWEEP_RANGE;
        let ranges: Vec<_> = mark.done.iter().copied().filter(is_long).collect();
        self.store.outbox().trim_within(dataflow, &ranges)
    }
}

/// Exports done above the watermark since the last time that make it worth to drop them.
const SWEEP_EXPORTS: u64 = 4096;

/// Shorter ranges seldom hold a whole chunk, and there may be many.
const SWEEP_RANGE: u64 = 16;

impl Backlog for StoredBacklog {
    fn read(
        &self,
        dataflow: &str,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<Export>, BacklogError> {
        let rows = self.store.outbox().read(dataflow, from, max_bytes).map_err(failed)?;
        Ok(rows.into_iter().map(|(sequence, row)| export(sequence, row)).collect())
    }

    fn progress(&self, dataflow: &str) -> Result<ProgressMark, BacklogError> {
        progress_of(&self.store, dataflow).map_err(failed)
    }

    fn write_progress(&self, dataflow: &str, mark: &ProgressMark) -> Result<(), BacklogError> {
        let ended: Vec<_> = mark.ended.iter().map(journal::row).collect();
        self.store.progress().write(dataflow, &progress_row(mark), &ended).map_err(failed)?;
        self.store.sync_state().map_err(failed)?;
        self.store.outbox().trim(dataflow, mark.watermark).map_err(failed)?;
        self.sweep(dataflow, mark).map_err(failed)?;
        let done = done_count(mark.watermark, &mark.done);
        self.freed.tell(dataflow, Delivered { done, attempted: mark.attempted.len() as u64 });
        Ok(())
    }

    fn put_dead_letter(&self, dataflow: &str, letter: &DeadLetter) -> Result<(), BacklogError> {
        let letters = self.store.dead_letters();
        let before = letters.get(dataflow, letter.export.sequence).map_err(failed)?;
        let mut attempts = before.map_or_else(Vec::new, |before| before.attempts);
        attempts.extend(letter.attempts.iter().map(journal::attempt_row));
        attempts.drain(..attempts.len().saturating_sub(ATTEMPTS_KEPT.max(letter.attempts.len())));
        let row = DeadLetterRow {
            export: export_row(&letter.export),
            attempts,
            died_ms: letter.died.as_millis(),
            replay: false,
        };
        letters.put(dataflow, letter.export.sequence, &row).map_err(failed)
    }

    fn replays(
        &self,
        dataflow: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<Export>, BacklogError> {
        let mut found = Vec::new();
        let mut after = from.checked_sub(1);
        while found.len() < limit {
            let seen = after.map(|sequence| (dataflow, sequence));
            let page = self
                .store
                .dead_letters()
                .list(Some(dataflow), seen, REPLAY_PAGE)
                .map_err(failed)?;
            let Some((_, last, _)) = page.last() else { break };
            after = Some(*last);
            let marked = page.into_iter().filter(|(_, _, row)| row.replay);
            found.extend(marked.map(|(_, sequence, row)| export(sequence, row.export)));
        }
        found.truncate(limit);
        Ok(found)
    }

    fn replayed(&self, dataflow: &str, ended: EndedExport) -> Result<(), BacklogError> {
        let letters = self.store.dead_letters();
        let sequence = ended.export.sequence;
        let before = letters.get(dataflow, sequence).map_err(failed)?;
        let mut row = journal::row(&ended);
        if let Some(before) = before {
            row.failures = row.failures.saturating_add(journal::count(&before.attempts));
            row.attempts.splice(0..0, before.attempts);
        }
        // Before the dead letter goes, so that a crash between the two loses neither.
        self.store.journal().note(dataflow, &[row]).map_err(failed)?;
        letters.remove(dataflow, sequence).map_err(failed)?;
        Ok(())
    }

    fn withdraw(
        &self,
        dataflow: &str,
        withdrawal: &Withdrawal,
    ) -> Result<BTreeSet<u64>, BacklogError> {
        withdraw(&self.store, dataflow, withdrawal).map_err(failed)
    }

    fn withdrawn(&self, dataflow: &str, from: u64, through: u64) -> Vec<(u64, u64)> {
        self.store.outbox().withdrawn(dataflow, from, through)
    }
}

/// Withdraws the exports and dead letters that `withdrawal` takes, and tells their sequences. What
/// endpoints answered to those who were erased goes from the journal. Only for who alone delivers
/// `dataflow`, or if nobody does.
pub(super) fn withdraw(
    store: &Store,
    dataflow: &str,
    withdrawal: &Withdrawal,
) -> Result<BTreeSet<u64>, StorageError> {
    let is_gone = |row: &ExportRow| {
        let profile = ProfileKey { policy: row.policy, profile: row.profile };
        withdrawal.takes(profile, row.offset, &row.payload)
    };
    let waiting = store.outbox().withdraw(dataflow, &is_gone, withdrawal.at().as_millis())?;
    let dead = store.dead_letters().withdraw(dataflow, &is_gone)?;
    store.journal().drop_answers(dataflow, &|policy, profile, attempts| {
        let profile = ProfileKey { policy, profile };
        attempts.iter().any(|attempt| withdrawal.takes_answer(profile, &attempt.answer))
    })?;
    Ok(waiting.into_iter().chain(dead).collect())
}

/// Attempts kept with an export whose replays fail: the newest, and all of the last try.
const ATTEMPTS_KEPT: usize = 100;

/// Dead letters looked at together while those marked for replay are sought.
const REPLAY_PAGE: usize = 256;

/// How far `dataflow` has been delivered, what has a dead letter included.
pub(super) fn progress_of(store: &Store, dataflow: &str) -> Result<ProgressMark, StorageError> {
    let row = store.progress().read(dataflow)?;
    let mut mark = ProgressMark {
        watermark: row.watermark,
        done: row.done,
        attempted: row
            .attempts
            .into_iter()
            .map(|(sequence, attempts, retry_at_ms)| Attempted {
                sequence,
                attempts,
                retry_at: Timestamp::from_millis(retry_at_ms),
            })
            .collect(),
        starts: row
            .last_starts
            .into_iter()
            .map(|(at_ms, count)| Starts { at: Timestamp::from_millis(at_ms), count })
            .collect(),
        ended: Vec::new(),
    };
    count_dead_letters(store, dataflow, &mut mark)?;
    Ok(mark)
}

fn progress_row(mark: &ProgressMark) -> ProgressRow {
    let attempts = mark.attempted.iter().map(|a| (a.sequence, a.attempts, a.retry_at.as_millis()));
    ProgressRow {
        watermark: mark.watermark,
        done: mark.done.clone(),
        last_starts: mark.starts.iter().map(|last| (last.at.as_millis(), last.count)).collect(),
        attempts: attempts.collect(),
    }
}

/// Writes into the progress of `dataflow` that what has a dead letter is done. Only if nobody delivers
/// it.
pub(super) fn count_as_done(store: &Store, dataflow: &str) -> Result<(), StorageError> {
    let mark = progress_of(store, dataflow)?;
    store.progress().write(dataflow, &progress_row(&mark), &[])?;
    store.sync_state()
}

/// Counts what has a dead letter as done, from the watermark on.
fn count_dead_letters(
    store: &Store,
    dataflow: &str,
    mark: &mut ProgressMark,
) -> Result<(), StorageError> {
    let mut after = mark.watermark.checked_sub(1);
    loop {
        let seen = after.map(|sequence| (dataflow, sequence));
        let page = store.dead_letters().list(Some(dataflow), seen, REPLAY_PAGE)?;
        let Some((_, last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        for (_, sequence, _) in &page {
            mark.add_done(*sequence);
        }
    }
}

fn export(sequence: u64, row: ExportRow) -> Export {
    let ExportKey { profile, origin, accepted, .. } = journal::key(sequence, &row);
    Export { sequence, profile, origin, accepted, payload: row.payload.into() }
}

fn export_row(export: &Export) -> ExportRow {
    ExportRow {
        profile: export.profile.profile,
        policy: export.profile.policy,
        causes: export.origin.causes,
        offset: export.origin.offset,
        boundary_ms: export.origin.boundary.map(Timestamp::as_millis),
        rendered_after: export.origin.rendered_after,
        accepted_ms: export.accepted.as_millis(),
        payload: export.payload.to_vec(),
    }
}

fn failed(error: StorageError) -> BacklogError {
    BacklogError(Box::new(error))
}
