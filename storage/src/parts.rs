//! Values of any length in a database that must not see long ones.
//!
//! A database leaf holds up to 17 values before it splits, and a leaf over a quarter of the database's
//! log segment goes to a file of its own that nobody syncs: after a power cut the database is lost.
//! So a value is stored as parts of at most [`PART_BYTES_MAX`] under consecutive keys, always written
//! in one batch. The first part says how many there are.

use std::ops::RangeBounds;

use sled::{Batch, IVec, Tree};

use crate::codec::{FORMAT, strip_format};
use crate::database::UNIT_BYTES;
use crate::{StorageError, keys};

/// Most bytes of a value in one part, below 64 KiB with everything around it.
const PART_BYTES_MAX: usize = 60 * 1024;

/// Values a database leaf can hold, one more than it splits at.
const LEAF_VALUES_MAX: usize = 17;

const _: () = assert!(
    (LEAF_VALUES_MAX + 1) * (PART_BYTES_MAX + 1024) < UNIT_BYTES / 4,
    "a full leaf must stay below the size that goes to an unsynced file"
);

/// Format version, and the number of parts.
const FIRST_HEAD: usize = 3;

/// A stored value, joined again.
pub(crate) enum Value {
    /// Of one part: borrowed from the database's cache.
    Single(IVec),
    /// Of several, copied together.
    Joined(Vec<u8>),
}

impl Value {
    /// The value as it was given to [`insert`].
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Single(stored) => &stored[FIRST_HEAD..],
            Self::Joined(bytes) => bytes,
        }
    }
}

/// Writes `value` under a key that holds nothing; returns the bytes it takes, keys included.
pub(crate) fn insert(batch: &mut Batch, key: &[u8], value: &[u8]) -> u64 {
    let count = count(value);
    let mut bytes = 0;
    for number in 0..count {
        let piece = piece(value, number);
        let stored_key = keys::part(key, number);
        let mut stored = Vec::with_capacity(FIRST_HEAD + piece.len());
        stored.push(FORMAT);
        if number == 0 {
            stored.extend_from_slice(&count.to_be_bytes());
        }
        stored.extend_from_slice(piece);
        bytes += (stored_key.len() + stored.len()) as u64;
        batch.insert(stored_key, stored);
    }
    bytes
}

/// The bytes that [`insert`] takes for a value of this length.
pub(crate) fn stored_bytes(key: &[u8], value_len: usize) -> u64 {
    let parts = value_len.div_ceil(PART_BYTES_MAX).max(1);
    (parts * (key.len() + keys::PART_BYTES + 1) + (FIRST_HEAD - 1) + value_len) as u64
}

/// Writes `value` under a key that may hold another one.
pub(crate) fn replace(
    tree: &Tree,
    batch: &mut Batch,
    key: &[u8],
    value: &[u8],
) -> Result<(), StorageError> {
    insert(batch, key, value);
    for stored in tree.range(keys::part(key, count(value))..=keys::part(key, u16::MAX)).keys() {
        batch.remove(stored.map_err(cannot_read)?);
    }
    Ok(())
}

/// Removes the value under `key`; returns the bytes it took, 0 if there is none.
pub(crate) fn remove(tree: &Tree, batch: &mut Batch, key: &[u8]) -> Result<u64, StorageError> {
    let mut bytes = 0;
    for stored in tree.range(keys::part(key, 0)..=keys::part(key, u16::MAX)) {
        let (stored_key, value) = stored.map_err(cannot_read)?;
        bytes += (stored_key.len() + value.len()) as u64;
        batch.remove(stored_key);
    }
    Ok(bytes)
}

/// The value under `key`.
pub(crate) fn get(
    what: &'static str,
    tree: &Tree,
    key: &[u8],
) -> Result<Option<Value>, StorageError> {
    let range = keys::part(key, 0)..=keys::part(key, u16::MAX);
    Ok(Scan::new(what, tree, range).next().transpose()?.map(|(_, value)| value))
}

/// The values within a range of keys, in key order. Parts are read as they are needed.
pub(crate) struct Scan {
    what: &'static str,
    stored: sled::Iter,
    failed: bool,
}

impl Scan {
    /// Starts at a first part: the range must not begin between the parts of a value.
    pub(crate) fn new(what: &'static str, tree: &Tree, range: impl RangeBounds<Vec<u8>>) -> Self {
        Self { what, stored: tree.range::<Vec<u8>, _>(range), failed: false }
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, Value)>, StorageError> {
        let Some((stored_key, first)) = self.stored.next().transpose().map_err(cannot_read)? else {
            return Ok(None);
        };
        let (key, number) = keys::split_part(&stored_key)?;
        if number != 0 {
            return Err(StorageError::corrupt(self.what, "its first part is missing"));
        }
        let head = strip_format(self.what, &first)?;
        let (count, piece) = head
            .split_first_chunk::<2>()
            .ok_or_else(|| StorageError::corrupt(self.what, "no number of parts"))?;
        let count = u16::from_be_bytes(*count);
        if count == 1 {
            return Ok(Some((key.to_vec(), Value::Single(first))));
        }
        let mut joined = Vec::with_capacity(usize::from(count) * PART_BYTES_MAX);
        joined.extend_from_slice(piece);
        for number in 1..count {
            joined.extend_from_slice(strip_format(self.what, &self.part(key, number)?)?);
        }
        Ok(Some((key.to_vec(), Value::Joined(joined))))
    }

    fn part(&mut self, key: &[u8], number: u16) -> Result<IVec, StorageError> {
        match self.stored.next().transpose().map_err(cannot_read)? {
            Some((stored_key, part)) if stored_key == keys::part(key, number) => Ok(part),
            _ => Err(StorageError::corrupt(self.what, format!("part {number} is missing"))),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Value), StorageError>;

    /// After the first error there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// What a read that fails below is reported as.
pub(crate) fn cannot_read(error: sled::Error) -> StorageError {
    StorageError::Read { source: Box::new(error) }
}

fn count(value: &[u8]) -> u16 {
    u16::try_from(value.len().div_ceil(PART_BYTES_MAX).max(1))
        .expect("no value is longer than 3.9 GB")
}

fn piece(value: &[u8], number: u16) -> &[u8] {
    let start = usize::from(number) * PART_BYTES_MAX;
    &value[start..value.len().min(start + PART_BYTES_MAX)]
}
