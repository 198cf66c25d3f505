//! `forebay import-audience`: makes a CSV file an upload audience's whole membership; through a running
//! engine if there is one.

use std::io::{Cursor, Read};

use forebay_engine::engine::{Engine, Import, Progress, check_audience};
use forebay_engine::views::ImportSummary;

use super::ingest::{source_name, take_here};
use super::input::{self, Opened};
use crate::args::{Format, Global, ImportAudience};
use crate::configuration::load_config;
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, counted, number};
use crate::progress::Bars;
use crate::serve::session::{Client, Session};

/// As much of the file as surely holds its header row; a longer one is refused.
const HEAD_BYTES: u64 = (1 << 20) + 2;

/// Takes the whole file and says what became of it.
pub(crate) fn run(args: &ImportAudience, global: &Global) -> Result<Outcome, CliError> {
    let import = Import {
        audience: args.audience.clone(),
        column: args.identity_column.clone(),
        namespace: args.namespace.clone(),
        source: source_name(&args.csv),
    };
    let input = checked(input::open(&args.csv)?, &import)?;
    let config = || {
        let config = load_config(&global.config)?;
        check_audience(&config.definitions, &import.audience)?;
        Ok(config)
    };
    let summary = match Session::derive(&global.data, config)? {
        Session::Running(client) => through(client, &import, input)?,
        Session::Local(engine) => here(*engine, &import, input)?,
    };
    input::tell_rejects(summary.records.rejected, &global.data);
    match global.output {
        Format::Json => output::json(&summary)?,
        Format::Text => output::text(&format!(
            "{} accepted, {} rejected; {} exited",
            counted(summary.records.accepted, "member"),
            counted(summary.records.rejected, "row"),
            number(summary.exited)
        ))?,
    }
    Ok(if args.strict && summary.records.rejected > 0 { Outcome::Failed } else { Outcome::Ok })
}

/// The input again, once its header row is found right: a wrong file is refused before a data directory
/// is even opened.
fn checked(mut input: Opened, import: &Import) -> Result<Opened, CliError> {
    let mut head = Vec::new();
    let read = input.bytes.by_ref().take(HEAD_BYTES).read_to_end(&mut head);
    read.map_err(|error| CliError::Failed(format!("cannot read {}: {error}", import.source)))?;
    import.check_head(&head)?;
    Ok(Opened { bytes: Box::new(Cursor::new(head).chain(input.bytes)), ..input })
}

/// Sends the file to the engine that holds the directory.
fn through(
    mut client: Client,
    import: &Import,
    mut input: Opened,
) -> Result<ImportSummary, CliError> {
    let bars = Bars::new();
    let mut read = 0;
    let summary = client.import(import, &mut input.bytes, &mut |sent| {
        read += sent;
        bars.sent(&import.source, read, input.length);
    });
    bars.clear();
    summary
}

/// Imports in this process.
fn here(engine: Engine, import: &Import, input: Opened) -> Result<ImportSummary, CliError> {
    let length = input.length;
    let (summary, caught) = take_here(engine, (&import.source, input), |engine, bytes, bars| {
        engine.import_audience(import, bytes, &OfLength { bars, length })
    })?;
    if caught && summary.is_err() {
        return Err(CliError::Failed(format!(
            "stopped by a signal before the end of {}; nobody left `{}`, and the same command \
             completes the import",
            import.source, import.audience
        )));
    }
    Ok(summary?)
}

/// Knows how long the file is, which the engine, that reads a stream, does not.
struct OfLength<'a> {
    bars: &'a dyn Progress,
    length: Option<u64>,
}

impl Progress for OfLength<'_> {
    fn replay(&self, done: u64, total: u64) {
        self.bars.replay(done, total);
    }

    fn input(&self, name: &str, read: u64, total: Option<u64>, records: u64) {
        self.bars.input(name, read, total.or(self.length), records);
    }

    fn delivering(&self, waiting: u64) {
        self.bars.delivering(waiting);
    }
}
