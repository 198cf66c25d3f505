//! The event queries of all rules, each once.

use hashbrown::HashMap;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::json;

use super::event_filter::holds_for_event;
use super::event_index::EventIndex;
use super::facts::Event;
use super::gate::Gate;
use super::op::{Aggregate, Keys, Op};
use super::window::{Now, Truth};

/// An event query in a [`QuerySet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// A condition on the event alone; it holds for every event that can ever count.
    pub(super) filter: Op,
    /// When it counts.
    pub(super) gate: Gate,
    /// Conditions on the event alone, of which the gates ask, numbered from 0; of a chain from the
    /// number of its steps on.
    pub(super) flags: Vec<Op>,
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
    pub(super) gate: Gate,
    pub(super) count: i64,
}

impl EventQuery {
    /// The canonical form; two queries with one key are one query, in this process and the next.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Whether the result can change by the clock alone.
    pub fn is_windowed(&self) -> bool {
        self.gates().any(|gate| !gate.is_open())
    }

    /// Whether the events themselves are kept, because a rule asks more of them than any other kind
    /// of query remembers.
    pub fn keeps_events(&self) -> bool {
        matches!(self.kind, QueryKind::Events)
    }

    /// Whether the time zone matters.
    pub(super) fn is_calendar(&self) -> bool {
        let filters = self.steps().iter().map(|step| &step.filter);
        let mut is_calendar =
            filters.chain(&self.flags).chain([&self.filter]).any(|op| op.needs(0).calendar);
        self.gates().for_each(|gate| gate.visit(&mut |when| is_calendar |= when.is_calendar()));
        is_calendar
    }

    /// The steps of a chain.
    pub(super) fn steps(&self) -> &[ChainStep] {
        match &self.kind {
            QueryKind::Chain(steps) => steps,
            _ => &[],
        }
    }

    /// Its gate, and those of its steps.
    pub(super) fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.steps().iter().map(|step| &step.gate).chain([&self.gate])
    }

    /// The flags of an event, from flag `first` on.
    pub(super) fn flags_of(&self, event: &Event<'_>, first: usize) -> u64 {
        let held = self.flags.iter().map(|flag| holds_for_event(flag, event, &self.zone));
        (first..).zip(held).fold(0, |flags, (at, holds)| flags | u64::from(holds) << at)
    }

    /// Whether an event of that time, with these flags, counts, and until when.
    pub(super) fn truth(&self, (ts, flags): (i64, u64), at: Timestamp) -> Truth {
        self.gate.truth((Timestamp::from_millis(ts), flags), self.now(at))
    }

    /// The clock and the zone of this query.
    pub(super) fn now(&self, at: Timestamp) -> Now<'_> {
        Now { at, zone: &self.zone }
    }
}

/// All event queries of all rules; it only grows.
#[derive(Debug, Default)]
pub struct QuerySet {
    queries: Vec<EventQuery>,
    by_key: HashMap<String, QueryId, foldhash::fast::FixedState>,
    by_event: EventIndex,
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

    /// Whether all queries of `other` are in this set too.
    pub fn has_all_of(&self, other: &Self) -> bool {
        other.by_key.keys().all(|key| self.by_key.contains_key(key))
    }

    /// The canonical forms of all queries, by number.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.queries.iter().map(EventQuery::key)
    }

    /// The query of this canonical form, if it is in the set.
    pub fn find(&self, key: &str) -> Option<QueryId> {
        self.by_key.get(key).copied()
    }

    /// The query called `id`.
    pub fn get(&self, id: QueryId) -> &EventQuery {
        &self.queries[id.as_usize()]
    }

    /// Puts the queries that an event may match into `out`, which is cleared first, ascending. The
    /// cost does not depend on the queries that only match other types, or events with other fields.
    ///
    /// `event_type` is the `eventType` of `body`, if that is a string.
    pub fn candidates(
        &self,
        event_type: Option<&str>,
        body: json::Value<'_>,
        out: &mut Vec<QueryId>,
    ) {
        out.clear();
        self.by_event.candidates(event_type, body, out);
    }

    /// The id of `query`, which is added unless one of the same key is there.
    pub(super) fn intern(&mut self, query: EventQuery) -> QueryId {
        if let Some(id) = self.by_key.get(&query.key) {
            return *id;
        }
        let id = QueryId(u32::try_from(self.queries.len()).expect("fewer than 2^32 queries"));
        self.by_event.insert(id, &query);
        self.by_key.insert(query.key.clone(), id);
        self.queries.push(query);
        id
    }
}
