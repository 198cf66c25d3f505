//! The segments of the log, oldest to newest, of which only the newest is always open.
//!
//! Sealed segments are opened when somebody reads them and closed when nobody has for a while. A
//! database can be opened only once at a time, so every opening goes through here.
//!
//! A new segment is created only when the one before is durable to its end. So after a crash the
//! newest segment alone says what the next offset is: behind its last chunk, or its base if it was
//! created and nothing appended.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::chunk::Totals;
use crate::database::Database;
use crate::fail_stop::FailStop;
use crate::segment::Segment;
use crate::{Offset, StorageError, WriteOp, directory, keys, replacement};

/// Sealed segments kept open after reading, for whoever reads there next.
const OPEN_SEALED_MAX: usize = 2;

/// All segments of a log.
pub(crate) struct Shelf {
    dir: PathBuf,
    fail_stop: Arc<FailStop>,
    slots: Mutex<Slots>,
}

struct Slots {
    /// Every segment by its base, and its open form while somebody has one.
    segments: BTreeMap<Offset, Weak<Segment>>,
    active: Arc<Segment>,
    recent: VecDeque<Arc<Segment>>,
    /// What each sealed segment holds, as far as it was asked.
    sealed: BTreeMap<Offset, Totals>,
}

impl Shelf {
    /// Opens the newest segment in `dir`, or creates the first.
    pub(crate) fn open(dir: &Path, fail_stop: &Arc<FailStop>) -> Result<Self, StorageError> {
        directory::create(dir)?;
        restore(dir)?;
        let mut segments = BTreeMap::new();
        for path in directory::children(dir)? {
            if let Some(base) = keys::segment_base(&path) {
                segments.insert(base, Weak::new());
            }
        }
        let active = Arc::new(match segments.last_key_value() {
            Some((base, _)) => Segment::open(&path(dir, *base), *base, fail_stop)?,
            None => create(dir, Offset::START, fail_stop)?,
        });
        segments.insert(active.base(), Arc::downgrade(&active));
        let (recent, sealed) = (VecDeque::new(), BTreeMap::new());
        let slots = Mutex::new(Slots { segments, active, recent, sealed });
        Ok(Self { dir: dir.to_owned(), fail_stop: Arc::clone(fail_stop), slots })
    }

    /// The segment that is appended to.
    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(&self.slots().active)
    }

    /// Seals the active segment, which ends at `base`, and begins the next one.
    pub(crate) fn roll(&self, base: Offset) -> Result<(), StorageError> {
        let sealed = self.active();
        sealed.sync()?;
        let active = Arc::new(create(&self.dir, base, &self.fail_stop)?);
        let mut slots = self.slots();
        slots.segments.insert(base, Arc::downgrade(&active));
        slots.active = active;
        Ok(())
    }

    /// The segment in which `offset` lies, opened if need be.
    pub(crate) fn holding(&self, offset: Offset) -> Result<Arc<Segment>, StorageError> {
        let mut slots = self.slots();
        let (base, open) = slots
            .segments
            .range(..=offset)
            .next_back()
            .map(|(base, open)| (*base, open.upgrade()))
            .ok_or_else(|| StorageError::corrupt("the log", format!("nothing at {offset}")))?;
        if let Some(segment) = open {
            return Ok(segment);
        }
        // Under the lock, because a second opening of the same database would fail.
        let segment = Arc::new(Segment::open(&path(&self.dir, base), base, &self.fail_stop)?);
        slots.segments.insert(base, Arc::downgrade(&segment));
        slots.recent.push_back(Arc::clone(&segment));
        if slots.recent.len() > OPEN_SEALED_MAX {
            slots.recent.pop_front();
        }
        Ok(segment)
    }

    /// Where the segment at `base` is.
    pub(crate) fn path(&self, base: Offset) -> PathBuf {
        path(&self.dir, base)
    }

    /// Puts what was built for the sealed segment at `base` in its place. Whoever reads the old one
    /// goes on with it; its files are gone when the last of them has ended.
    pub(crate) fn replace(&self, base: Offset) -> Result<(), StorageError> {
        let path = self.path(base);
        // Under the lock, because nobody may look for the segment while nothing has its name.
        let mut slots = self.slots();
        self.fail_stop.write(WriteOp::SwapSegment, || replacement::set_aside(&path))?;
        self.fail_stop.write(WriteOp::SwapSegment, || replacement::take_place(&path))?;
        slots.segments.insert(base, Weak::new());
        slots.sealed.remove(&base);
        let (replaced, recent): (VecDeque<_>, VecDeque<_>) =
            slots.recent.drain(..).partition(|open| open.base() == base);
        slots.recent = recent;
        drop(slots);
        // Closing a database takes time that nobody should wait for.
        drop(replaced);
        self.fail_stop.write(WriteOp::RemoveSegment, || replacement::remove_old(&path))
    }

    /// The bases of all segments, ascending.
    pub(crate) fn bases(&self) -> Vec<Offset> {
        self.slots().segments.keys().copied().collect()
    }

    /// What each segment holds, in order.
    pub(crate) fn totals(&self) -> Result<Vec<Totals>, StorageError> {
        let active = self.active().base();
        let mut all = Vec::new();
        for base in self.bases() {
            let known = self.slots().sealed.get(&base).copied();
            all.push(match known {
                Some(totals) => totals,
                None => self.count(base, active)?,
            });
        }
        Ok(all)
    }

    fn count(&self, base: Offset, active: Offset) -> Result<Totals, StorageError> {
        let (_, totals) = self.holding(base)?.end()?;
        if base < active {
            self.slots().sealed.insert(base, totals);
        }
        Ok(totals)
    }

    /// Bytes of all files of the log.
    pub(crate) fn disk_bytes(&self) -> Result<u64, StorageError> {
        directory::bytes(&self.dir)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().expect("nothing panics while it holds the segments")
    }
}

/// Repairs what a crash has left of segments that were being created or replaced.
fn restore(dir: &Path) -> Result<(), StorageError> {
    for left_over in directory::children(dir)? {
        if let Some(path) = replacement::name_of(&left_over)
            && keys::segment_base(&path).is_some()
        {
            replacement::restore(&path)?;
        }
    }
    Ok(())
}

fn path(dir: &Path, base: Offset) -> PathBuf {
    dir.join(keys::segment_name(base))
}

fn create(dir: &Path, base: Offset, fail_stop: &Arc<FailStop>) -> Result<Segment, StorageError> {
    let path = path(dir, base);
    fail_stop.write(WriteOp::OpenSegment, || {
        Database::create(&path, fail_stop)?;
        Segment::open(&path, base, fail_stop)
    })
}
