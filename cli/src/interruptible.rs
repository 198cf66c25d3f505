//! Stdin that can be stopped.
//!
//! A thread that waits in `read` on a pipe nobody writes to cannot be woken, and a clean stop must
//! not wait for the next line. So a pump thread reads ahead by at most [`BLOCKS_AHEAD`] blocks, and
//! the reader here waits for a block or for the stop, whichever comes first. The pump is the one
//! thread that is not joined: it ends with its input, or with the process.

use std::io::{self, ErrorKind, Read};
use std::thread;

use crossbeam::channel::{Receiver, bounded, select};

/// Bytes read at once; large enough that handing a block over costs nothing beside reading it.
const BLOCK_BYTES: usize = 256 * 1024;
/// Blocks read ahead of the engine.
const BLOCKS_AHEAD: usize = 4;

/// A reader that fails with [`ErrorKind::ConnectionAborted`] once a stop was asked for.
///
/// It fails rather than ends, because an end would make half a line the last one.
pub(crate) struct Interruptible {
    blocks: Receiver<io::Result<Vec<u8>>>,
    stopped: Receiver<()>,
    block: Vec<u8>,
    taken: usize,
}

impl Interruptible {
    /// Starts reading `input`; `stopped` is disconnected to stop.
    pub(crate) fn new(
        mut input: impl Read + Send + 'static,
        stopped: Receiver<()>,
    ) -> io::Result<Self> {
        let (sender, blocks) = bounded(BLOCKS_AHEAD);
        let pump = move || {
            loop {
                let mut block = vec![0; BLOCK_BYTES];
                let read = input.read(&mut block);
                let last = matches!(read, Ok(0) | Err(_));
                let read = read.map(|n| {
                    block.truncate(n);
                    block
                });
                // A closed channel means that nobody reads any more.
                if sender.send(read).is_err() || last {
                    return;
                }
            }
        };
        thread::Builder::new().name("stdin".into()).spawn(pump)?;
        Ok(Self { blocks, stopped, block: Vec::new(), taken: 0 })
    }
}

impl Read for Interruptible {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.block.len() {
            self.block = select! {
                recv(self.blocks) -> block => block.unwrap_or_else(|_| Ok(Vec::new()))?,
                recv(self.stopped) -> _ => {
                    return Err(io::Error::new(ErrorKind::ConnectionAborted, "stopped"));
                }
            };
            self.taken = 0;
        }
        let n = into.len().min(self.block.len() - self.taken);
        into[..n].copy_from_slice(&self.block[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, pipe};

    use crossbeam::channel::bounded;

    use super::{BLOCK_BYTES, Interruptible};

    #[test]
    fn everything_is_read_in_order() {
        let input: Vec<u8> =
            (0..3 * BLOCK_BYTES + 7).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (_running, stopped) = bounded(0);
        let mut reader = Interruptible::new(std::io::Cursor::new(input.clone()), stopped).unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == input);
    }

    #[test]
    fn a_stop_wakes_a_reader_that_waits() {
        let (silent, _writer) = pipe().unwrap();
        let (running, stopped) = bounded::<()>(0);
        let mut reader = Interruptible::new(silent, stopped).unwrap();
        drop(running);
        let error = reader.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    }
}
