//! One profile of a projection, looked at: what its rules find, what its dataflows react to.
//!
//! A look changes nothing and costs nothing until it is asked; a rule is taken apart only for who
//! wants to know why.

use std::borrow::Cow;

use super::super::context::FoldContext;
use super::super::facts::ProfileFacts;
use super::super::plan::{PlannedDataflow, Qualification};
use super::super::step::subject_of;
use super::super::view::View;
use super::Projection;
use crate::backfill::Lane;
use crate::identity::ProfileId;
use crate::pql::{Clause, Rule, Turn};
use crate::profile::membership::AudienceNo;
use crate::profile::state::Profile;

/// A profile under one merge policy in effect.
pub struct Look<'a> {
    projection: &'a Projection,
    view: &'a View,
    profile: Cow<'a, Profile>,
}

impl Projection {
    /// Looks at a profile under the merge policy called `policy`, if that is in effect. Of a profile
    /// that is not there nothing is known, which is what a first record finds.
    pub fn look(&self, policy: &str, id: ProfileId) -> Option<Look<'_>> {
        let view = self.view(Some(policy))?;
        let profile =
            view.profile(id).map_or_else(|| Cow::Owned(Profile::default()), Cow::Borrowed);
        Some(Look { projection: self, view, profile })
    }

    /// How many exports of the backfill of `dataflow` are taken before that of a profile; `None` if it
    /// is owed none.
    pub fn backfill_ahead(&self, dataflow: &str, policy: &str, id: ProfileId) -> Option<u64> {
        let mut ahead = 0;
        for lane in self.lanes.iter().filter(|lane| lane.purpose.dataflow == dataflow) {
            let view = self.view(Some(&lane.purpose.policy))?;
            if lane.purpose.policy == policy
                && let Some(place) = lane.place_of(id, &view.graph)
            {
                return Some(ahead + place);
            }
            ahead += lane.remaining() as u64;
        }
        None
    }

    /// The newest backfill of `dataflow` that owed a profile an export.
    pub fn backfill_of(&self, dataflow: &str, policy: &str, id: ProfileId) -> Option<&Lane> {
        let view = self.view(Some(policy))?;
        let mut lanes = self.lanes.iter().rev();
        lanes.find(|lane| {
            (lane.purpose.dataflow.as_str(), lane.purpose.policy.as_str()) == (dataflow, policy)
                && lane.includes(id, &view.graph)
        })
    }
}

impl<'a> Look<'a> {
    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The rule of an audience, taken apart at the clock's instant; `None` for uploads, and for
    /// audiences of other policies.
    pub fn clause(&self, audience: AudienceNo) -> Option<Clause> {
        let context = self.context();
        let facts = ProfileFacts::new(&self.profile, &context);
        Some(self.rule(audience)?.explain(&facts, &context.scope(self.projection.now)))
    }

    /// When the clock alone turns the rule of an audience; `None` as above.
    pub fn turn(&self, audience: AudienceNo) -> Option<Turn> {
        let context = self.context();
        let facts = ProfileFacts::new(&self.profile, &context);
        Some(self.rule(audience)?.turn(&facts, &context.scope(self.projection.now)))
    }

    /// What a dataflow reacts to and shows under this policy; `None` if it maps no audience of it.
    pub fn dataflow(&self, id: &str) -> Option<&'a PlannedDataflow> {
        let definitions = self.projection.catalog().definitions();
        let index = definitions.dataflows.iter().position(|dataflow| dataflow.id == id)?;
        self.view.plan.dataflows.iter().find(|planned| planned.index == index)
    }

    /// The payload that an export to a dataflow would have; `None` as above.
    pub fn payload(&self, dataflow: &str) -> Option<String> {
        let known = &self.projection.known;
        let subject = subject_of(&self.profile);
        Some(self.dataflow(dataflow)?.payload.render(subject, &known.identities, &known.paths))
    }

    fn rule(&self, audience: AudienceNo) -> Option<&'a Rule> {
        let rank = self.view.plan.rank(audience)?;
        match &self.view.plan.audiences[rank as usize].qualification {
            Qualification::Rule(rule) => Some(rule),
            Qualification::Upload { .. } => None,
        }
    }

    fn context(&self) -> FoldContext<'a> {
        self.projection.known.context().with(&self.view.plan, &self.view.graph)
    }
}
