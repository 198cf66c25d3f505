//! What was found so far while a configuration is read.
//!
//! Reading goes on after an error, so findings are collected here and put in order at the end. Lines
//! are cut from the files only then, because a secret written into the file must be blotted out of
//! every line shown, also of one that another finding is about.

use std::cell::RefCell;

use super::diagnostics::{Diagnostic, Severity};
use super::source::Place;

/// Collects findings; shared by all readers of one configuration.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: RefCell<Vec<Finding>>,
    secrets: RefCell<Vec<Place>>,
}

#[derive(Debug)]
struct Finding {
    place: Place,
    severity: Severity,
    message: String,
    help: Option<String>,
}

/// What [`Report::finish`] gives, each in the order of the files.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// What keeps the configuration from being used.
    pub(super) errors: Vec<Diagnostic>,
    /// What does not.
    pub(super) warnings: Vec<Diagnostic>,
}

impl Report {
    /// Notes what is wrong at `place`.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>) {
        self.note(place, Severity::Error, (message.into(), None));
    }

    /// Notes what is wrong at `place`, and what to do about it.
    pub(super) fn error_with_help(
        &self,
        place: &Place,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.note(place, Severity::Error, (message.into(), help));
    }

    /// Notes what is allowed at `place` and probably not meant.
    pub(super) fn warn(&self, place: &Place, message: impl Into<String>, help: Option<String>) {
        self.note(place, Severity::Warning, (message.into(), help));
    }

    /// Keeps what stands at `place` from being shown.
    pub(super) fn hide(&self, place: &Place) {
        self.secrets.borrow_mut().push(place.clone());
    }

    fn note(&self, place: &Place, severity: Severity, (message, help): (String, Option<String>)) {
        let place = place.clone();
        self.findings.borrow_mut().push(Finding { place, severity, message, help });
    }

    /// Everything noted, in the order of the files' names and lines.
    pub(super) fn finish(self) -> Findings {
        let secrets = self.secrets.into_inner();
        let mut noted = self.findings.into_inner();
        noted.sort_by(|a, b| {
            let key = |finding: &Finding| finding.place.span().start;
            let files = a.place.source().path().cmp(b.place.source().path());
            files.then(key(a).cmp(&key(b)))
        });
        let mut findings = Findings::default();
        for finding in noted {
            let list = match finding.severity {
                Severity::Error => &mut findings.errors,
                Severity::Warning => &mut findings.warnings,
            };
            list.push(finding.into_diagnostic(&secrets));
        }
        findings
    }
}

impl Finding {
    fn into_diagnostic(self, secrets: &[Place]) -> Diagnostic {
        let (source, span) = (self.place.source(), self.place.span());
        let line_start = self.place.line_start();
        let line = source.text()[line_start..].lines().next().unwrap_or("");
        let line_end = line_start + line.len();
        let count = |from: usize, to: usize| source.text()[from..to].chars().count();
        let column = count(line_start, span.start.min(line_end));
        // A finding over several lines is shown on its first.
        let width = count(span.start.min(line_end), span.end.min(line_end));
        let hidden = |at: usize| secrets.iter().any(|secret| covers(secret, source.path(), at));
        let shown = |(at, c): (usize, char)| match c {
            _ if hidden(line_start + at) => '*',
            '\t' => '\t',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        Diagnostic {
            file: source.path().to_owned(),
            line: self.place.line(),
            column: column + 1,
            severity: self.severity,
            message: self.message,
            help: self.help,
            source_line: line.char_indices().map(shown).collect(),
            caret: column..column + width,
        }
        .shortened()
    }
}

fn covers(secret: &Place, path: &std::path::Path, at: usize) -> bool {
    secret.source().path() == path && secret.span().contains(&at)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::source::Source;
    use super::*;

    #[test]
    fn findings_come_in_the_order_of_the_file_and_hide_secrets() {
        let source = Source::new(Path::new("f.toml"), "a = 'hunter2'\r\nbé = 'x\n".to_owned());
        let report = Report::default();
        report.error(&Place::new(&source, 20..21), "second");
        report.error(&Place::new(&source, 0..1), "first");
        report.warn(&Place::new(&source, 4..13), "plain", None);
        report.hide(&Place::new(&source, 5..12));
        let findings = report.finish();
        let shown: Vec<String> = findings.errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "f.toml:1:1: first\n  | a = '*******'\n  | ^",
                "f.toml:2:5: second\n  | bé = 'x\n  |     ^",
            ]
        );
        assert_eq!(findings.warnings.len(), 1);
    }
}
