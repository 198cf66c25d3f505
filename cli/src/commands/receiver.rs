//! `forebay receiver`: prints the exports that arrive.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam::channel::{Sender, bounded};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::{self, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::counted;
use crate::receiver::{Received, Receiver, Settings};
use crate::signals::SignalGuard;

/// Listens until a signal comes, or nobody reads what is printed.
pub(crate) fn run(args: &args::Receiver, global: &Global) -> Result<Outcome, CliError> {
    let signals = SignalGuard::install()?;
    let (stop, stopped) = bounded(1);
    let printer = Arc::new(Printer {
        layout: Layout::of(global.output),
        count: AtomicU64::new(0),
        out: Mutex::new(BufWriter::new(io::stdout())),
        stop: stop.clone(),
    });
    let handler = Arc::clone(&printer);
    let settings = Settings { listen: args.listen, status: args.status };
    let receiver =
        Receiver::start(settings, move |received| handler.take(&received)).map_err(|error| {
            CliError::Failed(format!(
                "cannot listen on {}: {error}; --listen ADDR takes another address",
                args.listen
            ))
        })?;
    tell!("listening on http://{}, answering {}; Ctrl-C stops", receiver.address(), args.status);
    signals.on_first(move || ask(&stop, None));
    let ended = stopped.recv().expect("the signal handler holds a sender");
    receiver.stop();
    printer.finish()?;
    tell!("{} received", counted(printer.count.load(Ordering::Relaxed), "export"));
    ended.map_or(Ok(Outcome::Ok), Err)
}

/// Asks the command to end. One that is asked already need not hear it twice.
fn ask(stop: &Sender<Option<CliError>>, why: Option<CliError>) {
    if stop.try_send(why).is_err() {
        tracing::debug!("a stop was asked for already");
    }
}

/// How an export is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Several lines, for a person who watches.
    Pretty,
    /// A line with dataflow, sequence and body, for text that goes to a file.
    Line,
    /// A line of JSON.
    Json,
}

impl Layout {
    fn of(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Text if io::stdout().is_terminal() => Self::Pretty,
            Format::Text => Self::Line,
        }
    }
}

/// An export as one line of JSON.
#[derive(Serialize)]
struct ExportLine<'a> {
    dataflow: &'a str,
    sequence: Option<u64>,
    id: &'a str,
    target: &'a str,
    /// The body, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// The body, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Prints and counts. Whole lines, in the order taken.
struct Printer {
    layout: Layout,
    count: AtomicU64,
    out: Mutex<BufWriter<Stdout>>,
    stop: Sender<Option<CliError>>,
}

impl Printer {
    fn take(&self, received: &Received) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let text = render(received, self.layout);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        if let Err(error) = written {
            ask(&self.stop, Some(lost(&error)));
        }
    }

    fn finish(&self) -> Result<(), CliError> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.flush().map_err(|error| lost(&error))
    }
}

fn lost(error: &io::Error) -> CliError {
    match error.kind() {
        ErrorKind::BrokenPipe => CliError::ReaderGone,
        _ => CliError::Failed(format!("cannot write to stdout: {error}")),
    }
}

fn render(received: &Received, layout: Layout) -> String {
    let Received { dataflow, sequence, id, target, body } = received;
    let payload = serde_json::from_slice::<&RawValue>(body).ok();
    if layout == Layout::Json {
        let text = payload.is_none().then(|| String::from_utf8_lossy(body).into_owned());
        let line = ExportLine { dataflow, sequence: *sequence, id, target, payload, text };
        return serde_json::to_string(&line).expect("strings and JSON always serialise");
    }
    let sequence = sequence.map_or_else(|| "-".to_owned(), |sequence| sequence.to_string());
    let dataflow = if dataflow.is_empty() { "-" } else { dataflow };
    let body = String::from_utf8_lossy(body);
    if layout == Layout::Line {
        return format!("{dataflow} {sequence} {}", on_one_line(&body));
    }
    let pretty = serde_json::from_str::<serde_json::Value>(&body)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| body.into_owned());
    format!("{dataflow} #{sequence} to {target}\n{pretty}\n")
}

/// Keeps a body on one line.
fn on_one_line(body: &str) -> String {
    body.replace('\r', "\\r").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{Layout, render};
    use crate::receiver::Received;

    fn received(body: &str) -> Received {
        Received {
            dataflow: "d".to_owned(),
            sequence: Some(7),
            id: "e1".to_owned(),
            target: "/in".to_owned(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn exports_are_printed_for_who_reads_them() {
        // (layout, body, what is printed)
        let cases = [
            (Layout::Pretty, r#"{"a":1}"#, "d #7 to /in\n{\n  \"a\": 1\n}\n"),
            (Layout::Pretty, "garbage", "d #7 to /in\ngarbage\n"),
            (Layout::Line, "a\nb", "d 7 a\\nb"),
            (
                Layout::Json,
                r#"{"a":1.50}"#,
                r#"{"dataflow":"d","sequence":7,"id":"e1","target":"/in","payload":{"a":1.50}}"#,
            ),
            (
                Layout::Json,
                "garbage",
                r#"{"dataflow":"d","sequence":7,"id":"e1","target":"/in","text":"garbage"}"#,
            ),
        ];
        for (layout, body, expected) in cases {
            assert_eq!(render(&received(body), layout), expected, "{layout:?}");
        }
    }
}
