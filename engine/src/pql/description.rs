//! A rule's plan in lines for people: what is read, which event queries, which windows, and whether
//! the clock alone can change it.

use std::fmt::{self, Display, Formatter};

use crate::profile::path::PathTable;

use super::ast::{Direction, Span, TimeExpr, Unit};
use super::event_index::EventType;
use super::query::{EventQuery, QueryKind, QuerySet};
use super::rule::Rule;
use super::window::{Instant, When};

impl Rule {
    /// The plan in lines for people.
    pub fn describe(&self, queries: &QuerySet, paths: &PathTable) -> Vec<String> {
        let reads = self.reads();
        let mut lines = Vec::new();
        let names: Vec<String> = reads.attributes.iter().map(|path| paths.dotted(*path)).collect();
        if !names.is_empty() {
            lines.push(format!("attributes: {}", names.join(", ")));
        }
        if reads.identities {
            lines.push("identities".to_owned());
        }
        for id in &reads.queries {
            lines.push(queries.get(*id).describe());
        }
        let others: Vec<&str> = reads.segments.iter().map(|other| other.id.as_str()).collect();
        if !others.is_empty() {
            lines.push(format!("audiences: {}", others.join(", ")));
        }
        lines.push(match (reads.clock, reads.calendar) {
            (true, true) => "changes by the clock, by the calendar of the time zone".to_owned(),
            (true, false) => "changes by the clock".to_owned(),
            (false, _) => "changes by records only".to_owned(),
        });
        lines
    }
}

impl EventQuery {
    /// One line: what is made of which events, in which windows, and the condition as written.
    fn describe(&self) -> String {
        let kind = match &self.kind {
            QueryKind::Count => "count of events".to_owned(),
            QueryKind::Numbers(aggregate, keys) => {
                format!("{} of {}", format!("{aggregate:?}").to_lowercase(), keys.join("."))
            }
            QueryKind::Events => {
                "events, kept whole because the rule asks more of them than a number".to_owned()
            }
            QueryKind::Chain(steps) if steps.len() == 1 => "chain of 1 step".to_owned(),
            QueryKind::Chain(steps) => format!("chain of {} steps", steps.len()),
        };
        let types = match self.event_types() {
            None => "any event type".to_owned(),
            Some(types) => {
                let names: Vec<&str> = types
                    .iter()
                    .map(|(EventType::Exact(name) | EventType::Folded(name))| &**name)
                    .collect();
                format!("event types {}", names.join(", "))
            }
        };
        format!("{kind} ({types}; {}): {}", self.describe_windows(), self.text)
    }

    fn describe_windows(&self) -> String {
        let mut windows: Vec<String> = Vec::new();
        self.gates().for_each(|gate| {
            gate.visit(&mut |when| {
                let window = when.to_string();
                if !windows.contains(&window) {
                    windows.push(window);
                }
            });
        });
        match windows.len() {
            0 if self.keeps_events() => "no window, so they are never dropped".to_owned(),
            0 => "no window".to_owned(),
            1 => format!("window {}", windows[0]),
            _ => format!("windows {}", windows.join(", ")),
        }
    }
}

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distance(comparison, span, anchor) => write!(f, "{comparison} {span} {anchor}"),
            Self::Before(anchor) => write!(f, "before {anchor}"),
            Self::After(anchor) => write!(f, "after {anchor}"),
            Self::On(anchor) => write!(f, "on {anchor}"),
            Self::Between(first, last) => write!(f, "between {first} and {last}"),
        }
    }
}

impl Display for Instant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(at) => write!(f, "{at}"),
            Self::Operand(_) => f.write_str("a path"),
            Self::Now => f.write_str("now"),
            Self::Start(Unit::Day, -1) => f.write_str("yesterday"),
            Self::Start(Unit::Day, 1) => f.write_str("tomorrow"),
            Self::Start(unit, offset) => write!(f, "{}", TimeExpr::Period(*unit, *offset)),
            Self::Shifted(count, unit, from) => {
                let direction = if *count < 0 { Direction::Before } else { Direction::After };
                let count = count.saturating_abs();
                write!(f, "{} {from}", Span { count, unit: *unit, direction })
            }
        }
    }
}
