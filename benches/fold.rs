//! How fast records are folded into profiles and changes found. No disk, no HTTP, no parsing: those
//! have benches of their own, so that a regression here can only be the fold.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use forebay_benches::Workload;

use crate::configuration::{batches, fold, projection, with_unrelated};

/// One block of an input, and eight.
const RECORDS: [u32; 2] = [4_096, 32_768];

/// Customers behind the same number of records: all known after a moment, and hardly one seen twice.
const PROFILES: [u32; 2] = [1_000, 100_000];

pub(crate) fn define(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/records");
    for records in RECORDS {
        run(&mut group, BenchmarkId::from_parameter(records), Workload::of(records));
    }
    group.finish();
    let mut group = criterion.benchmark_group("fold/profiles");
    for profiles in PROFILES {
        let workload = Workload { profiles, records: RECORDS[1] };
        run(&mut group, BenchmarkId::from_parameter(profiles), workload);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn run(group: &mut Group<'_>, id: BenchmarkId, workload: Workload) {
    let config = with_unrelated(0);
    let batches = batches(&workload.ndjson());
    group.throughput(Throughput::Elements(u64::from(workload.records)));
    group.bench_with_input(id, &batches, |b, batches| {
        // By reference, so that dropping the profiles is not measured.
        b.iter_batched_ref(
            || projection(&config),
            |projection| {
                let exports = fold(projection, batches);
                assert!(exports > 0, "the rules must have members, or nothing is measured");
            },
            BatchSize::PerIteration,
        );
    });
}
