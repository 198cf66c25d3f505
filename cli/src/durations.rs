//! Durations as people type them: `500ms`, `60s`, `5m`, `1h`, `2d`.

use std::time::Duration;

/// Reads a whole number with a unit. The error is a sentence for the one who typed it.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("`{text}` is no duration; write for example 500ms, 60s, 5m or 1h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        // (text, milliseconds)
        let cases = [
            ("500ms", Some(500)),
            ("60s", Some(60_000)),
            ("0s", Some(0)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("60", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, expected) in cases {
            let got = parse(text).ok().map(|d| d.as_millis());
            assert_eq!(got, expected, "{text}");
        }
    }
}
