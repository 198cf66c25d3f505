//! How far the backlog was read, and what of it is done: where the [`Queue`] is filled from, and
//! what the progress is written from.
//!
//! Sequences below `next` were read: those still in the queue are open, all others are done.
//! Sequences from `next` on were not, but an earlier run may have done some of them, which is what
//! `restored` remembers until they are read.

use super::backlog::{Attempted, Backlog, BacklogError, Export, ProgressMark};
use super::queue::{History, Kind, OPEN_MAX, Queue, Room};
use super::settings::Waiting;
use super::tick::Tick;

/// Payload bytes read from the backlog at once.
const READ_BYTES: usize = 256 * 1024;
/// Payload bytes read around an export whose payload was let go.
const REREAD_BYTES: usize = 16 * 1024;
/// Dead letters read at once, and the most that are open before more are read.
const REPLAYS_READ: usize = 256;

/// The part of the backlog that was read.
#[derive(Debug)]
pub struct Window {
    dataflow: String,
    waiting: Waiting,
    next: u64,
    durable: u64,
    restored: ProgressMark,
    /// From which sequence on dead letters marked for replay are still to be read.
    replays_from: Option<u64>,
}

impl Window {
    /// Starts where `restored` says that an earlier run stopped.
    pub fn new(dataflow: &str, waiting: Waiting, restored: ProgressMark) -> Self {
        let next = restored.watermark.max(1);
        Self {
            dataflow: dataflow.to_owned(),
            waiting,
            next,
            durable: next - 1,
            restored,
            replays_from: Some(0),
        }
    }

    /// Exports through `sequence` may be read.
    pub fn durable_through(&mut self, sequence: u64) {
        self.durable = self.durable.max(sequence);
    }

    /// The highest sequence that may be read.
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// The lowest sequence that was not read.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Sequences that may be read and were not, those withdrawn included.
    pub const fn unread(&self) -> u64 {
        (self.durable + 1).saturating_sub(self.next)
    }

    /// Whether there may be dead letters to replay besides those that wait for what is unread.
    pub fn has_replays(&self) -> bool {
        self.replays_from.is_some_and(|from| from < self.next)
    }

    /// Dead letters were marked for replay.
    pub const fn replay(&mut self) {
        self.replays_from = Some(0);
    }

    /// Whether everything that fits is read before anything is sent: where waiting exports collapse,
    /// a newer one may be the next to be read.
    pub const fn reads_ahead(&self) -> bool {
        matches!(self.waiting, Waiting::Latest)
    }

    /// Reads on until `queue` has `enough` exports that may be sent, or there are no more, or it is
    /// full. Backfill does not count: behind it may stand what must leave before it. Returns how many
    /// exports collapsed.
    pub fn fill(
        &mut self,
        queue: &mut Queue,
        enough: usize,
        tick: Tick,
        backlog: &dyn Backlog,
    ) -> Result<u64, BacklogError> {
        let mut collapsed = 0;
        while queue.ready_now() < enough && queue.len() < OPEN_MAX {
            if queue.replays() < REPLAYS_READ && self.read_replays(queue, backlog)? {
                continue;
            }
            if self.next > self.durable {
                break;
            }
            collapsed += self.read_live(queue, tick, backlog)?;
        }
        Ok(collapsed)
    }

    /// Reads the payload of `sequence` again, and those around it that it may keep.
    ///
    /// `false` if the export was withdrawn.
    pub fn reread(
        &self,
        queue: &mut Queue,
        sequence: u64,
        kind: Kind,
        backlog: &dyn Backlog,
    ) -> Result<bool, BacklogError> {
        let exports = match kind {
            Kind::Live => backlog.read(&self.dataflow, sequence, REREAD_BYTES)?,
            Kind::Replay => backlog.replays(&self.dataflow, sequence, 1)?,
        };
        for export in exports {
            let room = if export.sequence == sequence { Room::Made } else { Room::Found };
            queue.keep_payload(export, room);
        }
        Ok(queue.payload(sequence).is_some())
    }

    /// What to write: everything read and not open is done.
    pub fn mark(&self, queue: &Queue, tick: Tick) -> ProgressMark {
        let mut mark = ProgressMark { watermark: self.next, ..ProgressMark::default() };
        let mut above = None;
        for open in queue.live() {
            match above {
                None => mark.watermark = open,
                Some(first) if first < open => mark.done.push((first, open - 1)),
                Some(_) => {}
            }
            above = Some(open + 1);
        }
        if let Some(first) = above.filter(|&first| first < self.next) {
            mark.done.push((first, self.next - 1));
        }
        self.add_restored(&mut mark);
        mark.attempted.extend(attempted(queue, tick));
        mark.attempted.sort_unstable_by_key(|attempted| attempted.sequence);
        mark
    }

    /// Adds what an earlier run did beyond what this one has read.
    fn add_restored(&self, mark: &mut ProgressMark) {
        for &(first, last) in self.restored.done.iter().filter(|&&(_, last)| last >= self.next) {
            let first = first.max(self.next);
            match mark.done.last_mut() {
                Some(done) if done.1 + 1 == first => done.1 = last,
                None if mark.watermark == first => mark.watermark = last + 1,
                _ => mark.done.push((first, last)),
            }
        }
        let unread = |attempted: &&Attempted| attempted.sequence >= self.next;
        mark.attempted.extend(self.restored.attempted.iter().filter(unread));
    }

    fn read_live(
        &mut self,
        queue: &mut Queue,
        tick: Tick,
        backlog: &dyn Backlog,
    ) -> Result<u64, BacklogError> {
        let mut exports = backlog.read(&self.dataflow, self.next, READ_BYTES)?;
        // What is stored but not durable yet waits for its notice.
        exports.retain(|export| (self.next..=self.durable).contains(&export.sequence));
        let mut collapsed = 0;
        // Nothing left: the rest up to `durable` was withdrawn.
        self.next = exports.last().map_or(self.durable, |export| export.sequence) + 1;
        for export in exports {
            if !self.restored.is_done(export.sequence) {
                collapsed += self.push(queue, export, tick);
            }
        }
        Ok(collapsed)
    }

    fn push(&self, queue: &mut Queue, export: Export, tick: Tick) -> u64 {
        let history = self.history(export.sequence, tick);
        match self.waiting {
            Waiting::All => {
                queue.push(export, history);
                0
            }
            Waiting::Latest => queue.push_latest(export, history),
        }
    }

    /// What an earlier run left of a failed export.
    fn history(&self, sequence: u64, tick: Tick) -> Option<History> {
        let attempted = &self.restored.attempted;
        let index = attempted.binary_search_by_key(&sequence, |a| a.sequence).ok()?;
        let Attempted { attempts, retry_at, .. } = attempted[index];
        Some(History {
            earlier: attempts,
            due: Some(tick.moment_of(retry_at)),
            ..History::default()
        })
    }

    /// Reads dead letters to replay; `false` if there is none to be read now.
    ///
    /// Only those below what is read next: after a crash earlier exports of their profiles may have to be
    /// repeated, and those leave first.
    fn read_replays(
        &mut self,
        queue: &mut Queue,
        backlog: &dyn Backlog,
    ) -> Result<bool, BacklogError> {
        let Some(from) = self.replays_from else { return Ok(false) };
        if !self.has_replays() {
            return Ok(false);
        }
        let exports = backlog.replays(&self.dataflow, from, REPLAYS_READ)?;
        self.replays_from = exports.last().map(|export| export.sequence + 1);
        for export in exports {
            if export.sequence >= self.next {
                self.replays_from = Some(export.sequence);
                break;
            }
            if !queue.contains(export.sequence) {
                queue.push_replay(export);
            }
        }
        Ok(self.has_replays())
    }
}

/// The attempts of open exports, for the progress.
fn attempted(queue: &Queue, tick: Tick) -> impl Iterator<Item = Attempted> {
    queue.live_histories().filter(|(_, history)| history.count() > 0).map(
        move |(sequence, history)| {
            let retry_at = history.due.map_or(tick.wall, |due| tick.wall_of(due));
            Attempted { sequence, attempts: history.count(), retry_at }
        },
    )
}
