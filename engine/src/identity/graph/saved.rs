//! A graph in a checkpoint: the identities of each profile, which lie there with the profile, and who
//! absorbed whom.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Graph, IdentityId, Known, Member, NOBODY, ProfileId};
use crate::definitions::IdentityGraph;

/// Who absorbed whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Where ended profiles lead.
    forwarded: Vec<(ProfileId, ProfileId)>,
    /// What each has absorbed that can still be erased with it.
    absorbed: Vec<(ProfileId, Vec<ProfileId>)>,
}

impl Graph {
    /// The identities of a profile, ascending; none if there is no such profile.
    pub fn members(&self, profile: ProfileId) -> SmallVec<[Member; 2]> {
        let member = |identity: &IdentityId| {
            let Known { last_seen, ever_primary, .. } = self.known[identity.as_usize()];
            Member { identity: *identity, last_seen, ever_primary }
        };
        self.members.get(&profile).into_iter().flatten().map(member).collect()
    }

    /// Whether there is a profile of this number.
    pub fn has(&self, profile: ProfileId) -> bool {
        self.members.contains_key(&profile)
    }

    /// Who absorbed whom, in no order.
    pub fn links(&self) -> Links {
        let absorbed = self.absorbed.iter().map(|(by, ended)| (*by, ended.to_vec()));
        Links {
            forwarded: self.forwarded.iter().map(|(from, to)| (*from, *to)).collect(),
            absorbed: absorbed.collect(),
        }
    }

    /// The graph of profiles with these identities and links; `None` if an identity is to have two
    /// profiles, or is none of the first `identities`.
    pub fn restore(
        kind: IdentityGraph,
        identities: usize,
        profiles: Vec<(ProfileId, SmallVec<[Member; 2]>)>,
        links: Links,
    ) -> Option<Self> {
        let mut graph = Self::new(kind);
        graph.known = vec![Known::UNOWNED; identities];
        graph.members.reserve(profiles.len());
        for (profile, members) in profiles {
            for Member { identity, last_seen, ever_primary } in &members {
                let known = graph.known.get_mut(identity.as_usize())?;
                if known.owner != NOBODY {
                    return None;
                }
                let (last_seen, ever_primary) = (*last_seen, *ever_primary);
                *known = Known { owner: profile, last_seen, ever_primary };
            }
            graph.members.insert(profile, members.iter().map(Member::identity).collect());
        }
        graph.forwarded.extend(links.forwarded);
        let absorbed = links.absorbed.into_iter();
        graph.absorbed.extend(absorbed.map(|(by, ended)| (by, SmallVec::from_vec(ended))));
        Some(graph)
    }
}

impl Links {
    /// The same, ascending.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.forwarded.sort_unstable();
        for (_, ended) in &mut self.absorbed {
            ended.sort_unstable();
        }
        self.absorbed.sort_unstable();
        self
    }
}

impl Member {
    /// Which identity.
    pub fn identity(&self) -> IdentityId {
        self.identity
    }
}
