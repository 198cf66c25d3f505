//! Definitions that change between the records, at a restart or in the running engine.

use forebay_engine::engine::Engine;
use forebay_tests::place::{Silent, advance};
use forebay_tests::{PATIENCE, Place, Seed};

use super::definitions::Definitions;
use super::naive::{self, DATAFLOWS, DAY_MS, Model, POLICIES};
use super::{audience_ids, bodies, first_difference, members, play, random};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 20;

/// Records between two changes.
const RECORDS: usize = 25;

/// Changes of one run.
const CHANGES: usize = 4;

/// Compares one run; what differs first, if anything does.
fn difference(seed: u64) -> Option<String> {
    let mut random = Seed::new(seed);
    let happenings = random::happenings(&mut random, RECORDS * (CHANGES + 1), &POLICIES[..1]);
    let mut model = Model::new(&POLICIES[0]);
    let mut defined = Definitions::default();
    let mut place = Place::new(&defined.configuration());
    place.checkpoints = super::checkpoints(seed);
    let mut engine = place.open();
    for (number, part) in happenings.chunks(RECORDS).enumerate() {
        if number > 0 {
            defined = defined.changed(&mut random);
            model.redefine(&defined);
            engine = redefine(&place, engine, (&defined, random.chance(50)));
        }
        for happening in part {
            naive::take(std::slice::from_mut(&mut model), happening);
        }
        play(&engine, part);
    }
    let end_ms = happenings.iter().map(|happening| happening.time_ms).max()? + 15 * DAY_MS;
    model.advance(end_ms);
    advance(&engine, &random::time_text(end_ms));
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    engine.close().expect("the engine stops");

    let requests = place.receiver.requests();
    for flow in DATAFLOWS {
        let found = bodies(&requests, flow.id);
        if let Some(told) = first_difference(&found, &model.exports_of(flow.id)) {
            return Some(format!("{} {told}", flow.id));
        }
    }
    let found = place.ask(members);
    let expected: Vec<String> = audience_ids().flat_map(|id| model.members(id)).collect();
    (found != expected).then(|| format!("the members are\n{found:#?}\nnot\n{expected:#?}"))
}

/// Has the engine take other definitions while it runs, or at a restart. What that backfills is taken
/// at once, so that it has its place among the exports.
fn redefine(place: &Place, engine: Engine, (defined, is_running): (&Definitions, bool)) -> Engine {
    let configuration = defined.configuration();
    let engine = if is_running {
        place.reload(&engine, &configuration);
        engine
    } else {
        engine.close().expect("the engine stops");
        place.configure(&configuration);
        place.open()
    };
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    engine
}

#[test]
fn the_engine_does_what_the_model_does_when_definitions_change() {
    for seed in 0..SEEDS {
        if let Some(told) = difference(seed) {
            panic!("seed {seed}: {told}");
        }
    }
}
