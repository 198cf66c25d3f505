//! What can go wrong in the engine, by what the caller does next.

use std::path::PathBuf;

use forebay_storage::StorageError;

use crate::deliver::error::DeliveryError;
use crate::input::InputError;
use crate::pql::PqlError;
use crate::record::{LogTextError, RejectsError};

/// Why the engine could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Another process holds the data directory; ask it.
    #[error("data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// What was asked for makes no sense here: correct it and ask again.
    #[error("{0}")]
    Usage(String),
    /// An input cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// `rejects.ndjson` cannot be written.
    #[error(transparent)]
    Rejects(#[from] RejectsError),
    /// The store failed, or holds what it should not.
    #[error("{}", with_sources(.0))]
    Storage(StorageError),
    /// The log holds a record that is none.
    #[error(transparent)]
    LogText(#[from] LogTextError),
    /// The log holds a control entry that cannot be read.
    #[error("control entry {offset} of the log cannot be read: {reason}")]
    Control {
        /// Its offset.
        offset: u64,
        /// Why.
        reason: String,
    },
    /// A rule of the log does not compile any more.
    #[error("a rule in the log is not understood: {0}")]
    Rule(#[from] PqlError),
    /// Delivery did not start, or stopped.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// What was asked for was not completed, and why; asking again completes it.
    #[error("{0}")]
    Interrupted(String),
    /// There was no room on the disk for what was asked, and what to do. The engine goes on.
    #[error("{0}")]
    NoRoom(String),
    /// The engine has stopped after a failure in one of its threads.
    #[error("the engine has stopped: {0}")]
    Stopped(String),
}

impl From<StorageError> for EngineError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::InUse { dir } => Self::InUse(dir),
            other => Self::Storage(other),
        }
    }
}

/// An error and what caused it, in one line.
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
