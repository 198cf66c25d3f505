//! The request that carries an export.

use std::sync::Arc;

/// One HTTP request, authentication aside.
#[derive(Clone, Debug)]
pub struct Request {
    /// The dataflow.
    pub dataflow: Arc<str>,
    /// The export's number in it.
    pub sequence: u64,
    /// The body.
    pub body: Arc<[u8]>,
}
