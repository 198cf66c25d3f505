//! What can go wrong in delivery as a whole; what goes wrong with one request is an
//! [`Outcome`](super::outcome::Outcome).

use super::backlog::BacklogError;

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
    /// A thread of delivery panicked; what it said went where panics go.
    #[error("{thread} panicked")]
    Panicked {
        /// Which.
        thread: String,
    },
}
