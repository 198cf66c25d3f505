//! Which dead letters a command means.
//!
//! Everything given must fit: one export, one dataflow, how long ago it was given up, how its last
//! attempt ended. Pure: the caller says which letters there are, and what time it is.

use forebay_storage::DeadLetterRow;
use serde::{Deserialize, Serialize};

/// Dead letters that fit everything given; all of them, if nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The id of one export.
    pub export: Option<String>,
    /// A dataflow's id.
    pub dataflow: Option<String>,
    /// Given up at this time or later: milliseconds since 1970, wall time.
    pub since_ms: Option<i64>,
    /// How the last attempt ended.
    pub last_attempt: Option<LastAttempt>,
}

/// How the last attempt of an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastAttempt {
    /// With this status.
    Status(u16),
    /// Without an answer: a timeout, no connection, a refused address.
    Error,
}

impl Selection {
    /// Whether anything narrows it down.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a dead letter of the right export and dataflow is meant.
    pub(super) fn fits(&self, row: &DeadLetterRow) -> bool {
        let status = row.attempts.last().and_then(|attempt| attempt.status);
        let ended = match self.last_attempt {
            None => true,
            Some(LastAttempt::Status(code)) => status == Some(code),
            Some(LastAttempt::Error) => status.is_none(),
        };
        ended && self.since_ms.is_none_or(|since| row.died_ms >= since)
    }
}

#[cfg(test)]
mod tests {
    use forebay_storage::{AttemptRow, DeadLetterRow};

    use super::{LastAttempt, Selection};

    #[test]
    fn a_letter_is_meant_if_all_that_is_given_fits() {
        let attempt = |status| AttemptRow { status, ..AttemptRow::default() };
        let letter = |statuses: &[Option<u16>]| DeadLetterRow {
            attempts: statuses.iter().map(|status| attempt(*status)).collect(),
            died_ms: 1_000,
            ..DeadLetterRow::default()
        };
        let refused = letter(&[None, Some(422)]);
        let silent = letter(&[Some(422), None]);
        let status = |code| Some(LastAttempt::Status(code));
        // (what it shows, since, last attempt, letter, whether it is meant)
        let cases = [
            ("nothing is asked", None, None, &refused, true),
            ("the last status", None, status(422), &refused, true),
            ("another status", None, status(500), &refused, false),
            ("not an earlier status", None, status(422), &silent, false),
            ("no answer", None, Some(LastAttempt::Error), &silent, true),
            ("an answer", None, Some(LastAttempt::Error), &refused, false),
            ("given up just then", Some(1_000), None, &refused, true),
            ("given up before", Some(1_001), None, &refused, false),
            ("both must fit", Some(1_001), status(422), &refused, false),
        ];
        for (name, since_ms, last_attempt, row, expected) in cases {
            let selection = Selection { since_ms, last_attempt, ..Selection::default() };
            assert_eq!(selection.fits(row), expected, "{name}");
        }
    }
}
