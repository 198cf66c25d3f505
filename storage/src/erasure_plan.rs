//! What is being erased from the log, written down before the first byte goes.
//!
//! Which records belong to somebody is known from the whole log only. Once some of them are gone,
//! nobody can tell any more that the others belong to the same person. So the whole list is on disk,
//! as `erasure` beside the segments, before the first segment is rewritten, and is removed behind the
//! last; whoever opens the log in between goes on with it first. It holds offsets and times alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::codec::{self, Decode, Encode};
use crate::stub::{Erased, Stub};
use crate::{Offset, StorageError, directory};

const WHAT: &str = "the list of records to erase";

const FILE_NAME: &str = "erasure";

/// Records to erase, ascending by offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ErasurePlan {
    records: Vec<Erased>,
}

/// A plan as it is stored: from each offset to the next, which mostly takes a byte.
#[derive(Encode, Decode)]
struct StoredPlan {
    records: Vec<(u64, Stub)>,
}

impl ErasurePlan {
    /// The plan that was written to the log at `dir` and not finished, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, StorageError> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(bytes) => {
                let stored = codec::decode(WHAT, codec::strip_format(WHAT, &bytes)?)?;
                Ok(Some(Self::restore(stored)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("read", &path)(error)),
        }
    }

    /// This plan with further records.
    pub(crate) fn with(self, further: &[Erased]) -> Self {
        let all = self.records.iter().chain(further);
        let by_offset: BTreeMap<Offset, Erased> = all.map(|e| (e.offset, *e)).collect();
        Self { records: by_offset.into_values().collect() }
    }

    /// Writes it, durably, in place of one that is there.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), StorageError> {
        let mut bytes = vec![codec::FORMAT];
        codec::append(&mut bytes, &self.stored());
        let (path, unfinished) = (path(dir), unfinished(dir));
        let written = || -> io::Result<()> {
            let mut file = File::create(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        written().map_err(StorageError::io("write", &path))?;
        directory::sync(dir)
    }

    /// Removes what [`ErasurePlan::write`] wrote, or had begun to.
    pub(crate) fn remove(dir: &Path) -> Result<(), StorageError> {
        for path in [path(dir), unfinished(dir)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StorageError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        directory::sync(dir)
    }

    /// How many records it erases.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The last record it erases.
    pub(crate) fn last(&self) -> Option<Offset> {
        self.records.last().map(|erased| erased.offset)
    }

    /// The records that it erases within a range of offsets.
    pub(crate) fn within(&self, offsets: Range<Offset>) -> &[Erased] {
        within(&self.records, offsets)
    }

    fn stored(&self) -> StoredPlan {
        let mut last = 0;
        let gap = |erased: &Erased| {
            let offset = erased.offset.as_u64();
            (offset - std::mem::replace(&mut last, offset), erased.stub)
        };
        StoredPlan { records: self.records.iter().map(gap).collect() }
    }

    fn restore(stored: StoredPlan) -> Self {
        let mut offset = 0_u64;
        let mut add = |(gap, stub): (u64, Stub)| {
            offset = offset.wrapping_add(gap);
            Erased { offset: Offset::from_u64(offset), stub }
        };
        Self { records: stored.records.into_iter().map(&mut add).collect() }
    }
}

/// Those of `records` (ascending) within a range of offsets.
pub(crate) fn within(records: &[Erased], offsets: Range<Offset>) -> &[Erased] {
    let start = records.partition_point(|erased| erased.offset < offsets.start);
    let end = records.partition_point(|erased| erased.offset < offsets.end);
    &records[start..end.max(start)]
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

fn unfinished(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME).with_extension("new")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erased(offset: u64, timestamp_ms: Option<i64>) -> Erased {
        Erased { offset: Offset::from_u64(offset), stub: Stub { timestamp_ms } }
    }

    #[test]
    fn a_plan_comes_back_as_it_was_written_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ErasurePlan::read(dir.path()).unwrap(), None);
        let plan = ErasurePlan::default().with(&[erased(9, None), erased(3, Some(-5))]);
        plan.write(dir.path()).unwrap();
        assert_eq!(ErasurePlan::read(dir.path()).unwrap(), Some(plan.clone()));
        let more = plan.with(&[erased(3, Some(-5)), erased(u64::MAX, Some(7))]);
        more.write(dir.path()).unwrap();
        assert_eq!(ErasurePlan::read(dir.path()).unwrap(), Some(more.clone()));
        assert_eq!((more.len(), more.last()), (3, Some(Offset::from_u64(u64::MAX))));
        for _ in 0..2 {
            ErasurePlan::remove(dir.path()).unwrap();
            assert_eq!(ErasurePlan::read(dir.path()).unwrap(), None);
        }
    }

    #[test]
    fn a_range_includes_its_start_and_not_its_end() {
        let plan = ErasurePlan::default().with(&[2, 3, 5, 8].map(|offset| erased(offset, None)));
        // (from, to, the offsets within)
        let cases: [(u64, u64, &[u64]); 5] =
            [(0, 2, &[]), (0, 3, &[2]), (3, 8, &[3, 5]), (6, 8, &[]), (8, 99, &[8])];
        for (from, to, expected) in cases {
            let range = Offset::from_u64(from)..Offset::from_u64(to);
            let found: Vec<u64> =
                plan.within(range).iter().map(|erased| erased.offset.as_u64()).collect();
            assert_eq!(found, expected, "{from}..{to}");
        }
    }
}
