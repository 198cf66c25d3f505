//! Ids: what they may look like, and that no two things of a kind share one.

use super::report::Report;
use super::source::Place;
use super::suggestion::did_you_mean;
use super::table::{Located, Table};

/// Most characters of an id.
const LENGTH_MAX: usize = 64;

/// The ids of one kind of thing, and where each was defined.
pub(super) struct Identifiers {
    kind: &'static str,
    defined: Vec<(String, Place)>,
}

impl Identifiers {
    /// No ids yet; `kind` is what messages call the thing, such as `audience`.
    pub(super) fn of(kind: &'static str) -> Self {
        Self { kind, defined: Vec::new() }
    }

    /// Reads the `id` of a table, which must be there, well formed and new. A faulty one is reported.
    pub(super) fn define(&mut self, table: &mut Table<'_>) -> Option<Located<String>> {
        let id = table.required("id", Table::text)?;
        self.add(&id, table.report()).then_some(id)
    }

    /// Takes an id that was read elsewhere; whether it is well formed and new.
    pub(super) fn add(&mut self, id: &Located<String>, report: &Report) -> bool {
        let kind = self.kind;
        if !is_identifier(&id.value) {
            let help = format!("1 to {LENGTH_MAX} of the characters A-Z a-z 0-9 _ . -");
            report.error_with_help(&id.place, format!("`{}` is no id", id.value), Some(help));
            return false;
        }
        if let Some((_, first)) = self.defined.iter().find(|(other, _)| *other == id.value) {
            let message = format!("{kind} `{}` is defined twice", id.value);
            let (file, line) = (first.source().path().display(), first.line());
            report.error_with_help(&id.place, message, Some(format!("first at {file}:{line}")));
            return false;
        }
        self.defined.push((id.value.clone(), id.place.clone()));
        true
    }

    /// Whether the id was defined; if not, that is reported where it is used.
    pub(super) fn check(&self, used: &Located<String>, report: &Report) -> bool {
        let known = self.contains(&used.value);
        if !known {
            let message = format!("there is no {} `{}`", self.kind, used.value);
            report.error_with_help(&used.place, message, self.suggest(&used.value));
        }
        known
    }

    /// Whether the id was defined.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.defined.iter().any(|(other, _)| other == id)
    }

    /// The help for an id that was not defined.
    pub(super) fn suggest(&self, id: &str) -> Option<String> {
        did_you_mean(id, self.defined.iter().map(|(known, _)| known.as_str()))
    }
}

fn is_identifier(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=LENGTH_MAX).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::is_identifier;

    #[test]
    fn ids_are_short_and_plain() {
        let long = "x".repeat(65);
        // (text, whether it is an id)
        let cases = [
            ("big_spenders", true),
            ("A-1.b_2", true),
            ("..", true),
            (&long[..64], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("é", false),
            ("a/b", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_identifier(text), expected, "{text}");
        }
    }
}
