//! `forebay dead-letters`: what was given up on, and sending it again.

use forebay_engine::views::DeadLetterView;

use crate::args::{DeadLetters, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output;
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{Session, ask_once, confused};

/// Does `forebay dead-letters …`.
pub(crate) fn run(command: &DeadLetters, global: &Global) -> Result<Outcome, CliError> {
    match command {
        DeadLetters::List { dataflow, limit } => {
            list(&Question::DeadLetters { dataflow: dataflow.clone(), limit: *limit }, global)?;
        }
        DeadLetters::Replay { export, dataflow, payload: _ } => {
            let question =
                Question::ReplayDeadLetters { dataflow: dataflow.clone(), export: export.clone() };
            replay(&question, global)?;
        }
        DeadLetters::Export(_) | DeadLetters::Purge(_) => {
            return Err(CliError::not_built("this command"));
        }
    }
    Ok(Outcome::Ok)
}

fn list(question: &Question, global: &Global) -> Result<(), CliError> {
    let answer = ask_once(&global.data, question)?;
    let Answer::DeadLetters(letters) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json_lines(&letters),
        Format::Text if letters.is_empty() => output::text("no dead letters"),
        Format::Text => letters.iter().try_for_each(|letter| output::text(&entry(letter))),
    }
}

fn entry(letter: &DeadLetterView) -> String {
    let replay = if letter.replay { ", replay asked for" } else { "" };
    let mut lines = vec![format!(
        "{}  dataflow {}, sequence {}, profile {}, given up {}{replay}",
        letter.export, letter.dataflow, letter.sequence, letter.profile, letter.died
    )];
    for attempt in &letter.attempts {
        let status = attempt.status.map(|status| format!("{status} ")).unwrap_or_default();
        lines.push(format!("  {}  {status}{}", attempt.at, attempt.error));
        if let Some(line) = attempt.answer.lines().find(|line| !line.trim().is_empty()) {
            lines.push(format!("    answer: {line}"));
        }
    }
    lines.join("\n")
}

fn replay(question: &Question, global: &Global) -> Result<(), CliError> {
    let mut session = Session::inspect(&global.data)?;
    let by = match &session {
        Session::Running(_) => "the running engine sends them now",
        Session::Local(_) => "the next `forebay run` sends them",
    };
    let answer = session.ask(question)?;
    let Answer::ReplayDeadLetters(count) = answer else { return Err(confused(&answer)) };
    session.close()?;
    match global.output {
        Format::Json => output::json(&serde_json::json!({ "replayed": count })),
        Format::Text if count == 0 => output::text("no dead letters to replay"),
        Format::Text => output::text(&format!("{count} to replay; {by}")),
    }
}
