//! Which of a dataflow's exports leaves first, where each may.

use super::backlog::{Export, Origin};
use crate::detect::Causes;

/// Which exports leave before which. In the order in which they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Something happened to its profile.
    Now,
    /// Its profile was there before its dataflow, or the mapping of an audience, was: it can wait.
    Backfill,
}

/// What says who leaves first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// First by this.
    pub(super) urgency: Urgency,
    /// Then by this: its own sequence, or that of the oldest it replaced.
    pub(super) place: u64,
}

impl Turn {
    /// That of an export which replaces none, and which none waits for.
    pub(super) fn of(export: &Export) -> Self {
        Self { urgency: Urgency::of(&export.origin), place: export.sequence }
    }
}

impl Urgency {
    /// That of an export for which none waits.
    pub(super) fn of(origin: &Origin) -> Self {
        let is_backfill = Causes::from_bits(origin.causes) == Causes::BACKFILL;
        if is_backfill { Self::Backfill } else { Self::Now }
    }
}
