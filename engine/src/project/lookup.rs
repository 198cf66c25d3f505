//! What the records of a batch name, looked up before their turn.
//!
//! Routing goes record after record, and most of its time would go into hashing strings and into memory
//! that is not at hand. All of that which depends on no order is done here instead, by all threads, and
//! while the batch before is folded if the next one is there already. What nobody has named before is
//! left open: its number is given out in its turn.

use rayon::prelude::*;

use super::route::Leaf;
use crate::identity::dedupe::Dedupe;
use crate::identity::table::{IdentityId, IdentityTable, NamespaceId};
use crate::json::{Kind, Value};
use crate::profile::path::{PathId, PathTable};
use crate::record::{RecordBatch, RecordRef};

/// Records looked up by one task.
const SLICE: usize = 256;

/// What the records of one batch name.
#[derive(Debug)]
pub struct Lookups {
    slices: Vec<Slice>,
    /// How many identities had been retired: once there are more, none found here is certain.
    retired: u64,
}

/// An identity that a record names.
#[derive(Clone, Copy, Debug)]
pub struct LookedUp {
    /// Its number, if it was named before.
    pub identity: Option<IdentityId>,
    /// Whether it is the record's primary one.
    pub primary: bool,
}

/// What one record names.
#[derive(Clone, Copy, Debug)]
pub struct RecordLookup<'a> {
    /// Its identities in the order of the record.
    pub identities: &'a [LookedUp],
    /// The leaves of a profile record; `None` if a path among them is new.
    pub leaves: Option<&'a [Leaf]>,
    /// What [`Dedupe::hash`] makes of an event's `_id`; 0 if it is no event.
    pub event_hash: u64,
}

#[derive(Debug, Default)]
struct Slice {
    records: Vec<Found>,
    identities: Vec<LookedUp>,
    leaves: Vec<Leaf>,
}

/// One record: where its part of the slice's lists ends.
#[derive(Debug)]
struct Found {
    identities_end: u32,
    leaves_end: u32,
    has_new_path: bool,
    event_hash: u64,
}

impl Lookups {
    /// Looks up what `batch` names.
    pub fn of(batch: &RecordBatch, identities: &IdentityTable, paths: &PathTable) -> Self {
        let namespaces: Vec<Option<NamespaceId>> =
            batch.namespaces().iter().map(|name| identities.namespace(name)).collect();
        let look = |start: usize| {
            let mut slice = Slice::default();
            let end = batch.len().min(start + SLICE);
            slice.records.reserve(end - start);
            for index in start..end {
                slice.look(batch.get(index), (&namespaces, identities), paths);
            }
            slice
        };
        let starts: Vec<usize> = (0..batch.len()).step_by(SLICE).collect();
        // One is soon done, and need not wait for a thread.
        let slices = match starts[..] {
            [start] => vec![look(start)],
            _ => starts.into_par_iter().map(look).collect(),
        };
        Self { slices, retired: identities.retired() }
    }

    /// Whether the identities found here have their numbers still.
    pub fn hold(&self, identities: &IdentityTable) -> bool {
        self.retired == identities.retired()
    }

    /// What the record at `index` names.
    pub fn get(&self, index: usize) -> RecordLookup<'_> {
        let Slice { records, identities, leaves } = &self.slices[index / SLICE];
        let index = index % SLICE;
        let (identities_start, leaves_start) = match index.checked_sub(1) {
            Some(before) => (records[before].identities_end, records[before].leaves_end),
            None => (0, 0),
        };
        let found = &records[index];
        let leaves = &leaves[leaves_start as usize..found.leaves_end as usize];
        RecordLookup {
            identities: &identities[identities_start as usize..found.identities_end as usize],
            leaves: (!found.has_new_path).then_some(leaves),
            event_hash: found.event_hash,
        }
    }
}

impl Slice {
    fn look(
        &mut self,
        record: RecordRef<'_>,
        (namespaces, identities): (&[Option<NamespaceId>], &IdentityTable),
        paths: &PathTable,
    ) {
        for named in record.identities() {
            let namespace = namespaces[named.namespace_index];
            let identity = namespace.and_then(|within| identities.find_within(within, &named.id));
            self.identities.push(LookedUp { identity, primary: named.primary });
        }
        let mut find = |parent, key: &str| paths.find_child(parent, key);
        let leaves_start = self.leaves.len();
        let is_known = list_leaves(record, &mut find, &mut self.leaves);
        if !is_known {
            self.leaves.truncate(leaves_start);
        }
        let end = |length: usize| u32::try_from(length).expect("a slice is a part of a batch");
        self.records.push(Found {
            identities_end: end(self.identities.len()),
            leaves_end: end(self.leaves.len()),
            has_new_path: !is_known,
            event_hash: record.event_id().map_or(0, |id| Dedupe::hash(&id)),
        });
    }
}

/// Lists the leaves of a profile record, their paths found by `find`; `false` if it does not find one.
///
/// A key that is empty or contains `.` cannot be addressed, and an empty object writes nothing
/// (`SPEC.md` §2).
pub fn list_leaves(
    record: RecordRef<'_>,
    find: &mut impl FnMut(PathId, &str) -> Option<PathId>,
    leaves: &mut Vec<Leaf>,
) -> bool {
    let Some(attributes) = record.attributes() else { return true };
    let mut members = attributes.entries().filter(|(key, _)| key != "identityMap");
    members.all(|(key, value)| walk(PathId::ROOT, (&key, value), find, leaves))
}

fn walk(
    parent: PathId,
    (key, value): (&str, Value<'_>),
    find: &mut impl FnMut(PathId, &str) -> Option<PathId>,
    leaves: &mut Vec<Leaf>,
) -> bool {
    if key.is_empty() || key.contains('.') {
        return true;
    }
    let Some(path) = find(parent, key) else { return false };
    if value.kind() == Kind::Object {
        return value.entries().all(|(key, member)| walk(path, (&key, member), find, leaves));
    }
    leaves.push(Leaf { path, node: value.index() });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[String]) -> RecordBatch {
        let mut ranges = Vec::new();
        let mut start = 0;
        for line in lines {
            let end = start + u32::try_from(line.len()).unwrap();
            ranges.push(start..end);
            start = end + 1;
        }
        RecordBatch::from_log(lines.join("\n"), &ranges).unwrap()
    }

    #[test]
    fn what_is_known_is_found_and_the_rest_is_left_open() {
        let (mut identities, mut paths) = (IdentityTable::default(), PathTable::default());
        let known = identities.intern("n", "a");
        let age = paths.intern("person.age");
        let profile = |id: &str, attributes: &str| {
            let map = format!("\"identityMap\":{{\"N\":[{{\"id\":\"{id}\"}}]}}");
            format!("{{\"profile\":{{{map}{attributes}}}}}")
        };
        // (attributes, the paths of the leaves; none: one of them is new)
        let cases = [
            ("", Some(vec![])),
            (",\"person\":{\"age\":3}", Some(vec![age])),
            (",\"person\":{\"age\":3,\"x\":1}", None),
            (",\"person\":{\"age\":3},\"a.b\":{\"c\":1},\"\":2", Some(vec![age])),
            (",\"other\":{}", None),
        ];
        // More than one task has, so that the places in the lists are those of several.
        let lines: Vec<String> =
            (0..3 * SLICE).map(|n| profile(["a", "b"][n % 2], cases[n % cases.len()].0)).collect();
        let batch = batch(&lines);
        let lookups = Lookups::of(&batch, &identities, &paths);
        for n in 0..lines.len() {
            let RecordLookup { identities, leaves, event_hash } = lookups.get(n);
            let numbers: Vec<_> = identities.iter().map(|found| found.identity).collect();
            assert_eq!(numbers, [(n % 2 == 0).then_some(known)], "{n}");
            assert!(identities[0].primary);
            let leaves = leaves.map(|leaves| leaves.iter().map(|leaf| leaf.path).collect());
            assert_eq!(leaves, cases[n % cases.len()].1, "{n}");
            assert_eq!(event_hash, 0);
        }
        assert!(lookups.hold(&identities));
        identities.retire(known);
        assert!(!lookups.hold(&identities), "what was found may be somebody else's number now");
    }
}
