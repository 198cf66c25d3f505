//! The canonical text of an expression: one spelling, single spaces, parentheses where they matter.

use std::fmt::{self, Display, Formatter};

use super::ast::{
    CalendarDay, Comparison, DatePart, Direction, Expr, ExprKind, Name, Operator, Quantifier,
    Relation, Span, Step, TimeExpr, Unit, WhenExpr,
};
use super::lexer::is_plain_word;
use super::parser::is_reserved;

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Text(text) => write_text(f, text),
            ExprKind::Number(number) => write_number(f, *number),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Name(name) => write_name(f, name, true),
            ExprKind::List(items) => {
                f.write_str("[")?;
                write_list(f, items)?;
                f.write_str("]")
            }
            ExprKind::Date(day) => write!(f, "{day}"),
            ExprKind::Current(part) => write!(f, "{part}()"),
            ExprKind::If(three) => {
                f.write_str("if(")?;
                write_list(f, three.as_slice())?;
                f.write_str(")")
            }
            ExprKind::InSegment(id) => {
                f.write_str("inSegment(")?;
                write_text(f, &id.text)?;
                f.write_str(")")
            }
            ExprKind::Member(base, names) => {
                Within(base, 7).fmt(f)?;
                names.iter().try_for_each(|name| write_member(f, name))
            }
            ExprKind::Call(base, name, arguments) => {
                Within(base, 7).fmt(f)?;
                write_member(f, name)?;
                f.write_str("(")?;
                write_list(f, arguments)?;
                f.write_str(")")
            }
            ExprKind::Filter(base, condition) => write!(f, "{}[{condition}]", Within(base, 7)),
            _ => self.write_operation(f),
        }
    }
}

impl Expr {
    fn write_operation(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Not(operand) => write!(f, "not {}", Within(operand, 3)),
            ExprKind::And(all) => write_joined(f, all, " and ", 3),
            ExprKind::Or(all) => write_joined(f, all, " or ", 2),
            ExprKind::Compare(comparison, left, right) => {
                write!(f, "{} {comparison} {}", Within(left, 5), Within(right, 5))
            }
            ExprKind::Relate(relation, left, right) => {
                write!(f, "{} {relation} {}", Within(left, 5), Within(right, 5))
            }
            ExprKind::Occurs(subject, when) => write!(f, "{} occurs {when}", Within(subject, 5)),
            ExprKind::Arithmetic(first, rest) => {
                let level = self.precedence();
                Within(first, level + 1).fmt(f)?;
                rest.iter().try_for_each(|(operator, operand)| {
                    write!(f, " {operator} {}", Within(operand, level + 1))
                })
            }
            ExprKind::Quantified(quantifier, bindings) => {
                f.write_str(match quantifier {
                    Quantifier::Exists => "exists ",
                    Quantifier::Forall => "forall ",
                })?;
                for (index, binding) in bindings.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    write_name(f, &binding.variable.text, false)?;
                    write!(f, " from {}", Within(&binding.source, 7))?;
                    if let Some(condition) = &binding.condition {
                        write!(f, " where {condition}")?;
                    }
                }
                Ok(())
            }
            ExprKind::Chain(steps) => {
                f.write_str("chain(xEvent, timestamp, [")?;
                for (index, step) in steps.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    write!(f, "{step}")?;
                }
                f.write_str("])")
            }
            _ => Ok(()),
        }
    }

    fn precedence(&self) -> u8 {
        match &self.kind {
            ExprKind::Quantified(..) => 0,
            ExprKind::Or(_) => 1,
            ExprKind::And(_) => 2,
            ExprKind::Not(_) => 3,
            ExprKind::Compare(..) | ExprKind::Relate(..) | ExprKind::Occurs(..) => 4,
            ExprKind::Arithmetic(_, rest) => match rest.first() {
                Some((Operator::Add | Operator::Subtract, _)) | None => 5,
                Some(_) => 6,
            },
            _ => 7,
        }
    }
}

/// An operand, in parentheses if it binds less tightly than its place needs.
struct Within<'a>(&'a Expr, u8);

impl Display for Within<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.precedence() < self.1 { write!(f, "({})", self.0) } else { self.0.fmt(f) }
    }
}

fn write_joined(f: &mut Formatter<'_>, all: &[Expr], word: &str, level: u8) -> fmt::Result {
    all.iter().enumerate().try_for_each(|(index, operand)| {
        f.write_str(if index > 0 { word } else { "" })?;
        Within(operand, level).fmt(f)
    })
}

/// Values between commas. A quantifier takes a following `, name from` for its own, so it stands in
/// parentheses.
fn write_list(f: &mut Formatter<'_>, items: &[Expr]) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(index, item)| {
        f.write_str(if index > 0 { ", " } else { "" })?;
        Within(item, 1).fmt(f)
    })
}

fn write_member(f: &mut Formatter<'_>, name: &Name) -> fmt::Result {
    f.write_str(".")?;
    write_name(f, &name.text, false)
}

fn write_name(f: &mut Formatter<'_>, name: &str, starts_operand: bool) -> fmt::Result {
    if is_plain_word(name) && !(starts_operand && is_reserved(name)) {
        f.write_str(name)
    } else {
        write!(f, "`{name}`")
    }
}

fn write_number(f: &mut Formatter<'_>, number: f64) -> fmt::Result {
    match number {
        f64::INFINITY => f.write_str("1e999"),
        f64::NEG_INFINITY => f.write_str("-1e999"),
        // Without an exponent, these have up to 324 digits.
        number if number != 0.0 && !(1e-9..1e17).contains(&number.abs()) => write!(f, "{number:e}"),
        _ => write!(f, "{number}"),
    }
}

fn write_text(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // A label with a `:` can only come from backticks.
        let plain = is_plain_word(&self.label.text) && !self.label.text.contains(':');
        if plain {
            f.write_str(&self.label.text)?;
        } else {
            write!(f, "`{}`", self.label.text)?;
        }
        f.write_str(": WHAT(")?;
        if let Some(what) = &self.what {
            write!(f, "{what}")?;
        }
        f.write_str(")")?;
        if let Some(when) = &self.when {
            write!(f, " WHEN({when})")?;
        }
        if self.count == 1 { Ok(()) } else { write!(f, " COUNT({})", self.count) }
    }
}

impl Display for WhenExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Distance(comparison, span, time) => write!(f, "{comparison} {span} {time}"),
            Self::Before(time) => write!(f, "before {time}"),
            Self::After(time) => write!(f, "after {time}"),
            Self::On(time) => write!(f, "on {time}"),
            Self::Between(first, last) => write!(f, "between {first} and {last}"),
        }
    }
}

impl Display for TimeExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Period(Unit::Day, 0) => f.write_str("today"),
            Self::Period(unit, offset) => {
                let word =
                    ["last", "this", "next"][usize::from(*offset >= 0) + usize::from(*offset > 0)];
                write!(f, "{word} {unit}")
            }
            Self::Shifted(span, time) => write!(f, "{span} {time}"),
            Self::Date(day) => write!(f, "{day}"),
            Self::Path(path) => write!(f, "{}", Within(path, 7)),
        }
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Before => "before",
            Direction::After => "after",
            Direction::From => "from",
        };
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} {}{plural} {direction}", self.count, self.unit)
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::ALL, self))
    }
}

impl Display for Relation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(word_of(&Self::ALL, self))
    }
}

fn word_of<T: PartialEq>(all: &[(&'static str, T)], value: &T) -> &'static str {
    all.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word)
}

impl Display for CalendarDay {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "date({}, {}, {})", self.year, self.month, self.day)
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        })
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        })
    }
}

impl Display for DatePart {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Year => "currentYear",
            Self::Month => "currentMonth",
            Self::DayOfMonth => "currentDayOfMonth",
        })
    }
}
