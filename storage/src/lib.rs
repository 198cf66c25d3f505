//! forebay's durable bytes: the event log, and the state that delivery cannot re-derive.
//!
//! This crate is mechanism. It knows offsets, sequences, keys and bytes, and never what a record or
//! an export means; the engine gives them meaning. It alone names the storage backend, so that the
//! backend's measured weaknesses are answered in one place.
//!
//! # What lies where
//!
//! ```text
//! DIR/LOCK               one process at a time
//! DIR/log/<offset>/      the event log, a database for each segment, named by its first offset
//! DIR/log/erasure        while records are being erased: which
//! DIR/state/             one database: outbox, progress, journal, dead letters, meta
//! DIR/checkpoint/<next>  what the engine derived from the log below that offset
//! ```
//!
//! # What is atomic, what is durable
//!
//! 1. A write is *visible* when its call returns and *durable* when a later [`EventLog::sync`] or
//!    [`Store::sync_state`] returns. Nothing else promises to survive a power cut.
//! 2. Every call that writes is atomic: after a crash all of it is there or nothing.
//! 3. Within the log, and within the state, what survives is a prefix of the writes in the order
//!    they were made. So a dead letter written before the progress row that counts its export as
//!    done is there whenever that row is. Between log and state there is no such order: sync the
//!    log before committing what was derived from it.
//! 4. After a failed write or sync every later one fails with [`StorageError::Stopped`]: what is in
//!    memory never runs ahead of the disk. Reading goes on.

mod checkpoint;
mod checkpoint_file;
mod chunk;
mod codec;
mod compression;
mod database;
mod dead_letters;
mod directory;
mod disk;
mod erasure_plan;
mod error;
mod event_log;
mod fail_stop;
mod hash_filter;
mod journal;
mod keys;
mod log_reader;
mod meta;
mod offset;
mod options;
mod outbox;
mod outline;
mod parts;
mod progress;
mod replacement;
mod rewriting;
mod segment;
mod shelf;
mod state;
mod store;
mod stub;
mod sync_gate;

pub use checkpoint::{CheckpointStats, Checkpoints, PackedBlock};
pub use checkpoint_file::{StoredBlock, StoredCheckpoint};
pub use chunk::{Chunk, Entry, EntryKind, RejectsMark, SourceMark, StoredChunk};
pub use codec::{read_value, write_value};
pub use dead_letters::{AttemptRow, DeadLetterRow, DeadLetters};
pub use disk::{DiskSpace, StoreSizes};
pub use error::StorageError;
pub use event_log::{Erasure, EventLog, LogStats};
pub use hash_filter::HashFilter;
pub use journal::{
    ATTEMPT_BYTES_MAX, EndedExport, Ending, Journal, JournalPlace, JournalSize, Trimmed,
};
pub use log_reader::LogReader;
pub use meta::Meta;
pub use offset::Offset;
pub use options::{Compression, Faults, StoreOptions, WriteOp};
pub use outbox::{Derived, ExportRow, FlowExports, FlowMarks, LaneMark, Mark, MarkKey, Outbox};
pub use outline::{Outline, OutlineOf, OutlinedChunk, Outlines};
pub use progress::{Progress, ProgressRow};
pub use store::Store;
pub use stub::{Erased, Stub};
