//! Text to tokens.
//!
//! Keywords are no tokens of their own: after a `.` every word is an identifier, so only the parser
//! knows which words are keywords where.

use std::ops::Range;

use super::error::PqlError;

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Range<usize>,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    /// A word; `quoted` ones stood in backticks and are never keywords.
    Word { text: String, quoted: bool },
    /// A string literal, decoded.
    Text(String),
    /// A number without sign.
    Number(f64),
    /// An operator or a bracket.
    Sign(&'static str),
    /// The end of the text.
    End,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SIGNS: [&str; 20] = [
    "!=", "<=", ">=", "=", "<", ">", "!", "(", ")", "[", "]", ",", ".", ":", "+", "-", "*", "/",
    "%", "?",
];

/// What people write who know another language, and what it is called here.
const FOREIGN: [(&str, &str); 5] = [
    ("==", "write `=` for equality"),
    ("<>", "write `!=` for inequality"),
    ("&&", "write `and`"),
    ("||", "write `or`"),
    ("=>", "comparisons are `=`, `!=`, `<`, `<=`, `>`, `>=`"),
];

/// Reads all tokens; the last one is [`TokenKind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, PqlError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Token, PqlError> {
        let blank = |c: char| !c.is_whitespace();
        self.at += self.rest().find(blank).unwrap_or(self.rest().len());
        let start = self.at;
        let kind = match self.rest().chars().next() {
            None => TokenKind::End,
            Some('"' | '\'') => self.string()?,
            Some('`') => self.quoted_word()?,
            Some(c) if c.is_ascii_digit() => self.number(),
            Some(c) if starts_word(c) => self.word(),
            Some(_) => self.sign()?,
        };
        Ok(Token { kind, span: start..self.at })
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn word(&mut self) -> TokenKind {
        let bytes = self.rest().as_bytes();
        let belongs = |at: usize| match bytes.get(at) {
            // A `:` belongs to a name only where a letter follows directly.
            Some(b':') => bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic),
            Some(&byte) => starts_word(char::from(byte)) || byte.is_ascii_digit(),
            None => false,
        };
        let length = (1..bytes.len()).find(|&at| !belongs(at)).unwrap_or(bytes.len());
        let text = self.rest()[..length].to_owned();
        self.at += length;
        TokenKind::Word { text, quoted: false }
    }

    fn quoted_word(&mut self) -> Result<TokenKind, PqlError> {
        let Some(length) = self.rest()[1..].find('`') else {
            let span = self.at..self.text.len();
            return Err(PqlError::new(span, "the name has no closing backtick"));
        };
        let text = self.rest()[1..=length].to_owned();
        if text.is_empty() {
            return Err(PqlError::new(self.at..self.at + 2, "a name between backticks is empty"));
        }
        self.at += length + 2;
        Ok(TokenKind::Word { text, quoted: true })
    }

    fn number(&mut self) -> TokenKind {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut length = digits(0);
        if bytes.get(length) == Some(&b'.') && digits(length + 1) > 0 {
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent =
                if length + 1 + sign < bytes.len() { digits(length + 1 + sign) } else { 0 };
            if exponent > 0 {
                length += 1 + sign + exponent;
            }
        }
        let value = self.rest()[..length].parse().expect("digits are a float's text");
        self.at += length;
        TokenKind::Number(value)
    }

    fn sign(&mut self) -> Result<TokenKind, PqlError> {
        if let Some((foreign, help)) = FOREIGN.iter().find(|(f, _)| self.rest().starts_with(f)) {
            let span = self.at..self.at + foreign.len();
            return Err(PqlError::new(span, format!("unknown operator `{foreign}`")).help(*help));
        }
        if let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            self.at += sign.len();
            return Ok(TokenKind::Sign(sign));
        }
        let found = self.rest().chars().next().unwrap_or_default();
        let span = self.at..self.at + found.len_utf8();
        let message = format!("unexpected character `{}`", found.escape_debug());
        Err(PqlError::new(span, message).help("a name with such characters stands in backticks"))
    }

    fn string(&mut self) -> Result<TokenKind, PqlError> {
        let start = self.at;
        let quote = self.rest().chars().next();
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.rest().chars().next() {
            if Some(c) == quote {
                self.at += 1;
                return Ok(TokenKind::Text(text));
            }
            if c == '\\' {
                text.push(self.escape()?);
            } else {
                self.at += c.len_utf8();
                text.push(c);
            }
        }
        Err(PqlError::new(start..self.text.len(), "the string has no closing quote"))
    }

    fn escape(&mut self) -> Result<char, PqlError> {
        let start = self.at;
        let escaped = self.rest()[1..].chars().next();
        self.at += 1 + escaped.map_or(0, char::len_utf8);
        match escaped {
            Some('"') => Ok('"'),
            Some('\\') => Ok('\\'),
            Some('n') => Ok('\n'),
            Some('u') => self.unicode(start),
            _ => {
                let found = escaped.map(String::from).unwrap_or_default();
                let message = format!("unknown escape `\\{found}`");
                let help = r#"the escapes are `\"`, `\\`, `\n` and `\uXXXX`"#;
                Err(PqlError::new(start..self.at, message).help(help))
            }
        }
    }

    /// The character after `\u`; two in a row may be a surrogate pair, as in JSON.
    fn unicode(&mut self, start: usize) -> Result<char, PqlError> {
        let first = self.hex();
        let code = match first {
            Some(high @ 0xd800..0xdc00) if self.rest().starts_with("\\u") => {
                self.at += 2;
                let low = self.hex().filter(|low| (0xdc00..0xe000).contains(low));
                low.map(|low| 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            }
            other => other,
        };
        code.and_then(char::from_u32).ok_or_else(|| {
            PqlError::new(start..self.at, "`\\u` needs four hexadecimal digits of a character")
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.rest().get(..4)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let code = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(code)
    }
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '@' | '$')
}

/// Whether `text` can be written without backticks.
pub(super) fn is_plain_word(text: &str) -> bool {
    let tokens = tokens(text);
    matches!(tokens.as_deref(), Ok([Token { kind: TokenKind::Word { quoted: false, .. }, span }, _])
        if *span == (0..text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_with_their_places() {
        let word = |text: &str| TokenKind::Word { text: text.into(), quoted: false };
        let sign = TokenKind::Sign;
        let text = |text: &str| TokenKind::Text(text.into());
        // (what it shows, text, tokens)
        let cases = [
            ("a colon belongs to a name before a letter", "xdm:name", vec![word("xdm:name")]),
            ("but not at its end", "C0: x", vec![word("C0"), sign(":"), word("x")]),
            ("nor before a digit", "a:1", vec![word("a"), sign(":"), TokenKind::Number(1.0)]),
            ("dollar and at start names", "$a@b", vec![word("$a@b")]),
            ("two-sign operators win", "<=<", vec![sign("<="), sign("<")]),
            ("a number has a fraction", "1.5", vec![TokenKind::Number(1.5)]),
            (
                "a dot without digit is no fraction",
                "1.a",
                vec![TokenKind::Number(1.0), sign("."), word("a")],
            ),
            ("a number has an exponent", "2e3", vec![TokenKind::Number(2000.0)]),
            ("an e alone is a word", "2e", vec![TokenKind::Number(2.0), word("e")]),
            ("both quotes are strings", r#"'a"' "b'""#, vec![text("a\""), text("b'")]),
            ("escapes are decoded", r#""\"\\\n\u00e9""#, vec![text("\"\\\né")]),
            ("surrogates pair up", r#""\ud83d\ude00""#, vec![text("😀")]),
        ];
        for (name, input, expected) in cases {
            let mut found: Vec<_> =
                tokens(input).expect(name).into_iter().map(|token| token.kind).collect();
            assert_eq!(found.pop(), Some(TokenKind::End), "{name}");
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_where_it_stands() {
        // (text, place, what the message contains)
        let cases = [
            ("a == b", 2..4, "`==`"),
            ("a && b", 2..4, "`&&`"),
            ("\"abc", 0..4, "no closing quote"),
            ("`abc", 0..4, "no closing backtick"),
            ("``", 0..2, "empty"),
            (r#""\w""#, 1..3, r"`\w`"),
            (r#""\u12""#, 1..3, "four hexadecimal"),
            (r#""\ud83dx""#, 1..7, "four hexadecimal"),
            ("a ; b", 2..3, "`;`"),
            ("é", 0..2, "`é`"),
        ];
        for (text, span, message) in cases {
            let error = tokens(text).expect_err(text);
            assert_eq!(error.span, span, "{text}: {error}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
    }
}
