//! What happens to an export on its way (`SPEC.md` §8).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_engine::engine::{Payload, Selection};
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule};
use forebay_tests::place::feed;
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Receiver, Record, Request};

/// Audience `any`, dataflow `d`, and a destination with these keys beside id and endpoint.
fn configuration(keys: &str) -> String {
    let sink = format!(
        "[[destination]]\nid = \"sink\"\nname = \"Sink\"\nendpoint = \"{{receiver}}/in\"\n{keys}\n"
    );
    [EVENT_CLOCK, &rule("any", "n"), &sink, &dataflow("d", &["any"], &["n"])].concat()
}

const QUICK: &str =
    "timeout = \"10s\"\nretry = { max_retries = 2, backoff = [\"20ms\", \"40ms\"] }";

fn write(customer: &str, n: usize) -> Record {
    Record::profile(customer)
        .at(&format!("01T00:{:02}:{:02}", n / 60, n % 60))
        .with(&format!("\"n\":{n}"))
}

fn sequences(requests: &[Request]) -> Vec<u64> {
    requests.iter().map(Request::sequence).collect()
}

#[test]
fn an_answer_decides_what_becomes_of_an_export() {
    // (what it shows, answers in order and then 200, attempts, delivered, dead letters, retries)
    let again = [403, 408, 409, 425, 500, 502, 504];
    let dead = [300, 302, 400, 401, 404, 405, 413, 418, 422, 501, 505];
    let mut cases = vec![
        ("200 ends it".to_owned(), vec![Answer::Status(200)], 1, 1, 0),
        ("so does any 2xx".to_owned(), vec![Answer::Status(299)], 1, 1, 0),
        ("two retries may save it".to_owned(), vec![Answer::Status(500), Answer::Drop], 3, 1, 0),
        (
            "a third failure is the end".to_owned(),
            vec![Answer::Status(500), Answer::Status(502), Answer::Drop],
            3,
            0,
            1,
        ),
        (
            "an answer that is no HTTP is a failed connection".to_owned(),
            vec![Answer::Raw(b"SSH-2.0-OpenSSH_9.0\r\n\r\n")],
            2,
            1,
            0,
        ),
    ];
    cases.extend(again.map(|s| (format!("{s} is tried again"), vec![Answer::Status(s)], 2, 1, 0)));
    cases.extend(dead.map(|s| (format!("{s} is a dead letter"), vec![Answer::Status(s)], 1, 0, 1)));
    for (name, answers, attempts, delivered, dead_letters) in cases {
        let script = move |_: &Request, number: usize| {
            answers.get(number).cloned().unwrap_or(Answer::Status(200))
        };
        let place = Place::with_receiver(&configuration(QUICK), Receiver::scripted(script));
        let ran = place.run(&[write("c", 1)]);
        let counts = ran.summary.dataflows["d"];
        assert_eq!(ran.requests.len(), attempts, "{name}");
        assert_eq!(counts.delivered, delivered, "{name}");
        assert_eq!(counts.dead_letters, dead_letters, "{name}");
        assert_eq!(counts.retries, attempts as u64 - 1, "{name}");
        let first = &ran.requests[0];
        for request in &ran.requests {
            assert_eq!((request.id(), &request.body), (first.id(), &first.body), "{name}");
        }
    }
}

#[test]
fn exports_of_a_profile_keep_their_order_and_profiles_do_not_wait() {
    // The first export of `slow` fails twice; meanwhile everybody else is delivered.
    let failures = AtomicUsize::new(0);
    let script = move |request: &Request, _: usize| {
        let is_slow = request.has_identity("crmid", "slow");
        if is_slow && failures.fetch_add(1, Ordering::SeqCst) < 2 {
            Answer::Status(503)
        } else {
            Answer::Status(200)
        }
    };
    let keys = "timeout = \"10s\"\nretry = { max_retries = 2, backoff = [\"150ms\"] }";
    let place = Place::with_receiver(&configuration(keys), Receiver::scripted(script));
    let mut records: Vec<Record> = (1..=5).map(|n| write("slow", n)).collect();
    records.extend((1..=5).flat_map(|n| ["x", "y", "z"].map(|customer| write(customer, n))));
    let ran = place.run(&records);
    let mut by_customer: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for customer in ["slow", "x", "y", "z"] {
        let of = ran.requests.iter().filter(|request| request.has_identity("crmid", customer));
        by_customer.insert(customer, of.map(Request::sequence).collect());
    }
    for (customer, sequences) in &by_customer {
        let mut once = sequences.clone();
        once.dedup();
        assert_eq!(once.len(), 5, "{customer}: {sequences:?}");
        assert!(once.is_sorted(), "{customer}: {sequences:?}");
    }
    assert_eq!(by_customer["slow"].len(), 7, "two were repeats");
    assert!(ran.requests.last().unwrap().has_identity("crmid", "slow"), "nobody waited for it");
    assert_eq!(ran.summary.dataflows["d"].delivered, 20);
}

#[test]
fn retry_after_is_honoured_and_on_429_holds_the_dataflow() {
    // (status, whether others wait too)
    for (status, holds) in [(429, true), (503, true), (500, false)] {
        let script = move |request: &Request, number: usize| {
            if number == 0 {
                assert!(request.has_identity("crmid", "first"));
                Answer::With(status, "Retry-After: 1\r\n", "slow down")
            } else {
                Answer::Status(200)
            }
        };
        let keys = format!("{QUICK}\nmax_in_flight = 1");
        let place = Place::with_receiver(&configuration(&keys), Receiver::scripted(script));
        let ran = place.run(&[write("first", 1), write("second", 2)]);
        assert_eq!(ran.requests.len(), 3);
        let first = &ran.requests[0];
        for later in &ran.requests[1..] {
            let waited = later.at.since(first.at) >= Duration::from_millis(990);
            let is_retry = later.sequence() == first.sequence();
            assert_eq!(waited, holds || is_retry, "{status}, sequence {}", later.sequence());
        }
    }
}

#[test]
fn a_receiver_that_is_too_slow_is_tried_again() {
    let script = |_: &Request, number: usize| match number {
        0 => Answer::After(Duration::from_secs(2)),
        _ => Answer::Status(200),
    };
    let keys = "timeout = \"200ms\"\nretry = { max_retries = 1, backoff = [\"10ms\"] }";
    let place = Place::with_receiver(&configuration(keys), Receiver::scripted(script));
    let ran = place.run(&[write("c", 1)]);
    assert_eq!(ran.summary.dataflows["d"].delivered, 1);
    assert_eq!(sequences(&ran.requests), [1, 1]);
    assert!(ran.requests[1].at.since(ran.requests[0].at) < Duration::from_secs(2));
}

#[test]
fn dead_letters_are_kept_with_their_attempts_and_can_be_sent_again() {
    let script = |_: &Request, number: usize| match number {
        0 => Answer::Status(500),
        1 => Answer::With(422, "", "no such tenant"),
        _ => Answer::Status(200),
    };
    let place = Place::with_receiver(&configuration(QUICK), Receiver::scripted(script));
    let ran = place.run(&[write("c", 1)]);
    assert_eq!(ran.summary.dataflows["d"].dead_letters, 1);
    let (id, marked) = place.ask(|engine| {
        let letters = engine.dead_letters(None, 10).unwrap();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!((letter.dataflow.as_str(), letter.sequence), ("d", 1));
        let statuses: Vec<_> = letter.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!(statuses, [Some(500), Some(422)]);
        assert_eq!(letter.attempts[1].answer, "no such tenant");
        assert_eq!(letter.payload.get(), ran.requests[0].text());
        let export = Some(letter.export.clone());
        let selection = Selection { export, ..Selection::default() };
        let marked = engine.replay_dead_letters(&selection, 1, Payload::Original).unwrap();
        (letter.export.clone(), marked)
    });
    assert_eq!(marked.replayed, 1);
    let again = place.run(&[]);
    assert_eq!(sequences(&again.requests), [1]);
    assert_eq!(again.requests[0].id(), id, "under the same id");
    assert_eq!(again.requests[0].body, ran.requests[0].body, "the same bytes");
    assert!(place.ask(|engine| engine.dead_letters(None, 10).unwrap().is_empty()));
    assert_eq!(place.run(&[]).requests, [], "and only once");
}

#[test]
fn no_more_requests_start_than_the_rate_allows() {
    let place = Place::new(&configuration(&format!("{QUICK}\nmax_requests_per_second = 20")));
    let records: Vec<Record> = (0..50).map(|n| write(&format!("c{n}"), n)).collect();
    let ran = place.run(&records);
    assert_eq!(ran.requests.len(), 50);
    let mut times: Vec<_> = ran.requests.iter().map(|request| request.at).collect();
    times.sort_unstable();
    for pair in times.windows(21) {
        // What is measured is the arrival; the way there may shorten the distance a little.
        let distance = pair[20].since(pair[0]);
        assert!(distance >= Duration::from_millis(900), "{distance:?} for 21 requests");
    }
}

#[test]
fn no_more_requests_are_open_than_allowed() {
    let place = Place::with_receiver(
        &configuration(&format!("{QUICK}\nmax_in_flight = 3")),
        Receiver::scripted(|_, _| Answer::AtGate),
    );
    let records: Vec<Record> = (0..10).map(|n| write(&format!("c{n}"), n)).collect();
    let ran = place.run_with(|engine| {
        feed(engine, &ndjson(&records));
        place.receiver.wait_until("three are open", |requests| requests.len() == 3);
        assert_eq!(engine.dataflows().unwrap()[0].in_flight, 3);
        assert_eq!(place.receiver.requests().len(), 3, "and no more");
        place.receiver.open_gate();
    });
    assert_eq!(ran.summary.dataflows["d"].delivered, 10);
}

#[test]
fn a_destination_that_fails_is_paused_and_keeps_its_exports() {
    let keys = "timeout = \"10s\"\nretry = { max_retries = 0, backoff = [\"10ms\"] }\n\
                breaker_failures = 3\nprobe_interval = \"50ms\"\nmax_in_flight = 1";
    let place = Place::with_receiver(
        &configuration(keys),
        Receiver::scripted(|_, _| Answer::With(500, "", "down")),
    );
    let records: Vec<Record> = (0..10).map(|n| write(&format!("c{n}"), n)).collect();
    let ran = place.run_for(Duration::from_millis(400), |engine| feed(engine, &ndjson(&records)));
    let counts = ran.summary.dataflows["d"];
    assert_eq!((counts.dead_letters, counts.waiting), (3, 7), "no attempts while it is paused");
    assert_eq!(ran.waiting.len(), 1);
    assert_eq!((ran.waiting[0].destination.as_str(), ran.waiting[0].exports), ("sink", 7));
    assert!(ran.waiting[0].last_error.contains("500"), "{}", ran.waiting[0].last_error);

    place.receiver.answer(|_, _| Answer::Status(200));
    let later = place.run(&[]);
    assert_eq!(later.summary.dataflows["d"].delivered, 7);
    assert_eq!(later.summary.dataflows["d"].waiting, 0);
    assert_eq!(later.waiting, []);
}

#[test]
fn a_probe_that_succeeds_resumes_a_paused_destination() {
    let script = |_: &Request, number: usize| Answer::Status(if number < 6 { 500 } else { 200 });
    let keys = "timeout = \"10s\"\nretry = { max_retries = 5, backoff = [\"10ms\"] }\n\
                breaker_failures = 3\nprobe_interval = \"20ms\"\nmax_in_flight = 1";
    let place = Place::with_receiver(&configuration(keys), Receiver::scripted(script));
    let records: Vec<Record> = (0..10).map(|n| write(&format!("c{n}"), n)).collect();
    let ran = place.run(&records);
    let counts = ran.summary.dataflows["d"];
    assert_eq!((counts.delivered, counts.dead_letters, counts.waiting), (10, 0, 0));
    assert_eq!(ran.requests.len(), 16);
}

#[test]
fn gone_pauses_the_destination_until_the_next_run() {
    let place = Place::with_receiver(
        &configuration(&format!("{QUICK}\nmax_in_flight = 1")),
        Receiver::scripted(|_, _| Answer::Status(410)),
    );
    let ran = place.run(&[write("a", 1), write("b", 2)]);
    assert_eq!(ran.requests.len(), 1);
    assert_eq!(ran.summary.dataflows["d"].waiting, 2);
    assert_eq!(ran.waiting.len(), 1);
    place.receiver.answer(|_, _| Answer::Status(200));
    assert_eq!(place.run(&[]).summary.dataflows["d"].delivered, 2);
}

#[test]
fn a_paused_dataflow_stores_and_sends_nothing() {
    let with = |keys| {
        let flow = dataflow_with("d", &["any"], &["n"], keys);
        [EVENT_CLOCK, &rule("any", "n"), SINK, &flow].concat()
    };
    let place = Place::new(&with("paused = true"));
    let ran = place.run(&[write("a", 1), write("a", 2)]);
    assert_eq!(ran.requests, []);
    assert_eq!(ran.summary.dataflows["d"].waiting, 2);
    assert_eq!(ran.waiting, [], "a drain does not wait for it");
    place.configure(&with("paused = false"));
    let later = place.run(&[]);
    assert_eq!(sequences(&later.requests), [1, 2]);
    assert!(later.requests[0].text().contains("\"n\":1"), "as it was when it was stored");
}

#[test]
fn one_dead_destination_slows_no_other() {
    let other = "\n[[destination]]\nid = \"dead\"\nname = \"Dead\"\nendpoint = \"{receiver}/dead\"\n\
                 timeout = \"30s\"\n\n[[dataflow]]\nid = \"stuck\"\ndestination = \"dead\"\n\
                 audiences = [\"any\"]\nattributes = [\"n\"]\n";
    let script = |request: &Request, _: usize| match request.target.as_str() {
        "/dead" => Answer::AtGate,
        _ => Answer::Status(200),
    };
    let place =
        Place::with_receiver(&[&configuration(QUICK), other].concat(), Receiver::scripted(script));
    let records: Vec<Record> = (0..300).map(|n| write(&format!("c{n}"), n)).collect();
    let ran = place.run_with(|engine| {
        feed(engine, &ndjson(&records));
        let all_of_d = |requests: &[Request]| {
            requests.iter().filter(|request| request.dataflow() == "d").count() == 300
        };
        place.receiver.wait_until("the living one has all", all_of_d);
        place.receiver.open_gate();
    });
    assert_eq!(ran.summary.dataflows["stuck"].delivered, 300);
}

#[test]
fn ids_differ_between_directories_and_exports() {
    let ids = || {
        let place = Place::new(&configuration(QUICK));
        let ran = place.run(&[write("a", 1), write("b", 2)]);
        ran.requests.iter().map(|request| request.id().to_owned()).collect::<Vec<_>>()
    };
    let mut all = [ids(), ids()].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4);
}
