//! Spans of time for people: two digits say enough.

/// `340 ms`, `12 s`, `3 min`, `2.5 h`, `4 d`.
pub(crate) fn span(ms: u64) -> String {
    // (milliseconds of the unit, the first span that is told in the next one, its name)
    const UNITS: [(u64, u64, &str); 4] = [
        (1, 1_000, "ms"),
        (1_000, 120_000, "s"),
        (60_000, 7_200_000, "min"),
        (3_600_000, 172_800_000, "h"),
    ];
    for (unit, end, name) in UNITS {
        if ms < end {
            return format!("{} {name}", short(ms, unit));
        }
    }
    format!("{} d", short(ms, 86_400_000))
}

/// A decimal only where there is one digit before it.
fn short(ms: u64, unit: u64) -> String {
    let tenths = ms / (unit / 10).max(1);
    if unit > 1 && tenths < 100 && !tenths.is_multiple_of(10) {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        (ms / unit).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_told_in_the_unit_that_fits() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_550, "1.5 s"),
            (12_900, "12 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (150_000, "2.5 min"),
            (7_200_000, "2 h"),
            (9_000_000, "2.5 h"),
            (172_800_000, "2 d"),
            (8_640_000_000, "100 d"),
        ];
        for (ms, expected) in cases {
            assert_eq!(span(ms), expected);
        }
    }
}
