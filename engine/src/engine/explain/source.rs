//! Where a record was read: what the log knows of a line's place in its file.
//!
//! A block of lines is appended at once, and the log keeps where the file stood behind it, not where
//! each line was. So the line of a record is known exactly where every line of its block became a
//! record, and within bounds where some were blank or refused. Lines from stdin, or handed to a running
//! engine, have no file.

use forebay_storage::{EntryKind, Offset, SourceMark, Store};

use crate::error::EngineError;
use crate::views::export::SourceView;

/// Entries that are read before the one that is asked for: many times a block, so that where the file
/// stood before the block is among them.
const LOOK_BACK: u64 = 64 * 1024;

/// Where a file stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    byte: u64,
    line: u64,
}

impl Place {
    const START: Self = Self { byte: 0, line: 1 };

    fn of(mark: &SourceMark) -> Self {
        Self { byte: mark.position, line: mark.line }
    }
}

/// Where the record at `offset` was read; `None` if it came from no file, or that is not known.
pub(super) fn source_of(store: &Store, offset: u64) -> Result<Option<SourceView>, EngineError> {
    let from = offset.saturating_sub(LOOK_BACK);
    let mut before: Vec<SourceMark> = Vec::new();
    // Records of the block so far, and the place of the asked one among them.
    let (mut records, mut index) = (0, None);
    for chunk in store.log().read(Offset::from_u64(from)) {
        let chunk = chunk?;
        for (at, kind, _) in chunk.iter() {
            if at.as_u64() == offset {
                index = Some(records);
            }
            records += u64::from(kind != EntryKind::Control);
        }
        // The last chunk of a block says how far the rejects go, whether it has a file or not.
        if chunk.rejects.is_none() {
            continue;
        }
        if let Some(index) = index {
            let Some(mark) = &chunk.mark else { return Ok(None) };
            let known = before.iter().rev().find(|known| is_same_file(known, mark));
            let start = match known {
                Some(known) => Place::of(known),
                None if from == 0 => Place::START,
                None => return Ok(None),
            };
            return Ok(Some(view(mark, start, (index, records))));
        }
        before.extend(chunk.mark);
        records = 0;
    }
    Ok(None)
}

/// A mark of the same file, and not of another one under its name.
fn is_same_file(known: &SourceMark, mark: &SourceMark) -> bool {
    known.source == mark.source && known.head_hash == mark.head_hash && known.line <= mark.line
}

fn view(mark: &SourceMark, start: Place, (index, records): (u64, u64)) -> SourceView {
    SourceView {
        file: mark.source.clone(),
        first_line: start.line + index,
        last_line: (mark.line + index).saturating_sub(records).max(start.line + index),
        first_byte: start.byte,
        end_byte: mark.position,
    }
}

#[cfg(test)]
mod tests {
    use forebay_storage::{Chunk, Entry, RejectsMark, StoreOptions};

    use super::*;

    fn mark(source: &str, line: u64) -> SourceMark {
        let (source, position) = (source.to_owned(), line * 100);
        SourceMark { source, head_len: 1, head_hash: [7; 32], position, line }
    }

    /// What a chunk of the log is to its block.
    enum Part {
        /// There are more.
        Inner,
        /// The last one, of a file.
        LastOf(SourceMark),
        /// The last one, from no file.
        Last,
    }

    /// Chunks of so many records.
    fn log(chunks: &[(usize, Part)]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        for (count, part) in chunks {
            let (mark, is_last) = match part {
                Part::Inner => (None, false),
                Part::LastOf(mark) => (Some(mark.clone()), true),
                Part::Last => (None, true),
            };
            let entry = Entry { kind: EntryKind::Record, bytes: b"{}" };
            let chunk = Chunk {
                now_ms: 0,
                mark,
                rejects: is_last.then(RejectsMark::default),
                outline: None,
                entries: vec![entry; *count],
            };
            store.log().append(&[chunk]).unwrap();
        }
        (dir, store)
    }

    #[test]
    fn a_line_is_known_unless_others_of_its_block_are_no_records() {
        let (_dir, store) = log(&[
            // Lines 1 to 3 of a, then 4 to 9, of which two are no records; two chunks, one block.
            (3, Part::LastOf(mark("a", 4))),
            (2, Part::Inner),
            (2, Part::LastOf(mark("a", 10))),
            // From stdin.
            (2, Part::Last),
            // Another file, and the first one again.
            (1, Part::LastOf(mark("b", 2))),
            (1, Part::LastOf(mark("a", 11))),
        ]);
        // (offset, file, first and last line that it can be)
        let cases = [
            (0, Some(("a", 1, 1))),
            (2, Some(("a", 3, 3))),
            (3, Some(("a", 4, 6))),
            (6, Some(("a", 7, 9))),
            (7, None),
            (8, None),
            (9, Some(("b", 1, 1))),
            (10, Some(("a", 10, 10))),
            (11, None),
        ];
        for (offset, expected) in cases {
            let found = source_of(&store, offset).unwrap();
            let found = found.as_ref().map(|s| (s.file.as_str(), s.first_line, s.last_line));
            assert_eq!(found, expected, "{offset}");
        }
        let last = source_of(&store, 10).unwrap().unwrap();
        assert_eq!((last.first_byte, last.end_byte), (1_000, 1_100));
    }
}
