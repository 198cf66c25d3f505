//! The names of identities in a checkpoint: in the order of their numbers, some thousands a block.
//!
//! A forgotten identity keeps its number and has no name, so that those after it keep theirs.

use serde::{Deserialize, Serialize};

use super::{Identity, IdentityId, IdentityTable, hash_of};

/// What no namespace is called, since names are in lower case.
const FORGOTTEN: &str = "FORGOTTEN";

/// Identities with consecutive numbers: place of the namespace and id of each; an empty id is one
/// that was forgotten.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct NameBlock(Vec<(u32, Box<str>)>);

/// How far a table went at some time: what came later has higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    identities: usize,
    namespaces: usize,
}

impl Extent {
    /// How many identities there were.
    pub const fn identities(self) -> usize {
        self.identities
    }
}

impl IdentityTable {
    /// How far it goes now.
    pub fn extent(&self) -> Extent {
        Extent { identities: self.identities.len(), namespaces: self.namespaces.len() }
    }

    /// The namespaces within `extent`, in lower case, in the order of first sight. One whose identities
    /// are all forgotten is so too: a mark stands in its place.
    pub fn namespaces(&self, extent: Extent) -> Vec<Box<str>> {
        let mut namespaces: Vec<Box<str>> = vec![FORGOTTEN.into(); extent.namespaces];
        let identities = &self.identities[..extent.identities];
        for identity in identities.iter().filter(|identity| !identity.id.is_empty()) {
            let at = identity.namespace as usize;
            if *namespaces[at] == *FORGOTTEN {
                namespaces[at] = self.namespaces[at].clone();
            }
        }
        namespaces
    }

    /// The names of `count` identities at most from number `first` on.
    pub fn names(&self, first: usize, count: usize) -> NameBlock {
        let named = self.identities.iter().skip(first).take(count);
        NameBlock(named.map(|identity| (identity.namespace, identity.id.as_str().into())).collect())
    }

    /// The table that was saved as these namespaces and blocks; `None` if they contradict each other.
    pub fn restore(namespaces: Vec<Box<str>>, blocks: Vec<NameBlock>) -> Option<Self> {
        let mut table = Self { namespaces, ..Self::default() };
        let count = blocks.iter().map(|block| block.0.len()).sum();
        table.identities.reserve_exact(count);
        for (namespace, id) in blocks.into_iter().flat_map(|block| block.0) {
            if namespace as usize >= table.namespaces.len() {
                return None;
            }
            table.identities.push(Identity { namespace, id: (&*id).into() });
        }
        let (identities, hasher) = (&table.identities, &table.hasher);
        let hash =
            |identity: &Identity| hash_of(hasher, identity.namespace, identity.id.as_bytes());
        let rehash = |known: &IdentityId| hash(&identities[known.as_usize()]);
        table.by_name.reserve(count, rehash);
        for (number, identity) in (0..).zip(identities) {
            if !identity.id.is_empty() {
                table.by_name.insert_unique(hash(identity), IdentityId(number), rehash);
            }
        }
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_table_knows_who_was_forgotten() {
        let mut table = IdentityTable::default();
        let ids = ["a", "b", "c"].map(|id| table.intern("n", id));
        table.retire(ids[1]);
        table.blank(ids[1]);
        let blocks = vec![table.names(0, 2), table.names(2, 2)];
        let early = table.extent();
        let mut restored = IdentityTable::restore(table.namespaces(early), blocks).unwrap();
        assert_eq!(
            (restored.find("n", "a"), restored.find("n", "c")),
            (Some(ids[0]), Some(ids[2]))
        );
        assert_eq!((restored.find("n", "b"), restored.name(ids[1])), (None, ("n", "")));
        assert!(restored.intern("n", "b") > ids[2]);
        let other = table.intern("m", "d");
        table.retire(other);
        table.blank(other);
        let namespaces = table.namespaces(table.extent());
        assert_eq!(namespaces, [Box::from("n"), Box::from(FORGOTTEN)]);
        assert_eq!(table.namespaces(early), [Box::from("n")], "what came later is not told");
        assert!(IdentityTable::restore(Vec::new(), vec![table.names(0, 2)]).is_none());
    }
}
