//! What a profile's events left of one query.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::datum::Datum;
use super::event_filter::{holds_for_event, numbers_of_event};
use super::facts::Event;
use super::machine::aggregated;
use super::marks::{Mark, chain_truth, trim_marks};
use super::op::{Aggregate, Keys};
use super::query::{EventQuery, QueryKind};
use super::sum::Sum;

/// What a profile's events left of one event query: as little as its value at any later instant
/// needs.
///
/// Instants are in milliseconds since the epoch. What is kept for each event is sorted by time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueryState {
    /// How many events matched; no window.
    Count(u64),
    /// The sum of the matching numbers, and how many they are; no window.
    Sum(Sum, u64),
    /// The least or the greatest number; no window.
    Extreme(Option<f64>),
    /// When events matched.
    Times(Vec<i64>),
    /// When numbers matched, and which.
    Numbers(Vec<(i64, f64)>),
    /// The events themselves.
    Events(Vec<KeptEvent>),
    /// The events that match some step of a chain.
    Chain(Vec<Mark>),
    /// A chain without windows that holds, and will for good.
    Complete,
}

/// An event that is kept whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptEvent {
    /// When it happened.
    pub timestamp: i64,
    /// Its place in the log.
    pub offset: u64,
    /// Its JSON text.
    pub body: Box<str>,
}

impl QueryState {
    /// The state before any event.
    pub fn new(query: &EventQuery) -> Self {
        match (&query.kind, query.windows.is_empty()) {
            (QueryKind::Count, true) => Self::Count(0),
            (QueryKind::Count, false) => Self::Times(Vec::new()),
            (QueryKind::Numbers(Aggregate::Sum | Aggregate::Average, _), true) => {
                Self::Sum(Sum::default(), 0)
            }
            (QueryKind::Numbers(..), true) => Self::Extreme(None),
            (QueryKind::Numbers(..), false) => Self::Numbers(Vec::new()),
            (QueryKind::Events, _) => Self::Events(Vec::new()),
            (QueryKind::Chain(_), _) => Self::Chain(Vec::new()),
        }
    }

    /// Takes one event in; whether it counted, so that rules reading the query may have changed.
    pub fn observe(&mut self, query: &EventQuery, event: &Event<'_>) -> bool {
        if let QueryKind::Chain(_) = query.kind {
            return self.observe_chain(query, event);
        }
        if !holds_for_event(&query.filter, event, &query.zone) {
            return false;
        }
        let at = event.timestamp.as_millis();
        match (self, &query.kind) {
            (Self::Count(count), _) => *count += 1,
            (Self::Times(times), _) => insert_sorted(times, at, i64::cmp),
            (Self::Events(events), _) => {
                let body = event.body.raw().into();
                let kept = KeptEvent { timestamp: at, offset: event.offset, body };
                insert_sorted(events, kept, Ord::cmp);
            }
            (state, QueryKind::Numbers(aggregate, keys)) => {
                return state.observe_numbers(*aggregate, keys, event);
            }
            _ => return false,
        }
        true
    }

    fn observe_numbers(&mut self, aggregate: Aggregate, keys: &Keys, event: &Event<'_>) -> bool {
        let at = event.timestamp.as_millis();
        let mut counted = false;
        numbers_of_event(keys, event, &mut |number| {
            counted = true;
            match self {
                Self::Sum(sum, count) => {
                    sum.add(number);
                    *count += 1;
                }
                Self::Extreme(extreme) => *extreme = further(aggregate, *extreme, Some(number)),
                Self::Numbers(numbers) => insert_sorted(numbers, (at, number), by_time),
                _ => {}
            }
        });
        counted
    }

    fn observe_chain(&mut self, query: &EventQuery, event: &Event<'_>) -> bool {
        let (Self::Chain(marks), QueryKind::Chain(steps)) = (&mut *self, &query.kind) else {
            return false;
        };
        let mut matched = 0;
        for (index, step) in steps.iter().enumerate() {
            if holds_for_event(&step.filter, event, &query.zone) {
                matched |= 1 << index;
            }
        }
        if matched == 0 {
            return false;
        }
        let mark =
            Mark { timestamp: event.timestamp.as_millis(), offset: event.offset, steps: matched };
        insert_sorted(marks, mark, Ord::cmp);
        self.settle_chain(query);
        true
    }

    /// Without windows a chain that holds does so for good.
    fn settle_chain(&mut self, query: &EventQuery) {
        let (Self::Chain(marks), QueryKind::Chain(steps)) = (&mut *self, &query.kind) else {
            return;
        };
        if !query.is_windowed() && chain_truth(marks, steps, query.now(Timestamp::EPOCH)).holds {
            *self = Self::Complete;
        }
    }

    /// Unites the histories of two profiles, which have no event in common.
    pub fn merge(&mut self, query: &EventQuery, other: Self) {
        match (&mut *self, other) {
            (Self::Complete, _) => {}
            (_, Self::Complete) => *self = Self::Complete,
            (Self::Count(count), Self::Count(more)) => *count += more,
            (Self::Sum(sum, count), Self::Sum(other, more)) => {
                sum.join(&other);
                *count += more;
            }
            (Self::Extreme(extreme), Self::Extreme(other)) => {
                if let QueryKind::Numbers(aggregate, _) = query.kind {
                    *extreme = further(aggregate, *extreme, other);
                }
            }
            (Self::Times(times), Self::Times(more)) => unite(times, more, i64::cmp),
            (Self::Numbers(numbers), Self::Numbers(more)) => unite(numbers, more, by_time),
            (Self::Events(events), Self::Events(more)) => unite(events, more, Ord::cmp),
            (Self::Chain(marks), Self::Chain(more)) => {
                unite(marks, more, Ord::cmp);
                self.settle_chain(query);
            }
            // States of one query have one kind.
            _ => {}
        }
    }

    /// Drops what can never count again once the clock has reached `now`.
    pub fn trim(&mut self, query: &EventQuery, now: Timestamp) {
        let is_over = |at: i64| query.truth(Timestamp::from_millis(at), now).is_over();
        match self {
            Self::Times(times) => times.retain(|at| !is_over(*at)),
            Self::Numbers(numbers) => numbers.retain(|(at, _)| !is_over(*at)),
            Self::Events(events) if !query.windows.is_empty() => {
                events.retain(|event| !is_over(event.timestamp));
            }
            Self::Chain(marks) => {
                if let QueryKind::Chain(steps) = &query.kind {
                    trim_marks(marks, steps, query.now(now));
                }
            }
            _ => {}
        }
    }

    /// Whether nothing is kept, so that the state can be dropped.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Count(count) | Self::Sum(_, count) => *count == 0,
            Self::Extreme(extreme) => extreme.is_none(),
            Self::Times(times) => times.is_empty(),
            Self::Numbers(numbers) => numbers.is_empty(),
            Self::Events(events) => events.is_empty(),
            Self::Chain(marks) => marks.is_empty(),
            Self::Complete => false,
        }
    }
}

impl EventQuery {
    /// What the query gives for a profile with this state, and when the clock may change it.
    pub(super) fn result(
        &self,
        state: Option<&QueryState>,
        at: Timestamp,
    ) -> (Datum<'static>, Timestamp) {
        match (&self.kind, state) {
            (QueryKind::Chain(steps), Some(QueryState::Chain(marks))) => {
                let truth = chain_truth(marks, steps, self.now(at));
                (Datum::Bool(truth.holds), truth.changes_at)
            }
            (QueryKind::Chain(_), state) => {
                (Datum::Bool(matches!(state, Some(QueryState::Complete))), Timestamp::MAX)
            }
            (QueryKind::Count, Some(QueryState::Count(count))) => {
                (Datum::Number(*count as f64), Timestamp::MAX)
            }
            (QueryKind::Count, Some(QueryState::Times(times))) => self.count(times, at),
            (QueryKind::Count, _) => (Datum::Number(0.0), Timestamp::MAX),
            (QueryKind::Numbers(aggregate, _), state) => {
                let (value, changes_at) = self.numbers(*aggregate, state, at);
                (value.map_or(Datum::Missing, Datum::number), changes_at)
            }
            (QueryKind::Events, _) => (Datum::Missing, Timestamp::MAX),
        }
    }

    fn count(&self, times: &[i64], at: Timestamp) -> (Datum<'static>, Timestamp) {
        if let Some((counted, changes_at)) = self.sliding(times, |time| *time, at) {
            return (Datum::Number(counted.len() as f64), changes_at);
        }
        let (counted, changes_at) = self.scanned(times, |time| *time, at);
        (Datum::Number(counted.len() as f64), changes_at)
    }

    fn numbers(
        &self,
        aggregate: Aggregate,
        state: Option<&QueryState>,
        at: Timestamp,
    ) -> (Option<f64>, Timestamp) {
        match state {
            Some(QueryState::Sum(sum, _)) if aggregate == Aggregate::Sum => {
                (Some(sum.value()), Timestamp::MAX)
            }
            Some(QueryState::Sum(sum, count)) => {
                ((*count > 0).then(|| sum.quotient(*count)), Timestamp::MAX)
            }
            Some(QueryState::Extreme(extreme)) => (*extreme, Timestamp::MAX),
            Some(QueryState::Numbers(numbers)) => {
                let time = |(time, _): &(i64, f64)| *time;
                if let Some((counted, changes_at)) = self.sliding(numbers, time, at) {
                    let counted = counted.iter().map(|(_, number)| *number);
                    return (aggregated(aggregate, counted), changes_at);
                }
                let (counted, changes_at) = self.scanned(numbers, time, at);
                let counted = counted.into_iter().map(|(_, number)| *number);
                (aggregated(aggregate, counted), changes_at)
            }
            _ => (aggregated(aggregate, std::iter::empty()), Timestamp::MAX),
        }
    }

    /// What counts now of a window that slides with the clock, and when that changes: it lies
    /// together, since `kept` is sorted by time. `None` for other windows.
    fn sliding<'k, T>(
        &self,
        kept: &'k [T],
        time: fn(&T) -> i64,
        at: Timestamp,
    ) -> Option<(&'k [T], Timestamp)> {
        let [when] = self.windows.as_slice() else { return None };
        let (youngest, oldest) = when.ages()?;
        let now = at.as_millis();
        let from = kept.partition_point(|item| time(item) < now.saturating_sub(oldest));
        let to = kept.partition_point(|item| time(item) <= now.saturating_sub(youngest));
        let counted = &kept[from.min(to)..to];
        let leaves = counted.first().filter(|_| oldest != i64::MAX);
        let leaves = leaves.map(|item| time(item).saturating_add(oldest).saturating_add(1));
        let enters = kept.get(to).map(|item| time(item).saturating_add(youngest));
        let next = leaves.into_iter().chain(enters).min().unwrap_or(i64::MAX);
        Some((counted, Timestamp::from_millis(next)))
    }

    /// Those of `kept` that count now, and when that may change.
    fn scanned<'k, T>(
        &self,
        kept: &'k [T],
        time: fn(&T) -> i64,
        at: Timestamp,
    ) -> (Vec<&'k T>, Timestamp) {
        let mut changes_at = Timestamp::MAX;
        let mut counted = Vec::new();
        for item in kept {
            let truth = self.truth(Timestamp::from_millis(time(item)), at);
            changes_at = changes_at.min(truth.changes_at);
            if truth.holds {
                counted.push(item);
            }
        }
        (counted, changes_at)
    }
}

/// The lesser or the greater of two.
fn further(aggregate: Aggregate, one: Option<f64>, other: Option<f64>) -> Option<f64> {
    aggregated(aggregate, one.into_iter().chain(other))
}

fn by_time(a: &(i64, f64), b: &(i64, f64)) -> std::cmp::Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

/// Puts `item` in its place; events mostly come in order, so that is mostly the end.
fn insert_sorted<T>(items: &mut Vec<T>, item: T, order: fn(&T, &T) -> std::cmp::Ordering) {
    let is_last = items.last().is_none_or(|last| order(last, &item).is_le());
    let at = if is_last { items.len() } else { items.partition_point(|i| order(i, &item).is_le()) };
    items.insert(at, item);
}

/// Puts all of `more` in its place.
fn unite<T>(items: &mut Vec<T>, more: Vec<T>, order: fn(&T, &T) -> std::cmp::Ordering) {
    items.extend(more);
    items.sort_by(order);
}
