//! Compaction: the bytes of deleted profiles go, and nothing else changes (`SPEC.md` §3).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use forebay_engine::engine::{CheckpointPolicy, Engine, Mode};
use forebay_engine::error::EngineError;
use forebay_storage::{Compression, Faults, StoreOptions};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, one_audience, rule, sink_with,
};
use forebay_tests::place::{Silent, copy_tree, feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, HandClock, PATIENCE, Place, Program, Receiver, Record, Request, Seed};

/// Stands in everything that is known of whom will be deleted, and in nothing else.
const SECRET: &str = "secret";

/// A store that packs nothing, so that bytes can be found, in small segments.
fn plain(faults: Option<Faults>) -> StoreOptions {
    StoreOptions {
        faults,
        compression: Compression::None,
        segment_bytes: 20_000,
        ..StoreOptions::default()
    }
}

/// The files below `dir` that hold `bytes`.
fn holding(dir: &Path, bytes: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("the directory can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if has(&fs::read(&path).expect("the file can be read"), bytes.as_bytes()) {
            found.push(path);
        }
    }
    found
}

fn has(text: &[u8], wanted: &[u8]) -> bool {
    // Nearly all of a database file is zero: a search from each first letter is quick.
    let mut rest = text;
    while let Some(at) = memchr::memchr(wanted[0], rest) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// The part of the data directory that a file lies in.
fn parts(place: &Place, found: &[PathBuf]) -> BTreeSet<String> {
    let within = |path: &PathBuf| {
        let path = path.strip_prefix(place.data()).expect("it was found there");
        path.iter().next().expect("it has a name").to_string_lossy().into_owned()
    };
    found.iter().map(within).collect()
}

/// Dataflows whose exports are delivered, dead letters, and kept.
fn three_fates() -> String {
    [
        EVENT_CLOCK,
        &rule("any", "n > 0"),
        &sink_with("breaker_failures = 1000"),
        &dataflow("sent", &["any"], &["n", "name"]),
        &dataflow("dead", &["any"], &["n", "name"]),
        &dataflow_with("kept", &["any"], &["n", "name"], "paused = true"),
    ]
    .concat()
}

fn receiver() -> Receiver {
    Receiver::scripted(|request, _| match request.dataflow() {
        "dead" => Answer::Status(404),
        _ => Answer::Status(200),
    })
}

/// Ana, who is known by three identities that link late, and Bob, record by record in turn.
fn records() -> String {
    let named = |customer: &str, n: usize| {
        let members = format!("\"n\":{n},\"name\":\"{customer} {n}\"");
        Record::profile(customer).at(&format!("01T00:{n:02}:00")).with(&members)
    };
    let mut lines = String::new();
    for n in 1..40 {
        let ana = match n % 4 {
            0 => named("secret-1", n),
            1 => named("secret-2", n),
            2 => Record::event("secret-1", &format!("e{}", n / 8))
                .at(&format!("01T00:{n:02}:01"))
                .with("\"note\":\"secret\""),
            _ => named("secret-1", n).also("Email", "secret@example.com"),
        };
        lines.push_str(&ndjson([ana, named("bob", n)]));
    }
    lines + &ndjson([named("secret-2", 50).also("Email", "secret@example.com")])
}

/// Refused lines, two of which name Ana.
const REFUSED: &str = r#"{"profile":{"identityMap":{"CRMID":[{"id":"secret-2"}]}},"timestamp":"soon"}
{"profile":{"identityMap":{"CRMID":[{"id":"bob"}]}},"timestamp":"never"}
{"profile":{"identityMap":{"Email":[{"id":"secret@example.com","primary":"#;

fn open(place: &Place, faults: Option<Faults>) -> Engine {
    place.try_open_with(Mode::Deliver, plain(faults)).expect("the engine starts")
}

fn drain(engine: &Engine) {
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
}

/// A directory in which everything that can happen to Ana's data has happened, then she was deleted.
fn place_with_ana_deleted() -> Place {
    let mut place = Place::with_receiver(&three_fates(), receiver());
    place.checkpoints = CheckpointPolicy::EAGER;
    let engine = open(&place, None);
    feed(&engine, &(records() + REFUSED));
    drain(&engine);
    engine.close().expect("the engine stops");
    let found = parts(&place, &holding(&place.data(), SECRET));
    let all = ["checkpoint", "log", "rejects.ndjson", "state"];
    assert_eq!(found, all.map(str::to_owned).into(), "before");
    // So that a checkpoint with her in it stays until the compaction.
    place.checkpoints = CheckpointPolicy::NEVER;
    let engine = open(&place, None);
    feed(&engine, &ndjson([Record::delete("secret-1").at("01T02:00:00")]));
    drain(&engine);
    engine.close().expect("the engine stops");
    place
}

fn assert_only_bob(place: &Place, what: &str) {
    assert_eq!(holding(&place.data(), SECRET), Vec::<PathBuf>::new(), "{what}");
    let rejects = place.rejects();
    let of = |line: usize| (rejects[line]["line"].as_u64(), &rejects[line]["redacted"]);
    assert_eq!(
        (rejects.len(), of(0), of(2)),
        (3, (Some(80), &true.into()), (Some(82), &true.into()))
    );
    assert_eq!(
        rejects[0]["error"],
        "timestamp: expected an RFC 3339 time such as \
         \"2026-01-01T00:00:11.664Z\""
    );
    assert!(rejects[1]["input"].as_str().is_some_and(|input| input.contains("bob")), "{what}");
    place.ask(|engine| {
        assert_eq!(profile_line(engine, "secret-1"), None, "{what}");
        let bob = profile_line(engine, "bob").expect("he stays");
        assert!(bob.contains("any=realized@01T00:01:00") && bob.contains("\"n\":39"), "{bob}");
        assert_eq!(engine.dead_letters(Some("dead"), 99).expect("it answers").len(), 39, "{what}");
        let kept = engine.dataflows().expect("it answers");
        assert_eq!(kept.iter().find(|flow| flow.id == "kept").expect("it is there").waiting, 39);
        assert_eq!(engine.log_stats().expect("it answers").records, 39, "{what}");
    });
}

#[test]
fn no_byte_of_a_deleted_profile_is_left_in_any_file() {
    let place = place_with_ana_deleted();
    assert!(!holding(&place.data(), SECRET).is_empty(), "a delete alone leaves bytes");
    let engine = open(&place, None);
    let done = engine.compact().expect("it compacts");
    assert_eq!((done.records, done.rejects), (41, 2));
    assert!(done.segments > 0 && done.bytes_before > 0 && done.bytes_after > 0, "{done:?}");
    assert_eq!(holding(&place.data(), SECRET), Vec::<PathBuf>::new(), "at once");
    let again = engine.compact().expect("it answers");
    assert_eq!((again.records, again.segments, again.rejects), (0, 0, 0));
    drain(&engine);
    engine.close().expect("the engine stops");
    assert_only_bob(&place, "after a restart");
}

#[test]
fn who_only_looks_at_a_directory_can_compact_it() {
    let place = place_with_ana_deleted();
    let done = place.ask(|engine| engine.compact().expect("it compacts"));
    assert_eq!((done.records, done.rejects), (41, 2));
    assert_only_bob(&place, "looked at");
}

#[test]
fn a_compaction_that_fails_at_any_step_loses_nothing_and_is_done_by_the_next() {
    let template = place_with_ana_deleted();
    let mut failed = BTreeSet::new();
    for at in 0.. {
        let place = Place::with_receiver(&three_fates(), receiver());
        copy_tree(&template.data(), &place.data());
        let (is_armed, count) = (Arc::new(AtomicBool::new(false)), AtomicUsize::new(0));
        let armed = Arc::clone(&is_armed);
        let (told, hit) = std::sync::mpsc::channel();
        let faults: Faults = Arc::new(move |op| {
            let counts = armed.load(Ordering::SeqCst);
            if counts && count.fetch_add(1, Ordering::SeqCst) == at {
                told.send(format!("{op:?}")).ok();
                return Err(io::Error::other("no space left"));
            }
            Ok(())
        });
        let engine =
            place.try_open_with(Mode::Inspect, plain(Some(faults))).expect("the engine starts");
        is_armed.store(true, Ordering::SeqCst);
        let result = engine.compact();
        drop(engine);
        let Ok(op) = hit.try_recv() else {
            result.expect("nothing failed");
            break;
        };
        let is_told = matches!(result, Err(EngineError::Storage(_) | EngineError::Stopped(_)));
        assert!(is_told, "{op}: {result:?}");
        let what = format!("failed at step {at}, {op}");
        place.ask(|engine| {
            assert!(profile_line(engine, "bob").is_some(), "{what}");
            assert_eq!(profile_line(engine, "secret-2"), None, "{what}");
            engine.compact().expect("it compacts");
        });
        assert_only_bob(&place, &what);
        failed.insert(op);
    }
    let all = [
        "Meta",
        "PlanErasure",
        "CopySegment",
        "SwapSegment",
        "RemoveSegment",
        "CopyState",
        "WriteCheckpoint",
        "NameCheckpoint",
        "RemoveCheckpoint",
    ];
    for op in all {
        assert!(failed.contains(op), "{op} is none of {failed:?}");
    }
}

#[test]
fn deletes_are_compacted_within_a_day_by_the_engine_itself() {
    let clock = Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let configuration = three_fates().replace(EVENT_CLOCK, "");
    let place = Place::with_clock(&configuration, Arc::clone(&clock) as _);
    let at = |now: &str, lines: &str| {
        clock.set(now);
        let engine = open(&place, None);
        feed(&engine, lines);
        engine.close().expect("the engine stops");
        holding(&place.data().join("log"), SECRET).is_empty()
    };
    let ana = ndjson([Record::profile("secret-1").with("\"n\":1")]);
    let delete = ndjson([Record::delete("secret-1")]);
    assert!(!at("2026-01-01T00:00:00Z", &(ana.clone() + &delete)), "nobody waits for it");
    assert!(!at("2026-01-01T12:00:00Z", ""), "others may come");
    assert!(at("2026-01-01T23:00:00Z", ""), "a start finds what is due");
    assert!(!at("2026-01-02T00:00:00Z", &ana), "she came again");
    assert!(!at("2026-01-02T01:00:00Z", &delete), "and was deleted again");

    let engine = open(&place, None);
    clock.set("2026-01-03T00:00:00Z");
    let log = place.data().join("log");
    Deadline::new().until("the running engine compacts", || {
        // Files come and go meanwhile.
        std::panic::catch_unwind(|| holding(&log, SECRET).is_empty()).unwrap_or(false)
    });
    engine.close().expect("the engine stops");
}

/// What a directory knows, in words.
fn knowledge(engine: &Engine) -> Vec<String> {
    let mut known = Vec::new();
    for customer in 0..40 {
        known.extend(profile_line(engine, &format!("c{customer}")));
    }
    for audience in engine.audiences().expect("the engine answers") {
        known.push(format!("{} {} {}", audience.id, audience.realized, audience.exited));
    }
    known.push(engine.status().expect("the engine answers").clock);
    known
}

/// Dataflow, sequence and body of every export, a line each.
fn exports(requests: &[Request]) -> BTreeSet<String> {
    let export = |r: &Request| format!("{} {:06} {}", r.dataflow(), r.sequence(), r.text());
    requests.iter().map(export).collect()
}

/// Rules that the clock alone changes, under one clock, and a dataflow with further keys.
fn windows(clock: &str, keys: &str) -> String {
    [
        clock,
        &rule("recent", "xEvent[timestamp occurs < 2 hours before now].count() > 1"),
        &rule("big", "xEvent.sum(v) > 40 and n >= 0"),
        SINK,
        &dataflow_with("all", &["recent", "big"], &["n"], keys),
    ]
    .concat()
}

/// The merge policy that is there by itself, with attributes merged otherwise.
const OTHER_MERGE: &str = "
[[merge_policy]]
id = \"default\"
default = true
attribute_merge = \"dataSetPrecedence\"
order = [\"default\"]
";

/// Records of forty customers who link now and then, with deletes among them. A delete is nobody's
/// second sight, so all ids come from one pool.
fn random_records(seed: &mut Seed, hours: std::ops::Range<u64>) -> String {
    let mut lines = String::new();
    for minute in (hours.start * 60)..(hours.end * 60) {
        let customer = format!("c{}", seed.within(0..40));
        let time =
            format!("{:02}T{:02}:{:02}:00", 1 + minute / 1440, minute / 60 % 24, minute % 60);
        let record = match seed.within(0..20) {
            0 => Record::delete(&customer),
            1 | 2 => Record::profile(&customer).also("CRMID", &format!("c{}", seed.within(0..40))),
            3 => Record::profile(&customer).also("Email", &format!("m{}", seed.within(0..40))),
            4..8 => Record::profile(&customer).with(&format!("\"n\":{}", seed.within(0..9))),
            _ => Record::event(&customer, &format!("e{}", seed.within(0..60)))
                .with(&format!("\"v\":{}", seed.within(0..20))),
        };
        lines.push_str(&ndjson([record.at(&time)]));
        if seed.chance(5) {
            lines.push_str("nonsense\n");
        }
    }
    lines
}

/// Two directories that read the same file, one of them compacted after each run. Nothing is sent until
/// the end: whether an export leaves before the delete that withdraws it is nobody's promise.
#[test]
fn a_compacted_directory_goes_on_as_one_that_was_not() {
    for (number, clock) in (0..).zip([EVENT_CLOCK, ""]) {
        let mut seed = Seed::new(20_260_300 + number);
        let hand = Arc::new(HandClock::at("2026-01-01T07:00:00Z"));
        let paused = windows(clock, "paused = true");
        let places = [(); 2].map(|()| Place::with_clock(&paused, Arc::clone(&hand) as _));
        let [compacted, untouched] = &places;
        let (mut input, mut erased) = (String::new(), 0);
        for hours in [0..7, 7..12, 12..20] {
            let what = format!("clock {clock:?}, hours {hours:?}");
            if hours.start == 12 {
                // From here on by another policy, which sees what the log still holds.
                for place in &places {
                    place.configure(&format!("{paused}{OTHER_MERGE}"));
                }
            }
            hand.set(&format!("2026-01-01T{:02}:00:00Z", hours.end));
            input.push_str(&random_records(&mut seed, hours));
            let counts = [compacted, untouched].map(|place| {
                let path = place.write("in.ndjson", &input);
                let ran = place.run_with(|engine| {
                    engine.read_file(&path, &Silent).expect("it is read");
                });
                ran.summary.records
            });
            assert_eq!(counts[0], counts[1], "{what}");
            same(compacted, untouched, &what);
            let next = |engine: &Engine| engine.log_stats().expect("it answers").next_offset;
            let before = compacted.ask(next);
            erased += compacted.ask(|engine| engine.compact().expect("it compacts")).records;
            assert_eq!(compacted.ask(next), before, "{what}");
            same(compacted, untouched, &format!("{what}, compacted"));
        }
        assert!(erased > 300, "clock {clock:?}: {erased} are too few");
        let [sent, expected] = [compacted, untouched].map(|place| {
            place.configure(&format!("{}{OTHER_MERGE}", windows(clock, "")));
            exports(&place.run(&[]).requests)
        });
        assert!(expected.len() > 20, "clock {clock:?}: {} exports are too few", expected.len());
        let difference: Vec<_> = sent.symmetric_difference(&expected).collect();
        assert_eq!(difference, Vec::<&String>::new(), "clock {clock:?}");
    }
}

/// Checks that two directories know the same, and refused the same lines.
fn same(one: &Place, other: &Place, what: &str) {
    let known = |place: &Place| {
        let mut known = place.ask(knowledge);
        known.extend(place.rejects().iter().map(|reject| format!("rejected {}", reject["line"])));
        known
    };
    for (found, expected) in known(one).iter().zip(&known(other)) {
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(known(one).len(), known(other).len(), "{what}");
}

#[test]
fn records_are_taken_and_delivered_while_it_compacts() {
    let place = Place::new(&one_audience("n > 0"));
    let some = |from: usize| {
        let of = |n: usize| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"n\":1");
        ndjson((from..from + 50).map(of).collect::<Vec<_>>())
    };
    let engine = open(&place, None);
    feed(&engine, &some(0));
    let deletes: Vec<Record> = (0..25).map(|n| Record::delete(&format!("c{n}"))).collect();
    feed(&engine, &ndjson(deletes));
    std::thread::scope(|scope| {
        let compacting = scope.spawn(|| engine.compact());
        for round in 1..20 {
            feed(&engine, &some(50 * round));
            assert!(profile_line(&engine, &format!("c{}", 50 * round)).is_some());
        }
        let done = compacting.join().expect("it does not panic").expect("it compacts");
        assert_eq!(done.records, 50);
    });
    drain(&engine);
    let last = engine.dataflows().expect("the engine answers")[0].last_sequence;
    engine.close().expect("the engine stops");
    assert_eq!(last, 20 * 50);
    place.ask(|engine| {
        assert_eq!(engine.summary().expect("the engine answers").profiles, 20 * 50 - 25);
        assert_eq!(profile_line(engine, "c24"), None);
        assert!(profile_line(engine, "c25").is_some());
    });
}

#[test]
fn the_command_says_what_it_did_or_that_there_was_nothing_to_do() {
    let place = Place::new(&one_audience("n > 0"));
    let program = Program::at(place.path());
    let record = |customer: &str| Record::profile(customer).at("01T00:00:00").with("\"n\":1");
    place.write("in.ndjson", ndjson([record("a"), record("b"), Record::delete("a")]));
    assert_eq!(program.run("log compact").status, Some(2), "there is no data directory");
    let run = program.run("run --input in.ndjson --drain").expect_status(0);
    assert_eq!(run.status, Some(0));
    let done = program.run("log compact --output json").expect_status(0).json();
    assert_eq!(
        (&done["records"], &done["segments"], &done["rejects"]),
        (&2.into(), &1.into(), &0.into())
    );
    assert!(done["bytes_before"].as_u64() > Some(0) && done["bytes_after"].as_u64() > Some(0));
    let nothing = program.run("log compact").expect_status(0);
    assert!(nothing.stdout.contains("nothing"), "{nothing:?}");

    let mut running = program.start(&mut program.command("run"));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());
    let ingested = program.run_with("ingest -", ndjson([Record::delete("b")]).as_bytes());
    assert_eq!(ingested.status, Some(0), "{ingested:?}");
    let done = program.run("log compact").expect_status(0);
    assert!(done.stdout.contains("2 records"), "{done:?}");
    running.kill().expect("it can be killed");
    running.wait().expect("it ends");
}
