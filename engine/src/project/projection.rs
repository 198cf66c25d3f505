//! The projection as a whole: what the entries of the log, one after another, make of the profiles.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, Difference};
use super::context::SharedContext;
use super::erase::Erasure;
use super::imports::Imports;
use super::plan::{AudienceRank, Compiler, ViewPlan};
use super::route::{BatchTime, Routed, RoutedStep, Router};
use super::shard::{BatchContext, EndedImport, PlacedExport};
use super::step::at_birth;
use super::view::View;
use crate::backfill::Lane;
use crate::clock::{ClockKind, Timestamp, millis};
use crate::definitions::{Definitions, MergePolicy};
use crate::detect::Causes;
use crate::identity::ProfileId;
use crate::identity::dedupe::Dedupe;
use crate::identity::table::IdentityTable;
use crate::pql::{PqlError, QuerySet};
use crate::profile::path::PathTable;
use crate::record::RecordBatch;

/// An export, ready to be numbered and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedExport {
    /// The dataflow's id.
    pub dataflow: String,
    /// The profile.
    pub profile: ProfileId,
    /// Place of the merge policy among the views.
    pub policy: u32,
    /// Why.
    pub causes: Causes,
    /// The entry of the log that caused it, or that moved the clock past its boundary.
    pub offset: u64,
    /// The JSON text.
    pub payload: String,
}

/// Whom to export without a step, where to, and why.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The dataflow's id.
    pub dataflow: &'a str,
    /// The profile.
    pub profile: ProfileId,
    /// Place of the merge policy among the views.
    pub policy: u32,
    /// Why.
    pub causes: Causes,
}

/// What an entry, or a batch of them, led to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// In the order in which they are to be numbered.
    pub exports: Vec<DerivedExport>,
    /// Events that were seen before.
    pub duplicates: u64,
    /// How many members left at the end of an import; `None` if no import has ended.
    pub exited: Option<u64>,
    /// Profiles that are no more, in order of the deletes: what was exported for them before, in this
    /// outcome too, is not to be delivered.
    pub erased: Vec<Erased>,
}

/// A number under which a profile that was erased had exports: its own, or that of a profile which it
/// had absorbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Offset of the delete record.
    pub offset: u64,
    /// Place of the merge policy among the views.
    pub policy: u32,
    /// The number.
    pub profile: ProfileId,
}

/// Exports taken from the lanes, and how far each lane is taken then.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// In order.
    pub exports: Vec<DerivedExport>,
    /// Lane id and mark.
    pub marks: Vec<(String, u64)>,
}

/// Profiles, memberships, timers and lanes: all that is derived from the log.
pub struct Projection {
    kind: ClockKind,
    now: Timestamp,
    appended: Timestamp,
    known: Known,
    dedupe: Dedupe,
    /// The default policy's view first.
    views: Vec<View>,
    lanes: Vec<Lane>,
    imports: Imports,
}

impl Projection {
    /// Nothing yet. `policies` are all merge policies that the log or the configuration will bring
    /// into effect, the default one first: a policy sees all history, so its view is folded from the
    /// start.
    pub fn new(kind: ClockKind, policies: Vec<MergePolicy>) -> Self {
        Self {
            kind,
            now: Timestamp::EPOCH,
            appended: Timestamp::EPOCH,
            known: Known::default(),
            dedupe: Dedupe::default(),
            views: policies.into_iter().map(View::new).collect(),
            lanes: Vec::new(),
            imports: Imports::default(),
        }
    }

    /// Makes the event queries of `definitions` known before they take effect, so that their rules
    /// see all history when they do.
    pub fn foresee(&mut self, definitions: &Definitions) -> Result<(), PqlError> {
        let mut catalog = Catalog::default();
        catalog.apply(definitions, Timestamp::EPOCH);
        for view in &self.views {
            let mut compiler = Compiler {
                catalog: &catalog,
                queries: &mut self.known.queries,
                paths: &mut self.known.paths,
            };
            ViewPlan::compile(&view.policy, &mut compiler)?;
        }
        Ok(())
    }

    /// Applies records appended at wall time `appended`, the first at `first_offset`.
    pub fn apply_batch(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        appended: Timestamp,
    ) -> Outcome {
        self.appended = appended;
        let time = match self.kind {
            ClockKind::Wall => BatchTime::Appended(appended.max(self.now)),
            ClockKind::Event => BatchTime::Highest(self.now),
        };
        let (routed, steps) = self.route(batch, first_offset, time);
        self.now = routed.end().unwrap_or(self.now);
        let mut placed = Vec::new();
        for (index, steps) in steps.into_iter().enumerate() {
            let (view, fold) = self.view_and_context(index);
            let (mut shards, plan) = view.split();
            let context =
                BatchContext { fold: fold.with(plan), batch, routed: &routed, first_offset };
            placed.extend(with_view(index, View::fold(&mut shards, steps, &context)));
        }
        // Only now is everything rendered that may still name them.
        for identity in routed.erasures.iter().flat_map(|erasure| &erasure.identities) {
            self.known.identities.blank(*identity);
        }
        Outcome {
            exports: self.derived(placed, first_offset),
            duplicates: routed.duplicates,
            erased: erased(&routed.erasures, first_offset),
            exited: None,
        }
    }

    /// Moves the clock to `to` (never back) and fires every boundary passed.
    pub fn apply_time(&mut self, offset: u64, to: Timestamp) -> Outcome {
        self.now = self.now.max(to);
        let now = self.now;
        let mut placed = Vec::new();
        for index in 0..self.views.len() {
            let (view, fold) = self.view_and_context(index);
            let (mut shards, plan) = view.split();
            let fold = fold.with(plan);
            placed.extend(with_view(index, shards.each(|shard| shard.fire_until(now, &fold))));
        }
        Outcome { exports: self.derived(placed, offset), ..Outcome::default() }
    }

    /// Puts `definitions` in effect: the control entry at `offset`, appended at wall time `appended`.
    /// What is overdue fires first, under the old definitions. `mark_of` tells how far a lane was
    /// taken before.
    pub fn apply_definitions(
        &mut self,
        definitions: &Definitions,
        offset: u64,
        appended: Timestamp,
        mark_of: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Outcome, PqlError> {
        let mut outcome = self.apply_control(offset, appended);
        let difference = self.known.catalog.apply(definitions, appended);
        self.compile()?;
        outcome.exports.extend(self.reevaluate(&difference, offset));
        self.open_lanes(&difference, offset, mark_of);
        Ok(outcome)
    }

    /// Begins an import of `audience`: the control entry at `offset`. One that is open is forgotten.
    pub fn begin_import(&mut self, audience: &str, offset: u64, appended: Timestamp) -> Outcome {
        let outcome = self.apply_control(offset, appended);
        self.imports.begin(audience, offset);
        outcome
    }

    /// Ends the import of `audience` that began at `begin`, if it is the open one: the control entry
    /// at `offset`. What is overdue fires first; then who was not named since leaves.
    pub fn end_import(
        &mut self,
        (audience, begin): (&str, u64),
        offset: u64,
        appended: Timestamp,
    ) -> Outcome {
        let mut outcome = self.apply_control(offset, appended);
        let number = self.known.catalog.number(audience);
        let (true, Some(number)) = (self.imports.end(audience, begin), number) else {
            return outcome;
        };
        let now = self.now;
        let (mut placed, mut exited) = (Vec::new(), 0);
        for index in 0..self.views.len() {
            let (view, fold) = self.view_and_context(index);
            let Some(rank) = view.plan.rank(number) else { continue };
            let import = EndedImport { audience: number, rank, begin, end: offset };
            let before = view.counts(number).realized;
            let (mut shards, plan) = view.split();
            let fold = fold.with(plan);
            let exports = shards.each(|shard| shard.end_import(&import, now, &fold));
            placed.extend(with_view(index, exports));
            exited += before - view.counts(number).realized;
        }
        outcome.exports.extend(self.derived(placed, offset));
        outcome.exited = Some(exited);
        outcome
    }

    /// Takes at most `limit` exports from the lanes, in the order in which they were opened, of those
    /// whose dataflow `may_take`.
    pub fn take_backfill(
        &mut self,
        limit: usize,
        offset: u64,
        may_take: &dyn Fn(&str) -> bool,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in lanes.iter_mut().filter(|lane| may_take(&lane.dataflow)) {
            let before = lane.remaining();
            while taken.exports.len() < limit {
                let Some(profile) = lane.take(&self.views[lane.view].graph) else { break };
                if let Some(export) = self.backfilled(lane, profile, offset) {
                    taken.exports.push(export);
                }
            }
            if lane.remaining() != before {
                taken.marks.extend(lane.mark().map(|mark| (lane.id.clone(), mark)));
            }
        }
        lanes.retain(|lane| lane.remaining() > 0);
        self.lanes = lanes;
        taken
    }

    /// Whether a lane is open.
    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// The dataflows with an open lane.
    pub fn lane_dataflows(&self) -> BTreeSet<String> {
        self.lanes.iter().map(|lane| lane.dataflow.clone()).collect()
    }

    /// The next boundary of any profile; [`Timestamp::MAX`] if there is none.
    pub fn next_boundary(&mut self) -> Timestamp {
        self.views.iter_mut().map(View::next_boundary).min().unwrap_or(Timestamp::MAX)
    }

    /// The clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The wall time of the newest entry applied.
    pub fn appended(&self) -> Timestamp {
        self.appended
    }

    /// The imports that are not complete.
    pub fn imports(&self) -> &Imports {
        &self.imports
    }

    /// The definitions in effect, and since when.
    pub fn catalog(&self) -> &Catalog {
        &self.known.catalog
    }

    /// All identities.
    pub fn identities(&self) -> &IdentityTable {
        &self.known.identities
    }

    /// All attribute paths.
    pub fn paths(&self) -> &PathTable {
        &self.known.paths
    }

    /// The view of a merge policy; of the default one without a name.
    pub fn view(&self, policy: Option<&str>) -> Option<&View> {
        match policy {
            None => self.views.first(),
            Some(id) => self.views.iter().find(|view| view.policy.id == id),
        }
    }

    /// All views, the default policy's first.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Moves the clock to that of a control entry, and fires every boundary passed.
    fn apply_control(&mut self, offset: u64, appended: Timestamp) -> Outcome {
        self.appended = appended;
        let to = match self.kind {
            ClockKind::Wall => appended,
            ClockKind::Event => self.now,
        };
        self.apply_time(offset, to)
    }

    fn route(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        time: BatchTime,
    ) -> (Routed, Vec<Vec<RoutedStep>>) {
        let policies = &self.known.catalog.definitions().merge_policies;
        let is_in_effect = |view: &View| policies.iter().any(|policy| policy.id == view.policy.id);
        let in_effect = self.views.iter().map(is_in_effect).collect();
        let mut router = Router {
            identities: &mut self.known.identities,
            paths: &mut self.known.paths,
            dedupe: &mut self.dedupe,
            catalog: &self.known.catalog,
            graphs: self.views.iter_mut().map(|view| &mut view.graph).collect(),
            in_effect,
        };
        router.route(batch, first_offset, time)
    }

    fn compile(&mut self) -> Result<(), PqlError> {
        for index in 0..self.views.len() {
            let mut compiler = Compiler {
                catalog: &self.known.catalog,
                queries: &mut self.known.queries,
                paths: &mut self.known.paths,
            };
            let mut plan = ViewPlan::compile(&self.views[index].policy, &mut compiler)?;
            plan.at_birth = at_birth(&self.known.context().with(&plan), self.now);
            self.views[index].plan = plan;
        }
        Ok(())
    }

    /// Evaluates the audiences that were added or changed, for every profile, in one step each.
    fn reevaluate(&mut self, difference: &Difference, offset: u64) -> Vec<DerivedExport> {
        let now = self.now;
        let mut placed = Vec::new();
        for index in 0..self.views.len() {
            let (view, fold) = self.view_and_context(index);
            let (mut shards, plan) = view.split();
            let fold = fold.with(plan);
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
            placed.extend(with_view(index, exports));
        }
        self.derived(placed, offset)
    }

    fn open_lanes(
        &mut self,
        difference: &Difference,
        offset: u64,
        mark_of: &dyn Fn(&str) -> Option<u64>,
    ) {
        let definitions = self.known.catalog.definitions();
        self.lanes.retain(|lane| definitions.dataflows.iter().any(|d| d.id == lane.dataflow));
        for (dataflow, audiences) in &difference.mapped {
            for (index, view) in self.views.iter().enumerate() {
                if !audiences.iter().any(|audience| view.plan.rank(*audience).is_some()) {
                    continue;
                }
                let is_member = |id: &ProfileId| {
                    view.profile(*id).is_some_and(|profile| {
                        audiences.iter().any(|a| profile.memberships.get(*a).is_realized())
                    })
                };
                let members = view.ids().into_iter().filter(is_member).collect();
                let mut lane = Lane::new(dataflow, &view.policy.id, offset, members, index);
                if let Some(through) = mark_of(&lane.id) {
                    lane.skip_through(through);
                }
                if lane.remaining() > 0 {
                    self.lanes.push(lane);
                }
            }
        }
    }

    /// An export of a profile as it is now, at `offset`: of the one that absorbed it, if one did.
    ///
    /// `None` if there is no such profile any more, or the dataflow maps nothing of its policy.
    pub fn export_now(&self, asked: &Asked<'_>, offset: u64) -> Option<DerivedExport> {
        let definitions = self.known.catalog.definitions();
        let dataflow = definitions.dataflows.iter().position(|d| d.id == asked.dataflow)?;
        let view = self.views.get(asked.policy as usize)?;
        let profile = view.graph.current(asked.profile);
        let payload = view.render(profile, dataflow, &self.known.context().with(&view.plan))?;
        Some(DerivedExport {
            dataflow: asked.dataflow.to_owned(),
            profile,
            policy: asked.policy,
            causes: asked.causes,
            offset,
            payload,
        })
    }

    fn backfilled(&self, lane: &Lane, profile: ProfileId, offset: u64) -> Option<DerivedExport> {
        let causes = Causes::BACKFILL;
        let (dataflow, policy) = (lane.dataflow.as_str(), policy_number(lane.view));
        self.export_now(&Asked { dataflow, profile, policy, causes }, offset)
    }

    /// Orders exports, gives them their offsets, and takes their profiles out of the lanes.
    fn derived(&mut self, mut placed: Vec<ViewExport>, first_offset: u64) -> Vec<DerivedExport> {
        placed.sort_by_key(|(view, placed)| (placed.place, placed.export.dataflow, *view));
        let dataflows = &self.known.catalog.definitions().dataflows;
        let derived: Vec<DerivedExport> = placed
            .into_iter()
            .map(|(view, placed)| DerivedExport {
                dataflow: dataflows[placed.export.dataflow].id.clone(),
                profile: placed.place.profile,
                policy: policy_number(view),
                causes: placed.export.causes,
                offset: first_offset + u64::from(placed.place.record),
                payload: placed.export.payload,
            })
            .collect();
        for lane in &mut self.lanes {
            let view = policy_number(lane.view);
            for export in &derived {
                if export.policy == view && export.dataflow == lane.dataflow {
                    lane.serve(export.profile);
                }
            }
        }
        derived
    }

    fn view_and_context(&mut self, index: usize) -> (&mut View, SharedContext<'_>) {
        (&mut self.views[index], self.known.context())
    }
}

/// What all views know in common.
#[derive(Default)]
struct Known {
    catalog: Catalog,
    queries: QuerySet,
    paths: PathTable,
    identities: IdentityTable,
}

impl Known {
    fn context(&self) -> SharedContext<'_> {
        SharedContext {
            queries: &self.queries,
            paths: &self.paths,
            identities: &self.identities,
            catalog: &self.catalog,
            exited_retention_ms: millis(self.catalog.definitions().settings.exited_retention_ms),
        }
    }
}

/// Counts that the summary needs, by audience id.
pub fn audience_counts(projection: &Projection) -> BTreeMap<String, crate::views::AudienceCounts> {
    let catalog = projection.catalog();
    let mut counts = BTreeMap::new();
    for audience in &catalog.definitions().audiences {
        let number = catalog.number(&audience.id).expect("defined audiences have numbers");
        if let Some(view) = projection.view(Some(&audience.merge_policy)) {
            counts.insert(audience.id.clone(), view.counts(number));
        }
    }
    counts
}

fn erased(erasures: &[Erasure], first_offset: u64) -> Vec<Erased> {
    let mut all = Vec::new();
    for erasure in erasures {
        let offset = first_offset + u64::from(erasure.record);
        for gone in &erasure.profiles {
            let numbers = std::iter::once(&gone.profile).chain(&gone.absorbed);
            let policy = policy_number(gone.view);
            all.extend(numbers.map(|profile| Erased { offset, policy, profile: *profile }));
        }
    }
    all
}

type ViewExport = (usize, PlacedExport);

fn with_view(view: usize, exports: Vec<PlacedExport>) -> impl Iterator<Item = ViewExport> {
    exports.into_iter().map(move |export| (view, export))
}

fn policy_number(view: usize) -> u32 {
    u32::try_from(view).expect("fewer than 2^32 merge policies")
}
