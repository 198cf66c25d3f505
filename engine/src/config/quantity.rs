//! Amounts with a unit: durations such as `15s`, sizes such as `10GB`.
//!
//! A number is whole and has exactly one unit, so that a value can be read in one way only.

use std::time::Duration;

/// Units of time, in milliseconds.
const TIME_UNITS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("m", 60 * 1000),
    ("h", 60 * 60 * 1000),
    ("d", 24 * 60 * 60 * 1000),
    ("w", 7 * 24 * 60 * 60 * 1000),
];

/// Units of size, in bytes: powers of 1000, and with an `i` of 1024.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Longest duration, a hundred years: far from where sums of instants would overflow.
pub(super) const DURATION_MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// Reads a duration: `250ms`, `15s`, `10m`, `2h`, `30d`, `1w`. The error says what is wrong.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let fault = |why: &str| format!("`{text}` is no duration: {why}");
    let millis = amount(text, TIME_UNITS)
        .map_err(|why| fault(why.say("`ms`, `s`, `m`, `h`, `d` or `w`, as in `15s`").as_str()))?;
    Some(Duration::from_millis(millis))
        .filter(|duration| *duration <= DURATION_MAX)
        .ok_or_else(|| fault("it is longer than 100 years"))
}

/// Reads a size in bytes: `512MiB`, `10GB`. The error says what is wrong.
pub(super) fn size(text: &str) -> Result<u64, String> {
    amount(text, SIZE_UNITS).map_err(|why| {
        let why =
            why.say("`B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`, as in `10GB`");
        format!("`{text}` is no size: {why}")
    })
}

/// How `duration` is written: in the largest unit that leaves no rest.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole =
        TIME_UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit));
    whole.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

/// Why a text is no amount.
enum Fault {
    Number,
    Unit,
    TooLarge,
}

impl Fault {
    fn say(&self, units: &str) -> String {
        match self {
            Self::Number => format!("it is a whole number and a unit, {units}"),
            Self::Unit => format!("its unit is one of {units}"),
            Self::TooLarge => "it is too large".to_owned(),
        }
    }
}

fn amount(text: &str, units: &[(&str, u64)]) -> Result<u64, Fault> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() || unit.starts_with(['.', ',', '_']) {
        return Err(Fault::Number);
    }
    let unit = unit.trim_start_matches(' ');
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or(Fault::Unit)?;
    let number: u64 = number.parse().map_err(|_| Fault::TooLarge)?;
    number.checked_mul(*factor).ok_or(Fault::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        // (text, milliseconds, or a part of what is said)
        let cases = [
            ("250ms", Ok(250)),
            ("15s", Ok(15_000)),
            ("10m", Ok(600_000)),
            ("2h", Ok(7_200_000)),
            ("30d", Ok(2_592_000_000)),
            ("1w", Ok(604_800_000)),
            ("0s", Ok(0)),
            ("2 h", Ok(7_200_000)),
            ("15", Err("its unit is one of")),
            ("15 minutes", Err("its unit is one of")),
            ("15S", Err("its unit is one of")),
            ("1h30m", Err("its unit is one of")),
            ("1.5h", Err("a whole number")),
            ("-1s", Err("a whole number")),
            ("", Err("a whole number")),
            ("s", Err("a whole number")),
            ("36501d", Err("longer than 100 years")),
            ("99999999999999999999s", Err("too large")),
            ("9999999999999999999w", Err("too large")),
        ];
        for (text, expected) in cases {
            match (duration(text), expected) {
                (Ok(got), Ok(millis)) => assert_eq!(got, Duration::from_millis(millis), "{text}"),
                (Err(got), Err(part)) => assert!(got.contains(part), "{text}: {got}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        // (text, bytes)
        let cases = [
            ("10GB", Some(10_000_000_000)),
            ("512MiB", Some(536_870_912)),
            ("1 KiB", Some(1024)),
            ("7B", Some(7)),
            ("1TiB", Some(1 << 40)),
            ("10", None),
            ("10Gb", None),
            ("99999999TB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_would_be_read() {
        for text in ["250ms", "15s", "90s", "10m", "2h", "30d", "1w", "0s"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }
}
