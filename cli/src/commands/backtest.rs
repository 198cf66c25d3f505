//! `forebay audience backtest`: a rule tried on the log.

use std::io::Read;

use forebay_engine::engine;
use forebay_engine::views::{BacktestView, FlipView};

use crate::args::{Backtest, By, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, backtest_text};
use crate::serve::past::ask_past;
use crate::serve::protocol::{Answer, PastQuestion};
use crate::serve::session::confused;

/// Longest rule: as much as a request to a running engine can hold, escapes and all.
const RULE_BYTES_MAX: u64 = 24 * 1024;

/// Prints who would have entered and left.
pub(crate) fn run(args: &Backtest, global: &Global) -> Result<Outcome, CliError> {
    let question = PastQuestion::Backtest(engine::Backtest {
        pql: rule(args)?,
        source: args.file.display().to_string(),
        from: args.from,
        to: args.to,
        by: args.by.map(|by| match by {
            By::Hour => engine::By::Hour,
            By::Day => engine::By::Day,
        }),
        policy: args.merge_policy.clone(),
        dataflow: args.dataflow.clone(),
        flips_max: if args.members { args.limit } else { 0 },
    });
    let answer = ask_past(&global.data, question)?;
    let Answer::Backtest(view) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&view)?,
        Format::Text => {
            output::text(&backtest_text(&view, width()))?;
            if args.members {
                members(&view)?;
            }
        }
    }
    Ok(Outcome::Ok)
}

fn rule(args: &Backtest) -> Result<String, CliError> {
    let failed = |error| {
        let file = args.file.display();
        CliError::Usage(format!("cannot read the rule in {file}: {error}"))
    };
    let mut text = String::new();
    let read = if args.file.as_os_str() == "-" {
        std::io::stdin().lock().take(RULE_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(&args.file).map_err(failed)?;
        file.take(RULE_BYTES_MAX + 1).read_to_string(&mut text)
    };
    read.map_err(failed)?;
    if text.len() as u64 > RULE_BYTES_MAX {
        let file = args.file.display();
        return Err(CliError::Usage(format!(
            "the rule in {file} is longer than {RULE_BYTES_MAX} bytes"
        )));
    }
    // A rule that breaks off does so where it ends, not on the empty line behind the file's last one.
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// How wide the terminal is; what a file is to hold, where there is none.
fn width() -> usize {
    terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0))
}

fn members(view: &BacktestView) -> Result<(), CliError> {
    output::text("")?;
    view.flips.iter().try_for_each(|flip| output::text(&flip_text(flip)))?;
    let left = view.entries + view.exits - view.flips.len() as u64;
    if left > 0 {
        tell!("{left} more; --limit N shows more");
    }
    Ok(())
}

fn flip_text(flip: &FlipView) -> String {
    let known: Vec<_> =
        flip.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
    let verb = if flip.status == "realized" { "entered" } else { "left" };
    format!("{} {verb:<7} profile {}  {}", flip.at, flip.profile, known.join(" "))
}
