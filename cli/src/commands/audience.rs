//! `forebay audience`: what audiences there are, and who is in them.

use forebay_engine::views::{AudiencePage, AudienceView, IdentityView, MemberView};

use super::backtest;
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
        Audience::Show { id } => show(id, global)?,
        Audience::Backtest(args) => return backtest::run(args, global),
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

fn show(id: &str, global: &Global) -> Result<(), CliError> {
    let mut session = Session::inspect(&global.data)?;
    check_defined(&mut session, id)?;
    let answer = session.ask(&Question::Audience { id: id.to_owned() })?;
    session.close()?;
    let Answer::Audience(page) = answer else { return Err(confused(&answer)) };
    let Some(page) = page else {
        return Err(CliError::Failed(format!("audience `{id}` was removed a moment ago")));
    };
    match global.output {
        Format::Json => output::json(&page),
        Format::Text => output::text(&page_text(&page)),
    }
}

/// Lays an audience out for people.
fn page_text(page: &AudiencePage) -> String {
    let AudiencePage { audience, description, plan, dataflows, open_import } = page;
    let mut lines = vec![format!("audience {}: {}", audience.id, audience.name)];
    lines.extend((!description.is_empty()).then(|| format!("  {description}")));
    let (kind, policy) = (&audience.kind, &audience.merge_policy);
    let (realized, exited) = (number(audience.realized), number(audience.exited));
    lines.push(format!("  {kind} under merge policy {policy}; {realized} in, {exited} left"));
    if let Some(pql) = &audience.pql {
        lines.push("\nrule".to_owned());
        lines.extend(pql.lines().map(|line| format!("  {line}")));
    }
    lines.push("\nplan".to_owned());
    lines.extend(plan.iter().map(|line| format!("  {line}")));
    if let Some(offset) = open_import {
        lines.push(format!(
            "  an import that began at offset {offset} has not ended; if none is running it was cut \
             off: nobody left, and another `forebay import-audience` completes it"
        ));
    }
    lines.push("\ndataflows".to_owned());
    lines.extend(dataflows.iter().map(|id| format!("  {id}")));
    lines.extend(dataflows.is_empty().then(|| "  none maps it".to_owned()));
    lines.join("\n")
}

/// An error with the ids that are close, if there is no such audience; else all audiences.
fn check_defined(session: &mut Session, id: &str) -> Result<Vec<AudienceView>, CliError> {
    let answer = session.ask(&Question::Audiences)?;
    let Answer::Audiences(audiences) = answer else { return Err(confused(&answer)) };
    let known: Vec<_> = audiences.iter().map(|view| view.id.clone()).collect();
    check_known("audience", id, &known)?;
    Ok(audiences)
}

fn members(id: &str, limit: u64, global: &Global) -> Result<(), CliError> {
    let mut session = Session::inspect(&global.data)?;
    let audiences = check_defined(&mut session, id)?;
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

#[cfg(test)]
mod tests {
    use forebay_engine::views::{AudiencePage, AudienceView};

    use super::page_text;

    #[test]
    fn a_page_says_what_decides_who_is_in_and_where_it_goes() {
        let audience = AudienceView {
            id: "big".to_owned(),
            name: "Big spenders".to_owned(),
            kind: "rule".to_owned(),
            merge_policy: "default".to_owned(),
            pql: Some("total > 5\nor vip".to_owned()),
            realized: 1_234,
            exited: 5,
        };
        let page = AudiencePage {
            audience,
            description: "Who spends much".to_owned(),
            plan: vec!["attributes: total, vip".to_owned(), "changes by records only".to_owned()],
            dataflows: vec!["to_crm".to_owned()],
            open_import: None,
        };
        let expected = "\
audience big: Big spenders
  Who spends much
  rule under merge policy default; 1,234 in, 5 left

rule
  total > 5
  or vip

plan
  attributes: total, vip
  changes by records only

dataflows
  to_crm";
        assert_eq!(page_text(&page), expected);
        let upload = AudienceView { kind: "upload".to_owned(), pql: None, ..page.audience.clone() };
        let cut_off =
            AudiencePage { audience: upload, dataflows: vec![], open_import: Some(7), ..page };
        let text = page_text(&cut_off);
        for part in ["upload under", "began at offset 7 has not ended", "none maps it"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("\nrule"), "{text}");
    }
}
