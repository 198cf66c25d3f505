//! `forebay verify` and `forebay rebuild`: the log derived anew, to compare or to replace.

use forebay_engine::views::{DifferenceView, RebuildView, VerificationView};

use crate::args::{Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, counted, number, span};
use crate::progress::Bars;
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{Session, confused};

/// Compares; exit status 1 if anything differs.
pub(crate) fn verify(global: &Global) -> Result<Outcome, CliError> {
    let view = match Session::inspect(&global.data)? {
        Session::Local(engine) => {
            let bars = Bars::new();
            let verified = engine.verify(&bars);
            bars.clear();
            let view = verified?;
            engine.close()?;
            view
        }
        Session::Running(mut client) => {
            tell!("the running engine derives its log anew, beside its work");
            let answer = client.ask(&Question::Verify)?;
            let Answer::Verify(view) = answer else { return Err(confused(&answer)) };
            view
        }
    };
    match global.output {
        Format::Json => output::json(&view)?,
        Format::Text => output::text(&verification_text(&view))?,
    }
    Ok(if view.equal { Outcome::Ok } else { Outcome::Failed })
}

/// Replaces.
pub(crate) fn rebuild(global: &Global) -> Result<Outcome, CliError> {
    let view = match Session::inspect(&global.data)? {
        Session::Local(engine) => {
            let bars = Bars::new();
            let rebuilt = engine.rebuild(&bars);
            bars.clear();
            let view = rebuilt?;
            engine.close()?;
            view
        }
        Session::Running(mut client) => {
            tell!("the running engine derives its log anew, beside its work");
            let answer = client.ask(&Question::Rebuild)?;
            let Answer::Rebuild(view) = answer else { return Err(confused(&answer)) };
            view
        }
    };
    match global.output {
        Format::Json => output::json(&view)?,
        Format::Text => output::text(&rebuild_text(&view))?,
    }
    Ok(Outcome::Ok)
}

fn verification_text(view: &VerificationView) -> String {
    let profiles: Vec<String> = view
        .profiles
        .iter()
        .map(|(policy, count)| format!("{} of {policy}", counted(*count, "profile")))
        .collect();
    let profiles = if profiles.is_empty() { "no profiles".to_owned() } else { profiles.join(", ") };
    let verdict = match &view.difference {
        Some(difference) => difference_text(difference),
        None => "the log leads to what is derived: nothing differs".to_owned(),
    };
    let pace = pace(view.next_offset, (view.elapsed_ms, view.entries_per_second));
    format!("{verdict}\ncompared {profiles}; {pace}")
}

fn difference_text(difference: &DifferenceView) -> String {
    let known: Vec<String> =
        difference.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
    let whose = match (&difference.merge_policy, difference.profile) {
        (Some(policy), Some(profile)) => {
            format!(" of profile {profile} ({}) under merge policy {policy}", known.join(" "))
        }
        _ => String::new(),
    };
    let said = |what: &Option<String>| what.clone().unwrap_or_else(|| "nothing".to_owned());
    format!(
        "what is derived differs from what the log leads to, first in {}{whose}, before offset {}\n  \
         derived was  {}\n  log leads to {}\n`forebay rebuild` replaces what is derived.",
        difference.field,
        difference.next_offset,
        said(&difference.live),
        said(&difference.derived),
    )
}

fn rebuild_text(view: &RebuildView) -> String {
    let pace = pace(view.next_offset, (view.elapsed_ms, view.entries_per_second));
    format!("what is derived was replaced by what the log leads to; {pace}")
}

fn pace(entries: u64, (elapsed_ms, per_second): (u64, u64)) -> String {
    format!(
        "{} of the log in {} ({} a second)",
        counted(entries, "entry"),
        span(elapsed_ms),
        number(per_second)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forebay_engine::views::IdentityView;

    use super::*;

    #[test]
    fn a_difference_is_told_with_whose_it_is_and_both_values() {
        let identity = IdentityView { namespace: "crmid".into(), id: "c1".into() };
        let difference = DifferenceView {
            next_offset: 9,
            merge_policy: Some("default".into()),
            profile: Some(3),
            identities: vec![identity],
            field: "attributes.n".into(),
            live: Some("1".into()),
            derived: None,
        };
        let view = VerificationView {
            next_offset: 9,
            profiles: BTreeMap::from([("default".into(), 1_200)]),
            difference: Some(difference),
            elapsed_ms: 1_500,
            entries_per_second: 6,
            ..VerificationView::default()
        };
        let expected = "\
what is derived differs from what the log leads to, first in attributes.n of profile 3 (crmid:c1) \
under merge policy default, before offset 9
  derived was  1
  log leads to nothing
`forebay rebuild` replaces what is derived.
compared 1,200 profiles of default; 9 entries of the log in 1.5 s (6 a second)";
        assert_eq!(verification_text(&view), expected);
    }
}
