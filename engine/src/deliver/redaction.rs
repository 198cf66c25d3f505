//! Blots secrets out of what an endpoint answered.
//!
//! The beginning of an answer is kept with a failed attempt, and some endpoints repeat in their
//! error what they were sent. What was secret in the request must not be stored that way
//! (`SPEC.md` §8: secrets never appear in the log store).
//!
//! Known by their bytes: the value of each header marked sensitive, and what follows its first
//! blank, as the token in `Bearer TOKEN`. A secret that the endpoint wrote differently, escaped or
//! encoded, is not recognised.

use http::{HeaderMap, HeaderValue};

/// What stands in the place of a secret.
const BLOT: &[u8] = b"[secret]";

/// Shorter values are no secrets, and would blot out half of every answer.
const SECRET_MIN: usize = 4;

/// What was secret in one request.
#[derive(Debug)]
pub(super) struct Redaction<'a>(Vec<&'a [u8]>);

impl<'a> Redaction<'a> {
    /// Of a request with these headers and this authorization.
    pub(super) fn new(headers: &'a HeaderMap, authorization: Option<&'a HeaderValue>) -> Self {
        let values = headers.values().chain(authorization);
        let mut secrets = Vec::new();
        for value in values.filter(|value| value.is_sensitive()).map(HeaderValue::as_bytes) {
            let after_blank =
                value.iter().position(|&byte| byte == b' ').map(|at| &value[at + 1..]);
            secrets.extend([Some(value), after_blank].into_iter().flatten());
        }
        secrets.retain(|secret| secret.len() >= SECRET_MIN);
        // The longer first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    /// The first `keep` bytes of `answer`, without secrets.
    pub(super) fn kept(&self, answer: &[u8], keep: usize) -> Vec<u8> {
        let mut kept = Vec::with_capacity(answer.len().min(keep));
        let mut rest = answer;
        while kept.len() < keep {
            let Some(&first) = rest.first() else { break };
            if let Some(secret) = self.0.iter().find(|secret| rest.starts_with(secret)) {
                kept.extend_from_slice(BLOT);
                rest = &rest[secret.len()..];
            } else {
                kept.push(first);
                rest = &rest[1..];
            }
        }
        kept.truncate(keep);
        kept
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::Redaction;

    fn sensitive(value: &str) -> HeaderValue {
        let mut value = HeaderValue::from_str(value).unwrap();
        value.set_sensitive(true);
        value
    }

    #[test]
    fn what_was_secret_is_not_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", sensitive("hunter2"));
        headers.insert("x-tenant", HeaderValue::from_static("acme-corp"));
        headers.insert("x-short", sensitive("ab"));
        let token = sensitive("Bearer hunter2-and-more");
        let redaction = Redaction::new(&headers, Some(&token));
        // (what it shows, the answer, how much is kept, what is kept)
        let cases = [
            ("a header's value", "no hunter2!", 99, "no [secret]!"),
            ("twice", "hunter2hunter2", 99, "[secret][secret]"),
            ("the token with its scheme", "<Bearer hunter2-and-more>", 99, "<[secret]>"),
            ("the token alone, which holds another", "hunter2-and-more", 99, "[secret]"),
            ("what is no secret stays", "acme-corp absent", 99, "acme-corp absent"),
            ("across the end", "a hunter2", 5, "a [se"),
            ("no more than wanted", "abcdef", 3, "abc"),
        ];
        for (name, answer, keep, expected) in cases {
            let kept = redaction.kept(answer.as_bytes(), keep);
            assert_eq!(String::from_utf8(kept).unwrap(), expected, "{name}");
        }
    }
}
