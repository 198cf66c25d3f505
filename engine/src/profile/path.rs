//! Attribute paths, each known by a small number.
//!
//! Profiles, rules and mappings all name attributes by dotted path. A [`PathTable`] gives each path a
//! [`PathId`] once, in the order in which the log first shows it, so that everything after compares
//! numbers. The table only grows; paths form a tree, of which [`PathId::ROOT`] is the top.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// A path in a [`PathTable`]. The order of ids is the order of first appearance, not of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathId(u32);

impl PathId {
    /// The empty path: the whole of a profile's attributes.
    pub const ROOT: Self = Self(0);

    /// The id as an index.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
struct PathNode {
    parent: PathId,
    key: Box<str>,
    depth: u32,
    children: Vec<PathId>,
}

/// All attribute paths that records, rules or mappings have named.
#[derive(Clone, Debug)]
pub struct PathTable {
    nodes: Vec<PathNode>,
    by_name: HashMap<(PathId, Box<str>), PathId, foldhash::fast::FixedState>,
}

impl Default for PathTable {
    fn default() -> Self {
        let root =
            PathNode { parent: PathId::ROOT, key: "".into(), depth: 0, children: Vec::new() };
        Self { nodes: vec![root], by_name: HashMap::default() }
    }
}

impl PathTable {
    /// The id of `key` below `parent`, given out now if it is new.
    pub fn child(&mut self, parent: PathId, key: &str) -> PathId {
        if let Some(id) = self.find_child(parent, key) {
            return id;
        }
        let id = PathId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 paths"));
        let depth = self.nodes[parent.as_usize()].depth + 1;
        self.nodes.push(PathNode { parent, key: key.into(), depth, children: Vec::new() });
        self.nodes[parent.as_usize()].children.push(id);
        self.by_name.insert((parent, key.into()), id);
        id
    }

    /// The id of `key` below `parent`, if it was given out.
    pub fn find_child(&self, parent: PathId, key: &str) -> Option<PathId> {
        self.by_name.get(&Lookup { parent, key }).copied()
    }

    /// The id of a dotted path such as `person.name`, given out now if it is new.
    pub fn intern(&mut self, dotted: &str) -> PathId {
        dotted.split('.').fold(PathId::ROOT, |parent, key| self.child(parent, key))
    }

    /// The path one segment shorter; the root's is the root.
    pub fn parent(&self, id: PathId) -> PathId {
        self.nodes[id.as_usize()].parent
    }

    /// The last segment.
    pub fn key(&self, id: PathId) -> &str {
        &self.nodes[id.as_usize()].key
    }

    /// How many segments the path has.
    pub fn depth(&self, id: PathId) -> usize {
        self.nodes[id.as_usize()].depth as usize
    }

    /// The paths one segment longer, in order of first appearance.
    pub fn children(&self, id: PathId) -> &[PathId] {
        &self.nodes[id.as_usize()].children
    }

    /// Whether `id` is `ancestor` or lies below it.
    pub fn is_within(&self, mut id: PathId, ancestor: PathId) -> bool {
        // A child always has a greater id than its parent.
        while id > ancestor {
            id = self.parent(id);
        }
        id == ancestor
    }

    /// All paths, the root first.
    pub fn ids(&self) -> impl Iterator<Item = PathId> + use<> {
        let end = u32::try_from(self.nodes.len()).expect("fewer than 2^32 paths");
        (0..end).map(PathId)
    }

    /// The segments from the first to the last.
    pub fn segments(&self, mut id: PathId) -> Vec<&str> {
        let mut segments = Vec::with_capacity(self.depth(id));
        while id != PathId::ROOT {
            segments.push(self.key(id));
            id = self.parent(id);
        }
        segments.reverse();
        segments
    }

    /// The dotted form.
    pub fn dotted(&self, id: PathId) -> String {
        self.segments(id).join(".")
    }

    /// Parent and last segment of every path but the root, by id.
    pub fn iter(&self) -> impl Iterator<Item = (PathId, &str)> {
        self.nodes.iter().skip(1).map(|node| (node.parent, &*node.key))
    }

    /// How many ids were given out, the root's included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no path was named yet.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }
}

/// Looks a path up without owning its key.
#[derive(Hash)]
struct Lookup<'a> {
    parent: PathId,
    key: &'a str,
}

impl hashbrown::Equivalent<(PathId, Box<str>)> for Lookup<'_> {
    fn equivalent(&self, other: &(PathId, Box<str>)) -> bool {
        self.parent == other.0 && *self.key == *other.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_id_however_it_is_named() {
        let mut paths = PathTable::default();
        let first = paths.intern("person.name.firstName");
        let person = paths.child(PathId::ROOT, "person");
        let name = paths.child(person, "name");
        assert_eq!(paths.child(name, "firstName"), first);
        assert_eq!(paths.dotted(first), "person.name.firstName");
        assert_eq!(paths.depth(first), 3);
        assert!(paths.is_within(first, person) && paths.is_within(person, person));
        assert!(!paths.is_within(person, first));
        let other = paths.intern("personal.name");
        assert!(!paths.is_within(other, person) && paths.is_within(other, PathId::ROOT));
        assert_eq!(paths.find_child(person, "age"), None);
    }
}
