//! TLS towards endpoints and token endpoints: who is believed, and who is shown what (`SPEC.md` §8).

mod authority;
mod server;

use forebay_tests::configuration::{EVENT_CLOCK, rule};
use forebay_tests::{Place, RawReceiver, Receiver, Record};

use self::authority::{Authority, Term};
use self::server::{Clients, Ending, TlsReceiver};

/// A destination at `url` with these keys, and a dataflow of everyone to it.
fn configuration(url: &str, keys: &str) -> String {
    format!(
        "{EVENT_CLOCK}{}\n[[destination]]\nid = \"sink\"\nendpoint = \"{url}/in\"\ntimeout = \"10s\"\n\
         retry = {{ max_retries = 0, backoff = [\"10ms\"] }}\n{keys}\n\
         [[dataflow]]\nid = \"d\"\ndestination = \"sink\"\naudiences = [\"any\"]\nattributes = [\"n\"]\n",
        rule("any", "n")
    )
}

fn record(n: u8) -> Record {
    Record::profile("c").at("01T00:00:00").with(&format!("\"n\":{n}"))
}

const CA: &str = "ca_file = \"ca.pem\"";
const CLIENT: &str =
    "ca_file = \"ca.pem\"\nclient_cert = \"client.pem\"\nclient_key = \"client.key\"";

/// Sends one export in `place`; what went wrong, if something did.
fn failure(place: &Place) -> Option<String> {
    let ran = place.run(&[record(1)]);
    let counts = ran.summary.dataflows["d"];
    assert_eq!(counts.delivered + counts.dead_letters, 1, "{counts:?}");
    place.ask(|engine| {
        let mut letters = engine.dead_letters(None, 1).expect("the engine answers");
        letters.pop().map(|letter| letter.attempts[0].error.clone())
    })
}

/// Checks that `failure` is as expected: `Ok`, or one that says this.
fn check(name: &str, failure: Option<&str>, expected: Result<(), &str>) {
    match (failure, expected) {
        (None, Ok(())) => {}
        (Some(error), Err(part)) if error.contains(part) => {}
        (failure, expected) => panic!("{name}: {failure:?}, not {expected:?}"),
    }
}

#[test]
fn only_a_valid_certificate_of_a_trusted_authority_is_believed() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    // (what it shows, the server's certificate, the destination's keys, what goes wrong)
    let cases = [
        ("a valid chain", ours.identity("127.0.0.1", Term::Now), CA, Ok(())),
        (
            "an unknown authority",
            other.identity("127.0.0.1", Term::Now),
            CA,
            Err("UnknownIssuer; name its authority in `ca_file`"),
        ),
        (
            "none given",
            ours.identity("127.0.0.1", Term::Now),
            "",
            Err("UnknownIssuer; name its authority in `ca_file`"),
        ),
        ("an old one", ours.identity("127.0.0.1", Term::Past), CA, Err("certificate expired")),
        ("one of later", ours.identity("127.0.0.1", Term::Future), CA, Err("not valid yet")),
        ("another address", ours.identity("127.0.0.2", Term::Now), CA, Err("not valid for name")),
        ("another host", ours.identity("localhost", Term::Now), CA, Err("not valid for name")),
    ];
    for (name, identity, keys, expected) in cases {
        let receiver = TlsReceiver::start(&identity, Clients::Any, Ending::Kept);
        // Written before the configuration is read, which happens when the engine starts.
        let place = Place::new(&configuration(&receiver.url(), keys));
        ours.write(&place, "ca.pem");
        check(name, failure(&place).as_deref(), expected);
        assert_eq!(receiver.arrivals().len(), usize::from(expected.is_ok()), "{name}");
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = ours.identity("127.0.0.1", Term::Now);
    let known = ours.identity("client", Term::Now);
    let stranger = other.identity("client", Term::Now);
    let old = ours.identity("client", Term::Past);
    let (asked, required) = (Clients::Asked(&ours), Clients::Known(&ours));
    // (what it shows, what the server wants, the client's certificate, keys, whether it was shown)
    let cases = [
        ("given where it is required", required, &known, CLIENT, Ok(true)),
        (
            "not given where it is",
            required,
            &known,
            CA,
            Err("CertificateRequired; set `client_cert`"),
        ),
        ("another authority's", required, &stranger, CLIENT, Err("alert")),
        ("one that is too old", required, &old, CLIENT, Err("alert")),
        ("given where it is asked for", asked, &known, CLIENT, Ok(true)),
        ("not given where it is asked for", asked, &known, CA, Ok(false)),
        ("nobody asks for it", Clients::Any, &known, CLIENT, Ok(false)),
    ];
    for (name, clients, client, keys, expected) in cases {
        let receiver = TlsReceiver::start(&server, clients, Ending::Kept);
        let place = Place::new(&configuration(&receiver.url(), keys));
        ours.write(&place, "ca.pem");
        client.write(&place);
        check(name, failure(&place).as_deref(), expected.map(drop));
        let shown: Vec<bool> = receiver.arrivals().iter().map(|one| one.is_known).collect();
        assert_eq!(shown, expected.into_iter().collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn a_token_endpoint_is_verified_and_shown_no_client_certificate() {
    let ours = Authority::new("ours");
    let server = ours.identity("127.0.0.1", Term::Now);
    let old = ours.identity("127.0.0.1", Term::Past);
    // (what it shows, the token endpoint's certificate, what goes wrong)
    let cases = [
        ("a valid one", &server, Ok(())),
        ("an old one", &old, Err("token endpoint: invalid peer certificate: certificate expired")),
    ];
    for (name, identity, expected) in cases {
        let endpoint = TlsReceiver::start(&server, Clients::Known(&ours), Ending::Kept);
        let tokens = TlsReceiver::start(identity, Clients::Asked(&ours), Ending::Kept);
        let keys = format!(
            "{CLIENT}\nauth = {{ type = \"oauth2_client_credentials\", client_id = \"id\", \
             client_secret = \"s\", token_url = \"{}/token\" }}",
            tokens.url()
        );
        let place = Place::new(&configuration(&endpoint.url(), &keys));
        ours.write(&place, "ca.pem");
        ours.identity("client", Term::Now).write(&place);
        check(name, failure(&place).as_deref(), expected);
        assert!(tokens.arrivals().iter().all(|one| !one.is_known), "{name}");
        let sent = endpoint.arrivals();
        assert_eq!(sent.len(), usize::from(expected.is_ok()), "{name}");
        for arrival in sent {
            assert!(arrival.is_known && arrival.request.header("authorization") == "Bearer tok");
        }
    }
}

#[test]
fn a_connection_that_ended_between_requests_costs_no_attempt() {
    let ours = Authority::new("ours");
    let server = ours.identity("127.0.0.1", Term::Now);
    for ending in [Ending::Kept, Ending::Announced, Ending::Cut] {
        let receiver = TlsReceiver::start(&server, Clients::Any, ending);
        let place = Place::new(&configuration(&receiver.url(), CA));
        ours.write(&place, "ca.pem");
        let ran = place.run(&[record(1), record(2), record(3)]);
        assert_eq!(ran.summary.dataflows["d"].delivered, 3, "{ending:?}");
    }
}

#[test]
fn tls_and_plain_http_do_not_meet() {
    let ours = Authority::new("ours");
    let server = ours.identity("127.0.0.1", Term::Now);
    let encrypted = TlsReceiver::start(&server, Clients::Any, Ending::Kept);
    let plain = Receiver::start();
    let silent = RawReceiver::start(vec![forebay_tests::Exchange::Unasked(vec![
        forebay_tests::Step::Close,
    ])]);
    let as_plain = encrypted.url().replace("https://", "http://");
    let as_encrypted = |url: String| url.replace("http://", "https://");
    for url in [as_plain, as_encrypted(plain.url()), as_encrypted(silent.url())] {
        let place = Place::new(&configuration(&url, CA));
        ours.write(&place, "ca.pem");
        assert!(failure(&place).is_some(), "{url}");
    }
    assert!(encrypted.arrivals().is_empty());
}
