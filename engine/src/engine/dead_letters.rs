//! Dead letters on the operator's side: which there are, sending them again, forgetting them.
//!
//! # Guarantees
//!
//! 1. Nothing is lost. A replay with the current payload stores its new export before the dead letter
//!    ends, in one database that keeps a prefix of its writes: a crash leaves the dead letter, or the
//!    new export, or (at worst, and repeated then) both.
//! 2. What is purged stays away: a dispatcher that was sending it again neither starts a request for
//!    it nor keeps it anew afterwards.
//!    Nor does it come back by a crash: that its export is done stands in the progress before it goes.
//! 3. Durable when the call returns.
//!
//! A dead letter whose dataflow is configured no more is not marked: nobody would send it. One whose
//! profile is gone cannot be rendered. Both stay, and are counted in the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay_storage::DeadLetterRow;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::deriver::Deriver;
use super::journal;
use super::selection::Selection;
use super::stored_backlog;
use crate::clock::Timestamp;
use crate::deliver::export_id::ExportId;
use crate::detect::Causes;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::project::projection::Asked;
use crate::views::{AttemptView, DeadLetterPage, DeadLetterView, ReplayView};

/// Dead letters read at once.
const ROWS: usize = 64;

/// Bytes of payloads and answers in one page; a page of larger ones has fewer dead letters.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Dead letters looked at for one page, so that a selection that fits few does not take long.
const LOOKED_AT: usize = 16 * ROWS;

/// Dead letters worked on at a time by a replay or a purge: one sync for each.
const WORKED_ON: usize = 256;

/// What a replay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// What was to be sent then, under the same id and sequence.
    Original,
    /// The profile as it is now, as a new export.
    Current,
}

/// Dataflow and sequence.
type Place = (String, u64);

/// A dead letter and where it is kept.
struct Letter {
    place: Place,
    row: DeadLetterRow,
}

/// Some of the dead letters that fit, and where the others begin.
struct Page {
    letters: Vec<Letter>,
    next: Option<Place>,
}

impl Engine {
    /// Dead letters in order of dataflow and sequence, at most `limit`.
    pub fn dead_letters(
        &self,
        dataflow: Option<&str>,
        limit: usize,
    ) -> Result<Vec<DeadLetterView>, EngineError> {
        let dataflow = dataflow.map(str::to_owned);
        let selection = Selection { dataflow, ..Selection::default() };
        let mut letters = Vec::new();
        let mut after = None;
        while letters.len() < limit {
            let page = self.dead_letter_page(&selection, after, limit - letters.len())?;
            letters.extend(page.letters);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(letters)
    }

    /// Dead letters behind `after` that fit, in order of dataflow and sequence: at most `limit`, and
    /// fewer if they are large or few fit. There may be more as long as the page has a `next`.
    pub fn dead_letter_page(
        &self,
        selection: &Selection,
        after: Option<(String, u64)>,
        limit: usize,
    ) -> Result<DeadLetterPage, EngineError> {
        let page = self.page(selection, after, limit)?;
        let log_id = self.store.meta().log_id();
        let letters = page.letters.into_iter().map(|letter| letter_view(log_id, letter));
        Ok(DeadLetterPage { letters: letters.collect(), next: page.next })
    }

    /// How many dead letters each dataflow has: those configured, and those that have some.
    pub fn dead_letter_counts(&self) -> Result<BTreeMap<String, u64>, EngineError> {
        let mut counts: BTreeMap<String, u64> =
            self.defined_dataflows()?.into_iter().map(|id| (id, 0)).collect();
        counts.extend(self.store.dead_letters().counts_by_dataflow());
        Ok(counts)
    }

    /// Has dead letters sent again, at most `limit`: by the running dispatchers, or by the next run.
    pub fn replay_dead_letters(
        &self,
        selection: &Selection,
        limit: u64,
        payload: Payload,
    ) -> Result<ReplayView, EngineError> {
        let defined = self.defined_dataflows()?;
        let mut done = ReplayView::default();
        self.work_on(selection, limit, |letters| {
            let (known, unknown): (Vec<_>, Vec<_>) =
                letters.into_iter().partition(|letter| defined.contains(&letter.place.0));
            done.no_dataflow += unknown.len() as u64;
            match payload {
                Payload::Original => self.replay_original(&known, &mut done),
                Payload::Current => self.replay_current(known, &mut done),
            }
        })?;
        Ok(done)
    }

    /// Forgets dead letters, at most `limit`; how many there were.
    pub fn purge_dead_letters(
        &self,
        selection: &Selection,
        limit: u64,
    ) -> Result<u64, EngineError> {
        let mut purged = 0;
        self.work_on(selection, limit, |letters| {
            self.count_as_done(&letters)?;
            for Letter { place: (dataflow, sequence), .. } in &letters {
                purged += u64::from(self.store.dead_letters().remove(dataflow, *sequence)?);
            }
            self.store.sync_state()?;
            self.forget(&letters)
        })?;
        Ok(purged)
    }

    /// Hands the dead letters that fit to `work`, some at a time.
    fn work_on(
        &self,
        selection: &Selection,
        limit: u64,
        mut work: impl FnMut(Vec<Letter>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let _alone = self.dead_letters.lock().expect("no thread panics with this lock");
        let (mut after, mut left) = (None, limit);
        while left > 0 {
            let wanted = WORKED_ON.min(usize::try_from(left).unwrap_or(WORKED_ON));
            let page = self.page(selection, after, wanted)?;
            left -= page.letters.len() as u64;
            after = page.next;
            if !page.letters.is_empty() {
                work(page.letters)?;
            }
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn page(
        &self,
        selection: &Selection,
        mut after: Option<Place>,
        limit: usize,
    ) -> Result<Page, EngineError> {
        if let Some(export) = &selection.export {
            return Ok(Page { letters: vec![self.letter(export)?], next: None });
        }
        let (mut letters, mut bytes) = (Vec::new(), 0);
        for _ in 0..LOOKED_AT / ROWS {
            let seen = after.as_ref().map(|(dataflow, sequence)| (dataflow.as_str(), *sequence));
            let rows = self.store.dead_letters().list(selection.dataflow.as_deref(), seen, ROWS)?;
            if rows.is_empty() {
                return Ok(Page { letters, next: None });
            }
            for (dataflow, sequence, row) in rows {
                let place = (dataflow, sequence);
                after = Some(place.clone());
                if !selection.fits(&row) {
                    continue;
                }
                let answers = row.attempts.iter().map(|attempt| attempt.answer.len());
                bytes += row.export.payload.len() + answers.sum::<usize>();
                letters.push(Letter { place, row });
                if letters.len() >= limit || bytes >= PAGE_BYTES {
                    return Ok(Page { letters, next: after });
                }
            }
        }
        Ok(Page { letters, next: after })
    }

    /// The dead letter of an export.
    fn letter(&self, export: &str) -> Result<Letter, EngineError> {
        let id = self.export_id(export)?;
        let row = self.store.dead_letters().get(&id.dataflow, id.sequence)?;
        let Some(row) = row else {
            let known = journal::find(&self.store, &id.dataflow, id.sequence)?;
            let fate = known.map_or_else(
                || "there never was one, or it ended longer ago than `export_retention`".to_owned(),
                |known| format!("it {}", known.fate),
            );
            return Err(EngineError::Usage(format!(
                "export {export} (sequence {} of dataflow {}) is no dead letter: {fate}",
                id.sequence, id.dataflow
            )));
        };
        Ok(Letter { place: (id.dataflow, id.sequence), row })
    }

    fn defined_dataflows(&self) -> Result<BTreeSet<String>, EngineError> {
        self.ask(|deriver| deriver.definitions().dataflows.iter().map(|d| d.id.clone()).collect())
    }

    fn replay_original(
        &self,
        letters: &[Letter],
        done: &mut ReplayView,
    ) -> Result<(), EngineError> {
        let mut marked = BTreeSet::new();
        for Letter { place: (dataflow, sequence), .. } in letters {
            if self.store.dead_letters().mark_for_replay(dataflow, *sequence)? {
                marked.insert(dataflow);
                done.replayed += 1;
            }
        }
        self.store.sync_state()?;
        if let Some(delivery) = &self.delivery {
            for dataflow in marked {
                delivery.replay(dataflow);
            }
        }
        Ok(())
    }

    fn replay_current(
        &self,
        letters: Vec<Letter>,
        done: &mut ReplayView,
    ) -> Result<(), EngineError> {
        self.count_as_done(&letters)?;
        let (store, accepted) = (Arc::clone(&self.store), self.clock.now());
        let (ended, kept) = self.ask(move |deriver| {
            let (exports, ended, kept) = current_exports(deriver, letters);
            let commit = deriver.divided(exports, accepted)?;
            deriver.commit(commit)?;
            for Letter { place: (dataflow, sequence), .. } in &ended {
                store.dead_letters().remove(dataflow, *sequence)?;
            }
            deriver.settle()?;
            Ok::<_, EngineError>((ended, kept))
        })??;
        done.replayed += ended.len() as u64;
        done.no_profile += kept;
        self.forget(&ended)
    }

    /// Has the progress say that these exports are done. Until it does, nothing but the dead letter
    /// keeps a crash from sending one again.
    fn count_as_done(&self, letters: &[Letter]) -> Result<(), EngineError> {
        let dataflows: BTreeSet<&str> = letters.iter().map(|l| l.place.0.as_str()).collect();
        for dataflow in dataflows {
            let is_written =
                self.delivery.as_ref().is_some_and(|delivery| delivery.write_progress(dataflow));
            if !is_written {
                stored_backlog::count_as_done(&self.store, dataflow)?;
            }
        }
        Ok(())
    }

    /// Takes dead letters that were removed from the dispatchers too.
    ///
    /// One whose replay failed in between was kept anew, and is removed again; once its dispatcher
    /// has answered that cannot happen any more.
    fn forget(&self, letters: &[Letter]) -> Result<(), EngineError> {
        let Some(delivery) = &self.delivery else { return Ok(()) };
        let mut replayed: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for Letter { place: (dataflow, sequence), row } in letters {
            if row.replay {
                replayed.entry(dataflow).or_default().push(*sequence);
            }
        }
        if replayed.is_empty() {
            return Ok(());
        }
        for (dataflow, sequences) in replayed {
            delivery.forget(dataflow, &sequences);
            for sequence in sequences {
                self.store.dead_letters().remove(dataflow, sequence)?;
            }
        }
        Ok(self.store.sync_state()?)
    }
}

/// New exports in place of dead letters, those that end by them, and how many cannot be rendered.
fn current_exports(
    deriver: &Deriver,
    letters: Vec<Letter>,
) -> (Vec<crate::project::projection::DerivedExport>, Vec<Letter>, u64) {
    let (mut exports, mut ended, mut kept) = (Vec::new(), Vec::new(), 0);
    for letter in letters {
        let row = &letter.row.export;
        let asked = Asked {
            dataflow: &letter.place.0,
            profile: ProfileId::from_offset(row.profile),
            policy: row.policy,
            causes: Causes::from_bits(row.causes).with(Causes::REPLAY),
        };
        match deriver.derivation.projection.export_now(&asked, deriver.last_offset()) {
            Some(export) => {
                exports.push(export);
                ended.push(letter);
            }
            None => kept += 1,
        }
    }
    (exports, ended, kept)
}

fn letter_view(log_id: [u8; 16], letter: Letter) -> DeadLetterView {
    let Letter { place: (dataflow, sequence), row } = letter;
    let id = ExportId { log_id, dataflow: dataflow.clone(), sequence };
    DeadLetterView {
        export: id.to_string(),
        dataflow,
        sequence,
        profile: row.export.profile,
        died: Timestamp::from_millis(row.died_ms).to_string(),
        causes: Causes::from_bits(row.export.causes).names().into_iter().map(Into::into).collect(),
        attempts: row.attempts.into_iter().map(attempt_view).collect(),
        replay: row.replay,
        payload: super::answers::raw(String::from_utf8_lossy(&row.export.payload).into_owned()),
    }
}

fn attempt_view(row: forebay_storage::AttemptRow) -> AttemptView {
    AttemptView {
        at: Timestamp::from_millis(row.at_ms).to_string(),
        status: row.status,
        error: row.error,
        answer: String::from_utf8_lossy(&row.answer).into_owned(),
    }
}
