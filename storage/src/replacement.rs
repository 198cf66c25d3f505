//! Replacing a database by a new one of the same name, so that a crash leaves one of the two, whole.
//!
//! The new one is built as `NAME.new` and synced with everything in it. Then `NAME` becomes
//! `NAME.old`, `NAME.new` becomes `NAME`, and `NAME.old` is removed; the directory that holds the
//! names is synced between these steps. What a crash leaves, [`restore`] repairs: a database that has
//! no name but its old one gets it back, and whatever else is left over goes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{StorageError, directory};

/// Extension of a database's directory until all of it is durable.
const UNFINISHED: &str = "new";

/// Extension of a database's directory once another is to take its name.
const SET_ASIDE: &str = "old";

/// Where the database that is to be `path` is built.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED)
}

/// The path that the directory at `left_over` has, had or was to get; `None` if it is no left-over.
pub(crate) fn name_of(left_over: &Path) -> Option<PathBuf> {
    let extension = left_over.extension()?;
    (extension == UNFINISHED || extension == SET_ASIDE).then(|| left_over.with_extension(""))
}

/// Takes the name from the database at `path`.
pub(crate) fn set_aside(path: &Path) -> Result<(), StorageError> {
    rename(path, &path.with_extension(SET_ASIDE))
}

/// Gives the name `path` to what was built for it.
pub(crate) fn take_place(path: &Path) -> Result<(), StorageError> {
    rename(&unfinished(path), path)
}

/// Removes the database that was set aside for the one at `path`.
pub(crate) fn remove_old(path: &Path) -> Result<(), StorageError> {
    remove(&path.with_extension(SET_ASIDE))
}

/// Removes what was built for `path` and is not finished.
pub(crate) fn remove_unfinished(path: &Path) -> Result<(), StorageError> {
    remove(&unfinished(path))
}

/// Repairs what a crash has left of a replacement of the database at `path`. Each of its steps leaves
/// a state from which it starts again in the same way.
pub(crate) fn restore(path: &Path) -> Result<(), StorageError> {
    remove_unfinished(path)?;
    let old = path.with_extension(SET_ASIDE);
    if !old.is_dir() {
        return Ok(());
    }
    if path.is_dir() { remove(&old) } else { rename(&old, path) }
}

fn rename(from: &Path, to: &Path) -> Result<(), StorageError> {
    fs::rename(from, to).map_err(StorageError::io("rename", from))?;
    directory::sync(directory::parent(to))
}

fn remove(path: &Path) -> Result<(), StorageError> {
    if !path.is_dir() {
        return Ok(());
    }
    fs::remove_dir_all(path).map_err(StorageError::io("remove", path))?;
    directory::sync(directory::parent(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_crash_leaves_one_whole_database_has_the_name() {
        // (what it shows, directories that are there, which of them has the name afterwards)
        let cases: [(&str, &[&str], Option<&str>); 6] = [
            ("nothing happened", &["db"], Some("db")),
            ("it was being built", &["db", "db.new"], Some("db")),
            ("set aside", &["db.old", "db.new"], Some("db.old")),
            ("set aside, and what was built is gone", &["db.old"], Some("db.old")),
            ("replaced", &["db", "db.old"], Some("db")),
            ("never created", &["db.new"], None),
        ];
        for (name, directories, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            for directory in directories {
                fs::create_dir(dir.path().join(directory)).unwrap();
                fs::write(dir.path().join(directory).join("was"), directory).unwrap();
            }
            for _ in 0..2 {
                restore(&dir.path().join("db")).unwrap();
                let was = fs::read_to_string(dir.path().join("db").join("was")).ok();
                assert_eq!(was.as_deref(), expected, "{name}");
                let left = usize::from(expected.is_some());
                assert_eq!(directory::children(dir.path()).unwrap().len(), left, "{name}");
            }
        }
    }
}
