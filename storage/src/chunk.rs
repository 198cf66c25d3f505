//! Chunks: what the log stores as one value, and how it looks as bytes.
//!
//! One key for each record would cost ten times the time, so entries are stored by the hundred. A
//! chunk is a head that is read without unpacking the rest, and a packed body: the entries' bytes
//! back to back, then the tail that says how long each is. The tail comes last so that after
//! unpacking, the bytes need not be moved.

use std::ops::Range;

use crate::codec::{Decode, Encode};
use crate::compression::{Packing, pack, unpack};
use crate::outline::{self, Outline};
use crate::{Compression, Offset, StorageError, codec};

const WHAT: &str = "a chunk of the log";

/// What an entry is to the log; its meaning is the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum EntryKind {
    /// A record that was accepted.
    Record,
    /// Something the engine tells itself: configuration, a tick. [`crate::EventLog::controls`] finds these.
    Control,
    /// What is left of an erased record.
    Stub,
}

/// One entry to append.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: EntryKind,
    /// Its bytes, kept as they are.
    pub bytes: &'a [u8],
}

/// How far the file of rejected lines had been written when a chunk was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct RejectsMark {
    /// How many times the file had been rotated.
    pub generation: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// How far a source had been read when a chunk was appended (`SPEC.md` §10, inputs).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SourceMark {
    /// Which source: the canonical path of a file.
    pub source: String,
    /// How many bytes of its beginning are hashed.
    pub head_len: u32,
    /// The hash of its beginning, by which another file under the same path is told apart.
    pub head_hash: [u8; 32],
    /// Uncompressed bytes accepted.
    pub position: u64,
    /// Lines accepted.
    pub line: u64,
}

/// Entries to append together, with what must become durable together with them.
#[derive(Clone, Debug)]
pub struct Chunk<'a> {
    /// What `now` was, in milliseconds since the epoch: replay sees the same.
    pub now_ms: i64,
    /// Where the source stands behind these entries.
    pub mark: Option<SourceMark>,
    /// Where the file of rejected lines stands behind these entries.
    pub rejects: Option<RejectsMark>,
    /// What the entries are, in short; without it the chunk may hold anything.
    pub outline: Option<Outline>,
    /// The entries, at least one.
    pub entries: Vec<Entry<'a>>,
}

/// A chunk read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Offset of its first entry.
    pub first: Offset,
    /// As appended.
    pub now_ms: i64,
    /// As appended.
    pub mark: Option<SourceMark>,
    /// As appended.
    pub rejects: Option<RejectsMark>,
    /// Kind of each entry, and where in `bytes` it lies.
    pub entries: Vec<(EntryKind, Range<usize>)>,
    /// The bytes of all entries, back to back.
    pub bytes: Vec<u8>,
}

impl StoredChunk {
    /// The offset behind its last entry.
    pub fn next(&self) -> Offset {
        self.first.plus(self.entries.len() as u64)
    }

    /// Its entries with their offsets and bytes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Offset, EntryKind, &[u8])> {
        self.entries.iter().zip(0..).map(|((kind, range), index)| {
            (self.first.plus(index), *kind, &self.bytes[range.clone()])
        })
    }
}

/// What a segment holds before a chunk, so that its last chunk alone tells all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) stored_bytes: u64,
    pub(crate) chunks: u64,
}

/// The part of a chunk that is not packed.
#[derive(Clone, Copy, Debug, Encode, Decode)]
struct Head {
    /// What the segment held before this chunk.
    before: Totals,
    sizes: Sizes,
    now_ms: i64,
    packing: Packing,
}

#[derive(Clone, Copy, Debug, Encode, Decode)]
struct Sizes {
    entries: u32,
    records: u32,
    /// Bytes of all entries.
    raw: u32,
    /// Bytes of entries and tail, unpacked.
    body: u32,
    /// Bytes of entries and tail, packed.
    packed: u32,
}

/// The packed part of a chunk behind the bytes of its entries.
#[derive(Encode, Decode)]
struct Tail {
    mark: Option<SourceMark>,
    rejects: Option<RejectsMark>,
    /// Kinds, each with how many entries in a row have it.
    kinds: Vec<(EntryKind, u32)>,
    lengths: Vec<u32>,
}

/// A chunk packed without knowing yet where in the log it will stand.
pub(crate) struct PackedChunk {
    now_ms: i64,
    sizes: Sizes,
    packing: Packing,
    packed: Vec<u8>,
    /// Positions of the control entries within the chunk.
    controls: Vec<u32>,
    /// The stored value of its outline, if it has one.
    outline: Option<Vec<u8>>,
}

impl PackedChunk {
    pub(crate) fn new(chunk: &Chunk<'_>, compression: Compression) -> Result<Self, StorageError> {
        if chunk.entries.is_empty() {
            return Err(StorageError::refused("a chunk without entries"));
        }
        let raw: usize = chunk.entries.iter().map(|entry| entry.bytes.len()).sum();
        let tail = Tail::of(chunk)?;
        let mut body = Vec::with_capacity(raw + chunk.entries.len() * 3 + 256);
        for entry in &chunk.entries {
            body.extend_from_slice(entry.bytes);
        }
        codec::append(&mut body, &tail);
        let body_len = body.len();
        let (packing, packed) = pack(compression, body)?;
        let sizes = Sizes {
            entries: small(chunk.entries.len())?,
            records: small(of_kind(chunk, EntryKind::Record).count())?,
            raw: small(raw)?,
            body: small(body_len)?,
            packed: small(packed.len())?,
        };
        let controls = of_kind(chunk, EntryKind::Control).map(small).collect::<Result<_, _>>()?;
        let now_ms = chunk.now_ms;
        let outline =
            chunk.outline.as_ref().map(|outline| outline::row(outline, sizes.entries, now_ms));
        Ok(Self { now_ms, sizes, packing, packed, controls, outline })
    }

    /// The chunk with this stored value, and this one of its outline, to be stored again behind other
    /// totals. It does not know its control entries, whose marks are copied beside it.
    pub(crate) fn stored(value: &[u8], outline: Option<&[u8]>) -> Result<Self, StorageError> {
        let (head, packed) = codec::decode_front::<Head>(WHAT, value)?;
        let Head { sizes, now_ms, packing, .. } = head;
        let (packed, outline) = (packed.to_vec(), outline.map(<[u8]>::to_vec));
        Ok(Self { now_ms, sizes, packing, packed, controls: Vec::new(), outline })
    }

    pub(crate) fn entries(&self) -> u64 {
        u64::from(self.sizes.entries)
    }

    /// The offsets of the control entries, once it is known where the chunk stands.
    pub(crate) fn controls(&self, first: Offset) -> impl Iterator<Item = Offset> {
        self.controls.iter().map(move |&index| first.plus(u64::from(index)))
    }

    /// The stored value of its outline, if it has one.
    pub(crate) fn outline(&self) -> Option<&[u8]> {
        self.outline.as_deref()
    }

    /// The stored value of the chunk in a segment that holds `before`, and what it holds after.
    pub(crate) fn value(&self, before: Totals) -> (Vec<u8>, Totals) {
        let head = Head { before, sizes: self.sizes, now_ms: self.now_ms, packing: self.packing };
        let mut value = codec::encode(&head);
        value.extend_from_slice(&self.packed);
        (value, head.after())
    }
}

impl Head {
    fn after(&self) -> Totals {
        Totals {
            entries: self.before.entries + u64::from(self.sizes.entries),
            records: self.before.records + u64::from(self.sizes.records),
            raw_bytes: self.before.raw_bytes + u64::from(self.sizes.raw),
            stored_bytes: self.before.stored_bytes + u64::from(self.sizes.packed),
            chunks: self.before.chunks + 1,
        }
    }
}

impl Tail {
    fn of(chunk: &Chunk<'_>) -> Result<Self, StorageError> {
        let mut kinds: Vec<(EntryKind, u32)> = Vec::new();
        let mut lengths = Vec::with_capacity(chunk.entries.len());
        for entry in &chunk.entries {
            match kinds.last_mut() {
                Some((kind, run)) if *kind == entry.kind => *run += 1,
                _ => kinds.push((entry.kind, 1)),
            }
            lengths.push(small(entry.bytes.len())?);
        }
        Ok(Self { mark: chunk.mark.clone(), rejects: chunk.rejects, kinds, lengths })
    }

    /// Kind and place of each entry; the error says how the numbers disagree.
    fn entries(&self, sizes: Sizes) -> Result<Vec<(EntryKind, Range<usize>)>, StorageError> {
        let runs = self.kinds.iter().map(|(_, run)| u64::from(*run)).sum::<u64>();
        let kinds = self.kinds.iter().flat_map(|(kind, run)| (0..*run).map(|_| *kind));
        let mut entries = Vec::with_capacity(self.lengths.len());
        let mut start = 0;
        for (kind, length) in kinds.zip(&self.lengths) {
            let end = start + *length as usize;
            entries.push((kind, start..end));
            start = end;
        }
        let counted = runs == u64::from(sizes.entries) && entries.len() as u64 == runs;
        if counted && self.lengths.len() == entries.len() && start == sizes.raw as usize {
            Ok(entries)
        } else {
            Err(StorageError::corrupt(WHAT, "its numbers of entries disagree"))
        }
    }
}

/// How many entries the chunk with this value has, and what its segment holds with it.
pub(crate) fn totals(value: &[u8]) -> Result<(u64, Totals), StorageError> {
    let (head, _) = codec::decode_front::<Head>(WHAT, value)?;
    Ok((u64::from(head.sizes.entries), head.after()))
}

/// What `now` was when the chunk with this value was appended, and how many entries it has.
pub(crate) fn time(value: &[u8]) -> Result<(i64, u64), StorageError> {
    let (head, _) = codec::decode_front::<Head>(WHAT, value)?;
    Ok((head.now_ms, u64::from(head.sizes.entries)))
}

/// Unpacks the chunk with this value.
pub(crate) fn read(first: Offset, value: &[u8]) -> Result<StoredChunk, StorageError> {
    let (head, packed) = codec::decode_front::<Head>(WHAT, value)?;
    let mut bytes = unpack(WHAT, head.packing, (head.sizes.body as usize, packed))?;
    let raw = head.sizes.raw as usize;
    let tail = bytes.get(raw..).ok_or_else(|| StorageError::corrupt(WHAT, "it has no tail"))?;
    let tail: Tail = codec::decode(WHAT, tail)?;
    let entries = tail.entries(head.sizes)?;
    bytes.truncate(raw);
    Ok(StoredChunk {
        first,
        now_ms: head.now_ms,
        mark: tail.mark,
        rejects: tail.rejects,
        entries,
        bytes,
    })
}

fn of_kind(chunk: &Chunk<'_>, kind: EntryKind) -> impl Iterator<Item = usize> {
    let entries = chunk.entries.iter().enumerate();
    entries.filter(move |(_, entry)| entry.kind == kind).map(|(index, _)| index)
}

fn small(number: usize) -> Result<u32, StorageError> {
    u32::try_from(number).map_err(|_| StorageError::refused("a chunk over 4 GiB"))
}
