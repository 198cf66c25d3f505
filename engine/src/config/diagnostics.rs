//! What is wrong with a configuration, shown where it is wrong.
//!
//! A configuration is corrected by hand, so one run reports everything it can find, in the order of
//! the file, each with its line and a caret under the part that is meant (`SPEC.md` §9). The text is
//! complete in itself: printing is left to whoever called.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Longest line that is shown whole, in characters; of a longer one, the part around the caret.
const LINE_SHOWN_MAX: usize = 160;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing starts.
    Error,
    /// It starts, and probably does not do what was meant.
    Warning,
}

/// One finding at one place of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line from 1; 0 if the finding is about the file as a whole.
    pub line: usize,
    /// The column from 1, in characters; 0 with line 0.
    pub column: usize,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, as a lower-case fragment. It never holds the value of a secret.
    pub message: String,
    /// What to do about it, if that can be said.
    pub help: Option<String>,
    /// The line's text, secrets written into it blotted out; of a very long line only a part.
    pub source_line: String,
    /// The part of `source_line` that is meant, in characters from 0.
    pub caret: std::ops::Range<usize>,
}

impl Diagnostic {
    /// A finding about a file that cannot be shown, because it could not be read.
    pub(super) fn unreadable(file: PathBuf, message: String) -> Self {
        Self {
            file,
            line: 0,
            column: 0,
            severity: Severity::Error,
            message,
            help: None,
            source_line: String::new(),
            caret: 0..0,
        }
    }

    /// Keeps of a very long line what stands around the caret.
    pub(super) fn shortened(mut self) -> Self {
        let length = self.source_line.chars().count();
        if length <= LINE_SHOWN_MAX {
            return self;
        }
        let start =
            self.caret.start.saturating_sub(LINE_SHOWN_MAX / 2).min(length - LINE_SHOWN_MAX);
        self.source_line = self.source_line.chars().skip(start).take(LINE_SHOWN_MAX).collect();
        self.caret = self.caret.start - start..(self.caret.end - start).min(LINE_SHOWN_MAX);
        self
    }

    /// What goes below the line: a caret a character, at least one.
    fn carets(&self) -> String {
        // A tab is as wide above as below, however wide that is.
        let before = self.source_line.chars().take(self.caret.start);
        let indent: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        indent + &"^".repeat(self.caret.len().max(1))
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, ": {severity}{}", self.message)?;
        if self.line > 0 {
            write!(f, "\n  | {}\n  | {}", self.source_line, self.carets())?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// All findings that keep a configuration from being used, in the order of the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{diagnostic}\n")?;
        }
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} error{plural} in the configuration", self.0.len())
    }
}

impl std::error::Error for Diagnostics {}

impl From<Box<Diagnostic>> for Diagnostics {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        Self(vec![*diagnostic])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source_line: &str, caret: std::ops::Range<usize>) -> Diagnostic {
        Diagnostic {
            line: 3,
            column: caret.start + 1,
            source_line: source_line.to_owned(),
            caret,
            ..Diagnostic::unreadable(PathBuf::from("forebay.toml"), "no such key".to_owned())
        }
    }

    #[test]
    fn a_finding_is_shown_with_its_line_and_a_caret() {
        let helped =
            Diagnostic { help: Some("did you mean `id`?".to_owned()), ..at("idd = 1", 0..3) };
        let warning = Diagnostic { severity: Severity::Warning, ..at("\tx = 1", 1..1) };
        let whole = Diagnostic::unreadable(PathBuf::from("x.toml"), "cannot be read".to_owned());
        // (what it shows, the finding, the text)
        let cases = [
            (
                "place, line, caret and help",
                helped,
                "forebay.toml:3:1: no such key\n  | idd = 1\n  | ^^^\n  help: did you mean `id`?",
            ),
            (
                "a tab indents the caret, and an empty range has one",
                warning,
                "forebay.toml:3:2: warning: no such key\n  | \tx = 1\n  | \t^",
            ),
            ("a file as a whole has no line", whole, "x.toml: cannot be read"),
        ];
        for (name, diagnostic, expected) in cases {
            assert_eq!(diagnostic.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let line: String =
            (0..1000).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
        for caret in [0..3, 500..505, 996..1000, 100..900] {
            let meant = line[caret.start..caret.end.min(caret.start + 60)].to_owned();
            let short = at(&line, caret.clone()).shortened();
            assert_eq!(short.source_line.chars().count(), LINE_SHOWN_MAX);
            assert!(short.source_line[short.caret.clone()].starts_with(&meant), "{caret:?}");
            assert_eq!(short.column, caret.start + 1, "the column is that of the file");
        }
    }
}
