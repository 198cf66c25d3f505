//! What a change of the definitions does to profiles and lanes (`SPEC.md` §5, §6).
//!
//! ```text
//!  overdue boundaries fire        under the old definitions
//!        │
//!  plans are compiled             each policy in effect has its view, which has seen all history
//!        │
//!  audiences move                 where their merge policy changed: members, and lanes with them
//!        │
//!  audiences are evaluated        those added, changed or moved: once, one step a profile
//!        │
//!  lanes are opened               for what is newly mapped
//! ```
//!
//! What needs all history must be known before the first record: [`Projection::new`] is told what is
//! to come, and [`Projection::has_seen_all_for`] says whether it was told enough.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;

use super::super::catalog::{Catalog, Difference, Moved};
use super::super::plan::{AudienceRank, Compiler, ViewPlan};
use super::super::step::at_birth;
use super::super::view::View;
use super::lanes::serve;
use super::{DerivedExport, MarkOf, Outcome, Projection};
use crate::backfill::{Lane, Purpose};
use crate::clock::{Timestamp, millis};
use crate::definitions::{Definitions, MergePolicy};
use crate::identity::ProfileId;
use crate::pql::{PqlError, QuerySet};
use crate::profile::membership::AudienceNo;
use crate::profile::path::PathTable;

/// What a dataflow owes under one merge policy from a control entry on.
#[derive(Default)]
struct Owed {
    /// Audiences that are newly mapped: their members are owed an export.
    mapped: Vec<AudienceNo>,
    /// Audiences that came from another policy before their lane was taken to its end.
    moved: Vec<AudienceNo>,
    /// The profiles that stand for the members that were left in such a lane.
    left: BTreeSet<ProfileId>,
}

/// What is owed, by dataflow and merge policy.
type AllOwed = BTreeMap<(String, String), Owed>;

impl Projection {
    /// Whether `definitions` can take effect as if they had been known from the first record on.
    /// Otherwise a projection is needed that knows them from there on.
    pub fn has_seen_all_for(&self, definitions: &Definitions) -> Result<bool, PqlError> {
        let (mut queries, mut paths) = (QuerySet::new(), PathTable::default());
        compile_all(definitions, &mut queries, &mut paths)?;
        let has_view = |policy: &MergePolicy| {
            let view = self.views.iter().find(|view| view.policy.makes_same_profiles(policy));
            view.is_some_and(|view| !policy.default || view.dedupe.is_some())
        };
        Ok(self.known.queries.has_all_of(&queries)
            && definitions.merge_policies.iter().all(has_view)
            && millis(definitions.settings.dedupe_window_ms) <= self.remember_ms)
    }

    /// Puts `definitions` in effect: the control entry at `offset`, appended at wall time `appended`.
    /// `mark_of` tells how far a lane was taken before.
    pub fn apply_definitions(
        &mut self,
        definitions: &Definitions,
        offset: u64,
        appended: Timestamp,
        mark_of: MarkOf<'_>,
    ) -> Result<Outcome, PqlError> {
        self.expect_no_cut();
        let mut outcome = self.apply_control(offset, appended);
        let difference = self.known.catalog.apply(definitions, appended);
        if self.coming.front() == Some(definitions) {
            self.coming.pop_front();
        }
        self.compile()?;
        self.imports.keep(|audience| definitions.is_upload(audience));
        let owed = self.owed(&difference);
        self.move_members(&difference.moved);
        let flipped = self.reevaluate(&difference, offset);
        self.open_lanes(owed, &flipped, (offset, mark_of));
        self.remember();
        outcome.exports.extend(flipped);
        Ok(outcome)
    }

    /// Makes known what `definitions` will need, before they take effect.
    pub(super) fn foresee(&mut self, definitions: &Definitions) -> Result<(), PqlError> {
        compile_all(definitions, &mut self.known.queries, &mut self.known.paths)?;
        let default = definitions.default_merge_policy();
        for policy in default.into_iter().chain(&definitions.merge_policies) {
            let known = self.views.iter().position(|view| view.policy.makes_same_profiles(policy));
            let view = known.unwrap_or_else(|| {
                self.views.push(View::new(policy.clone()));
                self.views.len() - 1
            });
            if policy.default {
                self.views[view].dedupe.get_or_insert_default();
            }
        }
        Ok(())
    }

    /// Keeps what the definitions in effect, or others to come, need of the past; lets go of the rest.
    pub(super) fn remember(&mut self) {
        let current = self.known.catalog.definitions();
        let all = || self.coming.iter().chain([current]);
        let window_ms = all().map(|definitions| definitions.settings.dedupe_window_ms).max();
        self.remember_ms = millis(window_ms.expect("some definitions are in effect"));
        if current.merge_policies.is_empty() {
            return;
        }
        let is_needed =
            |view: &View, policy: &MergePolicy| policy.makes_same_profiles(&view.policy);
        let policies = || all().flat_map(|definitions| &definitions.merge_policies);
        self.views.retain(|view| policies().any(|policy| is_needed(view, policy)));
        for view in &mut self.views {
            if !policies().any(|policy| policy.default && is_needed(view, policy)) {
                view.dedupe = None;
            }
        }
    }

    pub(super) fn compile(&mut self) -> Result<(), PqlError> {
        let policies = self.known.catalog.definitions().merge_policies.clone();
        for view in &mut self.views {
            (view.number, view.plan) = (None, ViewPlan::idle(&view.policy));
        }
        for policy in policies {
            let index = self.place_of(&policy);
            let mut compiler = Compiler {
                catalog: &self.known.catalog,
                queries: &mut self.known.queries,
                paths: &mut self.known.paths,
            };
            let mut plan = ViewPlan::compile(&policy, &mut compiler)?;
            let graph = &self.views[index].graph;
            plan.at_birth = at_birth(&self.known.context().with(&plan, graph), self.now);
            let view = &mut self.views[index];
            view.number = self.known.catalog.policy_number(&policy.id);
            (view.plan, view.policy) = (plan, policy);
        }
        Ok(())
    }

    /// Place of the view of a policy that is in effect, or was until now.
    fn place_of(&self, policy: &MergePolicy) -> usize {
        let found = self.views.iter().position(|view| view.policy.makes_same_profiles(policy));
        found.expect("definitions take effect only where all history was seen for them")
    }

    /// Gives the members of audiences that moved to the profiles of their new policy.
    fn move_members(&mut self, moved: &[Moved]) {
        let mut ways: BTreeMap<(usize, usize), Vec<AudienceNo>> = BTreeMap::new();
        for Moved { audience, from, to } in moved {
            ways.entry((self.place_of(from), self.place_of(to))).or_default().push(*audience);
        }
        for ((from, to), audiences) in ways {
            let taken = self.views[from].take_memberships(&audiences);
            let [from, to] = self.views.get_disjoint_mut([from, to]).expect("two policies differ");
            to.give_memberships(&taken, &from.graph);
        }
    }

    /// Evaluates the audiences that were added or changed, for every profile, in one step each.
    fn reevaluate(&mut self, difference: &Difference, offset: u64) -> Vec<DerivedExport> {
        let now = self.now;
        let mut placed = Vec::new();
        for index in 0..self.views.len() {
            let (view, fold) = self.view_and_context(index);
            let (mut shards, plan) = view.split();
            let fold = fold.with(plan, shards.graph());
            let ranks: Vec<AudienceRank> = difference
                .added
                .iter()
                .chain(&difference.changed)
                .filter_map(|audience| plan.rank(*audience))
                .collect();
            let exports = shards.each(|shard| {
                if !difference.removed.is_empty() {
                    shard.remove_audiences(&difference.removed);
                }
                if ranks.is_empty() {
                    return Vec::new();
                }
                shard.reevaluate(&ranks, &difference.added, now, &fold)
            });
            placed.extend(self.with_policy(index, exports));
        }
        self.derived(placed, offset)
    }

    /// What is owed from here on beside the lanes that stay as they are. Lanes whose audiences are not
    /// mapped any more end; what is left in those whose audiences moved is owed under the new policy.
    fn owed(&mut self, difference: &Difference) -> AllOwed {
        let mut owed = AllOwed::new();
        for mut lane in std::mem::take(&mut self.lanes) {
            self.keep_mapped(&mut lane.purpose);
            for moved in &difference.moved {
                if let Some(at) = lane.purpose.audiences.iter().position(|a| *a == moved.audience) {
                    lane.purpose.audiences.remove(at);
                    let key = (lane.purpose.dataflow.clone(), moved.to.id.clone());
                    let owed = owed.entry(key).or_default();
                    owed.moved.push(moved.audience);
                    owed.left.extend(self.left_in(&lane, moved));
                }
            }
            if !lane.purpose.audiences.is_empty() {
                self.lanes.push(lane);
            }
        }
        for (dataflow, audiences) in &difference.mapped {
            for audience in audiences {
                let view = self.views.iter().find(|view| view.plan.rank(*audience).is_some());
                let policy = &view.expect("an audience is one of a policy in effect").policy;
                let key = (dataflow.clone(), policy.id.clone());
                owed.entry(key).or_default().mapped.push(*audience);
            }
        }
        owed
    }

    fn keep_mapped(&self, purpose: &mut Purpose) {
        let catalog = &self.known.catalog;
        let dataflow = catalog.definitions().dataflow(&purpose.dataflow);
        purpose.audiences.retain(|audience| {
            let id = catalog.id(*audience);
            dataflow.is_some_and(|dataflow| dataflow.audiences.iter().any(|mapped| mapped == id))
        });
    }

    /// The profiles of the new policy that have identities of those left in a lane of the old one.
    fn left_in(&self, lane: &Lane, moved: &Moved) -> Vec<ProfileId> {
        let (from, to) = (self.place_of(&moved.from), self.place_of(&moved.to));
        let (from, to) = (&self.views[from], &self.views[to]);
        let left = lane.clone().rest(&from.graph);
        let identities = left.iter().filter_map(|id| from.profile(*id)).flat_map(|p| &p.identities);
        identities.filter_map(|identity| to.graph.owner(*identity)).collect()
    }

    /// Opens the lanes. Whoever was exported by the entry itself has had what is owed.
    fn open_lanes(
        &mut self,
        owed: AllOwed,
        exported: &[DerivedExport],
        (offset, mark_of): (u64, MarkOf<'_>),
    ) {
        for ((dataflow, policy), owed) in owed {
            let view = self.view(Some(&policy)).expect("what is owed is owed under a policy");
            let is_owed = |id: &ProfileId| {
                let Some(profile) = view.profile(*id) else { return false };
                let is_in =
                    |audience: &AudienceNo| profile.memberships.get(*audience).is_realized();
                owed.mapped.iter().any(is_in)
                    || (owed.left.contains(id) && owed.moved.iter().any(is_in))
            };
            let candidates: Vec<ProfileId> = if owed.mapped.is_empty() {
                owed.left.iter().copied().collect()
            } else {
                view.ids()
            };
            let members = candidates.into_par_iter().filter(is_owed).collect();
            let audiences = [owed.mapped, owed.moved].concat();
            let mut lane = Lane::new(Purpose { dataflow, policy, audiences }, offset, members);
            serve(&mut lane, exported, &self.known.catalog);
            if let Some(through) = mark_of(&lane.id) {
                lane.skip_through(through);
            }
            if lane.remaining() > 0 {
                self.lanes.push(lane);
            }
        }
    }
}

/// Compiles every rule of `definitions` into these tables.
fn compile_all(
    definitions: &Definitions,
    queries: &mut QuerySet,
    paths: &mut PathTable,
) -> Result<(), PqlError> {
    let mut catalog = Catalog::default();
    catalog.apply(definitions, Timestamp::EPOCH);
    Compiler { catalog: &catalog, queries, paths }.compile_all()
}
