//! A backlog in memory, for tests: what was written is there after a "restart", and it can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use super::backlog::{
    Backlog, BacklogError, DeadLetter, EndedExport, Export, Origin, ProfileKey, ProgressMark,
};
use super::withdrawal::Withdrawal;
use crate::clock::Timestamp;

/// Everything of one dataflow; there is no other.
#[derive(Debug, Default)]
pub(crate) struct MemoryBacklog(Mutex<Stored>);

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) exports: BTreeMap<u64, Export>,
    pub(crate) progress: ProgressMark,
    /// By sequence, with the mark for replay.
    pub(crate) dead: BTreeMap<u64, (DeadLetter, bool)>,
    /// How exports ended, as progress told it.
    pub(crate) ended: BTreeMap<u64, EndedExport>,
    /// Writes fail from now on.
    pub(crate) is_broken: bool,
}

impl MemoryBacklog {
    pub(crate) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("no holder of the backlog panics")
    }

    /// Stores an export of `profile` and returns its sequence.
    pub(crate) fn add(&self, profile: u64) -> u64 {
        let mut stored = self.stored();
        let last = stored.exports.keys().next_back().copied();
        let sequence = last.unwrap_or(0).max(stored.progress.watermark.saturating_sub(1)) + 1;
        stored.exports.insert(sequence, export(sequence, profile));
        sequence
    }
}

pub(crate) fn export(sequence: u64, profile: u64) -> Export {
    let payload = format!("{{\"profile\":{profile},\"sequence\":{sequence}}}");
    Export {
        sequence,
        profile: ProfileKey { policy: 0, profile },
        origin: Origin::default(),
        accepted: Timestamp::from_millis(0),
        payload: Arc::from(payload.into_bytes()),
    }
}

impl Backlog for MemoryBacklog {
    fn read(&self, _: &str, from: u64, max_bytes: usize) -> Result<Vec<Export>, BacklogError> {
        let mut bytes = 0;
        let stored = self.stored();
        let fits = |export: &&Export| {
            let is_first = bytes == 0;
            bytes += export.payload.len();
            is_first || bytes <= max_bytes
        };
        Ok(stored
            .exports
            .range(from..)
            .map(|(_, export)| export)
            .take_while(fits)
            .cloned()
            .collect())
    }

    fn progress(&self, _: &str) -> Result<ProgressMark, BacklogError> {
        let stored = self.stored();
        let mut progress = stored.progress.clone();
        for sequence in stored.dead.keys() {
            progress.add_done(*sequence);
        }
        Ok(progress)
    }

    fn write_progress(&self, _: &str, mark: &ProgressMark) -> Result<(), BacklogError> {
        let mut stored = self.stored();
        if stored.is_broken {
            return Err(BacklogError("the disk is full".into()));
        }
        stored.progress = ProgressMark { ended: Vec::new(), ..mark.clone() };
        stored.ended.extend(mark.ended.iter().map(|row| (row.export.sequence, row.clone())));
        stored.exports = stored.exports.split_off(&mark.watermark);
        Ok(())
    }

    fn put_dead_letter(&self, _: &str, letter: &DeadLetter) -> Result<(), BacklogError> {
        let mut stored = self.stored();
        let mut letter = letter.clone();
        let before = stored.dead.remove(&letter.export.sequence);
        let earlier = before.map_or_else(Vec::new, |(before, _)| before.attempts);
        letter.attempts.splice(0..0, earlier);
        stored.dead.insert(letter.export.sequence, (letter, false));
        Ok(())
    }

    fn replays(&self, _: &str, from: u64, limit: usize) -> Result<Vec<Export>, BacklogError> {
        let stored = self.stored();
        let marked = stored.dead.range(from..).filter(|(_, (_, marked))| *marked);
        Ok(marked.take(limit).map(|(_, (letter, _))| letter.export.clone()).collect())
    }

    fn replayed(&self, _: &str, ended: EndedExport) -> Result<(), BacklogError> {
        let mut stored = self.stored();
        stored.dead.remove(&ended.export.sequence);
        stored.ended.insert(ended.export.sequence, ended);
        Ok(())
    }

    fn withdraw(&self, _: &str, withdrawal: &Withdrawal) -> Result<BTreeSet<u64>, BacklogError> {
        let mut gone = BTreeSet::new();
        let mut is_gone = |export: &Export| {
            let taken = withdrawal.takes(export.profile, export.origin.offset, &export.payload);
            taken && {
                gone.insert(export.sequence);
                true
            }
        };
        let mut stored = self.stored();
        stored.exports.retain(|_, export| !is_gone(export));
        stored.dead.retain(|_, (letter, _)| !is_gone(&letter.export));
        Ok(gone)
    }

    fn withdrawn(&self, _: &str, from: u64, through: u64) -> Vec<(u64, u64)> {
        let stored = self.stored();
        let is_gone = |sequence: &u64| !stored.exports.contains_key(sequence);
        (from..=through).filter(is_gone).map(|sequence| (sequence, sequence)).collect()
    }
}
