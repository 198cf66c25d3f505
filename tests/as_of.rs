//! One profile as it was: `forebay profile --as-of` (`SPEC.md` §3, §10).

use std::sync::Arc;

use forebay_engine::clock::Timestamp;
use forebay_engine::engine::{AsOf, Engine, History, ProfileQuestion};
use forebay_engine::error::EngineError;
use forebay_engine::views::ProfileView;
use forebay_tests::clock::millis;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, one_audience, rule};
use forebay_tests::place::{Silent, feed, view_line};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{HandClock, Place, Program, Record};

fn asked(customer: &str) -> ProfileQuestion {
    let (namespace, id) = ("CRMID".to_owned(), customer.to_owned());
    ProfileQuestion { namespace, id, ..ProfileQuestion::default() }
}

fn at(time: &str) -> AsOf {
    AsOf::Time(Timestamp::from_millis(millis(time)))
}

fn was(engine: &Engine, customer: &str, as_of: AsOf) -> Result<Option<ProfileView>, EngineError> {
    engine.history()?.profile(&asked(customer), as_of, &Silent)
}

/// As [`view_line`] has it; `nobody` if there was none.
fn line(engine: &Engine, customer: &str, as_of: AsOf) -> String {
    let found = was(engine, customer, as_of).expect("there was such a moment");
    found.map_or_else(|| "nobody".to_owned(), |view| view_line(&view))
}

#[test]
fn a_profile_is_told_as_it_was_after_each_entry() {
    let place = Place::new(&one_audience("n > 1"));
    let profile = |members: &str, day: &str| Record::profile("c").at(day).with(members);
    let records = [
        profile("\"n\":1", "01T00:00:00"),
        profile("\"n\":2,\"a\":{\"b\":1.50}", "02T00:00:00"),
        Record::profile("c").also("Email", "m").at("03T00:00:00").with("\"n\":0"),
    ];
    place.run(&records);
    place.ask(|engine| {
        // (as of, the profile)
        let cases = [
            (AsOf::Offset(0), "nobody"),
            (AsOf::Offset(1), "crmid:c | | {\"n\":1}"),
            (AsOf::Offset(2), "crmid:c | any=realized@02T00:00:00 | {\"a\":{\"b\":1.50},\"n\":2}"),
            (at("2026-01-01T00:00:00Z"), "crmid:c | | {\"n\":1}"),
            (at("2026-01-01T23:59:59.999Z"), "crmid:c | | {\"n\":1}"),
            (
                at("2026-01-03T00:00:00Z"),
                "crmid:c email:m | any=exited@03T00:00:00 | {\"a\":{\"b\":1.50},\"n\":0}",
            ),
        ];
        for (as_of, expected) in cases {
            assert_eq!(line(engine, "c", as_of), expected, "{as_of:?}");
        }
        let view = was(engine, "c", AsOf::Offset(2)).unwrap().unwrap();
        assert_eq!((view.next_offset, view.clock.as_str()), (3, "2026-01-02T00:00:00.000Z"));
        let sent = place.receiver.requests()[0].json();
        let told: serde_json::Value = serde_json::from_str(view.payloads["d"].get()).unwrap();
        assert_eq!(told, sent, "the payload of then is what was sent then");
    });
}

#[test]
fn windows_close_up_to_the_time_asked_about() {
    let place =
        Place::new(&one_audience("xEvent[timestamp occurs < 2 days before now].count() > 0"));
    let records =
        [Record::event("c", "e").at("01T00:00:00"), Record::profile("x").at("09T00:00:00")];
    place.run(&records);
    place.ask(|engine| {
        let in_it = "crmid:c | any=realized@01T00:00:00";
        let left = "crmid:c | any=exited@03T00:00:00";
        // (as of, the profile)
        let cases = [
            (AsOf::Offset(1), in_it),
            (at("2026-01-02T23:59:59.999Z"), in_it),
            (at("2026-01-03T00:00:00Z"), left),
            (AsOf::Offset(2), left),
        ];
        for (as_of, expected) in cases {
            assert_eq!(line(engine, "c", as_of), expected, "{as_of:?}");
        }
    });
}

#[test]
fn what_was_defined_later_does_not_show() {
    let first = one_audience("n > 1");
    let place = Place::new(&first);
    place.run(&[Record::profile("c").at("01T00:00:00").with("\"n\":2")]);
    place.configure(
        &[first.as_str(), &rule("later", "n > 0"), &dataflow("e", &["later"], &["n"])].concat(),
    );
    place.run(&[Record::profile("c").at("02T00:00:00").with("\"n\":3")]);
    place.ask(|engine| {
        let audiences = |as_of| {
            let view = was(engine, "c", as_of).unwrap().unwrap();
            let flows: Vec<String> = view.payloads.keys().cloned().collect();
            (view.memberships.keys().cloned().collect::<Vec<_>>().join(" "), flows.join(" "))
        };
        let (any, both) = (("any".into(), "d".into()), ("any later".into(), "d e".into()));
        assert_eq!(audiences(AsOf::Offset(1)), any);
        assert_eq!(audiences(AsOf::Offset(2)), both, "the entry that defined it");
        assert_eq!(audiences(AsOf::Offset(3)), both);
        let asked = ProfileQuestion { dataflow: Some("e".into()), ..asked("c") };
        let history = engine.history().unwrap();
        let refused = history.profile(&asked, AsOf::Offset(1), &Silent).unwrap_err();
        assert_eq!(refused.to_string(), "no dataflow \"e\"; there is d");
    });
}

#[test]
fn who_was_deleted_never_was_and_who_came_after_is() {
    let place = Place::new(&one_audience("n > 1"));
    let profile = |customer: &str, n: u64, day: &str| {
        Record::profile(customer).at(day).with(&format!("\"n\":{n}"))
    };
    let records = [
        profile("gone", 2, "01T00:00:00"),
        profile("stays", 3, "02T00:00:00"),
        Record::delete("gone"),
        profile("gone", 4, "03T00:00:00"),
    ];
    place.run(&records);
    let check = |engine: &Engine, what: &str| {
        let again = "crmid:gone | any=realized@03T00:00:00 | {\"n\":4}";
        let stays = "crmid:stays | any=realized@02T00:00:00 | {\"n\":3}";
        // (customer, as of, the profile)
        let cases = [
            ("gone", 1, "nobody"),
            ("gone", 2, "nobody"),
            ("gone", 3, "nobody"),
            ("gone", 4, again),
            ("stays", 1, "nobody"),
            ("stays", 2, stays),
        ];
        for (customer, offset, expected) in cases {
            let found = line(engine, customer, AsOf::Offset(offset));
            assert_eq!(found, expected, "{what}: {customer} as of {offset}");
        }
    };
    place.ask(|engine| {
        check(engine, "with the bytes");
        assert_eq!(engine.compact().unwrap().records, 2);
        check(engine, "without the bytes");
    });
}

#[test]
fn a_moment_that_there_was_not_is_told_with_what_there_was() {
    let place = Place::new(&one_audience("n > 1"));
    let refused = |as_of| {
        place.ask(|engine| was(engine, "c", as_of)).expect_err("no such moment").to_string()
    };
    place.run(&[]);
    let early = refused(at("2026-01-01T00:00:00Z"));
    assert!(early.contains("still to come: the clock stands at 1970-01-01"), "{early}");
    place.run(&[Record::profile("c").at("02T00:00:00").with("\"n\":2")]);
    // (as of, what is said)
    let cases = [
        (AsOf::Offset(2), "there is no offset 2: the log ends with offset 1"),
        (
            at("2026-01-01T00:00:00Z"),
            "nothing was known at 2026-01-01T00:00:00.000Z: the log begins at \
             2026-01-02T00:00:00.000Z",
        ),
        (
            at("2026-01-02T00:00:00.001Z"),
            "2026-01-02T00:00:00.001Z is still to come: the clock stands at \
             2026-01-02T00:00:00.000Z; give a time up to that one",
        ),
    ];
    for (as_of, expected) in cases {
        assert_eq!(refused(as_of), expected);
    }
}

#[test]
fn under_the_wall_clock_a_time_is_that_of_the_append() {
    let clock = Arc::new(HandClock::at("2026-01-05T00:00:00Z"));
    let rules = rule("any", "xEvent[timestamp occurs < 2 days before now].count() > 0");
    let place = Place::with_clock(
        &[&rules, SINK, &dataflow("d", &["any"], &["n"])].concat(),
        Arc::clone(&clock) as _,
    );
    place.run(&[Record::event("c", "e1").at("04T00:00:00")]);
    clock.set("2026-01-09T00:00:00Z");
    place.run(&[]);
    place.ask(|engine| {
        // (as of, the profile)
        let cases = [
            ("2026-01-05T00:00:00Z", "crmid:c | any=realized@05T00:00:00"),
            ("2026-01-05T23:59:59.999Z", "crmid:c | any=realized@05T00:00:00"),
            ("2026-01-06T00:00:00Z", "crmid:c | any=exited@06T00:00:00"),
            ("2026-01-09T00:00:00Z", "crmid:c | any=exited@06T00:00:00"),
        ];
        for (time, expected) in cases {
            assert_eq!(line(engine, "c", at(time)), expected, "{time}");
        }
        assert!(was(engine, "c", at("2026-01-04T23:59:59Z")).is_err(), "before the first record");
        assert!(was(engine, "c", at("2026-01-09T00:00:00.001Z")).is_err(), "still to come");
    });
}

#[test]
fn the_command_tells_the_past_with_and_without_a_running_engine() {
    let place = Place::new(&(one_audience("n > 1") + &dataflow("e", &["any"], &[])));
    let program = Program::at(place.path());
    let records = ndjson([
        Record::profile("c").at("01T00:00:00").with("\"n\":2"),
        Record::profile("c").at("02T00:00:00").with("\"n\":1"),
    ]);
    let ingested = program.run_with("ingest -", records.as_bytes());
    assert_eq!(ingested.status, Some(0), "{ingested:?}");
    let ask = |rest: &str| program.run(&format!("profile crmid c {rest}"));
    let expected = "\
profile 1 under merge policy default, clock 2026-01-01T00:00:00.000Z, next offset 2

identities
  crmid: c

memberships
  any: realized since 2026-01-01T00:00:00Z

attributes
  {
    \"n\": 2
  }

payload of d
  {
    \"n\": 2,";
    let check = |what: &str| {
        let told = ask("--as-of 1 --dataflow d").expect_status(0).stdout;
        assert!(told.starts_with(expected), "{what}: {told}");
        let told = ask("--as-of 2026-01-01T12:00:00Z --output json").expect_status(0).json();
        assert_eq!(told["payloads"]["d"]["n"], 2, "{what}");
        assert!(told["payloads"]["e"].is_object(), "{what}");
        ask("--as-of 0").expect_status(1).tells(&["no profile had", "as of offset 0"]);
        ask("--as-of 3").expect_status(2).tells(&["the log ends with offset 2"]);
        ask("--as-of soon").expect_status(2).tells(&["neither an offset of the log nor"]);
    };
    check("from the log");
    let history = History::open(&place.data(), Arc::new(HandClock::at("2026-01-09T00:00:00Z")));
    assert!(history.is_ok(), "the log alone is enough");
    drop(history);
    let engine = running(&place);
    check("by the engine");
    stopped(engine);
}

#[test]
fn the_past_is_told_while_records_come_in() {
    let place = Place::new(&[EVENT_CLOCK, SINK, &rule("any", "n > 1")].concat());
    let engine = place.open();
    for n in 0..50 {
        let record = Record::profile("c").at("01T00:00:00").with(&format!("\"n\":{n}"));
        feed(&engine, &ndjson([record]));
        assert!(line(&engine, "c", AsOf::Offset(1)).ends_with("{\"n\":0}"), "{n}");
    }
    engine.close().expect("the engine stops");
}
