//! A block of lines, as read.

/// Longest line that is read, in bytes, without its end (`SPEC.md` §2).
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Lines that were read together: at most 4,096, and at most 1 MiB unless one line alone is longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineBlock {
    /// The bytes as they stand in the input, line ends and blank lines included.
    pub bytes: Vec<u8>,
    /// Where `bytes` starts in the input, in uncompressed bytes.
    pub first_byte: u64,
    /// The number of the line that `bytes` starts with, from 1.
    pub first_line: u64,
    /// The lines that are not blank.
    pub lines: Vec<BlockLine>,
    /// A line over 1 MiB that follows the others; its bytes are not in `bytes`.
    pub too_long: Option<LongLine>,
    /// Where the next block starts in the input.
    pub end_byte: u64,
    /// The number of the line that the next block starts with.
    pub end_line: u64,
}

/// Where a line stands in a block, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLine {
    /// Where it starts.
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// How many lines of the block come before it, blank ones included.
    pub index: u32,
}

/// What is kept of a line over 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongLine {
    /// Its number, from 1.
    pub line: u64,
    /// Where it starts in the input, in uncompressed bytes.
    pub byte: u64,
    /// Its first 64 KiB.
    pub head: Vec<u8>,
    /// How long it is, without its end.
    pub bytes: u64,
}
