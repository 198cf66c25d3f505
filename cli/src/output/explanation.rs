//! Explanations, for people.

use forebay_engine::views::IdentityView;
use forebay_engine::views::explanation::{
    ClauseView, MappedAttributeView, MappedAudienceView, StandingView, ValueView,
};

use super::{counted, printable};

/// Characters of a value that are shown; `--output json` has all of it.
const VALUE_CHARS: usize = 160;

/// Draws why a profile is, or is not, exported.
pub(crate) fn standing_page(view: &StandingView) -> String {
    let mut lines = vec![
        format!("profile {} and dataflow {}", view.profile, view.dataflow),
        format!("  identities    {}", identities(&view.identities)),
        format!("  merge policy  {}", view.merge_policy),
        format!("  destination   {} ({})", view.destination, view.state),
        format!("  clock         {}", view.clock),
        String::new(),
        "mapped audiences".to_owned(),
    ];
    for audience in &view.audiences {
        lines.push(format!("  {}", standing_line(audience)));
        lines.extend(audience.rule.iter().flat_map(|rule| clause_lines(rule, 4)));
    }
    lines.push("\nmapped attributes".to_owned());
    lines
        .extend(view.attributes.iter().map(|attribute| format!("  {}", attribute_line(attribute))));
    if view.attributes.is_empty() {
        lines.push("  none".to_owned());
    }
    if let Some(last) = &view.last_export {
        lines.push(format!(
            "\nnewest export that is kept\n  {} (sequence {}, offset {}): {}, {} {}",
            last.export,
            last.sequence,
            last.offset,
            last.causes.join(" and "),
            last.outcome.replace('_', " "),
            if last.outcome == "waiting" { "since" } else { "at" }.to_owned() + " " + &last.at,
        ));
    }
    lines.push("\nso".to_owned());
    let findings = view.findings.iter();
    lines.extend(findings.map(|finding| format!("  - {}", printable(&finding.text))));
    lines.join("\n")
}

/// Draws a clause and its parts, one line each.
pub(super) fn clause_lines(clause: &ClauseView, indent: usize) -> Vec<String> {
    let margin = " ".repeat(indent);
    let holds = holds(clause);
    let mut lines = Vec::new();
    let until = clause.changes_at.as_ref().map_or_else(String::new, |at| format!(" (until {at})"));
    match (clause.kind.as_str(), clause.values.as_slice()) {
        ("test", [value]) => {
            lines.push(format!("{margin}{holds}  {}: {}{until}", clause.text, value_text(value)));
        }
        ("test", values) => {
            lines.push(format!("{margin}{holds}  {}{until}", clause.text));
            let each = values.iter();
            lines.extend(
                each.map(|value| format!("{margin}       {}: {}", value.of, value_text(value))),
            );
        }
        (kind, _) => {
            lines.push(format!("{margin}{holds}  {}", heading(kind)));
            lines.extend(clause.clauses.iter().flat_map(|part| clause_lines(part, indent + 5)));
        }
    }
    lines
}

fn heading(kind: &str) -> &str {
    match kind {
        "all" => "all of",
        "any" => "any of",
        "not" => "not",
        _ => "if the first, the second, else the third of",
    }
}

fn holds(clause: &ClauseView) -> String {
    let word = |holds: bool| if holds { "yes" } else { "no " };
    match clause.held {
        Some(held) if held != clause.holds => {
            format!("{} → {}", word(held).trim_end(), word(clause.holds))
        }
        _ => word(clause.holds).to_owned(),
    }
}

fn value_text(value: &ValueView) -> String {
    let now = match value.bytes {
        Some(bytes) => format!("{}, not shown", counted(bytes, "byte")),
        None => json_text(value.value.get()),
    };
    match &value.before {
        Some(before) if before.get() != value.value.get() => {
            format!("{} → {now}", json_text(before.get()))
        }
        _ => now,
    }
}

pub(super) fn json_text(json: &str) -> String {
    if json == "null" {
        return "nothing there".to_owned();
    }
    match json.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", printable(&json[..end])),
        None => printable(json),
    }
}

fn standing_line(audience: &MappedAudienceView) -> String {
    let name =
        if audience.name == audience.id { String::new() } else { format!(" ({})", audience.name) };
    let standing = match (&audience.status, &audience.since) {
        (Some(status), Some(since)) => format!("{status} since {since}"),
        _ => "not in, and was not lately".to_owned(),
    };
    let by_clock = if audience.by_clock.is_empty() {
        String::new()
    } else {
        format!("; {}", audience.by_clock)
    };
    let list = if audience.kind == "upload" { ", by uploaded lists" } else { "" };
    format!("{}{name}: {standing}{list}{by_clock}", audience.id)
}

fn attribute_line(attribute: &MappedAttributeView) -> String {
    let path = &attribute.path;
    let there = if attribute.present { "" } else { ", nothing there now" };
    match (attribute.written_at, &attribute.written) {
        (Some(offset), Some(at)) => {
            format!("{path}: last written by the record at offset {offset} ({at}){there}")
        }
        _ => format!("{path}: never written"),
    }
}

pub(super) fn identities(all: &[IdentityView]) -> String {
    let each = all
        .iter()
        .map(|identity| format!("{} {}", printable(&identity.namespace), printable(&identity.id)));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use forebay_engine::views::explanation::{ClauseView, ValueView};
    use serde_json::value::RawValue;

    use super::clause_lines;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn value(of: &str, before: Option<&str>, json: &str) -> ValueView {
        ValueView { of: of.to_owned(), value: raw(json), bytes: None, before: before.map(raw) }
    }

    fn test(text: &str, (held, holds): (Option<bool>, bool), values: Vec<ValueView>) -> ClauseView {
        ClauseView {
            kind: "test".to_owned(),
            text: text.to_owned(),
            holds,
            held,
            changes_at: None,
            values,
            clauses: Vec::new(),
        }
    }

    #[test]
    fn a_clause_that_flipped_shows_its_value_before_and_after() {
        let sum = test(
            "sum(x) > 500",
            (Some(false), true),
            vec![value("sum(x)", Some("480.2"), "616.83")],
        );
        let same = test("a", (Some(true), true), vec![value("a", Some("1"), "1")]);
        let two = ClauseView {
            changes_at: Some("2026-01-01T00:00:00.000Z".to_owned()),
            ..test("a > b", (None, false), vec![value("a", None, "1"), value("b", None, "null")])
        };
        let all = ClauseView {
            kind: "all".to_owned(),
            clauses: vec![sum, same, two],
            ..test("…", (None, false), Vec::new())
        };
        let expected = [
            "no   all of",
            "     no → yes  sum(x) > 500: 480.2 → 616.83",
            "     yes  a: 1",
            "     no   a > b (until 2026-01-01T00:00:00.000Z)",
            "            a: 1",
            "            b: nothing there",
        ];
        assert_eq!(clause_lines(&all, 0), expected);
    }

    #[test]
    fn long_values_are_cut() {
        let long = format!("\"{}\"", "é".repeat(500));
        let line = &clause_lines(&test("a", (None, true), vec![value("a", None, &long)]), 0)[0];
        assert!(line.ends_with('…') && line.chars().count() < 200, "{line}");
    }
}
