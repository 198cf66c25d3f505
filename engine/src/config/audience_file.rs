//! `audience_files`: segment definitions as Experience Platform exports them, one JSON object a file
//! or a list of them.
//!
//! Only what defines the audience is read. Such objects carry much else (schemas, sandboxes, who
//! changed them when), so unlike in the configuration itself an unknown key is no error here.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::audience::AudienceDraft;
use super::identifier::Identifiers;
use super::merge_policy::MergePolicies;
use super::report::Report;
use super::source::{Place, Source};
use super::table::{Located, Table};
use crate::definitions::{Audience, AudienceKind};
use crate::json::{Document, Kind, Value};

/// Reads the audiences in all files that `audience_files` names.
pub(super) fn audiences(
    top: &mut Table<'_>,
    ids: &mut Identifiers,
    policies: &MergePolicies,
) -> Vec<AudienceDraft> {
    let mut audiences = Vec::new();
    for pattern in top.texts("audience_files").unwrap_or_default() {
        let files = matching(top.reader.source.directory(), &pattern.value);
        if let Err(message) = &files {
            top.report().error(&pattern.place, message);
        }
        for path in files.unwrap_or_default() {
            match Source::read(&path) {
                Ok(source) => {
                    let mut file = File { source, report: top.report(), ids, policies };
                    audiences.extend(file.read());
                }
                Err(fault) => {
                    let message = format!("`{}` {}", path.display(), fault.message);
                    top.report().error(&pattern.place, message);
                }
            }
        }
    }
    audiences
}

/// The files that `pattern` names below `directory`, sorted. A `*` stands for any characters of the
/// last part, and a pattern with one may match nothing.
fn matching(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    if folder.contains('*') {
        return Err("`*` may stand in the last part of the path only".to_owned());
    }
    if !name.contains('*') {
        return Ok(vec![directory.join(pattern)]);
    }
    let folder =
        directory.join(if pattern.starts_with('/') && folder.is_empty() { "/" } else { folder });
    // An empty path is the working directory, which only `.` can open.
    let opened = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
    let unreadable = |error: std::io::Error| {
        format!("the directory `{}` cannot be read: {error}", opened.display())
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(opened).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().to_str().is_some_and(|found| fits(found, name)) {
            files.push(folder.join(entry.file_name()));
        }
    }
    files.sort();
    Ok(files)
}

/// Whether `name` is `pattern` with something, or nothing, for each `*`.
fn fits(name: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return name == pattern };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

/// One file being read.
struct File<'a> {
    source: Rc<Source>,
    report: &'a Report,
    ids: &'a mut Identifiers,
    policies: &'a MergePolicies,
}

impl File<'_> {
    fn read(&mut self) -> Vec<AudienceDraft> {
        let source = Rc::clone(&self.source);
        let document = match Document::parse(source.text()) {
            Ok(document) => document,
            Err(error) => {
                let at = error.column.saturating_sub(1);
                let place = Place::new(&source, at..at + 1);
                self.report.error(&place, format!("this is no JSON: {}", error.reason));
                return Vec::new();
            }
        };
        let root = document.root(source.text());
        match root.kind() {
            Kind::Array => root.items().filter_map(|item| self.audience(item)).collect(),
            _ => self.audience(root).into_iter().collect(),
        }
    }

    fn audience(&mut self, object: Value<'_>) -> Option<AudienceDraft> {
        let place = self.start(object);
        if object.kind() != Kind::Object {
            self.report.error(&place, "a segment definition is a JSON object");
            return None;
        }
        let id = self.required_text(object, "id");
        let known = id.filter(|id| self.ids.add(id, self.report));
        let place = known.as_ref().map_or(place, |id| id.place.clone());
        let id = known.map_or_else(String::new, |id| id.value);
        let name = self.text(object, "name").map_or_else(|| id.clone(), |name| name.value);
        let description = self.text(object, "description").map_or_else(String::new, |t| t.value);
        let merge_policy = match self.text(object, "mergePolicyId") {
            Some(policy) if self.policies.ids.check(&policy, self.report) => policy.value,
            _ => self.policies.default_id(),
        };
        let rule = self.rule(object);
        let pql = rule.as_ref().map_or_else(String::new, |rule| rule.value.clone());
        let kind = AudienceKind::Rule { pql };
        let audience = Audience { id, name, description, merge_policy, kind };
        Some(AudienceDraft { audience, place, rule })
    }

    fn rule(&self, object: Value<'_>) -> Option<Located<String>> {
        let Some(expression) = object.get("expression").filter(|e| e.kind() == Kind::Object) else {
            self.report
                .error(&self.start(object), "a segment definition needs the object `expression`");
            return None;
        };
        for (key, expected) in [("type", "PQL"), ("format", "pql/text")] {
            if let Some(text) = self.required_text(expression, key)
                && text.value != expected
            {
                let message =
                    format!("the {key} `{}` cannot be read, only `{expected}`", text.value);
                self.report.error(&text.place, message);
            }
        }
        self.required_text(expression, "value")
    }

    fn required_text(&self, object: Value<'_>, key: &str) -> Option<Located<String>> {
        if object.get(key).is_none_or(|value| value.is_null()) {
            self.report.error(&self.start(object), format!("`{key}` is missing here"));
            return None;
        }
        self.text(object, key)
    }

    /// A string; absent where it is `null`.
    fn text(&self, object: Value<'_>, key: &str) -> Option<Located<String>> {
        let value = object.get(key).filter(|value| !value.is_null())?;
        let place = self.place(value);
        let text = value.as_str();
        if text.is_none() {
            self.report.error(&place, format!("`{key}` is a string"));
        }
        text.map(|text| Located { value: text.into_owned(), place })
    }

    /// Where a value stands.
    fn place(&self, value: Value<'_>) -> Place {
        // The value's text is a slice of the file's, so the distance of their beginnings is its place.
        let start = value.raw().as_ptr().addr() - self.source.text().as_ptr().addr();
        Place::new(&self.source, start..start + value.raw().len())
    }

    /// The opening bracket of an object or list: all of it would be too much to mark.
    fn start(&self, value: Value<'_>) -> Place {
        let start = self.place(value).span().start;
        Place::new(&self.source, start..start + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_characters() {
        // (file name, pattern, whether it fits)
        let cases = [
            ("a.json", "*.json", true),
            (".json", "*.json", true),
            ("a.json.bak", "*.json", false),
            ("segment-1.json", "segment-*.json", true),
            ("segment.json", "segment-*.json", false),
            ("a-b-c", "a*b*c", true),
            ("a-c", "a*b*c", false),
            ("ab", "ab*ab", false),
            ("anything", "*", true),
            ("a", "a", true),
        ];
        for (name, pattern, expected) in cases {
            assert_eq!(fits(name, pattern), expected, "{name} {pattern}");
        }
    }
}
