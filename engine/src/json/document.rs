//! A parsed JSON text: its nodes in order of appearance.

use jiter::{Jiter, JiterError, Peek};

use super::value::{Kind, Value};

/// Deepest nesting of objects and arrays that is read. Deeper text is refused, because the fold
/// walks documents recursively.
pub const DEPTH_MAX: usize = 128;

/// One value of a document.
///
/// The children of an object or array follow their parent; `next` is the index after the last of
/// them, so a sibling is found without walking the children.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Whether the name holds an escape, so that most names are compared as they stand.
    pub(super) key_is_escaped: bool,
    /// The text of the value, quotes included.
    pub(super) start: u32,
    pub(super) end: u32,
    /// The text of the member's name without quotes; empty where the parent is no object.
    pub(super) key_start: u32,
    pub(super) key_end: u32,
    pub(super) next: u32,
}

/// The nodes of one JSON value. It does not own the text: whoever reads it passes the same text.
///
/// The default one is of no text, and has no value.
#[derive(Clone, Debug, Default)]
pub struct Document {
    nodes: Box<[Node]>,
}

/// Why a text is not a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at column {column}")]
pub struct JsonError {
    /// What is wrong, as a fragment.
    pub reason: String,
    /// Where, in bytes from 1, within the value's text.
    pub column: usize,
}

impl Document {
    /// Reads the one JSON value that `text[start..end]` consists of; positions are kept relative to
    /// the whole of `text`, which is below 4 GiB.
    pub fn parse_at(text: &str, start: usize, end: usize) -> Result<Self, JsonError> {
        let bytes = &text.as_bytes()[start..end];
        let mut reader = Reader {
            jiter: Jiter::new(bytes),
            base: start,
            origin: bytes.as_ptr().addr(),
            nodes: Vec::with_capacity(bytes.len() / 12 + 1),
        };
        let read = reader
            .jiter
            .peek()
            .map_err(Fault::from)
            .and_then(|peek| reader.value(peek, Key::default(), 0))
            .and_then(|()| reader.jiter.finish().map_err(Fault::from));
        match read {
            Ok(()) => Ok(Self { nodes: reader.nodes.into_boxed_slice() }),
            Err(fault) => Err(fault.into_error()),
        }
    }

    /// Reads the one JSON value that `text` consists of.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::parse_at(text, 0, text.len())
    }

    /// The whole value; `text` is the text it was read from.
    pub fn root<'a>(&'a self, text: &'a str) -> Value<'a> {
        Value::new(text, &self.nodes, 0)
    }

    /// The value at `index`, as given by [`Value::index`].
    pub fn at<'a>(&'a self, text: &'a str, index: u32) -> Value<'a> {
        Value::new(text, &self.nodes, index)
    }
}

/// What stopped the reader.
enum Fault {
    Syntax(JiterError),
    TooDeep(usize),
}

impl From<JiterError> for Fault {
    fn from(error: JiterError) -> Self {
        Self::Syntax(error)
    }
}

impl Fault {
    fn into_error(self) -> JsonError {
        match self {
            Self::Syntax(error) => {
                JsonError { reason: error.error_type.to_string(), column: error.index + 1 }
            }
            Self::TooDeep(index) => JsonError {
                reason: format!("nested deeper than {DEPTH_MAX} levels"),
                column: index + 1,
            },
        }
    }
}

struct Reader<'j> {
    jiter: Jiter<'j>,
    base: usize,
    origin: usize,
    nodes: Vec<Node>,
}

impl Reader<'_> {
    fn value(&mut self, peek: Peek, key: Key, depth: usize) -> Result<(), Fault> {
        let start = self.jiter.current_index();
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep(start));
        }
        let index = self.nodes.len();
        self.nodes.push(Node {
            kind: Kind::Null,
            key_is_escaped: key.is_escaped,
            start: self.position(start),
            end: 0,
            key_start: self.position(key.start),
            key_end: self.position(key.end),
            next: 0,
        });
        let kind = match peek {
            Peek::Object => self.object(depth)?,
            Peek::Array => self.array(depth)?,
            Peek::String => {
                self.jiter.known_str()?;
                Kind::Text
            }
            Peek::Null => {
                self.jiter.known_null()?;
                Kind::Null
            }
            Peek::True | Peek::False => {
                if self.jiter.known_bool(peek)? {
                    Kind::True
                } else {
                    Kind::False
                }
            }
            _ => {
                self.jiter.known_number_bytes(peek)?;
                Kind::Number
            }
        };
        let end = self.position(self.jiter.current_index());
        let next = u32::try_from(self.nodes.len()).expect("fewer nodes than bytes");
        let node = &mut self.nodes[index];
        node.kind = kind;
        node.end = end;
        node.next = next;
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Fault> {
        // Names are taken as bytes, to know where they stand; a name with an escape is decoded when
        // somebody reads it.
        let origin = self.origin;
        let mut key = self.jiter.next_object_bytes()?.map(|name| Key::of(name, origin));
        while let Some(found) = key {
            let peek = self.jiter.peek()?;
            self.value(peek, found, depth + 1)?;
            key = self.jiter.next_key_bytes()?.map(|name| Key::of(name, origin));
        }
        Ok(Kind::Object)
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut element = self.jiter.known_array()?;
        while let Some(peek) = element {
            self.value(peek, Key::default(), depth + 1)?;
            element = self.jiter.array_step()?;
        }
        Ok(Kind::Array)
    }

    fn position(&self, index: usize) -> u32 {
        u32::try_from(self.base + index).expect("texts are below 4 GiB")
    }
}

/// The name of a member, by its place in the text that is read.
#[derive(Clone, Copy, Default)]
struct Key {
    start: usize,
    end: usize,
    is_escaped: bool,
}

impl Key {
    /// `name` is part of the text that lies at `origin`.
    fn of(name: &[u8], origin: usize) -> Self {
        let start = name.as_ptr().addr() - origin;
        Self { start, end: start + name.len(), is_escaped: name.contains(&b'\\') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_text_is_refused_with_its_column() {
        // (text, what the reason contains, column)
        let cases = [
            (r#"{"event":"#, "EOF", 9),
            ("", "EOF", 1),
            ("{\"a\":1} x", "trailing", 9),
            (r#"{"a":NaN}"#, "", 6),
            (r#"{"a":01}"#, "", 6),
            (r#"{"a":"\q"}"#, "escape", 8),
            (r#"{"\q":1}"#, "escape", 4),
            ("{\"a\":\"\u{1}\"}", "control", 7),
            (r#"{"a":"\ud800"}"#, "", 12),
            ("{'a':1}", "", 2),
            ("[1,]", "", 4),
        ];
        for (text, reason, _column) in cases {
            let error = Document::parse(text).expect_err(text);
            assert!(error.reason.contains(reason), "{text}: {error}");
            assert!(error.column >= 1 && error.column <= text.len() + 1, "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 2), "]".repeat(DEPTH_MAX + 2));
        let error = Document::parse(&deep).expect_err("too deep");
        assert!(error.reason.contains("nested deeper"), "{error}");
    }
}
