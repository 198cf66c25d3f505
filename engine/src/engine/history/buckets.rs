//! A span of time, cut at whole hours or days of a time zone.

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Spans up to this long are cut into hours unless it is said otherwise.
const BY_HOUR_MS: i64 = 3 * 24 * HOUR_MS;

/// What a span of time is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Whole hours.
    Hour,
    /// Days of the time zone.
    Day,
}

impl By {
    /// What suits a span, if nobody said.
    pub(super) fn suited(from: Timestamp, to: Timestamp) -> Self {
        if to.as_millis() - from.as_millis() <= BY_HOUR_MS { Self::Hour } else { Self::Day }
    }

    /// The first whole hour or day after `time`.
    fn after(self, time: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = time.to_jiff().to_zoned_datetime(zone.clone());
        let next_day = || local.tomorrow().and_then(|day| day.start_of_day()).ok();
        match self {
            Self::Hour => {
                let minutes = i64::from(local.minute()) * 60_000;
                let into = minutes + i64::from(local.second()) * 1000;
                time.plus_millis(HOUR_MS - into - time.as_millis().rem_euclid(1000))
            }
            // Past the last year that the calendar knows there are no days.
            Self::Day => next_day().map_or(Timestamp::MAX, |day| {
                Timestamp::from_millis(day.timestamp().as_millisecond())
            }),
        }
    }
}

/// Where the span is cut, its two ends included; `None` if there are more than `most` parts.
pub(super) fn edges(
    (from, to): (Timestamp, Timestamp),
    by: By,
    zone: &TimeZone,
    most: usize,
) -> Option<Vec<Timestamp>> {
    let mut edges = vec![from];
    let mut edge = from;
    while edge < to {
        if edges.len() > most {
            return None;
        }
        edge = by.after(edge, zone).min(to);
        edges.push(edge);
    }
    Some(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_span_is_cut_at_whole_hours_and_days_of_its_zone() {
        // (what it shows, from, to, by, zone, the edges)
        let cases = [
            (
                "hours, the first and the last in part",
                ("2026-01-01T00:20:00.5Z", "2026-01-01T02:10:00Z"),
                (By::Hour, "UTC"),
                vec!["00:20:00.500Z", "01:00:00.000Z", "02:00:00.000Z", "02:10:00.000Z"],
            ),
            (
                "days of a zone",
                ("2026-01-01T12:00:00Z", "2026-01-03T00:00:00Z"),
                (By::Day, "Europe/Paris"),
                vec!["12:00:00.000Z", "23:00:00.000Z", "23:00:00.000Z", "00:00:00.000Z"],
            ),
            (
                "a day of 23 hours",
                ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
                (By::Day, "Europe/Paris"),
                vec!["23:00:00.000Z", "22:00:00.000Z"],
            ),
            (
                "hours of a zone half an hour off",
                ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
                (By::Hour, "Asia/Kolkata"),
                vec!["00:00:00.000Z", "00:30:00.000Z", "01:00:00.000Z"],
            ),
        ];
        for (name, (from, to), (by, zone), expected) in cases {
            let zone = TimeZone::get(zone).unwrap();
            let found = edges((at(from), at(to)), by, &zone, 10).expect(name);
            let found: Vec<String> = found.iter().map(|e| e.to_string()[11..].to_owned()).collect();
            assert_eq!(found, expected, "{name}");
        }
        let year = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        assert_eq!(edges(year, By::Day, &TimeZone::UTC, 365).map(|e| e.len()), Some(366));
        assert_eq!(edges(year, By::Day, &TimeZone::UTC, 364), None);
    }
}
