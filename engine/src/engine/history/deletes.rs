//! Whether somebody is deleted in a part of the log.
//!
//! Every record of the part is looked at, but only those are parsed whose text could name a delete, so
//! it costs little more than to unpack the part.

use std::ops::Range;

use forebay_storage::{EntryKind, Offset, StoredChunk};
use memchr::memmem;

use super::History;
use crate::error::EngineError;
use crate::record::{RecordBatch, RecordKind};

/// Whether there is a delete record in `part`.
pub(super) fn is_any_in(history: &History, part: Range<u64>) -> Result<bool, EngineError> {
    if part.is_empty() {
        return Ok(false);
    }
    for chunk in history.store.log().read(Offset::from_u64(part.start)) {
        history.check_goes_on()?;
        let chunk = chunk?;
        if chunk.first.as_u64() >= part.end {
            break;
        }
        if is_any_of(&chunk, &part)? {
            return Ok(true);
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
