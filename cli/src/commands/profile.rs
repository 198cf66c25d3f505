//! `forebay profile`: what is known of one customer, or was.

use forebay_engine::engine::{AsOf, ProfileQuestion};
use forebay_engine::views::ProfileView;
use serde_json::Value;

use crate::args::{Format, Global, Profile};
use crate::exit_code::{CliError, Outcome};
use crate::output;
use crate::serve::past::ask_past;
use crate::serve::protocol::{Answer, PastQuestion, Question};
use crate::serve::session::{ask_once, confused};

/// Prints the profile that has an identity; exit status 1 if none has.
pub(crate) fn run(args: &Profile, global: &Global) -> Result<Outcome, CliError> {
    let question = ProfileQuestion {
        namespace: args.namespace.clone(),
        id: args.id.clone(),
        policy: args.merge_policy.clone(),
        dataflow: args.dataflow.clone(),
    };
    let answer = match args.as_of {
        None => ask_once(&global.data, &Question::Profile(question))?,
        Some(as_of) => ask_past(&global.data, PastQuestion::Profile { question, as_of })?,
    };
    let Answer::Profile(profile) = answer else { return Err(confused(&answer)) };
    let Some(profile) = profile else { return Err(nobody(args)) };
    match global.output {
        Format::Json => output::json(&profile)?,
        Format::Text => output::text(&page(&profile, args.dataflow.as_deref()))?,
    }
    Ok(Outcome::Ok)
}

fn nobody(args: &Profile) -> CliError {
    let (had, when) = match args.as_of {
        None => ("has", String::new()),
        Some(AsOf::Offset(offset)) => ("had", format!(" as of offset {offset}")),
        Some(AsOf::Time(time)) => ("had", format!(" as of {time}")),
    };
    CliError::Failed(format!(
        "no profile {had} the identity {} `{}`{when} (namespaces compare case-insensitively, ids \
         exactly)",
        args.namespace, args.id
    ))
}

fn page(profile: &ProfileView, dataflow: Option<&str>) -> String {
    let mut lines = vec![format!(
        "profile {} under merge policy {}, clock {}, next offset {}\n\nidentities",
        profile.profile, profile.merge_policy, profile.clock, profile.next_offset
    )];
    for identity in &profile.identities {
        lines.push(format!("  {}: {}", identity.namespace, identity.id));
    }
    lines.push("\nmemberships".to_owned());
    for (audience, membership) in &profile.memberships {
        let (status, since) = (&membership.status, &membership.last_qualification_time);
        lines.push(format!("  {audience}: {status} since {since}"));
    }
    if profile.memberships.is_empty() {
        lines.push("  none".to_owned());
    }
    lines.push("\nattributes".to_owned());
    lines.push(indented(profile.attributes.get()));
    if let Some(dataflow) = dataflow {
        lines.push(format!("\npayload of {dataflow}"));
        lines.push(profile.payloads.get(dataflow).map_or_else(
            || format!("  none: it maps no audience of merge policy {}", profile.merge_policy),
            |payload| indented(payload.get()),
        ));
    }
    lines.join("\n")
}

/// Pretty-prints JSON two spaces in. Numbers that a 64-bit float cannot hold are shown exactly only
/// by `--output json`, so a text that would change is shown as it is.
fn indented(json: &str) -> String {
    let pretty = serde_json::from_str::<Value>(json)
        .ok()
        .filter(|value| value.to_string().len() == json.len())
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| json.to_owned());
    let lines: Vec<_> = pretty.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn attributes_are_laid_out_unless_that_would_change_a_number() {
        let cases = [
            (r#"{"a":{"b":1}}"#, "  {\n    \"a\": {\n      \"b\": 1\n    }\n  }"),
            (r#"{"a":1.50}"#, r#"  {"a":1.50}"#),
        ];
        for (json, expected) in cases {
            assert_eq!(indented(json), expected);
        }
    }
}
