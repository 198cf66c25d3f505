//! What a good configuration comes to.

use std::time::Duration;

use super::super::STARTER;
use super::{dataflow, destination, good, load};
use crate::clock::ClockKind;
use crate::definitions::{
    AttributeMerge, AudienceKind, IdentityGraph, Memberships, MergePolicy, SameValueWrites,
    Settings, Triggers,
};
use crate::deliver::settings::{AuthSettings, CredentialsStyle, HeaderText, Sending, Waiting};

#[test]
fn the_starter_loads_without_errors_or_warnings() {
    let config = good(STARTER);
    assert_eq!(config.warnings, []);
    assert_eq!(config.clock, ClockKind::Event);
    assert_eq!(config.destinations[0].settings.endpoint.as_str(), "http://127.0.0.1:8400/");
    assert_eq!(config.definitions.dataflows[0].audiences, ["big_spenders"]);
    // What is commented out is right too.
    let marks = [
        "# [[",
        "# id = ",
        "# name = ",
        "# type = ",
        "# ttl = ",
        "# headers",
        "# query",
        "# auth",
        "# include",
        "# timeout",
        "# max_",
        "# retry",
        "# triggers",
        "# same_",
        "# memberships",
        "# paused",
    ];
    let uncomment = |line: &str| {
        let is_key = marks.iter().any(|mark| line.starts_with(mark));
        line.strip_prefix("# ")
            .filter(|_| is_key)
            .unwrap_or(line)
            .replace("RECEIVER_TOKEN", "TOKEN")
    };
    let all: Vec<String> = STARTER.lines().map(uncomment).collect();
    let config = good(&all.join("\n"));
    assert_eq!(config.warnings, []);
    assert_eq!(config.definitions.audiences.len(), 2);
}

#[test]
fn what_is_not_said_has_the_values_of_the_specification() {
    let config = good(&dataflow("audiences = [\"a\"]"));
    assert_eq!(config.clock, ClockKind::Wall);
    assert_eq!(config.definitions.settings, Settings::default());
    assert_eq!(config.definitions.merge_policies, [MergePolicy::implicit()]);
    assert_eq!(config.export_retention, Duration::from_hours(7 * 24));
    assert_eq!(config.state_memory, None);
    let destination = &config.destinations[0];
    assert_eq!((destination.name.as_str(), destination.disk_budget), ("d", 10_000_000_000));
    assert_eq!(destination.settings.timeout, Duration::from_secs(2));
    assert_eq!(destination.settings.retry.backoff.len(), 2);
    let flow = &config.definitions.dataflows[0];
    assert_eq!((flow.triggers, flow.memberships), (Triggers::ALL, Memberships::All));
    assert_eq!(flow.same_value_writes, SameValueWrites::Export);
    assert_eq!(
        config.dataflow("f").map(|d| (d.sending, d.waiting)),
        Some((Sending::On, Waiting::All))
    );
    let empty = good("");
    assert_eq!((empty.definitions.audiences.len(), empty.warnings), (0, Vec::new()));
}

#[test]
fn every_key_of_the_top_is_read() {
    let config = good(
        "clock = \"event\"\ntime_zone = \"Europe/Paris\"\nexited_retention = \"2d\"\ndedupe_window = \"1h\"\n\
         max_clock_jump = \"400d\"\nstate_memory = \"512MiB\"\nexport_retention = \"1w\"\n\
         [[merge_policy]]\nid = \"m\"\ndefault = true\nidentity_graph = \"none\"\n\
         attribute_merge = \"dataSetPrecedence\"\norder = [\"crm\", \"web\"]\n\
         [[audience]]\nid = \"u\"\nname = \"U\"\ndescription = \"D\"\ntype = \"upload\"\nttl = \"5s\"\nmerge_policy = \"m\"",
    );
    let settings = &config.definitions.settings;
    assert_eq!(settings.time_zone, "Europe/Paris");
    assert_eq!((settings.exited_retention_ms, settings.dedupe_window_ms), (172_800_000, 3_600_000));
    assert_eq!(settings.max_clock_jump_ms, Some(34_560_000_000));
    assert_eq!(config.state_memory, Some(536_870_912));
    let policy = &config.definitions.merge_policies[0];
    assert_eq!(policy.identity_graph, IdentityGraph::None);
    let order = vec!["crm".to_owned(), "web".to_owned()];
    assert_eq!(policy.attribute_merge, AttributeMerge::DataSetPrecedence { order });
    let audience = &config.definitions.audiences[0];
    assert_eq!(audience.kind, AudienceKind::Upload { ttl_ms: 5000 });
    assert_eq!((audience.description.as_str(), audience.merge_policy.as_str()), ("D", "m"));
}

#[test]
fn every_key_of_a_destination_is_read() {
    let toml = "name = \"N\"\ndescription = \"D\"\ninclude_segment_names = true\ninclude_segment_timestamps = true\n\
        headers = { Authorization = \"Key ${env:TOKEN}\", X-List = \"a,b\", X-Url = \"http://h:1/\" }\n\
        query_params = \"tenant=acme&v=2\"\ntimeout = \"250ms\"\nmax_requests_per_second = 5\nmax_in_flight = 7\n\
        breaker_failures = 3\nprobe_interval = \"2s\"\ndisk_budget = \"1GB\"\nsigning_secret = \"${env:SIGNING}\"\n\
        ca_file = \"ca.pem\"\nclient_cert = \"tls/cert.pem\"\nclient_key = \"tls/key.pem\"\nsource_address = \"127.0.0.9\"\n\
        allow_insecure = true\nallow_private = true\n[destination.retry]\nmax_retries = 9\nbackoff = [\"1s\", \"5s\"]";
    let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let files = [("ca.pem", &*cert), ("tls/cert.pem", &*cert), ("tls/key.pem", &*key)];
    let config = load(&destination(toml), &files).unwrap();
    let destination = &config.destinations[0];
    assert!(destination.include_segment_names && destination.include_segment_timestamps);
    assert_eq!((destination.name.as_str(), destination.disk_budget), ("N", 1_000_000_000));
    let settings = &destination.settings;
    assert_eq!(settings.endpoint.as_str(), "https://example.com/in?tenant=acme&v=2");
    assert_eq!((settings.max_requests_per_second, settings.max_in_flight), (5, 7));
    assert_eq!((settings.breaker_failures, settings.probe_interval), (3, Duration::from_secs(2)));
    assert_eq!((settings.retry.max_retries, settings.retry.backoff.len()), (9, 2));
    assert_eq!(settings.timeout, Duration::from_millis(250));
    assert_eq!(settings.source_address, "127.0.0.9".parse().ok());
    assert!(settings.client_key.as_ref().is_some_and(|path| path.ends_with("tls/key.pem")));
    assert!(settings.signing_secret.is_some() && settings.reach.allow_private);
    let headers: Vec<_> = settings.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
    assert_eq!(
        headers,
        [("Authorization", "Key s3cret"), ("X-List", "a,b"), ("X-Url", "http://h:1/")]
    );
    assert!(matches!(settings.headers[0].1, HeaderText::Secret(_)), "what holds a secret is one");
    assert!(!format!("{config:?}").contains("s3cret"));
}

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

#[test]
fn both_forms_of_headers_and_parameters_are_read() {
    // (what it shows, the keys, the headers, the query)
    let cases: [(&str, &str, Headers<'_>, Option<&str>); 6] = [
        (
            "a string is split at commas and first colons",
            "headers = \"X-A: 1 ,X-B:http://h:2\"",
            &[("X-A", "1"), ("X-B", "http://h:2")],
            None,
        ),
        ("a value may be empty", "headers = \"X-A:\"", &[("X-A", "")], None),
        ("no header is none", "headers = \" \"\nquery_params = \"\"", &[], None),
        (
            "a secret may be part of the string",
            "headers = \"X-A:1,X-B:k-${env:TOKEN}\"",
            &[("X-A", "1"), ("X-B", "k-s3cret")],
            None,
        ),
        (
            "a table of parameters is encoded, in order",
            "query_params = { b = \"x&y=%20 é\", a = 1, \"c d\" = true, e = 1.50 }",
            &[],
            Some("b=x%26y%3D%2520%20%C3%A9&a=1&c%20d=true&e=1.50"),
        ),
        ("a string of parameters is kept", "query_params = \"a=%20 b\"", &[], Some("a=%20%20b")),
    ];
    for (name, keys, headers, query) in cases {
        let config = good(&destination(keys));
        let settings = &config.destinations[0].settings;
        let got: Vec<_> = settings.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
        assert_eq!(got, headers, "{name}");
        assert_eq!(settings.endpoint.query(), query, "{name}");
    }
    let both =
        "[[destination]]\nid = \"d\"\nendpoint = \"https://h/p?x=1\"\nquery_params = \"y=2\"";
    assert_eq!(good(both).destinations[0].settings.endpoint.as_str(), "https://h/p?x=1&y=2");
}

#[test]
fn each_type_of_authentication_is_read() {
    let auth = |text: &str| {
        let files = [("secret.txt", "from file\r\n"), ("two.txt", "x\n\n")];
        let config = load(&destination(&format!("auth = {{ {text} }}")), &files).unwrap();
        config.destinations[0].settings.auth.clone()
    };
    assert!(matches!(auth("type = \"none\""), AuthSettings::None));
    let bearer = |text: &str| match auth(&format!("type = \"bearer\", token = \"{text}\"")) {
        AuthSettings::Bearer { token } => token.expose().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bearer("${env:TOKEN}"), "s3cret");
    assert_eq!(bearer("${file:secret.txt}"), "from file", "the last line break is dropped");
    let oauth =
        "token_url = \"https://a/t\", client_id = \"my id\", client_secret = \"${env:TOKEN}\"";
    let basic = format!(
        "type = \"oauth2_client_credentials\", client_credentials_type = \"basic_authorization\", {oauth}"
    );
    let AuthSettings::ClientCredentials { client, style } = auth(&basic) else { panic!("{basic}") };
    assert_eq!((client.client_id.as_str(), style), ("my id", CredentialsStyle::BasicAuthorization));
    let password = format!(
        "type = \"oauth2_password\", username = \"u\", password = \"${{file:two.txt}}\", {oauth}"
    );
    let AuthSettings::Password { client, username, password } = auth(&password) else {
        panic!("{password}")
    };
    assert_eq!(
        (client.client_secret.expose(), username.as_str(), password.expose()),
        ("s3cret", "u", "x\n"),
        "no more than one"
    );
}
