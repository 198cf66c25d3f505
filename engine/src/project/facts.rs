//! A profile as rules read it.

use super::context::FoldContext;
use crate::clock::Timestamp;
use crate::payload::write_attributes;
use crate::pql::{Attribute, Facts, MembershipFact, QueryId, QueryState};
use crate::profile::attributes::Found;
use crate::profile::path::PathId;
use crate::profile::state::Profile;

/// One profile of the fold, with what is needed to read it.
#[derive(Clone, Copy)]
pub(super) struct ProfileFacts<'a> {
    profile: &'a Profile,
    context: &'a FoldContext<'a>,
}

impl<'a> ProfileFacts<'a> {
    /// `profile` as rules read it.
    pub(super) fn new(profile: &'a Profile, context: &'a FoldContext<'a>) -> Self {
        Self { profile, context }
    }
}

impl Facts for ProfileFacts<'_> {
    fn attribute(&self, path: PathId) -> Attribute<'_> {
        match self.profile.attributes.find(path, self.context.shared.paths) {
            Found::Nothing => Attribute::Missing,
            Found::Leaf(text) => Attribute::Leaf(text),
            Found::Within { leaf, depth } => Attribute::Within { leaf, depth },
            Found::Tree => Attribute::Tree,
        }
    }

    fn tree(&self, path: PathId) -> String {
        let mut members = String::new();
        write_attributes(
            &mut members,
            &self.profile.attributes,
            &[path],
            self.context.shared.paths,
        );
        // The members are nested below the path's own segments; the object asked for lies inside.
        let depth = self.context.shared.paths.depth(path);
        let mut object = format!("{{{members}}}");
        for _ in 0..depth {
            object = inner_object(&object);
        }
        object
    }

    fn identities<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a str)) {
        for identity in &self.profile.identities {
            let (namespace, id) = self.context.shared.identities.name(*identity);
            visit(namespace, id);
        }
    }

    fn membership(&self, audience: &str) -> Option<MembershipFact> {
        let number = self.context.shared.catalog.number(audience)?;
        let membership = self.profile.memberships.get(number);
        membership.status.map(|_| MembershipFact {
            realized: membership.is_realized(),
            since: membership.since,
            // Dependents are evaluated whenever a membership changes, by the clock too.
            until: Timestamp::MAX,
        })
    }

    fn query(&self, id: QueryId) -> Option<&QueryState> {
        self.profile.history.get(id)
    }
}

/// The value of the only member of an object that was written here.
fn inner_object(object: &str) -> String {
    let document = crate::json::Document::parse(object).expect("written as JSON a moment ago");
    let inner = document.root(object).entries().next().map(|(_, value)| value.raw().to_owned());
    inner.unwrap_or_else(|| "{}".to_owned())
}
