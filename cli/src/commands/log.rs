//! `forebay log`: the event log as it lies on disk.

use crate::args::{Format, Global, Log};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, number};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Does `forebay log …`.
pub(crate) fn run(command: &Log, global: &Global) -> Result<Outcome, CliError> {
    if !matches!(command, Log::Stats) {
        return Err(CliError::not_built("this command"));
    }
    let answer = ask_once(&global.data, &Question::LogStats)?;
    let Answer::LogStats(log) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&log)?,
        Format::Text => output::text(&format!(
            "records      {}\n\
             next offset  {}\n\
             bytes        {} on disk, {} before compression\n\
             chunks       {} in {} segments",
            number(log.records),
            log.next_offset,
            number(log.bytes),
            number(log.raw_bytes),
            number(log.chunks),
            number(log.segments),
        ))?,
    }
    Ok(Outcome::Ok)
}
