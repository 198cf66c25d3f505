//! Backfill: what a new dataflow, or a newly mapped audience, has missed (`SPEC.md` §6).
//!
//! A control entry opens a lane: the profiles that were realized at that moment, in order of their
//! ids. Profiles are taken from the lane when nothing more urgent is to do, rendered as they are then,
//! and how far the lane was taken is stored in the same write as the exports, so that a restart goes
//! on where it was. A live export after the control entry takes the profile out of the lane.
//!
//! A profile that was absorbed meanwhile stands for the one that absorbed it, unless an earlier member
//! of the lane does already.

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::identity::ProfileId;
use crate::identity::graph::Graph;

/// The mark of a lane that was taken to its end.
pub const LANE_DONE: u64 = u64::MAX;

/// The profiles that one change of the definitions owes to one dataflow, under one merge policy.
#[derive(Debug)]
pub struct Lane {
    /// Names the lane in storage: dataflow, merge policy, offset of the control entry.
    pub id: String,
    /// The dataflow.
    pub dataflow: String,
    /// Place of the view among the views.
    pub view: usize,
    members: Vec<ProfileId>,
    next: usize,
    served: HashSet<ProfileId, FixedState>,
}

impl Lane {
    /// A lane with these members (ascending), taken up to and including `through` before.
    pub fn new(
        dataflow: &str,
        policy: &str,
        opened_at: u64,
        members: Vec<ProfileId>,
        view: usize,
    ) -> Self {
        Self {
            id: format!("{dataflow}/{policy}/{opened_at}"),
            dataflow: dataflow.to_owned(),
            view,
            members,
            next: 0,
            served: HashSet::default(),
        }
    }

    /// Goes on after the profile that a stored mark names.
    pub fn skip_through(&mut self, through: u64) {
        self.next = self.members.partition_point(|member| member.as_u64() <= through);
    }

    /// Notes a live export of `profile` to this lane's dataflow.
    pub fn serve(&mut self, profile: ProfileId) {
        self.served.insert(profile);
    }

    /// How many members are still to be looked at.
    pub fn remaining(&self) -> usize {
        self.members.len() - self.next
    }

    /// The next profile to export, as it is known now; `None` at the end of the lane.
    pub fn take(&mut self, graph: &Graph) -> Option<ProfileId> {
        while let Some(member) = self.members.get(self.next).copied() {
            let current = graph.current(member);
            let is_spoken_for = current != member
                && self.members[..self.next].iter().any(|m| graph.current(*m) == current);
            self.next += 1;
            if !is_spoken_for && !self.served.contains(&current) {
                return Some(current);
            }
        }
        None
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

    fn ids(offsets: &[u64]) -> Vec<ProfileId> {
        offsets.iter().map(|offset| ProfileId::from_offset(*offset)).collect()
    }

    fn rest(lane: &mut Lane, graph: &Graph) -> Vec<u64> {
        std::iter::from_fn(|| lane.take(graph)).map(ProfileId::as_u64).collect()
    }

    #[test]
    fn each_member_is_taken_once_unless_a_live_export_came_first() {
        let graph = Graph::new(IdentityGraph::Pdg);
        let mut lane = Lane::new("d", "p", 7, ids(&[1, 3, 5, 9]), 0);
        assert_eq!(lane.id, "d/p/7");
        lane.serve(ProfileId::from_offset(3));
        assert_eq!(lane.take(&graph), Some(ProfileId::from_offset(1)));
        assert_eq!(lane.mark(), Some(1));
        assert_eq!(lane.take(&graph), Some(ProfileId::from_offset(5)));
        assert_eq!(lane.mark(), Some(5));

        let mut again = Lane::new("d", "p", 7, ids(&[1, 3, 5, 9]), 0);
        again.skip_through(5);
        assert_eq!(rest(&mut again, &graph), [9]);
        assert_eq!(again.mark(), Some(LANE_DONE));
        assert_eq!(Lane::new("d", "p", 7, ids(&[4]), 0).mark(), None);
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
        let mut lane = Lane::new("d", "p", 3, ids(&[1, 2]), 0);
        assert_eq!(rest(&mut lane, &graph), [0], "once for both");
    }
}
