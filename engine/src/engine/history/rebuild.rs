//! Rebuilding: the log is derived anew, and that takes the place of what the engine has
//! (`SPEC.md` §10).
//!
//! The checkpoint goes with it: the new one is durable when the answer comes. If the engine stops before,
//! or there is no room for it, the next opening goes on with the old one, as if nothing had been asked.
//!
//! Exports are not derived anew: what the log led to is stored, and delivered or not, as it was.

use crossbeam::channel::bounded;

use super::super::Engine;
use super::super::Progress;
use super::beside;
use super::verify::per_second;
use crate::error::EngineError;
use crate::views::RebuildView;

impl Engine {
    /// Derives the whole log anew, beside the live work, and replaces profiles, memberships and
    /// clock, and the checkpoint.
    ///
    /// Cost: a second set of profiles in memory meanwhile.
    pub fn rebuild(&self, progress: &dyn Progress) -> Result<RebuildView, EngineError> {
        let _turn = self.shared.log_turn();
        let begun = self.clock.moment();
        let next_offset = beside::at_low_priority(self, || {
            let successor = beside::derive(self, progress)?;
            let (told, written) = bounded(1);
            let (next, replaced) = self.ask(move |deriver| {
                let next = deriver.derivation.next();
                let replaced = deriver.replace(successor, next)?;
                deriver.checkpoint(Some(told))?;
                Ok::<_, EngineError>((next, replaced))
            })??;
            // What was replaced is large; it is let go here, where nobody waits.
            drop(replaced);
            self.answered(&written)?.map_err(|reason| {
                EngineError::NoRoom(format!(
                    "what was derived anew is in use, but the checkpoint of it could not be written, and \
                     the next start goes on with the old one: {reason}; make room on the disk and run \
                     `forebay rebuild` again"
                ))
            })?;
            Ok(next)
        })?;
        let elapsed = self.clock.moment().since(begun);
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let entries_per_second = per_second(next_offset, elapsed_ms);
        Ok(RebuildView { next_offset, elapsed_ms, entries_per_second })
    }
}
