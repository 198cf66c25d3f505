//! `forebay audience`: what audiences there are, and who is in them.

use forebay_engine::views::{AudienceView, IdentityView, MemberView};

use super::suggestion::check_known;
use crate::args::{Audience, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, Align, number, table};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{Session, ask_once, confused};

/// Members asked for at once.
const PAGE: usize = 1_000;

/// Members shown to a person who did not say how many.
const SHOWN: u64 = 100;

/// Does `forebay audience …`.
pub(crate) fn run(command: &Audience, global: &Global) -> Result<Outcome, CliError> {
    match command {
        Audience::List => list(global)?,
        Audience::Members { id, limit } => {
            let default = if global.output == Format::Text { SHOWN } else { u64::MAX };
            members(id, limit.unwrap_or(default), global)?;
        }
        Audience::Show(_) | Audience::Backtest(_) => {
            return Err(CliError::not_built("this command"));
        }
    }
    Ok(Outcome::Ok)
}

/// Draws one line an audience.
pub(crate) fn audience_table(audiences: &[AudienceView]) -> String {
    let columns = [
        ("audience", Align::Left),
        ("in", Align::Right),
        ("left", Align::Right),
        ("kind", Align::Left),
        ("merge policy", Align::Left),
        ("name", Align::Left),
    ];
    let row = |view: &AudienceView| {
        vec![
            view.id.clone(),
            number(view.realized),
            number(view.exited),
            view.kind.clone(),
            view.merge_policy.clone(),
            view.name.clone(),
        ]
    };
    table(&columns, &audiences.iter().map(row).collect::<Vec<_>>())
}

fn list(global: &Global) -> Result<(), CliError> {
    let answer = ask_once(&global.data, &Question::Audiences)?;
    let Answer::Audiences(audiences) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json_lines(&audiences),
        Format::Text if audiences.is_empty() => output::text("no audiences are configured"),
        Format::Text => output::text(&audience_table(&audiences)),
    }
}

fn members(id: &str, limit: u64, global: &Global) -> Result<(), CliError> {
    let mut session = Session::inspect(&global.data)?;
    let answer = session.ask(&Question::Audiences)?;
    let Answer::Audiences(audiences) = answer else { return Err(confused(&answer)) };
    let known: Vec<_> = audiences.iter().map(|view| view.id.clone()).collect();
    check_known("audience", id, &known)?;

    let (mut from, mut left, mut more) = (0, limit, true);
    while more && left > 0 {
        let wanted = PAGE.min(usize::try_from(left).unwrap_or(PAGE));
        let page = page(&mut session, id, (from, wanted))?;
        print(&page, global.output)?;
        more = page.len() == wanted;
        left -= page.len() as u64;
        from = page.last().map_or(from, |member| member.profile + 1);
    }
    session.close()?;
    let all: u64 = audiences.iter().filter(|a| a.id == id).map(|a| a.realized + a.exited).sum();
    if global.output == Format::Text && more && all > limit {
        tell!("{} of {}; --limit N shows more", number(limit), number(all));
    }
    Ok(())
}

fn page(
    session: &mut Session,
    id: &str,
    (from, limit): (u64, usize),
) -> Result<Vec<MemberView>, CliError> {
    let question = Question::Members { audience: id.to_owned(), from, limit };
    let answer = session.ask(&question)?;
    let Answer::Members(page) = answer else { return Err(confused(&answer)) };
    Ok(page)
}

fn print(page: &[MemberView], format: Format) -> Result<(), CliError> {
    if format == Format::Json {
        return output::json_lines(page);
    }
    page.iter().try_for_each(|member| {
        output::text(&format!(
            "{:<8} since {}  profile {}  {}",
            member.status,
            member.last_qualification_time,
            member.profile,
            identities(&member.identities)
        ))
    })
}

fn identities(identities: &[IdentityView]) -> String {
    let all: Vec<_> = identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
    all.join(" ")
}
