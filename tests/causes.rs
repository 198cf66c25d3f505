//! What makes an export, and what does not (`SPEC.md` §6).

use forebay_tests::configuration::{EVENT_CLOCK, SINK, dataflow_with, rule};
use forebay_tests::{Place, Record};

/// Audiences `in` (n > 0) and `vip` (v), both mapped with the attribute `m` in dataflow `d`.
fn configuration(keys: &str) -> String {
    let flow = dataflow_with("d", &["in", "vip"], &["m", "o.p"], keys);
    [EVENT_CLOCK, &rule("in", "n > 0"), &rule("vip", "v"), &rule("other", "w"), SINK, &flow]
        .concat()
}

fn profile(second: u32, members: &str) -> Record {
    Record::profile("c").at(&format!("01T00:00:0{second}")).with(members)
}

fn check(name: &str, keys: &str, records: &[Record], expected: &[&str]) {
    let place = Place::new(&configuration(keys));
    assert_eq!(place.run(records).lines(), expected, "{name}");
}

const IN: &str = "crmid:c | in=realized@01T00:00:01";

#[test]
fn a_change_of_audiences_or_identities_is_exported_once() {
    let join = || profile(1, r#""n":1"#);
    // (what it shows, records, exports)
    let cases: Vec<(&str, Vec<Record>, Vec<&str>)> = vec![
        ("a profile that is in no mapped audience is not", vec![profile(1, r#""m":1"#)], vec![]),
        ("joining is", vec![join()], vec![IN]),
        (
            "leaving is",
            vec![join(), profile(2, r#""n":0"#)],
            vec![IN, "crmid:c | in=exited@01T00:00:02"],
        ),
        (
            "all that one record does is one export",
            vec![profile(1, r#""n":1,"v":1,"m":7,"o":{"p":2}"#).also("Email", "x")],
            vec![
                r#"crmid:c email:x | in=realized@01T00:00:01 vip=realized@01T00:00:01 | {"m":7,"o":{"p":2}}"#,
            ],
        ),
        (
            "an audience that is not mapped changes nothing",
            vec![join(), profile(2, r#""w":1"#)],
            vec![IN],
        ),
        (
            "a new identity is",
            vec![join(), Record::profile("c").at("01T00:00:02").also("Email", "x")],
            vec![IN, "crmid:c email:x | in=realized@01T00:00:01"],
        ),
        (
            "an identity that was known is not",
            vec![join(), Record::event("c", "e").at("01T00:00:02")],
            vec![IN],
        ),
        (
            "in and out and in again are three",
            vec![join(), profile(2, r#""n":-1"#), profile(3, r#""n":5"#)],
            vec![IN, "crmid:c | in=exited@01T00:00:02", "crmid:c | in=realized@01T00:00:03"],
        ),
    ];
    for (name, records, expected) in cases {
        check(name, "", &records, &expected);
    }
}

#[test]
fn a_written_attribute_is_exported_if_it_is_mapped_and_shown() {
    let join = || profile(1, r#""n":1"#);
    // (what it shows, records, exports)
    let cases: Vec<(&str, Vec<Record>, Vec<&str>)> = vec![
        (
            "a mapped one is, as long as the profile is in",
            vec![join(), profile(2, r#""m":1"#), profile(3, r#""n":0"#), profile(4, r#""m":2"#)],
            vec![
                IN,
                r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#,
                r#"crmid:c | in=exited@01T00:00:03 | {"m":1}"#,
            ],
        ),
        ("one that is not mapped is not", vec![join(), profile(2, r#""z":1"#)], vec![IN]),
        (
            "the same value again is a write",
            vec![join(), profile(2, r#""m":1"#), profile(3, r#""m":1"#)],
            vec![
                IN,
                r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#,
                r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#,
            ],
        ),
        (
            "a write that lost is none",
            vec![join(), profile(3, r#""m":1"#), profile(2, r#""m":2"#)],
            vec![IN, r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#],
        ),
        (
            "a null is a write",
            vec![join(), profile(2, r#""m":1"#), profile(3, r#""m":null"#)],
            vec![IN, r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#, IN],
        ),
        (
            "a write below a mapped path counts",
            vec![join(), profile(2, r#""o":{"p":{"q":1}}"#)],
            vec![IN, r#"crmid:c | in=realized@01T00:00:01 | {"o":{"p":{"q":1}}}"#],
        ),
        (
            "a write above a mapped path counts if it changes what is shown",
            vec![join(), profile(2, r#""o":{"p":1}"#), profile(3, r#""o":9"#)],
            vec![IN, r#"crmid:c | in=realized@01T00:00:01 | {"o":{"p":1}}"#, IN],
        ),
        (
            "a write above a mapped path that shows nothing does not",
            vec![join(), profile(2, r#""o":9"#), profile(3, r#""o":8"#)],
            vec![IN],
        ),
        (
            "a write beside a mapped path does not",
            vec![join(), profile(2, r#""o":{"r":1}"#)],
            vec![IN],
        ),
    ];
    for (name, records, expected) in cases {
        check(name, "", &records, &expected);
    }
}

#[test]
fn causes_can_be_switched_off() {
    let records = || {
        vec![
            profile(1, r#""n":1,"m":0"#),
            profile(2, r#""m":1"#),
            Record::profile("c").at("01T00:00:03").also("Email", "x"),
            profile(4, r#""n":0"#),
        ]
    };
    let joined = r#"crmid:c | in=realized@01T00:00:01 | {"m":0}"#;
    let written = r#"crmid:c | in=realized@01T00:00:01 | {"m":1}"#;
    let linked = r#"crmid:c email:x | in=realized@01T00:00:01 | {"m":1}"#;
    let left = r#"crmid:c email:x | in=exited@01T00:00:04 | {"m":1}"#;
    // (what is left on, exports)
    let cases = [
        (r#"triggers = ["segment", "attribute", "identity"]"#, vec![joined, written, linked, left]),
        (r#"triggers = ["segment"]"#, vec![joined, left]),
        (r#"triggers = ["attribute"]"#, vec![joined, written]),
        (r#"triggers = ["identity"]"#, vec![linked]),
    ];
    for (keys, expected) in cases {
        check(keys, keys, &records(), &expected);
    }
}

#[test]
fn a_dataflow_may_ignore_the_same_value_written_again() {
    let value = |second, text: &str| profile(second, &format!(r#""m":{text}"#));
    // (what it shows, the values written after joining, exports after the one of joining)
    let cases = [
        ("the same text is the same", vec!["1", "1"], 1),
        ("another text of the same number is another value", vec!["1", "1.0"], 2),
        ("another value is one", vec!["1", "2"], 2),
        (
            "the members of an object in an array may stand in any order",
            vec![r#"[{"a":1,"b":2}]"#, r#"[{"b":2,"a":1}]"#],
            1,
        ),
        ("nothing deleted is nothing changed", vec!["null"], 0),
    ];
    for (name, values, exports) in cases {
        let place = Place::new(&configuration("same_value_writes = \"ignore\""));
        let mut records = vec![profile(1, r#""n":1"#)];
        records.extend((2..).zip(values).map(|(second, text)| value(second, text)));
        assert_eq!(place.run(&records).lines().len(), exports + 1, "{name}");
    }
}

#[test]
fn each_dataflow_has_its_own_reasons_and_numbers() {
    let flows =
        [dataflow_with("a", &["in"], &["m"], ""), dataflow_with("b", &["vip"], &["o.p"], "")]
            .concat();
    let place =
        Place::new(&[EVENT_CLOCK, &rule("in", "n > 0"), &rule("vip", "v"), SINK, &flows].concat());
    let ran = place.run(&[
        profile(1, r#""n":1"#),
        profile(2, r#""v":1,"m":1"#),
        profile(3, r#""o":{"p":1}"#),
    ]);
    let numbers = |dataflow: &str| {
        let mut of: Vec<u64> = ran
            .requests
            .iter()
            .filter(|request| request.dataflow() == dataflow)
            .map(forebay_tests::Request::sequence)
            .collect();
        of.sort_unstable();
        of
    };
    assert_eq!(numbers("a"), [1, 2]);
    assert_eq!(numbers("b"), [1, 2]);
}
