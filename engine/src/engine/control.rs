//! Control entries: what the log holds beside records.
//!
//! Whatever else moves the projection stands in the log too, so that replay needs nothing but the
//! log. The JSON form is stored: a name once written keeps its meaning, and another meaning takes another
//! name. So an entry needs no format number: one with a kind, a field or a value that is not known here was
//! written by a newer forebay, and is refused, never read in part (`read_control`).

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::definitions::Change;
use crate::error::EngineError;

/// One control entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
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

    /// Whether it moves the clock at most.
    pub const fn only_passes_time(&self) -> bool {
        matches!(self, Self::Tick {} | Self::Advance { .. } | Self::Read {})
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

/// Reads the control entry at `offset`.
///
/// # Errors
///
/// [`EngineError::Control`] if it is of another version, or damaged.
pub(super) fn read_control(offset: u64, bytes: &[u8]) -> Result<Control, EngineError> {
    Control::from_bytes(bytes).map_err(|error| {
        let reason = if serde_json::from_slice::<IgnoredAny>(bytes).is_ok() {
            format!(
                "this version of forebay does not know all of it ({error}): a newer one wrote it; use \
                 that one, or a newer one. Nothing was changed"
            )
        } else {
            format!("it is damaged ({error}); put back a copy of the data directory")
        };
        EngineError::Control { offset, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_not_known_to_the_last_field_is_refused_with_what_to_do() {
        let audience = |rest: &str| {
            format!(
                r#"{{"definitions":{{"audiences":{{"upserts":[{{"id":"a","name":"a",
                "merge_policy":"m"{rest}}}]}}}}}}"#
            )
        };
        let rule = r#","kind":{"rule":{"pql":"n"}}"#;
        assert!(read_control(0, audience(rule).as_bytes()).is_ok());
        let newer = "a newer one wrote it; use that one";
        // (what it shows, an entry, what is said)
        let cases = [
            ("another kind", r#"{"pause":{}}"#.to_owned(), newer),
            ("a kind without fields has one", r#"{"tick":{"format":2}}"#.to_owned(), newer),
            ("a field beside known ones", r#"{"advance":{"to_ms":1,"by":2}}"#.to_owned(), newer),
            ("a field is missing", r#"{"import_end":{"audience":"a"}}"#.to_owned(), newer),
            ("something beside the kind", r#"{"tick":{},"format":2}"#.to_owned(), newer),
            ("a table of definitions", r#"{"definitions":{"alerts":[]}}"#.to_owned(), newer),
            ("an edit", r#"{"definitions":{"dataflows":{"renames":[]}}}"#.to_owned(), newer),
            ("a key of a definition", audience(&format!("{rule},\"owner\":\"x\"")), newer),
            ("a kind of audience", audience(r#","kind":{"model":{}}"#), newer),
            ("a key of a rule", audience(r#","kind":{"rule":{"pql":"n","dialect":2}}"#), newer),
            ("cut off", r#"{"tick":{"#.to_owned(), "it is damaged"),
            ("empty", String::new(), "it is damaged"),
        ];
        for (name, stored, said) in cases {
            let error = read_control(7, stored.as_bytes()).expect_err(name).to_string();
            assert!(error.starts_with("control entry 7 of the log cannot be read"), "{error}");
            assert!(error.contains(said), "{name}: {error}");
        }
    }

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
