//! What became of the records of one input.

use std::sync::{Arc, Condvar, Mutex};

use crate::views::{IngestSummary, RecordCounts};

/// The inputs of a run: what is over is kept as a sum.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    over: RecordCounts,
    open: Vec<Arc<Tally>>,
}

impl Tallies {
    /// Begins to count one more input.
    pub(super) fn begin(&mut self) -> Arc<Tally> {
        let over = &mut self.over;
        self.open.retain(|tally| {
            let is_over = Arc::strong_count(tally) == 1 && tally.is_settled();
            if is_over {
                *over = sum(*over, tally.records());
            }
            !is_over
        });
        let tally = Arc::new(Tally::default());
        self.open.push(Arc::clone(&tally));
        tally
    }

    /// What became of the records of all inputs.
    pub(super) fn records(&self) -> RecordCounts {
        self.open.iter().fold(self.over, |total, tally| sum(total, tally.records()))
    }
}

fn sum(a: RecordCounts, b: RecordCounts) -> RecordCounts {
    RecordCounts {
        accepted: a.accepted + b.accepted,
        rejected: a.rejected + b.rejected,
        duplicate: a.duplicate + b.duplicate,
    }
}

/// Counted by the threads that accept and derive; waited for by the one that reads.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    logged: u64,
    rejected: u64,
    duplicate: u64,
    first_offset: Option<u64>,
    /// Blocks that are read and not yet derived.
    open: u64,
}

impl Tally {
    /// Notes that a block is on its way.
    pub(super) fn open(&self) {
        self.with(|counts| counts.open += 1);
    }

    /// Notes that a block is durable in the log.
    pub(super) fn accepted(&self, first_offset: u64, records: u64, rejects: u64) {
        self.with(|counts| {
            counts.logged += records;
            counts.rejected += rejects;
            counts.first_offset.get_or_insert(first_offset);
        });
    }

    /// Notes that a block is derived.
    pub(super) fn derived(&self, duplicates: u64) {
        self.with(|counts| {
            counts.duplicate += duplicates;
            counts.open -= 1;
        });
        self.changed.notify_all();
    }

    /// Waits until every block is derived, or `is_over` says that none will be any more.
    pub(super) fn wait(&self, is_over: impl Fn() -> bool) {
        let mut counts = self.counts.lock().expect("no thread panics with this lock");
        while counts.open > 0 && !is_over() {
            let patience = std::time::Duration::from_millis(100);
            counts = self
                .changed
                .wait_timeout(counts, patience)
                .expect("no thread panics with this lock")
                .0;
        }
    }

    /// The counts; a record is exactly one of accepted, rejected, duplicate.
    pub(super) fn records(&self) -> RecordCounts {
        let counts = *self.counts.lock().expect("no thread panics with this lock");
        RecordCounts {
            accepted: counts.logged - counts.duplicate,
            rejected: counts.rejected,
            duplicate: counts.duplicate,
        }
    }

    /// Whether every block is derived.
    pub(super) fn is_settled(&self) -> bool {
        self.counts.lock().expect("no thread panics with this lock").open == 0
    }

    /// The counts, with the offset of the first record; `next_offset` if there was none.
    pub(super) fn ingest(&self, next_offset: u64) -> IngestSummary {
        let RecordCounts { accepted, rejected, duplicate } = self.records();
        let first = self.counts.lock().expect("no thread panics with this lock").first_offset;
        IngestSummary { accepted, rejected, duplicate, first_offset: first.unwrap_or(next_offset) }
    }

    fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().expect("no thread panics with this lock"));
    }
}
