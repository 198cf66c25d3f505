//! The checkpointer: the thread that writes what the deriver has cut.
//!
//! The deriver stands still while a cut is turned into bytes, and goes on while they are written here.
//! One cut is written at a time. When it is, the state database has its chance to be opened anew, which
//! keeps the next opening short too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use forebay_storage::{Offset, Store};

use super::checkpoint::{Cut, Known};
use super::checkpoint_policy::{CheckpointPolicy, Occasion, Tail};
use super::shared::Shared;
use crate::clock::{Clock, Moment};
use crate::error::EngineError;

/// A cut on its way to the disk.
pub(super) struct Order {
    cut: Cut,
    /// When the deriver began with it.
    begun: Moment,
    /// Told when it is durable and those before it are gone.
    told: Option<Sender<()>>,
}

/// How the writing goes, as the deriver sees it.
#[derive(Debug, Default)]
struct Writing {
    is_busy: AtomicBool,
    /// When the last one was complete, and what it took, in nanoseconds.
    ended: AtomicU64,
    cost: AtomicU64,
}

/// Writes cuts.
pub(super) struct Checkpointer {
    /// Where they go.
    pub store: Arc<Store>,
    /// Who is told of a failure.
    pub shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    orders: Receiver<Order>,
    writing: Arc<Writing>,
}

/// The deriver's side: when to cut, and where to send it.
pub(super) struct Checkpoints {
    policy: CheckpointPolicy,
    clock: Arc<dyn Clock>,
    orders: Sender<Order>,
    writing: Arc<Writing>,
    /// Where the newest cut was made, and what was derived since took.
    cut_at: u64,
    work: Duration,
    /// Whether the next occasion is taken, because the newest one is of little use.
    is_wanted: bool,
}

/// What opening found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Where the newest checkpoint ends; the start of the log, if none was used.
    pub next: u64,
    /// What reading it took.
    pub loaded: Duration,
    /// What it took to derive the log behind it.
    pub replayed: Duration,
}

/// Both sides.
pub(super) fn checkpoints(
    (store, shared): (Arc<Store>, Arc<Shared>),
    clock: Arc<dyn Clock>,
    policy: CheckpointPolicy,
    found: Found,
) -> (Checkpoints, Checkpointer) {
    let (sender, orders) = bounded(1);
    let ended = AtomicU64::new(clock.moment().as_nanos());
    let cost = AtomicU64::new(nanos(found.loaded));
    let writing = Arc::new(Writing { ended, cost, ..Writing::default() });
    let checkpointer = Checkpointer {
        store,
        shared,
        clock: Arc::clone(&clock),
        orders,
        writing: Arc::clone(&writing),
    };
    let (cut_at, work, is_wanted) = (found.next, found.replayed, false);
    (Checkpoints { policy, clock, orders: sender, writing, cut_at, work, is_wanted }, checkpointer)
}

impl Checkpoints {
    /// The moment now, to be given back when some work is done.
    pub(super) fn begin(&self) -> Moment {
        self.clock.moment()
    }

    /// Notes work that opening would have to do again.
    pub(super) fn worked_since(&mut self, begun: Moment) {
        self.work += self.clock.moment().since(begun);
    }

    /// Has the next occasion taken whatever the tail: what there is cannot be gone on with.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether to cut now, when everything below `next` is derived.
    pub(super) fn is_due(&self, next: u64, occasion: Occasion) -> bool {
        if self.writing.is_busy.load(Ordering::Acquire) && occasion != Occasion::Closing {
            return false;
        }
        self.is_wanted || self.policy.is_due(&self.tail(next), occasion)
    }

    /// Whether it will be time to cut, though nothing comes any more.
    pub(super) fn will_be_due(&self, next: u64) -> bool {
        self.is_wanted || self.policy.will_be_due(&self.tail(next))
    }

    /// Cuts, and sends it to be written; waits if another one is being written still.
    pub(super) fn cut(
        &mut self,
        known: &Known<'_>,
        store: &Store,
        told: Option<Sender<()>>,
    ) -> Result<(), EngineError> {
        let begun = self.clock.moment();
        let cut = known.cut(store)?;
        let stood_still = self.clock.moment().since(begun);
        tracing::info!(next = cut.next, ms = stood_still.as_millis(), "cut a checkpoint");
        (self.cut_at, self.work, self.is_wanted) = (cut.next, Duration::ZERO, false);
        self.writing.is_busy.store(true, Ordering::Release);
        // The checkpointer ends early only when it has failed, and has said so.
        self.orders.send(Order { cut, begun, told }).ok();
        Ok(())
    }

    fn tail(&self, next: u64) -> Tail {
        let ended = Moment::from_nanos(self.writing.ended.load(Ordering::Acquire));
        Tail {
            entries: next - self.cut_at,
            work: self.work,
            age: self.clock.moment().since(ended),
            cost: Duration::from_nanos(self.writing.cost.load(Ordering::Acquire)),
        }
    }
}

impl Checkpointer {
    /// Works until the deriver has ended or something fails.
    pub(super) fn run(self) {
        while let Ok(order) = self.orders.recv() {
            if let Err(error) = self.write(order) {
                self.shared.fail(&error);
                return;
            }
        }
    }

    /// Writes the cut that waits, if one does; whether it did.
    #[cfg(test)]
    pub(super) fn write_waiting(&self) -> Result<bool, EngineError> {
        let order = self.orders.try_recv().ok();
        order.map_or(Ok(false), |order| self.write(order).map(|()| true))
    }

    /// Whether a cut waits.
    #[cfg(test)]
    pub(super) fn has_waiting(&self) -> bool {
        !self.orders.is_empty()
    }

    fn write(&self, order: Order) -> Result<(), EngineError> {
        let Order { cut, begun, told } = order;
        let next = Offset::from_u64(cut.next);
        let bytes = self.store.checkpoints().write(next, &cut.blocks)?;
        drop(cut);
        let ended = self.clock.moment();
        let took = ended.since(begun);
        tracing::info!(%next, bytes, ms = took.as_millis(), "a checkpoint is written");
        self.writing.cost.store(nanos(took), Ordering::Release);
        self.writing.ended.store(ended.as_nanos(), Ordering::Release);
        self.writing.is_busy.store(!self.orders.is_empty(), Ordering::Release);
        if let Some(told) = told {
            // Whoever asked may have stopped waiting.
            told.send(()).ok();
        }
        self.store.renew_state()?;
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
