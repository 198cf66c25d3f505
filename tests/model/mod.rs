//! The engine against a model that is too simple to be wrong.
//!
//! Random records, few customers, so that everything meets: links, late events, duplicates, nulls,
//! boundaries, imported lists, deletes. The model ([`naive`]) keeps all records and derives everything
//! anew at every step. Both must deliver the same bodies with the same sequences, and know the same
//! members with the same times; only what a delete withdraws may have been delivered before or not. In
//! the middle the engine is stopped and started again, from a checkpoint or without one. Three merge policies look at the same records.

mod audiences;
mod changes;
mod customer;
mod definitions;
mod explained;
mod naive;
mod past;
mod random;
mod restart;
mod sieved;

use std::collections::BTreeMap;

use forebay_engine::engine::{CheckpointPolicy, Engine};
use forebay_engine::views::MemberView;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule, upload};
use forebay_tests::place::{advance, feed, imported};
use forebay_tests::record::ndjson;
use forebay_tests::request::line_of;
use forebay_tests::{Place, Request, Seed};
use serde_json::Value;

use audiences::{LIST, RULES};
use definitions::Definitions;
use naive::{Export, Model, POLICIES, Policy, RETENTION_DAYS, TTL_DAYS};
use random::{Happening, What};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 40;

/// Records of one run: enough for profiles to merge twice and for windows to pass.
const RECORDS: usize = 70;

fn configuration() -> String {
    let defined = Definitions::default();
    let mut text = format!("{EVENT_CLOCK}exited_retention = \"{RETENTION_DAYS}d\"\n");
    for (at, policy) in POLICIES.iter().enumerate() {
        let graph = if policy.is_graph { "pdg" } else { "none" };
        let (id, is_default) = (policy.id, at == 0);
        text.extend([
            "\n[[merge_policy]]\n".to_owned(),
            format!("id = \"{id}\"\ndefault = {is_default}\nidentity_graph = \"{graph}\"\n"),
        ]);
        if !policy.order.is_empty() {
            let merge = "attribute_merge = \"dataSetPrecedence\"";
            text.extend([format!("{merge}\norder = {:?}\n", policy.order)]);
        }
    }
    for policy in POLICIES {
        let named = |id: &str| format!("{id}{}", policy.suffix);
        let belongs = format!("merge_policy = \"{}\"\n", policy.id);
        for audience in RULES {
            text.push_str(&rule(&named(audience.id), &pql_under(policy, &defined.pql(audience))));
            text.push_str(&belongs);
        }
        text.push_str(&upload(&named(LIST), &format!("{TTL_DAYS}d")));
        text.push_str(&belongs);
    }
    text.push_str(SINK);
    for policy in POLICIES {
        for flow in naive::DATAFLOWS {
            let id = format!("{}{}", flow.id, policy.suffix);
            let audiences: Vec<String> =
                flow.audiences.iter().map(|id| format!("{id}{}", policy.suffix)).collect();
            let audiences: Vec<&str> = audiences.iter().map(String::as_str).collect();
            text.push_str(&if flow.is_strict {
                let keys = "memberships = \"mapped\"\nsame_value_writes = \"ignore\"";
                dataflow_with(&id, &audiences, flow.attributes, keys)
            } else {
                dataflow(&id, &audiences, flow.attributes)
            });
        }
    }
    text
}

/// A rule as the policy's audiences are called.
fn pql_under(policy: &Policy, pql: &str) -> String {
    let ids = RULES.iter().map(|audience| audience.id).chain([LIST]);
    ids.fold(pql.to_owned(), |pql, id| {
        pql.replace(
            &format!("inSegment(\"{id}\")"),
            &format!("inSegment(\"{id}{}\")", policy.suffix),
        )
    })
}

/// The bodies of one dataflow by sequence.
fn bodies<'a>(
    requests: impl IntoIterator<Item = &'a Request>,
    dataflow: &str,
) -> BTreeMap<u64, Value> {
    let requests = requests.into_iter();
    let of = requests.filter(|request| request.dataflow() == dataflow);
    of.map(|request| (request.sequence(), request.json())).collect()
}

/// Members of every audience in lines that can be compared: audience, identities, status, time.
fn members(engine: &Engine) -> Vec<String> {
    let line = |id: &str, view: &MemberView| {
        let ids: Vec<String> =
            view.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id)).collect();
        format!("{id}: {} {} {}", ids.join(" "), view.status, view.last_qualification_time)
    };
    let of = |id: String| {
        let views = engine.members(&id, 0, usize::MAX).unwrap_or_default();
        views.iter().map(|view| line(&id, view)).collect::<Vec<_>>()
    };
    let under = |policy: &Policy| {
        audience_ids().map(|id| format!("{id}{}", policy.suffix)).collect::<Vec<_>>()
    };
    POLICIES.iter().flat_map(under).flat_map(of).collect()
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

/// Every other run goes on from checkpoints, the others derive the whole log again.
fn checkpoints(seed: u64) -> CheckpointPolicy {
    if seed.is_multiple_of(2) { CheckpointPolicy::EAGER } else { CheckpointPolicy::NEVER }
}

/// Compares one run; what differs first, if anything does.
fn difference(seed: u64) -> Option<String> {
    let mut random = Seed::new(seed);
    let happenings = random::happenings(&mut random, RECORDS, POLICIES);
    let end_ms = happenings.iter().map(|happening| happening.time_ms).max()? + 15 * naive::DAY_MS;

    let mut models: Vec<Model> = POLICIES.iter().map(Model::new).collect();
    for happening in &happenings {
        naive::take(&mut models, happening);
    }
    for model in &mut models {
        model.advance(end_ms);
    }

    let mut place = Place::new(&configuration());
    place.checkpoints = checkpoints(seed);
    let cut = usize::try_from(random.within(0..RECORDS as u64)).expect("it is a place in a list");
    let first = place.run_with(|engine| play(engine, &happenings[..cut]));
    let second = place.run_with(|engine| {
        play(engine, &happenings[cut..]);
        advance(engine, &random::time_text(end_ms));
    });

    let duplicates = first.summary.records.duplicate + second.summary.records.duplicate;
    if duplicates != models[0].duplicates {
        return Some(format!("{duplicates} duplicates, not {}", models[0].duplicates));
    }
    let requests = [first.requests, second.requests].concat();
    for (policy, model) in POLICIES.iter().zip(&models) {
        for flow in naive::DATAFLOWS {
            let id = format!("{}{}", flow.id, policy.suffix);
            let expected = model.exports_of(flow.id);
            if let Some(told) = first_difference(&bodies(&requests, &id), &expected) {
                return Some(format!("{id} {told}"));
            }
        }
    }
    let found = place.ask(members);
    let expected: Vec<String> =
        models.iter().flat_map(|m| audience_ids().flat_map(|id| m.members(id))).collect();
    (found != expected).then(|| format!("the members are\n{found:#?}\nnot\n{expected:#?}"))
}

/// What is exported has the sequence it has in the model; of what was withdrawn, nothing need be.
fn first_difference(found: &BTreeMap<u64, Value>, expected: &[&Export]) -> Option<String> {
    let told = |body: Option<&Value>| body.map_or("nothing".to_owned(), line_of);
    let sequences = 1..=(expected.len() as u64).max(found.keys().next_back().copied().unwrap_or(0));
    for (sequence, at) in sequences.zip(0..) {
        let (sent, export) = (found.get(&sequence), expected.get(at));
        let is_withdrawn = sent.is_none() && export.is_some_and(|export| export.is_withdrawn);
        let body = export.map(|export| &export.body);
        if sent != body && !is_withdrawn {
            return Some(format!("export {sequence} is\n  {}\nnot\n  {}", told(sent), told(body)));
        }
    }
    None
}

#[test]
fn the_engine_does_what_the_model_does() {
    for seed in 0..SEEDS {
        if let Some(told) = difference(seed) {
            let mut random = Seed::new(seed);
            let happenings = random::happenings(&mut random, RECORDS, POLICIES);
            let lines: Vec<String> = happenings.iter().map(Happening::line).collect();
            panic!("seed {seed}: {told}\n{}", ndjson(lines));
        }
    }
}
