//! Two hours of a destination that is slow, fails, asks for pauses and goes away, with crashes among
//! it, in simulated time: what memory holds stays within its bounds and comes back to nothing, order
//! and "at least once" hold, and never do more requests start in a second than allowed.
//!
//! One seed drives everything; every failure tells it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::super::backlog::{Backlog, ProgressMark};
use super::super::dispatcher::{Action, Writing};
use super::super::jitter::Jitter;
use super::super::outcome::Outcome;
use super::super::queue::{OPEN_MAX, PAYLOAD_BYTES_MAX};
use super::super::settings::DestinationSettings;
use super::{Bench, asking, destination, status};

const SECOND: u64 = 1_000;
const DURATION: u64 = 2 * 60 * 60 * SECOND;
const PROFILES: u64 = 500;
/// Exports come in bursts of up to this many.
const BURST: u64 = 25;
/// From one burst to the next, at most.
const PAUSE: u64 = 2 * SECOND;
/// No payload of this test is longer.
const PAYLOAD_BYTES: usize = 64;

/// How the destination is.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Healthy,
    Slow,
    Out,
    Overloaded,
    Flaky,
}

struct Soak {
    seed: u64,
    random: Jitter,
    bench: Bench,
    phase: Phase,
    phase_ends: u64,
    next_burst: u64,
    next_crash: u64,
    last: u64,
    /// When each open request ends, and how.
    flights: BinaryHeap<Reverse<(u64, u64)>>,
    outcomes: HashMap<u64, Outcome>,
    profiles: HashMap<u64, u64>,
    /// What each profile is owed, in order.
    owed: HashMap<u64, VecDeque<u64>>,
    owed_count: usize,
    /// Done since progress was written last: repeated after a crash.
    unwritten: Vec<u64>,
    delivered: HashSet<u64>,
    starts: VecDeque<u64>,
    held_until: u64,
    seen: BTreeMap<&'static str, u64>,
}

fn settings() -> DestinationSettings {
    let mut settings = destination();
    settings.max_requests_per_second = 100;
    settings.max_in_flight = 16;
    settings.breaker_failures = 10;
    settings
}

impl Soak {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Jitter::new(seed),
            bench: Bench::new(settings()),
            phase: Phase::Healthy,
            phase_ends: 0,
            next_burst: 0,
            next_crash: 60 * SECOND,
            last: 0,
            flights: BinaryHeap::new(),
            outcomes: HashMap::new(),
            profiles: HashMap::new(),
            owed: HashMap::new(),
            owed_count: 0,
            unwritten: Vec::new(),
            delivered: HashSet::new(),
            starts: VecDeque::new(),
            held_until: 0,
            seen: BTreeMap::new(),
        }
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        let part = Duration::from_millis(limit).mul_f64(self.random.next_fraction());
        u64::try_from(part.as_millis()).unwrap()
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        assert!(holds, "seed {}, at {} ms: {}", self.seed, self.bench.ms, what());
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// Does everything that is due, and moves the clock to what comes next.
    fn step(&mut self) {
        let now = self.bench.ms;
        if now >= self.phase_ends {
            self.change_phase();
        }
        if now >= self.next_burst && now < DURATION {
            self.burst();
        }
        while self.flights.peek().is_some_and(|Reverse((ends, _))| *ends <= now) {
            let Reverse((_, sequence)) = self.flights.pop().unwrap();
            self.end(sequence);
        }
        // Where it hurts: with something done that is not written yet.
        if now >= self.next_crash && now < DURATION && !self.unwritten.is_empty() {
            self.crash();
        }
        let wake = self.send();
        if self.bench.dispatcher.progress_due().is_some_and(|due| due <= self.bench.tick().now) {
            self.write();
        }
        self.watch_memory();
        let due =
            self.bench.dispatcher.progress_due().map(|due| due.as_nanos().div_ceil(1_000_000));
        let ends = self.flights.peek().map(|Reverse((ends, _))| *ends);
        let fixed = (now < DURATION).then_some(self.next_burst);
        let next = [Some(self.phase_ends), fixed, ends, wake, due].into_iter().flatten().min();
        self.bench.ms = next.unwrap();
        self.check(self.bench.ms > now, || format!("time stands still at {now}"));
    }

    fn change_phase(&mut self) {
        let is_over = self.bench.ms >= DURATION;
        let (phase, longest) = match self.below(8) {
            _ if is_over => (Phase::Healthy, 600),
            0 => (Phase::Out, 300),
            1 => (Phase::Slow, 120),
            2 => (Phase::Overloaded, 60),
            3 => (Phase::Flaky, 300),
            _ => (Phase::Healthy, 300),
        };
        self.phase = phase;
        self.phase_ends = self.bench.ms + SECOND + self.below(longest * SECOND);
        self.count(match phase {
            Phase::Healthy => "healthy",
            Phase::Slow => "slow",
            Phase::Out => "out",
            Phase::Overloaded => "overloaded",
            Phase::Flaky => "flaky",
        });
    }

    fn burst(&mut self) {
        self.next_burst = self.bench.ms + 1 + self.below(PAUSE);
        for _ in 0..=self.below(BURST) {
            // A few profiles change far more often than the others.
            let profile = self.below(PROFILES) * self.below(PROFILES) / PROFILES;
            self.last += 1;
            let export = super::super::memory::export(self.last, profile);
            self.bench.backlog.stored().exports.insert(self.last, export);
            self.profiles.insert(self.last, profile);
            self.owed.entry(profile).or_default().push_back(self.last);
            self.owed_count += 1;
        }
        self.bench.dispatcher.durable_through(self.last);
    }

    /// Sends what may be sent; when more may be.
    fn send(&mut self) -> Option<u64> {
        loop {
            match self.bench.poll() {
                Action::Send(dispatch) => self.sent(dispatch.export.sequence),
                Action::WaitUntil(at) => return Some(at.as_nanos().div_ceil(1_000_000)),
                Action::Idle => return None,
            }
        }
    }

    fn sent(&mut self, sequence: u64) {
        let (now, limit) = (self.bench.ms, self.bench.settings.max_requests_per_second as usize);
        let profile = self.profiles[&sequence];
        let first = self.owed[&profile].front().copied();
        self.check(first == Some(sequence), || format!("{sequence} leaves before {first:?}"));
        self.check(now >= self.held_until, || format!("{sequence} leaves in a pause"));
        if self.starts.len() == limit {
            let earliest = self.starts.pop_front().unwrap();
            self.check(now - earliest >= SECOND, || format!("{limit} started since {earliest}"));
        }
        self.starts.push_back(now);
        let (takes, outcome) = self.answer();
        self.flights.push(Reverse((now + takes, sequence)));
        let before = self.outcomes.insert(sequence, outcome);
        self.check(before.is_none(), || format!("{sequence} is in flight twice"));
        let open = self.flights.len();
        self.check(open <= self.bench.settings.max_in_flight, || format!("{open} are open"));
    }

    fn answer(&mut self) -> (u64, Outcome) {
        let quick = 1 + self.below(20);
        match (self.phase, self.below(100)) {
            (Phase::Healthy, 0) => (quick, status(404)),
            (Phase::Healthy | Phase::Overloaded, 1) => (quick, status(500)),
            (Phase::Flaky, 0..15) => (quick, status(503)),
            (Phase::Flaky, 15..20) => (quick, Outcome::Connect("reset".to_owned())),
            (Phase::Slow, 0..40) => (2 * SECOND, Outcome::Timeout),
            (Phase::Slow, _) => (500 + self.below(SECOND), status(200)),
            (Phase::Out, _) => (quick, Outcome::Connect("refused".to_owned())),
            (Phase::Overloaded, 2..10) => (quick, asking(429, 1 + self.below(15))),
            (Phase::Healthy | Phase::Flaky | Phase::Overloaded, _) => (quick, status(200)),
        }
    }

    fn end(&mut self, sequence: u64) {
        let outcome = self.outcomes.remove(&sequence).expect("it is in flight");
        if let Outcome::Status { code: 429 | 503, retry_after: Some(wait), .. } = &outcome {
            let wait = u64::try_from(wait.as_millis()).unwrap();
            self.held_until = self.held_until.max(self.bench.ms + wait);
            self.count("paused");
        }
        let is_delivered = outcome.status() == Some(200);
        self.bench.end(sequence, outcome);
        let is_open = self.bench.dispatcher.queue().contains(sequence);
        self.check(!(is_delivered && is_open), || format!("{sequence} is done and open"));
        if !is_open {
            if is_delivered {
                self.delivered.insert(sequence);
            } else {
                let is_kept = self.bench.backlog.stored().dead.contains_key(&sequence);
                self.check(is_kept, || format!("{sequence} is lost"));
                self.count("dead letter");
            }
            let owed = self.owed.get_mut(&self.profiles[&sequence]).unwrap();
            owed.pop_front();
            self.owed_count -= 1;
            self.unwritten.push(sequence);
        }
    }

    fn write(&mut self) {
        let mark = self.bench.dispatcher.progress(self.bench.tick(), Writing::Running);
        self.watch_mark(&mark);
        self.bench.backlog.write_progress("flow", &mark).unwrap();
        self.unwritten.clear();
    }

    /// What was in flight, or delivered and not written, is owed again. A dead letter is its own record.
    fn crash(&mut self) {
        self.next_crash = self.bench.ms + SECOND + self.below(600 * SECOND);
        self.flights.clear();
        self.outcomes.clear();
        self.held_until = 0;
        self.unwritten.sort_unstable_by_key(|&sequence| Reverse(sequence));
        for sequence in std::mem::take(&mut self.unwritten) {
            if self.bench.backlog.stored().dead.contains_key(&sequence) {
                continue;
            }
            self.owed.get_mut(&self.profiles[&sequence]).unwrap().push_front(sequence);
            self.owed_count += 1;
            self.count("repeat");
        }
        self.bench.crash();
        self.count("crash");
    }

    fn watch_memory(&mut self) {
        let queue = self.bench.dispatcher.queue();
        let in_flight = self.bench.settings.max_in_flight * PAYLOAD_BYTES;
        let (open, bytes) = (queue.len(), queue.payload_bytes());
        self.check(open <= OPEN_MAX && open <= self.owed_count, || format!("{open} are open"));
        self.check(bytes <= PAYLOAD_BYTES_MAX + in_flight, || format!("{bytes} of payloads"));
        self.check(queue.parked() + queue.ready() <= open, || "more wait than are open".to_owned());
        if self.owed_count == 0 {
            let left = (open, bytes, queue.parked(), queue.live_histories().count());
            self.check(left == (0, 0, 0, 0), || format!("{left:?} is left of nothing"));
            self.count("caught up");
        }
    }

    /// What is written is as long as what is open, however much is done above it.
    fn watch_mark(&self, mark: &ProgressMark) {
        let open = self.bench.dispatcher.queue().len();
        let (done, attempted) = (mark.done.len(), mark.attempted.len());
        // Behind a crash there is as well what the run before did beyond what this one has read.
        let restored = usize::try_from(self.bench.dispatcher.window().unread()).unwrap();
        let most = open + restored + 1;
        self.check(done <= most, || format!("{done} ranges with {open} open"));
        self.check(attempted <= most, || format!("{attempted} attempted with {open} open"));
    }
}

#[test]
fn two_hours_of_trouble_leave_nothing_behind() {
    for seed in [1, 20_261_128] {
        let mut soak = Soak::new(seed);
        while soak.bench.ms < DURATION || soak.owed_count > 0 {
            let is_ending = soak.bench.ms < 2 * DURATION;
            soak.check(is_ending, || "it does not come to an end".to_owned());
            soak.step();
        }
        soak.write();
        let mark = soak.bench.backlog.progress("flow").unwrap();
        let stored = soak.bench.backlog.stored();
        assert_eq!((mark.watermark, mark.done.len()), (soak.last + 1, 0), "seed {seed}");
        assert_eq!(stored.exports.len(), 0, "seed {seed}");
        let is_done = |s: &u64| soak.delivered.contains(s) || stored.dead.contains_key(s);
        assert!((1..=soak.last).all(|s| is_done(&s)), "seed {seed}");
        for what in
            ["slow", "out", "overloaded", "flaky", "paused", "dead letter", "crash", "repeat"]
        {
            assert!(soak.seen.contains_key(what), "seed {seed}: no {what} in {:?}", soak.seen);
        }
        assert!(soak.last > 50_000, "seed {seed}: only {} exports", soak.last);
        assert!(soak.seen["caught up"] > 100, "seed {seed}: {:?}", soak.seen);
    }
}
