//! Why a profile is, or is not, exported to a dataflow: its standing now.

use serde::{Deserialize, Serialize};

use super::super::Engine;
use super::super::profile_page::identity_views;
use super::clauses::{clause_view, instant};
use super::findings::findings;
use super::open_exports::OpenExports;
use crate::clock::{Timestamp, millis};
use crate::definitions::{Audience, AudienceKind, Dataflow, Definitions};
use crate::deliver::backlog::ProfileKey;
use crate::detect::{Causes, Interest};
use crate::error::EngineError;
use crate::pql::Turn;
use crate::profile::attributes::Found;
use crate::profile::membership::{Membership, Status};
use crate::profile::path::PathId;
use crate::project::projection::{Look, Projection};
use crate::views::explanation::{MappedAttributeView, MappedAudienceView, StandingView};

/// Whom and what `forebay explain --profile` asks about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingQuestion {
    /// An identity's namespace.
    pub namespace: String,
    /// The identity's id.
    pub id: String,
    /// The dataflow.
    pub dataflow: String,
    /// The merge policy; without one the dataflow's own, if it has only one, or the default one.
    pub policy: Option<String>,
}

impl Engine {
    /// Why a profile is, or is not, exported to a dataflow; `None` if nobody has the identity.
    ///
    /// Cost: one look at the profile between two of the deriver's jobs; then what is stored of the
    /// dataflow's exports is read, up to a bound.
    ///
    /// # Errors
    ///
    /// [`EngineError::Usage`] if there is no such dataflow or policy, or the one maps nothing of the
    /// other.
    pub fn explain_standing(
        &self,
        question: &StandingQuestion,
    ) -> Result<Option<StandingView>, EngineError> {
        let asked = question.clone();
        let found = self.ask(move |deriver| standing(&deriver.derivation.projection, &asked))??;
        let Some((mut view, key)) = found else { return Ok(None) };
        let open = OpenExports::of_profile(self, &view.dataflow, key)?;
        let flows = self.dataflows()?;
        let flow = flows.into_iter().find(|flow| flow.id == view.dataflow).unwrap_or_default();
        view.state.clone_from(&flow.state);
        view.findings = findings(&view, &open, &flow);
        view.last_export = open.newest();
        view.open = open.views;
        Ok(Some(view))
    }
}

/// What the projection says; the rest is left empty. With the profile's key in the outbox.
fn standing(
    projection: &Projection,
    question: &StandingQuestion,
) -> Result<Option<(StandingView, ProfileKey)>, EngineError> {
    let definitions = projection.catalog().definitions();
    let dataflow = dataflow_of(definitions, &question.dataflow)?;
    let policy = policy_of(definitions, dataflow, question.policy.as_deref())?;
    let view = projection.view(Some(&policy)).ok_or_else(|| no_policy(definitions, &policy))?;
    let identity = projection.identities().find(&question.namespace.to_lowercase(), &question.id);
    let Some(profile) = identity.and_then(|identity| view.graph.owner(identity)) else {
        return Ok(None);
    };
    let look = projection.look(&policy, profile).expect("the view is there");
    let planned = look.dataflow(&dataflow.id).expect("a mapped audience is of the policy");
    let audiences = definitions.audiences.iter().filter(|audience| {
        audience.merge_policy == policy && dataflow.audiences.contains(&audience.id)
    });
    let audiences: Vec<MappedAudienceView> =
        audiences.map(|audience| audience_view(projection, &look, audience)).collect();
    let key = ProfileKey {
        policy: projection.catalog().policy_number(&policy).expect("policies have numbers"),
        profile: profile.as_u64(),
    };
    let standing = StandingView {
        profile: profile.as_u64(),
        identities: identity_views(projection, look.profile()),
        dataflow: dataflow.id.clone(),
        destination: dataflow.destination.clone(),
        clock: projection.now().to_string(),
        realized: planned.interest.has_member(&look.profile().memberships),
        triggers: Causes::from(dataflow.triggers).names().into_iter().map(Into::into).collect(),
        audiences,
        attributes: attribute_views(projection, &look, &planned.interest),
        backfill_ahead: projection.backfill_ahead(&dataflow.id, &policy, profile),
        merge_policy: policy,
        state: String::new(),
        open: Vec::new(),
        last_export: None,
        findings: Vec::new(),
    };
    Ok(Some((standing, key)))
}

fn dataflow_of<'d>(definitions: &'d Definitions, id: &str) -> Result<&'d Dataflow, EngineError> {
    definitions.dataflow(id).ok_or_else(|| {
        let known: Vec<&str> = definitions.dataflows.iter().map(|d| d.id.as_str()).collect();
        let there_is = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        EngineError::Usage(format!("no dataflow {id:?}; there is {there_is}"))
    })
}

fn no_policy(definitions: &Definitions, id: &str) -> EngineError {
    let known: Vec<&str> = definitions.merge_policies.iter().map(|p| p.id.as_str()).collect();
    EngineError::Usage(format!("no merge policy {id:?}; there is {}", known.join(", ")))
}

/// The policy that is asked about: the one named, the only one that the dataflow maps audiences of, or
/// the default one.
fn policy_of(
    definitions: &Definitions,
    dataflow: &Dataflow,
    named: Option<&str>,
) -> Result<String, EngineError> {
    let of = |id: &String| definitions.audience(id).map(|audience| audience.merge_policy.as_str());
    let mut mapped: Vec<&str> = dataflow.audiences.iter().filter_map(of).collect();
    mapped.sort_unstable();
    mapped.dedup();
    if let Some(unknown) = named.filter(|id| definitions.merge_policies.iter().all(|p| p.id != *id))
    {
        return Err(no_policy(definitions, unknown));
    }
    let default = definitions.default_merge_policy().map(|policy| policy.id.as_str());
    let wanted = match (named, mapped.as_slice()) {
        (Some(named), _) => named,
        (None, [only]) => only,
        (None, _) => default.unwrap_or_default(),
    };
    if mapped.contains(&wanted) {
        return Ok(wanted.to_owned());
    }
    Err(EngineError::Usage(if mapped.is_empty() {
        format!("dataflow {:?} maps no audience, so it exports nothing", dataflow.id)
    } else {
        format!(
            "dataflow {:?} maps no audience of merge policy {wanted:?}, so it exports none of its \
             profiles; it maps audiences of {}: name one with --merge-policy",
            dataflow.id,
            mapped.join(", ")
        )
    }))
}

fn audience_view(
    projection: &Projection,
    look: &Look<'_>,
    audience: &Audience,
) -> MappedAudienceView {
    let number = projection.catalog().number(&audience.id).expect("defined audiences are numbered");
    let membership = look.profile().memberships.get(number);
    let kind = match audience.kind {
        AudienceKind::Rule { .. } => "rule",
        AudienceKind::Upload { .. } => "upload",
    };
    let retention_ms = projection.catalog().definitions().settings.exited_retention_ms;
    MappedAudienceView {
        id: audience.id.clone(),
        name: audience.name.clone(),
        kind: kind.to_owned(),
        status: membership.status.map(|status| status.as_str().to_owned()),
        since: membership.status.map(|_| membership.since.to_seconds_text()),
        next_boundary: instant(membership.changes_at),
        by_clock: by_clock(&membership, look.turn(number), millis(retention_ms)),
        rule: look.clause(number).map(clause_view),
    }
}

/// What the clock alone does to a membership.
fn by_clock(membership: &Membership, turn: Option<Turn>, retention_ms: i64) -> String {
    let is_in = membership.is_realized();
    let flip = match turn {
        Some(Turn::At(at)) if is_in => {
            format!("leaves at {at} unless something is recorded before")
        }
        Some(Turn::At(at)) => format!("enters at {at} unless something is recorded before"),
        Some(Turn::NotBefore(at)) if at != Timestamp::MAX => {
            format!("its rule is looked at next at {at}")
        }
        None if is_in => {
            format!("leaves at {} unless it is named again before", membership.changes_at)
        }
        Some(Turn::NotBefore(_) | Turn::Never) | None => String::new(),
    };
    if membership.status != Some(Status::Exited) {
        return flip;
    }
    let forgotten =
        format!("the exit is forgotten at {}", membership.since.plus_millis(retention_ms));
    if flip.is_empty() { forgotten } else { format!("{flip}; {forgotten}") }
}

fn attribute_views(
    projection: &Projection,
    look: &Look<'_>,
    interest: &Interest,
) -> Vec<MappedAttributeView> {
    let (attributes, paths) = (&look.profile().attributes, projection.paths());
    let view = |path: &PathId| {
        let last = attributes.last_write(*path, paths);
        MappedAttributeView {
            path: paths.dotted(*path),
            present: attributes.find(*path, paths) != Found::Nothing,
            written_at: last.map(|key| key.offset),
            written: last.map(|key| key.timestamp.to_string()),
        }
    };
    interest.attributes.iter().map(view).collect()
}
