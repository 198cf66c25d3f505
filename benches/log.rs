//! How fast records become durable, and how fast they are read back. No parsing, no profiles: what is
//! slow here is the disk, the compression, or the layout of the log.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay_benches::Workload;
use forebay_storage::{Chunk, Entry, EntryKind, Offset, Store, StoreOptions};
use tempfile::TempDir;

/// Records that share one sync: a trickle, a busy pipe, and a block of a file.
const BATCH_SIZES: [u32; 3] = [64, 1_024, 4_096];

/// Records of the log that is read back.
const READ_RECORDS: u32 = 65_536;

/// Records of a chunk, some 256 KiB, as the engine packs them.
const CHUNK_RECORDS: usize = 1_024;

pub(crate) fn define(criterion: &mut Criterion) {
    append(criterion);
    read(criterion);
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/append_and_sync");
    for records in BATCH_SIZES {
        let text = Workload::of(records).ndjson();
        let chunks = chunks(&text);
        let (_directory, store) = store();
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_with_input(BenchmarkId::from_parameter(records), &chunks, |b, chunks| {
            b.iter(|| write(&store, chunks));
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log/read");
    let text = Workload::of(READ_RECORDS).ndjson();
    let (_directory, store) = store();
    write(&store, &chunks(&text));
    group.throughput(Throughput::Elements(u64::from(READ_RECORDS)));
    group.bench_function(BenchmarkId::from_parameter(READ_RECORDS), |b| {
        b.iter(|| {
            let entries: usize = store
                .log()
                .read(Offset::START)
                .map(|chunk| black_box(chunk.expect("the log can be read")).iter().count())
                .sum();
            assert_eq!(entries, READ_RECORDS as usize);
        });
    });
    group.finish();
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let store = Store::open(&directory.path().join("data"), StoreOptions::default())
        .expect("a new directory opens");
    (directory, store)
}

fn write(store: &Store, chunks: &[Chunk<'_>]) {
    store.log().append(chunks).expect("the disk takes the batch");
    store.log().sync().expect("the disk syncs");
}

fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .chunks(CHUNK_RECORDS)
        .map(|lines| Chunk {
            now_ms: 0,
            mark: None,
            rejects: None,
            outline: None,
            entries: lines
                .iter()
                .map(|line| Entry { kind: EntryKind::Record, bytes: line.as_bytes() })
                .collect(),
        })
        .collect()
}
