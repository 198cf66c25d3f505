//! The query parameters of a destination: `"tenant=acme&v=2"`, or a table.
//!
//! Both forms end as one query string behind the endpoint's own. The string form is taken as it is,
//! only what no URL may hold is encoded; of a table every name and value is encoded, so that any
//! text arrives as it was written (`SPEC.md` §9).

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use toml::Spanned;
use toml::de::DeValue;
use url::Url;

use super::secret_reference;
use super::table::Table;

/// What may not stand in a query (RFC 3986 §3.4), `%` left to [`encode_text`].
const ILLEGAL: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What is encoded in a name or value of a table: all that has, or might have, a meaning.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads `query_params` and appends them to the query of `endpoint`.
pub(super) fn append(table: &mut Table<'_>, endpoint: &mut Url) {
    let Some(value) = table.get("query_params") else { return };
    let query = match value.get_ref() {
        DeValue::String(text) => {
            let refused = table.as_text(value).is_some_and(|t| secret_reference::refuse(table, &t));
            if refused { String::new() } else { encode_text(text) }
        }
        DeValue::Table(_) => from_table(table),
        _ => {
            table.wrong_type(value, "a string `name=value&name=value` or a table");
            String::new()
        }
    };
    if query.is_empty() {
        return;
    }
    let whole = match endpoint.query() {
        Some(own) if !own.is_empty() => format!("{own}&{query}"),
        _ => query,
    };
    endpoint.set_query(Some(&whole));
}

/// Encodes what no URL may hold; a `%` stays where two hexadecimal digits follow it.
fn encode_text(text: &str) -> String {
    let mut encoded = String::new();
    for (at, part) in text.split('%').enumerate() {
        if at > 0 {
            let is_code = part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit());
            encoded.push_str(if is_code { "%" } else { "%25" });
        }
        encoded.extend(utf8_percent_encode(part, ILLEGAL));
    }
    encoded
}

fn from_table(table: &mut Table<'_>) -> String {
    let entries = table.table("query_params", "`query_params`").map(|inner| inner.entries());
    let mut parts = Vec::new();
    for (name, value) in entries.into_iter().flatten() {
        if let Some(text) = scalar(table, value) {
            let name = utf8_percent_encode(&name.value, RESERVED);
            parts.push(format!("{name}={}", utf8_percent_encode(&text, RESERVED)));
        }
    }
    parts.join("&")
}

/// A value as the text that is sent; numbers as they were written.
fn scalar(table: &Table<'_>, value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(_) => {
            let text = table.as_text(value)?;
            (!secret_reference::refuse(table, &text)).then_some(text.value)
        }
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => {
            table.wrong_type(value, "a string, a number, `true` or `false`");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_string_form_keeps_what_a_query_may_hold() {
        // (what it shows, as written, as sent)
        let cases = [
            ("plain parameters stay", "tenant=acme&v=2", "tenant=acme&v=2"),
            ("a code stays", "a=%20b%C3%A9", "a=%20b%C3%A9"),
            ("a space is encoded", "a=x y", "a=x%20y"),
            ("so are letters beyond ASCII", "ville=Nîmes", "ville=N%C3%AEmes"),
            (
                "and a percent sign that starts no code",
                "a=100%&b=%zz&c=%4",
                "a=100%25&b=%25zz&c=%254",
            ),
            ("and what would end the query", "a=#1", "a=%231"),
            ("what has a meaning in a query keeps it", "a=b/c?d:e@f+g,h", "a=b/c?d:e@f+g,h"),
        ];
        for (name, written, sent) in cases {
            assert_eq!(encode_text(written), sent, "{name}");
            let mut url = Url::parse("https://h/p").unwrap();
            url.set_query(Some(&encode_text(written)));
            assert_eq!(url.query(), Some(sent), "{name}: the URL changes nothing more");
        }
    }
}
