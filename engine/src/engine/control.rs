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
    /// A list begins that is to be the whole membership of an upload audience; its members follow as
    /// records (`SPEC.md` §5).
    ImportBegin {
        /// The audience.
        audience: String,
    },
    /// The list is complete: members that were not refreshed since it began exit. Without effect if
    /// another list of the audience began meanwhile.
    ImportEnd {
        /// The audience.
        audience: String,
        /// The offset of the entry with which the list began.
        begin: u64,
    },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_is_stable() {
        let audience = || "vip".to_owned();
        // (an entry, as the log holds it; a change here breaks logs already written)
        let cases = [
            (Control::Tick {}, r#"{"tick":{}}"#),
            (Control::Advance { to_ms: -7 }, r#"{"advance":{"to_ms":-7}}"#),
            (Control::Read {}, r#"{"read":{}}"#),
            (
                Control::ImportBegin { audience: audience() },
                r#"{"import_begin":{"audience":"vip"}}"#,
            ),
            (
                Control::ImportEnd { audience: audience(), begin: 7 },
                r#"{"import_end":{"audience":"vip","begin":7}}"#,
            ),
        ];
        for (control, stored) in cases {
            assert_eq!(String::from_utf8(control.to_bytes()).unwrap(), stored);
            assert_eq!(Control::from_bytes(stored.as_bytes()).unwrap(), control, "{stored}");
        }
    }
}
