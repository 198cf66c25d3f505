//! A rule tried on the log: what it says is what live evaluation would have made (`SPEC.md` §10).

use std::collections::BTreeMap;

use forebay_engine::clock::Timestamp;
use forebay_engine::engine::{Backtest, By, Engine};
use forebay_engine::error::EngineError;
use forebay_engine::views::BacktestView;
use forebay_tests::clock::millis;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, rule};
use forebay_tests::place::{Silent, feed};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Place, Program, Record, Request, Seed};

/// Runs with seeds from 0 on.
const SEEDS: u64 = 6;

/// Records of one run: some three weeks.
const RECORDS: usize = 150;

const START_MS: i64 = 1_767_225_600_000;
const HOUR_MS: u64 = 3_600_000;

/// Who bought a lot, which stands in the log, and who did so lately, which is tried.
const SPENT: &str = "xEvent.sum(v) > 30";
const TRIED: &str = "inSegment(\"spent\") and \
                     xEvent[timestamp occurs < 2 days before now].count() >= 2 and not (n = 3)";

fn records(seed: &mut Seed) -> String {
    let mut now_ms = START_MS;
    let record = |number| {
        now_ms += i64::try_from(seed.within(0..6 * HOUR_MS)).expect("some hours");
        let late_ms = if seed.chance(10) { seed.within(0..40 * HOUR_MS) } else { 0 };
        let at = (now_ms - i64::try_from(late_ms).expect("some hours")).max(START_MS);
        let customer = format!("c{}", seed.within(0..8));
        let record = if seed.chance(30) {
            Record::profile(&customer).with(&format!("\"n\":{}", seed.within(0..4)))
        } else {
            let event = Record::event(&customer, &format!("e{number}"));
            event.with(&format!("\"v\":{}", seed.within(0..9)))
        };
        let linked =
            if seed.chance(5) { record.also("Email", &format!("m{}", number % 4)) } else { record };
        linked.at(&Timestamp::from_millis(at).to_string())
    };
    ndjson((0..RECORDS).map(record))
}

fn asked(from: &str, to: &str) -> Backtest {
    Backtest {
        pql: TRIED.to_owned(),
        source: "tried.pql".to_owned(),
        from: Timestamp::from_millis(millis(from)),
        to: Timestamp::from_millis(millis(to)),
        by: Some(By::Day),
        policy: None,
        dataflow: None,
        flips_max: usize::MAX,
    }
}

fn tried(engine: &Engine, asked: &Backtest) -> Result<BacktestView, EngineError> {
    engine.history()?.backtest(asked, &Silent)
}

/// Status, time and identities of each request of a dataflow that maps the rule only.
fn sent(requests: &[Request], dataflow: &str) -> Vec<String> {
    let mut of: Vec<_> = requests.iter().filter(|r| r.dataflow() == dataflow).collect();
    of.sort_by_key(|request| request.sequence());
    let line = |request: &&Request| {
        let body = request.json();
        let membership = &body["segmentMembership"]["ups"]["tried"];
        let ids: BTreeMap<String, serde_json::Value> =
            serde_json::from_value(body["identityMap"].clone()).expect("it is an object");
        let named = ids.iter().flat_map(|(namespace, ids)| {
            let ids = ids.as_array().expect("ids are a list").iter();
            ids.map(move |id| format!("{namespace}:{}", id["id"].as_str().expect("an id")))
        });
        let named: Vec<String> = named.collect();
        let (status, time) = (&membership["status"], &membership["lastQualificationTime"]);
        format!("{status} {time} {}", named.join(" "))
    };
    of.iter().map(line).collect()
}

fn told(view: &BacktestView) -> Vec<String> {
    let flips = view.flips.iter().map(|flip| {
        let named = flip.identities.iter().map(|i| format!("{}:{}", i.namespace, i.id));
        format!("{:?} {:?} {}", flip.status, flip.at, named.collect::<Vec<_>>().join(" "))
    });
    flips.collect()
}

#[test]
fn a_backtest_is_what_live_evaluation_made_of_the_same_rule() {
    let base = [EVENT_CLOCK, &rule("spent", SPENT), SINK].concat();
    let other = dataflow("like", &["spent"], &["n"]);
    let segments = "triggers = [\"segment\"]\nmemberships = \"mapped\"";
    let live = [
        base.as_str(),
        &rule("tried", TRIED),
        &dataflow_with("flips", &["tried"], &[], segments),
        &dataflow("all", &["tried"], &["n"]),
        &dataflow("bare", &["tried"], &[]),
    ]
    .concat();
    for number in 0..SEEDS {
        let lines = records(&mut Seed::new(number));
        let ran = Place::new(&live).run_with(|engine| feed(engine, &lines));
        let expected = sent(&ran.requests, "flips");
        assert!(!expected.is_empty(), "seed {number}: somebody flips");
        let count = |dataflow: &str| sent(&ran.requests, dataflow).len() as u64;

        let place = Place::new(&[base.as_str(), &other].concat());
        let engine = place.open();
        feed(&engine, &lines);
        let whole = asked("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        let view = tried(&engine, &whole).expect("the rule is tried");
        assert_eq!(told(&view), expected, "seed {number}");
        assert_eq!(view.requests, count("bare"), "seed {number}");
        assert_eq!(view.log_ends.as_deref(), Some(ran.summary.clock.as_str()), "seed {number}");
        let last = view.buckets.last().expect("there are days");
        assert_eq!(last.members, ran.summary.audiences["tried"].realized, "seed {number}");
        let mapped = Backtest { dataflow: Some("like".to_owned()), ..whole };
        assert_eq!(tried(&engine, &mapped).unwrap().requests, count("all"), "seed {number}");

        for day in &view.buckets {
            let of = |line: &&String| line.contains(&day.start[..10]);
            let flips: Vec<_> = expected.iter().filter(of).collect();
            let entries = flips.iter().filter(|line| line.contains("realized")).count() as u64;
            let found = (day.entries, day.exits);
            assert_eq!(found, (entries, flips.len() as u64 - entries), "seed {number}: {day:?}");
        }
        parts_are_what_the_whole_is(&engine, &view);
        engine.close().expect("the engine stops");
    }
}

/// Each day asked for alone, by hour, adds up to what it is in the whole.
fn parts_are_what_the_whole_is(engine: &Engine, whole: &BacktestView) {
    let mut before = whole.members_before;
    for days in whole.buckets.windows(2).take(6) {
        let [day, next] = days else { unreachable!("windows of two") };
        let alone = Backtest { by: Some(By::Hour), ..asked(&day.start, &next.start) };
        let view = tried(engine, &alone).expect("the rule is tried");
        let found = (view.members_before, view.entries, view.exits, view.requests);
        assert_eq!(found, (before, day.entries, day.exits, day.requests), "{day:?}");
        assert_eq!(view.buckets.len(), 24, "{day:?}");
        assert_eq!(view.buckets[23].members, day.members, "{day:?}");
        before = day.members;
    }
}

#[test]
fn what_makes_no_sense_is_told() {
    let place = Place::new(&[EVENT_CLOCK, &rule("spent", SPENT), SINK].concat());
    place.run(&[Record::event("c", "e").at("05T00:00:00").with("\"v\":1")]);
    let whole = || asked("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let fault = "tried.pql:2:11: unknown audience";
    // (what it shows, the question, what is said)
    let cases = [
        (
            "a span of nothing",
            asked("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
            "is not before",
        ),
        ("the future", asked("2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"), "still to come"),
        (
            "too fine",
            Backtest {
                by: Some(By::Hour),
                ..asked("2020-01-01T00:00:00Z", "2026-01-07T00:00:00Z")
            },
            "--by day",
        ),
        ("a rule that is none", Backtest { pql: "n >\n".to_owned(), ..whole() }, "tried.pql:"),
        (
            "an audience that is none",
            Backtest { pql: "n > 1 or\ninSegment(\"x\")".to_owned(), ..whole() },
            fault,
        ),
        (
            "a policy that is none",
            Backtest { policy: Some("p".to_owned()), ..whole() },
            "no merge policy \"p\"; there is default",
        ),
        (
            "a dataflow that is none",
            Backtest { dataflow: Some("d".to_owned()), ..whole() },
            "no dataflow \"d\"; there is none",
        ),
    ];
    place.ask(|engine| {
        for (name, asked, expected) in &cases {
            let refused = tried(engine, asked).expect_err(name).to_string();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
        let profiles = tried(engine, &Backtest { pql: "true".to_owned(), ..whole() });
        assert_eq!(profiles.unwrap().entries, 1, "and a rule that says nothing is one");
    });
}

#[test]
fn the_command_draws_a_table_with_and_without_a_running_engine() {
    let place = Place::new(&[EVENT_CLOCK, &rule("spent", SPENT), SINK].concat());
    let program = Program::at(place.path());
    let events = (1..4).map(|day| {
        let event = Record::event("c", &format!("e{day}")).with("\"v\":20");
        event.at(&format!("{day:02}T06:00:00"))
    });
    let ingested = program.run_with("ingest -", ndjson(events).as_bytes());
    assert_eq!(ingested.status, Some(0), "{ingested:?}");
    place.write("tried.pql", "xEvent[timestamp occurs < 12 hours before now].count() > 0\n");
    let span = "--from 2026-01-01T00:00:00Z --to 2026-01-03T00:00:00Z";
    let check = |what: &str| {
        let command = format!("audience backtest tried.pql {span} --by day --members");
        let told = program.run(&command).expect_status(0).stdout;
        for part in [
            "under merge policy default, 2026-01-01 00:00Z to 2026-01-03 00:00Z; 0 in before",
            "2 entered, 2 left; a mapping would have made 4 requests",
            "2026-01-01T06:00:00Z entered profile 1  crmid:c",
            "2026-01-01T18:00:00Z left    profile 1  crmid:c",
            "█",
        ] {
            assert!(told.contains(part), "{what}: `{part}` is not told:\n{told}");
        }
        let told = program.run(&format!("{command} --output json --limit 1")).expect_status(0);
        let told = told.json();
        assert_eq!(told["buckets"][1]["entries"], 1, "{what}: {told}");
        assert_eq!(told["flips"].as_array().map(Vec::len), Some(1), "{what}: {told}");
        let piped = program.run_with(&format!("audience backtest - {span}"), b"n >\n");
        assert_eq!(piped.status, Some(2), "{what}");
        piped.tells(&["-:1:", "^"]);
    };
    check("from the log");
    let engine = running(&place);
    check("by the engine");
    stopped(engine);
}
