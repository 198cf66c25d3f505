//! The storage that delivery needs, and what of it must be durable when.
//!
//! Delivery keeps a window of exports in memory; everything else is here, behind a trait, because
//! there are two real implementations: the store, and the simulation's, which fails and restarts
//! where it likes.
//!
//! Two rules make "at least once" true. An export is read only up to the sequence that delivery was
//! told is durable, so that nothing is sent which a power cut could undo. And a dead letter is put
//! *before* the progress that counts its export as done: a crash between the two repeats an attempt,
//! and never loses an export.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rate::Starts;
use super::withdrawal::Withdrawal;
use crate::clock::Timestamp;

/// One export as delivery sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Number in its dataflow, from 1.
    pub sequence: u64,
    /// Whose it is: exports of one profile leave in order.
    pub profile: ProfileKey,
    /// Where in the log it came from; carried along for dead letters.
    pub origin: Origin,
    /// When the record behind it was accepted.
    pub accepted: Timestamp,
    /// The request body.
    pub payload: Arc<[u8]>,
}

/// A profile under a merge policy: the unit of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileKey {
    /// Number of the merge policy.
    pub policy: u32,
    /// Id of the profile.
    pub profile: u64,
}

/// The step that caused an export.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Log offset of the step.
    pub offset: u64,
    /// The window boundary that passed in the step; `None`: the entry's own step.
    pub boundary: Option<Timestamp>,
    /// The last entry derived when it was rendered, if not in its step.
    pub rendered_after: Option<u64>,
    /// Bit set of causes.
    pub causes: u8,
}

/// How far a dataflow's delivery has come.
///
/// Done is everything below `watermark` and everything within `done`. What lies above and is not
/// stored any more (withdrawn) needs no mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgressMark {
    /// The lowest sequence that is not done; 0 and 1 both mean that nothing is.
    pub watermark: u64,
    /// Ranges done above the watermark, both ends included, ascending, not touching each other.
    /// Ranges, because one export in a long backoff has hundreds of thousands done above it.
    pub done: Vec<(u64, u64)>,
    /// Exports that failed before and are not done, ascending by sequence.
    pub attempted: Vec<Attempted>,
    /// Request starts, ascending, for the rate limit over a restart. At most
    /// [`STORED_STARTS_MAX`](super::rate::STORED_STARTS_MAX).
    pub starts: Vec<Starts>,
    /// What ended since the mark before, for the journal; empty in a mark that was read.
    pub ended: Vec<EndedExport>,
}

/// An export that ended, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedExport {
    /// Which.
    pub export: ExportKey,
    /// Wall time.
    pub at: Timestamp,
    /// How.
    pub ending: Ending,
    /// How many attempts failed before it was delivered.
    pub failures: u32,
    /// Those of which details are known, oldest first.
    pub attempts: Vec<Attempt>,
}

/// What is known of an export without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportKey {
    /// Number in its dataflow, from 1.
    pub sequence: u64,
    /// Whose it is.
    pub profile: ProfileKey,
    /// Where in the log it came from.
    pub origin: Origin,
    /// When the record behind it was accepted.
    pub accepted: Timestamp,
}

/// How an export ended. One that was withdrawn is told by who withdraws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was delivered, with this status.
    Delivered(u16),
    /// It was given up on.
    DeadLettered,
    /// A newer one of its profile took its place.
    Superseded,
}

impl Export {
    /// What is known of it without its payload.
    pub const fn key(&self) -> ExportKey {
        let Self { sequence, profile, origin, accepted, .. } = *self;
        ExportKey { sequence, profile, origin, accepted }
    }
}

impl ProgressMark {
    /// Whether the export `sequence` was delivered, given up on or withdrawn.
    pub fn is_done(&self, sequence: u64) -> bool {
        let after = self.done.partition_point(|&(first, _)| first <= sequence);
        sequence < self.watermark || after > 0 && sequence <= self.done[after - 1].1
    }

    /// Counts `sequence` as done, and forgets its attempts.
    pub fn add_done(&mut self, sequence: u64) {
        if self.is_done(sequence) {
            return;
        }
        self.attempted.retain(|attempted| attempted.sequence != sequence);
        let after = self.done.partition_point(|&(first, _)| first <= sequence);
        let joins_before = after > 0 && self.done[after - 1].1 + 1 == sequence;
        let joins_behind = self.done.get(after).is_some_and(|&(first, _)| first == sequence + 1);
        match (joins_before, joins_behind) {
            (true, true) => self.done[after - 1].1 = self.done.remove(after).1,
            (true, false) => self.done[after - 1].1 = sequence,
            (false, true) => self.done[after].0 = sequence,
            (false, false) => self.done.insert(after, (sequence, sequence)),
        }
    }

    /// How many exports through `last` are not done, but for those within the ranges `withdrawn`.
    pub fn waiting(&self, last: u64, withdrawn: &[(u64, u64)]) -> u64 {
        let mut over: Vec<(u64, u64)> = self.done.iter().chain(withdrawn).copied().collect();
        over.sort_unstable();
        let end = last.saturating_add(1);
        let (mut next, mut waiting) = (self.watermark.max(1), 0);
        for (first, last) in over.into_iter().chain([(end, end)]) {
            waiting += first.min(end).saturating_sub(next);
            next = next.max(last.saturating_add(1));
        }
        waiting
    }
}

/// An export that failed before, so that a restart does not give it new retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// The export.
    pub sequence: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next one is due.
    pub retry_at: Timestamp,
}

/// An export that was given up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The export, payload included.
    pub export: Export,
    /// Every attempt known, oldest first.
    pub attempts: Vec<Attempt>,
    /// When it was given up on.
    pub died: Timestamp,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// The status answered, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong, for people; no secrets.
    pub error: String,
    /// The first [`ANSWER_KEPT`](super::outcome::ANSWER_KEPT) bytes of the answer's body.
    pub answer: Vec<u8>,
}

/// The store failed. Delivery stops (fail-stop) and reports this.
#[derive(Debug, thiserror::Error)]
#[error("delivery's storage failed")]
pub struct BacklogError(#[from] pub Box<dyn std::error::Error + Send + Sync>);

/// Where a dataflow's exports, progress and dead letters are kept.
///
/// Calls for one dataflow come from one thread; calls for several dataflows come at once.
pub trait Backlog: Send + Sync {
    /// Exports of `dataflow` from `from` on, ascending: at least one if there is any, and no more
    /// are added once their payloads reach `max_bytes`. Gaps are withdrawn exports. May return
    /// exports that are not durable yet; the caller drops those.
    fn read(
        &self,
        dataflow: &str,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<Export>, BacklogError>;

    /// The progress written last; the default for a dataflow that has none. What has a dead letter
    /// counts as done, although a crash kept the progress that says so from being written: an export
    /// must not be open and a dead letter at once, or its replay would be a second export of its id.
    fn progress(&self, dataflow: &str) -> Result<ProgressMark, BacklogError>;

    /// Writes progress, and in the same write what ended since. Durable on return, with everything put
    /// before. What lies below the watermark may be trimmed.
    fn write_progress(&self, dataflow: &str, mark: &ProgressMark) -> Result<(), BacklogError>;

    /// Keeps a dead letter. One of the same sequence, whose replay failed, leaves it its attempts and
    /// is replaced. Need not be durable
    /// before the next [`write_progress`](Self::write_progress) is.
    fn put_dead_letter(&self, dataflow: &str, letter: &DeadLetter) -> Result<(), BacklogError>;

    /// Exports of dead letters marked to be replayed as they are (`--payload original`), with
    /// sequences from `from` on, ascending, at most `limit`.
    fn replays(&self, dataflow: &str, from: u64, limit: usize)
    -> Result<Vec<Export>, BacklogError>;

    /// The replay of a dead letter was delivered: remembers that, with the attempts of the dead letter
    /// before its own, and forgets the dead letter.
    fn replayed(&self, dataflow: &str, ended: EndedExport) -> Result<(), BacklogError>;

    /// Withdraws the exports and dead letters that `withdrawal` takes, and tells their sequences. Need
    /// not be durable on return: whoever asks for it asks again after a crash, until it is.
    fn withdraw(
        &self,
        dataflow: &str,
        withdrawal: &Withdrawal,
    ) -> Result<BTreeSet<u64>, BacklogError>;

    /// The sequences from `from` through `through` that were withdrawn and lie above every watermark
    /// written, as ascending ranges, both ends included. Others may be among them.
    fn withdrawn(&self, dataflow: &str, from: u64, through: u64) -> Vec<(u64, u64)>;
}

#[cfg(test)]
mod tests {
    use super::ProgressMark;

    #[test]
    fn what_is_neither_done_nor_withdrawn_is_waiting() {
        // (what it shows, watermark, done, withdrawn, last, waiting)
        type Ranges = &'static [(u64, u64)];
        let cases: [(&str, u64, Ranges, Ranges, u64, u64); 9] = [
            ("nothing there", 0, &[], &[], 0, 0),
            ("nothing done", 0, &[], &[], 5, 5),
            ("a watermark", 3, &[], &[], 5, 3),
            ("all done", 6, &[], &[], 5, 0),
            ("done above", 2, &[(3, 3), (5, 8)], &[], 9, 3),
            ("withdrawn above", 2, &[(3, 3)], &[(5, 6), (9, 9)], 9, 4),
            ("withdrawn and done", 2, &[(3, 5)], &[(1, 1), (4, 4), (5, 7)], 9, 3),
            ("all withdrawn", 1, &[], &[(1, 9)], 9, 0),
            ("to the end of numbers", 1, &[(3, u64::MAX)], &[(2, 2)], 9, 1),
        ];
        for (name, watermark, done, withdrawn, last, expected) in cases {
            let mark = ProgressMark { watermark, done: done.to_vec(), ..ProgressMark::default() };
            assert_eq!(mark.waiting(last, withdrawn), expected, "{name}");
        }
    }

    #[test]
    fn done_sequences_join_the_ranges_beside_them() {
        // (what it shows, sequence, ranges afterwards)
        let cases = [
            ("below the watermark", 2, vec![(5, 6), (8, 9)]),
            ("within a range", 6, vec![(5, 6), (8, 9)]),
            ("between two", 7, vec![(5, 9)]),
            ("before one", 4, vec![(4, 6), (8, 9)]),
            ("behind one", 10, vec![(5, 6), (8, 10)]),
            ("alone", 20, vec![(5, 6), (8, 9), (20, 20)]),
            ("the watermark itself", 3, vec![(3, 3), (5, 6), (8, 9)]),
        ];
        for (name, sequence, expected) in cases {
            let done = vec![(5, 6), (8, 9)];
            let mut mark = ProgressMark { watermark: 3, done, ..ProgressMark::default() };
            mark.add_done(sequence);
            assert_eq!(mark.done, expected, "{name}");
            assert!(mark.is_done(sequence), "{name}");
        }
    }
}
