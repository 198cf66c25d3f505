//! `forebay dataflow`: how deliveries go.

use forebay_engine::views::{DataflowView, LatencyView};

use super::suggestion::check_known;
use crate::args::{Dataflow, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, dataflow_table, number};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Does `forebay dataflow …`.
pub(crate) fn run(command: &Dataflow, global: &Global) -> Result<Outcome, CliError> {
    let answer = ask_once(&global.data, &Question::Dataflows)?;
    let Answer::Dataflows(mut views) = answer else { return Err(confused(&answer)) };
    match command {
        Dataflow::List | Dataflow::Status { id: None } => {}
        Dataflow::Status { id: Some(id) } => {
            let known: Vec<_> = views.iter().map(|view| view.id.clone()).collect();
            check_known("dataflow", id, &known)?;
            views.retain(|view| view.id == *id);
        }
        Dataflow::Runs(_) => return Err(CliError::not_built("this command")),
    }
    match (command, global.output) {
        (_, Format::Json) => output::json_lines(&views)?,
        (_, Format::Text) if views.is_empty() => output::text("no dataflows are configured")?,
        (Dataflow::Status { id: Some(_) }, Format::Text) => {
            views.iter().try_for_each(|view| output::text(&page(view)))?;
        }
        (_, Format::Text) => output::text(&dataflow_table(&views))?,
    }
    Ok(Outcome::Ok)
}

fn page(view: &DataflowView) -> String {
    let error = view
        .last_error
        .as_ref()
        .map_or_else(String::new, |error| format!("\nlast error     {error}"));
    format!(
        "dataflow {} to {}: {}\n\n\
         last sequence  {}\n\
         delivered      {} since the start, {} retries\n\
         waiting        {}, of which {} in flight and {} parked for a retry\n\
         dead letters   {}\n\
         rate           {:.0} requests/s\n\
         request        {}\n\
         delivery       {}{error}",
        view.id,
        view.destination,
        view.state,
        view.last_sequence,
        number(view.delivered),
        number(view.retries),
        number(view.waiting),
        number(view.in_flight),
        number(view.parked),
        number(view.dead_letters),
        view.requests_per_second,
        latency(&view.request_ms),
        latency(&view.delivery_ms),
    )
}

fn latency(ms: &LatencyView) -> String {
    format!(
        "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        ms.p50, ms.p95, ms.p99, ms.max
    )
}
