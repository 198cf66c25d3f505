//! `forebay log`: the event log as it lies on disk.

use forebay_engine::clock::{Clock, SystemClock, Timestamp};
use forebay_engine::engine::LogQuestion;
use forebay_engine::views::{CompactionView, LogEntryView, LogView, SizesView};

use crate::args::{Cat, Format, Global, Log};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, Lines, counted, number, printable};
use crate::serve::past::each_log_entry;
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{ask_once, confused};

/// Does `forebay log …`.
pub(crate) fn run(command: &Log, global: &Global) -> Result<Outcome, CliError> {
    match command {
        Log::Stats => stats(global)?,
        Log::Compact => compact(global)?,
        Log::Cat(cat) => self::cat(cat, global)?,
    }
    Ok(Outcome::Ok)
}

fn cat(cat: &Cat, global: &Global) -> Result<(), CliError> {
    let now = SystemClock::new().now();
    let at_ms = |since: crate::args::Since| since.at(now).as_millis();
    let identity = cat.identity.clone().map(|words| {
        let [namespace, id] = <[String; 2]>::try_from(words).expect("the parser takes two");
        (namespace, id)
    });
    let question = LogQuestion {
        from: cat.from,
        to: cat.to,
        since_ms: cat.since.map(at_ms),
        until_ms: cat.until.map(at_ms),
        kinds: cat.kind.iter().map(|kind| (*kind).into()).collect(),
        identity,
        limit: 0,
    };
    let mut lines = Lines::new();
    each_log_entry(&global.data, question, cat.limit.unwrap_or(u64::MAX), |entry| {
        match global.output {
            Format::Json => lines.json(entry),
            Format::Text => lines.text(&entry_text(entry)),
        }
    })?;
    lines.finish()
}

/// Offset, time, kind, and the line.
fn entry_text(entry: &LogEntryView) -> String {
    let what = match (&entry.record, &entry.summary, &entry.timestamp) {
        (Some(record), _, _) => printable(record.get()),
        (None, Some(summary), _) => printable(summary),
        (None, None, Some(timestamp)) => format!("an erased record of {timestamp}"),
        (None, None, None) => "an erased record".to_owned(),
    };
    format!("{:>10}  {}  {:<10}  {what}", entry.offset, entry.appended, entry.kind)
}

fn stats(global: &Global) -> Result<(), CliError> {
    let answer = ask_once(&global.data, &Question::LogStats)?;
    let Answer::LogStats(log) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&log),
        Format::Text => output::text(&stats_text(&log)),
    }
}

fn stats_text(log: &LogView) -> String {
    let mut lines = vec![
        format!("records      {}", number(log.records)),
        format!("next offset  {}", log.next_offset),
        format!(
            "bytes        {} on disk, {} before compression",
            number(log.bytes),
            number(log.raw_bytes)
        ),
        format!("chunks       {} in {}", number(log.chunks), counted(log.segments, "segment")),
    ];
    if let Some(sizes) = &log.sizes {
        lines.extend(sizes_lines(sizes));
    }
    lines.join("\n")
}

fn sizes_lines(sizes: &SizesView) -> Vec<String> {
    let time = |ms: Option<i64>| {
        ms.map_or_else(|| "-".to_owned(), |ms| Timestamp::from_millis(ms).to_string())
    };
    let bytes = |n| counted(n, "byte");
    vec![
        format!(
            "entries      {} control, {} of erased records",
            number(sizes.control_entries),
            counted(sizes.stubs, "stub")
        ),
        format!(
            "appended     {} to {}",
            time(sizes.first_appended_ms),
            time(sizes.last_appended_ms)
        ),
        format!("log          {} of compressed chunks", bytes(sizes.log_compressed_bytes)),
        format!(
            "state        {} on disk; live: {} of waiting exports, {} of a journal of {}",
            bytes(sizes.state_bytes),
            number(sizes.outbox_live_bytes),
            number(sizes.journal_live_bytes),
            counted(sizes.journal_exports, "export")
        ),
        format!("checkpoint   {}", bytes(sizes.checkpoint_bytes)),
        format!("rejects      {}", bytes(sizes.rejects_bytes)),
        format!(
            "directory    {} on disk, {} live: {} times as much",
            bytes(sizes.directory_bytes),
            number(sizes.live_bytes),
            sizes.space_amplification
        ),
    ]
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
        "erased    {}, {} redacted\n\
         rewritten {} of the log, and the state\n\
         bytes     {} before, {} after",
        counted(done.records, "record"),
        counted(done.rejects, "rejected line"),
        counted(done.segments, "segment"),
        number(done.bytes_before),
        number(done.bytes_after),
    )
}

/// What a compaction says that found nothing to do.
fn untouched(done: &CompactionView) -> CompactionView {
    let bytes = done.bytes_before;
    CompactionView { bytes_before: bytes, bytes_after: bytes, ..CompactionView::default() }
}
