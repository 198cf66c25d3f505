//! Inputs: files, plain or gzip, and streams, read as blocks of lines, or as rows of CSV.
//!
//! This module knows lines, bytes and where they stand; what a line means is for
//! [`record`](crate::record). It remembers nothing itself: how far a file was accepted is stored in the
//! log with what was accepted, and passed back in when the file is opened again (`SPEC.md` §10).

mod block;
mod csv;
mod lines;
mod position;
mod progress;
mod source;

pub use block::{BlockLine, LINE_BYTES_MAX, LineBlock, LongLine};
pub use csv::{ROW_BYTES_MAX, Row, RowReader};
pub use lines::{LastLine, LineReader, Pace, Unfinished};
pub use position::{Position, Resumed};
pub use progress::Progress;
pub use source::{Input, InputError, canonical_source};
