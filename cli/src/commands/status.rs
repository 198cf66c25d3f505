//! `forebay status`: one screen of health.

use forebay_engine::views::StatusView;

use super::audience::audience_table;
use crate::args::{Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, dataflow_table, number};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Prints the health of the data directory and of the engine on it, if one runs.
pub(crate) fn run(global: &Global) -> Result<Outcome, CliError> {
    let answer = ask_once(&global.data, &Question::Status)?;
    let Answer::Status(status) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&status)?,
        Format::Text => output::text(&screen(&status))?,
    }
    Ok(Outcome::Ok)
}

fn screen(status: &StatusView) -> String {
    let state = if status.running { "running" } else { "not running" };
    let boundary = status
        .next_boundary
        .as_ref()
        .map_or_else(String::new, |next| format!(", next window boundary {next}"));
    let log = &status.log;
    let mut lines = vec![
        format!("engine    {state}"),
        format!("clock     {} ({}){boundary}", status.clock, status.clock_kind),
        format!(
            "log       {} records, {} bytes in {} segments, next offset {}",
            number(log.records),
            number(log.bytes),
            number(log.segments),
            log.next_offset,
        ),
        format!("profiles  {}", number(status.profiles)),
    ];
    if status.running {
        lines.push(format!(
            "this run  {} accepted, {} rejected, {} duplicate",
            number(status.records.accepted),
            number(status.records.rejected),
            number(status.records.duplicate),
        ));
    }
    if !status.audiences.is_empty() {
        lines.push(format!("\n{}", audience_table(&status.audiences)));
    }
    if !status.dataflows.is_empty() {
        lines.push(format!("\n{}", dataflow_table(&status.dataflows)));
    }
    lines.join("\n")
}
