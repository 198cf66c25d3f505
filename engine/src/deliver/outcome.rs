//! How a request ended, typed all the way to the policy.

use std::fmt;
use std::time::Duration;

/// Bytes of an answer's body kept with a failed attempt.
pub const ANSWER_KEPT: usize = 1024;

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer came, whole and in time.
    Status {
        /// The status code.
        code: u16,
        /// What `Retry-After` asked for, counted from the answer.
        retry_after: Option<Duration>,
        /// The beginning of the body: of a token endpoint's as much as is read, of any other at most
        /// [`ANSWER_KEPT`] bytes, without what was secret in the request.
        answer: Vec<u8>,
    },
    /// No whole answer within the destination's timeout.
    Timeout,
    /// No connection, a broken one, or an answer that is no HTTP; a failing token endpoint too.
    Connect(String),
    /// The address that the endpoint's name resolved to is not allowed.
    Refused(String),
}

impl Outcome {
    /// The status, if there was an answer.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    /// For people: in the logs, with dead letters, when a drain gives up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { code, .. } => write!(f, "status {code}"),
            Self::Timeout => f.write_str("timeout"),
            Self::Connect(error) | Self::Refused(error) => f.write_str(error),
        }
    }
}
