//! A profile as it was seen at one moment, so that two moments can be compared.

use std::collections::BTreeMap;

use super::clauses::{clause_view, stepped};
use crate::identity::ProfileId;
use crate::pql::Clause;
use crate::profile::attributes::WriteKey;
use crate::profile::membership::{AudienceNo, Membership};
use crate::profile::path::PathId;
use crate::project::projection::Projection;
use crate::views::export::{AttributeChangeView, ChangesView, MembershipChangeView};
use crate::views::{IdentityView, MembershipView};

/// What is seen of a profile.
#[derive(Debug, Default)]
pub(super) struct Seen {
    is_there: bool,
    pub(super) identities: Vec<IdentityView>,
    /// What shows at each path, and the last write there.
    attributes: BTreeMap<PathId, (String, Option<WriteKey>)>,
    memberships: BTreeMap<AudienceNo, Membership>,
    clauses: BTreeMap<AudienceNo, Clause>,
}

impl Seen {
    /// The profile under a merge policy as `projection` has it. Rules are taken apart at its clock's
    /// instant.
    pub(super) fn of(projection: &Projection, policy: &str, id: ProfileId) -> Self {
        let Some(look) = projection.look(policy, id) else { return Self::default() };
        let (profile, paths) = (look.profile(), projection.paths());
        let definitions = projection.catalog().definitions();
        let numbers =
            definitions.audiences.iter().filter(|audience| audience.merge_policy == policy);
        let numbers = numbers.filter_map(|audience| projection.catalog().number(&audience.id));
        let leaf = |(path, text): (PathId, &str)| {
            (path, (text.to_owned(), profile.attributes.last_write(path, paths)))
        };
        Self {
            is_there: !profile.identities.is_empty(),
            identities: super::super::profile_page::identity_views(projection, profile),
            attributes: profile.attributes.leaves(&[PathId::ROOT], paths).map(leaf).collect(),
            memberships: profile.memberships.iter().map(|m| (m.audience, *m)).collect(),
            clauses: numbers.filter_map(|number| Some((number, look.clause(number)?))).collect(),
        }
    }

    /// The paths that the record at `offset` wrote, or that show something else than `before`.
    pub(super) fn touched(&self, before: &Self, offset: u64) -> Vec<PathId> {
        let is_written = |(text, key): &(String, Option<WriteKey>), path: &PathId| {
            let old = before.attributes.get(path).map(|(text, _)| text);
            old != Some(text) || key.is_some_and(|key| key.offset == offset)
        };
        let written = self.attributes.iter().filter(|(path, leaf)| is_written(leaf, path));
        let gone = before.attributes.keys().filter(|path| !self.attributes.contains_key(path));
        written.map(|(path, _)| path).chain(gone).copied().collect()
    }

    /// The audiences whose status is another one than in `before`.
    pub(super) fn flipped(&self, before: &Self) -> Vec<AudienceNo> {
        let status = |seen: &Self, audience| seen.memberships.get(audience).and_then(|m| m.status);
        let all = self.memberships.keys().chain(before.memberships.keys());
        let mut flipped: Vec<AudienceNo> =
            all.filter(|a| status(self, a) != status(before, a)).copied().collect();
        flipped.sort_unstable();
        flipped.dedup();
        flipped
    }

    /// What the step that led from `before` to this has done, as `projection` names it; the record at
    /// `offset` is the step's, if one is.
    pub(super) fn changes(
        &self,
        before: &Self,
        projection: &Projection,
        (offset, maps): (u64, &dyn Fn(AudienceNo) -> bool),
    ) -> ChangesView {
        let not_in = |some: &[IdentityView], others: &[IdentityView]| {
            some.iter().filter(|identity| !others.contains(identity)).cloned().collect()
        };
        let raw = |text: &(String, Option<WriteKey>)| super::super::answers::raw(text.0.clone());
        let attribute = |path: PathId| AttributeChangeView {
            path: projection.paths().dotted(path),
            before: before.attributes.get(&path).map(raw),
            after: self.attributes.get(&path).map(raw),
        };
        let membership = |audience: AudienceNo| MembershipChangeView {
            audience: projection.catalog().id(audience).to_owned(),
            mapped: maps(audience),
            before: before.memberships.get(&audience).and_then(membership_view),
            after: self.memberships.get(&audience).and_then(membership_view),
            rule: self.clauses.get(&audience).map(|after| match before.clauses.get(&audience) {
                Some(before) => stepped(before.clone(), after.clone()),
                None => clause_view(after.clone()),
            }),
        };
        let mut attributes: Vec<AttributeChangeView> =
            self.touched(before, offset).into_iter().map(attribute).collect();
        attributes.sort_by(|one, other| one.path.cmp(&other.path));
        ChangesView {
            is_new: self.is_there && !before.is_there,
            attributes,
            joined: not_in(&self.identities, &before.identities),
            dropped: not_in(&before.identities, &self.identities),
            merged: Vec::new(),
            memberships: self.flipped(before).into_iter().map(membership).collect(),
        }
    }
}

fn membership_view(membership: &Membership) -> Option<MembershipView> {
    let status = membership.status?;
    Some(MembershipView {
        status: status.as_str().to_owned(),
        last_qualification_time: membership.since.to_seconds_text(),
    })
}
