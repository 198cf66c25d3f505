//! The dispatcher against scripted endpoints: in steps, by a clock that is set, from a printed seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::backlog::{Backlog, ProfileKey, ProgressMark};
use super::dispatcher::{Action, Completion, Dispatch, Dispatcher, Writing};
use super::health::{Health, Role};
use super::jitter::Jitter;
use super::memory::MemoryBacklog;
use super::outcome::Outcome;
use super::queue::PAYLOAD_BYTES_MAX;
use super::settings::{AuthSettings, DataflowSettings, DestinationSettings, Sending, Waiting};
use super::tick::Tick;
use crate::clock::{Moment, Timestamp};
use crate::deliver::settings::OauthClient;
use crate::secret::Secret;

/// Nothing is sent.
const NONE: [u64; 0] = [];

fn destination() -> DestinationSettings {
    let mut settings = DestinationSettings::new("sink", "http://127.0.0.1/".parse().unwrap());
    settings.retry.backoff = vec![Duration::from_secs(1), Duration::from_secs(2)];
    settings.max_in_flight = 4;
    settings
}

fn status(code: u16) -> Outcome {
    Outcome::Status { code, retry_after: None, answer: b"no".to_vec() }
}

fn asking(code: u16, seconds: u64) -> Outcome {
    let retry_after = Some(Duration::from_secs(seconds));
    Outcome::Status { code, retry_after, answer: Vec::new() }
}

/// A dispatcher, its backlog, and the time.
struct Bench {
    backlog: MemoryBacklog,
    settings: DestinationSettings,
    flow: DataflowSettings,
    health: Health,
    dispatcher: Dispatcher,
    ms: u64,
}

impl Bench {
    fn new(settings: DestinationSettings) -> Self {
        Self::with_flow(settings, DataflowSettings::new("flow", "sink"))
    }

    fn with_flow(settings: DestinationSettings, flow: DataflowSettings) -> Self {
        let health = Health::new(&settings);
        let dispatcher = Dispatcher::new(
            (&flow, &settings),
            health.clone(),
            Jitter::new(0),
            ProgressMark::default(),
            Tick { now: Moment::default(), wall: Timestamp::EPOCH },
        );
        Self { backlog: MemoryBacklog::default(), settings, flow, health, dispatcher, ms: 0 }
    }

    fn tick(&self) -> Tick {
        let wall = Timestamp::from_millis(i64::try_from(self.ms).unwrap());
        Tick { now: Moment::from_nanos(self.ms * 1_000_000), wall }
    }

    /// Stores exports of these profiles, durably.
    fn add(&mut self, profiles: &[u64]) {
        for &profile in profiles {
            let sequence = self.backlog.add(profile);
            self.dispatcher.durable_through(sequence);
        }
    }

    fn poll(&mut self) -> Action {
        self.dispatcher.poll(self.tick(), &self.backlog).unwrap()
    }

    /// Everything that may be sent now.
    fn sends(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| match self.poll() {
            Action::Send(dispatch) => Some(dispatch.export.sequence),
            Action::WaitUntil(_) | Action::Idle => None,
        })
        .collect()
    }

    fn end(&mut self, sequence: u64, outcome: Outcome) {
        let completion = Completion { sequence, outcome, took: Duration::ZERO };
        self.dispatcher.on_outcome(self.tick(), &completion, &self.backlog).unwrap();
    }

    /// Writes progress and starts again from it.
    fn restart(&mut self, writing: Writing) {
        let mark = self.dispatcher.progress(self.tick(), writing);
        self.backlog.write_progress("flow", &mark).unwrap();
        self.crash();
    }

    /// Starts again from the progress written last.
    fn crash(&mut self) {
        let durable = self.dispatcher.window().durable();
        self.health = Health::new(&self.settings);
        let restored = self.backlog.progress("flow").unwrap();
        let (flow, tick) = ((&self.flow, &self.settings), self.tick());
        let health = self.health.clone();
        self.dispatcher = Dispatcher::new(flow, health, Jitter::new(1), restored, tick);
        self.dispatcher.durable_through(durable);
    }

    fn dead(&self) -> Vec<u64> {
        self.backlog.stored().dead.keys().copied().collect()
    }
}

#[test]
fn a_parked_profile_holds_back_only_itself() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2]);
    assert_eq!(bench.sends(), [1, 3]);
    bench.end(1, status(500));
    bench.end(3, status(200));
    assert_eq!(bench.sends(), NONE);
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1], "after the backoff and its jitter");
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn dead_letters_keep_their_attempts_and_free_the_profile() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1]);
    for _ in 0..3 {
        assert_eq!(bench.sends(), [1]);
        bench.end(1, status(503));
        bench.ms += 10_000;
    }
    assert_eq!(bench.sends(), [2], "the next of the profile follows");
    bench.end(2, status(404));
    assert_eq!(bench.dead(), [1, 2]);
    let stored = bench.backlog.stored();
    let attempts: Vec<_> =
        stored.dead[&1].0.attempts.iter().map(|a| (a.at.as_millis(), a.status)).collect();
    assert_eq!(attempts, [(0, Some(503)), (10_000, Some(503)), (20_000, Some(503))]);
    assert_eq!(stored.dead[&2].0.attempts[0].answer, b"no");
    let stats = bench.dispatcher.metrics().stats(Moment::default());
    assert_eq!((stats.dead_letters, stats.retries, stats.delivered), (2, 2, 0));
}

#[test]
fn an_overloaded_destination_holds_the_whole_dataflow() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 3]);
    assert_eq!(bench.sends(), [1, 2, 3]);
    bench.add(&[4]);
    bench.end(1, asking(429, 30));
    assert!(matches!(bench.poll(), Action::WaitUntil(at) if at.as_nanos() == 30_000_000_000));
    bench.ms = 29_999;
    assert_eq!(bench.sends(), NONE);
    bench.ms = 30_000;
    assert_eq!(bench.sends(), [1, 4]);
}

#[test]
fn what_is_not_durable_is_not_sent() {
    let mut bench = Bench::new(destination());
    bench.backlog.add(1);
    bench.backlog.add(2);
    assert_eq!(bench.sends(), NONE);
    bench.dispatcher.durable_through(1);
    assert_eq!(bench.sends(), [1]);
    bench.dispatcher.durable_through(2);
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn a_failing_destination_is_probed_with_one_export_that_keeps_its_attempts() {
    let mut settings = destination();
    (settings.breaker_failures, settings.max_in_flight) = (2, 1);
    settings.retry.backoff = vec![Duration::from_secs(100)];
    let mut bench = Bench::new(settings);
    bench.add(&[1, 2, 3, 4]);
    for sequence in [1, 2] {
        assert_eq!(bench.sends(), [sequence]);
        bench.end(sequence, status(503));
    }
    assert!(matches!(bench.poll(), Action::WaitUntil(at) if at.as_nanos() == 1_000_000_000));
    for (at, outcome) in [(1_000, status(404)), (3_000, Outcome::Timeout), (7_000, status(401))] {
        bench.ms = at;
        assert_eq!(bench.sends(), [3], "the oldest that is not parked, at {at}");
        bench.end(3, outcome);
    }
    assert!(bench.dead().is_empty(), "a failed probe is no attempt");
    bench.ms = 15_000;
    let Action::Send(Dispatch { role: Role::Probe, .. }) = bench.poll() else { panic!("no probe") };
    bench.end(3, status(422));
    assert_eq!(bench.dead(), [3], "one that shows life is");
    assert_eq!(bench.sends(), [4]);
    let stats = bench.dispatcher.metrics().stats(Moment::default());
    assert_eq!((stats.retries, stats.outcomes.probes), (0, 4));
}

#[test]
fn one_probe_serves_all_dataflows_of_a_destination() {
    let mut settings = destination();
    settings.breaker_failures = 1;
    let mut bench = Bench::new(settings.clone());
    let mut other = Bench::new(settings);
    other.dispatcher = Dispatcher::new(
        (&other.flow, &other.settings),
        bench.health.clone(),
        Jitter::new(0),
        ProgressMark::default(),
        other.tick(),
    );
    bench.add(&[1, 2]);
    other.add(&[1]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, Outcome::Timeout);
    (bench.ms, other.ms) = (1_000, 1_000);
    assert_eq!(other.sends(), [1], "the probe");
    assert_eq!(bench.sends(), NONE);
    other.end(1, status(200));
    bench.end(2, status(200));
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn a_destination_that_is_gone_gets_nothing_until_the_next_run() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, status(410));
    bench.end(2, status(200));
    bench.ms = 100_000_000;
    assert_eq!(bench.sends(), NONE);
    assert!(bench.dead().is_empty());
    bench.restart(Writing::Stopping);
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn a_refused_token_is_renewed_once_for_each_attempt() {
    let mut settings = destination();
    settings.auth = AuthSettings::Password {
        client: OauthClient {
            token_url: "http://127.0.0.1/".parse().unwrap(),
            client_id: String::new(),
            client_secret: Secret::new(String::new()),
        },
        username: String::new(),
        password: Secret::new(String::new()),
    };
    let mut bench = Bench::new(settings);
    bench.add(&[1]);
    // (outcome, whether it is sent again at once)
    for (outcome, again) in [(401, true), (500, false), (401, true), (401, false)] {
        bench.ms += 5_000;
        assert_eq!(bench.sends(), [1]);
        bench.end(1, status(outcome));
        if again {
            assert_eq!(bench.sends(), [1]);
            bench.end(1, status(401));
        }
        if outcome == 401 {
            break;
        }
    }
    assert_eq!(bench.dead(), [1], "a 401 after the renewal is final");
    assert_eq!(bench.backlog.stored().dead[&1].0.attempts.len(), 1, "and the first did not count");
}

#[test]
fn a_restart_in_a_backoff_keeps_the_count_and_the_wait() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 3]);
    assert_eq!(bench.sends(), [1, 2, 3]);
    bench.end(1, status(500));
    bench.end(3, status(200));
    bench.restart(Writing::Stopping);
    let mark = bench.backlog.progress("flow").unwrap();
    assert_eq!((mark.watermark, mark.done.clone()), (1, vec![(3, 3)]));
    assert_eq!(bench.sends(), [2], "the one in flight is repeated, the one done is not");
    bench.restart(Writing::Stopping);
    assert_eq!(bench.sends(), [2]);
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(500));
    bench.ms = 4_000;
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(500));
    assert_eq!(bench.dead(), [1], "three attempts in all");
}

#[test]
fn a_replay_goes_before_what_its_profile_has_waiting() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2]);
    assert_eq!(bench.sends(), [1, 3]);
    bench.end(1, status(404));
    assert_eq!(bench.sends(), [2]);
    bench.add(&[1]);
    bench.backlog.stored().dead.get_mut(&1).unwrap().1 = true;
    bench.dispatcher.replay();
    bench.end(2, status(500));
    assert_eq!(bench.sends(), [1], "with its old number");
    bench.end(1, status(200));
    assert!(bench.dead().is_empty(), "delivered, it is no dead letter any more");
    assert_eq!(bench.sends(), NONE, "the one in its backoff still waits");
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [2]);
    bench.end(2, status(200));
    assert_eq!(bench.sends(), [4]);
}

#[test]
fn an_erased_profile_is_not_sent_again() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2, 2, 3]);
    assert_eq!(bench.sends(), [1, 3, 5]);
    bench.end(3, status(500));
    let erased = [1, 2].map(|profile| ProfileKey { policy: 0, profile });
    bench.dispatcher.withdraw(&erased, Moment::default());
    bench.end(1, status(500));
    bench.end(5, status(200));
    bench.ms = 100_000;
    assert_eq!(bench.sends(), NONE);
    assert!(bench.dead().is_empty());
    assert_eq!(bench.dispatcher.queue().len(), 0);
    bench.add(&[2]);
    assert_eq!(bench.sends(), [6], "a new profile starts anew");
}

#[test]
fn waiting_exports_collapse_to_the_newest_where_asked() {
    let mut flow = DataflowSettings::new("flow", "sink");
    flow.waiting = Waiting::Latest;
    let mut bench = Bench::with_flow(destination(), flow);
    bench.add(&[1]);
    assert_eq!(bench.sends(), [1]);
    bench.add(&[1, 1, 2, 1]);
    assert_eq!(bench.sends(), [4]);
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [5]);
}

#[test]
fn a_paused_dataflow_sends_nothing() {
    let mut bench = Bench::new(destination());
    bench.add(&[1]);
    bench.dispatcher.set_sending(Sending::Paused);
    assert_eq!(bench.sends(), NONE);
    bench.dispatcher.set_sending(Sending::On);
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn the_rate_holds_over_a_restart() {
    let mut settings = destination();
    settings.max_requests_per_second = 2;
    for writing in [Writing::Stopping, Writing::Running] {
        let mut bench = Bench::new(settings.clone());
        bench.ms = 5_000;
        bench.add(&[1, 2, 3]);
        assert_eq!(bench.sends(), [1, 2]);
        bench.restart(writing);
        bench.ms = 5_999;
        assert_eq!(bench.sends(), NONE, "{writing:?}");
        bench.ms = 6_200;
        assert_eq!(bench.sends(), [1, 2], "{writing:?}");
    }
}

#[test]
fn a_busy_parked_profile_neither_stops_others_nor_fills_the_memory() {
    let mut bench = Bench::new(destination());
    bench.add(&[7]);
    assert_eq!(bench.sends(), [1]);
    bench.end(1, asking(500, 3_600));
    let busy = vec![7; 20_000];
    bench.add(&busy);
    bench.add(&[8]);
    assert_eq!(bench.sends(), [20_002]);
    assert!(bench.dispatcher.queue().payload_bytes() <= PAYLOAD_BYTES_MAX);
    bench.end(20_002, status(200));
    let mark = bench.dispatcher.progress(bench.tick(), Writing::Running);
    assert_eq!((mark.watermark, mark.done), (1, vec![(20_002, 20_002)]));
}

/// What happens next in a random run.
#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u64>),
    Poll,
    End { which: prop::sample::Index, outcome: Outcome },
    Pass(u64),
    Write,
    Crash,
    Erase(u64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(status(200)),
        2 => Just(status(500)),
        1 => (0..3_u64).prop_map(|seconds| asking(429, seconds)),
        1 => Just(status(404)),
        1 => Just(status(422)),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Connect("reset".to_owned())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::collection::vec(0..6_u64, 1..5).prop_map(Step::Add),
        8 => Just(Step::Poll),
        6 => (any::<prop::sample::Index>(), outcome())
            .prop_map(|(which, outcome)| Step::End { which, outcome }),
        2 => (1..5_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Write),
        1 => Just(Step::Crash),
        1 => (0..6_u64).prop_map(Step::Erase),
    ]
}

/// What a run may never do, remembered from outside.
#[derive(Default)]
struct Watch {
    profiles: BTreeMap<u64, u64>,
    in_flight: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    erased: BTreeSet<u64>,
    crashed: bool,
}

impl Watch {
    fn sent(&mut self, sequence: u64, bench: &Bench) {
        let profile = self.profiles[&sequence];
        assert!(self.crashed || !self.delivered.contains(&sequence), "{sequence} is sent again");
        for (&earlier, _) in self.profiles.range(..sequence).filter(|&(_, &p)| p == profile) {
            let is_done = self.delivered.contains(&earlier)
                || self.erased.contains(&earlier)
                || bench.backlog.stored().dead.contains_key(&earlier);
            assert!(is_done, "{sequence} leaves before {earlier}");
            assert!(!self.in_flight.contains(&earlier), "{sequence} leaves beside {earlier}");
        }
        assert!(self.in_flight.insert(sequence), "{sequence} is in flight twice");
        assert!(self.in_flight.len() <= bench.settings.max_in_flight);
    }

    fn is_done(&self, sequence: u64, bench: &Bench) -> bool {
        self.delivered.contains(&sequence)
            || self.erased.contains(&sequence)
            || bench.backlog.stored().dead.contains_key(&sequence)
    }
}

fn apply(bench: &mut Bench, watch: &mut Watch, step: Step) {
    match step {
        Step::Add(profiles) => {
            for profile in profiles {
                let sequence = watch.profiles.len() as u64 + 1;
                let export = super::memory::export(sequence, profile);
                bench.backlog.stored().exports.insert(sequence, export);
                bench.dispatcher.durable_through(sequence);
                watch.profiles.insert(sequence, profile);
            }
        }
        Step::Poll => {
            if let Action::Send(dispatch) = bench.poll() {
                watch.sent(dispatch.export.sequence, bench);
            }
        }
        Step::End { which, outcome } => {
            if watch.in_flight.is_empty() {
                return;
            }
            let sequence = *watch.in_flight.iter().nth(which.index(watch.in_flight.len())).unwrap();
            watch.in_flight.remove(&sequence);
            if outcome.status() == Some(200) {
                watch.delivered.insert(sequence);
            }
            bench.end(sequence, outcome);
        }
        Step::Pass(ms) => bench.ms += ms,
        Step::Write => {
            let mark = bench.dispatcher.progress(bench.tick(), Writing::Running);
            bench.backlog.write_progress("flow", &mark).unwrap();
        }
        Step::Crash => {
            watch.in_flight.clear();
            watch.crashed = true;
            bench.crash();
        }
        Step::Erase(profile) => {
            let of = |&(_, &p): &(&u64, &u64)| p == profile;
            let gone: Vec<u64> = watch.profiles.iter().filter(of).map(|(&s, _)| s).collect();
            bench.backlog.stored().exports.retain(|sequence, _| !gone.contains(sequence));
            let key = ProfileKey { policy: 0, profile };
            bench.dispatcher.withdraw(&[key], bench.tick().now);
            watch.erased.extend(gone);
        }
    }
}

/// Lets everything end well, within a bounded number of steps.
fn settle(bench: &mut Bench, watch: &mut Watch) {
    for _ in 0..5_000 {
        match bench.poll() {
            Action::Send(dispatch) => watch.sent(dispatch.export.sequence, bench),
            Action::WaitUntil(moment) if watch.in_flight.is_empty() => {
                bench.ms = bench.ms.max(moment.as_nanos().div_ceil(1_000_000));
            }
            Action::WaitUntil(_) | Action::Idle => {
                let Some(sequence) = watch.in_flight.pop_first() else { return };
                watch.delivered.insert(sequence);
                bench.end(sequence, status(200));
            }
        }
    }
    panic!("it does not come to an end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_export_is_done_once_and_in_order(
        steps in prop::collection::vec(step(), 1..150),
        breaker_failures in 1..8_u32,
        max_in_flight in 1..5_usize,
    ) {
        let mut settings = destination();
        (settings.breaker_failures, settings.max_in_flight) = (breaker_failures, max_in_flight);
        let mut bench = Bench::new(settings);
        let mut watch = Watch::default();
        for step in steps {
            apply(&mut bench, &mut watch, step);
        }
        settle(&mut bench, &mut watch);
        for &sequence in watch.profiles.keys() {
            prop_assert!(watch.is_done(sequence, &bench), "{} is lost", sequence);
        }
        prop_assert_eq!(bench.dispatcher.queue().len(), 0);
        let mark = bench.dispatcher.progress(bench.tick(), Writing::Stopping);
        prop_assert_eq!(mark.watermark, watch.profiles.len() as u64 + 1);
        prop_assert!(mark.done.is_empty() && mark.attempted.is_empty());
    }
}
