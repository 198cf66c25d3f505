//! Clauses of rules, ready to be printed: as they are, or as they were and are.

use serde_json::value::RawValue;

use super::super::answers::raw;
use crate::clock::Timestamp;
use crate::pql::{Clause, ClauseKind, Compared, Shown};
use crate::views::explanation::{ClauseView, ValueView};

/// A clause as it is.
pub(super) fn clause_view(clause: Clause) -> ClauseView {
    ClauseView {
        kind: word(clause.kind).to_owned(),
        text: clause.text,
        holds: clause.holds,
        held: None,
        changes_at: instant(clause.changes_at),
        values: clause.values.into_iter().map(value_view).collect(),
        clauses: clause.parts.into_iter().map(clause_view).collect(),
    }
}

/// A clause as it was before a step and is after it. Where the rule itself was changed, as it is.
pub(super) fn stepped(before: Clause, after: Clause) -> ClauseView {
    let is_same_rule = before.text == after.text;
    let mut view = clause_view(after);
    if is_same_rule {
        add_before(&mut view, before);
    }
    view
}

/// Two clauses of one text have the same parts and values.
fn add_before(view: &mut ClauseView, before: Clause) {
    view.held = Some(before.holds);
    for (value, before) in view.values.iter_mut().zip(before.values) {
        if let Shown::Json(json) = before.value {
            value.before = Some(raw(json));
        }
    }
    for (part, before) in view.clauses.iter_mut().zip(before.parts) {
        add_before(part, before);
    }
}

/// An instant that may never come.
pub(super) fn instant(at: Timestamp) -> Option<String> {
    (at != Timestamp::MAX).then(|| at.to_string())
}

fn value_view(compared: Compared) -> ValueView {
    let (value, bytes) = shown(compared.value);
    ValueView { of: compared.of, value, bytes, before: None }
}

fn shown(value: Shown) -> (Box<RawValue>, Option<u64>) {
    match value {
        Shown::Json(json) => (raw(json), None),
        Shown::TooLong(bytes) => (raw("null".to_owned()), Some(bytes as u64)),
    }
}

const fn word(kind: ClauseKind) -> &'static str {
    match kind {
        ClauseKind::All => "all",
        ClauseKind::Any => "any",
        ClauseKind::Not => "not",
        ClauseKind::If => "if",
        ClauseKind::Test => "test",
    }
}
