//! All dataflows' delivery, as the engine starts, feeds, asks and stops it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::bounded;

use super::backlog::{Backlog, ProfileKey};
use super::dispatcher::Dispatcher;
use super::error::DeliveryError;
use super::failure::Failure;
use super::health::Health;
use super::jitter::Jitter;
use super::metrics::DataflowStats;
use super::request::RequestTemplate;
use super::sender::{SenderContext, SenderPool};
use super::settings::{DataflowSettings, DestinationSettings, Sending};
use super::state::{DataflowState, DrainState, Pause};
use super::tick::Tick;
use super::transport::{HttpTransport, Transport};
use super::worker::{Command, EVENTS_SPARE, Flow, Worker};
use crate::clock::{Clock, Moment};

/// How long open requests may take to end after a stop; then they are cut off, and repeated by the
/// next run. Longer than the default timeout, shorter than the ten seconds a stop may take.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What delivery needs to start.
pub struct DeliverySetup {
    /// Random id of the event log: the first part of every export id.
    pub log_id: [u8; 16],
    /// All destinations that a dataflow names.
    pub destinations: Vec<DestinationSettings>,
    /// All dataflows.
    pub dataflows: Vec<DataflowSettings>,
    /// Where exports, progress and dead letters are kept.
    pub backlog: Arc<dyn Backlog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Seed of the backoff's jitter.
    pub seed: u64,
}

/// Running delivery of all dataflows. Dropped without [`Delivery::stop`], it stops all the same.
pub struct Delivery {
    flows: BTreeMap<String, Arc<Flow>>,
    /// By destination.
    healths: BTreeMap<String, Health>,
    threads: Vec<JoinHandle<()>>,
    log_id: [u8; 16],
    backlog: Arc<dyn Backlog>,
    clock: Arc<dyn Clock>,
    failure: Failure,
}

/// A destination as its dataflows share it.
struct Destination {
    settings: DestinationSettings,
    health: Health,
    transport: Arc<dyn Transport>,
}

impl Delivery {
    /// Starts a dispatcher for each dataflow, over HTTP.
    pub fn start(setup: DeliverySetup) -> Result<Self, DeliveryError> {
        let clock = Arc::clone(&setup.clock);
        Self::start_with(setup, |settings| {
            let transport = HttpTransport::new(settings, Arc::clone(&clock));
            let transport = transport.map_err(|reason| unusable(settings, reason))?;
            Ok(Arc::new(transport))
        })
    }

    /// Starts with `transport` making each destination's transport: for simulation.
    pub fn start_with(
        setup: DeliverySetup,
        transport: impl Fn(&DestinationSettings) -> Result<Arc<dyn Transport>, DeliveryError>,
    ) -> Result<Self, DeliveryError> {
        let mut destinations = BTreeMap::new();
        for settings in setup.destinations {
            let (health, transport) = (Health::new(&settings), transport(&settings)?);
            let destination = Destination { settings, health, transport };
            destinations.insert(destination.settings.id.clone(), destination);
        }
        let health =
            |(id, destination): (&String, &Destination)| (id.clone(), destination.health.clone());
        let mut delivery = Self {
            flows: BTreeMap::new(),
            healths: destinations.iter().map(health).collect(),
            threads: Vec::new(),
            log_id: setup.log_id,
            backlog: setup.backlog,
            clock: setup.clock,
            failure: Failure::default(),
        };
        let mut jitter = Jitter::new(setup.seed);
        for dataflow in setup.dataflows {
            let destination = destinations
                .get(dataflow.destination.as_str())
                .ok_or_else(|| DeliveryError::NoDestination { dataflow: dataflow.id.clone() })?;
            let worker = delivery.worker(&dataflow, destination, jitter.split())?;
            delivery.spawn(worker)?;
        }
        Ok(delivery)
    }

    /// Exports of `dataflow` through `sequence` are durable. Cheap; never blocks.
    pub fn notify(&self, dataflow: &str, sequence: u64) {
        if let Some(flow) = self.flows.get(dataflow) {
            let more = flow.notify(sequence);
            flow.metrics.stored(more, self.clock.moment());
        }
    }

    /// Exports of `dataflow` through `sequence` were stored by an earlier run.
    pub fn resume(&self, dataflow: &str, sequence: u64) {
        if let Some(flow) = self.flows.get(dataflow) {
            flow.notify(sequence);
        }
    }

    /// Drops the replays of these dead letters of `dataflow`, which are kept no more.
    ///
    /// Returns when its dispatcher will not start a request for them, nor put any of them back.
    pub fn forget(&self, dataflow: &str, sequences: Vec<u64>) {
        let Some(flow) = self.flows.get(dataflow) else { return };
        let (done, wait) = bounded(1);
        if flow.command(Command::Forget(sequences, done)) && wait.recv().is_err() {
            tracing::debug!(dataflow, "the dispatcher ended before it forgot; it sends no more");
        }
    }

    /// Dead letters of `dataflow` were marked for replay.
    pub fn replay(&self, dataflow: &str) {
        self.command(dataflow, Command::Replay);
    }

    /// Withdraws everything not yet sent for these profiles, which were erased, in the backlog too.
    ///
    /// Returns the dataflows where that is done: no dispatcher will send anything of theirs any more,
    /// nor keep it as a dead letter. A request in flight goes on, and is not repeated. Dataflows that
    /// are not returned have no dispatcher, or one that has ended.
    pub fn withdraw(&self, profiles: BTreeSet<ProfileKey>) -> BTreeSet<String> {
        let profiles = Arc::new(profiles);
        let mut waits = Vec::new();
        for flow in self.flows.values() {
            let (done, wait) = bounded(1);
            if flow.command(Command::Withdraw(Arc::clone(&profiles), done)) {
                waits.push((flow, wait));
            }
        }
        let is_done = waits.into_iter().filter(|(_, wait)| wait.recv().is_ok());
        is_done.map(|(flow, _)| flow.id.clone()).collect()
    }

    /// Pauses or unpauses `dataflow`, as the configuration says.
    pub fn set_sending(&self, dataflow: &str, sending: Sending) {
        self.command(dataflow, Command::SetSending(sending));
    }

    /// The numbers of `dataflow` since start; `None` if there is no such dataflow.
    pub fn stats(&self, dataflow: &str) -> Option<DataflowStats> {
        self.flows.get(dataflow).map(|flow| flow.metrics.stats(self.clock.moment()))
    }

    /// Why `destination` is sent nothing, if it is; `None` too if there is no such destination.
    pub fn pause(&self, destination: &str) -> Option<Pause> {
        self.healths.get(destination).and_then(|health| health.pause(self.clock.moment()))
    }

    /// Where `dataflow` stands; `None` if there is no such dataflow.
    pub fn state(&self, dataflow: &str) -> Option<DataflowState> {
        let mut state = self.flows.get(dataflow)?.state(self.clock.moment());
        if state.unread > 0 {
            let next = state.durable + 1 - state.unread;
            let withdrawn = self.backlog.withdrawn(dataflow, next, state.durable);
            let missing: u64 = withdrawn.iter().map(|(first, last)| last - first + 1).sum();
            state.unread = state.unread.saturating_sub(missing);
        }
        Some(state)
    }

    /// Whether `dataflow` has anything left to wait for, counting everything notified before;
    /// `None` if there is no such dataflow.
    pub fn drained(&self, dataflow: &str) -> Option<DrainState> {
        self.flows.get(dataflow).map(|flow| flow.drained(self.clock.moment()))
    }

    /// Waits until a dataflow's [`DrainState`] may have become another or delivery failed, at most
    /// until `deadline`. `seen` is what the last call returned, 0 at first.
    pub fn wait_for_change(&self, seen: u64, deadline: Moment) -> u64 {
        self.failure.wait(seen, deadline.since(self.clock.moment()))
    }

    /// What stopped delivery, if something did. The engine must stop too (fail-stop).
    pub fn failure(&self) -> Option<Arc<DeliveryError>> {
        self.failure.get()
    }

    /// Stops: no new requests, those open get a moment to end, progress is written, threads joined.
    ///
    /// Takes at most about five seconds. The error is the first failure since the start.
    pub fn stop(mut self) -> Result<(), Arc<DeliveryError>> {
        self.stop_workers();
        self.failure.get().map_or(Ok(()), Err)
    }

    fn worker(
        &self,
        dataflow: &DataflowSettings,
        destination: &Destination,
        jitter: Jitter,
    ) -> Result<Worker, DeliveryError> {
        let Destination { settings, health, transport } = destination;
        let template = RequestTemplate::new(settings, &dataflow.id, self.log_id)
            .map_err(|reason| unusable(settings, reason))?;
        let restored = self.backlog.progress(&dataflow.id)?;
        let tick = Tick::read(&*self.clock);
        let dispatcher =
            Dispatcher::new((dataflow, settings), health.clone(), jitter, restored, tick);
        let (events, received) = bounded(settings.max_in_flight + EVENTS_SPARE);
        let flow = Arc::new(Flow::new(&dispatcher, health.clone(), events.clone()));
        let listener = Arc::downgrade(&flow);
        health.listen(Box::new(move || {
            if let Some(flow) = listener.upgrade() {
                flow.wake();
            }
        }));
        let context = SenderContext {
            dataflow: dataflow.id.clone(),
            template,
            transport: Arc::clone(transport),
            clock: Arc::clone(&self.clock),
            failure: self.failure.clone(),
            events,
        };
        Ok(Worker {
            flow,
            dispatcher,
            events: received,
            senders: SenderPool::new(context, settings.max_in_flight),
            transport: Arc::clone(transport),
            backlog: Arc::clone(&self.backlog),
            clock: Arc::clone(&self.clock),
            failure: self.failure.clone(),
        })
    }

    fn spawn(&mut self, worker: Worker) -> Result<(), DeliveryError> {
        let flow = Arc::clone(&worker.flow);
        let name = format!("forebay-deliver-{}", flow.id);
        let spawned = thread::Builder::new().name(name.clone()).spawn(move || worker.run());
        self.threads.push(spawned.map_err(|source| DeliveryError::Thread { name, source })?);
        self.flows.insert(flow.id.clone(), flow);
        Ok(())
    }

    fn command(&self, dataflow: &str, command: Command) {
        if let Some(flow) = self.flows.get(dataflow)
            && !flow.command(command)
        {
            tracing::debug!(dataflow, "the dispatcher has ended; its failure is reported");
        }
    }

    fn stop_workers(&mut self) {
        let deadline = self.clock.moment().plus(STOP_GRACE);
        for id in self.flows.keys() {
            self.command(id, Command::Stop(deadline));
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                // Its guard has reported the panic already.
                tracing::error!("a dispatcher panicked");
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

fn unusable(settings: &DestinationSettings, reason: String) -> DeliveryError {
    DeliveryError::Destination { destination: settings.id.clone(), reason }
}
