//! What is asked of events, taken apart into event queries.
//!
//! Conditions on events are split at their `and`s. Those that need nothing but the event make the
//! query's filter, those that need windows on the timestamp besides its gate. If anything is left (a
//! profile's attribute, the clock in an odd place), the query keeps the events themselves, as long as
//! its gate can open, and what is left is evaluated on them.

use super::ast::{Binding, Comparison, Expr, ExprKind, Quantifier, Step};
use super::compile::{Compiler, Type, keys_of};
use super::error::PqlError;
use super::gate::{Flags, Gate};
use super::op::{Aggregate, Keys, Op};
use super::query::{ChainStep, EventQuery, QueryId, QueryKind};

/// A condition on events, split. Frames of `filter` are counted from the event.
#[derive(Default)]
struct Split {
    filter: Vec<Op>,
    gates: Vec<Gate>,
    flags: Flags,
    /// What needs more than the event and windows on its timestamp.
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
        let mut split = self.split(conditions);
        let rest = std::mem::take(&mut split.rest);
        filtered(Op::Events(self.query(split, QueryKind::Events, text)), rest)
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
        let mut split = self.split(conditions);
        if split.rest.is_empty() {
            return Op::Query(self.query(split, QueryKind::Count, text));
        }
        let rest = std::mem::take(&mut split.rest);
        let id = self.query(split, QueryKind::Events, text);
        Op::Count(Box::new(filtered(Op::Events(id), rest)))
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
        let mut split = self.split(conditions);
        if split.rest.is_empty() {
            let kind = QueryKind::Numbers(aggregate, keys);
            return Ok(Op::Query(self.query(split, kind, &text)));
        }
        let rest = std::mem::take(&mut split.rest);
        let id = self.query(split, QueryKind::Events, &text);
        Ok(Op::Aggregate(aggregate, Box::new(filtered(Op::Events(id), rest)), keys))
    }

    /// A condition on `subject`, made by `make`. On a path across events, such as
    /// `xEvent.eventType`, it holds if it holds for any event, and is asked of each event alone.
    /// Other subjects are of one of `kinds`.
    pub(super) fn on_each(
        &mut self,
        subject: &Expr,
        kinds: &[Type],
        text: &str,
        make: impl FnOnce(&mut Self, Op) -> Result<Op, PqlError>,
    ) -> Result<Op, PqlError> {
        let across = match &subject.kind {
            ExprKind::Member(base, names) => self.as_events(base).map(|events| (events, names)),
            _ => None,
        };
        let Some((events, names)) = across else {
            let subject = self.one_of(subject, kinds)?;
            return make(self, subject);
        };
        let mut conditions = self.event_conditions(&events)?;
        let element = Op::Frame(self.depth, keys_of(names));
        // What stands beside the subject is no part of the event, but is evaluated within.
        self.depth += 1;
        let condition = make(self, element);
        self.depth -= 1;
        conditions.push(condition?);
        Ok(compared_to_zero(Comparison::Greater, self.counted_events(conditions, text)))
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
        self.chain_steps = self.chain_steps.max(steps.len());
        let mut conditions = Vec::with_capacity(steps.len());
        for step in steps {
            conditions.push((self.step_conditions(step)?, step.count));
        }
        let text = whole.to_string();
        let mut flags = Flags { first: steps.len(), ..Flags::default() };
        let mut planned = Vec::with_capacity(steps.len());
        for (all, count) in &conditions {
            let split = self.split_with(all.clone(), flags);
            flags = split.flags;
            let step = ChainStep {
                filter: Op::all(split.filter),
                gate: Gate::all(split.gates),
                count: *count,
            };
            planned.push((step, split.rest.is_empty()));
        }
        if planned.iter().all(|(_, is_whole)| *is_whole) {
            let kind = QueryKind::Chain(planned.into_iter().map(|(step, _)| step).collect());
            let split = Split { flags, ..Split::default() };
            return Ok(Op::Query(self.query(split, kind, &text)));
        }
        let id = self.events_of_steps(&conditions, &text);
        let steps = conditions.into_iter().map(|(all, count)| (Op::all(all), count)).collect();
        Ok(Op::Chain(id, steps))
    }

    /// The events that can match a step of a chain, kept for a chain that needs more than them.
    fn events_of_steps(&mut self, steps: &[(Vec<Op>, i64)], text: &str) -> QueryId {
        let mut union = Split::default();
        let (mut filters, mut gates) = (Vec::new(), Vec::new());
        for (all, _) in steps {
            let split = self.split_with(all.clone(), union.flags);
            union.flags = split.flags;
            filters.push(Op::all(split.filter));
            gates.push(Gate::all(split.gates));
        }
        union.filter.push(Op::Or(filters));
        if !gates.iter().any(Gate::is_open) {
            union.gates.push(Gate::Any(gates));
        }
        self.query(union, QueryKind::Events, text)
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
        self.split_with(conditions, Flags::default())
    }

    fn split_with(&self, conditions: Vec<Op>, flags: Flags) -> Split {
        let base = self.depth;
        let mut split = Split { flags, ..Split::default() };
        for mut condition in conditions {
            if condition.is_static(base) {
                condition.lower_frames(base);
                split.filter.push(condition);
            } else if let Some(gate) = split.flags.gate(&condition, base) {
                let Flags { first, ops } = &split.flags;
                split.filter.extend(gate.possible(ops, *first));
                split.gates.push(gate);
            } else {
                split.rest.push(condition);
            }
        }
        split
    }

    fn query(&mut self, split: Split, kind: QueryKind, text: &str) -> QueryId {
        let filter = Op::all(split.filter);
        let gate = Gate::all(split.gates);
        let flags = split.flags.ops;
        let key = format!("{kind:?} of {filter:?} when {gate:?} with {flags:?}");
        let zone = self.zone().clone();
        let text = text.to_owned();
        let mut query = EventQuery { key, text, filter, gate, flags, kind, zone };
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

fn text_of(filters: &[&Expr]) -> String {
    let text = filters.iter().map(ToString::to_string).collect::<Vec<_>>();
    if text.is_empty() { "every event".to_owned() } else { text.join(" and ") }
}
