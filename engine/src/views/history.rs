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

/// `forebay audience backtest`: who would have entered and left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BacktestView {
    /// Where counting begins, RFC 3339.
    pub from: String,
    /// Where it ends; this instant is not counted any more.
    pub to: String,
    /// `hour` or `day`.
    pub by: String,
    /// The merge policy whose profiles are counted.
    pub merge_policy: String,
    /// How many were in just before.
    pub members_before: u64,
    /// The hours or days.
    pub buckets: Vec<BucketView>,
    /// All who entered.
    pub entries: u64,
    /// All who left.
    pub exits: u64,
    /// All requests that a mapping would have caused.
    pub requests: u64,
    /// Where the clock stands, if the log ends before the span does.
    pub log_ends: Option<String>,
    /// The changes one by one, in order, as far as they were asked for.
    pub flips: Vec<FlipView>,
    /// Entries of the log that were derived.
    pub entries_derived: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

/// One hour or day of a backtest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketView {
    /// Where it begins, RFC 3339; it ends where the next one begins.
    pub start: String,
    /// How many entered.
    pub entries: u64,
    /// How many left.
    pub exits: u64,
    /// How many were in at its end. Profiles that merge count once from then on, without an exit.
    pub members: u64,
    /// Requests that a mapping would have caused.
    pub requests: u64,
}

/// One change of status in a backtest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlipView {
    /// When, RFC 3339, whole seconds.
    pub at: String,
    /// `realized` or `exited`.
    pub status: String,
    /// The profile.
    pub profile: u64,
    /// Its identities then.
    pub identities: Vec<IdentityView>,
}
