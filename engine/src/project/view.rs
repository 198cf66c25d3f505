//! The profiles of one merge policy.
//!
//! A policy sees all history, so a view is folded from the first record on, long before its policy
//! takes effect: until then it has identities, attributes and events, and nobody is in any audience.
//! A policy that changes is another view, to which its audiences move with their members.
//!
//! Profiles live in shards, each at home in one. Where a batch links profiles of several shards,
//! all of them are moved to the home of the one that remains before the batch is folded, so that one
//! task sees all steps of a profile that is to be, in order, and no task ever waits for another.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rayon::prelude::*;

use super::context::FoldContext;
use super::plan::ViewPlan;
use super::route::{RoutedStep, RoutedView};
use super::shard::{BatchContext, PlacedExport, Shard};
use crate::clock::Timestamp;
use crate::definitions::MergePolicy;
use crate::identity::ProfileId;
use crate::identity::dedupe::Dedupe;
use crate::identity::graph::Graph;
use crate::identity::table::IdentityId;
use crate::profile::membership::{AudienceNo, Memberships};
use crate::profile::state::Profile;
use crate::views::AudienceCounts;

/// Shards of a view: a power of two, some for each core of the machines this is made for, so that a
/// few busy profiles in one shard do not keep the others waiting.
pub const SHARDS: usize = 64;

const _: () = assert!(SHARDS.is_power_of_two(), "the home of a profile is a mask of its hash");

/// All profiles under one merge policy.
#[derive(Debug)]
pub struct View {
    /// The policy.
    pub policy: MergePolicy,
    /// The policy's number while it is in effect.
    pub number: Option<u32>,
    /// Which identities form which profile.
    pub graph: Graph,
    /// Events seen before, where the policy is the default one now or will be.
    pub dedupe: Option<Dedupe>,
    /// The definitions in effect, as far as they concern this policy.
    pub plan: ViewPlan,
    shards: Vec<Shard>,
}

/// Memberships on their way from the profiles of one view to those of another.
#[derive(Debug)]
pub struct Taken(HashMap<ProfileId, Memberships, FixedState>);

impl View {
    /// No profiles yet, no definitions.
    pub fn new(policy: MergePolicy) -> Self {
        Self {
            graph: Graph::new(policy.identity_graph),
            plan: ViewPlan::idle(&policy),
            policy,
            number: None,
            dedupe: None,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        }
    }

    /// Folds one batch; the exports come in no particular order.
    pub fn fold(
        shards: &mut ShardsAndGraph<'_>,
        steps: &[RoutedStep],
        context: &BatchContext<'_>,
    ) -> Vec<PlacedExport> {
        // By place in `steps`: a step is large, and only one in many is more than a record and a profile.
        let mut by_shard: Vec<Vec<u32>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for (place, step) in (0..).zip(steps) {
            let home = home(shards.graph.current(step.profile));
            for absorbed in &step.absorbed {
                shards.move_to(*absorbed, home);
            }
            by_shard[home].push(place);
        }
        let end = context.routed.end().unwrap_or(Timestamp::MIN);
        shards
            .shards
            .par_iter_mut()
            .zip(by_shard)
            .filter_map(|(shard, places)| {
                let is_idle = places.is_empty() && !shard.may_be_due(end);
                let own = places.iter().map(|place| &steps[*place as usize]);
                (!is_idle).then(|| shard.fold(own, context))
            })
            .flatten_iter()
            .collect()
    }

    /// The parts that routing changes.
    pub fn routed(&mut self) -> RoutedView<'_> {
        RoutedView {
            graph: &mut self.graph,
            dedupe: self.dedupe.as_mut(),
            is_in_effect: self.number.is_some(),
        }
    }

    /// The parts that a fold changes, beside the plan that it reads.
    pub fn split(&mut self) -> (ShardsAndGraph<'_>, &ViewPlan) {
        (ShardsAndGraph { shards: &mut self.shards, graph: &self.graph }, &self.plan)
    }

    /// Takes the memberships in `audiences` from all profiles.
    pub fn take_memberships(&mut self, audiences: &[AudienceNo]) -> Taken {
        let each = |shard: &mut Shard| shard.take_memberships(audiences);
        let taken: Vec<_> = self.shards.par_iter_mut().flat_map_iter(each).collect();
        Taken(taken.into_iter().collect())
    }

    /// Gives each profile what the profiles that have its identities in `graph` had, united.
    pub fn give_memberships(&mut self, taken: &Taken, graph: &Graph) {
        if !taken.0.is_empty() {
            self.shards.par_iter_mut().for_each(|shard| {
                shard.give_memberships(|identity| taken.0.get(&graph.owner(identity)?));
            });
        }
    }

    /// Keeps the profiles that have these identities as they are, for the cut that is being made:
    /// they are about to change.
    pub fn keep_owners(&mut self, identities: &[IdentityId]) {
        let mut by_shard: Vec<Vec<ProfileId>> = (0..SHARDS).map(|_| Vec::new()).collect();
        for owner in identities.iter().filter_map(|identity| self.graph.owner(*identity)) {
            by_shard[home(owner)].push(owner);
        }
        let graph = &self.graph;
        self.shards.par_iter_mut().zip(by_shard).for_each(|(shard, owners)| {
            for owner in owners {
                shard.keep(owner, graph);
            }
        });
    }

    /// The shards, each with its share of the profiles, and the graph.
    pub fn shards_and_graph(&mut self) -> (&mut [Shard], &Graph) {
        (&mut self.shards, &self.graph)
    }

    /// Takes in profiles that were saved; the order does not matter.
    pub fn put_all(&mut self, profiles: Vec<Vec<(ProfileId, Profile)>>) {
        let mut by_shard: Vec<Vec<(ProfileId, Profile)>> = Vec::new();
        by_shard.resize_with(SHARDS, Vec::new);
        for (id, profile) in profiles.into_iter().flatten() {
            by_shard[home(id)].push((id, profile));
        }
        self.shards.par_iter_mut().zip(by_shard).for_each(|(shard, profiles)| {
            shard.put_all(profiles);
        });
    }

    /// One profile.
    pub fn profile(&self, id: ProfileId) -> Option<&Profile> {
        self.shards[home(id)].get(id)
    }

    /// One profile, for a test that damages it.
    #[cfg(test)]
    pub(crate) fn profile_mut(&mut self, id: ProfileId) -> Option<&mut Profile> {
        self.shards[home(id)].get_mut(id)
    }

    /// All profiles' ids, ascending.
    pub fn ids(&self) -> Vec<ProfileId> {
        let mut ids: Vec<ProfileId> = self.shards.par_iter().flat_map_iter(Shard::ids).collect();
        ids.par_sort_unstable();
        ids
    }

    /// What `of` makes of each profile, in parallel, in no particular order.
    pub fn map_profiles<T: Send>(&self, of: impl Fn(ProfileId, &Profile) -> T + Sync) -> Vec<T> {
        let each = |shard: &Shard| -> Vec<T> {
            shard.iter().map(|(id, profile)| of(id, profile)).collect()
        };
        self.shards.par_iter().flat_map_iter(each).collect()
    }

    /// How many profiles are in an audience.
    pub fn counts(&self, audience: AudienceNo) -> AudienceCounts {
        self.shards.iter().fold(AudienceCounts::default(), |sum, shard| {
            let counts = shard.counts().get(audience);
            AudienceCounts {
                realized: sum.realized + counts.realized,
                exited: sum.exited + counts.exited,
            }
        })
    }

    /// The next boundary of any profile; [`Timestamp::MAX`] if there is none.
    pub fn next_boundary(&mut self) -> Timestamp {
        self.shards.iter_mut().map(Shard::next_boundary).min().unwrap_or(Timestamp::MAX)
    }

    /// Renders one profile for one dataflow, as it is now; `None` if there is no such profile, or the
    /// dataflow maps no audience of this view.
    pub fn render(&self, id: ProfileId, dataflow: usize, fold: &FoldContext<'_>) -> Option<String> {
        self.shards[home(id)].render(id, dataflow, fold)
    }
}

/// The shards of a view, and where profiles are at home.
pub struct ShardsAndGraph<'a> {
    shards: &'a mut Vec<Shard>,
    graph: &'a Graph,
}

impl<'a> ShardsAndGraph<'a> {
    /// Which identities form which profile.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// Runs `each` on every shard in parallel and collects the exports.
    pub fn each(
        &mut self,
        each: impl Fn(&mut Shard) -> Vec<PlacedExport> + Sync + Send,
    ) -> Vec<PlacedExport> {
        self.shards.par_iter_mut().flat_map_iter(each).collect()
    }

    fn move_to(&mut self, profile: ProfileId, target: usize) {
        let from = home(profile);
        if from != target
            && let Some(state) = self.shards[from].take(profile)
        {
            self.shards[target].put(profile, state);
        }
    }
}

/// The shard that a profile lives in.
fn home(profile: ProfileId) -> usize {
    // Fibonacci hashing: offsets are dense, their products' high bits are not.
    let spread = profile.as_u64().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    usize::try_from(spread >> (u64::BITS - SHARDS.trailing_zeros())).expect("below SHARDS")
}
