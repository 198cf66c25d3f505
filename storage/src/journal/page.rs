//! Pages of the journal: rows of consecutive sequences, packed together.
//!
//! A row says where it differs from the one before, and numbers that are small take one byte: an
//! export that was delivered at once takes about 20.

use sled::{Batch, Tree};

use super::{EndedExport, Ending};
use crate::codec::{Decode, Encode};
use crate::{StorageError, codec, keys, parts};

const WHAT: &str = "a page of the journal";

/// Sequences in a page. A row that ends alone has its page written again, so it must not be long; and
/// the more rows, the less the key weighs.
pub(super) const PAGE_ROWS: u64 = 64;

/// The most that a stored row can take.
const ROW_BYTES_MAX: u64 = 96;

const _: () = assert!(PAGE_ROWS * ROW_BYTES_MAX < 32 * 1024, "a page is always one part");

/// Rows of one page, by ascending sequence.
#[derive(Debug, Default)]
pub(super) struct Page {
    rows: Vec<EndedExport>,
    /// Bytes it takes as it was read; 0 if it was not.
    stored_bytes: u64,
}

/// What stands before the rows of a page, so that its age can be told without them.
#[derive(Encode, Decode)]
struct Head {
    newest_ms: i64,
}

/// A row, as far as it differs from the one before.
#[derive(Encode, Decode)]
struct StoredRow {
    /// From the first sequence of the page on.
    ahead: u8,
    profile: u64,
    policy: u32,
    causes: u8,
    offset_gap: i64,
    /// From the time of acceptance to it.
    boundary_gap_ms: Option<i64>,
    /// From the offset to it.
    rendered_gap: Option<i64>,
    accepted_gap_ms: i64,
    /// From the acceptance to the end.
    took_ms: i64,
    ending: Ending,
    failures: u32,
}

impl Page {
    /// The page of this number, if it holds any row.
    pub(super) fn read(
        tree: &Tree,
        dataflow: &str,
        number: u64,
    ) -> Result<Option<Self>, StorageError> {
        let key = keys::journal_page(dataflow, number)?;
        let Some(value) = parts::get(WHAT, tree, &key)? else { return Ok(None) };
        Self::decode(&key, number, value.bytes()).map(Some)
    }

    /// The page whose value lies at `key`.
    pub(super) fn decode(key: &[u8], number: u64, value: &[u8]) -> Result<Self, StorageError> {
        let (Head { newest_ms }, packed) = codec::decode_front(WHAT, value)?;
        let stored: Vec<StoredRow> = codec::decode(WHAT, packed)?;
        let mut before = Before { offset: 0, accepted_ms: newest_ms };
        let first = number * PAGE_ROWS;
        let rows = stored.iter().map(|row| before.restore(first, row)).collect();
        Ok(Self { rows, stored_bytes: parts::stored_bytes(key, value.len()) })
    }

    /// When the newest row of the page with this value ended.
    pub(super) fn newest_ms(value: &[u8]) -> Result<i64, StorageError> {
        Ok(codec::decode_front::<Head>(WHAT, value)?.0.newest_ms)
    }

    /// How many rows it has.
    pub(super) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Bytes it takes where it was read from, its key included.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Its rows.
    pub(super) fn rows(&self) -> &[EndedExport] {
        &self.rows
    }

    /// The row of this sequence, without its attempts.
    pub(super) fn into_row(mut self, sequence: u64) -> Option<EndedExport> {
        let at = self.rows.binary_search_by_key(&sequence, |row| row.sequence).ok()?;
        Some(self.rows.swap_remove(at))
    }

    /// Adds a row; the one that it takes the place of.
    pub(super) fn insert(&mut self, row: EndedExport) -> Option<EndedExport> {
        match self.rows.binary_search_by_key(&row.sequence, |known| known.sequence) {
            Ok(at) => Some(std::mem::replace(&mut self.rows[at], row)),
            Err(at) => {
                self.rows.insert(at, row);
                None
            }
        }
    }

    /// Writes it in its place; the bytes it takes there.
    pub(super) fn write(
        &self,
        batch: &mut Batch,
        dataflow: &str,
        number: u64,
    ) -> Result<u64, StorageError> {
        let newest_ms = self.rows.iter().map(|row| row.ended_ms).max().unwrap_or_default();
        let mut value = codec::encode(&Head { newest_ms });
        let mut before = Before { offset: 0, accepted_ms: newest_ms };
        let first = number * PAGE_ROWS;
        let stored: Vec<StoredRow> = self.rows.iter().map(|row| before.store(first, row)).collect();
        codec::append(&mut value, &stored);
        Ok(parts::insert(batch, &keys::journal_page(dataflow, number)?, &value))
    }
}

/// What a row is told from.
struct Before {
    offset: u64,
    accepted_ms: i64,
}

impl Before {
    fn store(&mut self, first: u64, row: &EndedExport) -> StoredRow {
        let ahead = u8::try_from(row.sequence - first).expect("a page is shorter than a byte");
        let stored = StoredRow {
            ahead,
            profile: row.profile,
            policy: row.policy,
            causes: row.causes,
            offset_gap: row.offset.wrapping_sub(self.offset).cast_signed(),
            boundary_gap_ms: row.boundary_ms.map(|ms| ms.wrapping_sub(row.accepted_ms)),
            rendered_gap: row
                .rendered_after
                .map(|after| after.wrapping_sub(row.offset).cast_signed()),
            accepted_gap_ms: row.accepted_ms.wrapping_sub(self.accepted_ms),
            took_ms: row.ended_ms.wrapping_sub(row.accepted_ms),
            ending: row.ending,
            failures: row.failures,
        };
        *self = Self { offset: row.offset, accepted_ms: row.accepted_ms };
        stored
    }

    fn restore(&mut self, first: u64, row: &StoredRow) -> EndedExport {
        let offset = self.offset.wrapping_add(row.offset_gap.cast_unsigned());
        let accepted_ms = self.accepted_ms.wrapping_add(row.accepted_gap_ms);
        *self = Self { offset, accepted_ms };
        EndedExport {
            sequence: first + u64::from(row.ahead),
            profile: row.profile,
            policy: row.policy,
            causes: row.causes,
            offset,
            boundary_ms: row.boundary_gap_ms.map(|gap| accepted_ms.wrapping_add(gap)),
            rendered_after: row.rendered_gap.map(|gap| offset.wrapping_add(gap.cast_unsigned())),
            accepted_ms,
            ended_ms: accepted_ms.wrapping_add(row.took_ms),
            ending: row.ending,
            failures: row.failures,
            attempts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sequence: u64) -> EndedExport {
        EndedExport {
            sequence,
            profile: 1_000_000 + sequence * 7,
            causes: 3,
            offset: 5_000_000 + sequence,
            accepted_ms: 1_767_225_603_888 + sequence.cast_signed(),
            ended_ms: 1_767_225_603_901 + sequence.cast_signed(),
            ending: Ending::Delivered { status: 200 },
            ..EndedExport::default()
        }
    }

    fn stored(page: &Page, number: u64) -> (Page, u64) {
        let dir = tempfile::tempdir().unwrap();
        let database = sled::open(dir.path()).unwrap();
        let mut batch = Batch::default();
        let bytes = page.write(&mut batch, "to_warehouse", number).unwrap();
        database.apply_batch(batch).unwrap();
        (Page::read(&database, "to_warehouse", number).unwrap().unwrap(), bytes)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let cases = [
            row(130),
            EndedExport { boundary_ms: Some(-1), rendered_after: Some(0), ..row(131) },
            EndedExport { ending: Ending::DeadLettered, failures: u32::MAX, ..row(140) },
            EndedExport { boundary_ms: Some(i64::MAX), accepted_ms: i64::MIN, ..row(150) },
            EndedExport { rendered_after: Some(u64::MAX), offset: 0, ..row(170) },
            EndedExport { offset: u64::MAX, ended_ms: -1, policy: u32::MAX, ..row(191) },
        ];
        let mut page = Page::default();
        for row in cases.iter().rev() {
            assert!(page.insert(row.clone()).is_none());
        }
        let (read, bytes) = stored(&page, 2);
        assert_eq!(read.rows(), cases);
        assert_eq!(read.stored_bytes(), bytes);
        assert_eq!(read.into_row(140).as_ref(), Some(&cases[2]));
        let longest = page.rows().len() as u64 * ROW_BYTES_MAX;
        assert!(bytes < longest, "{bytes} bytes");
    }

    #[test]
    fn a_row_takes_about_twenty_bytes() {
        let mut page = Page::default();
        for sequence in 0..PAGE_ROWS {
            page.insert(row(sequence));
        }
        let (read, bytes) = stored(&page, 0);
        assert_eq!(read.len(), PAGE_ROWS);
        assert!(bytes <= 22 * PAGE_ROWS, "{bytes} bytes for {PAGE_ROWS} rows");
    }
}
