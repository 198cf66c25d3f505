//! All dataflows' delivery, as the engine starts, feeds, asks and stops it.

use std::sync::Arc;

use super::backlog::{Backlog, BacklogError, ProfileKey};
use super::metrics::DataflowStats;
use super::settings::{DataflowSettings, DestinationSettings, Sending};
use super::state::{DataflowState, DrainState};
use super::transport::Transport;
use crate::clock::{Clock, Moment};

/// What delivery needs to start.
pub struct DeliverySetup {
    /// Random id of the event log: the first part of every export id.
    pub log_id: [u8; 16],
    /// All destinations that a dataflow names.
    pub destinations: Vec<DestinationSettings>,
    /// All dataflows.
    pub dataflows: Vec<DataflowSettings>,
    /// Where exports, progress and dead letters are kept.
    pub backlog: Arc<dyn Backlog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Seed of the backoff's jitter.
    pub seed: u64,
}

/// Why delivery did not start, or why it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// A destination cannot be used as configured.
    #[error("destination {destination}: {reason}")]
    Destination {
        /// Its id.
        destination: String,
        /// What is wrong.
        reason: String,
    },
    /// A dataflow names no destination of the setup.
    #[error("dataflow {dataflow} names no known destination")]
    NoDestination {
        /// Its id.
        dataflow: String,
    },
    /// The store failed.
    #[error(transparent)]
    Backlog(#[from] BacklogError),
    /// The system gave no thread.
    #[error("no thread for {name}")]
    Thread {
        /// What it was for.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A thread of delivery panicked.
    #[error("{thread} panicked: {message}")]
    Panicked {
        /// Which.
        thread: String,
        /// What it said.
        message: String,
    },
}

/// Running delivery of all dataflows.
pub struct Delivery {}

impl Delivery {
    /// Starts a dispatcher for each dataflow, over HTTP.
    pub fn start(_setup: DeliverySetup) -> Result<Self, DeliveryError> {
        Ok(Self {})
    }

    /// Starts with `transport` making each destination's transport: for simulation.
    pub fn start_with(
        _setup: DeliverySetup,
        _transport: impl Fn(&DestinationSettings) -> Result<Arc<dyn Transport>, DeliveryError>,
    ) -> Result<Self, DeliveryError> {
        Ok(Self {})
    }

    /// Exports of `dataflow` through `sequence` are durable. Cheap; never blocks.
    pub fn notify(&self, _dataflow: &str, _sequence: u64) {}

    /// Dead letters of `dataflow` were marked for replay.
    pub fn replay(&self, _dataflow: &str) {}

    /// Drops everything not yet sent for these profiles, which were erased, in every dataflow.
    /// Returns when no dispatcher holds a payload of theirs any more, save requests in flight.
    pub fn withdraw(&self, _profiles: &[ProfileKey]) {}

    /// Pauses or unpauses `dataflow`, as the configuration says.
    pub fn set_sending(&self, _dataflow: &str, _sending: Sending) {}

    /// The numbers of `dataflow` since start; `None` if there is no such dataflow.
    pub fn stats(&self, _dataflow: &str) -> Option<DataflowStats> {
        None
    }

    /// Where `dataflow` stands; `None` if there is no such dataflow.
    pub fn state(&self, _dataflow: &str) -> Option<DataflowState> {
        None
    }

    /// Whether `dataflow` has anything left to wait for, counting everything notified before.
    pub fn drained(&self, _dataflow: &str) -> Option<DrainState> {
        None
    }

    /// Waits until a dataflow's [`DrainState`] may have changed or delivery failed, at most until
    /// `deadline`. `seen` is what the last call returned, 0 at first.
    pub fn wait_for_change(&self, _seen: u64, _deadline: Moment) -> u64 {
        0
    }

    /// What stopped delivery, if something did. The engine must stop too (fail-stop).
    pub fn failure(&self) -> Option<Arc<DeliveryError>> {
        None
    }

    /// Stops: no new requests, those open get a moment to end, progress is written, threads joined.
    pub fn stop(self) -> Result<(), Arc<DeliveryError>> {
        Ok(())
    }
}
