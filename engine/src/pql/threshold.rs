//! Counts under a window, compared with a number: when the clock alone turns the comparison.
//!
//! A window that slides with the clock lets its events go one after another, and most of these change
//! nothing: `count() >= 3` turns when the third youngest leaves, not when the oldest does. A timer for
//! every event would cost more than the event itself.

use std::cmp::Ordering;

use crate::clock::Timestamp;

use super::ast::Comparison;
use super::event_filter::fits;
use super::query::{EventQuery, QueryKind};
use super::state::QueryState;

impl EventQuery {
    /// Whether the count compares so with `number`, and the first instant after `at` at which the
    /// clock alone may change that. `None` where events may enter the window as time passes, or where
    /// something else than times is kept: then each change of the count may matter.
    pub(super) fn count_compares(
        &self,
        state: &QueryState,
        (how, number): (Comparison, f64),
        at: Timestamp,
    ) -> Option<(bool, Timestamp)> {
        let (QueryKind::Count, QueryState::Times(settled, times)) = (&self.kind, state) else {
            return None;
        };
        let (_, oldest) = self.gate.ages().filter(|(youngest, _)| *youngest == 0)?;
        let now = at.as_millis();
        if times.last().is_some_and(|last| *last > now) {
            return None;
        }
        let from = times.partition_point(|time| *time < now.saturating_sub(oldest));
        let counted = &times[from..];
        let order = |left: usize| {
            let count = (*settled + (counted.len() - left) as u64) as f64;
            count.partial_cmp(&number)
        };
        let holds = |left: usize| order(left).is_some_and(|order| fits(how, order));
        let holds_now = holds(0);
        // A count that falls is greater, then equal, then less: nothing can turn anywhere else.
        let meets = first(counted.len(), |left| order(left) != Some(Ordering::Greater));
        let passes = first(counted.len(), |left| order(left) == Some(Ordering::Less));
        let turn = [meets, passes].into_iter().flatten().find(|left| holds(*left) != holds_now);
        let turns_at = turn
            .map_or(i64::MAX, |left| counted[left - 1].saturating_add(oldest).saturating_add(1));
        Some((holds_now, Timestamp::from_millis(turns_at)))
    }
}

/// The first of `1..=count` for which `is_past` holds, which it then does for all after it.
fn first(count: usize, is_past: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (1, count + 1);
    while low < high {
        let middle = low.midpoint(high);
        if is_past(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    (low <= count).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::super::subject::{Book, Subject, at};
    use crate::clock::Timestamp;

    const DAY: i64 = 86_400_000;

    /// When the clock next changes `rule` for a profile with events at these hours of a day, at its end.
    fn turns(rule: &str, hours: &[u32]) -> (bool, Option<i64>) {
        let mut book = Book::new("UTC");
        let text = format!("xEvent[timestamp occurs <= 1 days before now].count() {rule}");
        let rule = book.compile(&text).expect(&text);
        let mut subject = Subject::default();
        for (offset, hour) in (0..).zip(hours) {
            let body = format!(r#"{{"timestamp":"2026-01-01T{hour:02}:00:00Z"}}"#);
            subject.observe(&book, offset, &body);
        }
        let evaluation = subject.evaluate(&book, &rule, at("2026-01-02T00:00:00Z"));
        let since = |at: Timestamp| (at.as_millis() - DAY - 1).rem_euclid(DAY) / 3_600_000;
        let changes_at = evaluation.changes_at;
        (evaluation.holds, (changes_at != Timestamp::MAX).then(|| since(changes_at)))
    }

    #[test]
    fn the_clock_matters_only_where_it_turns_the_comparison() {
        // (what it shows, rule, hours of the events, holds, the event that turns it by leaving)
        let cases = [
            ("the third youngest", ">= 3", &[1, 2, 3, 4, 5][..], true, Some(3)),
            ("of few, none ever", ">= 3", &[1, 2], false, None),
            ("of no events, none", ">= 1", &[], false, None),
            ("the last", "> 0", &[1, 2, 3], true, Some(3)),
            ("the first that is too many", "< 3", &[1, 2, 3, 4], false, Some(2)),
            ("fewer stay fewer", "<= 3", &[1, 2, 3], true, None),
            ("the next, from equality", "= 3", &[1, 2, 3], true, Some(1)),
            ("those above it, to equality", "= 1", &[1, 2, 3], false, Some(2)),
            ("to inequality", "!= 2", &[1, 2], false, Some(1)),
            ("from inequality", "!= 0", &[1, 2], true, Some(2)),
            ("to between two counts", "> 1.5", &[1, 2, 3], true, Some(2)),
            ("a number that no count is", "= 1.5", &[1, 2, 3], false, None),
            ("nor below nothing", "< 0", &[1, 2, 3], false, None),
        ];
        for (name, rule, hours, holds, turn) in cases {
            assert_eq!(turns(rule, hours), (holds, turn), "{name}");
        }
    }
}
