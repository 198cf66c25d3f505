//! An expression as written, with the place of each part.
//!
//! Lists of operands are kept flat (`and`, `+`, path segments), so that the depth of a tree is
//! bounded by the parser's limit and not by the length of the text.

use std::ops::Range;

/// A part of an expression and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// The bytes of the text.
    pub span: Range<usize>,
    /// What it is.
    pub kind: ExprKind,
}

/// A name and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// Without backticks.
    pub text: String,
    /// The bytes of the text.
    pub span: Range<usize>,
}

/// The constructs of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `"text"`
    Text(String),
    /// `-1.5`
    Number(f64),
    /// `true`, `false`
    Bool(bool),
    /// The first segment of a path, a variable, or a root such as `xEvent`.
    Name(String),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `date(2020, 1, 31)`
    Date(CalendarDay),
    /// `currentYear()`
    Current(DatePart),
    /// `if(c, a, b)`
    If(Box<[Expr; 3]>),
    /// `inSegment("id")`
    InSegment(Name),
    /// `base.a.b`
    Member(Box<Expr>, Vec<Name>),
    /// `base.function(arguments)`
    Call(Box<Expr>, Name, Vec<Expr>),
    /// `base[condition]`
    Filter(Box<Expr>, Box<Expr>),
    /// `not a`
    Not(Box<Expr>),
    /// `a and b and c`
    And(Vec<Expr>),
    /// `a or b or c`
    Or(Vec<Expr>),
    /// `a <= b`
    Compare(Comparison, Box<Expr>, Box<Expr>),
    /// `a in b` and its like.
    Relate(Relation, Box<Expr>, Box<Expr>),
    /// `a occurs …`
    Occurs(Box<Expr>, Box<WhenExpr>),
    /// `a + b - c`, or `a * b / c`: operators of one precedence, from left to right.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    /// `exists E from …`, `forall E from …`
    Quantified(Quantifier, Vec<Binding>),
    /// `chain(xEvent, timestamp, […])`
    Chain(Vec<Step>),
}

/// A day as `date` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalendarDay {
    /// 1 to 9999.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
    /// 1 to the length of the month.
    pub day: i8,
}

/// The parts that dates split into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatePart {
    /// The year.
    Year,
    /// The month, 1 to 12.
    Month,
    /// The day of the month, from 1.
    DayOfMonth,
}

/// `=`, `!=`, `<`, `<=`, `>`, `>=`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// Relations that are words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `in`
    In,
    /// `notIn`
    NotIn,
    /// `like`
    Like,
    /// `intersects`
    Intersects,
    /// `subsetOf`
    SubsetOf,
    /// `supersetOf`
    SupersetOf,
    /// `includes`
    Includes,
}

impl Relation {
    /// All of them with the word that stands for each.
    pub const ALL: [(&'static str, Self); 7] = [
        ("in", Self::In),
        ("notIn", Self::NotIn),
        ("like", Self::Like),
        ("intersects", Self::Intersects),
        ("subsetOf", Self::SubsetOf),
        ("supersetOf", Self::SupersetOf),
        ("includes", Self::Includes),
    ];
}

/// `+`, `-`, `*`, `/`, `%`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
}

/// `exists` or `forall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantifier {
    /// At least one element.
    Exists,
    /// Every element; true of none.
    Forall,
}

/// `E from xEvent where …`
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// What the element is called in the conditions from here on.
    pub variable: Name,
    /// Where the elements come from.
    pub source: Expr,
    /// What an element must satisfy.
    pub condition: Option<Expr>,
}

/// `A: WHAT(…) WHEN(…) COUNT(n)`
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What the step is called; nothing refers to it.
    pub label: Name,
    /// What an event must satisfy; every event does without it.
    pub what: Option<Expr>,
    /// When it must have happened.
    pub when: Option<WhenExpr>,
    /// How many events complete the step; at least 1.
    pub count: i64,
}

/// What stands after `occurs`, or in `WHEN(…)`.
#[derive(Clone, Debug, PartialEq)]
pub enum WhenExpr {
    /// `< 7 days before now`
    Distance(Comparison, Span, TimeExpr),
    /// `before now`
    Before(TimeExpr),
    /// `after now`
    After(TimeExpr),
    /// `on today`
    On(TimeExpr),
    /// `between … and …`
    Between(TimeExpr, TimeExpr),
}

/// `7 days before`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// How many units; not negative.
    pub count: i64,
    /// The unit.
    pub unit: Unit,
    /// Which way.
    pub direction: Direction,
}

/// `before`, `after`, `from`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the past.
    Before,
    /// Towards the future.
    After,
    /// Either way; of a shifted time, towards the future.
    From,
}

/// Units of time. Up to the week their lengths are fixed; months and years follow the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A thousandth of a second.
    Millisecond,
    /// 1,000 ms.
    Second,
    /// 60 s.
    Minute,
    /// 60 min.
    Hour,
    /// 24 h as a distance; a calendar day as a period.
    Day,
    /// Seven days; as a period it starts on Sunday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Unit {
    /// All of them with the singular that stands for each.
    pub const ALL: [(&'static str, Self); 8] = [
        ("millisecond", Self::Millisecond),
        ("second", Self::Second),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];
}

/// An instant or a period.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeExpr {
    /// `now`
    Now,
    /// `today` (day, 0), `last month` (month, -1)
    Period(Unit, i64),
    /// `7 days before …`
    Shifted(Span, Box<TimeExpr>),
    /// `date(2020, 1, 31)`
    Date(CalendarDay),
    /// A path to a date or a time.
    Path(Expr),
}
