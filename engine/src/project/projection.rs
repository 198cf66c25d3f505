//! The projection as a whole: what the entries of the log, one after another, make of the profiles.

mod cut;
mod lanes;
mod look;
mod saved;
mod transition;

use std::collections::{BTreeMap, VecDeque};

use cut::Cutting;
pub use cut::{Share, Slice};
pub use lanes::Taken;
use lanes::serve;
pub use saved::{NotRestored, Section};

use super::catalog::Catalog;
use super::context::{Rendering, SharedContext};
use super::erase::{ErasedIdentity, Erasure};
use super::imports::Imports;
use super::lookup::Lookups;
use super::route::{BatchTime, Routed, RoutedStep, Router};
use super::shard::{BatchContext, EndedImport, PlacedExport};
use super::view::View;
use crate::backfill::Lane;
use crate::clock::{ClockKind, Timestamp, millis};
use crate::definitions::{Definitions, MergePolicy};
use crate::detect::Causes;
use crate::identity::ProfileId;
use crate::identity::table::IdentityTable;
use crate::pql::{PqlError, QuerySet};
use crate::profile::path::PathTable;
use crate::profile::state::CutNo;
use crate::record::RecordBatch;

pub use look::Look;

/// An export, ready to be numbered and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedExport {
    /// The dataflow's id.
    pub dataflow: String,
    /// The profile.
    pub profile: ProfileId,
    /// The merge policy's number: the log's policies in order of their first appearance.
    pub policy: u32,
    /// Why.
    pub causes: Causes,
    /// The entry of the log that caused it, or that moved the clock past its boundary.
    pub offset: u64,
    /// The window boundary that passed in its step; `None`: the entry's own step. There is at most one
    /// export for an offset, boundary, profile, policy and dataflow that was rendered in its step.
    pub boundary: Option<Timestamp>,
    /// The last entry derived when it was rendered, if not in its step.
    pub rendered_after: Option<u64>,
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
    /// The number of the merge policy.
    pub policy: u32,
    /// Why.
    pub causes: Causes,
}

/// Tells how far the backfill lane of that id was taken before.
pub type MarkOf<'a> = &'a dyn Fn(&str) -> Option<u64>;

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
    /// What those deletes named and erased: an export that was stored before, and says that it is about
    /// one of them, is not to be delivered, whatever its profile's number.
    pub erased_identities: Vec<ErasedIdentity>,
}

/// A number under which a profile that was erased had exports: its own, or that of a profile which it
/// had absorbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Offset of the delete record.
    pub offset: u64,
    /// The number of the merge policy.
    pub policy: u32,
    /// The number.
    pub profile: ProfileId,
}

/// Profiles, memberships, timers and lanes: all that is derived from the log.
pub struct Projection {
    kind: ClockKind,
    now: Timestamp,
    appended: Timestamp,
    known: Known,
    /// Of every policy that is or will be in effect.
    views: Vec<View>,
    lanes: Vec<Lane>,
    imports: Imports,
    /// Definitions that are known to take effect, in order.
    coming: VecDeque<Definitions>,
    /// How long events are remembered, in milliseconds.
    remember_ms: i64,
    /// Exports of records below this offset have no payload.
    rendered_from: u64,
    /// What was looked up of the records that come next, and the offset of the first.
    ahead: Option<(u64, Lookups)>,
    /// The cut that is being made.
    cutting: Option<Cutting>,
    last_cut: CutNo,
}

/// Records whose turn comes next: they are looked up while those before are folded.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<'a> {
    /// They themselves.
    pub batch: &'a RecordBatch,
    /// Offset of the first.
    pub first_offset: u64,
}

impl Projection {
    /// Nothing yet. `coming` are all definitions that the log or the configuration will bring into
    /// effect, in order: rules and merge policies see all history, so what they need is folded from
    /// the start.
    pub fn new(kind: ClockKind, coming: Vec<Definitions>) -> Result<Self, PqlError> {
        let mut projection = Self {
            kind,
            now: Timestamp::EPOCH,
            appended: Timestamp::EPOCH,
            known: Known::default(),
            views: Vec::new(),
            lanes: Vec::new(),
            imports: Imports::default(),
            coming: VecDeque::new(),
            remember_ms: 0,
            rendered_from: 0,
            ahead: None,
            cutting: None,
            last_cut: CutNo::default(),
        };
        for definitions in &coming {
            projection.foresee(definitions)?;
        }
        if projection.views.is_empty() {
            projection.views.push(View::new(MergePolicy::implicit()));
        }
        projection.views[0].dedupe.get_or_insert_default();
        projection.coming = coming.into();
        projection.remember();
        Ok(projection)
    }

    /// Leaves the payloads of exports empty that records below `offset` cause: they are stored, so
    /// that a replay has no need to render them again.
    pub fn omit_payloads_below(&mut self, offset: u64) {
        self.rendered_from = offset;
    }

    /// Applies records appended at wall time `appended`, the first at `first_offset`. It goes faster if
    /// those that come `next` are told, and decides nothing.
    pub fn apply_batch(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        appended: Timestamp,
        next: Option<Ahead<'_>>,
    ) -> Outcome {
        self.appended = appended;
        let time = match self.kind {
            ClockKind::Wall => BatchTime::Appended(appended.max(self.now)),
            ClockKind::Event => BatchTime::Highest(self.now),
        };
        let (routed, steps) = self.route(batch, first_offset, time);
        self.now = routed.end().unwrap_or(self.now);
        if first_offset + batch.len() as u64 <= self.rendered_from {
            self.known.rendering = Rendering::Omitted;
        }
        if !routed.erasures.is_empty() {
            self.expect_no_cut();
        }
        let placed = self.fold((batch, first_offset), (&routed, steps), next);
        let names = routed.erasures.iter().flat_map(|erasure| {
            let offset = first_offset + u64::from(erasure.record);
            erasure.names(offset, &self.known.identities)
        });
        let erased_identities = names.collect();
        self.known.rendering = Rendering::Full;
        // Only now is everything rendered that may still name them.
        for identity in routed.erasures.iter().flat_map(|erasure| &erasure.identities) {
            self.known.identities.blank(*identity);
        }
        Outcome {
            exports: self.derived(placed, first_offset),
            duplicates: routed.duplicates,
            erased: self.erased(&routed.erasures, first_offset),
            erased_identities,
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
            let fold = fold.with(plan, shards.graph());
            let exports = shards.each(|shard| shard.fire_until(now, &fold));
            placed.extend(self.with_policy(index, exports));
        }
        Outcome { exports: self.derived(placed, offset), ..Outcome::default() }
    }

    /// Begins an import of `audience`: the control entry at `offset`. One that is open is forgotten.
    pub fn begin_import(&mut self, audience: &str, offset: u64, appended: Timestamp) -> Outcome {
        self.expect_no_cut();
        let outcome = self.apply_control(offset, appended);
        if self.known.catalog.definitions().is_upload(audience) {
            self.imports.begin(audience, offset);
        }
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
        self.expect_no_cut();
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
            let fold = fold.with(plan, shards.graph());
            let exports = shards.each(|shard| shard.end_import(&import, now, &fold));
            let after = self.views[index].counts(number).realized;
            placed.extend(self.with_policy(index, exports));
            exited += before - after;
        }
        outcome.exports.extend(self.derived(placed, offset));
        outcome.exited = Some(exited);
        outcome
    }

    /// The next boundary of any profile; [`Timestamp::MAX`] if there is none.
    pub fn next_boundary(&mut self) -> Timestamp {
        self.views.iter_mut().map(View::next_boundary).min().unwrap_or(Timestamp::MAX)
    }

    /// What `now` means.
    pub fn clock_kind(&self) -> ClockKind {
        self.kind
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

    /// The view of a merge policy in effect; of the default one without a name.
    pub fn view(&self, policy: Option<&str>) -> Option<&View> {
        match policy {
            None => self.views.get(self.default_view()),
            Some(id) => {
                self.views.iter().find(|view| view.number.is_some() && view.policy.id == id)
            }
        }
    }

    /// One profile of the default policy, for a test that damages it.
    #[cfg(test)]
    pub(crate) fn profile_mut(
        &mut self,
        id: ProfileId,
    ) -> Option<&mut crate::profile::state::Profile> {
        let view = self.default_view();
        self.views[view].profile_mut(id)
    }

    /// The clock, for a test that damages it.
    #[cfg(test)]
    pub(crate) fn set_now(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Place of the default policy's view; before any definitions, of the one to come.
    fn default_view(&self) -> usize {
        let is_default = |view: &View| view.number.is_some() && view.policy.default;
        self.views.iter().position(is_default).unwrap_or(0)
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

    /// Folds records in every view, and meanwhile looks up what comes next.
    fn fold(
        &mut self,
        (batch, first_offset): (&RecordBatch, u64),
        (routed, steps): (&Routed, Vec<Vec<RoutedStep>>),
        next: Option<Ahead<'_>>,
    ) -> Vec<PolicyExport> {
        let (known, views) = (&self.known, &mut self.views);
        let mut fold = || {
            let mut placed = Vec::new();
            for (view, steps) in views.iter_mut().zip(&steps) {
                let policy = view.number;
                let (mut shards, plan) = view.split();
                let fold = known.context().with(plan, shards.graph());
                let context = BatchContext { fold, batch, routed, first_offset };
                let exports = View::fold(&mut shards, steps, &context);
                placed.extend(with_policy(policy, exports));
            }
            placed
        };
        let look = |next: Ahead<'_>| {
            (next.first_offset, Lookups::of(next.batch, &known.identities, &known.paths))
        };
        let (placed, ahead) = match next {
            None => (fold(), None),
            Some(next) => rayon::join(fold, || Some(look(next))),
        };
        self.ahead = ahead;
        placed
    }

    fn route(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        time: BatchTime,
    ) -> (Routed, Vec<Vec<RoutedStep>>) {
        let default = self.default_view();
        let ahead = self.ahead.take().filter(|(first, _)| *first == first_offset);
        let lookups = ahead.map_or_else(
            || Lookups::of(batch, &self.known.identities, &self.known.paths),
            |(_, lookups)| lookups,
        );
        self.keep_named(batch, &lookups);
        let mut router = Router {
            identities: &mut self.known.identities,
            paths: &mut self.known.paths,
            catalog: &self.known.catalog,
            views: self.views.iter_mut().map(View::routed).collect(),
            default,
            remember_ms: self.remember_ms,
        };
        router.route((batch, &lookups), first_offset, time)
    }

    /// An export of a profile as it is now, behind the entry at `offset`: of the one that absorbed it,
    /// if one did.
    ///
    /// `None` if there is no such profile any more, or the dataflow maps nothing of its policy.
    pub fn export_now(&self, asked: &Asked<'_>, offset: u64) -> Option<DerivedExport> {
        let definitions = self.known.catalog.definitions();
        let dataflow = definitions.dataflows.iter().position(|d| d.id == asked.dataflow)?;
        let view = self.views.iter().find(|view| view.number == Some(asked.policy))?;
        let profile = view.graph.current(asked.profile);
        let payload =
            view.render(profile, dataflow, &self.known.context().with(&view.plan, &view.graph))?;
        Some(DerivedExport {
            dataflow: asked.dataflow.to_owned(),
            profile,
            policy: asked.policy,
            causes: asked.causes,
            offset,
            boundary: None,
            rendered_after: Some(offset),
            payload,
        })
    }

    /// Orders exports, gives them their offsets, and takes their profiles out of the lanes.
    fn derived(&mut self, mut placed: Vec<PolicyExport>, first_offset: u64) -> Vec<DerivedExport> {
        placed.sort_by_key(|(policy, placed)| (placed.place, placed.export.dataflow, *policy));
        let dataflows = &self.known.catalog.definitions().dataflows;
        let derived: Vec<DerivedExport> = placed
            .into_iter()
            .map(|(policy, placed)| DerivedExport {
                dataflow: dataflows[placed.export.dataflow].id.clone(),
                profile: placed.place.profile,
                policy,
                causes: placed.export.causes,
                offset: first_offset + u64::from(placed.place.record),
                boundary: Some(placed.place.boundary).filter(|at| *at != Timestamp::MAX),
                rendered_after: None,
                payload: placed.export.payload,
            })
            .collect();
        for lane in &mut self.lanes {
            serve(lane, &derived, &self.known.catalog);
        }
        derived
    }

    /// Under a policy that is not in effect nobody has exports.
    fn erased(&self, erasures: &[Erasure], first_offset: u64) -> Vec<Erased> {
        let mut all = Vec::new();
        for erasure in erasures {
            let offset = first_offset + u64::from(erasure.record);
            for gone in &erasure.profiles {
                let Some(policy) = self.views[gone.view].number else { continue };
                let numbers = std::iter::once(&gone.profile).chain(&gone.absorbed);
                all.extend(numbers.map(|profile| Erased { offset, policy, profile: *profile }));
            }
        }
        all
    }

    /// The exports of one view with its policy's number.
    fn with_policy(
        &self,
        view: usize,
        exports: Vec<PlacedExport>,
    ) -> impl Iterator<Item = PolicyExport> + use<> {
        with_policy(self.views[view].number, exports)
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
    rendering: Rendering,
}

impl Known {
    fn context(&self) -> SharedContext<'_> {
        SharedContext {
            queries: &self.queries,
            paths: &self.paths,
            identities: &self.identities,
            catalog: &self.catalog,
            exited_retention_ms: millis(self.catalog.definitions().settings.exited_retention_ms),
            rendering: self.rendering,
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

/// An export with the number of its merge policy.
type PolicyExport = (u32, PlacedExport);

/// Exports with their policy's number; a policy not in effect has none.
fn with_policy(
    policy: Option<u32>,
    exports: Vec<PlacedExport>,
) -> impl Iterator<Item = PolicyExport> {
    exports.into_iter().filter_map(move |export| Some((policy?, export)))
}
