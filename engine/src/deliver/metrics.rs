//! Counters and latencies of one dataflow.

use serde::Serialize;

/// A dataflow's numbers since the engine started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataflowStats {
    /// Exports done by a 2xx.
    pub delivered: u64,
    /// Exports given up on.
    pub dead_letters: u64,
    /// Attempts after an export's first, probes and token renewals aside.
    pub retries: u64,
    /// Requests that ended, by how.
    pub outcomes: OutcomeCounts,
    /// Exports that a newer one of their profile replaced.
    pub collapsed: u64,
    /// Requests ended per second, over the last ten seconds.
    pub requests_per_second: f64,
    /// From the request's start to its outcome.
    pub request_latency: Latency,
    /// From the record's acceptance to its export's delivery.
    pub delivery_latency: Latency,
}

/// Requests that ended, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeCounts {
    /// 2xx.
    pub success: u64,
    /// 3xx, which are not followed.
    pub redirect: u64,
    /// 4xx.
    pub client_error: u64,
    /// 5xx and statuses that do not exist.
    pub server_error: u64,
    /// No whole answer in time.
    pub timeout: u64,
    /// No answer for another reason.
    pub connection: u64,
    /// Of all these, requests that were probes.
    pub probes: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Values recorded.
    pub count: u64,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 95 of 100 are at most this.
    pub p95_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}
