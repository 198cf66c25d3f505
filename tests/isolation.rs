//! One destination's trouble is no other's, and holds its rate whatever happens (`SPEC.md` §8).

use std::time::Duration;

use forebay_engine::clock::Moment;
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule, sink_with};
use forebay_tests::place::{feed, flow_view};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Receiver, Record, Request};

fn write(customer: &str, n: usize) -> Record {
    Record::profile(customer).at("01T00:00:00").with(&format!("\"n\":{n}"))
}

/// Dataflow `d` to a destination that works, and `stuck` to one at `/bad` with these keys.
fn two_destinations(keys: &str) -> String {
    let other = format!(
        "\n[[destination]]\nid = \"bad\"\nname = \"Bad\"\nendpoint = \"{{receiver}}/bad\"\n{keys}\n\n\
         [[dataflow]]\nid = \"stuck\"\ndestination = \"bad\"\naudiences = [\"any\"]\n\
         attributes = [\"n\"]\n"
    );
    [EVENT_CLOCK, &rule("any", "n"), SINK, &dataflow("d", &["any"], &["n"]), &other].concat()
}

fn count(requests: &[Request], dataflow: &str) -> usize {
    requests.iter().filter(|request| request.dataflow() == dataflow).count()
}

#[test]
fn a_destination_that_answers_a_byte_a_second_slows_no_other() {
    let script = |request: &Request, _: usize| match request.target.as_str() {
        "/bad" => Answer::Trickle,
        _ => Answer::Status(200),
    };
    let keys = "timeout = \"1s\"\nretry = { max_retries = 0 }\nbreaker_failures = 1000\n\
                max_in_flight = 4";
    let place = Place::with_receiver(&two_destinations(keys), Receiver::scripted(script));
    let records: Vec<Record> = (0..300).map(|n| write(&format!("c{n}"), n)).collect();
    let engine = place.open();
    feed(&engine, &ndjson(&records));
    place.receiver.wait_until("the quick one has all", |requests| count(requests, "d") == 300);
    let slow = flow_view(&engine, "stuck");
    assert!(slow.waiting > 200, "{slow:?}: the slow one is waited for by nobody");
    place.receiver.wait_until("it goes on", |requests| count(requests, "stuck") >= 6);
    assert!(flow_view(&engine, "stuck").last_error.unwrap().contains("time"));
    engine.request_stop();
    engine.close().unwrap();
}

#[test]
fn thousands_of_exports_of_one_profile_behind_a_dead_destination_stop_nobody() {
    let script = |request: &Request, _: usize| match request.target.as_str() {
        "/bad" if request.has_identity("crmid", "busy") => Answer::With(503, "", "down"),
        _ => Answer::Status(200),
    };
    let keys = "timeout = \"10s\"\nretry = { max_retries = 1, backoff = [\"1h\"] }";
    let place = Place::with_receiver(&two_destinations(keys), Receiver::scripted(script));
    let engine = place.open();
    let mut records: Vec<Record> = (0..3_000).map(|n| write("busy", n)).collect();
    records.extend((0..50).map(|n| write(&format!("c{n}"), n)));
    feed(&engine, &ndjson(&records));
    let others_of = |dataflow: &'static str| {
        move |requests: &[Request]| {
            let is_other = |r: &&Request| !r.has_identity("crmid", "busy");
            requests.iter().filter(is_other).filter(|r| r.dataflow() == dataflow).count() == 50
        }
    };
    place.receiver.wait_until("all others have arrived there", others_of("stuck"));
    place.receiver.wait_until("and elsewhere", |requests| count(requests, "d") == 3_050);
    let view = flow_view(&engine, "stuck");
    assert_eq!((view.parked, view.waiting), (1, 3_000), "{view:?}");
    engine.request_stop();
    engine.close().unwrap();
}

#[test]
fn what_is_done_behind_one_that_waits_is_dropped_from_the_disk() {
    let script = |request: &Request, _: usize| {
        Answer::Status(if request.has_identity("crmid", "stays") { 503 } else { 200 })
    };
    let keys = "retry = { max_retries = 1, backoff = [\"1h\"] }";
    let sink =
        SINK.lines().filter(|line| !line.starts_with("retry")).collect::<Vec<_>>().join("\n");
    let flow = dataflow("d", &["any"], &["n"]);
    let configuration = [EVENT_CLOCK, &rule("any", "n"), &sink, "\n", keys, "\n", &flow].concat();
    let place = Place::with_receiver(&configuration, Receiver::scripted(script));
    let mut records = vec![write("stays", 1)];
    records.extend((0..6_000).map(|n| write(&format!("c{n}"), n)));
    place.ingest(&records);
    let stored = place.ask(|engine| flow_view(engine, "d").stored_bytes);
    let engine = place.open();
    Deadline::new().until("what was delivered is dropped", || {
        let view = flow_view(&engine, "d");
        assert!(view.waiting >= 1, "{view:?}");
        view.stored_bytes < stored / 2
    });
    engine.request_stop();
    engine.close().unwrap();
    let left = place.ask(|engine| flow_view(engine, "d"));
    assert!(left.waiting >= 1 && left.stored_bytes > 0, "{left:?}");
}

/// What is measured is the arrival; the way there may shorten a distance a little.
const NEARLY_A_SECOND: Duration = Duration::from_millis(900);

fn arrivals(requests: &[Request]) -> Vec<Moment> {
    let mut times: Vec<Moment> = requests.iter().map(|request| request.at).collect();
    times.sort_unstable();
    times
}

#[test]
fn the_rate_holds_after_a_pause_and_over_restarts() {
    const RATE: usize = 10;
    let script = |_: &Request, number: usize| match number {
        14 => Answer::With(429, "Retry-After: 1\r\n", "slow down"),
        _ => Answer::Status(200),
    };
    let flow = dataflow_with("d", &["any"], &["n"], "");
    let sink = sink_with(&format!("max_requests_per_second = {RATE}"));
    let configuration = [EVENT_CLOCK, &rule("any", "n"), &sink, &flow].concat();
    let place = Place::with_receiver(&configuration, Receiver::scripted(script));
    for run in 0..3 {
        let records: Vec<Record> = (0..12).map(|n| write(&format!("r{run}c{n}"), n)).collect();
        place.run(&records);
    }
    let requests = place.receiver.requests();
    assert_eq!(requests.len(), 37, "and the one that was refused");
    for window in arrivals(&requests).windows(RATE + 1) {
        let took = window[RATE].since(window[0]);
        assert!(took >= NEARLY_A_SECOND, "{took:?} for {} requests", RATE + 1);
    }
    let pause = requests[14].at;
    let next = requests[15..].iter().find(|request| request.at > pause).unwrap();
    // Those that were on their way already came within a moment.
    let late =
        requests.iter().map(|r| r.at).find(|at| at.since(pause) > Duration::from_millis(300));
    assert!(late.is_some_and(|at| at.since(pause) >= NEARLY_A_SECOND), "{next:?}");
}
