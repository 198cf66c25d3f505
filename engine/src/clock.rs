//! Instants, and where they come from.
//!
//! A [`Timestamp`] is what records carry and what `now` is compared with. Only a [`Clock`] reads the
//! machine's time, and only the appender and the delivery threads hold one: everything that derives
//! state takes `now` as an argument, so that replay and simulation see what the first run saw
//! (`SPEC.md` §4).

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::fmt::temporal::DateTimeParser;
use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, where an event clock starts.
    pub const EPOCH: Self = Self(0);
    /// Before every instant.
    pub const MIN: Self = Self(i64::MIN);
    /// After every instant; as a boundary: never.
    pub const MAX: Self = Self(i64::MAX);

    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant `ms` milliseconds later, or the last one there is.
    #[must_use]
    pub const fn plus_millis(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
    ///
    /// `None` if `text` is no such timestamp.
    pub fn parse(text: &str) -> Option<Self> {
        usual(text.as_bytes()).or_else(|| Self::parse_any(text))
    }

    fn parse_any(text: &str) -> Option<Self> {
        static PARSER: DateTimeParser = DateTimeParser::new();
        // A `[zone]` after the offset is no RFC 3339, and the parser would take it.
        if text.len() < 20 || text.as_bytes()[text.len() - 1] == b']' {
            return None;
        }
        let instant = PARSER.parse_timestamp(text).ok()?;
        Some(Self(instant.as_nanosecond().div_euclid(1_000_000).try_into().ok()?))
    }

    /// The instant as the time library knows it; the nearest one it knows, past the year 9999.
    pub fn to_jiff(self) -> jiff::Timestamp {
        let clamped = self
            .0
            .clamp(jiff::Timestamp::MIN.as_millisecond(), jiff::Timestamp::MAX.as_millisecond());
        jiff::Timestamp::from_millisecond(clamped).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// `2026-01-11T21:24:39Z`: whole seconds, truncated, as payloads print it (`SPEC.md` §5).
    pub fn to_seconds_text(self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

/// Reads the form that nearly all records have, `2026-01-11T21:24:39Z` with milliseconds or without;
/// whatever else there is, and what is no day, is left to the time library.
fn usual(text: &[u8]) -> Option<Timestamp> {
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0_i64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let millis = match text.len() {
        20 => 0,
        24 if text[19] == b'.' => number(20, 23)?,
        _ => return None,
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (text.len() - 1, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Every month has 28 days, and every minute 60 seconds; the others are for those who know more.
    if !(1..=12).contains(&month)
        || !(1..=28).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    // Years begin in March here, so that the day which some have more is the last of theirs.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_year =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days_before_year + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH;
    Some(Timestamp((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis))
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: i64 = 719_468;

impl fmt::Display for Timestamp {
    /// `2026-01-11T21:24:39.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

/// A configured duration; what is longer than the clock reaches never ends.
pub fn millis(configured: u64) -> i64 {
    i64::try_from(configured).unwrap_or(i64::MAX)
}

/// What `now` means to the engine (`SPEC.md` §4); fixed at first use of a data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClockKind {
    /// The time at which a record was appended.
    #[default]
    Wall,
    /// The highest timestamp seen so far in any record.
    Event,
}

impl ClockKind {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Event => "event",
        }
    }
}

/// A point of monotonic time, for intervals that a stepped wall clock must not stretch: rate
/// limits, backoffs, timeouts. Nanoseconds since the clock was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanos` nanoseconds after the clock was made.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock was made.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The machine's time. The second implementation is the simulation's.
pub trait Clock: Send + Sync {
    /// The wall time; it may step backwards, so whoever stores it takes the maximum.
    fn now(&self) -> Timestamp;
    /// The monotonic time.
    fn moment(&self) -> Moment;
    /// How long a wait for a wall time may be before that is read again: it may be stepped, and a
    /// machine that sleeps does not wait.
    fn reread_after(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// The clock of the machine the engine runs on.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the machine's time"
)]
impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the machine's time"
)]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn moment(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn timestamps_are_read_to_the_millisecond() {
        // (text, milliseconds)
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-01T00:00:03.888Z", Some(1_767_225_603_888)),
            ("2026-01-01T10:00:00+02:00", Some(1_767_254_400_000)),
            ("1969-12-31T23:59:59.9999Z", Some(-1)),
            ("2026-01-01t00:00:00z", Some(1_767_225_600_000)),
            ("2026-13-01T10:01:00Z", None),
            ("2026-01-01T10:01:00", None),
            ("2026-01-01", None),
            ("2026-01-01T10:01:00+01:00[Europe/Paris]", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Timestamp::parse(text).map(Timestamp::as_millis), expected, "{text}");
        }
    }

    #[test]
    fn the_usual_form_is_read_as_the_library_reads_it() {
        let mut read = 0;
        for year in [0, 1, 1600, 1899, 1900, 1969, 1970, 2000, 2023, 2024, 2100, 9999] {
            for month in 0..=13 {
                for day in 0..=32 {
                    for time in
                        ["00:00:00Z", "23:59:59.999Z", "24:00:00Z", "12:60:00Z", "12:30:60Z"]
                    {
                        let text = format!("{year:04}-{month:02}-{day:02}T{time}");
                        let usual = super::usual(text.as_bytes());
                        read += usize::from(usual.is_some());
                        let any = Timestamp::parse_any(&text);
                        assert!(usual.is_none() || usual == any, "{text}: {usual:?} {any:?}");
                    }
                }
            }
        }
        assert_eq!(read, 12 * 12 * 28 * 2);
    }

    #[test]
    fn timestamps_are_printed_in_utc() {
        let at = Timestamp::from_millis(1_767_225_603_888);
        assert_eq!(at.to_string(), "2026-01-01T00:00:03.888Z");
        assert_eq!(at.to_seconds_text(), "2026-01-01T00:00:03Z");
        assert_eq!(Timestamp::from_millis(-1).to_seconds_text(), "1969-12-31T23:59:59Z");
    }
}
