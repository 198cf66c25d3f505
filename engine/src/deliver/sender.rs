//! The threads that wait for endpoints.
//!
//! A request blocks its thread, so a dataflow has as many threads as it has requests open: started
//! when they are needed, ended when they have nothing to do. Jobs come over one bounded channel and
//! outcomes go back over the worker's. A panic is reported and stops the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::dispatcher::{Completion, Dispatch};
use super::failure::Failure;
use super::request::RequestTemplate;
use super::transport::Transport;
use super::worker::Event;
use crate::clock::Clock;

/// How long a sender waits for work before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// What all senders of a dataflow share.
pub(super) struct SenderContext {
    pub(super) dataflow: String,
    pub(super) template: RequestTemplate,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) failure: Failure,
    pub(super) events: Sender<Event>,
}

/// Those who send what a worker hands out, and tell it how that ended. The second implementation is the
/// simulation's.
pub(super) trait Senders: Send {
    /// Hands `dispatch` to a sender. `in_flight` counts it and all others not ended.
    fn send(&mut self, dispatch: Dispatch, in_flight: usize) -> std::io::Result<()>;

    /// Lets the senders end once they have nothing left; returns the threads to be joined.
    fn stop(self: Box<Self>) -> Vec<JoinHandle<()>>;
}

/// A dataflow's senders.
pub(super) struct SenderPool {
    shared: Arc<Shared>,
    jobs: Sender<Dispatch>,
    /// Kept so that a sender can be started at any time.
    work: Receiver<Dispatch>,
    threads: Vec<JoinHandle<()>>,
    started: usize,
}

struct Shared {
    context: SenderContext,
    alive: AtomicUsize,
}

impl SenderPool {
    /// No threads yet; at most `max_in_flight` of them.
    pub(super) fn new(context: SenderContext, max_in_flight: usize) -> Self {
        let (jobs, work) = bounded(max_in_flight);
        let shared = Arc::new(Shared { context, alive: AtomicUsize::new(0) });
        Self { shared, jobs, work, threads: Vec::new(), started: 0 }
    }

    fn start(&mut self) -> std::io::Result<()> {
        for ended in self.threads.extract_if(.., |thread| thread.is_finished()) {
            if ended.join().is_err() {
                // Its guard has reported the panic already.
                tracing::error!(dataflow = self.shared.context.dataflow, "a sender panicked");
            }
        }
        self.started += 1;
        let name = format!("forebay-send-{}-{}", self.shared.context.dataflow, self.started);
        let (shared, work) = (Arc::clone(&self.shared), self.work.clone());
        shared.alive.fetch_add(1, Ordering::SeqCst);
        let thread = thread::Builder::new().name(name).spawn(move || run(&shared, &work));
        if thread.is_err() {
            self.shared.alive.fetch_sub(1, Ordering::SeqCst);
        }
        self.threads.push(thread?);
        Ok(())
    }
}

impl Senders for SenderPool {
    /// There is a thread for each request in flight, so this one waits for none of them.
    fn send(&mut self, dispatch: Dispatch, in_flight: usize) -> std::io::Result<()> {
        self.jobs.send(dispatch).expect("the pool keeps its end of the channel");
        if self.shared.alive.load(Ordering::SeqCst) < in_flight {
            self.start()?;
        }
        Ok(())
    }

    fn stop(self: Box<Self>) -> Vec<JoinHandle<()>> {
        drop((self.jobs, self.work));
        self.threads
    }
}

fn run(shared: &Shared, work: &Receiver<Dispatch>) {
    let _guard = shared.context.failure.guard();
    loop {
        while let Ok(dispatch) = work.recv_timeout(IDLE_MAX) {
            if !send(&shared.context, &dispatch) {
                return;
            }
        }
        // Whoever sends a job looks at `alive` after; so either it sees that this thread is gone,
        // or the job is here.
        shared.alive.fetch_sub(1, Ordering::SeqCst);
        let Ok(dispatch) = work.try_recv() else { return };
        shared.alive.fetch_add(1, Ordering::SeqCst);
        if !send(&shared.context, &dispatch) {
            return;
        }
    }
}

/// `false` once nobody is interested in outcomes any more.
fn send(context: &SenderContext, dispatch: &Dispatch) -> bool {
    let request = context.template.request(&dispatch.export, context.clock.now());
    let start = context.clock.moment();
    let outcome = context.transport.send(&request);
    let took = context.clock.moment().since(start);
    let completion = Completion { sequence: dispatch.export.sequence, outcome, took };
    context.events.send(Event::Ended(completion)).is_ok()
}
