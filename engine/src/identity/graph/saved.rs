//! A graph in a checkpoint: the identities of each profile, which lie there with the profile, and who
//! absorbed whom.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::{Graph, Member, NOBODY, ProfileId};
use crate::definitions::IdentityGraph;

/// Who absorbed whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Where ended profiles lead, ascending.
    forwarded: Vec<(ProfileId, ProfileId)>,
    /// What each has absorbed that can still be erased with it, ascending.
    absorbed: Vec<(ProfileId, Vec<ProfileId>)>,
}

impl Graph {
    /// The identities of a profile, ascending; none if there is no such profile.
    pub fn members(&self, profile: ProfileId) -> &[Member] {
        self.members.get(&profile).map_or(&[], SmallVec::as_slice)
    }

    /// Who absorbed whom.
    pub fn links(&self) -> Links {
        let mut forwarded: Vec<_> = self.forwarded.iter().map(|(from, to)| (*from, *to)).collect();
        forwarded.sort_unstable();
        let mut absorbed: Vec<(ProfileId, Vec<ProfileId>)> =
            self.absorbed.iter().map(|(by, ended)| (*by, ended.to_vec())).collect();
        absorbed.sort_unstable();
        for (_, ended) in &mut absorbed {
            ended.sort_unstable();
        }
        Links { forwarded, absorbed }
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
        graph.owners = vec![NOBODY; identities];
        graph.members.reserve(profiles.len());
        for (profile, members) in profiles {
            for member in &members {
                let owner = graph.owners.get_mut(member.identity.as_usize())?;
                if *owner != NOBODY {
                    return None;
                }
                *owner = profile;
            }
            graph.members.insert(profile, members);
        }
        graph.forwarded.extend(links.forwarded);
        let absorbed = links.absorbed.into_iter();
        graph.absorbed.extend(absorbed.map(|(by, ended)| (by, SmallVec::from_vec(ended))));
        Some(graph)
    }
}

impl Member {
    /// Which identity.
    pub fn identity(&self) -> super::IdentityId {
        self.identity
    }
}
