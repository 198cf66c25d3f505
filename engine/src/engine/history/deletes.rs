//! Who is erased by a delete further on, and is to be told of as if they had never been.
//!
//! Whether there is such a delete is found by looking at every chunk from there on. Most outlines say that
//! there is none; the others are unpacked, and those records parsed whose text could be one. Only if there
//! is one is the log followed to know which entries are about whom.

use std::ops::Range;

use forebay_storage::{EntryKind, StoredChunk};
use memchr::memmem;

use super::super::outlines;
use super::super::playback::Played;
use super::super::traces::traces;
use super::History;
use crate::error::EngineError;
use crate::record::{RecordBatch, RecordKind};

/// Entries about persons who are erased further on, ascending.
pub(super) struct Erased(Vec<u64>);

impl Erased {
    /// Nobody.
    pub(super) fn nobody() -> Self {
        Self(Vec::new())
    }

    /// The entries about persons whom a delete at `next` or further on erases; entries about persons
    /// erased before may be among them, who are not told of either way.
    pub(super) fn from(history: &History, next: u64) -> Result<Self, EngineError> {
        if !is_any_in(history, next..history.end)? {
            return Ok(Self::nobody());
        }
        let found = traces(&history.store, history.kind, history.end, &|| history.goes_on())?;
        history.check_goes_on()?;
        Ok(Self(found.map(|traces| traces.offsets).unwrap_or_default()))
    }

    /// Leaves stubs in the places of such entries.
    pub(super) fn hide(&self, played: &mut Played) {
        let Played::Records { batch, first_offset, .. } = played else { return };
        let (first, end) = (*first_offset, *first_offset + batch.len() as u64);
        let from = self.0.partition_point(|offset| *offset < first);
        for offset in self.0[from..].iter().take_while(|offset| **offset < end) {
            batch.erase(usize::try_from(offset - first).expect("a place in a batch"));
        }
    }
}

/// Whether there is a delete record in `part`.
pub(super) fn is_any_in(history: &History, part: Range<u64>) -> Result<bool, EngineError> {
    if part.is_empty() {
        return Ok(false);
    }
    let log = history.store.log();
    for outlined in history.outlines(part.start) {
        history.check_goes_on()?;
        let outlined = outlined?;
        if outlined.first.as_u64() >= part.end {
            break;
        }
        if !outlines::may_hold_deletes(outlined.outline.as_ref()) {
            continue;
        }
        for chunk in log.read_until(outlined.first, outlined.next) {
            if is_any_of(&chunk?, &part)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_any_of(chunk: &StoredChunk, part: &Range<u64>) -> Result<bool, EngineError> {
    for (offset, kind, bytes) in chunk.iter() {
        let is_asked = kind == EntryKind::Record && part.contains(&offset.as_u64());
        if is_asked && may_be_delete(bytes) && is_delete(bytes)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the line could be a delete record: one that is holds the key, plain or with escapes.
fn may_be_delete(line: &[u8]) -> bool {
    memmem::find(line, b"\"delete\"").is_some() || memmem::find(line, b"\\u").is_some()
}

fn is_delete(line: &[u8]) -> Result<bool, EngineError> {
    let text = String::from_utf8_lossy(line).into_owned();
    let whole = 0..u32::try_from(text.len()).expect("a line of at most 1 MiB");
    let batch = RecordBatch::from_log(text, &[whole])?;
    Ok(batch.get(0).kind() == RecordKind::Delete)
}
