//! `Retry-After`: how long an endpoint asks to be left alone.

use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Timestamp;

/// The longest wait an endpoint can ask for (`SPEC.md` §8).
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Reads the header's value: seconds, or an HTTP date, counted from `now`.
///
/// At most [`RETRY_AFTER_MAX`]; a date gone by is no wait; `None` if it is neither.
pub fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are still a number, and the cap applies.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let until = i64::try_from(date.as_millis()).unwrap_or(i64::MAX);
    let wait = u64::try_from(until.saturating_sub(now.as_millis())).unwrap_or(0);
    Some(Duration::from_millis(wait).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RETRY_AFTER_MAX, parse};
    use crate::clock::Timestamp;

    #[test]
    fn retry_after_is_read_as_seconds_or_date() {
        let now = Timestamp::parse("2026-01-01T10:00:00.250Z").unwrap();
        let ms = |n| Some(Duration::from_millis(n));
        // (what it shows, value, wait)
        let cases = [
            ("seconds", "120", ms(120_000)),
            ("no wait at all", "0", ms(0)),
            ("blanks around", " 3 ", ms(3_000)),
            ("an hour is the most", "3601", Some(RETRY_AFTER_MAX)),
            ("more digits than fit", "99999999999999999999999", Some(RETRY_AFTER_MAX)),
            ("a date, to the millisecond of now", "Thu, 01 Jan 2026 10:00:02 GMT", ms(1_750)),
            ("a date in the old form", "Thursday, 01-Jan-26 10:00:02 GMT", ms(1_750)),
            ("a date gone by", "Wed, 31 Dec 2025 10:00:00 GMT", ms(0)),
            ("a date far off", "Fri, 01 Jan 2027 10:00:00 GMT", Some(RETRY_AFTER_MAX)),
            ("a negative number", "-1", None),
            ("a fraction", "1.5", None),
            ("words", "soon", None),
            ("nothing", "", None),
        ];
        for (name, value, expected) in cases {
            assert_eq!(parse(value, now), expected, "{name}");
        }
    }
}
