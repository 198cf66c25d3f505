//! What a dataflow sends when: a state machine without threads and without a clock.
//!
//! It is told what is durable and how requests ended, is asked what to do next, and answers with an
//! [`Action`]. The same calls with the same times give the same answers, which is what the
//! simulation lives on. It owns the order per profile and the window ([`Queue`], [`Window`]), the
//! rate, the retries, and the bound on open requests; its destination's [`Health`] it shares.
//!
//! What stays true: an export is done only after a 2xx, or once its dead letter is stored, or once
//! it was withdrawn; and of one profile, at most one export is in flight.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::{
    Attempt, Backlog, BacklogError, DeadLetter, EndedExport, Ending, Export, ProgressMark,
};
use super::breaker::Permit;
use super::health::{Health, Leave, Role};
use super::heritage::Heritage;
use super::jitter::Jitter;
use super::metrics::Metrics;
use super::outcome::Outcome;
use super::queue::{Ended, History, Kind, Queue};
use super::rate::Rate;
use super::retry::{self, Attempted, Decision, Renewal};
use super::settings::{
    AuthSettings, DataflowSettings, DestinationSettings, RetrySettings, Sending,
};
use super::state::LastError;
use super::tick::Tick;
use super::turn::Urgency;
use super::window::Window;
use super::withdrawal::Withdrawal;
use crate::clock::{Moment, Timestamp};

/// Progress is written this often while something changes: with the time a sync takes, a crash then
/// repeats what ended in the last 100 ms (`SPEC.md` §8).
pub const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

/// How many exports that may be sent are kept ready for each request that may be open: one to send
/// and one to be read ahead.
const READY_PER_REQUEST: usize = 2;

/// What to do next.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send this, report how it ended with [`Dispatcher::on_outcome`], and ask again.
    Send(Dispatch),
    /// Nothing before this moment, unless something is reported.
    WaitUntil(Moment),
    /// Nothing until something is reported.
    Idle,
}

/// An export to be sent.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The export.
    pub export: Arc<Export>,
    /// Whether its destination is paused and this finds out whether it works again.
    pub role: Role,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Which export it carried.
    pub sequence: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What a progress mark is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writing {
    /// Delivery goes on, and may crash.
    Running,
    /// Delivery stops.
    Stopping,
}

/// One dataflow's delivery.
pub struct Dispatcher {
    dataflow: String,
    max_in_flight: usize,
    retry: RetrySettings,
    renewal: Renewal,
    sending: Sending,
    queue: Queue,
    window: Window,
    rate: Rate,
    health: Health,
    jitter: Jitter,
    heritage: Heritage,
    last_error: Option<LastError>,
    last_delivered: Option<Timestamp>,
    /// What ended since progress was written.
    ended: Vec<EndedExport>,
    /// When what changed since is written; `None` if nothing did.
    write_at: Option<Moment>,
}

impl Dispatcher {
    /// Takes over from an earlier run's progress.
    pub fn new(
        (dataflow, destination): (&DataflowSettings, &DestinationSettings),
        health: Health,
        jitter: Jitter,
        restored: ProgressMark,
        tick: Tick,
    ) -> Self {
        let mut rate = Rate::new(destination.max_requests_per_second);
        rate.restore(&restored.starts, tick.now, tick.wall);
        let renewal = match destination.auth {
            AuthSettings::None | AuthSettings::Bearer { .. } => Renewal::Impossible,
            AuthSettings::ClientCredentials { .. } | AuthSettings::Password { .. } => {
                Renewal::Possible
            }
        };
        Self {
            dataflow: dataflow.id.clone(),
            max_in_flight: destination.max_in_flight.max(1),
            retry: destination.retry.clone(),
            renewal,
            sending: dataflow.sending,
            queue: Queue::default(),
            window: Window::new(&dataflow.id, dataflow.waiting, restored),
            rate,
            health,
            jitter,
            heritage: Heritage::new(),
            last_error: None,
            last_delivered: None,
            ended: Vec::new(),
            write_at: None,
        }
    }

    /// Goes on where another dispatcher of the same dataflow has stopped.
    pub fn inherit(&mut self, heritage: Heritage) {
        self.heritage = heritage;
    }

    /// What it leaves to the one that takes its place.
    pub const fn heritage(&self) -> &Heritage {
        &self.heritage
    }

    /// Exports through `sequence` are durable and may be sent.
    pub fn durable_through(&mut self, sequence: u64) {
        self.window.durable_through(sequence);
    }

    /// Dead letters were marked for replay.
    pub const fn replay(&mut self) {
        self.window.replay();
    }

    /// Withdraws what `withdrawal` takes, in the backlog and here. Nothing of it is sent any more, and
    /// what is in flight is done however it ends.
    pub fn withdraw(
        &mut self,
        withdrawal: &Withdrawal,
        now: Moment,
        backlog: &dyn Backlog,
    ) -> Result<(), BacklogError> {
        // The backlog has everything that is open here, which may be without its payload.
        let gone = backlog.withdraw(&self.dataflow, withdrawal)?;
        // From the end, so that none becomes the first of its profile and goes next.
        for sequence in gone.into_iter().rev() {
            self.queue.withdraw(sequence);
        }
        for ended in &mut self.ended {
            let profile = ended.export.profile;
            for attempt in &mut ended.attempts {
                if withdrawal.takes_answer(profile, &attempt.answer) {
                    attempt.answer.clear();
                }
            }
        }
        self.changed(now);
        Ok(())
    }

    /// Drops the replays of these dead letters, which are kept no more.
    pub fn forget(&mut self, sequences: &[u64], now: Moment) {
        for &sequence in sequences {
            self.queue.withdraw_replay(sequence);
        }
        self.changed(now);
    }

    /// Pauses or goes on, as configured. What is in flight ends.
    pub const fn set_sending(&mut self, sending: Sending) {
        self.sending = sending;
    }

    /// What to do at `tick`.
    pub fn poll(&mut self, tick: Tick, backlog: &dyn Backlog) -> Result<Action, BacklogError> {
        if self.sending == Sending::Paused {
            return Ok(Action::Idle);
        }
        loop {
            self.queue.unpark(tick.now);
            self.fill(tick, backlog)?;
            if self.queue.in_flight() >= self.max_in_flight {
                return Ok(Action::Idle);
            }
            let Some(sequence) = self.queue.first_ready() else {
                match self.queue.next_due() {
                    // Read a moment ago, with a retry of an earlier run that is due.
                    Some(due) if due <= tick.now => continue,
                    Some(due) => return Ok(Action::WaitUntil(due)),
                    None => return Ok(Action::Idle),
                }
            };
            if let Some(wait) = self.gate(self.queue.urgency(sequence), tick.now) {
                return Ok(wait);
            }
            let Some(export) = self.payload(sequence, backlog)? else {
                // Withdrawn from the store since it was read.
                self.done(sequence, tick.now);
                continue;
            };
            let Some(role) = self.health.claim(tick.now) else { return Ok(Action::Idle) };
            self.rate.start(tick.now);
            self.queue.start(sequence, role);
            self.changed(tick.now);
            return Ok(Action::Send(Dispatch { export, role }));
        }
    }

    /// A request ended.
    pub fn on_outcome(
        &mut self,
        tick: Tick,
        completion: &Completion,
        backlog: &dyn Backlog,
    ) -> Result<(), BacklogError> {
        let Completion { sequence, outcome, took } = completion;
        let (sequence, ended) = (*sequence, self.queue.end(*sequence));
        self.heritage.metrics.request(outcome, ended.role, *took, tick.now);
        if let Some(wait) = retry::hold(outcome) {
            self.heritage.hold.extend(tick.now.plus(wait));
        }
        let decision = self.decide(sequence, outcome);
        if decision == Decision::Renew && !ended.withdrawn {
            self.renew(sequence, ended.role, tick.now);
            return Ok(());
        }
        self.health.ended(tick.now, ended.role, outcome);
        if decision != Decision::Delivered {
            self.last_error = Some(LastError { text: outcome.to_string(), at: tick.wall });
        }
        self.changed(tick.now);
        match decision {
            Decision::Delivered => return self.delivered(completion, &ended, tick, backlog),
            _ if ended.withdrawn => self.done(sequence, tick.now),
            // A failed probe is no attempt, and the export waits with the others.
            _ if ended.role == Role::Probe && !retry::is_sign_of_life(outcome) => {
                self.wait(sequence, None, tick);
            }
            Decision::Gone | Decision::Renew => self.wait(sequence, None, tick),
            Decision::Retry(wait) => {
                self.attempted(sequence, outcome, tick);
                self.wait(sequence, Some(tick.now.plus(wait)), tick);
            }
            Decision::DeadLetter => {
                self.attempted(sequence, outcome, tick);
                return self.bury(sequence, tick, backlog);
            }
        }
        Ok(())
    }

    /// When progress must be written; `None` if nothing changed.
    pub const fn progress_due(&self) -> Option<Moment> {
        self.write_at
    }

    /// The progress to write now. What is on disk before it is written is repeated after a crash.
    pub fn progress(&mut self, tick: Tick, writing: Writing) -> ProgressMark {
        self.write_at = None;
        let mut mark = self.window.mark(&self.queue, tick);
        mark.ended = std::mem::take(&mut self.ended);
        mark.starts = match writing {
            Writing::Running => self.rate.supposed_starts(),
            Writing::Stopping => self.rate.starts(tick.now, tick.wall),
        };
        mark
    }

    /// The dataflow's id.
    pub fn dataflow(&self) -> &str {
        &self.dataflow
    }

    /// When an export was last delivered.
    pub const fn last_delivered(&self) -> Option<Timestamp> {
        self.last_delivered
    }

    /// Requests open.
    pub const fn in_flight(&self) -> usize {
        self.queue.in_flight()
    }

    /// The window: for state and tests.
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// The open exports: for state and tests.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The numbers, shared with whoever shows them.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.heritage.metrics
    }

    /// The last failure.
    pub const fn last_error(&self) -> Option<&LastError> {
        self.last_error.as_ref()
    }

    /// The oldest export from the backlog that is not done; `None` if all are.
    pub fn oldest(&self) -> Option<u64> {
        let unread = (self.window.unread() > 0).then(|| self.window.next());
        self.queue.live().next().or(unread)
    }

    /// Whether it is paused by configuration.
    pub const fn sending(&self) -> Sending {
        self.sending
    }

    fn fill(&mut self, tick: Tick, backlog: &dyn Backlog) -> Result<(), BacklogError> {
        let enough = if self.window.reads_ahead() {
            usize::MAX
        } else {
            // Below this there is no need to look; reading then goes up to `enough`.
            if self.queue.ready_now() >= self.max_in_flight {
                return Ok(());
            }
            self.max_in_flight.saturating_mul(READY_PER_REQUEST)
        };
        let collapsed = self.window.fill(&mut self.queue, enough, tick, backlog)?;
        if collapsed > 0 {
            self.superseded(tick);
            self.changed(tick.now);
        }
        Ok(())
    }

    /// What keeps the dataflow from sending anything so urgent at `now`.
    fn gate(&self, urgency: Urgency, now: Moment) -> Option<Action> {
        let next_start = match urgency {
            Urgency::Now => self.rate.next_start(),
            Urgency::Backfill => self.rate.next_start_of_backfill(),
        };
        let at = self.heritage.hold.ends_at().max(next_start);
        match self.health.leave(now) {
            Leave::Gone | Leave::Breaker(Permit::Probing) => Some(Action::Idle),
            Leave::Breaker(Permit::Wait(probe)) => Some(Action::WaitUntil(at.max(probe))),
            Leave::Breaker(Permit::Send | Permit::Probe) => {
                (at > now).then_some(Action::WaitUntil(at))
            }
        }
    }

    fn payload(
        &mut self,
        sequence: u64,
        backlog: &dyn Backlog,
    ) -> Result<Option<Arc<Export>>, BacklogError> {
        if self.queue.payload(sequence).is_none() {
            let kind = self.queue.kind(sequence);
            self.window.reread(&mut self.queue, sequence, kind, backlog)?;
        }
        Ok(self.queue.payload(sequence).cloned())
    }

    fn decide(&mut self, sequence: u64, outcome: &Outcome) -> Decision {
        let history = self.queue.history_of(sequence);
        let renewed = history.is_some_and(|history| history.renewed);
        let renewal = if renewed { Renewal::Impossible } else { self.renewal };
        let number = history.map_or(0, History::count) + 1;
        let attempt = Attempted { number, outcome, renewal };
        retry::decide(&self.retry, attempt, self.jitter.next_fraction())
    }

    /// The token was refused; the sender has dropped it, and the next request fetches another.
    fn renew(&mut self, sequence: u64, role: Role, now: Moment) {
        self.queue.put_back(sequence);
        self.queue.renewed(sequence);
        if role == Role::Probe {
            self.health.probe_returned(now);
        }
    }

    fn delivered(
        &mut self,
        completion: &Completion,
        ended: &Ended,
        tick: Tick,
        backlog: &dyn Backlog,
    ) -> Result<(), BacklogError> {
        let sequence = completion.sequence;
        let status = completion.outcome.status().expect("what is delivered was answered");
        let history = self.queue.history_of(sequence);
        let failures = history.map_or(0, History::count);
        if failures > 0 {
            self.heritage.metrics.retried();
        }
        let mut attempts = history.map_or_else(Vec::new, |history| history.attempts.clone());
        if ended.withdrawn {
            // What was answered may say whose it was.
            for attempt in &mut attempts {
                attempt.answer.clear();
            }
        }
        let export = self.queue.export(sequence);
        let ending = Ending::Delivered(status);
        let end = EndedExport { export, at: tick.wall, ending, failures, attempts };
        self.last_delivered = Some(tick.wall);
        match ended.kind {
            Kind::Live => {
                // Behind a backfill is no record whose way could be measured.
                let is_backfill = Urgency::of(&end.export.origin) == Urgency::Backfill;
                let accepted = (!is_backfill).then_some(end.export.accepted);
                self.heritage.metrics.delivered(accepted, tick.wall);
                self.ended.push(end);
            }
            Kind::Replay => {
                // What lay among the dead letters for days says nothing of how fast delivery is.
                self.heritage.metrics.delivered(None, tick.wall);
                backlog.replayed(&self.dataflow, end)?;
            }
        }
        self.done(sequence, tick.now);
        Ok(())
    }

    /// Remembers the exports that gave way to newer ones.
    fn superseded(&mut self, tick: Tick) {
        let superseded = self.queue.take_superseded();
        self.heritage.metrics.collapsed(superseded.len() as u64);
        let ended = superseded.into_iter().map(|export| EndedExport {
            export,
            at: tick.wall,
            ending: Ending::Superseded,
            failures: 0,
            attempts: Vec::new(),
        });
        self.ended.extend(ended);
    }

    fn attempted(&mut self, sequence: u64, outcome: &Outcome, tick: Tick) {
        let answer = match outcome {
            Outcome::Status { answer, .. } => answer.clone(),
            _ => Vec::new(),
        };
        let (status, error) = (outcome.status(), outcome.to_string());
        if self.queue.history_of(sequence).is_some_and(|history| history.count() > 0) {
            self.heritage.metrics.retried();
        }
        self.queue.failed(sequence, Attempt { at: tick.wall, status, error, answer });
    }

    fn bury(
        &mut self,
        sequence: u64,
        tick: Tick,
        backlog: &dyn Backlog,
    ) -> Result<(), BacklogError> {
        let export = self.queue.payload(sequence).expect("an export in flight has its payload");
        let export = Export::clone(export);
        self.ended.push(EndedExport {
            export: export.key(),
            at: tick.wall,
            ending: Ending::DeadLettered,
            failures: 0,
            attempts: Vec::new(),
        });
        let history = self.queue.history(sequence);
        let mut attempts = vec![earlier_attempt(tick); history.earlier as usize];
        attempts.append(&mut history.attempts.clone());
        backlog
            .put_dead_letter(&self.dataflow, &DeadLetter { export, attempts, died: tick.wall })?;
        self.heritage.metrics.dead_letter();
        self.done(sequence, tick.now);
        Ok(())
    }

    /// An export whose request failed waits: until `due`, or for its turn. With `backlog = "latest"` it
    /// gives way to a newer one of its profile.
    fn wait(&mut self, sequence: u64, due: Option<Moment>, tick: Tick) {
        if self.window.reads_ahead() && self.queue.give_way(sequence, due) {
            self.superseded(tick);
            return;
        }
        match due {
            Some(due) => self.queue.park(sequence, due),
            None => self.queue.put_back(sequence),
        }
    }

    fn done(&mut self, sequence: u64, now: Moment) {
        self.queue.remove(sequence);
        self.changed(now);
    }

    fn changed(&mut self, now: Moment) {
        self.write_at.get_or_insert(now.plus(PROGRESS_INTERVAL));
    }
}

/// Stands for an attempt of which only the number is kept.
fn earlier_attempt(tick: Tick) -> Attempt {
    let error = "an earlier attempt, of which no details are kept".to_owned();
    Attempt { at: tick.wall, status: None, error, answer: Vec::new() }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("dataflow", &self.dataflow).finish_non_exhaustive()
    }
}
