//! What was: questions about the past, answered from the log alone (`SPEC.md` §10).
//!
//! A part of the log is derived once more in a projection of its own ([`lens`]), beside the live one,
//! which goes on working and is not looked at; about one profile, of the chunks that name it alone
//! ([`sieve`]). So an answer depends on nothing but the log, and a
//! directory that nobody holds can be asked without deriving what it holds now.
//!
//! A rule that was not there can be tried on it too ([`backtest`]).
//!
//! Whoever is erased by a delete, wherever it stands, is in no answer: the past is told as if they had
//! never been (`SPEC.md` §3), whether their bytes are gone already or not.
//!
//! The whole log is derived anew to compare it with what the engine has, or to replace that
//! ([`verify`], [`rebuild`]).
//!
//! Nothing here can send: a history has neither a delivery nor the writing side of an outbox.

mod backtest;
mod beside;
mod buckets;
mod course;
mod deletes;
mod lens;
mod log_page;
mod moment;
mod rebuild;
mod sieve;
mod verify;

use std::path::Path;
use std::sync::{Arc, MutexGuard};

use forebay_storage::{Offset, OutlinedChunk, Store, StoreOptions};

pub use backtest::Backtest;
pub use buckets::By;
pub(super) use lens::{Lens, Way};
pub use log_page::{LogKind, LogPage, LogQuestion};
pub use moment::AsOf;
pub(super) use sieve::Whom;

use super::derivation::Derivation;
use super::open::{clock_kind, history};
use super::profile_page::{ProfileQuestion, page};
use super::replay::Replay;
use super::shared::Shared;
use super::{Engine, Progress};
use crate::clock::{Clock, ClockKind};
use crate::error::EngineError;
use crate::project::projection::{Erased, Projection};
use crate::views::ProfileView;

/// The log of one data directory, as it can be asked about the past.
pub struct History {
    store: Arc<Store>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    kind: ClockKind,
    /// Everything below is asked about.
    end: u64,
    /// Whether all of it is derived, whomever a question is about.
    is_whole: bool,
}

impl Engine {
    /// The past of this engine's data directory, up to what is derived now.
    pub fn history(&self) -> Result<History, EngineError> {
        Ok(History {
            store: Arc::clone(&self.store),
            shared: Arc::clone(&self.shared),
            clock: Arc::clone(&self.clock),
            kind: self.kind,
            end: self.ask(|deriver| deriver.derivation.next())?,
            is_whole: false,
        })
    }
}

impl History {
    /// Opens a data directory that no process holds, without deriving what it holds.
    ///
    /// # Errors
    ///
    /// [`EngineError::InUse`] if a process holds it: that one must be asked.
    pub fn open(data: &Path, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let store = Arc::new(Store::open(data, StoreOptions::default())?);
        // What a killed process wrote may be visible and not durable; what is told must stay true.
        store.log().sync()?;
        let kind = clock_kind(&store, None)?;
        let end = store.log().next_offset().as_u64();
        Ok(Self { store, shared: Arc::default(), clock, kind, end, is_whole: false })
    }

    /// The same, for questions that are to be answered from the whole log, and not from the chunks that
    /// tell of the one asked about. The answers are the same, and come later: it is what the others are
    /// checked against.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// The profile asked for, as it was; `None` if nobody had the identity.
    ///
    /// Cost: the chunks up to that moment are derived that name an identity which was ever linked with
    /// the one asked for. If one of them was deleted at any time, or nothing is known of most chunks, all
    /// are, and the log is read to its end once more if it was later that somebody was deleted.
    ///
    /// # Errors
    ///
    /// [`EngineError::Usage`] if there is no such moment, policy or dataflow.
    pub fn profile(
        &self,
        question: &ProfileQuestion,
        as_of: AsOf,
        progress: &dyn Progress,
    ) -> Result<Option<ProfileView>, EngineError> {
        let whom = Whom::Named(&question.namespace, &question.id);
        let lens = self.as_of(as_of, whom, progress)?;
        page(lens.projection(), lens.next(), question)
    }

    /// The log as it was, as far as it tells of `whom`.
    fn as_of(
        &self,
        as_of: AsOf,
        whom: Whom<'_>,
        progress: &dyn Progress,
    ) -> Result<Lens<'_>, EngineError> {
        match as_of {
            AsOf::Offset(offset) => {
                let next = self.checked(offset)?;
                let mut lens = Lens::on(self, Way { next, last: next }, Some(whom), progress)?;
                lens.step()?;
                Ok(lens)
            }
            AsOf::Time(time) => {
                let next = moment::next_after(self, time)?;
                let mut lens = Lens::on(self, Way { next, last: next }, Some(whom), progress)?;
                lens.pass_time(time);
                Ok(lens)
            }
        }
    }

    /// The store whose log it is.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The clock of the data directory.
    pub(super) const fn clock_kind(&self) -> ClockKind {
        self.kind
    }

    /// When a profile was deleted, as its number and that of its merge policy say: the offset of the
    /// delete. `None` if it was not, or the log does not tell any more.
    ///
    /// Cost: the whole log is derived.
    pub(super) fn deleted_at(&self, policy: u32, profile: u64) -> Result<Option<u64>, EngineError> {
        let _turn = self.turn();
        let projection = Projection::new(self.kind, history(&self.store)?)?;
        let mut derivation = Derivation::new(projection);
        for played in Replay::new(&self.store, 0..self.end) {
            self.check_goes_on()?;
            let outcome = derivation.apply(&played?, &|_| None, None)?;
            let is_it = |gone: &Erased| (gone.policy, gone.profile.as_u64()) == (policy, profile);
            if let Some(gone) = outcome.erased.into_iter().find(is_it) {
                return Ok(Some(gone.offset));
            }
        }
        Ok(None)
    }

    /// `offset`, if there is an entry.
    pub(super) fn checked(&self, offset: u64) -> Result<u64, EngineError> {
        match self.end.checked_sub(1) {
            Some(last) if offset <= last => Ok(offset),
            Some(last) => Err(EngineError::Usage(format!(
                "there is no offset {offset}: the log ends with offset {last}"
            ))),
            None => Err(EngineError::Usage(format!(
                "there is no offset {offset}: nothing was logged yet"
            ))),
        }
    }

    /// What is known of the chunks from the one that holds `from` on; nothing, if the whole log is to
    /// answer.
    fn outlines(
        &self,
        from: u64,
    ) -> impl Iterator<Item = Result<OutlinedChunk, EngineError>> + use<> {
        let is_whole = self.is_whole;
        let known = move |chunk: OutlinedChunk| OutlinedChunk {
            outline: chunk.outline.filter(|_| !is_whole),
            ..chunk
        };
        let outlines = self.store.log().outlines(Offset::from_u64(from));
        outlines.map(move |chunk| Ok(known(chunk?)))
    }

    /// Held while the log is read, so that no compaction changes it in between.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.shared.log_turn()
    }

    fn goes_on(&self) -> bool {
        !self.shared.is_stopping()
    }

    /// An error if the engine is asked to stop.
    fn check_goes_on(&self) -> Result<(), EngineError> {
        if self.goes_on() {
            return Ok(());
        }
        Err(EngineError::Interrupted("the engine stops; ask again when it runs".to_owned()))
    }
}
