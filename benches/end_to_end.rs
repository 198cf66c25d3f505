//! The whole engine on a real disk: an input read, durable, derived, and its exports stored, or
//! delivered to a receiver in this process; what a new dataflow has missed, delivered; and the log
//! replayed at start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use forebay_benches::Workload;
use forebay_engine::clock::{Clock, SystemClock};
use forebay_engine::config::Config;
use forebay_engine::engine::{CheckpointPolicy, Engine, Mode, Options, Progress, Tuning};

use crate::configuration::{delivering_to, mapping_nothing};
use crate::receiver::Receiver;

/// Records of an input: so few that starting and ending weigh, and so many that they do not.
const RECORDS: [u32; 2] = [4_096, 65_536];

/// Records of a log that is replayed: of few, opening is all that is measured.
const REPLAYED: [u32; 2] = [4_096, 262_144];

/// The receiver is this process; what it does not take in this time, it never takes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Shows nothing.
struct Quiet;

impl Progress for Quiet {
    fn replay(&self, _done: u64, _total: u64) {}
    fn input(&self, _name: &str, _read: u64, _total: Option<u64>, _records: u64) {}
    fn delivering(&self, _waiting: u64) {}
}

pub(crate) fn define(criterion: &mut Criterion) {
    let receiver = Receiver::start();
    let config = delivering_to(&receiver.address().to_string());
    // (what is measured, how far the engine goes)
    for (name, mode) in [("engine/derived", Mode::Derive), ("engine/delivered", Mode::Deliver)] {
        let mut group = criterion.benchmark_group(name);
        // An iteration has a directory of its own, and takes long.
        group.sampling_mode(SamplingMode::Flat);
        for records in RECORDS {
            let text = Workload::of(records).ndjson();
            group.throughput(Throughput::Elements(u64::from(records)));
            group.bench_with_input(BenchmarkId::from_parameter(records), &text, |b, text| {
                b.iter_custom(|iterations| {
                    (0..iterations).map(|_| work(text, mode, &config, &receiver)).sum()
                });
            });
        }
        group.finish();
    }
    backfill(criterion, &config, &receiver);
    replay(criterion, &config);
}

/// Reads `text` with a new engine; how long until everything was derived and, where the mode says
/// so, delivered. Opening and closing are not counted.
fn work(text: &str, mode: Mode, config: &Config, receiver: &Receiver) -> Duration {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let clock = Arc::new(SystemClock::new());
    let engine = open(directory.path(), (mode, config), clock.clone());
    let before = receiver.requests();
    let start = clock.moment();
    engine.read_stream("bench", &mut text.as_bytes(), &Quiet).expect("every record is accepted");
    let kept = engine.drain(DRAIN_TIMEOUT, &Quiet).expect("the engine works");
    let elapsed = clock.moment().since(start);
    assert!(kept.is_empty(), "{kept:?}");
    let summary = engine.summary().expect("the engine works");
    let exports = summary.dataflows["to_sink"].exports;
    assert!(exports > 0, "the rules must have members, or nothing is measured");
    let arrived = receiver.requests() - before;
    assert_eq!(arrived, if mode == Mode::Deliver { exports } else { 0 });
    engine.close().expect("the engine ends well");
    elapsed
}

fn backfill(criterion: &mut Criterion, config: &Config, receiver: &Receiver) {
    let mut group = criterion.benchmark_group("engine/backfill");
    group.sampling_mode(SamplingMode::Flat);
    let unmapped = mapping_nothing();
    for records in RECORDS {
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        let clock = Arc::new(SystemClock::new());
        let engine = open(directory.path(), (Mode::Derive, &unmapped), clock);
        let text = Workload::of(records).ndjson();
        engine.read_stream("bench", &mut text.as_bytes(), &Quiet).expect("they are accepted");
        engine.close().expect("the engine ends well");
        let members = fill(directory.path(), (config, &unmapped), receiver).0;
        group.throughput(Throughput::Elements(members));
        group.bench_function(BenchmarkId::from_parameter(members), |b| {
            let once = || fill(directory.path(), (config, &unmapped), receiver).1;
            b.iter_custom(|iterations| (0..iterations).map(|_| once()).sum());
        });
    }
    group.finish();
}

/// Delivers to a dataflow that was not there before; how many exports, and how long until all were
/// delivered, the start included. Afterwards it is not there again.
fn fill(
    directory: &Path,
    (config, unmapped): (&Config, &Config),
    receiver: &Receiver,
) -> (u64, Duration) {
    let clock = Arc::new(SystemClock::new());
    let (before, start) = (receiver.requests(), clock.moment());
    let engine = open(directory, (Mode::Deliver, config), clock.clone());
    let kept = engine.drain(DRAIN_TIMEOUT, &Quiet).expect("the engine works");
    let elapsed = clock.moment().since(start);
    assert!(kept.is_empty(), "{kept:?}");
    engine.close().expect("the engine ends well");
    let exports = receiver.requests() - before;
    assert!(exports > 0, "there must be members, or nothing is measured");
    open(directory, (Mode::Derive, unmapped), clock).close().expect("the engine ends well");
    (exports, elapsed)
}

fn replay(criterion: &mut Criterion, config: &Config) {
    let mut group = criterion.benchmark_group("engine/replay");
    group.sampling_mode(SamplingMode::Flat);
    for records in REPLAYED {
        let directory = tempfile::tempdir().expect("there is a temporary directory");
        // With a checkpoint there would be nothing left to replay.
        let tuning = Tuning { checkpoints: CheckpointPolicy::NEVER, ..Tuning::default() };
        let open = || {
            let clock = Arc::new(SystemClock::new());
            let options = options(directory.path(), (Mode::Derive, config), clock);
            Engine::open_with(options, tuning.clone(), &Quiet).expect("the directory opens")
        };
        let engine = open();
        let text = Workload::of(records).ndjson();
        engine.read_stream("bench", &mut text.as_bytes(), &Quiet).expect("they are accepted");
        engine.close().expect("the engine ends well");
        group.throughput(Throughput::Elements(u64::from(records)));
        group.bench_function(BenchmarkId::from_parameter(records), |b| {
            b.iter(|| open().close().expect("the engine ends well"));
        });
    }
    group.finish();
}

fn open(directory: &Path, how: (Mode, &Config), clock: Arc<dyn Clock>) -> Engine {
    Engine::open(options(directory, how, clock), &Quiet).expect("the directory opens")
}

fn options(directory: &Path, (mode, config): (Mode, &Config), clock: Arc<dyn Clock>) -> Options {
    Options { data: directory.join("data"), config: Some(config.clone()), mode, clock }
}
