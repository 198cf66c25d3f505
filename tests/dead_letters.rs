//! Dead letters as their operator handles them: found, sent again, kept elsewhere, forgotten.
//!
//! Each is tried on a running engine and on a directory that nobody has open.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_engine::clock::SystemClock;
use forebay_engine::engine::{Engine, LastAttempt, Mode, Options, Payload, Selection};
use forebay_engine::error::EngineError;
use forebay_engine::views::ReplayView;
use forebay_storage::{StoreOptions, WriteOp};
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, rule, sink_with};
use forebay_tests::place::{Silent, feed};
use forebay_tests::program::{finish, running, signal, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Program, Receiver, Record, Request};

/// Audience `any`, dataflows `d` and `e` to `sink`, which gives up after the first attempt.
fn configuration() -> String {
    [
        EVENT_CLOCK,
        &rule("any", "n"),
        &SINK.replace("max_retries = 2", "max_retries = 0"),
        &dataflow("d", &["any"], &["n"]),
        &dataflow("e", &["any"], &["n"]),
    ]
    .concat()
}

fn write(customer: &str, n: usize) -> Record {
    Record::profile(customer).at(&format!("01T00:00:{n:02}")).with(&format!("\"n\":{n}"))
}

/// Refuses everything: `bad` with 422, `busy` with 503, everybody else without an answer.
fn refuse(request: &Request, _: usize) -> Answer {
    match () {
        () if request.has_identity("crmid", "bad") => Answer::With(422, "", "no such tenant"),
        () if request.has_identity("crmid", "busy") => Answer::Status(503),
        () => Answer::Drop,
    }
}

/// A place where exports of these records were given up on, and that takes everything from then on.
fn refused(configuration: &str, records: &[Record]) -> Place {
    let place = Place::with_receiver(configuration, Receiver::scripted(refuse));
    let ran = place.run(records);
    assert!(ran.summary.dataflows.values().all(|counts| counts.waiting == 0));
    place.receiver.answer(|_, _| Answer::Status(200));
    place
}

fn replay(engine: &Engine, selection: &Selection, payload: Payload) -> ReplayView {
    engine.replay_dead_letters(selection, u64::MAX, payload).expect("they are replayed")
}

fn count(engine: &Engine) -> usize {
    engine.dead_letters(None, usize::MAX).expect("the engine answers").len()
}

fn of(dataflow: &str) -> Selection {
    Selection { dataflow: Some(dataflow.to_owned()), ..Selection::default() }
}

fn keys(requests: &[Request]) -> Vec<(u64, String)> {
    let mut keys: Vec<_> =
        requests.iter().map(|request| (request.sequence(), request.line())).collect();
    keys.sort();
    keys
}

const LINE_1: &str = "crmid:bad | any=realized@01T00:00:01 | {\"n\":1}";
const LINE_2: &str = "crmid:bad | any=realized@01T00:00:01 | {\"n\":2}";

#[test]
fn a_replay_sends_what_was_to_be_sent_or_what_is_now() {
    // (what is sent, of a running engine, sequences and lines)
    let cases = [
        (Payload::Original, false, (1, LINE_1)),
        (Payload::Original, true, (1, LINE_1)),
        (Payload::Current, false, (3, LINE_2)),
        (Payload::Current, true, (3, LINE_2)),
    ];
    for (payload, is_running, (sequence, line)) in cases {
        let name = format!("{payload:?}, running: {is_running}");
        let place = refused(&configuration(), &[write("bad", 1)]);
        let before = place.ask(|engine| engine.dead_letters(Some("d"), 9).unwrap().remove(0));
        assert_eq!(before.causes, ["segment", "attribute"]);
        assert_eq!(keys(&place.run(&[write("bad", 2)]).requests)[0], (2, LINE_2.to_owned()));
        let all = ReplayView { replayed: 1, ..ReplayView::default() };
        let ran = if is_running {
            place.run_with(|engine| assert_eq!(replay(engine, &of("d"), payload), all, "{name}"))
        } else {
            place.ask(|engine| assert_eq!(replay(engine, &of("d"), payload), all, "{name}"));
            place.run(&[])
        };
        assert_eq!(keys(&ran.requests), [(sequence, line.to_owned())], "{name}");
        assert_eq!(ran.requests[0].id() == before.export, payload == Payload::Original, "{name}");
        place.ask(|engine| {
            assert_eq!(engine.dead_letter_counts().unwrap()["d"], 0, "{name}");
            assert_eq!(engine.dead_letter_counts().unwrap()["e"], 1, "{name}: not asked for");
        });
        assert_eq!(place.run(&[]).requests, [], "{name}: and only once");
    }
}

#[test]
fn replays_of_a_profile_go_out_in_order_and_before_what_is_new() {
    let keys = "max_in_flight = 8\n";
    let flow = dataflow("d", &["any"], &["n"]);
    let configuration = [EVENT_CLOCK, &rule("any", "n"), &sink_with(keys), &flow].concat();
    let mut records: Vec<Record> = (1..=5).map(|n| write("bad", n)).collect();
    records.extend((1..=5).map(|n| write(&format!("c{n}"), n)));
    let place = refused(&configuration, &records);
    let letters = place.ask(|engine| {
        replay(engine, &Selection::default(), Payload::Original);
        engine.dead_letters(None, 99).unwrap()
    });
    assert!(letters.iter().all(|letter| letter.replay) && letters.len() == 10);
    let ran = place.run(&[write("bad", 6)]);
    let of_bad = ran.requests.iter().filter(|request| request.has_identity("crmid", "bad"));
    let sequences: Vec<u64> = of_bad.map(Request::sequence).collect();
    let mut expected: Vec<u64> = letters
        .iter()
        .filter(|letter| letter.payload.get().contains("bad"))
        .map(|letter| letter.sequence)
        .collect();
    expected.push(11);
    assert_eq!(sequences, expected);
    assert_eq!(ran.requests.len(), 11);
}

#[test]
fn what_cannot_be_replayed_is_counted_and_stays() {
    let place = refused(&configuration(), &[write("bad", 1)]);
    // `d` maps nothing any more, and `e` is gone.
    let without = [EVENT_CLOCK, &rule("any", "n"), SINK, &dataflow("d", &[], &["n"])].concat();
    place.configure(&without);
    place.run(&[]);
    place.ask(|engine| {
        let kept = ReplayView { replayed: 0, no_dataflow: 1, no_profile: 1 };
        assert_eq!(replay(engine, &Selection::default(), Payload::Current), kept);
        let kept = ReplayView { replayed: 0, no_dataflow: 1, no_profile: 0 };
        assert_eq!(replay(engine, &of("e"), Payload::Original), kept);
        assert!(engine.dead_letters(None, 9).unwrap().iter().all(|letter| !letter.replay));
        assert_eq!(count(engine), 2);
    });
}

#[test]
fn an_absorbed_profile_is_replayed_as_the_one_it_became() {
    let place = refused(&configuration(), &[write("busy", 1), write("bad", 2)]);
    place.run(&[write("busy", 3).also("CRMID", "bad")]);
    place.ask(|engine| {
        assert_eq!(replay(engine, &of("d"), Payload::Current).replayed, 2);
    });
    let ran = place.run(&[]);
    let line = "crmid:busy crmid:bad | any=realized@01T00:00:02 | {\"n\":3}";
    assert_eq!(keys(&ran.requests), [(4, line.to_owned()), (5, line.to_owned())]);
}

/// Does something with the dead letters of a store whose writes of one kind fail.
fn on_broken_store(
    place: &Place,
    at: WriteOp,
    work: impl FnOnce(&Engine) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let faults = move |op| {
        let fails = broken.load(Ordering::SeqCst) && op == at;
        if fails { Err(std::io::Error::other("on purpose")) } else { Ok(()) }
    };
    let options = Options {
        data: place.data(),
        config: None,
        mode: Mode::Inspect,
        clock: Arc::new(SystemClock::new()),
    };
    let storage = StoreOptions { faults: Some(Arc::new(faults)), ..StoreOptions::default() };
    let engine = Engine::open_with(options, storage, &Silent).expect("the directory opens");
    is_broken.store(true, Ordering::SeqCst);
    let worked = work(&engine);
    // A store that has failed cannot end well, and says so.
    engine.close().ok();
    worked
}

#[test]
fn a_write_that_fails_between_loses_nothing() {
    // (where it fails, new exports delivered by the next run)
    for (at, expected) in [
        (WriteOp::Progress, 0),
        (WriteOp::SyncState, 0),
        (WriteOp::StoreExports, 0),
        (WriteOp::DeadLetter, 1),
    ] {
        let place = refused(&configuration(), &[write("bad", 1)]);
        on_broken_store(&place, at, |engine| {
            engine.replay_dead_letters(&of("d"), 9, Payload::Current).map(drop)
        })
        .unwrap_err();

        let ran = place.run(&[]);
        let kept = place.ask(|engine| engine.dead_letter_counts().unwrap()["d"]);
        assert_eq!(ran.requests.len(), expected, "{at:?}");
        assert!(kept + ran.requests.len() as u64 >= 1, "{at:?}: it is lost");
    }
}

#[test]
fn a_purge_writes_that_the_export_is_done_before_its_letter_goes() {
    // Without that, a crash between the letter's death and the next progress would send it again.
    let place = refused(&configuration(), &[write("bad", 1)]);
    let purge = |engine: &Engine| engine.purge_dead_letters(&of("d"), 9).map(drop);
    on_broken_store(&place, WriteOp::Progress, purge).unwrap_err();
    assert_eq!(place.ask(|engine| engine.dead_letter_counts().unwrap()["d"]), 1);
    place.ask(|engine| assert_eq!(engine.purge_dead_letters(&of("d"), 9).unwrap(), 1));
    assert_eq!(place.run(&[]).requests, []);
}

#[test]
fn letters_are_chosen_by_what_is_given() {
    let place = refused(&configuration(), &[write("bad", 1), write("busy", 2), write("mute", 3)]);
    place.ask(|engine| {
        let letters = engine.dead_letters(None, 99).unwrap();
        let died: Vec<i64> =
            letters.iter().map(|l| forebay_tests::clock::millis(&l.died)).collect();
        let (first, last) = (*died.iter().min().unwrap(), *died.iter().max().unwrap());
        let ended = |last_attempt| Selection { last_attempt: Some(last_attempt), ..of("d") };
        let since = |since_ms| Selection { since_ms: Some(since_ms), ..Selection::default() };
        let one = Selection { export: Some(letters[4].export.clone()), ..Selection::default() };
        // (what it shows, selection, how many)
        let cases = [
            ("all", Selection::default(), 6),
            ("a dataflow", of("e"), 3),
            ("a status", ended(LastAttempt::Status(422)), 1),
            ("no answer", ended(LastAttempt::Error), 1),
            ("another status", ended(LastAttempt::Status(400)), 0),
            ("since the first", since(first), 6),
            ("after the last", since(last + 1), 0),
            ("an export", one, 1),
        ];
        for (name, selection, expected) in cases {
            let page = engine.dead_letter_page(&selection, None, 99).unwrap();
            assert_eq!(page.letters.len(), expected, "{name}");
        }
        let mut seen = Vec::new();
        let mut after = None;
        while let Some(page) =
            Some(engine.dead_letter_page(&Selection::default(), after, 1).unwrap())
        {
            seen.extend(page.letters.into_iter().map(|letter| letter.export));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let all: Vec<String> = letters.into_iter().map(|letter| letter.export).collect();
        assert_eq!(seen, all, "page by page");
        assert_eq!(engine.purge_dead_letters(&of("d"), 2).unwrap(), 2, "at most so many");
        assert_eq!(count(engine), 4);
    });
}

#[test]
fn what_is_purged_while_it_is_replayed_stays_away() {
    let place = refused(&configuration(), &[write("bad", 1)]);
    place.receiver.answer(|_, _| Answer::AtGate);
    let ran = place.run_with(|engine| {
        let before = place.receiver.requests().len();
        replay(engine, &Selection::default(), Payload::Original);
        place.receiver.wait_until("both are in flight", |all| all.len() == before + 2);
        assert_eq!(engine.purge_dead_letters(&Selection::default(), 9).unwrap(), 2);
        place.receiver.answer(|_, _| Answer::Status(500));
        place.receiver.open_gate();
    });
    assert_eq!(ran.summary.dataflows["d"].waiting, 0);
    assert_eq!(place.ask(count), 0, "durably");
    assert_eq!(place.run(&[]).requests, []);
}

fn program(place: &Place) -> Program {
    Program::at(place.path())
}

#[test]
fn a_replay_survives_the_death_of_the_engine() {
    let place = refused(&configuration(), &[write("bad", 1)]);
    place.receiver.answer(|_, _| Answer::AtGate);
    let before = place.receiver.requests().len();
    let engine = running(&place);
    // `d` as it was, `e` as it is: both are in flight when the engine dies.
    for arguments in ["--dataflow d", "--dataflow e --payload current"] {
        let run = program(&place).run(&format!("dead-letters replay {arguments}"));
        assert_eq!(run.status, Some(0), "{run:?}");
    }
    place.receiver.wait_until("both are in flight", |all| all.len() == before + 2);
    signal(&engine, "KILL");
    finish(engine);

    place.receiver.answer(|_, _| Answer::Status(200));
    let ran = place.run(&[]);
    let mut sent: Vec<_> =
        ran.requests.iter().map(|r| (r.dataflow().to_owned(), r.sequence())).collect();
    sent.sort();
    assert_eq!(sent, [("d".to_owned(), 1), ("e".to_owned(), 2)]);
    assert_eq!(place.ask(count), 0);
    place.receiver.open_gate();
}

#[test]
fn commands_work_with_and_without_a_running_engine() {
    for is_running in [false, true] {
        let place = refused(&configuration(), &[write("bad", 1), write("busy", 2)]);
        let engine = is_running.then(|| running(&place));
        let program = program(&place);
        let run = |arguments: &str| program.run(arguments).expect_status(0);

        let text = run("dead-letters list --dataflow d --limit 1");
        for part in ["dataflow d, sequence 1", "status 422", "answer: no such tenant"] {
            assert!(text.stdout.contains(part), "no {part}: {}", text.stdout);
        }
        text.tells(&["the first 1", "--limit"]);
        let listed = run("dead-letters list --status 503 --since 1h --output json").json_lines();
        assert_eq!(listed.len(), 2);
        let export = listed[0]["export"].as_str().unwrap().to_owned();

        let lines = run("dead-letters export").json_lines();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[0]["causes"], serde_json::json!(["segment", "attribute"]));
        assert_eq!(lines[0]["payload"]["n"], 1);
        assert_eq!(lines[0]["attempts"][0]["status"], 422);
        assert_eq!(lines[0]["attempts"][0]["answer"], "no such tenant");
        let exported = run("dead-letters export --dataflow e --to kept.ndjson --output json");
        assert_eq!(exported.json()["exported"], 2);
        let kept = std::fs::read_to_string(place.path().join("kept.ndjson")).unwrap();
        assert_eq!(kept.lines().count(), 2);

        let one = run(&format!("dead-letters replay {export} --output json")).json();
        assert_eq!(one["replayed"], 1);
        let current = run("dead-letters replay --payload current --status 422");
        let by = if is_running { "running engine" } else { "next `forebay run`" };
        assert!(current.stdout.contains("2 to replay") && current.stdout.contains(by));
        let purged = run("dead-letters purge --dataflow e --output json").json();
        assert_eq!(purged["purged"], 1, "running: {is_running}");
        if let Some(engine) = engine {
            let left = || run("dead-letters list --output json").json_lines().len();
            Deadline::new().until("the replays are delivered", || left() == 0);
            stopped(engine);
        } else {
            run("run --drain");
        }
        assert_eq!(place.ask(count), 0, "running: {is_running}");
        let status = run("status");
        assert!(status.stdout.contains("0 waiting; 0 dead letters"), "{}", status.stdout);
    }
}

#[test]
fn wrong_use_is_told_and_changes_nothing() {
    let place = refused(&configuration(), &[write("bad", 1)]);
    let other = refused(&configuration(), &[write("bad", 1)]);
    let foreign = other.ask(|engine| engine.dead_letters(None, 1).unwrap().remove(0).export);
    let gone = place.ask(|engine| engine.dead_letters(Some("e"), 1).unwrap().remove(0).export);
    place.ask(|engine| engine.purge_dead_letters(&of("e"), 1).unwrap());
    place.write("there.ndjson", "");
    // (what is wrong, arguments, what is told)
    let cases: [(&str, &str, &[&str]); 13] = [
        ("a purge of nothing in particular", "purge", &["--dataflow", "--all"]),
        ("a limit is no choice", "purge --limit 5", &["--dataflow", "--all"]),
        ("both", "purge --all --dataflow d", &["--all", "--dataflow"]),
        ("an unknown dataflow", "list --dataflow dd", &["`dd`", "did you mean `d`"]),
        ("a dataflow unlike any", "replay --dataflow zz", &["`zz`", "dataflow list"]),
        ("no export id", "replay nonsense", &["nonsense", "dead-letters list"]),
        ("of another directory", &format!("replay {foreign}"), &["another data directory"]),
        ("gone", &format!("export {gone}"), &["sequence 1 of dataflow e", "purged"]),
        ("an id and a filter", &format!("purge {gone} --status 422"), &["--status"]),
        ("no time", "list --since yesterday", &["yesterday", "RFC 3339", "2h"]),
        ("no status", "list --status ok", &["`ok`", "error"]),
        ("a payload that is none", "replay --payload old", &["original", "current"]),
        ("a file that is there", "export --to there.ndjson", &["there.ndjson", "another file"]),
    ];
    for (name, arguments, told) in cases {
        let run = program(&place).run(&format!("dead-letters {arguments}"));
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{name}: {run:?}");
        run.tells(told);
    }
    assert_eq!(place.ask(count), 1);
    assert_eq!(place.run(&[]).requests, []);
}

#[test]
fn an_engine_of_another_version_is_told_from_a_broken_one() {
    let place = refused(&configuration(), &[write("bad", 1)]);
    let engine = running(&place);
    let mut newer = UnixStream::connect(place.data().join("engine.sock")).unwrap();
    newer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    newer.write_all(b"{\"version\":999,\"question\":{\"foretell\":{\"days\":3}}}\n").unwrap();
    let mut reply = String::new();
    BufReader::new(&newer).read_line(&mut reply).unwrap();
    assert!(reply.starts_with("{\"failed\":") && reply.contains("another protocol"), "{reply}");
    stopped(engine);

    let older = UnixListener::bind(place.data().join("engine.sock")).unwrap();
    let answering = std::thread::Builder::new().name("older".to_owned());
    let answering = answering
        .spawn(move || {
            let (mut stream, _) = older.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
            stream.write_all(b"{\"failed\":\"another version of forebay\"}\n").unwrap();
        })
        .unwrap();
    let run = program(&place).run("dead-letters purge --all");
    answering.join().unwrap();
    assert_eq!(run.status, Some(1), "{run:?}");
    run.tells(&["another version"]);
    std::fs::remove_file(place.data().join("engine.sock")).unwrap();
    assert_eq!(place.ask(count), 2, "and nothing was purged");
}

#[test]
fn a_dataflow_shows_what_waits_how_long_and_how_requests_end() {
    let flow = dataflow("d", &["any"], &["n"]);
    let retries = &SINK
        .replace("max_retries = 2, backoff = [\"20ms\"", "max_retries = 2, backoff = [\"60s\"");
    let configuration = [EVENT_CLOCK, &rule("any", "n"), retries, &flow].concat();
    let script = |request: &Request, _: usize| match () {
        () if request.has_identity("crmid", "bad") => Answer::Status(422),
        () if request.has_identity("crmid", "busy") => Answer::Status(503),
        () if request.has_identity("crmid", "mute") => Answer::Drop,
        () => Answer::Status(200),
    };
    let place = Place::with_receiver(&configuration, Receiver::scripted(script));
    let engine = place.open();
    let records: Vec<Record> = ["bad", "busy", "mute", "good"].map(|id| write(id, 1)).to_vec();
    feed(&engine, &ndjson(&records));
    let view = || engine.dataflows().unwrap().remove(0);
    Deadline::new().until("all were tried", || {
        let seen = view();
        (seen.attempts.connection, seen.parked, seen.delivered, seen.dead_letters) == (1, 2, 1, 1)
    });
    let seen = view();
    let ended = seen.attempts;
    assert_eq!((ended.success, ended.client_error, ended.server_error), (1, 1, 1));
    assert_eq!((seen.exports, seen.delivered, seen.dead_letters, seen.waiting), (4, 1, 1, 2));
    assert_eq!((seen.request_ms.count, seen.delivery_ms.count), (4, 1));
    assert!(seen.backlog_age_ms.is_some() && seen.last_error_at.is_some(), "{seen:?}");
    let status = engine.status().unwrap();
    assert_eq!((status.waiting, status.dead_letters), (2, 1));
    engine.close().unwrap();
    place.ask(|engine| {
        let stopped = engine.dataflows().unwrap().remove(0);
        assert_eq!((stopped.state.as_str(), stopped.waiting), ("stopped", 2));
        assert_eq!(stopped.oldest_waiting, seen.oldest_waiting, "the same one is the oldest");
    });
}
