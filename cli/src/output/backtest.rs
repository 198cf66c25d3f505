//! A backtest as a table with a chart beside it, as wide as the terminal.

use forebay_engine::views::{BacktestView, BucketView};

use super::span::span;
use super::table::{Align, counted, number, table};

/// Narrowest chart that tells anything.
const CHART_MIN: usize = 10;

/// Widest chart: past that the eye does not follow a line.
const CHART_MAX: usize = 60;

/// Columns of a terminal that the table takes beside its chart, about: the widest time, four numbers.
const TABLE_WIDTH: usize = 62;

/// Lays a backtest out for people, in `width` columns.
pub(crate) fn backtest_text(view: &BacktestView, width: usize) -> String {
    let chart = width.saturating_sub(TABLE_WIDTH).clamp(CHART_MIN, CHART_MAX);
    let most = view.buckets.iter().map(|bucket| bucket.entries + bucket.exits).max().unwrap_or(0);
    let columns = [
        (if view.by == "day" { "day from" } else { "hour from" }, Align::Left),
        ("entered", Align::Right),
        ("left", Align::Right),
        ("in", Align::Right),
        ("requests", Align::Right),
        ("█ entered ░ left", Align::Left),
    ];
    let row = |bucket: &BucketView| {
        vec![
            short(&bucket.start),
            number(bucket.entries),
            number(bucket.exits),
            number(bucket.members),
            number(bucket.requests),
            bar(bucket, most, chart),
        ]
    };
    let rows: Vec<_> = view.buckets.iter().map(row).collect();
    let mut lines = vec![
        format!(
            "backtest under merge policy {}, {} to {}; {} in before",
            view.merge_policy,
            short(&view.from),
            short(&view.to),
            number(view.members_before)
        ),
        String::new(),
        table(&columns, &rows),
        String::new(),
        format!(
            "{} entered, {} left; a mapping would have made {}",
            number(view.entries),
            number(view.exits),
            counted(view.requests, "request")
        ),
    ];
    lines.extend(view.log_ends.as_ref().map(|at| format!("the log ends at {at}")));
    lines.push(format!(
        "{} of the log in {}",
        counted(view.entries_derived, "entry"),
        span(view.elapsed_ms)
    ));
    lines.join("\n")
}

/// `2026-01-01 05:00Z` of a whole minute; other times as they are.
fn short(time: &str) -> String {
    match time.strip_suffix(":00.000Z") {
        Some(minute) => minute.replace('T', " ") + "Z",
        None => time.to_owned(),
    }
}

/// A bar of entries and exits; whatever there is has a column at least.
fn bar(bucket: &BucketView, most: u64, columns: usize) -> String {
    let columns = columns as u64;
    let long = |count: u64| -> usize {
        let scaled = (count * columns).div_ceil(most.max(1));
        usize::try_from(scaled).unwrap_or(CHART_MAX)
    };
    let (entered, left) = (long(bucket.entries), long(bucket.exits));
    "█".repeat(entered) + &"░".repeat(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtest_is_a_table_with_a_chart() {
        let bucket = |start: &str, entries, exits, members| BucketView {
            start: start.to_owned(),
            entries,
            exits,
            members,
            requests: entries + exits + 1,
        };
        let view = BacktestView {
            from: "2026-01-01T00:30:00.500Z".to_owned(),
            to: "2026-01-03T00:00:00.000Z".to_owned(),
            by: "day".to_owned(),
            merge_policy: "default".to_owned(),
            members_before: 7,
            buckets: vec![
                bucket("2026-01-01T00:30:00.500Z", 1_000, 0, 1_007),
                bucket("2026-01-02T00:00:00.000Z", 1, 500, 508),
            ],
            entries: 1_001,
            exits: 500,
            requests: 1_503,
            log_ends: Some("2026-01-02T08:00:00.000Z".to_owned()),
            entries_derived: 12_345,
            elapsed_ms: 340,
            ..BacktestView::default()
        };
        let expected = "\
backtest under merge policy default, 2026-01-01T00:30:00.500Z to 2026-01-03 00:00Z; 7 in before

 day from                  entered  left     in  requests  █ entered ░ left
 2026-01-01T00:30:00.500Z    1,000     0  1,007     1,001  ██████████
 2026-01-02 00:00Z               1   500    508       502  █░░░░░

1,001 entered, 500 left; a mapping would have made 1,503 requests
the log ends at 2026-01-02T08:00:00.000Z
12,345 entries of the log in 340 ms";
        assert_eq!(backtest_text(&view, 20), expected);
        assert_eq!(bar(&view.buckets[0], 1_000, 4), "████");
        assert_eq!(bar(&bucket("", 0, 0, 0), 0, 4), "", "nothing happened at all");
    }
}
