//! The bytes of an export (`SPEC.md` §7).

use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, rule, sink_with, upload,
};
use forebay_tests::{Place, Record};

fn audiences() -> String {
    [rule("big", "n > 0"), rule("us", "country = \"US\""), upload("list", "30d")].concat()
}

fn records() -> Vec<Record> {
    vec![
        Record::profile("c").at("01T00:00:01").also("Email", "Ana@x").with(r#""country":"US""#),
        Record::membership("c", "list", "realized").at("01T00:00:02"),
        Record::profile("c").at("01T00:00:03").with(r#""n":1,"country":"FR""#),
    ]
}

#[test]
fn a_payload_is_the_profile_as_the_dataflow_maps_it() {
    let flow = dataflow("d", &["big"], &["country", "absent"]);
    let place = Place::new(&[EVENT_CLOCK, &audiences(), SINK, &flow].concat());
    let ran = place.run(&records());
    let expected = concat!(
        r#"{"country":"FR","segmentMembership":{"ups":{"#,
        r#""big":{"lastQualificationTime":"2026-01-01T00:00:03Z","status":"realized"},"#,
        r#""us":{"lastQualificationTime":"2026-01-01T00:00:03Z","status":"exited"}},"#,
        r#""CustomerAudienceUpload":{"list":{"lastQualificationTime":"2026-01-01T00:00:02Z","status":"realized"}}},"#,
        r#""identityMap":{"crmid":[{"id":"c"}],"email":[{"id":"Ana@x"}]}}"#,
    );
    let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    let bodies: Vec<_> = ran.requests.iter().map(forebay_tests::Request::json).collect();
    assert_eq!(bodies, [expected]);
    let request = &ran.requests[0];
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/in"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!((request.dataflow(), request.sequence()), ("d", 1));
    assert!(!request.id().is_empty());
    assert!(request.header("webhook-timestamp").parse::<u64>().is_ok());
}

#[test]
fn memberships_can_be_restricted_to_what_is_mapped() {
    let flow = dataflow_with("d", &["big"], &[], "memberships = \"mapped\"");
    let place = Place::new(&[EVENT_CLOCK, &audiences(), SINK, &flow].concat());
    let lines = place.run(&records()).lines();
    assert_eq!(lines, ["crmid:c email:Ana@x | big=realized@01T00:00:03"]);
}

#[test]
fn values_are_what_was_received_to_the_last_digit() {
    let values = [
        r#""v":{"number":1.10,"big":12345678901234567890123456789,"exp":1E+2}"#,
        r#""v":{"text":"\u00e9 \"quoted\" \\ /","emoji":"😀"}"#,
        r#""v":{"list":[1.0,null,{"b":1,"a":[]},"x"]}"#,
        r#""v":{"yes":true,"no":false,"empty":""}"#,
    ];
    let flow = dataflow("d", &["big"], &["v"]);
    for value in values {
        let place = Place::new(&[EVENT_CLOCK, &audiences(), SINK, &flow].concat());
        let ran =
            place.run(&[Record::profile("c").at("01T00:00:01").with(&format!("\"n\":1,{value}"))]);
        let body = ran.requests[0].text();
        // Members of the object may stand in another order; each of them stands as it was written.
        let inner = value.trim_start_matches("\"v\":{").trim_end_matches('}');
        let members = if inner.contains('[') { vec![inner] } else { inner.split(",\"").collect() };
        for member in members {
            assert!(body.contains(member), "{member} is not in {body}");
        }
    }
}

#[test]
fn names_and_times_are_added_where_asked_for_and_only_to_mapped_audiences() {
    // (the switches, the members of a mapped audience beside status and time)
    let cases = [
        ("include_segment_names = true", vec!["name"]),
        (
            "include_segment_timestamps = true",
            vec!["createdAt", "mappingCreatedAt", "mappingUpdatedAt", "updatedAt"],
        ),
        (
            "include_segment_names = true\ninclude_segment_timestamps = true",
            vec!["createdAt", "mappingCreatedAt", "mappingUpdatedAt", "name", "updatedAt"],
        ),
    ];
    for (keys, expected) in cases {
        let flow = dataflow("d", &["big"], &[]);
        let place = Place::new(&[EVENT_CLOCK, &audiences(), &sink_with(keys), &flow].concat());
        let ran = place.run(&records());
        let body = ran.requests[0].json();
        let members = |audience: &str| {
            let entry = body["segmentMembership"]["ups"][audience].as_object().unwrap();
            let mut names: Vec<&str> = entry.keys().map(String::as_str).collect();
            names.retain(|name| !["status", "lastQualificationTime"].contains(name));
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(members("big"), expected, "{keys}");
        assert_eq!(members("us"), [""; 0], "{keys}: it is not mapped");
        let mapped = &body["segmentMembership"]["ups"]["big"];
        for (name, value) in mapped.as_object().unwrap() {
            // Milliseconds of wall time: after 2025, and not seconds.
            let is_time = value.as_i64().is_some_and(|ms| ms > 1_735_689_600_000);
            assert_eq!(is_time, name.ends_with("At"), "{name}: {value}");
        }
    }
}

#[test]
fn a_header_and_query_parameters_go_with_every_request() {
    let keys = "headers = \"X-Source:forebay,X-Env:prod\"\nquery_params = \"tenant=a b&v=%32\"\n\
                auth = { type = \"bearer\", token = \"${file:token}\" }";
    let configuration =
        [EVENT_CLOCK, &rule("big", "n"), &sink_with(keys), &dataflow("d", &["big"], &["n"])]
            .concat();
    let place = Place::new(EVENT_CLOCK);
    place.write("token", "s3cret\n");
    place.configure(&configuration);
    let ran = place.run(&[Record::profile("c").at("01T00:00:01").with("\"n\":1")]);
    let request = &ran.requests[0];
    assert_eq!(request.target, "/in?tenant=a%20b&v=%32");
    assert_eq!((request.header("x-source"), request.header("x-env")), ("forebay", "prod"));
    assert_eq!(request.header("authorization"), "Bearer s3cret");
}
