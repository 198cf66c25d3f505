//! The log, read once more: its entries in order, and what it tells beside them.
//!
//! Whoever derives takes entry by entry from here; how records are put together is [`super::playback`]'s
//! matter.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use forebay_storage::{LogReader, Offset, Store, StoredChunk};

use super::playback::{Playback, Played};
use crate::clock::Timestamp;
use crate::error::EngineError;
use crate::input::Position;
use crate::record::RejectsMark;

/// What the log tells beside its entries, as far as it was read.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    /// How far each input was accepted.
    pub positions: BTreeMap<String, Position>,
    /// How far `rejects.ndjson` goes.
    pub rejects: RejectsMark,
    /// The highest `now` stored.
    pub appended: Timestamp,
    /// The offset after the last chunk read.
    pub next: u64,
}

/// Reads a part of the log, entry by entry.
pub(super) struct Replay {
    reader: LogReader,
    part: Range<u64>,
    marks: Marks,
    playback: Playback,
    ready: VecDeque<Played>,
}

impl Replay {
    /// The entries whose offsets lie in `part`, as far as the log goes now.
    pub(super) fn new(store: &Store, part: Range<u64>) -> Self {
        Self::resume(store, Marks { next: part.start, ..Marks::START }, part.end)
    }

    /// The entries from where `marks` were taken to `end`, as far as the log goes now.
    pub(super) fn resume(store: &Store, marks: Marks, end: u64) -> Self {
        let part = marks.next..end;
        Self {
            reader: store.log().read_until(Offset::from_u64(part.start), Offset::from_u64(end)),
            marks,
            part,
            playback: Playback::default(),
            ready: VecDeque::new(),
        }
    }

    /// What was read beside the entries so far.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What was read beside the entries.
    pub(super) fn into_marks(self) -> Marks {
        self.marks
    }

    /// Takes in the next chunk, or at the end what is left; whether there was anything.
    fn fill(&mut self) -> Result<bool, EngineError> {
        let is_over = self.marks.next >= self.part.end;
        let chunk = self.reader.next().filter(|_| !is_over).transpose()?;
        let ready = &mut self.ready;
        let mut take = |played| {
            ready.push_back(played);
            Ok(())
        };
        if let Some(chunk) = &chunk {
            self.playback.chunk(chunk, &self.part, &mut take)?;
            self.marks.take(chunk);
            return Ok(true);
        }
        self.playback.flush(&mut take)?;
        Ok(!self.ready.is_empty())
    }
}

impl Marks {
    /// Before the first chunk.
    pub(super) const START: Self = Self {
        positions: BTreeMap::new(),
        rejects: RejectsMark::START,
        appended: Timestamp::EPOCH,
        next: 0,
    };

    /// Takes what the log tells with records.
    pub(super) fn reach(&mut self, position: Option<Position>, rejects: RejectsMark) {
        if let Some(position) = position {
            self.positions.insert(position.source.clone(), position);
        }
        self.rejects = rejects;
    }

    fn take(&mut self, chunk: &StoredChunk) {
        self.appended = self.appended.max(Timestamp::from_millis(chunk.now_ms));
        self.next = chunk.next().as_u64();
        if let Some(mark) = &chunk.mark {
            let position = Position {
                source: mark.source.clone(),
                head_len: mark.head_len,
                head_hash: mark.head_hash,
                byte: mark.position,
                line: mark.line,
            };
            self.positions.insert(mark.source.clone(), position);
        }
        if let Some(mark) = chunk.rejects {
            self.rejects = RejectsMark { generation: mark.generation, length: mark.length };
        }
    }
}

impl Iterator for Replay {
    type Item = Result<Played, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.pop_front().map(Ok)
    }
}
