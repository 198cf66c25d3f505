//! The log, read back as what the appender once handed on.
//!
//! Records come in batches, of chunks with one `now`; stubs stand among them in their places, so that
//! time passes as it did.

use std::ops::Range;

use forebay_storage::{EntryKind, StoredChunk, Stub};

use super::control::{Control, read_control};
use crate::clock::Timestamp;
use crate::error::EngineError;
use crate::project::projection::Ahead;
use crate::record::RecordBatch;

/// Records that are handed on together.
const BATCH_RECORDS: usize = 4096;

/// What the log holds, in order.
pub(super) enum Played {
    /// Records, and stubs.
    Records {
        /// They themselves, at least one.
        batch: RecordBatch,
        /// Offset of the first.
        first_offset: u64,
        /// Wall time of the append.
        appended: Timestamp,
    },
    /// A control entry.
    Control {
        /// It itself.
        control: Control,
        /// Its offset.
        offset: u64,
        /// Wall time of the append.
        appended: Timestamp,
    },
}

impl Played {
    /// It, as what comes next; nothing is looked up of a control entry.
    pub(super) fn as_ahead(&self) -> Option<Ahead<'_>> {
        match self {
            Self::Records { batch, first_offset, .. } => {
                Some(Ahead { batch, first_offset: *first_offset })
            }
            Self::Control { .. } => None,
        }
    }
}

/// Hears what is played.
pub(super) type Listener<'a> = dyn FnMut(Played) -> Result<(), EngineError> + 'a;

/// Puts chunks together.
#[derive(Default)]
pub(super) struct Playback {
    text: String,
    lines: Vec<Range<u32>>,
    stubs: Vec<(usize, Option<Timestamp>)>,
    first_offset: u64,
    appended: Timestamp,
}

impl Playback {
    /// Plays the chunk that follows, of it what lies in `part`.
    pub(super) fn chunk(
        &mut self,
        chunk: &StoredChunk,
        part: &Range<u64>,
        to: &mut Listener<'_>,
    ) -> Result<(), EngineError> {
        let appended = Timestamp::from_millis(chunk.now_ms);
        let entries = chunk.iter().map(|(offset, kind, bytes)| (offset.as_u64(), kind, bytes));
        for (offset, kind, bytes) in entries.filter(|(offset, ..)| part.contains(offset)) {
            match kind {
                EntryKind::Record => {
                    self.make_room(offset, appended, to)?;
                    self.record(offset, bytes)?;
                }
                EntryKind::Stub => {
                    self.make_room(offset, appended, to)?;
                    let timestamp = Stub::from_bytes(bytes)?.timestamp_ms;
                    self.stubs.push((self.len(), timestamp.map(Timestamp::from_millis)));
                }
                EntryKind::Control => {
                    self.flush(to)?;
                    to(Played::Control {
                        control: read_control(offset, bytes)?,
                        offset,
                        appended,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Plays what is left at the end.
    pub(super) fn flush(&mut self, to: &mut Listener<'_>) -> Result<(), EngineError> {
        let Self { text, lines, stubs, first_offset, appended } = std::mem::take(self);
        if lines.is_empty() && stubs.is_empty() {
            return Ok(());
        }
        let batch = RecordBatch::from_log(text, &lines)?.with_stubs(&stubs);
        to(Played::Records { batch, first_offset, appended })
    }

    fn len(&self) -> usize {
        self.lines.len() + self.stubs.len()
    }

    /// Plays what is there if the entry at `offset` may not come with it.
    fn make_room(
        &mut self,
        offset: u64,
        appended: Timestamp,
        to: &mut Listener<'_>,
    ) -> Result<(), EngineError> {
        if self.len() >= BATCH_RECORDS || self.appended != appended {
            self.flush(to)?;
        }
        if self.len() == 0 {
            (self.first_offset, self.appended) = (offset, appended);
        }
        Ok(())
    }

    fn record(&mut self, offset: u64, bytes: &[u8]) -> Result<(), EngineError> {
        let line = std::str::from_utf8(bytes).map_err(|error| EngineError::Control {
            offset,
            reason: format!("a record that is not UTF-8: {error}"),
        })?;
        let position = |length: usize| u32::try_from(length).expect("4,096 lines of at most 1 MiB");
        let start = position(self.text.len());
        self.text.push_str(line);
        self.lines.push(start..position(self.text.len()));
        self.text.push('\n');
        Ok(())
    }
}
