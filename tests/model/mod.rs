//! The engine against a model that is too simple to be wrong.
//!
//! Random records, few customers, so that everything meets: links, late events, duplicates, nulls,
//! boundaries, imported lists. The model ([`naive`]) keeps all records and derives everything anew at every step. Both
//! must deliver the same bodies in the same order, and know the same members with the same times. In
//! the middle the engine is stopped and started again.

mod audiences;
mod naive;
mod random;

use forebay_engine::engine::Engine;
use forebay_engine::views::MemberView;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule, upload};
use forebay_tests::place::{advance, feed, imported};
use forebay_tests::record::ndjson;
use forebay_tests::request::line_of;
use forebay_tests::{Place, Ran, Request, Seed};
use serde_json::Value;

use audiences::{LIST, RULES};
use naive::{Model, RETENTION_DAYS, TTL_DAYS};
use random::{Happening, What};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 60;

/// Records of one run: enough for profiles to merge twice and for windows to pass.
const RECORDS: usize = 70;

fn configuration() -> String {
    let mut text = format!("{EVENT_CLOCK}exited_retention = \"{RETENTION_DAYS}d\"\n");
    text.extend(RULES.iter().map(|audience| rule(audience.id, audience.pql)));
    text.push_str(&upload(LIST, &format!("{TTL_DAYS}d")));
    text.push_str(SINK);
    for flow in naive::DATAFLOWS {
        text.push_str(&if flow.is_strict {
            let keys = "memberships = \"mapped\"\nsame_value_writes = \"ignore\"";
            dataflow_with(flow.id, flow.audiences, flow.attributes, keys)
        } else {
            dataflow(flow.id, flow.audiences, flow.attributes)
        });
    }
    text
}

/// The bodies of one dataflow in order of sequence.
fn bodies(runs: &[Ran], dataflow: &str) -> Vec<Value> {
    let requests = runs.iter().flat_map(|ran| &ran.requests);
    let mut of: Vec<&Request> = requests.filter(|r| r.dataflow() == dataflow).collect();
    of.sort_by_key(|request| request.sequence());
    of.into_iter().map(Request::json).collect()
}

/// Members of every audience in lines that can be compared: audience, identities, status, time.
fn members(engine: &Engine) -> Vec<String> {
    let line = |id: &str, view: &MemberView| {
        let ids: Vec<String> =
            view.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
        format!("{id}: {} {} {}", ids.join(" "), view.status, view.last_qualification_time)
    };
    let of = |id: &'static str| {
        let views = engine.members(id, 0, usize::MAX).expect("the engine answers");
        views.iter().map(|view| line(id, view)).collect::<Vec<_>>()
    };
    audience_ids().flat_map(of).collect()
}

fn audience_ids() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|audience| audience.id).chain([LIST])
}

/// Lets the happenings happen, in order.
fn play(engine: &Engine, happenings: &[Happening]) {
    let mut lines = Vec::new();
    for happening in happenings {
        let What::Imported(ids) = &happening.what else {
            lines.push(happening.line());
            continue;
        };
        feed(engine, &ndjson(std::mem::take(&mut lines)));
        let ids = ids.iter().filter_map(|id| id.strip_prefix("crmid:"));
        let ids: Vec<&str> = ids.collect();
        imported(engine, LIST, &ids);
    }
    feed(engine, &ndjson(lines));
}

/// Compares one run; what differs first, if anything does.
fn difference(seed: u64) -> Option<String> {
    let mut random = Seed::new(seed);
    let happenings = random::happenings(&mut random, RECORDS);
    let end_ms = happenings.iter().map(|happening| happening.time_ms).max()? + 15 * naive::DAY_MS;

    let mut model = Model::default();
    for happening in &happenings {
        model.take(happening);
    }
    model.advance(end_ms);

    let place = Place::new(&configuration());
    let cut = usize::try_from(random.within(0..RECORDS as u64)).expect("it is a place in a list");
    let first = place.run_with(|engine| play(engine, &happenings[..cut]));
    let second = place.run_with(|engine| {
        play(engine, &happenings[cut..]);
        advance(engine, &random::time_text(end_ms));
    });

    let duplicates = first.summary.records.duplicate + second.summary.records.duplicate;
    if duplicates != model.duplicates {
        return Some(format!("{duplicates} duplicates, not {}", model.duplicates));
    }
    let runs = [first, second];
    for flow in naive::DATAFLOWS {
        let expected: Vec<Value> = model.exports_of(flow.id);
        if let Some(told) = first_difference(&bodies(&runs, flow.id), &expected) {
            return Some(format!("{} {told}", flow.id));
        }
    }
    let found = place.ask(members);
    let expected: Vec<String> = audience_ids().flat_map(|id| model.members(id)).collect();
    (found != expected).then(|| format!("the members are\n{found:#?}\nnot\n{expected:#?}"))
}

fn first_difference(found: &[Value], expected: &[Value]) -> Option<String> {
    if found == expected {
        return None;
    }
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let told = |bodies: &[Value]| bodies.get(same).map_or("nothing".to_owned(), line_of);
    Some(format!("export {same} is\n  {}\nnot\n  {}", told(found), told(expected)))
}

#[test]
fn the_engine_does_what_the_model_does() {
    for seed in 0..SEEDS {
        if let Some(told) = difference(seed) {
            let mut random = Seed::new(seed);
            let happenings = random::happenings(&mut random, RECORDS);
            let lines: Vec<String> = happenings.iter().map(Happening::line).collect();
            panic!("seed {seed}: {told}\n{}", ndjson(lines));
        }
    }
}
