//! Directories that are still there after a power cut, and the lock that keeps a second process out.
//!
//! Creating a file makes its bytes syncable, not its name: the name lives in the directory, which
//! needs a sync of its own. Every directory made here has its parent synced.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::StorageError;

/// Only the owner may look in: the log holds customer data.
const MODE: u32 = 0o700;

/// Creates `dir` and what is missing above it, durably; makes `dir` private also if it existed.
pub(crate) fn create_private(dir: &Path) -> Result<(), StorageError> {
    create(dir)?;
    let look = |action| StorageError::io(action, dir);
    let mode = fs::metadata(dir).map_err(look("inspect"))?.permissions().mode();
    if mode & 0o7777 != MODE {
        fs::set_permissions(dir, Permissions::from_mode(MODE)).map_err(look("make private"))?;
    }
    Ok(())
}

/// Creates `dir` and what is missing above it, durably.
pub(crate) fn create(dir: &Path) -> Result<(), StorageError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent(dir);
    create(parent)?;
    match DirBuilder::new().mode(MODE).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StorageError::io("create", dir)(error))
        }
        _ => sync(parent),
    }
}

/// The directory that holds `path`'s name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Makes the names in `dir` durable.
pub(crate) fn sync(dir: &Path) -> Result<(), StorageError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(StorageError::io("sync", dir))
}

/// Makes `dir` and everything below it durable.
pub(crate) fn sync_all(dir: &Path) -> Result<(), StorageError> {
    for path in children(dir)? {
        if path.is_dir() {
            sync_all(&path)?;
        } else {
            let synced = File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(StorageError::io("sync", &path))?;
        }
    }
    sync(dir)
}

/// Bytes of all files below `dir`, as their lengths add up.
pub(crate) fn bytes(dir: &Path) -> Result<u64, StorageError> {
    let mut sum = 0;
    let paths = match children(dir) {
        // A directory may be replaced meanwhile.
        Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(0);
        }
        listed => listed?,
    };
    for path in paths {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => sum += bytes(&path)?,
            Ok(meta) => sum += meta.len(),
            // The database replaces its snapshots while it runs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::io("inspect", &path)(error)),
        }
    }
    Ok(sum)
}

/// The paths directly below `dir`, sorted.
pub(crate) fn children(dir: &Path) -> Result<Vec<std::path::PathBuf>, StorageError> {
    let list = || -> io::Result<Vec<_>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    list().map_err(StorageError::io("list", dir))
}

/// The data directory's lock, held by this process until it is dropped or the process ends.
pub(crate) struct Lock(File);

/// Takes the data directory for this process.
pub(crate) fn lock(dir: &Path) -> Result<Lock, StorageError> {
    let path = dir.join("LOCK");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(StorageError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StorageError::io("lock", &path)(error)),
    }
}

impl Drop for Lock {
    /// Unlocks, rather than closes alone: a process that another thread is starting has a copy of the
    /// descriptor until it runs its program, and a copy keeps the lock.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!("the data directory stays locked until this process ends: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_once_its_lock_is_dropped_whoever_has_a_copy_of_the_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let copy = held.0.try_clone().unwrap();
        assert!(matches!(lock(dir.path()), Err(StorageError::InUse { .. })));
        drop(held);
        drop(lock(dir.path()).expect("it is free although a copy of the descriptor is open"));
        drop(copy);
    }
}
