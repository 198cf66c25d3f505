//! One profile in full: what `forebay profile` answers, of now or of a moment of the past.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::answers::raw;
use crate::detect::Causes;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::payload::write_attributes;
use crate::profile::path::PathId;
use crate::profile::state::Profile;
use crate::project::projection::{Asked, Projection};
use crate::project::view::View;
use crate::views::{IdentityView, MembershipView, ProfileView};

/// Whose profile is asked for, and how it is to be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileQuestion {
    /// An identity's namespace, in any letter case.
    pub namespace: String,
    /// Its id, exactly.
    pub id: String,
    /// The merge policy to see it under, if not the default one.
    pub policy: Option<String>,
    /// The one dataflow whose payload is to be shown, if not all.
    pub dataflow: Option<String>,
}

impl Engine {
    /// One profile under a merge policy (the default one without a name); `None` if nobody has the
    /// identity.
    pub fn profile(
        &self,
        namespace: &str,
        id: &str,
        policy: Option<&str>,
    ) -> Result<Option<ProfileView>, EngineError> {
        let (namespace, id, policy) =
            (namespace.to_owned(), id.to_owned(), policy.map(str::to_owned));
        self.profile_page(&ProfileQuestion { namespace, id, policy, dataflow: None })
    }

    /// The profile asked for, as it is; `None` if nobody has the identity.
    pub fn profile_page(
        &self,
        question: &ProfileQuestion,
    ) -> Result<Option<ProfileView>, EngineError> {
        let question = question.clone();
        self.ask(move |deriver| {
            let derivation = &deriver.derivation;
            page(&derivation.projection, derivation.next(), &question)
        })?
    }
}

/// The profile asked for, as `projection` has it, in which everything below `next_offset` is applied.
pub(super) fn page(
    projection: &Projection,
    next_offset: u64,
    question: &ProfileQuestion,
) -> Result<Option<ProfileView>, EngineError> {
    let ProfileQuestion { namespace, id, policy, dataflow } = question;
    let definitions = projection.catalog().definitions();
    let known = definitions.merge_policies.iter().map(|policy| policy.id.as_str());
    let view = projection
        .view(policy.as_deref())
        .ok_or_else(|| unknown("merge policy", policy.as_deref().unwrap_or_default(), known))?;
    let flows = || definitions.dataflows.iter().map(|flow| flow.id.as_str());
    if let Some(asked) = dataflow
        && !flows().any(|id| id == asked)
    {
        return Err(unknown("dataflow", asked, flows()));
    }
    let identity = projection.identities().find(&namespace.to_lowercase(), id);
    let Some(profile) = identity.and_then(|identity| view.graph.owner(identity)) else {
        return Ok(None);
    };
    let Some(mut shown) = profile_view(projection, view, profile) else { return Ok(None) };
    for flow in flows().filter(|id| dataflow.as_ref().is_none_or(|asked| asked == id)) {
        let payload = payload(projection, view, (profile, flow));
        shown.payloads.extend(payload.map(|payload| (flow.to_owned(), raw(payload))));
    }
    shown.next_offset = next_offset;
    Ok(Some(shown))
}

/// What a dataflow would be sent of a profile; `None` if it maps no audience of the view's policy.
fn payload(
    projection: &Projection,
    view: &View,
    (profile, dataflow): (ProfileId, &str),
) -> Option<String> {
    let asked = Asked { dataflow, profile, policy: view.number?, causes: Causes::NONE };
    projection.export_now(&asked, 0).map(|export| export.payload)
}

pub(super) fn profile_view(
    projection: &Projection,
    view: &View,
    id: ProfileId,
) -> Option<ProfileView> {
    let profile = view.profile(id)?;
    let mut members = String::new();
    write_attributes(&mut members, &profile.attributes, &[PathId::ROOT], projection.paths());
    let catalog = projection.catalog();
    let memberships = profile.memberships.iter().filter_map(|membership| {
        let status = membership.status?;
        let shown = MembershipView {
            status: status.as_str().to_owned(),
            last_qualification_time: membership.since.to_seconds_text(),
        };
        Some((catalog.id(membership.audience).to_owned(), shown))
    });
    Some(ProfileView {
        profile: id.as_u64(),
        merge_policy: view.policy.id.clone(),
        attributes: raw(format!("{{{members}}}")),
        identities: identity_views(projection, profile),
        memberships: memberships.collect(),
        payloads: std::collections::BTreeMap::new(),
        clock: projection.now().to_string(),
        next_offset: 0,
    })
}

/// The identities of a profile, in the order first seen.
pub(super) fn identity_views(projection: &Projection, profile: &Profile) -> Vec<IdentityView> {
    let view = |(namespace, id): (&str, &str)| IdentityView {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
    };
    profile.identities.iter().map(|id| view(projection.identities().name(*id))).collect()
}

fn unknown<'a>(what: &str, asked: &str, known: impl Iterator<Item = &'a str>) -> EngineError {
    let known: Vec<&str> = known.collect();
    EngineError::Usage(if known.is_empty() {
        format!("no {what} {asked:?}; there is none")
    } else {
        format!("no {what} {asked:?}; there is {}", known.join(", "))
    })
}
