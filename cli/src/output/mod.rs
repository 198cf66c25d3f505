//! Results on stdout: tables for people, one JSON object a line for programs.
//!
//! A reader that goes away (`| head`) is no failure; every function here says so with
//! [`CliError::ReaderGone`] and the command ends quietly.

/// Writes a line to stderr, as `eprintln!` does, but survives a stderr that nobody reads any more.
macro_rules! tell {
    ($($arguments:tt)*) => { $crate::output::tell_arguments(format_args!($($arguments)*)) };
}

mod backtest;
mod dataflow;
mod destination;
mod explanation;
mod export;
mod span;
mod summary;
mod table;

pub(crate) use backtest::backtest_text;
pub(crate) use dataflow::{dataflow_page, dataflow_table, dataflow_tables};
pub(crate) use destination::{destination_entry, destination_state, trial_text};
pub(crate) use explanation::standing_page;
pub(crate) use export::export_page;
pub(crate) use span::span;
pub(crate) use summary::summary_text;
pub(crate) use table::{Align, counted, number, table};

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use serde::Serialize;

use crate::exit_code::CliError;

/// Writes a line to stderr; see `tell!`.
pub(crate) fn tell_arguments(line: std::fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stderr().lock(), "{line}") {
        // There is nobody left to tell, and the work goes on; the log may go elsewhere.
        tracing::debug!(%error, "stderr is gone");
    }
}

/// Writes a line of text to stdout.
pub(crate) fn text(line: &str) -> Result<(), CliError> {
    checked(writeln!(io::stdout().lock(), "{line}"))
}

/// Writes `value` to stdout as one line of JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    text(&json_text(value)?)
}

/// Writes each value to stdout as one line of JSON.
pub(crate) fn json_lines<T: Serialize>(values: &[T]) -> Result<(), CliError> {
    values.iter().try_for_each(json)
}

/// Lines to stdout, many at a time: for what may be millions of them.
pub(crate) struct Lines(BufWriter<StdoutLock<'static>>);

impl Lines {
    /// Holds stdout until it is dropped.
    pub(crate) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a line of text.
    pub(crate) fn text(&mut self, line: &str) -> Result<(), CliError> {
        checked(writeln!(self.0, "{line}"))
    }

    /// Writes `value` as one line of JSON.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CliError> {
        let line = json_text(value)?;
        self.text(&line)
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        checked(self.0.flush())
    }
}

fn json_text<T: Serialize + ?Sized>(value: &T) -> Result<String, CliError> {
    serde_json::to_string(value)
        .map_err(|error| CliError::Failed(format!("cannot print the result as JSON: {error}")))
}

/// `text` without what could command a terminal: what an endpoint answered is not to be trusted.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Tells a reader that went away from an output that failed.
fn checked(written: io::Result<()>) -> Result<(), CliError> {
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Failed(format!("cannot write to stdout: {error}")),
    })
}
