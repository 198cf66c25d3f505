//! How fast a projection is turned into a checkpoint's bytes, packed: profiles a second, and what a slice
//! takes, which is how long a live record may have to wait. Writing them is the disk's matter.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay_benches::Workload;
use forebay_engine::project::projection::{Projection, Section, Share};
use forebay_storage::{Checkpoints, Store, StoreOptions};

use crate::configuration::{batches, fold, projection, with_unrelated};

/// Records behind what is cut; a tenth as many profiles.
const RECORDS: u32 = 262_144;

/// Profiles of the slice that is measured: as many as the engine saves at a time.
const SLICE: usize = 512;

pub(crate) fn define(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let store = Store::open(&directory.path().join("data"), StoreOptions::default());
    let store = store.expect("a store opens");
    let workload = Workload::of(RECORDS);
    let mut projection = projection(&with_unrelated(0));
    fold(&mut projection, &batches(&workload.ndjson()));
    let next = u64::from(RECORDS) + 1;
    let checkpoints = store.checkpoints();

    let mut group = criterion.benchmark_group("cut/whole");
    group.throughput(Throughput::Elements(u64::from(workload.profiles)));
    group.bench_function(BenchmarkId::from_parameter(workload.profiles), |b| {
        b.iter(|| {
            projection.begin_cut(next);
            go_on(&mut projection, checkpoints, Share::Rest)
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("cut/slice");
    group.throughput(Throughput::Elements(SLICE as u64));
    group.bench_function(BenchmarkId::from_parameter(SLICE), |b| {
        b.iter(|| {
            if !projection.is_cutting() {
                projection.begin_cut(next);
            }
            go_on(&mut projection, checkpoints, Share::Profiles(SLICE))
        });
    });
    group.finish();
}

fn go_on(projection: &mut Projection, checkpoints: &Checkpoints, share: Share) -> usize {
    let pack = |section: Section, body| checkpoints.pack(section.number(), body);
    let slice = projection.cut_on(share, &pack);
    slice.blocks.iter().map(|block| black_box(block).is_ok()).filter(|is_packed| *is_packed).count()
}
