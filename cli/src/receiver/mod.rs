//! An HTTP endpoint that takes exports: for a first look, for the demo, and for measuring.
//!
//! One thread a connection, since a destination opens a bounded number of them
//! (`max_in_flight`) and keeps them open. A request costs one read and one write. It answers every
//! request alike and refuses nothing but what is no HTTP; it is no server for anything else.

mod http;
mod server;

pub(crate) use server::{Receiver, Settings};

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The `forebay-dataflow` header; empty without one.
    pub(crate) dataflow: String,
    /// The `forebay-sequence` header, if it is a number.
    pub(crate) sequence: Option<u64>,
    /// The `webhook-id` header; empty without one.
    pub(crate) id: String,
    /// The path it was sent to, with the query.
    pub(crate) target: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}
