//! Compaction: the bytes of erased profiles go (`SPEC.md` §3, delete).
//!
//! A delete is effective at once; what is left then is bytes: records in the log, stale pages of the
//! state, refused lines. They go together, some hours later or when somebody asks.
//!
//! # Order
//!
//! 1. That everything so far is derived becomes durable, so that no replay stores an export of the past.
//! 2. The log is followed from its beginning (`Trace`): only whole it tells which records were whose.
//! 3. That a compaction has begun becomes durable, and a checkpoint from before the deletes is replaced
//!    by one from behind them: it holds who was erased, and the log will not tell of the deletes any more.
//! 4. The files of rejects are redacted, as long as the log still tells whose ids they may not hold.
//! 5. The records become stubs. The store writes down which before it begins, and ends what it began.
//! 6. The state is copied without what is stale, and that the compaction is done becomes durable.
//!
//! Where the checkpoint of 3 finds no room, the compaction ends there: nothing was erased, and all of it is
//! done again later, as after a crash.
//!
//! After a crash before 5 all of it is done again; from then on the log has nothing left that tells
//! whose records they were, so the mark of 3 tells that 6 is still to be done.
//!
//! Records are appended, derived and delivered meanwhile, but for the moments in which a file is
//! exchanged, and while the state is copied, when derivation and delivery wait.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use forebay_storage::{EntryKind, Erased, Offset, StorageError, Store, StoredChunk, Stub};

use super::Engine;
use super::appender::Append;
use super::deletes;
use super::deriver::{Deriver, Job, ask};
use super::outlines;
use super::shared::Shared;
use super::traces::traces;
use crate::clock::{Clock, ClockKind, Moment, Timestamp};
use crate::error::EngineError;
use crate::project::trace::Traces;
use crate::record::{RecordBatch, RecordRef, Redaction, RejectsFile};
use crate::views::CompactionView;

/// Age of a delete at which the engine removes its bytes: early enough that even a compaction of hours
/// ends within a day of it.
const DUE_AFTER_MS: i64 = 20 * 60 * 60 * 1000;

/// From a compaction that found no room on the disk to the next one: it follows the whole log. Often
/// enough that the bytes still go within a day of their delete.
const AGAIN_AFTER: Duration = Duration::from_mins(10);

/// Name of the stored value that tells whether a compaction has begun and not ended.
const META_COMPACTION: &str = "compaction";
const BEGUN: &[u8] = b"begun";
const DONE: &[u8] = b"done";

/// Who may write the file of rejects.
pub(super) enum RejectsOwner {
    /// The appender, where there is one.
    Appender(Sender<Append>),
    /// Nobody appends: the file as it was opened.
    Nobody(Box<Mutex<RejectsFile>>),
}

/// Removes the bytes of erased profiles from one data directory.
pub(super) struct Compactor {
    /// Where the bytes are.
    pub store: Arc<Store>,
    /// Which deletes there are, and whether to stop.
    pub shared: Arc<Shared>,
    /// The machine's time.
    pub clock: Arc<dyn Clock>,
    /// What `now` means.
    pub kind: ClockKind,
    /// The data directory.
    pub data: PathBuf,
    /// Who knows how far the log is derived.
    pub deriver: Sender<Job>,
    /// Who redacts.
    pub rejects: RejectsOwner,
}

impl Engine {
    /// Removes the bytes of everything that was deleted so far. With no deletes since the last time,
    /// nothing is done.
    pub fn compact(&self) -> Result<CompactionView, EngineError> {
        let compactor = self.compactor.as_ref().ok_or_else(|| self.stopped())?;
        compactor.compact()?.ok_or_else(|| {
            EngineError::Stopped(
                "it was asked to stop before the compaction was done; the next `forebay run` or \
                 `forebay log compact` goes on with it"
                    .to_owned(),
            )
        })
    }
}

impl Compactor {
    /// Compacts whenever a delete is old enough, until the engine is closed or fails.
    pub(super) fn run(&self) {
        if let Err(error) = self.work()
            // What failed elsewhere was told there.
            && self.shared.check().is_ok()
        {
            self.shared.fail(&error);
        }
    }

    fn work(&self) -> Result<(), EngineError> {
        let mut not_before = Moment::default();
        loop {
            if self.clock.moment() >= not_before && self.is_due()? {
                match self.compact() {
                    Ok(None) => return Ok(()),
                    Err(EngineError::NoRoom(reason)) => {
                        tracing::warn!("{reason}; the engine tries again too");
                        not_before = self.clock.moment().plus(AGAIN_AFTER);
                    }
                    done => drop(done?),
                }
            }
            if self.shared.is_closing() || !self.shared.wait_while_running()? {
                return Ok(());
            }
        }
    }

    /// Whether a delete is old enough, or a compaction was interrupted.
    pub(super) fn is_due(&self) -> Result<bool, EngineError> {
        let now = self.clock.now();
        let is_old = |delete: Timestamp| delete.plus_millis(DUE_AFTER_MS) <= now;
        Ok(self.shared.oldest_delete().is_some_and(is_old) || is_unfinished(&self.store)?)
    }

    /// `None` if the engine was asked to stop meanwhile.
    pub(super) fn compact(&self) -> Result<Option<CompactionView>, EngineError> {
        let _turn = self.shared.log_turn();
        let bytes_before = self.store.disk_bytes()?;
        let mut view =
            CompactionView { bytes_before, bytes_after: bytes_before, ..Default::default() };
        let next = self.derived()?;
        if self.shared.oldest_delete().is_none() && !is_unfinished(&self.store)? {
            return Ok(Some(view));
        }
        let goes_on = || !self.shared.is_stopping();
        let found = traces(&self.store, self.kind, next, &goes_on)?;
        let Some(Traces { offsets, ids }) = found else { return Ok(None) };
        let Some(erased) = self.stubs(&offsets)? else { return Ok(None) };
        self.mark(BEGUN)?;
        self.shared.compacted(next);
        let (store, shared) = (Arc::clone(&self.store), Arc::clone(&self.shared));
        let noted = move |_: &mut Deriver| deletes::compacted(&store, &shared);
        ask(&self.deriver, &self.shared, noted).ok_or_else(|| self.stopped())??;
        self.renew_checkpoint()?;
        view.rejects = self.redact(ids)?;
        let log = self.store.log();
        let erasure = log.erase_and_outline(&erased, &goes_on, &outlines::of_chunk)?;
        (view.records, view.segments) = (erasure.records, erasure.segments);
        if !erasure.is_complete {
            return Ok(None);
        }
        self.store.rewrite_state()?;
        self.mark(DONE)?;
        view.bytes_after = self.store.disk_bytes()?;
        tracing::info!(records = view.records, segments = view.segments, "compacted");
        Ok(Some(view))
    }

    /// Has a checkpoint of now take the place of the one there is, and of one that is just being
    /// written.
    fn renew_checkpoint(&self) -> Result<(), EngineError> {
        let (told, answer) = bounded(1);
        let ordered = ask(&self.deriver, &self.shared, |deriver| deriver.checkpoint(Some(told)));
        ordered.ok_or_else(|| self.stopped())??;
        let written = self.shared.answer(&answer).ok_or_else(|| self.stopped())?;
        written.map_err(|reason| {
            EngineError::NoRoom(format!(
                "nothing is erased yet, because a checkpoint must be written before: {reason}; make room \
                 on the disk and run `forebay log compact` again"
            ))
        })
    }

    fn mark(&self, state: &[u8]) -> Result<(), EngineError> {
        self.store.meta().put(META_COMPACTION, state)?;
        Ok(self.store.sync_state()?)
    }

    /// Up to where the log is derived, which is durable then.
    fn derived(&self) -> Result<u64, EngineError> {
        let marked = ask(&self.deriver, &self.shared, Deriver::mark_derived);
        marked.ok_or_else(|| self.stopped())?
    }

    fn stopped(&self) -> EngineError {
        self.shared.check().err().unwrap_or_else(|| EngineError::Stopped("it was closed".into()))
    }

    /// What the records at `offsets` leave: their times. Read again, because to remember the time of
    /// every record until it is known which are erased would take as much memory as the rest.
    fn stubs(&self, offsets: &[u64]) -> Result<Option<Vec<Erased>>, EngineError> {
        let mut erased = Vec::with_capacity(offsets.len());
        let Some(first) = offsets.first() else { return Ok(Some(erased)) };
        for chunk in self.store.log().read(Offset::from_u64(*first)) {
            let chunk = chunk?;
            if self.shared.is_stopping() {
                return Ok(None);
            }
            let left = &offsets[erased.len()..];
            let within = left.partition_point(|offset| *offset < chunk.next().as_u64());
            erased.extend(stubs_of(&chunk, &left[..within])?);
            if erased.len() == offsets.len() {
                break;
            }
        }
        Ok(Some(erased))
    }

    fn redact(&self, ids: BTreeSet<String>) -> Result<u64, EngineError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let redaction = Arc::new(Redaction::new(ids));
        let current = match &self.rejects {
            RejectsOwner::Nobody(file) => {
                file.lock().expect("no thread panics with this lock").redact(&redaction)?
            }
            RejectsOwner::Appender(appender) => {
                let (told, answer) = bounded(1);
                let request = Append::Redact(Arc::clone(&redaction), told);
                appender.send(request).map_err(|_| self.stopped())?;
                self.shared.answer(&answer).ok_or_else(|| self.stopped())?
            }
        };
        Ok(current + RejectsFile::redact_rotated(&self.data, &redaction)?)
    }
}

/// Whether a compaction has begun that did not come to its end: bytes of who was deleted may be there.
pub(super) fn is_unfinished(store: &Store) -> Result<bool, StorageError> {
    Ok(store.meta().get(META_COMPACTION)?.as_deref() == Some(BEGUN))
}

/// What the records of `chunk` at `offsets` leave.
fn stubs_of(chunk: &StoredChunk, offsets: &[u64]) -> Result<Vec<Erased>, EngineError> {
    let (mut text, mut lines) = (String::new(), Vec::with_capacity(offsets.len()));
    let position = |length: usize| u32::try_from(length).expect("a chunk is below 4 GiB");
    let mut wanted = offsets.iter().peekable();
    for (offset, kind, bytes) in chunk.iter() {
        if wanted.next_if(|wanted| **wanted == offset.as_u64()).is_some() {
            debug_assert_eq!(kind, EntryKind::Record, "only records have traces");
            let start = position(text.len());
            text.push_str(&String::from_utf8_lossy(bytes));
            lines.push(start..position(text.len()));
        }
    }
    let batch = RecordBatch::from_log(text, &lines)?;
    let stub = |(offset, record): (&u64, RecordRef<'_>)| Erased {
        offset: Offset::from_u64(*offset),
        stub: Stub { timestamp_ms: record.timestamp().map(Timestamp::as_millis) },
    };
    Ok(offsets.iter().zip(batch.iter()).map(stub).collect())
}
