//! Why a profile is, or is not, exported to a dataflow (`forebay explain --profile`).

use forebay_engine::engine::{Engine, Mode, StandingQuestion};
use forebay_engine::views::explanation::{ClauseView, StandingView};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, policy, rule, sink_with, upload,
};
use forebay_tests::place::{advance, feed};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Program, Receiver, Record};

const SPENT: &str = r#"xEvent[eventType = "buy"].sum(total) > 500"#;
const LATELY: &str =
    r#"tier = "gold" and xEvent[timestamp occurs < 2 days before now].count() >= 2"#;

/// Audiences `spent` and `lately` (rules) and `list` (upload); `d` maps all, and the attributes
/// `person.name` and `tier`.
fn configuration(keys: &str) -> String {
    [
        EVENT_CLOCK,
        &rule("spent", SPENT),
        &rule("lately", LATELY),
        &upload("list", "3d"),
        SINK,
        &dataflow_with("d", &["spent", "lately", "list"], &["person.name", "tier"], keys),
    ]
    .concat()
}

fn bought(id: &str, at: &str, total: f64) -> Record {
    Record::event("c1", id).at(at).with(&format!(r#""eventType":"buy","total":{total}"#))
}

fn records() -> Vec<Record> {
    vec![
        Record::profile("c1").at("01T00:00:00").with(r#""tier":"gold""#),
        bought("e1", "01T00:00:01", 480.2),
        Record::event("c1", "e2").at("02T00:00:00").with(r#""eventType":"view""#),
    ]
}

fn question(customer: &str) -> StandingQuestion {
    StandingQuestion {
        namespace: "CRMID".to_owned(),
        id: customer.to_owned(),
        dataflow: "d".to_owned(),
        policy: None,
    }
}

fn standing(engine: &Engine) -> StandingView {
    let found = engine.explain_standing(&question("c1")).expect("it can be asked");
    found.expect("the profile is there")
}

fn codes(view: &StandingView) -> Vec<&str> {
    view.findings.iter().map(|finding| finding.code.as_str()).collect()
}

fn said<'v>(view: &'v StandingView, code: &str) -> &'v str {
    let found = view.findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code} in {:#?}", view.findings)).text.as_str()
}

/// `text: yes|no of=value …`, parts behind.
fn drawn(clause: &ClauseView) -> Vec<String> {
    let values = clause.values.iter().map(|value| format!(" {}={}", value.of, value.value.get()));
    let holds = if clause.holds { "yes" } else { "no" };
    let own = format!("{}: {holds}{}", clause.text, values.collect::<String>());
    [own].into_iter().chain(clause.clauses.iter().flat_map(drawn)).collect()
}

#[test]
fn it_shows_each_mapped_audience_with_its_clauses_and_what_the_clock_will_do() {
    let place = Place::new(&configuration(""));
    place.run(&records());
    let view = place.ask(standing);
    assert!(view.realized);
    assert_eq!((view.profile, view.merge_policy.as_str()), (1, "default"));
    assert_eq!(view.clock, "2026-01-02T00:00:00.000Z");
    let [lately, list, spent] = view.audiences.as_slice() else { panic!("{:?}", view.audiences) };
    assert_eq!(lately.status.as_deref(), Some("realized"));
    assert_eq!(
        drawn(lately.rule.as_ref().unwrap()),
        [
            format!("{LATELY}: yes"),
            r#"tier = "gold": yes tier="gold""#.to_owned(),
            "xEvent[timestamp occurs < 2 days before now].count() >= 2: yes \
             xEvent[timestamp occurs < 2 days before now].count()=2"
                .to_owned(),
        ]
    );
    // The purchase of the 1st leaves the window on the 3rd.
    let leaves = "leaves at 2026-01-03T00:00:01.000Z unless something is recorded before";
    assert_eq!(lately.by_clock, leaves);
    assert_eq!(lately.next_boundary.as_deref(), Some("2026-01-03T00:00:01.000Z"));
    assert_eq!((list.status.as_deref(), list.rule.is_none()), (None, true));
    assert_eq!(spent.status, None);
    let sum = format!(r#"{SPENT}: no xEvent[eventType = "buy"].sum(total)=480.2"#);
    assert_eq!(drawn(spent.rule.as_ref().unwrap()), [sum]);
    let written: Vec<_> = view.attributes.iter().map(|a| (a.path.as_str(), a.written_at)).collect();
    assert_eq!(written, [("person.name", None), ("tier", Some(1))]);
    assert_eq!(codes(&view), ["in_audience", "last_attribute_write", "stopped"]);
    let newest = view.last_export.as_ref().expect("it is kept for a week");
    assert_eq!((newest.outcome.as_str(), newest.sequence, newest.offset), ("delivered", 1, 3));
}

#[test]
fn it_says_what_is_missing() {
    let off = "triggers = [\"identity\"]\n";
    let upload = Record::membership("c1", "list", "realized").at("01T00:00:00");
    let name = Record::profile("c1").at("01T00:00:00").with(r#""n":1"#);
    // (what it shows, keys of the dataflow, records, word, part of its sentence)
    let cases = [
        ("nobody's member", "", vec![name.clone()], "in_no_audience", "entering one does"),
        ("no write", "", vec![name.clone()], "no_attribute_written", "no record"),
        ("a trigger", off, vec![name.clone()], "trigger_off_segment", "`segment` is off"),
        ("of a member", off, vec![upload], "in_audience", "export it: a change of its identities"),
    ];
    for (name, keys, records, code, part) in cases {
        let place = Place::new(&configuration(keys));
        place.ingest(&records);
        let view = place.ask(standing);
        assert!(said(&view, code).contains(part), "{name}: {}", said(&view, code));
    }
}

#[test]
fn an_upload_and_an_exit_say_when_they_end() {
    let place = Place::new(&configuration("paused = true"));
    let engine = place.open();
    let member = Record::membership("c1", "list", "realized").at("01T00:00:00");
    feed(&engine, &ndjson([member]));
    let view = standing(&engine);
    let list = &view.audiences[1];
    assert_eq!(list.by_clock, "leaves at 2026-01-04T00:00:00.000Z unless it is named again before");
    assert!(said(&view, "paused").contains("paused by the configuration"));
    assert_eq!(view.open.len(), 1);
    assert_eq!(view.open[0].state, "stored", "a paused dataflow reads nothing");
    advance(&engine, "05T00:00:00");
    let list = &standing(&engine).audiences[1];
    assert_eq!(list.by_clock, "the exit is forgotten at 2026-02-03T00:00:00.000Z");
    engine.close().unwrap();
}

#[test]
fn an_export_that_waits_tells_what_for() {
    let slow = sink_with("").replace(r#"["20ms", "40ms"]"#, r#"["1h"]"#);
    let configuration = configuration("").replace(SINK, &slow);
    let place =
        Place::with_receiver(&configuration, Receiver::scripted(|_, _| Answer::Status(503)));
    let engine = place.open();
    feed(&engine, &ndjson(records()));
    place.receiver.wait_until("the first attempt", |requests| requests.len() == 1);
    feed(&engine, &ndjson([bought("e3", "02T00:00:00", 200.0)]));
    Deadline::new().until("the first waits for its retry", || {
        let view = standing(&engine);
        view.open.len() == 2 && view.open.iter().all(|open| open.state != "in_flight")
    });
    let view = standing(&engine);
    let [first, second] = view.open.as_slice() else { panic!("{:?}", view.open) };
    assert_eq!((first.state.as_str(), first.failures), ("retry", 1));
    assert!(first.retry_at.is_some());
    assert_eq!(first.last_error.as_deref(), Some("status 503"));
    assert_eq!((second.state.as_str(), second.behind.as_ref()), ("behind", Some(&first.export)));
    assert!(said(&view, "waits_for_retry").contains("1 attempt failed (status 503)"));
    assert_eq!(view.last_export.as_ref().unwrap().sequence, 2);
    engine.request_stop();
    engine.close().unwrap();
    let view = place.ask(standing);
    assert_eq!((view.open[0].failures, view.open[1].state.as_str()), (1, "behind"));
    assert!(said(&view, "stopped").contains("no engine runs"));
}

#[test]
fn a_dead_letter_is_the_newest_export_that_is_kept() {
    let configuration = configuration("");
    let place =
        Place::with_receiver(&configuration, Receiver::scripted(|_, _| Answer::Status(422)));
    place.run(&records());
    let view = place.ask(standing);
    let last = view.last_export.as_ref().unwrap();
    assert_eq!((last.outcome.as_str(), last.sequence), ("dead_letter", 1));
    assert!(said(&view, "dead_letter").contains("forebay dead-letters replay"));
    assert!(said(&view, "last_attribute_write").contains("since its export 1"));
}

#[test]
fn a_backfill_that_is_owed_tells_how_many_come_before() {
    let before = [EVENT_CLOCK, &rule("any", "n"), SINK].concat();
    let place = Place::new(&before);
    let customer = |n: usize| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"n\":1");
    place.run(&[customer(0), customer(1), customer(2)]);
    place.configure(&[before, dataflow("d", &["any"], &["n"])].concat());
    let engine = place.try_open(Mode::Derive).unwrap();
    assert_eq!(standing(&engine).backfill_ahead, Some(1));
    assert!(said(&standing(&engine), "backfill_owed").contains("1 profile comes before"));
    engine.close().unwrap();
    place.run(&[]);
    assert_eq!(place.ask(standing).backfill_ahead, None);
}

#[test]
fn the_merge_policy_is_the_dataflows_own_if_it_has_one() {
    let single = rule("single", "n").replace("name =", "merge_policy = \"apart\"\nname =");
    let flows = [dataflow("d", &["single"], &["n"]), dataflow("e", &["any"], &["n"])].concat();
    let policies =
        [policy("together", "default = true"), policy("apart", "identity_graph = \"none\"")];
    let all = [EVENT_CLOCK, &policies.concat(), &rule("any", "n"), &single, SINK, &flows].concat();
    let place = Place::new(&all);
    place.ingest(&[Record::profile("c1").at("01T00:00:00").also("Email", "a").with("\"n\":1")]);
    place.ask(|engine| {
        let view = standing(engine);
        assert_eq!((view.merge_policy.as_str(), view.identities.len()), ("apart", 1));
        let asked = |dataflow: &str, policy: &str| {
            let (dataflow, policy) = (dataflow.to_owned(), Some(policy.to_owned()));
            let asked = StandingQuestion { dataflow, policy, ..question("c1") };
            engine.explain_standing(&asked).map(drop).map_err(|error| error.to_string())
        };
        let refused = asked("d", "together").unwrap_err();
        assert!(refused.contains("it maps audiences of apart"), "{refused}");
        assert!(asked("d", "gone").unwrap_err().contains("there is apart, together"));
        assert!(asked("x", "apart").unwrap_err().contains("there is d, e"));
        asked("e", "together").unwrap();
    });
}

#[test]
fn the_command_answers_in_words_and_in_json_with_an_engine_and_without() {
    let place = Place::new(&configuration(""));
    place.run(&records());
    let program = Program::at(place.path());
    let explain = "explain --profile crmid c1 --dataflow d";
    let check = || {
        let text = program.run(explain).expect_status(0).stdout;
        for part in [
            "lately: realized since 2026-01-02T00:00:00Z",
            "yes  tier = \"gold\": \"gold\"",
            "no   xEvent[eventType = \"buy\"].sum(total) > 500: xEvent",
            "person.name: never written",
            "these would export it",
        ] {
            let part = part.replace(": xEvent", ": 480.2");
            assert!(text.contains(&part), "no {part:?} in\n{text}");
        }
        let json = program.run(&format!("{explain} --output json")).expect_status(0).json();
        assert_eq!(json["audiences"][0]["rule"]["clauses"][0]["values"][0]["value"], "gold");
        assert_eq!(json["realized"], true);
    };
    check();
    let engine = running(&place);
    check();
    stopped(engine);
    let nobody = program.run("explain --profile crmid nobody --dataflow d").expect_status(1);
    nobody.tells(&["no profile has the identity crmid `nobody`"]);
    program.run("explain --profile crmid c1 --dataflow x").expect_status(2).tells(&["there is d"]);
}
