//! The log derived anew, to compare with what the engine has, or to replace it (`SPEC.md` §10).

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, one_audience, rule, upload};
use forebay_tests::place::{Silent, feed, imported, profile_line};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{PATIENCE, Place, Program, Record};

fn configuration() -> String {
    let recent = "xEvent[timestamp occurs < 20 minutes before now].count() > 1";
    let flow = dataflow("d", &["any", "recent", "vip"], &["n"]);
    [EVENT_CLOCK, &rule("any", "n > 5"), &rule("recent", recent), &upload("vip", "1d"), SINK, &flow]
        .concat()
}

/// So that what is derived anew again and again stays small.
const RECORDS_MAX: u64 = 5_000;

/// The records number `n` to `n + 50`: attributes, events, links and deletes.
fn records(from: u64) -> String {
    let record = |n: u64| {
        let customer = format!("c{}", n * 7 % 40);
        let record = match n % 10 {
            0 if n % 50 == 30 => Record::delete(&customer),
            1 => Record::event(&customer, &format!("e{n}"))
                .also("CRMID", &format!("c{}", (n * 7 + 1) % 40)),
            2..5 => Record::profile(&customer).with(&format!("\"n\":{}", n % 11)),
            _ => Record::event(&customer, &format!("e{n}")).with("\"v\":1"),
        };
        record.at(&format!("{:02}T00:{:02}:00", 1 + n / 60 % 28, n % 60))
    };
    ndjson((from..from + 50).map(record))
}

#[test]
fn the_log_leads_to_what_a_working_engine_has() {
    let place = Place::new(&configuration());
    let engine = place.open();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while !is_over.load(Ordering::SeqCst) && next < RECORDS_MAX {
                feed(&engine, &records(next));
                imported(&engine, "vip", &["c1", "c2", &format!("c{}", next % 40)]);
                next += 50;
            }
        });
        for round in 0..4 {
            let view = engine.verify(&Silent).expect("it is compared");
            assert!(view.equal, "round {round}: {view:?}");
            let rebuilt = engine.rebuild(&Silent).expect("it is replaced");
            assert!(rebuilt.next_offset >= view.next_offset, "round {round}");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    engine.close().expect("the engine stops");
    let view = place.ask(|engine| engine.verify(&Silent).expect("it is compared"));
    assert!(view.equal && view.profiles["default"] > 0, "{view:?}");
}

#[test]
fn a_rebuild_exports_nothing_and_what_comes_after_is_as_it_would_have_been() {
    let place = Place::new(&configuration());
    let engine = place.open();
    feed(&engine, &records(0));
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    let sent = place.receiver.requests().len();
    assert!(sent > 0, "something is exported");
    let known = |engine: &_| -> Vec<_> {
        (0..40).filter_map(|n| profile_line(engine, &format!("c{n}"))).collect()
    };
    let before = known(&engine);
    engine.rebuild(&Silent).expect("it is replaced");
    engine.verify(&Silent).expect("it is compared");
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    assert_eq!(place.receiver.requests().len(), sent, "neither of them sends");
    assert_eq!(known(&engine), before);
    feed(&engine, &records(50));
    engine.drain(PATIENCE, &Silent).expect("the engine drains");
    engine.close().expect("the engine stops");

    let other = Place::new(&configuration());
    let expected = other.run_with(|engine| feed(engine, &(records(0) + &records(50)))).requests;
    let body = |request: &forebay_tests::Request| (request.sequence(), request.json());
    let mut found: Vec<_> = place.receiver.requests().iter().map(body).collect();
    let mut expected: Vec<_> = expected.iter().map(body).collect();
    found.sort_by_key(|(sequence, _)| *sequence);
    expected.sort_by_key(|(sequence, _)| *sequence);
    // A delete withdraws what was not sent yet, which is a matter of time.
    let sent = found.len();
    found.retain(|export| expected.contains(export));
    assert!(found.len() * 2 > sent, "most were the same: {} of {sent}", found.len());
    expected.retain(|export| found.contains(export));
    assert_eq!(found, expected);
}

#[test]
fn both_commands_work_with_and_without_a_running_engine() {
    let place = Place::new(&one_audience("n > 1"));
    let program = Program::at(place.path());
    let lines = ndjson([Record::profile("c").at("01T00:00:00").with("\"n\":2")]);
    let ingested = program.run_with("ingest -", lines.as_bytes());
    assert_eq!(ingested.status, Some(0), "{ingested:?}");
    let check = |what: &str, least: u64| {
        let told = program.run("verify --output json").expect_status(0).json();
        assert_eq!(told["equal"], true, "{what}: {told}");
        assert_eq!(told["profiles"]["default"], 1, "{what}: {told}");
        assert!(told["next_offset"].as_u64() >= Some(least), "{what}: {told}");
        let told = program.run("verify").expect_status(0).stdout;
        assert!(told.starts_with("the log leads to what is derived: nothing differs"), "{told}");
        let told = program.run("rebuild").expect_status(0).stdout;
        assert!(told.starts_with("what is derived was replaced"), "{what}: {told}");
    };
    check("alone", 2);
    assert_eq!(place.receiver.requests(), [], "neither of them sends");
    let engine = running(&place);
    check("by the engine", 2);
    stopped(engine);
}
