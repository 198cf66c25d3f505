//! `forebay explain`: what is behind an export, and why a profile is, or is not, exported.

use forebay_engine::engine::StandingQuestion;

use crate::args::{Explain, Format, Global};
use crate::exit_code::{CliError, Outcome};
use crate::output;
use crate::serve::past::ask_past;
use crate::serve::protocol::{Answer, PastQuestion, Question};
use crate::serve::session::{ask_once, confused};

/// Prints the explanation asked for.
pub(crate) fn run(args: &Explain, global: &Global) -> Result<Outcome, CliError> {
    match (args.export.as_deref(), args.profile.as_deref(), args.dataflow.as_deref()) {
        (None, Some([namespace, id]), Some(dataflow)) => {
            let question = StandingQuestion {
                namespace: namespace.clone(),
                id: id.clone(),
                dataflow: dataflow.to_owned(),
                policy: args.merge_policy.clone(),
            };
            standing(&question, global)
        }
        (Some(id), ..) => export(id, global),
        _ => unreachable!("an export, or a profile and a dataflow, were asked for"),
    }
}

fn export(id: &str, global: &Global) -> Result<Outcome, CliError> {
    let answer = ask_past(&global.data, PastQuestion::Export { export: id.to_owned() })?;
    let Answer::Export(view) = answer else { return Err(confused(&answer)) };
    match global.output {
        Format::Json => output::json(&view)?,
        Format::Text => output::text(&output::export_page(&view))?,
    }
    Ok(Outcome::Ok)
}

fn standing(question: &StandingQuestion, global: &Global) -> Result<Outcome, CliError> {
    let answer = ask_once(&global.data, &Question::ExplainStanding(question.clone()))?;
    let Answer::ExplainStanding(view) = answer else { return Err(confused(&answer)) };
    let Some(view) = view else {
        return Err(CliError::Failed(format!(
            "no profile has the identity {} `{}`: no record has named it, or it was deleted \
             (namespaces compare case-insensitively, ids exactly)",
            question.namespace, question.id
        )));
    };
    match global.output {
        Format::Json => output::json(&view)?,
        Format::Text => output::text(&output::standing_page(&view))?,
    }
    Ok(Outcome::Ok)
}
