//! `forebay status`: one screen of health.

use forebay_engine::views::{AudienceView, CheckpointView, StatusView};

use super::audience::audience_table;
use crate::args::{Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, counted, dataflow_table, destination_state, number, span};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Audiences on the screen.
const AUDIENCES_SHOWN: usize = 10;

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
    let state = match (status.running, status.reloading) {
        (true, true) => "running, taking another configuration",
        (true, false) => "running",
        (false, _) => "not running",
    };
    let boundary = status
        .next_boundary
        .as_ref()
        .map_or_else(String::new, |next| format!(", next window boundary {next}"));
    let log = &status.log;
    let mut lines = vec![
        format!("engine    {state}"),
        format!("clock     {} ({}){boundary}", status.clock, status.clock_kind),
        format!(
            "log       {}, {} in {}, next offset {}",
            counted(log.records, "record"),
            counted(log.bytes, "byte"),
            counted(log.segments, "segment"),
            log.next_offset,
        ),
        checkpoint(status.checkpoint),
        format!(
            "disk      {} free of {}",
            counted(status.disk.free_bytes, "byte"),
            number(status.disk.total_bytes)
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
    lines.push(format!("exports   {}", exports(status)));
    lines.push(format!("health    {}", health(status)));
    if !status.audiences.is_empty() {
        lines.push(format!("\n{}", audiences(&status.audiences)));
    }
    if !status.dataflows.is_empty() {
        lines.push(format!("\n{}", dataflow_table(&status.dataflows)));
    }
    lines.join("\n")
}

/// What an opening goes on from, and how much it has to derive again.
fn checkpoint(newest: Option<CheckpointView>) -> String {
    let Some(newest) = newest else {
        return "checkpoint none: an opening derives the whole log".to_owned();
    };
    format!(
        "checkpoint at offset {}, {}, {} behind it",
        newest.next_offset,
        counted(newest.bytes, "byte"),
        counted(newest.behind, "entry"),
    )
}

fn exports(status: &StatusView) -> String {
    let age = status
        .backlog_age_ms
        .map_or_else(String::new, |ms| format!(", the oldest for {}", span(ms)));
    let dead_letters = counted(status.dead_letters, "dead letter");
    format!("{} waiting{age}; {dead_letters}", number(status.waiting))
}

/// What a person should look at.
fn health(status: &StatusView) -> String {
    let failing = status.destinations.iter().filter(|destination| destination.is_failing());
    let mut lines: Vec<String> = failing
        .map(|destination| {
            format!("destination {}: {}", destination.id, destination_state(destination))
        })
        .collect();
    if status.disk.is_low {
        lines.push(
            "the disk is nearly full: make room; a full disk stops the engine, and nothing that was \
             accepted is lost"
                .to_owned(),
        );
    }
    if status.dead_letters > 0 {
        lines.push("`forebay dead-letters list` shows what was given up on".to_owned());
    }
    if lines.is_empty() {
        return if status.running { "ok" } else { "nothing is wrong; no engine is running" }
            .to_owned();
    }
    // Under each other, behind the name of the line.
    lines.join("\n          ")
}

/// The first audiences: all of them would not be one screen.
fn audiences(audiences: &[AudienceView]) -> String {
    let shown = &audiences[..audiences.len().min(AUDIENCES_SHOWN)];
    let more = audiences.len() - shown.len();
    let rest = if more > 0 {
        format!("\n and {more} more; `forebay audience list` shows all")
    } else {
        String::new()
    };
    format!("{}{rest}", audience_table(shown))
}
