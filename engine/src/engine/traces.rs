//! Which entries of the log hold data of somebody who is erased by a delete further on.
//!
//! The whole log is followed for it ([`Trace`]): a compaction takes the bytes of these entries away,
//! and whoever asks about the past before it must see them as if it had.

use forebay_storage::Store;

use super::control::Control;
use super::open::history;
use super::playback::Played;
use super::replay::Replay;
use crate::clock::{ClockKind, Timestamp};
use crate::definitions::Definitions;
use crate::error::EngineError;
use crate::project::trace::{Trace, Traces};

/// What the log below `end` holds of profiles that are erased below `end`; `None` if `goes_on`, which
/// is asked often, says no.
pub(super) fn traces(
    store: &Store,
    kind: ClockKind,
    end: u64,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Traces>, EngineError> {
    let mut trace = Trace::new(kind, &history(store)?);
    let mut definitions = Definitions::default();
    for played in Replay::new(store, 0..end) {
        if !goes_on() {
            return Ok(None);
        }
        follow(&mut trace, &mut definitions, &played?);
    }
    Ok(Some(trace.finish()))
}

fn follow(trace: &mut Trace, definitions: &mut Definitions, played: &Played) {
    match played {
        Played::Records { batch, first_offset, appended } => {
            trace.follow(batch, *first_offset, *appended);
        }
        Played::Control { control, appended, .. } => match control {
            Control::Definitions(change) => {
                definitions.apply(change);
                trace.define(definitions, *appended);
            }
            Control::Tick {} => trace.pass_time(*appended),
            Control::Advance { to_ms } => {
                trace.pass_time(Timestamp::from_millis(*to_ms));
            }
            Control::ImportBegin { .. } | Control::ImportEnd { .. } => trace.pass_entry(*appended),
            Control::Read {} => {}
        },
    }
}
