//! Whether the log holds bytes of somebody who was deleted, for who looks at the log without deriving it.
//!
//! A value of the state says so from before the first such delete counts as derived until a compaction
//! has left none. So of a log with no such value only what is not derived yet must be looked at.

use forebay_storage::{StorageError, Store};

use super::shared::Shared;

/// Name of the stored value.
const META_DELETES: &str = "deletes";
const PENDING: &[u8] = b"pending";
const NONE: &[u8] = b"none";

/// Notes a delete whose bytes are still there, before it is noted in `shared`.
pub(super) fn note(store: &Store, shared: &Shared) -> Result<(), StorageError> {
    if shared.oldest_delete().is_none() && !are_pending(store)? {
        store.meta().put(META_DELETES, PENDING)?;
    }
    Ok(())
}

/// Notes that there may be no delete left whose bytes are there. Only between two jobs of the deriver,
/// so that none is noted meanwhile.
pub(super) fn compacted(store: &Store, shared: &Shared) -> Result<(), StorageError> {
    if shared.oldest_delete().is_none() {
        store.meta().put(META_DELETES, NONE)?;
    }
    Ok(())
}

/// Whether what is derived of the log holds bytes of somebody who was deleted.
pub(super) fn are_pending(store: &Store) -> Result<bool, StorageError> {
    Ok(store.meta().get(META_DELETES)?.as_deref() == Some(PENDING))
}
