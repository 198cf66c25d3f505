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
