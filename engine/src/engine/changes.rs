//! What another configuration changes, in words.

use crate::config::Config;
use crate::definitions::{Change, Definitions, Edits, Identified};

/// The lines that tell a person what is otherwise from now on. `change` is what is history of it.
pub(super) fn told(
    definitions: &Definitions,
    change: Option<&Change>,
    (before, after): (Option<&Config>, &Config),
) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(change) = change {
        if change.settings.is_some() {
            told.push("settings changed".to_owned());
        }
        tell_edits("merge policy", &definitions.merge_policies, &change.merge_policies, &mut told);
        tell_edits("audience", &definitions.audiences, &change.audiences, &mut told);
        tell_edits("dataflow", &definitions.dataflows, &change.dataflows, &mut told);
    }
    if let Some(before) = before {
        tell_sending(change, (before, after), &mut told);
    }
    told
}

fn tell_edits<T: Identified>(kind: &str, old: &[T], edits: &Edits<T>, told: &mut Vec<String>) {
    for upsert in &edits.upserts {
        let is_known = old.iter().any(|known| known.id() == upsert.id());
        let verb = if is_known { "changed" } else { "added" };
        told.push(format!("{kind} {} {verb}", upsert.id()));
    }
    told.extend(edits.removals.iter().map(|id| format!("{kind} {id} removed")));
}

/// How exports travel is no history; it is told beside.
fn tell_sending(
    change: Option<&Change>,
    (before, after): (&Config, &Config),
    told: &mut Vec<String>,
) {
    for destination in &after.destinations {
        let id = &destination.settings.id;
        match before.destination(id) {
            None => told.push(format!("destination {id} added")),
            Some(known) if known != destination => told.push(format!("destination {id} changed")),
            Some(_) => {}
        }
    }
    for destination in &before.destinations {
        let id = &destination.settings.id;
        if after.destination(id).is_none() {
            told.push(format!("destination {id} removed"));
        }
    }
    for dataflow in &after.dataflows {
        let is_told = change.is_some_and(|change| {
            change.dataflows.upserts.iter().any(|upsert| upsert.id == dataflow.id)
        });
        if !is_told && before.dataflow(&dataflow.id).is_some_and(|known| known != dataflow) {
            told.push(format!("dataflow {} changed", dataflow.id));
        }
    }
}
