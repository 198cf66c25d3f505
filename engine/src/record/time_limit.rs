//! How far ahead of the clock a record may be (`SPEC.md` §2).
//!
//! Pure: the appender passes its `now`, and replay, passing the `now` that was stored, gets the same
//! answer.

use crate::clock::Timestamp;

/// How far ahead of the wall clock a record's time may be: 5 minutes, for machines whose clocks
/// differ.
pub const AHEAD_MAX_MS: i64 = 5 * 60 * 1000;

/// The time that a record stamped `timestamp` counts with, under a wall clock that shows `now`: its
/// own, or `now` if it has none or is a little ahead. An error says that it is too far ahead.
pub fn checked_at(timestamp: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, String> {
    match timestamp {
        Some(at) if at > now.plus_millis(AHEAD_MAX_MS) => Err(format!(
            "timestamp: {at} is more than 5 minutes after the clock, {now}; for history use \
             clock = \"event\""
        )),
        Some(at) => Ok(at.min(now)),
        None => Ok(now),
    }
}

/// Whether a record stamped `timestamp` may move an event clock that shows `clock` (`None`: it was
/// never set), when one record may move it by `jump_max_ms` at most.
pub fn checked_jump(
    timestamp: Timestamp,
    clock: Option<Timestamp>,
    jump_max_ms: i64,
) -> Result<(), String> {
    match clock {
        Some(now) if timestamp > now.plus_millis(jump_max_ms) => Err(format!(
            "timestamp: {timestamp} is further past the clock, {now}, than max_clock_jump allows"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_bounds_a_records_time() {
        let at = Timestamp::from_millis;
        // (what it shows, the record's time, now, the time it counts with)
        let cases = [
            ("the past stays", Some(5), 1_000, Some(5)),
            ("no time is now", None, 1_000, Some(1_000)),
            ("a little ahead is now", Some(1_001), 1_000, Some(1_000)),
            ("five minutes ahead is a little", Some(301_000), 1_000, Some(1_000)),
            ("a millisecond more is refused", Some(301_001), 1_000, None),
        ];
        for (name, stamp, now, expected) in cases {
            let checked = checked_at(stamp.map(at), at(now)).ok();
            assert_eq!(checked.map(Timestamp::as_millis), expected, "{name}");
        }
    }

    #[test]
    fn a_jump_is_bounded_once_the_event_clock_is_set() {
        let at = Timestamp::from_millis;
        // (what it shows, the record's time, the clock, allowed with jumps of 10 ms)
        let cases = [
            ("the first time may be anything", 1_000_000, None, true),
            ("the bound is inclusive", 110, Some(100), true),
            ("past it is refused", 111, Some(100), false),
            ("the past is no jump", 5, Some(100), true),
        ];
        for (name, stamp, clock, expected) in cases {
            assert_eq!(checked_jump(at(stamp), clock.map(at), 10).is_ok(), expected, "{name}");
        }
    }
}
