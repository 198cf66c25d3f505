//! What delivery says about itself: to `--drain`, to `status`, to whoever waits for it.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;

/// Where one dataflow's delivery stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DataflowState {
    /// Exports read from the backlog and not done: in flight, parked, or waiting for their turn.
    pub open: u64,
    /// Exports that are durable and not yet read.
    pub unread: u64,
    /// Requests open now.
    pub in_flight: u64,
    /// Exports waiting for their retry.
    pub parked: u64,
    /// Dead letters marked for replay and not done.
    pub replays: u64,
    /// The highest sequence known to be durable.
    pub durable: u64,
    /// Why nothing is sent, if nothing is.
    pub paused: Option<Pause>,
    /// The oldest sequence that is not done; `None` if all are.
    pub oldest: Option<u64>,
    /// The last failure, whatever came of it.
    pub last_error: Option<LastError>,
    /// When an export was last delivered: milliseconds since 1970, wall time.
    pub last_delivered_ms: Option<i64>,
}

/// A failure, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// What failed, for people; no secrets.
    pub text: String,
    /// Wall time.
    #[serde(skip)]
    pub at: Timestamp,
}

impl DataflowState {
    /// Whether nothing is left to send.
    pub const fn is_empty(&self) -> bool {
        self.open == 0 && self.unread == 0 && self.replays == 0
    }
}

/// Why a dataflow sends nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Pause {
    /// The configuration says so.
    Config,
    /// The breaker opened; probes go out.
    Breaker {
        /// How long the destination has been paused without a successful probe.
        paused_for: Duration,
        /// What failed last.
        last_error: String,
    },
    /// The destination answered 410; it rests until the next run.
    Gone {
        /// What was answered.
        last_error: String,
    },
}

/// What `--drain` wants to know of a dataflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainState {
    /// Everything durable is delivered or dead-lettered.
    Idle,
    /// There is something to send, and it is being sent or waits for its retry.
    Working,
    /// Exports wait for a destination paused by its breaker.
    PausedByBreaker {
        /// How long the destination has been paused without a successful probe.
        paused_for: Duration,
        /// What failed last.
        last_error: String,
    },
    /// Exports wait for a destination paused by 410.
    PausedBy410 {
        /// What was answered.
        last_error: String,
    },
    /// The configuration pauses the dataflow.
    PausedByConfig,
}
