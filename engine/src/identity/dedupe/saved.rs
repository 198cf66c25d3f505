//! Remembered events in a checkpoint: oldest first, some thousands a block.
//!
//! An event of a profile that was erased is left out: it is nobody's, its `_id` was the erased
//! person's, and no look-up would ever find it.

use hashbrown::HashMap;

use super::{Dedupe, FixedState, Graph, ProfileId, Timestamp};

/// An event that was applied: when, to which profile, its `_id`.
pub type AppliedEvent = (Timestamp, ProfileId, Box<str>);

impl Dedupe {
    /// All that is remembered of profiles that there still are, oldest first.
    pub fn save<'a>(
        &'a self,
        graph: &'a Graph,
    ) -> impl Iterator<Item = (Timestamp, ProfileId, &'a str)> {
        // Of an event applied more than once, how many applications were told already.
        let mut told: HashMap<&str, usize, FixedState> = HashMap::default();
        self.by_age.iter().filter_map(move |(at, id)| {
            let applied = self.applied.get(&**id)?;
            let nth = if applied.len() == 1 {
                0
            } else {
                let told = told.entry(id).or_default();
                *told += 1;
                *told - 1
            };
            let (profile, _) = applied.get(nth)?;
            let is_somebody = !graph.members(graph.current(*profile)).is_empty();
            is_somebody.then_some((*at, *profile, &**id))
        })
    }

    /// What was saved, oldest first.
    pub fn restore(events: Vec<Vec<AppliedEvent>>) -> Self {
        let mut dedupe = Self::default();
        let count = events.iter().map(Vec::len).sum();
        dedupe.applied.reserve(count);
        dedupe.by_age.reserve(count);
        for (at, profile, id) in events.into_iter().flatten() {
            dedupe.insert(&id, profile, at);
        }
        dedupe
    }
}
