//! What can go wrong below the engine, by what the caller can do about it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// Why a storage call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another process holds the data directory; it can be asked instead.
    #[error("the data directory {} is in use by another process", dir.display())]
    InUse {
        /// The directory that is held.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}{}", path.display(), advice(source))]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is no room on the disk for a file of which nothing is the only copy. Nothing is left of it,
    /// and everything else goes on: it can be written again once there is room.
    #[error("no room for {}", path.display())]
    NoRoom {
        /// Which file.
        path: PathBuf,
        /// What the operating system said, or what was found.
        source: io::Error,
    },
    /// The database below failed; whether the write was made is unknown.
    #[error("cannot {action} the database {}{}", path.display(), advice_of_database(&**source))]
    Database {
        /// What was being done, as a verb.
        action: &'static str,
        /// Directory of the database.
        path: PathBuf,
        /// What the database said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The database below cannot read, or what it reads fails its checksum.
    #[error("cannot read from the database")]
    Read {
        /// What the database said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A write or sync was refused by the fault hook of a test.
    #[error("injected fault")]
    Fault(#[source] io::Error),
    /// The stored value was written by another version of forebay.
    #[error(
        "{what} has storage format {found}, this version of forebay reads format {known}: \
         use the version that wrote it, or a newer one"
    )]
    UnknownFormat {
        /// Which value.
        what: &'static str,
        /// Its format version.
        found: u8,
        /// The format version that this build reads and writes.
        known: u8,
    },
    /// Stored bytes contradict themselves; a restore or a rebuild is needed.
    #[error("{what} is damaged: {detail}")]
    Corrupt {
        /// Which value.
        what: &'static str,
        /// In what way.
        detail: String,
    },
    /// An earlier write failed; nothing is written any more until the store is opened again.
    #[error("storage has stopped after a failure: {reason}")]
    Stopped {
        /// The first failure.
        reason: String,
    },
    /// The call contradicts its contract or what is stored; nothing was written.
    #[error("refused: {reason}")]
    Refused {
        /// What contradicts what.
        reason: String,
    },
}

impl StorageError {
    /// Wraps an operating system error: cannot `action` `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The same error as [`Self::NoRoom`] for the file `path`, if want of room is what it says.
    pub(crate) fn if_no_room(self, path: &Path) -> Self {
        match self {
            Self::Io { source, .. } | Self::Fault(source) if says_no_room(&source) => {
                Self::NoRoom { path: path.to_owned(), source }
            }
            other => other,
        }
    }

    /// Wraps an error of the database in directory `path`: cannot `action` it.
    pub(crate) fn database<E>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        let path = path.to_owned();
        move |source| Self::Database { action, path, source: Box::new(source) }
    }

    /// States in what way `what` is damaged.
    pub(crate) fn corrupt(what: &'static str, detail: impl Into<String>) -> Self {
        Self::Corrupt { what, detail: detail.into() }
    }

    /// States what was wrong with a call.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// What is to be done where a disk is full.
fn advice(error: &io::Error) -> &'static str {
    if says_no_room(error) {
        ", because its disk is full (make room and start again: nothing that was accepted is lost)"
    } else {
        ""
    }
}

fn advice_of_database(error: &(dyn Error + Send + Sync + 'static)) -> &'static str {
    match error.downcast_ref::<sled::Error>() {
        Some(sled::Error::Io(error)) => advice(error),
        _ => "",
    }
}

/// Whether room was wanting, on the disk or in what its owner may use of it.
fn says_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_what_to_do() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let other = || io::Error::from(io::ErrorKind::PermissionDenied);
        let path = Path::new("data/state");
        let database = |error| StorageError::database("flush", path)(sled::Error::Io(error));
        let advice = "because its disk is full (make room and start again";
        // (an error, whether it says what to do)
        let cases = [
            (StorageError::io("write", path)(full()), true),
            (StorageError::io("write", path)(other()), false),
            (database(full()), true),
            (database(other()), false),
        ];
        for (error, is_told) in cases {
            assert_eq!(error.to_string().contains(advice), is_told, "{error}");
            assert!(error.to_string().contains("data/state"), "{error}");
        }
    }
}
