//! A request as it arrived, and the line of text that tests compare.

use forebay_engine::clock::Moment;
use serde_json::Value;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Method, path and query as they stood in the first line.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, in order of arrival.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// When it had arrived whole.
    pub at: Moment,
    /// The status it was answered with; `None` as long as, or if, it got no honest answer.
    pub answered: Option<u16>,
}

impl Request {
    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or("", |(_, value)| value)
    }

    /// The dataflow it belongs to.
    pub fn dataflow(&self) -> &str {
        self.header("forebay-dataflow")
    }

    /// Its place among the exports of its dataflow.
    pub fn sequence(&self) -> u64 {
        self.header("forebay-sequence").parse().expect("forebay-sequence is a number")
    }

    /// The id of its export.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body is UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a body is JSON")
    }

    /// Whether the profile has this identity.
    pub fn has_identity(&self, namespace: &str, id: &str) -> bool {
        self.json()["identityMap"][namespace]
            .as_array()
            .is_some_and(|all| all.iter().any(|identity| identity["id"] == id))
    }

    /// The body in one readable line: identities, memberships by audience, attributes if any.
    ///
    /// `crmid:c1 email:ana@x | big=realized@01T00:00:16 vip=exited@02T00:00:00 | {"n":1}`
    ///
    /// Times of January 2026 are shortened as in [`Record`](crate::Record).
    pub fn line(&self) -> String {
        line_of(&self.json())
    }
}

/// The line of a payload; see [`Request::line`].
pub fn line_of(body: &Value) -> String {
    let mut attributes = body.as_object().expect("a body is an object").clone();
    let identities = attributes.remove("identityMap").expect("there are always identities");
    let groups = attributes.remove("segmentMembership").expect("there are always memberships");
    let mut words = identity_words(&identities);
    words.push("|".to_owned());
    let mut memberships: Vec<_> = members(&groups).flat_map(|(_, group)| members(group)).collect();
    memberships.sort_by_key(|(audience, _)| *audience);
    for (audience, membership) in memberships {
        let status = membership["status"].as_str().expect("a membership has a status");
        let time = membership["lastQualificationTime"].as_str().expect("and a time");
        words.push(format!("{audience}={status}@{}", short_time(time)));
    }
    if !attributes.is_empty() {
        words.push(format!("| {}", Value::Object(attributes)));
    }
    words.join(" ")
}

/// A time without what never varies.
pub fn short_time(time: &str) -> &str {
    let inner = time.strip_prefix("2026-01-").and_then(|rest| rest.strip_suffix('Z'));
    inner.unwrap_or(time)
}

fn identity_words(identities: &Value) -> Vec<String> {
    let mut words = Vec::new();
    for (namespace, ids) in members(identities) {
        for identity in ids.as_array().expect("a namespace holds a list") {
            let id = identity["id"].as_str().expect("an identity has an id");
            assert_eq!(members(identity).count(), 1, "an identity shows nothing but its id");
            words.push(format!("{namespace}:{id}"));
        }
    }
    words
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().expect("it is an object").iter()
}
