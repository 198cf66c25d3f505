//! One step of one profile: what a record, a boundary or a merge does to it (`SPEC.md` §5, §6).
//!
//! A step changes the profile, evaluates the audiences that this may have changed, dependencies
//! first, and gives at most one export a dataflow. It sees one profile, the shared read-only
//! [`FoldContext`], and `now`; nothing else, so that replay repeats it exactly.

use super::context::{FoldContext, Rendering};
use super::plan::{AudienceRank, PlannedAudience, Qualification, ViewPlan};
use crate::clock::Timestamp;
use crate::detect::{Causes, Happened};
use crate::payload::Subject;
use crate::profile::attributes::Touched;
use crate::profile::membership::{AudienceNo, Membership, Status};
use crate::profile::state::Profile;
use crate::views::AudienceCounts;

use super::facts::ProfileFacts;

/// An export of a step, not yet numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepExport {
    /// Place of the dataflow among those of the definitions.
    pub dataflow: usize,
    /// Why.
    pub causes: Causes,
    /// The JSON text.
    pub payload: String,
}

/// Memberships of one shard, counted as they change; by audience number.
#[derive(Clone, Debug, Default)]
pub struct MembershipCounts(Vec<AudienceCounts>);

impl MembershipCounts {
    /// The counts of one audience.
    pub fn get(&self, audience: AudienceNo) -> AudienceCounts {
        self.0.get(audience.as_usize()).copied().unwrap_or_default()
    }

    /// Notes that a membership came into being.
    pub fn add(&mut self, membership: &Membership) {
        if let Some(count) = self.count(membership) {
            *count += 1;
        }
    }

    /// Notes that a membership is no more.
    pub fn remove(&mut self, membership: &Membership) {
        if let Some(count) = self.count(membership) {
            *count -= 1;
        }
    }

    fn count(&mut self, membership: &Membership) -> Option<&mut u64> {
        let status = membership.status?;
        if self.0.len() <= membership.audience.as_usize() {
            self.0.resize(membership.audience.as_usize() + 1, AudienceCounts::default());
        }
        let counts = &mut self.0[membership.audience.as_usize()];
        Some(match status {
            Status::Realized => &mut counts.realized,
            Status::Exited => &mut counts.exited,
        })
    }
}

/// What a step has done to the profile so far, and which audiences are still to be looked at.
#[derive(Debug, Default)]
pub struct Step {
    /// Ranks to evaluate; sorted and made unique when evaluation starts.
    pub agenda: Vec<AudienceRank>,
    /// Attribute paths that the record touched.
    pub touched: Vec<Touched>,
    /// Audiences whose status changed.
    pub flipped: Vec<AudienceNo>,
    /// Whether the set of identities changed, other than by the first appearance.
    pub identities_changed: bool,
    /// What is said of an upload audience.
    pub upload: Option<Said>,
}

/// What a membership record, or the end of an import, says of an upload audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The audience.
    pub audience: AudienceNo,
    /// Whether the profile is in.
    pub status: Status,
    /// The entry that says so.
    pub offset: u64,
}

impl Step {
    /// Forgets the last step, keeping the room it took.
    pub fn clear(&mut self) {
        self.agenda.clear();
        self.touched.clear();
        self.flipped.clear();
        self.identities_changed = false;
        self.upload = None;
    }

    /// Puts the audiences on the agenda that the clock alone may change at `now`.
    pub fn note_due(&mut self, profile: &Profile, plan: &ViewPlan, now: Timestamp) {
        let due = profile.memberships.iter().filter(|membership| membership.changes_at <= now);
        self.agenda.extend(due.filter_map(|membership| plan.rank(membership.audience)));
    }

    /// Evaluates the agenda in order of rank, and whatever that adds to it.
    pub fn evaluate(
        &mut self,
        profile: &mut Profile,
        counts: &mut MembershipCounts,
        context: &FoldContext<'_>,
        now: Timestamp,
    ) {
        self.agenda.sort_unstable();
        self.agenda.dedup();
        let mut next = 0;
        while next < self.agenda.len() {
            let planned = &context.plan.audiences[self.agenda[next] as usize];
            next += 1;
            let before = profile.memberships.get(planned.number);
            let after = self.qualified(planned, before, profile, context, now);
            if before.status != after.status {
                counts.remove(&before);
                counts.add(&after);
                for dependent in &planned.dependents {
                    if let Err(at) = self.agenda[next..].binary_search(dependent) {
                        self.agenda.insert(next + at, *dependent);
                    }
                }
                if after.status.is_some() {
                    self.flipped.push(planned.number);
                }
            }
            if before != after {
                profile.memberships.set(after);
            }
        }
    }

    /// The exports of this step: at most one a dataflow.
    pub fn exports(
        &self,
        profile: &Profile,
        context: &FoldContext<'_>,
        mut emit: impl FnMut(StepExport),
    ) {
        if self.flipped.is_empty() && self.touched.is_empty() && !self.identities_changed {
            return;
        }
        let happened = Happened {
            flipped: &self.flipped,
            touched: &self.touched,
            identities_changed: self.identities_changed,
        };
        for dataflow in &context.plan.dataflows {
            let causes =
                dataflow.interest.causes(&happened, &profile.memberships, context.shared.paths);
            if !causes.is_empty() {
                let payload = match context.shared.rendering {
                    Rendering::Omitted => String::new(),
                    Rendering::Full => dataflow.payload.render(
                        subject_of(profile),
                        context.shared.identities,
                        context.shared.paths,
                    ),
                };
                emit(StepExport { dataflow: dataflow.index, causes, payload });
            }
        }
    }

    /// The membership after evaluation at `now`.
    fn qualified(
        &self,
        planned: &PlannedAudience,
        mut before: Membership,
        profile: &Profile,
        context: &FoldContext<'_>,
        now: Timestamp,
    ) -> Membership {
        let was_realized = before.is_realized();
        let (holds, changes_at) = match &planned.qualification {
            Qualification::Rule(rule) => {
                let facts = ProfileFacts::new(profile, context);
                let evaluation = rule.evaluate(&facts, &context.scope(now));
                (evaluation.holds, evaluation.changes_at)
            }
            Qualification::Upload { ttl_ms } => {
                let said = self.upload.filter(|said| said.audience == planned.number);
                let holds = match said {
                    Some(Said { status: Status::Realized, offset, .. }) => {
                        (before.refreshed, before.refreshed_by) = (now, offset);
                        true
                    }
                    Some(Said { status: Status::Exited, .. }) => false,
                    None => was_realized && now < before.refreshed.plus_millis(*ttl_ms),
                };
                let ends = before.refreshed.plus_millis(*ttl_ms);
                (holds, if holds { ends } else { Timestamp::MAX })
            }
        };
        if was_realized != holds {
            let status = if holds { Status::Realized } else { Status::Exited };
            (before.status, before.since) = (Some(status), now);
        }
        remembered(Membership { changes_at, ..before }, context, now)
    }
}

/// The audiences that a profile of which nothing is known may be in, or may enter by the clock alone.
pub fn at_birth(context: &FoldContext<'_>, now: Timestamp) -> Vec<AudienceRank> {
    let unknown = Profile::default();
    let facts = ProfileFacts::new(&unknown, context);
    let scope = context.scope(now);
    let may_hold = |planned: &PlannedAudience| match &planned.qualification {
        Qualification::Rule(rule) => {
            let evaluation = rule.evaluate(&facts, &scope);
            evaluation.holds || evaluation.changes_at != Timestamp::MAX
        }
        Qualification::Upload { .. } => false,
    };
    let ranked = (0..).zip(&context.plan.audiences);
    ranked.filter(|(_, planned)| may_hold(planned)).map(|(rank, _)| rank).collect()
}

/// The membership itself, or absence once an exited one is to be forgotten (`SPEC.md` §5).
fn remembered(membership: Membership, context: &FoldContext<'_>, now: Timestamp) -> Membership {
    if membership.status != Some(Status::Exited) {
        return membership;
    }
    let forgotten = membership.since.plus_millis(context.shared.exited_retention_ms);
    let changes_at = membership.changes_at;
    if now >= forgotten {
        Membership { changes_at, ..Membership::absent(membership.audience) }
    } else {
        Membership { changes_at: changes_at.min(forgotten), ..membership }
    }
}

/// The parts of a profile that a payload shows.
pub fn subject_of(profile: &Profile) -> Subject<'_> {
    Subject {
        attributes: &profile.attributes,
        memberships: &profile.memberships,
        identities: &profile.identities,
    }
}
