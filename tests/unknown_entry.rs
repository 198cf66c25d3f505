//! A log with an entry of a newer forebay: it is refused at once, and nothing of it is skipped.

use forebay_engine::engine::{CheckpointPolicy, Mode};
use forebay_engine::error::EngineError;
use forebay_storage::{Chunk, Entry, EntryKind, Store, StoreOptions};
use forebay_tests::configuration::one_audience;
use forebay_tests::{Place, Program, Record};

/// Appends a control entry as a newer version might; its offset.
fn append(place: &Place, text: &str) -> u64 {
    let store = Store::open(&place.data(), StoreOptions::default()).expect("nobody has it open");
    let entries = vec![Entry { kind: EntryKind::Control, bytes: text.as_bytes() }];
    let chunk = Chunk { now_ms: i64::MAX / 2, mark: None, rejects: None, outline: None, entries };
    let offset = store.log().append(&[chunk]).expect("there is room");
    store.log().sync().expect("it can be synced");
    offset.as_u64()
}

/// The first offset that is not taken.
fn next_offset(place: &Place) -> u64 {
    let store = Store::open(&place.data(), StoreOptions::default()).expect("nobody has it open");
    store.log().next_offset().as_u64()
}

#[test]
fn an_entry_of_a_newer_version_is_refused_when_the_directory_is_opened() {
    let audience = r#"{"id":"any","name":"any","merge_policy":"default","kind":{"model":{}}}"#;
    let definitions = format!(r#"{{"definitions":{{"audiences":{{"upserts":[{audience}]}}}}}}"#);
    // (what it shows, the entry)
    let cases = [
        ("a kind", r#"{"pause":{"dataflow":"d"}}"#),
        ("a field", r#"{"advance":{"to_ms":0,"by":"somebody"}}"#),
        ("a field of one that has none", r#"{"tick":{"format":2}}"#),
        ("a value in definitions", definitions.as_str()),
    ];
    for (name, entry) in cases {
        for checkpoints in [CheckpointPolicy::NEVER, CheckpointPolicy::EAGER] {
            let mut place = Place::new(&one_audience("n > 100"));
            place.checkpoints = checkpoints;
            place.run(&[Record::profile("c1").at("01T00:00:00").with("\"n\":1")]);
            let offset = append(&place, entry);
            for mode in [Mode::Inspect, Mode::Derive, Mode::Deliver] {
                let error = place.try_open(mode).err().unwrap_or_else(|| panic!("{name}: opened"));
                let is_it =
                    matches!(&error, EngineError::Control { offset: at, .. } if *at == offset);
                assert!(is_it, "{name}, {mode:?}: {error}");
                let text = error.to_string();
                assert!(text.contains("a newer one wrote it; use that one"), "{name}: {text}");
            }
            assert_eq!(next_offset(&place), offset + 1, "{name}: nothing was appended");
            let run = Program::at(place.path()).run("status");
            assert_eq!(run.status, Some(1), "{name}: {run:?}");
            run.tells(&[&format!("control entry {offset} of the log"), "a newer one wrote it"]);
        }
    }
}
