//! JSON as received: read once, addressed by position, never re-written.
//!
//! Payloads carry numbers, strings and arrays exactly as they came (`SPEC.md` §7), and a record is
//! parsed once for validation, fold and rules alike. So a [`Document`] is a flat list of nodes that
//! point into the text; no string is copied and no number is converted until somebody asks.
//!
//! Most text is read by a short way of its own. The reader underneath is `jiter` (MIT, kept by the pydantic project): a pull parser that reports
//! where each token stands, which `serde_json` does not.

mod document;
mod quick;
mod value;

pub use document::{DEPTH_MAX, Document, Documents, JsonError};
pub use value::{Kind, Value, quote, same};
