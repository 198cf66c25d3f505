//! One export explained (`forebay explain EXPORT_ID`): where it came from, why, what became of it.

use forebay_engine::engine::{Engine, Mode, Payload, Selection};
use forebay_engine::views::explanation::ClauseView;
use forebay_engine::views::export::{ExportView, OriginView};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, sink_with, upload};
use forebay_tests::place::{Silent, advance, feed, imported};
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Program, Receiver, Record, Request};

const SPENT: &str = r#"xEvent[eventType = "buy"].sum(total) > 500"#;
const LATELY: &str = "xEvent[timestamp occurs < 2 days before now]";

/// Audiences `spent`, `lately` (rules) and `list` (upload); `d` maps all of them, `person.name` and
/// `tier`.
fn configuration() -> String {
    let audiences = [rule("spent", SPENT), rule("lately", LATELY), upload("list", "3d")].concat();
    let flow = dataflow("d", &["spent", "lately", "list"], &["person.name", "tier"]);
    [EVENT_CLOCK, &audiences, SINK, &flow].concat()
}

fn bought(id: &str, at: &str, total: f64) -> Record {
    Record::event("c1", id).at(at).with(&format!(r#""eventType":"buy","total":{total}"#))
}

fn wrote(at: &str, members: &str) -> Record {
    Record::profile("c1").at(at).with(members)
}

fn explained(engine: &Engine, export: &str) -> ExportView {
    engine.explain_export(export, &Silent).expect("it can be explained")
}

/// The export of the n-th request, which must say what was sent.
fn of(place: &Place, request: &Request) -> (ExportView, OriginView) {
    let view = place.ask(|engine| explained(engine, request.id()));
    assert_eq!(view.payload.as_ref().expect("it has a payload").get(), request.text());
    let origin = view.origin.clone().expect("it has an origin");
    (view, origin)
}

fn causes(origin: &OriginView) -> Vec<(&str, &str)> {
    origin.causes.iter().map(|cause| (cause.cause.as_str(), cause.text.as_str())).collect()
}

/// Whether it held and holds, and its first value before and after.
fn flip(clause: &ClauseView) -> (Option<bool>, bool, Option<&str>, &str) {
    let value = &clause.values[0];
    (clause.held, clause.holds, value.before.as_ref().map(|v| v.get()), value.value.get())
}

#[test]
fn a_record_its_changes_and_the_clause_that_flipped() {
    let place = Place::new(&configuration());
    let records = [bought("e1", "01T00:00:00", 480.25), bought("e2", "01T00:00:01", 136.5)]
        .map(|r| r.to_string());
    let file = place.write("in.ndjson", ndjson(&records));
    let ran = Program::at(place.path()).run("run --input in.ndjson --drain");
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let requests = place.receiver.requests();
    assert_eq!(requests.len(), 2, "lately, then spent");
    let (view, origin) = of(&place, &requests[1]);
    assert_eq!((view.outcome.state.as_str(), view.outcome.status), ("delivered", Some(200)));
    assert_eq!(view.payload_from.as_deref(), Some("derived"));
    assert_eq!(causes(&origin), [("segment", "entered spent")]);
    assert_eq!(origin.entry.kind, "event");
    assert_eq!(origin.entry.line.as_deref(), Some(records[1].as_str()));
    let source = origin.entry.source.as_ref().expect("it was read in a file");
    assert_eq!((source.first_line, source.last_line), (2, 2));
    assert_eq!(source.file, file.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(origin.now, "2026-01-01T00:00:01.000Z");
    let [change] = origin.changes.memberships.as_slice() else { panic!("{origin:#?}") };
    assert!(change.mapped && change.before.is_none());
    let rule = change.rule.as_ref().expect("it is a rule");
    assert_eq!(flip(rule), (Some(false), true, Some("480.25"), "616.75"));
    let (_, first) = of(&place, &requests[0]);
    assert!(first.changes.is_new);
    assert_eq!(causes(&first), [("segment", "entered lately")]);
}

#[test]
fn attributes_identities_and_merges_before_and_after() {
    let place = Place::new(&configuration());
    let records = [
        bought("e1", "01T00:00:00", 1.0),
        wrote("01T00:00:01", r#""person":{"name":{"firstName":"Ana"}},"tier":"gold""#),
        wrote("01T00:00:02", r#""tier":"gold","other":1"#),
        Record::profile("c2").at("01T00:00:03").with(r#""tier":"red""#),
        wrote("01T00:00:04", "").also("CRMID", "c2").also("Email", "a@x"),
        wrote("01T00:00:05", r#""tier":null"#),
    ];
    let ran = place.run(&records);
    let told: Vec<(ExportView, OriginView)> =
        ran.requests.iter().map(|request| of(&place, request)).collect();
    let causes: Vec<_> = told.iter().map(|(_, origin)| causes(origin)).collect();
    assert_eq!(
        causes,
        [
            vec![("segment", "entered lately")],
            vec![("attribute", "wrote person.name, tier")],
            vec![("attribute", "wrote tier")],
            vec![("identity", "joined: crmid c2, email a@x; merged with profile 4")],
            vec![("attribute", "wrote tier")],
        ]
    );
    let attributes = |at: usize| {
        let text = |value: Option<&Box<serde_json::value::RawValue>>| {
            value.map_or("-".to_owned(), |value| value.get().to_owned())
        };
        let changes = told[at].1.changes.attributes.iter();
        let line = changes.map(|change| {
            let (before, after) = (text(change.before.as_ref()), text(change.after.as_ref()));
            format!("{}: {before} > {after}", change.path)
        });
        line.collect::<Vec<_>>()
    };
    assert_eq!(attributes(1), [r#"person.name.firstName: - > "Ana""#, r#"tier: - > "gold""#]);
    assert_eq!(attributes(2), ["other: - > 1", r#"tier: "gold" > "gold""#]);
    assert_eq!(attributes(3), [r#"tier: "gold" > "red""#]);
    assert_eq!(attributes(4), [r#"tier: "red" > -"#]);
}

#[test]
fn a_boundary_says_which_instant_and_what_moved_the_clock_past_it() {
    let place = Place::new(&configuration());
    let other = Record::profile("other").at("04T00:00:00").with(r#""tier":"x""#);
    let ran = place.run(&[bought("e1", "01T00:00:00", 1.0), other]);
    let (_, origin) = of(&place, &ran.requests[1]);
    assert_eq!(origin.boundary.as_deref(), Some("2026-01-03T00:00:00.000Z"));
    assert_eq!(origin.now, "2026-01-03T00:00:00.000Z");
    assert_eq!((origin.entry.offset, origin.entry.kind.as_str()), (2, "profile"));
    assert_eq!(origin.entry.line, None, "it is about somebody else");
    assert_eq!(causes(&origin), [("segment", "left lately")]);
    let rule = origin.changes.memberships[0].rule.as_ref().unwrap();
    assert_eq!(flip(rule), (Some(true), false, Some("1"), "0"));
}

#[test]
fn who_moved_the_clock_past_a_boundary_was_not_merged_by_it() {
    let place = Place::new(&configuration());
    let other = |at: &str| Record::profile("other").at(at).with(r#""tier":"x""#);
    let ran =
        place.run(&[bought("e1", "01T00:00:00", 1.0), other("01T00:00:01"), other("04T00:00:00")]);
    let (_, origin) = of(&place, &ran.requests[1]);
    assert_eq!(origin.boundary.as_deref(), Some("2026-01-03T00:00:00.000Z"));
    assert_eq!(origin.changes.merged, Vec::<u64>::new());
}

#[test]
fn control_entries_cause_exports_too() {
    let place = Place::new(&configuration());
    let ran = place.run_with(|engine| {
        imported(engine, "list", &["c1", "c2"]);
        imported(engine, "list", &["c2"]);
        feed(engine, &ndjson([bought("e1", "01T00:00:00", 400.0)]));
        advance(engine, "03T00:00:00");
    });
    let told = |customer: &str| {
        let own = ran.requests.iter().filter(|request| request.has_identity("crmid", customer));
        let told = own.map(|request| of(&place, request).1);
        told.map(|origin| (origin.entry.kind.clone(), origin.causes[0].text.clone())).collect()
    };
    let expected = [
        ("membership", "entered list"),
        ("import_end", "left list"),
        ("event", "entered lately"),
        ("advance", "left lately"),
    ];
    let found: Vec<(String, String)> = told("c1");
    let expected = expected.map(|(kind, text)| (kind.to_owned(), text.to_owned()));
    assert_eq!(found, expected);
    let changed = configuration().replace("> 500", "> 300");
    place.configure(&changed);
    let ran = place.run(&[]);
    let (_, origin) = of(&place, &ran.requests[0]);
    assert_eq!(
        (origin.entry.kind.as_str(), causes(&origin)[0].1),
        ("definitions", "entered spent")
    );
}

#[test]
fn a_backfill_names_the_mapping_that_it_was_owed_for() {
    let without = [EVENT_CLOCK, &rule("any", "tier"), SINK].concat();
    let place = Place::new(&without);
    place.run(&[wrote("01T00:00:00", r#""tier":"a""#), wrote("01T00:00:01", r#""tier":"b""#)]);
    place.configure(&[without, dataflow("d", &["any"], &["tier"])].concat());
    let ran = place.run(&[]);
    let (_, origin) = of(&place, &ran.requests[0]);
    let [cause] = origin.causes.as_slice() else { panic!("{origin:#?}") };
    assert_eq!(
        (cause.cause.as_str(), cause.audiences.as_slice()),
        ("backfill", &["any".to_owned()][..])
    );
    assert!(cause.text.contains("at offset 3"), "{}", cause.text);
    assert_eq!(origin.rendered_after, Some(3));
}

#[test]
fn what_waits_or_was_given_up_on_shows_its_attempts() {
    let slow = sink_with("").replace(r#"["20ms", "40ms"]"#, r#"["1h"]"#);
    let configuration = configuration().replace(SINK, &slow);
    let busy = Receiver::scripted(|_, _| Answer::With(503, "", "not today"));
    let place = Place::with_receiver(&configuration, busy);
    let engine = place.open();
    feed(&engine, &ndjson([bought("e1", "01T00:00:00", 1.0)]));
    place.receiver.wait_until("the first attempt", |requests| requests.len() == 1);
    let id = place.receiver.requests()[0].id().to_owned();
    Deadline::new().until("it waits", || explained(&engine, &id).outcome.retry_at.is_some());
    let view = explained(&engine, &id);
    assert_eq!((view.outcome.state.as_str(), view.outcome.failures), ("waiting", 1));
    assert!(view.outcome.text.contains("waits for its retry at"), "{}", view.outcome.text);
    assert_eq!(
        (view.attempts[0].status, view.attempts[0].answer.as_str()),
        (Some(503), "not today")
    );
    assert_eq!(view.payload_from.as_deref(), Some("stored"));
    engine.request_stop();
    engine.close().unwrap();
    let view = place.ask(|engine| explained(engine, &id));
    assert_eq!((view.outcome.state.as_str(), view.outcome.failures), ("waiting", 1));

    let refusing = Receiver::scripted(|_, _| Answer::With(422, "", "no such tenant"));
    let place = Place::with_receiver(&self::configuration(), refusing);
    let ran = place.run(&[bought("e1", "01T00:00:00", 1.0)]);
    let (view, _) = of(&place, &ran.requests[0]);
    assert_eq!(view.outcome.state, "dead_letter");
    assert_eq!(view.attempts[0].answer, "no such tenant");
}

#[test]
fn a_replay_with_the_current_payload_is_a_new_export() {
    let place =
        Place::with_receiver(&configuration(), Receiver::scripted(|_, _| Answer::Status(422)));
    place.run(&[bought("e1", "01T00:00:00", 1.0)]);
    place.receiver.answer(|_, _| Answer::Status(200));
    place.run(&[wrote("01T00:00:01", r#""tier":"b""#)]);
    let replayed = place.run_with(|engine| {
        let all = Selection::default();
        engine.replay_dead_letters(&all, u64::MAX, Payload::Current).unwrap();
    });
    let (view, origin) = of(&place, &replayed.requests[0]);
    assert_eq!(view.payload_from.as_deref(), Some("derived"));
    assert!(causes(&origin).iter().any(|(cause, _)| *cause == "replay"), "{origin:#?}");
}

#[test]
fn whoever_was_deleted_is_told_of_no_more() {
    let place = Place::new(&configuration());
    let ran = place.run(&[bought("e1", "01T00:00:00", 1.0)]);
    place.run(&[Record::delete("c1")]);
    let id = ran.requests[0].id();
    let told = || {
        let view = place.ask(|engine| explained(engine, id));
        assert!(view.origin.is_none() && view.payload.is_none());
        view.outcome.text
    };
    assert!(
        told().ends_with("its profile was deleted at offset 2, so nothing more is told of it"),
        "{}",
        told()
    );
    let engine = place.try_open(Mode::Derive).unwrap();
    engine.compact().unwrap();
    engine.close().unwrap();
    assert!(told().contains("its data is gone from the log"), "{}", told());
}

#[test]
fn what_is_no_export_is_told_plainly() {
    let place = Place::new(&configuration());
    let ran = place.run(&[bought("e1", "01T00:00:00", 1.0)]);
    let other = Place::new(&configuration());
    let elsewhere = other.run(&[bought("e1", "01T00:00:00", 1.0)]).requests[0].id().to_owned();
    let program = Program::at(place.path());
    let id = ran.requests[0].id();
    for (id, part) in
        [("nonsense", "is no export id"), (elsewhere.as_str(), "another data directory")]
    {
        program.run(&format!("explain {id}")).expect_status(2).tells(&[part]);
    }
    let mut later = forebay_engine::deliver::export_id::ExportId::parse(id).unwrap();
    later.sequence = 9;
    let told = program.run(&format!("explain {later}")).expect_status(2);
    told.tells(&["there is no export 9 of dataflow \"d\"", "the last one of dataflow \"d\" is 1"]);
}

#[test]
fn the_command_tells_it_in_words_and_in_json_with_an_engine_and_without() {
    let place = Place::new(&configuration());
    let records = [bought("e1", "01T00:00:00", 480.25), bought("e2", "01T00:00:01", 136.5)];
    let ran = place.run(&records);
    let program = Program::at(place.path());
    let id = ran.requests[1].id();
    let check = || {
        let text = program.run(&format!("explain {id}")).expect_status(0).stdout;
        for part in [
            "was delivered at",
            "segment: entered spent",
            "spent: not in → realized since 2026-01-01T00:00:01Z",
            "no → yes  xEvent[eventType = \"buy\"].sum(total) > 500: 480.25 → 616.75",
            ran.requests[1].text(),
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let json = program.run(&format!("explain {id} --output json")).expect_status(0).json();
        assert_eq!(json["origin"]["causes"][0]["audiences"][0], "spent");
        assert_eq!(json["payload"], ran.requests[1].json());
    };
    check();
    let engine = running(&place);
    check();
    stopped(engine);
}
