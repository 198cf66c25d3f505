//! Control entries: what the log holds beside records.
//!
//! Whatever else moves the projection stands in the log too, so that replay needs nothing but the
//! log. The JSON form is stored: a name once written keeps its meaning.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::definitions::Change;

/// One control entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The definitions change (`SPEC.md` §9).
    Definitions(Box<Change>),
    /// Time passed without records: the wall clock stands at the instant stored with the entry.
    Tick {},
    /// The event clock moves to an instant, in milliseconds (`--advance-to`).
    Advance {
        /// Where to.
        to_ms: i64,
    },
    /// Lines of an input were read, none of which is a record; the entry carries their position.
    Read {},
}

impl Control {
    /// Moves the event clock.
    pub fn advance(to: Timestamp) -> Self {
        Self::Advance { to_ms: to.as_millis() }
    }

    /// As stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("definitions are JSON")
    }

    /// Reads what [`Control::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
