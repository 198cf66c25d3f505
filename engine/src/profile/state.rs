//! One profile as the fold keeps it: everything that rules, mappings and payloads read.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::identity::table::IdentityId;
use crate::pql::{Event, QueryId, QuerySet, QueryState};
use crate::profile::attributes::Attributes;
use crate::profile::membership::Memberships;

/// What is known of one customer under one merge policy.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// In the order first seen, which is the order of their numbers.
    pub identities: Vec<IdentityId>,
    /// Merged by the policy.
    pub attributes: Attributes,
    /// What the event queries of some rule remember of its events.
    pub history: History,
    /// In which audiences it is, or recently was.
    pub memberships: Memberships,
    /// The instant that its shard's timer is set to, at or before its next change by the clock.
    pub armed: Option<Timestamp>,
    /// The last cut that has it as it was when that began.
    pub kept_for: CutNo,
}

/// A cut of the projection: the first is 1. Nothing is kept for 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutNo(u32);

impl CutNo {
    /// The next cut.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// The events of one profile, as far as some rule needs them: one state a matched query.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History(Vec<(QueryId, QueryState)>);

impl Profile {
    /// Adds identities, keeping their order.
    pub fn join(&mut self, identities: &[IdentityId]) {
        self.identities.extend_from_slice(identities);
        self.identities.sort_unstable();
        self.identities.dedup();
    }

    /// Removes identities.
    pub fn leave(&mut self, identities: &[IdentityId]) {
        self.identities.retain(|identity| !identities.contains(identity));
    }
}

impl History {
    /// The state of a query; `None` if no event has matched it.
    pub fn get(&self, query: QueryId) -> Option<&QueryState> {
        self.position(query).ok().map(|at| &self.0[at].1)
    }

    /// Shows an event to one query at `now`, and drops what can never count again there. Whether the
    /// event matched.
    pub fn observe(
        &mut self,
        id: QueryId,
        queries: &QuerySet,
        (event, now): (&Event<'_>, Timestamp),
    ) -> bool {
        let query = queries.get(id);
        let (at, is_match) = match self.position(id) {
            Ok(at) => (at, self.0[at].1.observe(query, event)),
            Err(at) => {
                let mut state = QueryState::new(query);
                let is_match = state.observe(query, event);
                if is_match {
                    self.0.insert(at, (id, state));
                }
                (at, is_match)
            }
        };
        if is_match {
            self.0[at].1.trim(query, now);
        }
        is_match
    }

    /// The queries of which something is remembered.
    pub fn queries(&self) -> impl Iterator<Item = QueryId> {
        self.0.iter().map(|(id, _)| *id)
    }

    /// Drops what can never count again once the clock has reached `now`.
    pub fn trim(&mut self, queries: &QuerySet, now: Timestamp) {
        self.0.retain_mut(|(id, state)| {
            let query = queries.get(*id);
            if query.is_windowed() {
                state.trim(query, now);
            }
            !state.is_empty()
        });
    }

    /// Calls each query what `numbers` says, by its number so far; forgets it where that is nothing.
    pub fn renumber(&mut self, numbers: &[Option<QueryId>]) {
        let renumbered = std::mem::take(&mut self.0).into_iter().filter_map(|(query, state)| {
            let number = numbers.get(query.as_usize()).copied().flatten()?;
            Some((number, state))
        });
        self.0 = renumbered.collect();
        self.0.sort_unstable_by_key(|(query, _)| *query);
    }

    /// Unites the events of two profiles.
    pub fn merge(&mut self, other: Self, queries: &QuerySet) {
        for (id, state) in other.0 {
            match self.position(id) {
                Ok(at) => self.0[at].1.merge(queries.get(id), state),
                Err(at) => self.0.insert(at, (id, state)),
            }
        }
    }

    fn position(&self, query: QueryId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&query, |(id, _)| *id)
    }
}
