//! Answers about the whole of what is derived from the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::IdentityView;

/// `forebay verify`: what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationView {
    /// Whether the log leads to what the engine has.
    pub equal: bool,
    /// Every entry of the log below this offset was derived anew.
    pub next_offset: u64,
    /// Profiles compared, by merge policy.
    pub profiles: BTreeMap<String, u64>,
    /// What differs first, if anything does.
    pub difference: Option<DifferenceView>,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Entries of the log derived in a second.
    pub entries_per_second: u64,
}

/// What the engine has otherwise than the log leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceView {
    /// Every entry below this offset was applied on both sides.
    pub next_offset: u64,
    /// The merge policy that the profile is seen under, if it is about one.
    pub merge_policy: Option<String>,
    /// The profile.
    pub profile: Option<u64>,
    /// By what it is known.
    pub identities: Vec<IdentityView>,
    /// What differs: `clock`, `identities`, `attributes.person.name`, `memberships.vip`, …
    pub field: String,
    /// What the engine has; nothing if it knows nothing of it.
    pub live: Option<String>,
    /// What the log leads to.
    pub derived: Option<String>,
}

/// `forebay rebuild`: what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildView {
    /// Every entry of the log below this offset was derived anew.
    pub next_offset: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// Entries of the log derived in a second.
    pub entries_per_second: u64,
}
