//! Two profiles that turn out to be one (`SPEC.md` §3).

use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, upload};
use forebay_tests::place::profile_line;
use forebay_tests::{Place, Record};

fn a(time: &str) -> Record {
    Record::profile("a").at(time)
}

fn b(time: &str) -> Record {
    Record::profile("b").at(time)
}

/// A record that says that `a` and `b` are one.
fn link(time: &str) -> Record {
    a(time).also("CRMID", "b")
}

fn configuration() -> String {
    let often = rule("often", "xEvent.count() >= 2");
    let flow = dataflow("d", &["in", "often", "list"], &["m"]);
    [EVENT_CLOCK, &rule("in", "n > 0"), &often, &upload("list", "10d"), SINK, &flow].concat()
}

#[test]
fn what_both_were_is_one_profile_in_one_step() {
    // (what it shows, records before the link, exports of the link)
    let cases: Vec<(&str, Vec<Record>, Vec<&str>)> = vec![
        (
            "attributes are merged by time, and identities changed",
            vec![a("01T00:00:01").with(r#""n":1,"m":1"#), b("01T00:00:02").with(r#""m":2"#)],
            vec![r#"crmid:a crmid:b | in=realized@01T00:00:01 | {"m":2}"#],
        ),
        (
            "histories are united, and audiences evaluated on the whole",
            vec![
                Record::event("a", "1").at("01T00:00:01"),
                Record::event("b", "2").at("01T00:00:02"),
            ],
            vec!["crmid:a crmid:b | often=realized@01T00:01:00"],
        ),
        (
            "a membership is taken from the part that has it",
            vec![a("01T00:00:01"), b("01T00:00:02").with(r#""n":1"#)],
            vec!["crmid:a crmid:b | in=realized@01T00:00:02"],
        ),
        (
            "realized in both: the latest time",
            vec![
                Record::membership("a", "list", "realized").at("01T00:00:01"),
                Record::membership("b", "list", "realized").at("01T00:00:02"),
            ],
            vec!["crmid:a crmid:b | list=realized@01T00:00:02"],
        ),
        (
            "realized wins over exited",
            vec![
                Record::membership("a", "list", "realized").at("01T00:00:01"),
                Record::membership("b", "list", "realized").at("01T00:00:02"),
                Record::membership("b", "list", "exited").at("01T00:00:03"),
            ],
            vec!["crmid:a crmid:b | list=realized@01T00:00:01"],
        ),
        (
            "a rule that holds for neither any more exits",
            vec![a("01T00:00:01").with(r#""n":1"#), b("01T00:00:02").with(r#""n":-1"#)],
            vec!["crmid:a crmid:b | in=exited@01T00:01:00"],
        ),
        (
            "one that is in nothing is not exported",
            vec![a("01T00:00:01"), b("01T00:00:02")],
            vec![],
        ),
    ];
    for (name, records, expected) in cases {
        let place = Place::new(&configuration());
        place.run(&records);
        let ran = place.run(&[link("01T00:01:00")]);
        assert_eq!(ran.lines(), expected, "{name}");
        assert_eq!(ran.summary.profiles, 1, "{name}");
    }
}

#[test]
fn the_older_profile_survives_and_both_are_found() {
    let place = Place::new(&configuration());
    place.run(&[b("01T00:00:01").with(r#""m":1"#), a("01T00:00:02"), link("01T00:00:03")]);
    place.ask(|engine| {
        let older = engine.profile("crmid", "b", None).unwrap().unwrap();
        let other = engine.profile("crmid", "a", None).unwrap().unwrap();
        assert_eq!(older.profile, other.profile);
        assert_eq!(profile_line(engine, "a").unwrap(), r#"crmid:b crmid:a | | {"m":1}"#);
    });
}

#[test]
fn an_upload_that_both_had_lasts_from_the_latest_refresh() {
    let place = Place::new(&configuration());
    let ran = place.run_until(
        &[
            Record::membership("a", "list", "realized").at("01T00:00:00"),
            Record::membership("b", "list", "realized").at("03T00:00:00"),
            link("04T00:00:00"),
        ],
        "12T23:59:59.999",
    );
    assert_eq!(ran.summary.audiences["list"].realized, 1);
    let after = place.run_until(&[], "13T00:00:00");
    assert_eq!(after.lines(), ["crmid:a crmid:b | list=exited@13T00:00:00"]);
}

#[test]
fn an_event_that_both_had_counts_twice_and_from_then_on_is_a_duplicate() {
    let place = Place::new(&configuration());
    let ran = place.run(&[
        Record::event("a", "same").at("01T00:00:01"),
        Record::event("b", "same").at("01T00:00:02"),
        link("01T00:00:03"),
        Record::event("b", "same").at("01T00:00:04"),
    ]);
    assert_eq!(ran.lines(), ["crmid:a crmid:b | often=realized@01T00:00:03"]);
    assert_eq!(ran.summary.records.duplicate, 1);
}
