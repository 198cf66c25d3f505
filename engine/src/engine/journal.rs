//! What is still known of an export: where it came from, and what became of it.
//!
//! An export is in one of three places. While it waits the outbox has it, with its payload; when it was
//! given up on the dead letters have it; when it ended the journal has what is left, until that is
//! trimmed (`export_retention`).

use std::fmt;

use forebay_storage::{
    AttemptRow, DeadLetterRow, EndedExport as EndedRow, Ending as EndingRow, ExportRow,
    StorageError, Store,
};

use super::Engine;
use crate::clock::Timestamp;
use crate::deliver::backlog::{Attempt, EndedExport, Ending, ExportKey, Origin, ProfileKey};
use crate::deliver::export_id::ExportId;
use crate::error::EngineError;

/// An export that is still known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownExport {
    /// What it is.
    pub key: ExportKey,
    /// Its payload, where that is still stored.
    pub payload: Option<Vec<u8>>,
    /// Where it stands.
    pub fate: Fate,
    /// How many attempts have failed.
    pub failures: u32,
    /// Those of which details are kept, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Where an export stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is not done, as of the last progress written.
    Waiting {
        /// When the next attempt is due, if one has failed.
        retry_at: Option<Timestamp>,
    },
    /// It is kept as a dead letter.
    DeadLetter {
        /// Since when.
        died: Timestamp,
        /// Whether it is to be sent again.
        replay: bool,
    },
    /// It was delivered.
    Delivered {
        /// When.
        at: Timestamp,
        /// The status that the endpoint answered with.
        status: u16,
    },
    /// It was given up on, and its dead letter was purged, or replayed as a new export, since.
    DeadLetterGone {
        /// When it was given up on.
        at: Timestamp,
    },
    /// A newer export of its profile took its place (`backlog = "latest"`).
    Superseded {
        /// When.
        at: Timestamp,
    },
    /// Its profile was deleted before it was delivered.
    Withdrawn {
        /// When the delete was appended.
        at: Timestamp,
    },
}

impl fmt::Display for Fate {
    /// Behind the export's name: "export X …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting { retry_at: None } => f.write_str("waits to be delivered"),
            Self::Waiting { retry_at: Some(at) } => write!(f, "waits for its retry at {at}"),
            Self::DeadLetter { died, replay: false } => {
                write!(f, "was given up on at {died} and is a dead letter")
            }
            Self::DeadLetter { died, replay: true } => {
                write!(f, "was given up on at {died} and is about to be sent again")
            }
            Self::Delivered { at, status } => {
                write!(f, "was delivered at {at} (status {status})")
            }
            Self::DeadLetterGone { at } => {
                write!(f, "was given up on at {at}, and purged or replayed as a new export since")
            }
            Self::Superseded { at } => {
                write!(f, "gave way to a newer export of its profile at {at}")
            }
            Self::Withdrawn { at } => {
                write!(f, "was withdrawn, because its profile was deleted at {at}")
            }
        }
    }
}

impl Engine {
    /// What is known of the export with this id; `None` if there never was one, or it is not known any
    /// more (`export_retention`).
    pub fn known_export(&self, export: &str) -> Result<Option<KnownExport>, EngineError> {
        let id = self.export_id(export)?;
        Ok(find(&self.store, &id.dataflow, id.sequence)?)
    }

    /// Reads an export id of this data directory.
    pub(super) fn export_id(&self, export: &str) -> Result<ExportId, EngineError> {
        export_id(&self.store, export)
    }
}

/// Reads an export id of the data directory of `store`.
pub(super) fn export_id(store: &Store, export: &str) -> Result<ExportId, EngineError> {
    let id = ExportId::parse(export).ok_or_else(|| {
        EngineError::Usage(format!(
            "`{export}` is no export id; `forebay dead-letters list` shows those of dead letters, \
             and each request carries its own as `webhook-id`"
        ))
    })?;
    if id.log_id != store.meta().log_id() {
        return Err(EngineError::Usage(format!(
            "export {export} is of another data directory; --data DIR names it"
        )));
    }
    Ok(id)
}

/// The export of this dataflow and sequence; `None` if there never was one, or it is not known any
/// more. Waiting exports are as of the last progress written.
pub(super) fn find(
    store: &Store,
    dataflow: &str,
    sequence: u64,
) -> Result<Option<KnownExport>, StorageError> {
    if let Some(letter) = store.dead_letters().get(dataflow, sequence)? {
        return Ok(Some(dead(sequence, letter)));
    }
    if let Some(row) = store.journal().find(dataflow, sequence)? {
        return Ok(Some(ended(row)));
    }
    let progress = super::stored_backlog::progress_of(store, dataflow)?;
    if progress.is_done(sequence) {
        return Ok(None);
    }
    // One byte: the chunk that holds it, if any does.
    let rows = store.outbox().read(dataflow, sequence, 1)?;
    let found = rows.into_iter().find(|(number, _)| *number == sequence);
    Ok(found.map(|(_, row)| {
        let tried = progress.attempted.iter().find(|tried| tried.sequence == sequence);
        KnownExport {
            key: key(sequence, &row),
            payload: Some(row.payload),
            fate: Fate::Waiting { retry_at: tried.map(|tried| tried.retry_at) },
            failures: tried.map_or(0, |tried| tried.attempts),
            attempts: Vec::new(),
        }
    }))
}

fn dead(sequence: u64, letter: DeadLetterRow) -> KnownExport {
    let died = Timestamp::from_millis(letter.died_ms);
    KnownExport {
        key: key(sequence, &letter.export),
        payload: Some(letter.export.payload),
        fate: Fate::DeadLetter { died, replay: letter.replay },
        failures: count(&letter.attempts),
        attempts: letter.attempts.into_iter().map(attempt).collect(),
    }
}

fn ended(row: EndedRow) -> KnownExport {
    let at = Timestamp::from_millis(row.ended_ms);
    let fate = match row.ending {
        EndingRow::Delivered { status } => Fate::Delivered { at, status },
        EndingRow::DeadLettered => Fate::DeadLetterGone { at },
        EndingRow::Superseded => Fate::Superseded { at },
        EndingRow::Withdrawn => Fate::Withdrawn { at },
    };
    let origin = Origin {
        offset: row.offset,
        boundary: row.boundary_ms.map(Timestamp::from_millis),
        rendered_after: row.rendered_after,
        causes: row.causes,
    };
    let key = ExportKey {
        sequence: row.sequence,
        profile: ProfileKey { policy: row.policy, profile: row.profile },
        origin,
        accepted: Timestamp::from_millis(row.accepted_ms),
    };
    let attempts = row.attempts.into_iter().map(attempt).collect();
    KnownExport { key, payload: None, fate, failures: row.failures, attempts }
}

/// What is known of a stored export without its payload.
pub(super) fn key(sequence: u64, row: &ExportRow) -> ExportKey {
    ExportKey {
        sequence,
        profile: ProfileKey { policy: row.policy, profile: row.profile },
        origin: Origin {
            offset: row.offset,
            boundary: row.boundary_ms.map(Timestamp::from_millis),
            rendered_after: row.rendered_after,
            causes: row.causes,
        },
        accepted: Timestamp::from_millis(row.accepted_ms),
    }
}

/// An export that ended, as the journal keeps it.
pub(super) fn row(ended: &EndedExport) -> EndedRow {
    let ExportKey { sequence, profile, origin, accepted } = ended.export;
    EndedRow {
        sequence,
        profile: profile.profile,
        policy: profile.policy,
        causes: origin.causes,
        offset: origin.offset,
        boundary_ms: origin.boundary.map(Timestamp::as_millis),
        rendered_after: origin.rendered_after,
        accepted_ms: accepted.as_millis(),
        ended_ms: ended.at.as_millis(),
        ending: match ended.ending {
            Ending::Delivered(status) => EndingRow::Delivered { status },
            Ending::DeadLettered => EndingRow::DeadLettered,
            Ending::Superseded => EndingRow::Superseded,
        },
        failures: ended.failures,
        attempts: ended.attempts.iter().map(attempt_row).collect(),
    }
}

/// A failed attempt, as it is stored.
pub(super) fn attempt_row(attempt: &Attempt) -> AttemptRow {
    AttemptRow {
        at_ms: attempt.at.as_millis(),
        status: attempt.status,
        error: attempt.error.clone(),
        answer: attempt.answer.clone(),
    }
}

fn attempt(row: AttemptRow) -> Attempt {
    let AttemptRow { at_ms, status, error, answer } = row;
    Attempt { at: Timestamp::from_millis(at_ms), status, error, answer }
}

/// How many attempts these are.
pub(super) fn count(attempts: &[AttemptRow]) -> u32 {
    u32::try_from(attempts.len()).unwrap_or(u32::MAX)
}
