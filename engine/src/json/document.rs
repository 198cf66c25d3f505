//! Parsed JSON text: nodes in order of appearance, those of many texts in one list.

use jiter::{Jiter, JiterError, Peek};

use super::quick;
use super::value::{Kind, Value};

/// Deepest nesting of objects and arrays that is read. Deeper text is refused, because the fold
/// walks documents recursively.
pub const DEPTH_MAX: usize = 128;

/// Bytes of usual records for each of their values, rather few.
const BYTES_A_NODE: usize = 10;

/// One value of a document.
///
/// The children of an object or array follow their parent; `next` is the index after the last of
/// them, so a sibling is found without walking the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Whether the name holds an escape, so that most names are compared as they stand.
    pub(super) key_is_escaped: bool,
    /// Whether it is a string that holds an escape.
    pub(super) is_escaped: bool,
    /// The text of the value, quotes included.
    pub(super) start: u32,
    pub(super) end: u32,
    /// The text of the member's name without quotes; empty where the parent is no object.
    pub(super) key_start: u32,
    pub(super) key_end: u32,
    pub(super) next: u32,
}

/// The nodes of JSON values of one text, read one after another. They do not own the text: whoever
/// reads them passes the same one.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    nodes: Vec<Node>,
}

/// The nodes of one JSON value.
#[derive(Clone, Debug)]
pub struct Document(Documents);

/// Why a text is not a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at column {column}")]
pub struct JsonError {
    /// What is wrong, as a fragment.
    pub reason: String,
    /// Where, in bytes from 1, within the value's text.
    pub column: usize,
}

impl Documents {
    /// Room for the values of about so many bytes of text.
    pub fn for_bytes(bytes: usize) -> Self {
        Self { nodes: Vec::with_capacity(bytes / BYTES_A_NODE + 1) }
    }

    /// Reads the one JSON value that `text[start..end]` consists of, and returns its place; positions
    /// are kept relative to the whole of `text`, which is below 4 GiB.
    pub fn read(&mut self, text: &str, start: usize, end: usize) -> Result<u32, JsonError> {
        let first = self.nodes.len();
        let index = position(first);
        if quick::read(&text.as_bytes()[..end], position(start), &mut self.nodes).is_some() {
            return Ok(index);
        }
        self.nodes.truncate(first);
        let read = read_with_jiter(text, (start, end), &mut self.nodes);
        if read.is_err() {
            self.nodes.truncate(first);
        }
        read.map(|()| index)
    }

    /// The value at `index`, as [`Documents::read`] or [`Value::index`] gave it.
    pub fn at<'a>(&'a self, text: &'a str, index: u32) -> Value<'a> {
        Value::new(text, &self.nodes, index)
    }
}

impl Document {
    /// Reads the one JSON value that `text[start..end]` consists of, as [`Documents::read`] does.
    pub fn parse_at(text: &str, start: usize, end: usize) -> Result<Self, JsonError> {
        let mut documents = Documents::for_bytes(end - start);
        documents.read(text, start, end)?;
        Ok(Self(documents))
    }

    /// Reads the one JSON value that `text` consists of.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        Self::parse_at(text, 0, text.len())
    }

    /// The whole value; `text` is the text it was read from.
    pub fn root<'a>(&'a self, text: &'a str) -> Value<'a> {
        self.0.at(text, 0)
    }

    /// The value at `index`, as given by [`Value::index`].
    pub fn at<'a>(&'a self, text: &'a str, index: u32) -> Value<'a> {
        self.0.at(text, index)
    }
}

/// Reads the value that `text[start..end]` consists of behind `nodes`; says what is wrong if it is
/// none, and may leave some of it then.
pub(super) fn read_with_jiter(
    text: &str,
    (start, end): (usize, usize),
    nodes: &mut Vec<Node>,
) -> Result<(), JsonError> {
    let bytes = &text.as_bytes()[start..end];
    let mut reader = Reader { jiter: Jiter::new(bytes), bytes, base: start, nodes };
    let read = reader
        .jiter
        .peek()
        .map_err(Fault::from)
        .and_then(|peek| reader.value(peek, Key::none_at(start), 0))
        .and_then(|()| reader.jiter.finish().map_err(Fault::from));
    read.map_err(Fault::into_error)
}

fn position(index: usize) -> u32 {
    u32::try_from(index).expect("texts are below 4 GiB, and have fewer nodes than bytes")
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

struct Reader<'j, 'n> {
    jiter: Jiter<'j>,
    bytes: &'j [u8],
    /// Where the bytes stand in the text.
    base: usize,
    nodes: &'n mut Vec<Node>,
}

impl Reader<'_, '_> {
    fn value(&mut self, peek: Peek, key: Key, depth: usize) -> Result<(), Fault> {
        let start = self.jiter.current_index();
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep(start));
        }
        let index = self.nodes.len();
        self.nodes.push(Node {
            kind: Kind::Null,
            key_is_escaped: key.is_escaped,
            is_escaped: false,
            start: position(self.base + start),
            end: 0,
            key_start: position(key.start),
            key_end: position(key.end),
            next: 0,
        });
        let mut is_escaped = false;
        let kind = match peek {
            Peek::Object => self.object(depth)?,
            Peek::Array => self.array(depth)?,
            Peek::String => {
                self.jiter.known_str()?;
                is_escaped = self.bytes[start..self.jiter.current_index()].contains(&b'\\');
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
        let end = position(self.base + self.jiter.current_index());
        let next = position(self.nodes.len());
        let node = &mut self.nodes[index];
        (node.kind, node.is_escaped, node.end, node.next) = (kind, is_escaped, end, next);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Fault> {
        // Names are taken as bytes, to know where they stand; a name with an escape is decoded when
        // somebody reads it.
        let (origin, base) = (self.bytes.as_ptr().addr(), self.base);
        let key_of = |name: &[u8]| Key::of(name, base + name.as_ptr().addr() - origin);
        let mut key = self.jiter.next_object_bytes()?.map(key_of);
        while let Some(found) = key {
            let peek = self.jiter.peek()?;
            self.value(peek, found, depth + 1)?;
            key = self.jiter.next_key_bytes()?.map(key_of);
        }
        Ok(Kind::Object)
    }

    fn array(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut element = self.jiter.known_array()?;
        while let Some(peek) = element {
            self.value(peek, Key::none_at(self.base), depth + 1)?;
            element = self.jiter.array_step()?;
        }
        Ok(Kind::Array)
    }
}

/// The name of a member, by its place in the text that is read.
#[derive(Clone, Copy)]
struct Key {
    start: usize,
    end: usize,
    is_escaped: bool,
}

impl Key {
    /// No name: of an element, and of the whole value, which starts there.
    fn none_at(start: usize) -> Self {
        Self { start, end: start, is_escaped: false }
    }

    fn of(name: &[u8], start: usize) -> Self {
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
