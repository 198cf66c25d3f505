//! Secrets named in the configuration: `${env:NAME}` and `${file:PATH}`.
//!
//! The file names where a secret is, the secret itself stays outside (`SPEC.md` §8). What is read
//! becomes a [`Secret`] at once and is never part of a message; a secret that was written into the
//! file all the same is used, warned about, and blotted out wherever its line is shown.

use crate::secret::Secret;

use super::source::Place;
use super::table::{Located, Reader, Table};

/// Reads a key that holds a secret.
pub(super) fn secret(table: &mut Table<'_>, key: &'static str) -> Option<Secret> {
    let text = table.text(key)?;
    let reader = table.reader;
    if !mentions_reference(&text.value) {
        reader.report.hide(&inside(&text));
        let help = format!("write `{key} = \"${{env:NAME}}\"` or `\"${{file:PATH}}\"`");
        let message = format!("`{key}` is a secret written into the configuration");
        reader.report.warn(&text.place, message, Some(help));
    }
    let value = expand(reader, &text.value, &|part| text.place.within(&part))?;
    if value.is_empty() {
        reader.report.error(&text.place, format!("`{key}` is empty"));
        return None;
    }
    Some(Secret::new(value))
}

/// Reads a key that may hold a secret and is no secret otherwise.
pub(super) fn perhaps_secret(table: &mut Table<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key)?;
    expand(table.reader, &text.value, &|part| text.place.within(&part))
}

/// Whether a text names a secret.
pub(super) fn mentions_reference(text: &str) -> bool {
    text.contains("${env:") || text.contains("${file:")
}

/// Reports a secret named where none may stand; whether there was one.
pub(super) fn refuse(table: &Table<'_>, text: &Located<String>) -> bool {
    let mentions = mentions_reference(&text.value);
    if mentions {
        let help = Some("`${...}` may stand in `headers`, `auth` and `signing_secret`".to_owned());
        table.report().error_with_help(&text.place, "no secret can be named here", help);
    }
    mentions
}

/// Puts secrets in the place of the references in `text`. Each one that cannot be read is reported;
/// `place` says where a part of `text` stands.
pub(super) fn expand(
    reader: &Reader<'_>,
    text: &str,
    place: &dyn Fn(std::ops::Range<usize>) -> Place,
) -> Option<String> {
    let mut expanded = Some(String::new());
    let mut at = 0;
    while let Some(start) = next_reference(text, at) {
        let Some(length) = text[start..].find('}') else {
            reader.report.error(&place(start..text.len()), "a `${` without its `}`");
            return None;
        };
        let end = start + length + 1;
        let value = match resolve(reader, &text[start + 2..end - 1]) {
            Ok(value) => Some(value),
            Err(message) => {
                reader.report.error(&place(start..end), message);
                None
            }
        };
        expanded = expanded.zip(value).map(|(before, value)| before + &text[at..start] + &value);
        at = end;
    }
    expanded.map(|before| before + &text[at..])
}

fn next_reference(text: &str, from: usize) -> Option<usize> {
    ["${env:", "${file:"]
        .iter()
        .filter_map(|open| text[from..].find(open))
        .min()
        .map(|at| from + at)
}

/// The secret that `reference` names, it being `env:NAME` or `file:PATH`.
fn resolve(reader: &Reader<'_>, reference: &str) -> Result<String, String> {
    if let Some(name) = reference.strip_prefix("env:") {
        let value = (reader.environment)(name);
        return value.ok_or_else(|| format!("the environment variable `{name}` is not set"));
    }
    let path = reader.source.directory().join(reference.trim_start_matches("file:"));
    let shown = path.display();
    let mut value = std::fs::read_to_string(&path)
        .map_err(|error| format!("the file `{shown}` cannot be read: {error}"))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Ok(value)
}

fn inside(text: &Located<String>) -> Place {
    text.place.within(&(0..text.value.len()))
}
