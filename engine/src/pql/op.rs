//! Operations: what an expression compiles to.
//!
//! Names are resolved. A path starts at a profile's attribute, or at a *frame*: the element that an
//! enclosing filter, quantifier or event query binds. Frames are numbered from the outside in, so
//! that a condition on events alone can be moved into a query by renumbering, and reads the same
//! whether it was written with a variable or without.

use std::fmt;

use regex::Regex;

use crate::clock::Timestamp;
use crate::profile::path::PathId;

use super::ast::{Comparison, DatePart, Operator, Quantifier, Relation};
use super::query::QueryId;
use super::window::When;

/// The segments of a path.
pub(super) type Keys = Box<[Box<str>]>;

/// One operation with its operands.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Bool(bool),
    Number(f64),
    Text(Box<str>),
    Time(Timestamp),
    List(Vec<Op>),
    /// A profile's attribute.
    Attribute(PathId, Keys),
    /// A path into the element of a frame.
    Frame(usize, Keys),
    Member(Box<Op>, Keys),
    Get(Box<Op>, Box<Op>),
    Keys(Box<Op>),
    Values(Box<Op>),
    /// The identity map, its namespaces, the identities of one namespace.
    Identities,
    Namespaces,
    IdentitiesOf(Box<Op>),
    /// A standing in the rule's n-th segment, and whether that is realized.
    Membership(usize, Standing),
    InSegment(usize),
    Current(DatePart),
    Part(DatePart, Box<Op>),
    /// The elements that satisfy a condition on the next frame.
    Filter(Box<Op>, Box<Op>),
    Quantified(Quantifier, Box<Op>, Box<Op>),
    /// Something made of the numbers at a path of each element.
    Aggregate(Aggregate, Box<Op>, Keys),
    Count(Box<Op>),
    Distinct(Box<Op>),
    Present(Box<Op>),
    Not(Box<Op>),
    And(Vec<Op>),
    Or(Vec<Op>),
    Compare(Comparison, Box<Op>, Box<Op>),
    Relate(Relation, Box<Op>, Box<Op>),
    Test(TextTest, Box<Op>, Box<Op>),
    Matches(Pattern, Box<Op>),
    Group(Pattern, usize, Box<Op>),
    Arithmetic(Box<Op>, Vec<(Operator, Op)>),
    If(Box<[Op; 3]>),
    /// Whether the first operand lies within the window; the rest are its anchors.
    Occurs(When, Vec<Op>),
    /// The result of an event query: a number, or whether a chain holds.
    Query(QueryId),
    /// The events that a query keeps, in order.
    Events(QueryId),
    /// A chain over kept events: for each step a condition on the next frame, and a count.
    Chain(QueryId, Vec<(Op, i64)>),
}

/// What of a membership is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Any,
    Status,
    Since,
}

/// What is made of several numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// A string test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextTest {
    pub(super) kind: TextRelation,
    pub(super) letter_case: LetterCase,
    /// What the test must give: `false` for `doesNotContain` and its like.
    pub(super) wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextRelation {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterCase {
    Distinct,
    Ignored,
}

/// A compiled regular expression, shown and told apart by its text.
#[derive(Clone)]
pub(super) struct Pattern(pub(super) Regex);

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// What an operation depends on, besides the frames from a given one on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Attributes, identities, memberships, events, or a frame further out.
    pub(super) outside: bool,
    pub(super) clock: bool,
    pub(super) calendar: bool,
}

impl Op {
    /// The condition that holds always.
    pub(super) fn always() -> Self {
        Self::And(Vec::new())
    }

    /// All of `conditions`; a single one stands for itself.
    pub(super) fn all(mut conditions: Vec<Self>) -> Self {
        match conditions.pop() {
            Some(only) if conditions.is_empty() => only,
            Some(last) => {
                conditions.push(last);
                Self::And(conditions)
            }
            None => Self::always(),
        }
    }

    /// The conditions that this is the conjunction of.
    pub(super) fn conjuncts(self) -> Vec<Self> {
        match self {
            Self::And(all) => all.into_iter().flat_map(Self::conjuncts).collect(),
            other => vec![other],
        }
    }

    /// What this depends on, frames from `base` on aside.
    pub(super) fn needs(&self, base: usize) -> Needs {
        let mut needs = Needs::default();
        self.visit(&mut |op| match op {
            Self::Attribute(..)
            | Self::Identities
            | Self::Namespaces
            | Self::IdentitiesOf(_)
            | Self::Membership(..)
            | Self::InSegment(_)
            | Self::Query(_)
            | Self::Events(_)
            | Self::Chain(..) => needs.outside = true,
            Self::Frame(frame, _) => needs.outside |= *frame < base,
            Self::Current(_) => {
                needs.clock = true;
                needs.calendar = true;
            }
            Self::Occurs(when, operands) => {
                needs.clock |= when.moves();
                // Strings may be dates.
                needs.calendar |= when.is_calendar() || !operands.iter().all(Self::is_time);
            }
            Self::Part(..) | Self::Time(_) => needs.calendar = true,
            Self::Compare(_, left, right) | Self::Relate(_, left, right) => {
                let both = left.is_time() && right.is_time();
                needs.calendar |= !both && (left.may_be_time() || right.may_be_time());
            }
            _ => {}
        });
        needs
    }

    /// Whether this is surely a time, if it is anything.
    fn is_time(&self) -> bool {
        matches!(self, Self::Time(_) | Self::Membership(_, Standing::Since))
    }

    /// Whether this may be a time: an event's timestamp, say.
    fn may_be_time(&self) -> bool {
        let is_timestamp = |keys: &Keys| keys.last().is_some_and(|key| &**key == "timestamp");
        let mut found = false;
        self.visit(&mut |op| {
            found |= op.is_time()
                || match op {
                    Self::Frame(_, keys) | Self::Member(_, keys) => is_timestamp(keys),
                    _ => false,
                };
        });
        found
    }

    /// Whether this condition needs nothing but the event in frame `base`.
    pub(super) fn is_static(&self, base: usize) -> bool {
        let needs = self.needs(base);
        !needs.outside && !needs.clock
    }

    /// Whether this is a window on the timestamp of the event in frame `base`, and on nothing else.
    pub(super) fn is_window(&self, base: usize) -> bool {
        let Self::Occurs(_, operands) = self else { return false };
        let [Self::Frame(frame, keys)] = operands.as_slice() else { return false };
        *frame == base && keys.len() == 1 && &*keys[0] == "timestamp"
    }

    /// Renumbers the frames so that frame `base` becomes the outermost.
    pub(super) fn lower_frames(&mut self, base: usize) {
        if let Self::Frame(frame, _) = self {
            *frame -= base;
        }
        for operand in self.operands_mut() {
            operand.lower_frames(base);
        }
    }

    /// Shows this operation and all below it.
    pub(super) fn visit<'o>(&'o self, see: &mut dyn FnMut(&'o Self)) {
        see(self);
        for operand in self.operands() {
            operand.visit(see);
        }
    }

    fn operands(&self) -> Vec<&Self> {
        match self {
            Self::List(all) | Self::And(all) | Self::Or(all) | Self::Occurs(_, all) => {
                all.iter().collect()
            }
            Self::Member(one, _)
            | Self::Keys(one)
            | Self::Values(one)
            | Self::IdentitiesOf(one)
            | Self::Part(_, one)
            | Self::Aggregate(_, one, _)
            | Self::Count(one)
            | Self::Distinct(one)
            | Self::Present(one)
            | Self::Not(one)
            | Self::Matches(_, one)
            | Self::Group(_, _, one) => vec![one],
            Self::Get(one, two)
            | Self::Filter(one, two)
            | Self::Quantified(_, one, two)
            | Self::Compare(_, one, two)
            | Self::Relate(_, one, two)
            | Self::Test(_, one, two) => vec![one, two],
            Self::Arithmetic(first, rest) => {
                std::iter::once(&**first).chain(rest.iter().map(|(_, op)| op)).collect()
            }
            Self::If(three) => three.iter().collect(),
            Self::Chain(_, steps) => steps.iter().map(|(op, _)| op).collect(),
            _ => Vec::new(),
        }
    }

    fn operands_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::List(all) | Self::And(all) | Self::Or(all) | Self::Occurs(_, all) => {
                all.iter_mut().collect()
            }
            Self::Member(one, _)
            | Self::Keys(one)
            | Self::Values(one)
            | Self::IdentitiesOf(one)
            | Self::Part(_, one)
            | Self::Aggregate(_, one, _)
            | Self::Count(one)
            | Self::Distinct(one)
            | Self::Present(one)
            | Self::Not(one)
            | Self::Matches(_, one)
            | Self::Group(_, _, one) => vec![one],
            Self::Get(one, two)
            | Self::Filter(one, two)
            | Self::Quantified(_, one, two)
            | Self::Compare(_, one, two)
            | Self::Relate(_, one, two)
            | Self::Test(_, one, two) => vec![one, two],
            Self::Arithmetic(first, rest) => {
                std::iter::once(&mut **first).chain(rest.iter_mut().map(|(_, op)| op)).collect()
            }
            Self::If(three) => three.iter_mut().collect(),
            Self::Chain(_, steps) => steps.iter_mut().map(|(op, _)| op).collect(),
            _ => Vec::new(),
        }
    }
}
