//! Dataflows, for people.

use forebay_engine::views::DataflowView;

use super::table::{Align, number, table};

/// Draws one line a dataflow: how it is, what is left to do, and how fast it goes.
pub(crate) fn dataflow_table(views: &[DataflowView]) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("destination", Align::Left),
        ("state", Align::Left),
        ("delivered", Align::Right),
        ("waiting", Align::Right),
        ("in flight", Align::Right),
        ("parked", Align::Right),
        ("retries", Align::Right),
        ("dead letters", Align::Right),
        ("req/s", Align::Right),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
    ];
    let mut lines = vec![table(&columns, &views.iter().map(row).collect::<Vec<_>>())];
    for view in views {
        if let Some(error) = &view.last_error {
            lines.push(format!(" {}: last error: {error}", view.id));
        }
    }
    lines.join("\n")
}

fn row(view: &DataflowView) -> Vec<String> {
    vec![
        view.id.clone(),
        view.destination.clone(),
        view.state.clone(),
        number(view.delivered),
        number(view.waiting),
        number(view.in_flight),
        number(view.parked),
        number(view.retries),
        number(view.dead_letters),
        format!("{:.0}", view.requests_per_second),
        format!("{:.1}", view.request_ms.p50),
        format!("{:.1}", view.request_ms.p99),
    ]
}
