//! What `forebay explain EXPORT_ID` answers (`SPEC.md` §10).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::explanation::{ClauseView, given};
use super::{AttemptView, IdentityView, MembershipView};

/// An export: where it came from, why, what it says, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportView {
    /// Its id.
    pub export: String,
    /// The dataflow.
    pub dataflow: String,
    /// Its number in the dataflow.
    pub sequence: u64,
    /// What became of it.
    pub outcome: OutcomeView,
    /// The attempts that details are kept of, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Where it came from; `None` if that is not kept any more.
    pub origin: Option<OriginView>,
    /// The request body; `None` if it is not kept and cannot be derived again.
    pub payload: Option<Box<RawValue>>,
    /// `stored`, `derived` (again, from the log), or `None` without a payload.
    pub payload_from: Option<String>,
}

/// What became of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeView {
    /// `waiting`, `delivered`, `dead_letter`, `superseded`, `withdrawn` or `not_kept`.
    pub state: String,
    /// Since when, RFC 3339.
    pub at: Option<String>,
    /// The status that a delivery was answered with.
    pub status: Option<u16>,
    /// When its retry is due, RFC 3339.
    pub retry_at: Option<String>,
    /// Attempts that failed.
    pub failures: u32,
    /// In words.
    pub text: String,
}

/// The step behind an export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OriginView {
    /// The profile.
    pub profile: u64,
    /// The merge policy that it is a profile under.
    pub merge_policy: String,
    /// Its identities, after the step.
    pub identities: Vec<IdentityView>,
    /// Why it was exported.
    pub causes: Vec<CauseView>,
    /// The entry of the log: the one whose step it is, or that moved the clock past the boundary.
    pub entry: EntryView,
    /// The window boundary whose step it is, RFC 3339; `None`: the entry's own step.
    pub boundary: Option<String>,
    /// The last entry that was applied when it was rendered, if not in its step.
    pub rendered_after: Option<u64>,
    /// The clock in the step, RFC 3339.
    pub now: String,
    /// What the step did to the profile.
    pub changes: ChangesView,
    /// What cannot be told, in words.
    pub notes: Vec<String>,
}

/// One cause of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseView {
    /// `segment`, `attribute`, `identity`, `backfill` or `replay`.
    pub cause: String,
    /// The mapped audiences it is about.
    pub audiences: Vec<String>,
    /// The mapped attributes it is about.
    pub attributes: Vec<String>,
    /// In words.
    pub text: String,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its offset.
    pub offset: u64,
    /// `profile`, `event`, `membership`, `delete`, `erased`, or of a control entry `definitions`,
    /// `tick`, `advance`, `read`, `import_begin`, `import_end`.
    pub kind: String,
    /// The timestamp of a record, RFC 3339.
    pub timestamp: Option<String>,
    /// When it was appended, RFC 3339, wall time.
    pub appended: String,
    /// The line, as it was received; of records that are not erased.
    pub line: Option<String>,
    /// Where the line was read, as far as that is known.
    pub source: Option<SourceView>,
}

/// Where a line was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// The file.
    pub file: String,
    /// The first line that it can be, from 1.
    pub first_line: u64,
    /// The last line that it can be; the same if the line is known.
    pub last_line: u64,
    /// Where the part of the file begins that it was read in, in uncompressed bytes.
    pub first_byte: u64,
    /// Where that part ends.
    pub end_byte: u64,
}

/// What a step did to a profile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChangesView {
    /// Whether the profile is new.
    pub is_new: bool,
    /// Attributes that were written, or that show something else.
    pub attributes: Vec<AttributeChangeView>,
    /// Identities that joined.
    pub joined: Vec<IdentityView>,
    /// Identities that were dropped.
    pub dropped: Vec<IdentityView>,
    /// Profiles that were merged into this one.
    pub merged: Vec<u64>,
    /// Memberships that changed, with the rules behind them.
    pub memberships: Vec<MembershipChangeView>,
}

/// An attribute before and after a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttributeChangeView {
    /// Its path.
    pub path: String,
    /// What stood there before; absent if nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub before: Option<Box<RawValue>>,
    /// What stands there after; absent if nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub after: Option<Box<RawValue>>,
}

/// A membership before and after a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MembershipChangeView {
    /// The audience.
    pub audience: String,
    /// Whether the dataflow maps it.
    pub mapped: bool,
    /// The standing before; absent: never in, or forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<MembershipView>,
    /// The standing after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<MembershipView>,
    /// The rule, clause by clause, before and after; of rules only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<ClauseView>,
}
