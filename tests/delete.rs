//! Deleting profiles (`SPEC.md` §3).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_engine::engine::{Engine, Mode, Payload, Selection};
use forebay_storage::StoreOptions;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, dataflow_with, policy, rule};
use forebay_tests::place::{feed, profile_line, view_line};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Receiver, Record, Request};

const PAUSED: &str = "paused = true";

/// The policy `solo` keeps every primary identity by itself; `d` exports from the default one, `s`
/// from `solo`. `keys` are those of both dataflows.
fn two_policies(keys: &str) -> String {
    let policies = "[[merge_policy]]\nid = \"default\"\ndefault = true\nidentity_graph = \"pdg\"\n\
                    [[merge_policy]]\nid = \"solo\"\nidentity_graph = \"none\"\n";
    let solo = rule("alone", "n > 0") + "merge_policy = \"solo\"\n";
    let flows =
        dataflow_with("d", &["any"], &["n"], keys) + &dataflow_with("s", &["alone"], &["n"], keys);
    [EVENT_CLOCK, policies, &rule("any", "n > 0"), &solo, SINK, &flows].concat()
}

fn one_policy(keys: &str) -> String {
    [EVENT_CLOCK, &rule("any", "n > 0"), SINK, &dataflow_with("d", &["any"], &["n"], keys)].concat()
}

/// The one policy has this graph.
fn with_graph(graph: &str, keys: &str) -> String {
    one_policy(keys) + &policy("p", &format!("default = true\nidentity_graph = \"{graph}\""))
}

/// The policy `solo` is gone, and its audience has the default one.
fn solo_removed(keys: &str) -> String {
    let flows =
        dataflow_with("d", &["any"], &["n"], keys) + &dataflow_with("s", &["alone"], &["n"], keys);
    [EVENT_CLOCK, &rule("any", "n > 0"), &rule("alone", "n > 0"), SINK, &flows].concat()
}

fn write(customer: &str, n: usize) -> Record {
    Record::profile(customer).at(&format!("01T00:00:{n:02}")).with(&format!("\"n\":{n}"))
}

fn delete(customer: &str) -> Record {
    Record::delete(customer)
}

/// Says that `a` and `b` are one.
fn link(second: usize) -> Record {
    Record::profile("a").at(&format!("01T00:00:{second:02}")).also("CRMID", "b")
}

fn waiting(engine: &Engine) -> u64 {
    engine.dataflows().expect("the engine answers").iter().map(|flow| flow.waiting).sum()
}

/// What `records` lead to if they are read in these parts while nothing is sent: what is known at the
/// end, how much is waiting, and then what is sent, with its number.
fn outcome(parts: &[&[Record]]) -> (Vec<String>, u64, Vec<String>) {
    let place = Place::new(&two_policies(PAUSED));
    for part in parts {
        assert_eq!(place.run(part).summary.records.rejected, 0);
    }
    let (known, waiting) = place.ask(|engine| (knowledge(engine), waiting(engine)));
    place.configure(&two_policies(""));
    let ran = place.run(&[]);
    assert_eq!(place.ask(self::waiting), 0, "all is delivered");
    let mut requests: Vec<_> = ran.requests.iter().collect();
    requests.sort_by_key(|request| (request.dataflow(), request.sequence()));
    let sent =
        requests.iter().map(|r| format!("{}{} {}", r.dataflow(), r.sequence(), r.line())).collect();
    (known, waiting, sent)
}

/// Who there is under both policies, and how many in each audience.
fn knowledge(engine: &Engine) -> Vec<String> {
    let mut known = Vec::new();
    for customer in ["a", "b", "c", "x"] {
        for policy in ["default", "solo"] {
            let found = engine.profile("crmid", customer, Some(policy)).expect("it answers");
            known.extend(
                found.map(|view| format!("{policy} {} {}", view.profile, view_line(&view))),
            );
        }
    }
    let audiences = engine.audiences().expect("the engine answers");
    known.extend(audiences.iter().map(|a| format!("{} {} {}", a.id, a.realized, a.exited)));
    known
}

/// An export with its number, of a profile that wrote `n` in second `n`.
fn line(number: &str, identities: &str, n: usize) -> String {
    let audience = if number.starts_with('d') { "any" } else { "alone" };
    format!("{number} {identities} | {audience}=realized@01T00:00:{n:02} | {{\"n\":{n}}}")
}

/// The same under both policies.
fn sent(sequence: u64, customer: &str, n: usize) -> Vec<String> {
    ["d", "s"]
        .map(|flow| line(&format!("{flow}{sequence}"), &format!("crmid:{customer}"), n))
        .into()
}

#[test]
fn a_delete_takes_all_that_a_profile_had_and_what_follows_is_new() {
    // (what it shows, records, what is sent in the end)
    let cases: Vec<(&str, Vec<Record>, Vec<String>)> = vec![
        (
            "one goes, another stays",
            vec![write("a", 1), write("b", 2), write("a", 3), delete("a")],
            sent(2, "b", 2),
        ),
        (
            "a later record starts anew, with the next number",
            vec![write("a", 1), delete("a"), write("a", 5)],
            sent(2, "a", 5),
        ),
        (
            "what it had absorbed goes with it",
            vec![write("a", 1), write("b", 2), write("c", 3), link(4), delete("b")],
            sent(3, "c", 3),
        ),
        (
            "what one policy links, the other deletes too",
            vec![write("a", 1), write("x", 2).also("CRMID", "a"), write("b", 3), delete("a")],
            sent(3, "b", 3),
        ),
        (
            "a delete names all its identities",
            vec![write("a", 1), write("b", 2), write("c", 3), delete("a").also("CRMID", "c")],
            sent(2, "b", 2),
        ),
        (
            "one that names nobody does nothing",
            vec![delete("a"), write("b", 2), delete("a")],
            sent(1, "b", 2),
        ),
        (
            "nobody is left",
            vec![write("a", 1), link(2), write("b", 3), delete("b"), delete("a")],
            vec![],
        ),
        (
            "who is new may be linked, and is seen later than the other",
            vec![write("a", 1), write("b", 2), delete("a"), write("a", 3), link(4)],
            vec![
                line("d2", "crmid:b", 2),
                line("d3", "crmid:a", 3),
                line("d4", "crmid:b crmid:a", 3),
                line("s2", "crmid:b", 2),
                line("s3", "crmid:a", 3),
            ],
        ),
    ];
    for (name, records, expected) in cases {
        let whole = outcome(&[&records]);
        assert_eq!(whole.2, expected, "{name}");
        assert_eq!(whole.1, expected.len() as u64, "{name}: what is waiting");
        let parts: Vec<&[Record]> = records.chunks(1).collect();
        assert_eq!(outcome(&parts), whole, "{name}: where a batch ends decides nothing");
    }
}

#[test]
fn a_delete_counts_as_accepted_and_moves_the_clock() {
    let place = Place::new(&one_policy(""));
    let ran = place.run(&[write("a", 1), delete("z").at("05T00:00:00"), delete("z")]);
    assert_eq!(ran.summary.records.accepted, 3, "{:?}", place.rejects());
    assert_eq!(ran.summary.clock, "2026-01-05T00:00:00.000Z");
    assert_eq!((ran.summary.profiles, ran.lines().len()), (1, 1));
}

#[test]
fn it_is_effective_at_once_for_every_question() {
    let place = Place::new(&one_policy(""));
    place.run_with(|engine| {
        feed(engine, &ndjson([write("a", 1), write("b", 2)]));
        feed(engine, &ndjson([delete("a")]));
        assert_eq!(profile_line(engine, "a"), None);
        let summary = engine.summary().unwrap();
        assert_eq!((summary.profiles, summary.audiences["any"].realized), (1, 1));
        let members = engine.members("any", 0, 9).unwrap();
        assert_eq!(members.iter().map(|m| m.identities[0].id.as_str()).collect::<Vec<_>>(), ["b"]);
    });
}

#[test]
fn a_deleted_profile_passes_no_more_boundaries() {
    let recent = rule("recent", "xEvent[timestamp occurs < 1 days before now].count() > 0");
    let flow = dataflow("d", &["recent"], &[]);
    let place = Place::new(&[EVENT_CLOCK, &recent, SINK, &flow].concat());
    let event = |customer| Record::event(customer, "e").at("01T00:00:01");
    let ran = place.run_until(&[event("a"), event("b"), delete("a")], "05T00:00:00");
    let exits: Vec<String> =
        ran.lines().into_iter().filter(|line| line.contains("exited")).collect();
    assert_eq!(exits, ["crmid:b | recent=exited@02T00:00:01"]);
    let counts = ran.summary.audiences["recent"];
    assert_eq!((counts.realized, counts.exited), (0, 1));
}

#[test]
fn an_event_of_a_deleted_profile_may_come_again() {
    let place = Place::new(&[EVENT_CLOCK, &rule("twice", "xEvent.count() >= 2")].concat());
    let event = |id| Record::event("a", id).at("01T00:00:01");
    let ran = place.run(&[event("e1"), event("e2"), delete("a"), event("e1"), event("e1")]);
    assert_eq!((ran.summary.records.accepted, ran.summary.records.duplicate), (4, 1));
    assert_eq!(ran.summary.audiences["twice"].realized, 0, "it has one event");
}

#[test]
fn dead_letters_go_and_are_not_replayed() {
    let refusing = Receiver::scripted(|_, _| Answer::Status(404));
    let place = Place::with_receiver(&one_policy(""), refusing);
    let ran = place.run(&[write("a", 1), write("b", 2), link(3), write("c", 4), write("c", 5)]);
    assert_eq!(ran.summary.dataflows["d"].dead_letters, 5);
    let all = Selection::default();
    let marked = place.ask(|engine| {
        engine.replay_dead_letters(&all, u64::MAX, Payload::Original).unwrap().replayed
    });
    assert_eq!(marked, 5);
    place.receiver.answer(|_, _| Answer::Status(200));

    let engine = place.try_open(Mode::Derive).unwrap();
    feed(&engine, &ndjson([delete("b")]));
    let left = engine.dead_letters(None, 9).unwrap();
    assert_eq!(left.iter().map(|letter| letter.sequence).collect::<Vec<_>>(), [4, 5]);
    engine.close().unwrap();
    let ran = place.run(&[]);
    let mut replayed: Vec<u64> = ran.requests.iter().map(Request::sequence).collect();
    replayed.sort_unstable();
    assert_eq!(replayed, [4, 5]);
}

#[test]
fn a_running_engine_withdraws_dead_letters_and_what_waits_for_its_retry() {
    let failing = Receiver::scripted(|request, _| {
        Answer::Status(if request.has_identity("crmid", "dead") { 404 } else { 500 })
    });
    let patient = one_policy("").replace(r#"["20ms", "40ms"]"#, r#"["1h"]"#);
    let place = Place::with_receiver(&patient, failing);
    let engine = place.open();
    feed(&engine, &ndjson([write("dead", 1), write("dead", 2), write("a", 3), write("a", 4)]));
    place.receiver.wait_until("all but the last was tried", |requests| {
        requests.iter().filter(|request| request.answered.is_some()).count() == 3
    });
    feed(&engine, &ndjson([delete("dead"), delete("a")]));
    let ended = engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent).unwrap();
    assert_eq!((ended, waiting(&engine)), (vec![], 0));
    assert_eq!(engine.dead_letters(None, 9).unwrap().len(), 0);
    engine.close().unwrap();
    assert_eq!(place.ask(waiting), 0);
    assert_eq!(place.run(&[]).lines(), [""; 0], "nor after a restart");
}

/// A configuration, given further keys of its dataflows.
type Configuration = fn(&str) -> String;

/// What a delete leaves of exports whose profiles nobody knows any more, because the merge policy has
/// changed since: the configuration before and after, records before the change, records after it, and
/// what is left.
struct Former {
    name: &'static str,
    policies: [Configuration; 2],
    before: Vec<Record>,
    after: Vec<Record>,
    left: &'static [&'static str],
}

fn former() -> Vec<Former> {
    let pdg: Configuration = |keys| with_graph("pdg", keys);
    let none: Configuration = |keys| with_graph("none", keys);
    let linked = || vec![write("a", 1), write("b", 2), link(3), write("c", 4)];
    vec![
        Former {
            name: "of a profile that fell apart, what names the one",
            policies: [pdg, none],
            before: linked(),
            after: vec![delete("b")],
            left: &["d1 crmid:a", "d4 crmid:c"],
        },
        Former {
            name: "who comes after it is somebody new",
            policies: [pdg, none],
            before: linked(),
            after: vec![delete("b"), write("b", 6), delete("x")],
            left: &["d1 crmid:a", "d4 crmid:c", "d5 crmid:b"],
        },
        Former {
            name: "whom the policy of today links to it goes too",
            policies: [none, pdg],
            before: vec![write("a", 1), write("b", 2), link(3), write("c", 4)],
            after: vec![delete("b")],
            left: &["d3 crmid:c"],
        },
        Former {
            name: "of a policy that was removed",
            policies: [two_policies, solo_removed],
            before: vec![write("a", 1), write("b", 2)],
            after: vec![delete("a")],
            left: &["d2 crmid:b", "s2 crmid:b"],
        },
    ]
}

/// Number and identities of each, in order.
fn told<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Vec<String> {
    let line = |request: &Request| {
        let line = request.line();
        let identities = line.split(" | ").next().expect("a line begins with identities");
        format!("{}{} {identities}", request.dataflow(), request.sequence())
    };
    let mut lines: Vec<String> = requests.into_iter().map(line).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn what_waits_since_a_policy_was_another_one_goes_by_whom_it_names() {
    for Former { name, policies: [former, today], before, after, left } in former() {
        let place = Place::new(&former(PAUSED));
        place.run(&before);
        place.configure(&today(PAUSED));
        place.run(&[]);
        place.run(&after);
        assert_eq!(place.ask(waiting), left.len() as u64, "{name}");
        place.configure(&today(""));
        assert_eq!(told(&place.run(&[]).requests), left, "{name}");
    }
}

#[test]
fn dead_letters_since_a_policy_was_another_one_go_by_whom_they_name() {
    for Former { name, policies: [former, today], before, after, left } in former() {
        let refusing = Receiver::scripted(|_, _| Answer::Status(404));
        let place = Place::with_receiver(&former(""), refusing);
        place.run(&before);
        place.configure(&today(""));
        // Once in a running engine, and once in one that does not deliver.
        place.run(&after[..1]);
        place.ingest(&after[1..]);
        place.run(&[]);
        let all = Selection::default();
        let replayed = place.ask(|engine| {
            engine.replay_dead_letters(&all, u64::MAX, Payload::Original).unwrap().replayed
        });
        assert_eq!(replayed, left.len() as u64, "{name}");
        place.receiver.answer(|_, _| Answer::Status(200));
        assert_eq!(told(&place.run(&[]).requests), left, "{name}");
    }
}

#[test]
fn a_running_engine_withdraws_what_waits_since_a_policy_was_another_one() {
    let failing = Receiver::scripted(|_, _| Answer::Status(500));
    let patient = |graph| with_graph(graph, "").replace(r#"["20ms", "40ms"]"#, r#"["1h"]"#);
    let place = Place::with_receiver(&patient("pdg"), failing);
    let engine = place.open();
    feed(&engine, &ndjson([write("a", 1), write("b", 2), link(3), write("c", 4)]));
    place.receiver.wait_until("one of each profile was tried", |requests| {
        requests.iter().filter(|request| request.answered.is_some()).count() == 3
    });
    place.reload(&engine, &patient("none"));
    assert_eq!(waiting(&engine), 4);
    feed(&engine, &ndjson([delete("b")]));
    assert_eq!(waiting(&engine), 2, "those of a alone, and of c");
    feed(&engine, &ndjson([delete("a"), delete("c")]));
    let ended = engine.drain(forebay_tests::PATIENCE, &forebay_tests::place::Silent).unwrap();
    assert_eq!((ended, waiting(&engine)), (vec![], 0), "nothing waits in memory either");
    engine.close().unwrap();
    assert_eq!(place.ask(waiting), 0);
    assert_eq!(place.run(&[]).lines(), [""; 0], "nor after a restart");
}

#[test]
fn a_backfill_leaves_out_who_was_deleted_before_its_turn() {
    let rules = [EVENT_CLOCK, &rule("any", "n > 0"), SINK].concat();
    let place = Place::new(&rules);
    place.run(&[write("a", 1), write("b", 2), write("c", 3), link(4)]);
    place.configure(&one_policy(""));
    // Derives, and leaves the backfill to an engine that delivers.
    let engine = place.try_open(Mode::Derive).unwrap();
    feed(&engine, &ndjson([delete("b"), write("a", 5)]));
    engine.close().unwrap();
    let lines = place.run(&[]).lines();
    let expected = [
        r#"crmid:a | any=realized@01T00:00:05 | {"n":5}"#,
        r#"crmid:c | any=realized@01T00:00:03 | {"n":3}"#,
    ];
    assert_eq!(lines, expected, "the new one because it came in, and the other by the backfill");
}

#[test]
fn whatever_fails_while_a_delete_is_carried_out_the_next_start_completes_it() {
    for at in 0.. {
        let place = Place::new(&one_policy(PAUSED));
        place.run(&[write("a", 1), write("b", 2), write("a", 3)]);
        let failed = has_failed(&place, at);

        // What was not accepted is sent again, as its sender would.
        let engine = place.open();
        if engine.log_stats().unwrap().records == 3 {
            assert!(failed, "nothing failed, and the delete is lost");
            feed(&engine, &ndjson([delete("a")]));
        }
        assert_eq!(waiting(&engine), 1, "after a fault at operation {at}");
        engine.close().unwrap();
        place.configure(&one_policy(""));
        let ran = place.run(&[write("a", 4)]);
        let mut sent: Vec<String> =
            ran.requests.iter().map(|r| format!("{} {}", r.sequence(), r.line())).collect();
        // Profiles do not wait for each other: either may arrive first.
        sent.sort_unstable();
        let expected = [
            r#"2 crmid:b | any=realized@01T00:00:02 | {"n":2}"#,
            r#"4 crmid:a | any=realized@01T00:00:04 | {"n":4}"#,
        ];
        assert_eq!(sent, expected, "after a fault at operation {at}");
        if !failed {
            assert!(at > 5, "{at} operations are not the whole of it");
            return;
        }
    }
}

/// Deletes `a` with a store that fails at its write `at`; whether it came to that.
fn has_failed(place: &Place, at: usize) -> bool {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let faults = Arc::new(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) == at {
            Err(io::Error::other("on purpose"))
        } else {
            Ok(())
        }
    });
    let storage = StoreOptions { faults: Some(faults), ..StoreOptions::default() };
    if let Ok(engine) = place.try_open_with(Mode::Deliver, storage) {
        let line = ndjson([delete("a")]);
        let read =
            engine.read_stream("-", &mut line.as_bytes(), &forebay_tests::place::Silent).is_err();
        let ended = engine.close().is_err();
        assert_eq!(read || ended, count.load(Ordering::SeqCst) > at, "a fault is told");
    }
    count.load(Ordering::SeqCst) > at
}
