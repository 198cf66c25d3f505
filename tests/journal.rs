//! What is still known of exports once they ended (`SPEC.md` §8, §9: `export_retention`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_engine::clock::Timestamp;
use forebay_engine::deliver::export_id::ExportId;
use forebay_engine::engine::{Engine, Fate, KnownExport, Payload, Selection};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule};
use forebay_tests::place::feed;
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, HandClock, Place, Receiver, Record, Request};

/// Audience `any`, dataflow `d`; a failed attempt is soon repeated.
fn configuration() -> String {
    [EVENT_CLOCK, &rule("any", "n"), SINK, &dataflow("d", &["any"], &["n"])].concat()
}

fn write(customer: &str, n: usize) -> Record {
    Record::profile(customer).at(&format!("01T00:00:{n:02}")).with(&format!("\"n\":{n}"))
}

/// The export with this id.
fn known(engine: &Engine, export: &str) -> KnownExport {
    engine.known_export(export).expect("the id is one").expect("it is known")
}

/// The id of another export of the same dataflow.
fn same_log(export: &str, sequence: u64) -> String {
    ExportId { sequence, ..ExportId::parse(export).expect("it is an id") }.to_string()
}

fn statuses(known: &KnownExport) -> Vec<Option<u16>> {
    known.attempts.iter().map(|attempt| attempt.status).collect()
}

/// The first request for `late` finds it busy, `bad` is refused, everybody else is welcome.
fn answers() -> impl Fn(&Request, usize) -> Answer + Send + Sync + 'static {
    let was_busy = AtomicBool::new(false);
    move |request, _| match () {
        () if request.has_identity("crmid", "bad") => Answer::With(422, "", "no such tenant"),
        () if request.has_identity("crmid", "late") && !was_busy.swap(true, Ordering::SeqCst) => {
            Answer::With(503, "", "busy with late")
        }
        () => Answer::Status(204),
    }
}

#[test]
fn an_export_that_ended_is_known_by_where_it_came_from_and_how_it_ended() {
    let place = Place::with_receiver(&configuration(), Receiver::scripted(answers()));
    let ran = place.run(&[write("good", 1), write("late", 2), write("bad", 3)]);
    let id = |customer: &str| {
        let mut of = ran.requests.iter().filter(|request| request.has_identity("crmid", customer));
        of.next().expect("it was sent").id().to_owned()
    };
    place.ask(|engine| {
        let good = known(engine, &id("good"));
        assert!(matches!(good.fate, Fate::Delivered { status: 204, .. }), "{good:?}");
        assert_eq!((good.failures, good.payload.is_none()), (0, true));
        let late = known(engine, &id("late"));
        assert!(matches!(late.fate, Fate::Delivered { status: 204, .. }), "{late:?}");
        assert_eq!((late.failures, statuses(&late)), (1, vec![Some(503)]));
        assert_eq!(late.attempts[0].answer, b"busy with late");
        assert_eq!(late.key.origin.offset, good.key.origin.offset + 1);
        let bad = known(engine, &id("bad"));
        assert!(matches!(bad.fate, Fate::DeadLetter { replay: false, .. }), "{bad:?}");
        assert!(bad.payload.is_some());
        let fault = engine.known_export("nonsense").unwrap_err().to_string();
        assert!(fault.contains("`nonsense` is no export id"), "{fault}");
    });

    place.receiver.answer(|_, _| Answer::Status(200));
    let bad = Selection { export: Some(id("bad")), ..Selection::default() };
    place.ask(|engine| engine.replay_dead_letters(&bad, 9, Payload::Original).unwrap());
    place.run(&[]);
    place.ask(|engine| {
        let bad_now = known(engine, &id("bad"));
        assert!(matches!(bad_now.fate, Fate::Delivered { status: 200, .. }), "{bad_now:?}");
        assert_eq!((bad_now.failures, statuses(&bad_now)), (1, vec![Some(422)]));
        let fault = engine.dead_letter_page(&bad, None, 1).unwrap_err().to_string();
        assert!(fault.contains("is no dead letter: it was delivered at "), "{fault}");
    });
}

#[test]
fn what_was_purged_withdrawn_or_waits_is_told() {
    let place = Place::with_receiver(&configuration(), Receiver::scripted(answers()));
    let ran = place.run(&[write("bad", 1), write("late", 2)]);
    let (bad, late) = {
        let of = |customer: &str| {
            let is_of = |request: &&Request| request.has_identity("crmid", customer);
            ran.requests.iter().find(is_of).expect("it was sent").id().to_owned()
        };
        (of("bad"), of("late"))
    };
    let numbered = |sequence: u64| same_log(&bad, sequence);
    place.ask(|engine| engine.purge_dead_letters(&Selection::default(), 9).unwrap());

    place.configure(&configuration().replace("[[dataflow]]", "[[dataflow]]\npaused = true"));
    place.run(&[write("late", 3), write("good", 4)]);
    place.run_with(|engine| {
        let fate = known(engine, &bad).fate;
        assert!(matches!(fate, Fate::DeadLetterGone { .. }), "{fate:?}");
        let waiting = known(engine, &numbered(3));
        assert_eq!(waiting.fate, Fate::Waiting { retry_at: None });
        assert!(waiting.payload.is_some());
        assert_eq!(known(engine, &late).attempts[0].answer, b"busy with late");

        feed(engine, &ndjson(&[Record::delete("late")]));
        let fate = known(engine, &numbered(3)).fate;
        assert!(matches!(fate, Fate::Withdrawn { .. }), "{fate:?}");
        let delivered = known(engine, &late);
        assert!(matches!(delivered.fate, Fate::Delivered { .. }), "{delivered:?}");
        assert_eq!(statuses(&delivered), [Some(503)]);
        assert_eq!(delivered.attempts[0].answer, b"", "it may say whose it was");
        assert_eq!(engine.known_export(&numbered(99)).unwrap(), None);
    });
}

#[test]
fn one_that_gave_way_to_a_newer_one_is_known_too() {
    let latest = configuration().replace("[[dataflow]]", "[[dataflow]]\nbacklog = \"latest\"");
    let paused = latest.replace("[[dataflow]]", "[[dataflow]]\npaused = true");
    let place = Place::new(&paused);
    place.run(&[write("c", 1), write("c", 2), write("c", 3)]);
    place.configure(&latest);
    let ran = place.run(&[]);
    assert_eq!(ran.requests.len(), 1);
    let id = ran.requests[0].id();
    place.ask(|engine| {
        for (sequence, is_last) in [(1, false), (2, false), (3, true)] {
            let fate = known(engine, &same_log(id, sequence)).fate;
            assert_eq!(matches!(fate, Fate::Superseded { .. }), !is_last, "{fate:?}");
            assert_eq!(matches!(fate, Fate::Delivered { .. }), is_last, "{fate:?}");
        }
    });
}

#[test]
fn offset_boundary_and_profile_name_a_step() {
    let windows = "xEvent[timestamp occurs <= 1 days before now].count() >= 1";
    let configuration = [
        EVENT_CLOCK,
        &rule("recent", windows),
        &rule("later", &windows.replace("1 days", "2 days")),
        SINK,
        &dataflow("d", &["recent", "later"], &[]),
    ]
    .concat();
    let place = Place::new(&configuration);
    // The last record moves the clock over the boundaries of both: four steps of one offset.
    let records = [
        Record::event("a", "e1").at("01T00:00:00"),
        Record::event("b", "e2").at("01T00:00:00"),
        Record::event("c", "e3").at("09T00:00:00"),
    ];
    let ran = place.run(&records);
    assert_eq!(ran.requests.len(), 7);
    place.ask(|engine| {
        let exports: Vec<_> =
            ran.requests.iter().map(|request| known(engine, request.id()).key).collect();
        let steps: BTreeSet<_> = exports
            .iter()
            .map(|key| (key.origin.offset, key.origin.boundary, key.profile))
            .collect();
        assert_eq!(steps.len(), exports.len(), "{steps:?}");
        let last = exports.iter().map(|key| key.origin.offset).max();
        let boundaries: BTreeSet<_> = exports
            .iter()
            .filter(|key| Some(key.origin.offset) == last)
            .map(|key| key.origin.boundary)
            .collect();
        assert_eq!(boundaries.len(), 3, "two boundaries, and the entry's own step: {boundaries:?}");
        assert!(exports.iter().all(|key| key.origin.rendered_after.is_none()));
    });
}

#[test]
fn after_the_retention_an_export_is_not_known_any_more() {
    let clock = Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let sink = SINK.replace("max_retries = 2", "max_retries = 0");
    let configuration =
        ["export_retention = \"2d\"\n", &rule("any", "n"), &sink, &dataflow("d", &["any"], &["n"])]
            .concat();
    let place = Place::with_clock(&configuration, Arc::clone(&clock) as _);
    place.receiver.answer(answers());
    let first = place.run(&[write("good", 1), write("bad", 1)]);
    clock.set("2026-01-03T00:00:00Z");
    let second = place.run(&[write("good", 2)]);
    assert_eq!((first.requests.len(), second.requests.len()), (2, 1));
    let of = |requests: &[Request], customer: &str| {
        let is_of = |request: &&Request| request.has_identity("crmid", customer);
        requests.iter().find(is_of).expect("it was sent").id().to_owned()
    };
    let (good, bad) = (of(&first.requests, "good"), of(&first.requests, "bad"));
    // All three lie in one page, which goes as its newest row does.
    clock.set("2026-01-05T00:00:00Z");
    place.run_with(|engine| {
        assert!(known(engine, &good).fate.to_string().contains("was delivered at 2026-01-01T00"));
    });
    clock.set("2026-01-05T00:00:00.001Z");
    place.run_with(|engine| {
        let deadline = Deadline::new();
        deadline.until("it is forgotten", || engine.known_export(&good).unwrap().is_none());
        assert_eq!(engine.known_export(second.requests[0].id()).unwrap(), None);
        let died = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        assert_eq!(known(engine, &bad).fate, Fate::DeadLetter { died, replay: false });
    });
}
