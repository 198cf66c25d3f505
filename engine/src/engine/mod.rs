//! The engine: one data directory, opened, with the threads that work on it.
//!
//! ```text
//!  read_file, read_stream, import_audience        parse, in parallel, on callers' threads
//!        │  blocks, bounded
//!        ▼
//!  appender    rejects, log, one sync for many blocks                 acknowledges
//!        │  durable records, bounded
//!        ▼
//!  deriver     fold, exports → outbox, sync                           owns the projection
//!        │  durable sequences
//!        ▼
//!  delivery    one dispatcher a dataflow, sender threads              owns progress
//! ```
//!
//! Beside them the checkpointer writes what is derived, so that the next opening need not derive it
//! again, the compactor removes the bytes of what was deleted, and another configuration is taken while
//! all of this goes on (`reload`). What was is asked of the log itself (`history`). Questions go to the
//! deriver as jobs, so each sees a consistent cut. A failure in any thread stops all of it: memory never
//! runs ahead of the disk.

mod answers;
mod appender;
mod audience_page;
mod budget;
mod caretaker;
mod changes;
mod checkpoint;
mod checkpoint_policy;
mod checkpointer;
mod compaction;
pub mod control;
mod dead_letters;
mod deletes;
mod delivery_answers;
mod derivation;
mod deriver;
mod disk;
mod drain;
mod explain;
mod held_back;
mod history;
mod import;
mod journal;
mod lanes;
mod notice;
mod open;
mod outlines;
mod playback;
mod profile_page;
mod read_ahead;
mod reading;
mod reload;
mod replay;
mod selection;
mod shared;
#[cfg(test)]
mod simulation;
mod stored_backlog;
mod tally;
mod traces;
mod transition;
mod withdrawal;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};
use forebay_storage::{Store, StoreOptions};

pub use checkpoint_policy::CheckpointPolicy;
pub use dead_letters::Payload;
pub use delivery_answers::destination_views;
pub use drain::Waiting;
pub use explain::StandingQuestion;
pub use history::{AsOf, Backtest, By, History, LogKind, LogPage, LogQuestion};
pub use import::{Import, check_audience};
pub use journal::{Fate, KnownExport};
pub use notice::Notice;
pub use profile_page::ProfileQuestion;
pub use selection::{LastAttempt, Selection};

use crate::clock::{Clock, ClockKind, Moment, Timestamp, millis};
use crate::config::Config;
use crate::deliver::delivery::{Delivery, DeliverySetup};
use crate::error::{EngineError, with_sources};
use crate::input::Position;
use crate::record::RejectsFile;
use appender::{Append, Appender, ClockRules};
use caretaker::Caretaker;
use compaction::{Compactor, RejectsOwner};
use control::Control;
use deriver::{ControlDone, Job};
use open::{Opened, Replayed};
use reload::{Reloader, Requests};
use shared::Shared;
use stored_backlog::StoredBacklog;
use tally::Tallies;

/// Blocks on their way to the log: enough to keep the appender busy while others are parsed.
const APPEND_QUEUE: usize = 16;

/// Blocks on their way to the projection.
const DERIVE_QUEUE: usize = 16;

/// How far the engine goes with what it derives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Derives and delivers: `run`.
    Deliver,
    /// Appends, derives and stores exports; sends nothing: `ingest`.
    Derive,
    /// Answers questions about what is there; appends nothing.
    Inspect,
}

/// Where and how an engine is opened.
pub struct Options {
    /// The data directory.
    pub data: PathBuf,
    /// The configuration to apply. Without one, the definitions in the log hold.
    pub config: Option<Config>,
    /// How far it goes.
    pub mode: Mode,
    /// The machine's time.
    pub clock: Arc<dyn Clock>,
}

/// What only tests change.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// How the store fails and packs.
    pub storage: StoreOptions,
    /// When checkpoints are made.
    pub checkpoints: CheckpointPolicy,
}

impl From<StoreOptions> for Tuning {
    fn from(storage: StoreOptions) -> Self {
        Self { storage, ..Self::default() }
    }
}

/// Hears how long work goes on, for a progress bar; called often, from the engine's threads.
pub trait Progress: Sync {
    /// Replaying the log at start: entries done, entries in all.
    fn replay(&self, done: u64, total: u64);
    /// Reading an input: its name, bytes read, bytes in all if known, records so far.
    fn input(&self, name: &str, read: u64, total: Option<u64>, records: u64);
    /// Delivering what is stored: exports waiting.
    fn delivering(&self, waiting: u64);
}

/// An open engine. Its methods may be called from any thread.
pub struct Engine {
    store: Arc<Store>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    kind: ClockKind,
    mode: Mode,
    positions: Mutex<std::collections::BTreeMap<String, Position>>,
    /// Held while dead letters are replayed or purged, so that no two commands undo each other.
    dead_letters: Mutex<()>,
    tallies: Mutex<Tallies>,
    opened: Moment,
    delivery: Option<Arc<Delivery>>,
    compactor: Option<Arc<Compactor>>,
    /// Ends before the others do: it asks them.
    compacting: Option<JoinHandle<()>>,
    /// Closed first; then the threads end, the appender before the deriver.
    appends: Option<Sender<Append>>,
    jobs: Option<Sender<Job>>,
    /// Closed before all others: the reloader, who takes what is asked for here, waits for them.
    reloads: Option<Arc<Requests>>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Opens the data directory, replays its log, applies the configuration, starts the threads.
    pub fn open(options: Options, progress: &dyn Progress) -> Result<Self, EngineError> {
        Self::open_with(options, StoreOptions::default(), progress)
    }

    /// Opens with a store that fails or packs, and checkpoints, as `tuning` says: for tests.
    pub fn open_with(
        options: Options,
        tuning: impl Into<Tuning>,
        progress: &dyn Progress,
    ) -> Result<Self, EngineError> {
        let Tuning { storage, checkpoints } = tuning.into();
        let opened = options.clock.moment();
        let Opened { store, shared, mut replayed, rejects } =
            open::open(&options, storage, progress)?;
        let policy = match options.mode {
            Mode::Inspect => CheckpointPolicy::NEVER,
            Mode::Deliver | Mode::Derive => checkpoints,
        };
        let (checkpoints, checkpointer) = checkpointer::checkpoints(
            (Arc::clone(&store), Arc::clone(&shared)),
            Arc::clone(&options.clock),
            policy,
            replayed.found,
        );
        replayed.deriver.checkpoints = Some(checkpoints);
        let delivery = match (&options.config, options.mode) {
            (Some(config), Mode::Deliver) => {
                let backlog = StoredBacklog::new(&store, replayed.deriver.budgets.freed());
                Some(start_delivery(backlog, config, &options)?)
            }
            _ => None,
        };
        if let Some(config) = options.config {
            shared.set_configuration(config);
        }
        let mut engine = Self {
            positions: Mutex::new(std::mem::take(&mut replayed.marks.positions)),
            dead_letters: Mutex::new(()),
            tallies: Mutex::new(Tallies::default()),
            kind: replayed.kind,
            mode: options.mode,
            clock: Arc::clone(&options.clock),
            store,
            shared,
            opened,
            delivery,
            compactor: None,
            compacting: None,
            appends: None,
            jobs: None,
            reloads: None,
            threads: Vec::new(),
        };
        engine.thread("checkpointer", move || checkpointer.run())?;
        let ms = options.clock.moment().since(opened).as_millis();
        let (from, next) = (replayed.found.next, replayed.deriver.derivation.next());
        tracing::info!(from, next, ms, "ready");
        engine.start(replayed, (rejects, options.data))?;
        Ok(engine)
    }

    /// Asks every method that waits or reads to return soon. May be called by a signal's thread.
    pub fn request_stop(&self) {
        self.shared.request_stop();
    }

    /// Waits until somebody asks to stop, or the engine fails.
    pub fn run_until_stopped(&self) -> Result<(), EngineError> {
        while self.shared.wait_while_running()? {
            self.check_delivery()?;
        }
        Ok(())
    }

    /// What a person should hear, since the last call.
    pub fn notices(&self) -> Vec<Notice> {
        self.shared.take_notices()
    }

    /// Moves the event clock to `to`, never back, and waits until what that fires is stored.
    pub fn advance_to(&self, to: Timestamp) -> Result<(), EngineError> {
        if self.kind == ClockKind::Wall {
            return Err(EngineError::Usage(
                "--advance-to moves the event clock, but this directory has the wall clock".into(),
            ));
        }
        self.control(Control::advance(to))?;
        Ok(())
    }

    /// Stops the threads. What is accepted is derived, requests in flight get a moment to end, and
    /// progress is written.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.end()
    }

    fn start(
        &mut self,
        replayed: Replayed,
        (rejects, data): (RejectsFile, PathBuf),
    ) -> Result<(), EngineError> {
        let (jobs, job_queue) = bounded(DERIVE_QUEUE);
        let Replayed { mut deriver, marks, .. } = replayed;
        let event_now = deriver.derivation.projection.now();
        let max_jump_ms = deriver.definitions().settings.max_clock_jump_ms.map(millis);
        if let Some(delivery) = &self.delivery {
            deriver.tell_all(&|id, sequence| delivery.resume(id, sequence))?;
            let (notified, withdrawing) = (Arc::clone(delivery), Arc::clone(delivery));
            deriver.deliver_to(
                Box::new(move |id, sequence| notified.notify(id, sequence)),
                Box::new(move |withdrawal| withdrawing.withdraw(withdrawal)),
            );
        }
        self.thread("deriver", move || deriver.run(&job_queue))?;
        if self.mode == Mode::Inspect {
            self.compactor = Some(self.compactor(&jobs, (nobody(rejects), data)));
        } else {
            let (appends, append_queue) = bounded(APPEND_QUEUE);
            let appender = Appender {
                store: Arc::clone(&self.store),
                rejects,
                clock: Arc::clone(&self.clock),
                rules: ClockRules { kind: self.kind, max_jump_ms },
                appended: marks.appended,
                event_now,
                deriver: jobs.clone(),
                shared: Arc::clone(&self.shared),
            };
            self.thread("appender", move || appender.run(&append_queue))?;
            let caretaker = Caretaker {
                store: Arc::clone(&self.store),
                shared: Arc::clone(&self.shared),
                clock: Arc::clone(&self.clock),
            };
            self.thread("caretaker", move || caretaker.run())?;
            let owner = RejectsOwner::Appender(appends.clone());
            let compactor = self.compactor(&jobs, (owner, data));
            self.compactor = Some(Arc::clone(&compactor));
            self.thread("compactor", move || compactor.run())?;
            self.compacting = self.threads.pop();
            self.start_reloader(&appends, &jobs)?;
            self.appends = Some(appends);
        }
        self.jobs = Some(jobs);
        Ok(())
    }

    fn compactor(
        &self,
        jobs: &Sender<Job>,
        (rejects, data): (RejectsOwner, PathBuf),
    ) -> Arc<Compactor> {
        Arc::new(Compactor {
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            kind: self.kind,
            data,
            deriver: jobs.clone(),
            rejects,
        })
    }

    /// Last, so that it is the first to be waited for when the engine ends.
    fn start_reloader(
        &mut self,
        appends: &Sender<Append>,
        jobs: &Sender<Job>,
    ) -> Result<(), EngineError> {
        let Some(delivery) = &self.delivery else { return Ok(()) };
        let requests = Arc::new(Requests::default());
        let reloader = Reloader {
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
            delivery: Arc::clone(delivery),
            kind: self.kind,
            appends: appends.clone(),
            jobs: jobs.clone(),
            requests: Arc::clone(&requests),
        };
        self.reloads = Some(requests);
        self.thread("reloader", move || reloader.run())
    }

    /// An error if delivery has failed; the engine stops then (fail-stop).
    fn check_delivery(&self) -> Result<(), EngineError> {
        match self.delivery.as_ref().and_then(|delivery| delivery.failure()) {
            Some(failure) => {
                self.shared.fail(&*failure);
                self.shared.check()
            }
            None => Ok(()),
        }
    }

    /// Starts a thread whose panic stops the engine.
    fn thread(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let told = name.to_owned();
        let guarded = move || {
            let guard = PanicGuard { shared, thread: told };
            work();
            drop(guard);
        };
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(guarded)
            .map_err(|error| EngineError::Stopped(format!("no thread for {name}: {error}")))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Appends a control entry and waits until it is derived.
    fn control(&self, control: Control) -> Result<ControlDone, EngineError> {
        let (told, answer) = bounded(1);
        self.append(Append::Control(control, told))?;
        self.answered(&answer)
    }

    /// Waits until everything accepted so far is derived, stored, and told to delivery.
    fn barrier(&self) -> Result<(), EngineError> {
        let (told, answer) = bounded(1);
        self.append(Append::Barrier(told))?;
        self.answered(&answer)
    }

    /// Waits for what a thread was asked for.
    fn answered<T>(&self, answer: &Receiver<T>) -> Result<T, EngineError> {
        self.shared.answer(answer).ok_or_else(|| self.stopped())
    }

    fn append(&self, request: Append) -> Result<(), EngineError> {
        let Some(appends) = &self.appends else {
            return Err(EngineError::Usage("the engine was opened to look only".into()));
        };
        appends.send(request).map_err(|_| self.stopped())
    }

    fn stopped(&self) -> EngineError {
        self.shared.check().err().unwrap_or_else(|| EngineError::Stopped("it was closed".into()))
    }

    fn end(&mut self) -> Result<(), EngineError> {
        // A compaction that is due is done before, unless somebody has asked to stop at once.
        self.shared.request_close();
        if let Some(compacting) = self.compacting.take() {
            // A panic was told by the guard of the thread.
            compacting.join().ok();
        }
        self.compactor = None;
        self.shared.request_stop();
        if let Some(requests) = &self.reloads {
            requests.close();
        }
        if let Some(delivery) = &self.delivery {
            delivery.hasten();
        }
        self.appends = None;
        // The appender holds a sender of jobs too; the deriver ends when both are gone.
        self.jobs = None;
        for thread in self.threads.drain(..).rev() {
            // A panic was told by the guard of the thread.
            thread.join().ok();
        }
        let mut ended = self.shared.check();
        if let Some(delivery) = self.delivery.take() {
            let delivery = Arc::into_inner(delivery).expect("the threads that used it have ended");
            if let Err(error) = delivery.stop() {
                ended = ended.and(Err(EngineError::Stopped(with_sources(&*error))));
            }
        }
        ended
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty()
            && let Err(error) = self.end()
        {
            tracing::error!("closing the engine: {error}");
        }
    }
}

fn nobody(rejects: RejectsFile) -> RejectsOwner {
    RejectsOwner::Nobody(Box::new(Mutex::new(rejects)))
}

/// Tells the engine when a thread ends by a panic.
struct PanicGuard {
    shared: Arc<Shared>,
    thread: String,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let error = EngineError::Stopped(format!("the {} panicked", self.thread));
            self.shared.fail(&error);
        }
    }
}

fn start_delivery(
    backlog: StoredBacklog,
    config: &Config,
    options: &Options,
) -> Result<Arc<Delivery>, EngineError> {
    let now = options.clock.now().as_millis();
    let setup = DeliverySetup {
        log_id: backlog.log_id(),
        destinations: config.destinations.iter().map(|d| d.settings.clone()).collect(),
        dataflows: config.dataflows.clone(),
        backlog: Arc::new(backlog),
        clock: Arc::clone(&options.clock),
        seed: now.unsigned_abs(),
    };
    Ok(Arc::new(Delivery::start(setup)?))
}
