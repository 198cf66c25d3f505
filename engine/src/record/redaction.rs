//! Taking out of the files of rejects what erased persons had in them.
//!
//! A refused line may hold somebody's data like any record. Where it names one of the ids that are
//! erased, its input goes, and from its error whatever it quotes; source, line and byte stay, so that
//! the line is still accounted for.
//!
//! # Guarantee
//!
//! Each redacted line is as long as it was, filled up with spaces before its end: the marks in the log
//! that say how far the file was written stay true. A file is copied, synced, and put in the place of
//! the old one by one rename; after a crash one of the two is there, and redacting again does the rest.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use serde_json::Value;

use crate::json::quote;

/// What a message of a reject says before it quotes what it found.
const QUOTES_FOUND: &str = ", found ";

/// The ids that may not be left in a file of rejects, whatever their namespace.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    ids: BTreeSet<String>,
}

impl Redaction {
    /// Takes these ids out.
    pub fn new(ids: BTreeSet<String>) -> Self {
        Self { ids }
    }

    /// Redacts the file at `path`, which nobody writes meanwhile; `scratch` is a path beside it for the
    /// copy. How many lines were redacted; with none the file is not touched, nor if there is none.
    pub(super) fn apply(&self, path: &Path, scratch: &Path) -> io::Result<u64> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let copy = File::create(scratch)?;
        copy.set_permissions(file.metadata()?.permissions())?;
        let mut to = BufWriter::new(copy);
        let redacted = self.copy(&mut BufReader::new(file), &mut to)?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        if redacted > 0 {
            fs::rename(scratch, path)?;
        } else {
            fs::remove_file(scratch)?;
        }
        Ok(redacted)
    }

    fn copy(&self, from: &mut dyn BufRead, to: &mut dyn Write) -> io::Result<u64> {
        let mut line = Vec::new();
        let mut redacted = 0;
        while from.read_until(b'\n', &mut line)? > 0 {
            if self.line(&mut line) {
                redacted += 1;
            }
            to.write_all(&line)?;
            line.clear();
        }
        Ok(redacted)
    }

    /// Redacts one line in place, if it names an id; whether it did.
    fn line(&self, line: &mut [u8]) -> bool {
        let end = line.len() - usize::from(line.ends_with(b"\n"));
        let line = &mut line[..end];
        let reject: Option<Value> = serde_json::from_slice(line).ok();
        let names = match &reject {
            Some(reject) => self.names_in(reject),
            None => self.names_text(line),
        };
        if names {
            let kept = reject.as_ref().map(redacted).unwrap_or_default();
            let kept = kept.into_iter().find(|kept| kept.len() <= line.len()).unwrap_or_default();
            line[..kept.len()].copy_from_slice(kept.as_bytes());
            line[kept.len()..].fill(b' ');
        }
        names
    }

    fn names_in(&self, reject: &Value) -> bool {
        let text = |member: &str| reject.get(member).and_then(Value::as_str);
        let encoded =
            text("input_base64").map(|base64| STANDARD.decode(base64).unwrap_or_default());
        let input = match (text("input"), &encoded) {
            (Some(input), _) => input.as_bytes(),
            (None, Some(bytes)) => bytes,
            (None, None) => return false,
        };
        match serde_json::from_slice::<Value>(input).ok().filter(has_identity_map) {
            Some(input) => self.is_mapped(&input, false),
            None => self.names_text(input),
        }
    }

    /// Whether an id stands as a string within an `identityMap`.
    fn is_mapped(&self, value: &Value, within: bool) -> bool {
        match value {
            Value::String(text) => within && self.ids.contains(text),
            Value::Array(items) => items.iter().any(|item| self.is_mapped(item, within)),
            Value::Object(members) => members
                .iter()
                .any(|(key, member)| self.is_mapped(member, within || key == "identityMap")),
            _ => false,
        }
    }

    /// Whether an id stands anywhere in the text, not as a part of a longer word.
    fn names_text(&self, text: &[u8]) -> bool {
        let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        self.ids.iter().any(|id| {
            let quoted = quote(id);
            let spellings = [id, &quoted[1..quoted.len() - 1]];
            spellings.into_iter().any(|spelling| {
                memmem::find_iter(text, spelling).any(|at| {
                    let before = at.checked_sub(1).and_then(|before| text.get(before));
                    !is_word(before) && !is_word(text.get(at + spelling.len()))
                })
            })
        })
    }
}

fn has_identity_map(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_identity_map),
        Value::Object(members) => {
            members.contains_key("identityMap") || members.values().any(has_identity_map)
        }
        _ => false,
    }
}

/// What may stand for a reject, the fullest first: there must be room for it.
fn redacted(reject: &Value) -> Vec<String> {
    let place = ["source", "line", "byte"].into_iter().fold(String::new(), |place, name| {
        reject.get(name).map_or(place.clone(), |value| format!("{place}\"{name}\":{value},"))
    });
    let error = reject.get("error").and_then(Value::as_str).unwrap_or_default();
    let error = error.split(QUOTES_FOUND).next().unwrap_or_default();
    vec![
        format!("{{{place}\"error\":{},\"redacted\":true}}", quote(error)),
        format!("{{{place}\"redacted\":true}}"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(ids: &[&str]) -> Redaction {
        Redaction::new(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    fn reject(error: &str, member: &str, input: &str) -> String {
        let quoted = quote(input);
        format!(
            "{{\"source\":\"a.ndjson\",\"line\":7,\"byte\":812,\"error\":{},\"{member}\":{quoted}}}",
            quote(error)
        )
    }

    #[test]
    fn a_line_goes_if_it_names_an_id_and_stays_as_it_is_if_not() {
        let map = |ids: &str| format!("{{\"profile\":{{\"identityMap\":{ids},\"n\":\"c1\"}}}}");
        let text = |input: &str| reject("bad", "input", input);
        let base64 = |bytes: &[u8]| reject("bad", "input_base64", &STANDARD.encode(bytes));
        // (what it shows, the line, whether it names c1 or "a b")
        let cases = [
            ("an identity", text(&map(r#"{"CRMID":[{"id":"c1"}]}"#)), true),
            ("another identity", text(&map(r#"{"CRMID":[{"id":"c2"}]}"#)), false),
            ("in a map that is no map", text(&map(r#"{"CRMID":"c1"}"#)), true),
            ("a namespace is no id", text(&map(r#"{"c1":[{"id":"x"}]}"#)), false),
            ("no map, so anywhere", text(r#"{"profile":{"n":"c1"}}"#), true),
            ("no JSON, so anywhere", text(r#"{"identityMap":{"CRMID":[{"id":"c1"#), true),
            ("a part of another word", text("{c12 xc1"), false),
            ("an id with a space", text("x,a b,y"), true),
            ("bytes that are no UTF-8", base64(b"\xff\"c1\""), true),
            ("other such bytes", base64(b"\xff\"c3\""), false),
            ("a reject without input", "{\"line\":7,\"redacted\":true}".to_owned(), false),
            ("a line that is no reject", "c1 was written by hand".to_owned(), true),
        ];
        for (name, line, names) in cases {
            let mut bytes = format!("{line}\n").into_bytes();
            assert_eq!(redaction(&["c1", "a b"]).line(&mut bytes), names, "{name}");
            let after = String::from_utf8(bytes).unwrap();
            assert_eq!(after.len(), line.len() + 1, "{name}");
            assert!(after.ends_with('\n'), "{name}");
            if !names {
                assert_eq!(after.trim_end(), line, "{name}");
            } else if line.starts_with('{') {
                let left: Value = serde_json::from_str(&after).expect(name);
                assert_eq!((&left["line"], &left["redacted"]), (&7.into(), &true.into()), "{name}");
                assert!(left.get("input").or(left.get("input_base64")).is_none(), "{name}");
            } else {
                assert_eq!(after.trim_end(), "", "{name}");
            }
        }
    }

    #[test]
    fn an_error_keeps_what_was_wrong_and_not_what_was_found() {
        // (the error, the input, what is left of the error)
        let cases = [
            ("n: expected a number, found \"Ana\"", "c1, and so on", Some("n: expected a number")),
            ("line: expected text", "c1 and a lot more", Some("line: expected text")),
            ("there is no room for it", "c1", None),
        ];
        for (error, input, expected) in cases {
            let mut line = reject(error, "input", input).into_bytes();
            assert!(redaction(&["c1"]).line(&mut line));
            let left: Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(left.get("error").and_then(Value::as_str), expected, "{error}");
            assert_eq!(left["byte"], 812);
        }
    }

    #[test]
    fn a_file_is_replaced_only_if_something_is_redacted() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("rejects"), dir.path().join("scratch"));
        assert_eq!(redaction(&["c1"]).apply(&path, &scratch).unwrap(), 0, "there is none");
        let line = |n: u64| reject("bad", "input", &format!("of c{n}")) + "\n";
        let text: String = (0..1_000).map(|n| line(n % 10)).collect();
        fs::write(&path, &text).unwrap();
        assert_eq!(redaction(&["c77"]).apply(&path, &scratch).unwrap(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        for expected in [100, 0] {
            assert_eq!(redaction(&["c3"]).apply(&path, &scratch).unwrap(), expected);
            let after = fs::read_to_string(&path).unwrap();
            assert_eq!((after.len(), after.contains("of c3")), (text.len(), false));
            assert_eq!(after.lines().filter(|line| line.contains("of c4")).count(), 100);
        }
        assert!(!scratch.exists());
    }
}
