//! Conditions on one event, the hot path of the engine: every record meets those of its type.
//!
//! Comparisons of a plain path with a literal are decided on the JSON text as it stands, without
//! building values. Whatever is not that plain goes to the [`Machine`], which decides the same.

use std::borrow::Cow;
use std::cmp::Ordering;

use jiff::tz::TimeZone;

use crate::json::{Kind, Value};

use super::ast::{Comparison, Relation};
use super::facts::Event;
use super::machine::Machine;
use super::op::{Keys, LetterCase, Op, TextRelation};

/// What a path leads to through objects alone.
enum Found<'a> {
    /// Nothing, or `null`.
    Missing,
    Scalar(Scalar<'a>),
    /// An array on the way or at the end, an object, or the timestamp.
    Other,
}

/// A value that is neither an array nor an object.
#[derive(Clone, Copy)]
enum Scalar<'a> {
    Json(Value<'a>),
    /// The event's type.
    Text(&'a str),
}

impl<'a> Scalar<'a> {
    fn as_str(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(value) => value.as_str(),
            Self::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    fn as_f64(self) -> Option<f64> {
        match self {
            Self::Json(value) => value.as_f64(),
            Self::Text(_) => None,
        }
    }
}

/// Whether `condition`, which depends on nothing but an event, holds for it.
pub(super) fn holds_for_event(condition: &Op, event: &Event<'_>, zone: &TimeZone) -> bool {
    match condition {
        Op::And(all) => all.iter().all(|op| holds_for_event(op, event, zone)),
        Op::Or(all) => all.iter().any(|op| holds_for_event(op, event, zone)),
        Op::Not(op) => !holds_for_event(op, event, zone),
        _ => plain(condition, event)
            .unwrap_or_else(|| Machine::holds_for_event(condition, event, zone)),
    }
}

/// The numbers at a path of an event.
pub(super) fn numbers_of_event(keys: &Keys, event: &Event<'_>, take: &mut dyn FnMut(f64)) {
    match find(event, keys) {
        Found::Missing => {}
        Found::Scalar(value) => value.as_f64().into_iter().for_each(take),
        Found::Other => Machine::numbers_of_event(keys, event, take),
    }
}

/// The value of a comparison of a path with literals; `None` if it is another condition.
fn plain(condition: &Op, event: &Event<'_>) -> Option<bool> {
    let (Op::Compare(_, left, right) | Op::Relate(_, left, right) | Op::Test(_, left, right)) =
        condition
    else {
        return None;
    };
    let Op::Frame(0, keys) = &**left else { return None };
    let is_plain = match (condition, &**right) {
        (Op::Compare(..), literal) => is_literal(literal),
        (Op::Relate(Relation::In, ..), Op::List(items)) => items.iter().all(is_literal),
        (Op::Test(test, ..), Op::Text(_)) => test.kind == TextRelation::Equals,
        _ => false,
    };
    if !is_plain {
        return None;
    }
    match find(event, keys) {
        Found::Missing => Some(false),
        Found::Scalar(value) => decide(condition, value),
        Found::Other => None,
    }
}

/// A plain condition for a scalar; `None` where letter case is not that of ASCII.
fn decide(condition: &Op, value: Scalar<'_>) -> Option<bool> {
    match condition {
        Op::Compare(how, _, literal) => {
            Some(order(value, literal).is_some_and(|order| fits(*how, order)))
        }
        Op::Relate(_, _, list) => match &**list {
            Op::List(items) => {
                Some(items.iter().any(|item| order(value, item) == Some(Ordering::Equal)))
            }
            _ => None,
        },
        Op::Test(test, _, literal) => {
            let Op::Text(other) = &**literal else { return None };
            let Some(found) = value.as_str() else { return Some(false) };
            let equal = match test.letter_case {
                LetterCase::Distinct => *found == **other,
                LetterCase::Ignored if found.is_ascii() && other.is_ascii() => {
                    found.eq_ignore_ascii_case(other)
                }
                LetterCase::Ignored => return None,
            };
            Some(equal == test.wanted)
        }
        _ => None,
    }
}

fn is_literal(op: &Op) -> bool {
    matches!(op, Op::Text(_) | Op::Number(_))
}

fn find<'a>(event: &Event<'a>, keys: &Keys) -> Found<'a> {
    if keys.first().is_some_and(|key| &**key == "timestamp") {
        return Found::Other;
    }
    if let ([key], Some(event_type)) = (&keys[..], event.event_type)
        && &**key == "eventType"
    {
        return Found::Scalar(Scalar::Text(event_type));
    }
    let mut value = event.body;
    for key in keys {
        match value.kind() {
            Kind::Object => match value.get(key) {
                Some(member) => value = member,
                None => return Found::Missing,
            },
            Kind::Array => return Found::Other,
            _ => return Found::Missing,
        }
    }
    match value.kind() {
        Kind::Null => Found::Missing,
        Kind::Array | Kind::Object => Found::Other,
        _ => Found::Scalar(Scalar::Json(value)),
    }
}

/// The order of a scalar and a literal; `None` if their types differ.
fn order(value: Scalar<'_>, literal: &Op) -> Option<Ordering> {
    match literal {
        Op::Text(text) => value.as_str().map(|found| (*found).cmp(text)),
        Op::Number(number) => value.as_f64().and_then(|found| found.partial_cmp(number)),
        _ => None,
    }
}

/// Whether a comparison holds for two values in this order.
pub(super) fn fits(how: Comparison, order: Ordering) -> bool {
    match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::AtMost => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::AtLeast => order.is_ge(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::{Book, at};
    use super::*;
    use crate::json::Document;

    #[test]
    fn the_short_way_decides_as_the_machine_does() {
        let bodies = [
            r#"{"a":"x"}"#,
            r#"{"a":"\u0078"}"#,
            r#"{"a":"X"}"#,
            r#"{"a":1}"#,
            r#"{"a":2.5}"#,
            r#"{"a":null}"#,
            r#"{"a":["x",1]}"#,
            r#"{"a":[]}"#,
            r#"{"a":{"b":"x"}}"#,
            r#"{"a":true}"#,
            r#"{"a":"é"}"#,
            r#"{"eventType":"x"}"#,
            r#"{"eventType":"y","eventType":"\u0078"}"#,
            r#"{"eventType":null}"#,
            r#"{"eventType":1}"#,
            r#"{"eventType":{"a":"x"}}"#,
            "{}",
        ];
        let conditions = [
            r#"a = "x""#,
            r#"a != "x""#,
            r#"a < "y""#,
            "a = 1",
            "a >= 1",
            "a != 1",
            r#"a in ["x", 1]"#,
            r#"a in ["y"]"#,
            r#"a.equals("x")"#,
            r#"a.equals("X", false)"#,
            r#"a.notEqualTo("x")"#,
            r#"a.notEqualTo("X", false)"#,
            r#"a.b = "x""#,
            r#"a.equals("É", false)"#,
            r#"eventType = "x""#,
            r#"eventType != "y""#,
            r#"eventType in ["x", 1]"#,
            r#"eventType.equals("X", false)"#,
            "eventType = 1",
            r#"eventType.a = "x""#,
            r#"not (a = "x" or a = 1)"#,
        ];
        for text in conditions {
            let mut book = Book::new("UTC");
            let rule = book.compile(&format!("xEvent[{text}]")).expect(text);
            let query = book.queries.get(rule.reads().queries[0]);
            for body in bodies {
                let document = Document::parse(body).expect(body);
                let timestamp = at("2026-01-01T00:00:00Z");
                let body_value = document.root(body);
                let event_type = body_value.get("eventType").and_then(|value| value.as_str());
                let event_type = event_type.as_deref();
                let event = Event { timestamp, offset: 0, body: body_value, event_type };
                let expected = Machine::holds_for_event(&query.filter, &event, &book.zone);
                let found = holds_for_event(&query.filter, &event, &book.zone);
                assert_eq!(found, expected, "{text} of {body}");
            }
        }
    }
}
