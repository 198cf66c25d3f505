//! A replay read ahead: while some entries are derived, a thread reads and parses the next.
//!
//! Deriving is partly one thread's work, record after record; without this the other cores would wait
//! meanwhile. What is read ahead is bounded, and the thread has ended when this is dropped.

use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

use crossbeam::channel::{Receiver, bounded};

use super::playback::Played;
use super::replay::{Marks, Replay};
use crate::error::EngineError;
use crate::project::projection::Ahead;

/// Batches that are ready before they are asked for: one while the next is parsed, and one to even out.
const BATCHES_AHEAD: usize = 2;

/// An entry, and the offset after the last chunk read when it was ready.
type Ready = Result<(Played, u64), EngineError>;

/// Reads a part of the log on a thread of its own.
pub(super) struct ReadAhead {
    /// `None` tells the thread to stop.
    ready: Option<Receiver<Ready>>,
    /// What was taken from there before its turn.
    ahead: Option<Ready>,
    thread: Option<JoinHandle<Replay>>,
    /// What the thread read with, once it has ended.
    read: Option<Replay>,
}

impl ReadAhead {
    /// Starts to read what `replay` is to read.
    pub(super) fn start(mut replay: Replay) -> Result<Self, EngineError> {
        let (sender, ready) = bounded(BATCHES_AHEAD);
        let read = move || {
            while let Some(entry) = replay.next() {
                let next = replay.marks().next;
                // Whoever listened may want no more.
                if sender.send(entry.map(|played| (played, next))).is_err() {
                    break;
                }
            }
            replay
        };
        let thread = Builder::new()
            .name("replay".to_owned())
            .spawn(read)
            .map_err(|error| EngineError::Stopped(format!("no thread can be started: {error}")))?;
        Ok(Self { ready: Some(ready), ahead: None, thread: Some(thread), read: None })
    }

    /// The entry that comes next, if it is ready: to be looked up while the one before is derived. It is
    /// not waited for.
    pub(super) fn ahead(&mut self) -> Option<Ahead<'_>> {
        if self.ahead.is_none() {
            self.ahead = self.ready.as_ref()?.try_recv().ok();
        }
        let (played, _) = self.ahead.as_ref()?.as_ref().ok()?;
        played.as_ahead()
    }

    /// What the log told beside its entries, as far as they were read.
    pub(super) fn into_marks(mut self) -> Marks {
        self.end();
        self.read.take().expect("a thread that has ended gives back what it read with").into_marks()
    }

    /// Ends the thread. Its panic is one here.
    fn end(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            self.read = Some(thread.join().unwrap_or_else(|panicked| resume_unwind(panicked)));
        }
    }
}

impl Iterator for ReadAhead {
    type Item = Ready;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(ahead) = self.ahead.take() {
            return Some(ahead);
        }
        let received = self.ready.as_ref()?.recv();
        if received.is_err() {
            self.end();
        }
        received.ok()
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.ready = None;
        // A panic that nobody has waited for has nobody to be told to.
        drop(self.thread.take().map(JoinHandle::join));
    }
}
