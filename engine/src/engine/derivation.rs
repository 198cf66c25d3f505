//! What the log has led to up to one offset: the projection, and the definitions in effect there.
//!
//! It reads entries and gives their outcome, stores nothing and asks no clock. The deriver owns the
//! one whose exports count; a reload has another one folded beside it, which takes its place when it
//! has caught up.

use forebay_storage::Store;

use super::control::Control;
use super::playback::Played;
use super::read_ahead::ReadAhead;
use super::replay::Replay;
use crate::clock::Timestamp;
use crate::definitions::Definitions;
use crate::error::EngineError;
use crate::project::projection::{Ahead, MarkOf, Outcome, Projection};
use crate::record::RecordBatch;

/// The log, derived from its start to an offset.
pub(super) struct Derivation {
    /// Profiles and everything about them.
    pub projection: Projection,
    definitions: Definitions,
    /// Every state of the definitions so far, in order.
    history: Vec<Definitions>,
    next: u64,
}

impl Derivation {
    /// Nothing is derived yet.
    pub(super) fn new(projection: Projection) -> Self {
        Self { projection, definitions: Definitions::default(), history: Vec::new(), next: 0 }
    }

    /// What a checkpoint at `next` holds; `history` are all definitions below it, in order.
    pub(super) fn restored(projection: Projection, history: Vec<Definitions>, next: u64) -> Self {
        let definitions = history.last().cloned().unwrap_or_default();
        Self { projection, definitions, history, next }
    }

    /// Every state of the definitions so far, in order.
    pub(super) fn history(&self) -> &[Definitions] {
        &self.history
    }

    /// The definitions in effect.
    pub(super) fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// Everything below is derived.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Folds records, or lines that are none: what was read of the log from `first_offset` on. What comes
    /// next is looked up meanwhile, if it is there.
    pub(super) fn records(
        &mut self,
        batch: &RecordBatch,
        first_offset: u64,
        next_offset: u64,
        appended: Timestamp,
        ahead: Option<Ahead<'_>>,
    ) -> Outcome {
        self.next = next_offset;
        self.projection.apply_batch(batch, first_offset, appended, ahead)
    }

    /// Lets time pass to `to`, all that entries below `next` do of which nothing else is to be known.
    pub(super) fn pass(&mut self, next: u64, to: Timestamp) {
        self.next = next;
        self.projection.apply_time(next.saturating_sub(1), to);
    }

    /// Applies a control entry.
    pub(super) fn control(
        &mut self,
        control: &Control,
        offset: u64,
        appended: Timestamp,
        mark_of: MarkOf<'_>,
    ) -> Result<Outcome, EngineError> {
        self.next = offset + 1;
        Ok(match control {
            Control::Definitions(change) => {
                self.definitions.apply(change);
                self.history.push(self.definitions.clone());
                self.projection.apply_definitions(&self.definitions, offset, appended, mark_of)?
            }
            Control::Tick {} => self.projection.apply_time(offset, appended),
            Control::Advance { to_ms } => {
                self.projection.apply_time(offset, Timestamp::from_millis(*to_ms))
            }
            Control::Read {} => Outcome::default(),
            Control::ImportBegin { audience } => {
                self.projection.begin_import(audience, offset, appended)
            }
            Control::ImportEnd { audience, begin } => {
                self.projection.end_import((audience, *begin), offset, appended)
            }
        })
    }

    /// Applies what was read of the log. What comes next is looked up meanwhile, if it is there.
    pub(super) fn apply(
        &mut self,
        played: &Played,
        mark_of: MarkOf<'_>,
        ahead: Option<Ahead<'_>>,
    ) -> Result<Outcome, EngineError> {
        match played {
            Played::Records { batch, first_offset, appended } => {
                let next_offset = first_offset + batch.len() as u64;
                Ok(self.records(batch, *first_offset, next_offset, *appended, ahead))
            }
            Played::Control { control, offset, appended } => {
                self.control(control, *offset, *appended, mark_of)
            }
        }
    }

    /// Derives what the log holds from here to `until`, as long as `goes_on` says so. What that leads
    /// to has been stored by somebody else.
    pub(super) fn follow(
        &mut self,
        store: &Store,
        until: u64,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(), EngineError> {
        let mark_of = |lane: &str| store.outbox().lane(lane);
        self.projection.omit_payloads_below(until);
        let mut replay = ReadAhead::start(Replay::new(store, self.next..until))?;
        while let Some(entry) = replay.next() {
            if !goes_on() {
                break;
            }
            self.apply(&entry?.0, &mark_of, replay.ahead())?;
        }
        Ok(())
    }
}
