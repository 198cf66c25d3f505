//! Checkpoints: when there is one, when it is used, and what happens where it is not (`DESIGN.md` §3).
//!
//! That nothing differs for it is shown in `model/restart.rs`.

use std::fs;
use std::path::PathBuf;

use forebay_engine::engine::{CheckpointPolicy, Engine, Mode, Notice};
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule};
use forebay_tests::place::{Silent, feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{PATIENCE, Place, Record};

/// The checkpoints of a place.
fn checkpoints(place: &Place) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place.data().join("checkpoint")) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry can be read").path()).collect()
}

fn is_unused(notice: &Notice) -> bool {
    matches!(notice, Notice::CheckpointUnused { .. })
}

fn one_rule() -> String {
    let flow = dataflow("flow", &["buyers"], &["n"]);
    [EVENT_CLOCK, &rule("buyers", "xEvent.count() >= 2"), SINK, &flow].concat()
}

/// A place with one customer, who has bought twice, and a checkpoint.
fn place_with_checkpoint() -> Place {
    let mut place = Place::new(&one_rule());
    place.checkpoints = CheckpointPolicy::EAGER;
    let records = [
        Record::profile("ana").at("01T00:00:00").with("\"n\":1"),
        Record::event("ana", "e1").at("01T00:00:01").with("\"v\":7"),
        Record::event("ana", "e2").at("01T00:00:02").with("\"v\":8"),
    ];
    place.run(&records);
    assert_eq!(checkpoints(&place).len(), 1);
    place
}

fn ana(engine: &Engine) -> Option<String> {
    profile_line(engine, "ana")
}

/// Opens a place whose checkpoint cannot be used; why not.
fn unused_because(place: &Place) -> String {
    let engine = place.open();
    let told = engine.notices().into_iter().find_map(|notice| match notice {
        Notice::CheckpointUnused { reason } => Some(reason),
        _ => None,
    });
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    engine.close().expect("the engine stops");
    told.expect("it is told")
}

#[test]
fn a_rule_that_asks_for_history_that_a_checkpoint_has_not_is_told_and_sees_it_all() {
    let place = place_with_checkpoint();
    let buyers = rule("buyers", "xEvent.count() >= 2") + &rule("spenders", "xEvent.sum(v) > 10");
    let flow = dataflow("flow", &["buyers", "spenders"], &["n"]);
    place.configure(&[EVENT_CLOCK, &buyers, SINK, &flow].concat());
    assert_eq!(unused_because(&place), "the definitions ask for history that it did not keep");
    let known = place.ask(ana).expect("she is there");
    assert!(known.contains("spenders=realized"), "{known}");
    // The next one has it.
    let engine = place.open();
    assert!(!engine.notices().iter().any(is_unused));
    engine.close().expect("the engine stops");
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_log_is_read_instead() {
    let place = place_with_checkpoint();
    let known = place.ask(ana);
    let path = checkpoints(&place).pop().expect("there is one");
    let whole = fs::read(&path).expect("it can be read");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    let mut of_tomorrow = whole.clone();
    of_tomorrow[0] += 1;
    // (what it shows, bytes, what is told)
    let cases = [
        ("one bit", damaged, "checksum"),
        ("cut off", whole[..whole.len() - 9].to_vec(), "a checkpoint is damaged"),
        ("empty", Vec::new(), "empty value"),
        ("another version", of_tomorrow, "a checkpoint has storage format"),
    ];
    for (name, bytes, told) in cases {
        fs::write(&path, bytes).expect("there is room");
        assert_eq!(place.ask(ana), known, "{name}");
        let reason = unused_because(&place);
        assert!(reason.contains(told), "{name}: {reason}");
        assert!(
            place.try_open(Mode::Inspect).expect("it opens").notices().is_empty(),
            "{name}: healed"
        );
    }
}

#[test]
fn a_checkpoint_of_another_directory_is_not_taken() {
    let (place, other) = (place_with_checkpoint(), place_with_checkpoint());
    let path = |place: &Place| checkpoints(place).pop().expect("there is one");
    fs::copy(path(&other), path(&place)).expect("there is room");
    assert_eq!(unused_because(&place), "it belongs to another data directory");
}

#[test]
fn who_only_looks_makes_no_checkpoint() {
    let place = place_with_checkpoint();
    fs::remove_dir_all(place.data().join("checkpoint")).expect("it is there");
    place.ask(|engine| drop(ana(engine)));
    assert_eq!(checkpoints(&place), Vec::<PathBuf>::new());
    let engine = place.open();
    feed(&engine, &ndjson([Record::profile("bob").at("02T00:00:00")]));
    engine.close().expect("the engine stops");
    assert_eq!(checkpoints(&place).len(), 1);
}
