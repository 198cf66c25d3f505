//! The event queries of all rules, each once.

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

use super::ast::Comparison;
use super::ast::Relation;
use super::datum::lower;
use super::op::{Aggregate, Keys, LetterCase, Op, TextRelation};
use super::window::{Now, Truth, When};

/// An event query in a [`QuerySet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(u32);

impl QueryId {
    /// The id as an index.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What is asked of a profile's events: which of them count, when, and what is made of them.
#[derive(Debug)]
pub struct EventQuery {
    pub(super) key: String,
    /// The condition as its first rule wrote it, for people.
    pub(super) text: String,
    /// A condition on the event alone.
    pub(super) filter: Op,
    /// When it counts; all of them hold.
    pub(super) windows: Vec<When>,
    pub(super) kind: QueryKind,
    pub(super) zone: TimeZone,
}

/// What is made of the events that count.
#[derive(Clone, Debug)]
pub(super) enum QueryKind {
    Count,
    Numbers(Aggregate, Keys),
    /// The events themselves, for what fits no other kind.
    Events,
    Chain(Vec<ChainStep>),
}

/// One step of a chain whose conditions need nothing but the event and the clock.
#[derive(Clone, Debug)]
pub(super) struct ChainStep {
    pub(super) filter: Op,
    pub(super) windows: Vec<When>,
    pub(super) count: i64,
}

impl EventQuery {
    /// The canonical form; two queries with one key are one query, in this process and the next.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the result can change by the clock alone.
    pub fn is_windowed(&self) -> bool {
        let chained = match &self.kind {
            QueryKind::Chain(steps) => steps.iter().any(|step| !step.windows.is_empty()),
            _ => false,
        };
        chained || !self.windows.is_empty()
    }

    /// Whether the time zone matters.
    pub(super) fn is_calendar(&self) -> bool {
        let steps = match &self.kind {
            QueryKind::Chain(steps) => steps.as_slice(),
            _ => &[],
        };
        let filters = steps.iter().map(|step| &step.filter).chain([&self.filter]);
        let windows = steps.iter().flat_map(|step| &step.windows).chain(&self.windows);
        filters.into_iter().any(|op| op.needs(0).calendar)
            || windows.into_iter().any(When::is_calendar)
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let kind = match &self.kind {
            QueryKind::Count => "count of events".to_owned(),
            QueryKind::Numbers(aggregate, keys) => {
                format!("{} of {}", format!("{aggregate:?}").to_lowercase(), keys.join("."))
            }
            QueryKind::Events => "events, kept whole".to_owned(),
            QueryKind::Chain(steps) => format!("chain of {} steps", steps.len()),
        };
        let window = if self.is_windowed() { "in a window" } else { "no window" };
        let types = match self.event_types() {
            None => "any event type".to_owned(),
            Some(types) => {
                let mut names: Vec<&str> = types
                    .iter()
                    .map(|(EventType::Exact(name) | EventType::Folded(name))| &**name)
                    .collect();
                names.sort_unstable();
                names.dedup();
                format!("event types {}", names.join(", "))
            }
        };
        format!("{kind} ({types}; {window}): {}", self.text)
    }

    /// Whether an event of that time counts, and until when.
    pub(super) fn truth(&self, ts: Timestamp, at: Timestamp) -> Truth {
        all_hold(&self.windows, ts, Now { at, zone: &self.zone })
    }

    /// The event types that can match; `None` if any can.
    fn event_types(&self) -> Option<Vec<EventType>> {
        match &self.kind {
            QueryKind::Chain(steps) => {
                let each = steps.iter().map(|step| event_types(&step.filter));
                Some(each.collect::<Option<Vec<_>>>()?.concat())
            }
            _ => event_types(&self.filter),
        }
    }
}

/// Whether all windows hold for an event of that time.
pub(super) fn all_hold(windows: &[When], ts: Timestamp, now: Now<'_>) -> Truth {
    windows.iter().fold(Truth::always(true), |all, when| all.and(when.truth(ts, now)))
}

/// An event type that a filter asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum EventType {
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

type Index = HashMap<Box<str>, Vec<QueryId>, foldhash::fast::FixedState>;

/// All event queries of all rules; it only grows.
#[derive(Debug, Default)]
pub struct QuerySet {
    queries: Vec<EventQuery>,
    by_key: HashMap<String, QueryId, foldhash::fast::FixedState>,
    /// Queries that any event may match.
    unbound: Vec<QueryId>,
    exact: Index,
    folded: Index,
}

impl QuerySet {
    /// A set without queries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The query called `id`.
    pub fn get(&self, id: QueryId) -> &EventQuery {
        &self.queries[id.as_usize()]
    }

    /// Puts the queries that an event of this type may match into `out`, which is cleared first,
    /// ascending. The cost does not depend on the queries that only match other types.
    ///
    /// An `eventType` that is no string is `None`.
    pub fn candidates(&self, event_type: Option<&str>, out: &mut Vec<QueryId>) {
        out.clear();
        out.extend_from_slice(&self.unbound);
        let Some(event_type) = event_type else { return };
        let before = out.len();
        out.extend(self.exact.get(event_type).into_iter().flatten());
        if !self.folded.is_empty() {
            out.extend(self.folded.get(lower(event_type).as_ref()).into_iter().flatten());
        }
        if out.len() > before {
            out.sort_unstable();
            out.dedup();
        }
    }

    /// The id of `query`, which is added unless one of the same key is there.
    pub(super) fn intern(&mut self, query: EventQuery) -> QueryId {
        if let Some(id) = self.by_key.get(&query.key) {
            return *id;
        }
        let id = QueryId(u32::try_from(self.queries.len()).expect("fewer than 2^32 queries"));
        match query.event_types() {
            None => self.unbound.push(id),
            Some(types) => types.into_iter().for_each(|event_type| {
                let ids = match event_type {
                    EventType::Exact(name) => self.exact.entry(name).or_default(),
                    EventType::Folded(name) => self.folded.entry(name).or_default(),
                };
                if ids.last() != Some(&id) {
                    ids.push(id);
                }
            }),
        }
        self.by_key.insert(query.key.clone(), id);
        self.queries.push(query);
        id
    }
}
