//! Values while a rule is evaluated.
//!
//! Scalars of events and attributes are borrowed where they stand; arrays and objects stay JSON until
//! somebody looks into them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::rc::Rc;

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::json::{Document, Kind, Value};

use super::ast::Comparison;
use super::calendar;
use super::event_filter::fits;
use super::op::{LetterCase, TextRelation, TextTest};

/// A value, or that there is none.
#[derive(Clone, Debug)]
pub(super) enum Datum<'a> {
    Missing,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    /// A namespace in lower case; letter case does not matter where it is compared.
    Namespace(Cow<'a, str>),
    Time(Timestamp),
    /// An array or an object.
    Node(Node<'a>),
    /// An event: an object with a timestamp of its own.
    Event(Timestamp, Node<'a>),
    /// What a path or a filter yields, or a literal; no element is missing.
    List(Vec<Datum<'a>>),
}

/// A JSON value in a document that is borrowed, or shared by what was taken from it.
#[derive(Clone, Debug)]
pub(super) enum Node<'a> {
    Borrowed(Value<'a>),
    Shared(Rc<Shared<'a>>, u32),
}

/// A document read during the evaluation.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    text: Cow<'a, str>,
    document: Document,
}

impl<'a> Node<'a> {
    /// Reads a JSON text; `None` if it is none.
    pub(super) fn parse(text: Cow<'a, str>) -> Option<Self> {
        let document = Document::parse(&text).ok()?;
        let root = document.root(&text).index();
        Some(Self::Shared(Rc::new(Shared { text, document }), root))
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Borrowed(value) => *value,
            Self::Shared(shared, index) => shared.document.at(&shared.text, *index),
        }
    }

    fn shared_at(shared: &Rc<Shared<'a>>, index: u32) -> Datum<'a> {
        let value = shared.document.at(&shared.text, index);
        match Datum::of_scalar(value) {
            Some(Datum::Text(text)) => Datum::Text(Cow::Owned(text.into_owned())),
            Some(Datum::Bool(value)) => Datum::Bool(value),
            Some(Datum::Number(value)) => Datum::Number(value),
            Some(_) => Datum::Missing,
            None => Datum::Node(Self::Shared(Rc::clone(shared), index)),
        }
    }

    pub(super) fn member(&self, key: &str) -> Datum<'a> {
        match self {
            Self::Borrowed(value) => value.get(key).map_or(Datum::Missing, Datum::of_value),
            Self::Shared(shared, _) => match self.value().get(key) {
                Some(found) => Self::shared_at(shared, found.index()),
                None => Datum::Missing,
            },
        }
    }

    /// The JSON text.
    pub(super) fn raw(&self) -> &str {
        match self {
            Self::Borrowed(value) => value.raw(),
            Self::Shared(shared, index) => shared.document.at(&shared.text, *index).raw(),
        }
    }

    pub(super) fn is_array(&self) -> bool {
        self.value().kind() == Kind::Array
    }

    /// The elements that are not `null`.
    pub(super) fn items(&self) -> Vec<Datum<'a>> {
        let items: Vec<_> = match self {
            Self::Borrowed(value) => value.items().map(Datum::of_value).collect(),
            Self::Shared(shared, _) => {
                self.value().items().map(|item| Self::shared_at(shared, item.index())).collect()
            }
        };
        items.into_iter().filter(|item| !matches!(item, Datum::Missing)).collect()
    }

    /// The members that are not `null`, with their names.
    pub(super) fn entries(&self) -> Vec<(String, Datum<'a>)> {
        let entries: Vec<_> = match self {
            Self::Borrowed(value) => {
                let named = value.entries().map(|(key, v)| (key.into_owned(), Datum::of_value(v)));
                named.collect()
            }
            Self::Shared(shared, _) => {
                let named = self.value().entries().map(|(key, member)| {
                    (key.into_owned(), Self::shared_at(shared, member.index()))
                });
                named.collect()
            }
        };
        entries.into_iter().filter(|(_, member)| !matches!(member, Datum::Missing)).collect()
    }
}

impl<'a> Datum<'a> {
    /// The value of a piece of JSON.
    pub(super) fn of_value(value: Value<'a>) -> Self {
        Self::of_scalar(value).unwrap_or(Self::Node(Node::Borrowed(value)))
    }

    /// `None` for arrays and objects.
    fn of_scalar(value: Value<'a>) -> Option<Self> {
        Some(match value.kind() {
            Kind::Null => Self::Missing,
            Kind::True => Self::Bool(true),
            Kind::False => Self::Bool(false),
            Kind::Number => value.as_f64().map_or(Self::Missing, Self::Number),
            Kind::Text => value.as_str().map_or(Self::Missing, Self::Text),
            Kind::Array | Kind::Object => return None,
        })
    }

    /// The value of a JSON text.
    pub(super) fn of_json(text: &'a str) -> Self {
        let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match (text.as_bytes().first(), inner) {
            (_, Some(inner)) if !inner.contains('\\') => Self::Text(Cow::Borrowed(inner)),
            (Some(b'"'), _) => serde_json::from_str(text)
                .map_or(Self::Missing, |decoded: String| Self::Text(Cow::Owned(decoded))),
            (Some(b'[' | b'{'), _) => {
                Node::parse(Cow::Borrowed(text)).map_or(Self::Missing, Self::Node)
            }
            (Some(b't'), _) => Self::Bool(true),
            (Some(b'f'), _) => Self::Bool(false),
            _ => text.parse().map_or(Self::Missing, Self::Number),
        }
    }

    /// A number, or missing where arithmetic has no answer.
    pub(super) fn number(value: f64) -> Self {
        if value.is_nan() { Self::Missing } else { Self::Number(value) }
    }

    /// What lies at a path from here. Across arrays it is a list of all that is found.
    pub(super) fn descend(self, keys: &[Box<str>]) -> Self {
        let Some((key, rest)) = keys.split_first() else { return self };
        match self {
            Self::Event(at, _) if &**key == "timestamp" => Self::Time(at).descend(rest),
            Self::Node(node) if node.is_array() => Self::gathered(node.items(), keys),
            Self::Event(_, node) | Self::Node(node) => node.member(key).descend(rest),
            Self::List(items) => Self::gathered(items, keys),
            _ => Self::Missing,
        }
    }

    fn gathered(items: Vec<Self>, keys: &[Box<str>]) -> Self {
        let mut found = Vec::new();
        for item in items {
            match item.descend(keys) {
                Self::Missing => {}
                Self::List(more) => found.extend(more),
                Self::Node(node) if node.is_array() => found.extend(node.items()),
                other => found.push(other),
            }
        }
        if found.is_empty() { Self::Missing } else { Self::List(found) }
    }

    /// Whether there is a value. An empty list is the result of a filter, and is none.
    pub(super) fn is_present(&self) -> bool {
        match self {
            Self::Missing => false,
            Self::List(items) => !items.is_empty(),
            _ => true,
        }
    }

    /// The elements: of a list or an array, else the value itself, else nothing.
    pub(super) fn elements(self) -> Vec<Self> {
        match self {
            Self::Missing => Vec::new(),
            Self::List(items) => items,
            Self::Node(node) if node.is_array() => node.items(),
            other => vec![other],
        }
    }

    /// Whether `test` holds for any element, however deep the arrays.
    pub(super) fn any(&self, test: &mut dyn FnMut(&Self) -> bool) -> bool {
        match self {
            Self::Missing => false,
            Self::List(items) => items.iter().any(|item| item.any(test)),
            Self::Node(node) if node.is_array() => node.items().iter().any(|item| item.any(test)),
            other => test(other),
        }
    }

    /// The instant that this is, or that its text names.
    pub(super) fn time(&self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Time(at) => Some(*at),
            Self::Text(text) => calendar::read(text, zone),
            _ => None,
        }
    }

    fn text(&self) -> Option<(&str, LetterCase)> {
        match self {
            Self::Text(text) => Some((text, LetterCase::Distinct)),
            Self::Namespace(text) => Some((text, LetterCase::Ignored)),
            _ => None,
        }
    }

    /// The order of two scalars; `None` if they have none, their types differ, or one is missing.
    fn order(&self, other: &Self, zone: &TimeZone) -> Option<Ordering> {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Time(_), Self::Time(_) | Self::Text(_)) | (Self::Text(_), Self::Time(_)) => {
                Some(self.time(zone)?.cmp(&other.time(zone)?))
            }
            (Self::Namespace(_), _) | (_, Self::Namespace(_)) => {
                let (a, b) = (self.text()?.0, other.text()?.0);
                Some(lower(a).cmp(&lower(b)))
            }
            _ => None,
        }
    }

    /// Compares two scalars.
    fn compares(&self, comparison: Comparison, other: &Self, zone: &TimeZone) -> bool {
        if let (Self::Bool(a), Self::Bool(b)) = (self, other) {
            return match comparison {
                Comparison::Equal => a == b,
                Comparison::NotEqual => a != b,
                _ => false,
            };
        }
        self.order(other, zone).is_some_and(|order| fits(comparison, order))
    }

    /// Whether a comparison holds for any pair of elements.
    pub(super) fn any_compares(&self, how: Comparison, other: &Self, zone: &TimeZone) -> bool {
        self.any(&mut |a| other.any(&mut |b| a.compares(how, b, zone)))
    }

    /// Whether any element of `other` equals this scalar.
    pub(super) fn is_in(&self, other: &Self, zone: &TimeZone) -> bool {
        other.any(&mut |b| self.compares(Comparison::Equal, b, zone))
    }

    /// Whether a string test holds for any pair of elements.
    pub(super) fn any_passes(&self, test: TextTest, other: &Self) -> bool {
        self.any(&mut |a| {
            other.any(&mut |b| match (a.text(), b.text()) {
                (Some((a, case)), Some((b, _))) => {
                    let ignored =
                        case == LetterCase::Ignored || test.letter_case == LetterCase::Ignored;
                    passes(test.kind, (a, b), ignored) == test.wanted
                }
                _ => false,
            })
        })
    }

    /// Whether any text element is one that `accepts` takes.
    pub(super) fn any_text(&self, accepts: &mut dyn FnMut(&str) -> bool) -> bool {
        self.any(&mut |a| a.text().is_some_and(|(text, _)| accepts(text)))
    }

    /// Applies `make` to the scalar, or to each element.
    pub(super) fn map(self, make: &dyn Fn(&Self) -> Self) -> Self {
        match self {
            Self::Missing => Self::Missing,
            Self::List(_) | Self::Node(_) => {
                let elements = self.elements();
                let results = elements.iter().map(make);
                let found: Vec<_> = results.filter(|d| !matches!(d, Self::Missing)).collect();
                if found.is_empty() { Self::Missing } else { Self::List(found) }
            }
            scalar => make(&scalar),
        }
    }
}

fn passes(kind: TextRelation, (a, b): (&str, &str), ignore_case: bool) -> bool {
    if ignore_case {
        if kind == TextRelation::Equals && a.is_ascii() && b.is_ascii() {
            return a.eq_ignore_ascii_case(b);
        }
        return passes(kind, (&lower(a), &lower(b)), false);
    }
    match kind {
        TextRelation::Equals => a == b,
        TextRelation::StartsWith => a.starts_with(b),
        TextRelation::EndsWith => a.ends_with(b),
        TextRelation::Contains => a.contains(b),
    }
}

/// Unicode lower case; borrowed where nothing changes.
pub(super) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// SQL's `like`: `%` is any text, `_` any one character. Linear but for what `%` has to try again.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let (mut text, mut pattern) = (text.chars(), pattern.chars());
    // Where to go on after the last `%`: the text with one more character skipped.
    let mut retry = None;
    loop {
        let rest = (text.clone(), pattern.clone());
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('%'), _) => {
                text = rest.0;
                retry = Some((text.clone(), pattern.clone()));
            }
            (Some('_'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((mut from, after)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                text = from.clone();
                pattern = after.clone();
                retry = Some((from, after));
            }
        }
    }
}
