//! A checkpoint of the whole derivation: what the deriver knows at one offset, to bytes and back.
//!
//! # What is true of one
//!
//! Its cut begins between two jobs of the deriver, when everything below its offset is derived, and the
//! exports and marks that follow from it are durable. It is made in slices, between the jobs that follow,
//! and shows what there was when it began. So opening goes on behind it: nothing before it
//! is exported again, nothing is left out. What the log tells beside its entries (how far inputs and
//! rejects were accepted, which deletes wait for a compaction, which definitions there were) is in it
//! too, so that the log before it need not be read at all.
//!
//! # When it is not used
//!
//! Where it belongs to another log or clock, where it is damaged or of another version, where it does
//! not have the history that the definitions ask for: then the log is read from its beginning. That
//! takes longer and gives the same.

use forebay_storage::{
    Offset, PackedBlock, StorageError, Store, StoredCheckpoint, read_value, write_value,
};
use serde::{Deserialize, Serialize};

use super::derivation::Derivation;
use super::replay::Marks;
use crate::clock::{ClockKind, Timestamp};
use crate::definitions::Definitions;
use crate::input::Position;
use crate::project::projection::{NotRestored, Projection, Section, Share, Slice};
use crate::record::RejectsMark;

const WHAT: &str = "a checkpoint";

/// Version of everything in a checkpoint: raised whenever the form of anything saved changes. An older
/// one is not read, but made anew from the log.
const FORMAT: u32 = 1;

/// What is known beside the projection.
#[derive(Serialize, Deserialize)]
struct Head {
    log_id: [u8; 16],
    is_event_clock: bool,
    next: u64,
    positions: Vec<Position>,
    rejects: RejectsMark,
    appended: Timestamp,
    deletes: Vec<(u64, Timestamp)>,
    /// Their JSON texts.
    history: Vec<String>,
}

/// What the deriver knows at one offset.
pub(super) struct Known<'a> {
    /// The projection, and what it was derived with.
    pub derivation: &'a mut Derivation,
    /// What `now` means.
    pub kind: ClockKind,
    /// What the log told beside its entries.
    pub marks: &'a Marks,
    /// The deletes whose bytes are still there.
    pub deletes: Vec<(u64, Timestamp)>,
}

/// A checkpoint that is being cut, or ready to be written.
pub(super) struct Cut {
    /// The first entry that is not in it.
    pub next: u64,
    /// What there is of it; all, once it is complete.
    pub blocks: Vec<PackedBlock>,
}

/// Where opening goes on.
pub(super) struct Loaded {
    /// What was derived.
    pub derivation: Derivation,
    /// What the log told beside its entries.
    pub marks: Marks,
    /// The deletes whose bytes are still there.
    pub deletes: Vec<(u64, Timestamp)>,
}

/// Why the newest checkpoint is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unused {
    /// The projection in it is not.
    #[error(transparent)]
    Projection(#[from] NotRestored),
    /// It says itself that it is not of this log.
    #[error("it {0}")]
    Foreign(&'static str),
}

impl From<StorageError> for Unused {
    fn from(error: StorageError) -> Self {
        Self::Projection(error.into())
    }
}

impl Known<'_> {
    /// Begins to turn it into bytes; [`Cut::go_on`] does the rest.
    pub(super) fn cut(self, store: &Store) -> Result<Cut, StorageError> {
        let mut body = Vec::new();
        write_value(&mut body, &FORMAT);
        write_value(&mut body, &self.head(store));
        let blocks = vec![store.checkpoints().pack(Section::CALLER.number(), body)?];
        let next = self.derivation.next();
        self.derivation.projection.begin_cut(next);
        Ok(Cut { next, blocks })
    }

    fn head(&self, store: &Store) -> Head {
        let json = |definitions| serde_json::to_string(definitions).expect("definitions are JSON");
        Head {
            log_id: store.meta().log_id(),
            is_event_clock: self.kind == ClockKind::Event,
            next: self.derivation.next(),
            positions: self.marks.positions.values().cloned().collect(),
            rejects: self.marks.rejects,
            appended: self.marks.appended,
            deletes: self.deletes.clone(),
            history: self.derivation.history().iter().map(json).collect(),
        }
    }
}

impl Cut {
    /// Saves a share more, on all cores; whether it is complete.
    pub(super) fn go_on(
        &mut self,
        projection: &mut Projection,
        store: &Store,
        share: Share,
    ) -> Result<bool, StorageError> {
        let checkpoints = store.checkpoints();
        let pack = |section: Section, body| checkpoints.pack(section.number(), body);
        let Slice { blocks, is_complete } = projection.cut_on(share, &pack);
        for block in blocks {
            self.blocks.push(block?);
        }
        Ok(is_complete)
    }
}

/// Reads the checkpoint of the log below `next`. `coming` tells all definitions that take effect
/// behind it, in order, when it is given those that were in effect before.
pub(super) fn load(
    store: &Store,
    kind: ClockKind,
    next: Offset,
    coming: impl FnOnce(&[Definitions]) -> Vec<Definitions>,
) -> Result<Loaded, Unused> {
    let file = store.checkpoints().read(next)?;
    let head = head(&file)?;
    if head.log_id != store.meta().log_id() {
        return Err(Unused::Foreign("belongs to another data directory"));
    }
    if head.is_event_clock != (kind == ClockKind::Event) {
        return Err(Unused::Foreign("was made under the other clock"));
    }
    if head.next != next.as_u64() || next > store.log().next_offset() {
        return Err(Unused::Foreign("reaches further than the log"));
    }
    let history = head.history.iter().map(|json| serde_json::from_str(json));
    let history: Vec<Definitions> = history
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(format!("its definitions cannot be read: {error}")))?;
    let projection = Projection::restore(kind, coming(&history), &file)?;
    let positions = head.positions.into_iter();
    Ok(Loaded {
        derivation: Derivation::restored(projection, history, head.next),
        marks: Marks {
            positions: positions.map(|position| (position.source.clone(), position)).collect(),
            rejects: head.rejects,
            appended: head.appended,
            next: head.next,
        },
        deletes: head.deletes,
    })
}

fn head(file: &StoredCheckpoint) -> Result<Head, Unused> {
    let [block] = file.section(Section::CALLER.number()) else {
        return Err(damaged("it does not say what it is of").into());
    };
    let body = file.read(block)?;
    let mut rest = &body[..];
    let format: u32 = read_value(WHAT, &mut rest)?;
    if format != FORMAT {
        return Err(Unused::Foreign("was written by another version of forebay"));
    }
    Ok(read_value(WHAT, &mut rest)?)
}

fn damaged(detail: impl Into<String>) -> StorageError {
    StorageError::Corrupt { what: WHAT, detail: detail.into() }
}
