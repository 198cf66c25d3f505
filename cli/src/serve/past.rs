//! Asks about the past: the process that holds the data directory, else its log, which is enough.

use std::path::Path;

use forebay_engine::engine::{History, Progress};
use forebay_engine::error::EngineError;

use super::protocol::{Answer, PastQuestion, Question};
use super::session::{Reached, exists, reach};
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
