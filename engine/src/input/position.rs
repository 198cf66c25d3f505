//! How far a file was accepted, and whether a file is still the one that was read.
//!
//! A file is known by its path and by the hash of how it begins, so that the same command goes on
//! after a crash or after the file grew, and a new file under an old name is read from its start
//! (`SPEC.md` §10).

use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Most bytes that are hashed: enough to tell files apart, little enough to read each time.
const HEAD_BYTES_MAX: usize = 4096;

/// How far a file was accepted; stored in the log with what was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The file's canonical path.
    pub source: String,
    /// How many bytes were hashed: 4 KiB, or the size of the file when it was first read.
    pub head_len: u32,
    /// SHA-256 of the first `head_len` bytes of the file, as they lie on disk.
    pub head_hash: [u8; 32],
    /// Where reading goes on, in uncompressed bytes.
    pub byte: u64,
    /// The number of the line that starts, or goes on, there, from 1.
    pub line: u64,
}

/// How a file was found, for the command line to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// It was never read before.
    New,
    /// It was read before, up to this place, and goes on from there.
    GoesOn {
        /// In uncompressed bytes.
        byte: u64,
        /// The number of the line there, from 1.
        line: u64,
    },
    /// A file of this name was read before, but began otherwise: this one is read from its start.
    OtherBeginning,
}

/// The beginning of a file.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
}

impl Head {
    /// Reads the beginning of `file`, which stands at its start.
    pub(super) fn read(file: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES_MAX);
        file.take(HEAD_BYTES_MAX as u64).read_to_end(&mut bytes)?;
        Ok(Self { bytes })
    }

    /// The position at the start of the file that begins so.
    pub(super) fn start(&self, source: String) -> Position {
        Position {
            source,
            head_len: u32::try_from(self.bytes.len()).expect("at most 4 KiB"),
            head_hash: hash(&self.bytes),
            byte: 0,
            line: 1,
        }
    }

    /// Whether `known` was taken in a file that began so.
    pub(super) fn is_of(&self, known: &Position) -> bool {
        self.bytes
            .get(..known.head_len as usize)
            .is_some_and(|bytes| hash(bytes) == known.head_hash)
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
