//! The step behind an export, derived once more: the log up to the step in a projection of its own, the
//! profile seen before and after, and the payload rendered again.

use super::super::Progress;
use super::super::control::Control;
use super::super::history::{History, Lens, Way, Whom};
use super::super::open::history as definitions_of;
use super::super::playback::Played;
use super::super::replay::Replay;
use super::causes::causes;
use super::seen::Seen;
use super::source::source_of;
use crate::clock::{ClockKind, Timestamp};
use crate::definitions::Definitions;
use crate::deliver::backlog::ExportKey;
use crate::detect::Causes;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::project::projection::{DerivedExport, Projection};
use crate::record::RecordKind;
use crate::views::export::{ChangesView, EntryView, OriginView};

/// What was derived of an export.
pub(super) struct Story {
    /// Where it came from.
    pub(super) origin: OriginView,
    /// What it says; `None` if the log does not lead to it any more.
    pub(super) payload: Option<String>,
}

/// One export, and the log that led to it.
struct Teller<'a> {
    history: &'a History,
    key: &'a ExportKey,
    dataflow: &'a str,
    profile: ProfileId,
}

/// Tells the step behind an export; `None` if its profile is not there, because it was deleted since.
///
/// Cost: the chunks of the log up to the entry are derived that tell of the profile, as for a profile as it
/// was ([`History::profile`]).
pub(super) fn story(
    history: &History,
    (key, dataflow): (&ExportKey, &str),
    progress: &dyn Progress,
) -> Result<Option<Story>, EngineError> {
    let profile = ProfileId::from_offset(key.profile.profile);
    let teller = Teller { history, key, dataflow, profile };
    let last = key.origin.rendered_after.unwrap_or(key.origin.offset);
    let way = Way { next: key.origin.offset, last };
    let lens = Lens::on(history, way, teller.whom()?, progress)?;
    teller.tell(lens, progress)
}

impl Teller<'_> {
    /// Whom the lens must know; `None`: everybody.
    ///
    /// What a backfill was for is told of all that it exported, and an audience that moves to another merge
    /// policy takes what is left of its backfills along: then it depends on others.
    fn whom(&self) -> Result<Option<Whom<'_>>, EngineError> {
        let is_backfill = Causes::from_bits(self.key.origin.causes).contains(Causes::BACKFILL);
        if is_backfill && has_moved_audience(&definitions_of(self.history.store())?) {
            return Ok(None);
        }
        Ok(Some(Whom::Profile(self.key.profile.profile)))
    }

    fn tell(
        &self,
        mut lens: Lens<'_>,
        progress: &dyn Progress,
    ) -> Result<Option<Story>, EngineError> {
        let origin = self.key.origin;
        let Some(played) = peek(self.history, origin.offset)? else { return Ok(None) };
        let caused = Causes::from_bits(origin.causes);
        let is_step = !caused.contains(Causes::BACKFILL) && !caused.contains(Causes::REPLAY);
        let step = self.step(&mut lens, &played)?;
        let now = origin.boundary.unwrap_or(lens.projection().now());
        let rendered = match origin.rendered_after {
            Some(after) => self.rendered_later(&mut lens, (after, progress))?,
            None => step.export.map(|export| export.payload),
        };
        let projection = lens.projection();
        let Some(policy) = self.policy(projection) else { return Ok(None) };
        // A marked profile may have been absorbed since its step: then that was another one's.
        let is_told = is_step && !step.after.identities.is_empty();
        let (seen, changes) = if is_told {
            (step.after, step.changes)
        } else {
            (self.seen(projection, &policy), ChangesView::default())
        };
        if seen.identities.is_empty() {
            return Ok(None);
        }
        let view = OriginView {
            profile: self.key.profile.profile,
            causes: causes(caused, &changes, (projection, self.dataflow, &policy, self.profile)),
            merge_policy: policy,
            identities: seen.identities,
            entry: self.entry(&played)?,
            boundary: origin.boundary.map(|at| at.to_string()),
            rendered_after: origin.rendered_after,
            now: now.to_string(),
            changes,
            notes: notes(origin.rendered_after.filter(|_| is_step)),
        };
        Ok(Some(Story { origin: view, payload: rendered }))
    }

    /// The step of the entry, or of the boundary that it passed.
    fn step(&self, lens: &mut Lens<'_>, played: &Played) -> Result<Step, EngineError> {
        let offset = self.key.origin.offset;
        match self.key.origin.boundary {
            Some(boundary) => lens.pass_time(boundary.plus_millis(-1)),
            None => lens.pass_time(self.clock_of(played, lens.projection())),
        };
        let before = self
            .policy(lens.projection())
            .map_or_else(Seen::default, |policy| self.seen(lens.projection(), &policy));
        let owners = self.owners(lens.projection(), played);
        let exports = match self.key.origin.boundary {
            Some(boundary) => lens.pass_time(boundary).exports,
            None => lens.step()?.map_or_else(Vec::new, |(_, outcome)| outcome.exports),
        };
        let projection = lens.projection();
        let policy = self.policy(projection);
        let after = policy.as_ref().map_or_else(Seen::default, |p| self.seen(projection, p));
        let maps = |audience| {
            let look = policy.as_ref().and_then(|policy| projection.look(policy, self.profile));
            let planned = look.as_ref().and_then(|look| look.dataflow(self.dataflow));
            planned.is_some_and(|planned| planned.interest.maps(audience))
        };
        let mut changes = after.changes(&before, projection, (offset, &maps));
        if !changes.is_new {
            changes.merged = self.merged(owners, projection);
        }
        let is_it = |export: &DerivedExport| {
            export.dataflow == self.dataflow
                && export.policy == self.key.profile.policy
                && export.profile == self.profile
                && export.boundary == self.key.origin.boundary
        };
        Ok(Step { changes, after, export: exports.into_iter().find(is_it) })
    }

    /// The payload of the profile as it was behind the entry at `after`.
    fn rendered_later(
        &self,
        lens: &mut Lens<'_>,
        (after, progress): (u64, &dyn Progress),
    ) -> Result<Option<String>, EngineError> {
        lens.advance(after.saturating_add(1), progress)?;
        let projection = lens.projection();
        let Some(policy) = self.policy(projection) else { return Ok(None) };
        let look = projection.look(&policy, self.profile);
        Ok(look.and_then(|look| look.payload(self.dataflow)))
    }

    fn seen(&self, projection: &Projection, policy: &str) -> Seen {
        Seen::of(projection, policy, self.profile)
    }

    fn policy(&self, projection: &Projection) -> Option<String> {
        projection.catalog().policy_id(self.key.profile.policy).map(str::to_owned)
    }

    /// Where an entry moves the clock to.
    fn clock_of(&self, played: &Played, projection: &Projection) -> Timestamp {
        let now = projection.now();
        match (self.history.clock_kind(), played) {
            (
                ClockKind::Wall,
                Played::Records { appended, .. } | Played::Control { appended, .. },
            ) => now.max(*appended),
            (ClockKind::Event, Played::Records { batch, .. }) => {
                batch.get(0).timestamp().map_or(now, |timestamp| now.max(timestamp))
            }
            (ClockKind::Event, Played::Control { control: Control::Advance { to_ms }, .. }) => {
                now.max(Timestamp::from_millis(*to_ms))
            }
            (ClockKind::Event, Played::Control { .. }) => now,
        }
    }

    /// Those of the profiles that the record named that are this one now.
    fn merged(&self, owners: Vec<ProfileId>, projection: &Projection) -> Vec<u64> {
        let policy = self.policy(projection);
        let Some(view) = policy.and_then(|policy| projection.view(Some(&policy))) else {
            return Vec::new();
        };
        let is_merged = |owner: &ProfileId| {
            *owner != self.profile && view.graph.current(*owner) == self.profile
        };
        owners.into_iter().filter(is_merged).map(ProfileId::as_u64).collect()
    }

    /// The profiles that the record's identities name before it is applied.
    fn owners(&self, projection: &Projection, played: &Played) -> Vec<ProfileId> {
        let Played::Records { batch, .. } = played else { return Vec::new() };
        let record = batch.get(0);
        let policy = self.policy(projection);
        let view = policy.as_deref().and_then(|policy| projection.view(Some(policy)));
        let (Some(view), false) = (view, record.kind() == RecordKind::Stub) else {
            return Vec::new();
        };
        let owner = |namespace: &str, id: &str| {
            let identity = projection.identities().find(namespace, id)?;
            view.graph.owner(identity)
        };
        let named = record.identities();
        let mut owners: Vec<ProfileId> =
            named.filter_map(|named| owner(named.namespace, &named.id)).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// The entry as it stands in the log. Of a boundary's the line is not told: it is about whoever
    /// moved the clock.
    fn entry(&self, played: &Played) -> Result<EntryView, EngineError> {
        let offset = self.key.origin.offset;
        let (kind, timestamp, appended, line) = match played {
            Played::Records { batch, appended, .. } => {
                let record = batch.get(0);
                let is_told =
                    self.key.origin.boundary.is_none() && record.kind() != RecordKind::Stub;
                let line = is_told.then(|| record.raw_line().to_owned());
                (record_kind(record.kind()), record.timestamp(), *appended, line)
            }
            Played::Control { control, appended, .. } => {
                (control_kind(control), None, *appended, None)
            }
        };
        let source = match played {
            Played::Records { .. } => source_of(self.history.store(), offset)?,
            Played::Control { .. } => None,
        };
        Ok(EntryView {
            offset,
            kind: kind.to_owned(),
            timestamp: timestamp.map(|at| at.to_string()),
            appended: appended.to_string(),
            line,
            source,
        })
    }
}

/// What came of a step.
struct Step {
    changes: ChangesView,
    after: Seen,
    /// The export, if the step gives it.
    export: Option<DerivedExport>,
}

/// What should be known of an export that was rendered behind another entry than that of its step.
fn notes(rendered_after: Option<u64>) -> Vec<String> {
    let note = rendered_after.map(|after| {
        format!(
            "the disk budget of the destination was used up in that step: the profile was only marked, \
             and the payload shows it as it was behind the entry at offset {after}"
        )
    });
    note.into_iter().collect()
}

/// Whether an audience may once have come to other profiles: of another merge policy, or of one that changed.
fn has_moved_audience(history: &[Definitions]) -> bool {
    let is_moved = |before: &Definitions, after: &Definitions| {
        let policy = |definitions: &Definitions, id: &str| {
            definitions.audience(id).map(|audience| audience.merge_policy.clone())
        };
        before.merge_policies != after.merge_policies
            || after.audiences.iter().any(|audience| {
                policy(before, &audience.id).is_some_and(|before| before != audience.merge_policy)
            })
    };
    history.windows(2).any(|two| is_moved(&two[0], &two[1]))
}

/// The entry at `offset`, alone.
fn peek(history: &History, offset: u64) -> Result<Option<Played>, EngineError> {
    Replay::new(history.store(), offset..offset + 1).next().transpose()
}

const fn record_kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Profile { .. } => "profile",
        RecordKind::Event { .. } => "event",
        RecordKind::Membership { .. } => "membership",
        RecordKind::Delete => "delete",
        RecordKind::Stub => "erased",
    }
}

const fn control_kind(control: &Control) -> &'static str {
    match control {
        Control::Definitions(_) => "definitions",
        Control::Tick {} => "tick",
        Control::Advance { .. } => "advance",
        Control::Read {} => "read",
        Control::ImportBegin { .. } => "import_begin",
        Control::ImportEnd { .. } => "import_end",
    }
}
