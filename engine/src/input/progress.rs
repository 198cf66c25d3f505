//! How much of an input was read, for a progress bar.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A view of how far an input was read; it may be looked at from any thread.
///
/// Bytes are counted as they lie on disk, so that a compressed file has a total too.
#[derive(Clone, Debug)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    /// A view of an input of `total` bytes (`None`: who knows), of which `read` need not be read.
    pub(super) fn new(total: Option<u64>, read: u64) -> Self {
        Self { read: Arc::new(AtomicU64::new(read)), total }
    }

    /// How many bytes were read.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// How many there were when the input was opened; `None` for a stream.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// `input`, with what is read from it counted here.
    pub(super) fn counting<R: Read>(&self, input: R) -> Counting<R> {
        Counting { input, read: Arc::clone(&self.read) }
    }
}

/// A reader that counts.
#[derive(Debug)]
pub(super) struct Counting<R> {
    input: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
