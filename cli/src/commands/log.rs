//! `forebay log`: the event log as it lies on disk.

use forebay_engine::views::CompactionView;

use crate::args::{Format, Global, Log};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, number};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Does `forebay log …`.
pub(crate) fn run(command: &Log, global: &Global) -> Result<Outcome, CliError> {
    match command {
        Log::Stats => stats(global)?,
        Log::Compact => compact(global)?,
        Log::Cat(_) => return Err(CliError::not_built("this command")),
    }
    Ok(Outcome::Ok)
}

fn stats(global: &Global) -> Result<(), CliError> {
    let answer = ask_once(&global.data, &Question::LogStats)?;
    let Answer::LogStats(log) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&log),
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
        )),
    }
}

fn compact(global: &Global) -> Result<(), CliError> {
    let answer = ask_once(&global.data, &Question::Compact)?;
    let Answer::Compact(done) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&done),
        Format::Text => output::text(&compaction_text(&done)),
    }
}

fn compaction_text(done: &CompactionView) -> String {
    if *done == untouched(done) {
        return "nothing to remove: nothing was deleted since the last compaction".to_owned();
    }
    format!(
        "erased    {} records, {} rejected lines redacted\n\
         rewritten {} segments of the log, and the state\n\
         bytes     {} before, {} after",
        number(done.records),
        number(done.rejects),
        number(done.segments),
        number(done.bytes_before),
        number(done.bytes_after),
    )
}

/// What a compaction says that found nothing to do.
fn untouched(done: &CompactionView) -> CompactionView {
    let bytes = done.bytes_before;
    CompactionView { bytes_before: bytes, bytes_after: bytes, ..CompactionView::default() }
}
