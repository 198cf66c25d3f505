//! Stored bytes are counted, not measured: the count must be what a look at the rows would say.

use std::path::Path;
use std::time::Duration;

use forebay_storage::{Derived, ExportRow, FlowExports, StoreOptions};
use proptest::prelude::*;

use crate::support::{Host, noise};

const FLOW: &str = "to";

/// Looks at a lock that somebody else has for a moment.
const LOCK_WAITS_MAX: u32 = 500;

const LOCK_WAIT: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
enum Op {
    /// Lengths of new payloads.
    Store(Vec<usize>),
    Trim(u64),
    TrimWithin(u64, u64),
    Withdraw(Vec<u64>),
    Reopen,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let length = prop_oneof![8 => 0..3_000usize, 1 => 40_000..200_000usize];
    prop_oneof![
        5 => prop::collection::vec(length, 0..40).prop_map(Op::Store),
        2 => (0..200u64).prop_map(Op::Trim),
        2 => (0..200u64, 0..80u64).prop_map(|(from, n)| Op::TrimWithin(from, from + n)),
        2 => prop::collection::vec(0..200u64, 0..9).prop_map(Op::Withdraw),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
    ]
}

fn apply(host: &mut Host, op: &Op) {
    let outbox = host.store().outbox();
    match op {
        Op::Store(lengths) => {
            let first_sequence = outbox.next_sequence(FLOW);
            let row = |(offset, length): (u64, &usize)| ExportRow {
                offset,
                payload: noise(first_sequence, *length),
                ..ExportRow::default()
            };
            let rows = (first_sequence..).zip(lengths).map(row).collect();
            let flow = FlowExports { dataflow: FLOW.to_owned(), first_sequence, rows };
            outbox.commit(&Derived { flows: vec![flow], ..Derived::default() }).unwrap();
        }
        Op::Trim(below) => outbox.trim(FLOW, *below).unwrap(),
        Op::TrimWithin(first, last) => outbox.trim_within(FLOW, &[(*first, *last)]).unwrap(),
        Op::Withdraw(offsets) => {
            outbox.withdraw(FLOW, &|row| offsets.contains(&row.offset), 7).unwrap();
        }
        Op::Reopen => host.reopen(),
        Op::Crash => {
            host.store().sync_state().unwrap();
            host.crash();
        }
    }
}

/// Opens the state. A process that another test is starting holds a copy of the database's lock until
/// it runs its program.
fn state(dir: &Path) -> sled::Db {
    let config = sled::Config::new().path(dir.join("state")).segment_size(8 << 20);
    let config = config.flush_every_ms(None);
    for _ in 0..LOCK_WAITS_MAX {
        match config.open() {
            Err(error) if error.to_string().contains("could not acquire lock") => {
                std::thread::park_timeout(LOCK_WAIT);
            }
            opened => return opened.unwrap(),
        }
    }
    config.open().unwrap()
}

/// Bytes of keys and values of all exports, as they lie in the database.
fn bytes_on_disk(dir: &Path) -> u64 {
    let tree = state(dir).open_tree("outbox").unwrap();
    let rows = tree.scan_prefix([&b"e"[..], FLOW.as_bytes(), &[0]].concat());
    rows.map(|row| row.unwrap()).map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_is_counted_is_what_is_stored(ops in prop::collection::vec(op(), 1..30)) {
        let mut host = Host::new(StoreOptions::default());
        for op in &ops {
            apply(&mut host, op);
        }
        let counted = host.store().outbox().stored_bytes(FLOW);
        let dir = host.dir().to_owned();
        let mut found = 0;
        host.edit(|| found = bytes_on_disk(&dir));
        prop_assert_eq!(counted, found);
    }
}
