//! A share of the profiles, folded by one task at a time.
//!
//! A shard owns its profiles and their timers. It is given the steps of a batch that concern it, in
//! offset order, and fires each boundary that the clock passed before the record that moved it, at the
//! boundary's own instant (`SPEC.md` §4). Shards do not see each other: what order their exports have
//! among each other is settled afterwards, by [`ExportPlace`].

pub mod cut;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use cut::ShardCut;

use super::context::FoldContext;
use super::plan::{AudienceRank, Qualification, ViewPlan};
use super::route::{Leaf, Routed, RoutedStep};
use super::step::{MembershipCounts, Said, Step, StepExport, subject_of};
use crate::clock::Timestamp;
use crate::identity::ProfileId;
use crate::identity::table::IdentityId;
use crate::pql::{Event, QueryId};
use crate::profile::attributes::{Write, WriteKey};
use crate::profile::membership::{AudienceNo, Membership, Memberships, Status};
use crate::profile::state::Profile;
use crate::record::{MembershipStatus, RecordBatch, RecordKind, RecordRef};

/// What orders the exports of one batch before they are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExportPlace {
    /// The record that caused it, or that moved the clock past its boundary.
    pub record: u32,
    /// The boundary; [`Timestamp::MAX`] for the record itself, which comes after them.
    pub boundary: Timestamp,
    /// The profile.
    pub profile: ProfileId,
}

/// An export with its place.
#[derive(Clone, Debug)]
pub struct PlacedExport {
    /// Where it comes.
    pub place: ExportPlace,
    /// What it is.
    pub export: StepExport,
}

/// An import whose list is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedImport {
    /// The upload audience.
    pub audience: AudienceNo,
    /// Its rank in the view.
    pub rank: AudienceRank,
    /// The entry with which it began; its members stand after it.
    pub begin: u64,
    /// The entry that ends it.
    pub end: u64,
}

/// Everything a shard reads while it folds a batch.
#[derive(Clone, Copy)]
pub struct BatchContext<'a> {
    /// Definitions, queries, paths, identities.
    pub fold: FoldContext<'a>,
    /// The records.
    pub batch: &'a RecordBatch,
    /// What the routing pass found out about each of them.
    pub routed: &'a Routed,
    /// Offset of the first record.
    pub first_offset: u64,
}

/// The profiles of one shard.
#[derive(Debug, Default)]
pub struct Shard {
    profiles: HashMap<ProfileId, Profile, FixedState>,
    timers: Timers,
    counts: MembershipCounts,
    step: Step,
    candidates: Vec<QueryId>,
    /// Its part of the cut that is being made.
    cut: Option<ShardCut>,
}

/// One timer a profile, at or before its next change; entries that are not the profile's `armed`
/// instant any more are left-overs.
#[derive(Debug, Default)]
struct Timers(BinaryHeap<Reverse<(Timestamp, ProfileId)>>);

impl Shard {
    /// Applies this shard's steps of a batch, and fires the boundaries that the batch passes.
    pub fn fold<'a>(
        &mut self,
        steps: impl Iterator<Item = &'a RoutedStep>,
        context: &BatchContext<'_>,
    ) -> Vec<PlacedExport> {
        let mut exports = Vec::new();
        for step in steps {
            let now = context.routed.now(step.record);
            self.fire(now, context, &mut exports);
            if context.batch.get(step.record as usize).kind() == RecordKind::Delete {
                // Whatever it was in, it is counted there no more, and nothing is exported.
                drop(self.take(step.profile));
            } else {
                self.apply(step, now, context, &mut exports);
            }
        }
        if let Some(end) = context.routed.end() {
            self.fire(end, context, &mut exports);
        }
        exports
    }

    /// Fires what is due up to `now` when no record moved the clock: a tick, a control entry.
    pub fn fire_until(&mut self, now: Timestamp, fold: &FoldContext<'_>) -> Vec<PlacedExport> {
        let mut exports = Vec::new();
        while let Some((boundary, profile)) = self.pop_due(now) {
            self.pass_boundary(boundary, profile, 0, fold, &mut exports);
        }
        exports
    }

    /// Evaluates `ranks` for every profile at `now`: definitions changed. `silent` audiences flip
    /// without causing an export. Exports come as steps of a record in place 0.
    pub fn reevaluate(
        &mut self,
        ranks: &[AudienceRank],
        silent: &[AudienceNo],
        now: Timestamp,
        fold: &FoldContext<'_>,
    ) -> Vec<PlacedExport> {
        let mut exports = Vec::new();
        for id in self.ids() {
            let profile = self.profiles.get_mut(&id).expect("listed a moment ago");
            self.step.clear();
            self.step.agenda.extend(ranks);
            self.step.evaluate(profile, &mut self.counts, fold, now);
            self.step.flipped.retain(|audience| !silent.contains(audience));
            let place = ExportPlace { record: 0, boundary: Timestamp::MAX, profile: id };
            let emit = |export| exports.push(PlacedExport { place, export });
            self.step.exports(profile, fold, emit);
            self.timers.arm(id, profile);
        }
        exports
    }

    /// Lets the members of an upload audience leave at `now` whom no record since `import.begin` has
    /// named: one step each, as steps of a record in place 0.
    pub fn end_import(
        &mut self,
        import: &EndedImport,
        now: Timestamp,
        fold: &FoldContext<'_>,
    ) -> Vec<PlacedExport> {
        let mut exports = Vec::new();
        for id in self.ids() {
            let profile = self.profiles.get_mut(&id).expect("listed a moment ago");
            let membership = profile.memberships.get(import.audience);
            if !membership.is_realized() || membership.refreshed_by > import.begin {
                continue;
            }
            let (audience, offset) = (import.audience, import.end);
            self.step.clear();
            self.step.upload = Some(Said { audience, status: Status::Exited, offset });
            self.step.agenda.push(import.rank);
            self.step.evaluate(profile, &mut self.counts, fold, now);
            let place = ExportPlace { record: 0, boundary: Timestamp::MAX, profile: id };
            let emit = |export| exports.push(PlacedExport { place, export });
            self.step.exports(profile, fold, emit);
            self.timers.arm(id, profile);
        }
        exports
    }

    /// Forgets the memberships of audiences that are not defined any more.
    pub fn remove_audiences(&mut self, removed: &[AudienceNo]) {
        for id in self.ids() {
            let profile = self.profiles.get_mut(&id).expect("listed a moment ago");
            for audience in removed {
                self.counts.remove(&profile.memberships.get(*audience));
                profile.memberships.set(Membership::absent(*audience));
            }
        }
    }

    /// Takes the memberships in `audiences` from every profile that has any.
    pub fn take_memberships(&mut self, audiences: &[AudienceNo]) -> Vec<(ProfileId, Memberships)> {
        let mut all = Vec::new();
        for (id, profile) in &mut self.profiles {
            let mut taken = Memberships::default();
            for audience in audiences {
                let membership = profile.memberships.get(*audience);
                self.counts.remove(&membership);
                taken.set(membership);
                profile.memberships.set(Membership::absent(*audience));
            }
            if taken != Memberships::default() {
                all.push((*id, taken));
            }
        }
        all
    }

    /// Gives every profile what `of` has for its identities, united.
    pub fn give_memberships<'a>(&mut self, of: impl Fn(IdentityId) -> Option<&'a Memberships>) {
        for profile in self.profiles.values_mut() {
            let mut given = Memberships::default();
            for identity in &profile.identities {
                given.merge(of(*identity).unwrap_or(&Memberships::default()));
            }
            given.iter().for_each(|membership| self.counts.add(membership));
            profile.memberships.merge(&given);
        }
    }

    /// Takes a profile out: to fold it with another shard's, or to erase it.
    pub fn take(&mut self, id: ProfileId) -> Option<Profile> {
        let mut profile = self.profiles.remove(&id)?;
        profile.armed = None;
        profile.memberships.iter().for_each(|membership| self.counts.remove(membership));
        Some(profile)
    }

    /// Puts a profile in.
    pub fn put(&mut self, id: ProfileId, mut profile: Profile) {
        profile.memberships.iter().for_each(|membership| self.counts.add(membership));
        self.timers.arm(id, &mut profile);
        self.profiles.insert(id, profile);
    }

    /// Puts many profiles in.
    pub fn put_all(&mut self, profiles: Vec<(ProfileId, Profile)>) {
        self.profiles.reserve(profiles.len());
        for (id, profile) in profiles {
            self.put(id, profile);
        }
    }

    /// One profile.
    pub fn get(&self, id: ProfileId) -> Option<&Profile> {
        self.profiles.get(&id)
    }

    /// One profile, for a test that damages it.
    #[cfg(test)]
    pub(crate) fn get_mut(&mut self, id: ProfileId) -> Option<&mut Profile> {
        self.profiles.get_mut(&id)
    }

    /// All profiles, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (ProfileId, &Profile)> {
        self.profiles.iter().map(|(id, profile)| (*id, profile))
    }

    /// All profiles' ids, ascending.
    pub fn ids(&self) -> Vec<ProfileId> {
        let mut ids: Vec<_> = self.profiles.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// How many profiles are in each audience.
    pub fn counts(&self) -> &MembershipCounts {
        &self.counts
    }

    /// The next boundary; [`Timestamp::MAX`] if there is none.
    pub fn next_boundary(&mut self) -> Timestamp {
        self.settle()
    }

    /// Whether a boundary may have passed at `now`; certain only where the answer is no.
    pub fn may_be_due(&self, now: Timestamp) -> bool {
        self.timers.0.peek().is_some_and(|Reverse((at, _))| *at <= now)
    }

    /// Renders one profile for one dataflow of the plan, as it is now.
    pub fn render(&self, id: ProfileId, dataflow: usize, fold: &FoldContext<'_>) -> Option<String> {
        let planned = fold.plan.dataflows.iter().find(|planned| planned.index == dataflow)?;
        let profile = self.profiles.get(&id)?;
        Some(planned.payload.render(subject_of(profile), fold.shared.identities, fold.shared.paths))
    }

    fn fire(
        &mut self,
        now: Timestamp,
        context: &BatchContext<'_>,
        exports: &mut Vec<PlacedExport>,
    ) {
        while let Some((boundary, profile)) = self.pop_due(now) {
            let record = context.routed.mover(boundary);
            self.pass_boundary(boundary, profile, record, &context.fold, exports);
        }
    }

    /// The earliest profile whose next change is due at `now`.
    fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, ProfileId)> {
        // The timers themselves say most of the time that nothing is due, without a look at profiles.
        while self.may_be_due(now) && self.settle() <= now {
            let Some(Reverse((at, id))) = self.timers.0.pop() else { break };
            if let Some(profile) = self.profiles.get_mut(&id) {
                profile.armed = None;
                return Some((at, id));
            }
        }
        None
    }

    /// Drops left-overs and moves early timers, until the first timer is a profile's next change:
    /// that instant.
    fn settle(&mut self) -> Timestamp {
        while let Some(Reverse((at, id))) = self.timers.0.peek().copied() {
            let profile = self.profiles.get_mut(&id).filter(|profile| profile.armed == Some(at));
            if let Some(profile) = profile {
                if profile.memberships.next_change() == at {
                    return at;
                }
                profile.armed = None;
                self.timers.0.pop();
                self.timers.arm(id, profile);
            } else {
                self.timers.0.pop();
            }
        }
        Timestamp::MAX
    }

    fn pass_boundary(
        &mut self,
        boundary: Timestamp,
        id: ProfileId,
        record: u32,
        fold: &FoldContext<'_>,
        exports: &mut Vec<PlacedExport>,
    ) {
        self.keep(id, fold.graph);
        let profile = self.profiles.get_mut(&id).expect("a current timer has its profile");
        self.step.clear();
        self.step.note_due(profile, fold.plan, boundary);
        self.step.evaluate(profile, &mut self.counts, fold, boundary);
        profile.history.trim(fold.shared.queries, boundary);
        let place = ExportPlace { record, boundary, profile: id };
        self.step.exports(profile, fold, |export| exports.push(PlacedExport { place, export }));
        self.timers.arm(id, profile);
    }

    fn apply(
        &mut self,
        routed: &RoutedStep,
        now: Timestamp,
        context: &BatchContext<'_>,
        exports: &mut Vec<PlacedExport>,
    ) {
        self.step.clear();
        if !routed.absorbed.is_empty() {
            self.absorb(routed, &context.fold);
        }
        let fold = &context.fold;
        let record = context.batch.get(routed.record as usize);
        debug_assert!(self.is_kept(routed.profile), "who a batch names is kept before");
        let profile = self.profiles.entry(routed.profile).or_default();
        if routed.is_new {
            self.step.agenda.extend(&fold.plan.at_birth);
        }
        if !routed.joined.is_empty() || !routed.dropped.is_empty() {
            profile.join(&routed.joined);
            profile.leave(&routed.dropped);
            self.step.agenda.extend(&fold.plan.on_identity);
            self.step.identities_changed |= !routed.is_new;
        }
        let at = Moment { offset: context.first_offset + u64::from(routed.record), now };
        match record.kind() {
            RecordKind::Profile { .. } => {
                let leaves = context.routed.leaves(routed.record);
                write_attributes(&mut self.step, profile, record, leaves, at, fold);
            }
            RecordKind::Event { .. } => {
                observe(&mut self.step, &mut self.candidates, profile, record, at, fold);
            }
            RecordKind::Membership { .. } => {
                let audience = context.routed.audience(routed.record);
                note_upload(&mut self.step, (record, audience), at.offset, fold.plan);
            }
            RecordKind::Delete => unreachable!("a delete is folded by taking the profile out"),
            RecordKind::Stub => unreachable!("a stub belongs to no profile, so it has no step"),
        }
        self.step.evaluate(profile, &mut self.counts, fold, now);
        let place = ExportPlace {
            record: routed.record,
            boundary: Timestamp::MAX,
            profile: routed.profile,
        };
        self.step.exports(profile, fold, |export| exports.push(PlacedExport { place, export }));
        self.timers.arm(routed.profile, profile);
    }

    /// Unites the profiles that the record links; all audiences are looked at in the same step.
    fn absorb(&mut self, routed: &RoutedStep, fold: &FoldContext<'_>) {
        let mut survivor = self.take(routed.profile).unwrap_or_default();
        for id in &routed.absorbed {
            if let Some(absorbed) = self.take(*id) {
                survivor.join(&absorbed.identities);
                survivor.attributes.merge(absorbed.attributes, fold.shared.paths);
                survivor.history.merge(absorbed.history, fold.shared.queries);
                survivor.memberships.merge(&absorbed.memberships);
            }
        }
        self.put(routed.profile, survivor);
        self.step.identities_changed = true;
        let all = AudienceRank::try_from(fold.plan.audiences.len()).expect("fewer than 2^32");
        self.step.agenda.extend(0..all);
    }
}

impl Timers {
    /// Sets the timer for the profile's next change by the clock. A timer that is early already is
    /// left: it is moved when it comes up, so that each profile has one however often it changes.
    fn arm(&mut self, id: ProfileId, profile: &mut Profile) {
        let next = profile.memberships.next_change();
        if next != Timestamp::MAX && profile.armed.is_none_or(|armed| next < armed) {
            profile.armed = Some(next);
            self.0.push(Reverse((next, id)));
        }
    }
}

/// Where and when a record is applied.
#[derive(Clone, Copy)]
struct Moment {
    offset: u64,
    now: Timestamp,
}

fn write_attributes(
    step: &mut Step,
    profile: &mut Profile,
    record: RecordRef<'_>,
    leaves: &[Leaf],
    at: Moment,
    fold: &FoldContext<'_>,
) {
    let Some(rank) = fold.plan.dataset_rank(&record.dataset()) else { return };
    let timestamp = record.timestamp().unwrap_or(at.now).min(at.now);
    let key = WriteKey { timestamp, offset: at.offset };
    for leaf in leaves {
        let value = record.value(leaf.node);
        let value = (!value.is_null()).then(|| value.raw());
        let write = Write { path: leaf.path, rank, key, value };
        profile.attributes.write(write, fold.shared.paths, &mut step.touched);
    }
    for index in 0..step.touched.len() {
        fold.plan.affected_by_path(step.touched[index].path, fold.shared.paths, &mut step.agenda);
    }
}

fn observe(
    step: &mut Step,
    candidates: &mut Vec<QueryId>,
    profile: &mut Profile,
    record: RecordRef<'_>,
    at: Moment,
    fold: &FoldContext<'_>,
) {
    let body = record.event_body().expect("an event has a body");
    let timestamp = record.timestamp().expect("an event has a time").min(at.now);
    let event_type = record.event_type();
    let event = Event { timestamp, offset: at.offset, body, event_type };
    candidates.clear();
    fold.shared.queries.candidates(event_type, body, candidates);
    for id in &*candidates {
        if profile.history.observe(*id, fold.shared.queries, (&event, at.now)) {
            fold.plan.affected_by_query(*id, &mut step.agenda);
        }
    }
}

fn note_upload(
    step: &mut Step,
    (record, audience): (RecordRef<'_>, Option<AudienceNo>),
    offset: u64,
    plan: &ViewPlan,
) {
    let (Some((_, status)), Some(audience)) = (record.membership(), audience) else { return };
    let Some(rank) = plan.rank(audience) else { return };
    if !matches!(plan.audiences[rank as usize].qualification, Qualification::Upload { .. }) {
        return;
    }
    let status = match status {
        MembershipStatus::Realized => Status::Realized,
        MembershipStatus::Exited => Status::Exited,
    };
    step.upload = Some(Said { audience, status, offset });
    step.agenda.push(rank);
}
