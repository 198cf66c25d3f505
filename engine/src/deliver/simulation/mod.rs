//! The dispatcher against scripted endpoints: in steps, by a clock that is set.

mod backfill;
mod cases;
mod random;
mod soak;

use std::time::Duration;

use super::backlog::{Backlog, ProfileKey, ProgressMark};
use super::dispatcher::{Action, Completion, Dispatcher, Writing};
use super::health::Health;
use super::jitter::Jitter;
use super::memory::MemoryBacklog;
use super::outcome::Outcome;
use super::settings::{DataflowSettings, DestinationSettings};
use super::tick::Tick;
use super::withdrawal::Withdrawal;
use crate::clock::{Moment, Timestamp};

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

    fn erase(&mut self, profiles: &[u64]) {
        let mut withdrawal = Withdrawal::default();
        for &profile in profiles {
            withdrawal.add_profile(ProfileKey { policy: 0, profile });
        }
        self.withdraw(&withdrawal);
    }

    fn withdraw(&mut self, withdrawal: &Withdrawal) {
        let now = self.tick().now;
        self.dispatcher.withdraw(withdrawal, now, &self.backlog).unwrap();
    }

    fn dead(&self) -> Vec<u64> {
        self.backlog.stored().dead.keys().copied().collect()
    }
}
