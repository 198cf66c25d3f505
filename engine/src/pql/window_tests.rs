//! Every edge of the page's section on time: from when until when an event lies within a window.

use crate::clock::Timestamp;

use super::subject::{Book, Subject, at};

/// The instants, within five years of the event, at which the window's truth turns, found by going
/// from one announced change to the next; and how many evaluations that took.
fn turns(zone: &str, when: &str, ts: &str, from: &str) -> (Vec<String>, usize) {
    let mut book = Book::new(zone);
    let rule = book.compile(&format!("xEvent[timestamp occurs {when}]")).expect(when);
    let mut subject = Subject::default().with_attributes(&mut book, "{}");
    subject.observe(&book, 0, &format!(r#"{{"timestamp":"{ts}"}}"#));
    let (mut now, end) = (at(from), at("2031-01-01T00:00:00Z"));
    let (mut value, mut found, mut evaluations) = (false, Vec::new(), 0);
    while now < end {
        let evaluation = subject.evaluate(&book, &rule, now);
        assert!(evaluation.changes_at > now, "{when} at {now}");
        if evaluation.holds != value {
            found.push(now.to_string().replace(".000Z", "Z"));
            value = evaluation.holds;
        }
        now = evaluation.changes_at;
        evaluations += 1;
        assert!(evaluations < 100_000, "{when} never ends");
    }
    // What is trimmed at the end must have been over.
    let last = Timestamp::from_millis(end.as_millis() - 1);
    subject.trim(&book, last);
    assert_eq!(subject.evaluate(&book, &rule, last).holds, value, "{when}");
    (found, evaluations)
}

/// Checks each (window, timestamp, the instants at which it turns true, false, true, …), the clock
/// starting on 1 January 2026.
fn check(zone: &str, cases: &[(&str, &str, &[&str])]) {
    for (when, ts, expected) in cases {
        let (found, evaluations) = turns(zone, when, ts, "2026-01-01T00:00:00Z");
        assert_eq!(found, *expected, "{ts} occurs {when} in {zone}");
        assert!(evaluations <= 2_000, "{when}: {evaluations} evaluations");
    }
}

const START: &str = "2026-01-01T00:00:00Z";

#[test]
fn distances_of_fixed_length_are_exact_to_the_millisecond() {
    let ts = "2026-01-05T10:00:00.999Z";
    check(
        "UTC",
        &[
            (
                "< 24 hours before now",
                ts,
                &["2026-01-05T10:00:00.999Z", "2026-01-06T10:00:00.999Z"],
            ),
            ("<= 24 hours before now", ts, &["2026-01-05T10:00:00.999Z", "2026-01-06T10:00:01Z"]),
            (">= 24 hours before now", ts, &["2026-01-06T10:00:00.999Z"]),
            ("> 24 hours before now", ts, &["2026-01-06T10:00:01Z"]),
            ("= 1 day before now", ts, &["2026-01-06T10:00:00.999Z", "2026-01-07T10:00:00.999Z"]),
            ("1 day before now", ts, &["2026-01-06T10:00:00.999Z", "2026-01-07T10:00:00.999Z"]),
            (
                "!= 1 day before now",
                ts,
                &[
                    "2026-01-05T10:00:00.999Z",
                    "2026-01-06T10:00:00.999Z",
                    "2026-01-07T10:00:00.999Z",
                ],
            ),
            ("= 0 days before now", ts, &["2026-01-05T10:00:00.999Z", "2026-01-06T10:00:00.999Z"]),
            ("< 0 days before now", ts, &[]),
            ("<= 0 days before now", ts, &["2026-01-05T10:00:00.999Z", "2026-01-05T10:00:01Z"]),
            (
                "< 1 millisecond before now",
                ts,
                &["2026-01-05T10:00:00.999Z", "2026-01-05T10:00:01Z"],
            ),
            ("< 1 week before now", ts, &["2026-01-05T10:00:00.999Z", "2026-01-12T10:00:00.999Z"]),
            ("< 2 days after now", ts, &["2026-01-03T10:00:01Z", "2026-01-05T10:00:01Z"]),
            ("<= 2 days after now", ts, &["2026-01-03T10:00:00.999Z", "2026-01-05T10:00:01Z"]),
            (">= 2 days after now", ts, &[START, "2026-01-03T10:00:01Z"]),
            ("< 1 day from now", ts, &["2026-01-04T10:00:01Z", "2026-01-06T10:00:00.999Z"]),
            ("<= 1 day from now", ts, &["2026-01-04T10:00:00.999Z", "2026-01-06T10:00:01Z"]),
            ("> 1 day from now", ts, &[START, "2026-01-04T10:00:00.999Z", "2026-01-06T10:00:01Z"]),
            ("< 7 days before date(2026, 1, 6)", ts, &[START]),
            ("< 7 hours before date(2026, 1, 6)", ts, &[]),
            ("< 1 day before today", ts, &["2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"]),
        ],
    );
}

#[test]
fn order_is_strict_and_between_is_not() {
    let ts = "2026-01-05T10:00:00Z";
    check(
        "UTC",
        &[
            ("before now", ts, &["2026-01-05T10:00:00.001Z"]),
            ("after now", ts, &[START, "2026-01-05T10:00:00Z"]),
            ("before date(2026, 1, 6)", ts, &[START]),
            ("after date(2026, 1, 6)", ts, &[]),
            ("before date(2026, 1, 6)", "2026-01-06T00:00:00Z", &[]),
            ("after date(2026, 1, 6)", "2026-01-06T00:00:00Z", &[]),
            ("before today", ts, &["2026-01-06T00:00:00Z"]),
            ("before 2 days before now", ts, &["2026-01-07T10:00:00.001Z"]),
            (
                "between 2 days before now and now",
                ts,
                &["2026-01-05T10:00:00Z", "2026-01-07T10:00:00.001Z"],
            ),
            ("between yesterday and today", ts, &["2026-01-06T00:00:00Z", "2026-01-07T00:00:00Z"]),
            ("between date(2026, 1, 1) and date(2026, 1, 6)", "2026-01-06T00:00:00Z", &[START]),
            ("between date(2026, 1, 1) and date(2026, 1, 6)", "2026-01-06T00:00:00.001Z", &[]),
        ],
    );
}

#[test]
fn periods_follow_the_calendar() {
    // Friday, 16 January.
    let ts = "2026-01-16T10:20:30.400Z";
    check(
        "UTC",
        &[
            ("today", ts, &["2026-01-16T00:00:00Z", "2026-01-17T00:00:00Z"]),
            ("on today", ts, &["2026-01-16T00:00:00Z", "2026-01-17T00:00:00Z"]),
            ("on now", ts, &["2026-01-16T00:00:00Z", "2026-01-17T00:00:00Z"]),
            ("yesterday", ts, &["2026-01-17T00:00:00Z", "2026-01-18T00:00:00Z"]),
            ("tomorrow", ts, &["2026-01-15T00:00:00Z", "2026-01-16T00:00:00Z"]),
            ("this week", ts, &["2026-01-11T00:00:00Z", "2026-01-18T00:00:00Z"]),
            ("last week", ts, &["2026-01-18T00:00:00Z", "2026-01-25T00:00:00Z"]),
            ("next week", ts, &["2026-01-04T00:00:00Z", "2026-01-11T00:00:00Z"]),
            ("this month", ts, &[START, "2026-02-01T00:00:00Z"]),
            ("last month", ts, &["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]),
            ("this year", ts, &[START, "2027-01-01T00:00:00Z"]),
            ("last year", ts, &["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
            ("this hour", ts, &["2026-01-16T10:00:00Z", "2026-01-16T11:00:00Z"]),
            ("last hour", ts, &["2026-01-16T11:00:00Z", "2026-01-16T12:00:00Z"]),
            ("this minute", ts, &["2026-01-16T10:20:00Z", "2026-01-16T10:21:00Z"]),
            ("on 3 days before now", ts, &["2026-01-19T00:00:00Z", "2026-01-20T00:00:00Z"]),
            ("on date(2026, 1, 16)", ts, &[START]),
            ("on date(2026, 1, 17)", ts, &[]),
        ],
    );
}

#[test]
fn months_and_years_are_calendar_steps() {
    let end_of_january = "2026-01-31T10:00:00Z";
    check(
        "UTC",
        &[
            (
                "< 1 month before now",
                end_of_january,
                &["2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z"],
            ),
            (
                "<= 1 month before now",
                end_of_january,
                &["2026-01-31T10:00:00Z", "2026-02-28T10:00:00.001Z"],
            ),
            (
                "= 1 month before now",
                end_of_january,
                &["2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z"],
            ),
            (
                "= 2 months before now",
                end_of_january,
                &["2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z"],
            ),
            (
                "< 1 year before now",
                "2028-02-29T10:00:00Z",
                &["2028-02-29T10:00:00Z", "2029-02-28T10:00:00Z"],
            ),
            // Counted back from the clock, days 29 to 31 of March all give the last of February,
            // and the time of day repeats with them.
            (
                "before 1 month before now",
                "2026-02-28T10:00:00Z",
                &[
                    "2026-03-28T10:00:00.001Z",
                    "2026-03-29T00:00:00Z",
                    "2026-03-29T10:00:00.001Z",
                    "2026-03-30T00:00:00Z",
                    "2026-03-30T10:00:00.001Z",
                    "2026-03-31T00:00:00Z",
                    "2026-03-31T10:00:00.001Z",
                ],
            ),
            (
                "on 1 month before now",
                "2026-02-28T10:00:00Z",
                &["2026-03-28T00:00:00Z", "2026-04-01T00:00:00Z"],
            ),
        ],
    );
}

#[test]
fn days_follow_daylight_saving() {
    // New York: 8 March has 23 hours, 1 November 25.
    check(
        "America/New_York",
        &[
            ("today", "2026-03-08T12:00:00Z", &["2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"]),
            ("today", "2026-11-01T12:00:00Z", &["2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"]),
            // A distance in days is of 24 hours.
            (
                "< 1 day before now",
                "2026-03-08T06:00:00Z",
                &["2026-03-08T06:00:00Z", "2026-03-09T06:00:00Z"],
            ),
            // A month later at the same local time.
            (
                "< 1 month before now",
                "2026-02-20T12:00:00Z",
                &["2026-02-20T12:00:00Z", "2026-03-20T11:00:00Z"],
            ),
            // 02:30 local does not exist on 8 March: as far past the gap as it lies in it.
            (
                "< 1 month before now",
                "2026-02-08T07:30:00Z",
                &["2026-02-08T07:30:00Z", "2026-03-08T07:30:00Z"],
            ),
            (
                "this hour",
                "2026-11-01T05:30:00Z",
                &["2026-11-01T05:00:00Z", "2026-11-01T06:00:00Z"],
            ),
            (
                "this week",
                "2026-03-08T12:00:00Z",
                &["2026-03-08T05:00:00Z", "2026-03-15T04:00:00Z"],
            ),
        ],
    );
}
