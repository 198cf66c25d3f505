//! `forebay log cat` and `log stats`: what the log holds and takes, of a directory that nobody holds
//! and of a running engine (`SPEC.md` §10).

use forebay_engine::engine::Mode;
use forebay_tests::configuration::one_audience;
use forebay_tests::place::feed;
use forebay_tests::program::{running, stopped};
use forebay_tests::record::ndjson;
use forebay_tests::{Place, Program, Record};
use serde_json::{Value, json};

/// A directory with a definition entry, four records, and an advance of the clock.
fn place() -> Place {
    let place = Place::new(&one_audience("n > 100"));
    let records = [
        Record::profile("c1").at("01T00:00:00").with("\"n\":1"),
        Record::event("c2", "e1").at("01T00:00:01"),
        Record::profile("c1").at("01T00:00:02").with("\"n\":2"),
        Record::profile("c3").at("01T00:00:03").with("\"n\":3"),
    ];
    place.run_until(&records, "02T00:00:00");
    place
}

fn cat(program: &Program, options: &str) -> Vec<Value> {
    let run = program.run(&format!("log cat {options} --output json")).expect_status(0);
    let lines = run.stdout.lines();
    lines.map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn kinds(entries: &[Value]) -> Vec<(u64, &str)> {
    let offset = |entry: &Value| entry["offset"].as_u64().expect("an offset is a number");
    entries.iter().map(|entry| (offset(entry), entry["kind"].as_str().unwrap_or("none"))).collect()
}

#[test]
fn entries_are_told_in_order_by_place_kind_and_identity() {
    let place = place();
    let program = Program::at(place.path());
    let all = cat(&program, "");
    let expected = [
        (0, "control"),
        (1, "profile"),
        (2, "event"),
        (3, "profile"),
        (4, "profile"),
        (5, "control"),
    ];
    assert_eq!(kinds(&all), expected);
    assert_eq!(all[0]["summary"], "definitions: merge policy default, audience any, dataflow d");
    assert!(all[0]["control"]["definitions"].is_object(), "{}", all[0]);
    assert_eq!(all[2]["record"]["event"]["_id"], "e1");
    assert_eq!(all[5]["summary"], "the event clock is moved to 2026-01-02T00:00:00.000Z");
    // (options, offsets)
    let cases: [(&str, &[u64]); 9] = [
        ("--from 2 --to 3", &[2, 3]),
        ("--from 5 --to 99", &[5]),
        ("--from 99", &[]),
        ("--kind event", &[2]),
        ("--kind profile --limit 2", &[1, 3]),
        ("--kind event,control", &[0, 2, 5]),
        ("--identity crmid c1", &[1, 3]),
        ("--until 1h", &[]),
        ("--since 1h --kind event", &[2]),
    ];
    for (options, offsets) in cases {
        let told = cat(&program, options);
        let told: Vec<_> = kinds(&told).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(told, offsets, "{options}");
    }
    let text = program.run("log cat --from 1 --limit 1").expect_status(0).stdout;
    assert!(
        text.starts_with("         1  20") && text.contains("  profile     {\"profile\":"),
        "{text}"
    );
}

#[test]
fn namespaces_compare_as_those_of_records_do() {
    let place = Place::new(&one_audience("n > 100"));
    let records = [
        Record::profile("c1").at("01T00:00:00").also("GRÖSSE", "x"),
        Record::profile("c2").at("01T00:00:01").also("größe", "x"),
        Record::profile("c3").at("01T00:00:02").also("Grösse", "X"),
        Record::profile("c4").at("01T00:00:03").also("grösse", "x"),
    ];
    place.ingest(&records);
    let program = Program::at(place.path());
    // (namespace, offsets)
    let cases: [(&str, &[u64]); 4] =
        [("grösse", &[1, 4]), ("GrÖsse", &[1, 4]), ("GRÖßE", &[2]), ("grosse", &[])];
    for (namespace, offsets) in cases {
        let told = cat(&program, &format!("--identity {namespace} x"));
        let told: Vec<_> = kinds(&told).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(told, offsets, "{namespace}");
        let known = program.run(&format!("profile {namespace} x --output json"));
        assert_eq!(known.status == Some(0), !offsets.is_empty(), "{namespace}: {known:?}");
    }
}

#[test]
fn a_running_engine_tells_the_same() {
    let place = place();
    let program = Program::at(place.path());
    let before = cat(&program, "");
    let child = running(&place);
    assert_eq!(cat(&program, ""), before);
    assert_eq!(cat(&program, "--kind event --limit 1").len(), 1);
    stopped(child);
}

#[test]
fn who_was_deleted_is_a_stub_before_the_bytes_are_gone_and_after() {
    let place = place();
    let program = Program::at(place.path());
    let engine = place.try_open(Mode::Derive).unwrap();
    feed(&engine, &ndjson(&[Record::delete("c1")]));
    engine.close().unwrap();
    let stubs = [(1, "stub"), (3, "stub"), (6, "stub")];
    let told = cat(&program, "--kind stub");
    assert_eq!(kinds(&told), stubs, "at once");
    assert_eq!(told[0]["timestamp"], "2026-01-01T00:00:00.000Z");
    assert_eq!(cat(&program, "--identity crmid c1"), [] as [Value; 0]);

    let compacted = program.run("log compact").expect_status(0);
    assert!(compacted.stdout.contains("erased    3 records"), "{compacted:?}");
    assert_eq!(cat(&program, "--kind stub"), told, "and when the bytes are gone");
    let stats = program.run("log stats --output json").expect_status(0).json();
    assert_eq!((&stats["stubs"], &stats["records"]), (&json!(3), &json!(2)));
}

#[test]
fn the_stats_tell_what_takes_how_much() {
    let place = Place::new(&one_audience("n"));
    let records: Vec<_> = (0..50)
        .map(|n| Record::profile(&format!("c{n}")).at("01T00:00:00").with("\"n\":1"))
        .collect();
    place.run(&records);
    let program = Program::at(place.path());
    let stats = program.run("log stats --output json").expect_status(0).json();
    assert_eq!((&stats["records"], &stats["next_offset"]), (&json!(50), &json!(51)));
    assert_eq!((&stats["control_entries"], &stats["stubs"]), (&json!(1), &json!(0)));
    assert_eq!(stats["journal_exports"], 50);
    let number = |key: &str| stats[key].as_u64().unwrap_or_else(|| panic!("no {key}: {stats}"));
    assert!(number("journal_live_bytes") < 50 * 48, "{stats}");
    assert!(
        number("live_bytes") > 0 && number("live_bytes") < number("directory_bytes"),
        "{stats}"
    );
    assert!(number("state_bytes") + number("bytes") <= number("directory_bytes"), "{stats}");
    assert!(stats["first_appended_ms"].as_i64() <= stats["last_appended_ms"].as_i64());
    let screen = program.run("status --output json").expect_status(0).json();
    assert!(screen["disk"]["free_bytes"].as_u64() > Some(0), "{screen}");
    assert!(screen["log"].get("stubs").is_none(), "one screen has no room for it");
}
