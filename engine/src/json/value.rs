//! Reading a document: kinds, members, elements, scalars, and the text as it came.

use std::borrow::Cow;

use super::document::{Document, Node};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number, of which only the text is kept.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One value of a document; copying it copies two pointers and a position.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    text: &'a str,
    nodes: &'a [Node],
    index: u32,
}

impl<'a> Value<'a> {
    pub(super) fn new(text: &'a str, nodes: &'a [Node], index: u32) -> Self {
        Self { text, nodes, index }
    }

    fn node(&self) -> &'a Node {
        &self.nodes[self.index as usize]
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.node().kind
    }

    /// Its place in the document, for [`Document::at`].
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The text exactly as received, quotes of a string included.
    pub fn raw(&self) -> &'a str {
        &self.text[self.node().start as usize..self.node().end as usize]
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The string, decoded; borrowed where it has no escapes. `None` if it is no string.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        if self.kind() != Kind::Text {
            return None;
        }
        let raw = self.raw();
        let inner = &raw[1..raw.len() - 1];
        Some(if self.node().is_escaped { decoded(inner) } else { Cow::Borrowed(inner) })
    }

    /// The nearest 64-bit float (infinite past its range). `None` if it is no number.
    pub fn as_f64(&self) -> Option<f64> {
        (self.kind() == Kind::Number)
            .then(|| self.raw().parse().expect("a JSON number is a float's text"))
    }

    /// `None` if it is neither `true` nor `false`.
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind() {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// The member called `key`; of several, the last. `None` if there is none, or it is no object.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        if self.kind() != Kind::Object {
            return None;
        }
        self.children().filter(|child| child.has_key(key)).last()
    }

    /// The members of an object with their names, in order; nothing for other kinds.
    pub fn entries(&self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> + use<'a> {
        let is_object = self.kind() == Kind::Object;
        self.children().filter(move |_| is_object).map(|child| (child.key(), child))
    }

    /// The elements of an array, in order; nothing for other kinds.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let is_array = self.kind() == Kind::Array;
        self.children().filter(move |_| is_array)
    }

    fn children(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (text, nodes, end) = (self.text, self.nodes, self.node().next);
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            (index < end).then(|| {
                let child = Value { text, nodes, index };
                index = child.node().next;
                child
            })
        })
    }

    fn raw_key(&self) -> &'a str {
        &self.text[self.node().key_start as usize..self.node().key_end as usize]
    }

    fn key(&self) -> Cow<'a, str> {
        let raw = self.raw_key();
        if self.node().key_is_escaped { decoded(raw) } else { Cow::Borrowed(raw) }
    }

    fn has_key(&self, key: &str) -> bool {
        let Node { key_start, key_end, key_is_escaped, .. } = *self.node();
        if key_is_escaped {
            return self.key() == key;
        }
        let length = (key_end - key_start) as usize;
        length == key.len()
            && self.text.as_bytes()[key_start as usize..key_end as usize] == *key.as_bytes()
    }
}

/// What stands between the quotes of a JSON string with escapes, checked when it was read.
fn decoded(inner: &str) -> Cow<'_, str> {
    let text = serde_json::from_str(&format!("\"{inner}\"")).expect("checked when it was read");
    Cow::Owned(text)
}

/// `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always JSON")
}

/// Whether two JSON texts are the same value: numbers by their text, objects in any order
/// (`SPEC.md` §6). Texts that are no JSON are the same only if they are equal.
pub fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    if !may_be_same(a, b) {
        return false;
    }
    match (Document::parse(a), Document::parse(b)) {
        (Ok(left), Ok(right)) => same_value(left.root(a), right.root(b)),
        _ => false,
    }
}

/// Whether two texts that differ may be the same value: numbers and words never are, nor are strings
/// without escapes.
fn may_be_same(a: &str, b: &str) -> bool {
    match (a.as_bytes().first(), b.as_bytes().first()) {
        (Some(b'"'), Some(b'"')) => a.contains('\\') || b.contains('\\'),
        (Some(b'{'), Some(b'{')) | (Some(b'['), Some(b'[')) => true,
        (Some(first), Some(other)) => first.is_ascii_whitespace() || other.is_ascii_whitespace(),
        _ => false,
    }
}

fn same_value(a: Value<'_>, b: Value<'_>) -> bool {
    if a.kind() != b.kind() {
        return false;
    }
    match a.kind() {
        Kind::Null | Kind::True | Kind::False => true,
        Kind::Number => a.raw() == b.raw(),
        Kind::Text => a.as_str() == b.as_str(),
        Kind::Array => {
            a.items().count() == b.items().count()
                && a.items().zip(b.items()).all(|(x, y)| same_value(x, y))
        }
        Kind::Object => {
            let has = |x: Value<'_>, y: Value<'_>| {
                x.entries().all(|(key, _)| match (x.get(&key), y.get(&key)) {
                    (Some(left), Some(right)) => same_value(left, right),
                    _ => false,
                })
            };
            has(a, b) && b.entries().all(|(key, _)| a.get(&key).is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Documents;
    use super::*;

    #[test]
    fn values_are_read_where_they_stand() {
        let text = r#"xx{"a":{"b\n":1.10},"list":[1,"t\"\u00e9",null,{"k":true}],"a2":-0.5e3}"#;
        let mut documents = Documents::default();
        let root = documents.read(text, 2, text.len()).expect("JSON");
        let root = documents.at(text, root);
        let a = root.get("a").expect("a");
        assert_eq!(a.get("b\n").map(|v| v.raw()), Some("1.10"));
        let list = root.get("list").expect("list");
        assert_eq!(list.raw(), r#"[1,"t\"\u00e9",null,{"k":true}]"#);
        assert_eq!(list.items().count(), 4);
        assert_eq!(list.items().nth(1).and_then(|v| v.as_str()).as_deref(), Some("t\"é"));
        assert_eq!(
            list.items().nth(3).and_then(|v| v.get("k")).and_then(|v| v.as_bool()),
            Some(true)
        );
        assert_eq!(root.get("a2").and_then(|v| v.as_f64()), Some(-500.0));
        assert_eq!(
            root.entries().map(|(key, _)| key.into_owned()).collect::<Vec<_>>(),
            ["a", "list", "a2"]
        );
        assert_eq!(documents.at(text, list.index()).raw(), list.raw());
        assert!(root.get("list2").is_none() && list.get("k").is_none());
    }

    #[test]
    fn of_two_members_with_one_name_the_last_counts() {
        let text = r#"{"a":1,"a":2}"#;
        let document = Document::parse(text).expect("JSON");
        assert_eq!(document.root(text).get("a").map(|v| v.raw()), Some("2"));
    }

    #[test]
    fn sameness_is_of_values() {
        // (one, other, same)
        let cases = [
            ("1", "1", true),
            ("1", "1.0", false),
            (r#""é""#, r#""\u00e9""#, true),
            (r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#, true),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            ("[1,2]", "[2,1]", false),
            ("null", "false", false),
            (r#""a""#, r#""b""#, false),
            (r#""1""#, "1", false),
            (r#""a\/b""#, r#""a/b""#, true),
            ("[ 1 ]", "[1]", true),
            (" 1", "1", true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(same(a, b), expected, "{a} {b}");
            assert_eq!(same(b, a), expected, "{b} {a}");
        }
    }
}
