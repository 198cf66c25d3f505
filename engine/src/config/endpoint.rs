//! URLs that requests go to: endpoints and token endpoints.
//!
//! What can be told without the network is told here: the scheme, and addresses written as numbers.
//! A name is looked up, and its addresses checked, when it is connected to (`SPEC.md` §8).

use std::net::IpAddr;

use url::{Host, Url};

use super::secret_reference;
use super::table::{Located, Table};
use crate::deliver::settings::Reach;
use crate::deliver::transport::is_public;

/// Reads a key that holds an `http` or `https` URL within `reach`.
pub(super) fn url(table: &mut Table<'_>, key: &'static str, reach: Reach) -> Option<Url> {
    let text = table.text(key)?;
    if secret_reference::refuse(table, &text) {
        return None;
    }
    let url = match Url::parse(&text.value) {
        Ok(url) => url,
        Err(error) => {
            let message = format!("`{key}` is no URL: {error}");
            let help = Some("write the whole of it, as in `https://example.com/profiles`".into());
            table.report().error_with_help(&text.place, message, help);
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Before anything else, so that no finding shows the password.
        table.report().hide(&text.place);
        let help = Some("say how to authenticate in `auth` or `headers`".to_owned());
        table.report().error_with_help(&text.place, "a URL here has no user or password", help);
        return None;
    }
    let fault = fault(&url, reach);
    if let Some((message, help)) = fault {
        refuse(table, &text, (message, help));
        return None;
    }
    Some(url)
}

fn refuse(table: &Table<'_>, text: &Located<String>, (message, help): (String, &str)) {
    table.report().error_with_help(&text.place, message, Some(help.to_owned()));
}

/// What keeps `url` from being used, and what to do about it.
fn fault(url: &Url, reach: Reach) -> Option<(String, &'static str)> {
    let literal = address(url);
    let is_loopback = literal.is_some_and(|address| address.is_loopback());
    let scheme = url.scheme();
    if !matches!(scheme, "http" | "https") {
        let help = "requests are made with `https`, or with `http` where that is allowed";
        return Some((format!("`{scheme}` is no scheme that requests can be made with"), help));
    }
    if url.fragment().is_some() {
        return Some(("a part after `#` is never sent".to_owned(), "leave it out, or write `%23`"));
    }
    if scheme == "http" && !is_loopback && !reach.allow_insecure {
        let help =
            "use `https`, or set `allow_insecure = true` (a literal loopback address needs it not)";
        return Some(("`http` sends profiles in the clear".to_owned(), help));
    }
    if literal.is_some_and(|address| !is_public(address)) && !is_loopback && !reach.allow_private {
        let host = url.host_str().unwrap_or_default();
        let help = "set `allow_private = true` on the destination if that is meant";
        return Some((format!("`{host}` is a private address"), help));
    }
    None
}

/// The address of a URL whose host is one.
fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.to_canonical()),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_can_be_reached() {
        let none = Reach::default();
        let insecure = Reach { allow_insecure: true, ..none };
        let private = Reach { allow_private: true, ..none };
        let both = Reach { allow_insecure: true, allow_private: true };
        // (the URL, what is allowed, a part of what is said)
        let cases = [
            ("https://example.com/x?a=1", none, None),
            ("http://example.com/", none, Some("in the clear")),
            ("http://example.com/", insecure, None),
            ("http://127.0.0.1:8400/", none, None),
            ("http://127.9.9.9/", none, None),
            ("http://[::1]/", none, None),
            ("https://[::1]/", none, None),
            ("http://[::ffff:127.0.0.1]/", none, None),
            ("http://localhost/", none, Some("in the clear")),
            ("https://10.1.2.3/", none, Some("private")),
            ("https://10.1.2.3/", insecure, Some("private")),
            ("https://10.1.2.3/", private, None),
            ("http://10.1.2.3/", private, Some("in the clear")),
            ("http://10.1.2.3/", both, None),
            ("https://169.254.169.254/", none, Some("private")),
            ("https://100.64.0.1/", none, Some("private")),
            ("https://[fd00::1]/", none, Some("private")),
            ("https://[::ffff:10.0.0.1]/", none, Some("private")),
            ("https://0.0.0.0/", none, Some("private")),
            ("https://8.8.8.8/", none, None),
            ("https://example.com/#x", none, Some("after `#`")),
            ("ftp://example.com/", both, Some("no scheme")),
        ];
        for (text, reach, expected) in cases {
            let got = fault(&Url::parse(text).unwrap(), reach).map(|(message, _)| message);
            match expected {
                None => assert_eq!(got, None, "{text}"),
                Some(part) => {
                    assert!(got.as_ref().is_some_and(|m| m.contains(part)), "{text}: {got:?}");
                }
            }
        }
    }
}
