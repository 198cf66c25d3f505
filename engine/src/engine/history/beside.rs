//! The whole log derived once more, beside an engine that goes on working.
//!
//! Where the engine appends or delivers, one thread derives, and lets what comes in go first; where it
//! only looks, nobody waits and all cores derive.
//!
//! It cannot send: what the log led to was stored, and is delivered, by somebody else.

use std::cell::Cell;
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::super::derivation::Derivation;
use super::super::open::history;
use super::super::{Engine, Mode, Progress};
use crate::error::EngineError;
use crate::project::projection::Projection;

/// Entries that may be left to whoever takes the derivation over.
const LEFT_MAX: u64 = 2048;

/// While there are records that the engine has not derived, work and rest take turns of this length.
const TURN: Duration = Duration::from_millis(20);

/// Runs `work` on the threads that there are for it.
pub(super) fn at_low_priority<T: Send>(
    engine: &Engine,
    work: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<T, EngineError> {
    if engine.mode == Mode::Inspect {
        return work();
    }
    pool()?.install(work)
}

fn pool() -> Result<ThreadPool, EngineError> {
    let name = |_| "derives beside".to_owned();
    let built = ThreadPoolBuilder::new().num_threads(1).thread_name(name).build();
    built.map_err(|error| EngineError::Stopped(format!("no thread to derive beside: {error}")))
}

/// The log, derived anew to almost where the engine is.
///
/// Whoever calls it has the log's turn: nothing is erased meanwhile, and no configuration is taken that
/// asks for history which the engine has not kept, so that none asks for what is not foreseen here.
pub(super) fn derive(
    engine: &Engine,
    progress: &dyn Progress,
) -> Result<Box<Derivation>, EngineError> {
    let projection = Projection::new(engine.kind, history(&engine.store)?)?;
    let mut beside = Box::new(Derivation::new(projection));
    loop {
        let end = engine.shared.derived_next();
        if end - beside.next() <= LEFT_MAX {
            follow(engine, &mut beside, end)?;
            return Ok(beside);
        }
        // In parts, so that progress is seen.
        let part = (beside.next() + PART).min(end);
        follow(engine, &mut beside, part)?;
        progress.replay(beside.next(), end);
    }
}

/// Entries derived between two reports of progress.
const PART: u64 = 64 * 1024;

/// Derives up to `until`, which the engine has derived.
pub(super) fn follow(
    engine: &Engine,
    beside: &mut Derivation,
    until: u64,
) -> Result<(), EngineError> {
    let is_live = engine.mode != Mode::Inspect;
    let began = Cell::new(engine.clock.moment());
    let goes_on = || {
        if is_live && engine.clock.moment().since(began.get()) >= TURN {
            engine.shared.make_way(engine.store.log().next_offset().as_u64(), TURN);
            began.set(engine.clock.moment());
        }
        !engine.shared.is_stopping()
    };
    beside.follow(&engine.store, until, &goes_on)?;
    if engine.shared.is_stopping() {
        return Err(EngineError::Interrupted(
            "the engine stops; ask again when it runs".to_owned(),
        ));
    }
    Ok(())
}
