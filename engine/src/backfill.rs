//! Backfill: what a new dataflow, or a newly mapped audience, has missed (`SPEC.md` §6).
//!
//! A control entry opens a lane: the profiles that were realized at that moment, in order of their
//! ids. Profiles are taken from the lane when nothing more urgent is to do, rendered as they are then,
//! and how far the lane was taken is stored in the same write as the exports, so that a restart goes
//! on where it was. A live export after the control entry takes the profile out of the lane.
//!
//! A lane lives as long as one of the audiences that it was opened for is mapped. Where their merge
//! policy changes, a new lane goes on with what is left, under the new policy.
//!
//! A profile that was absorbed meanwhile stands for the one that absorbed it, unless an earlier member
//! of the lane does already.

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use crate::identity::ProfileId;
use crate::identity::graph::Graph;
use crate::profile::membership::AudienceNo;

/// The mark of a lane that was taken to its end.
pub const LANE_DONE: u64 = u64::MAX;

/// The profiles that one change of the definitions owes to one dataflow, under one merge policy.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Names the lane in storage: dataflow, merge policy, offset of the control entry.
    pub id: String,
    /// What it is for.
    pub purpose: Purpose,
    members: Vec<ProfileId>,
    next: usize,
    served: HashSet<ProfileId, FixedState>,
}

/// How far lanes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneProgress {
    /// Profiles taken, those included that a live export was first to.
    pub taken: u64,
    /// Profiles in all.
    pub owed: u64,
}

/// Whom a lane owes what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// The dataflow.
    pub dataflow: String,
    /// The merge policy whose profiles its members are.
    pub policy: String,
    /// The audiences whose mapping it is owed for.
    pub audiences: Vec<AudienceNo>,
}

/// A lane as it is kept in a checkpoint.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLane {
    id: String,
    purpose: Purpose,
    members: Vec<ProfileId>,
    next: u64,
    /// Ascending.
    served: Vec<ProfileId>,
}

impl Lane {
    /// A lane with these members, ascending, opened by the control entry at `opened_at`.
    pub fn new(purpose: Purpose, opened_at: u64, members: Vec<ProfileId>) -> Self {
        Self {
            id: format!("{}/{}/{opened_at}", purpose.dataflow, purpose.policy),
            purpose,
            members,
            next: 0,
            served: HashSet::default(),
        }
    }

    /// The lane as it is kept in a checkpoint.
    pub fn save(&self) -> SavedLane {
        let mut served: Vec<ProfileId> = self.served.iter().copied().collect();
        served.sort_unstable();
        let (id, purpose) = (self.id.clone(), self.purpose.clone());
        SavedLane { id, purpose, members: self.members.clone(), next: self.next as u64, served }
    }

    /// The lane that was saved.
    pub fn restore(saved: SavedLane) -> Self {
        let SavedLane { id, purpose, members, next, served } = saved;
        let next = usize::try_from(next).map_or(members.len(), |next| next.min(members.len()));
        Self { id, purpose, members, next, served: served.into_iter().collect() }
    }

    /// The offset of the control entry that opened it: the last part of its id.
    pub fn opened_at(&self) -> u64 {
        let last = self.id.rsplit('/').next().and_then(|offset| offset.parse().ok());
        last.expect("the id of a lane ends with an offset")
    }

    /// Whether `profile`, or one that it absorbed, is a member, exported or not.
    pub fn includes(&self, profile: ProfileId, graph: &Graph) -> bool {
        self.members.iter().any(|member| graph.current(*member) == profile)
    }

    /// Goes on after the profile that a stored mark names, unless it is further already.
    pub fn skip_through(&mut self, through: u64) {
        let next = self.members.partition_point(|member| member.as_u64() <= through);
        self.next = self.next.max(next);
    }

    /// Notes a live export of `profile` to this lane's dataflow.
    pub fn serve(&mut self, profile: ProfileId) {
        self.served.insert(profile);
    }

    /// How many members were looked at, and how many there are.
    pub fn progress(&self) -> LaneProgress {
        LaneProgress { taken: self.next as u64, owed: self.members.len() as u64 }
    }

    /// How many members are still to be looked at.
    pub fn remaining(&self) -> usize {
        self.members.len() - self.next
    }

    /// The next profile to export, as it is known now; `None` at the end of the lane.
    pub fn take(&mut self, graph: &Graph) -> Option<ProfileId> {
        while let Some(member) = self.members.get(self.next).copied() {
            let current = graph.current(member);
            let is_spoken_for = current != member && self.speaks_for(current, graph);
            self.next += 1;
            if !is_spoken_for && !self.served.contains(&current) {
                return Some(current);
            }
        }
        None
    }

    /// Whether a member that was looked at stands for `profile`: it itself, or one that it absorbed.
    fn speaks_for(&self, profile: ProfileId, graph: &Graph) -> bool {
        let looked_at = &self.members[..self.next];
        let is_looked_at = |profile: &ProfileId| looked_at.binary_search(profile).is_ok();
        is_looked_at(&profile) || graph.absorbed_by(profile).iter().any(is_looked_at)
    }

    /// How many members are looked at before the one that `profile` is, or that it absorbed; `None` if
    /// nobody is left who stands for it.
    pub fn place_of(&self, profile: ProfileId, graph: &Graph) -> Option<u64> {
        let stands_for = |member: &ProfileId| graph.current(*member) == profile;
        let (taken, left) = self.members.split_at(self.next);
        let is_spoken_for = taken.iter().any(|member| *member != profile && stands_for(member));
        let place = left.iter().position(stands_for)?;
        let is_owed = !self.served.contains(&profile) && !is_spoken_for;
        is_owed.then_some(place as u64)
    }

    /// Everybody who is still to be exported, as known now.
    pub fn rest(mut self, graph: &Graph) -> Vec<ProfileId> {
        std::iter::from_fn(|| self.take(graph)).collect()
    }

    /// What to store: everything up to here was taken. `None` if nothing was.
    pub fn mark(&self) -> Option<u64> {
        match (self.members[..self.next].last(), self.remaining()) {
            (_, 0) => Some(LANE_DONE),
            (last, _) => last.map(|member| member.as_u64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::IdentityGraph;
    use crate::identity::graph::Named;
    use crate::identity::table::IdentityTable;

    fn lane(opened_at: u64, members: &[u64]) -> Lane {
        let (dataflow, policy) = ("d".to_owned(), "p".to_owned());
        Lane::new(Purpose { dataflow, policy, audiences: Vec::new() }, opened_at, ids(members))
    }

    fn ids(offsets: &[u64]) -> Vec<ProfileId> {
        offsets.iter().map(|offset| ProfileId::from_offset(*offset)).collect()
    }

    fn taken(lane: &mut Lane, graph: &Graph) -> Vec<u64> {
        std::iter::from_fn(|| lane.take(graph)).map(ProfileId::as_u64).collect()
    }

    #[test]
    fn each_member_is_taken_once_unless_a_live_export_came_first() {
        let graph = Graph::new(IdentityGraph::Pdg);
        let mut lane = lane(7, &[1, 3, 5, 9]);
        assert_eq!((lane.id.as_str(), lane.opened_at()), ("d/p/7", 7));
        assert!(lane.includes(ProfileId::from_offset(3), &graph));
        assert!(!lane.includes(ProfileId::from_offset(4), &graph));
        lane.serve(ProfileId::from_offset(3));
        assert_eq!(lane.take(&graph), Some(ProfileId::from_offset(1)));
        assert_eq!(lane.mark(), Some(1));
        assert_eq!(lane.take(&graph), Some(ProfileId::from_offset(5)));
        assert_eq!(lane.mark(), Some(5));

        let mut again = self::lane(7, &[1, 3, 5, 9]);
        again.skip_through(5);
        assert_eq!(taken(&mut again, &graph), [9]);
        assert_eq!(again.mark(), Some(LANE_DONE));
        assert_eq!(self::lane(7, &[4]).mark(), None);
    }

    #[test]
    fn a_member_knows_how_many_come_before() {
        let graph = Graph::new(IdentityGraph::Pdg);
        let mut lane = lane(7, &[1, 3, 5, 9]);
        lane.serve(ProfileId::from_offset(3));
        lane.take(&graph);
        // (profile, members before it)
        for (profile, expected) in [(1, None), (3, None), (4, None), (5, Some(1)), (9, Some(2))] {
            let place = lane.place_of(ProfileId::from_offset(profile), &graph);
            assert_eq!(place, expected, "{profile}");
        }
    }

    #[test]
    fn an_absorbed_member_stands_for_the_profile_that_absorbed_it() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        let known: Vec<_> = ["a", "b", "c"].iter().map(|id| table.intern("n", id)).collect();
        let named = |index: usize| Named { identity: known[index], primary: index == 0 };
        for (index, offset) in (0..3).zip(0..) {
            graph.resolve(&[named(index)], offset);
        }
        // Profiles 1 and 2 are members; both become profile 0.
        graph.resolve(&[named(0), named(1), named(2)], 3);
        let lane = lane(3, &[1, 2]);
        assert_eq!(taken(&mut lane.clone(), &graph), [0], "once for both");
        assert_eq!(lane.rest(&graph), ids(&[0]));
    }

    #[test]
    fn who_was_taken_stands_for_those_that_are_absorbed_with_it_later() {
        let (mut graph, mut table) = (Graph::new(IdentityGraph::Pdg), IdentityTable::default());
        let known: Vec<_> = ["a", "b", "c", "d"].iter().map(|id| table.intern("n", id)).collect();
        let named = |index: usize| Named { identity: known[index], primary: index == 0 };
        for (index, offset) in (0..4).zip(0..) {
            graph.resolve(&[named(index)], offset);
        }
        let mut lane = lane(4, &[1, 2, 3]);
        assert_eq!(lane.take(&graph), Some(ProfileId::from_offset(1)));
        // 2 becomes 1, and that becomes 0, which is no member.
        graph.resolve(&[named(1), named(2)], 4);
        graph.resolve(&[named(0), named(1)], 5);
        assert_eq!(taken(&mut lane.clone(), &graph), [3], "1 was exported");
        graph.resolve(&[named(0), named(3)], 6);
        assert_eq!(taken(&mut lane, &graph), [0_u64; 0]);
    }
}
