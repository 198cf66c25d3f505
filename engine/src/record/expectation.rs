//! What a refused line is told: where in the line, what was expected, what was found there.
//!
//! `event.timestamp: expected an RFC 3339 time such as "2026-01-01T00:00:11.664Z", found "soon"`

use crate::json::{Kind, Value};

/// Longest text that is repeated in a message, in characters.
const FOUND_CHARS_MAX: usize = 40;

/// The message that at `path` (dotted) `expected` should stand, instead of `found`.
pub(super) fn unmet(path: &str, expected: &str, found: Option<Value<'_>>) -> String {
    format!("{path}: expected {expected}, found {}", described(found))
}

fn described(found: Option<Value<'_>>) -> String {
    let Some(value) = found else { return "nothing".to_owned() };
    let raw = value.raw();
    match value.kind() {
        Kind::Object => "an object".to_owned(),
        Kind::Array => "an array".to_owned(),
        Kind::Text if raw.len() == 2 => "an empty string".to_owned(),
        _ if raw.chars().nth(FOUND_CHARS_MAX).is_some() => {
            format!("{}...", raw.chars().take(FOUND_CHARS_MAX).collect::<String>())
        }
        _ => raw.to_owned(),
    }
}
