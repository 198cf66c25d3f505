//! What a profile's events left of one query.

use std::cmp::Ordering;
use std::ops::DerefMut;

use serde::{Deserialize, Serialize};
use smallvec::{Array, SmallVec};

use crate::clock::Timestamp;

use super::datum::Datum;
use super::event_filter::{holds_for_event, numbers_of_event};
use super::facts::Event;
use super::machine::aggregated;
use super::marks::{Mark, chain_truth, trim_marks};
use super::op::Aggregate;
use super::query::{EventQuery, QueryKind};
use super::sum::Sum;

/// What a profile's events left of one event query: as little as its value at any later instant
/// needs.
///
/// Instants are in milliseconds since the epoch. What is kept for each event is sorted by time. What
/// a window will never let go of again is not kept for each event, but settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QueryState {
    /// How many events matched; no window.
    Count(u64),
    /// The sum of the matching numbers, and how many they are; no window.
    Sum(Sum, u64),
    /// The least or the greatest number; no window.
    Extreme(Option<f64>),
    /// How many events count for good, and when the others happened.
    Times(u64, SmallVec<[i64; TIMES_INLINE]>),
    /// What the numbers that count for good come to, and when the others happened, and which.
    Numbers(Box<QueryState>, SmallVec<[(i64, f64); 1]>),
    /// The same with flags, for a gate that is no single window.
    Flagged(Box<QueryState>, Flagged),
    /// The events themselves.
    Events(Vec<KeptEvent>),
    /// The events that match some step of a chain.
    Chain(Vec<Mark>),
    /// A chain without windows that holds, and will for good.
    Complete,
}

/// Times that need no memory of their own, in the room that a list of more takes here anyway. Most
/// windows of most profiles hold no more.
const TIMES_INLINE: usize = 2;

type Flagged = SmallVec<[FlaggedEvent; 1]>;

/// What is kept of an event whose flags matter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlaggedEvent {
    /// When it happened.
    pub timestamp: i64,
    /// Which of the query's conditions hold for it.
    pub flags: u64,
    /// The number that counts; 1 where events are counted.
    pub number: f64,
}

/// An event that is kept whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptEvent {
    /// When it happened.
    pub timestamp: i64,
    /// Its place in the log.
    pub offset: u64,
    /// Which of the query's conditions hold for it.
    pub flags: u64,
    /// Its JSON text.
    pub body: Box<str>,
}

impl QueryState {
    /// The state before any event.
    pub fn new(query: &EventQuery) -> Self {
        let settled = match query.kind {
            QueryKind::Events => return Self::Events(Vec::new()),
            QueryKind::Chain(_) => return Self::Chain(Vec::new()),
            QueryKind::Count => Self::Count(0),
            QueryKind::Numbers(Aggregate::Sum | Aggregate::Average, _) => {
                Self::Sum(Sum::default(), 0)
            }
            QueryKind::Numbers(..) => Self::Extreme(None),
        };
        match query.kind {
            _ if query.gate.is_open() => settled,
            _ if !query.flags.is_empty() => Self::Flagged(Box::new(settled), SmallVec::new()),
            QueryKind::Count => Self::Times(0, SmallVec::new()),
            _ => Self::Numbers(Box::new(settled), SmallVec::new()),
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
        let timestamp = event.timestamp.as_millis();
        let flags = query.flags_of(event, 0);
        match (self, &query.kind) {
            (Self::Events(events), _) => {
                let body = event.body.raw().into();
                let kept = KeptEvent { timestamp, offset: event.offset, flags, body };
                events.insert(place(events, &kept, Ord::cmp), kept);
                true
            }
            (state, QueryKind::Numbers(aggregate, keys)) => {
                let mut counted = false;
                numbers_of_event(keys, event, &mut |number| {
                    counted = true;
                    state.take(*aggregate, FlaggedEvent { timestamp, flags, number });
                });
                counted
            }
            (state, _) => {
                state.take(Aggregate::Sum, FlaggedEvent { timestamp, flags, number: 1.0 });
                true
            }
        }
    }

    /// Takes one number in, for good or for as long as the gate lets it.
    fn take(&mut self, aggregate: Aggregate, event: FlaggedEvent) {
        match self {
            Self::Times(_, times) => {
                times.insert(place(times, &event.timestamp, i64::cmp), event.timestamp);
            }
            Self::Numbers(_, numbers) => {
                let number = (event.timestamp, event.number);
                numbers.insert(place(numbers, &number, Counted::order), number);
            }
            Self::Flagged(_, events) => {
                events.insert(place(events, &event, Counted::order), event);
            }
            settled => settled.settle(aggregate, event.number),
        }
    }

    /// Counts one number for good.
    fn settle(&mut self, aggregate: Aggregate, number: f64) {
        match self {
            Self::Count(count) => *count += 1,
            Self::Sum(sum, count) => {
                sum.add(number);
                *count += 1;
            }
            Self::Extreme(extreme) => *extreme = further(aggregate, *extreme, Some(number)),
            _ => {}
        }
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
        matched |= query.flags_of(event, steps.len());
        let mark = Mark { timestamp: event.timestamp.as_millis(), offset: event.offset, matched };
        marks.insert(place(marks, &mark, Ord::cmp), mark);
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
            (Self::Times(count, times), Self::Times(more_count, more)) => {
                *count += more_count;
                unite(times, more, i64::cmp);
            }
            (Self::Numbers(settled, numbers), Self::Numbers(more_settled, more)) => {
                settled.merge(query, *more_settled);
                unite(numbers, more, Counted::order);
            }
            (Self::Flagged(settled, events), Self::Flagged(more_settled, more)) => {
                settled.merge(query, *more_settled);
                unite(events, more, Counted::order);
            }
            (Self::Events(events), Self::Events(more)) => unite(events, more, Ord::cmp),
            (Self::Chain(marks), Self::Chain(more)) => {
                unite(marks, more, Ord::cmp);
                self.settle_chain(query);
            }
            // States of one query have one kind.
            _ => {}
        }
    }

    /// Drops what can never count again once the clock has reached `now`, and settles what counts
    /// for good.
    pub fn trim(&mut self, query: &EventQuery, now: Timestamp) {
        let aggregate = match query.kind {
            QueryKind::Numbers(aggregate, _) => aggregate,
            _ => Aggregate::Sum,
        };
        match self {
            Self::Times(count, times) => query.trim(times, now, &mut |_| *count += 1),
            Self::Numbers(settled, numbers) => {
                query.trim(numbers, now, &mut |number| settled.settle(aggregate, number));
            }
            Self::Flagged(settled, events) => {
                query.trim(events, now, &mut |number| settled.settle(aggregate, number));
            }
            Self::Events(events) if !query.gate.is_open() => {
                events.retain(|e| !query.truth((e.timestamp, e.flags), now).is_over());
            }
            Self::Chain(marks) => trim_marks(marks, query.steps(), query.now(now)),
            _ => {}
        }
    }

    /// Whether nothing is kept, so that the state can be dropped.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Count(count) | Self::Sum(_, count) => *count == 0,
            Self::Extreme(extreme) => extreme.is_none(),
            Self::Times(count, times) => *count == 0 && times.is_empty(),
            Self::Numbers(settled, numbers) => settled.is_empty() && numbers.is_empty(),
            Self::Flagged(settled, events) => settled.is_empty() && events.is_empty(),
            Self::Events(events) => events.is_empty(),
            Self::Chain(marks) => marks.is_empty(),
            Self::Complete => false,
        }
    }
}

/// An event of a window, as each kind of query keeps it.
trait Counted {
    fn timestamp(&self) -> i64;
    fn flags(&self) -> u64;
    fn number(&self) -> f64;

    fn order(a: &Self, b: &Self) -> Ordering {
        let by_flags = a.timestamp().cmp(&b.timestamp()).then(a.flags().cmp(&b.flags()));
        by_flags.then(a.number().total_cmp(&b.number()))
    }
}

impl Counted for i64 {
    fn timestamp(&self) -> i64 {
        *self
    }
    fn flags(&self) -> u64 {
        0
    }
    fn number(&self) -> f64 {
        1.0
    }
}

impl Counted for (i64, f64) {
    fn timestamp(&self) -> i64 {
        self.0
    }
    fn flags(&self) -> u64 {
        0
    }
    fn number(&self) -> f64 {
        self.1
    }
}

impl Counted for FlaggedEvent {
    fn timestamp(&self) -> i64 {
        self.timestamp
    }
    fn flags(&self) -> u64 {
        self.flags
    }
    fn number(&self) -> f64 {
        self.number
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
            (QueryKind::Count, Some(QueryState::Times(count, times))) => {
                let (counted, changes_at) = self.counted(times, at);
                (Datum::Number((*count + counted.len() as u64) as f64), changes_at)
            }
            (QueryKind::Count, Some(QueryState::Flagged(settled, events))) => {
                let (counted, changes_at) = self.counted(events, at);
                let (before, _) = self.result(Some(settled), at);
                let Datum::Number(before) = before else { return (Datum::Missing, changes_at) };
                (Datum::Number(before + counted.len() as f64), changes_at)
            }
            (QueryKind::Count, _) => (Datum::Number(0.0), Timestamp::MAX),
            (QueryKind::Numbers(aggregate, _), state) => {
                let (value, changes_at) = self.numbers(*aggregate, state, at);
                (value.map_or(Datum::Missing, Datum::number), changes_at)
            }
            (QueryKind::Events, _) => (Datum::Missing, Timestamp::MAX),
        }
    }

    fn numbers(
        &self,
        aggregate: Aggregate,
        state: Option<&QueryState>,
        at: Timestamp,
    ) -> (Option<f64>, Timestamp) {
        match state {
            None => (aggregated(aggregate, std::iter::empty()), Timestamp::MAX),
            Some(QueryState::Numbers(settled, numbers)) => {
                let (counted, changes_at) = self.counted(numbers, at);
                (total(aggregate, settled, &counted), changes_at)
            }
            Some(QueryState::Flagged(settled, events)) => {
                let (counted, changes_at) = self.counted(events, at);
                (total(aggregate, settled, &counted), changes_at)
            }
            Some(settled) => (total::<i64>(aggregate, settled, &[]), Timestamp::MAX),
        }
    }

    /// Those of `kept` that count now, and when that may change.
    fn counted<'k, T: Counted>(&self, kept: &'k [T], at: Timestamp) -> (Vec<&'k T>, Timestamp) {
        if let Some((counted, changes_at)) = self.sliding(kept, at) {
            return (counted.iter().collect(), changes_at);
        }
        let mut changes_at = Timestamp::MAX;
        let mut counted = Vec::new();
        for item in kept {
            let truth = self.truth((item.timestamp(), item.flags()), at);
            changes_at = changes_at.min(truth.changes_at);
            if truth.holds {
                counted.push(item);
            }
        }
        (counted, changes_at)
    }

    /// What counts now of a window that slides with the clock, and when that changes: it lies
    /// together, since `kept` is sorted by time. `None` for other gates.
    fn sliding<'k, T: Counted>(
        &self,
        kept: &'k [T],
        at: Timestamp,
    ) -> Option<(&'k [T], Timestamp)> {
        let (youngest, oldest) = self.gate.ages()?;
        let now = at.as_millis();
        let from = kept.partition_point(|item| item.timestamp() < now.saturating_sub(oldest));
        let to = kept.partition_point(|item| item.timestamp() <= now.saturating_sub(youngest));
        let counted = &kept[from.min(to)..to];
        let leaves = counted.first().filter(|_| oldest != i64::MAX);
        let leaves = leaves.map(|item| item.timestamp().saturating_add(oldest).saturating_add(1));
        let enters = kept.get(to).map(|item| item.timestamp().saturating_add(youngest));
        let next = leaves.into_iter().chain(enters).min().unwrap_or(i64::MAX);
        Some((counted, Timestamp::from_millis(next)))
    }

    /// Drops what can never count again, and shows `settle` the numbers that count for good.
    fn trim<A>(&self, kept: &mut SmallVec<A>, at: Timestamp, settle: &mut dyn FnMut(f64))
    where
        A: Array<Item: Counted>,
    {
        if let Some((youngest, oldest)) = self.gate.ages() {
            let now = at.as_millis();
            let is_for_good = oldest == i64::MAX;
            let end = kept.partition_point(|item| {
                if is_for_good {
                    item.timestamp() <= now.saturating_sub(youngest)
                } else {
                    item.timestamp() < now.saturating_sub(oldest)
                }
            });
            for item in kept.drain(..end).filter(|_| is_for_good) {
                settle(item.number());
            }
            return;
        }
        kept.retain(|item| {
            let truth = self.truth((item.timestamp(), item.flags()), at);
            if truth.changes_at != Timestamp::MAX {
                return true;
            }
            if truth.holds {
                settle(item.number());
            }
            false
        });
    }
}

/// What is settled and what counts besides, together.
fn total<T: Counted>(aggregate: Aggregate, settled: &QueryState, counted: &[&T]) -> Option<f64> {
    let numbers = counted.iter().map(|item| item.number());
    match settled {
        QueryState::Extreme(extreme) => {
            aggregated(aggregate, extreme.iter().copied().chain(numbers))
        }
        QueryState::Sum(sum, count) => {
            let mut sum = sum.clone();
            numbers.for_each(|number| sum.add(number));
            let count = count + counted.len() as u64;
            match aggregate {
                Aggregate::Sum => Some(sum.value()),
                _ => (count > 0).then(|| sum.quotient(count)),
            }
        }
        _ => None,
    }
}

/// The lesser or the greater of two.
fn further(aggregate: Aggregate, one: Option<f64>, other: Option<f64>) -> Option<f64> {
    aggregated(aggregate, one.into_iter().chain(other))
}

/// The place of `item` in `items`; events mostly come in order, so that is mostly the end.
fn place<T>(items: &[T], item: &T, order: fn(&T, &T) -> Ordering) -> usize {
    let is_last = items.last().is_none_or(|last| order(last, item).is_le());
    if is_last { items.len() } else { items.partition_point(|i| order(i, item).is_le()) }
}

/// Puts all of `more` in its place.
fn unite<T>(
    items: &mut (impl Extend<T> + DerefMut<Target = [T]>),
    more: impl IntoIterator<Item = T>,
    order: fn(&T, &T) -> Ordering,
) {
    items.extend(more);
    items.sort_by(order);
}
