//! Checkpoints: what the engine derived from the log up to an offset, so that opening need not derive
//! it again.
//!
//! # Why files
//!
//! A checkpoint is written once, whole, and read once, whole. A database would write it twice, keep it
//! in pages and recover it at each opening; a file costs one write and one sync, and a generation goes
//! by one `unlink`.
//!
//! # Invariants
//!
//! 1. Under its own name a checkpoint is always whole: it is written as `<next>.new`, synced, renamed,
//!    and the directory synced. What a crash leaves unfinished is removed at the next opening.
//! 2. The name says up to where the log is derived: the offset of the first entry that is not in it.
//! 3. Earlier ones are removed only when a later one has its name, durably.
//! 4. One that finds no room leaves nothing of itself, and stops nothing. It is not begun where it would
//!    take the room that the log needs meanwhile ([`RESERVE_UNITS`]).
//! 5. Nothing in it is the only copy of anything: one that is damaged is worth as much as none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint_file::{StoredCheckpoint, TableOfContents};
use crate::compression::{Packing, pack};
use crate::fail_stop::FailStop;
use crate::{Compression, Offset, StorageError, WriteOp, codec, directory, disk, keys};

/// Bytes after which what is written so far is synced, so that the last sync does not hold up those of
/// the log for long.
const SYNC_BYTES: usize = 8 << 20;

/// Units that must be free beside a checkpoint when it is begun: one for each of the two databases that go
/// on being written, and as much again. A full disk stops those.
const RESERVE_UNITS: u64 = 4;

/// Extension of a checkpoint until all of it is durable.
const UNFINISHED: &str = "new";

/// The checkpoints of one data directory; seldom more than one.
pub struct Checkpoints {
    dir: PathBuf,
    compression: Compression,
    fail_stop: Arc<FailStop>,
}

/// A part of a checkpoint, ready to be written.
#[derive(Debug)]
pub struct PackedBlock {
    pub(crate) section: u32,
    pub(crate) packing: Packing,
    pub(crate) body_len: u32,
    pub(crate) bytes: Vec<u8>,
}

/// A checkpoint that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointStats {
    /// The offset of the first entry that is not in it.
    pub next: Offset,
    /// Bytes of its file.
    pub bytes: u64,
}

impl Checkpoints {
    /// Removes what a crash has left unfinished.
    pub(crate) fn open(
        dir: &Path,
        compression: Compression,
        fail_stop: &Arc<FailStop>,
    ) -> Result<Self, StorageError> {
        if dir.is_dir() {
            for path in directory::children(dir)? {
                if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                    fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
                }
            }
        }
        Ok(Self { dir: dir.to_owned(), compression, fail_stop: Arc::clone(fail_stop) })
    }

    /// Packs one part of a checkpoint; parts may be packed in parallel. Blocks of some 256 KiB are
    /// packed best.
    pub fn pack(&self, section: u32, body: Vec<u8>) -> Result<PackedBlock, StorageError> {
        let body_len = u32::try_from(body.len())
            .map_err(|_| StorageError::refused("a block over 4 GiB in a checkpoint"))?;
        let (packing, bytes) = pack(self.compression, body)?;
        Ok(PackedBlock { section, packing, body_len, bytes })
    }

    /// Writes the checkpoint of the log below `next`; durable on return, and earlier ones are gone.
    /// Returns its bytes.
    ///
    /// Cost: one write of all blocks, one sync every 8 MiB and two at the end.
    ///
    /// # Errors
    ///
    /// - [`StorageError::NoRoom`] if there is no room for it on the disk. Nothing is left of it, earlier
    ///   ones stay, and the store goes on. After any other error it has stopped.
    pub fn write(&self, next: Offset, blocks: &[PackedBlock]) -> Result<u64, StorageError> {
        let path = self.path(next);
        let unfinished = path.with_extension(UNFINISHED);
        let built = self.build(&path, &unfinished, blocks);
        if matches!(built, Err(StorageError::NoRoom { .. })) {
            self.remove_unfinished(&unfinished)?;
        }
        let bytes = built?;
        self.remove_below(next)?;
        Ok(bytes)
    }

    /// Writes the file `unfinished`, and gives it the name `path`; returns its bytes.
    fn build(
        &self,
        path: &Path,
        unfinished: &Path,
        blocks: &[PackedBlock],
    ) -> Result<u64, StorageError> {
        let bytes = self.fail_stop.write_if_room(WriteOp::WriteCheckpoint, path, || {
            directory::create(&self.dir)?;
            self.check_room(path, blocks)?;
            write_file(unfinished, blocks).map_err(StorageError::io("write", unfinished))
        })?;
        self.fail_stop.write_if_room(WriteOp::NameCheckpoint, path, || {
            fs::rename(unfinished, path).map_err(StorageError::io("rename", unfinished))?;
            directory::sync(&self.dir)
        })?;
        Ok(bytes)
    }

    /// Refuses to begin what would leave less than [`RESERVE_UNITS`] free: it would fail in the end, and
    /// have taken the room of everybody else until then.
    fn check_room(&self, path: &Path, blocks: &[PackedBlock]) -> Result<(), StorageError> {
        let bytes: u64 = blocks.iter().map(|block| block.bytes.len() as u64).sum();
        let free = disk::space(&self.dir)?.free;
        let reserve = RESERVE_UNITS * self.fail_stop.unit_bytes() as u64;
        if free >= bytes.saturating_add(reserve) {
            return Ok(());
        }
        let message = format!(
            "No space left on device: it takes {bytes} bytes, {free} are free, and {reserve} of \
             them are kept for the log and the state"
        );
        let source = io::Error::new(io::ErrorKind::StorageFull, message);
        Err(StorageError::NoRoom { path: path.to_owned(), source })
    }

    /// Removes what there is of a checkpoint that found no room.
    fn remove_unfinished(&self, path: &Path) -> Result<(), StorageError> {
        self.fail_stop.write(WriteOp::RemoveCheckpoint, || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StorageError::io("remove", path)(error))
            }
            _ => Ok(()),
        })
    }

    /// The newest checkpoint, if there is one.
    pub fn newest(&self) -> Result<Option<CheckpointStats>, StorageError> {
        let Some(next) = self.all()?.pop() else { return Ok(None) };
        let path = self.path(next);
        match fs::metadata(&path) {
            Ok(meta) => Ok(Some(CheckpointStats { next, bytes: meta.len() })),
            // A later one has just taken its place.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("inspect", &path)(error)),
        }
    }

    /// Opens the checkpoint of the log below `next`.
    ///
    /// # Errors
    ///
    /// - [`StorageError::UnknownFormat`] if another version of forebay wrote it.
    /// - [`StorageError::Corrupt`] if it contradicts itself.
    pub fn read(&self, next: Offset) -> Result<StoredCheckpoint, StorageError> {
        StoredCheckpoint::open(&self.path(next))
    }

    /// Removes the checkpoints below `next`, durably.
    pub fn remove_below(&self, next: Offset) -> Result<(), StorageError> {
        let mut earlier = self.all()?;
        earlier.retain(|other| *other < next);
        if earlier.is_empty() {
            return Ok(());
        }
        self.fail_stop.write(WriteOp::RemoveCheckpoint, || {
            for other in earlier {
                let path = self.path(other);
                fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
            }
            directory::sync(&self.dir)
        })
    }

    /// All that are whole, ascending.
    fn all(&self) -> Result<Vec<Offset>, StorageError> {
        if !self.dir.is_dir() {
            return Ok(Vec::new());
        }
        let paths = directory::children(&self.dir)?;
        Ok(paths.iter().filter_map(|path| keys::segment_base(path)).collect())
    }

    fn path(&self, next: Offset) -> PathBuf {
        self.dir.join(keys::segment_name(next))
    }
}

/// Writes a file with these blocks, durably; returns its bytes.
fn write_file(path: &Path, blocks: &[PackedBlock]) -> io::Result<u64> {
    let mut file = File::create(path)?;
    file.write_all(&[codec::FORMAT])?;
    let (mut written, mut unsynced) = (1, 0);
    for block in blocks {
        file.write_all(&block.bytes)?;
        written += block.bytes.len() as u64;
        unsynced += block.bytes.len();
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
    }
    let end = TableOfContents::of(blocks).to_bytes();
    file.write_all(&end)?;
    file.sync_all()?;
    Ok(written + end.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Faults;
    use crate::database::UNIT_BYTES;

    fn checkpoints(dir: &Path) -> Checkpoints {
        checkpoints_that_fail(dir, None)
    }

    fn checkpoints_that_fail(dir: &Path, faults: Option<Faults>) -> Checkpoints {
        let fail_stop = Arc::new(FailStop::new(faults, UNIT_BYTES));
        Checkpoints::open(&dir.join("checkpoint"), Compression::Zstd, &fail_stop).unwrap()
    }

    fn written(dir: &Path) -> Checkpoints {
        let all = checkpoints(dir);
        let body = |n: u8| vec![n; 1_000];
        let blocks = [(1, 1), (7, 2), (1, 3)].map(|(section, n)| all.pack(section, body(n)));
        let blocks: Vec<PackedBlock> = blocks.into_iter().map(Result::unwrap).collect();
        let bytes = all.write(Offset::from_u64(9), &blocks).unwrap();
        let newest = CheckpointStats { next: Offset::from_u64(9), bytes };
        assert_eq!(all.newest().unwrap(), Some(newest));
        all
    }

    #[test]
    fn what_was_written_is_read_by_section_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(checkpoints(dir.path()).newest().unwrap(), None);
        let all = written(dir.path());
        let found = all.read(Offset::from_u64(9)).unwrap();
        let firsts = |section| -> Vec<u8> {
            let blocks = found.section(section).iter();
            blocks.map(|block| found.read(block).unwrap()[0]).collect()
        };
        assert_eq!((firsts(1), firsts(7), firsts(2)), (vec![1, 3], vec![2], vec![]));
    }

    #[test]
    fn a_later_checkpoint_takes_the_place_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let all = written(dir.path());
        let block = all.pack(3, vec![5]).unwrap();
        all.write(Offset::from_u64(12), &[block]).unwrap();
        assert_eq!(all.all().unwrap(), [Offset::from_u64(12)]);
        fs::write(dir.path().join("checkpoint/00000000000000000020.new"), "half").unwrap();
        let all = checkpoints(dir.path());
        assert_eq!(all.newest().unwrap().unwrap().next, Offset::from_u64(12));
        assert_eq!(directory::children(&dir.path().join("checkpoint")).unwrap().len(), 1);
    }

    /// Fails at every operation of this kind.
    fn failing(at: WriteOp, kind: io::ErrorKind) -> Faults {
        Arc::new(move |op| if op == at { Err(kind.into()) } else { Ok(()) })
    }

    #[test]
    fn one_that_finds_no_room_leaves_nothing_of_itself_and_stops_nothing() {
        use io::ErrorKind::{Other, PermissionDenied, QuotaExceeded, StorageFull};

        // (the operation that fails, with what, whether writing goes on)
        let cases = [
            (WriteOp::WriteCheckpoint, StorageFull, true),
            (WriteOp::WriteCheckpoint, QuotaExceeded, true),
            (WriteOp::NameCheckpoint, StorageFull, true),
            (WriteOp::WriteCheckpoint, PermissionDenied, false),
            (WriteOp::NameCheckpoint, Other, false),
        ];
        for (op, kind, goes_on) in cases {
            let dir = tempfile::tempdir().unwrap();
            drop(written(dir.path()));
            let all = checkpoints_that_fail(dir.path(), Some(failing(op, kind)));
            let path = all.path(Offset::from_u64(12));
            fs::write(path.with_extension(UNFINISHED), "half").unwrap();
            let block = || all.pack(3, vec![5]).unwrap();
            let error = all.write(Offset::from_u64(12), &[block()]).unwrap_err();
            let is_no_room =
                matches!(&error, StorageError::NoRoom { path: told, .. } if *told == path);
            assert_eq!(is_no_room, goes_on, "{op:?} {kind:?}: {error}");
            let files = directory::children(&dir.path().join("checkpoint")).unwrap();
            assert_eq!(files.len() == 1, goes_on, "{op:?} {kind:?}: {files:?}");
            assert_eq!(all.all().unwrap(), [Offset::from_u64(9)], "the earlier one stays");
            let later = all.write(Offset::from_u64(13), &[block()]).unwrap_err();
            let is_stopped = matches!(later, StorageError::Stopped { .. });
            assert_eq!(is_stopped, !goes_on, "{op:?} {kind:?}: {later}");
        }
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let all = written(dir.path());
        let path = all.path(Offset::from_u64(9));
        let whole = fs::read(&path).unwrap();
        let reads = || -> Result<(), StorageError> {
            let found = all.read(Offset::from_u64(9))?;
            [1, 7].iter().flat_map(|section| found.section(*section)).try_for_each(|block| {
                assert_eq!(found.read(block)?.len(), 1_000);
                Ok(())
            })
        };
        reads().unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = reads().unwrap_err();
            let is_format = matches!(error, StorageError::UnknownFormat { .. });
            assert_eq!(is_format, at == 0, "byte {at}: {error}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(reads().is_err(), "cut off at {at}");
        }
    }
}
