//! How fast lines become records: from an input, and again from the text that the log keeps.

use std::hint::black_box;
use std::ops::Range;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use forebay_benches::Workload;
use forebay_engine::input::{LastLine, LineReader, Pace};
use forebay_engine::record::{ParseRules, RecordBatch, parse_lines};

/// Part of a block, a block, and many.
const RECORDS: [u32; 3] = [256, 4_096, 32_768];

/// What replay folds at a time.
const REPLAY_RECORDS: u32 = 4_096;

pub(crate) fn define(criterion: &mut Criterion) {
    parse(criterion);
    replay(criterion);
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record/parse");
    for records in RECORDS {
        let text = Workload::of(records).ndjson();
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_with_input(BenchmarkId::from_parameter(records), &text, |b, text| {
            b.iter(|| {
                let mut reader = LineReader::new(text.as_bytes(), Pace::Filled, LastLine::Taken);
                let mut found = 0;
                while let Some(block) = reader.next_block().expect("memory can be read") {
                    found += black_box(parse_lines(block, &ParseRules::default())).batch.len();
                }
                assert_eq!(found, records as usize);
            });
        });
    }
    group.finish();
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record/from_log");
    let text = Workload::of(REPLAY_RECORDS).ndjson();
    let lines = line_ranges(&text);
    group.throughput(Throughput::Elements(u64::from(REPLAY_RECORDS)));
    group.bench_function(BenchmarkId::from_parameter(REPLAY_RECORDS), |b| {
        b.iter_batched(
            || text.clone(),
            |text| RecordBatch::from_log(text, &lines).expect("they were records before"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn line_ranges(text: &str) -> Vec<Range<u32>> {
    let position = |at: usize| u32::try_from(at).expect("some megabytes of text");
    text.lines()
        .map(|line| {
            let start = line.as_ptr().addr() - text.as_ptr().addr();
            position(start)..position(start + line.len())
        })
        .collect()
}
