//! `forebay ingest`: appends and derives, sends nothing; through a running engine if there is one.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use forebay_engine::engine::{Engine, Progress};
use forebay_engine::error::EngineError;
use forebay_engine::views::IngestSummary;

use super::input::{self, Opened};
use crate::args::{Format, Global, Ingest};
use crate::configuration::load_config;
use crate::exit_code::{CliError, Outcome};
use crate::interruptible::Interruptible;
use crate::output::{self, counted, number};
use crate::progress::Bars;
use crate::serve::session::{Client, Session};
use crate::signals::SignalGuard;

/// Takes the whole input and says what became of it.
pub(crate) fn run(args: &Ingest, global: &Global) -> Result<Outcome, CliError> {
    let input = input::open(&args.input)?;
    let name = source_name(&args.input);
    let summary = match Session::derive(&global.data, || load_config(&global.config))? {
        Session::Running(client) => through(client, &name, input)?,
        Session::Local(engine) => here(*engine, &name, input)?,
    };
    input::tell_rejects(summary.rejected, &global.data);
    match global.output {
        Format::Json => output::json(&summary)?,
        Format::Text => output::text(&format!(
            "{} accepted, {} rejected, {} duplicate; the first has offset {}",
            number(summary.accepted),
            number(summary.rejected),
            number(summary.duplicate),
            summary.first_offset
        ))?,
    }
    Ok(if args.strict && summary.rejected > 0 { Outcome::Failed } else { Outcome::Ok })
}

/// How the input is called in rejects: a running engine may stand in another directory.
pub(super) fn source_name(path: &Path) -> String {
    if path == Path::new(input::STDIN) {
        return input::STDIN.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Sends the records to the engine that holds the directory.
fn through(mut client: Client, name: &str, mut input: Opened) -> Result<IngestSummary, CliError> {
    let bars = Bars::new();
    let mut read = 0;
    let summary = client.ingest(name, &mut input.bytes, &mut |sent| {
        read += sent;
        bars.sent(name, read, input.length);
    });
    bars.clear();
    summary
}

/// Takes the records in this process; a signal stops after what was accepted so far.
fn here(engine: Engine, name: &str, input: Opened) -> Result<IngestSummary, CliError> {
    let (summary, caught) = take_here(engine, (name, input), |engine, bytes, bars| {
        engine.read_stream(name, bytes, bars)
    })?;
    if caught {
        let accepted = summary.map(|summary| summary.accepted).unwrap_or_default();
        return Err(CliError::Failed(format!(
            "stopped by a signal before the end of {name}, with {} accepted",
            counted(accepted, "record")
        )));
    }
    Ok(summary?)
}

/// Lets `take` read `input` in this process, closes the engine, and tells whether a signal stopped it.
pub(super) fn take_here<T>(
    engine: Engine,
    (name, input): (&str, Opened),
    take: impl FnOnce(&Engine, &mut dyn Read, &dyn Progress) -> Result<T, EngineError>,
) -> Result<(Result<T, EngineError>, bool), CliError> {
    let signals = SignalGuard::install()?;
    let engine = Arc::new(engine);
    let stopping = Arc::clone(&engine);
    signals.on_first(move || stopping.request_stop());
    let bars = Bars::new();
    let mut bytes: Box<dyn Read> = if name == input::STDIN {
        let stdin = Interruptible::new(input.bytes, signals.stopped());
        Box::new(stdin.map_err(|error| CliError::Failed(format!("cannot read stdin: {error}")))?)
    } else {
        input.bytes
    };
    let taken = take(&engine, &mut bytes, &bars);
    bars.clear();
    for notice in engine.notices() {
        tell!("{}", input::notice_text(&notice));
    }
    signals.on_first(|| {});
    Arc::into_inner(engine).expect("the signal handler was the only other owner").close()?;
    Ok((taken, signals.caught()))
}
