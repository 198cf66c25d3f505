//! What `forebay explain` answers (`SPEC.md` §10).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::IdentityView;

/// `forebay explain --profile`: why a profile is, or is not, exported to a dataflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandingView {
    /// The profile: the offset of the record that first named it.
    pub profile: u64,
    /// The merge policy it is seen under.
    pub merge_policy: String,
    /// Its identities.
    pub identities: Vec<IdentityView>,
    /// The dataflow.
    pub dataflow: String,
    /// Its destination.
    pub destination: String,
    /// The clock when this was read, RFC 3339.
    pub clock: String,
    /// Whether the profile is in a mapped audience, so that attribute and identity changes export it.
    pub realized: bool,
    /// The causes that are switched on.
    pub triggers: Vec<String>,
    /// The mapped audiences of the merge policy.
    pub audiences: Vec<MappedAudienceView>,
    /// The mapped attributes.
    pub attributes: Vec<MappedAttributeView>,
    /// How many exports of the backfill come before the one that it is owed; `None` if none is owed.
    pub backfill_ahead: Option<u64>,
    /// `sending`, `idle`, `paused`, `holding`, `gone` or `stopped`, as `forebay dataflow status` has it.
    pub state: String,
    /// Its exports that are stored and not done, in the order in which they leave.
    pub open: Vec<OpenExportView>,
    /// Its newest export of which something is kept.
    pub last_export: Option<KnownExportView>,
    /// What follows from all that.
    pub findings: Vec<FindingView>,
}

/// A profile's standing in an audience that a dataflow maps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MappedAudienceView {
    /// The audience.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `rule` or `upload`.
    pub kind: String,
    /// `realized`, `exited`, or `None`: never in, or forgotten since.
    pub status: Option<String>,
    /// Since when, RFC 3339, whole seconds.
    pub since: Option<String>,
    /// The next instant at which it is evaluated if nothing is recorded before.
    pub next_boundary: Option<String>,
    /// What the clock alone does to it, in words; empty if nothing.
    pub by_clock: String,
    /// The rule, clause by clause; of rules only.
    pub rule: Option<ClauseView>,
}

/// A mapped attribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MappedAttributeView {
    /// The mapped path.
    pub path: String,
    /// Whether the profile has something there.
    pub present: bool,
    /// The record that wrote there last.
    pub written_at: Option<u64>,
    /// When that value was true, RFC 3339.
    pub written: Option<String>,
}

/// A clause of a rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClauseView {
    /// `all`, `any`, `not`, `if` or `test`.
    pub kind: String,
    /// As it was written.
    pub text: String,
    /// Whether it holds: after the step, where one is explained.
    pub holds: bool,
    /// Whether it held before the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
    /// The earliest instant at which the clock alone may change what it compares, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_at: Option<String>,
    /// What it compared; of tests only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueView>,
    /// Its parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<ClauseView>,
}

/// A value that a clause compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValueView {
    /// What it is the value of.
    pub of: String,
    /// The value; `null` if there is none, or if it is too long to be shown.
    pub value: Box<RawValue>,
    /// How long it is, if it is too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The value before the step.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub before: Option<Box<RawValue>>,
}

/// An export that is stored and not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenExportView {
    /// Its id.
    pub export: String,
    /// Its number in the dataflow.
    pub sequence: u64,
    /// The entry of the log that caused it.
    pub offset: u64,
    /// Why.
    pub causes: Vec<String>,
    /// `in_flight`, `next`, `retry` (it waits for its retry), `behind` (an earlier export of its
    /// profile), or `stored` (not read yet, or nothing sends).
    pub state: String,
    /// The export that it waits behind.
    pub behind: Option<String>,
    /// When its retry is due, RFC 3339.
    pub retry_at: Option<String>,
    /// Attempts that failed.
    pub failures: u32,
    /// What the last of them met, if that is known.
    pub last_error: Option<String>,
}

/// An export and how it ended, as far as that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownExportView {
    /// Its id.
    pub export: String,
    /// Its number in the dataflow.
    pub sequence: u64,
    /// The entry of the log that caused it.
    pub offset: u64,
    /// Why.
    pub causes: Vec<String>,
    /// `waiting`, `delivered`, `dead_letter`, `dead_letter_gone` (purged, or replayed as a new export),
    /// `superseded` or `withdrawn`.
    pub outcome: String,
    /// Since when, RFC 3339; of a waiting one, when its record was accepted.
    pub at: String,
}

/// One thing that follows: a word for scripts, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// The word; it stays the same.
    pub code: String,
    /// The sentence.
    pub text: String,
}

/// `null` is a value here, and not the absence of one.
pub(super) fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::ValueView;

    #[test]
    fn nothing_before_is_told_from_null_before() {
        for text in [r#"{"of":"a","value":1,"before":null}"#, r#"{"of":"a","value":null}"#] {
            let view: ValueView = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&view).unwrap(), text);
        }
    }
}
