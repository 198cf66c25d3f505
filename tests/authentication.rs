//! How requests authenticate, and what a token endpoint that fails does to exports (`SPEC.md` §8).

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_tests::configuration::{EVENT_CLOCK, dataflow, rule};
use forebay_tests::{Answer, Exchange, Place, RawReceiver, Receiver, Record, Request, Step};

const CLIENT: &str = "auth = { type = \"oauth2_client_credentials\", token_url = \"{receiver}/token\", \
                      client_id = \"id\", client_secret = \"s3cret\" }";
const PASSWORD: &str = "auth = { type = \"oauth2_password\", token_url = \"{receiver}/token\", \
                        client_id = \"id\", client_secret = \"s3cret\", \
                        username = \"ann\", password = \"p w\" }";
const QUICK: &str = "retry = { max_retries = 2, backoff = [\"10ms\"] }";

/// Audience `any`, and for each of `flows` a dataflow to the destination `sink` with these keys.
fn configuration(keys: &str, flows: &[&str]) -> String {
    let sink = format!(
        "\n[[destination]]\nid = \"sink\"\nendpoint = \"{{receiver}}/in\"\ntimeout = \"10s\"\n{keys}\n"
    );
    let flows: Vec<String> = flows.iter().map(|id| dataflow(id, &["any"], &["n"])).collect();
    [EVENT_CLOCK, &rule("any", "n"), &sink, &flows.concat()].concat()
}

fn customers(count: usize) -> Vec<Record> {
    let record = |n| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"n\":1");
    (0..count).map(record).collect()
}

fn asked(requests: &[Request]) -> Vec<&str> {
    let tokens = requests.iter().filter(|request| request.target == "/token");
    tokens.map(Request::text).collect()
}

const TOKEN: Answer = Answer::With(200, "", "{\"access_token\":\"tok\",\"expires_in\":3600}");

#[test]
fn one_token_serves_all_dataflows_of_a_destination() {
    let script = |request: &Request, _: usize| match request.target.as_str() {
        "/token" => TOKEN,
        _ if request.header("authorization") == "Bearer tok" => Answer::Status(200),
        _ => Answer::Status(401),
    };
    let text = configuration(&format!("{QUICK}\n{CLIENT}"), &["d", "e"]);
    let place = Place::with_receiver(&text, Receiver::scripted(script));
    let ran = place.run(&customers(40));
    assert_eq!(asked(&ran.requests).len(), 1);
    for flow in ["d", "e"] {
        assert_eq!(ran.summary.dataflows[flow].delivered, 40);
    }
    for request in ran.requests.iter().filter(|request| request.target == "/token") {
        let own: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert!(!own.iter().any(|name| name.starts_with("webhook-")), "{own:?}");
        assert!(!own.iter().any(|name| name.starts_with("forebay-")), "{own:?}");
    }
}

#[test]
fn a_second_401_is_a_dead_letter() {
    // (what it shows, auth, requests for a token, requests with the export)
    let cases = [
        ("with OAuth2 the token is renewed once", CLIENT, 2, 2),
        ("a password is asked with anew", PASSWORD, 2, 2),
        ("a fixed token cannot be", "auth = { type = \"bearer\", token = \"t\" }", 0, 1),
        ("nor can none", "", 0, 1),
    ];
    for (name, auth, tokens, sent) in cases {
        let script = |request: &Request, _: usize| match request.target.as_str() {
            "/token" => TOKEN,
            _ => Answer::With(401, "", "who are you?"),
        };
        let text = configuration(&format!("{QUICK}\n{auth}"), &["d"]);
        let place = Place::with_receiver(&text, Receiver::scripted(script));
        let ran = place.run(&customers(1));
        assert_eq!(asked(&ran.requests).len(), tokens, "{name}");
        assert_eq!(ran.requests.len() - tokens, sent, "{name}");
        let counts = ran.summary.dataflows["d"];
        assert_eq!((counts.dead_letters, counts.retries), (1, 0), "{name}");
        let letter = place.ask(|engine| engine.dead_letters(None, 1).unwrap().remove(0));
        let attempts: Vec<_> = letter.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!(attempts, [Some(401)], "{name}: the renewal is no attempt");
    }
}

#[test]
fn a_refused_grant_is_said_by_its_name() {
    let refused = "{\"error\":\"invalid_client\",\"error_description\":\"s3cret is wrong\"}";
    let script = move |request: &Request, _: usize| match request.target.as_str() {
        "/token" => Answer::With(401, "", refused),
        _ => Answer::Status(200),
    };
    let text = configuration(&format!("{QUICK}\n{CLIENT}"), &["d"]);
    let place = Place::with_receiver(&text, Receiver::scripted(script));
    let ran = place.run(&customers(1));
    assert_eq!(asked(&ran.requests).len(), 3, "a failed connection, tried again like any other");
    assert_eq!(ran.requests.len(), 3, "and nothing is sent without a token");
    let letter = place.ask(|engine| engine.dead_letters(None, 1).unwrap().remove(0));
    for attempt in &letter.attempts {
        assert!(attempt.error.contains("invalid_client (status 401); check"), "{}", attempt.error);
        assert!(!attempt.error.contains("s3cret") && attempt.answer.is_empty(), "{attempt:?}");
        assert_eq!(attempt.status, None, "it is not the endpoint's status");
    }
}

#[test]
fn exports_outlive_a_token_endpoint_that_is_down() {
    // Long enough that the retries would be used up many times.
    const DOWN: usize = 12;
    let asked_before = AtomicUsize::new(0);
    let script = move |request: &Request, _: usize| match request.target.as_str() {
        "/token" if asked_before.fetch_add(1, Ordering::SeqCst) < DOWN => Answer::Status(503),
        "/token" => TOKEN,
        _ => Answer::Status(200),
    };
    let keys = format!(
        "{QUICK}\n{CLIENT}\nmax_in_flight = 1\nbreaker_failures = 2\nprobe_interval = \"1ms\""
    );
    let place = Place::with_receiver(&configuration(&keys, &["d"]), Receiver::scripted(script));
    let ran = place.run(&customers(5));
    let counts = ran.summary.dataflows["d"];
    assert_eq!((counts.delivered, counts.dead_letters), (5, 0));
    assert_eq!(asked(&ran.requests).len(), DOWN + 1);
}

#[test]
fn a_refresh_token_is_used_instead_of_the_password() {
    let tokens = AtomicUsize::new(0);
    let script = move |request: &Request, _: usize| match request.target.as_str() {
        "/token" if tokens.fetch_add(1, Ordering::SeqCst) == 0 => Answer::With(
            200,
            "",
            "{\"access_token\":\"one\",\"token_type\":\"Bearer\",\"refresh_token\":\"again\"}",
        ),
        "/token" => Answer::With(200, "", "{\"access_token\":\"two\",\"token_type\":\"bearer\"}"),
        _ if request.header("authorization") == "Bearer two" => Answer::Status(200),
        _ => Answer::Status(401),
    };
    let text = configuration(&format!("{QUICK}\n{PASSWORD}"), &["d"]);
    let place = Place::with_receiver(&text, Receiver::scripted(script));
    let ran = place.run(&customers(1));
    assert_eq!(ran.summary.dataflows["d"].delivered, 1);
    let client = "client_id=id&client_secret=s3cret";
    assert_eq!(
        asked(&ran.requests),
        [
            format!("grant_type=password&username=ann&password=p+w&{client}"),
            format!("grant_type=refresh_token&refresh_token=again&{client}"),
        ]
    );
}

#[test]
fn connections_leave_from_the_source_address() {
    let token = "{\"access_token\":\"tok\"}";
    let given = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len());
    for source in ["127.0.0.1", "127.0.0.2"] {
        let script = vec![Exchange::Answer(vec![Step::Send(given.clone().into_bytes())])];
        let receiver = RawReceiver::start(script);
        let keys = format!("{QUICK}\n{CLIENT}\nsource_address = \"{source}\"");
        let text = configuration(&keys, &["d"]).replace("{receiver}", &receiver.url());
        let ran = Place::new(&text).run(&customers(1));
        assert_eq!(ran.summary.dataflows["d"].delivered, 1);
        let arrivals = receiver.arrivals();
        let targets: Vec<_> = arrivals.iter().map(|a| a.request.target.as_str()).collect();
        assert_eq!(targets, ["/token", "/in"]);
        let source: IpAddr = source.parse().unwrap();
        assert!(arrivals.iter().all(|arrival| arrival.from.ip() == source), "{arrivals:?}");
    }
}

#[test]
fn a_source_address_that_is_not_here_is_named() {
    let keys = format!("{QUICK}\nsource_address = \"192.0.2.7\"");
    let place = Place::new(&configuration(&keys, &["d"]));
    let ran = place.run(&customers(1));
    assert_eq!(ran.requests, []);
    let letter = place.ask(|engine| engine.dead_letters(None, 1).unwrap().remove(0));
    let error = &letter.attempts[0].error;
    assert!(error.contains("source_address 192.0.2.7: "), "{error}");
}
