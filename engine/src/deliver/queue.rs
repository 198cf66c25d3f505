//! The exports of one dataflow that were read and are not done, in the order they may leave.
//!
//! Each profile has a *lane*: its open exports in sequence order. Only the first of a lane may be
//! sent; the others are blocked until it is done. So a parked export holds back its own profile and
//! no other. Of the exports that may be sent, the oldest leaves first, but one that is backfill and
//! nothing else only when no other may: backfill must not delay what happens now (`SPEC.md` §6). One
//! that a later export of its profile waits for is as urgent as that. One that replaces others of its
//! profile (`backlog = "latest"`) takes the place of the oldest of them: a profile that changes all the
//! time must not fall behind each time it does.
//!
//! Memory: an open export costs some hundred bytes; payloads are kept only within
//! [`PAYLOAD_BYTES_MAX`] and read again when an export without one is due.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use hashbrown::HashMap;

use super::backlog::{Attempt, Export, ExportKey, ProfileKey};
use super::health::Role;
use super::open_export::{Lookup, OpenExport, Wait};
use super::tick::Tick;
use super::turn::{Turn, Urgency};
use crate::clock::Moment;

/// Open exports of a dataflow in memory. Past it nothing more is read, and profiles wait that would
/// not have to; a smaller window would let one busy parked profile stop all others.
pub const OPEN_MAX: usize = 128 * 1024;

/// Payloads of a dataflow in memory, those in flight aside.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of answers of failed attempts in memory; past it attempts keep only their status.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Failed attempts of which details are in memory; past it only their number is kept. Enough for a
/// full window with the default retries, and a bound where thousands are configured.
pub const ATTEMPTS_MAX: usize = 4 * OPEN_MAX;

/// Where an open export stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// An earlier export of its profile is not done.
    Blocked,
    /// It may be sent.
    Ready,
    /// A request is open.
    InFlight(Role),
    /// As before, but the profile was erased: whatever comes back, it is done.
    Withdrawn(Role),
    /// It waits for its retry.
    Parked,
}

/// Whether an export comes from the backlog or from the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is numbered above the watermark, and progress tells when it is done.
    Live,
    /// It was given up on and is sent again.
    Replay,
}

#[derive(Debug)]
struct Slot {
    export: ExportKey,
    kind: Kind,
    stage: Stage,
    turn: Turn,
}

/// What happened to an export before.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Attempts of which only the number is known: those of an earlier run, and those that there was no
    /// room to remember.
    pub earlier: u32,
    /// The other attempts of this run.
    pub attempts: Vec<Attempt>,
    /// When the next attempt is due.
    pub due: Option<Moment>,
    /// Whether the token was renewed for the attempt that comes next.
    pub renewed: bool,
}

impl History {
    /// Attempts so far.
    pub fn count(&self) -> u32 {
        self.earlier.saturating_add(u32::try_from(self.attempts.len()).unwrap_or(u32::MAX))
    }
}

/// An export whose request ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it was a probe.
    pub role: Role,
    /// Where it came from.
    pub kind: Kind,
    /// Whether its profile was erased meanwhile.
    pub withdrawn: bool,
}

/// Open exports in lanes.
#[derive(Debug, Default)]
pub struct Queue {
    slots: BTreeMap<u64, Slot>,
    lanes: HashMap<ProfileKey, VecDeque<u64>, foldhash::fast::RandomState>,
    /// By turn and sequence.
    ready: BTreeSet<(Turn, u64)>,
    /// How many of those are not urgent.
    ready_backfill: usize,
    parked: BinaryHeap<Reverse<(Moment, u64)>>,
    parked_count: usize,
    payloads: HashMap<u64, Arc<Export>, foldhash::fast::RandomState>,
    payload_bytes: usize,
    histories: HashMap<u64, History, foldhash::fast::RandomState>,
    answer_bytes: usize,
    attempts: usize,
    in_flight: usize,
    replays: usize,
    /// Those that gave way to newer ones, until they are taken.
    superseded: Vec<ExportKey>,
}

impl Queue {
    /// Open exports.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether nothing is open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Requests open.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Exports that wait for their retry.
    pub const fn parked(&self) -> usize {
        self.parked_count
    }

    /// Open replays.
    pub const fn replays(&self) -> usize {
        self.replays
    }

    /// Exports that may be sent.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Exports that may be sent and are not backfill.
    pub fn ready_now(&self) -> usize {
        self.ready.len() - self.ready_backfill
    }

    /// Bytes of payloads held, those in flight included.
    pub const fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Failed attempts of which details are held, and bytes of their answers.
    pub const fn attempts_held(&self) -> (usize, usize) {
        (self.attempts, self.answer_bytes)
    }

    /// Whether `sequence` is open.
    pub fn contains(&self, sequence: u64) -> bool {
        self.slots.contains_key(&sequence)
    }

    /// Open exports from the backlog, ascending.
    pub fn live(&self) -> impl Iterator<Item = u64> {
        let live = self.slots.iter().filter(|(_, slot)| slot.kind == Kind::Live);
        live.map(|(&sequence, _)| sequence)
    }

    /// What happened before to open exports from the backlog, in no order.
    pub fn live_histories(&self) -> impl Iterator<Item = (u64, &History)> {
        let live = |sequence: &&u64| self.slots[*sequence].kind == Kind::Live;
        let sequences = self.histories.keys().filter(live);
        sequences.map(|&sequence| (sequence, &self.histories[&sequence]))
    }

    /// What open exports wait for, in the order in which they may leave.
    pub fn look(&self, lookup: Lookup, tick: Tick) -> Vec<OpenExport> {
        let wanted: Vec<u64> = match lookup {
            Lookup::Profile(profile) => self.lane(profile).collect(),
            Lookup::Sequence(sequence) => {
                Some(sequence).filter(|sequence| self.contains(*sequence)).into_iter().collect()
            }
        };
        wanted.into_iter().map(|sequence| self.open_export(sequence, tick)).collect()
    }

    fn open_export(&self, sequence: u64, tick: Tick) -> OpenExport {
        let slot = &self.slots[&sequence];
        let history = self.histories.get(&sequence);
        let wait = match slot.stage {
            Stage::InFlight(_) | Stage::Withdrawn(_) => Wait::Answer,
            Stage::Ready => Wait::Turn,
            Stage::Parked => {
                let due = history.and_then(|history| history.due).unwrap_or(tick.now);
                Wait::Retry(tick.wall_of(due))
            }
            Stage::Blocked => {
                let before =
                    self.lane(slot.export.profile).take_while(|other| *other != sequence).last();
                before.map_or(Wait::Turn, Wait::Behind)
            }
        };
        OpenExport {
            sequence,
            wait,
            failures: history.map_or(0, History::count),
            attempts: history.map_or_else(Vec::new, |history| history.attempts.clone()),
        }
    }

    /// Adds an export from the backlog, behind the others of its profile.
    pub fn push(&mut self, export: Export, history: Option<History>) {
        self.push_at(Turn::of(&export), export, history);
    }

    /// Adds an export from the backlog in the place of those of its profile that wait, which are not
    /// open any more. Their wait for a retry becomes its own. Returns how many those were.
    pub fn push_latest(&mut self, export: Export, mut history: Option<History>) -> u64 {
        let profile = export.profile;
        let waiting: Vec<u64> = self.lane(profile).filter(|&s| self.is_waiting_live(s)).collect();
        let turns = waiting.iter().map(|sequence| self.slots[sequence].turn);
        let turn = turns.fold(Turn::of(&export), Turn::min);
        if let Some(due) = waiting.iter().filter_map(|&sequence| self.parked_until(sequence)).max()
        {
            let history = history.get_or_insert_default();
            history.due = history.due.max(Some(due));
        }
        for &sequence in &waiting {
            self.supersede(sequence);
        }
        self.push_at(turn, export, history);
        waiting.len() as u64
    }

    /// Gives up `sequence`, which is to wait (until `due`, if given), where a newer export of its
    /// profile waits behind it: that one takes its place. Whether there was one.
    pub fn give_way(&mut self, sequence: u64, due: Option<Moment>) -> bool {
        let Slot { export, kind, turn, .. } = self.slots[&sequence];
        let newer = self.lane(export.profile).find(|&s| s > sequence && self.is_waiting_live(s));
        let (Kind::Live, Some(newer)) = (kind, newer) else { return false };
        if due.is_some() {
            let history = self.history(newer);
            history.due = history.due.max(due);
        }
        let slot = self.slot(newer);
        slot.turn = slot.turn.min(turn);
        self.supersede(sequence);
        true
    }

    /// The exports that gave way to newer ones since the last call.
    pub fn take_superseded(&mut self) -> Vec<ExportKey> {
        std::mem::take(&mut self.superseded)
    }

    fn supersede(&mut self, sequence: u64) {
        self.superseded.push(self.slots[&sequence].export);
        self.remove(sequence);
    }

    fn push_at(&mut self, turn: Turn, export: Export, history: Option<History>) {
        let (sequence, profile) = (export.sequence, export.profile);
        self.insert(export, Kind::Live, history);
        self.slot(sequence).turn = turn;
        let lane = self.lanes.entry(profile).or_default();
        lane.push_back(sequence);
        if lane.len() == 1 {
            self.promote(sequence);
        } else if turn.urgency == Urgency::Now {
            self.hurry_before(sequence, profile);
        }
    }

    /// Makes the exports of `profile` urgent that `sequence`, which is so, waits for. Each is made so
    /// once: before one that is, all are.
    fn hurry_before(&mut self, sequence: u64, profile: ProfileKey) {
        let before: Vec<u64> = self.lanes[&profile]
            .iter()
            .rev()
            .skip_while(|other| **other != sequence)
            .skip(1)
            .copied()
            .take_while(|other| self.slots[other].turn.urgency == Urgency::Backfill)
            .collect();
        for other in before {
            let was_ready = self.remove_ready(other);
            self.slot(other).turn.urgency = Urgency::Now;
            if was_ready {
                self.set_ready(other);
            }
        }
    }

    /// Adds a dead letter's export, in front of what its profile has not sent yet.
    pub fn push_replay(&mut self, export: Export) {
        let (sequence, profile) = (export.sequence, export.profile);
        self.insert(export, Kind::Replay, None);
        self.replays += 1;
        let lane = self.lanes.entry(profile).or_default();
        let head = lane.front().copied();
        let is_out = |slot: &Slot| matches!(slot.stage, Stage::InFlight(_) | Stage::Withdrawn(_));
        let fixed = usize::from(head.is_some_and(|head| is_out(&self.slots[&head])));
        let behind = lane.iter().skip(fixed).position(|&other| other > sequence);
        let index = behind.map_or(lane.len(), |behind| fixed + behind);
        lane.insert(index, sequence);
        if index == 0 {
            if let Some(head) = head {
                self.demote(head);
            }
            self.promote(sequence);
        } else {
            self.hurry_before(sequence, profile);
        }
    }

    /// Moves parked exports that are due at `now` to those that may be sent.
    pub fn unpark(&mut self, now: Moment) {
        while let Some(&Reverse((due, sequence))) = self.parked.peek() {
            let current = self.is_parked_until(due, sequence);
            if current && due > now {
                return;
            }
            self.parked.pop();
            if current {
                self.parked_count -= 1;
                self.set_ready(sequence);
            }
        }
    }

    /// When the next parked export is due. Call [`Self::unpark`] first.
    pub fn next_due(&self) -> Option<Moment> {
        self.parked.peek().map(|&Reverse((due, _))| due)
    }

    /// What is known of the open export `sequence` without its payload.
    pub fn export(&self, sequence: u64) -> ExportKey {
        self.slots[&sequence].export
    }

    /// Where the open export `sequence` came from.
    pub fn kind(&self, sequence: u64) -> Kind {
        self.slots[&sequence].kind
    }

    /// What happened before to `sequence`, if anything did.
    pub fn history_of(&self, sequence: u64) -> Option<&History> {
        self.histories.get(&sequence)
    }

    /// The export that is to be sent next.
    pub fn first_ready(&self) -> Option<u64> {
        self.ready.first().map(|&(_, sequence)| sequence)
    }

    /// How urgent the open export `sequence` is.
    pub(super) fn urgency(&self, sequence: u64) -> Urgency {
        self.slots[&sequence].turn.urgency
    }

    /// The payload of `sequence`, if it is in memory.
    pub fn payload(&self, sequence: u64) -> Option<&Arc<Export>> {
        self.payloads.get(&sequence)
    }

    /// Keeps the payload of an open export, if it lacks one and there is room or `must`.
    pub fn keep_payload(&mut self, export: Export, room: Room) {
        let Some(slot) = self.slots.get(&export.sequence) else { return };
        let limit = match (room, slot.stage) {
            (Room::Made, _) => usize::MAX,
            (Room::Found, Stage::Ready) => PAYLOAD_BYTES_MAX,
            // What is blocked must not take the room of what could be sent.
            (Room::Found, Stage::Blocked) => PAYLOAD_BYTES_MAX / 2,
            (Room::Found, _) => return,
        };
        let bytes = export.payload.len();
        if self.payload_bytes + bytes <= limit && !self.payloads.contains_key(&export.sequence) {
            self.payload_bytes += bytes;
            self.payloads.insert(export.sequence, Arc::new(export));
        }
    }

    /// A request for `sequence`, which may be sent, starts.
    pub fn start(&mut self, sequence: u64, role: Role) {
        self.in_flight += 1;
        let slot = self.slot(sequence);
        slot.stage = Stage::InFlight(role);
        self.remove_ready(sequence);
    }

    /// The request for `sequence` ended; it must be followed by [`Self::remove`], [`Self::park`]
    /// or [`Self::put_back`].
    pub fn end(&mut self, sequence: u64) -> Ended {
        self.in_flight -= 1;
        let slot = self.slot(sequence);
        let (role, withdrawn) = match slot.stage {
            Stage::InFlight(role) => (role, false),
            Stage::Withdrawn(role) => (role, true),
            stage => unreachable!("export {sequence} ended while {stage:?}"),
        };
        slot.stage = Stage::Blocked;
        Ended { role, kind: slot.kind, withdrawn }
    }

    /// It may be sent again at once, as if it had not been.
    pub fn put_back(&mut self, sequence: u64) {
        if let Some(history) = self.histories.get_mut(&sequence) {
            history.renewed = false;
        }
        self.set_ready(sequence);
    }

    /// The token was renewed for the next attempt of `sequence`, and is not a second time.
    pub fn renewed(&mut self, sequence: u64) {
        self.history(sequence).renewed = true;
    }

    /// It is sent again at `due`. Its payload is let go.
    pub fn park(&mut self, sequence: u64, due: Moment) {
        self.history(sequence).due = Some(due);
        self.promote(sequence);
    }

    /// What happened before to `sequence`, made if there is nothing yet.
    pub fn history(&mut self, sequence: u64) -> &mut History {
        self.histories.entry(sequence).or_default()
    }

    /// Remembers a failed attempt of `sequence`.
    pub fn failed(&mut self, sequence: u64, mut attempt: Attempt) {
        if self.answer_bytes + attempt.answer.len() > ANSWER_BYTES_MAX {
            attempt.answer = Vec::new();
        }
        let history = self.histories.entry(sequence).or_default();
        history.renewed = false;
        history.due = None;
        if self.attempts >= ATTEMPTS_MAX {
            history.earlier = history.earlier.saturating_add(1);
            return;
        }
        self.attempts += 1;
        self.answer_bytes += attempt.answer.len();
        history.attempts.push(attempt);
    }

    /// It is done; the next export of its profile may be sent.
    pub fn remove(&mut self, sequence: u64) {
        self.remove_ready(sequence);
        let Some(slot) = self.slots.remove(&sequence) else { return };
        self.parked_count -= usize::from(slot.stage == Stage::Parked);
        self.replays -= usize::from(slot.kind == Kind::Replay);
        self.drop_payload(sequence);
        if let Some(history) = self.histories.remove(&sequence) {
            self.attempts -= history.attempts.len();
            self.answer_bytes -= history.attempts.iter().map(|a| a.answer.len()).sum::<usize>();
        }
        let lane = self.lanes.get_mut(&slot.export.profile).expect("an open export is in its lane");
        let was_head = lane.front() == Some(&sequence);
        // A lane may be as long as the window, and most that leave it are at its ends.
        if was_head {
            lane.pop_front();
        } else if lane.back() == Some(&sequence) {
            lane.pop_back();
        } else {
            lane.retain(|&other| other != sequence);
        }
        match (was_head, lane.front().copied()) {
            (_, None) => drop(self.lanes.remove(&slot.export.profile)),
            (true, Some(next)) => self.promote(next),
            (false, Some(_)) => {}
        }
    }

    /// Drops the replay of `sequence`, if it is open; a request in flight is done when it ends.
    pub fn withdraw_replay(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get(&sequence) else { return };
        if slot.kind == Kind::Replay {
            self.withdraw(sequence);
        }
    }

    /// Drops `sequence`, if it is open; a request in flight is done when it ends.
    pub fn withdraw(&mut self, sequence: u64) {
        let Some(slot) = self.slots.get_mut(&sequence) else { return };
        match slot.stage {
            Stage::InFlight(role) => slot.stage = Stage::Withdrawn(role),
            Stage::Withdrawn(_) => {}
            Stage::Blocked | Stage::Ready | Stage::Parked => self.remove(sequence),
        }
    }

    fn insert(&mut self, export: Export, kind: Kind, history: Option<History>) {
        let sequence = export.sequence;
        let turn = match kind {
            Kind::Live => Turn::of(&export),
            // Somebody asked for it.
            Kind::Replay => Turn { urgency: Urgency::Now, ..Turn::of(&export) },
        };
        let slot = Slot { export: export.key(), kind, stage: Stage::Blocked, turn };
        let before = self.slots.insert(sequence, slot);
        debug_assert!(before.is_none(), "export {sequence} is added once");
        if let Some(history) = history {
            self.histories.insert(sequence, history);
        }
        self.keep_payload(export, Room::Found);
    }

    /// The first of a lane becomes ready, or parked if it has to wait still.
    fn promote(&mut self, sequence: u64) {
        let due = self.histories.get(&sequence).and_then(|history| history.due);
        let Some(due) = due else { return self.set_ready(sequence) };
        self.slot(sequence).stage = Stage::Parked;
        self.parked.push(Reverse((due, sequence)));
        self.parked_count += 1;
        self.drop_payload(sequence);
    }

    /// The first of a lane is so no more.
    fn demote(&mut self, sequence: u64) {
        let slot = self.slot(sequence);
        let was_parked = slot.stage == Stage::Parked;
        slot.stage = Stage::Blocked;
        self.remove_ready(sequence);
        self.parked_count -= usize::from(was_parked);
    }

    fn set_ready(&mut self, sequence: u64) {
        let slot = self.slot(sequence);
        slot.stage = Stage::Ready;
        let turn = slot.turn;
        let is_new = self.ready.insert((turn, sequence));
        self.ready_backfill += usize::from(is_new && turn.urgency == Urgency::Backfill);
    }

    /// Whether it was ready.
    fn remove_ready(&mut self, sequence: u64) -> bool {
        let Some(&Slot { turn, .. }) = self.slots.get(&sequence) else { return false };
        let was_ready = self.ready.remove(&(turn, sequence));
        self.ready_backfill -= usize::from(was_ready && turn.urgency == Urgency::Backfill);
        was_ready
    }

    fn slot(&mut self, sequence: u64) -> &mut Slot {
        self.slots.get_mut(&sequence).expect("the export is open")
    }

    fn lane(&self, profile: ProfileKey) -> impl Iterator<Item = u64> {
        self.lanes.get(&profile).into_iter().flatten().copied()
    }

    fn is_waiting_live(&self, sequence: u64) -> bool {
        let slot = &self.slots[&sequence];
        let is_waiting = matches!(slot.stage, Stage::Blocked | Stage::Ready | Stage::Parked);
        is_waiting && slot.kind == Kind::Live
    }

    /// When the retry is due that `sequence` waits for, if it does.
    fn parked_until(&self, sequence: u64) -> Option<Moment> {
        let is_parked = self.slots[&sequence].stage == Stage::Parked;
        self.histories.get(&sequence).filter(|_| is_parked).and_then(|history| history.due)
    }

    fn is_parked_until(&self, due: Moment, sequence: u64) -> bool {
        let is_parked = self.slots.get(&sequence).is_some_and(|slot| slot.stage == Stage::Parked);
        is_parked && self.histories.get(&sequence).and_then(|history| history.due) == Some(due)
    }

    fn drop_payload(&mut self, sequence: u64) {
        if let Some(export) = self.payloads.remove(&sequence) {
            self.payload_bytes -= export.payload.len();
        }
    }
}

/// On what ground a payload is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// If there is room left.
    Found,
    /// In any case: it is sent next.
    Made,
}
