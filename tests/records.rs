//! Records: what is taken, what is refused and kept, what was there before (`SPEC.md` §2).

use std::sync::Arc;

use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, one_audience, rule, upload};
use forebay_tests::place::{feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{HandClock, Place, Record};

const MIB: usize = 1024 * 1024;

#[test]
fn every_form_of_a_record_is_understood() {
    // (what it shows, the line, the profile after it)
    let cases = [
        (
            "a profile record",
            r#"{"profile":{"identityMap":{"CRMID":[{"id":"c"}]},"n":1},"timestamp":"2026-01-01T00:00:00Z","dataset":"crm"}"#,
            r#"crmid:c | any=realized@01T00:00:00 | {"n":1}"#,
        ),
        (
            "an event",
            r#"{"event":{"_id":"e","timestamp":"2026-01-01T00:00:00Z","identityMap":{"CRMID":[{"id":"c"}]}}}"#,
            "crmid:c | seen=realized@01T00:00:00",
        ),
        (
            "an upload membership",
            r#"{"membership":{"audience":"vip","identityMap":{"CRMID":[{"id":"c"}]},"status":"realized"},"timestamp":"2026-01-01T00:00:00Z"}"#,
            "crmid:c | vip=realized@01T00:00:00",
        ),
        (
            "a streaming message with an event",
            r#"{"header":{"datasetId":"web"},"body":{"xdmEntity":{"_id":"e","timestamp":"2026-01-01T00:00:00Z","identityMap":{"CRMID":[{"id":"c"}]}}}}"#,
            "crmid:c | seen=realized@01T00:00:00",
        ),
        (
            "a streaming message without _id is a profile record",
            r#"{"header":{"datasetId":"web"},"body":{"xdmEntity":{"n":2,"identityMap":{"CRMID":[{"id":"c"}]}}},"timestamp":"2026-01-01T00:00:00Z"}"#,
            r#"crmid:c | any=realized@01T00:00:00 | {"n":2}"#,
        ),
        (
            "unknown members are ignored",
            r#"{"profile":{"identityMap":{"CRMID":[{"id":"c","x":1}]},"n":3},"timestamp":"2026-01-01T00:00:00Z","more":[{}]}"#,
            r#"crmid:c | any=realized@01T00:00:00 | {"n":3}"#,
        ),
        (
            "any offset is a time, kept to the millisecond",
            r#"{"profile":{"identityMap":{"crmid":[{"id":"c"}]},"n":4},"timestamp":"2026-01-01T02:00:00.9999+02:00"}"#,
            r#"crmid:c | any=realized@01T00:00:00 | {"n":4}"#,
        ),
    ];
    let configuration = [
        EVENT_CLOCK,
        &rule("any", "n"),
        &rule("seen", "xEvent.count() > 0"),
        &upload("vip", "30d"),
    ]
    .concat();
    for (name, line, expected) in cases {
        let place = Place::new(&configuration);
        let ran = place.run_text(&format!("{line}\n"));
        assert_eq!(ran.summary.records.accepted, 1, "{name}: {:?}", place.rejects());
        let shown = place.ask(|engine| profile_line(engine, "c"));
        assert_eq!(shown.as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn a_bad_line_is_refused_and_kept_and_stops_nothing() {
    let identity = r#""identityMap":{"CRMID":[{"id":"c"}]}"#;
    let time = r#""timestamp":"2026-01-01T00:00:00Z""#;
    // (what is wrong, the line)
    let cases = [
        ("no JSON", "not json".to_owned()),
        ("cut short", format!(r#"{{"profile":{{{identity}"#)),
        ("two values", format!(r#"{{"profile":{{{identity}}}}} 1"#)),
        ("no object", "[1]".to_owned()),
        ("no kind", "{}".to_owned()),
        (
            "two kinds",
            format!(r#"{{"profile":{{{identity}}},"event":{{"_id":"e",{time},{identity}}}}}"#),
        ),
        ("no identities", r#"{"profile":{"n":1}}"#.to_owned()),
        ("an empty identity map", r#"{"profile":{"identityMap":{},"n":1}}"#.to_owned()),
        ("an empty id", r#"{"profile":{"identityMap":{"CRMID":[{"id":""}]}}}"#.to_owned()),
        ("an id that is no string", r#"{"profile":{"identityMap":{"CRMID":[{"id":1}]}}}"#.into()),
        ("a profile that is no object", r#"{"profile":3}"#.to_owned()),
        ("an event without _id", format!(r#"{{"event":{{{time},{identity}}}}}"#)),
        ("an empty _id", format!(r#"{{"event":{{"_id":"",{time},{identity}}}}}"#)),
        ("an event without a time", format!(r#"{{"event":{{"_id":"e",{identity}}}}}"#)),
        (
            "a time that is none",
            format!(r#"{{"event":{{"_id":"e","timestamp":"today",{identity}}}}}"#),
        ),
        (
            "an envelope's time that is none",
            format!(r#"{{"profile":{{{identity},"n":1}},"timestamp":"2026-13-01T00:00:00Z"}}"#),
        ),
        (
            "an audience that is no upload",
            format!(
                r#"{{"membership":{{"audience":"any",{identity},"status":"realized"}},{time}}}"#
            ),
        ),
        (
            "an audience that nobody knows",
            format!(r#"{{"membership":{{"audience":"x",{identity},"status":"realized"}},{time}}}"#),
        ),
        (
            "a status that is none",
            format!(r#"{{"membership":{{"audience":"vip",{identity},"status":"maybe"}},{time}}}"#),
        ),
    ];
    let place = Place::new(&[EVENT_CLOCK, &rule("any", "n"), &upload("vip", "30d")].concat());
    let good = Record::profile("good").at("01T00:00:00").with(r#""n":1"#).to_string();
    let mut lines = vec![good.clone()];
    lines.extend(cases.iter().map(|(_, line)| line.clone()));
    lines.push(good);
    let ran = place.run_text(&ndjson(&lines));

    assert_eq!(ran.summary.records.accepted, 2, "the good ones on both sides");
    assert_eq!(ran.summary.records.rejected, cases.len() as u64);
    assert_eq!(ran.summary.profiles, 1);
    let rejects = place.rejects();
    let mut byte = lines[0].len() + 1;
    for (index, (name, line)) in cases.iter().enumerate() {
        let reject = &rejects[index];
        assert_eq!(reject["input"], **line, "{name}");
        assert_eq!(reject["line"], index + 2, "{name}");
        assert_eq!(reject["byte"], byte, "{name}");
        assert_eq!(reject["source"], "-", "{name}");
        assert!(!reject["error"].as_str().unwrap().is_empty(), "{name}");
        byte += line.len() + 1;
    }
    assert_eq!(rejects.len(), cases.len(), "each once");
}

#[test]
fn what_is_no_text_or_too_long_is_kept_as_far_as_it_can_be() {
    let place = Place::new(&[EVENT_CLOCK, &rule("any", "n")].concat());
    let long = |length: usize| {
        let frame = Record::profile("c").at("01T00:00:00").with(r#""n":"""#).to_string().len();
        let filler = format!(r#""n":"{}""#, "x".repeat(length - frame));
        Record::profile("c").at("01T00:00:00").with(&filler).to_string()
    };
    let (fits, is_too_long) = (long(MIB), long(MIB + 1));
    let mut input = b"{\"profile\":\xff}\n\n  \n".to_vec();
    input.extend_from_slice(ndjson([&fits, &is_too_long]).as_bytes());
    let ran = place.run_with(|engine| {
        let read = engine.read_stream("-", &mut input.as_slice(), &forebay_tests::place::Silent);
        assert_eq!(read.unwrap().accepted, 1, "a line of 1 MiB is taken");
    });
    assert_eq!(ran.summary.records.rejected, 2);
    let rejects = place.rejects();
    assert_eq!(rejects[0]["input_base64"], "eyJwcm9maWxlIjr/fQ==");
    assert_eq!(rejects[1]["line"], 5, "blank lines are skipped and counted");
    assert_eq!(rejects[1]["input_bytes"], MIB + 1);
    assert_eq!(rejects[1]["input"].as_str().unwrap(), &is_too_long[..64 * 1024]);
}

#[test]
fn an_event_is_applied_once_within_the_window() {
    let event = |customer: &str, id: &str, time: &str| Record::event(customer, id).at(time);
    // (what it shows, records, applied, duplicates)
    let cases = [
        (
            "the same event again",
            vec![event("a", "e", "01T00:00:00"), event("a", "e", "01T00:00:00")],
            (1, 1),
        ),
        (
            "the same id on another profile is another event",
            vec![event("a", "e", "01T00:00:00"), event("b", "e", "01T00:00:00")],
            (2, 0),
        ),
        (
            "exactly the window ago is a duplicate",
            vec![event("a", "e", "01T00:00:00"), event("a", "e", "02T00:00:00")],
            (1, 1),
        ),
        (
            "a millisecond more is not",
            vec![event("a", "e", "01T00:00:00"), event("a", "e", "02T00:00:00.001")],
            (2, 0),
        ),
        (
            "the window runs from the copy that was applied, not from the last one seen",
            vec![
                event("a", "e", "01T00:00:00"),
                event("a", "e", "01T23:00:00"),
                event("a", "e", "02T23:00:00"),
            ],
            (2, 1),
        ),
        (
            "a duplicate links nothing",
            vec![
                event("a", "e", "01T00:00:00"),
                event("b", "x", "01T00:00:00"),
                event("a", "e", "01T00:00:00").also("CRMID", "b"),
                event("b", "e", "01T00:00:00"),
            ],
            (3, 1),
        ),
    ];
    for (name, records, (applied, duplicates)) in cases {
        let place = Place::new(&[EVENT_CLOCK, &rule("seen", "xEvent.count() > 0")].concat());
        let counts = place.run(&records).summary.records;
        assert_eq!((counts.accepted, counts.duplicate), (applied, duplicates), "{name}");
    }
}

#[test]
fn duplicates_are_known_after_a_restart() {
    let place = Place::new(&one_audience("xEvent.count() > 1"));
    let event = Record::event("c", "e").at("01T00:00:00");
    place.run(std::slice::from_ref(&event));
    let again = place.run(&[event]);
    assert_eq!(again.summary.records.duplicate, 1);
    assert_eq!(again.lines(), [""; 0]);
}

#[test]
fn under_the_wall_clock_the_far_future_is_refused_and_the_near_one_is_now() {
    let clock = Arc::new(HandClock::at("2026-01-01T12:00:00Z"));
    let configuration = [&rule("any", "n"), SINK, &dataflow("d", &["any"], &["n"])].concat();
    let place = Place::with_clock(&configuration, Arc::clone(&clock) as _);
    let profile =
        |time: &str, n: u32| Record::profile("c").at(time).with(&format!("\"n\":{n}")).to_string();
    let ran = place.run_with(|engine| {
        feed(
            engine,
            &ndjson([
                profile("01T12:05:00.001", 1),
                profile("01T12:05:00", 2),
                profile("01T12:00:00", 3),
            ]),
        );
    });
    assert_eq!((ran.summary.records.accepted, ran.summary.records.rejected), (2, 1));
    // The value of the near future was true now: the later record of now wins.
    let shown = place.ask(|engine| profile_line(engine, "c"));
    assert_eq!(shown.as_deref(), Some(r#"crmid:c | any=realized@01T12:00:00 | {"n":3}"#));
    assert_eq!(ran.lines().len(), 2);
}

#[test]
fn a_clock_that_would_jump_too_far_refuses_the_record() {
    let configuration = [EVENT_CLOCK, "max_clock_jump = \"10d\"\n", &rule("any", "n")].concat();
    let place = Place::new(&configuration);
    let at = |time: &str| Record::profile("c").at(time).with("\"n\":1");
    let ran = place.run(&[
        at("2020-01-01T00:00:00Z"),
        at("2020-01-11T00:00:00Z"),
        at("2020-01-21T00:00:00.001Z"),
        at("2020-01-12T00:00:00Z"),
    ]);
    assert_eq!((ran.summary.records.accepted, ran.summary.records.rejected), (3, 1));
    assert_eq!(ran.summary.clock, "2020-01-12T00:00:00.000Z", "a reject moves no clock");
    assert_eq!(place.rejects()[0]["line"], 3);
}
