//! SIGINT and SIGTERM: the first asks for a clean stop, the second ends the process at once. SIGHUP
//! asks `run` to read its configuration again; every other command ends by it, as usual.
//!
//! A terminal that goes away sends SIGHUP too. A process that was started on one has then nobody left
//! to talk to, and stops.
//!
//! Ending at once loses nothing that was accepted (`SPEC.md` §2, §8); a clean stop only spares the
//! next start the repeats. So a process with nothing to stop yet, for example while it replays its
//! log, ends at the first signal, and one that has not stopped after [`STOP_LIMIT`] ends itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::exit_code::CliError;

/// How long a clean stop may take (`SPEC.md` §10).
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What a signal does.
type Reaction = Box<dyn Fn() + Send>;

/// What signals do for now.
#[derive(Default)]
struct Reactions {
    /// What the first of SIGINT and SIGTERM does.
    stop: Option<Reaction>,
    /// What each SIGHUP does.
    reload: Option<Reaction>,
}

/// The process's signal handling, for as long as this lives.
pub(crate) struct SignalGuard {
    reactions: Arc<Mutex<Reactions>>,
    stopped: Receiver<()>,
    handle: Handle,
    /// Dropped to tell the watchdog that the process stops by itself.
    finished: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl SignalGuard {
    /// Catches the signals. Until [`on_first`](Self::on_first) is called, the first one ends the
    /// process with exit status 1.
    pub(crate) fn install() -> Result<Self, CliError> {
        Self::catching(&[SIGINT, SIGTERM])
    }

    /// The same, and catches SIGHUP: see [`on_reload`](Self::on_reload).
    pub(crate) fn install_for_run() -> Result<Self, CliError> {
        Self::catching(&[SIGINT, SIGTERM, SIGHUP])
    }

    fn catching(caught: &[i32]) -> Result<Self, CliError> {
        let failed = |error| CliError::Failed(format!("cannot catch signals: {error}"));
        let mut signals = Signals::new(caught).map_err(failed)?;
        let handle = signals.handle();
        let reactions: Arc<Mutex<Reactions>> = Arc::default();
        let (told, stopped) = bounded(1);
        let (finished, watched) = bounded::<()>(0);
        let shared = Arc::clone(&reactions);
        let had_terminal = has_terminal();
        let listen = move || {
            let mut told = Some(told);
            for signal in signals.forever() {
                if signal == SIGHUP && (has_terminal() || !had_terminal) {
                    reload(&shared);
                    continue;
                }
                // The watchdog first: the stop itself may be what hangs.
                if told.take().is_none() {
                    std::process::exit(1);
                }
                run_once(&shared);
            }
        };
        let first_signal = stopped.clone();
        let watch = move || watch(&first_signal, &watched);
        let start = |name: &str, body: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)
        };
        let threads =
            vec![start("signals", Box::new(listen))?, start("stop-limit", Box::new(watch))?];
        Ok(Self { reactions, stopped, handle, finished: Some(finished), threads })
    }

    /// What the first signal does from now on, on a thread of its own. What it did before is
    /// dropped, and does not run any more when this returns.
    pub(crate) fn on_first(&self, stop: impl Fn() + Send + 'static) {
        self.reactions().stop = Some(Box::new(stop));
    }

    /// What each SIGHUP does from now on, on a thread of its own. What it did before is dropped, and
    /// does not run any more when this returns.
    pub(crate) fn on_reload(&self, reload: impl Fn() + Send + 'static) {
        self.reactions().reload = Some(Box::new(reload));
    }

    fn reactions(&self) -> MutexGuard<'_, Reactions> {
        self.reactions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a signal was caught.
    pub(crate) fn caught(&self) -> bool {
        matches!(self.stopped.try_recv(), Err(crossbeam::channel::TryRecvError::Disconnected))
            && !self.handle.is_closed()
    }

    /// A channel that is disconnected once a signal was caught.
    pub(crate) fn stopped(&self) -> Receiver<()> {
        self.stopped.clone()
    }
}

/// Runs the stop, holding its lock no longer than that; without one the process ends.
fn run_once(reactions: &Mutex<Reactions>) {
    let reactions = reactions.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stop) = &reactions.stop {
        stop();
    } else {
        tell!("stopped by a signal while starting; nothing accepted is lost");
        std::process::exit(1);
    }
}

fn reload(reactions: &Mutex<Reactions>) {
    let reactions = reactions.lock().unwrap_or_else(PoisonError::into_inner);
    match &reactions.reload {
        Some(reload) => reload(),
        None => tell!("SIGHUP: still starting; send it again to have the configuration read again"),
    }
}

/// Whether the process has a terminal to talk to.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Ends the process if it has not finished [`STOP_LIMIT`] after the first signal.
fn watch(first_signal: &Receiver<()>, finished: &Receiver<()>) {
    crossbeam::channel::select! {
        recv(first_signal) -> _ => {
            if finished.recv_timeout(STOP_LIMIT) == Err(RecvTimeoutError::Timeout) {
                tell!(
                    "error: still not stopped after {} s, ending now; nothing accepted is lost",
                    STOP_LIMIT.as_secs()
                );
                std::process::exit(1);
            }
        }
        recv(finished) -> _ => {}
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        self.finished = None;
        self.handle.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a signal thread panicked");
            }
        }
    }
}
