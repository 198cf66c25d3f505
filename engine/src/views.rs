//! What the engine answers: plain data, ready to be printed as a table or as JSON.
//!
//! Each type is an answer to one question of `SPEC.md` §10; names and nesting are part of the
//! contract with scripts that read `--output json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a run did and where it ended: the last line of `run --drain --output json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What became of the records of this run.
    pub records: RecordCounts,
    /// Profiles of the default merge policy at the end.
    pub profiles: u64,
    /// Memberships at the end, by audience.
    pub audiences: BTreeMap<String, AudienceCounts>,
    /// Exports of this run, by dataflow.
    pub dataflows: BTreeMap<String, DataflowCounts>,
    /// The clock at the end, RFC 3339.
    pub clock: String,
    /// The offset of the next entry.
    pub next_offset: u64,
    /// How long the run took.
    pub elapsed_ms: u64,
}

/// A record is exactly one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordCounts {
    /// Applied.
    pub accepted: u64,
    /// Refused, and kept in `rejects.ndjson`.
    pub rejected: u64,
    /// Events seen before: logged, not applied.
    pub duplicate: u64,
}

/// How many profiles are, or recently were, in an audience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceCounts {
    /// In it now.
    pub realized: u64,
    /// Left, and not yet forgotten.
    pub exited: u64,
}

/// What became of the exports of a dataflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataflowCounts {
    /// Stored in this run.
    pub exports: u64,
    /// Answered with a 2xx in this run.
    pub delivered: u64,
    /// Given up on in this run.
    pub dead_letters: u64,
    /// Attempts after the first in this run.
    pub retries: u64,
    /// Stored and not done, now.
    pub waiting: u64,
}

/// The last line of `ingest --output json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestSummary {
    /// Applied.
    pub accepted: u64,
    /// Refused, and kept in `rejects.ndjson`.
    pub rejected: u64,
    /// Events seen before.
    pub duplicate: u64,
    /// The offset of the first record of this input.
    pub first_offset: u64,
}

/// The last line of `import-audience --output json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportSummary {
    /// What became of the rows.
    #[serde(flatten)]
    pub records: IngestSummary,
    /// Members that are not in the file and left.
    pub exited: u64,
}

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
    /// The clock when this was read.
    pub clock: String,
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

/// One audience, as `forebay audience list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceView {
    /// The id.
    pub id: String,
    /// The name; the id if it has none.
    pub name: String,
    /// `rule` or `upload`.
    pub kind: String,
    /// The merge policy.
    pub merge_policy: String,
    /// The rule's text, for rules.
    pub pql: Option<String>,
    /// In it now.
    pub realized: u64,
    /// Left, and not yet forgotten.
    pub exited: u64,
}

/// One audience in full, as `forebay audience show` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudiencePage {
    /// What `forebay audience list` shows too.
    #[serde(flatten)]
    pub audience: AudienceView,
    /// What it is for; may be empty.
    pub description: String,
    /// What it reads, asks of events and waits for: the lines of `forebay check`.
    pub plan: Vec<String>,
    /// The dataflows that map it.
    pub dataflows: Vec<String>,
    /// Where in the log an import of it began that has not ended.
    pub open_import: Option<u64>,
}

/// One member of an audience, as `forebay audience members` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// The profile.
    pub profile: u64,
    /// `realized` or `exited`.
    pub status: String,
    /// RFC 3339, whole seconds.
    pub last_qualification_time: String,
    /// Its identities.
    pub identities: Vec<IdentityView>,
}

/// One dataflow, as `forebay dataflow status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataflowView {
    /// The id.
    pub id: String,
    /// The destination.
    pub destination: String,
    /// `sending`, `idle`, `paused` (by configuration), `holding` (the breaker) or `gone` (a 410).
    pub state: String,
    /// The last error seen, if the last attempt failed.
    pub last_error: Option<String>,
    /// Sequence of the newest export.
    pub last_sequence: u64,
    /// Stored and not done.
    pub waiting: u64,
    /// Open requests.
    pub in_flight: u64,
    /// Exports that wait for a retry.
    pub parked: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Since the engine started.
    pub delivered: u64,
    /// Since the engine started.
    pub retries: u64,
    /// Requests started in the last second.
    pub requests_per_second: f64,
    /// One request, milliseconds.
    pub request_ms: LatencyView,
    /// Record accepted to export delivered, milliseconds.
    pub delivery_ms: LatencyView,
}

/// Percentiles of a latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyView {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

/// One dead letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// Its export's id, as in `webhook-id`.
    pub export: String,
    /// The dataflow.
    pub dataflow: String,
    /// The export's sequence.
    pub sequence: u64,
    /// The profile.
    pub profile: u64,
    /// When it was given up, RFC 3339.
    pub died: String,
    /// Every attempt.
    pub attempts: Vec<AttemptView>,
    /// Whether a replay was asked for.
    pub replay: bool,
    /// What was to be delivered.
    pub payload: Box<serde_json::value::RawValue>,
}

/// One attempt to deliver an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// RFC 3339.
    pub at: String,
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub error: String,
    /// The first 1 KiB of the answer.
    pub answer: String,
}

/// `forebay log stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// Records in the log, control entries not counted.
    pub records: u64,
    /// The offset of the next entry.
    pub next_offset: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Stored chunks.
    pub chunks: u64,
    /// Segments.
    pub segments: u64,
}

/// `forebay status`: one screen of health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Whether a running engine answered (or the directory was opened for the question).
    pub running: bool,
    /// `wall` or `event`.
    pub clock_kind: String,
    /// The clock, RFC 3339.
    pub clock: String,
    /// Records in this run.
    pub records: RecordCounts,
    /// Profiles of the default merge policy.
    pub profiles: u64,
    /// The next window boundary, RFC 3339, if any.
    pub next_boundary: Option<String>,
    /// The log.
    pub log: LogView,
    /// Audiences.
    pub audiences: Vec<AudienceView>,
    /// Dataflows.
    pub dataflows: Vec<DataflowView>,
}
