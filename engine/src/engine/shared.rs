//! What the engine's threads tell each other beside the queues: failure, stop, notices, the clock, and
//! which deletes are still to be compacted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::lanes::Lanes;
use super::notice::Notice;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::EngineError;
use crate::record::ParseRules;

/// Longest wait before a flag is looked at again although nobody signalled.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// State that every thread of the engine may read and write.
#[derive(Debug)]
pub(super) struct Shared {
    failure: Mutex<Option<String>>,
    changed: Condvar,
    is_stopping: AtomicBool,
    is_closing: AtomicBool,
    notices: Mutex<Vec<Notice>>,
    next_boundary_ms: AtomicI64,
    derived_next: AtomicU64,
    /// Rung when the two above have changed. One ring is enough for any number of changes.
    bell: (Sender<()>, Receiver<()>),
    /// How far the backfill lanes are that are not taken to their end.
    pub(super) lanes: Lanes,
    deletes: Mutex<PendingDeletes>,
    log_turn: Mutex<()>,
    /// What is erased and not compacted, through a delete.
    erased: Mutex<Option<(u64, Arc<Vec<u64>>)>>,
    configuration: Mutex<Option<Arc<Config>>>,
    parse_rules: Mutex<Arc<ParseRules>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            failure: Mutex::default(),
            changed: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            notices: Mutex::default(),
            next_boundary_ms: AtomicI64::new(0),
            derived_next: AtomicU64::new(0),
            deletes: Mutex::default(),
            bell: bounded(1),
            lanes: Lanes::default(),
            log_turn: Mutex::default(),
            erased: Mutex::default(),
            configuration: Mutex::default(),
            parse_rules: Mutex::default(),
        }
    }
}

/// Deletes take effect at once; their bytes go later, and together. Those within one minute count as
/// made at its beginning, so that millions take no room.
const DELETES_TOGETHER_MS: i64 = 60_000;

/// Deletes whose bytes are still there, oldest first: offset of the last and append time of the first
/// of some that count as one.
#[derive(Debug, Default)]
struct PendingDeletes(VecDeque<(u64, Timestamp)>);

impl PendingDeletes {
    fn note(&mut self, offset: u64, appended: Timestamp) {
        match self.0.back_mut() {
            Some((last, first)) if appended <= first.plus_millis(DELETES_TOGETHER_MS) => {
                *last = offset;
            }
            _ => self.0.push_back((offset, appended)),
        }
    }

    fn forget_below(&mut self, next: u64) {
        while self.0.front().is_some_and(|(last, _)| *last < next) {
            self.0.pop_front();
        }
    }
}

impl Shared {
    /// Stops the engine because `error` happened; the first failure is the one that is told.
    pub(super) fn fail(&self, error: &dyn std::error::Error) {
        let text = crate::error::with_sources(error);
        tracing::error!("{text}");
        self.lock().get_or_insert(text);
        self.changed.notify_all();
    }

    /// An error if the engine has failed.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        match &*self.lock() {
            Some(reason) => Err(EngineError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    /// Asks everything that waits or reads to end soon.
    pub(super) fn request_stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether somebody asked to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Asks what works by itself to end once it is done with what it is at.
    pub(super) fn request_close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether the engine is being closed.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Waits a moment, less if the engine is asked to stop or fails. Whether it goes on.
    pub(super) fn wait_while_running(&self) -> Result<bool, EngineError> {
        let failure = self.lock();
        if failure.is_none() && !self.is_stopping() {
            let waited = self.changed.wait_timeout(failure, LOOK_AGAIN);
            drop(waited.expect("no thread panics with this lock"));
        } else {
            drop(failure);
        }
        self.check()?;
        Ok(!self.is_stopping())
    }

    /// Waits for `moment`, if not everything below `next` is derived: whoever derives has better use
    /// for the machine.
    pub(super) fn make_way(&self, next: u64, moment: Duration) {
        if self.derived_next() < next && !self.is_stopping() {
            let waited = self.changed.wait_timeout_while(self.lock(), moment, |failure| {
                failure.is_none() && !self.is_stopping()
            });
            drop(waited.expect("no thread panics with this lock"));
        }
    }

    /// Waits for what a thread was asked for; `None` if it has ended. A thread that failed may leave
    /// the request in its queue, so that nobody will ever answer or hang up.
    pub(super) fn answer<T>(&self, answer: &Receiver<T>) -> Option<T> {
        loop {
            match answer.recv_timeout(LOOK_AGAIN) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.check().is_err() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Keeps something to tell a person.
    pub(super) fn notice(&self, notice: Notice) {
        self.notices.lock().expect("no thread panics with this lock").push(notice);
    }

    /// The notices since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock().expect("no thread panics with this lock"))
    }

    /// Held by whoever removes records from the log, or reads all of it beside the deriver: a reader
    /// that saw the first half before and the second half after would miss the deletes.
    pub(super) fn log_turn(&self) -> MutexGuard<'_, ()> {
        self.log_turn.lock().expect("a panic of its holder stops the engine")
    }

    /// The configuration in effect; `None` where those definitions hold that the log has.
    pub(super) fn configuration(&self) -> Option<Arc<Config>> {
        self.configuration.lock().expect("no thread panics with this lock").clone()
    }

    /// From here on `config` is in effect.
    pub(super) fn set_configuration(&self, config: Config) {
        let new = Some(Arc::new(config));
        *self.configuration.lock().expect("no thread panics with this lock") = new;
    }

    /// What lines are checked against.
    pub(super) fn parse_rules(&self) -> Arc<ParseRules> {
        Arc::clone(&self.parse_rules.lock().expect("no thread panics with this lock"))
    }

    /// From here on lines are checked against `rules`.
    pub(super) fn set_parse_rules(&self, rules: ParseRules) {
        *self.parse_rules.lock().expect("no thread panics with this lock") = Arc::new(rules);
    }

    /// Tells that everything below `derived_next` is derived, and when the next boundary is.
    pub(super) fn publish(&self, derived_next: u64, next_boundary: Timestamp) {
        let boundary_ms = next_boundary.as_millis();
        let old_ms = self.next_boundary_ms.swap(boundary_ms, Ordering::AcqRel);
        let old_next = self.derived_next.swap(derived_next, Ordering::AcqRel);
        if (old_ms, old_next) != (boundary_ms, derived_next) {
            // Full: it rings already.
            self.bell.0.try_send(()).ok();
        }
    }

    /// Rings when [`Shared::next_boundary`] or [`Shared::derived_next`] has changed.
    pub(super) fn boundary_bell(&self) -> &Receiver<()> {
        &self.bell.1
    }

    /// Everything below this offset is derived.
    pub(super) fn derived_next(&self) -> u64 {
        self.derived_next.load(Ordering::Acquire)
    }

    /// The next boundary, as of [`Shared::derived_next`].
    pub(super) fn next_boundary(&self) -> Timestamp {
        Timestamp::from_millis(self.next_boundary_ms.load(Ordering::Acquire))
    }

    /// Notes a delete in the log: the record at `offset`, or one shortly before.
    pub(super) fn note_delete(&self, offset: u64, appended: Timestamp) {
        self.deletes().note(offset, appended);
    }

    /// The deletes whose bytes are still there, as [`Shared::note_delete`] takes them.
    pub(super) fn pending_deletes(&self) -> Vec<(u64, Timestamp)> {
        self.deletes().0.iter().copied().collect()
    }

    /// Forgets the deletes below `next`, whose bytes are gone.
    pub(super) fn compacted(&self, next: u64) {
        self.deletes().forget_below(next);
    }

    /// When the oldest delete was appended whose bytes are still there.
    pub(super) fn oldest_delete(&self) -> Option<Timestamp> {
        self.deletes().0.front().map(|(_, appended)| *appended)
    }

    /// The offset of the newest delete whose bytes are still there, or of one shortly after it.
    pub(super) fn last_delete(&self) -> Option<u64> {
        self.deletes().0.back().map(|(offset, _)| *offset)
    }

    /// What [`Shared::set_erased`] was told last, if it was for the same delete.
    pub(super) fn erased(&self, through: u64) -> Option<Arc<Vec<u64>>> {
        let known = self.erased.lock().expect("no thread panics with this lock");
        let known = known.as_ref().filter(|(known, _)| *known == through);
        known.map(|(_, offsets)| Arc::clone(offsets))
    }

    /// Remembers the offsets of entries that are erased through a delete.
    pub(super) fn set_erased(&self, through: u64, offsets: &Arc<Vec<u64>>) {
        let new = Some((through, Arc::clone(offsets)));
        *self.erased.lock().expect("no thread panics with this lock") = new;
    }

    fn deletes(&self) -> std::sync::MutexGuard<'_, PendingDeletes> {
        self.deletes.lock().expect("no thread panics with this lock")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.failure.lock().expect("no thread panics with this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_delete_is_the_first_that_was_not_compacted() {
        let shared = Shared::default();
        let at = Timestamp::from_millis;
        assert_eq!(shared.oldest_delete(), None);
        for (offset, appended) in [(3, 1_000), (9, 61_000), (12, 61_001), (20, 400_000)] {
            shared.note_delete(offset, at(appended));
        }
        // (bytes are gone below, the oldest that is left)
        let cases = [
            (0, Some(1_000)),
            (9, Some(1_000)),
            (10, Some(61_001)),
            (13, Some(400_000)),
            (20, Some(400_000)),
            (21, None),
        ];
        for (next, expected) in cases {
            shared.compacted(next);
            assert_eq!(shared.oldest_delete(), expected.map(at), "{next}");
        }
    }
}
