//! How far backfill lanes are, and how long they will take: for `status`, and for who waits for them.
//!
//! The deriver tells how many profiles of a lane are taken; it has no clock. Whoever has one notes that
//! once a second, and the rate is that of the last ten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::backfill::LaneProgress;
use crate::clock::Moment;
use crate::views::BackfillView;

/// From one note to the next.
const BETWEEN: Duration = Duration::from_secs(1);

/// The rate is over so long, and a little more where nobody noted anything in between.
const RATE_OVER: Duration = Duration::from_secs(10);

/// The lanes that are open, by dataflow.
#[derive(Debug, Default)]
pub(super) struct Lanes(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    progress: BTreeMap<String, LaneProgress>,
    notes: BTreeMap<String, VecDeque<(Moment, u64)>>,
    next_note: Moment,
}

impl Lanes {
    /// Tells how far the open lanes are. What was taken is told to delivery before.
    pub(super) fn publish(&self, progress: BTreeMap<String, LaneProgress>) {
        let mut open = self.open();
        if open.progress.is_empty() && progress.is_empty() {
            return;
        }
        open.notes.retain(|dataflow, _| progress.contains_key(dataflow));
        open.progress = progress;
    }

    /// Whether `dataflow` has a lane that is not taken to its end.
    pub(super) fn is_open(&self, dataflow: &str) -> bool {
        self.open().progress.contains_key(dataflow)
    }

    /// Notes how far they are at `now`, if it is time to. Whoever was noted with more taken than there
    /// is now has another lane.
    pub(super) fn note(&self, now: Moment) {
        let mut open = self.open();
        if now < open.next_note {
            return;
        }
        open.next_note = now.plus(BETWEEN);
        let Open { progress, notes, .. } = &mut *open;
        for (dataflow, LaneProgress { taken, .. }) in &*progress {
            let notes = notes.entry(dataflow.clone()).or_default();
            if notes.back().is_some_and(|(_, before)| before > taken) {
                notes.clear();
            }
            notes.push_back((now, *taken));
            while notes.get(1).is_some_and(|(at, _)| now.since(*at) >= RATE_OVER) {
                notes.pop_front();
            }
        }
    }

    /// How far `dataflow` is; `None` if it has no open lane.
    pub(super) fn view(&self, dataflow: &str) -> Option<BackfillView> {
        let open = self.open();
        let LaneProgress { taken, owed } = *open.progress.get(dataflow)?;
        let per_second = open.notes.get(dataflow).map_or(0.0, rate);
        Some(BackfillView { owed, taken, per_second, left_ms: left_ms(owed - taken, per_second) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().expect("no thread panics with this lock")
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to one place")]
fn rate(notes: &VecDeque<(Moment, u64)>) -> f64 {
    let (Some((begin, before)), Some((end, after))) = (notes.front(), notes.back()) else {
        return 0.0;
    };
    let seconds = end.since(*begin).as_secs_f64();
    if seconds > 0.0 { (after - before) as f64 / seconds } else { 0.0 }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate, and what is not negative saturates"
)]
fn left_ms(left: u64, per_second: f64) -> Option<u64> {
    (per_second > 0.0).then(|| (left as f64 / per_second * 1000.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(taken: u64) -> BTreeMap<String, LaneProgress> {
        BTreeMap::from([("d".to_owned(), LaneProgress { taken, owed: 1_000 })])
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let lanes = Lanes::default();
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        assert_eq!(lanes.view("d"), None);
        // (what it shows, milliseconds, taken, per second, milliseconds left)
        let cases = [
            ("at first nothing is known", 0, 0, 0.0, None),
            ("not noted again at once", 500, 50, 0.0, None),
            ("a second", 1_000, 100, 100.0, Some(9_000)),
            ("two", 2_000, 400, 200.0, Some(3_000)),
            ("the first ones are forgotten", 12_000, 900, 50.0, Some(2_000)),
            ("another lane", 13_000, 10, 0.0, None),
        ];
        for (name, ms, done, per_second, left_ms) in cases {
            lanes.publish(taken(done));
            lanes.note(at(ms));
            let view = lanes.view("d").expect(name);
            assert!((view.per_second - per_second).abs() < 0.1, "{name}: {view:?}");
            assert_eq!((view.taken, view.owed), (done, 1_000), "{name}");
            let left = (view.left_ms, left_ms);
            assert!(
                matches!(left, (Some(a), Some(b)) if a.abs_diff(b) < 5) || left == (None, None),
                "{name}: {view:?}"
            );
        }
        lanes.publish(BTreeMap::new());
        assert!(!lanes.is_open("d") && lanes.view("d").is_none());
    }
}
