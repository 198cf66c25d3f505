//! Every identity that a record has named, each known by a small number.
//!
//! Namespaces compare in lower case, ids exactly (`SPEC.md` §2). Numbers are given out in the order
//! of first sight, which is the order in which payloads list identities, so a profile's identities
//! are simply kept sorted by number.
//!
//! The identities of an erased profile are forgotten: who is named again after that is seen for the
//! first time, and gets a new number, whether or not the log still holds what was erased.

mod saved;

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

pub use saved::{Extent, NameBlock};

use super::short_text::ShortText;

/// A (namespace, id) pair; lower numbers were seen earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IdentityId(u32);

impl IdentityId {
    /// The number as an index.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A namespace that an identity was named in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceId(u32);

#[derive(Clone, Debug)]
struct Identity {
    namespace: u32,
    id: ShortText,
}

/// The identities of all merge policies together.
#[derive(Clone, Debug, Default)]
pub struct IdentityTable {
    namespaces: Vec<Box<str>>,
    identities: Vec<Identity>,
    by_name: HashTable<IdentityId>,
    hasher: FixedState,
    retired: u64,
}

impl IdentityTable {
    /// The number of an identity, given out now if it is new. `namespace` is in lower case.
    pub fn intern(&mut self, namespace: &str, id: &str) -> IdentityId {
        let namespace = self.intern_namespace(namespace);
        let hash = hash_of(&self.hasher, namespace, id.as_bytes());
        if let Some(found) = self.lookup(hash, namespace, id) {
            return found;
        }
        let new =
            IdentityId(u32::try_from(self.identities.len()).expect("fewer than 2^32 identities"));
        self.identities.push(Identity { namespace, id: id.into() });
        let (identities, hasher) = (&self.identities, &self.hasher);
        self.by_name.insert_unique(hash, new, |known| {
            let identity = &identities[known.as_usize()];
            hash_of(hasher, identity.namespace, identity.id.as_bytes())
        });
        new
    }

    /// The number of an identity, if a record has named it. `namespace` is in lower case.
    pub fn find(&self, namespace: &str, id: &str) -> Option<IdentityId> {
        let namespace = self.find_namespace(namespace)?;
        self.lookup(hash_of(&self.hasher, namespace, id.as_bytes()), namespace, id)
    }

    /// A namespace, in lower case, if a record has named it.
    pub fn namespace(&self, name: &str) -> Option<NamespaceId> {
        self.find_namespace(name).map(NamespaceId)
    }

    /// As [`IdentityTable::find`], for who looks many up.
    pub fn find_within(&self, namespace: NamespaceId, id: &str) -> Option<IdentityId> {
        self.lookup(hash_of(&self.hasher, namespace.0, id.as_bytes()), namespace.0, id)
    }

    /// How often an identity was retired since the start.
    pub fn retired(&self) -> u64 {
        self.retired
    }

    /// The namespace, in lower case, and the id.
    pub fn name(&self, identity: IdentityId) -> (&str, &str) {
        let found = &self.identities[identity.as_usize()];
        (&self.namespaces[found.namespace as usize], found.id.as_str())
    }

    /// Makes an identity unknown. Its name is still told until [`IdentityTable::blank`], because a
    /// batch is routed as a whole before the exports of its earlier records are rendered.
    pub fn retire(&mut self, identity: IdentityId) {
        self.retired += 1;
        let found = &self.identities[identity.as_usize()];
        let hash = hash_of(&self.hasher, found.namespace, found.id.as_bytes());
        if let Ok(entry) = self.by_name.find_entry(hash, |known| *known == identity) {
            entry.remove();
        }
    }

    /// Drops the name of an identity that was retired.
    pub fn blank(&mut self, retired: IdentityId) {
        self.identities[retired.as_usize()].id = ShortText::default();
    }

    /// How many identities were named, those forgotten since included.
    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// Whether none was named.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    fn lookup(&self, hash: u64, namespace: u32, id: &str) -> Option<IdentityId> {
        self.by_name
            .find(hash, |known| {
                let identity = &self.identities[known.as_usize()];
                identity.namespace == namespace && identity.id.as_bytes() == id.as_bytes()
            })
            .copied()
    }

    // A handful of namespaces: a scan beats a hash.
    fn find_namespace(&self, namespace: &str) -> Option<u32> {
        let found = self.namespaces.iter().position(|known| **known == *namespace)?;
        Some(u32::try_from(found).expect("fewer than 2^32 namespaces"))
    }

    fn intern_namespace(&mut self, namespace: &str) -> u32 {
        self.find_namespace(namespace).unwrap_or_else(|| {
            self.namespaces.push(namespace.into());
            u32::try_from(self.namespaces.len() - 1).expect("fewer than 2^32 namespaces")
        })
    }
}

fn hash_of(hasher: &FixedState, namespace: u32, id: &[u8]) -> u64 {
    hasher.hash_one((namespace, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_number() {
        let mut table = IdentityTable::default();
        let first = table.intern("crmid", "c1");
        let second = table.intern("email", "c1");
        assert_eq!(table.intern("crmid", "c1"), first);
        assert_eq!(table.find("email", "c1"), Some(second));
        assert_eq!(table.find("email", "C1"), None);
        assert_eq!(table.find("ecid", "c1"), None);
        assert_eq!(table.name(second), ("email", "c1"));
        assert!(first < second);
    }

    #[test]
    fn a_forgotten_identity_gets_a_new_number_when_it_is_named_again() {
        let mut table = IdentityTable::default();
        let (first, other) = (table.intern("crmid", "c1"), table.intern("crmid", "c2"));
        table.retire(first);
        assert_eq!(table.find("crmid", "c1"), None);
        assert_eq!(table.name(first), ("crmid", "c1"), "told until it is blanked");
        let again = table.intern("crmid", "c1");
        table.blank(first);
        assert!(again > other, "it is seen for the first time");
        assert_eq!((table.name(first), table.name(again)), (("crmid", ""), ("crmid", "c1")));
        table.retire(first);
        assert_eq!(table.find("crmid", "c1"), Some(again), "retiring twice takes nothing else");
    }
}
