//! Every key there is, encoded beside where it is decoded.
//!
//! Keys sort as their meaning does: numbers big-endian, names ended by a zero byte, so that no name
//! is the beginning of another. Every key ends with the number of a part (see [`crate::parts`]); the
//! functions here build what stands before it, except the ones that end a range.
//!
//! | where | key |
//! |---|---|
//! | log segment | `c`, first offset (8), part (2): a chunk of entries |
//! | log segment | `i`, first offset (8), part (2): the outline of a chunk |
//! | log segment | `m`, offset (8), part (2): marks a control entry |
//! | outbox | `d`, part (2): next offset to derive |
//! | outbox | `e`, dataflow, 0, last sequence (8), part (2): a chunk of exports |
//! | outbox | `f`, dataflow, 0, part (2): counters of a dataflow |
//! | outbox | `l`, lane, 0, part (2): how far a lane is drained |
//! | outbox | `w`, dataflow, 0, last sequence (8), part (2): a range of withdrawn exports |
//! | outbox | `p`, dataflow, 0, policy (4), profile (8), part (2): a marked profile |
//! | outbox | `q`, dataflow, 0, part (2): how many profiles are marked |
//! | progress | `a`, dataflow, 0, sequence (8), part (2): failed attempts of an export that ended |
//! | progress | `g`, dataflow, 0, part (2): how far it is delivered |
//! | progress | `j`, dataflow, 0, page (8), part (2): a page of the journal |
//! | progress | `s`, dataflow, 0, part (2): how much its journal holds |
//! | dead letters | `n`, dataflow, 0, part (2): how many there are |
//! | dead letters | `r`, dataflow, 0, sequence (8), part (2): one of them |
//! | meta | name, 0, part (2) |

use std::path::Path;

use crate::{Offset, StorageError};

/// Longest name of a dataflow, lane or value, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Bytes of the number of a part, which ends every key.
pub(crate) const PART_BYTES: usize = 2;

const NUMBER_BYTES: usize = 8;

const POLICY_BYTES: usize = 4;

const CHUNK: u8 = b'c';
const OUTLINE: u8 = b'i';
const CONTROL: u8 = b'm';
const DERIVED: u8 = b'd';
const EXPORTS: u8 = b'e';
const FLOW: u8 = b'f';
const LANE: u8 = b'l';
const WITHDRAWN: u8 = b'w';
const MARKED: u8 = b'p';
const MARKED_COUNT: u8 = b'q';
const DEAD_COUNT: u8 = b'n';
const DEAD_ROW: u8 = b'r';
const PROGRESS: u8 = b'g';
const JOURNAL_PAGE: u8 = b'j';
const JOURNAL_ATTEMPTS: u8 = b'a';
const JOURNAL_SIZE: u8 = b's';

/// Key of the part `number` of the value at `key`.
pub(crate) fn part(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

/// Splits what [`part`] joined.
pub(crate) fn split_part(stored: &[u8]) -> Result<(&[u8], u16), StorageError> {
    let (key, number) = stored.split_last_chunk::<PART_BYTES>().ok_or_else(|| damaged(stored))?;
    Ok((key, u16::from_be_bytes(*number)))
}

/// A chunk of log entries.
pub(crate) fn chunk(first: Offset) -> Vec<u8> {
    [&[CHUNK][..], &first.as_u64().to_be_bytes()].concat()
}

/// The first offset of the chunk at this key.
pub(crate) fn chunk_first(key: &[u8]) -> Result<Offset, StorageError> {
    offset_behind(CHUNK, key)
}

/// The outline of a chunk.
pub(crate) fn outline(first: Offset) -> Vec<u8> {
    [&[OUTLINE][..], &first.as_u64().to_be_bytes()].concat()
}

/// The first offset of the chunk whose outline is at this key.
pub(crate) fn outlined_first(key: &[u8]) -> Result<Offset, StorageError> {
    offset_behind(OUTLINE, key)
}

/// After every outline of a segment.
pub(crate) fn outlines_end() -> Vec<u8> {
    vec![OUTLINE + 1]
}

/// The mark of a control entry.
pub(crate) fn control(offset: Offset) -> Vec<u8> {
    [&[CONTROL][..], &offset.as_u64().to_be_bytes()].concat()
}

/// The offset of the control entry marked by this key.
pub(crate) fn control_offset(key: &[u8]) -> Result<Offset, StorageError> {
    offset_behind(CONTROL, key)
}

/// Before every chunk of a segment.
pub(crate) fn chunks_start() -> Vec<u8> {
    vec![CHUNK]
}

/// After every chunk of a segment.
pub(crate) fn chunks_end() -> Vec<u8> {
    vec![CHUNK + 1]
}

/// The control marks of a segment, as a range.
pub(crate) fn controls() -> std::ops::Range<Vec<u8>> {
    vec![CONTROL]..vec![CONTROL + 1]
}

/// The next offset to derive.
pub(crate) fn derived() -> Vec<u8> {
    vec![DERIVED]
}

/// A chunk of exports that ends with `last`.
pub(crate) fn exports(dataflow: &str, last: u64) -> Result<Vec<u8>, StorageError> {
    numbered(EXPORTS, dataflow, last)
}

/// After every chunk of exports of a dataflow.
pub(crate) fn exports_end(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    after_numbered(EXPORTS, dataflow)
}

/// The sequence that the chunk of exports at this key ends with.
pub(crate) fn exports_last(key: &[u8]) -> Result<u64, StorageError> {
    Ok(split_numbered(key)?.1)
}

/// The counters of a dataflow.
pub(crate) fn flow(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[FLOW], dataflow)
}

/// The counters of all dataflows, as a range.
pub(crate) fn flows() -> std::ops::Range<Vec<u8>> {
    vec![FLOW]..vec![FLOW + 1]
}

/// A range of withdrawn exports that ends with `last`.
pub(crate) fn withdrawn(dataflow: &str, last: u64) -> Result<Vec<u8>, StorageError> {
    numbered(WITHDRAWN, dataflow, last)
}

/// The dataflow of a range of withdrawn exports, and the sequence that it ends with.
pub(crate) fn split_withdrawn(key: &[u8]) -> Result<(String, u64), StorageError> {
    split_numbered(key)
}

/// The ranges of withdrawn exports of all dataflows.
pub(crate) fn all_withdrawn() -> std::ops::Range<Vec<u8>> {
    vec![WITHDRAWN]..vec![WITHDRAWN + 1]
}

/// How far a lane is drained.
pub(crate) fn lane(lane: &str) -> Result<Vec<u8>, StorageError> {
    named(&[LANE], lane)
}

/// All lanes, as a range.
pub(crate) fn lanes() -> std::ops::Range<Vec<u8>> {
    vec![LANE]..vec![LANE + 1]
}

/// A profile of a merge policy that is marked for a dataflow.
pub(crate) fn marked(dataflow: &str, policy: u32, profile: u64) -> Result<Vec<u8>, StorageError> {
    let front = named(&[MARKED], dataflow)?;
    Ok([&front[..], &policy.to_be_bytes(), &profile.to_be_bytes()].concat())
}

/// Merge policy and profile of the mark at this key.
pub(crate) fn split_marked(key: &[u8]) -> Result<(u32, u64), StorageError> {
    let (front, profile) = key.split_last_chunk::<NUMBER_BYTES>().ok_or_else(|| damaged(key))?;
    let (_, policy) = front.split_last_chunk::<POLICY_BYTES>().ok_or_else(|| damaged(key))?;
    Ok((u32::from_be_bytes(*policy), u64::from_be_bytes(*profile)))
}

/// Before every mark of a dataflow.
pub(crate) fn marked_start(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[MARKED], dataflow)
}

/// After every mark of a dataflow.
pub(crate) fn marked_end(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    after_numbered(MARKED, dataflow)
}

/// How many profiles are marked for a dataflow.
pub(crate) fn marked_count(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[MARKED_COUNT], dataflow)
}

/// All counts of marked profiles, as a range.
pub(crate) fn marked_counts() -> std::ops::Range<Vec<u8>> {
    vec![MARKED_COUNT]..vec![MARKED_COUNT + 1]
}

/// The name in a key made of one letter and a name.
pub(crate) fn name_behind_letter(key: &[u8]) -> Result<String, StorageError> {
    plain_name(key.get(1..).unwrap_or_default())
}

/// A name that is the whole key.
pub(crate) fn plain(name: &str) -> Result<Vec<u8>, StorageError> {
    named(&[], name)
}

/// Reads what [`plain`] built.
pub(crate) fn plain_name(key: &[u8]) -> Result<String, StorageError> {
    match key.split_last() {
        Some((0, name)) => text(name),
        _ => Err(damaged(key)),
    }
}

/// How many dead letters a dataflow has.
pub(crate) fn dead_count(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[DEAD_COUNT], dataflow)
}

/// All counts of dead letters, as a range.
pub(crate) fn dead_counts() -> std::ops::Range<Vec<u8>> {
    vec![DEAD_COUNT]..vec![DEAD_COUNT + 1]
}

/// One dead letter.
pub(crate) fn dead_row(dataflow: &str, sequence: u64) -> Result<Vec<u8>, StorageError> {
    numbered(DEAD_ROW, dataflow, sequence)
}

/// Dataflow and sequence of the dead letter at this key.
pub(crate) fn split_dead_row(key: &[u8]) -> Result<(String, u64), StorageError> {
    split_numbered(key)
}

/// Before every dead letter.
pub(crate) fn dead_rows_start() -> Vec<u8> {
    vec![DEAD_ROW]
}

/// After every dead letter of a dataflow, or of all.
pub(crate) fn dead_rows_end(dataflow: Option<&str>) -> Result<Vec<u8>, StorageError> {
    dataflow.map_or(Ok(vec![DEAD_ROW + 1]), |name| after_numbered(DEAD_ROW, name))
}

/// How far a dataflow is delivered.
pub(crate) fn progress(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[PROGRESS], dataflow)
}

/// How far all dataflows are delivered, as a range.
pub(crate) fn all_progress() -> std::ops::Range<Vec<u8>> {
    vec![PROGRESS]..vec![PROGRESS + 1]
}

/// A page of the journal.
pub(crate) fn journal_page(dataflow: &str, number: u64) -> Result<Vec<u8>, StorageError> {
    numbered(JOURNAL_PAGE, dataflow, number)
}

/// Dataflow and number of the page of the journal at this key.
pub(crate) fn split_journal_page(key: &[u8]) -> Result<(String, u64), StorageError> {
    split_numbered(key)
}

/// Before every page of the journal.
pub(crate) fn journal_pages_start() -> Vec<u8> {
    vec![JOURNAL_PAGE]
}

/// After every page of the journal.
pub(crate) fn journal_pages_end() -> Vec<u8> {
    vec![JOURNAL_PAGE + 1]
}

/// The failed attempts of an export that ended.
pub(crate) fn journal_attempts(dataflow: &str, sequence: u64) -> Result<Vec<u8>, StorageError> {
    numbered(JOURNAL_ATTEMPTS, dataflow, sequence)
}

/// After all failed attempts of a dataflow.
pub(crate) fn journal_attempts_end(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    after_numbered(JOURNAL_ATTEMPTS, dataflow)
}

/// How much the journal of a dataflow holds.
pub(crate) fn journal_size(dataflow: &str) -> Result<Vec<u8>, StorageError> {
    named(&[JOURNAL_SIZE], dataflow)
}

/// How much all journals hold, as a range.
pub(crate) fn journal_sizes() -> std::ops::Range<Vec<u8>> {
    vec![JOURNAL_SIZE]..vec![JOURNAL_SIZE + 1]
}

/// The directory name of the segment that starts at `base`: sorted by name is sorted by offset.
pub(crate) fn segment_name(base: Offset) -> String {
    format!("{:020}", base.as_u64())
}

/// Reads what [`segment_name`] built; `None` if `path` is named otherwise.
pub(crate) fn segment_base(path: &Path) -> Option<Offset> {
    let name = path.file_name()?.to_str()?;
    let base = Offset::from_u64(name.parse().ok()?);
    (segment_name(base) == name).then_some(base)
}

fn offset_behind(letter: u8, key: &[u8]) -> Result<Offset, StorageError> {
    match key.split_first_chunk::<1>() {
        Some(([first], rest)) if *first == letter => {
            let number = rest.try_into().map_err(|_| damaged(key))?;
            Ok(Offset::from_u64(u64::from_be_bytes(number)))
        }
        _ => Err(damaged(key)),
    }
}

fn named(front: &[u8], name: &str) -> Result<Vec<u8>, StorageError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(StorageError::refused(format!("{name:?} is no name")));
    }
    Ok([front, name.as_bytes(), &[0]].concat())
}

fn numbered(letter: u8, name: &str, number: u64) -> Result<Vec<u8>, StorageError> {
    Ok([&named(&[letter], name)?[..], &number.to_be_bytes()].concat())
}

fn after_numbered(letter: u8, name: &str) -> Result<Vec<u8>, StorageError> {
    let mut key = named(&[letter], name)?;
    *key.last_mut().expect("a name ends with a zero byte") = 1;
    Ok(key)
}

fn split_numbered(key: &[u8]) -> Result<(String, u64), StorageError> {
    let (front, number) = key.split_last_chunk::<NUMBER_BYTES>().ok_or_else(|| damaged(key))?;
    Ok((name_behind_letter(front)?, u64::from_be_bytes(*number)))
}

fn text(name: &[u8]) -> Result<String, StorageError> {
    String::from_utf8(name.to_vec()).map_err(|_| damaged(name))
}

fn damaged(key: &[u8]) -> StorageError {
    StorageError::corrupt("a key", format!("{}", key.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn keys_decode_to_what_was_encoded() {
        let offset = Offset::from_u64(0x0102_0304_0506_0708);
        assert_eq!(chunk_first(&chunk(offset)).unwrap(), offset);
        assert_eq!(control_offset(&control(offset)).unwrap(), offset);
        assert_eq!(outlined_first(&outline(offset)).unwrap(), offset);
        assert!(outlined_first(&chunk(offset)).is_err(), "a chunk is no outline");
        assert!(chunk_first(&control(offset)).is_err(), "a mark is no chunk");
        assert_eq!(exports_last(&exports("a", 7).unwrap()).unwrap(), 7);
        assert_eq!(split_withdrawn(&withdrawn("a", 7).unwrap()).unwrap(), ("a".to_owned(), 7));
        assert_eq!(split_dead_row(&dead_row("a.b", 9).unwrap()).unwrap(), ("a.b".to_owned(), 9));
        assert_eq!(
            split_journal_page(&journal_page("a", 7).unwrap()).unwrap(),
            ("a".to_owned(), 7)
        );
        assert_eq!(split_marked(&marked("a.b", 2, 9).unwrap()).unwrap(), (2, 9));
        assert_eq!(name_behind_letter(&flow("to_x").unwrap()).unwrap(), "to_x");
        assert_eq!(plain_name(&plain("clock").unwrap()).unwrap(), "clock");
        assert_eq!(split_part(&part(b"k", 300)).unwrap(), (&b"k"[..], 300));
    }

    #[test]
    fn keys_sort_as_their_meaning_does() {
        // (what it shows, smaller, greater)
        let cases = [
            ("numbers by value", exports("a", 255).unwrap(), exports("a", 256).unwrap()),
            ("names before numbers", exports("a", u64::MAX).unwrap(), exports("a.", 0).unwrap()),
            ("a dataflow ends", exports("a", u64::MAX).unwrap(), exports_end("a").unwrap()),
            ("before longer names", exports_end("a").unwrap(), exports("a-", 0).unwrap()),
            ("marks begin", marked_start("a").unwrap(), part(&marked("a", 0, 0).unwrap(), 0)),
            ("by policy first", marked("a", 1, 9).unwrap(), marked("a", 2, 0).unwrap()),
            ("and end", marked("a", u32::MAX, u64::MAX).unwrap(), marked_end("a").unwrap()),
            ("chunks end", chunk(Offset::from_u64(u64::MAX)), chunks_end()),
            ("before outlines", chunks_end(), outline(Offset::START)),
            ("outlines end", outline(Offset::from_u64(u64::MAX)), outlines_end()),
            ("before marks", outlines_end(), control(Offset::START)),
            ("parts by number", part(b"k", 255), part(b"k", 256)),
        ];
        for (name, smaller, greater) in cases {
            assert!(smaller < greater, "{name}");
        }
    }

    #[test]
    fn names_that_would_break_the_order_are_refused() {
        for name in ["", "a\0b", &"x".repeat(256)] {
            assert!(plain(name).is_err(), "{name:?}");
        }
        assert!(plain(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn only_whole_segment_names_are_segments() {
        let base = Offset::from_u64(42);
        assert_eq!(segment_base(&Path::new("log").join(segment_name(base))), Some(base));
        for name in ["42", "00000000000000000042.new", "lost+found", "000000000000000000042"] {
            assert_eq!(segment_base(Path::new(name)), None, "{name}");
        }
    }
}
