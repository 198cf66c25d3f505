//! What a destination does not take fills neither the disk nor its turn: past `disk_budget`, profiles
//! are marked and exported as they are once there is room (`SPEC.md` §8).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_engine::engine::{Engine, Mode};
use forebay_storage::{StoreOptions, WriteOp};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, dataflow, dataflow_with, rule, sink_with};
use forebay_tests::place::{feed, flow_view, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Receiver, Record, Request, Seed};

/// Audience `any` is who has a positive `n`; `flows` send to a sink of this budget.
fn configuration(budget: &str, flows: &[String]) -> String {
    let sink = sink_with(&format!("disk_budget = \"{budget}\"\nbreaker_failures = 1000"));
    [EVENT_CLOCK, &rule("any", "n > 0"), &sink, &flows.concat()].concat()
}

fn flow() -> String {
    dataflow("d", &["any"], &["n", "x"])
}

/// Hardly compressible, so that what is stored is about as long as what was written.
fn write(customer: &str, n: u64) -> Record {
    let mut seed = Seed::new(customer.bytes().map(u64::from).sum::<u64>() * 1_000 + n);
    let digits: Vec<String> = (0..24).map(|_| format!("{:016x}", seed.next_u64())).collect();
    let digits = digits.concat();
    Record::profile(customer).at("01T00:00:00").with(&format!("\"n\":{n},\"x\":\"{digits}\""))
}

fn place_at_gate(configuration: &str) -> Place {
    Place::with_receiver(configuration, Receiver::scripted(|_, _| Answer::AtGate))
}

fn lines_by_customer(requests: &[Request]) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut sorted: Vec<&Request> = requests.iter().collect();
    sorted.sort_by_key(|request| (request.dataflow().to_owned(), request.sequence()));
    for request in sorted {
        let line = request.line();
        let customer =
            line.split([' ', ':']).nth(1).expect("a line begins with an identity").to_owned();
        lines.entry(customer).or_default().push(line);
    }
    lines
}

/// What arrived last of each customer is how the engine knows it.
fn check_last_state(engine: &Engine, requests: &[Request], customers: u64) {
    let lines = lines_by_customer(requests);
    assert_eq!(lines.len() as u64, customers);
    for (customer, lines) in lines {
        let known = profile_line(engine, &customer).expect("who was exported is known");
        assert_eq!(lines.last(), Some(&known), "{customer}");
    }
}

#[test]
fn past_the_budget_profiles_are_marked_and_exported_as_they_are_when_there_is_room() {
    const CUSTOMERS: u64 = 200;
    let place = place_at_gate(&configuration("20kB", &[flow()]));
    let engine = place.open();
    let round = |n| (1..=CUSTOMERS).map(move |c| write(&format!("c{c}"), n));
    for n in 1..=4 {
        feed(&engine, &ndjson(round(n)));
    }
    let full = flow_view(&engine, "d");
    assert!((150..=CUSTOMERS).contains(&full.marked), "{full:?}");
    assert!((15_000..=20_500).contains(&full.stored_bytes), "{full:?}");
    assert_eq!(full.waiting, full.last_sequence + full.marked);
    assert_eq!(full.delivered, 0);

    place.receiver.open_gate();
    let waiting = engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent).unwrap();
    assert_eq!(waiting, []);
    let done = flow_view(&engine, "d");
    assert_eq!((done.marked, done.waiting, done.delivered), (0, 0, done.last_sequence));
    let requests = place.receiver.requests();
    assert_eq!(requests.len() as u64, done.last_sequence);
    assert!(requests.len() as u64 <= full.last_sequence + CUSTOMERS, "each mark is one export");
    check_last_state(&engine, &requests, CUSTOMERS);
    engine.close().unwrap();
    assert_eq!(place.run(&[]).requests, [], "nothing is left");
}

#[test]
fn a_marked_profile_is_exported_as_what_has_become_of_it() {
    let place = place_at_gate(&configuration("1kB", &[flow()]));
    let link = Record::profile("p").at("01T00:00:01").also("CRMID", "q");
    let ran = place.run_with(|engine| {
        let first = ["f1", "f2", "f3", "leaver", "p", "q"].map(|customer| write(customer, 1));
        feed(engine, &ndjson(first));
        feed(engine, &ndjson([write("leaver", 0), write("stranger", 0)]));
        feed(engine, &ndjson([link]));
        assert!(flow_view(engine, "d").marked >= 3, "{:?}", flow_view(engine, "d"));
        place.receiver.open_gate();
    });
    let lines = lines_by_customer(&ran.requests);
    assert_eq!(lines["leaver"].len(), 1);
    assert!(lines["leaver"][0].contains("any=exited"), "who left is told: {lines:?}");
    assert_eq!(lines["p"].len(), 1, "once for both: {lines:?}");
    assert!(lines["p"][0].starts_with("crmid:p crmid:q"), "{lines:?}");
    assert!(!lines.contains_key("q") && !lines.contains_key("stranger"), "{lines:?}");
}

#[test]
fn marks_outlive_a_restart_and_ingest_marks_too() {
    let place = place_at_gate(&configuration("5kB", &[flow()]));
    let customers: Vec<String> = (1..=60).map(|c| format!("c{c}")).collect();
    place.ingest(&customers.iter().map(|c| write(c, 1)).collect::<Vec<_>>());
    let ingested = place.ask(|engine| flow_view(engine, "d"));
    assert!(ingested.marked >= 40, "{ingested:?}");
    assert_eq!(ingested.waiting, 60);
    place.ingest(&customers.iter().map(|c| write(c, 2)).collect::<Vec<_>>());
    let again = place.ask(|engine| flow_view(engine, "d"));
    assert!(again.marked > ingested.marked, "also who has an export stored: {again:?}");
    assert!(again.stored_bytes <= 5_500, "{again:?}");
    assert_eq!(again.waiting, again.last_sequence + again.marked);

    place.receiver.open_gate();
    let engine = place.open();
    engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent).unwrap();
    check_last_state(&engine, &place.receiver.requests(), 60);
    assert_eq!(flow_view(&engine, "d").waiting, 0);
    engine.close().unwrap();
}

#[test]
fn a_drain_tells_of_marked_profiles_as_of_waiting_exports() {
    let flows = [flow()];
    let configuration =
        configuration("2kB", &flows).replace("= 1000", "= 1\nprobe_interval = \"50ms\"");
    let place = Place::with_receiver(&configuration, Receiver::scripted(|_, _| Answer::Drop));
    let records: Vec<Record> = (1..=20).map(|c| write(&format!("c{c}"), 1)).collect();
    let ran = place.run_for(Duration::from_millis(300), |engine| feed(engine, &ndjson(&records)));
    assert_eq!(ran.waiting.len(), 1);
    assert_eq!(ran.waiting[0].exports, 20, "stored and marked");
    assert_eq!(ran.summary.dataflows["d"].waiting, 20);
    place.receiver.answer(|_, _| Answer::Status(200));
    assert_eq!(place.run(&[]).summary.dataflows["d"].waiting, 0);
}

#[test]
fn marks_of_a_removed_dataflow_go_with_it() {
    let place = Place::new(&configuration("1kB", &[flow()]));
    place.ingest(&(1..=20).map(|c| write(&format!("c{c}"), 1)).collect::<Vec<_>>());
    let before = place.ask(|engine| flow_view(engine, "d"));
    assert!(before.marked >= 15, "{before:?}");
    place.configure(&configuration("1kB", &[]));
    place.ingest(&[]);
    place.configure(&configuration("100kB", &[flow()]));
    let ran = place.run(&[]);
    let first = ran.requests.iter().map(Request::sequence).min();
    assert_eq!(ran.requests.len(), 20, "one backfill for each, and nothing that waited before");
    assert!(first > Some(before.last_sequence), "{first:?} after {}", before.last_sequence);
}

#[test]
fn a_budget_is_its_destinations_alone() {
    let other = "\n[[destination]]\nid = \"dead\"\nname = \"Dead\"\nendpoint = \"{receiver}/dead\"\n\
                 timeout = \"30s\"\ndisk_budget = \"1kB\"\n\n[[dataflow]]\nid = \"stuck\"\n\
                 destination = \"dead\"\naudiences = [\"any\"]\nattributes = [\"n\", \"x\"]\n";
    let script = |request: &Request, _: usize| match request.target.as_str() {
        "/dead" => Answer::AtGate,
        _ => Answer::Status(200),
    };
    let configuration = [configuration("10GB", &[flow()]), other.to_owned()].concat();
    let place = Place::with_receiver(&configuration, Receiver::scripted(script));
    let ran = place.run_with(|engine| {
        for n in 1..=3 {
            feed(engine, &ndjson((1..=50).map(|c| write(&format!("c{c}"), n))));
        }
        let is_all = |all: &[Request]| all.iter().filter(|r| r.dataflow() == "d").count() == 150;
        place.receiver.wait_until("the living one has all", is_all);
        assert!(flow_view(engine, "stuck").marked >= 45);
        assert_eq!(flow_view(engine, "d").marked, 0);
        place.receiver.open_gate();
    });
    assert_eq!(ran.summary.dataflows["d"].delivered, 150);
    assert_eq!(ran.summary.dataflows["stuck"].waiting, 0);
}

#[test]
fn a_paused_dataflow_that_used_up_the_budget_does_not_stop_another() {
    let paused = dataflow_with("p", &["any"], &["n", "x"], "paused = true");
    let place = Place::new(&configuration("20kB", std::slice::from_ref(&paused)));
    place.run(&(1..=80).map(|c| write(&format!("c{c}"), 1)).collect::<Vec<_>>());
    place.configure(&configuration("20kB", &[paused, flow()]));
    let ran = place.run(&[]);
    assert_eq!(ran.summary.dataflows["d"].delivered, 80, "bit by bit");
    assert_eq!(ran.summary.dataflows["p"].waiting, 80);
    assert_eq!(ran.waiting, [], "a drain waits for neither");
}

#[test]
fn a_backfill_waits_for_room_and_exports_everybody_once() {
    let place = place_at_gate(&configuration("10kB", &[]));
    place.ingest(&(1..=200).map(|c| write(&format!("c{c}"), 1)).collect::<Vec<_>>());
    place.configure(&configuration("10kB", &[flow()]));
    let ran = place.run_with(|engine| {
        place.receiver.wait_until("some arrived", |requests| !requests.is_empty());
        let view = flow_view(engine, "d");
        assert!(view.last_sequence < 200 && view.stored_bytes < 12_000, "{view:?}");
        place.receiver.open_gate();
    });
    let lines = lines_by_customer(&ran.requests);
    assert_eq!((lines.len(), ran.requests.len()), (200, 200));
}

/// Fails the `n`-th write of exports or progress, and everything after it.
fn failing_at(n: u64) -> StoreOptions {
    let left = AtomicU64::new(n);
    let faults = move |op: WriteOp| {
        let counts = matches!(op, WriteOp::StoreExports | WriteOp::Progress | WriteOp::TrimExports);
        let before = if counts {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)))
        } else {
            Err(0)
        };
        if before == Ok(1) { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
    };
    StoreOptions { faults: Some(Arc::new(faults)), ..StoreOptions::default() }
}

#[test]
fn wherever_writing_fails_everybody_is_exported_as_they_are_in_the_end() {
    let place = Place::new(&configuration("6kB", &[flow()]));
    let mut next = 1;
    let mut deaths = 0;
    for n in 1..=14 {
        let Ok(engine) = place.try_open_with(Mode::Deliver, failing_at(n)) else {
            deaths += 1;
            continue;
        };
        let lines = ndjson((1..=40).map(|c| write(&format!("c{c}"), next)));
        next += 1;
        let read = engine.read_stream("-", &mut lines.as_bytes(), &forebay_tests::place::Silent);
        let drained = engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent);
        deaths += usize::from(read.is_err() || drained.is_err());
        // It says once more what it died of.
        engine.close().err();
    }
    assert!(deaths >= 5, "only {deaths} deaths");
    let engine = place.open();
    engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent).unwrap();
    let patience = Deadline::new();
    patience.until("nothing waits", || flow_view(&engine, "d").waiting == 0);
    check_last_state(&engine, &place.receiver.requests(), 40);
    engine.close().unwrap();
}
