//! Who is who: identities, the profiles they name, and events seen before (`SPEC.md` §2, §3).
//!
//! Records are resolved one after another, in log order, because linking depends on order. This pass
//! decides only *which* profile a record belongs to; what it does to the profile is folded later, in
//! parallel.

pub mod dedupe;
pub mod graph;
mod short_text;
pub mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

/// One profile under one merge policy: the offset of the record that first named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileId(u64);

impl ProfileId {
    /// The profile first named by the record at `offset`.
    pub const fn from_offset(offset: u64) -> Self {
        Self(offset)
    }

    /// The offset of the record that first named it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
