//! The event log against a model that cannot be wrong: a sorted map.
//!
//! `Crash` copies the files as they lie and opens the copy. What was synced must be there, what was
//! not may be cut off at the boundary of any append, and nothing else may have happened.

use std::collections::BTreeMap;

use forebay_storage::{EntryKind, Offset, StoreOptions};
use proptest::prelude::*;

use crate::support::{Host, entries, noise, records};

#[derive(Clone, Debug)]
enum Op {
    /// Chunks, each with the lengths of its records.
    Append(Vec<Vec<usize>>),
    ReadFrom(u64),
    Sync,
    Reopen,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    // Lengths around the size of a part, and far over it.
    let length = prop_oneof![8 => 0..300usize, 1 => 61_000..62_000usize, 1 => 0..200_000usize];
    let chunk = prop::collection::vec(length, 1..8);
    prop_oneof![
        8 => prop::collection::vec(chunk, 1..4).prop_map(Op::Append),
        3 => (0..120u64).prop_map(Op::ReadFrom),
        2 => Just(Op::Sync),
        1 => Just(Op::Reopen),
        2 => Just(Op::Crash),
    ]
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    /// Where the log may end after a crash: the synced end, and behind each append since.
    ends: Vec<u64>,
}

impl Model {
    fn next(&self) -> u64 {
        self.entries.len() as u64
    }

    fn append(&mut self, chunks: &[Vec<Vec<u8>>]) {
        for record in chunks.iter().flatten() {
            self.entries.insert(self.next(), record.clone());
        }
        self.ends.push(self.next());
    }

    fn from(&self, offset: u64) -> Vec<(u64, EntryKind, Vec<u8>)> {
        let record =
            |(offset, bytes): (&u64, &Vec<u8>)| (*offset, EntryKind::Record, bytes.clone());
        self.entries.range(offset..).map(record).collect()
    }
}

fn apply(host: &mut Host, model: &mut Model, op: &Op) -> Result<(), TestCaseError> {
    match op {
        Op::Append(lengths) => {
            let bytes = |length: &usize| noise(model.next() + *length as u64, *length);
            let owned: Vec<Vec<Vec<u8>>> =
                lengths.iter().map(|chunk| chunk.iter().map(bytes).collect()).collect();
            let slices: Vec<Vec<&[u8]>> =
                owned.iter().map(|chunk| chunk.iter().map(Vec::as_slice).collect()).collect();
            let chunks: Vec<_> = slices.iter().map(|chunk| records(chunk)).collect();
            let first = host.store().log().append(&chunks).unwrap();
            prop_assert_eq!(first.as_u64(), model.next());
            model.append(&owned);
        }
        Op::ReadFrom(offset) => {
            let read = entries(host.store(), Offset::from_u64(*offset));
            prop_assert!(read == model.from(*offset), "from {}", offset);
        }
        Op::Sync => {
            host.store().log().sync().unwrap();
            model.ends = vec![model.next()];
        }
        Op::Reopen => {
            host.reopen();
            model.ends = vec![model.next()];
        }
        Op::Crash => {
            host.crash();
            let next = host.store().log().next_offset().as_u64();
            prop_assert!(model.ends.contains(&next), "{} is none of {:?}", next, model.ends);
            model.entries.split_off(&next);
            model.ends = vec![next];
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_log_matches_a_sorted_map(ops in prop::collection::vec(op(), 1..40)) {
        let options = StoreOptions { segment_bytes: 300_000, ..StoreOptions::default() };
        let mut host = Host::new(options);
        let mut model = Model { ends: vec![0], ..Model::default() };
        for op in &ops {
            apply(&mut host, &mut model, op)?;
            prop_assert_eq!(host.store().log().next_offset().as_u64(), model.next());
        }
        prop_assert!(entries(host.store(), Offset::START) == model.from(0));
        let stats = host.store().log().stats().unwrap();
        let raw: usize = model.entries.values().map(Vec::len).sum();
        prop_assert_eq!((stats.records, stats.raw_bytes), (model.next(), raw as u64));
    }
}
