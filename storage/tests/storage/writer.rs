//! A process that writes, syncs, and says on standard output what it was told is durable.
//!
//! It is this test binary again, started by the tests that then kill it. What an entry must be
//! follows from its offset alone, so that whoever opens the store afterwards can check all of it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use forebay_storage::{Derived, ExportRow, FlowExports, LaneMark, Offset, Store, StoreOptions};

use crate::support::{noise, records};

const DIR: &str = "FOREBAY_TEST_WRITER_DIR";

/// A bound, should nobody kill it.
const ROUNDS_MAX: u64 = 20_000;

fn options() -> StoreOptions {
    StoreOptions { segment_bytes: 6 << 20, ..StoreOptions::default() }
}

/// The record at an offset: mostly short, at times 1 MiB.
fn record(offset: u64) -> Vec<u8> {
    let length = match noise(offset, 2)[..] {
        [0..4, _] => 1 << 20,
        [4..16, short] => 50_000 + 100 * usize::from(short),
        [_, short] => 100 + usize::from(short),
        _ => unreachable!("noise is as long as asked for"),
    };
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend(noise(!offset, length - 8));
    bytes
}

/// Not a test of its own: does nothing unless a test has started it as a process.
#[test]
fn writes_until_it_is_killed() {
    let Some(dir) = env::var_os(DIR) else {
        return;
    };
    let store = Store::open(Path::new(&dir), options()).unwrap();
    for round in 0..ROUNDS_MAX {
        let next = store.log().next_offset().as_u64();
        let owned: Vec<_> = (next..next + 1 + round % 20).map(record).collect();
        let slices: Vec<_> = owned.iter().map(Vec::as_slice).collect();
        let chunks: Vec<_> = slices.chunks(8).map(records).collect();
        store.log().append(&chunks).unwrap();
        store.log().sync().unwrap();
        acknowledge("log", store.log().next_offset().as_u64());
        derive(&store, owned);
        store.sync_state().unwrap();
        acknowledge("derived", store.outbox().derived_next().as_u64());
    }
}

/// One export for each entry, and a marker in two more trees that must never be ahead of the other.
fn derive(store: &Store, payloads: Vec<Vec<u8>>) {
    let next = store.log().next_offset();
    let row = |payload| ExportRow { payload, ..ExportRow::default() };
    let dataflow = "to".to_owned();
    let first_sequence = store.outbox().derived_next().as_u64() + 1;
    // What an earlier process appended without deriving it is caught up with empty payloads.
    let missing = next.as_u64() + 1 - first_sequence - payloads.len() as u64;
    let mut rows: Vec<_> = (0..missing).map(|_| row(Vec::new())).collect();
    rows.extend(payloads.into_iter().map(row));
    let lanes = vec![LaneMark { lane: "all".to_owned(), through: next.as_u64() }];
    let flows = vec![FlowExports { dataflow, first_sequence, rows }];
    store.outbox().commit(&Derived { next, flows, lanes, ..Derived::default() }).unwrap();
    store.meta().put("first", &next.as_u64().to_be_bytes()).unwrap();
    let row = forebay_storage::ProgressRow { watermark: next.as_u64(), ..Default::default() };
    store.progress().write("to", &row, &[]).unwrap();
    store.outbox().trim("to", next.as_u64().saturating_sub(100)).unwrap();
}

fn acknowledge(what: &str, next: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what} {next}").and_then(|()| out.flush()).unwrap();
}

/// The last acknowledgements of a writer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acks {
    pub(crate) log: u64,
    pub(crate) derived: u64,
    pub(crate) count: u64,
}

impl Acks {
    fn note(&mut self, line: &str) {
        // The test harness of the child prints its own words, some on the same line.
        let Some((_, ack)) = line.split_once("ack ") else {
            return;
        };
        if let Some((what, next)) = ack.split_once(' ') {
            let next = next.parse().unwrap();
            match what {
                "log" => self.log = next,
                "derived" => self.derived = next,
                other => panic!("acknowledged {other:?}"),
            }
            self.count += 1;
        }
    }
}

/// A writer at work.
pub(crate) struct Writer {
    child: Child,
    output: BufReader<ChildStdout>,
    acks: Acks,
}

impl Writer {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer::writes_until_it_is_killed", "--nocapture"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, acks: Acks::default() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has acknowledged `count` writes.
    pub(crate) fn wait_for(&mut self, count: u64) {
        while self.acks.count < count {
            assert!(self.read_line(), "the writer ended by itself");
        }
    }

    /// Kills it, and returns all it has acknowledged before.
    pub(crate) fn kill(mut self) -> Acks {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while self.read_line() {}
        self.acks
    }

    fn read_line(&mut self) -> bool {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        // A line that the kill has cut off acknowledges nothing.
        if line.ends_with('\n') {
            self.acks.note(line.trim_end());
        }
        read > 0
    }
}

/// Opens what a writer has left, and checks that it is what was acknowledged, or more; entries from
/// `from` on, which must start a chunk. Returns how many entries there are.
pub(crate) fn check(dir: &Path, acks: Acks, from: u64) -> u64 {
    let store = Store::open(dir, options()).unwrap();
    let next = store.log().next_offset().as_u64();
    assert!(next >= acks.log, "{next} entries, {acks:?}");
    let mut expected = from;
    for chunk in store.log().read(Offset::from_u64(from)) {
        for (offset, _, bytes) in chunk.unwrap().iter() {
            assert_eq!(offset.as_u64(), expected);
            assert!(bytes == record(expected), "entry {expected}");
            expected += 1;
        }
    }
    assert_eq!(expected, next);

    let derived = store.outbox().derived_next().as_u64();
    assert!(derived >= acks.derived && derived <= next, "derived {derived} of {next}, {acks:?}");
    assert_eq!(store.outbox().next_sequence("to"), derived + 1);
    assert_eq!(store.outbox().lane("all").unwrap_or(0), derived);
    let first = store
        .meta()
        .get("first")
        .unwrap()
        .map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()));
    let watermark = store.progress().read("to").unwrap().watermark;
    assert!(watermark <= first && first <= derived, "{watermark}, {first}, {derived}: no prefix");
    assert!(watermark >= acks.derived, "{watermark}, {acks:?}");
    let kept = derived.saturating_sub(100).max(1);
    let rows = store.outbox().read("to", kept, usize::MAX).unwrap();
    assert!(rows.iter().map(|(sequence, _)| *sequence).eq(kept..=derived));
    next
}
