//! The audiences of the model: each in the language of rules, and in plain Rust.

use std::collections::BTreeSet;

use super::definitions::Definitions;
use super::naive::DAY_MS;

/// The upload audience.
pub(super) const LIST: &str = "list";

/// What a rule sees.
pub(super) struct View<'a> {
    /// What is defined.
    pub(super) defined: &'a Definitions,
    /// The clock.
    pub(super) now_ms: i64,
    /// Time, type and value.
    pub(super) events: &'a [(i64, &'a str, Option<i64>)],
    /// `country`, if the profile has one.
    pub(super) country: Option<&'a str>,
    /// The audiences it is in, of those that were evaluated before.
    pub(super) inside: &'a BTreeSet<&'static str>,
}

/// One audience, said twice. `{over}` and `{days}` stand for what definitions may change.
pub(super) struct Audience {
    pub(super) id: &'static str,
    pub(super) pql: &'static str,
    pub(super) holds: fn(&View<'_>) -> bool,
}

/// In an order in which each names only those before it.
pub(super) const RULES: &[Audience] = &[
    Audience {
        id: "spent",
        pql: r#"xEvent[eventType = "buy"].sum(v) > {over}"#,
        holds: |view| {
            let bought = view.events.iter().filter(|(_, kind, _)| *kind == "buy");
            bought.filter_map(|(_, _, value)| *value).sum::<i64>() > view.defined.over
        },
    },
    Audience {
        id: "recent",
        pql: "xEvent[timestamp occurs < {days} days before now].count() >= 2",
        holds: |view| {
            let age = |time: i64| view.now_ms - time;
            view.events.iter().filter(|(time, ..)| age(*time) < view.defined.days * DAY_MS).count()
                >= 2
        },
    },
    Audience {
        id: "lately",
        pql: r#"xEvent[eventType = "view" and timestamp occurs <= 36 hours before now].max(v) > 7"#,
        holds: |view| {
            let near = |time: i64| view.now_ms - time <= DAY_MS * 3 / 2;
            let of = view.events.iter().filter(|(time, kind, _)| *kind == "view" && near(*time));
            of.filter_map(|(_, _, value)| *value).any(|value| value > 7)
        },
    },
    Audience {
        id: "viewed",
        pql: r#"exists E from xEvent where E.eventType = "view""#,
        holds: |view| view.events.iter().any(|(_, kind, _)| *kind == "view"),
    },
    Audience { id: "french", pql: r#"country = "FR""#, holds: |view| view.country == Some("FR") },
    Audience {
        id: "quiet",
        pql: r#"xEvent and not(chain(xEvent, timestamp, [X: WHAT(eventType = "view") WHEN(today)]))"#,
        holds: |view| {
            let today = view.now_ms.div_euclid(DAY_MS);
            let is_today = |time: i64| time.div_euclid(DAY_MS) == today;
            !view.events.is_empty()
                && !view.events.iter().any(|(time, kind, _)| *kind == "view" && is_today(*time))
        },
    },
    Audience {
        id: "both",
        pql: r#"inSegment("spent") and inSegment("recent")"#,
        holds: |view| view.inside.contains("spent") && view.inside.contains("recent"),
    },
    Audience {
        id: "listed",
        pql: r#"inSegment("list") and not inSegment("both")"#,
        holds: |view| view.inside.contains(LIST) && !view.inside.contains("both"),
    },
];
