//! What a profile's events left of one query.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::facts::Event;
use super::query::EventQuery;

/// What a profile's events left of one event query: as little as its value at any later instant
/// needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryState {}

impl QueryState {
    /// The state before any event.
    pub fn new(_query: &EventQuery) -> Self {
        todo!()
    }

    /// Takes one event in; whether it counted, so that rules reading the query may have changed.
    pub fn observe(&mut self, _query: &EventQuery, _event: &Event<'_>) -> bool {
        todo!()
    }

    /// Unites the histories of two profiles, which have no event in common.
    pub fn merge(&mut self, _query: &EventQuery, _other: Self) {
        todo!()
    }

    /// Drops what can never count again once the clock has reached `now`.
    pub fn trim(&mut self, _query: &EventQuery, _now: Timestamp) {
        todo!()
    }

    /// Whether nothing is kept, so that the state can be dropped.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
}
