//! Which identities form one profile, under one merge policy.
//!
//! Under `pdg`, identities that stand in one record belong together, transitively; a record that
//! names several profiles merges them into the oldest. Under `none`, each primary identity is a
//! profile of its own (`SPEC.md` §3).
//!
//! Every identity points straight at its profile. A merge re-points the identities of the profiles
//! that end, at most [`IDENTITIES_MAX`] each, so a look-up never follows a chain; ended profiles
//! leave a forwarding address for what was remembered under their number.
//!
//! An erased profile leaves nothing but those addresses: nobody owns its identities, and its number,
//! being an offset, never comes again.

mod saved;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

pub use saved::Links;

use super::ProfileId;
use super::table::IdentityId;
use crate::definitions::IdentityGraph;

/// Most identities of one profile (`SPEC.md` §3).
pub const IDENTITIES_MAX: usize = 50;

/// An identity as a record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which.
    pub identity: IdentityId,
    /// Whether it is the record's primary one; exactly one is.
    pub primary: bool,
}

/// What naming some identities together did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The profile that the record belongs to.
    pub profile: ProfileId,
    /// Whether the record is the first to name it.
    pub is_new: bool,
    /// Profiles that ended, their identities now `profile`'s; oldest first.
    pub absorbed: SmallVec<[ProfileId; 1]>,
    /// Identities that joined and that no profile had, in the order named.
    pub joined: SmallVec<[IdentityId; 2]>,
    /// Identities dropped because there were too many.
    pub dropped: SmallVec<[IdentityId; 1]>,
}

/// A profile that was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its identities, which nobody owns now.
    pub identities: SmallVec<[IdentityId; 2]>,
    /// The profiles that it had absorbed, directly or not; ascending.
    pub absorbed: Vec<ProfileId>,
}

/// An identity of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    identity: IdentityId,
    last_seen: u64,
    ever_primary: bool,
}

/// What is known of an identity. Every record looks here, and mostly nowhere else.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// [`NOBODY`] where no profile has it; then the rest means nothing.
    owner: ProfileId,
    last_seen: u64,
    ever_primary: bool,
}

/// The profiles of one merge policy by identity.
#[derive(Clone, Debug)]
pub struct Graph {
    kind: IdentityGraph,
    identities_max: usize,
    /// By identity.
    known: Vec<Known>,
    /// The identities of each profile, ascending.
    members: HashMap<ProfileId, Members, FixedState>,
    forwarded: HashMap<ProfileId, ProfileId, FixedState>,
    /// The reverse of `forwarded`, one step at a time.
    absorbed: HashMap<ProfileId, SmallVec<[ProfileId; 1]>, FixedState>,
}

type Members = SmallVec<[IdentityId; 4]>;

const NOBODY: ProfileId = ProfileId::from_offset(u64::MAX);

impl Known {
    const UNOWNED: Self = Self { owner: NOBODY, last_seen: 0, ever_primary: false };
}

impl Graph {
    /// No profiles yet.
    pub fn new(kind: IdentityGraph) -> Self {
        Self {
            kind,
            identities_max: IDENTITIES_MAX,
            known: Vec::new(),
            members: HashMap::default(),
            forwarded: HashMap::default(),
            absorbed: HashMap::default(),
        }
    }

    /// The profile that has `identity`.
    pub fn owner(&self, identity: IdentityId) -> Option<ProfileId> {
        let known = self.known.get(identity.as_usize())?;
        Some(known.owner).filter(|owner| *owner != NOBODY)
    }

    /// Where `profile` is now: itself, or the one that absorbed it.
    pub fn current(&self, mut profile: ProfileId) -> ProfileId {
        while let Some(next) = self.forwarded.get(&profile) {
            profile = *next;
        }
        profile
    }

    /// The profiles that `profile` absorbed, directly or not, in no order.
    pub fn absorbed_by(&self, profile: ProfileId) -> Vec<ProfileId> {
        let ended_in = |profile| self.absorbed.get(&profile).into_iter().flatten().copied();
        let mut all: Vec<ProfileId> = ended_in(profile).collect();
        let mut looked_at = 0;
        while let Some(next) = all.get(looked_at).copied() {
            all.extend(ended_in(next));
            looked_at += 1;
        }
        all
    }

    /// How many profiles there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no profile.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The profiles that a record naming `named` belongs to, before it links them; ascending.
    pub fn profiles_of(&self, named: &[Named]) -> SmallVec<[ProfileId; 2]> {
        let mut found: SmallVec<[ProfileId; 2]> =
            self.relevant(named).filter_map(|n| self.owner(n.identity)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Names identities together in the record at `offset`.
    pub fn resolve(&mut self, named: &[Named], offset: u64) -> Resolution {
        let known = self.profiles_of(named);
        let profile = known.first().copied().unwrap_or(ProfileId::from_offset(offset));
        let mut resolution = Resolution {
            profile,
            is_new: known.is_empty(),
            absorbed: known.iter().skip(1).copied().collect(),
            joined: SmallVec::new(),
            dropped: SmallVec::new(),
        };
        for absorbed in &resolution.absorbed {
            self.absorb(*absorbed, profile);
        }
        for identity in self.relevant(named) {
            if self.see(profile, *identity, offset) {
                self.add(profile, identity.identity);
                resolution.joined.push(identity.identity);
            }
        }
        if !resolution.joined.is_empty() || !resolution.absorbed.is_empty() {
            self.drop_surplus(profile, &mut resolution);
        }
        resolution
    }

    /// Erases a profile; `None` if there is none of this number. What it absorbed still leads to it,
    /// so that the steps before the erasure find their way, and from it nothing leads further.
    pub fn remove(&mut self, profile: ProfileId) -> Option<Removed> {
        let members = self.members.remove(&profile)?;
        let identities: SmallVec<[IdentityId; 2]> = members.into_iter().collect();
        for identity in &identities {
            self.known[identity.as_usize()] = Known::UNOWNED;
        }
        let mut absorbed = self.absorbed_by(profile);
        for ended in absorbed.iter().chain([&profile]) {
            self.absorbed.remove(ended);
        }
        absorbed.sort_unstable();
        Some(Removed { identities, absorbed })
    }

    fn relevant<'a>(&self, named: &'a [Named]) -> impl Iterator<Item = &'a Named> + use<'a> {
        let all = self.kind == IdentityGraph::Pdg;
        named.iter().filter(move |n| all || n.primary)
    }

    fn absorb(&mut self, absorbed: ProfileId, survivor: ProfileId) {
        let moved = self.members.remove(&absorbed).unwrap_or_default();
        for identity in &moved {
            self.known[identity.as_usize()].owner = survivor;
        }
        let members = self.members.entry(survivor).or_default();
        members.extend(moved);
        members.sort_unstable();
        self.forwarded.insert(absorbed, survivor);
        self.absorbed.entry(survivor).or_default().push(absorbed);
    }

    /// Notes that a record of `profile` names an identity. Whether nobody had it.
    fn see(&mut self, profile: ProfileId, named: Named, offset: u64) -> bool {
        let place = named.identity.as_usize();
        if self.known.len() <= place {
            self.known.resize(place + 1, Known::UNOWNED);
        }
        let known = &mut self.known[place];
        let is_new = known.owner == NOBODY;
        let ever_primary = named.primary || known.ever_primary && !is_new;
        *known = Known { owner: profile, last_seen: offset, ever_primary };
        is_new
    }

    fn add(&mut self, profile: ProfileId, identity: IdentityId) {
        let members = self.members.entry(profile).or_default();
        let at = members.partition_point(|member| *member < identity);
        members.insert(at, identity);
    }

    /// Drops the identity seen longest ago among those never primary, or among all where each was.
    fn drop_surplus(&mut self, profile: ProfileId, into: &mut Resolution) {
        let Some(members) = self.members.get_mut(&profile) else { return };
        while members.len() > self.identities_max {
            let known = &self.known;
            let age = |identity: IdentityId| {
                let known = known[identity.as_usize()];
                (known.ever_primary, known.last_seen, identity)
            };
            let oldest = members.iter().enumerate().min_by_key(|(_, identity)| age(**identity));
            let (at, _) = oldest.expect("more than none");
            let dropped = members.remove(at);
            self.known[dropped.as_usize()] = Known::UNOWNED;
            match into.joined.iter().position(|joined| *joined == dropped) {
                // It came and went in one record: the profile's set has not changed by it.
                Some(at) => drop(into.joined.remove(at)),
                None => into.dropped.push(dropped),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::table::IdentityTable;
    use super::*;

    /// Names `ids` together (the first is primary) at `offset`.
    fn name(graph: &mut Graph, table: &mut IdentityTable, ids: &[&str], offset: u64) -> Resolution {
        let named: Vec<Named> = ids
            .iter()
            .enumerate()
            .map(|(i, id)| Named { identity: table.intern("n", id), primary: i == 0 })
            .collect();
        graph.resolve(&named, offset)
    }

    fn profile(offset: u64) -> ProfileId {
        ProfileId::from_offset(offset)
    }

    #[test]
    fn identities_in_one_record_form_one_profile_transitively() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        assert!(name(&mut graph, &mut table, &["a"], 0).is_new);
        assert!(name(&mut graph, &mut table, &["b"], 1).is_new);
        assert!(name(&mut graph, &mut table, &["c", "b"], 2).absorbed.is_empty());
        let linked = name(&mut graph, &mut table, &["c", "a", "d"], 3);
        assert_eq!((linked.profile, linked.is_new), (profile(0), false));
        assert_eq!(linked.absorbed.as_slice(), [profile(1)]);
        assert_eq!(linked.joined.as_slice(), [table.intern("n", "d")]);
        for id in ["a", "b", "c", "d"] {
            assert_eq!(graph.owner(table.intern("n", id)), Some(profile(0)), "{id}");
        }
        assert_eq!(graph.current(profile(1)), profile(0));
        assert_eq!(graph.len(), 1);
    }

    #[test]
    fn without_a_graph_each_primary_identity_stands_alone() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::None), IdentityTable::default());
        assert_eq!(name(&mut graph, &mut table, &["a", "b"], 0).profile, profile(0));
        assert_eq!(name(&mut graph, &mut table, &["b", "a"], 1).profile, profile(1));
        assert_eq!(name(&mut graph, &mut table, &["a", "b"], 2).profile, profile(0));
        assert_eq!(graph.len(), 2);
    }

    #[test]
    fn an_erased_profile_leaves_its_identities_to_a_new_one() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        for (offset, id) in (0..).zip(["a", "b", "c", "d", "other"]) {
            name(&mut graph, &mut table, &[id], offset);
        }
        name(&mut graph, &mut table, &["c", "d"], 5);
        name(&mut graph, &mut table, &["b", "c"], 6);
        name(&mut graph, &mut table, &["a", "b"], 7);
        let removed = graph.remove(profile(0)).expect("it is there");
        let ids = ["a", "b", "c", "d"].map(|id| table.intern("n", id));
        assert_eq!(removed.identities.as_slice(), ids);
        assert_eq!(removed.absorbed, [profile(1), profile(2), profile(3)]);
        assert_eq!(graph.current(profile(3)), profile(0), "earlier steps still find their way");
        assert_eq!((graph.len(), graph.owner(ids[1])), (1, None));
        assert_eq!((graph.remove(profile(0)), graph.remove(profile(1))), (None, None));
        let again = name(&mut graph, &mut table, &["d", "a"], 8);
        assert_eq!((again.profile, again.is_new), (profile(8), true));
        assert_eq!(graph.remove(profile(8)).map(|removed| removed.absorbed), Some(Vec::new()));
    }

    #[test]
    fn past_fifty_identities_the_one_seen_longest_ago_goes_but_no_primary_one() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        name(&mut graph, &mut table, &["primary"], 0);
        for i in 1..IDENTITIES_MAX as u64 {
            assert!(
                name(&mut graph, &mut table, &["primary", &format!("i{i}")], i).dropped.is_empty()
            );
        }
        name(&mut graph, &mut table, &["primary", "i1"], 60);
        let resolution = name(&mut graph, &mut table, &["primary", "new"], 61);
        assert_eq!(resolution.dropped.as_slice(), [table.intern("n", "i2")]);
        assert_eq!(graph.owner(table.intern("n", "i2")), None);
        let again = name(&mut graph, &mut table, &["i2"], 62);
        assert!(again.is_new, "a dropped identity starts anew");
    }

    #[test]
    fn what_comes_and_goes_in_one_record_changes_nothing() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        graph.identities_max = 2;
        for (offset, ids) in [["a", "b"], ["b", "a"]].iter().enumerate() {
            name(&mut graph, &mut table, ids, offset as u64);
        }
        let resolution = name(&mut graph, &mut table, &["a", "new"], 2);
        assert!(resolution.joined.is_empty() && resolution.dropped.is_empty(), "{resolution:?}");
        assert_eq!(graph.owner(table.intern("n", "new")), None);
    }

    /// The same in the most literal way: sets of identities, searched from end to end.
    struct Naive {
        kind: IdentityGraph,
        identities_max: usize,
        profiles: Vec<(ProfileId, Vec<Member>)>,
    }

    impl Naive {
        fn resolve(&mut self, named: &[Named], offset: u64) -> Resolution {
            let relevant: Vec<&Named> =
                named.iter().filter(|n| self.kind == IdentityGraph::Pdg || n.primary).collect();
            let is_named = |(_, members): &(ProfileId, Vec<Member>)| {
                members.iter().any(|m| relevant.iter().any(|n| n.identity == m.identity))
            };
            let (mut linked, others): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.profiles).into_iter().partition(is_named);
            self.profiles = others;
            linked.sort_by_key(|(id, _)| *id);
            let profile = linked.first().map_or(ProfileId::from_offset(offset), |(id, _)| *id);
            let absorbed = linked.iter().skip(1).map(|(id, _)| *id).collect();
            let is_new = linked.is_empty();
            let mut members: Vec<Member> = linked.into_iter().flat_map(|(_, m)| m).collect();
            let set = |members: &[Member]| -> BTreeSet<IdentityId> {
                members.iter().map(|m| m.identity).collect()
            };
            let before = set(&members);
            for Named { identity, primary } in relevant {
                let primary =
                    *primary || members.iter().any(|m| m.identity == *identity && m.ever_primary);
                members.retain(|m| m.identity != *identity);
                members.push(Member {
                    identity: *identity,
                    last_seen: offset,
                    ever_primary: primary,
                });
            }
            while members.len() > self.identities_max {
                let any_secondary = members.iter().any(|m| !m.ever_primary);
                let goes = members
                    .iter()
                    .filter(|m| !(any_secondary && m.ever_primary))
                    .min_by_key(|m| (m.last_seen, m.identity))
                    .expect("there are too many")
                    .identity;
                members.retain(|m| m.identity != goes);
            }
            let after = set(&members);
            self.profiles.push((profile, members));
            Resolution {
                profile,
                is_new,
                absorbed,
                joined: after.difference(&before).copied().collect(),
                dropped: before.difference(&after).copied().collect(),
            }
        }

        fn owner(&self, identity: IdentityId) -> Option<ProfileId> {
            let of = |(_, members): &&(ProfileId, Vec<Member>)| {
                members.iter().any(|m| m.identity == identity)
            };
            self.profiles.iter().find(of).map(|(id, _)| *id)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_graph_is_what_united_sets_are(
            kind in prop_oneof![Just(IdentityGraph::Pdg), Just(IdentityGraph::None)],
            identities_max in prop_oneof![3 => 1..6_usize, 1 => Just(IDENTITIES_MAX)],
            records in prop::collection::vec(
                (prop::collection::btree_set(0..90_usize, 1..5), any::<prop::sample::Index>(), 0..3_u8),
                1..120,
            ),
        ) {
            let mut table = IdentityTable::default();
            let mut graph = Graph { identities_max, ..Graph::new(kind) };
            let mut naive = Naive { kind, identities_max, profiles: Vec::new() };
            for (offset, (ids, primary, spread)) in (0..).zip(records) {
                // Few identities link all, many link few.
                let ids: BTreeSet<usize> =
                    ids.iter().map(|id| id % [8, 30, 90][usize::from(spread)]).collect();
                let primary = primary.index(ids.len());
                let named: Vec<Named> = ids
                    .iter()
                    .enumerate()
                    .map(|(at, id)| Named {
                        identity: table.intern("n", &id.to_string()),
                        primary: at == primary,
                    })
                    .collect();
                let known = graph.profiles_of(&named);
                let mut found = graph.resolve(&named, offset);
                let expected = naive.resolve(&named, offset);
                found.joined.sort_unstable();
                found.dropped.sort_unstable();
                prop_assert_eq!(&found, &expected, "record {}", offset);
                prop_assert_eq!(known.len(), expected.absorbed.len() + usize::from(!expected.is_new));
                prop_assert_eq!(graph.len(), naive.profiles.len());
                for absorbed in &expected.absorbed {
                    prop_assert_eq!(graph.current(*absorbed), expected.profile);
                }
                for id in 0..90 {
                    if let Some(identity) = table.find("n", &id.to_string()) {
                        prop_assert_eq!(graph.owner(identity), naive.owner(identity), "{}", id);
                    }
                }
            }
        }
    }
}
