//! Chains: which events match which steps, and whether the steps follow each other.
//!
//! A step completes at its n-th match after the step before it completed. Taking the first matches
//! each time is best: whatever completes a step earlier leaves more events to the next.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::json;

use super::query::ChainStep;
use super::window::{Now, Truth};

/// An event that matches at least one step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// When it happened, in milliseconds since the epoch.
    pub timestamp: i64,
    /// Its place in the log.
    pub offset: u64,
    /// The steps it matches, their gates aside (bit i for step i), and the flags after them.
    pub matched: u64,
}

/// How far one step of a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Matches after the step before, as many as are needed at most.
    pub(super) matched: i64,
    /// Matches that complete it.
    pub(super) needed: i64,
    /// The event that completed it, where that is still known.
    pub(super) completed: Option<Timestamp>,
}

impl Progress {
    /// In words, as JSON text.
    pub(super) fn to_json(self) -> String {
        let Self { matched, needed, completed } = self;
        let counted = format!("{matched} of {needed}");
        json::quote(&match completed {
            Some(at) => format!("{counted}, complete with the event of {at}"),
            None if matched == needed => format!("{counted}, complete"),
            None => counted,
        })
    }
}

/// Whether the steps follow each other, and when the clock may change that.
pub(super) fn chain_truth(marks: &[Mark], steps: &[ChainStep], now: Now<'_>) -> Truth {
    let mut changes_at = Timestamp::MAX;
    let mut step = 0;
    let mut matched = 0;
    for mark in marks {
        // A later step's window matters too: it may open only after the clock has moved.
        if mark.matched >> step & 1 == 0 {
            continue;
        }
        let truth = steps[step].truth(mark, now);
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

/// How far each step is; all are complete if, and only if, [`chain_truth`] holds.
pub(super) fn chain_progress(marks: &[Mark], steps: &[ChainStep], now: Now<'_>) -> Vec<Progress> {
    let mut marks = marks.iter();
    let mut progress = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let mut reached = Progress { matched: 0, needed: step.count, completed: None };
        let counts = |mark: &&Mark| mark.matched >> index & 1 == 1 && step.truth(mark, now).holds;
        while reached.matched < reached.needed
            && let Some(mark) = marks.find(counts)
        {
            reached.matched += 1;
            reached.completed = Some(Timestamp::from_millis(mark.timestamp));
        }
        reached.completed = reached.completed.filter(|_| reached.matched == reached.needed);
        progress.push(reached);
    }
    progress
}

impl ChainStep {
    fn truth(&self, mark: &Mark, now: Now<'_>) -> Truth {
        self.gate.truth((Timestamp::from_millis(mark.timestamp), mark.matched), now)
    }
}

/// Drops what can make no difference at `now` or later, whatever events are still to come, late ones
/// and those of other profiles included.
pub(super) fn trim_marks(marks: &mut Vec<Mark>, steps: &[ChainStep], now: Now<'_>) {
    for mark in marks.iter_mut() {
        for (index, step) in steps.iter().enumerate() {
            if !step.gate.is_open() && step.truth(mark, now).is_over() {
                mark.matched &= !(1 << index);
            }
        }
    }
    let steps: Vec<(u64, &ChainStep)> =
        steps.iter().enumerate().map(|(index, step)| (1 << index, step)).collect();
    keep_first(&mut marks.iter_mut().collect::<Vec<_>>(), steps.iter().copied());
    keep_first(&mut marks.iter_mut().rev().collect::<Vec<_>>(), steps.iter().rev().copied());
    let any_step = steps.iter().fold(0, |all, (bit, _)| all | bit);
    marks.retain(|mark| mark.matched & any_step != 0);
}

/// Of a row of steps without windows, only the matches matter that stand before the step before is
/// complete, and so many after it as the step counts: an event that is still to come can complete a
/// step earlier, never later, and so leaves more of the first matches to the next step, and no use
/// for the others. The same holds backwards, from the last step on.
fn keep_first<'s>(marks: &mut [&mut Mark], steps: impl Iterator<Item = (u64, &'s ChainStep)>) {
    let mut from = 0;
    for (bit, step) in steps {
        if !step.gate.is_open() {
            return;
        }
        let mut left = step.count;
        let mut completed = None;
        for (at, mark) in marks.iter_mut().enumerate().skip(from) {
            if mark.matched & bit == 0 {
                continue;
            }
            if left == 0 {
                mark.matched &= !bit;
                continue;
            }
            left -= 1;
            if left == 0 {
                completed = Some(at + 1);
            }
        }
        let Some(next) = completed else { return };
        from = next;
    }
}
