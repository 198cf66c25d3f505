//! A rule taken apart for one profile: each clause as it was written, whether it holds, and the
//! values it compared.
//!
//! It runs on the operations that [`Rule::evaluate`] runs on, so the two cannot disagree: the parts of
//! an `and`, an `or`, a `not` and an `if` are the operations' own, and everything else is one clause.
//! Nothing is cut short: a clause that could not matter any more is evaluated all the same, and may
//! hold. It is for people, costs some evaluations, and is no part of a step.

use super::ast::{Expr, ExprKind, Relation, TimeExpr, WhenExpr};
use super::datum::Datum;
use super::facts::Facts;
use super::machine::Machine;
use super::marks::{Progress, chain_progress};
use super::op::Op;
use super::query::QueryId;
use super::rule::{Rule, Scope};
use super::state::QueryState;
use crate::clock::Timestamp;
use crate::json;

/// Longest JSON text of a value that is shown.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Boundaries that are looked at for the instant at which a rule turns.
const TURNS_MAX: usize = 1_000;

/// A part of a rule, for one profile at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// What it is.
    pub kind: ClauseKind,
    /// As it was written; in canonical form where that took several lines.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// The earliest instant at which the clock alone may change what it compares, and so perhaps
    /// whether it holds; [`Timestamp::MAX`]: never.
    pub changes_at: Timestamp,
    /// What it compared, literals left out; of tests only.
    pub values: Vec<Compared>,
    /// Its parts; a test has none.
    pub parts: Vec<Clause>,
}

/// How a clause follows from its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClauseKind {
    /// It holds if all parts do.
    All,
    /// It holds if any part does.
    Any,
    /// It holds if its part does not.
    Not,
    /// It is the second part if the first one holds, else the third.
    If,
    /// It compares values.
    Test,
}

/// A value that a test looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// What it is the value of: a part of the test as it was written, or what is counted.
    pub of: String,
    /// What it is.
    pub value: Shown,
}

/// A value as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Its JSON text; `null` if there is none.
    Json(String),
    /// It takes so many bytes, more than [`VALUE_BYTES_MAX`].
    TooLong(usize),
}

/// When a rule's value changes by the clock alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At this instant, unless a record comes before.
    At(Timestamp),
    /// Never.
    Never,
    /// Not before this instant ([`Timestamp::MAX`] if the rule alone never does): it reads other
    /// audiences, which have clocks of their own, or has too many boundaries to try.
    NotBefore(Timestamp),
}

impl ClauseKind {
    /// Whether a clause of this kind holds, by its parts; a test has none to say so.
    pub(super) fn follows_from(self, parts: &[Clause]) -> bool {
        match (self, parts) {
            (Self::All, _) => parts.iter().all(|part| part.holds),
            (Self::Any, _) => parts.iter().any(|part| part.holds),
            (Self::Not, _) => parts.iter().all(|part| !part.holds),
            (Self::If, [test, yes, no]) => {
                if test.holds {
                    yes.holds
                } else {
                    no.holds
                }
            }
            (Self::If | Self::Test, _) => false,
        }
    }
}

impl Rule {
    /// Takes the rule apart for the profile that `facts` shows. Whether the root holds is what
    /// [`Rule::evaluate`] says.
    pub fn explain<F: Facts + ?Sized>(&self, facts: &F, scope: &Scope<'_>) -> Clause {
        let explainer = Explainer { rule: self, facts, scope };
        let (expr, op) = self.parts();
        explainer.clause(expr, op)
    }

    /// When the rule's value changes if nothing is recorded until then.
    pub fn turn<F: Facts + ?Sized>(&self, facts: &F, scope: &Scope<'_>) -> Turn {
        let first = self.evaluate(facts, scope);
        let mut next = first.changes_at;
        if !self.reads().segments.is_empty() {
            return Turn::NotBefore(next);
        }
        for _ in 0..TURNS_MAX {
            if next == Timestamp::MAX {
                return Turn::Never;
            }
            let evaluation = self.evaluate(facts, &Scope { now: next, ..*scope });
            if evaluation.holds != first.holds {
                return Turn::At(next);
            }
            next = evaluation.changes_at;
        }
        Turn::NotBefore(next)
    }
}

/// One rule, one profile, one instant.
struct Explainer<'a, F: ?Sized> {
    rule: &'a Rule,
    facts: &'a F,
    scope: &'a Scope<'a>,
}

impl<'a, F: Facts + ?Sized> Explainer<'a, F> {
    fn clause(&self, expr: &'a Expr, op: &'a Op) -> Clause {
        let each = |exprs: &'a [Expr], ops: &'a [Op]| {
            exprs.iter().zip(ops).map(|(expr, op)| self.clause(expr, op)).collect()
        };
        let (kind, parts): (ClauseKind, Vec<Clause>) = match (&expr.kind, op) {
            (ExprKind::And(exprs), Op::And(ops)) => (ClauseKind::All, each(exprs, ops)),
            (ExprKind::Or(exprs), Op::Or(ops)) => (ClauseKind::Any, each(exprs, ops)),
            (ExprKind::Not(expr), Op::Not(op)) => (ClauseKind::Not, vec![self.clause(expr, op)]),
            (ExprKind::If(exprs), Op::If(ops)) => {
                (ClauseKind::If, each(exprs.as_slice(), ops.as_slice()))
            }
            _ => (ClauseKind::Test, Vec::new()),
        };
        let text = self.rule.text_of(expr);
        if kind == ClauseKind::Test {
            let mut machine = self.machine();
            let holds = machine.holds(op);
            let mut values = Vec::new();
            self.test(expr, op, &mut values);
            return Clause { kind, text, holds, changes_at: machine.changes_at, values, parts };
        }
        let changes_at = parts.iter().map(|part| part.changes_at).min();
        Clause {
            kind,
            text,
            holds: kind.follows_from(&parts),
            changes_at: changes_at.unwrap_or(Timestamp::MAX),
            values: Vec::new(),
            parts,
        }
    }

    /// The values that a test compared.
    fn test(&self, expr: &'a Expr, op: &'a Op, out: &mut Vec<Compared>) {
        match (&expr.kind, op) {
            (ExprKind::Compare(_, left, right), Op::Compare(_, left_op, right_op))
                if !is_across_events(left) && !is_across_events(right) =>
            {
                self.operand(left, left_op, out);
                self.operand(right, right_op, out);
            }
            (ExprKind::Relate(relation, left, right), Op::Relate(_, left_op, right_op))
                if is_of_all(*relation) || !is_across_events(left) =>
            {
                self.operand(left, left_op, out);
                self.operand(right, right_op, out);
            }
            (ExprKind::Occurs(subject, when), Op::Occurs(_, operands))
                if !is_across_events(subject) =>
            {
                let exprs = std::iter::once(&**subject).chain(paths_of(when));
                exprs.zip(operands).for_each(|(expr, op)| self.operand(expr, op, out));
            }
            (ExprKind::InSegment(id), Op::InSegment(_)) => self.standing(&id.text, out),
            (ExprKind::Chain(steps), _) => {
                let labels = steps.iter().map(ToString::to_string).collect();
                self.chain(op, labels, out);
            }
            (ExprKind::Quantified(_, bindings), Op::Quantified(_, source, _)) => {
                if let Some(binding) = bindings.first() {
                    self.operand(&binding.source, source, out);
                }
            }
            (ExprKind::Quantified(quantifier, _), Op::Compare(_, count, _)) => {
                let what = match quantifier {
                    super::ast::Quantifier::Exists => EVENTS_FOR,
                    super::ast::Quantifier::Forall => EVENTS_AGAINST,
                };
                self.push(what.to_owned(), count, out);
            }
            (ExprKind::Call(base, _, arguments), _) => self.call((expr, base), arguments, op, out),
            _ => self.presence(expr, op, out),
        }
    }

    fn call(
        &self,
        (expr, base): (&'a Expr, &'a Expr),
        arguments: &'a [Expr],
        op: &'a Op,
        out: &mut Vec<Compared>,
    ) {
        match op {
            Op::Test(_, subject, other) => {
                self.operand(base, subject, out);
                if let Some(argument) = arguments.first() {
                    self.operand(argument, other, out);
                }
            }
            Op::Matches(_, subject) | Op::Quantified(_, subject, _) => {
                self.operand(base, subject, out);
            }
            // `isNull()`, `isNotNull()`
            Op::Not(present) => self.presence(base, present, out),
            Op::Present(_) if arguments.is_empty() => self.presence(base, op, out),
            _ => self.presence(expr, op, out),
        }
    }

    /// What a path as a condition leads to, or how many events fit.
    fn presence(&self, expr: &'a Expr, op: &'a Op, out: &mut Vec<Compared>) {
        match op {
            Op::Present(inner) => self.operand(expr, inner, out),
            Op::Compare(_, count, _) => self.push(EVENTS_FOR.to_owned(), count, out),
            _ => {}
        }
    }

    /// A side of a test, and what it is made of; nothing of a literal.
    fn operand(&self, expr: &'a Expr, op: &'a Op, out: &mut Vec<Compared>) {
        if is_literal(op) {
            return;
        }
        self.push(self.rule.text_of(expr), op, out);
        match (&expr.kind, op) {
            (ExprKind::Arithmetic(first, rest), Op::Arithmetic(first_op, rest_ops)) => {
                self.operand(first, first_op, out);
                for ((_, expr), (_, op)) in rest.iter().zip(rest_ops) {
                    self.operand(expr, op, out);
                }
            }
            (ExprKind::If(exprs), Op::If(ops)) => self.test(&exprs[0], &ops[0], out),
            _ => {}
        }
    }

    fn push(&self, of: String, op: &'a Op, out: &mut Vec<Compared>) {
        let value = Shown::new(self.machine().value(op).to_json());
        out.push(Compared { of, value });
    }

    fn standing(&self, id: &str, out: &mut Vec<Compared>) {
        let text = self.facts.membership(id).map(|standing| {
            let status = if standing.realized { "realized" } else { "exited" };
            json::quote(&format!("{status} since {}", standing.since.to_seconds_text()))
        });
        let value = Shown::Json(text.unwrap_or_else(|| "null".to_owned()));
        out.push(Compared { of: format!("status in {id}"), value });
    }

    /// How far each step of a chain is.
    fn chain(&self, op: &'a Op, labels: Vec<String>, out: &mut Vec<Compared>) {
        let progress = match op {
            Op::Query(id) => self.steps_of_query(*id),
            Op::Chain(source, steps) => self.machine().chain_progress(*source, steps),
            _ => return,
        };
        for (of, progress) in labels.into_iter().zip(progress) {
            out.push(Compared { of, value: Shown::Json(progress.to_json()) });
        }
    }

    fn steps_of_query(&self, id: QueryId) -> Vec<Progress> {
        let query = self.scope.queries.get(id);
        let complete = |needed| Progress { matched: needed, needed, completed: None };
        let marks = match self.facts.query(id) {
            Some(QueryState::Complete) => {
                return query.steps().iter().map(|step| complete(step.count)).collect();
            }
            Some(QueryState::Chain(marks)) => marks.as_slice(),
            _ => &[],
        };
        chain_progress(marks, query.steps(), query.now(self.scope.now))
    }

    fn machine(&self) -> Machine<'a, F> {
        self.rule.machine(self.facts, self.scope)
    }
}

/// What is counted where a test is asked of each event.
const EVENTS_FOR: &str = "events for which it holds";
const EVENTS_AGAINST: &str = "events for which it does not hold";

impl Shown {
    fn new(json: String) -> Self {
        if json.len() > VALUE_BYTES_MAX { Self::TooLong(json.len()) } else { Self::Json(json) }
    }
}

impl Datum<'_> {
    /// The value as JSON text: times as strings, what is missing as `null`.
    fn to_json(&self) -> String {
        match self {
            Self::Missing => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) if number.is_finite() => number.to_string(),
            Self::Number(number) => json::quote(&number.to_string()),
            Self::Text(text) | Self::Namespace(text) => json::quote(text),
            Self::Time(at) => json::quote(&at.to_string()),
            Self::Node(node) | Self::Event(_, node) => node.raw().to_owned(),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::to_json).collect();
                format!("[{}]", items.join(","))
            }
        }
    }
}

/// Relations that are about all elements together.
fn is_of_all(relation: Relation) -> bool {
    matches!(relation, Relation::SubsetOf | Relation::SupersetOf)
}

fn is_literal(op: &Op) -> bool {
    match op {
        Op::Bool(_) | Op::Number(_) | Op::Text(_) | Op::Time(_) => true,
        Op::List(items) => items.iter().all(is_literal),
        _ => false,
    }
}

/// Whether a test of `expr` is asked of each event. No variable is in scope where clauses stand, so
/// `xEvent` is what it says.
fn is_across_events(expr: &Expr) -> bool {
    fn is_events(expr: &Expr) -> bool {
        match &expr.kind {
            ExprKind::Name(name) => name == "xEvent",
            ExprKind::Filter(base, _) => is_events(base),
            _ => false,
        }
    }
    matches!(&expr.kind, ExprKind::Member(base, _) if is_events(base))
}

/// The paths that a window is anchored at, in the order in which they become operands.
fn paths_of(when: &WhenExpr) -> Vec<&Expr> {
    fn path_of(time: &TimeExpr) -> Option<&Expr> {
        match time {
            TimeExpr::Path(path) => Some(path),
            TimeExpr::Shifted(_, from) => path_of(from),
            TimeExpr::Now | TimeExpr::Period(..) | TimeExpr::Date(_) => None,
        }
    }
    let (first, second) = match when {
        WhenExpr::Distance(_, _, time)
        | WhenExpr::Before(time)
        | WhenExpr::After(time)
        | WhenExpr::On(time) => (time, None),
        WhenExpr::Between(first, last) => (first, Some(last)),
    };
    path_of(first).into_iter().chain(second.and_then(path_of)).collect()
}
