//! A segment once more, without the bytes of records that are erased.
//!
//! Everything else is carried over as it is: chunks keep their places, their `now` and their marks. A
//! chunk of which nothing is erased is not even unpacked, and keeps its outline; another one gets the one
//! of what remains, if there is one, because the old one tells of whoever was in the chunk. What the segment held of an erased record
//! goes with the old files.

use std::path::Path;

use rayon::prelude::*;
use sled::Batch;

use crate::chunk::{self, Chunk, Entry, EntryKind, PackedChunk, StoredChunk, Totals};
use crate::database::Unfinished;
use crate::erasure_plan::within;
use crate::outline::OutlineOf;
use crate::parts::{self, Scan, Value};
use crate::segment::{CACHE_BYTES, Segment, TREE};
use crate::stub::Erased;
use crate::{Compression, Offset, StorageError, keys};

/// Chunks unpacked and packed together.
const TOGETHER_CHUNKS: usize = 32;

/// Packed bytes after which no further chunk is taken along.
const TOGETHER_BYTES: usize = 8 << 20;

/// What is copied, and what is left out.
pub(crate) struct Rewriting<'a> {
    /// The segment as it is.
    pub(crate) segment: &'a Segment,
    /// Records to erase, ascending; those of other segments among them do not matter.
    pub(crate) erased: &'a [Erased],
    /// How chunks that change are packed.
    pub(crate) compression: Compression,
    /// What chunks that change hold then.
    pub(crate) outline_of: &'a OutlineOf<'a>,
}

impl Rewriting<'_> {
    /// Builds the segment that is to be at `path`, durably, and leaves it unnamed beside the one that
    /// is there. `false` if `goes_on` said no: what was built is worth nothing then.
    pub(crate) fn build(
        &self,
        path: &Path,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<bool, StorageError> {
        let built = Unfinished::begin(path, CACHE_BYTES, self.segment.fail_stop())?;
        let is_whole = self.copy(&built, goes_on)?;
        if is_whole {
            built.finish()?;
        }
        Ok(is_whole)
    }

    fn copy(&self, built: &Unfinished, goes_on: &dyn Fn() -> bool) -> Result<bool, StorageError> {
        let tree = built.tree(TREE)?;
        built.copy_rows(self.segment.marks(), &tree)?;
        let mut scan = self.segment.scan(self.segment.base());
        let mut totals = Totals::default();
        loop {
            let group = fetch(&mut scan)?;
            if group.is_empty() {
                return Ok(true);
            }
            if !goes_on() {
                return Ok(false);
            }
            let packed: Vec<(Offset, PackedChunk)> = group
                .into_par_iter()
                .map(|(first, value)| Ok((first, self.chunk(first, value.bytes())?)))
                .collect::<Result<_, StorageError>>()?;
            let mut batch = Batch::default();
            for (first, chunk) in packed {
                let (value, after) = chunk.value(totals);
                parts::insert(&mut batch, &keys::chunk(first), &value);
                if let Some(outline) = chunk.outline() {
                    parts::insert(&mut batch, &keys::outline(first), outline);
                }
                totals = after;
            }
            built.apply(&tree, batch)?;
        }
    }

    fn chunk(&self, first: Offset, value: &[u8]) -> Result<PackedChunk, StorageError> {
        let (entries, _) = chunk::totals(value)?;
        match within(self.erased, first..first.plus(entries)) {
            [] => {
                let outline = self.segment.outline(first)?;
                PackedChunk::stored(value, outline.as_ref().map(Value::bytes))
            }
            erased => {
                let chunk = chunk::read(first, value)?;
                without(&chunk, erased, (self.compression, self.outline_of))
            }
        }
    }
}

fn fetch(scan: &mut Scan) -> Result<Vec<(Offset, Value)>, StorageError> {
    let mut group = Vec::with_capacity(TOGETHER_CHUNKS);
    let mut bytes = 0;
    while group.len() < TOGETHER_CHUNKS && bytes < TOGETHER_BYTES {
        let Some((key, value)) = scan.next().transpose()? else { break };
        bytes += value.bytes().len();
        group.push((keys::chunk_first(&key)?, value));
    }
    Ok(group)
}

/// `chunk` with stubs in the place of the records at `erased`, which are all within it. What is no
/// record stays.
fn without(
    chunk: &StoredChunk,
    erased: &[Erased],
    (compression, outline_of): (Compression, &OutlineOf<'_>),
) -> Result<PackedChunk, StorageError> {
    let stubs: Vec<Vec<u8>> = erased.iter().map(|erased| erased.stub.to_bytes()).collect();
    let mut next = erased.iter().zip(&stubs).peekable();
    let mut entries = Vec::with_capacity(chunk.entries.len());
    for (offset, kind, bytes) in chunk.iter() {
        let stub = next.next_if(|(erased, _)| erased.offset == offset);
        entries.push(match (kind, stub) {
            (EntryKind::Record, Some((_, stub))) => Entry { kind: EntryKind::Stub, bytes: stub },
            _ => Entry { kind, bytes },
        });
    }
    let (now_ms, mark, rejects) = (chunk.now_ms, chunk.mark.clone(), chunk.rejects);
    let mut remains = Chunk { now_ms, mark, rejects, outline: None, entries };
    remains.outline = outline_of(&remains);
    PackedChunk::new(&remains, compression)
}
