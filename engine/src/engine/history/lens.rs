//! The log, derived from its beginning to an offset, in a projection beside the live one.
//!
//! A [`Lens`] is at an offset what a fresh engine is that was fed everything below it, with the
//! definitions that the log had brought until then. From there it goes on entry by entry
//! ([`Lens::step`]), so that what one entry did can be seen: look, step, look again.
//!
//! While there is a lens nothing is erased from the log.

use std::sync::MutexGuard;

use super::super::Progress;
use super::super::derivation::Derivation;
use super::super::open::history_through;
use super::super::playback::Played;
use super::super::replay::Replay;
use super::History;
use super::deletes::Erased;
use crate::clock::Timestamp;
use crate::error::EngineError;
use crate::project::projection::{Outcome, Projection};

/// The log up to an offset, derived.
pub(in crate::engine) struct Lens<'a> {
    history: &'a History,
    derivation: Derivation,
    /// Who is erased further on.
    erased: Erased,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Lens<'a> {
    /// Everything below `next` is applied, nothing from there on.
    ///
    /// # Errors
    ///
    /// Among others [`EngineError::Usage`] if the log does not reach that far.
    pub(in crate::engine) fn before(
        history: &'a History,
        next: u64,
        progress: &dyn Progress,
    ) -> Result<Self, EngineError> {
        Self::going_on(history, (next, next), progress)
    }

    /// The same, for who goes on from there until the entry at `last` is applied.
    pub(in crate::engine) fn going_on(
        history: &'a History,
        (next, last): (u64, u64),
        progress: &dyn Progress,
    ) -> Result<Self, EngineError> {
        history.checked(next.saturating_sub(1))?;
        let turn = history.turn();
        let erased = Erased::from(history, next)?;
        let projection = Projection::new(history.kind, history_through(&history.store, last)?)?;
        let derivation = Derivation::new(projection);
        let mut lens = Self { history, derivation, erased, _turn: turn };
        for played in Replay::new(&history.store, 0..next) {
            history.check_goes_on()?;
            lens.apply(played?)?;
            progress.replay(lens.next(), next);
        }
        Ok(lens)
    }

    /// Applies the next entry: it itself, and what it led to. `None` at the end of the log.
    pub(in crate::engine) fn step(&mut self) -> Result<Option<(Played, Outcome)>, EngineError> {
        let next = self.next();
        if next >= self.history.end {
            return Ok(None);
        }
        let played = Replay::new(&self.history.store, next..next + 1).next();
        played.map(|played| self.apply(played?)).transpose()
    }

    /// Moves the clock to `to` (never back) as an idle engine does, boundary by boundary.
    /// What that led to.
    pub(in crate::engine) fn pass_time(&mut self, to: Timestamp) -> Outcome {
        let offset = self.next().saturating_sub(1);
        self.derivation.projection.apply_time(offset, to)
    }

    /// Everything below is applied.
    pub(in crate::engine) fn next(&self) -> u64 {
        self.derivation.next()
    }

    /// Profiles, memberships, clock and definitions, as they were.
    pub(in crate::engine) fn projection(&self) -> &Projection {
        &self.derivation.projection
    }

    fn apply(&mut self, mut played: Played) -> Result<(Played, Outcome), EngineError> {
        self.erased.hide(&mut played);
        let outcome = self.derivation.apply(&played, &|_| None, None)?;
        Ok((played, outcome))
    }
}
