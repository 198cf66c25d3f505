//! A shard's part of a cut: its profiles as they were when the cut began, in bytes.
//!
//! Profiles go on changing meanwhile. Whoever is about to change is kept before it does; the others are
//! kept little by little, in the order of their numbers. Each is kept once, which it remembers itself, so
//! that it does not matter in which shard it is folded meanwhile. Who was born after the cut began is not
//! in it: their numbers, being offsets, are higher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;

use forebay_storage::write_value;

use super::Shard;
use crate::identity::ProfileId;
use crate::identity::graph::{Graph, Member};
use crate::profile::path::{PathId, PathTable};
use crate::profile::state::{CutNo, Profile};

/// Bytes after which a block is full.
const BLOCK_BYTES: usize = 256 << 10;

/// What all shards know of a cut.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Which it is.
    pub number: CutNo,
    /// The first entry that is not in it.
    pub next: u64,
    /// The paths that some profile in it has written.
    pub written: Arc<WrittenPaths>,
}

/// A shard on its way through a cut.
#[derive(Debug)]
pub(super) struct ShardCut {
    of: Cut,
    /// Who is still to be looked at; `None` before its turn.
    left: Option<vec::IntoIter<ProfileId>>,
    /// The block that is not full.
    body: Vec<u8>,
    full: Vec<Vec<u8>>,
}

impl Shard {
    /// Begins its part of a cut.
    pub fn begin_cut(&mut self, of: &Cut) {
        self.cut =
            Some(ShardCut { of: of.clone(), left: None, body: Vec::new(), full: Vec::new() });
    }

    /// Keeps a profile as it is now, if a cut is being made that it is in, and that does not have it yet.
    pub fn keep(&mut self, id: ProfileId, graph: &Graph) {
        let Some(cut) = &mut self.cut else { return };
        if let Some(profile) = self.profiles.get_mut(&id) {
            cut.keep(id, profile, graph);
        }
    }

    /// Keeps `count` profiles more at most.
    pub fn keep_some(&mut self, count: usize, graph: &Graph) {
        let Some(mut cut) = self.cut.take() else { return };
        let mut left = cut.left.take().unwrap_or_else(|| self.ids().into_iter());
        for id in left.by_ref().take(count) {
            // One that was absorbed meanwhile was kept before.
            if let Some(profile) = self.profiles.get_mut(&id) {
                cut.keep(id, profile, graph);
            }
        }
        if left.len() == 0 {
            cut.fill();
        }
        cut.left = Some(left);
        self.cut = Some(cut);
    }

    /// Whether all of its profiles that are in the cut are kept.
    pub fn has_kept_all(&self) -> bool {
        let left = self.cut.as_ref().map(|cut| cut.left.as_ref().map(vec::IntoIter::len));
        left.is_none_or(|left| left == Some(0))
    }

    /// The blocks that are full.
    pub fn take_blocks(&mut self) -> Vec<Vec<u8>> {
        self.cut.as_mut().map(|cut| std::mem::take(&mut cut.full)).unwrap_or_default()
    }

    /// Ends the cut.
    pub fn end_cut(&mut self) {
        self.cut = None;
    }

    /// Whether the cut that is being made, if one is, has this profile or is without it.
    pub(super) fn is_kept(&self, id: ProfileId) -> bool {
        let Some(cut) = &self.cut else { return true };
        self.profiles.get(&id).is_none_or(|profile| !cut.wants(id, profile))
    }
}

impl ShardCut {
    fn wants(&self, id: ProfileId, profile: &Profile) -> bool {
        id.as_u64() < self.of.next && profile.kept_for != self.of.number
    }

    fn keep(&mut self, id: ProfileId, profile: &mut Profile, graph: &Graph) {
        if !self.wants(id, profile) {
            return;
        }
        profile.kept_for = self.of.number;
        let members = graph.members(id);
        debug_assert!(
            members.iter().map(Member::identity).eq(profile.identities.iter().copied()),
            "a profile has the identities that the graph gives it"
        );
        let Profile { attributes, history, memberships, .. } = &*profile;
        attributes.written().for_each(|path| self.of.written.note(path));
        write_value(&mut self.body, &(id, members, attributes, history, memberships));
        if self.body.len() >= BLOCK_BYTES {
            self.fill();
        }
    }

    /// The block is as full as it gets.
    fn fill(&mut self) {
        if !self.body.is_empty() {
            self.full.push(std::mem::take(&mut self.body));
        }
    }
}

/// The paths that some profile has written. Of the others only rules and mappings know, which name
/// them again, and erased profiles, whose names for things go with them.
#[derive(Debug)]
pub struct WrittenPaths(Vec<AtomicBool>);

impl WrittenPaths {
    /// None yet, of so many paths.
    pub fn new(paths: usize) -> Self {
        Self((0..paths).map(|_| AtomicBool::new(false)).collect())
    }

    fn note(&self, path: PathId) {
        self.0[path.as_usize()].store(true, Ordering::Relaxed);
    }

    /// Parent and last segment of each path but the root. One that nobody has written keeps its number
    /// under a name that cannot be addressed.
    pub fn named(&self, paths: &PathTable) -> Vec<(PathId, String)> {
        let all: Vec<(PathId, &str)> = paths.iter().take(self.0.len().saturating_sub(1)).collect();
        // A child always has a greater id than its parent.
        for (at, (parent, _)) in all.iter().enumerate().rev() {
            if self.0[at + 1].load(Ordering::Relaxed) {
                self.note(*parent);
            }
        }
        let name = |(at, (parent, key)): (usize, &(PathId, &str))| {
            let is_written = self.0[at + 1].load(Ordering::Relaxed);
            if is_written { (*parent, (*key).to_owned()) } else { (PathId::ROOT, format!(".{at}")) }
        };
        all.iter().enumerate().map(name).collect()
    }
}
