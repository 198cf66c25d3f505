//! The headers of a destination: `"Name:value,Name:value"`, or a table.
//!
//! Names and values are checked here, after secrets were put in, so that no configuration and no
//! secret can write a second header or the body. Headers that forebay writes itself are refused.

use toml::Spanned;
use toml::de::DeValue;

use super::secret_reference::{expand, mentions_reference};
use super::source::Place;
use super::table::Table;
use crate::deliver::settings::HeaderText;
use crate::secret::Secret;

/// Headers that say what the request is; the destination cannot change that.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Families of headers that forebay writes.
const RESERVED_PREFIXES: &[&str] = &["webhook-", "forebay-"];

/// One header as written, not yet checked.
struct Draft {
    name: String,
    value: String,
    name_place: Place,
    value_place: Place,
    /// The string it is part of, for places of secrets, and where the value begins in it.
    token: (Place, usize),
}

/// Reads `headers`. One that `auth` writes, or forebay, is an error.
pub(super) fn headers(
    table: &mut Table<'_>,
    authorization: Authorization,
) -> Vec<(String, HeaderText)> {
    let Some(value) = table.get("headers") else { return Vec::new() };
    let drafts = match value.get_ref() {
        DeValue::String(text) => from_text(table, text, &table.at(value.span())),
        DeValue::Table(_) => from_table(table),
        _ => {
            table.wrong_type(value, "a string `Name:value,Name:value` or a table");
            Vec::new()
        }
    };
    let mut headers: Vec<(String, HeaderText)> = Vec::new();
    for draft in drafts {
        let twice = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(&draft.name));
        let fault = name_fault(&draft.name, authorization)
            .or_else(|| twice.then(|| format!("header `{}` is given twice", draft.name)));
        if let Some(message) = fault {
            table.report().error(&draft.name_place, message);
        } else if let Some(value) = checked_value(table, &draft) {
            headers.push((draft.name, value));
        }
    }
    headers
}

/// Who writes the `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    /// The destination's `auth`.
    Auth,
    /// Nobody, so `headers` may.
    Free,
}

/// The headers of the string form: split at commas, each at its first colon.
fn from_text(table: &Table<'_>, text: &str, token: &Place) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut start = 0;
    if text.trim().is_empty() {
        return drafts;
    }
    for part in text.split(',') {
        let place = |from: usize, to: usize| token.within(&(start + from..start + to));
        if let Some((name, value)) = part.split_once(':') {
            let value_start = name.len() + 1 + (value.len() - value.trim_start().len());
            drafts.push(Draft {
                name: name.trim().to_owned(),
                value: value.trim().to_owned(),
                name_place: place(0, name.len()),
                value_place: place(value_start, part.trim_end().len().max(value_start)),
                token: (token.clone(), start + value_start),
            });
        } else {
            let help = "write `Name:value,Name:value`, or a table if a value has a comma";
            let message = format!("`{}` is no header", part.trim());
            table.report().error_with_help(&place(0, part.len()), message, Some(help.to_owned()));
        }
        start += part.len() + 1;
    }
    drafts
}

/// The headers of the table form, in the order of the file.
fn from_table(table: &mut Table<'_>) -> Vec<Draft> {
    let entries = table.table("headers", "`headers`").map(|inner| inner.entries());
    let draft = |(name, value): (super::table::Located<String>, &Spanned<DeValue<'_>>)| {
        let text = table.as_text(value)?;
        Some(Draft {
            name: name.value,
            value: text.value,
            name_place: name.place,
            value_place: text.place.clone(),
            token: (text.place, 0),
        })
    };
    entries.into_iter().flatten().filter_map(draft).collect()
}

fn checked_value(table: &Table<'_>, draft: &Draft) -> Option<HeaderText> {
    let (token, start) = &draft.token;
    let place =
        |part: std::ops::Range<usize>| token.within(&(start + part.start..start + part.end));
    let value = expand(table.reader, &draft.value, &place)?;
    if !value.chars().all(|c| c == '\t' || c == ' ' || c.is_ascii_graphic()) {
        let message =
            format!("the value of header `{}` has a character beyond printable ASCII", draft.name);
        table.report().error(&draft.value_place, message);
        return None;
    }
    let is_secret = mentions_reference(&draft.value);
    Some(if is_secret { HeaderText::Secret(Secret::new(value)) } else { HeaderText::Plain(value) })
}

fn name_fault(name: &str, authorization: Authorization) -> Option<String> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Some(format!("`{name}` is no name of a header"));
    }
    let lower = name.to_ascii_lowercase();
    let prefixed = RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if prefixed || RESERVED.contains(&lower.as_str()) {
        return Some(format!("header `{name}` is written by forebay itself"));
    }
    let taken = lower == "authorization" && authorization == Authorization::Auth;
    taken.then(|| format!("header `{name}` is written by `auth`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_forebay_writes_are_refused() {
        // (the name, who writes Authorization, a part of what is said)
        let cases = [
            ("X-Source", Authorization::Auth, None),
            ("Authorization", Authorization::Free, None),
            ("authorization", Authorization::Auth, Some("by `auth`")),
            ("Content-Type", Authorization::Free, Some("by forebay")),
            ("HOST", Authorization::Free, Some("by forebay")),
            ("Expect", Authorization::Free, Some("by forebay")),
            ("Webhook-Id", Authorization::Free, Some("by forebay")),
            ("forebay-anything", Authorization::Free, Some("by forebay")),
            ("X Source", Authorization::Free, Some("no name")),
            ("X-Source\r\nHost", Authorization::Free, Some("no name")),
            ("", Authorization::Free, Some("no name")),
        ];
        for (name, authorization, expected) in cases {
            let got = name_fault(name, authorization);
            match expected {
                None => assert_eq!(got, None, "{name}"),
                Some(part) => {
                    assert!(got.as_ref().is_some_and(|m| m.contains(part)), "{name}: {got:?}");
                }
            }
        }
    }
}
