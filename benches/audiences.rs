//! What audiences cost that a record cannot change: next to nothing, whatever their number.
//!
//! The work is the same for both numbers; only the plan is larger. The target is a ratio of at most
//! 1.5 between the two lines.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use forebay_benches::Workload;

use crate::configuration::{batches, fold, projection, with_unrelated};

const UNRELATED: [usize; 2] = [10, 1_000];

const RECORDS: u32 = 32_768;

pub(crate) fn define(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/unrelated_audiences");
    let batches = batches(&Workload::of(RECORDS).ndjson());
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    for unrelated in UNRELATED {
        let config = with_unrelated(unrelated);
        group.bench_with_input(BenchmarkId::from_parameter(unrelated), &batches, |b, batches| {
            b.iter_batched_ref(
                || projection(&config),
                |projection| fold(projection, batches),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
