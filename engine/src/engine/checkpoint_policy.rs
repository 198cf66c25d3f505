//! When a checkpoint is worth what it costs.
//!
//! Opening derives again what came after the newest checkpoint: the *tail*. A checkpoint makes it
//! short, and costs time that grows with the number of profiles, not with the tail. So it is made when
//! the tail has grown, at once if nothing else is to be done, but never so often that checkpoints take
//! more than their share of the time. Where the tail has become so long that a start after a kill would
//! take many seconds, that share is larger.

use std::time::Duration;

/// What came after the newest checkpoint, and what that cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// Entries of the log.
    pub entries: u64,
    /// How long it took to derive them, which is about how long it would take again.
    pub work: Duration,
    /// How long ago the newest checkpoint was complete or found no room, or the directory was opened.
    pub age: Duration,
    /// What the newest checkpoint took, all slices and writing together; of one that an earlier run
    /// has made, what reading it took. One that found no room on the disk counts like any other.
    pub cost: Duration,
    /// Whether that one found no room: then it is not worth more, however long the tail.
    pub is_refused: bool,
}

/// What the deriver is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// More work waits.
    Busy,
    /// Nothing has come for a while.
    Idle,
    /// Nothing will come any more.
    Closing,
}

/// When checkpoints are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// The longest tail that is left alone while there is work.
    pub tail_max: Duration,
    /// The same in entries.
    pub entries_max: u64,
    /// The longest tail that is left alone when there is none.
    pub idle_tail_max: Duration,
    /// Checkpoints take one part in so many of the time at most, but for the one at the end.
    pub share: u32,
    /// The same once the tail has `entries_max`.
    pub share_when_long: u32,
    /// How many profiles are saved at a time, while the deriver does nothing else.
    pub slice: usize,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            tail_max: Duration::from_secs(2),
            // A cut of a million profiles takes a million more, so that the tail stays below three.
            entries_max: 2_000_000,
            idle_tail_max: Duration::from_millis(200),
            share: 10,
            share_when_long: 4,
            // One or two milliseconds on two cores.
            slice: 512,
        }
    }
}

impl CheckpointPolicy {
    /// A checkpoint whenever one can be made, in the smallest slices: for tests.
    pub const EAGER: Self = Self {
        tail_max: Duration::ZERO,
        entries_max: 1,
        idle_tail_max: Duration::ZERO,
        share: 1,
        share_when_long: 1,
        slice: 1,
    };

    /// Never by itself.
    pub const NEVER: Self = Self {
        tail_max: Duration::MAX,
        entries_max: u64::MAX,
        idle_tail_max: Duration::MAX,
        share: 1,
        share_when_long: 1,
        slice: 1,
    };

    /// Whether to make a checkpoint now.
    pub(super) fn is_due(&self, tail: &Tail, occasion: Occasion) -> bool {
        if tail.entries == 0 {
            return false;
        }
        let is_long = tail.work >= self.tail_max || tail.entries >= self.entries_max;
        let is_worth_it = is_long || tail.work >= self.idle_tail_max;
        let is_worth_its_cost = is_worth_it && tail.work.saturating_mul(2) >= tail.cost;
        let has_rested = self.has_rested(tail);
        match occasion {
            Occasion::Busy => is_long && has_rested,
            Occasion::Idle => is_worth_it && has_rested,
            Occasion::Closing => is_long || is_worth_its_cost,
        }
    }

    /// Whether the newest one is so long ago that another one stays within their share of the time.
    pub(super) fn has_rested(&self, tail: &Tail) -> bool {
        let is_long = tail.entries >= self.entries_max && !tail.is_refused;
        let share = if is_long { self.share_when_long } else { self.share };
        tail.age >= tail.cost.saturating_mul(share.saturating_sub(1))
    }

    /// Whether one will be due once the last one is long enough ago, though nothing comes any more.
    pub(super) fn will_be_due(&self, tail: &Tail) -> bool {
        self.is_due(&Tail { age: Duration::MAX, ..*tail }, Occasion::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_made_when_the_tail_is_worth_it_and_not_too_often() {
        use Occasion::{Busy, Closing, Idle};

        let policy = CheckpointPolicy {
            tail_max: Duration::from_secs(2),
            entries_max: 1_000,
            idle_tail_max: Duration::from_millis(200),
            share: 10,
            share_when_long: 4,
            slice: 1,
        };
        let ms = Duration::from_millis;
        let tail = |entries, work, age, cost| Tail {
            entries,
            work: ms(work),
            age: ms(age),
            cost: ms(cost),
            is_refused: false,
        };
        // (what it shows, the tail, on which of busy, idle, closing it is due)
        let cases = [
            ("nothing came", tail(0, 9_000, 90_000, 1), [false, false, false]),
            ("too little to be worth it", tail(9, 199, 90_000, 1), [false, false, false]),
            ("worth it when there is time", tail(9, 200, 90_000, 1), [false, true, true]),
            ("long by time", tail(9, 2_000, 90_000, 1), [true, true, true]),
            ("long by number", tail(1_000, 1, 90_000, 1), [true, true, true]),
            ("but one has just cost much", tail(9, 2_000, 8_999, 1_000), [false, false, true]),
            ("so long that it may cost more", tail(1_000, 1, 3_000, 1_000), [true, true, true]),
            ("but not all", tail(1_000, 1, 2_999, 1_000), [false, false, true]),
            ("too little for what it costs", tail(9, 400, 90_000, 801), [false, true, false]),
            ("and that is long ago", tail(9, 2_000, 9_000, 1_000), [true, true, true]),
        ];
        for (name, tail, expected) in cases {
            let found = [Busy, Idle, Closing].map(|occasion| policy.is_due(&tail, occasion));
            assert_eq!(found, expected, "{name}");
        }
        let refused = Tail { is_refused: true, ..tail(1_000, 1, 8_999, 1_000) };
        assert!(!policy.is_due(&refused, Busy), "there is no room however long it is");
        assert!(policy.will_be_due(&tail(9, 200, 0, 1_000)));
        assert!(!policy.will_be_due(&tail(9, 199, 0, 1_000)));
        let one = tail(1, 0, 0, 1_000);
        assert!(CheckpointPolicy::EAGER.is_due(&one, Busy));
        assert!(!CheckpointPolicy::NEVER.is_due(&tail(u64::MAX - 1, 1 << 40, 1, 0), Closing));
    }
}
