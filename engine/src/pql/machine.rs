//! Evaluates operations: for a profile at an instant, or for one event alone.
//!
//! The machine notes the earliest instant at which anything it looked at can change by the clock, so
//! that what a short cut skipped does not count: it cannot matter before something that was looked at
//! changes.

use std::borrow::Cow;

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::json;

use super::ast::{Comparison, DatePart, Operator, Quantifier, Relation};
use super::calendar;
use super::datum::{Datum, Node, is_like, lower};
use super::facts::{Attribute, Event, Facts, MembershipFact};
use super::marks::Progress;
use super::op::{Aggregate, Keys, Op, Standing};
use super::query::{QueryId, QuerySet};
use super::rule::SegmentRef;
use super::state::QueryState;
use super::sum::Sum;
use super::window::{Now, When};
use crate::profile::path::PathId;

/// Where a rule meets a profile.
pub(super) struct Machine<'a, F: ?Sized> {
    pub(super) facts: &'a F,
    pub(super) queries: &'a QuerySet,
    pub(super) segments: &'a [SegmentRef],
    pub(super) now: Now<'a>,
    /// The earliest instant at which something looked at changes.
    pub(super) changes_at: Timestamp,
    /// The elements that enclosing conditions have bound, outermost first.
    pub(super) frames: SmallVec<[Datum<'a>; 4]>,
}

/// Facts of nobody, for conditions on an event alone.
pub(super) struct Nobody;

impl Facts for Nobody {
    fn attribute(&self, _path: PathId) -> Attribute<'_> {
        Attribute::Missing
    }

    fn tree(&self, _path: PathId) -> String {
        "{}".to_owned()
    }

    fn identities<'a>(&'a self, _visit: &mut dyn FnMut(&'a str, &'a str)) {}

    fn membership(&self, _audience: &str) -> Option<MembershipFact> {
        None
    }

    fn query(&self, _id: QueryId) -> Option<&QueryState> {
        None
    }
}

impl Machine<'_, Nobody> {
    /// Whether `condition`, which depends on nothing but an event, holds for it.
    pub(super) fn holds_for_event(condition: &Op, event: &Event<'_>, zone: &TimeZone) -> bool {
        let queries = QuerySet::new();
        let mut machine = Machine::alone(&queries, Timestamp::MIN, zone);
        machine.frames.push(Datum::Event(event.timestamp, Node::Borrowed(event.body)));
        machine.holds(condition)
    }

    /// The numbers at a path of an event.
    pub(super) fn numbers_of_event(keys: &Keys, event: &Event<'_>, take: &mut dyn FnMut(f64)) {
        let found = Datum::Event(event.timestamp, Node::Borrowed(event.body)).descend(keys);
        found.any(&mut |datum| {
            if let Datum::Number(number) = datum {
                take(*number);
            }
            false
        });
    }
}

impl<'a> Machine<'a, Nobody> {
    fn alone(queries: &'a QuerySet, at: Timestamp, zone: &'a TimeZone) -> Self {
        let now = Now { at, zone };
        let frames = SmallVec::new();
        let changes_at = Timestamp::MAX;
        Self { facts: &Nobody, queries, segments: &[], now, changes_at, frames }
    }
}

impl<'a, F: Facts + ?Sized> Machine<'a, F> {
    /// Whether a condition holds.
    ///
    /// Each kind has its function, so that the frames of this recursion stay small.
    pub(super) fn holds(&mut self, op: &'a Op) -> bool {
        match op {
            Op::Bool(value) => *value,
            Op::And(all) => all.iter().all(|op| self.holds(op)),
            Op::Or(all) => all.iter().any(|op| self.holds(op)),
            Op::Not(op) => !self.holds(op),
            Op::Present(op) => self.is_present(op),
            Op::If(three) => {
                let chosen = if self.holds(&three[0]) { &three[1] } else { &three[2] };
                self.holds(chosen)
            }
            Op::Compare(_, left, right) | Op::Relate(_, left, right) | Op::Test(_, left, right) => {
                self.holds_between(op, left, right)
            }
            Op::Matches(pattern, subject) => {
                self.value(subject).any_text(&mut |text| pattern.0.is_match(text))
            }
            Op::Quantified(quantifier, source, condition) => {
                self.quantified(*quantifier, source, condition)
            }
            Op::Occurs(when, operands) => self.occurs(when, operands),
            Op::InSegment(index) => self.standing(*index).is_some_and(|standing| standing.realized),
            Op::Chain(source, steps) => self.chain(*source, steps),
            other => matches!(self.value(other), Datum::Bool(true)),
        }
    }

    fn holds_between(&mut self, op: &'a Op, left: &'a Op, right: &'a Op) -> bool {
        if let (Op::Compare(how, ..), Op::Query(id), Op::Number(number)) = (op, left, right)
            && let Some(state) = self.facts.query(*id)
            && let Some((holds, changes_at)) =
                self.queries.get(*id).count_compares(state, (*how, *number), self.now.at)
        {
            self.changes(changes_at);
            return holds;
        }
        let left = self.value(left);
        if let (Op::Relate(Relation::In, ..), Op::List(items)) = (op, right) {
            // Without building the list.
            let zone = self.now.zone;
            return items
                .iter()
                .any(|item| left.any_compares(Comparison::Equal, &self.value(item), zone));
        }
        let right = self.value(right);
        match op {
            Op::Compare(how, ..) => left.any_compares(*how, &right, self.now.zone),
            Op::Relate(relation, ..) => related(*relation, &left, &right, self.now.zone),
            Op::Test(test, ..) => left.any_passes(*test, &right),
            _ => false,
        }
    }

    fn quantified(&mut self, quantifier: Quantifier, source: &'a Op, condition: &'a Op) -> bool {
        let mut elements = self.value(source).elements().into_iter();
        match quantifier {
            Quantifier::Exists => elements.any(|element| self.holds_within(element, condition)),
            Quantifier::Forall => elements.all(|element| self.holds_within(element, condition)),
        }
    }

    fn holds_within(&mut self, element: Datum<'a>, condition: &'a Op) -> bool {
        self.frames.push(element);
        let holds = self.holds(condition);
        self.frames.pop();
        holds
    }

    /// The value of an operation.
    pub(super) fn value(&mut self, op: &'a Op) -> Datum<'a> {
        match op {
            Op::Number(number) => Datum::Number(*number),
            Op::Text(text) => Datum::Text(Cow::Borrowed(text)),
            Op::Time(at) => Datum::Time(*at),
            Op::Attribute(path, keys) => self.attribute(*path, keys),
            Op::Frame(frame, keys) => self.frame(*frame, keys),
            Op::Member(base, keys) => self.value(base).descend(keys),
            Op::Arithmetic(first, rest) => self.arithmetic(first, rest),
            Op::If(three) => {
                let chosen = if self.holds(&three[0]) { &three[1] } else { &three[2] };
                self.value(chosen)
            }
            Op::Query(id) => self.query(*id),
            Op::Events(id) => self.events(*id),
            Op::Identities | Op::Namespaces | Op::IdentitiesOf(_) => self.identities(op),
            Op::Membership(index, part) => self.membership(*index, *part),
            Op::Current(part) => self.current(*part),
            Op::Filter(source, condition) => self.filter(source, condition),
            Op::Aggregate(..) | Op::Count(_) | Op::Distinct(_) => self.aggregate(op),
            Op::List(_) | Op::Get(..) | Op::Keys(_) | Op::Values(_) => self.collection(op),
            Op::Part(..) | Op::Group(..) => self.part(op),
            condition => Datum::Bool(self.holds(condition)),
        }
    }

    fn filter(&mut self, source: &'a Op, condition: &'a Op) -> Datum<'a> {
        let elements = self.value(source).elements().into_iter();
        Datum::List(elements.filter(|e| self.holds_within(e.clone(), condition)).collect())
    }

    fn collection(&mut self, op: &'a Op) -> Datum<'a> {
        match op {
            Op::List(items) => {
                let items = items.iter().map(|item| self.value(item));
                Datum::List(items.filter(Datum::is_present).collect())
            }
            Op::Get(base, key) => {
                let (base, key) = (self.value(base), self.value(key));
                get(base, &key)
            }
            Op::Keys(base) => self.map_entries(base, |(key, _)| Datum::Text(Cow::Owned(key))),
            Op::Values(base) => self.map_entries(base, |(_, member)| member),
            _ => Datum::Missing,
        }
    }

    /// A part of a date or of a text.
    fn part(&mut self, op: &'a Op) -> Datum<'a> {
        let zone = self.now.zone;
        match op {
            Op::Part(part, subject) => self.value(subject).map(&|datum| match datum.time(zone) {
                Some(at) => Datum::Number(calendar::part_of(at, *part, zone).into()),
                None => Datum::Missing,
            }),
            Op::Group(pattern, number, subject) => {
                self.value(subject).map(&|datum| group(&pattern.0, *number, datum))
            }
            _ => Datum::Missing,
        }
    }

    fn is_present(&mut self, op: &'a Op) -> bool {
        if let Op::Attribute(path, _) = op {
            // Without building the tree below it.
            match self.facts.attribute(*path) {
                Attribute::Missing => return false,
                Attribute::Leaf(leaf) => return leaf != "null",
                Attribute::Tree => return true,
                Attribute::Within { .. } => {}
            }
        }
        self.value(op).is_present()
    }

    fn attribute(&self, path: PathId, keys: &[Box<str>]) -> Datum<'a> {
        match self.facts.attribute(path) {
            Attribute::Missing => Datum::Missing,
            Attribute::Leaf(leaf) => Datum::of_json(leaf),
            Attribute::Within { leaf, depth } => {
                Datum::of_json(leaf).descend(keys.get(depth..).unwrap_or_default())
            }
            Attribute::Tree => {
                Node::parse(Cow::Owned(self.facts.tree(path))).map_or(Datum::Missing, Datum::Node)
            }
        }
    }

    fn frame(&self, frame: usize, keys: &[Box<str>]) -> Datum<'a> {
        let element = self.frames.get(frame).cloned().unwrap_or(Datum::Missing);
        element.descend(keys)
    }

    fn map_entries(
        &mut self,
        base: &'a Op,
        make: impl Fn((String, Datum<'a>)) -> Datum<'a>,
    ) -> Datum<'a> {
        match self.value(base) {
            Datum::Node(node) | Datum::Event(_, node) if !node.is_array() => {
                Datum::List(node.entries().into_iter().map(make).collect())
            }
            _ => Datum::Missing,
        }
    }

    fn identities(&mut self, op: &'a Op) -> Datum<'a> {
        let wanted = match op {
            Op::IdentitiesOf(namespace) => match self.value(namespace) {
                Datum::Text(text) | Datum::Namespace(text) => Some(lower(&text).into_owned()),
                _ => return Datum::Missing,
            },
            _ => None,
        };
        let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
        self.facts.identities(&mut |namespace, id| {
            let object = format!("{{\"id\":{}}}", json::quote(id));
            match groups.iter_mut().find(|(known, _)| *known == namespace) {
                Some((_, ids)) => ids.push(object),
                None => groups.push((namespace, vec![object])),
            }
        });
        if matches!(op, Op::Namespaces) {
            let names = groups.iter().map(|(name, _)| Datum::Namespace(Cow::Borrowed(*name)));
            return Datum::List(names.collect());
        }
        let json = match wanted {
            Some(wanted) => match groups.iter().find(|(known, _)| *known == wanted) {
                Some((_, ids)) => format!("[{}]", ids.join(",")),
                None => return Datum::Missing,
            },
            None if groups.is_empty() => return Datum::Missing,
            None => {
                let members = groups
                    .iter()
                    .map(|(name, ids)| format!("{}:[{}]", json::quote(name), ids.join(",")));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        };
        Node::parse(Cow::Owned(json)).map_or(Datum::Missing, Datum::Node)
    }

    fn standing(&mut self, index: usize) -> Option<MembershipFact> {
        let standing = self.facts.membership(&self.segments.get(index)?.id)?;
        self.changes(standing.until);
        Some(standing)
    }

    fn membership(&mut self, index: usize, part: Standing) -> Datum<'a> {
        let Some(standing) = self.standing(index) else { return Datum::Missing };
        match part {
            Standing::Any => Datum::Bool(true),
            Standing::Status if standing.realized => Datum::Text(Cow::Borrowed("realized")),
            Standing::Status => Datum::Text(Cow::Borrowed("exited")),
            Standing::Since => Datum::Time(standing.since),
        }
    }

    fn current(&mut self, part: DatePart) -> Datum<'a> {
        let zone = self.now.zone;
        let midnight = calendar::period_start(self.now.at, super::ast::Unit::Day, 1, zone);
        self.changes(midnight.min(calendar::next_transition(self.now.at, zone)));
        Datum::Number(calendar::part_of(self.now.at, part, zone).into())
    }

    fn occurs(&mut self, when: &When, operands: &'a [Op]) -> bool {
        let Some((subject, anchors)) = operands.split_first() else { return false };
        let windows = self.bound(when, anchors);
        let subject = self.value(subject);
        let mut next = Timestamp::MAX;
        let now = self.now;
        let holds = subject.any(&mut |datum| {
            let Some(ts) = datum.time(now.zone) else { return false };
            windows.iter().any(|when| {
                let truth = when.truth(ts, now);
                next = next.min(truth.changes_at);
                truth.holds
            })
        });
        self.changes(next);
        holds
    }

    /// The window for each time that its anchor leads to; none if one that it needs is missing.
    fn bound<'w>(&mut self, when: &'w When, anchors: &'a [Op]) -> SmallVec<[Cow<'w, When>; 1]> {
        let times: SmallVec<[Vec<Timestamp>; 2]> =
            anchors.iter().map(|anchor| all_times(&self.value(anchor), self.now.zone)).collect();
        match times.as_slice() {
            [] => SmallVec::from_iter([Cow::Borrowed(when)]),
            [times] => times.iter().map(|at| Cow::Owned(when.bind(&[*at]))).collect(),
            // Only `between` has more: from the first to the last is what holds for any two.
            [from, to, ..] => match (from.iter().min(), to.iter().max()) {
                (Some(from), Some(to)) => {
                    SmallVec::from_iter([Cow::Owned(when.bind(&[*from, *to]))])
                }
                _ => SmallVec::new(),
            },
        }
    }

    fn arithmetic(&mut self, first: &'a Op, rest: &'a [(Operator, Op)]) -> Datum<'a> {
        let mut result = match self.value(first) {
            Datum::Number(number) => Some(number),
            _ => None,
        };
        for (operator, operand) in rest {
            result = match (result, self.value(operand)) {
                (Some(left), Datum::Number(right)) => compute(*operator, left, right),
                _ => None,
            };
        }
        result.map_or(Datum::Missing, Datum::number)
    }

    fn aggregate(&mut self, op: &'a Op) -> Datum<'a> {
        match op {
            Op::Count(source) => Datum::Number(self.value(source).elements().len() as f64),
            Op::Distinct(source) => {
                let zone = self.now.zone;
                let mut distinct: Vec<Datum<'a>> = Vec::new();
                for element in self.value(source).elements() {
                    if !distinct.iter().any(|known| known.is_in(&element, zone)) {
                        distinct.push(element);
                    }
                }
                Datum::List(distinct)
            }
            Op::Aggregate(aggregate, source, keys) => {
                let mut numbers = Vec::new();
                for element in self.value(source).elements() {
                    element.descend(keys).any(&mut |datum| {
                        if let Datum::Number(number) = datum {
                            numbers.push(*number);
                        }
                        false
                    });
                }
                aggregated(*aggregate, numbers.into_iter()).map_or(Datum::Missing, Datum::number)
            }
            _ => Datum::Missing,
        }
    }

    fn query(&mut self, id: QueryId) -> Datum<'a> {
        let query = self.queries.get(id);
        let (value, changes_at) = query.result(self.facts.query(id), self.now.at);
        self.changes(changes_at);
        value
    }

    fn events(&mut self, id: QueryId) -> Datum<'a> {
        let query = self.queries.get(id);
        let Some(QueryState::Events(kept)) = self.facts.query(id) else {
            return Datum::List(Vec::new());
        };
        let mut events = Vec::with_capacity(kept.len());
        for event in kept {
            let timestamp = Timestamp::from_millis(event.timestamp);
            let truth = query.truth((event.timestamp, event.flags), self.now.at);
            self.changes(truth.changes_at);
            if !truth.holds {
                continue;
            }
            if let Some(node) = Node::parse(Cow::Borrowed(&event.body)) {
                events.push(Datum::Event(timestamp, node));
            }
        }
        Datum::List(events)
    }

    fn chain(&mut self, source: QueryId, steps: &'a [(Op, i64)]) -> bool {
        let mut steps = steps.iter();
        let Some(mut step) = steps.next() else { return true };
        let mut matched = 0;
        for event in self.events(source).elements() {
            if !self.holds_within(event, &step.0) {
                continue;
            }
            matched += 1;
            if matched == step.1 {
                let Some(next) = steps.next() else { return true };
                step = next;
                matched = 0;
            }
        }
        false
    }

    /// How far each step of a chain over kept events is.
    pub(super) fn chain_progress(
        &mut self,
        source: QueryId,
        steps: &'a [(Op, i64)],
    ) -> Vec<Progress> {
        let mut events = self.events(source).elements().into_iter();
        let mut progress = Vec::with_capacity(steps.len());
        for (condition, needed) in steps {
            let mut reached = Progress { matched: 0, needed: *needed, completed: None };
            while reached.matched < reached.needed
                && let Some(event) =
                    events.find(|event| self.holds_within(event.clone(), condition))
            {
                reached.matched += 1;
                if let (Datum::Event(at, _), true) = (event, reached.matched == reached.needed) {
                    reached.completed = Some(at);
                }
            }
            progress.push(reached);
        }
        progress
    }

    fn changes(&mut self, at: Timestamp) {
        self.changes_at = self.changes_at.min(at);
    }
}

fn all_times(datum: &Datum<'_>, zone: &TimeZone) -> Vec<Timestamp> {
    let mut found = Vec::new();
    datum.any(&mut |element| {
        found.extend(element.time(zone));
        false
    });
    found
}

fn get<'a>(base: Datum<'a>, key: &Datum<'_>) -> Datum<'a> {
    match key {
        Datum::Text(key) | Datum::Namespace(key) => base.descend(&[key.as_ref().into()]),
        _ => Datum::Missing,
    }
}

fn group<'a>(pattern: &regex::Regex, number: usize, subject: &Datum<'a>) -> Datum<'a> {
    let (Datum::Text(text) | Datum::Namespace(text)) = subject else { return Datum::Missing };
    let found = pattern.captures(text).and_then(|captures| captures.get(number));
    found.map_or(Datum::Missing, |found| Datum::Text(Cow::Owned(found.as_str().to_owned())))
}

fn related(relation: Relation, left: &Datum<'_>, right: &Datum<'_>, zone: &TimeZone) -> bool {
    let both = !matches!(left, Datum::Missing) && !matches!(right, Datum::Missing);
    if !both {
        return false;
    }
    let within = |small: &Datum<'_>, large: &Datum<'_>| {
        !small.any(&mut |element| !element.is_in(large, zone))
    };
    match relation {
        Relation::In | Relation::Intersects | Relation::Includes => {
            left.any_compares(Comparison::Equal, right, zone)
        }
        Relation::NotIn => left.any(&mut |element| !element.is_in(right, zone)),
        Relation::SubsetOf => within(left, right),
        Relation::SupersetOf => within(right, left),
        Relation::Like => {
            left.any_text(&mut |text| right.any_text(&mut |pattern| is_like(text, pattern)))
        }
    }
}

fn compute(operator: Operator, left: f64, right: f64) -> Option<f64> {
    match operator {
        Operator::Add => Some(left + right),
        Operator::Subtract => Some(left - right),
        Operator::Multiply => Some(left * right),
        Operator::Divide | Operator::Remainder if right == 0.0 => None,
        Operator::Divide => Some(left / right),
        Operator::Remainder => Some(left % right),
    }
}

/// What `aggregate` makes of `numbers`; `None` if there is nothing to say.
pub(super) fn aggregated(aggregate: Aggregate, numbers: impl Iterator<Item = f64>) -> Option<f64> {
    match aggregate {
        Aggregate::Min => numbers.reduce(f64::min),
        Aggregate::Max => numbers.reduce(f64::max),
        Aggregate::Sum | Aggregate::Average => {
            let mut sum = Sum::default();
            let mut count = 0;
            for number in numbers {
                sum.add(number);
                count += 1;
            }
            match aggregate {
                Aggregate::Sum => Some(sum.value()),
                _ => (count > 0).then(|| sum.quotient(count)),
            }
        }
    }
}
