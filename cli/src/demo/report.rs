//! What the demo tells at the end.

use std::path::Path;

use serde_json::{Value, json};

use super::Facts;
use super::tally::Arrived;
use crate::output::{Align, counted, number, table};

/// What is not as it should be after a run in which nothing failed.
pub(super) fn mistakes(facts: &Facts) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (id, counts) in &facts.summary.dataflows {
        let arrived = facts.tally.dataflows.get(id);
        let came = arrived.map_or(0, |arrived| arrived.exports);
        if came != counts.exports || counts.delivered != counts.exports {
            mistakes.push(format!(
                "dataflow {id}: {}, {} delivered, {came} arrived",
                counted(counts.exports, "export"),
                counts.delivered
            ));
        }
        if !arrived.is_none_or(Arrived::exactly_once) {
            mistakes.push(format!("dataflow {id}: not every sequence came exactly once"));
        }
    }
    let strangers =
        facts.tally.dataflows.keys().filter(|id| !facts.summary.dataflows.contains_key(*id));
    mistakes.extend(strangers.map(|id| format!("exports of an unknown dataflow `{id}` arrived")));
    if facts.tally.strange > 0 {
        let strange = counted(facts.tally.strange, "request");
        mistakes.push(format!("besides exports there came {strange}"));
    }
    mistakes
}

/// The facts as one JSON object: the summary of the run, and what the receiver saw.
pub(super) fn json(facts: &Facts) -> Value {
    let arrived: serde_json::Map<_, _> = facts
        .tally
        .dataflows
        .iter()
        .map(|(id, arrived)| {
            let seen = json!({
                "exports": arrived.exports,
                "repeated": arrived.repeated,
                "exactly_once": arrived.exactly_once(),
                "requests_per_second": arrived.per_second().round(),
                "sample": arrived.sample,
            });
            (id.clone(), seen)
        })
        .collect();
    json!({
        "summary": facts.summary,
        "audiences": facts.audiences,
        "dataflows": facts.dataflows,
        "received": arrived,
        "mistakes": mistakes(facts),
    })
}

/// The facts for a person.
pub(super) fn text(facts: &Facts, exports: Option<&Path>) -> String {
    let summary = &facts.summary;
    let mut parts = vec![
        format!(
            "{} of {}, up to {}, in {:.1} s:\n\
             every one durable before it counted, every export delivered over HTTP.",
            counted(summary.records.accepted, "purchase"),
            counted(summary.profiles, "customer"),
            summary.clock.get(..10).unwrap_or(&summary.clock),
            summary.elapsed_ms as f64 / 1_000.0
        ),
        audiences(facts),
        dataflows(facts),
    ];
    parts.extend(sample(facts));
    parts.push(verdict(facts));
    if let Some(path) = exports {
        parts.push(format!("The payloads are in {}.", path.display()));
    }
    parts.push(NEXT.to_owned());
    parts.join("\n\n")
}

/// Where to go from here.
const NEXT: &str = "\
Next:
  examples/cdnow/forebay.toml     the audiences and dataflows of this demo
  forebay init                    a configuration of your own, with comments
  forebay check                   what each of its audiences reads
  forebay receiver                an endpoint that prints what arrives
  forebay run --input FILE        the engine";

fn audiences(facts: &Facts) -> String {
    let columns = [
        ("audience", Align::Left),
        ("in", Align::Right),
        ("left", Align::Right),
        ("name", Align::Left),
    ];
    let rows: Vec<_> = facts
        .audiences
        .iter()
        .map(|view| {
            vec![view.id.clone(), number(view.realized), number(view.exited), view.name.clone()]
        })
        .collect();
    table(&columns, &rows)
}

fn dataflows(facts: &Facts) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("exports", Align::Right),
        ("delivered", Align::Right),
        ("request p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("requests/s", Align::Right),
    ];
    let rows: Vec<_> = facts
        .dataflows
        .iter()
        .map(|view| {
            let counts = facts.summary.dataflows.get(&view.id).copied().unwrap_or_default();
            let rate = facts.tally.dataflows.get(&view.id).map_or(0.0, Arrived::per_second);
            vec![
                view.id.clone(),
                number(counts.exports),
                number(counts.delivered),
                format!("{:.2}", view.request_ms.p50),
                format!("{:.2}", view.request_ms.p99),
                format!("{rate:.0}"),
            ]
        })
        .collect();
    table(&columns, &rows)
}

/// The payload with the most to see.
fn sample(facts: &Facts) -> Option<String> {
    let payloads = facts.tally.dataflows.iter().filter_map(|(id, arrived)| {
        let payload = arrived.sample.as_ref()?;
        Some((payload.get().len(), id, payload))
    });
    let (_, id, payload) = payloads.max_by_key(|(length, ..)| *length)?;
    let value: Value = serde_json::from_str(payload.get()).ok()?;
    let pretty = serde_json::to_string_pretty(&value).ok()?;
    Some(format!("One export of {id}:\n{pretty}"))
}

fn verdict(facts: &Facts) -> String {
    let came: u64 = facts.tally.dataflows.values().map(|arrived| arrived.exports).sum();
    let how = if mistakes(facts).is_empty() {
        "each (dataflow, sequence) exactly once"
    } else {
        "but not each (dataflow, sequence) exactly once"
    };
    format!("The receiver got {}, {how}.", counted(came, "export"))
}
