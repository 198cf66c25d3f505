//! Another configuration, taken by a running engine (`SPEC.md` §5, §9).
//!
//! What must come out is what a restart would make of the same log: the engine that took the
//! configuration is compared with one that is opened on its directory afterwards.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forebay_engine::clock::Timestamp;
use forebay_engine::engine::{Engine, Notice};
use forebay_tests::clock::{Deadline, millis};
use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, policy, rule, sink_with, upload,
};
use forebay_tests::place::{Silent, feed, profile_line, reloaded};
use forebay_tests::program::{finish, signal};
use forebay_tests::record::ndjson;
use forebay_tests::{Answer, PATIENCE, Place, Program, Receiver, Record, Request};

/// Customers of the records that come meanwhile.
const CUSTOMERS: u64 = 40;

/// The records number `n` to `n + 50`: attributes of two datasets, events, links now and then.
fn records(from: u64) -> String {
    let record = |n: u64| {
        let customer = format!("c{}", n * 7 % CUSTOMERS);
        let record = match n % 5 {
            0 => Record::profile(&customer).with(&format!("\"n\":{}", n % 13)).dataset("crm"),
            1 => Record::profile(&customer).with(&format!("\"n\":{}", n % 11)).dataset("web"),
            2 if n % 20 == 2 => Record::event(&customer, &format!("e{n}"))
                .also("CRMID", &format!("c{}", (n * 7 + 1) % CUSTOMERS)),
            _ => Record::event(&customer, &format!("e{}", n - n % 3)).with("\"v\":1"),
        };
        let second = i64::try_from(n).expect("few records");
        let at = Timestamp::from_millis(millis("2026-01-01T00:00:00Z") + second * 1000);
        record.at(&at.to_string())
    };
    ndjson((from..from + 50).map(record))
}

/// Tells the feeder to end, also where a test panics.
struct Feeding<'a>(&'a AtomicBool);

impl Drop for Feeding<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does `work` while records come, some before and some after it for sure. How many came.
fn while_records_come(engine: &Engine, from: u64, work: impl FnOnce()) -> u64 {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let feeder = scope.spawn(|| {
            let mut next = from;
            while !is_over.load(Ordering::SeqCst) {
                feed(engine, &records(next));
                next += 50;
            }
            feed(engine, &records(next));
            next + 50 - from
        });
        let feeding = Feeding(&is_over);
        work();
        drop(feeding);
        feeder.join().expect("the feeder does not panic")
    })
}

/// All that an engine knows of profiles, in lines that can be compared.
fn everything(engine: &Engine) -> Vec<String> {
    let summary = engine.summary().expect("the engine answers");
    let mut lines = vec![format!("{} profiles, clock {}", summary.profiles, summary.clock)];
    for audience in engine.audiences().expect("the engine answers") {
        lines.push(format!("{}: {} in, {} out", audience.id, audience.realized, audience.exited));
        for member in engine.members(&audience.id, 0, usize::MAX).expect("the engine answers") {
            let ids: Vec<&str> = member.identities.iter().map(|i| i.id.as_str()).collect();
            let (status, time) = (&member.status, &member.last_qualification_time);
            lines.push(format!("{} {} {status} {time}", member.profile, ids.join("+")));
        }
    }
    lines.extend((0..CUSTOMERS).filter_map(|n| profile_line(engine, &format!("c{n}"))));
    lines
}

fn changes(notices: &[Notice]) -> Vec<String> {
    let of = |notice: &Notice| match notice {
        Notice::Reloaded { changes } => Some(changes.clone()),
        _ => None,
    };
    notices.iter().filter_map(of).flatten().collect()
}

const RECENT: &str = "xEvent[timestamp occurs < 20 minutes before now].count() > 1";

#[test]
fn a_configuration_taken_under_load_comes_to_what_a_restart_makes_of_the_log() {
    let base = |rules: &[String]| [EVENT_CLOCK, SINK, &rules.concat()].concat();
    let x = rule("x", "xEvent.count() > 2");
    let flow = dataflow("d", &["x"], &["n"]);
    let graph = |graph: &str| {
        let policy = policy("p", &format!("default = true\nidentity_graph = \"{graph}\""));
        base(&[policy, x.clone(), rule("n", "n > 5"), upload("vip", "3d"), flow.clone()])
    };
    let order = |order: &str| {
        let merge = format!("attribute_merge = \"dataSetPrecedence\"\norder = {order}");
        base(&[policy("p", &format!("default = true\n{merge}")), x.clone(), rule("n", "n > 5")])
    };
    let default = |(one, two): (bool, bool)| {
        let two = policy("two", &format!("default = {two}\nidentity_graph = \"none\""));
        base(&[policy("one", &format!("default = {one}")), two, x.clone(), flow.clone()])
    };
    // (what it shows, the configurations one after another, what the last one is said to change)
    let cases = [
        (
            "a rule is added that asks what nobody asked",
            vec![base(std::slice::from_ref(&x)), base(&[x.clone(), rule("recent", RECENT)])],
            "audience recent added",
        ),
        (
            "a rule changes, and another one goes",
            vec![base(&[x.clone(), rule("y", "n > 5")]), base(&[rule("x", RECENT)])],
            "audience x changed, audience y removed",
        ),
        (
            "a rule goes and comes back",
            vec![base(&[rule("recent", RECENT)]), base(&[]), base(&[rule("recent", RECENT)])],
            "audience recent added",
        ),
        (
            "identities are not linked any more, and then again",
            vec![graph("pdg"), graph("none"), graph("pdg")],
            "merge policy p changed",
        ),
        (
            "another order of datasets",
            vec![order(r#"["crm", "web"]"#), order(r#"["web", "crm"]"#)],
            "merge policy p changed",
        ),
        (
            "another default",
            vec![default((true, false)), default((false, true))],
            "merge policy one changed, merge policy two changed, audience x changed",
        ),
    ];
    for (name, configurations, told) in cases {
        let place = Place::new(&configurations[0]);
        let engine = place.open();
        feed(&engine, &records(0));
        let (mut next, mut said) = (50, Vec::new());
        for configuration in &configurations[1..] {
            next += while_records_come(&engine, next, || {
                said = changes(&place.reload(&engine, configuration));
            });
        }
        assert_eq!(said.join(", "), told, "{name}");
        let live = everything(&engine);
        engine.drain(PATIENCE, &Silent).unwrap();
        engine.close().unwrap();
        assert_eq!(place.ask(everything), live, "{name}");
        let again = place.run(&[]);
        assert_eq!(again.lines(), [""; 0], "{name}: a restart finds nothing left to do");
    }
}

#[test]
fn what_is_mapped_under_load_is_exported_exactly_once() {
    let rules = [EVENT_CLOCK, &rule("x", "m"), &rule("recent", RECENT), SINK].concat();
    let place = Place::new(&rules);
    let engine = place.open();
    let members =
        (0..300).map(|n| Record::profile(&format!("m{n}")).at("01T00:00:00").with("\"m\":1"));
    feed(&engine, &ndjson(members));
    let with_flow = rules.clone() + &dataflow("d", &["x"], &["m"]);
    let next = while_records_come(&engine, 0, || drop(place.reload(&engine, &with_flow)));
    // Another change while the lane may still be open must not begin it again.
    let with_rule = with_flow + &rule("more", "xEvent.sum(v) > 3");
    while_records_come(&engine, next, || drop(place.reload(&engine, &with_rule)));
    engine.drain(PATIENCE, &Silent).unwrap();
    engine.close().unwrap();
    let mut lines: Vec<String> = place.receiver.requests().iter().map(Request::line).collect();
    assert_eq!(lines.len(), 300);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 300, "each of them once");
    assert_eq!(place.run(&[]).lines(), [""; 0], "and not again");
}

#[test]
fn a_destination_changes_without_losing_order_or_repeating_requests() {
    let with = |keys: &str| {
        let rules = [EVENT_CLOCK, &rule("x", "n")].concat();
        [rules, sink_with(keys), dataflow("d", &["x"], &["n"])].concat()
    };
    let receiver = Receiver::scripted(|_, number| match number {
        0 => Answer::AtGate,
        _ => Answer::Status(200),
    });
    let place = Place::with_receiver(&with(""), receiver);
    let engine = place.open();
    let write = |n: u32| {
        ndjson([Record::profile("c").at(&format!("01T00:00:{n:02}")).with(&format!("\"n\":{n}"))])
    };
    feed(&engine, &write(1));
    place.receiver.wait_until("a request is open", |requests| requests.len() == 1);
    place.configure(&with("headers = \"X-New: yes\""));
    engine.reload(place.config()).unwrap();
    for n in 2..20 {
        feed(&engine, &write(n));
    }
    assert_eq!(place.receiver.requests().len(), 1, "the next waits for the one that is open");
    place.receiver.open_gate();
    Deadline::new().until("the configuration is taken", || !engine.is_reloading());
    engine.drain(PATIENCE, &Silent).unwrap();
    let summary = engine.summary().unwrap();
    engine.close().unwrap();
    let requests = place.receiver.requests();
    let sequences: Vec<u64> = requests.iter().map(Request::sequence).collect();
    assert_eq!(sequences, (1..20).collect::<Vec<u64>>());
    assert_eq!(requests[18].header("x-new"), "yes");
    assert_eq!(summary.dataflows["d"].delivered, 19, "counted on");
}

#[test]
fn dataflows_are_paused_removed_and_created_again() {
    let with = |flows: &str| [EVENT_CLOCK, &rule("x", "n"), SINK, flows].concat();
    let flow = |keys: &str| dataflow_with("d", &["x"], &["n"], keys);
    let place = Place::new(&with(&flow("")));
    let engine = place.open();
    let write = |n: u32| {
        ndjson([Record::profile("c").at(&format!("01T00:00:0{n}")).with(&format!("\"n\":{n}"))])
    };
    feed(&engine, &write(1));
    engine.drain(PATIENCE, &Silent).unwrap();
    let said = changes(&place.reload(&engine, &with(&flow("paused = true"))));
    assert_eq!(said, ["dataflow d changed"]);
    feed(&engine, &write(2));
    feed(&engine, &write(3));
    // Delivery is told of them when they are durable.
    engine.drain(PATIENCE, &Silent).unwrap();
    assert_eq!(engine.summary().unwrap().dataflows["d"].waiting, 2);
    place.reload(&engine, &with(""));
    assert!(engine.summary().unwrap().dataflows.is_empty());
    feed(&engine, &write(4));
    place.reload(&engine, &with(&flow("")));
    feed(&engine, &write(5));
    engine.drain(PATIENCE, &Silent).unwrap();
    engine.close().unwrap();
    let requests = place.receiver.requests();
    let shown: Vec<(u64, i64)> = requests
        .iter()
        .map(|request| (request.sequence(), request.json()["n"].as_i64().unwrap()))
        .collect();
    // 2 and 3 waited and were dropped; 4 was nobody's. The backfill, or the live export in its place.
    assert!(shown == [(1, 1), (4, 4), (5, 5)] || shown == [(1, 1), (4, 5)], "{shown:?}");
}

#[test]
fn records_are_checked_against_the_configuration_in_effect() {
    let plain = |list: &str| [EVENT_CLOCK, &upload(list, "30d")].concat();
    let place = Place::new(&plain("a"));
    let engine = place.open();
    let rejected = |list: &str, day: u32| {
        let record = Record::membership("c", list, "realized").at(&format!("{day:02}T00:00:00"));
        let before = engine.summary().unwrap().records.rejected;
        feed(&engine, &ndjson([record]));
        engine.summary().unwrap().records.rejected > before
    };
    assert!(!rejected("a", 1) && rejected("b", 1));
    place.reload(&engine, &plain("b"));
    assert!(rejected("a", 9) && !rejected("b", 9));
    let limited = format!("max_clock_jump = \"1d\"\n{}", plain("b"));
    place.reload(&engine, &limited);
    assert!(rejected("b", 15) && !rejected("b", 10));
    engine.close().unwrap();
}

#[test]
fn what_cannot_be_used_is_refused_and_the_old_one_goes_on() {
    let with = |keys: &str| {
        [EVENT_CLOCK, &rule("x", "n"), &sink_with(keys), &dataflow("d", &["x"], &[])].concat()
    };
    let place = Place::new(&with(""));
    let engine = place.open();
    place.configure(&with("").replace("\"event\"", "\"wall\""));
    let error = engine.reload(place.config()).unwrap_err().to_string();
    assert!(error.contains("keeps its clock"), "{error}");
    let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap();
    place.write("ca.pem", authority.cert.pem());
    place.configure(&with("ca_file = \"ca.pem\""));
    let config = place.config();
    // A file that is spoilt after the configuration was read is found when it is used.
    place.write("ca.pem", "no certificate");
    let notices = reloaded(&engine, config);
    let [Notice::ReloadRefused { reason }] = notices.as_slice() else { panic!("{notices:?}") };
    assert!(reason.contains("sink"), "{reason}");
    feed(&engine, &ndjson([Record::profile("c").at("01T00:00:00").with("\"n\":1")]));
    engine.drain(PATIENCE, &Silent).unwrap();
    assert_eq!(place.receiver.requests().len(), 1, "as before");
    let nothing = place.reload(&engine, &with(""));
    assert_eq!(nothing, [Notice::Reloaded { changes: Vec::new() }]);
    engine.close().unwrap();
}

#[test]
fn a_stop_while_a_configuration_is_taken_leaves_a_whole_directory() {
    let before = [EVENT_CLOCK, &rule("x", "n > 5"), SINK].concat();
    let after = before.clone() + &rule("recent", RECENT);
    for delay in 0..4 {
        let place = Place::new(&before);
        let engine = place.open();
        for n in 0..10 {
            feed(&engine, &records(n * 50));
        }
        place.configure(&after);
        engine.reload(place.config()).unwrap();
        // The newest replaces one that was not begun with.
        engine.reload(place.config()).unwrap();
        for n in 0..delay {
            feed(&engine, &records(1000 + n * 50));
        }
        engine.close().unwrap();
        place.run(&[]);
        let expected = Place::new(&after);
        expected.run_with(|engine| {
            (0..10).for_each(|n| feed(engine, &records(n * 50)));
            (0..delay).for_each(|n| feed(engine, &records(1000 + n * 50)));
        });
        let counts = |engine: &Engine| engine.summary().unwrap().audiences["recent"].realized;
        assert_eq!(place.ask(counts), expected.ask(counts), "after {delay} more feeds");
    }
}

#[test]
fn sighup_has_a_running_program_read_its_configuration_again() {
    let before = [EVENT_CLOCK, &rule("x", "n > 5"), SINK].concat();
    let place = Place::new(&before);
    place.write("in.ndjson", records(0));
    let told = place.write("told.txt", "");
    let program = Program::at(place.path());
    let mut command = program.command("run --input in.ndjson");
    let running = program.start(command.stderr(File::create(&told).unwrap()));
    let until_told = |part: &str| {
        Deadline::new().until(part, || std::fs::read_to_string(&told).unwrap().contains(part));
    };
    let audiences = || {
        let listed = program.run("audience list --output json").expect_status(0);
        listed.stdout.matches("\"merge_policy\"").count()
    };
    let socket = place.data().join("engine.sock");
    Deadline::new().until("the engine listens", || socket.exists());
    place.configure(&(before.clone() + &rule("recent", RECENT)));
    signal(&running, "HUP");
    until_told("in effect: audience recent added");
    assert_eq!(audiences(), 2);
    place.configure("clock = \"event\"\nclocks = 3\n");
    signal(&running, "HUP");
    until_told("The configuration in effect stays");
    until_told("forebay.toml:2:1");
    assert_eq!(audiences(), 2);
    place.configure(&before);
    signal(&running, "HUP");
    until_told("in effect: audience recent removed");
    assert_eq!(audiences(), 1);
    signal(&running, "TERM");
    let run = finish(running);
    assert_eq!(run.status, Some(0), "{run:?}");
}
