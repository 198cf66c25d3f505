//! Trimming: rows that are old enough go, some pages at a time.
//!
//! Whoever trims goes round the whole journal, a little at each call, because ages do not follow the
//! sequences: an export may have waited for days among those that left at once.

use std::collections::HashMap;

use sled::{Batch, Tree};

use super::page::{PAGE_ROWS, Page};
use super::{Journal, JournalSize};
use crate::parts::{self, Scan};
use crate::{StorageError, WriteOp, keys};

const WHAT: &str = "a page of the journal";

/// Pages dropped in one batch, so that other writers do not wait for long.
const DROP_PAGES_MAX: usize = 256;

/// Where in the journal a call of [`Journal::trim`] has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalPlace(Vec<u8>);

/// What a call of [`Journal::trim`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Rows that are gone.
    pub rows: u64,
    /// Where to go on; `None` at the end of the journal.
    pub next: Option<JournalPlace>,
}

impl Journal {
    /// Drops pages of which every export ended before `before_ms`, with the failed attempts, among the
    /// next `pages_max` from `from` on, of all dataflows; from the beginning without one.
    ///
    /// In several batches. Durable after a sync of the state, which nothing has to wait for.
    pub fn trim(
        &self,
        from: Option<&JournalPlace>,
        before_ms: i64,
        pages_max: usize,
    ) -> Result<Trimmed, StorageError> {
        let start = from.map_or_else(keys::journal_pages_start, |place| place.0.clone());
        let (mut old, mut seen, mut last) = (Vec::new(), 0, None);
        // Sought without a lock: whoever delivers does not wait for the search.
        let trees = self.state.trees()?;
        for item in Scan::new(WHAT, &trees.progress, start..keys::journal_pages_end()) {
            let (key, value) = item?;
            if Page::newest_ms(value.bytes())? < before_ms {
                old.push(key.clone());
            }
            seen += 1;
            last = Some(key);
            if seen == pages_max {
                break;
            }
        }
        drop(trees);
        let mut trimmed = Trimmed::default();
        for keys in old.chunks(DROP_PAGES_MAX) {
            trimmed.rows += self.drop_pages(keys, before_ms)?;
        }
        let last = last.filter(|_| seen == pages_max);
        trimmed.next = last.map(|key| JournalPlace(keys::part(&key, u16::MAX)));
        Ok(trimmed)
    }

    fn drop_pages(&self, pages: &[Vec<u8>], before_ms: i64) -> Result<u64, StorageError> {
        let mut sizes = self.sizes();
        let trees = self.state.trees()?;
        let mut batch = Batch::default();
        let mut changed: HashMap<String, JournalSize> = HashMap::new();
        let mut rows = 0;
        for key in pages {
            // A row may have been added since it was found.
            let Some(value) = parts::get(WHAT, &trees.progress, key)? else { continue };
            if Page::newest_ms(value.bytes())? >= before_ms {
                continue;
            }
            let (dataflow, number) = keys::split_journal_page(key)?;
            let page = Page::decode(key, number, value.bytes())?;
            let known = || sizes.get(&dataflow).copied().unwrap_or_default();
            let size = changed.entry(dataflow.clone()).or_insert_with(known);
            parts::remove(&trees.progress, &mut batch, key)?;
            size.rows -= page.len();
            size.row_bytes -= page.stored_bytes();
            rows += page.len();
            if page.rows().iter().any(|row| row.failures > 0) {
                size.attempt_bytes -=
                    drop_attempts(&trees.progress, &mut batch, (&dataflow, number))?;
            }
        }
        for (dataflow, size) in &changed {
            size.write(&mut batch, dataflow)?;
        }
        trees.apply(WriteOp::Journal, &trees.progress, batch)?;
        sizes.extend(changed);
        Ok(rows)
    }
}

/// Drops the failed attempts of the exports of one page; how many bytes they took.
fn drop_attempts(
    tree: &Tree,
    batch: &mut Batch,
    (dataflow, page): (&str, u64),
) -> Result<u64, StorageError> {
    let (first, last) = (page * PAGE_ROWS, page * PAGE_ROWS + (PAGE_ROWS - 1));
    let first = keys::part(&keys::journal_attempts(dataflow, first)?, 0);
    let last = keys::part(&keys::journal_attempts(dataflow, last)?, u16::MAX);
    let mut bytes = 0;
    for stored in tree.range(first..=last) {
        let (key, value) = stored.map_err(parts::cannot_read)?;
        bytes += (key.len() + value.len()) as u64;
        batch.remove(key);
    }
    Ok(bytes)
}
