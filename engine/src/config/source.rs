//! The files of a configuration, and places in them.
//!
//! A [`Place`] knows its file, so that what was read may be checked against what other files say and
//! still be reported where it was written. Strings are the hard part: a rule with an error at its
//! tenth character stands in the file between quotes, perhaps with escapes before that character.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::diagnostics::Diagnostic;

/// One file, as it was read.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The file called `path` with this `text`.
    pub(super) fn new(path: &Path, text: String) -> Rc<Self> {
        Rc::new(Self { path: path.to_owned(), text })
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Rc<Self>, Box<Diagnostic>> {
        let unreadable = |message| Box::new(Diagnostic::unreadable(path.to_owned(), message));
        let bytes =
            std::fs::read(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(path, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let lines = error.as_bytes()[..valid].split(|&byte| byte == b'\n').count();
                Err(unreadable(format!("line {lines} is not valid UTF-8")))
            }
        }
    }

    /// The file's name, as it was given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that file names in this file are relative to.
    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The whole text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// A stretch of one file.
#[derive(Clone, Debug)]
pub(super) struct Place {
    source: Rc<Source>,
    span: Range<usize>,
}

impl Place {
    /// The bytes `span` of `source`, moved to where characters begin and end.
    pub(super) fn new(source: &Rc<Source>, span: Range<usize>) -> Self {
        let boundary = |at: usize| {
            (0..=at.min(source.text.len()))
                .rev()
                .find(|&at| source.text.is_char_boundary(at))
                .unwrap_or(0)
        };
        let (start, end) = (boundary(span.start), boundary(span.end));
        Self { source: Rc::clone(source), span: start..end.max(start) }
    }

    /// The file.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// The stretch, in bytes of the file.
    pub(super) fn span(&self) -> &Range<usize> {
        &self.span
    }

    /// The line from 1.
    pub(super) fn line(&self) -> usize {
        self.source.text[..self.span.start].matches('\n').count() + 1
    }

    /// Where the line begins, in bytes of the file.
    pub(super) fn line_start(&self) -> usize {
        self.source.text[..self.span.start].rfind('\n').map_or(0, |at| at + 1)
    }

    /// Where `part` of the string's value stands, this place being the string with its quotes.
    pub(super) fn within(&self, part: &Range<usize>) -> Self {
        let token = &self.source.text[self.span.clone()];
        let start = self.span.start + offset_in_token(token, part.start);
        // The end is where the last character ends, so that what a line-ending backslash skips
        // after it is not marked.
        let last = part.end.saturating_sub(1).max(part.start);
        let end = if part.is_empty() { start } else { self.span.start + end_in_token(token, last) };
        Self::new(&self.source, start..end.max(start))
    }
}

/// Where the character at byte `offset` of a string's value begins in the token that writes it.
fn offset_in_token(token: &str, offset: usize) -> usize {
    let mut characters = Characters::of(token);
    characters
        .find(|character| character.value.end > offset)
        .map_or_else(|| token.len() - quotes(token), |character| character.token.start)
}

/// Where the character at byte `offset` of a string's value ends in the token that writes it.
fn end_in_token(token: &str, offset: usize) -> usize {
    let mut characters = Characters::of(token);
    characters
        .find(|character| character.value.end > offset)
        .map_or_else(|| token.len() - quotes(token), |character| character.token.end)
}

/// How many quotes open and close a string: TOML has them single and triple.
fn quotes(token: &str) -> usize {
    let triple = token.len() >= 6 && (token.starts_with("\"\"\"") || token.starts_with("'''"));
    let single = token.len() >= 2 && token.starts_with(['"', '\'']);
    if triple { 3 } else { usize::from(single) }
}

/// One character of a string's value.
struct Character {
    /// Where it stands in the token.
    token: Range<usize>,
    /// Where it stands in the value.
    value: Range<usize>,
}

/// The characters of a string token of TOML or JSON, one by one.
///
/// The two languages give no escape two meanings, so one reader serves both.
struct Characters<'a> {
    token: &'a str,
    at: usize,
    end: usize,
    value_at: usize,
    has_escapes: bool,
}

impl<'a> Characters<'a> {
    fn of(token: &'a str) -> Self {
        let quotes = quotes(token);
        let mut at = quotes;
        if quotes == 3 {
            // A line break right after the opening quotes is no part of the value.
            let rest = &token[at..];
            at += if rest.starts_with("\r\n") { 2 } else { usize::from(rest.starts_with('\n')) };
        }
        let end = token.len() - quotes;
        Self { token, at, end, value_at: 0, has_escapes: token.starts_with('"') }
    }

    /// The bytes that the escape at `at` takes in the token, and in the value.
    fn escape(&self) -> (usize, usize) {
        let rest = &self.token[self.at..self.end];
        let digits = match rest.as_bytes().get(1) {
            Some(b'x') => 2,
            Some(b'u') => 4,
            Some(b'U') => 8,
            Some(b' ' | b'\t' | b'\r' | b'\n') => {
                let skipped = rest[1..].trim_start_matches([' ', '\t', '\r', '\n']);
                return (rest.len() - skipped.len(), 0);
            }
            _ => return (2, 1),
        };
        let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        match code {
            Some(0xD800..=0xDBFF) => (12, 4),
            Some(code) => (2 + digits, char::from_u32(code).map_or(1, char::len_utf8)),
            None => (2, 1),
        }
    }
}

impl Iterator for Characters<'_> {
    type Item = Character;

    fn next(&mut self) -> Option<Character> {
        let next = self.token.get(self.at..self.end)?.chars().next()?;
        let (taken, given) = match next {
            '\\' if self.has_escapes => self.escape(),
            other => (other.len_utf8(), other.len_utf8()),
        };
        let end = (self.at + taken).min(self.end);
        let character =
            Character { token: self.at..end, value: self.value_at..self.value_at + given };
        (self.at, self.value_at) = (end, self.value_at + given);
        Some(character)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_string_is_found_between_its_quotes() {
        // (what it shows, the token, the part of the value, what is marked)
        let cases = [
            ("a literal string is as it reads", "'a = = 3'", 4..5, "="),
            ("a basic string without escapes too", "\"a = = 3\"", 4..5, "="),
            ("an escape before it is one character", r#""a = \"b\" = 3""#, 8..9, "="),
            ("a marked escape is marked whole", r#""a\u0041b""#, 1..2, r"\u0041"),
            ("a wide character counts its bytes", "\"é= 3\"", 2..3, "="),
            ("an escaped wide character too", r#""\u00e9= 3""#, 2..3, "="),
            ("a surrogate pair is one character", r#""\ud83d\ude00= 3""#, 4..5, "="),
            ("the first line break is dropped", "'''\na = 3'''", 2..3, "="),
            ("with a carriage return too", "\"\"\"\r\na = 3\"\"\"", 2..3, "="),
            ("a backslash at the line's end skips", "\"\"\"a \\\n   = 3\"\"\"", 2..3, "="),
            ("the end of the value is before the quotes", "'a ='", 3..3, ""),
            ("past the end is the end", "'a ='", 9..12, ""),
        ];
        for (name, token, part, expected) in cases {
            let text = format!("pql = {token} # é");
            let source = Source::new(Path::new("f"), text.clone());
            let place = Place::new(&source, 6..6 + token.len()).within(&part);
            assert_eq!(&text[place.span().clone()], expected, "{name}");
        }
    }

    #[test]
    fn a_place_never_cuts_a_character() {
        let source = Source::new(Path::new("f"), "é\nb".to_owned());
        let place = Place::new(&source, 1..99);
        assert_eq!((place.span().clone(), place.line(), place.line_start()), (0..4, 1, 0));
        assert_eq!(Place::new(&source, 3..4).line(), 2);
    }
}
