//! The checkpointer: the thread that writes what the deriver has cut.
//!
//! The deriver makes a cut in slices: one whenever it has nothing else to do, and while work waits, one
//! profile for every entry derived. Then it is written here. One cut is made or written at a time.
//! When it is, the state database has its chance to be opened anew, which keeps the next opening short too.
//!
//! # On a full disk
//!
//! The log is the truth, so a cut that finds no room is dropped, told once, and stops nothing: what it was
//! to make an end of is the tail again, and another one is made when that had its rest. Whoever must know
//! that a checkpoint is durable is told that it is not. Any other failure stops the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use forebay_storage::{Offset, StorageError, Store};

use super::checkpoint::{Cut, Known};
use super::checkpoint_policy::{CheckpointPolicy, Occasion, Tail};
use super::notice::Notice;
use super::shared::Shared;
use crate::clock::{Clock, Moment};
use crate::error::{EngineError, with_sources};
use crate::project::projection::{Projection, Share};

/// What a cut that found no room counts as having cost, at least: one second, so that at the usual share
/// the next is made ten seconds later. Room is seldom made sooner, and each cut halts the deriver.
const REFUSED_COST: Duration = Duration::from_secs(1);

/// Hears how a cut ended: its checkpoint is durable and those before it are gone; or there was no room
/// for it, and why that is known.
pub(super) type Told = Sender<Result<(), String>>;

/// A cut on its way to the disk.
pub(super) struct Order {
    cut: Cut,
    /// How long the deriver worked at it.
    spent: Duration,
    /// Told how it ended.
    told: Option<Told>,
}

/// A cut that is being made.
struct Making {
    order: Order,
    /// What its longest slice took.
    longest: Duration,
    /// Entries derived since the last slice.
    entries: u64,
}

/// How the writing goes, as the deriver sees it.
#[derive(Debug, Default)]
struct Writing {
    is_busy: AtomicBool,
    /// Whether the last one found no room.
    is_refused: AtomicBool,
    /// When the last one ended, and what it took, in nanoseconds.
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
    /// Whether it was told that there is no room, and there was none since.
    is_told: bool,
}

/// The deriver's side: when to cut, and where to send it.
pub(super) struct Checkpoints {
    policy: CheckpointPolicy,
    clock: Arc<dyn Clock>,
    orders: Sender<Order>,
    writing: Arc<Writing>,
    /// The cut that is being made.
    making: Option<Making>,
    /// What came since the newest cut began.
    since: Since,
    /// What that cut was to make an end of, for as long as it is not known whether it did.
    before: Since,
    /// Whether it did not: there was no room.
    is_refused: bool,
}

/// What came after a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    /// Where it was cut.
    cut_at: u64,
    /// How long it took to derive what came since.
    work: Duration,
    /// Whether the next occasion is taken, because it is of little use.
    is_wanted: bool,
}

impl Since {
    /// The same after an earlier checkpoint, if `self` came after one that is not to be had.
    fn after(self, earlier: Self) -> Self {
        Self {
            cut_at: earlier.cut_at,
            work: earlier.work + self.work,
            is_wanted: earlier.is_wanted || self.is_wanted,
        }
    }
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
        is_told: false,
    };
    let since = Since { cut_at: found.next, work: found.replayed, is_wanted: false };
    let checkpoints = Checkpoints {
        policy,
        clock,
        orders: sender,
        writing,
        making: None,
        since,
        before: since,
        is_refused: false,
    };
    (checkpoints, checkpointer)
}

impl Checkpoints {
    /// The moment now, to be given back when some work is done.
    pub(super) fn begin(&self) -> Moment {
        self.clock.moment()
    }

    /// Notes work that opening would have to do again.
    pub(super) fn worked_since(&mut self, begun: Moment) {
        self.since.work += self.clock.moment().since(begun);
    }

    /// Has the next occasion taken whatever the tail: what there is cannot be gone on with.
    pub(super) fn want(&mut self) {
        self.since.is_wanted = true;
    }

    /// Whether to cut now, when everything below `next` is derived.
    pub(super) fn is_due(&mut self, next: u64, occasion: Occasion) -> bool {
        let is_busy = self.is_making() || self.writing.is_busy.load(Ordering::Acquire);
        if is_busy && occasion != Occasion::Closing {
            return false;
        }
        self.take_back();
        let tail = self.tail(next);
        let may_be = !self.is_refused || self.policy.has_rested(&tail);
        (self.since.is_wanted && may_be) || self.policy.is_due(&tail, occasion)
    }

    /// Whether it will be time to cut, though nothing comes any more.
    pub(super) fn will_be_due(&mut self, next: u64) -> bool {
        self.take_back();
        self.since.is_wanted || self.policy.will_be_due(&self.tail(next))
    }

    /// Begins a cut, when none is being made.
    pub(super) fn begin_cut(
        &mut self,
        known: Known<'_>,
        store: &Store,
        told: Option<Told>,
    ) -> Result<(), EngineError> {
        self.take_back();
        let begun = self.clock.moment();
        let cut = known.cut(store)?;
        let spent = self.clock.moment().since(begun);
        let is_before_known = !self.writing.is_busy.swap(true, Ordering::AcqRel);
        self.before = if is_before_known { self.since } else { self.since.after(self.before) };
        self.since = Since { cut_at: cut.next, ..Since::default() };
        self.is_refused = false;
        let order = Order { cut, spent, told };
        self.making = Some(Making { order, longest: spent, entries: 0 });
        Ok(())
    }

    /// Whether a cut is being made.
    pub(super) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// Notes that so many entries were derived; how much of the cut is to be made before the next, which
    /// is nothing until it is worth a slice.
    pub(super) fn earned(&mut self, entries: u64) -> Option<Share> {
        let making = self.making.as_mut()?;
        making.entries += entries;
        // One profile an entry: to save one takes about a third of what it takes to derive an entry.
        let earned = usize::try_from(making.entries).unwrap_or(usize::MAX);
        (earned >= self.policy.slice).then_some(Share::Profiles(earned))
    }

    /// How much of a cut is made at a time when nothing else is to be done.
    pub(super) fn slice(&self) -> Share {
        Share::Profiles(self.policy.slice)
    }

    /// Makes so much more of the cut, if one is being made. When it is complete it is sent to be written,
    /// after waiting for another one that is being written still.
    pub(super) fn go_on(
        &mut self,
        projection: &mut Projection,
        store: &Store,
        share: Share,
    ) -> Result<(), EngineError> {
        let Some(mut making) = self.making.take() else { return Ok(()) };
        let begun = self.clock.moment();
        let is_complete = making.order.cut.go_on(projection, store, share)?;
        let took = self.clock.moment().since(begun);
        making.order.spent += took;
        making.longest = making.longest.max(took);
        making.entries = 0;
        if !is_complete {
            self.making = Some(making);
            return Ok(());
        }
        let Making { order, longest, .. } = making;
        let (next, ms) = (order.cut.next, order.spent.as_millis());
        tracing::info!(next, ms, longest_ms = longest.as_millis(), "cut a checkpoint");
        // The checkpointer ends early only when it has failed, and has said so.
        self.orders.send(order).ok();
        Ok(())
    }

    /// If the newest cut found no room, what it was to make an end of is still there.
    fn take_back(&mut self) {
        if self.writing.is_refused.swap(false, Ordering::AcqRel) {
            self.since = self.since.after(self.before);
            self.is_refused = true;
        }
    }

    fn tail(&self, next: u64) -> Tail {
        let ended = Moment::from_nanos(self.writing.ended.load(Ordering::Acquire));
        Tail {
            entries: next - self.since.cut_at,
            work: self.since.work,
            age: self.clock.moment().since(ended),
            cost: Duration::from_nanos(self.writing.cost.load(Ordering::Acquire)),
            is_refused: self.is_refused,
        }
    }
}

impl Checkpointer {
    /// Works until the deriver has ended or something fails.
    pub(super) fn run(mut self) {
        while let Ok(order) = self.orders.recv() {
            if let Err(error) = self.write(order) {
                self.shared.fail(&error);
                return;
            }
        }
    }

    /// Writes the cut that waits, if one does; whether it did.
    #[cfg(test)]
    pub(super) fn write_waiting(&mut self) -> Result<bool, EngineError> {
        let order = self.orders.try_recv().ok();
        order.map_or(Ok(false), |order| self.write(order).map(|()| true))
    }

    /// Whether a cut waits.
    #[cfg(test)]
    pub(super) fn has_waiting(&self) -> bool {
        !self.orders.is_empty()
    }

    fn write(&mut self, order: Order) -> Result<(), EngineError> {
        let Order { cut, spent, told } = order;
        let begun = self.clock.moment();
        let next = Offset::from_u64(cut.next);
        let written = match self.store.checkpoints().write(next, &cut.blocks) {
            Ok(bytes) => Ok(bytes),
            Err(error @ StorageError::NoRoom { .. }) => Err(with_sources(&error)),
            Err(error) => return Err(error.into()),
        };
        drop(cut);
        let ended = self.clock.moment();
        let took = spent + ended.since(begun);
        let cost = if written.is_ok() { took } else { took.max(REFUSED_COST) };
        match &written {
            Ok(bytes) => {
                tracing::info!(%next, bytes, ms = took.as_millis(), "a checkpoint is written");
                self.is_told = false;
            }
            Err(reason) => self.tell(reason),
        }
        self.writing.cost.store(nanos(cost), Ordering::Release);
        self.writing.ended.store(ended.as_nanos(), Ordering::Release);
        self.writing.is_refused.store(written.is_err(), Ordering::Release);
        self.writing.is_busy.store(!self.orders.is_empty(), Ordering::Release);
        let written = written.map(drop);
        let is_written = written.is_ok();
        if let Some(told) = told {
            // Whoever asked may have stopped waiting.
            told.send(written).ok();
        }
        if is_written {
            self.store.renew_state()?;
        }
        Ok(())
    }

    /// Tells that there is no room: once, until a checkpoint is written again.
    fn tell(&mut self, reason: &str) {
        if std::mem::replace(&mut self.is_told, true) {
            tracing::info!("still no checkpoint: {reason}");
            return;
        }
        tracing::warn!(
            "no checkpoint can be written, so that the next start takes longer: {reason}; make room on \
             the disk, it is tried again"
        );
        self.shared.notice(Notice::CheckpointRefused { reason: reason.to_owned() });
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use forebay_storage::{StoreOptions, WriteOp};

    use super::*;
    use crate::clock::ClockKind;
    use crate::deliver::hand_clock::HandClock;
    use crate::engine::derivation::Derivation;
    use crate::engine::replay::Marks;

    /// A store on which no checkpoint finds room while the flag stands.
    fn store(dir: &std::path::Path, is_full: &Arc<AtomicBool>) -> Arc<Store> {
        let is_full = Arc::clone(is_full);
        let faults = move |op| {
            let is_hit = op == WriteOp::WriteCheckpoint && is_full.load(Ordering::Acquire);
            if is_hit { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        let options = StoreOptions { faults: Some(Arc::new(faults)), ..StoreOptions::default() };
        Arc::new(Store::open(dir, options).unwrap())
    }

    #[test]
    fn a_cut_without_room_is_told_once_and_the_next_one_has_its_rest() {
        let (dir, is_full) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
        let store = store(dir.path(), &is_full);
        let (clock, shared) = (Arc::new(HandClock::default()), Arc::new(Shared::default()));
        let policy = CheckpointPolicy { entries_max: 5, ..CheckpointPolicy::default() };
        let (mut cuts, mut writer) = checkpoints(
            (Arc::clone(&store), Arc::clone(&shared)),
            Arc::clone(&clock) as Arc<dyn Clock>,
            policy,
            Found::default(),
        );
        let projection = Projection::new(ClockKind::Event, Vec::new()).unwrap();
        let mut derivation = Derivation::new(projection);
        cuts.want();
        // (what it shows, seconds since the one before, whether there is room, how often it is told)
        let cases = [
            ("the first", 0, false, 1),
            ("the second is told no more", 9, false, 0),
            ("it goes on being tried", 9, false, 0),
            ("until there is room", 9, true, 0),
            ("it is told anew if that goes", 1, false, 1),
        ];
        for (name, rest, has_room, told) in cases {
            is_full.store(!has_room, Ordering::Release);
            if rest > 1 {
                clock.pass(Duration::from_millis(rest * 1_000 - 1));
                assert!(!cuts.is_due(9, Occasion::Busy), "{name}: too early, though it is wanted");
                assert!(cuts.will_be_due(9), "{name}");
                clock.pass(Duration::from_millis(1));
            }
            assert!(cuts.is_due(9, Occasion::Busy), "{name}: the tail is still there");
            let known = Known {
                derivation: &mut derivation,
                kind: ClockKind::Event,
                marks: &Marks::START,
                deletes: Vec::new(),
            };
            cuts.begin_cut(known, &store, None).unwrap();
            assert!(!cuts.is_due(9, Occasion::Busy), "{name}: one is being made");
            cuts.go_on(&mut derivation.projection, &store, Share::Rest).unwrap();
            assert!(!cuts.is_making(), "{name}");
            assert!(!cuts.is_due(9, Occasion::Busy), "{name}: one is being written");
            assert!(writer.write_waiting().unwrap());
            assert_eq!(shared.take_notices().len(), told, "{name}");
            assert_eq!(store.checkpoints().newest().unwrap().is_some(), rest == 1 || has_room);
        }
        assert!(!cuts.will_be_due(3), "the one that was written was what was wanted");
    }
}
