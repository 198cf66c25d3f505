//! The thread behind a dataflow: gives the [`Dispatcher`] its events, its time and its senders.
//!
//! The thread owns the dispatcher. Everyone else reaches it over one bounded channel, and reads what
//! it last published in [`Flow`]. A wake-up that finds the channel full may be dropped: the worker
//! has something to read then, and looks at everything shared before it sleeps again.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::backlog::Backlog;
use super::dispatcher::{Action, Completion, Dispatcher, Writing};
use super::error::DeliveryError;
use super::failure::Failure;
use super::health::Health;
use super::heritage::Heritage;
use super::open_export::{Looked, Lookup};
use super::sender::Senders;
use super::settings::Sending;
use super::state::{DataflowState, DrainState, Pause};
use super::tick::Tick;
use super::transport::Transport;
use super::withdrawal::Withdrawal;
use crate::clock::{Clock, Moment, Timestamp};

/// Events read before the worker sends again.
const EVENTS_PER_TURN: usize = 256;

/// Room in the channel for what is not the end of a request.
pub(super) const EVENTS_SPARE: usize = 64;

/// After open requests were aborted, how long their threads may take to notice.
const ABORT_GRACE: Duration = Duration::from_secs(2);

/// What the worker is told.
#[derive(Debug)]
pub(super) enum Event {
    /// A request ended.
    Ended(Completion),
    /// Something shared changed.
    Wake,
    /// Someone wants something.
    Command(Command),
}

/// What someone wants of the worker.
#[derive(Debug)]
pub(super) enum Command {
    Replay,
    /// Withdraw what this takes, then answer.
    Withdraw(Arc<Withdrawal>, Sender<()>),
    /// Drop the replays of these dead letters, then answer.
    Forget(Vec<u64>, Sender<()>),
    /// Write the progress, then answer.
    WriteProgress(Sender<()>),
    SetSending(Sending),
    /// Tell what these wait for.
    Look(Lookup, Sender<Looked>),
    /// No new requests; those open may end until this moment.
    Stop(Moment),
}

/// What a dataflow's worker shares.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: String,
    pub(super) health: Health,
    pub(super) heritage: Heritage,
    events: Sender<Event>,
    /// Whether the worker reads no more events.
    has_ended: AtomicBool,
    /// Exports through this sequence are durable.
    durable: AtomicU64,
    published: Mutex<Published>,
}

#[derive(Debug)]
struct Published {
    state: DataflowState,
    sending: Sending,
}

impl Flow {
    pub(super) fn new(dispatcher: &Dispatcher, health: Health, events: Sender<Event>) -> Self {
        let published =
            Published { state: DataflowState::default(), sending: dispatcher.sending() };
        Self {
            id: dispatcher.dataflow().to_owned(),
            health,
            heritage: dispatcher.heritage().clone(),
            events,
            has_ended: AtomicBool::new(false),
            durable: AtomicU64::new(dispatcher.window().durable()),
            published: Mutex::new(published),
        }
    }

    /// Exports through `sequence` are durable; returns how many more these are than before.
    pub(super) fn notify(&self, sequence: u64) -> u64 {
        let before = self.durable.fetch_max(sequence, Ordering::AcqRel);
        self.wake();
        sequence.saturating_sub(before)
    }

    pub(super) fn wake(&self) {
        match self.events.try_send(Event::Wake) {
            // Full: the worker is awake. Disconnected: it has ended, and needs no waking.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// `false` if the worker has ended. One that ends later may not have seen the command; then what it
    /// would answer with is dropped.
    pub(super) fn command(&self, command: Command) -> bool {
        let sent = self.events.send(Event::Command(command)).is_ok();
        // Looked at behind the sending: who ends behind that empties the channel.
        sent && !self.has_ended.load(Ordering::SeqCst)
    }

    /// Tells the worker, if it has not ended.
    pub(super) fn tell(&self, command: Command) {
        if !self.command(command) {
            tracing::debug!(
                dataflow = self.id,
                "the dispatcher has ended; its failure is reported"
            );
        }
    }

    /// Pauses or unpauses, if that is a change.
    pub(super) fn set_sending(&self, sending: Sending) {
        if self.published().sending != sending {
            self.tell(Command::SetSending(sending));
        }
    }

    pub(super) fn state(&self, now: Moment) -> DataflowState {
        let published = self.published();
        let mut state = published.state.clone();
        let unseen = self.durable.load(Ordering::Acquire).saturating_sub(state.durable);
        state.unread += unseen;
        state.durable += unseen;
        state.paused = match published.sending {
            Sending::Paused => Some(Pause::Config),
            Sending::On => self.health.pause(now),
        };
        state
    }

    pub(super) fn drained(&self, now: Moment) -> DrainState {
        let state = self.state(now);
        match state.paused {
            _ if state.is_empty() => DrainState::Idle,
            Some(Pause::Config) => DrainState::PausedByConfig,
            Some(Pause::Gone { last_error }) if state.in_flight == 0 => {
                DrainState::PausedBy410 { last_error }
            }
            Some(Pause::Breaker { paused_for, last_error }) => {
                DrainState::PausedByBreaker { paused_for, last_error }
            }
            Some(Pause::Gone { .. }) | None => DrainState::Working,
        }
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().expect("no holder of the state panics")
    }
}

/// One dataflow's thread.
pub(super) struct Worker {
    pub(super) flow: Arc<Flow>,
    pub(super) dispatcher: Dispatcher,
    pub(super) events: Receiver<Event>,
    pub(super) senders: Box<dyn Senders>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) backlog: Arc<dyn Backlog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) failure: Failure,
}

impl Worker {
    /// Runs until it is told to stop or something fails.
    pub(super) fn run(mut self) {
        let failure = self.failure.clone();
        let _guard = failure.guard();
        let _ending = Ending { flow: Arc::clone(&self.flow), events: self.events.clone() };
        let worked = self.work().and_then(|deadline| self.stop(deadline));
        if let Err(error) = worked {
            failure.report(error);
        }
    }

    /// Sends until told to stop; returns when open requests must have ended.
    fn work(&mut self) -> Result<Moment, DeliveryError> {
        self.begin()?;
        loop {
            let until = self.turn()?;
            let Some(first) = self.next_event(until) else { continue };
            if let Some(deadline) = self.take_in_from(first)? {
                return Ok(deadline);
            }
        }
    }

    /// Before anything is sent: from now on a crash must be known for one.
    pub(super) fn begin(&mut self) -> Result<(), DeliveryError> {
        self.write_progress(Tick::read(&*self.clock), Writing::Running)
    }

    /// Sends what may be sent and writes what is due; returns when time alone gives more to do.
    pub(super) fn turn(&mut self) -> Result<Option<Moment>, DeliveryError> {
        let next = self.send()?;
        self.write_progress_if_due()?;
        self.publish();
        Ok(next.into_iter().chain(self.dispatcher.progress_due()).min())
    }

    /// Sends what may be sent; returns when more may be, if time alone allows it.
    fn send(&mut self) -> Result<Option<Moment>, DeliveryError> {
        self.dispatcher.durable_through(self.flow.durable.load(Ordering::Acquire));
        loop {
            match self.dispatcher.poll(Tick::read(&*self.clock), &*self.backlog)? {
                Action::Send(dispatch) => {
                    let in_flight = self.dispatcher.in_flight();
                    self.senders.send(dispatch, in_flight).map_err(|source| {
                        DeliveryError::Thread { name: self.flow.id.clone(), source }
                    })?;
                }
                Action::WaitUntil(moment) => return Ok(Some(moment)),
                Action::Idle => return Ok(None),
            }
        }
    }

    /// Takes in an event and some of those behind it; returns a deadline if one says to stop.
    pub(super) fn take_in_from(&mut self, first: Event) -> Result<Option<Moment>, DeliveryError> {
        let mut event = Some(first);
        for _ in 0..EVENTS_PER_TURN {
            let Some(current) = event else { break };
            if let Some(deadline) = self.take_in(current)? {
                return Ok(Some(deadline));
            }
            event = self.events.try_recv().ok();
        }
        // The loop may have taken one more than it handled.
        event.map_or(Ok(None), |event| self.take_in(event))
    }

    fn next_event(&self, until: Option<Moment>) -> Option<Event> {
        let Some(until) = until else {
            return Some(self.events.recv().expect("the flow keeps its end of the channel"));
        };
        match self.events.recv_timeout(until.since(self.clock.moment())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("the flow keeps its end"),
        }
    }

    /// Takes in an event; returns a deadline if it says to stop.
    pub(super) fn take_in(&mut self, event: Event) -> Result<Option<Moment>, DeliveryError> {
        match event {
            Event::Wake => {}
            Event::Ended(completion) => self.ended(&completion)?,
            Event::Command(Command::Stop(deadline)) => return Ok(Some(deadline)),
            Event::Command(Command::Replay) => self.dispatcher.replay(),
            Event::Command(Command::SetSending(sending)) => self.dispatcher.set_sending(sending),
            Event::Command(Command::Withdraw(withdrawal, done)) => {
                let now = self.clock.moment();
                self.dispatcher.withdraw(&withdrawal, now, &*self.backlog)?;
                self.withdrew(&done);
            }
            Event::Command(Command::Forget(sequences, done)) => {
                self.dispatcher.forget(&sequences, self.clock.moment());
                self.withdrew(&done);
            }
            Event::Command(Command::WriteProgress(done)) => {
                self.write_progress(Tick::read(&*self.clock), Writing::Running)?;
                answer(&self.flow, &done);
            }
            Event::Command(Command::Look(lookup, told)) => {
                let open = self.dispatcher.queue().look(lookup, Tick::read(&*self.clock));
                let next = self.dispatcher.window().next();
                if told.send(Looked { open, next }).is_err() {
                    tracing::debug!(dataflow = self.flow.id, "nobody waited for what was asked");
                }
            }
        }
        Ok(None)
    }

    fn withdrew(&self, done: &Sender<()>) {
        self.publish();
        answer(&self.flow, done);
    }

    fn ended(&mut self, completion: &Completion) -> Result<(), DeliveryError> {
        let tick = Tick::read(&*self.clock);
        Ok(self.dispatcher.on_outcome(tick, completion, &*self.backlog)?)
    }

    fn write_progress_if_due(&mut self) -> Result<(), DeliveryError> {
        let tick = Tick::read(&*self.clock);
        match self.dispatcher.progress_due() {
            Some(due) if due <= tick.now => self.write_progress(tick, Writing::Running),
            _ => Ok(()),
        }
    }

    fn write_progress(&mut self, tick: Tick, writing: Writing) -> Result<(), DeliveryError> {
        let mark = self.dispatcher.progress(tick, writing);
        Ok(self.backlog.write_progress(&self.flow.id, &mark)?)
    }

    /// Lets open requests end until `deadline`, cuts off the others, and writes the last progress.
    pub(super) fn stop(mut self, mut deadline: Moment) -> Result<(), DeliveryError> {
        while self.dispatcher.in_flight() > 0 {
            let Some(event) = self.next_event(Some(deadline)) else { break };
            match event {
                // After the deadline another dataflow may have aborted this destination's requests.
                Event::Ended(completion) if self.clock.moment() < deadline => {
                    self.ended(&completion)?;
                }
                Event::Ended(_) => break,
                other => deadline = self.take_in(other)?.map_or(deadline, |d| d.min(deadline)),
            }
        }
        let tick = Tick::read(&*self.clock);
        self.write_progress(tick, Writing::Stopping)?;
        self.publish();
        if self.dispatcher.in_flight() > 0 {
            self.transport.abort();
        }
        let Self { senders, events, clock, flow, .. } = self;
        join(senders.stop(), &events, &*clock, &flow.id);
        Ok(())
    }

    fn publish(&self) {
        let queue = self.dispatcher.queue();
        let replays = queue.replays() as u64;
        let now = self.clock.moment();
        let before = mem::discriminant(&self.flow.drained(now));
        let mut published = self.flow.published();
        published.sending = self.dispatcher.sending();
        let state = &mut published.state;
        state.open = queue.len() as u64 - replays;
        state.unread = self.dispatcher.window().unread();
        state.durable = self.dispatcher.window().durable();
        state.in_flight = queue.in_flight() as u64;
        state.parked = queue.parked() as u64;
        state.replays = replays + u64::from(self.dispatcher.window().has_replays());
        state.last_delivered_ms = self.dispatcher.last_delivered().map(Timestamp::as_millis);
        state.oldest = self.dispatcher.oldest();
        if state.last_error.as_ref() != self.dispatcher.last_error() {
            state.last_error = self.dispatcher.last_error().cloned();
        }
        drop(published);
        if mem::discriminant(&self.flow.drained(now)) != before {
            self.failure.change();
        }
    }
}

fn answer(flow: &Flow, done: &Sender<()>) {
    if done.send(()).is_err() {
        tracing::debug!(dataflow = flow.id, "nobody waited for what was asked");
    }
}

/// However a worker ends, it leaves no command behind: a channel keeps what nobody reads, and whoever
/// waits for an answer would wait for ever.
struct Ending {
    flow: Arc<Flow>,
    events: Receiver<Event>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.flow.has_ended.store(true, Ordering::SeqCst);
        while self.events.try_recv().is_ok() {}
    }
}

/// Joins the senders; one that does not come back from its request is left behind, and said so.
fn join(threads: Vec<JoinHandle<()>>, events: &Receiver<Event>, clock: &dyn Clock, dataflow: &str) {
    let deadline = clock.moment().plus(ABORT_GRACE);
    while threads.iter().any(|thread| !thread.is_finished()) && clock.moment() < deadline {
        // Their outcomes, which nobody counts any more, and no busy waiting between.
        match events.recv_timeout(JOIN_INTERVAL) {
            Ok(_) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }
    for thread in threads {
        if !thread.is_finished() {
            tracing::warn!(dataflow, "a request did not end; its thread is left behind");
        } else if thread.join().is_err() {
            // Its guard has reported the panic already.
            tracing::error!(dataflow, "a sender panicked");
        }
    }
}

/// How often senders that end are looked for.
const JOIN_INTERVAL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use crossbeam::channel::bounded;

    use super::*;
    use crate::deliver::settings::DestinationSettings;

    #[test]
    fn a_worker_that_ends_leaves_nobody_waiting() {
        let settings = DestinationSettings::new("sink", "http://127.0.0.1/".parse().unwrap());
        let (events, received) = bounded(8);
        let state = DataflowState::default();
        let flow = Arc::new(Flow {
            id: "flow".to_owned(),
            health: Health::new(&settings),
            heritage: Heritage::new(),
            events,
            has_ended: AtomicBool::new(false),
            durable: AtomicU64::new(0),
            published: Mutex::new(Published { state, sending: Sending::On }),
        });
        let ending = Ending { flow: Arc::clone(&flow), events: received.clone() };
        let ask = || {
            let (done, wait) = bounded(1);
            (flow.command(Command::Forget(Vec::new(), done)), wait)
        };
        let (before, unanswered) = ask();
        drop(ending);
        assert!(before && unanswered.recv().is_err(), "it was asked, and ended first");
        let (after, _) = ask();
        assert!(!after, "although somebody holds the other end of the channel");
        drop(received);
    }
}
