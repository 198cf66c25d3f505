//! An export explained, for people: what became of it first, then why, then what it says.

use forebay_engine::views::export::{
    AttributeChangeView, ChangesView, EntryView, ExportView, MembershipChangeView, OriginView,
    SourceView,
};
use forebay_engine::views::{AttemptView, IdentityView, MembershipView};
use serde_json::value::RawValue;

use super::explanation::{clause_lines, identities, json_text};
use super::{counted, printable};

/// Draws everything that is known of an export.
pub(crate) fn export_page(view: &ExportView) -> String {
    let mut lines = vec![
        format!("export {}", view.export),
        format!("  number    {} of dataflow {}", view.sequence, view.dataflow),
        format!("  outcome   {}", outcome(view)),
    ];
    if let Some(origin) = &view.origin {
        lines.extend(origin_lines(origin));
    }
    if !view.attempts.is_empty() {
        lines.push("\nfailed attempts".to_owned());
        lines.extend(view.attempts.iter().map(attempt_line));
    }
    if let Some(line) = view.origin.as_ref().and_then(|origin| origin.entry.line.as_ref()) {
        lines.push(format!("\nrecord\n  {}", printable(line)));
    }
    if let Some(payload) = &view.payload {
        let from = match view.payload_from.as_deref() {
            Some("derived") => " (derived again from the log)",
            _ => "",
        };
        lines.push(format!("\npayload{from}\n  {}", printable(payload.get())));
    }
    lines.join("\n")
}

fn outcome(view: &ExportView) -> String {
    let outcome = &view.outcome;
    match outcome.failures {
        0 => outcome.text.clone(),
        n => format!("{}; {} failed", outcome.text, counted(n.into(), "attempt")),
    }
}

fn origin_lines(origin: &OriginView) -> Vec<String> {
    let mut lines = vec![
        format!(
            "  profile   {} under merge policy {}: {}",
            origin.profile,
            origin.merge_policy,
            identities(&origin.identities)
        ),
        format!("  step      {}", step(origin)),
    ];
    if let (Some(source), None) = (&origin.entry.source, &origin.boundary) {
        lines.push(format!("  read in   {}", source_text(source)));
    }
    lines.push(format!("  clock     {}", origin.now));
    lines.push("\nbecause of".to_owned());
    let causes = origin.causes.iter();
    lines.extend(causes.map(|cause| format!("  {}: {}", cause.cause, printable(&cause.text))));
    lines.extend(change_lines(&origin.changes));
    lines.extend(origin.notes.iter().map(|note| format!("\nnote: {note}")));
    lines
}

fn step(origin: &OriginView) -> String {
    let entry = &origin.entry;
    let what = entry_text(entry);
    match &origin.boundary {
        Some(boundary) => {
            format!("the window boundary at {boundary}, which {what} moved the clock to or past")
        }
        None => what,
    }
}

fn entry_text(entry: &EntryView) -> String {
    let (offset, appended) = (entry.offset, &entry.appended);
    let kind = match entry.kind.as_str() {
        "profile" => "the profile record",
        "event" => "the event",
        "membership" => "the membership record",
        "delete" => "the delete",
        "erased" => "a record that is erased",
        "definitions" => "the change of the configuration",
        "tick" => "the clock",
        "advance" => "`--advance-to`",
        "import_end" => "the end of the import",
        other => other,
    };
    let timestamp =
        entry.timestamp.as_ref().map_or_else(String::new, |at| format!(", timestamp {at}"));
    format!("{kind} at offset {offset}{timestamp}, appended {appended}")
}

fn source_text(source: &SourceView) -> String {
    let SourceView { file, first_line, last_line, first_byte, end_byte } = source;
    let bytes = format!("bytes {first_byte} to {end_byte}");
    let file = printable(file);
    if first_line == last_line {
        format!("{file}, line {first_line} (within {bytes})")
    } else {
        format!("{file}, between lines {first_line} and {last_line} (within {bytes})")
    }
}

fn change_lines(changes: &ChangesView) -> Vec<String> {
    let mut lines = Vec::new();
    if changes.is_new {
        lines.push("  the profile is new".to_owned());
    }
    lines.extend(changes.attributes.iter().map(attribute_line));
    let of = |what: &str, some: &[IdentityView]| {
        (!some.is_empty()).then(|| format!("  {what}: {}", identities(some)))
    };
    lines.extend(of("identities joined", &changes.joined));
    lines.extend(of("identities dropped", &changes.dropped));
    if !changes.merged.is_empty() {
        let merged: Vec<String> = changes.merged.iter().map(u64::to_string).collect();
        lines.push(format!("  merged with profile {}", merged.join(", ")));
    }
    for change in &changes.memberships {
        lines.push(membership_line(change));
        lines.extend(change.rule.iter().flat_map(|rule| clause_lines(rule, 4)));
    }
    if lines.is_empty() {
        return lines;
    }
    lines.insert(0, "\nwhat the step changed".to_owned());
    lines
}

fn attribute_line(change: &AttributeChangeView) -> String {
    let text = |value: &Option<Box<RawValue>>| {
        value.as_ref().map_or_else(|| "nothing".to_owned(), |value| json_text(value.get()))
    };
    let (before, after) = (text(&change.before), text(&change.after));
    if before == after {
        format!("  {}: {after}, written again", change.path)
    } else {
        format!("  {}: {before} → {after}", change.path)
    }
}

fn membership_line(change: &MembershipChangeView) -> String {
    let standing = |membership: &Option<MembershipView>| {
        membership.as_ref().map_or_else(
            || "not in".to_owned(),
            |m| format!("{} since {}", m.status, m.last_qualification_time),
        )
    };
    let mapped = if change.mapped { "" } else { " (not mapped)" };
    let (before, after) = (standing(&change.before), standing(&change.after));
    format!("  {}{mapped}: {before} → {after}", change.audience)
}

fn attempt_line(attempt: &AttemptView) -> String {
    let answer = match attempt.answer.trim() {
        "" => String::new(),
        answer => format!(": {}", printable(answer)),
    };
    format!("  {}  {}{answer}", attempt.at, printable(&attempt.error))
}
