//! What a plan says of itself, and how much of the events it keeps.

use crate::clock::Timestamp;

use super::subject::{Book, Subject, at};

#[test]
fn plans_say_what_a_rule_reads_and_waits_for() {
    // (rule, what its lines contain)
    let cases: [(&str, &[&str]); 7] = [
        ("a.b = 1 and c", &["attributes: a.b, c", "changes by records only"]),
        (
            r#"xEvent[eventType = "p" and timestamp occurs < 7 days before now].count() > 1"#,
            &[
                "count of events (event types p; window < 7 days before now): ",
                "changes by the clock",
            ],
        ),
        (
            "xEvent[timestamp occurs today or n = 1].sum(n) > 1",
            &["sum of n (any event type; window on today)", "by the calendar of the time zone"],
        ),
        (
            "exists E from xEvent where E.n > limit",
            &["attributes: limit", "kept whole", "no window, so they are never dropped"],
        ),
        (
            "exists E from xEvent where E.n > limit and E.timestamp occurs <= 2 hours before now",
            &["kept whole", "window <= 2 hours before now"],
        ),
        (
            r#"chain(xEvent, timestamp, [A: WHAT(eventType = "p"), B: WHAT(eventType = "q") WHEN(last month)])"#,
            &["chain of 2 steps (event types p, q; window on last month)"],
        ),
        (
            r#"inSegment("x") and identityMap.get("Email")"#,
            &["identities", "audiences: x", "changes by records only"],
        ),
    ];
    for (text, expected) in cases {
        let mut book = Book::new("UTC");
        let rule = book.compile(text).expect(text);
        let lines = rule.describe(&book.queries, &book.paths).join("\n");
        for part in expected {
            assert!(lines.contains(part), "{text}:\n{lines}");
        }
    }
}

#[test]
fn what_can_never_matter_again_is_not_kept() {
    // (what it shows, rule, how much is kept of 100 events a day apart, on the last of those days)
    let many = r#""timestamp":"#;
    let cases = [
        ("a count needs no events", "xEvent.count() > 1", "Count(100)"),
        (
            "a window drops the old",
            "xEvent[timestamp occurs < 2 days before now].count() > 0",
            "Times(0, [_, _])",
        ),
        (
            "one that opens settles them",
            "xEvent[timestamp occurs > 97 days before now].count() > 0",
            "Times(2, [",
        ),
        (
            "a choice with the clock drops them too",
            "xEvent[n = 1 or timestamp occurs < 2 days before now].count() > 0",
            "Flagged(Count(50), [",
        ),
        (
            "kept events in a window",
            "exists E from xEvent where E.n = limit and E.timestamp occurs < 2 days before now",
            "Events([KeptEvent {",
        ),
        (
            "a chain keeps what its first step needs",
            "chain(xEvent, timestamp, [A: WHAT(n = 0), B: WHAT(n = 1), C: WHAT(n = 2)])",
            "Chain([Mark {",
        ),
    ];
    let numbers = regex::Regex::new("[0-9]{9,}").expect("a pattern");
    for (name, text, expected) in cases {
        let mut book = Book::new("UTC");
        let rule = book.compile(text).expect(text);
        let mut subject = Subject::default().with_attributes(&mut book, "{}");
        let first = at("2026-01-01T00:00:00Z").as_millis();
        for day in 0..100 {
            let now = Timestamp::from_millis(first + day * 86_400_000);
            let body = format!("{{\"timestamp\":\"{now}\",\"n\":{}}}", day % 2);
            subject.observe(&book, day.unsigned_abs(), &body);
            subject.trim(&book, now);
        }
        let state = subject.state(rule.reads().queries[0]);
        let shown = numbers.replace_all(&state, "_");
        assert!(shown.starts_with(expected), "{name}: {shown}");
        let kept = shown.matches('_').count() + shown.matches(many).count();
        assert!(kept <= 100 && (kept <= 6 || name.contains("settles")), "{name}: {kept}: {shown}");
    }
}
