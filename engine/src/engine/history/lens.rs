//! The log, derived from its beginning to an offset, in a projection beside the live one.
//!
//! A [`Lens`] is at an offset what a fresh engine is that was fed everything below it, with the
//! definitions that the log had brought until then. From there it goes on entry by entry
//! ([`Lens::step`]), so that what one entry did can be seen: look, step, look again.
//!
//! Where it is known whom a question is about, everybody else's records are hidden, and of chunks that
//! name nobody asked about only the time passes ([`Sieve`]). Then the lens knows nothing of the others, and
//! of those asked about everything.
//!
//! While there is a lens nothing is erased from the log.

use std::ops::Range;
use std::sync::MutexGuard;

use super::super::Progress;
use super::super::derivation::Derivation;
use super::super::open::history_through;
use super::super::playback::Played;
use super::super::replay::Replay;
use super::History;
use super::deletes::Erased;
use super::sieve::{Sieve, Stretch, Whom};
use crate::clock::Timestamp;
use crate::error::EngineError;
use crate::project::projection::{Outcome, Projection};

/// The log up to an offset, derived.
pub(in crate::engine) struct Lens<'a> {
    history: &'a History,
    derivation: Derivation,
    hidden: Hidden,
    _turn: MutexGuard<'a, ()>,
}

/// What of the log is not told.
enum Hidden {
    /// Who is erased further on.
    Erased(Erased),
    /// Whoever is not asked about.
    Others(Sieve),
}

/// From where to where a lens is to go.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Way {
    /// Everything below is applied at once.
    pub(in crate::engine) next: u64,
    /// The last entry to which it goes on from there.
    pub(in crate::engine) last: u64,
}

impl<'a> Lens<'a> {
    /// Everything below `way.next` is applied, nothing from there on. If it is told `whom` the questions
    /// are about, it need not know of anybody else.
    ///
    /// # Errors
    ///
    /// Among others [`EngineError::Usage`] if the log does not reach that far.
    pub(in crate::engine) fn on(
        history: &'a History,
        way: Way,
        whom: Option<Whom<'_>>,
        progress: &dyn Progress,
    ) -> Result<Self, EngineError> {
        history.checked(way.next.saturating_sub(1))?;
        let turn = history.turn();
        let whom = whom.filter(|_| !history.is_whole);
        let sieve = whom.map(|whom| Sieve::new(history, whom, way)).transpose()?.flatten();
        let hidden = match sieve {
            Some(sieve) => Hidden::Others(sieve),
            None => Hidden::Erased(Erased::from(history, way.next)?),
        };
        let coming = history_through(&history.store, way.last)?;
        let derivation = Derivation::new(Projection::new(history.kind, coming)?);
        let mut lens = Self { history, derivation, hidden, _turn: turn };
        lens.advance(way.next, progress)?;
        Ok(lens)
    }

    /// Applies everything below `next`, or to the end of the log.
    pub(in crate::engine) fn advance(
        &mut self,
        next: u64,
        progress: &dyn Progress,
    ) -> Result<(), EngineError> {
        let part = self.next()..next.min(self.history.end);
        let stretches = match &self.hidden {
            Hidden::Erased(_) => vec![Stretch::Read(part)],
            Hidden::Others(sieve) => sieve.stretches(part),
        };
        for stretch in stretches {
            self.history.check_goes_on()?;
            match stretch {
                Stretch::Read(part) => self.read(part, (next, progress))?,
                Stretch::Pass { next, to } => self.derivation.pass(next, to),
            }
            progress.replay(self.next(), next);
        }
        Ok(())
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

    fn read(
        &mut self,
        part: Range<u64>,
        (end, progress): (u64, &dyn Progress),
    ) -> Result<(), EngineError> {
        for played in Replay::new(&self.history.store, part) {
            self.history.check_goes_on()?;
            self.apply(played?)?;
            progress.replay(self.next(), end);
        }
        Ok(())
    }

    fn apply(&mut self, mut played: Played) -> Result<(Played, Outcome), EngineError> {
        match &self.hidden {
            Hidden::Erased(erased) => erased.hide(&mut played),
            Hidden::Others(sieve) => sieve.hide(&mut played),
        }
        let outcome = self.derivation.apply(&played, &|_| None, None)?;
        Ok((played, outcome))
    }
}
