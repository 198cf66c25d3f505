//! Requests over the network. The only place that names the HTTP client.

use super::outcome::Outcome;
use super::request::Request;

/// Sends one request and waits for its end.
///
/// Called from many threads at once. The simulation's implementation answers from a script.
pub trait Transport: Send + Sync {
    /// Sends `request`; blocks for at most the destination's timeout, and that of a token request.
    fn send(&self, request: &Request) -> Outcome;
}
