//! What must be done now and then while an engine runs, and is nobody's next step: the journal of
//! exports that ended is trimmed (`export_retention`, `SPEC.md` §9), and the disk is looked at.
//!
//! A little at a time, beside everything else: delivery never waits for more than one batch of it.

use std::sync::Arc;
use std::time::Duration;

use forebay_storage::{Journal, JournalPlace, StorageError, Store};

use super::disk::{DiskWatch, Turn};
use super::notice::Notice;
use super::shared::Shared;
use crate::clock::{Clock, Moment, Timestamp, millis};
use crate::error::EngineError;

/// Looks after one data directory.
pub(super) struct Caretaker {
    /// What it looks after.
    pub(super) store: Arc<Store>,
    /// The configuration, and whether to stop.
    pub(super) shared: Arc<Shared>,
    /// The machine's time.
    pub(super) clock: Arc<dyn Clock>,
}

impl Caretaker {
    /// Works until the engine is closed or fails.
    pub(super) fn run(&self) {
        if let Err(error) = self.work()
            // What failed elsewhere was told there.
            && self.shared.check().is_ok()
        {
            self.shared.fail(&error);
        }
    }

    fn work(&self) -> Result<(), EngineError> {
        let (mut trimming, mut watch) = (Trimming::default(), DiskWatch::default());
        let mut look_at_disk = self.clock.moment();
        loop {
            let now = self.clock.moment();
            self.shared.lanes.note(now);
            if now >= look_at_disk {
                look_at_disk = now.plus(DISK_LOOK);
                self.look_at_disk(&mut watch)?;
            }
            if let Some(config) = self.shared.configuration() {
                let kept_ms = u64::try_from(config.export_retention.as_millis());
                let kept_ms = millis(kept_ms.unwrap_or(u64::MAX));
                let oldest = self.clock.now().plus_millis(kept_ms.saturating_neg());
                trimming.turn(self.store.journal(), now, oldest)?;
            }
            if self.shared.is_closing() || !self.shared.wait_while_running()? {
                return Ok(());
            }
        }
    }

    fn look_at_disk(&self, watch: &mut DiskWatch) -> Result<(), EngineError> {
        let space = self.store.disk_space()?;
        let (free_bytes, total_bytes) = (space.free, space.total);
        let data = self.store.dir().to_owned();
        match watch.look(space) {
            Some(Turn::Low) => {
                tracing::warn!(free_bytes, total_bytes, "the disk is nearly full");
                self.shared.notice(Notice::DiskLow { data, free_bytes, total_bytes });
            }
            Some(Turn::Recovered) => {
                tracing::info!(free_bytes, total_bytes, "the disk is not nearly full any more");
                self.shared.notice(Notice::DiskRecovered { free_bytes });
            }
            None => {}
        }
        Ok(())
    }
}

/// From one look at the disk to the next: at 200 MB/s it has 2 GB less then.
const DISK_LOOK: Duration = Duration::from_secs(10);

/// From one turn of a round through the journal to the next.
const TURN: Duration = Duration::from_secs(1);

/// From the beginning of a round to that of the next one, at least.
const ROUND: Duration = Duration::from_mins(1);

/// Pages of the journal looked at in a turn: some 6 MB, and more rows than can be delivered meanwhile.
const PAGES_A_TURN: usize = 4096;

/// Where the trimming of the journal stands.
#[derive(Debug, Default)]
struct Trimming {
    next_turn: Moment,
    round_began: Moment,
    place: Option<JournalPlace>,
}

impl Trimming {
    /// Drops some of what ended before `oldest`, if it is time to.
    fn turn(
        &mut self,
        journal: &Journal,
        now: Moment,
        oldest: Timestamp,
    ) -> Result<(), StorageError> {
        if now < self.next_turn {
            return Ok(());
        }
        if self.place.is_none() {
            self.round_began = now;
        }
        let trimmed = journal.trim(self.place.as_ref(), oldest.as_millis(), PAGES_A_TURN)?;
        if trimmed.rows > 0 {
            tracing::debug!(rows = trimmed.rows, "trimmed the journal of exports");
        }
        self.place = trimmed.next;
        self.next_turn = match self.place {
            Some(_) => now.plus(TURN),
            None => now.plus(TURN).max(self.round_began.plus(ROUND)),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use forebay_storage::{AttemptRow, EndedExport, Ending, StoreOptions};

    use super::*;
    use crate::deliver::hand_clock::HandClock;

    const HOUR: Duration = Duration::from_hours(1);

    /// Keeps what ended within one hour: 640 exports, every tenth of which failed at first.
    fn deliver(store: &Store, hour: u64, at: Timestamp) {
        let ended = (hour * 640..(hour + 1) * 640).map(|sequence| {
            let failures = u32::from(sequence.is_multiple_of(10));
            EndedExport {
                sequence,
                accepted_ms: at.as_millis(),
                ended_ms: at.as_millis(),
                ending: Ending::Delivered { status: 200 },
                failures,
                attempts: vec![AttemptRow::default(); failures as usize],
                ..EndedExport::default()
            }
        });
        store.journal().note("to", &ended.collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn the_journal_holds_what_the_retention_says_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let (clock, mut trimming) = (HandClock::default(), Trimming::default());
        let mut largest = 0;
        for hour in 0..48 {
            deliver(&store, hour, clock.now());
            let oldest = clock.now().plus_millis(-6 * 3_600_000);
            trimming.turn(store.journal(), clock.moment(), oldest).unwrap();
            let size = store.journal().total_size();
            assert_eq!(size.rows, (hour + 1).min(7) * 640, "hour {hour}");
            largest = size.row_bytes.max(largest);
            assert!(hour != 6 || size.row_bytes == largest);
            clock.pass(HOUR);
        }
        let size = store.journal().total_size();
        assert!(size.row_bytes <= largest, "{size:?} after {largest}");
        assert!(size.attempt_bytes / 7 <= 64 * 48, "{size:?}");
        trimming.turn(store.journal(), clock.moment(), Timestamp::MAX).unwrap();
        assert_eq!(store.journal().total_size(), forebay_storage::JournalSize::default());
    }

    #[test]
    fn a_round_is_taken_in_turns_a_second_apart_and_begins_once_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let row = |page: u64| EndedExport { sequence: page * 64, ..EndedExport::default() };
        let pages: Vec<_> = (0..=2 * PAGES_A_TURN as u64).map(row).collect();
        store.journal().note("to", &pages).unwrap();
        let (clock, mut trimming) = (HandClock::default(), Trimming::default());
        let mut look = |seconds| {
            clock.pass(Duration::from_secs(seconds));
            trimming.turn(store.journal(), clock.moment(), Timestamp::MAX).unwrap();
            store.journal().total_size().rows
        };
        let a_turn = PAGES_A_TURN as u64;
        // (what it shows, seconds later, rows left)
        let cases = [
            ("at once", 0, a_turn + 1),
            ("not again at once", 0, a_turn + 1),
            ("a second later", 1, 1),
            ("to the end", 1, 0),
        ];
        for (name, seconds, left) in cases {
            assert_eq!(look(seconds), left, "{name}");
        }
        store.journal().note("to", &[row(0)]).unwrap();
        assert_eq!(look(57), 1, "not within a minute");
        assert_eq!(look(1), 0, "but then");
    }
}
