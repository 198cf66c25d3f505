//! All dataflows' delivery, as the engine starts, feeds, asks, changes and stops it.
//!
//! A change leaves alone what stays as it is: those dataflows go on, and their destination's health
//! and tokens with them. A dataflow that is sent otherwise from now on gets another worker, once the
//! requests of the old one have ended and its progress is written; so the order of each profile and
//! the rate hold over the change as they do over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use url::Url;

use super::backlog::Backlog;
use super::dispatcher::Dispatcher;
use super::error::DeliveryError;
use super::failure::Failure;
use super::health::Health;
use super::heritage::Heritage;
use super::jitter::Jitter;
use super::metrics::DataflowStats;
use super::open_export::{Looked, Lookup};
use super::request::RequestTemplate;
use super::sender::{SenderContext, SenderPool};
use super::settings::{DataflowSettings, DestinationSettings};
use super::state::{DataflowState, DrainState, Pause};
use super::tick::Tick;
use super::transport::{HttpTransport, Transport};
use super::withdrawal::Withdrawal;
use super::worker::{Command, EVENTS_SPARE, Flow, Worker};
use crate::clock::{Clock, Moment};

/// How long open requests may take to end after a stop; then they are cut off, and repeated by the
/// next run. Longer than the default timeout, shorter than the ten seconds a stop may take.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How long beyond its timeout a request of a worker that is replaced may take to end: fetching a
/// token first takes as long once more, and a busy machine is slow to tell.
const REPLACE_GRACE: Duration = Duration::from_secs(5);

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
    running: RwLock<BTreeMap<String, Running>>,
    destinations: Mutex<BTreeMap<String, Destination>>,
    connect: Connect,
    jitter: Mutex<Jitter>,
    /// Dataflows that are being replaced or retired.
    ending: Mutex<Vec<Arc<Flow>>>,
    is_hastened: AtomicBool,
    log_id: [u8; 16],
    backlog: Arc<dyn Backlog>,
    clock: Arc<dyn Clock>,
    failure: Failure,
}

/// Makes a destination's transport.
type Connect =
    Box<dyn Fn(&DestinationSettings) -> Result<Arc<dyn Transport>, DeliveryError> + Send + Sync>;

/// A dataflow with its worker.
struct Running {
    flow: Arc<Flow>,
    settings: DataflowSettings,
    /// As long as a request to its destination may take.
    timeout: Duration,
    thread: JoinHandle<()>,
}

/// A destination as its dataflows share it.
#[derive(Clone)]
struct Destination {
    settings: DestinationSettings,
    health: Health,
    transport: Arc<dyn Transport>,
}

/// Other destinations and dataflows, found to be usable and not yet in use.
pub struct Prepared {
    destinations: BTreeMap<String, Destination>,
    dataflows: Vec<DataflowSettings>,
}

impl Delivery {
    /// Starts a dispatcher for each dataflow, over HTTP.
    pub fn start(setup: DeliverySetup) -> Result<Self, DeliveryError> {
        let clock = Arc::clone(&setup.clock);
        Self::start_with(setup, move |settings| {
            let transport = HttpTransport::new(settings, Arc::clone(&clock));
            let transport = transport.map_err(|reason| unusable(settings, reason))?;
            Ok(Arc::new(transport))
        })
    }

    /// Starts with `transport` making each destination's transport: for simulation.
    pub fn start_with(
        setup: DeliverySetup,
        transport: impl Fn(&DestinationSettings) -> Result<Arc<dyn Transport>, DeliveryError>
        + Send
        + Sync
        + 'static,
    ) -> Result<Self, DeliveryError> {
        let delivery = Self {
            running: RwLock::default(),
            destinations: Mutex::default(),
            connect: Box::new(transport),
            jitter: Mutex::new(Jitter::new(setup.seed)),
            ending: Mutex::default(),
            is_hastened: AtomicBool::new(false),
            log_id: setup.log_id,
            backlog: setup.backlog,
            clock: setup.clock,
            failure: Failure::default(),
        };
        let prepared = delivery.prepare(setup.destinations, setup.dataflows)?;
        delivery.change(prepared)?;
        Ok(delivery)
    }

    /// Finds out whether these destinations and dataflows can be used; changes nothing yet.
    ///
    /// A destination that is the same as before stays the one it is, unless it names files: those
    /// are read again.
    pub fn prepare(
        &self,
        destinations: Vec<DestinationSettings>,
        dataflows: Vec<DataflowSettings>,
    ) -> Result<Prepared, DeliveryError> {
        let mut all = BTreeMap::new();
        for settings in destinations {
            let known = self.destinations().get(&settings.id).cloned();
            let same = known.filter(|known| known.settings == settings && !settings.names_files());
            let destination = match same {
                Some(known) => known,
                None => Destination {
                    health: Health::new(&settings),
                    transport: (self.connect)(&settings)?,
                    settings,
                },
            };
            all.insert(destination.settings.id.clone(), destination);
        }
        for dataflow in &dataflows {
            let Destination { settings, .. } = all
                .get(dataflow.destination.as_str())
                .ok_or_else(|| DeliveryError::NoDestination { dataflow: dataflow.id.clone() })?;
            self.template(dataflow, settings)?;
        }
        Ok(Prepared { destinations: all, dataflows })
    }

    /// Uses what was prepared. Dataflows that are not in it end; those that are sent otherwise go on
    /// with another worker, which is told anew what is durable. Waits until the requests of all these
    /// have ended.
    pub fn change(&self, prepared: Prepared) -> Result<(), DeliveryError> {
        let Prepared { destinations, dataflows } = prepared;
        let mut replaced = Vec::new();
        for (id, running) in &*self.running() {
            let wanted = dataflows.iter().find(|dataflow| dataflow.id == *id);
            match wanted.filter(|wanted| self.goes_on(running, wanted, &destinations)) {
                Some(wanted) => running.flow.set_sending(wanted.sending),
                None => replaced.push(id.clone()),
            }
        }
        let mut heritages = self.end(&replaced);
        for dataflow in dataflows {
            if let Some(running) = self.running_mut().get_mut(&dataflow.id) {
                running.settings = dataflow;
                continue;
            }
            let destination = &destinations[dataflow.destination.as_str()];
            let heritage = heritages.remove(&dataflow.id).map(|(before, heritage)| {
                heritage.passed_on(before.as_ref(), &destination.settings.endpoint)
            });
            self.start_flow(dataflow, destination, heritage)?;
        }
        *self.destinations() = destinations;
        Ok(())
    }

    /// Ends these dataflows: when it returns, nothing of theirs is sent any more, and their progress
    /// is written.
    pub fn retire(&self, dataflows: &[String]) {
        self.end(dataflows);
    }

    /// All will be stopped soon: dataflows that are ending meanwhile get no longer than at a stop.
    pub fn hasten(&self) {
        self.is_hastened.store(true, Ordering::SeqCst);
        let deadline = self.clock.moment().plus(STOP_GRACE);
        self.ending().iter().for_each(|flow| flow.tell(Command::Stop(deadline)));
    }

    /// Exports of `dataflow` through `sequence` are durable. Cheap; never blocks for long.
    pub fn notify(&self, dataflow: &str, sequence: u64) {
        if let Some(running) = self.running().get(dataflow) {
            let more = running.flow.notify(sequence);
            running.flow.heritage.metrics.stored(more, self.clock.moment());
        }
    }

    /// Exports of `dataflow` through `sequence` are durable, and were stored some time before.
    pub fn resume(&self, dataflow: &str, sequence: u64) {
        if let Some(running) = self.running().get(dataflow) {
            running.flow.notify(sequence);
        }
    }

    /// Drops the replays of these dead letters of `dataflow`, which are kept no more.
    ///
    /// Returns when its dispatcher will not start a request for them, nor put any of them back.
    pub fn forget(&self, dataflow: &str, sequences: &[u64]) {
        let flows = self.flows().into_iter().filter(|flow| flow.id == dataflow);
        for (flow, wait) in ask_all(flows, |done| Command::Forget(sequences.to_vec(), done)) {
            if wait.recv().is_err() {
                tracing::debug!(flow.id, "the dispatcher ended before it forgot; it sends no more");
            }
        }
    }

    /// Writes how far `dataflow` has come. Returns when that is durable; `false` if it has no dispatcher,
    /// or one that ended meanwhile: what that wrote last is all there is.
    pub fn write_progress(&self, dataflow: &str) -> bool {
        let flows = self.flows().into_iter().filter(|flow| flow.id == dataflow);
        let waits = ask_all(flows, Command::WriteProgress);
        !waits.is_empty() && waits.into_iter().all(|(_, wait)| wait.recv().is_ok())
    }

    /// What open exports of `dataflow` wait for; `None` if nothing is sent for it, or no more.
    pub fn look(&self, dataflow: &str, lookup: Lookup) -> Option<Looked> {
        let flow = Arc::clone(&self.running().get(dataflow)?.flow);
        let (told, answer) = bounded(1);
        flow.command(Command::Look(lookup, told)).then(|| answer.recv().ok())?
    }

    /// Dead letters of `dataflow` were marked for replay.
    pub fn replay(&self, dataflow: &str) {
        if let Some(running) = self.running().get(dataflow) {
            running.flow.tell(Command::Replay);
        }
    }

    /// Withdraws everything not yet sent that `withdrawal` takes, in the backlog too.
    ///
    /// Returns the dataflows where that is done: no dispatcher will send anything of it any more,
    /// nor keep it as a dead letter. A request in flight goes on, and is not repeated. Dataflows that
    /// are not returned have no dispatcher, or one that has ended.
    pub fn withdraw(&self, withdrawal: &Arc<Withdrawal>) -> BTreeSet<String> {
        let withdraw = |done| Command::Withdraw(Arc::clone(withdrawal), done);
        let waits = ask_all(self.flows().into_iter(), withdraw);
        let is_done = waits.into_iter().filter(|(_, wait)| wait.recv().is_ok());
        is_done.map(|(flow, _)| flow.id.clone()).collect()
    }

    /// The numbers of `dataflow` since start; `None` if there is no such dataflow.
    pub fn stats(&self, dataflow: &str) -> Option<DataflowStats> {
        let running = self.running();
        running
            .get(dataflow)
            .map(|running| running.flow.heritage.metrics.stats(self.clock.moment()))
    }

    /// Why `destination` is sent nothing, if it is; `None` too if there is no such destination.
    pub fn pause(&self, destination: &str) -> Option<Pause> {
        let health = self.destinations().get(destination)?.health.clone();
        health.pause(self.clock.moment())
    }

    /// Where `dataflow` stands; `None` if there is no such dataflow.
    pub fn state(&self, dataflow: &str) -> Option<DataflowState> {
        let mut state = self.running().get(dataflow)?.flow.state(self.clock.moment());
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
        self.running().get(dataflow).map(|running| running.flow.drained(self.clock.moment()))
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
    pub fn stop(self) -> Result<(), Arc<DeliveryError>> {
        self.stop_workers();
        self.failure.get().map_or(Ok(()), Err)
    }

    /// Whether a running dataflow is sent as before, but for being paused or not.
    fn goes_on(
        &self,
        running: &Running,
        wanted: &DataflowSettings,
        destinations: &BTreeMap<String, Destination>,
    ) -> bool {
        let before = DataflowSettings { sending: wanted.sending, ..running.settings.clone() };
        let known = self.destinations();
        let (old, new) = (known.get(&before.destination), destinations.get(&wanted.destination));
        before == *wanted
            && old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(&old.transport, &new.transport))
    }

    fn template(
        &self,
        dataflow: &DataflowSettings,
        destination: &DestinationSettings,
    ) -> Result<RequestTemplate, DeliveryError> {
        RequestTemplate::new(destination, &dataflow.id, self.log_id)
            .map_err(|reason| unusable(destination, reason))
    }

    /// Starts a dataflow's worker, which goes on where another one has stopped if there was one.
    fn start_flow(
        &self,
        dataflow: DataflowSettings,
        destination: &Destination,
        heritage: Option<Heritage>,
    ) -> Result<(), DeliveryError> {
        let worker = self.worker(&dataflow, destination, heritage)?;
        let flow = Arc::clone(&worker.flow);
        let name = format!("forebay-deliver-{}", flow.id);
        let spawned = thread::Builder::new().name(name.clone()).spawn(move || worker.run());
        let thread = spawned.map_err(|source| DeliveryError::Thread { name, source })?;
        let timeout = destination.settings.timeout;
        let running = Running { flow, settings: dataflow, timeout, thread };
        self.running_mut().insert(running.settings.id.clone(), running);
        Ok(())
    }

    fn worker(
        &self,
        dataflow: &DataflowSettings,
        destination: &Destination,
        heritage: Option<Heritage>,
    ) -> Result<Worker, DeliveryError> {
        let Destination { settings, health, transport } = destination;
        let template = self.template(dataflow, settings)?;
        let restored = self.backlog.progress(&dataflow.id)?;
        let tick = Tick::read(&*self.clock);
        let jitter = self.jitter.lock().expect("no holder of the jitter panics").split();
        let mut dispatcher =
            Dispatcher::new((dataflow, settings), health.clone(), jitter, restored, tick);
        if let Some(heritage) = heritage {
            dispatcher.inherit(heritage);
        }
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
            senders: Box::new(SenderPool::new(context, settings.max_in_flight)),
            transport: Arc::clone(transport),
            backlog: Arc::clone(&self.backlog),
            clock: Arc::clone(&self.clock),
            failure: self.failure.clone(),
        })
    }

    /// Ends dataflows, all at the same time, waits for them, and returns what they leave and where
    /// they sent to.
    fn end(&self, dataflows: &[String]) -> BTreeMap<String, (Option<Url>, Heritage)> {
        let ended = self.take(dataflows);
        for Running { flow, timeout, .. } in &ended {
            let is_hastened = self.is_hastened.load(Ordering::SeqCst);
            let grace = if is_hastened { STOP_GRACE } else { *timeout * 2 + REPLACE_GRACE };
            flow.tell(Command::Stop(self.clock.moment().plus(grace)));
        }
        let mut left = BTreeMap::new();
        for Running { flow, settings, thread, .. } in ended {
            join(thread);
            let known = self.destinations().get(&settings.destination).cloned();
            let endpoint = known.map(|destination| destination.settings.endpoint);
            left.insert(settings.id, (endpoint, flow.heritage.clone()));
        }
        self.ending().clear();
        left
    }

    /// Takes dataflows out of the running ones. They are among the ending ones from the same moment
    /// on: what is withdrawn meanwhile is withdrawn from them too.
    fn take(&self, dataflows: &[String]) -> Vec<Running> {
        let mut running = self.running_mut();
        let taken: Vec<Running> = dataflows.iter().filter_map(|id| running.remove(id)).collect();
        self.ending().extend(taken.iter().map(|running| Arc::clone(&running.flow)));
        taken
    }

    /// All that still send, or may.
    fn flows(&self) -> Vec<Arc<Flow>> {
        let running = self.running();
        let ending = self.ending();
        running.values().map(|running| &running.flow).chain(&*ending).cloned().collect()
    }

    fn stop_workers(&self) {
        let deadline = self.clock.moment().plus(STOP_GRACE);
        let running = std::mem::take(&mut *self.running_mut());
        for Running { flow, .. } in running.values() {
            flow.tell(Command::Stop(deadline));
        }
        for Running { thread, .. } in running.into_values() {
            join(thread);
        }
    }

    fn running(&self) -> RwLockReadGuard<'_, BTreeMap<String, Running>> {
        self.running.read().expect("no holder of the dataflows panics")
    }

    fn running_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Running>> {
        self.running.write().expect("no holder of the dataflows panics")
    }

    fn ending(&self) -> MutexGuard<'_, Vec<Arc<Flow>>> {
        self.ending.lock().expect("no holder of the dataflows panics")
    }

    fn destinations(&self) -> MutexGuard<'_, BTreeMap<String, Destination>> {
        self.destinations.lock().expect("no holder of the destinations panics")
    }
}

/// Asks each of these something, all at the same time; those that have not ended, and where each will
/// answer.
fn ask_all(
    flows: impl Iterator<Item = Arc<Flow>>,
    command: impl Fn(Sender<()>) -> Command,
) -> Vec<(Arc<Flow>, Receiver<()>)> {
    let asked = flows.filter_map(|flow| {
        let (done, wait) = bounded(1);
        flow.command(command(done)).then_some((flow, wait))
    });
    asked.collect()
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        // Its guard has reported the panic already.
        tracing::error!("a dispatcher panicked");
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
