//! The command line: exit statuses, and messages that name the place and what to do (`SPEC.md` §10).

use std::io::Write as _;
use std::process::Stdio;

use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow, one_audience, rule};
use forebay_tests::program::{finish, signal};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, Place, Program, Receiver, Record, Run};

fn records() -> String {
    ndjson(
        (0..3).map(|n| {
            Record::profile(&format!("c{n}")).at("01T00:00:00").with(&format!("\"n\":{n}"))
        }),
    )
}

fn program(place: &Place) -> Program {
    Program::at(place.path())
}

#[test]
fn a_run_prints_its_summary_as_the_last_line() {
    let place = Place::new(&one_audience("n >= 1"));
    place.write("in.ndjson", records() + "nonsense\n");
    let run = program(&place).run("run --input in.ndjson --drain --output json").expect_status(0);
    let mut summary = run.json();
    let elapsed = summary.as_object_mut().unwrap().remove("elapsed_ms");
    assert!(elapsed.unwrap().is_u64());
    let next_offset = summary.as_object_mut().unwrap().remove("next_offset");
    assert!(next_offset.unwrap().as_u64() >= Some(3));
    let expected = serde_json::json!({
        "records": {"accepted": 3, "rejected": 1, "duplicate": 0},
        "profiles": 3,
        "audiences": {"any": {"realized": 2, "exited": 0}},
        "dataflows": {
            "d": {"exports": 2, "delivered": 2, "dead_letters": 0, "retries": 0, "waiting": 0}
        },
        "clock": "2026-01-01T00:00:00.000Z",
    });
    assert_eq!(summary, expected);
    run.tells(&["1 rejected line", "rejects.ndjson"]);
    let strict = program(&place).run_with("run --input - --strict --drain", b"nonsense\n");
    assert_eq!(strict.status, Some(1), "--strict: {strict:?}");
}

#[test]
fn every_command_prints_json_that_programs_can_read() {
    let place = Place::new(&one_audience("n >= 1"));
    let program = program(&place);
    let ingested = program.run_with("ingest - --output json", records().as_bytes());
    let counts = ingested.expect_status(0).json();
    assert_eq!((&counts["accepted"], &counts["duplicate"]), (&3.into(), &0.into()));
    assert!(counts["first_offset"].is_u64(), "{counts}");
    assert_eq!(place.receiver.requests(), [], "ingest sends nothing");

    let ask = |arguments: &str| {
        program.run(&format!("{arguments} --output json")).expect_status(0).json_lines()
    };
    let profile = &ask("profile CRMID c1")[0];
    assert_eq!(profile["attributes"], serde_json::json!({"n": 1}));
    assert_eq!(profile["memberships"]["any"]["status"], "realized");
    assert_eq!(ask("audience list")[0]["realized"], 2);
    assert_eq!(ask("audience members any").len(), 2);
    assert_eq!(ask("dataflow status")[0]["waiting"], 2);
    let stats = &ask("log stats")[0];
    assert_eq!(stats["records"], 3);
    assert!(stats["bytes"].as_u64() > Some(0) && stats["next_offset"].as_u64() >= Some(3));
    assert_eq!(ask("status")[0]["running"], false);
    assert_eq!(ask("dead-letters list"), [serde_json::Value::Null; 0]);
    let missing = program.run("profile CRMID nobody");
    missing.tells(&["nobody"]);
    assert_eq!(missing.status, Some(1));
}

#[test]
fn wrong_use_is_told_before_anything_starts() {
    let place = Place::new(&one_audience("n"));
    place.write("in.ndjson", records());
    // (what is wrong, arguments, what is told)
    let cases: [(&str, &str, &[&str]); 9] = [
        ("an unknown command", "rum", &["rum", "run"]),
        ("an unknown option", "run --inptu x", &["--inptu", "--input"]),
        ("an option without its value", "run --input", &["--input"]),
        ("no configuration", "run --config missing.toml --drain", &["missing.toml", "init"]),
        ("no input", "run --input missing.ndjson --drain", &["missing.ndjson"]),
        ("a second input that is not there", "run --input in.ndjson --input no --drain", &["no"]),
        ("a directory as input", "run --input . --drain", &["directory"]),
        ("a time that is none", "run --advance-to tomorrow", &["tomorrow", "RFC 3339"]),
        ("no data directory", "status --data missing", &["missing", "--data"]),
    ];
    for (name, arguments, told) in cases {
        let run = program(&place).run(arguments);
        assert_eq!(run.status, Some(2), "{name}: {run:?}");
        assert_eq!(run.stdout, "", "{name}");
        run.tells(told);
    }
    assert!(!place.data().exists(), "nothing was begun");
}

#[test]
fn ten_faults_of_a_configuration_are_told_in_one_run() {
    let configuration = r#"clock = "sundial"
time_zone = "Mars/Olympus"
retries = 3

[[audience]]
id = "broken"
pql = 'person.name = = 3'

[[audience]]
id = "bad id"
pql = 'n'

[[audience]]
id = "circle"
pql = 'inSegment("circle")'

[[destination]]
id = "sink"
endpoint = "not a url"
timeout = "soon"

[[dataflow]]
id = "d"
destination = "nowhere"
audiences = ["ghost"]
attributes = ["n"]
triggers = ["whim"]
"#;
    // (line, what is told)
    let faults = [
        (1, "sundial"),
        (2, "Mars/Olympus"),
        (3, "retries"),
        (7, "person.name = = 3"),
        (10, "bad id"),
        (15, "circle"),
        (19, "not a url"),
        (20, "soon"),
        (24, "nowhere"),
        (25, "ghost"),
        (27, "whim"),
    ];
    let place = Place::new(EVENT_CLOCK);
    place.configure(configuration);
    for command in ["check", "run --drain"] {
        let run = program(&place).run(command);
        assert_eq!(run.status, Some(2), "{command}");
        for (line, what) in faults {
            let place = format!("forebay.toml:{line}:");
            run.tells(&[&place, what]);
        }
        assert!(run.stderr.matches('^').count() >= faults.len(), "{}", run.stderr);
    }
    assert!(!place.data().exists());
}

#[test]
fn check_prints_what_each_audience_reads() {
    let pql = "xEvent[eventType = \"p\" and timestamp occurs < 7 days before now].count() > 2";
    let place = Place::new(&[EVENT_CLOCK, &rule("often", pql)].concat());
    let run = program(&place).run("check").expect_status(0);
    assert!(run.stdout.contains("often") && run.stdout.contains("7 days"), "{}", run.stdout);
}

#[test]
fn a_destination_that_cannot_be_reached_does_not_keep_a_drain_from_ending() {
    // (what it shows, the endpoint, whether it is an error of the configuration)
    let cases = [
        ("nobody listens", "http://127.0.0.1:1/in", false),
        ("the name does not resolve", "https://receiver.invalid/in", false),
        ("the scheme is none", "ftp://127.0.0.1/in", true),
        ("no host", "http:///in", true),
    ];
    for (name, endpoint, is_configuration) in cases {
        let sink = format!(
            "[[destination]]\nid = \"sink\"\nname = \"Sink\"\nendpoint = \"{endpoint}\"\n\
             retry = {{ max_retries = 1, backoff = [\"10ms\"] }}\ntimeout = \"500ms\"\n\
             breaker_failures = 2\nprobe_interval = \"50ms\"\n"
        );
        let flow = dataflow("d", &["any"], &["n"]);
        let place = Place::new(&[EVENT_CLOCK, &rule("any", "n"), &sink, &flow].concat());
        place.write("in.ndjson", records());
        let run = program(&place)
            .run("run --input in.ndjson --drain --drain-timeout 300ms --output json");
        if is_configuration {
            assert_eq!(run.status, Some(2), "{name}: {run:?}");
            run.tells(&["forebay.toml:", endpoint]);
            continue;
        }
        let counts = run.json()["dataflows"]["d"].clone();
        let kept = counts["waiting"].as_u64().unwrap();
        assert_eq!(kept + counts["dead_letters"].as_u64().unwrap(), 3, "{name}: {counts}");
        assert_eq!(run.status, Some(i32::from(kept > 0)), "{name}: {run:?}");
        if kept > 0 {
            run.tells(&["sink", "waiting", "last error"]);
        }
    }
}

#[test]
fn a_receiver_that_answers_garbage_is_told() {
    let keys = "breaker_failures = 2\nprobe_interval = \"50ms\"\n";
    let configuration =
        [EVENT_CLOCK, &rule("any", "n"), SINK, keys, &dataflow("d", &["any"], &["n"])].concat();
    let garbage = Receiver::scripted(|_, _| Answer::Raw(b"\x00\xffhello\r\n\r\n"));
    let place = Place::with_receiver(&configuration, garbage);
    place.write("in.ndjson", records());
    let run = program(&place).run("run --input in.ndjson --drain --drain-timeout 300ms");
    assert_eq!(run.status, Some(1), "{run:?}");
    run.tells(&["sink", "last error"]);
    place.receiver.answer(|_, _| Answer::Status(200));
    let later = program(&place).run("run --input in.ndjson --drain --output json");
    assert_eq!(later.expect_status(0).json()["dataflows"]["d"]["waiting"], 0);
}

#[test]
fn huge_lines_and_bytes_that_are_no_text_are_refused_and_named() {
    let place = Place::new(&one_audience("n"));
    let mut input = vec![b'x'; 3 * 1024 * 1024];
    input.extend_from_slice(b"\n\xff\xfe\n");
    input.extend_from_slice(records().as_bytes());
    place.write("in.ndjson", &input);
    let run = program(&place).run("run --input in.ndjson --drain --output json").expect_status(0);
    assert_eq!(run.json()["records"], serde_json::json!({"accepted":3,"rejected":2,"duplicate":0}));
    run.tells(&["2 rejected lines", "rejects.ndjson"]);
}

#[test]
fn a_running_engine_answers_takes_records_and_stops_at_a_signal() {
    let place = Place::new(&one_audience("n >= 1"));
    let program = program(&place);
    let mut command = program.command("run --output json");
    let running = program.start(command.stdout(Stdio::piped()));
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());

    let ingested = program.run_with("ingest - --output json", records().as_bytes());
    assert_eq!(ingested.expect_status(0).json()["accepted"], 3);
    place.receiver.wait_until("it delivers", |requests| requests.len() == 2);
    let status = program.run("status --output json").expect_status(0).json();
    assert_eq!((&status["running"], &status["records"]["accepted"]), (&true.into(), &3.into()));
    let profile = program.run("profile crmid c2 --output json").expect_status(0).json();
    assert_eq!(profile["attributes"]["n"], 2);
    let members = program.run("audience members any --output json").expect_status(0);
    assert_eq!(members.json_lines().len(), 2);

    let second = program.run("run --drain");
    assert_eq!(second.status, Some(1), "{second:?}");
    second.tells(&["in use", "data", "--data"]);

    check_privacy(&place);
    signal(&running, "TERM");
    let run: Run = finish(running);
    assert_eq!(run.status, Some(0), "{run:?}");
    assert_eq!(run.json()["dataflows"]["d"]["delivered"], 2);
    assert!(!socket.exists(), "the socket goes with the engine");
}

fn check_privacy(place: &Place) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(place.data()), 0o700);
    assert_eq!(mode(place.data().join("engine.sock")), 0o600);
}

#[test]
fn a_signal_ends_the_reading_of_stdin() {
    let place = Place::new(&one_audience("n >= 1"));
    let program = program(&place);
    let mut command = program.command("run --input - --drain --output json");
    let mut running = program.start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(records().as_bytes()).unwrap();
    stdin.flush().unwrap();
    place.receiver.wait_until("what was typed is delivered", |requests| requests.len() == 2);
    signal(&running, "INT");
    let run = finish(running);
    drop(stdin);
    assert_eq!(run.status, Some(1), "a drain was asked for, and not done: {run:?}");
    assert_eq!(run.json()["records"]["accepted"], 3);
}
