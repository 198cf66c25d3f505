//! Audiences from segment definitions in files of their own.

use super::{errors, load};
use crate::definitions::AudienceKind;

#[test]
fn segment_definitions_are_read_from_their_files() {
    let toml = "audience_files = [\"audiences/*.json\", \"one.json\"]\n[[audience]]\nid = \"own\"\npql = 'inSegment(\"b\")'";
    let a = r#"{"id": "a", "name": "A", "description": null, "schema": {"name": "x"},
        "expression": {"type": "PQL", "format": "pql/text", "value": "x = \"y\""}}"#;
    let list = r#"[{"id": "b", "expression": {"type": "PQL", "format": "pql/text", "value": "inSegment(\"a\")"}, "mergePolicyId": "default"}]"#;
    let empty = "[]";
    let files = [
        ("audiences/1.json", a),
        ("audiences/2.json", list),
        ("audiences/note.txt", "?"),
        ("one.json", empty),
    ];
    let config = load(toml, &files).unwrap();
    let ids: Vec<&str> = config.definitions.audiences.iter().map(|a| a.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "own"]);
    assert_eq!(config.audience_order, ["a", "b", "own"]);
    assert_eq!(
        config.definitions.audiences[0].kind,
        AudienceKind::Rule { pql: "x = \"y\"".to_owned() }
    );
}

#[test]
fn what_is_wrong_in_segment_definitions_is_shown_in_its_place() {
    let pql = |value: &str| {
        format!(
            "{{\"id\": \"a\",\n \"expression\": {{\"type\": \"PQL\", \"format\": \"pql/text\", \"value\": \"{value}\"}}}}"
        )
    };
    let fault = pql(r"\u00e9 = = 3");
    let unknown = pql(r#"inSegment(\"x\")"#);
    // (what it shows, the file, the errors)
    let cases: [(&str, &str, &[&str]); 7] = [
        ("no JSON", "{\n\"id\": }", &["s.json:2:7 }: this is no JSON: expected value"]),
        ("no object", "3", &["s.json:1:1 3: a segment definition is a JSON object"]),
        (
            "what is missing",
            "{\"id\": 3}",
            &[
                "s.json:1:1 {: a segment definition needs the object `expression`",
                "s.json:1:8 3: `id` is a string",
            ],
        ),
        (
            "another format",
            "{\"id\": \"a\", \"expression\": {\"type\": \"PQL\", \"format\": \"pql/json\", \"value\": \"{}\"}}",
            &["s.json:1:53 \"pql/json\": the format `pql/json` cannot be read, only `pql/text`"],
        ),
        (
            "a policy that is not there",
            "{\"id\": \"a\", \"mergePolicyId\": \"x\", \"expression\": {\"type\": \"PQL\", \"format\": \"pql/text\", \"value\": \"x\"}}",
            &["s.json:1:30 \"x\": there is no merge policy `x`"],
        ),
        (
            "an error in the rule",
            &fault,
            &["s.json:2:73 =: audience `a`: expected a value, found `=`"],
        ),
        (
            "an audience that is not there",
            &unknown,
            &["s.json:2:76 x: audience `a`: there is no audience `x` (did you mean `a`?)"],
        ),
    ];
    for (name, json, expected) in cases {
        assert_eq!(
            errors("audience_files = [\"s.json\"]", &[("s.json", json)]),
            expected,
            "{name}"
        );
    }
    let missing = errors("audience_files = [\"none.json\", \"none/*.json\", \"*/x.json\"]", &[]);
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert!(missing[2].ends_with("`*` may stand in the last part of the path only"), "{missing:?}");
}

/// A segment definition with this rule, which may hold quotes.
fn definition(id: &str, pql: &str) -> String {
    let value = pql.replace('"', "\\\"");
    format!(
        "{{\"id\": \"{id}\",\n \"expression\": {{\"type\": \"PQL\", \"format\": \"pql/text\",\n \"value\": \"{value}\"}}}}"
    )
}

#[test]
fn audiences_come_after_those_they_name_wherever_either_stands() {
    let toml = "audience_files = [\"*.json\"]\n\
        [[audience]]\nid = \"a_last\"\npql = 'inSegment(\"m\") and inSegment(\"z_first\")'\n\
        [[audience]]\nid = \"z_first\"\npql = 'x'";
    let files = [
        ("1.json", definition("m", "inSegment(\"n\")")),
        ("2.json", format!("[{}]", definition("n", "inSegment(\"z_first\")"))),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let config = load(toml, &files).unwrap();
    assert_eq!(config.audience_order, ["z_first", "n", "m", "a_last"]);
}

#[test]
fn a_ring_through_files_is_shown_at_each_of_its_rules() {
    // (what it shows, rules in the configuration, a.json, b.json, the errors)
    let cases: [(&str, &str, String, String, &[&str]); 3] = [
        (
            "two files",
            "[[audience]]\nid = \"c\"\npql = 'inSegment(\"a\")'",
            definition("a", "inSegment(\"b\")"),
            definition("b", "inSegment(\"a\")"),
            &[
                "a.json:3:11 \"inSegment(\\\"b\\\")\": audience `a` depends on itself: a -> b -> a",
                "b.json:3:11 \"inSegment(\\\"a\\\")\": audience `b` depends on itself: b -> a -> b",
            ],
        ),
        (
            "a file and the configuration",
            "[[audience]]\nid = \"c\"\npql = 'inSegment(\"b\")'",
            definition("a", "x"),
            definition("b", "inSegment(\"c\")"),
            &[
                "b.json:3:11 \"inSegment(\\\"c\\\")\": audience `b` depends on itself: b -> c -> b",
                "4:7 'inSegment(\"b\")': audience `c` depends on itself: c -> b -> c",
            ],
        ),
        (
            "one alone",
            "",
            definition("a", "inSegment(\"a\")"),
            definition("b", "inSegment(\"a\")"),
            &["a.json:3:11 \"inSegment(\\\"a\\\")\": audience `a` depends on itself: a -> a"],
        ),
    ];
    for (name, rules, a, b, expected) in cases {
        let toml = format!("audience_files = [\"*.json\"]\n{rules}");
        assert_eq!(errors(&toml, &[("a.json", &a), ("b.json", &b)]), expected, "{name}");
    }
}

#[test]
fn an_id_is_defined_once_wherever_it_stands() {
    let toml = "audience_files = [\"*.json\"]\n[[audience]]\nid = \"a\"\npql = 'x'";
    let files = [("1.json", definition("a", "x")), ("2.json", definition("b", "x"))];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let found = errors(toml, &files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("1.json:1:8 \"a\": audience `a` is defined twice"), "{found:?}");
    assert!(found[0].contains("forebay.toml:3"), "{found:?}");
}
