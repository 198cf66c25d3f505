//! Moments of the past: an entry of the log, or a time.

use forebay_storage::OutlinedChunk;
use serde::{Deserialize, Serialize};

use super::super::control::Control;
use super::super::outlines;
use super::super::playback::Played;
use super::super::replay::Replay;
use super::History;
use crate::clock::{ClockKind, Timestamp};
use crate::error::EngineError;

/// A moment to look at the past from (`--as-of`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsOf {
    /// Just after the entry at this offset was applied.
    Offset(u64),
    /// When the clock stood at this time: after everything that happened up to it, window boundaries
    /// included.
    Time(Timestamp),
}

impl AsOf {
    /// Reads an offset, or an RFC 3339 time.
    ///
    /// # Errors
    ///
    /// What is wrong with `text`, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        Timestamp::parse(text).map(Self::Time).ok_or_else(|| {
            format!(
                "`{text}` is neither an offset of the log nor an RFC 3339 time; write for example \
                 1200 or 2026-01-31T00:00:00Z"
            )
        })
    }
}

/// The clock, as the log is read.
pub(super) struct Hands {
    /// What moves it.
    pub(super) kind: ClockKind,
    /// Where it stands.
    pub(super) now: Timestamp,
}

impl Hands {
    /// The first entry of `played` that moved the clock past `time`, if one did.
    pub(super) fn passed(&mut self, played: &Played, time: Timestamp) -> Option<u64> {
        match (self.kind, played) {
            (
                ClockKind::Wall,
                Played::Records { first_offset: offset, appended, .. }
                | Played::Control { offset, appended, .. },
            ) => self.move_to(*appended, (time, *offset)),
            (ClockKind::Event, Played::Records { batch, first_offset, .. }) => {
                let timed = (*first_offset..).zip(batch.iter());
                let mut moved =
                    timed.filter_map(|(offset, record)| Some((offset, record.timestamp()?)));
                moved.find_map(|(offset, at)| self.move_to(at, (time, offset)))
            }
            (ClockKind::Event, Played::Control { control, offset, .. }) => match control {
                Control::Advance { to_ms } => {
                    self.move_to(Timestamp::from_millis(*to_ms), (time, *offset))
                }
                _ => None,
            },
        }
    }

    /// Whether the chunk moves the clock, but not past `time`, as far as its outline tells. If not, it must
    /// be read, and the clock stays.
    fn pass(&mut self, chunk: &OutlinedChunk, time: Timestamp) -> bool {
        let Some(to) = outlines::passes_to(self.kind, chunk) else { return false };
        let now = self.now.max(to);
        if now <= time {
            self.now = now;
        }
        now <= time
    }

    fn move_to(&mut self, to: Timestamp, (time, offset): (Timestamp, u64)) -> Option<u64> {
        self.now = self.now.max(to);
        (self.now > time).then_some(offset)
    }
}

/// The offset behind the last entry that was applied when the clock stood at `time`.
///
/// Cost: one chunk is read, and those before of which nothing is known.
///
/// # Errors
///
/// [`EngineError::Usage`] if the log had no record yet, or the clock is not there yet.
pub(super) fn next_after(history: &History, time: Timestamp) -> Result<u64, EngineError> {
    let _turn = history.turn();
    let mut hands = Hands { kind: history.kind, now: Timestamp::EPOCH };
    let mut has_records = false;
    for outlined in history.outlines(0) {
        history.check_goes_on()?;
        let outlined = outlined?;
        let part = outlined.first.as_u64()..outlined.next.as_u64().min(history.end);
        if part.is_empty() {
            break;
        }
        // An outline tells of the whole chunk.
        if part.end == outlined.next.as_u64() && hands.pass(&outlined, time) {
            has_records |= outlines::may_hold_records(outlined.outline.as_ref());
            continue;
        }
        for played in Replay::new(&history.store, part) {
            let played = played?;
            let passed = hands.passed(&played, time);
            if let Played::Records { first_offset, .. } = &played {
                has_records |= passed.is_none_or(|next| *first_offset < next);
            }
            if let Some(next) = passed {
                return if has_records { Ok(next) } else { Err(too_early(time, hands.now)) };
            }
        }
    }
    let now = match history.kind {
        ClockKind::Wall => hands.now.max(history.clock.now()),
        ClockKind::Event => hands.now,
    };
    if time > now { Err(too_late(time, now)) } else { Ok(history.end) }
}

fn too_early(time: Timestamp, begins: Timestamp) -> EngineError {
    EngineError::Usage(format!("nothing was known at {time}: the log begins at {begins}"))
}

fn too_late(time: Timestamp, now: Timestamp) -> EngineError {
    EngineError::Usage(format!(
        "{time} is still to come: the clock stands at {now}; give a time up to that one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_an_offset_or_a_time() {
        let day = Timestamp::from_millis(1_767_225_600_000);
        let cases = [
            ("0", Some(AsOf::Offset(0))),
            ("1200", Some(AsOf::Offset(1200))),
            ("2026-01-01T00:00:00Z", Some(AsOf::Time(day))),
            ("2026-01-01T01:00:00.000+01:00", Some(AsOf::Time(day))),
            ("-1", None),
            ("yesterday", None),
            ("2026-01-01", None),
            ("18446744073709551616", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(AsOf::parse(text).ok(), expected, "{text}");
        }
        let told = AsOf::parse("yesterday").unwrap_err();
        assert!(told.starts_with("`yesterday` is neither"), "{told}");
    }
}
