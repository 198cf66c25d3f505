//! What follows from a profile's standing: what would export it, what is missing, what it waits for.

use super::open_exports::OpenExports;
use crate::views::DataflowView;
use crate::views::explanation::{FindingView, OpenExportView, StandingView};

/// The findings, those about the profile first, then those about delivery.
pub(super) fn findings(
    standing: &StandingView,
    open: &OpenExports,
    flow: &DataflowView,
) -> Vec<FindingView> {
    let mut all = Vec::new();
    membership(standing, &mut all);
    attributes(standing, open, &mut all);
    if let Some(ahead) = standing.backfill_ahead {
        let text = match ahead {
            0 => "it is owed a backfill export, which is taken next".to_owned(),
            1 => "it is owed a backfill export; 1 profile comes before it".to_owned(),
            _ => format!("it is owed a backfill export; {ahead} profiles come before it"),
        };
        push(&mut all, "backfill_owed", text);
    }
    if open.is_marked {
        let text = "it is marked: the disk budget of the destination is used up, and the profile is \
                    exported as it is once there is room";
        push(&mut all, "marked", text.to_owned());
    }
    all.extend(open.views.iter().map(waiting));
    if !open.is_whole {
        let text = "so many exports wait that not all were looked through for this profile's";
        push(&mut all, "not_all_looked_through", text.to_owned());
    }
    if let Some(letter) = &open.dead_letter {
        let text = format!(
            "its export {} was given up on at {}; `forebay explain {}` tells why, \
             `forebay dead-letters replay {}` sends it again",
            letter.sequence, letter.at, letter.export, letter.export
        );
        push(&mut all, "dead_letter", text);
    }
    delivery(flow, &mut all);
    all
}

/// Which of the causes would export it now.
fn membership(standing: &StandingView, all: &mut Vec<FindingView>) {
    let ids: Vec<&str> = standing.audiences.iter().map(|audience| audience.id.as_str()).collect();
    let ids = ids.join(", ");
    let is_on = |trigger: &str| standing.triggers.iter().any(|on| on == trigger);
    let flips = format!("entering or leaving one of the mapped audiences ({ids})");
    if standing.realized {
        let mut would = Vec::new();
        if is_on("segment") {
            would.push(flips.as_str());
        }
        if is_on("attribute") && !standing.attributes.is_empty() {
            would.push("a write of a mapped attribute");
        }
        if is_on("identity") {
            would.push("a change of its identities");
        }
        let text = if would.is_empty() {
            "nothing would export it: no trigger is on that could fire".to_owned()
        } else {
            format!("these would export it: {}", would.join("; "))
        };
        push(all, "in_audience", text);
    } else {
        let mut text = format!("it is realized in none of the mapped audiences ({ids}): ");
        text.push_str("attribute and identity changes do not export it");
        if is_on("segment") {
            text.push_str("; entering one does");
        }
        push(all, "in_no_audience", text);
    }
    for (trigger, what) in [
        ("segment", "entering and leaving audiences"),
        ("attribute", "writes of mapped attributes"),
        ("identity", "changes of identities"),
    ] {
        if !is_on(trigger) {
            let text = format!("the trigger `{trigger}` is off: {what} export nothing");
            push(all, &format!("trigger_off_{trigger}"), text);
        }
    }
}

fn attributes(standing: &StandingView, open: &OpenExports, all: &mut Vec<FindingView>) {
    if standing.attributes.is_empty() {
        let text = "the dataflow maps no attribute: writes export nothing, and payloads show none";
        return push(all, "no_attribute_mapped", text.to_owned());
    }
    let written = standing.attributes.iter().filter(|attribute| attribute.written_at.is_some());
    let Some(last) = written.max_by_key(|attribute| attribute.written_at) else {
        let text = "no record of this profile has written a mapped attribute";
        return push(all, "no_attribute_written", text.to_owned());
    };
    let offset = last.written_at.unwrap_or_default();
    let newest = open.newest();
    let text = match &newest {
        Some(export) if export.offset >= offset => format!(
            "no record has written a mapped attribute since its export {} (offset {}); the last was \
             the one at offset {offset} ({})",
            export.sequence, export.offset, last.path
        ),
        _ => format!(
            "the last record that wrote a mapped attribute is at offset {offset} ({})",
            last.path
        ),
    };
    push(all, "last_attribute_write", text);
}

fn waiting(export: &OpenExportView) -> FindingView {
    let tried = match (export.failures, &export.last_error) {
        (0, _) => String::new(),
        (1, None) => ", 1 attempt failed".to_owned(),
        (1, Some(error)) => format!(", 1 attempt failed ({error})"),
        (n, None) => format!(", {n} attempts failed"),
        (n, Some(error)) => format!(", {n} attempts failed (the last: {error})"),
    };
    let name = format!("its export {} (offset {}{tried})", export.sequence, export.offset);
    let text = match (export.state.as_str(), &export.behind, &export.retry_at) {
        ("in_flight", _, _) => format!("{name} is being sent"),
        ("next", _, _) => format!("{name} is sent as soon as the dataflow sends"),
        ("behind", Some(before), _) => format!("{name} waits until export {before} is done"),
        (_, _, Some(due)) => format!("{name} waits for its retry at {due}"),
        _ => format!("{name} is stored and waits for its turn"),
    };
    let code = if export.state == "retry" { "waits_for_retry" } else { "waits" };
    FindingView { code: code.to_owned(), text }
}

/// Why the dataflow sends nothing, if it does not.
fn delivery(flow: &DataflowView, all: &mut Vec<FindingView>) {
    let error = flow.last_error.as_deref().unwrap_or("no error is known");
    let (code, text) = match flow.state.as_str() {
        "stopped" => (
            "stopped",
            "no engine runs: exports are stored, nothing is sent until \
                                  `forebay run`"
                .to_owned(),
        ),
        "paused" => (
            "paused",
            "the dataflow is paused by the configuration (`paused = true`): \
                                exports are stored, nothing is sent"
                .to_owned(),
        ),
        "holding" => (
            "holding",
            format!(
                "the breaker has paused the destination {:?} ({error}); it \
                                          is probed until it answers",
                flow.destination
            ),
        ),
        "gone" => (
            "gone",
            format!(
                "the destination {:?} is paused by a 410 until the next run; its \
                                    exports are kept",
                flow.destination
            ),
        ),
        _ => return,
    };
    push(all, code, text);
}

fn push(all: &mut Vec<FindingView>, code: &str, text: String) {
    all.push(FindingView { code: code.to_owned(), text });
}
