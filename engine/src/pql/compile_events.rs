//! What is asked of events, taken apart into event queries.
//!
//! Conditions on events are split at their `and`s. Those that need nothing but the event make the
//! query's filter, those of the form `timestamp occurs …` its windows. If anything is left (a
//! profile's attribute, the clock in an odd place), the query keeps the events themselves, and the
//! whole condition is evaluated on them.

use super::ast::{Binding, Comparison, Expr, ExprKind, Quantifier, Step};
use super::compile::Compiler;
use super::error::PqlError;
use super::marks::STEPS_MAX;
use super::op::{Aggregate, Keys, Op};
use super::query::{ChainStep, EventQuery, QueryId, QueryKind};
use super::window::When;

/// A condition on events, split. Frames of `filter` are counted from the event.
struct Split {
    filter: Vec<Op>,
    windows: Vec<When>,
    /// What needs more than the event and the clock.
    rest: Vec<Op>,
}

impl Compiler<'_> {
    /// The filters of `xEvent[…][…]`; `None` if `expr` is something else.
    pub(super) fn as_events<'e>(&self, expr: &'e Expr) -> Option<Vec<&'e Expr>> {
        match &expr.kind {
            ExprKind::Name(name) if name == "xEvent" => {
                let hidden = self.variables.iter().any(|(variable, _)| variable == name);
                (!hidden).then(Vec::new)
            }
            ExprKind::Filter(base, test) => {
                let mut filters = self.as_events(base)?;
                filters.push(test);
                Some(filters)
            }
            _ => None,
        }
    }

    /// The conditions of several filters on one event, whose frame is the next.
    fn event_conditions(&mut self, filters: &[&Expr]) -> Result<Vec<Op>, PqlError> {
        self.within_element(|compiler| {
            let mut all = Vec::new();
            for filter in filters {
                all.extend(compiler.condition(filter)?.conjuncts());
            }
            Ok(all)
        })
    }

    /// Events as values.
    pub(super) fn events(&mut self, filters: &[&Expr]) -> Result<Op, PqlError> {
        let conditions = self.event_conditions(filters)?;
        let text = text_of(filters);
        Ok(self.kept_events(conditions, &text))
    }

    fn kept_events(&mut self, conditions: Vec<Op>, text: &str) -> Op {
        let split = self.split(conditions);
        let id = self.query((split.filter, split.windows), QueryKind::Events, text);
        filtered(Op::Events(id), split.rest)
    }

    /// Whether there is such an event.
    pub(super) fn has_events(&mut self, filters: &[&Expr]) -> Result<Op, PqlError> {
        let conditions = self.event_conditions(filters)?;
        let text = text_of(filters);
        Ok(compared_to_zero(Comparison::Greater, self.counted_events(conditions, &text)))
    }

    /// How many such events there are.
    pub(super) fn count_events(&mut self, filters: &[&Expr]) -> Result<Op, PqlError> {
        let conditions = self.event_conditions(filters)?;
        let text = text_of(filters);
        Ok(self.counted_events(conditions, &text))
    }

    fn counted_events(&mut self, conditions: Vec<Op>, text: &str) -> Op {
        let split = self.split(conditions);
        if split.rest.is_empty() {
            return Op::Query(self.query((split.filter, split.windows), QueryKind::Count, text));
        }
        let id = self.query((split.filter, split.windows), QueryKind::Events, text);
        Op::Count(Box::new(filtered(Op::Events(id), split.rest)))
    }

    /// Something made of the numbers at `keys` of such events.
    pub(super) fn aggregate_events(
        &mut self,
        aggregate: Aggregate,
        keys: Keys,
        filters: &[&Expr],
    ) -> Result<Op, PqlError> {
        let conditions = self.event_conditions(filters)?;
        let text = text_of(filters);
        let split = self.split(conditions);
        let parts = (split.filter, split.windows);
        if split.rest.is_empty() {
            let kind = QueryKind::Numbers(aggregate, keys);
            return Ok(Op::Query(self.query(parts, kind, &text)));
        }
        let id = self.query(parts, QueryKind::Events, &text);
        Ok(Op::Aggregate(aggregate, Box::new(filtered(Op::Events(id), split.rest)), keys))
    }

    /// `exists E from xEvent[…] where …`, and `forall` as the absence of the opposite.
    pub(super) fn quantified_events(
        &mut self,
        quantifier: Quantifier,
        (binding, rest): (&Binding, &[Binding]),
        filters: &[&Expr],
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        let mut conditions = self.event_conditions(filters)?;
        let each = self.binding_condition(quantifier, (binding, rest), whole)?;
        let text = whole.to_string();
        match quantifier {
            Quantifier::Exists => {
                conditions.extend(each.conjuncts());
                let count = self.counted_events(conditions, &text);
                Ok(compared_to_zero(Comparison::Greater, count))
            }
            Quantifier::Forall => {
                conditions.push(Op::Not(Box::new(each)));
                let count = self.counted_events(conditions, &text);
                Ok(compared_to_zero(Comparison::Equal, count))
            }
        }
    }

    /// `chain(xEvent, timestamp, […])`
    pub(super) fn chain(&mut self, steps: &[Step], whole: &Expr) -> Result<Op, PqlError> {
        if steps.len() > STEPS_MAX {
            let message = format!("a chain has at most {STEPS_MAX} steps, not {}", steps.len());
            return Err(PqlError::new(whole.span.clone(), message));
        }
        self.chain_steps = self.chain_steps.max(steps.len());
        let mut conditions = Vec::with_capacity(steps.len());
        for step in steps {
            conditions.push((self.step_conditions(step)?, step.count));
        }
        let base = self.depth;
        let is_plain = |op: &Op| is_window(op, base) || is_static(op, base);
        let text = whole.to_string();
        if conditions.iter().all(|(all, _)| all.iter().all(is_plain)) {
            let steps = conditions.into_iter().map(|(all, count)| {
                let split = self.split(all);
                ChainStep { filter: Op::all(split.filter), windows: split.windows, count }
            });
            let kind = QueryKind::Chain(steps.collect());
            return Ok(Op::Query(self.query((Vec::new(), Vec::new()), kind, &text)));
        }
        let steps = conditions.into_iter().map(|(all, count)| (Op::all(all), count)).collect();
        let id = self.query((Vec::new(), Vec::new()), QueryKind::Events, &text);
        Ok(Op::Chain(id, steps))
    }

    fn step_conditions(&mut self, step: &Step) -> Result<Vec<Op>, PqlError> {
        let frame = self.depth;
        self.within_element(|compiler| {
            let mut all = match &step.what {
                Some(what) => compiler.condition(what)?.conjuncts(),
                None => Vec::new(),
            };
            if let Some(when) = &step.when {
                let (when, mut operands) = compiler.when(when)?;
                operands.insert(0, Op::Frame(frame, ["timestamp".into()].into()));
                all.push(Op::Occurs(when, operands));
            }
            Ok(all)
        })
    }

    /// Sorts conditions on the event in the next frame.
    fn split(&self, conditions: Vec<Op>) -> Split {
        let base = self.depth;
        let mut split = Split { filter: Vec::new(), windows: Vec::new(), rest: Vec::new() };
        for mut condition in conditions {
            if is_static(&condition, base) {
                condition.lower_frames(base);
                split.filter.push(condition);
            } else if is_window(&condition, base) {
                if let Op::Occurs(when, _) = condition {
                    split.windows.push(when);
                }
            } else {
                split.rest.push(condition);
            }
        }
        split
    }

    fn query(
        &mut self,
        (filter, windows): (Vec<Op>, Vec<When>),
        kind: QueryKind,
        text: &str,
    ) -> QueryId {
        let filter = Op::all(filter);
        let key = format!("{kind:?} of {filter:?} when {windows:?}");
        let zone = self.zone().clone();
        let text = text.to_owned();
        let mut query = EventQuery { key, text, filter, windows, kind, zone };
        if query.is_calendar() {
            query.key += " in ";
            query.key += query.zone.iana_name().unwrap_or("a fixed offset");
        }
        self.queries.intern(query)
    }
}

fn filtered(events: Op, rest: Vec<Op>) -> Op {
    if rest.is_empty() {
        return events;
    }
    Op::Filter(Box::new(events), Box::new(Op::all(rest)))
}

fn compared_to_zero(how: Comparison, count: Op) -> Op {
    Op::Compare(how, Box::new(count), Box::new(Op::Number(0.0)))
}

/// Whether a condition needs nothing but the event in frame `base`.
fn is_static(op: &Op, base: usize) -> bool {
    let needs = op.needs(base);
    !needs.outside && !needs.clock
}

/// Whether a condition is a window on the event's timestamp.
fn is_window(op: &Op, base: usize) -> bool {
    let Op::Occurs(_, operands) = op else { return false };
    let [Op::Frame(frame, keys)] = operands.as_slice() else { return false };
    *frame == base && keys.len() == 1 && &*keys[0] == "timestamp"
}

fn text_of(filters: &[&Expr]) -> String {
    let text = filters.iter().map(ToString::to_string).collect::<Vec<_>>();
    if text.is_empty() { "every event".to_owned() } else { text.join(" and ") }
}
