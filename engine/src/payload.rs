//! The payload of an export: one profile, rendered for one dataflow (`SPEC.md` §7).
//!
//! Values are copied as they were received; only structure and memberships are written here. The
//! same profile at the same step gives the same bytes, always: attributes come in the order of their
//! names, memberships in the order of their audiences, identities in the order first seen.

use crate::identity::table::{IdentityId, IdentityTable};
use crate::json;
use crate::profile::attributes::Attributes;
use crate::profile::membership::{AudienceNo, Membership, Memberships};
use crate::profile::path::{PathId, PathTable};

/// Where an audience stands in `segmentMembership`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MembershipGroup {
    /// Rules: `ups`.
    Rules,
    /// Imported lists: `CustomerAudienceUpload`.
    Uploads,
}

/// What a payload says of one audience, all but the membership itself.
#[derive(Clone, Debug)]
pub struct AudienceLine {
    /// Which audience.
    pub audience: AudienceNo,
    /// Where it stands.
    pub group: MembershipGroup,
    /// Its id as a JSON string.
    pub quoted_id: Box<str>,
    /// Further members of the entry, as JSON text from a comma on: `,"name":"…","createdAt":…`.
    pub extras: Box<str>,
}

/// How one dataflow wants profiles rendered, in one merge policy's view.
#[derive(Clone, Debug)]
pub struct PayloadPlan {
    /// The attributes at and below these paths are shown.
    pub attributes: Vec<PathId>,
    /// The audiences that are shown: first the rules, then the uploads, each ascending by number.
    pub audiences: Vec<AudienceLine>,
}

/// The parts of a profile that a payload shows.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Merged by policy.
    pub attributes: &'a Attributes,
    /// As they are after the step.
    pub memberships: &'a Memberships,
    /// In the order first seen.
    pub identities: &'a [IdentityId],
}

impl PayloadPlan {
    /// Renders one profile as a JSON object.
    pub fn render(
        &self,
        subject: Subject<'_>,
        identities: &IdentityTable,
        paths: &PathTable,
    ) -> String {
        let mut out = String::with_capacity(256);
        out.push('{');
        if write_attributes(&mut out, subject.attributes, &self.attributes, paths) {
            out.push(',');
        }
        self.write_memberships(&mut out, subject.memberships);
        out.push(',');
        write_identities(&mut out, subject.identities, identities);
        out.push('}');
        out
    }

    fn write_memberships(&self, out: &mut String, memberships: &Memberships) {
        out.push_str("\"segmentMembership\":{");
        let mut open: Option<MembershipGroup> = None;
        for line in &self.audiences {
            let membership = memberships.get(line.audience);
            let Some(status) = membership.status else { continue };
            if open == Some(line.group) {
                out.push(',');
            } else {
                out.push_str(match (open, line.group) {
                    (None, MembershipGroup::Rules) => "\"ups\":{",
                    (None, MembershipGroup::Uploads) => "\"CustomerAudienceUpload\":{",
                    (Some(_), _) => "},\"CustomerAudienceUpload\":{",
                });
                open = Some(line.group);
            }
            write_membership(out, line, &membership, status.as_str());
        }
        out.push_str(if open.is_some() { "}}" } else { "}" });
    }
}

fn write_membership(out: &mut String, line: &AudienceLine, membership: &Membership, status: &str) {
    out.push_str(&line.quoted_id);
    out.push_str(":{\"lastQualificationTime\":\"");
    out.push_str(&membership.since.to_seconds_text());
    out.push_str("\",\"status\":\"");
    out.push_str(status);
    out.push('"');
    out.push_str(&line.extras);
    out.push('}');
}

/// Writes the members of an object, nested by path, without the outer braces. Whether there are any.
pub fn write_attributes(
    out: &mut String,
    attributes: &Attributes,
    roots: &[PathId],
    paths: &PathTable,
) -> bool {
    let mut leaves: Vec<(Vec<&str>, &str)> =
        attributes.leaves(roots, paths).map(|(path, text)| (paths.segments(path), text)).collect();
    leaves.sort_unstable();
    let mut open: &[&str] = &[];
    for (index, (segments, text)) in leaves.iter().enumerate() {
        let parents = &segments[..segments.len() - 1];
        let shared = open.iter().zip(parents).take_while(|(a, b)| a == b).count();
        out.extend(std::iter::repeat_n('}', open.len() - shared));
        if index > 0 {
            out.push(',');
        }
        for parent in &parents[shared..] {
            out.push_str(&json::quote(parent));
            out.push_str(":{");
        }
        out.push_str(&json::quote(segments[segments.len() - 1]));
        out.push(':');
        out.push_str(text);
        open = parents;
    }
    out.extend(std::iter::repeat_n('}', open.len()));
    !leaves.is_empty()
}

/// Writes `"identityMap":{…}`: only ids, by namespace in the order first seen.
fn write_identities(out: &mut String, identities: &[IdentityId], table: &IdentityTable) {
    let named: Vec<(&str, &str)> = identities.iter().map(|id| table.name(*id)).collect();
    out.push_str("\"identityMap\":{");
    for (index, (namespace, _)) in named.iter().enumerate() {
        if named[..index].iter().any(|(earlier, _)| earlier == namespace) {
            continue;
        }
        if index > 0 {
            out.push(',');
        }
        out.push_str(&json::quote(namespace));
        out.push_str(":[");
        let mut is_first = true;
        for (_, id) in named.iter().filter(|(of, _)| of == namespace) {
            out.push_str(if is_first { "{\"id\":" } else { ",{\"id\":" });
            out.push_str(&json::quote(id));
            out.push('}');
            is_first = false;
        }
        out.push(']');
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::profile::attributes::{Rank, Write, WriteKey};
    use crate::profile::membership::Status;

    fn line(audience: u32, group: MembershipGroup, id: &str, extras: &str) -> AudienceLine {
        AudienceLine {
            audience: AudienceNo(audience),
            group,
            quoted_id: json::quote(id).into(),
            extras: extras.into(),
        }
    }

    #[test]
    fn a_profile_is_rendered_as_the_contract_shows() {
        let mut paths = PathTable::default();
        let mut attributes = Attributes::default();
        let values = [
            ("v.list", "[1,2.0,\"a\",null]"),
            ("v.deep.x", "1.10"),
            ("person.name.firstName", "\"Ana\""),
            ("unmapped", "true"),
            ("id", "\"x\""),
        ];
        for (path, value) in values {
            let key = WriteKey { timestamp: Timestamp::EPOCH, offset: 0 };
            let write = Write { path: paths.intern(path), rank: Rank(0), key, value: Some(value) };
            attributes.write(write, &paths, &mut Vec::new());
        }
        let mut memberships = Memberships::default();
        for (audience, status) in
            [(0, Status::Realized), (1, Status::Exited), (2, Status::Realized)]
        {
            memberships.set(Membership {
                status: Some(status),
                since: Timestamp::from_millis(1_767_225_603_888),
                ..Membership::absent(AudienceNo(audience))
            });
        }
        let mut table = IdentityTable::default();
        let ids = [("crmid", "c1"), ("email", "z@x"), ("crmid", "c\"2")];
        let identities: Vec<_> = ids.iter().map(|(ns, id)| table.intern(ns, id)).collect();
        let plan = PayloadPlan {
            attributes: ["person", "v", "id", "absent"].map(|p| paths.intern(p)).to_vec(),
            audiences: vec![
                line(0, MembershipGroup::Rules, "a", ",\"name\":\"A\""),
                line(1, MembershipGroup::Rules, "b", ""),
                line(5, MembershipGroup::Rules, "never", ""),
                line(2, MembershipGroup::Uploads, "list", ""),
            ],
        };
        let subject =
            Subject { attributes: &attributes, memberships: &memberships, identities: &identities };
        assert_eq!(
            plan.render(subject, &table, &paths),
            concat!(
                r#"{"id":"x","person":{"name":{"firstName":"Ana"}},"v":{"deep":{"x":1.10},"list":[1,2.0,"a",null]},"#,
                r#""segmentMembership":{"ups":{"a":{"lastQualificationTime":"2026-01-01T00:00:03Z","status":"realized","name":"A"},"#,
                r#""b":{"lastQualificationTime":"2026-01-01T00:00:03Z","status":"exited"}},"#,
                r#""CustomerAudienceUpload":{"list":{"lastQualificationTime":"2026-01-01T00:00:03Z","status":"realized"}}},"#,
                r#""identityMap":{"crmid":[{"id":"c1"},{"id":"c\"2"}],"email":[{"id":"z@x"}]}}"#,
            )
        );
        let bare = PayloadPlan { attributes: Vec::new(), audiences: Vec::new() };
        assert_eq!(
            bare.render(Subject { identities: &identities[..1], ..subject }, &table, &paths),
            r#"{"segmentMembership":{},"identityMap":{"crmid":[{"id":"c1"}]}}"#
        );
    }
}
