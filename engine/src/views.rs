//! What the engine answers: plain data, ready to be printed as a table or as JSON.
//!
//! Each type is an answer to one question of `SPEC.md` §10; names and nesting are part of the
//! contract with scripts that read `--output json`.

pub mod explanation;
pub mod export;
mod history;
mod profile;

use std::collections::BTreeMap;

pub use history::{
    BacktestView, BucketView, DifferenceView, FlipView, RebuildView, VerificationView,
};
pub use profile::{IdentityView, MembershipView, ProfileView};
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

/// One dataflow, as `forebay dataflow status` shows it. Counts and rates are those since the engine
/// started; without a running engine they are zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataflowView {
    /// The id.
    pub id: String,
    /// The destination.
    pub destination: String,
    /// `sending`, `idle`, `paused` (by configuration), `holding` (the breaker), `gone` (a 410) or
    /// `stopped` (no engine runs).
    pub state: String,
    /// The last error since the engine started, whatever came of it.
    pub last_error: Option<String>,
    /// When it was, RFC 3339.
    pub last_error_at: Option<String>,
    /// Sequence of the newest export.
    pub last_sequence: u64,
    /// Stored and not done, and profiles that are marked.
    pub waiting: u64,
    /// When the record behind the oldest waiting export was accepted, RFC 3339.
    pub oldest_waiting: Option<String>,
    /// How long ago that was.
    pub backlog_age_ms: Option<u64>,
    /// Open requests.
    pub in_flight: u64,
    /// Exports that wait for a retry.
    pub parked: u64,
    /// Profiles whose export waits for room (`disk_budget`), and will show their state of then.
    pub marked: u64,
    /// How far its backfill is, while there is one.
    pub backfill: Option<BackfillView>,
    /// Bytes that stored exports take of the destination's `disk_budget`.
    pub stored_bytes: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Dead letters that are being replayed.
    pub replays: u64,
    /// Exports stored.
    pub exports: u64,
    /// Exports done by a 2xx.
    pub delivered: u64,
    /// Attempts after an export's first.
    pub retries: u64,
    /// Exports that a newer one of their profile replaced.
    pub collapsed: u64,
    /// Requests that ended, by how.
    pub attempts: AttemptCounts,
    /// Exports stored per second, over the last ten seconds.
    pub exports_per_second: f64,
    /// Requests ended per second, over the last ten seconds.
    pub requests_per_second: f64,
    /// One request, milliseconds.
    pub request_ms: LatencyView,
    /// Record accepted to export delivered, milliseconds; replays and backfills left out.
    pub delivery_ms: LatencyView,
}

/// How far a backfill is: profiles whose export is stored, or was sent live meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackfillView {
    /// Profiles in all.
    pub owed: u64,
    /// Profiles done.
    pub taken: u64,
    /// Profiles per second, over the last ten seconds.
    pub per_second: f64,
    /// How long the rest takes at that rate; `null` where nothing was taken lately.
    pub left_ms: Option<u64>,
}

/// Requests that ended, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Taken.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// Redirects, which are not followed.
    #[serde(rename = "3xx")]
    pub redirect: u64,
    /// Refused.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// The destination's failures.
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// No whole answer in time.
    pub timeout: u64,
    /// No answer for another reason: no connection, a broken one, no token.
    pub connection: u64,
    /// Of all these, probes of a paused destination.
    pub probes: u64,
}

/// One destination, as `forebay destination list` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationView {
    /// The id.
    pub id: String,
    /// The name; the id if it has none.
    pub name: String,
    /// Where requests go, the values of query parameters left out.
    pub endpoint: String,
    /// How requests authenticate: the `type` in the configuration.
    pub auth: String,
    /// Whether requests are signed.
    pub signed: bool,
    /// Requests a second, of each dataflow.
    pub max_requests_per_second: u32,
    /// Open requests, of each dataflow.
    pub max_in_flight: u64,
    /// How long a request may take.
    pub timeout_ms: u64,
    /// Attempts after the first.
    pub max_retries: u32,
    /// The dataflows that send to it.
    pub dataflows: Vec<String>,
    /// `ok`, `paused_by_breaker`, `paused_by_410`, `paused` (all its dataflows, by configuration),
    /// `unused` (no dataflow) or `stopped` (no engine runs).
    pub state: String,
    /// How long it has been paused by the breaker.
    pub paused_for_ms: Option<u64>,
    /// The last error since the engine started, whatever came of it.
    pub last_error: Option<String>,
    /// When it was, RFC 3339.
    pub last_error_at: Option<String>,
}

impl DestinationView {
    /// Whether it keeps exports waiting by its own fault.
    pub fn is_failing(&self) -> bool {
        self.state.starts_with("paused_by")
    }
}

/// What `forebay destination test` sent and what came back. Secrets are replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialView {
    /// The destination's id.
    pub destination: String,
    /// Whether the answer was a 2xx.
    pub ok: bool,
    /// What was sent.
    pub request: RequestView,
    /// What came back, if anything did.
    pub answer: Option<AnswerView>,
    /// Why nothing came back.
    pub error: Option<String>,
    /// How long it took, milliseconds.
    pub timing_ms: TimingView,
}

/// A request, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestView {
    /// The first line.
    pub line: String,
    /// Where it went.
    pub url: String,
    /// Its headers.
    pub headers: Vec<HeaderView>,
    /// Its body.
    pub body: Box<serde_json::value::RawValue>,
}

/// An answer, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerView {
    /// The status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<HeaderView>,
    /// The first 1 KiB of its body.
    pub body: String,
}

/// A header, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderView {
    /// Lower-case.
    pub name: String,
    /// The value, if it is no secret.
    pub value: String,
}

/// How long the steps of a request took, milliseconds; absent for a step that was not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimingView {
    /// Getting the authorization.
    pub token: Option<f64>,
    /// From the endpoint's name to addresses.
    pub resolve: Option<f64>,
    /// From an address to a connection.
    pub connect: Option<f64>,
    /// The handshake of TLS.
    pub tls: Option<f64>,
    /// All of it.
    pub total: f64,
}

/// Percentiles of a latency in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyView {
    /// How many were measured.
    pub count: u64,
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
    /// What the export was for: `segment`, `attribute`, `identity`, `backfill`, `replay`.
    pub causes: Vec<String>,
    /// Every attempt.
    pub attempts: Vec<AttemptView>,
    /// Whether a replay was asked for.
    pub replay: bool,
    /// What was to be delivered.
    pub payload: Box<serde_json::value::RawValue>,
}

/// Some dead letters, in order of dataflow and sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterPage {
    /// They.
    pub letters: Vec<DeadLetterView>,
    /// What to ask for the next page with; `None` if there is none.
    pub next: Option<(String, u64)>,
}

/// What `forebay dead-letters replay` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayView {
    /// Dead letters to be sent again.
    pub replayed: u64,
    /// Dead letters left as they are, because their dataflow is not configured any more.
    pub no_dataflow: u64,
    /// Dead letters left as they are, because their profile is not there any more, or its dataflow
    /// maps no audience of its merge policy any more.
    pub no_profile: u64,
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

/// How large the log is: part of `forebay status`, and with the sizes `forebay log stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// What takes how much of the disk; only in `forebay log stats`.
    #[serde(flatten)]
    pub sizes: Option<SizesView>,
}

/// What takes how much of a data directory, in bytes. Live is what would be left if it were copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SizesView {
    /// Entries that are definitions, ticks, and what else the engine tells itself.
    pub control_entries: u64,
    /// What is left of erased records.
    pub stubs: u64,
    /// When the first entry was appended: milliseconds since 1970, wall time; `null` if there is none.
    pub first_appended_ms: Option<i64>,
    /// When the last entry was appended.
    pub last_appended_ms: Option<i64>,
    /// The chunks of the log, compressed: live.
    pub log_compressed_bytes: u64,
    /// The state on disk: exports that wait, progress, journal, dead letters.
    pub state_bytes: u64,
    /// Exports that wait: live.
    pub outbox_live_bytes: u64,
    /// Exports of which it is known how they ended.
    pub journal_exports: u64,
    /// What is known of them, failed attempts included: live.
    pub journal_live_bytes: u64,
    /// The newest checkpoint on disk.
    pub checkpoint_bytes: u64,
    /// `rejects.ndjson` and what was rotated.
    pub rejects_bytes: u64,
    /// The whole data directory on disk.
    pub directory_bytes: u64,
    /// What is live of it.
    pub live_bytes: u64,
    /// How many times as much the directory takes as is live.
    pub space_amplification: f64,
}

/// The file system of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes it can hold.
    pub total_bytes: u64,
    /// Whether so little is free that somebody should make room.
    pub is_low: bool,
}

/// `forebay log cat`: one entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogEntryView {
    /// Its offset.
    pub offset: u64,
    /// When it was appended, RFC 3339, wall time.
    pub appended: String,
    /// `profile`, `event`, `membership`, `delete`, `control` or `stub`.
    pub kind: String,
    /// The line of a record, as it was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<serde_json::value::RawValue>>,
    /// A control entry, as it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Box<serde_json::value::RawValue>>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The time that an erased record carried, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
}

/// What opening a data directory goes on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The offset of the first entry that is not in it.
    pub next_offset: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Entries of the log behind it: what opening derives again.
    pub behind: u64,
}

/// `forebay log compact`: what was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionView {
    /// Records whose bytes are gone, delete records included.
    pub records: u64,
    /// Refused lines that were redacted.
    pub rejects: u64,
    /// Segments of the log that were rewritten.
    pub segments: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
}

/// `forebay status`: one screen of health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Whether a running engine answered (or the directory was opened for the question).
    pub running: bool,
    /// Whether another configuration is being taken.
    #[serde(default)]
    pub reloading: bool,
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
    /// The newest checkpoint, if there is one.
    #[serde(default)]
    pub checkpoint: Option<CheckpointView>,
    /// The disk of the data directory.
    pub disk: DiskView,
    /// Exports stored and not done, of all dataflows.
    pub waiting: u64,
    /// How long ago the record behind the oldest of them was accepted.
    pub backlog_age_ms: Option<u64>,
    /// Dead letters kept, those of dataflows that are not configured any more included.
    pub dead_letters: u64,
    /// Destinations; none without a running engine, because the log does not hold them.
    pub destinations: Vec<DestinationView>,
    /// Audiences.
    pub audiences: Vec<AudienceView>,
    /// Dataflows.
    pub dataflows: Vec<DataflowView>,
}
