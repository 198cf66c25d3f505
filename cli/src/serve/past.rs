//! Asks about the past: the process that holds the data directory, else its log, which is enough.

use std::path::Path;

use forebay_engine::engine::{History, LogQuestion, Progress};
use forebay_engine::error::EngineError;
use forebay_engine::views::LogEntryView;

use super::protocol::{Answer, PastQuestion, Question};
use super::session::{Reached, confused, exists, reach};
use crate::exit_code::CliError;
use crate::progress::Bars;

/// Answers from the log.
pub(super) fn answer(
    history: &History,
    question: &PastQuestion,
    progress: &dyn Progress,
) -> Result<Answer, EngineError> {
    Ok(match question {
        PastQuestion::Profile { question, as_of } => {
            Answer::Profile(history.profile(question, *as_of, progress)?)
        }
        PastQuestion::Export { export } => {
            Answer::Export(Box::new(history.explain_export(export, progress)?))
        }
        PastQuestion::Log(question) => Answer::Log(history.log_page(question)?),
        PastQuestion::Backtest(asked) => Answer::Backtest(history.backtest(asked, progress)?),
    })
}

/// Asks whoever can answer about `data`.
pub(crate) fn ask_past(data: &Path, question: PastQuestion) -> Result<Answer, CliError> {
    exists(data)?;
    match reach(data, |clock| Ok(History::open(data, clock)))? {
        Reached::Running(mut client) => client.ask(&Question::Past(question)),
        Reached::Local(history) => {
            let bars = Bars::new();
            let answered = answer(&history, &question, &bars);
            bars.clear();
            Ok(answered?)
        }
    }
}

/// Hands the entries of the log of `data` that fit to `take`, page by page; at most `limit`.
pub(crate) fn each_log_entry(
    data: &Path,
    mut question: LogQuestion,
    limit: u64,
    mut take: impl FnMut(&LogEntryView) -> Result<(), CliError>,
) -> Result<(), CliError> {
    exists(data)?;
    let mut reached = reach(data, |clock| Ok(History::open(data, clock)))?;
    let mut left = limit;
    while left > 0 {
        question.limit = LOG_PAGE.min(usize::try_from(left).unwrap_or(LOG_PAGE));
        let page = match &mut reached {
            Reached::Local(history) => history.log_page(&question)?,
            Reached::Running(client) => {
                let asked = PastQuestion::Log(question.clone());
                match client.ask(&Question::Past(asked))? {
                    Answer::Log(page) => page,
                    other => return Err(confused(&other)),
                }
            }
        };
        left -= page.entries.len() as u64;
        page.entries.iter().try_for_each(&mut take)?;
        match page.next {
            Some(next) => question.from = next,
            None => break,
        }
    }
    Ok(())
}

/// Entries asked for at a time.
const LOG_PAGE: usize = 4096;
