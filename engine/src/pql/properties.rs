//! Random rules, events and clocks: the plan against the oracle at every instant that could matter.
//!
//! The instants are few and clustered: event times, their windows' edges, midnights and changes of
//! daylight saving, each a millisecond early, on time and late. proptest prints the failing input,
//! and keeps its seed.

use proptest::prelude::*;
use serde_json::json;

use crate::clock::Timestamp;

use super::oracle::Oracle;
use super::parse;
use super::subject::{Book, Subject, at};

const ZONES: [&str; 4] = ["UTC", "America/New_York", "Europe/Paris", "Pacific/Apia"];

/// Around here clocks change in New York and Paris, a month ends, and a Sunday is near.
const CENTRES: [&str; 5] = [
    "2026-03-08T06:30:00Z",
    "2026-03-29T00:30:00Z",
    "2025-10-26T00:30:00Z",
    "2024-02-29T12:00:00Z",
    "2011-12-30T09:00:00Z",
];

const HOUR: i64 = 3_600_000;

fn unit() -> BoxedStrategy<String> {
    prop_oneof![
        3 => (1..50_i64).prop_map(|n| format!("{n} hours")),
        3 => (0..4_i64).prop_map(|n| format!("{n} days")),
        1 => (0..2_i64).prop_map(|n| format!("{n} weeks")),
        2 => (0..3_i64).prop_map(|n| format!("{n} months")),
        1 => (0..2_i64).prop_map(|n| format!("{n} years")),
    ]
    .boxed()
}

fn time() -> BoxedStrategy<String> {
    let simple = prop_oneof![
        4 => Just("now".to_owned()),
        2 => Just("today".to_owned()),
        1 => Just("yesterday".to_owned()),
        1 => Just("tomorrow".to_owned()),
        2 => "(this|last|next) (hour|day|week|month|year)",
        1 => Just("date(2026, 3, 8)".to_owned()),
        1 => Just("at".to_owned()),
    ];
    let shifted = (unit(), "(before|after|from)", simple.clone());
    prop_oneof![3 => simple, 1 => shifted.prop_map(|(n, way, time)| format!("{n} {way} {time}"))]
        .boxed()
}

fn when() -> BoxedStrategy<String> {
    prop_oneof![
        5 => ("(<|<=|=|!=|>=|>)", unit()).prop_map(|(how, n)| format!("{how} {n} before now")),
        5 => ("(<|<=|=|!=|>=|>)", unit(), "(before|after|from)", time())
            .prop_map(|(how, n, way, time)| format!("{how} {n} {way} {time}")),
        1 => time().prop_map(|time| format!("before {time}")),
        1 => time().prop_map(|time| format!("after {time}")),
        2 => time().prop_map(|time| format!("on {time}")),
        1 => (time(), time()).prop_map(|(a, b)| format!("between {a} and {b}")),
    ]
    .boxed()
}

fn static_test() -> BoxedStrategy<String> {
    prop_oneof![
        Just(r#"eventType = "a""#.to_owned()),
        Just(r#"eventType in ["a", "b"]"#.to_owned()),
        Just(r#"eventType.equals("B", false)"#.to_owned()),
        (0..5_i64).prop_map(|n| format!("n > {n}")),
        (0..5_i64).prop_map(|n| format!("items.n = {n}")),
        (0..5_i64).prop_map(|n| format!("items.exists(n = {n})")),
        Just("not n".to_owned()),
    ]
    .boxed()
}

fn event_test() -> BoxedStrategy<String> {
    let window = when().prop_map(|when| format!("timestamp occurs {when}"));
    let leaf = prop_oneof![3 => static_test(), 2 => window];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            1 => inner.prop_map(|a| format!("not ({a})")),
        ]
    })
    .boxed()
}

fn step() -> BoxedStrategy<String> {
    (event_test(), proptest::option::of(when()), 1..3_i64)
        .prop_map(|(what, when, count)| {
            let when = when.map_or_else(String::new, |when| format!(" WHEN({when})"));
            format!("S: WHAT({what}){when} COUNT({count})")
        })
        .boxed()
}

fn rule() -> BoxedStrategy<String> {
    let leaf = prop_oneof![
        3 => (event_test(), "(<|<=|=|!=|>=|>)", 0..4_i64)
            .prop_map(|(test, how, n)| format!("xEvent[{test}].count() {how} {n}")),
        2 => (event_test(), "(sum|min|max|average)", "(<|<=|=|!=|>=|>)", 0..8_i64)
            .prop_map(|(test, kind, how, n)| format!("xEvent[{test}].{kind}(n) {how} {n}")),
        1 => event_test().prop_map(|test| format!("xEvent[{test}]")),
        1 => event_test().prop_map(|test| format!("xEvent[{test}].sum(items.n) > 3")),
        2 => proptest::collection::vec(step(), 1..4)
            .prop_map(|steps| format!("chain(xEvent, timestamp, [{}])", steps.join(", "))),
        1 => when().prop_map(|when| {
            format!("exists E from xEvent where E.n > limit and E.timestamp occurs {when}")
        }),
        1 => when().prop_map(|when| {
            format!("forall E from xEvent : E.n > 1 or E.timestamp occurs {when}")
        }),
        1 => (0..5_i64).prop_map(|n| {
            format!("exists E from xEvent where E.n > 1, I from E.items where I.n = {n}")
        }),
        1 => (0..5_i64).prop_map(|n| format!("limit > {n}")),
        1 => Just("currentDayOfMonth() > 15".to_owned()),
        1 => Just("currentMonth() = 3".to_owned()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
    .boxed()
}

/// (hours from the centre, milliseconds off, type, n, numbers of the items)
type Drawn = (i64, i64, usize, Option<i64>, Vec<i64>);

fn event() -> impl Strategy<Value = Drawn> {
    let hours = prop_oneof![3 => -60..60_i64, 1 => -2_000..800_i64];
    let numbers = proptest::collection::vec(0..5_i64, 0..3);
    (hours, -1..=1_i64, 0..4_usize, proptest::option::of(0..5_i64), numbers)
}

fn body_of(centre: i64, drawn: &Drawn) -> (i64, serde_json::Value) {
    let (hours, off, kind, n, items) = drawn;
    let ts = centre + hours * HOUR + off;
    let items: Vec<_> = items.iter().map(|n| json!({ "n": n })).collect();
    let event_type = ["a", "b", "B", "c"][*kind];
    let body = json!({
        "timestamp": Timestamp::from_millis(ts).to_string(),
        "at": Timestamp::from_millis(ts + 30 * HOUR).to_string(),
        "eventType": event_type,
        "n": n,
        "items": items,
    });
    (ts, body)
}

/// The instants at which something could change: what the rule's distances make of the events'
/// times, midnights around, each a millisecond early, on time and late.
fn instants(text: &str, centre: i64, events: &[(i64, serde_json::Value)]) -> Vec<i64> {
    let distances: Vec<i64> = regex::Regex::new("([0-9]+) (hours|days|weeks|months|years)")
        .expect("a pattern")
        .captures_iter(text)
        .flat_map(|found| {
            let count: i64 = found[1].parse().expect("digits");
            let lengths: &[i64] = match &found[2] {
                "hours" => &[1],
                "days" => &[24],
                "weeks" => &[168],
                "months" => &[28 * 24, 29 * 24, 30 * 24, 31 * 24],
                _ => &[365 * 24, 366 * 24],
            };
            lengths.iter().flat_map(move |hours| [count * hours, (count + 1) * hours])
        })
        .collect();
    let days = (-3..8).map(|day| (centre / (24 * HOUR) + day) * 24 * HOUR);
    let edges = events.iter().flat_map(|(ts, _)| {
        distances
            .iter()
            .chain(&[0, 24])
            .flat_map(move |hours| [ts - hours * HOUR, ts + hours * HOUR])
    });
    let hours = [-70, -5, -4, -1, 0, 1, 4, 5, 70].map(|hour| centre + hour * HOUR);
    let mut all: Vec<i64> =
        days.chain(edges).chain(hours).flat_map(|at| [at - 1, at, at + 1]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_agree_with_the_page_at_every_instant(
        text in rule(),
        drawn in proptest::collection::vec(event(), 0..7),
        (zone, centre, limit) in (0..ZONES.len(), 0..CENTRES.len(), 0..5_i64),
        split in 0..7_usize,
    ) {
        let centre = at(CENTRES[centre]).as_millis();
        let profile = json!({ "limit": limit });
        let mut events: Vec<_> = drawn.iter().map(|drawn| body_of(centre, drawn)).collect();
        let mut book = Book::new(ZONES[zone]);
        let rule = book.compile(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let mut subject = Subject::default().with_attributes(&mut book, &profile.to_string());
        // Two profiles that merge, as often as not.
        let mut other = Subject::default();
        for (offset, (_, body)) in (0..).zip(&events) {
            let to = if offset < split as u64 { &mut subject } else { &mut other };
            to.observe(&book, offset, &body.to_string());
        }
        subject.absorb(&book, other);
        events.sort_by_key(|(ts, _)| *ts);
        let expr = parse(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
        // What the last evaluation promised: (value, until when).
        let mut promise: Option<(bool, Timestamp)> = None;
        for now in instants(&text, centre, &events) {
            let oracle = Oracle { profile: &profile, events: &events, now, zone: &book.zone };
            let expected = oracle.holds(&expr);
            let at = Timestamp::from_millis(now);
            if let Some((value, until)) = promise {
                prop_assert!(value == expected || until <= at, "{} changed before {}", text, at);
            }
            let found = subject.evaluate(&book, &rule, at);
            prop_assert_eq!(found.holds, expected, "{} at {}", text, at);
            prop_assert!(found.changes_at > at, "{} at {}", text, at);
            if promise.is_none_or(|(value, until)| value != found.holds || until <= at) {
                promise = Some((found.holds, found.changes_at));
            }
            subject.trim(&book, at);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
        drop(Book::new("UTC").compile(&text));
    }

    #[test]
    fn no_row_of_tokens_makes_the_compiler_panic(
        tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 0..24),
    ) {
        let text = tokens.join(" ");
        let mut book = Book::new("Europe/Paris");
        match book.compile(&text) {
            Ok(rule) => {
                let mut subject =
                    Subject::default().with_attributes(&mut book, r#"{"a":[1,{"b":"x"}]}"#);
                subject.observe(&book, 0, r#"{"timestamp":"2026-01-01T00:00:00Z","a":{"b":1}}"#);
                subject.evaluate(&book, &rule, at("2026-01-02T00:00:00Z"));
                let canonical = parse(&text).expect("it compiled").to_string();
                let again = parse(&canonical).map(|expr| expr.to_string());
                prop_assert_eq!(again, Ok(canonical));
            }
            Err(error) => {
                prop_assert!(error.span.start <= error.span.end && error.span.end <= text.len());
                prop_assert!(text.is_char_boundary(error.span.start));
                prop_assert!(text.is_char_boundary(error.span.end));
                super::render(&text, &error);
            }
        }
    }

    #[test]
    fn rules_print_and_read_back(text in rule()) {
        let canonical = parse(&text).expect("generated").to_string();
        prop_assert_eq!(parse(&canonical).expect("printed").to_string(), canonical);
    }
}

const TOKENS: &[&str] = &[
    "a",
    "a.b",
    "xEvent",
    "xEvent[",
    "]",
    "[",
    "(",
    ")",
    ",",
    ".",
    "=",
    "!=",
    "<",
    ">=",
    "and",
    "or",
    "not",
    "in",
    "notIn",
    "occurs",
    "exists",
    "forall",
    "E",
    "from",
    "where",
    ":",
    "1",
    "7",
    "-",
    "+",
    "*",
    "%",
    "/",
    "\"x\"",
    "true",
    "now",
    "today",
    "days",
    "month",
    "before",
    "after",
    "between",
    "date(2026,1,1)",
    "chain(xEvent, timestamp, [",
    "A: WHAT(",
    "WHEN(",
    "COUNT(",
    "if(",
    "inSegment(\"x\")",
    ".count()",
    ".sum(",
    ".get(",
    "identityMap",
    ".keys()",
    "like",
    "segmentMembership",
    "currentYear()",
    ".isNull()",
    "timestamp",
    "< 7 days before",
    "`",
];
