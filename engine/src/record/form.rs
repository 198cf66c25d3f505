//! The five forms a record comes in (`SPEC.md` §2), and what each must have.
//!
//! A member that is `null` counts as absent, because many writers put it there for what they do not
//! know. The body of a streaming message is the exception: with `_id` and `timestamp` in it, whatever
//! they are, it means to be an event.

use std::collections::BTreeSet;

use super::batch::{MembershipStatus, RecordKind};
use super::expectation::unmet;
use crate::clock::Timestamp;
use crate::json::{Kind, Value};

const TIME_SHAPE: &str = r#"an RFC 3339 time such as "2026-01-01T00:00:11.664Z""#;

/// What the envelope of a line says, before its identities are read.
pub(super) struct Form<'a> {
    /// An event has no type here yet.
    pub(super) kind: RecordKind,
    /// The `eventType` of an event, a string.
    pub(super) event_type: Option<Value<'a>>,
    /// What stands as `identityMap`, not checked yet.
    pub(super) identity_map: Option<Value<'a>>,
    /// Where the object that has it stands, dotted.
    pub(super) path: &'static str,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) dataset: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Profile,
    Event,
    Membership,
    Delete,
    /// The Experience Platform streaming message.
    Streamed,
}

impl Shape {
    const fn path(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Event => "event",
            Self::Membership => "membership",
            Self::Delete => "delete",
            Self::Streamed => "body.xdmEntity",
        }
    }
}

/// The members of a line that mean something; `null` is left out.
#[derive(Default)]
struct Envelope<'a> {
    profile: Option<Value<'a>>,
    event: Option<Value<'a>>,
    membership: Option<Value<'a>>,
    delete: Option<Value<'a>>,
    body: Option<Value<'a>>,
    header: Option<Value<'a>>,
    dataset: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
}

/// Reads the form of the line `root`. Memberships may name `uploads` only; in the log, where they
/// were checked before (`None`), any audience.
pub(super) fn read<'a>(
    root: Value<'a>,
    uploads: Option<&BTreeSet<Box<str>>>,
) -> Result<Form<'a>, String> {
    if root.kind() != Kind::Object {
        return Err(unmet("line", "a JSON object", Some(root)));
    }
    let envelope = Envelope::of(root);
    let (shape, owner) = envelope.shape()?;
    let path = shape.path();
    if owner.kind() != Kind::Object {
        return Err(unmet(path, "an object", Some(owner)));
    }
    let body = Body::of(owner);
    let kind = match shape {
        Shape::Event => body.event(owner, path)?,
        Shape::Streamed if body.is_event() => body.event(owner, path)?,
        Shape::Membership => body.membership(uploads)?,
        Shape::Delete => RecordKind::Delete,
        Shape::Profile | Shape::Streamed => RecordKind::Profile { attributes: owner.index() },
    };
    let timestamp = match kind {
        RecordKind::Event { .. } => Some(time(&[path, ".timestamp"], body.timestamp)?),
        _ => envelope.timestamp.map(|found| time(&["timestamp"], Some(found))).transpose()?,
    };
    let dataset = envelope.dataset(shape)?;
    let is_event = matches!(kind, RecordKind::Event { .. });
    let event_type = body.event_type.filter(|value| is_event && !value.is_null());
    Ok(Form { kind, event_type, identity_map: body.identity_map, path, timestamp, dataset })
}

impl<'a> Envelope<'a> {
    fn of(root: Value<'a>) -> Self {
        let mut envelope = Self::default();
        for (key, value) in root.entries() {
            let member = match &*key {
                "profile" => &mut envelope.profile,
                "event" => &mut envelope.event,
                "membership" => &mut envelope.membership,
                "delete" => &mut envelope.delete,
                "body" => &mut envelope.body,
                "header" => &mut envelope.header,
                "dataset" => &mut envelope.dataset,
                "timestamp" => &mut envelope.timestamp,
                _ => continue,
            };
            *member = Some(value).filter(|value| !value.is_null());
        }
        envelope
    }

    /// The one shape there is, and what stands under its name. A `body` without an entity is a
    /// field like any other if there is another shape.
    fn shape(&self) -> Result<(Shape, Value<'a>), String> {
        let entity = self.body.and_then(|body| body.get("xdmEntity"));
        let shapes = [
            (Shape::Profile, self.profile),
            (Shape::Event, self.event),
            (Shape::Membership, self.membership),
            (Shape::Delete, self.delete),
            (Shape::Streamed, entity),
        ];
        let mut present = shapes.into_iter().filter_map(|(shape, found)| Some((shape, found?)));
        match (present.next(), present.next()) {
            (Some(only), None) => Ok(only),
            (Some((one, _)), Some((other, _))) => Err(format!(
                "line: several kinds in one line, \"{}\" and \"{}\"; write a line for each",
                one.path(),
                other.path()
            )),
            (None, _) if self.body.is_some() => Err(unmet("body.xdmEntity", "an object", None)),
            (None, _) => {
                Err("line: expected \"profile\", \"event\", \"membership\", \"delete\" or \
                 \"body\", found none of them"
                    .to_owned())
            }
        }
    }

    /// The node of the dataset's name. That of a streaming message stands in its header.
    fn dataset(&self, shape: Shape) -> Result<Option<u32>, String> {
        if shape == Shape::Streamed
            && let Some(header) = self.header
        {
            if header.kind() != Kind::Object {
                return Err(unmet("header", "an object", Some(header)));
            }
            let id = header.get("datasetId").filter(|id| !id.is_null());
            if id.is_some() {
                return optional_text("header.datasetId", id);
            }
        }
        optional_text("dataset", self.dataset)
    }
}

/// The members of a record's own object that mean something, found in one pass: bodies have many
/// members, and every record is read here.
#[derive(Default)]
struct Body<'a> {
    id: Option<Value<'a>>,
    timestamp: Option<Value<'a>>,
    event_type: Option<Value<'a>>,
    audience: Option<Value<'a>>,
    status: Option<Value<'a>>,
    identity_map: Option<Value<'a>>,
}

impl<'a> Body<'a> {
    fn of(owner: Value<'a>) -> Self {
        let mut body = Self::default();
        for (key, value) in owner.entries() {
            let member = match &*key {
                "_id" => &mut body.id,
                "timestamp" => &mut body.timestamp,
                "eventType" => &mut body.event_type,
                "audience" => &mut body.audience,
                "status" => &mut body.status,
                "identityMap" => &mut body.identity_map,
                _ => continue,
            };
            *member = Some(value);
        }
        body
    }

    fn is_event(&self) -> bool {
        self.id.is_some() && self.timestamp.is_some()
    }

    fn event(&self, owner: Value<'_>, path: &str) -> Result<RecordKind, String> {
        let Some(id) = self.id.filter(|id| is_filled(*id)) else {
            return Err(unmet(&format!("{path}._id"), "a string that is not empty", self.id));
        };
        let event_type = self.event_type.filter(|value| !value.is_null());
        if event_type.is_some_and(|value| value.kind() != Kind::Text) {
            return Err(unmet(&format!("{path}.eventType"), "a string", event_type));
        }
        Ok(RecordKind::Event { body: owner.index(), id: id.index(), event_type: None })
    }

    fn membership(&self, uploads: Option<&BTreeSet<Box<str>>>) -> Result<RecordKind, String> {
        let Some((audience, name)) = self.audience.and_then(|value| Some((value, value.as_str()?)))
        else {
            let expected = "the id of an upload audience";
            return Err(unmet("membership.audience", expected, self.audience));
        };
        if uploads.is_some_and(|uploads| !uploads.contains(&*name)) {
            return Err(no_upload(audience.raw()));
        }
        let status = match self.status.and_then(|value| value.as_str()).as_deref() {
            Some("realized") => MembershipStatus::Realized,
            Some("exited") => MembershipStatus::Exited,
            _ => {
                return Err(unmet("membership.status", "\"realized\" or \"exited\"", self.status));
            }
        };
        Ok(RecordKind::Membership { audience: audience.index(), status })
    }
}

/// What is said of a membership in an audience that takes none; `quoted` is its id as JSON.
pub(super) fn no_upload(quoted: &str) -> String {
    format!(
        "membership.audience: {quoted} is no upload audience; add it to the configuration with \
         type = \"upload\""
    )
}

fn time(path: &[&str], found: Option<Value<'_>>) -> Result<Timestamp, String> {
    found
        .and_then(|value| Timestamp::parse(&value.as_str()?))
        .ok_or_else(|| unmet(&path.concat(), TIME_SHAPE, found))
}

fn optional_text(path: &str, found: Option<Value<'_>>) -> Result<Option<u32>, String> {
    match found {
        Some(value) if value.kind() != Kind::Text => Err(unmet(path, "a string", found)),
        _ => Ok(found.map(|value| value.index())),
    }
}

fn is_filled(value: Value<'_>) -> bool {
    value.kind() == Kind::Text && value.raw().len() > 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Document;
    use crate::record::identity_map::{self, Namespaces};

    fn refusal(line: &str) -> Option<String> {
        let uploads = BTreeSet::from(["vip".into()]);
        let document = Document::parse(line).expect("JSON");
        let form = match read(document.root(line), Some(&uploads)) {
            Ok(form) => form,
            Err(error) => return Some(error),
        };
        identity_map::read(form.identity_map, form.path, &mut Namespaces::default()).err()
    }

    const IDS: &str = r#""identityMap":{"N":[{"id":"1","primary":null,"x":0}],"M":[]}"#;

    /// Each line, where @ is an identity map, is refused with its message.
    fn check(cases: &[(&str, &str)]) {
        for (line, message) in cases {
            let line = line.replace('@', IDS);
            assert_eq!(refusal(&line).as_deref(), Some(*message), "{line}");
        }
    }

    #[test]
    fn an_envelope_holds_one_record() {
        check(&[
            ("[1,2]", "line: expected a JSON object, found an array"),
            ("\"x\"", "line: expected a JSON object, found \"x\""),
            (
                r#"{"something":{@}}"#,
                r#"line: expected "profile", "event", "membership", "delete" or "body", found none of them"#,
            ),
            (
                r#"{"profile":{@},"delete":{@}}"#,
                r#"line: several kinds in one line, "profile" and "delete"; write a line for each"#,
            ),
            (
                r#"{"event":{@},"body":{"xdmEntity":{@}}}"#,
                r#"line: several kinds in one line, "event" and "body.xdmEntity"; write a line for each"#,
            ),
            (r#"{"profile":7}"#, "profile: expected an object, found 7"),
            (r#"{"body":{}}"#, "body.xdmEntity: expected an object, found nothing"),
            (r#"{"body":{"xdmEntity":null}}"#, "body.xdmEntity: expected an object, found null"),
        ]);
    }

    #[test]
    fn events_and_envelopes_are_checked() {
        check(&[
            (
                r#"{"event":{"_id":"e","timestamp":"soon",@}}"#,
                r#"event.timestamp: expected an RFC 3339 time such as "2026-01-01T00:00:11.664Z", found "soon""#,
            ),
            (
                r#"{"event":{"_id":"e",@},"timestamp":"2026-01-01T00:00:00Z"}"#,
                r#"event.timestamp: expected an RFC 3339 time such as "2026-01-01T00:00:11.664Z", found nothing"#,
            ),
            (
                r#"{"event":{"timestamp":"2026-01-01T00:00:00Z",@}}"#,
                "event._id: expected a string that is not empty, found nothing",
            ),
            (
                r#"{"event":{"_id":"","timestamp":"2026-01-01T00:00:00Z",@}}"#,
                "event._id: expected a string that is not empty, found an empty string",
            ),
            (
                r#"{"event":{"_id":"e","timestamp":"2026-01-01T00:00:00Z","eventType":[],@}}"#,
                "event.eventType: expected a string, found an array",
            ),
            (
                r#"{"body":{"xdmEntity":{"_id":5,"timestamp":"2026-01-01T00:00:00Z",@}}}"#,
                "body.xdmEntity._id: expected a string that is not empty, found 5",
            ),
            (
                r#"{"body":{"xdmEntity":{@}},"header":[]}"#,
                "header: expected an object, found an array",
            ),
            (
                r#"{"body":{"xdmEntity":{@}},"header":{"datasetId":1}}"#,
                "header.datasetId: expected a string, found 1",
            ),
            (r#"{"profile":{@},"dataset":{}}"#, "dataset: expected a string, found an object"),
            (
                r#"{"profile":{@},"timestamp":1767225600000}"#,
                r#"timestamp: expected an RFC 3339 time such as "2026-01-01T00:00:11.664Z", found 1767225600000"#,
            ),
        ]);
    }

    #[test]
    fn memberships_are_checked() {
        check(&[
            (
                r#"{"membership":{"status":"realized",@}}"#,
                "membership.audience: expected the id of an upload audience, found nothing",
            ),
            (
                r#"{"membership":{"audience":"x","status":"realized",@}}"#,
                r#"membership.audience: "x" is no upload audience; add it to the configuration with type = "upload""#,
            ),
            (
                r#"{"membership":{"audience":"vip","status":"existing",@}}"#,
                r#"membership.status: expected "realized" or "exited", found "existing""#,
            ),
        ]);
    }

    #[test]
    fn an_identity_map_is_checked() {
        check(&[
            (
                r#"{"delete":{}}"#,
                r#"delete.identityMap: expected an object such as {"Email":[{"id":"ana@example.com"}]}, found nothing"#,
            ),
            (
                r#"{"delete":{"identityMap":{}}}"#,
                "delete.identityMap: expected at least one identity, found none",
            ),
            (
                r#"{"delete":{"identityMap":{"A":[]}}}"#,
                "delete.identityMap: expected at least one identity, found none",
            ),
            (
                r#"{"delete":{"identityMap":{"":[{"id":"1"}]}}}"#,
                "delete.identityMap: expected a namespace's name, found \"\"",
            ),
            (
                r#"{"delete":{"identityMap":{"A":{"id":"1"}}}}"#,
                r#"delete.identityMap.A: expected an array such as [{"id":"c1"}], found an object"#,
            ),
            (
                r#"{"delete":{"identityMap":{"A":[{"id":"1"},"2"]}}}"#,
                r#"delete.identityMap.A[1]: expected an object such as {"id":"c1"}, found "2""#,
            ),
            (
                r#"{"delete":{"identityMap":{"A":[{"id":5}]}}}"#,
                "delete.identityMap.A[0].id: expected a string that is not empty, found 5",
            ),
            (
                r#"{"delete":{"identityMap":{"A":[{"id":""}]}}}"#,
                "delete.identityMap.A[0].id: expected a string that is not empty, found an empty string",
            ),
            (
                r#"{"delete":{"identityMap":{"A":[{"id":"1","primary":"true"}]}}}"#,
                r#"delete.identityMap.A[0].primary: expected true or false, found "true""#,
            ),
            (
                r#"{"delete":{"identityMap":{"A":[{"id":"1","authenticatedState":1}]}}}"#,
                "delete.identityMap.A[0].authenticatedState: expected a string, found 1",
            ),
        ]);
    }

    #[test]
    fn what_means_nothing_is_let_through() {
        // (what it shows, the line, where @ is an identity map)
        let cases = [
            ("an absent member may be null", r#"{"profile":{@},"delete":null,"dataset":null}"#),
            ("so may a time", r#"{"profile":{@},"timestamp":null}"#),
            ("a body without entity is a field", r#"{"profile":{@},"body":"x","header":1}"#),
            (
                "an event's envelope has no time",
                r#"{"event":{"_id":"e","timestamp":"2026-01-01T00:00:00Z",@},"timestamp":"soon"}"#,
            ),
            (
                "an entity without _id is a profile",
                r#"{"body":{"xdmEntity":{"timestamp":"soon",@}},"header":null}"#,
            ),
        ];
        for (name, line) in cases {
            assert_eq!(refusal(&line.replace('@', IDS)), None, "{name}");
        }
    }
}
