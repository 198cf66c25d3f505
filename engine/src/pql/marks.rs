//! Chains: which events match which steps, and whether the steps follow each other.
//!
//! A step completes at its n-th match after the step before it completed. Taking the first matches
//! each time is best: whatever completes a step earlier leaves more events to the next.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

use super::query::{ChainStep, EventQuery, all_hold};
use super::window::{Now, Truth};

/// Most steps of a chain: one bit each.
pub(super) const STEPS_MAX: usize = 32;

/// An event that matches at least one step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When it happened, in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its place in the log.
    pub offset: u64,
    /// The steps it matches, windows aside: bit i for step i.
    pub steps: u32,
}

impl EventQuery {
    pub(super) fn now(&self, at: Timestamp) -> Now<'_> {
        Now { at, zone: &self.zone }
    }
}

/// Whether the steps follow each other, and when the clock may change that.
pub(super) fn chain_truth(marks: &[Mark], steps: &[ChainStep], now: Now<'_>) -> Truth {
    let mut changes_at = Timestamp::MAX;
    let mut step = 0;
    let mut matched = 0;
    for mark in marks {
        // A later step's window matters too: it may open only after the clock has moved.
        if mark.steps >> step & 1 == 0 {
            continue;
        }
        let truth = all_hold(&steps[step].windows, Timestamp::from_millis(mark.timestamp), now);
        changes_at = changes_at.min(truth.changes_at);
        if !truth.holds {
            continue;
        }
        matched += 1;
        if matched == steps[step].count {
            step += 1;
            matched = 0;
        }
        if step == steps.len() {
            return Truth { holds: true, changes_at };
        }
    }
    Truth { holds: false, changes_at }
}

/// Drops what can make no difference at `now` or later.
pub(super) fn trim_marks(marks: &mut Vec<Mark>, steps: &[ChainStep], now: Now<'_>) {
    for mark in marks.iter_mut() {
        for (index, step) in steps.iter().enumerate() {
            let at = Timestamp::from_millis(mark.timestamp);
            if !step.windows.is_empty() && all_hold(&step.windows, at, now).is_over() {
                mark.steps &= !(1 << index);
            }
        }
    }
    keep_first(marks, steps.first(), 1);
    marks.reverse();
    keep_first(marks, steps.last(), 1 << (steps.len() - 1));
    marks.reverse();
    marks.retain(|mark| mark.steps != 0);
}

/// Of an end step without windows only so many matches can make a difference: of the first step the
/// earliest, of the last step the latest.
fn keep_first(marks: &mut [Mark], step: Option<&ChainStep>, bit: u32) {
    let Some(step) = step.filter(|step| step.windows.is_empty()) else { return };
    let mut left = step.count;
    for mark in marks.iter_mut().filter(|mark| mark.steps & bit != 0) {
        if left > 0 {
            left -= 1;
        } else {
            mark.steps &= !bit;
        }
    }
}
