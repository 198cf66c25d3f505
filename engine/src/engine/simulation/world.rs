//! A world: one engine over its lives, and everything around it.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use forebay_storage::{EntryKind, Offset, Store, WriteOp};

use super::super::appender::{Append, Appender, ClockRules};
use super::super::checkpoint_policy::CheckpointPolicy;
use super::super::checkpointer::{self, Checkpointer};
use super::super::deriver::{Deriver, Job};
use super::super::open::{self, Opened};
use super::super::shared::Shared;
use super::super::stored_backlog::StoredBacklog;
use super::super::{DERIVE_QUEUE, Mode, Options, Progress};
use super::disk::{Crash, Disk};
use super::mutants::Mutant;
use super::operator::Importing;
use super::random::Random;
use super::receivers::{Flight, Receivers};
use super::reloader::Reloading;
use super::script::{START_MS, Script};
use super::twin::Twin;
use super::watch::Watch;
use crate::clock::{Clock, ClockKind, millis};
use crate::config::Config;
use crate::deliver::backlog::Backlog;
use crate::deliver::by_hand::{ByHand, Setup};
use crate::deliver::hand_clock::HandClock;
use crate::deliver::jitter::Jitter;
use crate::error::EngineError;

/// What is told of a world that went wrong.
const TRACE: usize = 60;

/// How far the wall clock is set at most, in milliseconds: two hours.
const SET_MAX_MS: u64 = 2 * 3_600_000;

/// Operations within which a trap springs.
const TRAP_WITHIN: u64 = 25;

/// Times that an opening may be killed in a row.
const OPENINGS_MAX: usize = 30;

/// One engine, its surroundings, and what is known of it from outside.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) clock: Arc<HandClock>,
    pub(super) disk: Disk,
    pub(super) script: Script,
    pub(super) receivers: Receivers,
    pub(super) watch: Watch,
    pub(super) twin: Twin,
    pub(super) acknowledged: Acknowledged,
    pub(super) running: Option<Running>,
    /// Which configuration holds.
    pub(super) config: usize,
    /// Whether there is but one trap.
    is_aimed_at: bool,
    /// Whether a trap has sprung.
    pub(super) aimed: bool,
    /// What is done wrong on purpose.
    pub(super) mutant: Option<Mutant>,
    /// No more trouble.
    pub(super) is_calm: bool,
    pub(super) flights: Vec<Flight>,
    trace: VecDeque<String>,
}

/// What was promised to those who append.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// The log as it was then.
    pub(super) entries: Vec<(EntryKind, Vec<u8>)>,
    /// Lines that were refused.
    pub(super) rejects: Vec<String>,
}

/// What a process has in memory.
pub(super) struct Running {
    pub(super) store: Arc<Store>,
    pub(super) shared: Arc<Shared>,
    pub(super) appender: Appender,
    /// Requests to the appender, each with the lines that it will refuse.
    pub(super) appends: VecDeque<(Append, Vec<String>)>,
    pub(super) jobs: Receiver<Job>,
    pub(super) kind: ClockKind,
    pub(super) deriver: Deriver,
    pub(super) checkpointer: Checkpointer,
    /// Whether the deriver looks for something to do.
    pub(super) is_deriving: bool,
    pub(super) hands: Arc<Mutex<ByHand>>,
    pub(super) backlog: Arc<dyn Backlog>,
    /// The line of the file that is read next.
    pub(super) line: usize,
    /// An import that was begun.
    pub(super) import: Option<Importing>,
    /// A configuration that is being taken.
    pub(super) reload: Option<Reloading>,
}

/// Nobody watches.
struct Unwatched;

impl Progress for Unwatched {
    fn replay(&self, _: u64, _: u64) {}
    fn input(&self, _: &str, _: u64, _: Option<u64>, _: u64) {}
    fn delivering(&self, _: u64) {}
}

impl World {
    /// All of it follows from `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let disk = Disk::new(*random.pick(&[1 << 30, 4_000, 1_000]));
        let script = Script::new(&mut random, &disk.beside(""));
        let mut world = Self::of(seed, random, (disk, script));
        world.open();
        world
    }

    /// The world of `script`, in which nothing has begun.
    pub(super) fn of(seed: u64, mut random: Random, (disk, script): (Disk, Script)) -> Self {
        let clock = Arc::new(HandClock::default());
        clock.pass(Duration::from_millis(u64::try_from(START_MS).expect("it is past 1970")));
        Self {
            seed,
            receivers: Receivers::new(random.split()),
            twin: Twin::new(script.clock, &script.configs),
            random,
            clock,
            disk,
            script,
            watch: Watch::default(),
            acknowledged: Acknowledged::default(),
            running: None,
            config: 0,
            is_aimed_at: false,
            aimed: false,
            mutant: None,
            is_calm: false,
            flights: Vec::new(),
            trace: VecDeque::new(),
        }
    }

    /// A world whose only trouble is one crash, at an operation of this kind; whether that came.
    pub(super) fn aimed(seed: u64, operation: WriteOp, crash: Crash) -> bool {
        let mut random = Random::new(seed);
        let disk = Disk::new(1_000);
        let mut script = Script::new(&mut random, &disk.beside(""));
        script.trouble_in = u64::MAX;
        let mut world = Self::of(seed, random, (disk, script));
        world.is_aimed_at = true;
        let others = world.random.below(3);
        world.disk.arm(others, crash, Some(operation));
        world.open();
        for _ in 0..400 {
            world.step();
        }
        let has_come = world.aimed;
        world.finish();
        has_come
    }

    /// Trouble first, then calm.
    pub(super) fn run(&mut self) {
        for _ in 0..self.random.within(100, 900) {
            self.step();
        }
        self.finish();
    }

    /// Calm, in which everything must come to rest; then all is compared.
    pub(super) fn finish(&mut self) {
        self.is_calm = true;
        self.receivers.heal();
        self.disk.disarm();
        // A destination that answered 410 is sent to again by the next run only.
        self.restart();
        self.come_to_rest();
        if self.random.one_in(4) {
            self.compact();
        }
        self.restart();
        self.check_end();
    }

    /// What happened, and how often.
    pub(super) fn seen(&self) -> BTreeMap<String, u64> {
        let watched = self.watch.seen.iter().map(|(what, times)| ((*what).to_owned(), *times));
        watched.chain(self.disk.seen()).collect()
    }

    pub(super) fn config(&self) -> &Config {
        &self.script.configs[self.config]
    }

    /// The time that has passed, whatever the wall clock shows.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.moment().as_nanos() / 1_000_000
    }

    /// Remembers what is done, for whoever looks into a failure.
    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let line = format!("{} {}", self.now_ms(), what());
        self.trace.push_back(line);
    }

    /// Judges how a step of the engine ended.
    pub(super) fn ended(&mut self, actor: &str, result: Result<(), String>) {
        self.aimed |= self.disk.sprung().is_some();
        if self.disk.has_refused_checkpoint() {
            // Whoever needed it is told, and everything goes on.
            let is_told = result.as_ref().err().is_none_or(|error| error.contains("make room"));
            assert!(is_told, "the {actor}, without room for a checkpoint: {result:?}");
            self.tell(|| format!("{actor}: {result:?} without room for a checkpoint"));
            self.disk.ended();
            return self.note_exports();
        }
        match (result, self.disk.sprung()) {
            (Ok(()), None) => self.note_exports(),
            (Err(_), Some((op, crash))) => {
                self.tell(|| format!("{actor}: {crash:?} at {op:?}"));
                self.die(true);
                self.open();
            }
            (Ok(()), Some((op, _))) => panic!("the {actor} went on although {op:?} had failed"),
            (Err(error), None) => panic!("the {actor} failed: {error}"),
        }
    }

    /// Sets the wall clock back or forward; never to before the world began, as nobody may tell of what is
    /// yet to come.
    pub(super) fn set_wall(&mut self) {
        let room = u64::try_from(self.clock.now().as_millis() - START_MS).expect("it is later");
        let is_back = self.random.one_in(2);
        let most = if is_back { room.min(SET_MAX_MS) } else { SET_MAX_MS };
        let by = i64::try_from(self.random.within(0, most)).expect("it is short");
        let by = if is_back { -by } else { by };
        self.clock.set_wall(by);
        self.watch.count(if is_back { "clock set back" } else { "clock set forward" });
        if !is_back {
            let now = self.now_ms();
            self.watch.set_forward(now);
        }
        self.tell(|| format!("the wall clock is set by {by} ms"));
    }

    /// Kills the process between two operations.
    pub(super) fn kill(&mut self) {
        self.tell(|| "kill".to_owned());
        self.disk.disarm();
        self.disk.kill();
        self.die(true);
        self.open();
    }

    /// Stops the engine as a signal does, and starts it again.
    pub(super) fn restart(&mut self) {
        self.tell(|| "restart".to_owned());
        if let Err(error) = self.close() {
            return self.ended("close", Err(error));
        }
        self.die(false);
        self.open();
    }

    /// Ends the life: memory is gone, and so are the requests that were open.
    fn die(&mut self, was_crash: bool) {
        self.running = None;
        self.flights.clear();
        self.disk.ended();
        self.disk.tidy();
        self.watch.died(self.now_ms(), was_crash);
    }

    /// What is accepted is derived, and progress is written.
    fn close(&mut self) -> Result<(), String> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.close()?;
        self.note_exports();
        Ok(())
    }

    /// Begins a life, with traps on the way.
    pub(super) fn open(&mut self) {
        self.change_configuration();
        for _ in 0..OPENINGS_MAX {
            if !self.is_calm && !self.is_aimed_at && self.random.one_in(3) {
                self.arm();
            }
            match self.try_open() {
                Ok(running) => {
                    let sprung = self.disk.sprung();
                    assert!(sprung.is_none(), "it opened although {sprung:?} had failed");
                    self.running = Some(running);
                    self.check_opened();
                    return;
                }
                Err(error) => {
                    let sprung = self.disk.sprung();
                    assert!(sprung.is_some(), "it does not open: {error}");
                    self.aimed = true;
                    self.tell(|| format!("opening: {sprung:?}"));
                    self.die(true);
                }
            }
        }
        self.disk.disarm();
        let running = self.try_open().unwrap_or_else(|error| panic!("it does not open: {error}"));
        self.running = Some(running);
        self.check_opened();
    }

    pub(super) fn arm(&mut self) {
        let crash = *self.random.pick(&[Crash::Kill, Crash::Kill, Crash::Fault]);
        let others = self.random.below(TRAP_WITHIN);
        self.disk.arm(others, crash, None);
    }

    /// Another configuration holds from the next opening on, now and then.
    fn change_configuration(&mut self) {
        let is_last = self.config + 1 == self.script.configs.len();
        if !self.is_calm && !is_last && self.random.one_in(3) {
            self.config += 1;
            let number = self.config;
            self.watch.count("configuration");
            self.tell(|| format!("configuration {number}"));
        }
    }

    fn try_open(&mut self) -> Result<Running, EngineError> {
        let config = self.config().clone();
        let options = Options {
            data: self.disk.data(),
            config: Some(config.clone()),
            mode: Mode::Deliver,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        };
        let opened = open::open(&options, self.disk.options(), &Unwatched)?;
        let jitter = Jitter::new(self.random.below(1 << 40));
        Running::start(opened, (&config, self.script.checkpoints), (&options, jitter))
    }

    /// Takes note of the exports that were stored since the last time.
    pub(super) fn note_exports(&mut self) {
        let Some(running) = &self.running else { return };
        for dataflow in running.store.outbox().dataflows() {
            let rows = self.watch.flows.get(&dataflow).and_then(|f| f.rows.keys().next_back());
            let from = rows.map_or(0, |last| last + 1);
            if running.store.outbox().next_sequence(&dataflow) > from {
                let new = running.backlog.read(&dataflow, from, usize::MAX);
                self.watch.stored(&dataflow, new.expect("the backlog can be read"));
            }
        }
    }

    /// Takes note of what is in the log and was acknowledged, or is durable.
    pub(super) fn note_acknowledged(&mut self) {
        let running = self.running.as_ref().expect("it runs");
        let known = self.acknowledged.entries.len() as u64;
        for chunk in running.store.log().read(Offset::from_u64(known)) {
            let chunk = chunk.expect("the log can be read");
            let new = chunk.iter().filter(|(offset, ..)| offset.as_u64() >= known);
            let new = new.map(|(_, kind, bytes)| (kind, bytes.to_vec()));
            self.acknowledged.entries.extend(new);
        }
        self.twin.follow(&running.store, self.acknowledged.entries.len() as u64);
    }
}

impl Running {
    fn start(
        opened: Opened,
        (config, policy): (&Config, CheckpointPolicy),
        (options, jitter): (&Options, Jitter),
    ) -> Result<Self, EngineError> {
        let Opened { store, shared, replayed, rejects } = opened;
        let open::Replayed { mut deriver, marks, kind, found } = replayed;
        let backlog = StoredBacklog::new(&store, deriver.budgets.freed());
        let log_id = backlog.log_id();
        let backlog: Arc<dyn Backlog> = Arc::new(backlog);
        let clock = Arc::clone(&options.clock);
        let setup =
            Setup { log_id, backlog: Arc::clone(&backlog), clock: Arc::clone(&clock), jitter };
        let mut hands = ByHand::new(setup);
        hands.start(&destinations(config), &config.dataflows).map_err(delivery_failed)?;
        deriver.tell_all(&|id, sequence| hands.notify(id, sequence))?;
        let hands = Arc::new(Mutex::new(hands));
        let (notified, withdrawing) = (Arc::clone(&hands), Arc::clone(&hands));
        deriver.deliver_to(
            Box::new(move |id, sequence| lock(&notified).notify(id, sequence)),
            Box::new(move |withdrawal| lock(&withdrawing).withdraw(withdrawal)),
        );
        let (checkpoints, checkpointer) = checkpointer::checkpoints(
            (Arc::clone(&store), Arc::clone(&shared)),
            Arc::clone(&clock),
            policy,
            found,
        );
        deriver.checkpoints = Some(checkpoints);
        let (jobs, job_queue) = bounded(DERIVE_QUEUE);
        let max_jump_ms = deriver.definitions().settings.max_clock_jump_ms.map(millis);
        let appender = Appender {
            store: Arc::clone(&store),
            rejects,
            clock,
            rules: ClockRules { kind, max_jump_ms },
            appended: marks.appended,
            event_now: deriver.derivation.projection.now(),
            deriver: jobs,
            shared: Arc::clone(&shared),
        };
        let line = marks.positions.get(super::actors::FILE).map_or(0, |position| position.line - 1);
        Ok(Self {
            store,
            shared,
            appender,
            appends: VecDeque::new(),
            jobs: job_queue,
            kind,
            deriver,
            checkpointer,
            is_deriving: true,
            hands,
            backlog,
            line: usize::try_from(line).expect("few lines"),
            import: None,
            reload: None,
        })
    }

    /// Derives what is accepted and stops the workers. What was not appended yet is not accepted.
    fn close(&mut self) -> Result<(), String> {
        self.derive_all()?;
        self.deriver.end_cut().map_err(|error| error.to_string())?;
        self.checkpointer.write_waiting().map_err(|error| error.to_string())?;
        self.deriver.close().map_err(|error| error.to_string())?;
        self.checkpointer.write_waiting().map_err(|error| error.to_string())?;
        let ids = lock(&self.hands).ids();
        for id in ids {
            lock(&self.hands).stop(&id).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Running {
    /// Does all jobs that wait, and writes what was cut meanwhile.
    pub(super) fn derive_all(&mut self) -> Result<(), String> {
        // There is room for one cut only.
        self.checkpointer.write_waiting().map_err(|error| error.to_string())?;
        while let Ok(job) = self.jobs.try_recv() {
            self.deriver.work_on(job).map_err(|error| error.to_string())?;
            self.checkpointer.write_waiting().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Drop for World {
    /// Tells what led to a failure.
    fn drop(&mut self) {
        if std::thread::panicking() && self.mutant.is_none() {
            let mut err = std::io::stderr();
            let trace = self.trace.make_contiguous().join("\n");
            writeln!(err, "{trace}\nsimulation: FOREBAY_SEED={} failed", self.seed).ok();
        }
    }
}

pub(super) fn destinations(config: &Config) -> Vec<crate::deliver::settings::DestinationSettings> {
    config.destinations.iter().map(|destination| destination.settings.clone()).collect()
}

pub(super) fn lock(hands: &Mutex<ByHand>) -> std::sync::MutexGuard<'_, ByHand> {
    hands.lock().expect("one thread only")
}

fn delivery_failed(error: crate::deliver::error::DeliveryError) -> EngineError {
    EngineError::from(error)
}
