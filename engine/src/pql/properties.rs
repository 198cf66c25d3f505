//! Random rules, events and clocks: the plan against the oracle at every instant that could matter.
//!
//! The instants are few and clustered: event times, their windows' edges, midnights and changes of
//! daylight saving, each a millisecond early, on time and late. proptest prints the failing input,
//! and keeps its seed.

use proptest::prelude::*;
use serde_json::json;

use crate::clock::Timestamp;

use super::oracle::Oracle;
use super::subject::{Book, Subject, at};
use super::{Clause, ClauseKind, MembershipFact, Scope, Shown, parse};

/// Zones that change by an hour, by half an hour, over midnight, by a day, and one with odd minutes.
const ZONES: [&str; 7] = [
    "UTC",
    "America/New_York",
    "Europe/Paris",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Kathmandu",
];

/// Around here clocks change in New York, Havana, Paris, Apia and on Lord Howe, a month ends, and a
/// Sunday is near.
const CENTRES: [&str; 6] = [
    "2026-03-08T06:30:00Z",
    "2026-03-29T00:30:00Z",
    "2025-10-26T00:30:00Z",
    "2024-02-29T12:00:00Z",
    "2011-12-30T09:00:00Z",
    "2026-04-04T15:00:00Z",
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
        1 => Just("times".to_owned()),
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
        (0..5_i64).prop_map(|n| format!("n * 2 + 1 > {n} % 3")),
        (1..4_i64).prop_map(|n| format!("n / (n - {n}) < 2")),
        (0..5_i64).prop_map(|n| format!("items[n > {n}].count() = 1")),
        (0..5_i64).prop_map(|n| format!("items.sum(n) >= {n}")),
        (0..5_i64).prop_map(|n| format!("if(n > {n}, n, 1) = 1")),
        (0..5_i64).prop_map(|n| format!("exists I from items where I.n = {n}")),
        (0..5_i64).prop_map(|n| format!("forall I from items : I.n > {n}")),
        text_test(),
        Just("items.n notIn [0, 1]".to_owned()),
        Just("items.n subsetOf [1, 2, 3]".to_owned()),
        Just("items.n supersetOf [1]".to_owned()),
        Just("items.n intersects []".to_owned()),
        Just("timestamp.getDayOfMonth() > 15".to_owned()),
        Just("timestamp.getMonth() = 3".to_owned()),
        Just("timestamp < date(2026, 3, 8)".to_owned()),
        Just("at >= timestamp".to_owned()),
        Just("times occurs before at".to_owned()),
        Just("day occurs on timestamp".to_owned()),
        Just("times.isNull()".to_owned()),
        Just("items.n.distinct().count() = 2".to_owned()),
    ]
    .boxed()
}

fn text_test() -> BoxedStrategy<String> {
    let functions = [
        "equals",
        "notEqualTo",
        "startsWith",
        "doesNotStartWith",
        "endsWith",
        "doesNotEndWith",
        "contains",
        "doesNotContain",
    ];
    let subject = "(eventType|gone|n|tags)";
    (subject, proptest::sample::select(functions.to_vec()), "(a|B|x)", "(|, true|, false)")
        .prop_map(|(subject, function, text, flag)| {
            format!("{subject}.{function}(\"{text}\"{flag})")
        })
        .boxed()
}

/// Conditions on the profile alone.
fn profile_test() -> BoxedStrategy<String> {
    prop_oneof![
        (0..5_i64).prop_map(|n| format!("limit > {n}")),
        (0..5_i64).prop_map(|n| format!("limit - 2 * {n} != 1")),
        Just("currentDayOfMonth() > 15".to_owned()),
        Just("currentMonth() = 3".to_owned()),
        Just("currentYear() in [2011, 2024]".to_owned()),
        Just("tags like \"_b%\"".to_owned()),
        Just("tags.matches(\"^a\")".to_owned()),
        Just("tags subsetOf [\"ab\", \"cb\"]".to_owned()),
        "inSegment[(]\"(in|out|never)\"[)]",
        "segmentMembership[.]get[(]\"ups\"[)][.]get[(]\"(in|out|never)\"[)][.]status = \"(realized|exited)\"",
        "identityMap[.]keys[(][)] intersects \\[\"(email|crmid|phone)\"\\]",
        "identityMap[.]get[(]\"(Email|PHONE)\"[)][.]exists[(]id[.]endsWith[(]\"x\"[)][)]",
        when().prop_map(|when| format!("born occurs {when}").replace(" at", " day").replace("times", "day")),
        Just("if(limit > 2, born.getDayOfMonth(), limit) > 2".to_owned()),
    ]
    .boxed()
}

/// A condition on an event, its windows, and now and then on the profile too.
fn event_test() -> BoxedStrategy<String> {
    let window = when().prop_map(|when| format!("timestamp occurs {when}"));
    let leaf = prop_oneof![3 => static_test(), 2 => window];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            1 => inner.clone().prop_map(|a| format!("not ({a})")),
            1 => (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if({a}, {b}, {c})")),
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
        1 => (0..5_i64).prop_map(|n| {
            format!("exists E from xEvent where E.n > {n}, F from xEvent where F.n < E.n")
        }),
        1 => (0..5_i64).prop_map(|n| {
            format!("forall E from xEvent[n > {n}] : (exists F from xEvent where F.n > E.n)")
        }),
        1 => when().prop_map(|when| {
            format!("xEvent[timestamp occurs {when} and inSegment(\"in\")].count() > 1")
        }),
        2 => (0..5_i64, "(<|<=|=|!=|>=|>)").prop_map(|(n, how)| format!("xEvent.n {how} {n}")),
        1 => (0..5_i64).prop_map(|n| format!("limit >= xEvent[n > {n}].items.n")),
        1 => (event_test(), when())
            .prop_map(|(test, when)| format!("xEvent[{test}].timestamp occurs {when}")),
        1 => text_test().prop_map(|test| format!("xEvent.{test}")),
        1 => Just("xEvent.items.n supersetOf [1, 2]".to_owned()),
        1 => Just("xEvent.n.distinct().count() >= 3".to_owned()),
        1 => (event_test(), event_test())
            .prop_map(|(a, b)| format!("xEvent[{a}].count() * 2 > xEvent[{b}].sum(n) - 1")),
        1 => (step(), step()).prop_map(|(a, b)| {
            format!("chain(xEvent, timestamp, [{a}, P: WHAT(n < 3 or inSegment(\"out\")), {b}])")
        }),
        4 => profile_test(),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) and ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or ({b})")),
            inner.clone().prop_map(|a| format!("not ({a})")),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| format!("if({a}, {b}, {c})")),
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

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

fn body_of(centre: i64, drawn: &Drawn) -> (i64, serde_json::Value) {
    let (hours, off, kind, n, items) = drawn;
    let ts = centre + hours * HOUR + off;
    let items: Vec<_> = items.iter().map(|n| json!({ "n": n })).collect();
    let event_type = ["a", "b", "B", "c"][*kind];
    let body = json!({
        "timestamp": Timestamp::from_millis(ts).to_string(),
        "at": Timestamp::from_millis(ts + 30 * HOUR).to_string(),
        "times": [
            Timestamp::from_millis(ts - 26 * HOUR).to_string(),
            Timestamp::from_millis(ts + HOUR).to_string(),
        ],
        "day": Timestamp::from_millis(ts).to_string()[..10],
        "tags": ["xa", "B"],
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

/// Rules of one run of the tests; `PROPTEST_CASES` asks for more.
const CASES: u32 = 250;

/// One rule over one customer's life.
struct Life {
    text: String,
    zone: usize,
    centre: i64,
    limit: i64,
    drawn: Vec<Drawn>,
    /// Places in the list of instants, in hundredths: when the event arrives, and to which of two
    /// profiles. At 0 it is there from the start.
    arrivals: Vec<(usize, bool)>,
    /// When the two profiles are merged, likewise.
    merged: usize,
}

impl Life {
    fn profile(&self) -> serde_json::Value {
        json!({
            "limit": self.limit,
            "tags": ["ab", "cb"],
            "born": Timestamp::from_millis(self.centre - 5 * 24 * HOUR).to_string(),
            "day": Timestamp::from_millis(self.centre).to_string()[..10],
        })
    }

    /// Lives it, with the oracle's word at every instant.
    #[expect(clippy::too_many_lines, reason = "one life, instant by instant")]
    fn check(&self) -> Result<(), TestCaseError> {
        let fail = |error: super::PqlError| TestCaseError::fail(format!("{error}: {}", self.text));
        let profile = self.profile();
        let identities =
            vec![("email".to_owned(), "ax".to_owned()), ("crmid".to_owned(), "x".to_owned())];
        let memberships = vec![("in".to_owned(), true), ("out".to_owned(), false)];
        let mut book = Book::new(ZONES[self.zone]);
        let rule = book.compile(&self.text).map_err(fail)?;
        let mut subject = Subject::default().with_attributes(&mut book, &profile.to_string());
        subject.identities.clone_from(&identities);
        for (id, realized) in &memberships {
            let since = Timestamp::EPOCH;
            let fact = MembershipFact { realized: *realized, since, until: Timestamp::MAX };
            subject.memberships.insert(id.clone(), fact);
        }
        let mut other = Some(Subject::default());
        let bodies: Vec<_> = self.drawn.iter().map(|drawn| body_of(self.centre, drawn)).collect();
        let expr = parse(&self.text).map_err(fail)?;
        let instants = instants(&self.text, self.centre, &bodies);
        let place = |hundredths: usize| hundredths * instants.len() / 100;
        // The events that the oracle sees, by (timestamp, offset).
        let mut known: Vec<(i64, u64, serde_json::Value)> = Vec::new();
        let mut apart: Vec<(i64, u64, serde_json::Value)> = Vec::new();
        // What the last evaluation promised: (value, until when).
        let mut promise: Option<(bool, Timestamp)> = None;
        for (at, now) in instants.iter().enumerate() {
            let mut is_changed = false;
            let arrivals = self.arrivals.iter().cycle();
            for ((offset, (ts, body)), (arrival, to_other)) in (0..).zip(&bodies).zip(arrivals) {
                if place(*arrival) != at {
                    continue;
                }
                let event = (*ts, offset, body.clone());
                if let Some(other) = other.as_mut().filter(|_| *to_other) {
                    other.observe(&book, offset, &body.to_string());
                    other.trim(&book, Timestamp::from_millis(*now));
                    apart.push(event);
                } else {
                    subject.observe(&book, offset, &body.to_string());
                    known.push(event);
                    is_changed = true;
                }
            }
            if place(self.merged) == at
                && let Some(other) = other.take()
            {
                subject.absorb(&book, other);
                known.append(&mut apart);
                is_changed = true;
            }
            known.sort_by_key(|(ts, offset, _)| (*ts, *offset));
            let events: Vec<_> = known.iter().map(|(ts, _, body)| (*ts, body.clone())).collect();
            let oracle = Oracle {
                profile: &profile,
                events: &events,
                now: *now,
                zone: &book.zone,
                identities: &identities,
                memberships: &memberships,
            };
            let expected = oracle.holds(&expr);
            let now = Timestamp::from_millis(*now);
            if let Some((value, until)) = promise.filter(|_| !is_changed) {
                let is_kept = value == expected || until <= now;
                prop_assert!(is_kept, "{} changed before {}", self.text, now);
            }
            let found = subject.evaluate(&book, &rule, now);
            prop_assert_eq!(found.holds, expected, "{} at {}", self.text, now);
            prop_assert!(found.changes_at > now, "{} at {}", self.text, now);
            let scope = Scope { now, queries: &book.queries };
            let clause = rule.explain(&subject, &scope);
            prop_assert_eq!(clause.holds, expected, "{:?} at {}", clause, now);
            // The page is slow: at a quarter of the instants is enough for the parts.
            if at.is_multiple_of(4) {
                self.check_clause(&clause, &oracle, now)?;
            }
            let is_due = promise.is_none_or(|(value, until)| value != found.holds || until <= now);
            if is_changed || is_due {
                promise = Some((found.holds, found.changes_at));
            }
            subject.trim(&book, now);
        }
        Ok(())
    }
}

impl Life {
    /// A clause holds as its parts say, and each, seen or cut short, as the page says of its text.
    fn check_clause(
        &self,
        clause: &Clause,
        oracle: &Oracle<'_>,
        now: Timestamp,
    ) -> Result<(), TestCaseError> {
        let alone = parse(&clause.text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let expected = oracle.holds(&alone);
        prop_assert_eq!(clause.holds, expected, "{:?} of {} at {}", clause, self.text, now);
        if clause.kind != ClauseKind::Test {
            let follows = clause.kind.follows_from(&clause.parts);
            prop_assert_eq!(clause.holds, follows, "{:?} at {}", clause, now);
        }
        for value in &clause.values {
            let Shown::Json(json) = &value.value else { continue };
            let is_json = serde_json::from_str::<serde_json::Value>(json).is_ok();
            prop_assert!(is_json, "{} of {}", json, value.of);
        }
        prop_assert!(clause.changes_at > now, "{:?} at {}", clause, now);
        clause.parts.iter().try_for_each(|part| self.check_clause(part, oracle, now))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn plans_agree_with_the_page_at_every_instant(
        text in rule(),
        drawn in proptest::collection::vec(event(), 0..8),
        (zone, centre, limit) in (0..ZONES.len(), 0..CENTRES.len(), 0..5_i64),
        arrivals in proptest::collection::vec(
            (prop_oneof![2 => Just(0), 3 => 0..90_usize], any::<bool>()),
            1..8,
        ),
        merged in 0..100_usize,
    ) {
        let centre = at(CENTRES[centre]).as_millis();
        Life { text, zone, centre, limit, drawn, arrivals, merged }.check()?;
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
