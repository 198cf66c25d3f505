//! Profiles that were there before a dataflow was (`SPEC.md` §6).

use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule};
use forebay_tests::place::{feed, flow_view};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Receiver, Record, Request};

/// Requests of a dataflow that are open at once by default.
const IN_FLIGHT: usize = 64;

fn rules() -> String {
    [EVENT_CLOCK, &rule("a", "a"), &rule("b", "b"), SINK].concat()
}

fn with(flows: &[String]) -> String {
    [rules(), flows.concat()].concat()
}

fn records() -> Vec<Record> {
    let both = Record::profile("both").at("01T00:00:00").with(r#""a":1,"b":1,"m":1"#);
    let only_a = Record::profile("only_a").at("01T00:00:00").with(r#""a":1,"m":2"#);
    let neither = Record::profile("neither").at("01T00:00:00").with(r#""m":3"#);
    vec![both, only_a, neither]
}

/// Records of so many customers, all in `a`.
fn members(count: usize) -> Vec<Record> {
    (0..count)
        .map(|n| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"a\":1"))
        .collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_unstable();
    lines
}

const BOTH: &str = r#"crmid:both | a=realized@01T00:00:00 b=realized@01T00:00:00 | {"m":1}"#;
const ONLY_A: &str = r#"crmid:only_a | a=realized@01T00:00:00 | {"m":2}"#;

#[test]
fn what_is_newly_mapped_exports_its_members_exactly_once() {
    let flow = |audiences: &[&str]| dataflow("d", audiences, &["m"]);
    // (what it shows, configurations one after another, the exports of the last)
    let cases = [
        ("a new dataflow", vec![with(&[]), with(&[flow(&["a"])])], vec![BOTH, ONLY_A]),
        (
            "a new audience: only its members",
            vec![with(&[flow(&["a"])]), with(&[flow(&["a", "b"])])],
            vec![BOTH],
        ),
        (
            "two new audiences: one export a profile",
            vec![with(&[]), with(&[flow(&["a", "b"])])],
            vec![BOTH, ONLY_A],
        ),
        ("nothing new", vec![with(&[flow(&["a"])]), with(&[flow(&["a"])])], vec![]),
        ("an audience unmapped", vec![with(&[flow(&["a", "b"])]), with(&[flow(&["a"])])], vec![]),
        (
            "mapped again",
            vec![with(&[flow(&["a", "b"])]), with(&[flow(&["a"])]), with(&[flow(&["a", "b"])])],
            vec![BOTH],
        ),
        ("a dataflow removed", vec![with(&[flow(&["a"])]), with(&[])], vec![]),
        (
            "and created again",
            vec![with(&[flow(&["a"])]), with(&[]), with(&[flow(&["a"])])],
            vec![BOTH, ONLY_A],
        ),
    ];
    for (name, configurations, expected) in cases {
        let place = Place::new(&configurations[0]);
        place.run(&records());
        for configuration in &configurations[1..configurations.len() - 1] {
            place.configure(configuration);
            place.run(&[]);
        }
        place.configure(configurations.last().unwrap());
        assert_eq!(sorted(place.run(&[]).lines()), expected, "{name}");
        assert_eq!(place.run(&[]).lines(), [""; 0], "{name}, not again");
    }
}

#[test]
fn a_sequence_goes_on_where_the_dataflow_was_created_again() {
    let flow = with(&[dataflow("d", &["a"], &["m"])]);
    let place = Place::new(&flow);
    let first = place.run(&records());
    place.configure(&with(&[]));
    place.run(&[]);
    place.configure(&flow);
    let second = place.run(&[]);
    let highest = first.requests.iter().map(Request::sequence).max();
    let lowest = second.requests.iter().map(Request::sequence).min();
    assert!(lowest > highest, "{lowest:?} after {highest:?}");
}

#[test]
fn a_backfill_goes_on_after_a_stop_and_repeats_nothing_that_was_delivered() {
    const CUSTOMERS: usize = 300;
    let place = Place::with_receiver(
        &with(&[]),
        Receiver::scripted(|_, number| match number {
            0..50 => Answer::Status(200),
            _ => Answer::AtGate,
        }),
    );
    place.run(&members(CUSTOMERS));
    place.configure(&with(&[dataflow("d", &["a"], &["m"])]));
    let engine = place.open();
    place.receiver.wait_until("some are delivered", |requests| {
        requests.iter().filter(|request| request.answered.is_some()).count() >= 50
    });
    engine.request_stop();
    place.receiver.answer(|_, _| Answer::Status(200));
    place.receiver.open_gate();
    engine.close().unwrap();
    place.run(&[]);

    let mut requests = place.receiver.requests();
    requests.sort_by_key(Request::sequence);
    requests.dedup_by_key(|request| request.sequence());
    let mut lines: Vec<String> = requests.iter().map(Request::line).collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), CUSTOMERS, "everybody");
    assert_eq!(requests.len(), CUSTOMERS, "one export each");
}

#[test]
fn a_live_export_does_not_wait_for_a_backfill() {
    const CUSTOMERS: usize = 2_000;
    let place = Place::with_receiver(&with(&[]), Receiver::scripted(|_, _| Answer::AtGate));
    place.run(&members(CUSTOMERS));
    place.configure(&with(&[dataflow("d", &["a"], &["m"])]));
    let engine = place.open();
    place.receiver.wait_until("requests are open", |requests| requests.len() >= IN_FLIGHT);
    Deadline::new().until("the lane is taken", || flow_view(&engine, "d").backfill.is_none());
    feed(&engine, &ndjson([Record::profile("live").at("01T00:00:01").with("\"a\":1,\"m\":7")]));
    let all = CUSTOMERS as u64 + 1;
    Deadline::new().until("delivery knows it", || flow_view(&engine, "d").waiting == all);
    place.receiver.answer(|_, _| Answer::Status(200));
    place.receiver.open_gate();
    place.receiver.wait_until("everything is there", |requests| requests.len() > CUSTOMERS);
    Deadline::new().until("all is done", || flow_view(&engine, "d").waiting == 0);
    assert_eq!(flow_view(&engine, "d").delivery_ms.count, 1, "behind a backfill is no record");
    engine.close().unwrap();
    let requests = place.receiver.requests();
    let is_live = |request: &Request| request.line().starts_with("crmid:live ");
    let before = requests.iter().position(is_live).expect("it is exported");
    assert!(before < 3 * IN_FLIGHT, "{before} requests came before");
}

#[test]
fn a_paused_dataflow_stores_part_of_its_backfill_and_exports_everybody_later() {
    const CUSTOMERS: usize = 9_000;
    let flow = |keys| with(&[dataflow_with("d", &["a"], &["m"], keys)]);
    let place = Place::new(&with(&[]));
    place.run(&members(CUSTOMERS));
    place.configure(&flow("paused = true"));
    let paused = place.run(&[]);
    assert_eq!(paused.summary.dataflows["d"].waiting, 8_192, "what is taken at most");
    assert_eq!(paused.requests, []);
    place.configure(&flow("paused = false"));
    let mut lines = place.run(&[]).lines();
    assert_eq!(lines.len(), CUSTOMERS, "one export each");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), CUSTOMERS, "everybody");
}

#[test]
fn a_live_export_after_the_mapping_counts_as_backfill() {
    let place = Place::new(&with(&[]));
    place.run(&records());
    place.configure(&with(&[dataflow("d", &["a"], &["m"])]));
    // Whichever comes first, the profile that changes is shown as it is then, and never twice alike.
    let change = Record::profile("only_a").at("01T00:00:01").with("\"m\":9");
    let ran = place.run_with(|engine| feed(engine, &ndjson([change])));
    let of: Vec<String> =
        ran.lines().into_iter().filter(|line| line.starts_with("crmid:only_a")).collect();
    let after = r#"crmid:only_a | a=realized@01T00:00:00 | {"m":9}"#;
    assert!(of == [after] || of == [ONLY_A, after], "{of:?}");
    assert_eq!(ran.lines().len(), of.len() + 1, "and the other one once");
}
