//! Definitions that change between runs (`SPEC.md` §5, §9).

use forebay_engine::engine::Mode;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule};
use forebay_tests::place::profile_line;
use forebay_tests::{Place, Record};

fn with(pql: &str) -> String {
    [EVENT_CLOCK, &rule("x", pql), SINK, &dataflow("d", &["x"], &[])].concat()
}

fn events() -> Vec<Record> {
    vec![
        Record::event("one", "1").at("01T00:00:00").with("\"v\":10"),
        Record::event("two", "2").at("01T00:00:01").with("\"v\":20"),
        Record::event("two", "3").at("05T00:00:00").with("\"v\":20"),
    ]
}

#[test]
fn a_changed_rule_sees_all_history_and_is_evaluated_once_at_the_change() {
    // (what it shows, the old rule, the new rule, exports of the change)
    let cases = [
        (
            "who is in then is in from then on",
            "xEvent.sum(v) > 100",
            "xEvent.sum(v) > 30",
            vec!["crmid:two | x=realized@05T00:00:00"],
        ),
        ("who stays in keeps the time", "xEvent.sum(v) > 15", "xEvent.sum(v) > 30", vec![]),
        (
            "who is not in any more exits",
            "xEvent.sum(v) > 5",
            "xEvent.sum(v) > 30",
            vec!["crmid:one | x=exited@05T00:00:00"],
        ),
        (
            "a window that was not asked for before is found in the log",
            "xEvent.sum(v) > 100",
            "xEvent[timestamp occurs < 2 days before now].count() > 0",
            vec!["crmid:two | x=realized@05T00:00:00"],
        ),
        (
            "the same rule in other words flips nobody",
            "xEvent.sum(v) > 30",
            "30 < xEvent.sum(v)",
            vec![],
        ),
    ];
    for (name, old, new, expected) in cases {
        let place = Place::new(&with(old));
        place.run(&events());
        place.configure(&with(new));
        assert_eq!(place.run(&[]).lines(), expected, "{name}");
        assert_eq!(place.run(&[]).lines(), [""; 0], "{name}, once");
    }
}

#[test]
fn rules_that_change_together_are_one_step() {
    let both = |a: &str, b: &str| {
        [EVENT_CLOCK, &rule("a", a), &rule("b", b), SINK, &dataflow("d", &["a", "b"], &[])].concat()
    };
    let place = Place::new(&both("n > 5", "n > 6"));
    place.run(&[Record::profile("c").at("01T00:00:00").with("\"n\":3")]);
    place.configure(&both("n > 1", "inSegment(\"a\")"));
    let lines = place.run(&[]).lines();
    assert_eq!(lines, ["crmid:c | a=realized@01T00:00:00 b=realized@01T00:00:00"]);
}

#[test]
fn boundaries_of_the_old_rule_stop_and_those_of_the_new_begin() {
    let within =
        |days: u32| with(&format!("xEvent[timestamp occurs < {days} days before now].count() > 0"));
    let place = Place::new(&within(2));
    place.run(&[Record::event("c", "e").at("01T00:00:00")]);
    place.configure(&within(4));
    assert_eq!(place.run_until(&[], "04T00:00:00").lines(), [""; 0]);
    let left = place.run_until(&[], "06T00:00:00");
    assert_eq!(left.lines(), ["crmid:c | x=exited@05T00:00:00"]);
}

#[test]
fn a_removed_audience_is_shown_no_more() {
    let place = Place::new(&[EVENT_CLOCK, &rule("x", "n"), &rule("y", "n")].concat());
    place.run(&[Record::profile("c").at("01T00:00:00").with("\"n\":1")]);
    place.configure(&[EVENT_CLOCK, &rule("y", "n")].concat());
    place.run(&[]);
    let shown = place.ask(|engine| profile_line(engine, "c").unwrap());
    assert_eq!(shown, r#"crmid:c | y=realized@01T00:00:00 | {"n":1}"#);
}

#[test]
fn the_clock_of_a_directory_cannot_be_changed() {
    let place = Place::new(EVENT_CLOCK);
    place.run(&[]);
    place.configure("clock = \"wall\"\n");
    let error = place.try_open(Mode::Deliver).err().expect("it must not start").to_string();
    assert!(error.contains("clock = \"wall\"") && error.contains("data directory"), "{error}");
    place.configure(EVENT_CLOCK);
    place.run(&[]);
}

#[test]
fn looking_changes_nothing() {
    let place = Place::new(&with("xEvent.sum(v) > 30"));
    place.run(&events());
    let next_offset = || place.ask(|engine| engine.log_stats().unwrap().next_offset);
    let before = next_offset();
    place.configure(&with("xEvent.sum(v) > 1"));
    assert_eq!(next_offset(), before, "only run and ingest apply a configuration");
    let shown = place.ask(|engine| profile_line(engine, "one").unwrap());
    assert_eq!(shown, "crmid:one |");
}
