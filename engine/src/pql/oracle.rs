//! A second evaluation for tests: slow, from the whole list of events, straight from the page.
//!
//! It knows nothing of plans, queries or states, reads the syntax tree, and works out windows from
//! the definition of each. It covers what `properties.rs` generates, and panics on the rest.

use jiff::ZonedDateTime;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan};
use serde_json::Value as Json;

use super::ast::{
    Binding, CalendarDay, Comparison, DatePart, Direction, Expr, ExprKind, Name, Operator,
    Quantifier, Relation, Step, TimeExpr, Unit, WhenExpr,
};

/// A profile as lists.
pub(super) struct Oracle<'o> {
    pub(super) profile: &'o Json,
    /// (timestamp, event), in order.
    pub(super) events: &'o [(i64, Json)],
    pub(super) now: i64,
    pub(super) zone: &'o TimeZone,
    /// (namespace in lower case, id)
    pub(super) identities: &'o [(String, String)],
    /// (audience, whether realized)
    pub(super) memberships: &'o [(String, bool)],
}

#[derive(Clone, Debug)]
enum Value {
    None,
    Bool(bool),
    Number(f64),
    Text(String),
    Time(i64),
    List(Vec<Value>),
    Event(i64, Json),
    Object(Json),
}

/// Names in scope, and what bare paths start at.
#[derive(Clone, Default)]
struct Names {
    variables: Vec<(String, Value)>,
    element: Option<Value>,
}

impl Oracle<'_> {
    pub(super) fn holds(&self, expr: &Expr) -> bool {
        self.test(expr, &Names::default())
    }

    fn test(&self, expr: &Expr, names: &Names) -> bool {
        match &expr.kind {
            ExprKind::And(all) => all.iter().all(|e| self.test(e, names)),
            ExprKind::Or(all) => all.iter().any(|e| self.test(e, names)),
            ExprKind::Not(e) => !self.test(e, names),
            ExprKind::Compare(how, a, b) => {
                let (a, b) = (self.list(a, names), self.list(b, names));
                a.iter().any(|a| b.iter().any(|b| self.compares(*how, a, b)))
            }
            ExprKind::Relate(relation, a, b) => {
                let (a, b) = (self.value(a, names), self.value(b, names));
                related(*relation, a, b)
            }
            ExprKind::Occurs(subject, when) => self
                .list(subject, names)
                .iter()
                .any(|ts| self.time_of(ts).is_some_and(|ts| self.occurs(ts, when, names))),
            ExprKind::InSegment(id) => self.memberships.contains(&(id.text.clone(), true)),
            ExprKind::If(three) => {
                let chosen = if self.test(&three[0], names) { &three[1] } else { &three[2] };
                self.test(chosen, names)
            }
            ExprKind::Quantified(quantifier, bindings) => {
                self.quantified(*quantifier, bindings, names)
            }
            ExprKind::Chain(steps) => self.chain(steps, names),
            _ => match self.value(expr, names) {
                Value::Bool(value) if !is_path(expr) => value,
                Value::None => false,
                Value::List(items) => !items.is_empty(),
                _ => true,
            },
        }
    }

    fn quantified(&self, quantifier: Quantifier, bindings: &[Binding], names: &Names) -> bool {
        let Some((binding, rest)) = bindings.split_first() else { return true };
        let mut each = self.list(&binding.source, names).into_iter().map(|element| {
            let mut inner = names.clone();
            inner.variables.push((binding.variable.text.clone(), element));
            binding.condition.as_ref().is_none_or(|c| self.test(c, &inner))
                && self.quantified(quantifier, rest, &inner)
        });
        match quantifier {
            Quantifier::Exists => each.any(|holds| holds),
            Quantifier::Forall => each.all(|holds| holds),
        }
    }

    fn chain(&self, steps: &[Step], names: &Names) -> bool {
        let mut from = 0;
        for step in steps {
            for _ in 0..step.count {
                let found = (from..self.events.len()).find(|&index| {
                    let (ts, event) = &self.events[index];
                    let element = Some(Value::Event(*ts, event.clone()));
                    let inner = Names { element, ..names.clone() };
                    step.what.as_ref().is_none_or(|what| self.test(what, &inner))
                        && step.when.as_ref().is_none_or(|when| self.occurs(*ts, when, &inner))
                });
                let Some(found) = found else { return false };
                from = found + 1;
            }
        }
        true
    }

    fn list(&self, expr: &Expr, names: &Names) -> Vec<Value> {
        match self.value(expr, names) {
            Value::None => Vec::new(),
            Value::List(items) => items,
            one => vec![one],
        }
    }

    fn value(&self, expr: &Expr, names: &Names) -> Value {
        match &expr.kind {
            ExprKind::Number(number) => Value::Number(*number),
            ExprKind::Text(text) => Value::Text(text.clone()),
            ExprKind::Bool(value) => Value::Bool(*value),
            ExprKind::List(items) => {
                Value::List(items.iter().map(|item| self.value(item, names)).collect())
            }
            ExprKind::Name(name) => self.name(name, names),
            ExprKind::Date(CalendarDay { year, month, day }) => {
                Value::Time(self.midnight(Date::new(*year, *month, *day).expect("checked")))
            }
            ExprKind::If(three) => {
                let chosen = if self.test(&three[0], names) { &three[1] } else { &three[2] };
                self.value(chosen, names)
            }
            ExprKind::Arithmetic(first, rest) => self.arithmetic(first, rest, names),
            ExprKind::Member(base, members) => descend(self.value(base, names), members),
            ExprKind::Filter(base, test) => {
                let kept = self.list(base, names).into_iter().filter(|element| {
                    let element = Some(element.clone());
                    self.test(test, &Names { element, ..names.clone() })
                });
                Value::List(kept.collect())
            }
            ExprKind::Call(base, name, arguments) => self.call((base, name), arguments, names),
            ExprKind::Current(part) => {
                let now = self.zoned(self.now);
                Value::Number(match part {
                    DatePart::Year => f64::from(now.year()),
                    DatePart::Month => f64::from(now.month()),
                    DatePart::DayOfMonth => f64::from(now.day()),
                })
            }
            _ => Value::Bool(self.test(expr, names)),
        }
    }

    fn arithmetic(&self, first: &Expr, rest: &[(Operator, Expr)], names: &Names) -> Value {
        let mut result = self.value(first, names);
        for (operator, operand) in rest {
            result = match (result, self.value(operand, names)) {
                (Value::Number(a), Value::Number(b)) => match operator {
                    Operator::Add => Value::Number(a + b),
                    Operator::Subtract => Value::Number(a - b),
                    Operator::Multiply => Value::Number(a * b),
                    Operator::Divide | Operator::Remainder if b == 0.0 => Value::None,
                    Operator::Divide => Value::Number(a / b),
                    Operator::Remainder => Value::Number(a - b * (a / b).trunc()),
                },
                _ => Value::None,
            };
        }
        match result {
            Value::Number(_) => result,
            _ => Value::None,
        }
    }

    /// The instant that a value is, or that its text names.
    fn time_of(&self, value: &Value) -> Option<i64> {
        match value {
            Value::Time(at) => Some(*at),
            Value::Text(text) if text.len() == 10 => Some(self.midnight(text.parse().ok()?)),
            Value::Text(text) => Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
            _ => None,
        }
    }

    /// Texts are times where the other side is one.
    fn compares(&self, how: Comparison, a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Time(_), Value::Text(_)) | (Value::Text(_), Value::Time(_)) => {
                match (self.time_of(a), self.time_of(b)) {
                    (Some(a), Some(b)) => compares(how, &Value::Time(a), &Value::Time(b)),
                    _ => false,
                }
            }
            _ => compares(how, a, b),
        }
    }

    /// `identityMap`, and the standing of an audience, where `base` is one of them.
    fn map_value(&self, base: &Expr, called: &str, arguments: &[Expr]) -> Option<Value> {
        let text = |expr: &Expr| match &expr.kind {
            ExprKind::Text(text) => text.clone(),
            _ => panic!("only literal keys are generated"),
        };
        match &base.kind {
            ExprKind::Name(name) if name == "identityMap" && called == "keys" => {
                let all =
                    self.identities.iter().map(|(namespace, _)| Value::Text(namespace.clone()));
                Some(Value::List(all.collect()))
            }
            ExprKind::Name(name) if name == "identityMap" && called == "get" => {
                let wanted = text(&arguments[0]).to_lowercase();
                let of = self.identities.iter().filter(|(namespace, _)| *namespace == wanted);
                let all: Vec<_> =
                    of.map(|(_, id)| Value::Object(serde_json::json!({ "id": id }))).collect();
                Some(if all.is_empty() { Value::None } else { Value::List(all) })
            }
            // `segmentMembership.get("ups").get("id")`
            ExprKind::Call(inner, _, _) if matches!(&inner.kind, ExprKind::Name(name) if name == "segmentMembership") =>
            {
                let id = text(&arguments[0]);
                let (_, realized) = self.memberships.iter().find(|(known, _)| *known == id)?;
                let status = if *realized { "realized" } else { "exited" };
                Some(Value::Object(serde_json::json!({ "status": status })))
            }
            _ => None,
        }
    }

    fn name(&self, name: &str, names: &Names) -> Value {
        if let Some((_, value)) = names.variables.iter().rev().find(|(known, _)| known == name) {
            return value.clone();
        }
        if name == "xEvent" {
            let events = self.events.iter().map(|(ts, event)| Value::Event(*ts, event.clone()));
            return Value::List(events.collect());
        }
        let from = match &names.element {
            Some(element) => element.clone(),
            None => Value::Object(self.profile.clone()),
        };
        descend(from, &[Name { text: name.to_owned(), span: 0..0 }])
    }

    #[expect(clippy::too_many_lines, reason = "one function after another")]
    fn call(&self, (base, name): (&Expr, &Name), arguments: &[Expr], names: &Names) -> Value {
        if let Some(value) = self.map_value(base, &name.text, arguments) {
            return value;
        }
        if name.text == "get" {
            // Of an audience that nobody was ever in.
            return Value::None;
        }
        let elements = self.list(base, names);
        let within = |element: &Value| Names { element: Some(element.clone()), ..names.clone() };
        let numbers = || -> Vec<f64> {
            let found = elements.iter().flat_map(|e| self.list(&arguments[0], &within(e)));
            let numbers = found.filter_map(|value| match value {
                Value::Number(number) => Some(number),
                _ => None,
            });
            numbers.collect()
        };
        let optional = |value: Option<f64>| value.map_or(Value::None, Value::Number);
        match name.text.as_str() {
            "count" => Value::Number(elements.len() as f64),
            "exists" => Value::Bool(elements.iter().any(|e| self.test(&arguments[0], &within(e)))),
            // The generator uses small whole numbers, of which any sum is exact.
            "sum" => Value::Number(numbers().iter().sum()),
            "min" => optional(numbers().into_iter().reduce(f64::min)),
            "max" => optional(numbers().into_iter().reduce(f64::max)),
            "average" => {
                let numbers = numbers();
                let count = numbers.len() as f64;
                optional((count > 0.0).then(|| numbers.iter().sum::<f64>() / count))
            }
            "isNull" => Value::Bool(elements.is_empty()),
            "isNotNull" => Value::Bool(!elements.is_empty()),
            "getYear" | "getMonth" | "getDayOfMonth" => {
                let parts = elements.iter().filter_map(|e| self.time_of(e)).map(|at| {
                    let local = self.zoned(at);
                    Value::Number(match name.text.as_str() {
                        "getYear" => f64::from(local.year()),
                        "getMonth" => f64::from(local.month()),
                        _ => f64::from(local.day()),
                    })
                });
                Value::List(parts.collect())
            }
            "distinct" => {
                let mut distinct: Vec<Value> = Vec::new();
                for element in &elements {
                    if !distinct.iter().any(|d| self.compares(Comparison::Equal, d, element)) {
                        distinct.push(element.clone());
                    }
                }
                Value::List(distinct)
            }
            "matches" => {
                let [Expr { kind: ExprKind::Text(pattern), .. }] = arguments else {
                    panic!("a pattern is a literal")
                };
                let pattern = regex::Regex::new(pattern).expect("checked");
                Value::Bool(
                    elements
                        .iter()
                        .any(|e| matches!(e, Value::Text(text) if pattern.is_match(text))),
                )
            }
            test => {
                let others = self.list(&arguments[0], names);
                let ignored =
                    matches!(arguments.get(1), Some(Expr { kind: ExprKind::Bool(false), .. }));
                Value::Bool(elements.iter().any(|a| {
                    others.iter().any(|b| match (a, b) {
                        (Value::Text(a), Value::Text(b)) if ignored => {
                            text_test(test, &a.to_lowercase(), &b.to_lowercase())
                        }
                        (Value::Text(a), Value::Text(b)) => text_test(test, a, b),
                        _ => false,
                    })
                }))
            }
        }
    }

    pub(super) fn zoned(&self, ms: i64) -> ZonedDateTime {
        jiff::Timestamp::from_millisecond(ms)
            .expect("in range")
            .to_zoned_datetime(self.zone.clone())
    }

    fn occurs(&self, ts: i64, when: &WhenExpr, names: &Names) -> bool {
        let times = |time: &TimeExpr| self.times(time, names);
        match when {
            WhenExpr::Before(anchor) => times(anchor).iter().any(|anchor| ts < *anchor),
            WhenExpr::After(anchor) => times(anchor).iter().any(|anchor| ts > *anchor),
            WhenExpr::Between(first, last) => {
                let (first, last) = (times(first), times(last));
                first.iter().any(|first| last.iter().any(|last| *first <= ts && ts <= *last))
            }
            WhenExpr::On(TimeExpr::Period(unit, offset)) => {
                let begin = self.period(*unit, *offset);
                begin <= ts && ts < self.period(*unit, offset + 1)
            }
            WhenExpr::On(anchor) => times(anchor)
                .iter()
                .any(|anchor| self.zoned(ts).date() == self.zoned(*anchor).date()),
            WhenExpr::Distance(how, span, anchor) => times(anchor).iter().any(|anchor| {
                let (early, late) = match span.direction {
                    Direction::Before => (ts, *anchor),
                    Direction::After => (*anchor, ts),
                    Direction::From => (ts.min(*anchor), ts.max(*anchor)),
                };
                early <= late && self.distant(*how, (span.count, span.unit), early, late)
            }),
        }
    }

    fn distant(&self, how: Comparison, (n, unit): (i64, Unit), early: i64, late: i64) -> bool {
        let reached = self.shift(early, n, unit);
        let whole = reached <= late && late < self.shift(early, n + 1, unit);
        match how {
            Comparison::Less => late < reached,
            Comparison::AtMost => late <= reached,
            Comparison::Greater => late > reached,
            Comparison::AtLeast => late >= reached,
            Comparison::Equal => whole,
            Comparison::NotEqual => !whole,
        }
    }

    fn shift(&self, ms: i64, n: i64, unit: Unit) -> i64 {
        let span: Span = match unit {
            Unit::Millisecond => return ms + n,
            Unit::Second => return ms + n * 1_000,
            Unit::Minute => return ms + n * 60_000,
            Unit::Hour => return ms + n * 3_600_000,
            Unit::Day => return ms + n * 86_400_000,
            Unit::Week => return ms + n * 604_800_000,
            Unit::Month => n.months(),
            Unit::Year => n.years(),
        };
        if n == 0 {
            return ms;
        }
        let local = self.zoned(ms).datetime().checked_add(span).expect("in range");
        local.to_zoned_datetime(self.zone.clone()).expect("in range").timestamp().as_millisecond()
    }

    fn period(&self, unit: Unit, offset: i64) -> i64 {
        let now = self.zoned(self.now);
        let date = now.date();
        let begin = match unit {
            Unit::Hour => {
                let shift = i64::from(now.offset().seconds()) * 1_000;
                let local = (self.now + shift).div_euclid(3_600_000) + offset;
                return local * 3_600_000 - shift;
            }
            Unit::Week => {
                let sunday =
                    date.checked_sub(i64::from(date.weekday().to_sunday_zero_offset()).days());
                sunday.and_then(|date| date.checked_add((7 * offset).days()))
            }
            Unit::Month => date.first_of_month().checked_add(offset.months()),
            Unit::Year => date.first_of_year().checked_add(offset.years()),
            _ => date.checked_add(offset.days()),
        };
        self.midnight(begin.expect("in range"))
    }

    fn midnight(&self, date: Date) -> i64 {
        date.to_zoned_datetime(self.zone.clone()).expect("in range").timestamp().as_millisecond()
    }

    fn times(&self, time: &TimeExpr, names: &Names) -> Vec<i64> {
        match time {
            TimeExpr::Now => vec![self.now],
            TimeExpr::Period(unit, offset) => vec![self.period(*unit, *offset)],
            TimeExpr::Date(CalendarDay { year, month, day }) => {
                vec![self.midnight(Date::new(*year, *month, *day).expect("checked"))]
            }
            TimeExpr::Shifted(span, from) => {
                let n = if span.direction == Direction::Before { -span.count } else { span.count };
                self.times(from, names).iter().map(|at| self.shift(*at, n, span.unit)).collect()
            }
            TimeExpr::Path(path) => {
                self.list(path, names).iter().filter_map(|value| self.time_of(value)).collect()
            }
        }
    }
}

fn related(relation: Relation, a: Value, b: Value) -> bool {
    if matches!(a, Value::None) || matches!(b, Value::None) {
        return false;
    }
    let list = |value| match value {
        Value::List(items) => items,
        one => vec![one],
    };
    let (a, b) = (list(a), list(b));
    let within = |x: &Value, all: &[Value]| all.iter().any(|y| compares(Comparison::Equal, x, y));
    match relation {
        Relation::In | Relation::Intersects | Relation::Includes => a.iter().any(|x| within(x, &b)),
        Relation::NotIn => a.iter().any(|x| !within(x, &b)),
        Relation::SubsetOf => a.iter().all(|x| within(x, &b)),
        Relation::SupersetOf => b.iter().all(|y| within(y, &a)),
        Relation::Like => {
            let is_like = |text: &str, pattern: &str| {
                let escaped = regex::escape(pattern).replace('%', ".*").replace('_', ".");
                regex::Regex::new(&format!("(?s)^{escaped}$")).expect("escaped").is_match(text)
            };
            a.iter().any(|x| {
                b.iter().any(|y| match (x, y) {
                    (Value::Text(text), Value::Text(pattern)) => is_like(text, pattern),
                    _ => false,
                })
            })
        }
    }
}

fn text_test(test: &str, a: &str, b: &str) -> bool {
    match test {
        "equals" => a == b,
        "notEqualTo" => a != b,
        "startsWith" => a.starts_with(b),
        "doesNotStartWith" => !a.starts_with(b),
        "endsWith" => a.ends_with(b),
        "doesNotEndWith" => !a.ends_with(b),
        "contains" => a.contains(b),
        "doesNotContain" => !a.contains(b),
        other => panic!("no oracle for {other}"),
    }
}

fn is_path(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Name(_) | ExprKind::Member(..))
}

fn compares(how: Comparison, a: &Value, b: &Value) -> bool {
    let order = match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => {
            return match how {
                Comparison::Equal => a == b,
                Comparison::NotEqual => a != b,
                _ => false,
            };
        }
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        _ => None,
    };
    order.is_some_and(|order| match how {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::AtMost => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::AtLeast => order.is_ge(),
    })
}

fn descend(from: Value, names: &[Name]) -> Value {
    let Some((name, rest)) = names.split_first() else { return from };
    match from {
        Value::Event(at, _) if name.text == "timestamp" => Value::Time(at),
        Value::Event(_, json) | Value::Object(json) => {
            descend(of_json(json.get(&name.text).unwrap_or(&Json::Null)), rest)
        }
        Value::List(items) => {
            let mut found = Vec::new();
            for item in items {
                match descend(item, names) {
                    Value::None => {}
                    Value::List(more) => found.extend(more),
                    one => found.push(one),
                }
            }
            if found.is_empty() { Value::None } else { Value::List(found) }
        }
        _ => Value::None,
    }
}

fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.as_f64().expect("small")),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(of_json).collect()),
        Json::Object(_) => Value::Object(json.clone()),
    }
}
