//! `rejects.ndjson`: refused lines, each kept once, whatever crashes.
//!
//! # Exactly once
//!
//! A refused line must be on disk before the log says that its input was read, and must not be there
//! twice when the input is read again because the log did not say so yet. So the file is written and
//! synced first, and each chunk of the log stores the [`RejectsMark`] that was reached. On open,
//! whatever lies beyond the last mark is cut off: the lines it came from will be read again.
//!
//! # Rotation
//!
//! At 1 GiB `rejects.ndjson` becomes `rejects.ndjson.<generation>` by one rename, and the next
//! generation starts empty; five old ones are kept, the highest number being the newest. As the
//! numbers never come again, the directory alone tells the current generation, and a rotation that
//! the log does not know of can be taken back.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::redaction::Redaction;
use super::reject::Reject;

/// The file's name in the data directory.
const FILE_NAME: &str = "rejects.ndjson";

/// Where the redacted copy of a file is written.
const SCRATCH_NAME: &str = "rejects.ndjson.redacting";

/// Length at which the file is rotated: 1 GiB.
const LENGTH_MAX: u64 = 1 << 30;

/// Rotated files that are kept.
const ROTATED_KEPT: u64 = 5;

/// How far the file was written when a chunk of the log was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RejectsMark {
    /// Which file: 1 for the first, one more with each rotation.
    pub generation: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl RejectsMark {
    /// Where a data directory starts.
    pub const START: Self = Self { generation: 1, length: 0 };
}

impl Default for RejectsMark {
    fn default() -> Self {
        Self::START
    }
}

/// The file could not be read or written; the input must not be acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written", path.display())]
pub struct RejectsError {
    /// Which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The open file. One writer, the appender, owns it.
#[derive(Debug)]
pub struct RejectsFile {
    directory: PathBuf,
    file: File,
    mark: RejectsMark,
    length_max: u64,
}

impl RejectsFile {
    /// Opens the file in the data directory `directory` and cuts off what lies beyond `last`, the
    /// mark stored with the last chunk of the log ([`RejectsMark::START`] if there is none).
    pub fn open(directory: &Path, last: RejectsMark) -> Result<Self, RejectsError> {
        Self::open_with(directory, last, LENGTH_MAX)
    }

    fn open_with(
        directory: &Path,
        last: RejectsMark,
        length_max: u64,
    ) -> Result<Self, RejectsError> {
        let path = directory.join(FILE_NAME);
        let opened = take_back(directory, last).and_then(|()| {
            remove_scratch(directory)?;
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            let length = file.metadata()?.len().min(last.length);
            file.set_len(length)?;
            file.sync_all()?;
            sync_directory(directory)?;
            Ok((file, length))
        });
        let (file, length) = opened.map_err(|source| RejectsError { path, source })?;
        let mark = RejectsMark { generation: last.generation, length };
        Ok(Self { directory: directory.to_owned(), file, mark, length_max })
    }

    /// Appends `rejects` of the input called `source` and returns once they would survive a power
    /// cut, with the mark to store in the log. With no rejects, nothing is written.
    pub fn append(
        &mut self,
        source: &str,
        rejects: &[Reject],
    ) -> Result<RejectsMark, RejectsError> {
        if rejects.is_empty() {
            return Ok(self.mark);
        }
        let lines: String = rejects.iter().map(|reject| reject.to_line(source)).collect();
        self.write(lines.as_bytes())
            .map_err(|source| RejectsError { path: self.directory.join(FILE_NAME), source })?;
        Ok(self.mark)
    }

    /// Redacts what was written so far to the current file. How far it is written stays the same.
    pub fn redact(&mut self, redaction: &Redaction) -> Result<u64, RejectsError> {
        let path = self.directory.join(FILE_NAME);
        let mut redact = || {
            let redacted = redaction.apply(&path, &self.directory.join(SCRATCH_NAME))?;
            if redacted > 0 {
                sync_directory(&self.directory)?;
                self.file = OpenOptions::new().append(true).open(&path)?;
            }
            Ok(redacted)
        };
        redact().map_err(|source| RejectsError { path: path.clone(), source })
    }

    /// Redacts the files that were rotated, which nobody writes any more.
    pub fn redact_rotated(directory: &Path, redaction: &Redaction) -> Result<u64, RejectsError> {
        let redact = || {
            let mut redacted = 0;
            for generation in rotated_generations(directory)? {
                let path = rotated(directory, generation);
                redacted += redaction.apply(&path, &directory.join(SCRATCH_NAME))?;
            }
            sync_directory(directory)?;
            Ok(redacted)
        };
        redact().map_err(|source| RejectsError { path: directory.join(FILE_NAME), source })
    }

    /// Bytes of the file in `directory`, and of those that were rotated.
    pub fn bytes_in(directory: &Path) -> Result<u64, RejectsError> {
        let measure = || {
            let rotated = rotated_generations(directory)?;
            let rotated =
                rotated.into_iter().map(|generation| self::rotated(directory, generation));
            let mut bytes = 0;
            for path in rotated.chain([directory.join(FILE_NAME)]) {
                match fs::metadata(&path) {
                    Ok(meta) => bytes += meta.len(),
                    // It may be rotated meanwhile, or never have been needed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(bytes)
        };
        measure().map_err(|source| RejectsError { path: directory.join(FILE_NAME), source })
    }

    /// How far the file is written.
    pub fn mark(&self) -> RejectsMark {
        self.mark
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.mark.length > 0 && self.mark.length + lines.len() as u64 > self.length_max {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.file.sync_data()?;
        self.mark.length += lines.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let current = self.directory.join(FILE_NAME);
        fs::rename(&current, rotated(&self.directory, self.mark.generation))?;
        self.file = OpenOptions::new().create_new(true).append(true).open(&current)?;
        self.mark = RejectsMark { generation: self.mark.generation + 1, length: 0 };
        for old in rotated_generations(&self.directory)? {
            if old + ROTATED_KEPT < self.mark.generation {
                fs::remove_file(rotated(&self.directory, old))?;
            }
        }
        sync_directory(&self.directory)
    }
}

fn rotated(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{FILE_NAME}.{generation}"))
}

/// The generations that were rotated and are still there.
fn rotated_generations(directory: &Path) -> io::Result<Vec<u64>> {
    let mut generations = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(FILE_NAME)?.strip_prefix('.'));
        generations.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    generations.sort_unstable();
    Ok(generations)
}

/// Undoes rotations that happened after `last`. Each step leaves a state from which this starts
/// again in the same way.
fn take_back(directory: &Path, last: RejectsMark) -> io::Result<()> {
    let later: Vec<u64> = rotated_generations(directory)?
        .into_iter()
        .filter(|generation| *generation >= last.generation)
        .collect();
    if later.is_empty() {
        return Ok(());
    }
    let current = directory.join(FILE_NAME);
    if current.exists() {
        fs::remove_file(&current)?;
    }
    for generation in later.iter().rev().filter(|generation| **generation > last.generation) {
        fs::remove_file(rotated(directory, *generation))?;
    }
    let reached = rotated(directory, last.generation);
    if reached.exists() { fs::rename(reached, current) } else { Ok(()) }
}

/// Removes what a crash has left of a redaction.
fn remove_scratch(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(SCRATCH_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes renames and new files in `directory` survive a power cut.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::reject::RejectedInput;
    use super::*;

    fn reject(line: u64) -> Reject {
        let input = RejectedInput::Text("x".to_owned());
        Reject { line, byte: 0, error: "bad".to_owned(), input }
    }

    /// The numbers of the lines kept, oldest first.
    fn kept(directory: &Path) -> Vec<u64> {
        let mut files: Vec<PathBuf> = rotated_generations(directory)
            .unwrap()
            .into_iter()
            .map(|generation| rotated(directory, generation))
            .collect();
        files.push(directory.join(FILE_NAME));
        let text: String =
            files.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|value| value["line"].as_u64().unwrap())
            .collect()
    }

    #[test]
    fn lines_the_log_does_not_know_of_are_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RejectsFile::open(directory.path(), RejectsMark::START).unwrap();
        assert_eq!(file.append("a", &[]).unwrap(), RejectsMark::START);
        let mark = file.append("a.ndjson", &[reject(1), reject(2)]).unwrap();
        file.append("a.ndjson", &[reject(3)]).unwrap();
        assert_eq!(kept(directory.path()), [1, 2, 3]);
        let mut file = RejectsFile::open(directory.path(), mark).unwrap();
        assert_eq!((file.mark(), kept(directory.path())), (mark, vec![1, 2]));
        file.append("a.ndjson", &[reject(3)]).unwrap();
        assert_eq!(kept(directory.path()), [1, 2, 3]);
    }

    #[test]
    fn a_file_that_its_owner_emptied_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RejectsFile::open(directory.path(), RejectsMark::START).unwrap();
        let mark = file.append("a", &[reject(1)]).unwrap();
        fs::remove_file(directory.path().join(FILE_NAME)).unwrap();
        let mut file = RejectsFile::open(directory.path(), mark).unwrap();
        assert_eq!(file.mark(), RejectsMark { length: 0, ..mark });
        file.append("a", &[reject(2)]).unwrap();
        assert_eq!(kept(directory.path()), [2]);
    }

    #[test]
    fn redacting_leaves_the_mark_of_the_log_true() {
        let directory = tempfile::tempdir().unwrap();
        let of = |line: u64, text: &str| Reject {
            input: RejectedInput::Text(format!("{text} is too much")),
            ..reject(line)
        };
        let redaction = Redaction::new(["ana".to_owned()].into());
        let mut file = RejectsFile::open_with(directory.path(), RejectsMark::START, 300).unwrap();
        for line in 1..=9 {
            file.append("a", &[of(line, if line % 2 == 0 { "ana" } else { "bob" })]).unwrap();
        }
        let mark = file.mark();
        fs::write(directory.path().join(SCRATCH_NAME), "half of ana").unwrap();
        let redacted = file.redact(&redaction).unwrap()
            + RejectsFile::redact_rotated(directory.path(), &redaction).unwrap();
        assert_eq!((redacted, file.mark()), (4, mark));
        file.append("a", &[of(10, "eve")]).unwrap();
        assert_eq!(kept(directory.path()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        fs::write(directory.path().join(SCRATCH_NAME), "half of ana").unwrap();
        let file = RejectsFile::open_with(directory.path(), mark, 300).unwrap();
        assert_eq!((file.mark(), kept(directory.path())), (mark, (1..=9).collect()));
        for entry in fs::read_dir(directory.path()).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("ana"), "{}: {text}", path.display());
        }
    }

    #[test]
    fn five_rotated_files_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RejectsFile::open_with(directory.path(), RejectsMark::START, 1).unwrap();
        for line in 1..=9 {
            file.append("a", &[reject(line)]).unwrap();
        }
        assert_eq!(file.mark().generation, 9);
        assert_eq!(kept(directory.path()), [4, 5, 6, 7, 8, 9]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Append(u8),
        Store,
        Crash,
    }

    proptest! {
        // Each append and each crash syncs a file.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a list of lines, of which a crash leaves those the log had stored the mark of.
        #[test]
        fn every_line_is_kept_once_over_crashes(
            ops in prop::collection::vec(prop_oneof![
                6 => (1..4_u8).prop_map(Op::Append),
                2 => Just(Op::Store),
                1 => Just(Op::Crash),
            ], 1..40)
        ) {
            let directory = tempfile::tempdir()?;
            // Some four lines a file.
            let open = |mark| RejectsFile::open_with(directory.path(), mark, 240);
            let mut file = open(RejectsMark::START)?;
            let (mut stored, mut stored_lines) = (RejectsMark::START, 0);
            let (mut written, mut highest) = (0_u64, 1);
            for op in ops {
                match op {
                    Op::Append(count) => {
                        let lines: Vec<Reject> = (1..=u64::from(count)).map(|n| reject(written + n)).collect();
                        file.append("a", &lines)?;
                        written += u64::from(count);
                        // As the appender stores after each block, rotations do not pile up.
                        if file.mark().generation > stored.generation + 2 {
                            (stored, stored_lines) = (file.mark(), written);
                        }
                    }
                    Op::Store => (stored, stored_lines) = (file.mark(), written),
                    Op::Crash => {
                        file = open(stored)?;
                        written = stored_lines;
                    }
                }
                let kept = kept(directory.path());
                let expected: Vec<u64> = (1..=written).collect();
                prop_assert!(expected.ends_with(&kept), "{kept:?} of {written}");
                let files = rotated_generations(directory.path())?.len() as u64;
                prop_assert!(files <= ROTATED_KEPT);
                highest = highest.max(file.mark().generation);
                if highest <= ROTATED_KEPT + 1 {
                    prop_assert_eq!(kept.len() as u64, written);
                }
            }
        }
    }
}
