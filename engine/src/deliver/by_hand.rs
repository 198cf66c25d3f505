//! The workers of all dataflows without their threads, for the simulation of the whole engine.
//!
//! What a worker's thread does between two waits is called here step by step, and what its senders were
//! to send is handed out. A worker that sleeps is not woken unless something came for it or its time has
//! come, so a wake-up that is missing shows as a dataflow that stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use url::Url;

use super::backlog::Backlog;
use super::dispatcher::{Completion, Dispatch, Dispatcher};
use super::error::DeliveryError;
use super::failure::Failure;
use super::health::Health;
use super::heritage::Heritage;
use super::jitter::Jitter;
use super::outcome::Outcome;
use super::request::{Request, RequestTemplate};
use super::sender::Senders;
use super::settings::{DataflowSettings, DestinationSettings, Sending};
use super::state::DrainState;
use super::tick::Tick;
use super::transport::Transport;
use super::withdrawal::Withdrawal;
use super::worker::{Command, EVENTS_SPARE, Event, Flow, Worker};
use crate::clock::{Clock, Moment};

/// What the workers work with.
pub(crate) struct Setup {
    pub(crate) log_id: [u8; 16],
    pub(crate) backlog: Arc<dyn Backlog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jitter: Jitter,
}

/// All dataflows' workers.
pub(crate) struct ByHand {
    setup: Setup,
    healths: BTreeMap<String, (DestinationSettings, Health)>,
    hands: BTreeMap<String, Hand>,
    /// What workers have left to those that take their place, and which receiver they sent to.
    left: BTreeMap<String, (Url, Heritage)>,
}

/// A request that starts.
pub(crate) struct Sent {
    pub(crate) dispatch: Dispatch,
    pub(crate) request: Request,
}

struct Hand {
    flow: Arc<Flow>,
    worker: Worker,
    events: Sender<Event>,
    handed_out: Arc<Mutex<Vec<Dispatch>>>,
    template: RequestTemplate,
    endpoint: Url,
    stage: Stage,
    /// Since when something waits for it.
    called: Option<Moment>,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Its thread has not run yet.
    Started,
    /// It sleeps; until then, if that is known.
    Asleep(Option<Moment>),
}

impl ByHand {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, healths: BTreeMap::new(), hands: BTreeMap::new(), left: BTreeMap::new() }
    }

    /// Starts the dataflows that are not there yet.
    pub(crate) fn start(
        &mut self,
        destinations: &[DestinationSettings],
        dataflows: &[DataflowSettings],
    ) -> Result<(), DeliveryError> {
        for settings in destinations {
            let known = self.healths.get(&settings.id);
            if known.is_none_or(|(known, _)| known != settings) {
                let health = Health::new(settings);
                self.healths.insert(settings.id.clone(), (settings.clone(), health));
            }
        }
        for dataflow in dataflows {
            if self.hands.contains_key(&dataflow.id) {
                continue;
            }
            let hand = self.hand(dataflow)?;
            self.hands.insert(dataflow.id.clone(), hand);
        }
        Ok(())
    }

    /// Ends the worker of `dataflow`; another one may take its place.
    pub(crate) fn replace(&mut self, dataflow: &str) -> Result<(), DeliveryError> {
        let Some(hand) = self.hands.get(dataflow) else { return Ok(()) };
        let left = (hand.endpoint.clone(), hand.flow.heritage.clone());
        self.left.insert(dataflow.to_owned(), left);
        self.stop(dataflow)
    }

    fn hand(&mut self, settings: &DataflowSettings) -> Result<Hand, DeliveryError> {
        let (destination, health) = &self.healths[&settings.destination];
        let clock = Arc::clone(&self.setup.clock);
        let restored = self.setup.backlog.progress(&settings.id)?;
        let (jitter, tick) = (self.setup.jitter.split(), Tick::read(&*clock));
        let mut dispatcher =
            Dispatcher::new((settings, destination), health.clone(), jitter, restored, tick);
        if let Some((before, heritage)) = self.left.remove(&settings.id) {
            dispatcher.inherit(heritage.passed_on(Some(&before), &destination.endpoint));
        }
        let (events, received) = bounded(destination.max_in_flight + EVENTS_SPARE);
        let flow = Arc::new(Flow::new(&dispatcher, health.clone(), events.clone()));
        let listener = Arc::downgrade(&flow);
        health.listen(Box::new(move || {
            if let Some(flow) = listener.upgrade() {
                flow.wake();
            }
        }));
        let handed_out = Arc::default();
        let worker = Worker {
            flow: Arc::clone(&flow),
            dispatcher,
            events: received,
            senders: Box::new(Nobody(Arc::clone(&handed_out))),
            transport: Arc::new(Nowhere),
            backlog: Arc::clone(&self.setup.backlog),
            clock,
            failure: Failure::default(),
        };
        let template = RequestTemplate::new(destination, &settings.id, self.setup.log_id)
            .expect("the simulation's destinations are usable");
        let stage = Stage::Started;
        let endpoint = destination.endpoint.clone();
        Ok(Hand { flow, worker, events, handed_out, template, endpoint, stage, called: None })
    }

    /// Pauses a dataflow, or lets it go on.
    pub(crate) fn set_sending(&self, dataflow: &str, sending: Sending) {
        if let Some(hand) = self.hands.get(dataflow) {
            hand.flow.set_sending(sending);
        }
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.hands.keys().cloned().collect()
    }

    /// The dispatcher of `dataflow`, if there is one.
    pub(crate) fn dispatcher(&self, dataflow: &str) -> Option<&Dispatcher> {
        self.hands.get(dataflow).map(|hand| &hand.worker.dispatcher)
    }

    /// Since when the worker of `dataflow` has something to do; `None` while it sleeps.
    pub(crate) fn called_at(&mut self, dataflow: &str) -> Option<Moment> {
        let now = self.setup.clock.moment();
        let hand = self.hands.get_mut(dataflow)?;
        let due = match hand.stage {
            Stage::Started => Some(now),
            Stage::Asleep(until) => until.filter(|until| *until <= now),
        };
        let told = (!hand.worker.events.is_empty()).then_some(now);
        match due.into_iter().chain(told).min() {
            Some(since) => Some(*hand.called.get_or_insert(since)),
            None => None,
        }
    }

    /// When the next worker that sleeps wakes up by itself.
    pub(crate) fn wakes_at(&self) -> Option<Moment> {
        let until = |hand: &Hand| match hand.stage {
            Stage::Started => None,
            Stage::Asleep(until) => until,
        };
        self.hands.values().filter_map(until).min()
    }

    /// Lets the worker of `dataflow` do what it does until it waits again; what starts by that.
    pub(crate) fn step(&mut self, dataflow: &str) -> Result<Vec<Sent>, DeliveryError> {
        let hand = self.hands.get_mut(dataflow).expect("it is one of those that are there");
        hand.called = None;
        if matches!(hand.stage, Stage::Started) {
            hand.worker.begin()?;
        } else if let Ok(first) = hand.worker.events.try_recv() {
            hand.worker.take_in_from(first)?;
        }
        let until = hand.worker.turn()?;
        hand.stage = Stage::Asleep(until);
        let handed_out = std::mem::take(&mut *hand.handed_out.lock().expect("one thread only"));
        let wall = self.setup.clock.now();
        let sent = |dispatch: Dispatch| {
            let request = hand.template.request(&dispatch.export, wall);
            Sent { dispatch, request }
        };
        Ok(handed_out.into_iter().map(sent).collect())
    }

    /// A request of `dataflow` ended.
    pub(crate) fn ended(&self, dataflow: &str, sequence: u64, outcome: Outcome) {
        let Some(hand) = self.hands.get(dataflow) else { return };
        let took = std::time::Duration::ZERO;
        let sent = hand.events.try_send(Event::Ended(Completion { sequence, outcome, took }));
        sent.expect("there is room for the end of each request");
    }

    /// Exports of `dataflow` through `sequence` are durable.
    pub(crate) fn notify(&self, dataflow: &str, sequence: u64) {
        if let Some(hand) = self.hands.get(dataflow) {
            hand.flow.notify(sequence);
        }
    }

    /// Withdraws as the workers do, each between two of its steps; those that did, and an error.
    pub(crate) fn withdraw(&mut self, withdrawal: &Arc<Withdrawal>) -> BTreeSet<String> {
        let mut done = BTreeSet::new();
        for (id, hand) in &mut self.hands {
            let (told, _) = bounded(1);
            let command = Command::Withdraw(Arc::clone(withdrawal), told);
            // A worker that fails ends without an answer.
            if hand.worker.take_in(Event::Command(command)).is_ok() {
                done.insert(id.clone());
            }
            hand.flow.wake();
        }
        done
    }

    /// Writes how far `dataflow` has come.
    pub(crate) fn write_progress(&mut self, dataflow: &str) -> Result<(), DeliveryError> {
        let Some(hand) = self.hands.get_mut(dataflow) else { return Ok(()) };
        let (told, _waits) = bounded(1);
        hand.worker.take_in(Event::Command(Command::WriteProgress(told)))?;
        Ok(())
    }

    /// Drops the replays of these dead letters.
    pub(crate) fn forget(&mut self, dataflow: &str, sequences: &[u64]) {
        let Some(hand) = self.hands.get_mut(dataflow) else { return };
        let (told, _) = bounded(1);
        let command = Command::Forget(sequences.to_vec(), told);
        hand.worker.take_in(Event::Command(command)).expect("forgetting writes nothing");
        hand.flow.wake();
    }

    /// Dead letters of `dataflow` were marked for replay.
    pub(crate) fn replay(&self, dataflow: &str) {
        if let Some(hand) = self.hands.get(dataflow) {
            hand.flow.command(Command::Replay);
        }
    }

    /// Stops the worker of `dataflow`: what has ended is taken in, what is open is cut off, and progress
    /// is written.
    pub(crate) fn stop(&mut self, dataflow: &str) -> Result<(), DeliveryError> {
        let Some(mut hand) = self.hands.remove(dataflow) else { return Ok(()) };
        if matches!(hand.stage, Stage::Started) {
            hand.worker.begin()?;
        }
        while let Ok(event) = hand.worker.events.try_recv() {
            hand.worker.take_in(event)?;
        }
        let now = self.setup.clock.moment();
        hand.worker.stop(now)
    }

    /// Where `dataflow` stands for who waits until everything is delivered.
    pub(crate) fn drained(&self, dataflow: &str) -> Option<DrainState> {
        let now = self.setup.clock.moment();
        self.hands.get(dataflow).map(|hand| hand.flow.drained(now))
    }
}

/// Keeps what it is to send.
struct Nobody(Arc<Mutex<Vec<Dispatch>>>);

impl Senders for Nobody {
    fn send(&mut self, dispatch: Dispatch, _: usize) -> io::Result<()> {
        self.0.lock().expect("one thread only").push(dispatch);
        Ok(())
    }

    fn stop(self: Box<Self>) -> Vec<JoinHandle<()>> {
        Vec::new()
    }
}

/// Nothing goes out here.
struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, _: &Request) -> Outcome {
        unreachable!("requests are handed out")
    }
}
