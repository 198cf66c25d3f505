//! How many requests a second leave over HTTP, to receivers on the same machine: one that answers at
//! once, and one that takes its time. No outbox and no dispatcher: the transport alone, as the senders
//! call it. Behind each figure stands what a request costs of the processor, the receiver aside.

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use forebay_engine::clock::{Clock, SystemClock, Timestamp};
use forebay_engine::deliver::backlog::{Export, Origin, ProfileKey};
use forebay_engine::deliver::request::RequestTemplate;
use forebay_engine::deliver::settings::DestinationSettings;
use forebay_engine::deliver::transport::{HttpTransport, Transport};
use url::Url;

use crate::receiver::Receiver;

/// Senders at once: the latency of one exchange, and what two cores give.
const SENDERS: [u64; 3] = [1, 8, 64];

/// Requests each of them sends an iteration.
const REQUESTS_EACH: u64 = 64;

const BODY_BYTES: usize = 1_000;

/// What a receiver takes that is no fast one, and the senders it takes to keep it busy.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_SENDERS: u64 = 256;

/// What the senders share.
struct Sending {
    transport: HttpTransport,
    template: RequestTemplate,
    clock: Arc<SystemClock>,
    /// Nanoseconds of processor time that the senders took, and requests they sent.
    cost: (AtomicU64, AtomicU64),
}

pub(crate) fn define(criterion: &mut Criterion) {
    let receiver = Receiver::start();
    for senders in SENDERS {
        measure(criterion, "deliver/requests_of_1_kB", senders, &receiver);
    }
    let receiver = Receiver::pausing(PAUSE);
    measure(criterion, "deliver/to_a_receiver_of_20_ms", PAUSE_SENDERS, &receiver);
}

fn measure(criterion: &mut Criterion, name: &str, senders: u64, receiver: &Receiver) {
    let sending = Sending::to(receiver);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(senders * REQUESTS_EACH));
    group.bench_with_input(BenchmarkId::from_parameter(senders), &senders, |b, senders| {
        b.iter_custom(|iterations| {
            let before = receiver.requests();
            let elapsed = sending.send(*senders, iterations * REQUESTS_EACH);
            let arrived = receiver.requests() - before;
            assert_eq!(arrived, senders * iterations * REQUESTS_EACH, "every request counts");
            elapsed
        });
    });
    group.finish();
    if let Some(cost) = sending.cost() {
        let micros = cost.as_secs_f64() * 1e6;
        let told =
            writeln!(io::stderr(), "{name}/{senders}: {micros:.1} us of processor time a request");
        told.expect("there is a standard error");
    }
}

impl Sending {
    fn to(receiver: &Receiver) -> Self {
        let url = format!("http://{}/in", receiver.address());
        let settings =
            DestinationSettings::new("sink", Url::parse(&url).expect("an address makes a URL"));
        let clock = Arc::new(SystemClock::new());
        Self {
            transport: HttpTransport::new(&settings, clock.clone()).expect("nothing is refused"),
            template: RequestTemplate::new(&settings, "bench", [0; 16]).expect("it is plain"),
            clock,
            cost: (AtomicU64::new(0), AtomicU64::new(0)),
        }
    }

    /// What a request costs its sender; `None` if nothing was measured.
    fn cost(&self) -> Option<Duration> {
        let (nanos, requests) = &self.cost;
        let requests = u32::try_from(requests.load(Ordering::Relaxed)).ok()?;
        Duration::from_nanos(nanos.load(Ordering::Relaxed)).checked_div(requests)
    }

    /// Sends `each` requests from each of so many threads; how long all of it took.
    fn send(&self, senders: u64, each: u64) -> Duration {
        let start = self.clock.moment();
        thread::scope(|scope| {
            for sender in 0..senders {
                thread::Builder::new()
                    .name(format!("bench-sender-{sender}"))
                    .spawn_scoped(scope, move || self.send_from(sender * each, each))
                    .expect("there is a thread for each sender");
            }
        });
        self.clock.moment().since(start)
    }

    fn send_from(&self, first: u64, count: u64) {
        let payload: Arc<[u8]> = vec![b'x'; BODY_BYTES].into();
        for sequence in first..first + count {
            let export = Export {
                sequence,
                profile: ProfileKey { policy: 0, profile: sequence },
                origin: Origin::default(),
                accepted: Timestamp::EPOCH,
                payload: Arc::clone(&payload),
            };
            let outcome = self.transport.send(&self.template.request(&export, self.clock.now()));
            assert_eq!(outcome.status(), Some(204), "{outcome}");
        }
        if let Some(nanos) = processor_time() {
            self.cost.0.fetch_add(nanos, Ordering::Relaxed);
            self.cost.1.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Nanoseconds that this thread has been on a processor; `None` where the system does not tell.
fn processor_time() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}
