//! Definitions that change between runs (`SPEC.md` §5, §9).

use forebay_engine::engine::{Engine, Mode};
use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, policy, rule, upload,
};
use forebay_tests::place::profile_line;
use forebay_tests::{Place, Ran, Record};

fn with(pql: &str) -> String {
    [EVENT_CLOCK, &rule("x", pql), SINK, &dataflow("d", &["x"], &[])].concat()
}

fn events() -> Vec<Record> {
    vec![
        Record::event("one", "1").at("01T00:00:00").with("\"v\":10"),
        Record::event("two", "2").at("01T00:00:01").with("\"v\":20"),
        Record::event("two", "3").at("05T00:00:00").with("\"v\":20"),
    ]
}

#[test]
fn a_changed_rule_sees_all_history_and_is_evaluated_once_at_the_change() {
    // (what it shows, the old rule, the new rule, exports of the change)
    let cases = [
        (
            "who is in then is in from then on",
            "xEvent.sum(v) > 100",
            "xEvent.sum(v) > 30",
            vec!["crmid:two | x=realized@05T00:00:00"],
        ),
        ("who stays in keeps the time", "xEvent.sum(v) > 15", "xEvent.sum(v) > 30", vec![]),
        (
            "who is not in any more exits",
            "xEvent.sum(v) > 5",
            "xEvent.sum(v) > 30",
            vec!["crmid:one | x=exited@05T00:00:00"],
        ),
        (
            "a window that was not asked for before is found in the log",
            "xEvent.sum(v) > 100",
            "xEvent[timestamp occurs < 2 days before now].count() > 0",
            vec!["crmid:two | x=realized@05T00:00:00"],
        ),
        (
            "the same rule in other words flips nobody",
            "xEvent.sum(v) > 30",
            "30 < xEvent.sum(v)",
            vec![],
        ),
    ];
    for (name, old, new, expected) in cases {
        let place = Place::new(&with(old));
        place.run(&events());
        place.configure(&with(new));
        assert_eq!(place.run(&[]).lines(), expected, "{name}");
        assert_eq!(place.run(&[]).lines(), [""; 0], "{name}, once");
    }
}

#[test]
fn rules_that_change_together_are_one_step() {
    let both = |a: &str, b: &str| {
        [EVENT_CLOCK, &rule("a", a), &rule("b", b), SINK, &dataflow("d", &["a", "b"], &[])].concat()
    };
    let place = Place::new(&both("n > 5", "n > 6"));
    place.run(&[Record::profile("c").at("01T00:00:00").with("\"n\":3")]);
    place.configure(&both("n > 1", "inSegment(\"a\")"));
    let lines = place.run(&[]).lines();
    assert_eq!(lines, ["crmid:c | a=realized@01T00:00:00 b=realized@01T00:00:00"]);
}

#[test]
fn boundaries_of_the_old_rule_stop_and_those_of_the_new_begin() {
    let within =
        |days: u32| with(&format!("xEvent[timestamp occurs < {days} days before now].count() > 0"));
    let place = Place::new(&within(2));
    place.run(&[Record::event("c", "e").at("01T00:00:00")]);
    place.configure(&within(4));
    assert_eq!(place.run_until(&[], "04T00:00:00").lines(), [""; 0]);
    let left = place.run_until(&[], "06T00:00:00");
    assert_eq!(left.lines(), ["crmid:c | x=exited@05T00:00:00"]);
}

#[test]
fn a_removed_audience_is_shown_no_more() {
    let place = Place::new(&[EVENT_CLOCK, &rule("x", "n"), &rule("y", "n")].concat());
    place.run(&[Record::profile("c").at("01T00:00:00").with("\"n\":1")]);
    place.configure(&[EVENT_CLOCK, &rule("y", "n")].concat());
    place.run(&[]);
    let shown = place.ask(|engine| profile_line(engine, "c").unwrap());
    assert_eq!(shown, r#"crmid:c | y=realized@01T00:00:00 | {"n":1}"#);
}

#[test]
fn the_clock_of_a_directory_cannot_be_changed() {
    let place = Place::new(EVENT_CLOCK);
    place.run(&[]);
    place.configure("clock = \"wall\"\n");
    let error = place.try_open(Mode::Deliver).err().expect("it must not start").to_string();
    assert!(error.contains("clock = \"wall\"") && error.contains("data directory"), "{error}");
    place.configure(EVENT_CLOCK);
    place.run(&[]);
}

#[test]
fn looking_changes_nothing() {
    let place = Place::new(&with("xEvent.sum(v) > 30"));
    place.run(&events());
    let next_offset = || place.ask(|engine| engine.log_stats().unwrap().next_offset);
    let before = next_offset();
    place.configure(&with("xEvent.sum(v) > 1"));
    assert_eq!(next_offset(), before, "only run and ingest apply a configuration");
    let shown = place.ask(|engine| profile_line(engine, "one").unwrap());
    assert_eq!(shown, "crmid:one |");
}

/// Under `graph`: the audience `x` of whoever has `n` over 5, mapped in `d`.
fn under(graph: &str) -> String {
    let policy = policy("p", &format!("default = true\nidentity_graph = \"{graph}\""));
    [EVENT_CLOCK, &policy, &rule("x", "n > 5"), SINK, &dataflow("d", &["x"], &[])].concat()
}

/// `a` with a high `n` and `b` with none, linked.
fn linked() -> Vec<Record> {
    vec![
        Record::profile("a").at("01T00:00:00").with("\"n\":9"),
        Record::profile("b").at("01T00:00:01").with("\"m\":1"),
        Record::event("a", "link").at("02T00:00:00").also("CRMID", "b"),
    ]
}

/// Members of an audience in lines: identities, status and time.
fn members(engine: &Engine, audience: &str) -> Vec<String> {
    let views = engine.members(audience, 0, usize::MAX).expect("the engine answers");
    let line = |view: &forebay_engine::views::MemberView| {
        let ids: Vec<&str> = view.identities.iter().map(|i| i.id.as_str()).collect();
        format!("{} {}@{}", ids.join("+"), view.status, view.last_qualification_time)
    };
    views.iter().map(line).collect()
}

#[test]
fn members_move_with_their_audience_to_the_profiles_of_another_graph() {
    let place = Place::new(&under("pdg"));
    assert_eq!(place.run(&linked()).lines().len(), 2, "the entry, and the link");
    place.configure(&under("none"));
    let parted = place.run(&[]).lines();
    assert_eq!(parted, ["crmid:b | x=exited@02T00:00:00"], "a stays, b has no n of its own");
    let of = |engine: &Engine| members(engine, "x");
    let expected = ["a realized@2026-01-01T00:00:00Z", "b exited@2026-01-02T00:00:00Z"];
    assert_eq!(place.ask(of), expected);
    place.configure(&under("pdg"));
    assert_eq!(place.run(&[]).lines(), [""; 0], "in again as long as any part was");
    assert_eq!(place.ask(of), ["a+b realized@2026-01-01T00:00:00Z"]);
    assert_eq!(place.run(&[]).lines(), [""; 0], "and once");
}

#[test]
fn an_uploaded_membership_moves_with_its_time_to_live() {
    let under = |graph: &str| {
        let policy = policy("p", &format!("default = true\nidentity_graph = \"{graph}\""));
        [EVENT_CLOCK, &policy, &upload("vip", "3d"), SINK, &dataflow("d", &["vip"], &[])].concat()
    };
    let place = Place::new(&under("pdg"));
    let mut records = vec![Record::membership("a", "vip", "realized").at("01T00:00:00")];
    records.extend(linked());
    place.run(&records);
    place.configure(&under("none"));
    assert_eq!(place.run_until(&[], "03T23:59:59").lines(), [""; 0]);
    let left = place.run_until(&[], "05T00:00:00").lines();
    assert_eq!(left, ["crmid:a | vip=exited@04T00:00:00", "crmid:b | vip=exited@04T00:00:00"]);
}

#[test]
fn another_order_of_datasets_is_another_view_of_all_history() {
    let with = |order: &str| {
        let merge = "default = true\nattribute_merge = \"dataSetPrecedence\"";
        let policy = policy("p", &format!("{merge}\norder = {order}"));
        [EVENT_CLOCK, &policy, &rule("x", "n > 5"), SINK, &dataflow("d", &["x"], &["n"])].concat()
    };
    let place = Place::new(&with(r#"["crm", "web"]"#));
    let records = vec![
        Record::profile("c").at("01T00:00:00").with("\"n\":9").dataset("web"),
        Record::profile("c").at("02T00:00:00").with("\"n\":1").dataset("crm"),
        Record::profile("c").at("03T00:00:00").with("\"n\":7").dataset("other"),
    ];
    let ran = place.run(&records);
    let expected = [
        "crmid:c | x=realized@01T00:00:00 | {\"n\":9}",
        "crmid:c | x=exited@02T00:00:00 | {\"n\":1}",
    ];
    assert_eq!(ran.lines(), expected);
    place.configure(&with(r#"["web", "crm"]"#));
    assert_eq!(place.run(&[]).lines(), ["crmid:c | x=realized@03T00:00:00 | {\"n\":9}"]);
    place.configure(&with(r#"["other"]"#));
    assert_eq!(place.run(&[]).lines(), [""; 0], "still over 5");
    let shown = place.ask(|engine| profile_line(engine, "c").unwrap());
    assert_eq!(shown, "crmid:c | x=realized@03T00:00:00 | {\"n\":7}");
}

#[test]
fn the_default_policy_counts_profiles_and_finds_duplicates() {
    let with = |(pdg, none): (bool, bool)| {
        let pdg = policy("pdg", &format!("default = {pdg}"));
        let none = policy("none", &format!("default = {none}\nidentity_graph = \"none\""));
        [EVENT_CLOCK, &pdg, &none, &rule("x", "n > 5"), SINK, &dataflow("d", &["x"], &[])].concat()
    };
    let (pdg, none) = (with((true, false)), with((false, true)));
    let event = |customer: &str, id: &str| Record::event(customer, id).at("02T00:00:01");
    let place = Place::new(&pdg);
    let mut records = linked();
    records.push(event("a", "e1"));
    let ran = place.run(&records);
    assert_eq!((ran.summary.profiles, ran.summary.records.duplicate), (1, 0));
    place.configure(&none);
    // (what it shows, the configuration, the records, profiles, duplicates)
    let cases = [
        ("b alone has not seen it", &none, vec![event("b", "e1")], 2, 0),
        ("a has, before it was the default", &none, vec![event("a", "e1")], 2, 1),
        ("one of each", &none, vec![event("a", "e2"), event("b", "e3")], 2, 0),
        ("together they have seen all", &pdg, vec![event("b", "e2"), event("a", "e3")], 1, 2),
    ];
    for (name, configuration, records, profiles, duplicates) in cases {
        place.configure(configuration);
        let summary = place.run(&records).summary;
        assert_eq!((summary.profiles, summary.records.duplicate), (profiles, duplicates), "{name}");
    }
}

#[test]
fn an_audience_may_change_its_policy() {
    let with = |of: &str| {
        let x = format!("{}merge_policy = \"{of}\"\n", rule("x", "n > 5"));
        let y = format!("{}merge_policy = \"pdg\"\n", rule("y", "n > 5"));
        let policies =
            policy("pdg", "default = true") + &policy("none", "identity_graph = \"none\"");
        [EVENT_CLOCK, &policies, &x, &y, SINK, &dataflow("d", &["x", "y"], &[])].concat()
    };
    let place = Place::new(&with("pdg"));
    place.run(&linked());
    place.configure(&with("none"));
    assert_eq!(place.run(&[]).lines(), ["crmid:b | x=exited@02T00:00:00"]);
    // One record, two views: each profile shows the audiences of its policy.
    let ran = place.run(&[Record::profile("a").at("03T00:00:00").with("\"n\":1")]);
    let expected = ["crmid:a crmid:b | y=exited@03T00:00:00", "crmid:a | x=exited@03T00:00:00"];
    assert_eq!(ran.lines(), expected);
}

#[test]
fn what_a_backfill_still_owes_is_owed_to_the_profiles_of_the_new_graph() {
    let with = |graph: &str, flows: &str| {
        let policy = policy("p", &format!("default = true\nidentity_graph = \"{graph}\""));
        [EVENT_CLOCK, &policy, &rule("x", "n"), &rule("y", "n"), SINK, flows].concat()
    };
    let flow = dataflow("d", &["x"], &[]);
    // (what it shows, the configuration after the mapping, its exports)
    let cases = [
        (
            "each of those that it fell apart into",
            with("none", &flow),
            vec![
                "crmid:a | x=realized@01T00:00:00 y=realized@01T00:00:00",
                "crmid:b | x=realized@01T00:00:00 y=realized@01T00:00:00",
            ],
        ),
        ("nobody, if nothing is mapped any more", with("none", ""), vec![]),
        (
            "only what is newly mapped",
            with("pdg", &dataflow("d", &["y"], &[])),
            vec!["crmid:a crmid:b | x=realized@01T00:00:00 y=realized@01T00:00:00"],
        ),
    ];
    let records = [
        Record::profile("a").at("01T00:00:00").with("\"n\":9"),
        Record::profile("b").at("01T00:00:00").with("\"n\":8"),
        Record::event("a", "link").at("02T00:00:00").also("CRMID", "b"),
    ];
    for (name, after, expected) in cases {
        let place = Place::new(&with("pdg", ""));
        place.run(&records);
        place.configure(&with("pdg", &flow));
        // Without delivery the mapping takes effect, and nothing is taken from its lane.
        place.try_open(Mode::Derive).unwrap().close().unwrap();
        place.configure(&after);
        assert_eq!(place.run(&[]).lines(), expected, "{name}");
        assert_eq!(place.run(&[]).lines(), [""; 0], "{name}, once");
    }
}

#[test]
fn what_waits_for_a_dataflow_that_is_removed_is_dropped() {
    let with = |flow: &str| [EVENT_CLOCK, &rule("x", "n > 5"), SINK, flow].concat();
    let flow = |keys: &str| dataflow_with("d", &["x"], &["m"], keys);
    let place = Place::new(&with(&flow("paused = true")));
    let records = [1, 2, 3].map(|m| {
        Record::profile("c").at(&format!("0{m}T00:00:00")).with(&format!("\"n\":9,\"m\":{m}"))
    });
    let waiting = |ran: Ran| ran.summary.dataflows.get("d").map(|counts| counts.waiting);
    assert_eq!(waiting(place.run(&records)), Some(3));
    place.configure(&with(""));
    assert_eq!(waiting(place.run(&[])), None);
    place.configure(&with(&flow("")));
    let ran = place.run(&[]);
    assert_eq!(ran.lines(), ["crmid:c | x=realized@01T00:00:00 | {\"m\":3}"], "backfilled");
    assert_eq!(ran.requests[0].sequence(), 4, "after what was dropped");
}

#[test]
fn settings_hold_from_the_change_on_for_what_lies_before_it() {
    let with = |settings: &str| {
        let settings = format!("{EVENT_CLOCK}{settings}\n");
        [&settings, &rule("x", "n > 5"), SINK, &dataflow("d", &["x"], &[])].concat()
    };
    let place = Place::new(&with("dedupe_window = \"1h\""));
    place.run(&[
        Record::profile("c").at("01T00:00:00").with("\"n\":9"),
        Record::profile("c").at("02T00:00:00").with("\"n\":1"),
        Record::event("c", "e").at("02T00:00:00"),
        Record::event("c", "f").at("04T00:00:00"),
    ]);
    assert_eq!(place.ask(|engine| members(engine, "x")).len(), 1, "left, and remembered");
    place.configure(&with("dedupe_window = \"72h\"\nexited_retention = \"1d\""));
    let ran = place.run(&[Record::event("c", "e").at("04T00:00:00")]);
    assert_eq!(ran.summary.records.duplicate, 1, "seen two days ago");
    assert_eq!(place.ask(|engine| members(engine, "x")), [""; 0], "left more than a day ago");
}
