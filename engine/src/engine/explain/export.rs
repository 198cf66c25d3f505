//! One export explained: what became of it, and the step behind it.

use super::super::Engine;
use super::super::Progress;
use super::super::answers::raw;
use super::super::history::History;
use super::super::journal::{Fate, KnownExport, find};
use super::story::{Story, story};
use crate::deliver::backlog::{Attempt, ExportKey};
use crate::deliver::export_id::ExportId;
use crate::deliver::open_export::{Looked, Lookup, Wait};
use crate::error::EngineError;
use crate::views::AttemptView;
use crate::views::export::{ExportView, OutcomeView};

impl Engine {
    /// Explains an export of this engine, by its id.
    ///
    /// # Errors
    ///
    /// [`EngineError::Usage`] if it is the id of no export, or of another data directory.
    pub fn explain_export(
        &self,
        export: &str,
        progress: &dyn Progress,
    ) -> Result<ExportView, EngineError> {
        let history = self.history()?;
        let id = history.export_id(export)?;
        let delivery = self.delivery.as_ref();
        let looked = delivery.and_then(|d| d.look(&id.dataflow, Lookup::Sequence(id.sequence)));
        history.explained(&id, looked.as_ref(), progress)
    }
}

impl History {
    /// Explains an export, by its id, as far as what is stored tells.
    ///
    /// Cost: the log is derived up to the entry behind it.
    ///
    /// # Errors
    ///
    /// As [`Engine::explain_export`].
    pub fn explain_export(
        &self,
        export: &str,
        progress: &dyn Progress,
    ) -> Result<ExportView, EngineError> {
        self.explained(&self.export_id(export)?, None, progress)
    }

    /// Reads the id of an export that there is, or was.
    fn export_id(&self, export: &str) -> Result<ExportId, EngineError> {
        let id = super::super::journal::export_id(self.store(), export)?;
        let next = self.store().outbox().next_sequence(&id.dataflow);
        if (1..next).contains(&id.sequence) {
            return Ok(id);
        }
        let (dataflow, last) = (&id.dataflow, next - 1);
        let there_is = match last {
            0 => format!("dataflow {dataflow:?} never had an export"),
            _ => format!("the last one of dataflow {dataflow:?} is {last}"),
        };
        Err(EngineError::Usage(format!(
            "there is no export {} of dataflow {dataflow:?}: {there_is}",
            id.sequence
        )))
    }

    /// Why nothing is told of a profile that is not there.
    fn deleted(&self, key: &ExportKey) -> Result<String, EngineError> {
        let deleted_at = self.deleted_at(key.profile.policy, key.profile.profile)?;
        Ok(match deleted_at {
            Some(offset) => format!(
                "; its profile was deleted at offset {offset}, so nothing more is told of it"
            ),
            None => "; its profile was deleted, and its data is gone from the log".to_owned(),
        })
    }

    fn explained(
        &self,
        id: &ExportId,
        looked: Option<&Looked>,
        progress: &dyn Progress,
    ) -> Result<ExportView, EngineError> {
        let mut view = ExportView {
            export: id.to_string(),
            dataflow: id.dataflow.clone(),
            sequence: id.sequence,
            outcome: not_kept(),
            attempts: Vec::new(),
            origin: None,
            payload: None,
            payload_from: None,
        };
        let Some(known) = find(self.store(), &id.dataflow, id.sequence)? else { return Ok(view) };
        view.outcome = outcome(&known, looked, id);
        view.attempts = attempts(&known, looked).into_iter().map(attempt_view).collect();
        let story = story(self, (&known.key, &id.dataflow), progress)?;
        let stored = known.payload.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let (payload, from) = match (stored, story) {
            (_, None) => {
                view.outcome.text += &self.deleted(&known.key)?;
                (None, None)
            }
            (Some(stored), Some(story)) => {
                view.origin = Some(story.origin);
                (Some(stored), Some("stored"))
            }
            (None, Some(Story { origin, payload })) => {
                view.origin = Some(origin);
                (payload, Some("derived"))
            }
        };
        view.payload_from = payload.as_ref().and(from).map(str::to_owned);
        view.payload = payload.map(raw);
        Ok(view)
    }
}

fn not_kept() -> OutcomeView {
    OutcomeView {
        state: "not_kept".to_owned(),
        at: None,
        status: None,
        retry_at: None,
        failures: 0,
        text: "it ended longer ago than `export_retention`: nothing more is kept of it".to_owned(),
    }
}

/// What became of an export, the dispatcher's word before that of the last progress written.
fn outcome(known: &KnownExport, looked: Option<&Looked>, id: &ExportId) -> OutcomeView {
    let open = looked.and_then(|looked| looked.open.first());
    let text = format!("it {}", known.fate);
    let (state, at, status) = match known.fate {
        Fate::Waiting { .. } => ("waiting", known.key.accepted, None),
        Fate::DeadLetter { died, .. } => ("dead_letter", died, None),
        Fate::Delivered { at, status } => ("delivered", at, Some(status)),
        Fate::DeadLetterGone { at } => ("dead_letter_gone", at, None),
        Fate::Superseded { at } => ("superseded", at, None),
        Fate::Withdrawn { at } => ("withdrawn", at, None),
    };
    let mut view = OutcomeView {
        state: state.to_owned(),
        at: Some(at.to_string()),
        status,
        retry_at: None,
        failures: known.failures,
        text,
    };
    if let Fate::Waiting { retry_at } = known.fate {
        view.retry_at = retry_at.map(|at| at.to_string());
        if let Some(open) = open {
            view.failures = open.failures;
            view.retry_at = match open.wait {
                Wait::Retry(due) => Some(due.to_string()),
                _ => None,
            };
            view.text = waits(open.wait, id);
        }
    }
    view
}

fn waits(wait: Wait, id: &ExportId) -> String {
    match wait {
        Wait::Answer => "it is being sent".to_owned(),
        Wait::Turn => "it is sent as soon as the dataflow sends".to_owned(),
        Wait::Behind(sequence) => {
            let before = ExportId { sequence, ..id.clone() };
            format!("it waits until export {sequence} of its profile is done ({before})")
        }
        Wait::Retry(due) => format!("it waits for its retry at {due}"),
    }
}

/// Attempts of this run that are not written yet come from the dispatcher.
fn attempts(known: &KnownExport, looked: Option<&Looked>) -> Vec<Attempt> {
    let open = looked.and_then(|looked| looked.open.first());
    match open.filter(|open| open.attempts.len() > known.attempts.len()) {
        Some(open) => open.attempts.clone(),
        None => known.attempts.clone(),
    }
}

fn attempt_view(attempt: Attempt) -> AttemptView {
    AttemptView {
        at: attempt.at.to_string(),
        status: attempt.status,
        error: attempt.error,
        answer: String::from_utf8_lossy(&attempt.answer).into_owned(),
    }
}
