//! The disk: what the data directory takes of it, and whether it is nearly full.
//!
//! A full disk stops the engine (it never goes on with memory ahead of the disk), so a person should
//! hear of it before.

use forebay_storage::DiskSpace;

use super::Engine;
use crate::error::EngineError;
use crate::record::RejectsFile;
use crate::views::{DiskView, LogView, SizesView};

/// Free bytes below which the disk is nearly full: what a segment of the log takes, so that one can
/// still be begun, or copied by a compaction.
const LOW_BYTES: u64 = 1 << 30;

/// On a small disk, the part of it below which it is nearly full.
const LOW_PART: u64 = 20;

/// A disk that was nearly full has recovered once half as much again is free, so that one at the limit
/// is not told of again and again.
const RECOVERED: (u64, u64) = (3, 2);

/// Whether so little is free that somebody should make room.
pub(super) fn is_low(space: DiskSpace) -> bool {
    space.free < limit(space)
}

fn limit(space: DiskSpace) -> u64 {
    LOW_BYTES.min(space.total / LOW_PART)
}

/// What there is to tell of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is nearly full.
    Low,
    /// It is so no more.
    Recovered,
}

/// Whether the disk was nearly full when somebody looked last.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    was_low: bool,
}

impl DiskWatch {
    /// What there is to tell, now that the disk is like this: once, until it changes.
    pub(super) fn look(&mut self, space: DiskSpace) -> Option<Turn> {
        let recovered = limit(space) / RECOVERED.1 * RECOVERED.0;
        let turn = match self.was_low {
            false if is_low(space) => Turn::Low,
            true if space.free >= recovered => Turn::Recovered,
            _ => return None,
        };
        self.was_low = turn == Turn::Low;
        Some(turn)
    }
}

impl Engine {
    /// How full the disk of the data directory is.
    pub fn disk(&self) -> Result<DiskView, EngineError> {
        let space = self.store.disk_space()?;
        let (free_bytes, total_bytes) = (space.free, space.total);
        Ok(DiskView { free_bytes, total_bytes, is_low: is_low(space) })
    }

    /// How large the log is.
    pub(super) fn log_view(&self) -> Result<LogView, EngineError> {
        let stats = self.store.log().stats()?;
        Ok(LogView {
            records: stats.records,
            next_offset: stats.next_offset.as_u64(),
            bytes: stats.disk_bytes,
            raw_bytes: stats.raw_bytes,
            chunks: stats.chunks,
            segments: stats.segments,
            sizes: None,
        })
    }

    /// How large the log is, and what takes how much of the disk. Opens every segment of the log.
    pub fn log_stats(&self) -> Result<LogView, EngineError> {
        let (log, view) = (self.store.log(), self.log_view()?);
        let control_entries = log.control_count()?;
        let times = log.times()?;
        let sizes = self.store.sizes()?;
        let live = sizes.live();
        let entries = log.stats()?.entries;
        let sizes = SizesView {
            control_entries,
            stubs: entries.saturating_sub(view.records + control_entries),
            first_appended_ms: times.map(|(first, _)| first),
            last_appended_ms: times.map(|(_, last)| last),
            log_compressed_bytes: sizes.log_live,
            state_bytes: sizes.state_disk,
            outbox_live_bytes: sizes.outbox_live,
            journal_exports: sizes.journal.rows,
            journal_live_bytes: sizes.journal.row_bytes + sizes.journal.attempt_bytes,
            checkpoint_bytes: sizes.checkpoint.map_or(0, |checkpoint| checkpoint.bytes),
            rejects_bytes: RejectsFile::bytes_in(self.store.dir())?,
            directory_bytes: sizes.disk,
            live_bytes: live,
            space_amplification: ratio(sizes.disk, live),
        };
        Ok(LogView { sizes: Some(sizes), ..view })
    }
}

/// To two places; 0 where nothing is live.
#[expect(clippy::cast_precision_loss, reason = "shown to two places")]
fn ratio(disk: u64, live: u64) -> f64 {
    if live == 0 { 0.0 } else { (disk as f64 / live as f64 * 100.0).round() / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_told_of_once_until_it_has_recovered() {
        const GIB: u64 = 1 << 30;
        let mut watch = DiskWatch::default();
        // (what it shows, total, free, what is told)
        let cases = [
            ("half full", 100 * GIB, 50 * GIB, None),
            ("a gigabyte left", 100 * GIB, GIB, None),
            ("less", 100 * GIB, GIB - 1, Some(Turn::Low)),
            ("still less", 100 * GIB, 1, None),
            ("a little more", 100 * GIB, GIB + 1, None),
            ("half as much again", 100 * GIB, 3 * GIB / 2, Some(Turn::Recovered)),
            ("a small disk", GIB, GIB / 20, None),
            ("with less than a twentieth", GIB, GIB / 20 - 1, Some(Turn::Low)),
            ("that was made larger", 2 * GIB, GIB, Some(Turn::Recovered)),
        ];
        for (name, total, free, expected) in cases {
            assert_eq!(watch.look(DiskSpace { total, free }), expected, "{name}");
        }
    }

    #[test]
    fn amplification_is_told_to_two_places() {
        for (disk, live, expected) in [(0, 0, 0.0), (7, 0, 0.0), (100, 30, 3.33), (9, 9, 1.0)] {
            assert!((ratio(disk, live) - expected).abs() < 1e-9, "{disk}/{live}");
        }
    }
}
