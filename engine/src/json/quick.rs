//! The short way through JSON text: one pass over the bytes, for the text that nearly all lines are.
//!
//! It never refuses: whatever it is not made for (a fault, `\u` in a string, a number of hundreds of
//! digits) it leaves to the reader underneath, which says what is wrong or reads it. What it does read
//! becomes the very nodes that the other would make; a property holds the two together.

use super::document::{DEPTH_MAX, Node};
use super::value::Kind;

/// Longer numbers are left to the other reader, which has a limit of its own.
const NUMBER_BYTES_MAX: u32 = 64;

/// Each byte of a word of eight.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The high bit of each byte.
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Reads the one JSON value that `bytes` hold from `start` on; `None` leaves it, and some of `nodes`,
/// to the other reader.
pub(super) fn read(bytes: &[u8], start: u32, nodes: &mut Vec<Node>) -> Option<()> {
    let none = Name { start, end: start, is_escaped: false };
    let mut reader = Quick { bytes, at: start, none, nodes };
    reader.skip_space();
    reader.value(none, 0)?;
    reader.skip_space();
    (reader.at as usize == bytes.len()).then_some(())
}

struct Quick<'t> {
    bytes: &'t [u8],
    at: u32,
    /// The name of an element, and of the whole.
    none: Name,
    nodes: &'t mut Vec<Node>,
}

/// Where a string's text stands, without its quotes.
#[derive(Clone, Copy)]
struct Name {
    start: u32,
    end: u32,
    is_escaped: bool,
}

impl Quick<'_> {
    /// The next byte; 0, which nothing begins with, at the end.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at as usize).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn value(&mut self, name: Name, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        let start = self.at;
        let index = self.nodes.len();
        self.nodes.push(Node {
            kind: Kind::Null,
            key_is_escaped: name.is_escaped,
            is_escaped: false,
            start,
            end: start,
            key_start: name.start,
            key_end: name.end,
            next: 0,
        });
        let mut is_escaped = false;
        let kind = match self.peek() {
            b'"' => {
                is_escaped = self.text()?.is_escaped;
                Kind::Text
            }
            b'{' => self.object(depth)?,
            b'[' => self.array(depth)?,
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.word(b"true", Kind::True)?,
            b'f' => self.word(b"false", Kind::False)?,
            b'n' => self.word(b"null", Kind::Null)?,
            _ => return None,
        };
        let next = u32::try_from(self.nodes.len()).ok()?;
        let node = &mut self.nodes[index];
        (node.kind, node.is_escaped, node.end, node.next) = (kind, is_escaped, self.at, next);
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<Kind> {
        self.at += 1;
        self.skip_space();
        if self.peek() == b'}' {
            self.at += 1;
            return Some(Kind::Object);
        }
        loop {
            if self.peek() != b'"' {
                return None;
            }
            let name = self.text()?;
            self.skip_space();
            if self.peek() != b':' {
                return None;
            }
            self.at += 1;
            self.skip_space();
            self.value(name, depth + 1)?;
            if self.is_last(b'}')? {
                return Some(Kind::Object);
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Kind> {
        self.at += 1;
        self.skip_space();
        if self.peek() == b']' {
            self.at += 1;
            return Some(Kind::Array);
        }
        loop {
            self.value(self.none, depth + 1)?;
            if self.is_last(b']')? {
                return Some(Kind::Array);
            }
        }
    }

    /// Steps over what stands behind a member: whether that is the end, and no comma.
    fn is_last(&mut self, end: u8) -> Option<bool> {
        self.skip_space();
        let found = self.peek();
        self.at += 1;
        if found == b',' {
            self.skip_space();
            return Some(false);
        }
        (found == end).then_some(true)
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Option<Kind> {
        let is_it = self.bytes[self.at as usize..].starts_with(word);
        self.at += u32::try_from(word.len()).expect("a word is short");
        is_it.then_some(kind)
    }

    /// A string, from quote to quote.
    fn text(&mut self) -> Option<Name> {
        let start = self.at + 1;
        self.at = start;
        let mut is_escaped = false;
        loop {
            self.skip_plain();
            match self.peek() {
                b'"' => {
                    let end = self.at;
                    self.at += 1;
                    return Some(Name { start, end, is_escaped });
                }
                b'\\' => {
                    is_escaped = true;
                    let escaped = self.bytes.get(self.at as usize + 1)?;
                    if !matches!(escaped, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') {
                        return None;
                    }
                    self.at += 2;
                }
                _ => return None,
            }
        }
    }

    /// Goes on to the next quote, backslash or control character, eight bytes at a time.
    fn skip_plain(&mut self) {
        let rest = &self.bytes[self.at as usize..];
        let (words, tail) = rest.as_chunks::<8>();
        for word in words {
            let special = special_in(*word);
            if special != 0 {
                self.at += special.trailing_zeros() / 8;
                return;
            }
            self.at += 8;
        }
        let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | ..0x20);
        let plain = tail.iter().take_while(is_plain).count();
        self.at += u32::try_from(plain).expect("fewer than eight");
    }

    fn number(&mut self) -> Option<Kind> {
        let start = self.at;
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        (self.at - start <= NUMBER_BYTES_MAX).then_some(Kind::Number)
    }

    /// At least one digit.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

/// Marks the high bit of the first byte that is a quote, a backslash or a control character; marks
/// above it mean nothing.
#[expect(clippy::little_endian_bytes, reason = "the first byte is to be the lowest")]
fn special_in(word: [u8; 8]) -> u64 {
    let word = u64::from_le_bytes(word);
    let zeros = |bytes: u64| bytes.wrapping_sub(EACH) & !bytes & HIGH;
    let quotes = zeros(word ^ (EACH * u64::from(b'"')));
    let backslashes = zeros(word ^ (EACH * u64::from(b'\\')));
    let controls = word.wrapping_sub(EACH * 0x20) & !word & HIGH;
    quotes | backslashes | controls
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::document::{Documents, read_with_jiter};
    use super::*;

    /// What both readers make of a text: the quick one where it does not leave it to the other.
    fn both(text: &str) -> (Option<Vec<Node>>, Option<Vec<Node>>) {
        let (mut quick, mut other) = (Vec::new(), Vec::new());
        let is_read = read(text.as_bytes(), 0, &mut quick).is_some();
        let is_right = read_with_jiter(text, (0, text.len()), &mut other).is_ok();
        (is_read.then_some(quick), is_right.then_some(other))
    }

    fn check(text: &str) {
        if let (Some(quick), other) = both(text) {
            assert_eq!(Some(quick), other, "{text}");
        }
    }

    #[test]
    fn usual_lines_are_read_the_short_way() {
        let cases = [
            r#"{"event":{"_id":"e1","n":-1.25e+3,"list":[1,"two",null,{"k":true}],"e":{},"f":[]}}"#,
            r#" { "a" : [ 1 , 2 ] , "b" : "x\n\"y\\" , "c\t" : false } "#,
            r#""0123456789é0123456789""#,
            "0",
        ];
        for text in cases {
            let (quick, other) = both(text);
            assert!(quick.is_some(), "{text}");
            assert_eq!(quick, other, "{text}");
        }
    }

    #[test]
    fn what_it_is_not_made_for_is_left_to_the_other() {
        let long = "1".repeat(65);
        let deep = "[".repeat(DEPTH_MAX + 2) + &"]".repeat(DEPTH_MAX + 2);
        let cases = [
            "",
            " ",
            "{",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "tru",
            "nul",
            "nulls",
            "\"",
            "\"\\",
            "\"\\q\"",
            "\"\\u0041\"",
            "\"\u{1}\"",
            "1 2",
            "NaN",
            "Infinity",
            "]",
            "{]",
            "[}",
            &long,
            &deep,
        ];
        for text in cases {
            assert_eq!(both(text).0, None, "{text}");
        }
    }

    #[test]
    fn a_text_that_is_left_leaves_no_nodes() {
        let text = r#"{"a":1}{"a":"\u0041"}{"a":"\q"}"#;
        let mut documents = Documents::default();
        assert_eq!(documents.read(text, 0, 7), Ok(0));
        let second = documents.read(text, 7, 21).expect("the other reads it");
        assert_eq!(
            documents.at(text, second).get("a").and_then(|v| v.as_str()).as_deref(),
            Some("A")
        );
        assert!(documents.read(text, 21, text.len()).is_err());
        assert_eq!(documents.read(text, 0, 7), Ok(4));
    }

    fn json() -> BoxedStrategy<String> {
        let scalar = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            "\"([a-z\u{e9}\u{1f600} ]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-f]{2}){0,30}\"",
        ];
        let space = || prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,2}"];
        scalar
            .prop_recursive(4, 24, 4, move |inner| {
                let member = ("\"[a-zA-Z_\\\\n]{0,9}\"", space(), inner.clone());
                let members = prop::collection::vec(
                    member.prop_map(|(key, space, value)| format!("{key}{space}:{space}{value}")),
                    0..4,
                );
                prop_oneof![
                    (members, space()).prop_map(|(all, s)| format!("{{{s}{}{s}}}", all.join(","))),
                    (prop::collection::vec(inner, 0..4), space())
                        .prop_map(|(all, s)| format!("[{s}{}{s}]", all.join(&format!("{s},{s}")))),
                ]
            })
            .boxed()
    }

    proptest! {
        #[test]
        fn both_readers_make_the_same_nodes(text in json()) {
            check(&text);
        }

        #[test]
        fn a_damaged_text_is_never_read_as_another(
            text in json(),
            at in any::<prop::sample::Index>(),
            byte in "[\\x00-\\x7f]",
        ) {
            let mut places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            places.push(text.len());
            let place = places[at.index(places.len())];
            check(&text[..place]);
            check(&format!("{}{byte}{}", &text[..place], &text[place..]));
        }
    }
}
