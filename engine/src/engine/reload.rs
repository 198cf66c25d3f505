//! Taking another configuration while the engine runs (`SPEC.md` §5, §9).
//!
//! ```text
//!  Engine::reload    one slot: a later request replaces one that was not begun with
//!        │
//!        ▼
//!  reloader    can delivery use it? If not, that is told and all stays as it is.
//!        │     Does it ask for history that was not kept? Then the log is folded once more, with
//!        │     everything known that will be asked, beside the projection that goes on working.
//!        │     Dataflows that are gone stop sending.
//!        ▼
//!  appender    the control entry, in its place among the records
//!        │
//!        ▼
//!  deriver     the new projection takes in what it still lacks, and the place of the old one
//!        │
//!        ▼
//!  reloader    delivery is changed; what changed is told
//! ```
//!
//! Until the entry stands in the log nothing has happened: a stop or a crash before it leaves the old
//! configuration, and the next start applies the file anyway. While the log is folded once more there
//! are two projections in memory.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crossbeam::channel::{Sender, bounded};
use forebay_storage::Store;

use super::appender::Append;
use super::changes;
use super::derivation::Derivation;
use super::deriver::{Deriver, Job, ask};
use super::notice::Notice;
use super::open::other_clock;
use super::shared::Shared;
use super::transition::Transition;
use super::{Engine, Mode};
use crate::clock::ClockKind;
use crate::config::Config;
use crate::definitions::{self, Change, Definitions};
use crate::deliver::delivery::{Delivery, Prepared};
use crate::error::EngineError;
use crate::project::projection::Projection;

/// Entries that the deriver may be left to fold when the new projection takes its place: some
/// milliseconds of work.
const JOIN_WITHIN: u64 = 8192;

impl Engine {
    /// Asks for another configuration to be taken without stopping anything. It is taken in the
    /// background; notices tell what came of it. A request that was not begun with is replaced.
    ///
    /// # Errors
    ///
    /// The configuration cannot be taken by this engine: it delivers nothing, or the clock differs.
    pub fn reload(&self, config: Config) -> Result<(), EngineError> {
        let Some(requests) = self.reloads.as_ref().filter(|_| self.mode == Mode::Deliver) else {
            return Err(EngineError::Usage(
                "only an engine that delivers takes another configuration while it runs".into(),
            ));
        };
        if config.clock != self.kind {
            return Err(other_clock(config.clock));
        }
        requests.put(config);
        Ok(())
    }

    /// Whether a configuration that was asked for is not taken yet.
    pub fn is_reloading(&self) -> bool {
        self.reloads.as_ref().is_some_and(|requests| requests.is_busy())
    }
}

/// The configurations asked for: one that is being taken, and the newest after it.
#[derive(Default)]
pub(super) struct Requests {
    slot: Mutex<Slot>,
    changed: Condvar,
}

#[derive(Default)]
struct Slot {
    waiting: Option<Box<Config>>,
    is_taking: bool,
    is_closed: bool,
}

impl Requests {
    fn put(&self, config: Config) {
        self.slot().waiting = Some(Box::new(config));
        self.changed.notify_all();
    }

    /// No more will be taken.
    pub(super) fn close(&self) {
        self.slot().is_closed = true;
        self.changed.notify_all();
    }

    fn is_busy(&self) -> bool {
        let slot = self.slot();
        slot.is_taking || slot.waiting.is_some()
    }

    /// Waits for the next one; `None` once closed. The one before is taken then.
    fn next(&self) -> Option<Config> {
        let mut slot = self.slot();
        slot.is_taking = false;
        loop {
            if slot.is_closed {
                return None;
            }
            if let Some(config) = slot.waiting.take() {
                slot.is_taking = true;
                return Some(*config);
            }
            slot = self.changed.wait(slot).expect("no thread panics with this lock");
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no thread panics with this lock")
    }
}

/// Whether the projection has seen what other definitions ask of the past.
#[derive(Clone, Copy)]
enum History {
    Seen,
    Missed,
}

/// Takes one configuration after another, on a thread of its own.
pub(super) struct Reloader {
    /// Where the log is.
    pub store: Arc<Store>,
    /// Failure, stop, notices, the configuration in effect.
    pub shared: Arc<Shared>,
    /// What is sent, and how.
    pub delivery: Arc<Delivery>,
    /// What `now` means.
    pub kind: ClockKind,
    /// Where the control entry goes.
    pub appends: Sender<Append>,
    /// Where questions go.
    pub jobs: Sender<Job>,
    /// What is asked for.
    pub requests: Arc<Requests>,
}

impl Reloader {
    /// Works until `requests` is closed or something fails.
    pub(super) fn run(self) {
        while let Some(config) = self.requests.next() {
            if let Err(error) = self.take(config) {
                self.shared.fail(&error);
                return;
            }
        }
    }

    fn take(&self, config: Config) -> Result<(), EngineError> {
        let destinations = config.destinations.iter().map(|d| d.settings.clone()).collect();
        let prepared = match self.delivery.prepare(destinations, config.dataflows.clone()) {
            Ok(prepared) => prepared,
            Err(error) => {
                let reason = crate::error::with_sources(&error);
                self.shared.notice(Notice::ReloadRefused { reason });
                return Ok(());
            }
        };
        let coming = config.definitions.clone();
        let asked = self.ask(move |deriver| {
            let has_seen_all = deriver.derivation.projection.has_seen_all_for(&coming);
            let history = has_seen_all.map(|all| if all { History::Seen } else { History::Missed });
            history.map(|history| (deriver.definitions().clone(), history))
        });
        // Without an answer the engine is stopping, and whoever stops it knows why.
        let Some(answer) = asked else { return Ok(()) };
        let (old, history) = answer?;
        let change = definitions::diff(&old, &config.definitions);
        let before = self.shared.configuration();
        let told = changes::told(&old, change.as_ref(), (before.as_deref(), &config));
        if let Some(change) = change
            && !self.append(change, &config.definitions, history)?
        {
            return Ok(());
        }
        self.deliver(prepared, config)?;
        self.shared.notice(Notice::Reloaded { changes: told });
        Ok(())
    }

    /// The log folded once more, almost to its end, as if `coming` had been known all the time.
    /// `None` if the engine is asked to stop meanwhile.
    fn folded_anew(&self, coming: &Definitions) -> Result<Option<Box<Derivation>>, EngineError> {
        let known = self.ask(|deriver| deriver.derivation.history().to_vec());
        // Without an answer the engine is stopping.
        let Some(mut all) = known else { return Ok(None) };
        all.push(coming.clone());
        let mut successor = Box::new(Derivation::new(Projection::new(self.kind, all)?));
        let goes_on = || !self.shared.is_stopping();
        let mut lacked = u64::MAX;
        loop {
            let end = self.store.log().next_offset().as_u64();
            let lacks = end - successor.next();
            // Where records come in faster than they are folded here, waiting longer does not help.
            if lacks <= JOIN_WITHIN || lacks >= lacked {
                return Ok(Some(successor));
            }
            lacked = lacks;
            successor.follow(&self.store, end, &goes_on)?;
            if !goes_on() {
                return Ok(None);
            }
        }
    }

    /// Appends the control entry and waits until it is derived; whether it was, before a stop.
    fn append(
        &self,
        change: Change,
        definitions: &Definitions,
        history: History,
    ) -> Result<bool, EngineError> {
        // Until the successor is in its place, which reads the rest of the log.
        let _turn = matches!(history, History::Missed).then(|| self.shared.log_turn());
        let successor = match history {
            History::Seen => None,
            History::Missed => match self.folded_anew(definitions)? {
                None => return Ok(false),
                successor => successor,
            },
        };
        self.delivery.retire(&change.dataflows.removals);
        let (told, answer) = bounded(1);
        let definitions = definitions.clone();
        let transition = Box::new(Transition { change, definitions, successor, told });
        if self.appends.send(Append::Definitions(transition)).is_err() {
            return Ok(false);
        }
        // What was replaced is large; it is let go here, where nobody waits.
        Ok(self.shared.answer(&answer).map(drop).is_some())
    }

    fn deliver(&self, prepared: Prepared, config: Config) -> Result<(), EngineError> {
        self.delivery.change(prepared)?;
        self.shared.set_configuration(config);
        let (delivery, config) = (Arc::clone(&self.delivery), self.shared.configuration());
        let tell_all = move |deriver: &mut Deriver| {
            if let Some(config) = config {
                deriver.budgets.configure(&config);
            }
            deriver.tell_all(&|id, last| delivery.resume(id, last))
        };
        match self.ask(tell_all) {
            Some(told) => told,
            None => Ok(()),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Deriver) -> T + Send + 'static,
    ) -> Option<T> {
        ask(&self.jobs, &self.shared, question)
    }
}
