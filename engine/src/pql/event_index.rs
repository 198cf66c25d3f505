//! Which event queries an event may match, without asking them all.
//!
//! A query that names the event types it wants stands under these. One that does not, but needs a
//! field (`xEvent[commerce.order.priceTotal > 80]`), stands at that field's path in a tree, and is
//! met only by events that have it. The rest is asked of every event. What is found may be too much,
//! never too little.

use hashbrown::HashMap;

use crate::json::{Kind, Value};

use super::ast::{Comparison, Quantifier, Relation};
use super::datum::lower;
use super::op::{LetterCase, Op, TextRelation};
use super::query::{EventQuery, QueryId, QueryKind};

/// An event type that a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum EventType {
    Exact(Box<str>),
    /// In lower case; any letter case matches.
    Folded(Box<str>),
}

/// The event types that `filter` lets through, if it names them.
fn event_types(filter: &Op) -> Option<Vec<EventType>> {
    let is_type =
        |op: &Op| matches!(op, Op::Frame(0, keys) if keys.len() == 1 && &*keys[0] == "eventType");
    let exact = |op: &Op| match op {
        Op::Text(text) => Some(EventType::Exact(text.clone())),
        _ => None,
    };
    match filter {
        Op::And(all) => all.iter().find_map(event_types),
        Op::Or(all) => Some(all.iter().map(event_types).collect::<Option<Vec<_>>>()?.concat()),
        Op::Compare(Comparison::Equal, left, right) if is_type(left) => Some(vec![exact(right)?]),
        Op::Compare(Comparison::Equal, left, right) if is_type(right) => Some(vec![exact(left)?]),
        Op::Relate(Relation::In, left, right) if is_type(left) => match &**right {
            Op::List(items) => items.iter().map(exact).collect(),
            _ => None,
        },
        Op::Test(test, left, right) if is_type(left) => match &**right {
            Op::Text(name) if test.kind == TextRelation::Equals && test.wanted => {
                Some(vec![match test.letter_case {
                    LetterCase::Distinct => EventType::Exact(name.clone()),
                    LetterCase::Ignored => EventType::Folded(lower(name).as_ref().into()),
                }])
            }
            _ => None,
        },
        _ => None,
    }
}

impl EventQuery {
    /// The event types that can match, ascending; `None` if any can.
    pub(super) fn event_types(&self) -> Option<Vec<EventType>> {
        let mut types = self.of_each_filter(event_types)?.concat();
        types.sort_unstable();
        types.dedup();
        Some(types)
    }

    /// Paths of which an event that matches has one; `None` if it may have none.
    fn required_paths(&self) -> Option<Vec<&[Box<str>]>> {
        match &self.kind {
            QueryKind::Numbers(_, keys) if !is_timestamp(keys) => Some(vec![&keys[..]]),
            _ => self.of_each_filter(required_path),
        }
    }

    /// What `ask` finds in the filter, or in that of each step of a chain.
    fn of_each_filter<'q, T>(&'q self, ask: impl Fn(&'q Op) -> Option<T>) -> Option<Vec<T>> {
        match self.steps() {
            [] => Some(vec![ask(&self.filter)?]),
            steps => steps.iter().map(|step| ask(&step.filter)).collect(),
        }
    }
}

/// The path without which `filter` cannot hold; the longest, where there are several.
fn required_path(filter: &Op) -> Option<&[Box<str>]> {
    match filter {
        Op::And(all) => all.iter().filter_map(required_path).max_by_key(|keys| keys.len()),
        Op::Compare(_, left, right) => path_of(left).or_else(|| path_of(right)),
        Op::Relate(_, subject, _)
        | Op::Test(_, subject, _)
        | Op::Matches(_, subject)
        | Op::Present(subject)
        | Op::Quantified(Quantifier::Exists, subject, _) => path_of(subject),
        Op::Occurs(_, operands) => path_of(operands.first()?),
        _ => None,
    }
}

fn path_of(op: &Op) -> Option<&[Box<str>]> {
    match op {
        Op::Frame(0, keys) if !keys.is_empty() && !is_timestamp(keys) => Some(keys),
        _ => None,
    }
}

/// Whether a path of an event is its time, which is there in any case.
fn is_timestamp(keys: &[Box<str>]) -> bool {
    keys.first().is_some_and(|key| &**key == "timestamp")
}

type ByText<T> = HashMap<Box<str>, T, foldhash::fast::FixedState>;

/// Queries by what an event must have to match them.
#[derive(Debug, Default)]
pub(super) struct EventIndex {
    /// Queries that any event may match.
    unbound: Vec<QueryId>,
    exact: ByText<Vec<QueryId>>,
    folded: ByText<Vec<QueryId>>,
    by_path: PathTree,
}

/// Queries by a path that they require.
#[derive(Debug, Default)]
struct PathTree {
    here: Vec<QueryId>,
    below: ByText<PathTree>,
}

impl EventIndex {
    pub(super) fn insert(&mut self, id: QueryId, query: &EventQuery) {
        if let Some(types) = query.event_types() {
            for event_type in types {
                let ids = match event_type {
                    EventType::Exact(name) => self.exact.entry(name).or_default(),
                    EventType::Folded(name) => self.folded.entry(name).or_default(),
                };
                ids.push(id);
            }
        } else if let Some(paths) = query.required_paths() {
            for keys in paths {
                self.by_path.insert(keys, id);
            }
        } else {
            self.unbound.push(id);
        }
    }

    /// Appends the queries that such an event may match, ascending.
    pub(super) fn candidates(
        &self,
        event_type: Option<&str>,
        body: Value<'_>,
        out: &mut Vec<QueryId>,
    ) {
        out.extend_from_slice(&self.unbound);
        let before = out.len();
        if let Some(event_type) = event_type {
            out.extend(self.exact.get(event_type).into_iter().flatten());
            if !self.folded.is_empty() {
                out.extend(self.folded.get(lower(event_type).as_ref()).into_iter().flatten());
            }
        }
        self.by_path.collect(body, out);
        if out.len() > before {
            out.sort_unstable();
            out.dedup();
        }
    }
}

impl PathTree {
    fn insert(&mut self, keys: &[Box<str>], id: QueryId) {
        match keys.split_first() {
            None => self.here.push(id),
            Some((key, rest)) => self.below.entry(key.clone()).or_default().insert(rest, id),
        }
    }

    /// The queries at paths that lead somewhere in `value`, arrays crossed as paths cross them.
    fn collect(&self, value: Value<'_>, out: &mut Vec<QueryId>) {
        if self.below.is_empty() {
            return;
        }
        match value.kind() {
            Kind::Object => {
                for (key, member) in value.entries() {
                    if let Some(below) = self.below.get(&*key) {
                        out.extend_from_slice(&below.here);
                        below.collect(member, out);
                    }
                }
            }
            Kind::Array => value.items().for_each(|item| self.collect(item, out)),
            _ => {}
        }
    }
}
