//! Remembered events in a checkpoint: oldest first, some thousands a block.
//!
//! They may be saved while others come: those are behind, and none is forgotten before it is saved.
//!
//! An event of a profile that was erased is left out: it is nobody's, its `_id` was the erased
//! person's, and no look-up would ever find it.

use std::ops::Range;

use super::super::graph::Graph;
use super::{Applied, Dedupe, EventKey, ProfileId, Timestamp};

/// An event that was applied: when, to which profile, its `_id`.
pub type AppliedEvent = (Timestamp, ProfileId, Box<str>);

impl Dedupe {
    /// The serial numbers of all that is remembered.
    pub fn serials(&self) -> Range<u64> {
        self.forgotten..self.forgotten + self.applied.len() as u64
    }

    /// Keeps the events from this serial number on from being forgotten, however old they become; all
    /// that are too old are forgotten when it is `None` again.
    pub fn hold_from(&mut self, serial: Option<u64>) {
        self.held_from = serial;
    }

    /// The events with these serial numbers, those of profiles that there still are, oldest first.
    pub fn save<'a>(
        &'a self,
        serials: Range<u64>,
        graph: &'a Graph,
    ) -> impl Iterator<Item = (Timestamp, ProfileId, &'a str)> {
        let is_somebodys = |applied: &&Applied| graph.has(graph.current(applied.profile));
        let remembered = serials.map(|serial| self.get(serial)).filter(is_somebodys);
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
