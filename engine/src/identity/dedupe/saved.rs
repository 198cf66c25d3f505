//! Remembered events in a checkpoint: oldest first, some thousands a block.
//!
//! An event of a profile that was erased is left out: it is nobody's, its `_id` was the erased
//! person's, and no look-up would ever find it.

use super::super::graph::Graph;
use super::{Applied, Dedupe, EventKey, ProfileId, Timestamp};

/// An event that was applied: when, to which profile, its `_id`.
pub type AppliedEvent = (Timestamp, ProfileId, Box<str>);

impl Dedupe {
    /// All that is remembered of profiles that there still are, oldest first.
    pub fn save<'a>(
        &'a self,
        graph: &'a Graph,
    ) -> impl Iterator<Item = (Timestamp, ProfileId, &'a str)> {
        let is_somebodys = |applied: &&Applied| graph.has(graph.current(applied.profile));
        let remembered = self.applied.iter().filter(is_somebodys);
        remembered.map(|applied| (applied.at, applied.profile, applied.id.as_str()))
    }

    /// What was saved, oldest first.
    pub fn restore(events: Vec<Vec<AppliedEvent>>) -> Self {
        let mut dedupe = Self::default();
        let count = events.iter().map(Vec::len).sum();
        dedupe.applied.reserve(count);
        for (at, profile, id) in events.into_iter().flatten() {
            dedupe.insert(EventKey::of(&id), profile, at);
        }
        dedupe
    }
}
