//! Functions: which there are, what they take, what they yield.

use regex::RegexBuilder;

use super::ast::{DatePart, Expr, ExprKind, Name};
use super::compile::{Bare, Compiler, TEXTS, Type, Typed, keys_of};
use super::error::PqlError;
use super::op::{Aggregate, LetterCase, Op, Pattern, TextRelation, TextTest};

/// Most bytes that a compiled regular expression may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The string tests: name, relation, what it must give.
const TEXT_TESTS: [(&str, TextRelation, bool); 8] = [
    ("equals", TextRelation::Equals, true),
    ("notEqualTo", TextRelation::Equals, false),
    ("startsWith", TextRelation::StartsWith, true),
    ("doesNotStartWith", TextRelation::StartsWith, false),
    ("endsWith", TextRelation::EndsWith, true),
    ("doesNotEndWith", TextRelation::EndsWith, false),
    ("contains", TextRelation::Contains, true),
    ("doesNotContain", TextRelation::Contains, false),
];

const AGGREGATES: [(&str, Aggregate); 4] = [
    ("sum", Aggregate::Sum),
    ("average", Aggregate::Average),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
];

const DATE_PARTS: [(&str, DatePart); 3] = [
    ("getYear", DatePart::Year),
    ("getMonth", DatePart::Month),
    ("getDayOfMonth", DatePart::DayOfMonth),
];

/// What may be there or not.
const ANYTHING: [Type; 7] =
    [Type::Data, Type::Condition, Type::Number, Type::Text, Type::Time, Type::List, Type::Events];

impl Compiler<'_> {
    /// `base.name(arguments)`
    pub(super) fn call(
        &mut self,
        whole: &Expr,
        (base, name): (&Expr, &Name),
        arguments: &[Expr],
    ) -> Result<Typed, PqlError> {
        if let Some(standing) = self.membership(whole, &[])? {
            return Ok(standing);
        }
        let called = name.text.as_str();
        if let Some((_, kind, wanted)) = TEXT_TESTS.iter().find(|(known, ..)| *known == called) {
            return self.text_test((*kind, *wanted), (base, name), (arguments, whole));
        }
        if let Some((_, aggregate)) = AGGREGATES.iter().find(|(known, _)| *known == called) {
            return self.aggregate(*aggregate, (base, name), arguments);
        }
        if let Some((_, part)) = DATE_PARTS.iter().find(|(known, _)| *known == called) {
            no_arguments(name, arguments)?;
            let subject = Box::new(self.datable(base)?);
            return Ok(Typed::new(Op::Part(*part, subject), Type::Number));
        }
        match called {
            "isNull" | "isNotNull" => {
                no_arguments(name, arguments)?;
                let present = self.presence(base)?;
                let is_null = called == "isNull";
                let op = if is_null { Op::Not(Box::new(present)) } else { present };
                Ok(Typed::new(op, Type::Condition))
            }
            "matches" | "regexGroup" => self.pattern((base, name), (arguments, whole)),
            "count" | "distinct" => {
                no_arguments(name, arguments)?;
                self.counted(base, called)
            }
            "exists" => {
                let [test] = exactly(name, arguments, "a condition on the elements")?;
                self.any_element(base, test)
            }
            "get" | "keys" | "values" => self.map_function((base, name), arguments),
            _ => Err(unknown(name)),
        }
    }

    pub(super) fn presence(&mut self, base: &Expr) -> Result<Op, PqlError> {
        let found = self.as_events(base);
        if let Some(events) = found {
            return self.has_events(&events);
        }
        self.on_each(base, &ANYTHING, &base.to_string(), |_, subject| {
            Ok(Op::Present(Box::new(subject)))
        })
    }

    fn text_test(
        &mut self,
        (kind, wanted): (TextRelation, bool),
        (base, name): (&Expr, &Name),
        (arguments, whole): (&[Expr], &Expr),
    ) -> Result<Typed, PqlError> {
        let (other, letter_case) = match arguments {
            [other] | [other, Expr { kind: ExprKind::Bool(true), .. }] => {
                (other, LetterCase::Distinct)
            }
            [other, Expr { kind: ExprKind::Bool(false), .. }] => (other, LetterCase::Ignored),
            [_, flag] => {
                let message = "expected `true` or `false` for letter case";
                return Err(PqlError::new(flag.span.clone(), message));
            }
            _ => return Err(takes(name, "a string, and `true` or `false` for letter case")),
        };
        let test = TextTest { kind, letter_case, wanted };
        let op = self.on_each(base, &TEXTS, &whole.to_string(), |compiler, subject| {
            let other = compiler.one_of(other, &TEXTS)?;
            Ok(Op::Test(test, Box::new(subject), Box::new(other)))
        })?;
        Ok(Typed::new(op, Type::Condition))
    }

    fn pattern(
        &mut self,
        (base, name): (&Expr, &Name),
        (arguments, whole): (&[Expr], &Expr),
    ) -> Result<Typed, PqlError> {
        if name.text == "matches" {
            let [pattern] = exactly(name, arguments, "a regular expression")?;
            let pattern = compiled(pattern)?;
            let op = self.on_each(base, &TEXTS, &whole.to_string(), |_, subject| {
                Ok(Op::Matches(pattern, Box::new(subject)))
            })?;
            return Ok(Typed::new(op, Type::Condition));
        }
        let subject = Box::new(self.one_of(base, &TEXTS)?);
        let [pattern, number] =
            exactly(name, arguments, "a regular expression and the number of a group")?;
        let pattern = compiled(pattern)?;
        let groups = pattern.0.captures_len();
        let wanted = (0..groups).find(|group| number.kind == ExprKind::Number(*group as f64));
        let Some(number) = wanted else {
            let message = format!("expected the number of a group, from 0 to {}", groups - 1);
            return Err(PqlError::new(number.span.clone(), message));
        };
        Ok(Typed::new(Op::Group(pattern, number, subject), Type::Data))
    }

    fn counted(&mut self, base: &Expr, called: &str) -> Result<Typed, PqlError> {
        if called == "count" {
            if let Some(events) = self.as_events(base) {
                return Ok(Typed::new(self.count_events(&events)?, Type::Number));
            }
            let source = Box::new(self.comparable_source(base)?);
            return Ok(Typed::new(Op::Count(source), Type::Number));
        }
        let source = Box::new(self.comparable_source(base)?);
        Ok(Typed::new(Op::Distinct(source), Type::Data))
    }

    /// `list.exists(condition)`
    fn any_element(&mut self, base: &Expr, test: &Expr) -> Result<Typed, PqlError> {
        if let Some(mut events) = self.as_events(base) {
            events.push(test);
            return Ok(Typed::new(self.has_events(&events)?, Type::Condition));
        }
        let source = Box::new(self.comparable_source(base)?);
        let test = Box::new(self.within_element(|compiler| compiler.condition(test))?);
        let op = Op::Quantified(super::ast::Quantifier::Exists, source, test);
        Ok(Typed::new(op, Type::Condition))
    }

    fn aggregate(
        &mut self,
        aggregate: Aggregate,
        (base, name): (&Expr, &Name),
        arguments: &[Expr],
    ) -> Result<Typed, PqlError> {
        let [path] = exactly(name, arguments, "the path of a number")?;
        let depth = self.depth;
        let found = self.within_element(|compiler| Ok(compiler.value(path)?.op))?;
        let Op::Frame(frame, keys) = found else {
            let message = format!("`{}` takes the path of a number", name.text);
            return Err(PqlError::new(path.span.clone(), message));
        };
        let events = self.as_events(base);
        let is_time = events.is_some() && keys.len() == 1 && &*keys[0] == "timestamp";
        if frame != depth || is_time {
            let message = format!("`{}` takes the path of a number in the elements", name.text);
            return Err(PqlError::new(path.span.clone(), message));
        }
        let op = match events {
            Some(events) => self.aggregate_events(aggregate, keys, &events)?,
            None => Op::Aggregate(aggregate, Box::new(self.comparable_source(base)?), keys),
        };
        Ok(Typed::new(op, Type::Number))
    }

    fn map_function(
        &mut self,
        (base, name): (&Expr, &Name),
        arguments: &[Expr],
    ) -> Result<Typed, PqlError> {
        let is_identities = self.bare == Bare::Profile
            && matches!(&base.kind, ExprKind::Name(first) if first == "identityMap")
            && !self.variables.iter().any(|(variable, _)| variable == "identityMap");
        if name.text != "get" {
            no_arguments(name, arguments)?;
            if is_identities && name.text == "keys" {
                return Ok(Typed::new(Op::Namespaces, Type::List));
            }
            let map = Box::new(self.one_of(base, &[Type::Data])?);
            let op = if name.text == "keys" { Op::Keys(map) } else { Op::Values(map) };
            return Ok(Typed::new(op, Type::List));
        }
        let [key] = exactly(name, arguments, "a key")?;
        if is_identities {
            let namespace = Box::new(self.one_of(key, &[Type::Text, Type::Data])?);
            return Ok(Typed::new(Op::IdentitiesOf(namespace), Type::Data));
        }
        let map = Typed::new(self.one_of(base, &[Type::Data])?, Type::Data);
        if let ExprKind::Text(text) = &key.kind {
            let name = Name { text: text.clone(), span: key.span.clone() };
            return match map.op {
                Op::Attribute(..) => self.member(map, &[name]),
                other => Ok(Typed::new(Op::Member(Box::new(other), keys_of(&[name])), Type::Data)),
            };
        }
        let key = self.one_of(key, &[Type::Text, Type::Data])?;
        Ok(Typed::new(Op::Get(Box::new(map.op), Box::new(key)), Type::Data))
    }
}

fn compiled(expr: &Expr) -> Result<Pattern, PqlError> {
    let ExprKind::Text(text) = &expr.kind else {
        let message = "a regular expression is a string, so that it can be checked beforehand";
        return Err(PqlError::new(expr.span.clone(), message));
    };
    let built = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
    built.map(Pattern).map_err(|error| {
        let reason = error.to_string();
        // The library draws the place over several lines; its last line says what is wrong.
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        PqlError::new(expr.span.clone(), format!("no regular expression: {reason}"))
    })
}

fn no_arguments(name: &Name, arguments: &[Expr]) -> Result<(), PqlError> {
    if arguments.is_empty() { Ok(()) } else { Err(takes(name, "nothing in its parentheses")) }
}

fn exactly<'e, const N: usize>(
    name: &Name,
    arguments: &'e [Expr],
    what: &str,
) -> Result<&'e [Expr; N], PqlError> {
    arguments.try_into().map_err(|_| takes(name, what))
}

fn takes(name: &Name, what: &str) -> PqlError {
    PqlError::new(name.span.clone(), format!("`{}` takes {what}", name.text))
}

/// Functions of other kinds.
const OTHER_FUNCTIONS: [&str; 10] = [
    "matches",
    "regexGroup",
    "isNull",
    "isNotNull",
    "count",
    "distinct",
    "exists",
    "get",
    "keys",
    "values",
];

fn functions() -> impl Iterator<Item = &'static str> {
    let tests = TEXT_TESTS.iter().map(|(known, ..)| *known);
    let numbers = AGGREGATES.iter().map(|(known, _)| *known);
    let dates = DATE_PARTS.iter().map(|(known, _)| *known);
    tests.chain(numbers).chain(dates).chain(OTHER_FUNCTIONS)
}

/// Whether there is a function of that name.
pub(super) fn is_function(name: &str) -> bool {
    functions().any(|known| known == name)
}

fn unknown(name: &Name) -> PqlError {
    let meant = functions().find(|known| known.eq_ignore_ascii_case(&name.text));
    let error = PqlError::new(name.span.clone(), format!("unknown function `{}`", name.text));
    match meant {
        Some(meant) => error.help(format!("it is written `{meant}`")),
        None => error.help(format!("there are {}", functions().collect::<Vec<_>>().join(", "))),
    }
}
