//! Marked profiles: who is owed an export of its current state once there is room for one.
//!
//! Past a limit (the engine's affair) exports are not stored any more, or one dead endpoint would
//! fill the disk. What is kept instead is one small row a profile, however often it changes. Rows are
//! written and removed in the batch that derives the change, or stores the export, so a crash never
//! separates the two. They are counted there as well: nobody reads them to show a number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sled::{Batch, Tree};

use super::Outbox;
use crate::codec::{Decode, Encode};
use crate::parts::{self, Scan};
use crate::{StorageError, WriteOp, codec, keys};

const WHAT: &str = "a marked profile";
const COUNT: &str = "a count of marked profiles";

/// Marks dropped in one batch, so that other writers do not wait for long.
const FORGET_MAX: usize = 1024;

/// Who is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey {
    /// Under which merge policy, as a number the engine gave it.
    pub policy: u32,
    /// Which profile.
    pub profile: u64,
}

/// What is kept of the exports that a mark stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    /// Why, as a set of bits: of all of them.
    pub causes: u8,
    /// Offset of the log entry that caused the first.
    pub offset: u64,
    /// The instant of the window boundary whose step that was; `None`: the entry's own.
    pub boundary_ms: Option<i64>,
    /// When the record behind the first was accepted, in milliseconds since the epoch.
    pub accepted_ms: i64,
}

/// What becomes of the marks of one dataflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowMarks {
    /// Which dataflow.
    pub dataflow: String,
    /// Profiles to mark; one that is marked already keeps its offset and time and adds the causes.
    pub set: BTreeMap<MarkKey, Mark>,
    /// Profiles whose marks go. None of them is set in the same batch.
    pub taken: BTreeSet<MarkKey>,
}

impl Outbox {
    /// How many profiles are marked for `dataflow`.
    pub fn marked(&self, dataflow: &str) -> u64 {
        self.marks().marked.get(dataflow).copied().unwrap_or(0)
    }

    /// The dataflows that profiles are marked for, by name.
    pub fn marked_dataflows(&self) -> Vec<String> {
        let marks = self.marks();
        let some = marks.marked.iter().filter(|(_, count)| **count > 0);
        let mut dataflows: Vec<String> = some.map(|(dataflow, _)| dataflow.clone()).collect();
        dataflows.sort_unstable();
        dataflows
    }

    /// How many profiles are marked for `dataflow`, and the sequence its next export gets: both of one
    /// moment, so that what was taken from the marks is in one or the other.
    pub fn marked_and_next_sequence(&self, dataflow: &str) -> (u64, u64) {
        let marks = self.marks();
        let counters = marks.flows.get(dataflow).copied().unwrap_or_default();
        (marks.marked.get(dataflow).copied().unwrap_or(0), counters.next_sequence)
    }

    /// The mark of a profile, if it has one. Cost: one look-up, or none if nobody is marked.
    pub fn mark(&self, dataflow: &str, key: MarkKey) -> Result<Option<Mark>, StorageError> {
        if self.marked(dataflow) == 0 {
            return Ok(None);
        }
        stored(&self.state.trees()?.outbox, dataflow, key)
    }

    /// Up to `limit` marked profiles of `dataflow`, by policy and profile, behind `after`.
    pub fn marked_profiles(
        &self,
        dataflow: &str,
        after: Option<MarkKey>,
        limit: usize,
    ) -> Result<Vec<(MarkKey, Mark)>, StorageError> {
        let start = match after {
            Some(key) => keys::part(&keys::marked(dataflow, key.policy, key.profile)?, u16::MAX),
            None => keys::marked_start(dataflow)?,
        };
        let trees = self.state.trees()?;
        let scan = Scan::new(WHAT, &trees.outbox, start..keys::marked_end(dataflow)?);
        scan.take(limit)
            .map(|item| {
                let (key, value) = item?;
                let (policy, profile) = keys::split_marked(&key)?;
                Ok((MarkKey { policy, profile }, codec::decode(WHAT, value.bytes())?))
            })
            .collect()
    }

    /// Drops every mark of `dataflow`. In several batches; after a crash some may be left.
    pub fn forget_marked(&self, dataflow: &str) -> Result<(), StorageError> {
        while self.marked(dataflow) > 0 {
            let page = self.marked_profiles(dataflow, None, FORGET_MAX)?;
            if page.is_empty() {
                return Err(StorageError::corrupt(COUNT, "it counts some, and there are none"));
            }
            let taken = page.into_iter().map(|(key, _)| key).collect();
            let flow = FlowMarks { dataflow: dataflow.to_owned(), taken, ..FlowMarks::default() };
            let mut marks = self.marks();
            let trees = self.state.trees()?;
            let (mut batch, mut counts) = (Batch::default(), marks.marked.clone());
            write(&trees.outbox, &mut batch, &flow, &mut counts)?;
            trees.apply(WriteOp::StoreExports, &trees.outbox, batch)?;
            marks.marked = counts;
        }
        Ok(())
    }
}

/// Reads how many profiles are marked, by dataflow.
pub(super) fn counts(tree: &Tree) -> Result<HashMap<String, u64>, StorageError> {
    let counts = Scan::new(COUNT, tree, keys::marked_counts());
    counts
        .map(|item| {
            let (key, value) = item?;
            Ok((keys::name_behind_letter(&key)?, codec::decode(COUNT, value.bytes())?))
        })
        .collect()
}

/// Adds to `batch` what `flow` changes, and to `counts` what that leads to; returns about how many
/// bytes are written.
pub(super) fn write(
    tree: &Tree,
    batch: &mut Batch,
    flow: &FlowMarks,
    counts: &mut HashMap<String, u64>,
) -> Result<u64, StorageError> {
    let count = counts.entry(flow.dataflow.clone()).or_default();
    let mut written = 0;
    for (key, mark) in &flow.set {
        let known = stored(tree, &flow.dataflow, *key)?;
        let united = known.map_or(*mark, |known| known.united(*mark));
        if known != Some(united) {
            let place = keys::marked(&flow.dataflow, key.policy, key.profile)?;
            // A mark is always one part, so that nothing of an older one is left behind it.
            written += parts::insert(batch, &place, &codec::encode(&united));
        }
        *count += u64::from(known.is_none());
    }
    for key in &flow.taken {
        let place = keys::marked(&flow.dataflow, key.policy, key.profile)?;
        let was_marked = parts::remove(tree, batch, &place)? > 0;
        *count = count.saturating_sub(u64::from(was_marked));
    }
    let key = keys::marked_count(&flow.dataflow)?;
    Ok(written + parts::insert(batch, &key, &codec::encode(&*count)))
}

impl Mark {
    /// This mark, and the causes of a later one.
    fn united(self, later: Self) -> Self {
        Self { causes: self.causes | later.causes, ..self }
    }
}

fn stored(tree: &Tree, dataflow: &str, key: MarkKey) -> Result<Option<Mark>, StorageError> {
    let place = keys::marked(dataflow, key.policy, key.profile)?;
    let value = parts::get(WHAT, tree, &place)?;
    value.map(|value| codec::decode(WHAT, value.bytes())).transpose()
}
