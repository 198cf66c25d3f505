//! Rules taken apart: the values that people read, clause by clause.

use super::subject::{Book, Subject, at};
use super::{Clause, ClauseKind, MembershipFact, Scope, Shown, Turn, VALUE_BYTES_MAX};
use crate::clock::Timestamp;

const NOW: &str = "2026-03-10T12:00:00Z";

const ATTRIBUTES: &str = r#"{"homeAddress":{"countryCode":"US","city":"Reno"},"limit":500,
    "tags":["ab","cb"],"joined":"2026-03-01","person":{"name":{"firstName":"Ana"}},"gone":null}"#;

/// Three purchases (100 on the 1st, 200.5 on the 8th, 180.2 on the 10th) and a page view.
const EVENTS: [&str; 4] = [
    r#"{"timestamp":"2026-03-01T00:00:00Z","eventType":"buy","total":100,"items":[{"sku":"A"}]}"#,
    r#"{"timestamp":"2026-03-08T00:00:00Z","eventType":"buy","total":200.5,"items":[{"sku":"B"}]}"#,
    r#"{"timestamp":"2026-03-09T00:00:00Z","eventType":"view","page":"/x"}"#,
    r#"{"timestamp":"2026-03-10T00:00:00Z","eventType":"buy","total":180.2,"items":[]}"#,
];

fn explained(text: &str) -> (Clause, Turn) {
    let mut book = Book::new("UTC");
    let rule = book.compile(text).expect(text);
    let mut subject = Subject::default().with_attributes(&mut book, ATTRIBUTES);
    subject.identities.push(("email".to_owned(), "ana@example.com".to_owned()));
    let since = at("2026-02-01T00:00:00Z");
    let member = MembershipFact { realized: true, since, until: Timestamp::MAX };
    subject.memberships.insert("vip".to_owned(), member);
    for (offset, body) in (0..).zip(EVENTS) {
        subject.observe(&book, offset, body);
    }
    let scope = Scope { now: at(NOW), queries: &book.queries };
    let clause = rule.explain(&subject, &scope);
    assert_eq!(clause.holds, rule.evaluate(&subject, &scope).holds, "{text}");
    (clause, rule.turn(&subject, &scope))
}

/// `kind holds; value = …; … until … (parts)`
fn drawn(clause: &Clause) -> String {
    let kind = match clause.kind {
        ClauseKind::All => "all ",
        ClauseKind::Any => "any ",
        ClauseKind::Not => "not ",
        ClauseKind::If => "if ",
        ClauseKind::Test => "",
    };
    let values = clause.values.iter().map(|value| {
        let Shown::Json(json) = &value.value else { panic!("a short value") };
        format!("; {} = {json}", value.of)
    });
    let mut line = format!("{kind}{}{}", clause.holds, values.collect::<String>());
    if clause.parts.is_empty() && clause.changes_at != Timestamp::MAX {
        line = format!("{line} until {}", clause.changes_at.to_seconds_text());
    }
    let parts: Vec<String> = clause.parts.iter().map(drawn).collect();
    if parts.is_empty() { line } else { format!("{line} ({})", parts.join(" | ")) }
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(drawn(&explained(text).0), *expected, "{text}");
    }
}

#[test]
fn every_clause_shows_what_it_compared() {
    // (the rule, what is said of it)
    check(&[
        (r#"homeAddress.countryCode = "US""#, r#"true; homeAddress.countryCode = "US""#),
        ("gone = 1", "false; gone = null"),
        ("limit", "true; limit = 500"),
        ("gone.isNull()", "true; gone = null"),
        ("person.name.isNotNull()", r#"true; person.name = {"firstName":"Ana"}"#),
        ("not(limit.isNull())", "not true (false; limit = 500)"),
        (r#"tags in ["ab", "x"]"#, r#"true; tags = ["ab","cb"]"#),
        (r#"tags subsetOf ["ab"]"#, r#"false; tags = ["ab","cb"]"#),
        (r#"homeAddress.city.equals("reno", false)"#, r#"true; homeAddress.city = "Reno""#),
        (r#"homeAddress.city.matches("^R")"#, r#"true; homeAddress.city = "Reno""#),
        ("limit - 100 > 300", "true; limit - 100 = 400; limit = 500"),
        (
            r#"if(limit > 400, "a", "b") = "a""#,
            r#"true; if(limit > 400, "a", "b") = "a"; limit = 500"#,
        ),
        (
            r#"if(limit > 400, inSegment("vip"), gone)"#,
            r#"if true (true; limit = 500 | true; status in vip = "realized since 2026-02-01T00:00:00Z" | false; gone = null)"#,
        ),
        (r#"inSegment("never")"#, "false; status in never = null"),
        (
            r#"segmentMembership.get("ups").get("vip").status = "realized""#,
            r#"true; segmentMembership.get("ups").get("vip").status = "realized""#,
        ),
        (r#"identityMap.keys() intersects ["Email"]"#, r#"true; identityMap.keys() = ["email"]"#),
        (
            r#"identityMap.get("Email").exists(id.endsWith("com"))"#,
            r#"true; identityMap.get("Email") = [{"id":"ana@example.com"}]"#,
        ),
        (
            "joined occurs <= 10 days before now",
            r#"true; joined = "2026-03-01" until 2026-03-11T00:00:00Z"#,
        ),
        (
            "joined occurs between date(2026,1,1) and joined",
            r#"true; joined = "2026-03-01"; joined = "2026-03-01""#,
        ),
    ]);
}

#[test]
fn a_clause_about_events_shows_what_is_counted_of_them() {
    check(&[
        (
            r#"xEvent[eventType = "buy"].sum(total) > 500"#,
            r#"false; xEvent[eventType = "buy"].sum(total) = 480.7"#,
        ),
        (
            r#"xEvent[eventType = "buy" and timestamp occurs < 7 days before now].sum(total) > 250"#,
            r#"true; xEvent[eventType = "buy" and timestamp occurs < 7 days before now].sum(total) = 380.7 until 2026-03-15T00:00:00Z"#,
        ),
        (
            r#"xEvent[eventType = "buy"].count() * 2 > xEvent[page].count()"#,
            r#"true; xEvent[eventType = "buy"].count() * 2 = 6; xEvent[eventType = "buy"].count() = 3; xEvent[page].count() = 1"#,
        ),
        (r#"xEvent[eventType = "buy"]"#, "true; events for which it holds = 3"),
        (r#"xEvent.eventType = "view""#, "true; events for which it holds = 1"),
        (r#""view" = xEvent.eventType"#, "true; events for which it holds = 1"),
        (r#"xEvent.page.startsWith("/y")"#, "false; events for which it holds = 0"),
        ("xEvent.page.isNull()", "false; events for which it holds = 1"),
        (r#"xEvent.items.sku supersetOf ["A"]"#, r#"true; xEvent.items.sku = ["A","B"]"#),
        (
            r#"exists E from xEvent where E.total > 150, I from E.items where I.sku = "B""#,
            "true; events for which it holds = 1",
        ),
        ("forall E from xEvent : E.total > 150", "false; events for which it does not hold = 2"),
        ("exists T from tags where T = \"cb\"", r#"true; tags = ["ab","cb"]"#),
        ("xEvent[total > limit].count() = 0", "true; xEvent[total > limit].count() = 0"),
        (
            r#"limit > 1 and (gone or not inSegment("vip")) and tags"#,
            r#"all false (true; limit = 500 | any false (false; gone = null | not false (true; status in vip = "realized since 2026-02-01T00:00:00Z")) | true; tags = ["ab","cb"])"#,
        ),
    ]);
}

#[test]
fn a_chain_tells_how_far_each_step_is() {
    let chain = |steps: &str| format!("chain(xEvent, timestamp, [{steps}])");
    // (steps, how far each is)
    let cases = [
        (
            r#"A: WHAT(eventType = "buy") COUNT(2), B: WHAT(eventType = "view")"#,
            r#"true; A: WHAT(eventType = "buy") COUNT(2) = "2 of 2, complete"; B: WHAT(eventType = "view") = "1 of 1, complete""#,
        ),
        (
            r#"A: WHAT(eventType = "view"), B: WHAT(eventType = "buy") COUNT(2)"#,
            r#"false; A: WHAT(eventType = "view") = "1 of 1, complete with the event of 2026-03-09T00:00:00.000Z"; B: WHAT(eventType = "buy") COUNT(2) = "1 of 2""#,
        ),
        (
            r#"A: WHAT(total > 150 and inSegment("vip")) WHEN(< 3 days before now) COUNT(2)"#,
            r#"true; A: WHAT(total > 150 and inSegment("vip")) WHEN(< 3 days before now) COUNT(2) = "2 of 2, complete with the event of 2026-03-10T00:00:00.000Z" until 2026-03-11T00:00:00Z"#,
        ),
        (r#"A: WHAT(eventType = "none")"#, r#"false; A: WHAT(eventType = "none") = "0 of 1""#),
    ];
    for (steps, expected) in cases {
        let (clause, _) = explained(&chain(steps));
        assert_eq!(drawn(&clause), expected, "{steps}");
    }
}

#[test]
fn a_rule_says_when_the_clock_turns_it() {
    let time = |text: &str| Turn::At(at(text));
    // (the rule, when)
    let cases = [
        ("limit > 1", Turn::Never),
        (
            // At 7 days the purchase of the 8th leaves, and 180.2 is not enough.
            r#"xEvent[eventType = "buy" and timestamp occurs < 7 days before now].sum(total) > 250"#,
            time("2026-03-15T00:00:00Z"),
        ),
        (
            // The purchase of the 8th leaves first; only that of the 10th makes the difference.
            r#"xEvent[eventType = "buy" and timestamp occurs < 7 days before now]"#,
            time("2026-03-17T00:00:00Z"),
        ),
        (
            r#"not xEvent[eventType = "buy" and timestamp occurs < 7 days before now]"#,
            time("2026-03-17T00:00:00Z"),
        ),
        ("currentMonth() = 4", time("2026-04-01T00:00:00Z")),
        (r#"inSegment("vip")"#, Turn::NotBefore(Timestamp::MAX)),
    ];
    for (text, expected) in cases {
        assert_eq!(explained(text).1, expected, "{text}");
    }
}

#[test]
fn a_long_value_is_only_measured() {
    let mut book = Book::new("UTC");
    let rule = book.compile("note").expect("a rule");
    let long = "x".repeat(VALUE_BYTES_MAX);
    let subject =
        Subject::default().with_attributes(&mut book, &format!("{{\"note\":\"{long}\"}}"));
    let clause = rule.explain(&subject, &Scope { now: at(NOW), queries: &book.queries });
    assert_eq!(clause.values[0].value, Shown::TooLong(VALUE_BYTES_MAX + 2));
}

#[test]
fn text_of_several_lines_becomes_one() {
    let (clause, _) = explained("limit > 1\n  and\n  (tags or\n gone)");
    assert_eq!(clause.text, "limit > 1 and (tags or gone)");
    assert_eq!(clause.parts[0].text, "limit > 1");
    assert_eq!(clause.parts[1].text, "tags or gone");
}
