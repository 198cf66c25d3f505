//! How often requests start: never more than N in any second (`SPEC.md` §8).
//!
//! A token bucket would let 2 N through in the second after a rest. So each of the last N starts is
//! remembered until it is a second old. Over a restart too: starts go with the progress. They cannot
//! be written before each request, so what is written *while running* supposes the worst, a full
//! window right before the next run begins, and what is written at a stop tells the truth. A run that
//! follows a crash so waits a second; a shorter wait could be wrong, as nothing tells when the crash was.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Moment, Timestamp};

/// Times of request starts kept with the progress, for the rate limit over a restart.
pub const STORED_STARTS_MAX: usize = 128;

/// Requests that started, for the rate limit over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starts {
    /// Wall time of the last of them.
    pub at: Timestamp,
    /// How many.
    pub count: u64,
}

/// The second in "requests a second".
const WINDOW: Duration = Duration::from_secs(1);

/// What is left of the limit by requests that can wait: a sixteenth.
const LEFT_PART: usize = 16;

/// The last N request starts of one dataflow.
#[derive(Clone, Debug)]
pub struct Rate {
    limit: usize,
    /// When each of the last `limit` starts is a second old.
    free_at: VecDeque<Moment>,
    /// How many starts an earlier run has told of; more than `limit` if that was higher then.
    restored: u64,
}

impl Rate {
    /// At most `limit` starts a second, none so far.
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit.max(1)).unwrap_or(usize::MAX);
        Self { limit, free_at: VecDeque::new(), restored: 0 }
    }

    /// When the next request may start: `now` or earlier if at once.
    pub fn next_start(&self) -> Moment {
        if self.free_at.len() < self.limit { Moment::default() } else { self.free_at[0] }
    }

    /// When the next request may start that can wait. Part of the limit is left to those that cannot,
    /// or the first half of a second could use it all up.
    pub fn next_start_of_backfill(&self) -> Moment {
        let limit = self.limit - self.limit / LEFT_PART;
        let before = self.free_at.len().checked_sub(limit);
        before.map_or_else(Moment::default, |index| self.free_at[index])
    }

    /// A request starts.
    pub fn start(&mut self, now: Moment) {
        if self.free_at.len() == self.limit {
            self.free_at.pop_front();
        }
        self.free_at.push_back(now.plus(WINDOW));
    }

    /// What to store at a stop: the starts of the last second. Of very many, neighbours are told together,
    /// as if they were all as late as the last of them.
    pub fn starts(&self, now: Moment, wall: Timestamp) -> Vec<Starts> {
        let is_recent = |free_at: &&Moment| **free_at > now;
        let recent: Vec<Moment> =
            self.free_at.iter().rev().take_while(is_recent).copied().collect();
        let together = recent.len().div_ceil(STORED_STARTS_MAX).max(1);
        let stored = |group: &[Moment]| {
            let age = WINDOW.saturating_sub(group[0].since(now));
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            Starts { at: wall.plus_millis(-age), count: group.len() as u64 }
        };
        let mut starts: Vec<Starts> = recent.chunks(together).map(stored).collect();
        starts.reverse();
        starts
    }

    /// What to store while running: that a full window may start at any later time, or what an earlier run
    /// may have started, which may be more.
    pub fn supposed_starts(&self) -> Vec<Starts> {
        vec![Starts { at: Timestamp::MAX, count: self.restored.max(self.limit as u64) }]
    }

    /// Takes over the starts that an earlier run stored, whatever its limit was.
    ///
    /// What lies ahead (because it was supposed, or because the wall clock was set back) may have been
    /// a moment ago.
    pub fn restore(&mut self, starts: &[Starts], now: Moment, wall: Timestamp) {
        self.restored = starts.iter().map(|starts| starts.count).sum();
        for Starts { at, count } in starts {
            let ahead = at.as_millis().saturating_sub(wall.as_millis()).min(0);
            let left = u64::try_from(ahead + 1_000).unwrap_or(0);
            for _ in 0..(*count).min(self.limit as u64) {
                self.start(now);
                if let Some(last) = self.free_at.back_mut() {
                    *last = now.plus(Duration::from_millis(left));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Rate, STORED_STARTS_MAX};
    use crate::clock::{Moment, Timestamp};

    const fn ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_request_starts_only_a_second_after_the_nth_before_it() {
        let mut rate = Rate::new(3);
        // (now, when the next may start)
        for (now, next) in
            [(0, 0), (10, 0), (900, 0), (1_000, 1_000), (1_010, 1_010), (2_500, 1_900)]
        {
            assert_eq!(rate.next_start(), ms(next), "at {now}");
            rate.start(ms(now));
        }
        assert_eq!(rate.next_start(), ms(2_000));
    }

    #[test]
    fn no_second_holds_more_than_the_limit() {
        let mut rate = Rate::new(7);
        let mut starts = Vec::new();
        let mut now = ms(0);
        for _ in 0..200 {
            now = now.max(rate.next_start());
            rate.start(now);
            starts.push(now);
        }
        for pair in starts.windows(8) {
            assert!(pair[7].since(pair[0]) >= Duration::from_secs(1), "{pair:?}");
        }
    }

    #[test]
    fn a_stop_and_a_start_keep_the_limit() {
        let wall = Timestamp::from_millis(1_000_000);
        for limit in [1, 5, 128, 10_000] {
            let mut before = Rate::new(limit);
            for _ in 0..limit {
                before.start(ms(5_000));
            }
            let stored = before.starts(ms(5_300), wall);
            assert!(stored.len() <= STORED_STARTS_MAX, "{limit}");
            let mut after = Rate::new(limit);
            after.restore(&stored, ms(1), wall.plus_millis(100));
            assert_eq!(after.next_start(), ms(601), "{limit}");
        }
    }

    #[test]
    fn a_lower_limit_counts_every_start_of_before() {
        let wall = Timestamp::from_millis(1_000_000);
        // (limit before, starts, limit after, when the next may start)
        for (limit, started, lower, next) in
            [(1_000, 3, 3, 701), (1_000, 2, 3, 0), (10_000, 9_999, 5_000, 701), (3, 3, 4, 0)]
        {
            let mut before = Rate::new(limit);
            for _ in 0..started {
                before.start(ms(5_000));
            }
            let stored = before.starts(ms(5_300), wall);
            let mut after = Rate::new(lower);
            after.restore(&stored, ms(1), wall);
            assert_eq!(after.next_start(), ms(next), "{started} of {limit}, then {lower}");
        }
    }

    #[test]
    fn a_crash_supposes_a_full_window_whenever_it_was() {
        let wall = Timestamp::from_millis(1_000_000);
        for limit in [1, 5, 10_000] {
            let stored = Rate::new(limit).supposed_starts();
            assert!(stored.len() <= STORED_STARTS_MAX, "{limit}");
            let mut after = Rate::new(limit);
            after.restore(&stored, ms(7), wall);
            assert_eq!(after.next_start(), ms(1_007), "{limit}");
        }
    }

    #[test]
    fn a_lower_limit_between_two_crashes_forgets_no_start() {
        let wall = Timestamp::from_millis(1_000_000);
        let mut lower = Rate::new(3);
        lower.restore(&Rate::new(20).supposed_starts(), ms(1), wall);
        let mut after = Rate::new(20);
        after.restore(&lower.supposed_starts(), ms(7), wall);
        assert_eq!(after.next_start(), ms(1_007));
    }
}
