//! The exports of one profile to one dataflow that something is kept of: those that wait, its dead
//! letters, the newest that ended, and whether it is only marked.
//!
//! Exports are stored by number and not by profile, so all that wait are looked through, up to a
//! bound; past it the answer says that it does not know of the others.

use forebay_storage::{DeadLetterRow, EndedExport, Ending, ExportRow, MarkKey};

use super::super::Engine;
use super::super::stored_backlog::progress_of;
use crate::clock::Timestamp;
use crate::deliver::backlog::{ProfileKey, ProgressMark};
use crate::deliver::export_id::ExportId;
use crate::deliver::open_export::{Looked, Lookup, OpenExport, Wait};
use crate::detect::Causes;
use crate::error::EngineError;
use crate::views::explanation::{KnownExportView, OpenExportView};

/// Waiting exports that are looked through for those of a profile.
const LOOKED_THROUGH: u64 = 200_000;

/// Bytes of them read at once.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Dead letters that are looked through, the oldest first.
const LETTERS_LOOKED_THROUGH: usize = 20_000;

/// Dead letters read at once.
const LETTERS_READ: usize = 256;

/// Exports that are looked back at for the newest of a profile that ended.
const LOOKED_BACK: u64 = 20_000;

/// What is kept of a profile's exports to a dataflow.
pub(super) struct OpenExports {
    /// Those that are stored and not done, in the order in which they leave.
    pub(super) views: Vec<OpenExportView>,
    /// Whether it is marked: past the destination's disk budget.
    pub(super) is_marked: bool,
    /// Whether all that wait were looked through.
    pub(super) is_whole: bool,
    /// Its newest dead letter.
    pub(super) dead_letter: Option<KnownExportView>,
    waiting: Option<KnownExportView>,
    ended: Option<KnownExportView>,
}

/// Where exports of one dataflow are known by their numbers.
struct Numbers<'a> {
    log_id: [u8; 16],
    dataflow: &'a str,
}

impl OpenExports {
    /// What is kept of the exports of a profile.
    pub(super) fn of_profile(
        engine: &Engine,
        dataflow: &str,
        key: ProfileKey,
    ) -> Result<Self, EngineError> {
        let numbers = Numbers { log_id: engine.store.meta().log_id(), dataflow };
        let mark = progress_of(&engine.store, dataflow)?;
        let (rows, is_whole) = waiting_rows(engine, dataflow, (key, &mark))?;
        // Behind the reading: what was done meanwhile is open no more.
        let delivery = engine.delivery.as_ref();
        let looked = delivery.and_then(|d| d.look(dataflow, Lookup::Profile(key)));
        let (views, newest) = match &looked {
            Some(looked) => numbers.read(rows, looked),
            None => numbers.stored(rows, &mark),
        };
        let mark_key = MarkKey { policy: key.policy, profile: key.profile };
        Ok(Self {
            views,
            is_marked: engine.store.outbox().mark(dataflow, mark_key)?.is_some(),
            is_whole,
            dead_letter: newest_letter(engine, &numbers, key)?,
            waiting: newest,
            ended: newest_ended(engine, &numbers, key)?,
        })
    }

    /// The newest export of which something is kept.
    pub(super) fn newest(&self) -> Option<KnownExportView> {
        let all = self.ended.iter().chain(&self.dead_letter).chain(&self.waiting);
        all.max_by_key(|known| known.sequence).cloned()
    }
}

/// The exports of a profile that are stored and that `mark` does not count as done, and whether all
/// were looked through.
fn waiting_rows(
    engine: &Engine,
    dataflow: &str,
    (key, mark): (ProfileKey, &ProgressMark),
) -> Result<(Vec<(u64, ExportRow)>, bool), EngineError> {
    let (mut found, mut next, mut seen) = (Vec::new(), mark.watermark, 0);
    while seen < LOOKED_THROUGH {
        let rows = engine.store.outbox().read(dataflow, next, READ_BYTES)?;
        let Some((last, _)) = rows.last() else { return Ok((found, true)) };
        next = last + 1;
        seen += rows.len() as u64;
        let is_asked = |(sequence, row): &(u64, ExportRow)| {
            (row.policy, row.profile) == (key.policy, key.profile) && !mark.is_done(*sequence)
        };
        found.extend(rows.into_iter().filter(is_asked));
    }
    Ok((found, false))
}

fn newest_letter(
    engine: &Engine,
    numbers: &Numbers<'_>,
    key: ProfileKey,
) -> Result<Option<KnownExportView>, EngineError> {
    let (mut newest, mut after, mut seen) = (None, None, 0);
    while seen < LETTERS_LOOKED_THROUGH {
        let behind = after.map(|sequence| (numbers.dataflow, sequence));
        let page =
            engine.store.dead_letters().list(Some(numbers.dataflow), behind, LETTERS_READ)?;
        let Some((_, last, _)) = page.last() else { break };
        after = Some(*last);
        seen += page.len();
        let mut own = page.into_iter().filter(|(_, _, letter)| {
            (letter.export.policy, letter.export.profile) == (key.policy, key.profile)
        });
        newest = own.next_back().or(newest);
    }
    let view = |(_, sequence, letter): (String, u64, DeadLetterRow)| {
        numbers.known((sequence, &letter.export), "dead_letter", letter.died_ms)
    };
    Ok(newest.map(view))
}

fn newest_ended(
    engine: &Engine,
    numbers: &Numbers<'_>,
    key: ProfileKey,
) -> Result<Option<KnownExportView>, EngineError> {
    let next = engine.store.outbox().next_sequence(numbers.dataflow);
    for sequence in (next.saturating_sub(LOOKED_BACK).max(1)..next).rev() {
        let Some(ended) = engine.store.journal().find(numbers.dataflow, sequence)? else {
            continue;
        };
        if (ended.policy, ended.profile) == (key.policy, key.profile) {
            return Ok(Some(numbers.ended(&ended)));
        }
    }
    Ok(None)
}

impl Numbers<'_> {
    /// The rows as the dispatcher has them: what it has read and not open is done.
    fn read(
        &self,
        rows: Vec<(u64, ExportRow)>,
        looked: &Looked,
    ) -> (Vec<OpenExportView>, Option<KnownExportView>) {
        let open_of = |sequence: u64| looked.open.iter().find(|open| open.sequence == sequence);
        let mut views = Vec::new();
        let mut newest = None;
        for (sequence, row) in rows {
            let view = match open_of(sequence) {
                Some(open) => self.open((sequence, &row), open),
                None if sequence < looked.next => continue,
                None => self.plain((sequence, &row)),
            };
            views.push(view);
            newest = Some(self.known((sequence, &row), "waiting", row.accepted_ms));
        }
        (views, newest)
    }

    /// The rows of a dataflow that nothing is sent for.
    fn stored(
        &self,
        rows: Vec<(u64, ExportRow)>,
        mark: &ProgressMark,
    ) -> (Vec<OpenExportView>, Option<KnownExportView>) {
        let mut views: Vec<OpenExportView> = Vec::new();
        let mut newest = None;
        for (sequence, row) in rows {
            let mut view = self.plain((sequence, &row));
            if let Some(first) = views.first() {
                "behind".clone_into(&mut view.state);
                view.behind = Some(first.export.clone());
            }
            if let Some(tried) = mark.attempted.iter().find(|tried| tried.sequence == sequence) {
                view.failures = tried.attempts;
                view.retry_at = Some(tried.retry_at.to_string());
            }
            views.push(view);
            newest = Some(self.known((sequence, &row), "waiting", row.accepted_ms));
        }
        (views, newest)
    }

    fn open(&self, (sequence, row): (u64, &ExportRow), open: &OpenExport) -> OpenExportView {
        let mut view = self.plain((sequence, row));
        let state = match open.wait {
            Wait::Answer => "in_flight",
            Wait::Turn => "next",
            Wait::Behind(before) => {
                view.behind = Some(self.id(before));
                "behind"
            }
            Wait::Retry(due) => {
                view.retry_at = Some(due.to_string());
                "retry"
            }
        };
        state.clone_into(&mut view.state);
        view.failures = open.failures;
        view.last_error = open.attempts.last().map(|attempt| attempt.error.clone());
        view
    }

    fn plain(&self, (sequence, row): (u64, &ExportRow)) -> OpenExportView {
        OpenExportView {
            export: self.id(sequence),
            sequence,
            offset: row.offset,
            causes: causes(row.causes),
            state: "stored".to_owned(),
            behind: None,
            retry_at: None,
            failures: 0,
            last_error: None,
        }
    }

    fn known(
        &self,
        (sequence, row): (u64, &ExportRow),
        outcome: &str,
        at_ms: i64,
    ) -> KnownExportView {
        KnownExportView {
            export: self.id(sequence),
            sequence,
            offset: row.offset,
            causes: causes(row.causes),
            outcome: outcome.to_owned(),
            at: Timestamp::from_millis(at_ms).to_string(),
        }
    }

    fn ended(&self, ended: &EndedExport) -> KnownExportView {
        let outcome = match ended.ending {
            Ending::Delivered { .. } => "delivered",
            Ending::DeadLettered => "dead_letter_gone",
            Ending::Superseded => "superseded",
            Ending::Withdrawn => "withdrawn",
        };
        KnownExportView {
            export: self.id(ended.sequence),
            sequence: ended.sequence,
            offset: ended.offset,
            causes: causes(ended.causes),
            outcome: outcome.to_owned(),
            at: Timestamp::from_millis(ended.ended_ms).to_string(),
        }
    }

    fn id(&self, sequence: u64) -> String {
        let dataflow = self.dataflow.to_owned();
        ExportId { log_id: self.log_id, dataflow, sequence }.to_string()
    }
}

fn causes(bits: u8) -> Vec<String> {
    Causes::from_bits(bits).names().into_iter().map(Into::into).collect()
}
