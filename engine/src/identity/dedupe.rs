//! Events seen before: an `_id` applied to one of the record's profiles not long ago (`SPEC.md` §2).
//!
//! What is remembered is exact (no fingerprints: a collision would lose an event) and is forgotten
//! as soon as it is older than the window, which the clock, never going back, makes a queue.

mod saved;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

pub use saved::AppliedEvent;

use super::ProfileId;
use super::short_text::ShortText;
use crate::clock::Timestamp;

/// The events applied within the window before now.
#[derive(Clone, Debug, Default)]
pub struct Dedupe {
    /// Oldest first.
    applied: VecDeque<Applied>,
    /// How many have been forgotten: the serial number of the oldest that is left.
    forgotten: u64,
    /// Serial numbers, by `_id`; several where an event was applied to several profiles.
    by_id: HashTable<u64>,
    /// From this serial number on none is forgotten.
    held_from: Option<u64>,
}

/// An event's `_id`, with its hash.
#[derive(Clone, Copy, Debug)]
pub struct EventKey<'a> {
    /// The `_id`.
    pub id: &'a str,
    /// What [`Dedupe::hash`] makes of it.
    pub hash: u64,
}

/// An event that was applied.
#[derive(Clone, Debug)]
struct Applied {
    at: Timestamp,
    profile: ProfileId,
    hash: u64,
    id: ShortText,
}

impl<'a> EventKey<'a> {
    /// The key of `id`.
    pub fn of(id: &'a str) -> Self {
        Self { id, hash: Dedupe::hash(id) }
    }
}

impl Dedupe {
    /// The hash of an event's `_id`.
    pub fn hash(id: &str) -> u64 {
        FixedState::default().hash_one(id)
    }

    /// Whether the event `key` was applied at most `window_ms` before `now` to a profile that `is_meant`.
    pub fn contains(
        &self,
        key: EventKey<'_>,
        (now, window_ms): (Timestamp, i64),
        is_meant: impl Fn(ProfileId) -> bool,
    ) -> bool {
        let same_hash = self.by_id.iter_hash(key.hash);
        same_hash.map(|serial| self.get(*serial)).any(|applied| {
            applied.id.as_bytes() == key.id.as_bytes()
                && now <= applied.at.plus_millis(window_ms)
                && is_meant(applied.profile)
        })
    }

    /// Remembers that the event `key` was applied to `profile` at `now`.
    pub fn insert(
        &mut self,
        EventKey { id, hash }: EventKey<'_>,
        profile: ProfileId,
        now: Timestamp,
    ) {
        let serial = self.forgotten + self.applied.len() as u64;
        self.applied.push_back(Applied { at: now, profile, hash, id: id.into() });
        let (applied, forgotten) = (&self.applied, self.forgotten);
        self.by_id.insert_unique(hash, serial, |serial| applied[place(*serial, forgotten)].hash);
    }

    /// Forgets what lies more than `window_ms` before `now`, but for what is held.
    pub fn expire(&mut self, now: Timestamp, window_ms: i64) {
        while let Some(oldest) = self.applied.front() {
            let is_held = self.held_from.is_some_and(|held| held <= self.forgotten);
            if is_held || now <= oldest.at.plus_millis(window_ms) {
                break;
            }
            let is_oldest = |serial: &u64| *serial == self.forgotten;
            let found = self.by_id.find_entry(oldest.hash, is_oldest);
            found.expect("what is remembered is found by its id").remove();
            self.applied.pop_front();
            self.forgotten += 1;
        }
    }

    /// How many applications are remembered.
    pub fn len(&self) -> usize {
        self.applied.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    fn get(&self, serial: u64) -> &Applied {
        &self.applied[place(serial, self.forgotten)]
    }
}

/// Where the application of this serial number lies.
fn place(serial: u64, forgotten: u64) -> usize {
    usize::try_from(serial - forgotten).expect("what is remembered is in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_once_a_profile_within_the_window() {
        let at = Timestamp::from_millis;
        let (p, q) = (ProfileId::from_offset(1), ProfileId::from_offset(2));
        let e = EventKey::of("e");
        let mut dedupe = Dedupe::default();
        dedupe.insert(e, p, at(1_000));
        // (what it shows, profiles, now, seen before)
        let cases = [
            ("the same profile at once", &[p][..], 1_000, true),
            ("the window includes its end", &[q, p], 1_100, true),
            ("and nothing after", &[p], 1_101, false),
            ("another profile", &[q], 1_000, false),
            ("no profile", &[], 1_000, false),
        ];
        for (name, profiles, now, expected) in cases {
            let is_meant = |profile| profiles.contains(&profile);
            assert_eq!(dedupe.contains(e, (at(now), 100), is_meant), expected, "{name}");
        }
        dedupe.insert(e, p, at(1_200));
        dedupe.expire(at(1_150), 100);
        assert_eq!(dedupe.len(), 1);
        assert!(dedupe.contains(e, (at(1_300), 100), |profile| profile == p));
        dedupe.hold_from(Some(dedupe.serials().start));
        dedupe.expire(at(1_301), 100);
        assert_eq!(dedupe.serials(), 1..2, "it is held");
        assert!(!dedupe.contains(e, (at(1_301), 100), |_| true), "and too old all the same");
        dedupe.hold_from(None);
        dedupe.expire(at(1_301), 100);
        assert!(dedupe.is_empty() && dedupe.by_id.is_empty());
    }
}
