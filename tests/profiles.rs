//! Profiles: attributes by time, identities by record, one profile a customer (`SPEC.md` §3).

use forebay_tests::configuration::{EVENT_CLOCK, rule};
use forebay_tests::place::view_line;
use forebay_tests::{Place, Record};

fn written(time: &str, members: &str) -> Record {
    Record::profile("c").at(time).with(members)
}

#[test]
fn attributes_are_what_was_written_last() {
    // (what it shows, records, the attributes after them)
    let cases = [
        (
            "a later time wins",
            vec![written("01T00:00:01", r#""a":1"#), written("01T00:00:02", r#""a":2"#)],
            r#"{"a":2}"#,
        ),
        (
            "a record that comes late loses",
            vec![written("01T00:00:02", r#""a":2"#), written("01T00:00:01", r#""a":1,"b":1"#)],
            r#"{"a":2,"b":1}"#,
        ),
        (
            "on a tie the later record wins",
            vec![written("01T00:00:01", r#""a":1"#), written("01T00:00:01", r#""a":2"#)],
            r#"{"a":2}"#,
        ),
        (
            "objects are merged, arrays are values",
            vec![
                written("01T00:00:01", r#""o":{"a":1,"l":[1,2]}"#),
                written("01T00:00:02", r#""o":{"b":2,"l":[3]}"#),
            ],
            r#"{"o":{"a":1,"b":2,"l":[3]}}"#,
        ),
        (
            "a value replaces what lay below",
            vec![written("01T00:00:01", r#""o":{"a":1}"#), written("01T00:00:02", r#""o":5"#)],
            r#"{"o":5}"#,
        ),
        (
            "a value replaces what lay above",
            vec![written("01T00:00:01", r#""o":5"#), written("01T00:00:02", r#""o":{"a":1}"#)],
            r#"{"o":{"a":1}}"#,
        ),
        (
            "null deletes all below",
            vec![
                written("01T00:00:01", r#""o":{"a":1,"b":{"c":2}},"x":0"#),
                written("01T00:00:02", r#""o":null"#),
            ],
            r#"{"x":0}"#,
        ),
        (
            "what was deleted stays so for older records that come late",
            vec![
                written("01T00:00:02", r#""o":null,"x":0"#),
                written("01T00:00:01", r#""o":{"a":1}"#),
            ],
            r#"{"x":0}"#,
        ),
        (
            "and can be written anew by newer ones",
            vec![written("01T00:00:02", r#""o":null"#), written("01T00:00:03", r#""o":{"a":1}"#)],
            r#"{"o":{"a":1}}"#,
        ),
        (
            "an empty object writes nothing",
            vec![written("01T00:00:01", r#""o":{"a":1}"#), written("01T00:00:02", r#""o":{}"#)],
            r#"{"o":{"a":1}}"#,
        ),
    ];
    for (name, records, expected) in cases {
        let place = Place::new(EVENT_CLOCK);
        place.run(&records);
        let view = place.ask(|engine| engine.profile("CRMID", "c", None).unwrap().unwrap());
        assert_eq!(view.attributes.get(), expected, "{name}");
    }
}

#[test]
fn identities_that_come_together_are_one_profile() {
    let profile = |customer: &str| Record::profile(customer).at("01T00:00:00");
    // (what it shows, records, number of profiles, identities of crmid:a)
    let cases = [
        ("one record, one profile", vec![profile("a").also("Email", "m")], 1, "crmid:a email:m"),
        (
            "a shared identity links, whatever the case of its namespace",
            vec![profile("a").also("Email", "m"), profile("b").also("EMAIL", "m")],
            1,
            "crmid:a email:m crmid:b",
        ),
        (
            "ids are told apart by case",
            vec![profile("a").also("Email", "m"), profile("b").also("Email", "M")],
            2,
            "crmid:a email:m",
        ),
        (
            "links are transitive",
            vec![
                profile("a").also("Email", "m"),
                profile("b").also("Phone", "1"),
                Record::profile("b").at("01T00:00:01").also("Email", "m"),
            ],
            1,
            "crmid:a email:m crmid:b phone:1",
        ),
        (
            "the order of the links does not matter for who is in",
            vec![
                profile("b").also("Phone", "1"),
                profile("a").also("Email", "m"),
                Record::event("z", "e").at("01T00:00:01").also("Email", "m").also("Phone", "1"),
            ],
            1,
            "crmid:b phone:1 crmid:a email:m crmid:z",
        ),
    ];
    for (name, records, profiles, identities) in cases {
        let place = Place::new(EVENT_CLOCK);
        assert_eq!(place.run(&records).summary.profiles, profiles, "{name}");
        let view = place.ask(|engine| engine.profile("crmid", "a", None).unwrap().unwrap());
        let shown = view_line(&view);
        let mut shown: Vec<&str> = shown.split(" |").next().unwrap().split(' ').collect();
        let mut expected: Vec<&str> = identities.split(' ').collect();
        shown.sort_unstable();
        expected.sort_unstable();
        assert_eq!(shown, expected, "{name}");
    }
}

#[test]
fn past_fifty_identities_the_one_longest_unseen_goes() {
    let place = Place::new(EVENT_CLOCK);
    // The first is primary in every record, so it stays; of the others the oldest goes.
    let records: Vec<Record> = (0..52)
        .map(|n| Record::profile("c").at("01T00:00:00").also("Device", &format!("d{n}")))
        .collect();
    place.run(&records);
    place.ask(|engine| {
        let view = engine.profile("crmid", "c", None).unwrap().unwrap();
        assert_eq!(view.identities.len(), 50);
        let has = |id: &str| view.identities.iter().any(|identity| identity.id == id);
        assert!(has("c") && has("d51") && has("d3"));
        assert!(!has("d0") && !has("d1") && !has("d2"), "three had to go");
    });
}

#[test]
fn a_profile_keeps_its_number_and_is_found_by_each_identity() {
    let place = Place::new(&[EVENT_CLOCK, &rule("any", "n")].concat());
    place.run(&[
        Record::profile("a").at("01T00:00:00").also("Email", "m").with(r#""n":1"#),
        Record::profile("b").at("01T00:00:01").with(r#""n":2"#),
    ]);
    let number = |namespace: &str, id: &str| {
        place.ask(|engine| engine.profile(namespace, id, None).unwrap().map(|view| view.profile))
    };
    assert_eq!(number("CrmId", "a"), number("email", "m"));
    assert!(number("crmid", "a") < number("crmid", "b"), "numbered as first named");
    assert_eq!(number("crmid", "nobody"), None);
}
