//! Events seen before: an `_id` applied to one of the record's profiles not long ago (`SPEC.md` §2).
//!
//! What is remembered is exact (no fingerprints: a collision would lose an event) and is forgotten
//! as soon as it is older than the window, which the clock, never going back, makes a queue.

mod saved;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use smallvec::SmallVec;

pub use saved::AppliedEvent;

use super::ProfileId;
use super::graph::Graph;
use crate::clock::Timestamp;

type Applied = SmallVec<[(ProfileId, Timestamp); 1]>;

/// The events applied within the window before now.
#[derive(Clone, Debug, Default)]
pub struct Dedupe {
    applied: HashMap<Arc<str>, Applied, FixedState>,
    by_age: VecDeque<(Timestamp, Arc<str>)>,
}

impl Dedupe {
    /// Whether the event `id` was applied to one of `profiles` at most `window_ms` before `now`.
    /// `graph` tells where profiles that have been absorbed since are now.
    pub fn contains(
        &self,
        id: &str,
        profiles: &[ProfileId],
        graph: &Graph,
        now: Timestamp,
        window_ms: i64,
    ) -> bool {
        let Some(applied) = self.applied.get(id) else { return false };
        applied.iter().any(|(profile, at)| {
            now <= at.plus_millis(window_ms) && profiles.contains(&graph.current(*profile))
        })
    }

    /// Remembers that the event `id` was applied to `profile` at `now`.
    pub fn insert(&mut self, id: &str, profile: ProfileId, now: Timestamp) {
        let id: Arc<str> = match self.applied.get_key_value(id) {
            Some((known, _)) => Arc::clone(known),
            None => id.into(),
        };
        self.applied.entry(Arc::clone(&id)).or_default().push((profile, now));
        self.by_age.push_back((now, id));
    }

    /// Forgets what lies more than `window_ms` before `now`.
    pub fn expire(&mut self, now: Timestamp, window_ms: i64) {
        while let Some((at, _)) = self.by_age.front() {
            if now <= at.plus_millis(window_ms) {
                break;
            }
            let (at, id) = self.by_age.pop_front().expect("there is a front");
            if let Some(applied) = self.applied.get_mut(&id) {
                applied.retain(|(_, then)| *then > at);
                if applied.is_empty() {
                    self.applied.remove(&id);
                }
            }
        }
    }

    /// How many applications are remembered.
    pub fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.by_age.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::IdentityGraph;

    #[test]
    fn an_event_counts_once_a_profile_within_the_window() {
        let graph = Graph::new(IdentityGraph::Pdg);
        let at = Timestamp::from_millis;
        let (p, q) = (ProfileId::from_offset(1), ProfileId::from_offset(2));
        let mut dedupe = Dedupe::default();
        dedupe.insert("e", p, at(1_000));
        // (what it shows, profiles, now, seen before)
        let cases = [
            ("the same profile at once", &[p][..], 1_000, true),
            ("the window includes its end", &[q, p], 1_100, true),
            ("and nothing after", &[p], 1_101, false),
            ("another profile", &[q], 1_000, false),
            ("no profile", &[], 1_000, false),
        ];
        for (name, profiles, now, expected) in cases {
            assert_eq!(dedupe.contains("e", profiles, &graph, at(now), 100), expected, "{name}");
        }
        dedupe.insert("e", p, at(1_200));
        dedupe.expire(at(1_150), 100);
        assert_eq!(dedupe.len(), 1);
        assert!(dedupe.contains("e", &[p], &graph, at(1_300), 100));
        dedupe.expire(at(1_301), 100);
        assert!(dedupe.is_empty() && dedupe.applied.is_empty());
    }
}
