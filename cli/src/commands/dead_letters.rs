//! `forebay dead-letters`: what was given up on; sending it again, keeping it elsewhere, forgetting it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use forebay_engine::clock::{Clock, SystemClock, Timestamp};
use forebay_engine::engine::{self, Selection};
use forebay_engine::views::{DeadLetterView, ReplayView};

use super::suggestion::check_known;
use crate::args::{DeadLetters, Format, Global, Payload, Which};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, counted, number, printable};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{Session, confused};

/// Dead letters asked for at once.
const PAGE: usize = 256;

/// Dead letters shown to a person who did not say how many.
const SHOWN: u64 = 100;

/// Does `forebay dead-letters …`.
pub(crate) fn run(command: &DeadLetters, global: &Global) -> Result<Outcome, CliError> {
    match command {
        DeadLetters::List(which) => list(which, global),
        DeadLetters::Replay { which, payload } => replay(which, *payload, global),
        DeadLetters::Export { which, to } => export(which, to, global),
        DeadLetters::Purge { which, all } => purge(which, *all, global),
    }
}

fn list(which: &Which, global: &Global) -> Result<Outcome, CliError> {
    let mut session = Session::inspect(&global.data)?;
    let selection = select(which, &mut session)?;
    let default = if global.output == Format::Text { SHOWN } else { u64::MAX };
    let limit = which.limit.unwrap_or(default);
    let (mut shown, mut more) = (0, false);
    // One more than is shown tells whether there are more.
    each(&mut session, &selection, limit.saturating_add(1), |letter| {
        more = shown == limit;
        if more {
            return Ok(());
        }
        shown += 1;
        match global.output {
            Format::Json => output::json(letter),
            Format::Text => output::text(&entry(letter)),
        }
    })?;
    session.close()?;
    if global.output == Format::Text && shown == 0 {
        output::text("no dead letters")?;
    }
    if global.output == Format::Text && more {
        tell!("the first {}; --limit N shows more", number(shown));
    }
    Ok(Outcome::Ok)
}

fn entry(letter: &DeadLetterView) -> String {
    let replay = if letter.replay { ", replay asked for" } else { "" };
    let mut lines = vec![
        letter.export.clone(),
        format!(
            "  dataflow {}, sequence {}, profile {}, for {}",
            letter.dataflow,
            letter.sequence,
            letter.profile,
            letter.causes.join(" and "),
        ),
        format!("  given up {}{replay}", letter.died),
    ];
    for attempt in &letter.attempts {
        lines.push(format!("  {}  {}", attempt.at, attempt.error));
        if let Some(line) = attempt.answer.lines().find(|line| !line.trim().is_empty()) {
            lines.push(format!("    answer: {}", printable(line)));
        }
    }
    lines.join("\n")
}

fn replay(which: &Which, payload: Payload, global: &Global) -> Result<Outcome, CliError> {
    let mut session = Session::inspect(&global.data)?;
    let by = match &session {
        Session::Running(_) => "the running engine sends them now",
        Session::Local(_) => "the next `forebay run` sends them",
    };
    let selection = select(which, &mut session)?;
    let payload = match payload {
        Payload::Original => engine::Payload::Original,
        Payload::Current => engine::Payload::Current,
    };
    let limit = which.limit.unwrap_or(u64::MAX);
    let answer = session.ask(&Question::ReplayDeadLetters { selection, limit, payload })?;
    let Answer::ReplayDeadLetters(done) = answer else { return Err(confused(&answer)) };
    session.close()?;
    tell_left(&done);
    match global.output {
        Format::Json => output::json(&done)?,
        Format::Text if done == ReplayView::default() => output::text("no dead letters to replay")?,
        Format::Text => output::text(&format!("{} to replay; {by}", number(done.replayed)))?,
    }
    let is_whole = done.no_dataflow == 0 && done.no_profile == 0;
    Ok(if is_whole { Outcome::Ok } else { Outcome::Failed })
}

fn tell_left(done: &ReplayView) {
    if done.no_dataflow > 0 {
        tell!(
            "{} left as they are: their dataflow is not configured any more; \
             `forebay dead-letters purge` forgets them",
            number(done.no_dataflow)
        );
    }
    if done.no_profile > 0 {
        tell!(
            "{} left as they are: their profile is not there any more, or not under a merge policy \
             that its dataflow maps; `replay --payload original` sends what was to be sent then",
            number(done.no_profile)
        );
    }
}

fn export(which: &Which, to: &Path, global: &Global) -> Result<Outcome, CliError> {
    let mut session = Session::inspect(&global.data)?;
    let selection = select(which, &mut session)?;
    let limit = which.limit.unwrap_or(u64::MAX);
    let mut exported = 0_u64;
    if to == Path::new("-") {
        each(&mut session, &selection, limit, |letter| {
            exported += 1;
            output::json(letter)
        })?;
        session.close()?;
        return Ok(Outcome::Ok);
    }
    let failed =
        |error: io::Error| CliError::Failed(format!("cannot write {}: {error}", to.display()));
    let mut file = BufWriter::new(create(to)?);
    each(&mut session, &selection, limit, |letter| {
        exported += 1;
        serde_json::to_writer(&mut file, letter).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)
    })?;
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    // Whoever purges next must be able to rely on it.
    file.sync_all().map_err(failed)?;
    session.close()?;
    match global.output {
        Format::Json => output::json(&serde_json::json!({ "exported": exported }))?,
        Format::Text => {
            output::text(&format!("{} in {}", counted(exported, "dead letter"), to.display()))?;
        }
    }
    Ok(Outcome::Ok)
}

/// A new file that only its owner reads: payloads are about people.
fn create(path: &Path) -> Result<File, CliError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Usage(format!(
            "{} is there already; name another file, or remove it first",
            path.display()
        )),
        _ => CliError::Usage(format!("cannot create {}: {error}", path.display())),
    })
}

fn purge(which: &Which, all: bool, global: &Global) -> Result<Outcome, CliError> {
    let is_narrowed = which.export.is_some()
        || which.dataflow.is_some()
        || which.since.is_some()
        || which.status.is_some();
    if !is_narrowed && !all {
        return Err(CliError::Usage(
            "which dead letters? Give an export id, --dataflow, --since or --status, or --all for \
             every one; `forebay dead-letters export` keeps a copy"
                .to_owned(),
        ));
    }
    let mut session = Session::inspect(&global.data)?;
    let selection = select(which, &mut session)?;
    let limit = which.limit.unwrap_or(u64::MAX);
    let answer = session.ask(&Question::PurgeDeadLetters { selection, limit })?;
    let Answer::PurgeDeadLetters(purged) = answer else { return Err(confused(&answer)) };
    session.close()?;
    match global.output {
        Format::Json => output::json(&serde_json::json!({ "purged": purged }))?,
        Format::Text => output::text(&format!("{} purged", counted(purged, "dead letter")))?,
    }
    Ok(Outcome::Ok)
}

/// What was typed as the engine understands it; a dataflow that nobody knows is refused.
fn select(which: &Which, session: &mut Session) -> Result<Selection, CliError> {
    if let Some(dataflow) = &which.dataflow {
        let answer = session.ask(&Question::DeadLetterCounts)?;
        let Answer::DeadLetterCounts(counts) = answer else { return Err(confused(&answer)) };
        let known: Vec<String> = counts.into_keys().collect();
        check_known("dataflow", dataflow, &known)?;
    }
    let since = which.since.map(|since| since.at(SystemClock::new().now()));
    Ok(Selection {
        export: which.export.clone(),
        dataflow: which.dataflow.clone(),
        since_ms: since.map(Timestamp::as_millis),
        last_attempt: which.status,
    })
}

/// Hands the dead letters that fit to `take`, at most `limit`, page by page.
fn each(
    session: &mut Session,
    selection: &Selection,
    limit: u64,
    mut take: impl FnMut(&DeadLetterView) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (mut after, mut left) = (None, limit);
    while left > 0 {
        let limit = PAGE.min(usize::try_from(left).unwrap_or(PAGE));
        let question = Question::DeadLetters { selection: selection.clone(), after, limit };
        let answer = session.ask(&question)?;
        let Answer::DeadLetters(page) = answer else { return Err(confused(&answer)) };
        left -= page.letters.len() as u64;
        page.letters.iter().try_for_each(&mut take)?;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}
