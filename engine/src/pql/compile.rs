//! An expression to operations: names resolved, types checked, literals prepared.
//!
//! What is asked of events is taken apart in `compile_events.rs`, functions in
//! `compile_call.rs`; this file has the rest.

use jiff::tz::TimeZone;

use crate::profile::path::{PathId, PathTable};

use super::ast::{
    Binding, Comparison, Expr, ExprKind, Name, Operator, Quantifier, Relation, WhenExpr,
};
use super::calendar;
use super::error::PqlError;
use super::op::{Keys, Op, Standing};
use super::query::QuerySet;
use super::rule::{CompileContext, SegmentKind, SegmentRef};

/// What an operation yields, as far as that is known before any data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// True or false.
    Condition,
    Number,
    Text,
    Time,
    /// Several values.
    List,
    /// Whatever the data holds there; as a condition: its presence.
    Data,
    /// Events; as a condition: that there are some.
    Events,
}

impl Type {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Condition => "a condition",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Time => "a date",
            Self::List => "a list",
            Self::Data => "a path",
            Self::Events => "events",
        }
    }
}

/// What may hold text.
pub(super) const TEXTS: [Type; 3] = [Type::Text, Type::Data, Type::List];

/// What may be a date or a time.
const DATABLE: [Type; 3] = [Type::Time, Type::Data, Type::Text];

/// What can be one side of a comparison: anything but events.
const COMPARABLE: [Type; 6] =
    [Type::Data, Type::Condition, Type::Number, Type::Text, Type::Time, Type::List];

/// An operation and what it yields.
pub(super) struct Typed {
    pub(super) op: Op,
    pub(super) kind: Type,
}

impl Typed {
    pub(super) fn new(op: Op, kind: Type) -> Self {
        Self { op, kind }
    }
}

/// Where a bare path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    Profile,
    Frame(usize),
}

/// Compiles one rule.
pub(super) struct Compiler<'c> {
    pub(super) queries: &'c mut QuerySet,
    pub(super) paths: &'c mut PathTable,
    pub(super) context: &'c CompileContext<'c>,
    pub(super) segments: Vec<SegmentRef>,
    /// Steps of the longest chain.
    pub(super) chain_steps: usize,
    /// Variables in scope with their frames, outermost first.
    pub(super) variables: Vec<(String, usize)>,
    /// How many frames are bound here.
    pub(super) depth: usize,
    pub(super) bare: Bare,
}

impl Compiler<'_> {
    pub(super) fn zone(&self) -> &TimeZone {
        self.context.zone
    }

    /// An expression where true or false is needed.
    pub(super) fn condition(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        match &expr.kind {
            ExprKind::If(three) => self.conditional(three),
            ExprKind::Name(_) | ExprKind::Filter(..) | ExprKind::Member(..) => self.presence(expr),
            _ => self.as_condition(expr),
        }
    }

    fn conditional(&mut self, three: &[Expr; 3]) -> Result<Op, PqlError> {
        let [test, yes, no] = three;
        let three = [self.condition(test)?, self.condition(yes)?, self.condition(no)?];
        Ok(Op::If(Box::new(three)))
    }

    fn as_condition(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        let found = self.value(expr)?;
        let is_literal = matches!(found.op, Op::List(_));
        match found.kind {
            Type::Condition => Ok(found.op),
            Type::Data | Type::Events => Ok(Op::Present(Box::new(found.op))),
            Type::List if !is_literal => Ok(Op::Present(Box::new(found.op))),
            kind => Err(no_condition(expr, kind)),
        }
    }

    /// An expression where any value will do.
    ///
    /// Each kind has its function, so that the frames of this recursion stay small.
    pub(super) fn value(&mut self, expr: &Expr) -> Result<Typed, PqlError> {
        match &expr.kind {
            ExprKind::Name(_) | ExprKind::Member(..) => self.path(expr),
            ExprKind::Call(base, name, arguments) => self.call(expr, (&**base, name), arguments),
            ExprKind::Filter(base, test) => self.filter(expr, base, test),
            ExprKind::If(three) => self.choice(three),
            ExprKind::Arithmetic(first, rest) => self.arithmetic(first, rest),
            ExprKind::List(items) => self.list(items),
            ExprKind::Text(_)
            | ExprKind::Number(_)
            | ExprKind::Bool(_)
            | ExprKind::Date(_)
            | ExprKind::Current(_) => Ok(self.literal(expr)),
            _ => self.test(expr).map(|op| Typed::new(op, Type::Condition)),
        }
    }

    fn literal(&self, expr: &Expr) -> Typed {
        match &expr.kind {
            ExprKind::Text(text) => Typed::new(Op::Text(text.as_str().into()), Type::Text),
            ExprKind::Number(number) => Typed::new(Op::Number(*number), Type::Number),
            ExprKind::Date(day) => {
                Typed::new(Op::Time(calendar::start_of(*day, self.zone())), Type::Time)
            }
            ExprKind::Current(part) => Typed::new(Op::Current(*part), Type::Number),
            other => Typed::new(Op::Bool(matches!(other, ExprKind::Bool(true))), Type::Condition),
        }
    }

    /// What yields true or false.
    fn test(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        match &expr.kind {
            ExprKind::Not(operand) => self.condition(operand).map(|op| Op::Not(Box::new(op))),
            ExprKind::And(all) => self.conditions(all).map(Op::And),
            ExprKind::Or(all) => self.conditions(all).map(Op::Or),
            ExprKind::Compare(how, left, right) => self.comparison(*how, (left, right), expr),
            ExprKind::Relate(relation, left, right) => {
                self.relation(*relation, (left, right), expr)
            }
            ExprKind::Occurs(subject, when) => self.occurrence(subject, when, expr),
            ExprKind::Quantified(quantifier, bindings) => {
                self.quantified(*quantifier, bindings, expr)
            }
            ExprKind::Chain(steps) => self.chain(steps, expr),
            ExprKind::InSegment(id) => self.segment(id).map(|(index, _)| Op::InSegment(index)),
            _ => Err(no_condition(expr, Type::Data)),
        }
    }

    fn comparison(
        &mut self,
        how: Comparison,
        (left, right): (&Expr, &Expr),
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        let text = whole.to_string();
        if self.is_across_events(right) && !self.is_across_events(left) {
            return self.on_each(right, &[], &text, |compiler, subject| {
                let left = compiler.comparable(left)?;
                Ok(Op::Compare(how, Box::new(left), Box::new(subject)))
            });
        }
        self.on_each(left, &COMPARABLE, &text, |compiler, subject| {
            let right = compiler.comparable(right)?;
            Ok(Op::Compare(how, Box::new(subject), Box::new(right)))
        })
    }

    fn is_across_events(&self, expr: &Expr) -> bool {
        matches!(&expr.kind, ExprKind::Member(base, _) if self.as_events(base).is_some())
    }

    fn occurrence(
        &mut self,
        subject: &Expr,
        when: &WhenExpr,
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        self.on_each(subject, &DATABLE, &whole.to_string(), |compiler, subject| {
            let (when, mut anchors) = compiler.when(when)?;
            anchors.insert(0, subject);
            Ok(Op::Occurs(when, anchors))
        })
    }

    fn list(&mut self, items: &[Expr]) -> Result<Typed, PqlError> {
        let items = items.iter().map(|item| Ok(self.scalar(item)?.op));
        Ok(Typed::new(Op::List(items.collect::<Result<_, PqlError>>()?), Type::List))
    }

    fn arithmetic(&mut self, first: &Expr, rest: &[(Operator, Expr)]) -> Result<Typed, PqlError> {
        let first = Box::new(self.number(first)?);
        let rest = rest.iter().map(|(operator, op)| Ok((*operator, self.number(op)?)));
        let rest = rest.collect::<Result<_, PqlError>>()?;
        Ok(Typed::new(Op::Arithmetic(first, rest), Type::Number))
    }

    fn conditions(&mut self, all: &[Expr]) -> Result<Vec<Op>, PqlError> {
        all.iter().map(|expr| self.condition(expr)).collect()
    }

    fn choice(&mut self, three: &[Expr; 3]) -> Result<Typed, PqlError> {
        let test = self.condition(&three[0])?;
        let (yes, no) = (self.value(&three[1])?, self.value(&three[2])?);
        let kind = if yes.kind == no.kind { yes.kind } else { Type::Data };
        Ok(Typed::new(Op::If(Box::new([test, yes.op, no.op])), kind))
    }

    /// A value that is one side of a comparison.
    fn comparable(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        self.one_of(expr, &COMPARABLE)
    }

    /// A value that can stand in a list.
    fn scalar(&mut self, expr: &Expr) -> Result<Typed, PqlError> {
        let found = self.value(expr)?;
        if matches!(found.kind, Type::List | Type::Events) {
            let message = format!("a list holds single values, not {}", found.kind.describe());
            return Err(PqlError::new(expr.span.clone(), message));
        }
        Ok(found)
    }

    fn number(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        self.one_of(expr, &[Type::Number, Type::Data])
    }

    /// A value that may be a date or a time.
    pub(super) fn datable(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        self.one_of(expr, &DATABLE)
    }

    /// A value of one of `kinds`, of which the first is the one to name.
    pub(super) fn one_of(&mut self, expr: &Expr, kinds: &[Type]) -> Result<Op, PqlError> {
        let found = self.value(expr)?;
        if kinds.contains(&found.kind) {
            return Ok(found.op);
        }
        if found.kind == Type::Events && kinds == COMPARABLE {
            let help = "compare a number made of them, such as `xEvent[…].count()`, or one of \
                        their paths";
            let message = "events cannot be compared";
            return Err(PqlError::new(expr.span.clone(), message).help(help));
        }
        let wanted = kinds.first().map_or("a value", |kind| kind.describe());
        let message = format!("expected {wanted}, found {}", found.kind.describe());
        Err(PqlError::new(expr.span.clone(), message))
    }

    fn relation(
        &mut self,
        how: Relation,
        (left, right): (&Expr, &Expr),
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        let kinds: &[Type] = if how == Relation::Like { &TEXTS } else { &COMPARABLE };
        if matches!(how, Relation::SubsetOf | Relation::SupersetOf) {
            // These are about all elements together.
            let left = self.one_of(left, kinds)?;
            return self.relation_to(how, left, right);
        }
        self.on_each(left, kinds, &whole.to_string(), |compiler, left| {
            compiler.relation_to(how, left, right)
        })
    }

    fn relation_to(&mut self, how: Relation, left: Op, right: &Expr) -> Result<Op, PqlError> {
        if how == Relation::Like {
            let pattern = self.one_of(right, &TEXTS)?;
            return Ok(Op::Relate(how, Box::new(left), Box::new(pattern)));
        }
        let found = self.value(right)?;
        let is_list = matches!(found.kind, Type::List | Type::Data);
        if found.kind == Type::Events || !(is_list || how == Relation::Includes) {
            let message = format!("`{how}` needs a list, found {}", found.kind.describe());
            let help = "a list is written `[\"a\", \"b\"]`";
            return Err(PqlError::new(right.span.clone(), message).help(help));
        }
        Ok(Op::Relate(how, Box::new(left), Box::new(found.op)))
    }

    fn filter(&mut self, expr: &Expr, base: &Expr, test: &Expr) -> Result<Typed, PqlError> {
        if let Some(events) = self.as_events(expr) {
            return Ok(Typed::new(self.events(&events)?, Type::Events));
        }
        let source = self.comparable_source(base)?;
        let test = self.within_element(|compiler| compiler.condition(test))?;
        Ok(Typed::new(Op::Filter(Box::new(source), Box::new(test)), Type::Data))
    }

    /// A value whose elements are looked at one by one.
    pub(super) fn comparable_source(&mut self, expr: &Expr) -> Result<Op, PqlError> {
        self.one_of(expr, &[Type::List, Type::Data, Type::Events])
    }

    /// Compiles something in which bare paths start at an element.
    pub(super) fn within_element<T>(
        &mut self,
        compile: impl FnOnce(&mut Self) -> Result<T, PqlError>,
    ) -> Result<T, PqlError> {
        let outer = std::mem::replace(&mut self.bare, Bare::Frame(self.depth));
        self.depth += 1;
        let result = compile(self);
        self.depth -= 1;
        self.bare = outer;
        result
    }

    /// Compiles something in which `variable` names an element.
    pub(super) fn with_variable<T>(
        &mut self,
        variable: &Name,
        compile: impl FnOnce(&mut Self) -> Result<T, PqlError>,
    ) -> Result<T, PqlError> {
        self.variables.push((variable.text.clone(), self.depth));
        self.depth += 1;
        let result = compile(self);
        self.depth -= 1;
        self.variables.pop();
        result
    }

    fn quantified(
        &mut self,
        quantifier: Quantifier,
        bindings: &[Binding],
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        let Some((binding, rest)) = bindings.split_first() else { return Ok(Op::always()) };
        if let Some(events) = self.as_events(&binding.source) {
            return self.quantified_events(quantifier, (binding, rest), &events, whole);
        }
        let source = self.comparable_source(&binding.source)?;
        let test = self.binding_condition(quantifier, (binding, rest), whole)?;
        Ok(Op::Quantified(quantifier, Box::new(source), Box::new(test)))
    }

    /// What an element must satisfy: its own condition, and that of the variables after it.
    pub(super) fn binding_condition(
        &mut self,
        quantifier: Quantifier,
        (binding, rest): (&Binding, &[Binding]),
        whole: &Expr,
    ) -> Result<Op, PqlError> {
        self.with_variable(&binding.variable, |compiler| {
            let mut all = Vec::new();
            if let Some(condition) = &binding.condition {
                all.extend(compiler.condition(condition)?.conjuncts());
            }
            if !rest.is_empty() {
                all.push(compiler.quantified(quantifier, rest, whole)?);
            }
            Ok(Op::all(all))
        })
    }

    fn path(&mut self, expr: &Expr) -> Result<Typed, PqlError> {
        let (base, names): (&Expr, &[Name]) = match &expr.kind {
            ExprKind::Member(base, names) => (base, names),
            _ => (expr, &[]),
        };
        if let Some(standing) = self.membership(base, names)? {
            return Ok(standing);
        }
        let ExprKind::Name(first) = &base.kind else {
            let base = self.comparable_base(base)?;
            return self.member(base, names);
        };
        let keys = keys_of(names);
        if let Some((_, frame)) = self.variables.iter().rev().find(|(name, _)| name == first) {
            return Ok(Typed::new(Op::Frame(*frame, keys), Type::Data));
        }
        if first == "xEvent" {
            let events = Typed::new(self.events(&[])?, Type::Events);
            return if names.is_empty() { Ok(events) } else { self.member(events, names) };
        }
        match self.bare {
            Bare::Frame(frame) => {
                let keys = std::iter::once(first.as_str().into()).chain(keys);
                Ok(Typed::new(Op::Frame(frame, keys.collect()), Type::Data))
            }
            Bare::Profile if first == "identityMap" => Ok(identities(names)),
            Bare::Profile => self.attribute(base, first, names),
        }
    }

    fn comparable_base(&mut self, base: &Expr) -> Result<Typed, PqlError> {
        let found = self.value(base)?;
        if matches!(found.kind, Type::Data | Type::List | Type::Events) {
            return Ok(found);
        }
        let message = format!("{} has no members", found.kind.describe());
        Err(PqlError::new(base.span.clone(), message))
    }

    /// A path that goes on from a value.
    pub(super) fn member(&mut self, base: Typed, names: &[Name]) -> Result<Typed, PqlError> {
        let keys = keys_of(names);
        let op = match base.op {
            Op::Attribute(path, _) => {
                let mut path = path;
                for name in names {
                    path = self.child(path, name)?;
                }
                self.attribute_op(path)
            }
            Op::Frame(frame, before) => Op::Frame(frame, before.into_iter().chain(keys).collect()),
            Op::Member(inner, before) => {
                Op::Member(inner, before.into_iter().chain(keys).collect())
            }
            other => Op::Member(Box::new(other), keys),
        };
        Ok(Typed::new(op, Type::Data))
    }

    fn attribute(&mut self, at: &Expr, first: &str, names: &[Name]) -> Result<Typed, PqlError> {
        let first = Name { text: first.to_owned(), span: at.span.clone() };
        let mut path = self.child(PathId::ROOT, &first)?;
        for name in names {
            path = self.child(path, name)?;
        }
        Ok(Typed::new(self.attribute_op(path), Type::Data))
    }

    fn attribute_op(&self, path: PathId) -> Op {
        let keys = self.paths.segments(path).into_iter().map(Box::from).collect();
        Op::Attribute(path, keys)
    }

    fn child(&mut self, parent: PathId, name: &Name) -> Result<PathId, PqlError> {
        if name.text.is_empty() || name.text.contains('.') {
            let message = format!("an attribute called `{}` cannot be addressed", name.text);
            let help = "names of attributes are not empty and hold no `.`";
            return Err(PqlError::new(name.span.clone(), message).help(help));
        }
        Ok(self.paths.child(parent, &name.text))
    }

    /// `segmentMembership.get("ups").get("id")`, its `status` or `lastQualificationTime`; `None` if
    /// `base` is no such thing.
    pub(super) fn membership(
        &mut self,
        base: &Expr,
        names: &[Name],
    ) -> Result<Option<Typed>, PqlError> {
        if self.bare != Bare::Profile || !starts_at_memberships(base) {
            return Ok(None);
        }
        if self.variables.iter().any(|(name, _)| name == "segmentMembership") {
            return Ok(None);
        }
        let limit = |span| {
            let message = "of `segmentMembership` only a membership named in full can be read";
            PqlError::new(span, message).help(
                "write `segmentMembership.get(\"ups\").get(\"audience id\")` and then \
                 `.status`, `.lastQualificationTime` or nothing; imported audiences stand under \
                 \"CustomerAudienceUpload\"",
            )
        };
        let Some((namespace, id)) = literal_membership(base) else {
            return Err(limit(base.span.clone()));
        };
        let wanted = match namespace.text.as_str() {
            "ups" => SegmentKind::Rule,
            "CustomerAudienceUpload" => SegmentKind::Upload,
            _ => return Err(limit(namespace.span)),
        };
        let (index, kind) = self.segment(&id)?;
        if kind != wanted {
            let message =
                format!("audience `{}` does not stand under \"{}\"", id.text, namespace.text);
            let help = "rules stand under \"ups\", uploads under \"CustomerAudienceUpload\"";
            return Err(PqlError::new(id.span, message).help(help));
        }
        let (part, kind) = match names {
            [] => (Standing::Any, Type::Data),
            [name] if name.text == "status" => (Standing::Status, Type::Data),
            [name] if name.text == "lastQualificationTime" => (Standing::Since, Type::Time),
            [name, ..] => return Err(limit(name.span.clone())),
        };
        // Only presence is asked of a standing that is no part; its time may be asked for, too.
        let kind = if kind == Type::Time { Type::Data } else { kind };
        Ok(Some(Typed::new(Op::Membership(index, part), kind)))
    }

    fn segment(&mut self, id: &Name) -> Result<(usize, SegmentKind), PqlError> {
        let Some(kind) = (self.context.segment)(&id.text) else {
            let message = format!("unknown audience `{}`", id.text);
            let help = "a rule may name the audiences of its own merge policy";
            return Err(PqlError::new(id.span.clone(), message).help(help));
        };
        let known = self.segments.iter().position(|segment| segment.id == id.text);
        let index = known.unwrap_or_else(|| {
            self.segments.push(SegmentRef { id: id.text.clone(), span: id.span.clone() });
            self.segments.len() - 1
        });
        Ok((index, kind))
    }
}

fn no_condition(expr: &Expr, kind: Type) -> PqlError {
    let message = format!("expected a condition, found {}", kind.describe());
    PqlError::new(expr.span.clone(), message).help(
        "compare it, such as `… > 0` or `… = \"x\"`; only a path alone asks whether there is a \
         value",
    )
}

pub(super) fn keys_of(names: &[Name]) -> Keys {
    names.iter().map(|name| name.text.as_str().into()).collect()
}

/// `identityMap` and what goes on from it; namespaces are matched in any letter case.
fn identities(names: &[Name]) -> Typed {
    let Some((namespace, rest)) = names.split_first() else {
        return Typed::new(Op::Identities, Type::Data);
    };
    let of = Op::IdentitiesOf(Box::new(Op::Text(namespace.text.as_str().into())));
    let op = if rest.is_empty() { of } else { Op::Member(Box::new(of), keys_of(rest)) };
    Typed::new(op, Type::Data)
}

fn starts_at_memberships(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Name(name) => name == "segmentMembership",
        ExprKind::Call(base, _, _) | ExprKind::Filter(base, _) | ExprKind::Member(base, _) => {
            starts_at_memberships(base)
        }
        _ => false,
    }
}

/// The namespace and the id of `segmentMembership.get("…").get("…")`.
fn literal_membership(expr: &Expr) -> Option<(Name, Name)> {
    fn literal_get(expr: &Expr) -> Option<(&Expr, Name)> {
        let ExprKind::Call(base, name, arguments) = &expr.kind else { return None };
        let [Expr { kind: ExprKind::Text(text), span }] = arguments.as_slice() else {
            return None;
        };
        (name.text == "get").then(|| (&**base, Name { text: text.clone(), span: span.clone() }))
    }
    let (inner, id) = literal_get(expr)?;
    let (root, namespace) = literal_get(inner)?;
    matches!(root.kind, ExprKind::Name(_)).then_some((namespace, id))
}
