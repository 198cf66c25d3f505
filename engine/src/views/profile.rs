//! Answers about one profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One profile, as `forebay profile` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProfileView {
    /// The offset of the record that first named it.
    pub profile: u64,
    /// The merge policy it is seen under.
    pub merge_policy: String,
    /// The attributes, nested, values as received.
    pub attributes: Box<serde_json::value::RawValue>,
    /// Ids by lower-case namespace, in the order first seen.
    pub identities: Vec<IdentityView>,
    /// Memberships, by audience.
    pub memberships: BTreeMap<String, MembershipView>,
    /// What each dataflow would be sent of it: the payload, by dataflow.
    #[serde(default)]
    pub payloads: BTreeMap<String, Box<serde_json::value::RawValue>>,
    /// The clock when this was read, or as of then.
    pub clock: String,
    /// Every entry of the log below this offset is in it, and no other.
    #[serde(default)]
    pub next_offset: u64,
}

/// One identity of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityView {
    /// Lower-case.
    pub namespace: String,
    /// As received.
    pub id: String,
}

/// One membership of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipView {
    /// `realized` or `exited`.
    pub status: String,
    /// RFC 3339, whole seconds.
    pub last_qualification_time: String,
}
