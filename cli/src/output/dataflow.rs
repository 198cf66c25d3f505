//! Dataflows, for people: what is left to do, how fast it goes, how requests end.
//!
//! Twenty numbers a dataflow do not fit into a line of a terminal, so there are three tables, each for
//! one question and within 100 columns for ids of usual length.

use forebay_engine::views::{BackfillView, DataflowView, LatencyView};

use super::span::span;
use super::table::{Align, counted, number, table};

/// Draws one line a dataflow: how it is, and what is left to do.
pub(crate) fn dataflow_table(views: &[DataflowView]) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("destination", Align::Left),
        ("state", Align::Left),
        ("waiting", Align::Right),
        ("oldest", Align::Right),
        ("dead letters", Align::Right),
        ("exports/s", Align::Right),
        ("requests/s", Align::Right),
    ];
    let row = |view: &DataflowView| {
        vec![
            view.id.clone(),
            view.destination.clone(),
            view.state.clone(),
            number(view.waiting),
            oldest(view),
            number(view.dead_letters),
            rate(view.exports_per_second),
            rate(view.requests_per_second),
        ]
    };
    table(&columns, &views.iter().map(row).collect::<Vec<_>>())
}

/// Draws all there is to know of several dataflows.
pub(crate) fn dataflow_tables(views: &[DataflowView]) -> String {
    let mut parts = vec![dataflow_table(views)];
    if views.iter().any(|view| view.state != "stopped") {
        parts.push(attempt_table(views));
        parts.push(latency_table(views));
    }
    let backfills: Vec<String> = views.iter().filter_map(backfill_line).collect();
    if !backfills.is_empty() {
        parts.push(backfills.join("\n"));
    }
    let errors: Vec<String> = views.iter().filter_map(error_line).collect();
    if !errors.is_empty() {
        parts.push(errors.join("\n"));
    }
    parts.join("\n\n")
}

/// Draws all there is to know of one dataflow.
pub(crate) fn dataflow_page(view: &DataflowView) -> String {
    let mut lines = vec![format!("dataflow {} to {}: {}\n", view.id, view.destination, view.state)];
    let mut line = |name: &str, text: String| lines.push(format!("{name:<14} {text}"));
    line("last sequence", view.last_sequence.to_string());
    line("waiting", waiting(view));
    if let Some(backfill) = &view.backfill {
        line("backfill", backfill_text(backfill));
    }
    line("dead letters", dead_letters(view));
    if view.state == "stopped" {
        return lines.join("\n");
    }
    line(
        "exports",
        format!(
            "{} stored, {} delivered, {} collapsed since the start",
            number(view.exports),
            number(view.delivered),
            number(view.collapsed)
        ),
    );
    line(
        "rates",
        format!(
            "{} exports/s stored, {} requests/s",
            rate(view.exports_per_second),
            rate(view.requests_per_second)
        ),
    );
    line("attempts", attempts(view));
    line("request", latency(&view.request_ms));
    line("delivery", format!("{} (record accepted to delivered)", latency(&view.delivery_ms)));
    if let Some(error) = &view.last_error {
        let at = view.last_error_at.as_deref().unwrap_or_default();
        line("last error", format!("{error} ({at})"));
    }
    lines.join("\n")
}

fn attempt_table(views: &[DataflowView]) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("in flight", Align::Right),
        ("parked", Align::Right),
        ("2xx", Align::Right),
        ("3xx", Align::Right),
        ("4xx", Align::Right),
        ("5xx", Align::Right),
        ("timeout", Align::Right),
        ("connection", Align::Right),
        ("retries", Align::Right),
    ];
    let row = |view: &DataflowView| {
        let ended = &view.attempts;
        let numbers = [
            view.in_flight,
            view.parked,
            ended.success,
            ended.redirect,
            ended.client_error,
            ended.server_error,
            ended.timeout,
            ended.connection,
            view.retries,
        ];
        std::iter::once(view.id.clone()).chain(numbers.map(number)).collect()
    };
    table(&columns, &views.iter().map(row).collect::<Vec<_>>())
}

fn latency_table(views: &[DataflowView]) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("milliseconds", Align::Left),
        ("p50", Align::Right),
        ("p95", Align::Right),
        ("p99", Align::Right),
        ("max", Align::Right),
    ];
    let row = |id: &str, what: &str, ms: &LatencyView| {
        let shown = |value: f64| if ms.count > 0 { format!("{value:.1}") } else { "-".to_owned() };
        let numbers = [ms.p50, ms.p95, ms.p99, ms.max].map(shown);
        [id, what].into_iter().map(str::to_owned).chain(numbers).collect()
    };
    let rows = views.iter().flat_map(|view| {
        [
            row(&view.id, "request", &view.request_ms),
            row("", "record accepted to delivered", &view.delivery_ms),
        ]
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

fn backfill_text(backfill: &BackfillView) -> String {
    let left = backfill.left_ms.map_or_else(
        || "nothing was taken in the last seconds".to_owned(),
        |ms| format!("{} profiles/s, about {} left", rate(backfill.per_second), span(ms)),
    );
    format!("{} of {}, {left}", number(backfill.taken), counted(backfill.owed, "profile"))
}

fn backfill_line(view: &DataflowView) -> Option<String> {
    let backfill = view.backfill.as_ref()?;
    Some(format!(" {}: backfill: {}", view.id, backfill_text(backfill)))
}

fn error_line(view: &DataflowView) -> Option<String> {
    let at = view.last_error_at.as_deref().unwrap_or_default();
    view.last_error.as_ref().map(|error| format!(" {}: last error: {error} ({at})", view.id))
}

fn waiting(view: &DataflowView) -> String {
    if view.waiting == 0 {
        return "0".to_owned();
    }
    format!(
        "{}, the oldest for {}; {} in flight, {} parked for a retry{}",
        number(view.waiting),
        oldest(view),
        number(view.in_flight),
        number(view.parked),
        marked(view)
    )
}

/// Said where there are any: past the destination's disk budget.
fn marked(view: &DataflowView) -> String {
    if view.marked == 0 { String::new() } else { format!(", {} only marked", number(view.marked)) }
}

fn dead_letters(view: &DataflowView) -> String {
    let replays = if view.replays > 0 { ", some of them being replayed" } else { "" };
    format!("{}{replays}", number(view.dead_letters))
}

fn attempts(view: &DataflowView) -> String {
    let ended = &view.attempts;
    let all = [
        (ended.success, "2xx"),
        (ended.redirect, "3xx"),
        (ended.client_error, "4xx"),
        (ended.server_error, "5xx"),
        (ended.timeout, "timeout"),
        (ended.connection, "connection"),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{} {name}", number(*count)))
        .collect();
    let ways = if some.is_empty() { "none".to_owned() } else { some.join(", ") };
    format!("{ways}; {}, {}", counted(view.retries, "retry"), counted(ended.probes, "probe"))
}

fn oldest(view: &DataflowView) -> String {
    view.backlog_age_ms.map_or_else(|| "-".to_owned(), span)
}

fn latency(ms: &LatencyView) -> String {
    if ms.count == 0 {
        return "-".to_owned();
    }
    format!("p50 {:.1}, p95 {:.1}, p99 {:.1}, max {:.1} ms", ms.p50, ms.p95, ms.p99, ms.max)
}

/// Whole numbers where a decimal would say nothing.
fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

#[cfg(test)]
mod tests {
    use forebay_engine::views::{AttemptCounts, DataflowView, LatencyView};

    use super::{dataflow_page, dataflow_tables};

    /// As wide as a terminal that is not wide.
    const COLUMNS: usize = 100;

    fn busy() -> DataflowView {
        let latency = LatencyView { count: 9, p50: 1.25, p95: 10.0, p99: 25.0, max: 86_400_000.0 };
        DataflowView {
            id: "to_warehouse".to_owned(),
            destination: "warehouse".to_owned(),
            state: "holding".to_owned(),
            last_error: Some("status 503".to_owned()),
            last_error_at: Some("2026-01-01T00:00:00.000Z".to_owned()),
            waiting: 1_234_567,
            backlog_age_ms: Some(150_000),
            in_flight: 64,
            parked: 12,
            dead_letters: 1_234,
            attempts: AttemptCounts {
                success: 12_345_678,
                redirect: 0,
                client_error: 1_234,
                server_error: 56_789,
                timeout: 12,
                connection: 3,
                probes: 4,
            },
            exports_per_second: 12_345.0,
            requests_per_second: 8.25,
            request_ms: latency,
            delivery_ms: latency,
            ..DataflowView::default()
        }
    }

    #[test]
    fn everything_fits_into_a_terminal() {
        for text in [dataflow_tables(&[busy(), busy()]), dataflow_page(&busy())] {
            for line in text.lines() {
                assert!(line.chars().count() <= COLUMNS, "{} columns:\n{text}", line.len());
            }
            for part in ["2.5 min", "56,789", "8.2", "status 503", "25.0"] {
                assert!(text.contains(part), "no {part}:\n{text}");
            }
        }
    }

    #[test]
    fn a_stopped_engine_has_no_rates_to_show() {
        let stopped = DataflowView { state: "stopped".to_owned(), ..busy() };
        let text = dataflow_page(&stopped);
        assert!(text.contains("1,234,567") && !text.contains("p99"), "{text}");
        assert!(!dataflow_tables(&[stopped]).contains("p99"));
    }
}
