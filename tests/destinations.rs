//! Destinations as their operator sees them: how they do, and whether they take a sample.

use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Program, Receiver, Record, Request, Run};
use serde_json::Value;

fn program(place: &Place) -> Program {
    Program::at(place.path())
}

fn with_secrets(place: &Place, arguments: &str) -> Run {
    let mut command = program(place).command(arguments);
    command.env("FOREBAY_TEST_TOKEN", "sesame-4711").env("FOREBAY_TEST_KEY", "whsec_c2VzYW1l");
    command.output().expect("the binary starts").into()
}

fn secret_configuration() -> String {
    let keys = "query_params = \"tenant=acme&api_key=4712\"\n\
                headers = { X-Tenant = \"${env:FOREBAY_TEST_TOKEN}\" }\n\
                auth = { type = \"bearer\", token = \"${env:FOREBAY_TEST_TOKEN}\" }\n\
                signing_secret = \"${env:FOREBAY_TEST_KEY}\"\n";
    [EVENT_CLOCK, &rule("any", "n"), SINK, keys, &dataflow("d", &["any"], &["n"])].concat()
}

#[test]
fn a_sample_shows_what_was_sent_and_answered_and_no_secret() {
    let echo = |request: &Request, _: usize| match request.header("authorization") {
        "Bearer sesame-4711" => Answer::With(202, "X-Seen: sesame-4711\r\n", "thanks, sesame-4711"),
        _ => Answer::Status(401),
    };
    let place = Place::with_receiver(&secret_configuration(), Receiver::scripted(echo));
    let text = with_secrets(&place, "destination test sink").expect_status(0);
    for part in ["> POST /in?tenant=acme&api_key=[secret] HTTP/1.1", "< 202", "total", "taken"] {
        assert!(text.stdout.contains(part), "no {part}:\n{}", text.stdout);
    }
    let json = with_secrets(&place, "destination test sink --output json").expect_status(0);
    for shown in [&text.stdout, &text.stderr, &json.stdout] {
        for secret in ["sesame-4711", "c2VzYW1l", "4712"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
    let trial = json.json();
    assert_eq!((&trial["ok"], &trial["answer"]["status"]), (&true.into(), &202.into()));
    assert_eq!(trial["answer"]["body"], "thanks, [secret]");
    assert!(trial["timing_ms"]["connect"].is_f64() && trial["timing_ms"]["tls"].is_null());

    let requests = place.receiver.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert!(request.id().starts_with("forebay-test-"), "{}", request.id());
        assert_eq!((request.header("forebay-test"), request.dataflow()), ("true", ""));
        assert_eq!(request.target, "/in?tenant=acme&api_key=4712");
        assert!(request.header("webhook-signature").starts_with("v1,"));
        assert_eq!(request.json(), trial_body(request), "it is a payload like any");
    }
    assert!(!place.data().exists(), "nothing is stored");
}

/// What is sent, but for the time in it.
fn trial_body(request: &Request) -> Value {
    let sent = request.json();
    let time = &sent["segmentMembership"]["ups"]["forebay-test"]["lastQualificationTime"];
    serde_json::json!({
        "person": {"name": {"firstName": "Test"}},
        "segmentMembership": {
            "ups": {"forebay-test": {"lastQualificationTime": time, "status": "realized"}}
        },
        "identityMap": {"forebay-test": [{"id": "forebay-test"}]},
    })
}

#[test]
fn a_sample_that_is_not_taken_is_told_and_not_sent_again() {
    let configuration = [EVENT_CLOCK, &rule("any", "n"), SINK, "max_requests_per_second = 1\n"];
    // (what it shows, answer, part of the text)
    let cases = [
        ("a refusal", Answer::With(422, "", "no such tenant"), "not taken: status 422"),
        ("its answer", Answer::With(422, "", "no such tenant"), "< no such tenant"),
        ("a redirect is not followed", Answer::Status(302), "not taken: status 302"),
        ("a failure is not tried again", Answer::Status(503), "not taken: status 503"),
        ("no answer", Answer::Drop, "no answer: "),
    ];
    for (name, answer, told) in cases {
        let script = move |_: &Request, _: usize| answer.clone();
        let place = Place::with_receiver(&configuration.concat(), Receiver::scripted(script));
        let run = program(&place).run("destination test sink").expect_status(1);
        assert!(run.stdout.contains(told), "{name}: {}", run.stdout);
        assert_eq!(place.receiver.requests().len(), 1, "{name}");
    }
}

#[test]
fn wrong_destinations_and_configurations_are_told() {
    let place = Place::new(&[EVENT_CLOCK, SINK].concat());
    // (what is wrong, arguments, what is told)
    let cases: [(&str, &str, &[&str]); 4] = [
        ("a near miss", "destination test sinc", &["sinc", "did you mean `sink`?"]),
        ("another name", "destination test other", &["other", "forebay destination list"]),
        ("no id", "destination test", &["<ID>"]),
        ("no configuration", "destination list --config no.toml", &["no.toml", "init"]),
    ];
    for (name, arguments, told) in cases {
        let run = program(&place).run(arguments);
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{name}: {run:?}");
        run.tells(told);
    }
    assert_eq!(place.receiver.requests(), []);
}

#[test]
fn destinations_are_listed_with_how_they_do() {
    let quick = "max_in_flight = 1\nbreaker_failures = 2\nprobe_interval = \"60s\"\n";
    let more = "\n[[destination]]\nid = \"spare\"\nendpoint = \"https://example.com/in\"\n";
    let configuration =
        [EVENT_CLOCK, &rule("any", "n"), SINK, quick, &dataflow("d", &["any"], &["n"]), more];
    let script = |_: &Request, _: usize| Answer::Status(503);
    let place = Place::with_receiver(&configuration.concat(), Receiver::scripted(script));
    let list =
        || program(&place).run("destination list --output json").expect_status(0).json_lines();
    let states = |views: &[Value]| -> Vec<String> {
        views.iter().map(|view| view["state"].as_str().unwrap().to_owned()).collect()
    };
    let before = list();
    assert_eq!(states(&before), ["stopped", "stopped"], "without an engine, without a directory");
    assert_eq!((&before[0]["auth"], &before[0]["max_in_flight"]), (&"none".into(), &1.into()));
    assert_eq!(before[0]["dataflows"], serde_json::json!(["d"]));
    assert_eq!((&before[1]["name"], &before[1]["signed"]), (&"spare".into(), &false.into()));

    let engine = running(&place);
    assert_eq!(states(&list()), ["ok", "unused"]);
    let records = (0..3)
        .map(|n| Record::profile(&format!("c{n}")).at("01T00:00:00").with(&format!("\"n\":{n}")));
    let ingested = program(&place).run_with("ingest -", ndjson(records).as_bytes());
    assert_eq!(ingested.status, Some(0), "{ingested:?}");
    Deadline::new().until("the breaker opens", || states(&list())[0] == "paused_by_breaker");
    let view = list().swap_remove(0);
    assert_eq!(view["last_error"], "status 503");
    assert!(view["paused_for_ms"].is_u64() && view["last_error_at"].is_string(), "{view}");

    let text = program(&place).run("destination list").expect_status(0).stdout;
    assert!(text.contains("paused by the breaker") && text.contains("status 503"), "{text}");
    let screen = program(&place).run("status").expect_status(0).stdout;
    for part in ["3 waiting, the oldest for", "destination sink: paused by the breaker"] {
        assert!(screen.contains(part), "no {part}:\n{screen}");
    }
    stopped(engine);
}

#[test]
fn a_destination_that_is_gone_or_resting_is_told() {
    // (state, answer, keys of the dataflow)
    for (state, answer, keys) in [
        ("paused_by_410", Answer::Status(410), ""),
        ("paused", Answer::Status(200), "paused = true"),
    ] {
        let flow = dataflow_with("d", &["any"], &["n"], keys);
        let configuration = [EVENT_CLOCK, &rule("any", "n"), SINK, &flow].concat();
        let script = move |_: &Request, _: usize| answer.clone();
        let place = Place::with_receiver(&configuration, Receiver::scripted(script));
        let ran = place.run_with(|engine| {
            let records = [Record::profile("c").at("01T00:00:00").with("\"n\":1")];
            forebay_tests::place::feed(engine, &ndjson(&records));
            Deadline::new().until(state, || engine.destinations()[0].state == state);
        });
        assert_eq!(ran.summary.dataflows["d"].waiting, 1, "{state}");
    }
}
