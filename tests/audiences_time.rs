//! Memberships that change by the clock alone (`SPEC.md` §4, §5).

use std::sync::Arc;

use forebay_engine::clock::{Clock, SystemClock};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, upload};
use forebay_tests::place::{advance, feed, profile_line};
use forebay_tests::record::ndjson;
use forebay_tests::{HandClock, Place, QuietClock, Record};

const DAY: &str = "xEvent[timestamp occurs < 1 day before now].count() > 0";
const WEEK: &str = "xEvent[timestamp occurs < 1 week before now].count() > 0";

fn windows(keys: &str) -> String {
    let flow = dataflow("d", &["day", "week"], &[]);
    [EVENT_CLOCK, keys, &rule("day", DAY), &rule("week", WEEK), SINK, &flow].concat()
}

fn event(id: &str, time: &str) -> Record {
    Record::event("c", id).at(time)
}

#[test]
fn a_clock_that_jumps_passes_every_boundary_in_order() {
    let place = Place::new(&windows(""));
    let ran = place.run(&[
        event("e1", "01T00:00:00"),
        Record::profile("other").at("20T00:00:00"),
        event("e2", "20T00:00:01"),
    ]);
    let expected = [
        "crmid:c | day=realized@01T00:00:00 week=realized@01T00:00:00",
        "crmid:c | day=exited@02T00:00:00 week=realized@01T00:00:00",
        "crmid:c | day=exited@02T00:00:00 week=exited@08T00:00:00",
        "crmid:c | day=realized@20T00:00:01 week=realized@20T00:00:01",
    ];
    assert_eq!(ran.lines(), expected);
}

#[test]
fn boundaries_fire_to_the_millisecond() {
    // (what it shows, the rule, an instant before the boundary, the boundary)
    let cases = [
        ("less than a day is over at the day", DAY, "02T00:00:00.499", "02T00:00:00.500"),
        (
            "at most a day is over a millisecond later",
            "xEvent[timestamp occurs <= 24 hours before now].count() > 0",
            "02T00:00:00.500",
            "02T00:00:00.501",
        ),
        (
            "today ends at midnight",
            "chain(xEvent, timestamp, [X: WHAT() WHEN(today)])",
            "01T23:59:59.999",
            "02T00:00:00.000",
        ),
    ];
    for (name, pql, before, boundary) in cases {
        let flow = dataflow("d", &["w"], &[]);
        let place = Place::new(&[EVENT_CLOCK, &rule("w", pql), SINK, &flow].concat());
        let joined = place.run_until(&[event("e", "01T00:00:00.500")], before);
        assert_eq!(joined.lines(), ["crmid:c | w=realized@01T00:00:00"], "{name}");
        let left = place.run_until(&[], boundary);
        assert_eq!(left.lines().len(), 1, "{name}");
        let shown = place.ask(|engine| profile_line(engine, "c"));
        let second = &boundary[.."02T00:00:00".len()];
        assert_eq!(shown, Some(format!("crmid:c | w=exited@{second}")), "{name}");
    }
}

#[test]
fn boundaries_at_one_instant_are_one_step() {
    let twice = rule("twice", "xEvent[timestamp occurs < 24 hours before now].count() > 0");
    let both = rule("both", "inSegment(\"day\") and inSegment(\"twice\")");
    let flow = dataflow("d", &["day", "twice", "both"], &[]);
    let place = Place::new(&[EVENT_CLOCK, &rule("day", DAY), &twice, &both, SINK, &flow].concat());
    let ran = place.run_until(&[event("e", "01T00:00:00")], "05T00:00:00");
    let expected = [
        "crmid:c | both=realized@01T00:00:00 day=realized@01T00:00:00 twice=realized@01T00:00:00",
        "crmid:c | both=exited@02T00:00:00 day=exited@02T00:00:00 twice=exited@02T00:00:00",
    ];
    assert_eq!(ran.lines(), expected);
}

#[test]
fn the_clock_never_goes_back_and_a_late_event_counts_as_of_now() {
    let place = Place::new(&windows(""));
    let ran = place.run(&[
        Record::profile("other").at("05T00:00:00"),
        event("late", "01T00:00:00"),
        event("later", "04T12:00:00"),
    ]);
    let expected = [
        "crmid:c | week=realized@05T00:00:00",
        "crmid:c | day=realized@05T00:00:00 week=realized@05T00:00:00",
    ];
    assert_eq!(ran.lines(), expected);
    assert_eq!(ran.summary.clock, "2026-01-05T00:00:00.000Z");
}

#[test]
fn an_exited_membership_is_forgotten_exactly_after_its_retention() {
    let gone = "segmentMembership.get(\"ups\").get(\"day\").status = \"exited\"";
    let configuration = [
        EVENT_CLOCK,
        "exited_retention = \"2d\"\n",
        &rule("day", DAY),
        &rule("lapsed", gone),
        SINK,
        &dataflow("d", &["day", "lapsed"], &[]),
    ]
    .concat();
    let place = Place::new(&configuration);
    let ran = place.run_until(&[event("e", "01T00:00:00")], "03T23:59:59.999");
    let expected = [
        "crmid:c | day=realized@01T00:00:00",
        "crmid:c | day=exited@02T00:00:00 lapsed=realized@02T00:00:00",
    ];
    assert_eq!(ran.lines(), expected);
    assert_eq!(ran.summary.audiences["day"].exited, 1);
    let forgotten = place.run_until(&[], "04T00:00:00");
    assert_eq!(forgotten.lines(), ["crmid:c | lapsed=exited@04T00:00:00"]);
    assert_eq!(forgotten.summary.audiences["day"].exited, 0);
}

#[test]
fn an_upload_lasts_for_its_ttl_from_the_last_refresh() {
    let flow = dataflow("d", &["list"], &[]);
    let place = Place::new(&[EVENT_CLOCK, &upload("list", "10d"), SINK, &flow].concat());
    let member = |status: &str, time: &str| Record::membership("c", "list", status).at(time);
    let ran = place.run_until(
        &[
            member("realized", "01T00:00:00"),
            member("realized", "05T00:00:00"),
            member("exited", "06T00:00:00"),
            member("realized", "07T00:00:00"),
        ],
        "16T23:59:59.999",
    );
    let expected = [
        "crmid:c | list=realized@01T00:00:00",
        "crmid:c | list=exited@06T00:00:00",
        "crmid:c | list=realized@07T00:00:00",
    ];
    assert_eq!(ran.lines(), expected);
    let expired = place.run_until(&[], "17T00:00:00");
    assert_eq!(expired.lines(), ["crmid:c | list=exited@17T00:00:00"]);
}

#[test]
fn boundaries_are_found_again_after_a_restart() {
    let place = Place::new(&windows(""));
    let joined = place.run(&[event("e", "01T00:00:00")]);
    assert_eq!(joined.lines().len(), 1);
    let next = place.ask(|engine| engine.status().unwrap().next_boundary);
    assert_eq!(next.as_deref(), Some("2026-01-02T00:00:00.000Z"));
    let left = place.run(&[Record::profile("other").at("20T00:00:00")]);
    let expected = [
        "crmid:c | day=exited@02T00:00:00 week=realized@01T00:00:00",
        "crmid:c | day=exited@02T00:00:00 week=exited@08T00:00:00",
    ];
    assert_eq!(left.lines(), expected);
}

#[test]
fn under_the_wall_clock_boundaries_fire_with_no_record() {
    let clock = Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let flow = dataflow("d", &["day", "week"], &[]);
    let configuration = [&rule("day", DAY), &rule("week", WEEK), SINK, &flow].concat();
    let place = Place::with_clock(&configuration, Arc::clone(&clock) as _);
    let ran = place.run_with(|engine| {
        feed(engine, &ndjson([event("e", "01T00:00:00")]));
        clock.set("2026-01-02T00:00:00Z");
        place.receiver.wait_until("the day is over", |requests| requests.len() == 2);
    });
    let left = "crmid:c | day=exited@02T00:00:00 week=realized@01T00:00:00";
    assert_eq!(ran.lines()[1], left);

    // A boundary that passed while nothing ran fires at start, at the time it is noticed or was due.
    clock.set("2026-01-20T00:00:00Z");
    let late = place.run_with(|engine| {
        let out = || engine.summary().unwrap().audiences["week"].exited == 1;
        Deadline::new().until("the week is over", out);
    });
    assert_eq!(late.lines(), ["crmid:c | day=exited@02T00:00:00 week=exited@08T00:00:00"]);
}

#[test]
fn an_idle_engine_wakes_for_the_next_boundary_and_not_before() {
    let clock = Arc::new(QuietClock::default());
    let second = rule("second", "xEvent[timestamp occurs < 1 second before now].count() > 0");
    let half = rule("half", "xEvent[timestamp occurs < 500 milliseconds before now].count() > 0");
    let flow = dataflow("d", &["second", "half"], &[]);
    let place = Place::with_clock(&[&second, &half, SINK, &flow].concat(), Arc::clone(&clock) as _);
    let ran = place.run_with(|engine| {
        let now = SystemClock::new().now().to_string();
        feed(engine, &ndjson([Record::event("c", "e").at(&now)]));
        place.receiver.wait_until("it is in", |requests| !requests.is_empty());
        let read = clock.readings();
        // Nobody but the boundaries wakes the engine: the later one is told by the bell.
        place.receiver.wait_until("both are over", |requests| requests.len() == 3);
        assert!(clock.readings() - read < 100, "{} readings", clock.readings() - read);
    });
    let lines = ran.lines();
    assert!(lines[1].contains("half=exited") && lines[1].contains("second=realized"), "{lines:?}");
    assert!(lines[2].contains("second=exited"), "{lines:?}");
}

#[test]
fn whoever_did_nothing_for_long_enough_enters_at_that_instant() {
    let bought = "xEvent[eventType = \"buy\"]";
    let quiet = format!(
        "{bought} and not(chain(xEvent, timestamp, [A: WHAT(eventType = \"buy\") WHEN(<= 7 days before now)]))"
    );
    let long_ago =
        "xEvent[eventType = \"buy\" and timestamp occurs > 30 days before now].count() = 1";
    let configuration = |clock: &str| {
        let flow = dataflow("d", &["quiet", "long"], &[]);
        [clock, &rule("quiet", &quiet), &rule("long", long_ago), SINK, &flow].concat()
    };
    let buy = |id: &str, time: &str| event(id, time).with(r#""eventType":"buy""#);
    let expected = [
        "crmid:c | quiet=realized@08T00:00:00",
        "crmid:c | quiet=exited@10T00:00:00",
        "crmid:c | quiet=realized@16T00:00:00",
        "crmid:c | long=realized@31T00:00:00 quiet=realized@16T00:00:00",
    ];

    // The event clock, with a late event: bought on the 9th, told on the 10th. A restart in between.
    let place = Place::new(&configuration(EVENT_CLOCK));
    let first = place.run_until(&[buy("e1", "01T00:00:00")], "08T00:00:00.001");
    let late = [Record::profile("other").at("10T00:00:00"), buy("e2", "09T00:00:00")];
    let second = place.run_until(&late, "31T00:00:00.001");
    assert_eq!([first.lines(), second.lines()].concat(), expected);

    // The wall clock.
    let clock = Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let place = Place::with_clock(&configuration(""), Arc::clone(&clock) as _);
    let arrived = |count: usize| {
        place.receiver.wait_until("it has arrived", |requests| requests.len() == count);
    };
    let first = place.run_with(|engine| {
        feed(engine, &ndjson([buy("e1", "01T00:00:00")]));
        clock.set("2026-01-08T00:00:00.001Z");
        arrived(1);
    });
    let second = place.run_with(|engine| {
        clock.set("2026-01-10T00:00:00Z");
        feed(engine, &ndjson([buy("e2", "09T00:00:00")]));
        arrived(2);
        clock.set("2026-02-01T00:00:00Z");
        arrived(4);
    });
    assert_eq!([first.lines(), second.lines()].concat(), expected);
}

#[test]
fn advancing_does_what_time_would_have_done() {
    let place = Place::new(&windows(""));
    let ran = place.run_with(|engine| {
        feed(engine, &ndjson([event("e", "01T00:00:00")]));
        advance(engine, "01T12:00:00");
        advance(engine, "20T00:00:00");
        advance(engine, "19T00:00:00");
    });
    assert_eq!(ran.lines().len(), 3);
    assert_eq!(ran.summary.clock, "2026-01-20T00:00:00.000Z");
}
