//! How much a dataflow may store, and what is only marked past that (`SPEC.md` §8).
//!
//! A dead endpoint must not fill the disk. Past its destination's `disk_budget`, a profile that is to
//! be exported is only marked, and stays so until it is taken from the marks: its export then shows
//! its state of that moment. With `backlog = "latest"` the same happens past
//! [`LATEST_EXPORTS_MAX`] waiting exports, so that all that wait are in delivery's window and can
//! collapse there.
//!
//! Backfill keeps to a limit of its own, [`BACKFILL_WAITING_MAX`]: what was taken from a lane is sent
//! when nothing more urgent is, which delivery can only see to within its window, and it shows its
//! profile as that was when it was taken.
//!
//! What is guaranteed: stored exports never exceed the budget by more than their bookkeeping and
//! [`FLOOR_BYTES`] a dataflow, or one export where that is more. The floor keeps a dataflow going
//! whose destination's budget another one has used up; without it, marks could wait for room for ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use forebay_storage::{ExportRow, Mark, MarkKey, ProgressRow, StorageError, Store};

use crate::config::Config;
use crate::deliver::queue::OPEN_MAX;
use crate::deliver::settings::Waiting;

/// Exports of a dataflow with `backlog = "latest"` that may wait before further profiles are marked.
const LATEST_EXPORTS_MAX: u64 = 32 * 1024;

/// Exports of a dataflow that may wait before no more are taken from its lanes, those aside that wait
/// for their retry: more than are delivered until delivery tells again what it has done.
pub(super) const BACKFILL_WAITING_MAX: usize = 8 * 1024;

const _: () = assert!(
    BACKFILL_WAITING_MAX <= OPEN_MAX / 2,
    "all backfill that waits must fit the window, or what is more urgent is behind it and not seen"
);

const _: () = assert!(
    LATEST_EXPORTS_MAX <= OPEN_MAX as u64,
    "all that waits must fit the window, or it cannot collapse"
);

/// What a dataflow may store whatever others of its destination have stored; less if the budget is
/// small.
const FLOOR_BYTES: u64 = 64 * 1024;

/// The floor is at most this part of the budget.
const FLOOR_PART: u64 = 16;

/// A limit that was reached opens again once a tenth is free, so that marks are not set and taken one
/// by one.
const FREE_PART: u64 = 10;

/// What delivery has done, for the deriver to know that there is room.
#[derive(Debug)]
pub(super) struct Freed {
    told: Mutex<HashMap<String, Delivered>>,
    signal: Sender<()>,
}

/// How far the delivery of a dataflow is, from its first export on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Exports that are done.
    pub(super) done: u64,
    /// Exports that were tried, and are tried again.
    pub(super) attempted: u64,
}

impl Freed {
    /// Nothing yet, and where it is told that something is.
    pub(super) fn new() -> (Arc<Self>, Receiver<()>) {
        // One is enough: who is woken looks at everything.
        let (signal, told) = bounded(1);
        (Arc::new(Self { told: Mutex::default(), signal }), told)
    }

    /// Notes how far `dataflow` is, and that what of it could be dropped is.
    pub(super) fn tell(&self, dataflow: &str, delivered: Delivered) {
        let mut told = self.told.lock().expect("no thread panics with this lock");
        match told.get_mut(dataflow) {
            Some(known) => *known = delivered,
            None => drop(told.insert(dataflow.to_owned(), delivered)),
        }
        drop(told);
        match self.signal.try_send(()) {
            // Full: the deriver is about to look. Disconnected: it has ended.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    fn of(&self, dataflow: &str) -> Option<Delivered> {
        self.told.lock().expect("no thread panics with this lock").get(dataflow).copied()
    }
}

/// Exports that a progress row counts as done.
pub(super) fn done_count(watermark: u64, done: &[(u64, u64)]) -> u64 {
    let above: u64 = done.iter().map(|(first, last)| last - first + 1).sum();
    watermark.saturating_sub(1) + above
}

/// The limits of all dataflows, and how near they are.
pub(super) struct Budgets {
    store: Arc<Store>,
    freed: Arc<Freed>,
    flows: HashMap<String, Flow>,
    destinations: Vec<Destination>,
}

struct Flow {
    destination: usize,
    /// For `backlog = "latest"`, the limit of waiting exports.
    latest: Option<Gate>,
    /// The limit of waiting exports for what comes from lanes.
    backfill: Gate,
}

struct Destination {
    dataflows: Vec<String>,
    gate: Gate,
    floor: u64,
}

/// A limit: closed from when it is reached until there is room again.
#[derive(Debug)]
struct Gate {
    limit: u64,
    is_closed: bool,
}

impl Gate {
    const fn new(limit: u64) -> Self {
        Self { limit, is_closed: false }
    }

    /// What is left of the limit.
    fn room(&mut self, used: u64) -> u64 {
        if used >= self.limit {
            self.is_closed = true;
        } else if used < self.limit - self.limit / FREE_PART {
            self.is_closed = false;
        }
        if self.is_closed { 0 } else { self.limit - used }
    }
}

/// What a dataflow may still store.
#[derive(Debug)]
pub(super) struct Room {
    exports: u64,
    bytes: u64,
    /// Nothing is stored, so the first is, however long it is.
    is_empty: bool,
    refused: bool,
}

impl Room {
    const UNLIMITED: Self =
        Self { exports: u64::MAX, bytes: u64::MAX, is_empty: true, refused: false };

    /// Whether there is none.
    pub(super) fn is_used_up(&self) -> bool {
        self.refused || self.exports == 0 || (self.bytes == 0 && !self.is_empty)
    }

    /// Takes room for an export of so many bytes. After one that did not fit, none does.
    pub(super) fn admits(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if self.is_used_up() || (bytes > self.bytes && !self.is_empty) {
            self.refused = true;
            return false;
        }
        self.exports -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.is_empty = false;
        true
    }
}

/// Exports of one dataflow, divided.
pub(super) struct Divided {
    /// To be stored.
    pub(super) rows: Vec<ExportRow>,
    /// To be marked.
    pub(super) marks: BTreeMap<MarkKey, Mark>,
}

impl Budgets {
    /// No limits, until [`Self::configure`] is called.
    pub(super) fn new(store: Arc<Store>, freed: Arc<Freed>) -> Self {
        Self { store, freed, flows: HashMap::new(), destinations: Vec::new() }
    }

    /// Takes the limits of `config`.
    pub(super) fn configure(&mut self, config: &Config) {
        self.flows.clear();
        self.destinations.clear();
        for (index, destination) in config.destinations.iter().enumerate() {
            let id = &destination.settings.id;
            let of = config.dataflows.iter().filter(|dataflow| dataflow.destination == *id);
            let mut dataflows = Vec::new();
            for dataflow in of {
                let latest = match dataflow.waiting {
                    Waiting::All => None,
                    Waiting::Latest => Some(Gate::new(LATEST_EXPORTS_MAX)),
                };
                dataflows.push(dataflow.id.clone());
                let backfill = Gate::new(BACKFILL_WAITING_MAX as u64);
                let flow = Flow { destination: index, latest, backfill };
                self.flows.insert(dataflow.id.clone(), flow);
            }
            let limit = destination.disk_budget;
            let floor = FLOOR_BYTES.min(limit / FLOOR_PART);
            self.destinations.push(Destination { dataflows, gate: Gate::new(limit), floor });
        }
    }

    /// Where delivery tells what it has done.
    pub(super) fn freed(&self) -> &Arc<Freed> {
        &self.freed
    }

    /// What `dataflow` may store now; everything if no configuration names it.
    pub(super) fn room(&mut self, dataflow: &str) -> Result<Room, StorageError> {
        let Some(flow) = self.flows.get_mut(dataflow) else { return Ok(Room::UNLIMITED) };
        let outbox = self.store.outbox();
        let exports = match &mut flow.latest {
            None => u64::MAX,
            Some(gate) => {
                let Delivered { done, .. } = delivered(&self.freed, &self.store, dataflow)?;
                gate.room(stored(&self.store, dataflow).saturating_sub(done))
            }
        };
        let destination = &mut self.destinations[flow.destination];
        let used = destination.dataflows.iter().map(|id| outbox.stored_bytes(id)).sum();
        let own = outbox.stored_bytes(dataflow);
        let bytes = destination.gate.room(used).max(destination.floor.saturating_sub(own));
        Ok(Room { exports, bytes, is_empty: own == 0, refused: false })
    }

    /// Whether `dataflow` may store what its lanes owe now.
    pub(super) fn has_room_for_backfill(&mut self, dataflow: &str) -> Result<bool, StorageError> {
        if self.room(dataflow)?.is_used_up() {
            return Ok(false);
        }
        let Some(flow) = self.flows.get_mut(dataflow) else { return Ok(true) };
        let Delivered { done, attempted } = delivered(&self.freed, &self.store, dataflow)?;
        let waiting = stored(&self.store, dataflow).saturating_sub(done + attempted);
        Ok(flow.backfill.room(waiting) > 0)
    }

    /// Divides new exports of `dataflow`, in order, into those to be stored and those to be marked.
    pub(super) fn divide(
        &mut self,
        dataflow: &str,
        rows: Vec<ExportRow>,
    ) -> Result<Divided, StorageError> {
        let mut room = self.room(dataflow)?;
        let store = Arc::clone(&self.store);
        let some_are_marked = store.outbox().marked(dataflow) > 0;
        let bytes: u64 = rows.iter().map(|row| row.payload.len() as u64).sum();
        if !some_are_marked && bytes <= room.bytes && rows.len() as u64 <= room.exports {
            return Ok(Divided { rows, marks: BTreeMap::new() });
        }
        let mut divided = Divided { rows: Vec::new(), marks: BTreeMap::new() };
        for row in rows {
            let key = MarkKey { policy: row.policy, profile: row.profile };
            // Looked up last: past the limit, the answer does not matter.
            let is_marked = divided.marks.contains_key(&key)
                || room.is_used_up()
                || (some_are_marked && store.outbox().mark(dataflow, key)?.is_some());
            if !is_marked && room.admits(row.payload.len()) {
                divided.rows.push(row);
                continue;
            }
            let mark = Mark {
                causes: row.causes,
                offset: row.offset,
                boundary_ms: row.boundary_ms,
                accepted_ms: row.accepted_ms,
            };
            let known = divided.marks.entry(key).or_insert(mark);
            known.causes |= row.causes;
        }
        Ok(divided)
    }
}

/// How many exports `dataflow` ever had.
fn stored(store: &Store, dataflow: &str) -> u64 {
    store.outbox().next_sequence(dataflow) - 1
}

/// How far `dataflow` is: what delivery told last, or what it told an earlier run.
fn delivered(freed: &Freed, store: &Store, dataflow: &str) -> Result<Delivered, StorageError> {
    if let Some(delivered) = freed.of(dataflow) {
        return Ok(delivered);
    }
    let ProgressRow { watermark, done, attempts, .. } = store.progress().read(dataflow)?;
    Ok(Delivered { done: done_count(watermark, &done), attempted: attempts.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::{Gate, Room};

    #[test]
    fn a_limit_that_was_reached_opens_once_a_tenth_is_free() {
        let mut gate = Gate::new(1_000);
        // (used, room)
        let cases = [(0, 1_000), (950, 50), (1_000, 0), (950, 0), (900, 0), (899, 101), (1_200, 0)];
        for (used, room) in cases {
            assert_eq!(gate.room(used), room, "with {used} used");
        }
        assert_eq!(Gate::new(0).room(0), 0);
    }

    #[test]
    fn after_an_export_that_does_not_fit_none_does() {
        let room = |exports, bytes, is_empty| Room { exports, bytes, is_empty, refused: false };
        // (what it shows, room, lengths, which are stored)
        let cases = [
            ("what fits", room(9, 100, false), vec![60, 40], vec![true, true]),
            ("in order", room(9, 100, false), vec![60, 50, 10], vec![true, false, false]),
            ("the first of all", room(9, 0, true), vec![500, 1], vec![true, false]),
            ("but no more than may wait", room(0, 100, true), vec![1], vec![false]),
            ("by number", room(1, 100, false), vec![1, 1], vec![true, false]),
            ("nothing left", room(9, 0, false), vec![0], vec![false]),
        ];
        for (name, mut room, lengths, expected) in cases {
            let stored: Vec<bool> = lengths.iter().map(|bytes| room.admits(*bytes)).collect();
            assert_eq!(stored, expected, "{name}");
        }
        assert!(!Room::UNLIMITED.is_used_up());
    }
}
