//! Reading the log in order, unpacked ahead on all cores.
//!
//! Replay is bound by unpacking, which is independent for each chunk. So a reader fetches a few
//! chunks, unpacks them together, and hands them out one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use rayon::prelude::*;

use crate::chunk::{self, StoredChunk};
use crate::parts::{Scan, Value};
use crate::segment::Segment;
use crate::shelf::Shelf;
use crate::{Offset, StorageError};

/// Chunks fetched and unpacked together: some 8 MiB, of the size the engine appends.
const AHEAD_CHUNKS: usize = 32;

/// Packed bytes after which no further chunk is fetched, for chunks of unusual size.
const AHEAD_BYTES: usize = 8 << 20;

/// The chunks of a log from an offset on, in order and without gaps.
///
/// It ends where the log ended when it was made, or after the first error. It keeps the segment that
/// it reads open, so drop it before opening the same data directory again.
pub struct LogReader {
    shelf: Arc<Shelf>,
    /// Where the next chunk must start.
    position: Offset,
    end: Offset,
    /// Declared before the segment it reads, so that it is dropped first.
    scan: Option<Scan>,
    segment: Option<Arc<Segment>>,
    ready: VecDeque<Result<StoredChunk, StorageError>>,
}

impl LogReader {
    pub(crate) fn new(shelf: Arc<Shelf>, from: Offset, end: Offset) -> Self {
        Self { shelf, position: from, end, scan: None, segment: None, ready: VecDeque::new() }
    }

    fn fill(&mut self) {
        let (fetched, error) = self.fetch();
        let unpacked: Vec<_> = fetched
            .into_par_iter()
            .map(|(first, value)| chunk::read(first, value.bytes()))
            .collect();
        self.ready.extend(unpacked);
        if let Some(error) = error {
            self.ready.push_back(Err(error));
        }
    }

    fn fetch(&mut self) -> (Vec<(Offset, Value)>, Option<StorageError>) {
        let mut fetched = Vec::with_capacity(AHEAD_CHUNKS);
        let mut bytes = 0;
        while self.position < self.end && fetched.len() < AHEAD_CHUNKS && bytes < AHEAD_BYTES {
            match self.fetch_one() {
                Ok((first, value)) => {
                    bytes += value.bytes().len();
                    fetched.push((first, value));
                }
                Err(error) => {
                    self.end = self.position;
                    return (fetched, Some(error));
                }
            }
        }
        (fetched, None)
    }

    fn fetch_one(&mut self) -> Result<(Offset, Value), StorageError> {
        if self.scan.is_none() {
            self.start()?;
        }
        let mut found = self.next_in_scan()?;
        if found.is_none() {
            // The segment ends here, so the next one must start here.
            self.start()?;
            found = self.next_in_scan()?;
        }
        let Some((first, value)) = found else {
            return Err(self.gap("nothing"));
        };
        if first != self.position {
            return Err(self.gap(&format!("offset {first}")));
        }
        let (entries, _) = chunk::totals(value.bytes())?;
        self.position = first.plus(entries);
        Ok((first, value))
    }

    /// Finds the segment of the position; moves back to where the chunk that holds it starts.
    fn start(&mut self) -> Result<(), StorageError> {
        let segment = self.shelf.holding(self.position)?;
        self.position = segment.chunk_holding(self.position)?;
        self.scan = Some(segment.scan(self.position));
        self.segment = Some(segment);
        Ok(())
    }

    fn next_in_scan(&mut self) -> Result<Option<(Offset, Value)>, StorageError> {
        let next = self.scan.as_mut().and_then(Scan::next).transpose()?;
        next.map(|(key, value)| Ok((crate::keys::chunk_first(&key)?, value))).transpose()
    }

    fn gap(&self, instead: &str) -> StorageError {
        let detail = format!("{instead} where offset {} is expected", self.position);
        StorageError::corrupt("the log", detail)
    }
}

impl Iterator for LogReader {
    type Item = Result<StoredChunk, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && self.position < self.end {
            self.fill();
        }
        let item = self.ready.pop_front();
        if let Some(Err(_)) = item {
            self.end = self.position;
            self.ready.clear();
        }
        item
    }
}
