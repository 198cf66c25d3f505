//! Cutting a stream into blocks of lines, in bounded memory.
//!
//! The reader holds one buffer of a little over 1 MiB, whatever is read. A line that does not fit is
//! skipped as it comes, counted, and given out by its first 64 KiB.

use std::io::{self, Read};

use super::block::{BlockLine, LINE_BYTES_MAX, LineBlock, LongLine};
use crate::json::Document;

/// Most lines of a block.
const BLOCK_LINES_MAX: u32 = 4096;

/// Most bytes of a block, if it has more than one line.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// What is kept of a line over [`LINE_BYTES_MAX`].
const HEAD_BYTES: usize = 64 << 10;

/// What is held at most: a whole line with its end, and some room to read into.
const BUFFER_BYTES: usize = LINE_BYTES_MAX + HEAD_BYTES;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Whether a block waits for more than the next read brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A block is filled before it is given out: for files, whose reads do not wait.
    Filled,
    /// What one read brought is given out: for pipes, where the next read may wait for hours.
    AsItComes,
}

/// What becomes of a last line without line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLine {
    /// It is a line like any other: nothing can follow.
    Taken,
    /// It is left unread, unless it is complete JSON: its writer may be about to go on.
    LeftUnlessComplete,
}

/// A last line that was left unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its number, from 1.
    pub line: u64,
    /// Where it starts in the input, in uncompressed bytes.
    pub byte: u64,
    /// How long it is so far.
    pub bytes: u64,
}

/// Cuts what `input` gives into blocks of lines.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    pace: Pace,
    last_line: LastLine,
    buffer: Box<[u8]>,
    /// What was read and not given out yet is `buffer[begin..end]`.
    begin: usize,
    end: usize,
    /// Where `begin` stands in the input, in bytes and lines.
    byte: u64,
    line: u64,
    /// The line being skipped: it starts at `byte`, which stays there, and `begin` is past it.
    skipped: Option<Skipped>,
    has_ended: bool,
    failure: Option<io::Error>,
    unfinished: Option<Unfinished>,
}

impl<R: Read> LineReader<R> {
    /// A reader of `input`, which stands at its beginning.
    pub fn new(input: R, pace: Pace, last_line: LastLine) -> Self {
        Self {
            input,
            pace,
            last_line,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            begin: 0,
            end: 0,
            byte: 0,
            line: 1,
            skipped: None,
            has_ended: false,
            failure: None,
            unfinished: None,
        }
    }

    /// The same reader for an input that stands `byte` bytes from its beginning, in line `line`.
    #[must_use]
    pub fn starting_at(self, byte: u64, line: u64) -> Self {
        Self { byte, line, ..self }
    }

    /// The next block; `None` at the end. An error comes after the lines that were read before it.
    pub fn next_block(&mut self) -> io::Result<Option<LineBlock>> {
        loop {
            if let Some(block) = self.cut() {
                return Ok(Some(block));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.has_ended {
                return Ok(self.finish());
            }
            self.fill();
        }
    }

    /// The last line, if it was left unread; known once [`LineReader::next_block`] gave `None`.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.unfinished
    }

    fn fill(&mut self) {
        self.buffer.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        while self.end < self.buffer.len() && !self.has_ended {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failure = Some(error);
                    return;
                }
            }
            if self.pace == Pace::AsItComes {
                return;
            }
        }
    }

    /// A block of what is held; `None` if more has to be read first.
    fn cut(&mut self) -> Option<LineBlock> {
        if self.byte == 0 && self.held().starts_with(BYTE_ORDER_MARK) {
            self.begin += BYTE_ORDER_MARK.len();
            self.byte = BYTE_ORDER_MARK.len() as u64;
        }
        if self.skipped.is_some() {
            return self.skip();
        }
        let scan = Scan::of(self.held());
        if scan.bytes == 0 && (scan.stop == Stop::TooLong || scan.rest > LINE_BYTES_MAX + 1) {
            self.start_skipping();
            return self.skip();
        }
        let may_wait = scan.stop == Stop::OutOfData
            && self.pace == Pace::Filled
            && !self.has_ended
            && self.failure.is_none()
            && self.end - self.begin < self.buffer.len();
        (scan.bytes > 0 && !may_wait).then(|| self.give_out(scan))
    }

    fn held(&self) -> &[u8] {
        &self.buffer[self.begin..self.end]
    }

    fn give_out(&mut self, scan: Scan) -> LineBlock {
        let block = LineBlock {
            bytes: self.held()[..scan.bytes].to_vec(),
            first_byte: self.byte,
            first_line: self.line,
            lines: scan.lines,
            too_long: None,
            end_byte: self.byte + scan.bytes as u64,
            end_line: self.line + u64::from(scan.ends),
        };
        self.begin += scan.bytes;
        self.byte = block.end_byte;
        self.line = block.end_line;
        block
    }

    fn start_skipping(&mut self) {
        let head = self.held()[..HEAD_BYTES].to_vec();
        let line = LongLine { line: self.line, byte: self.byte, head, bytes: 0 };
        self.skipped = Some(Skipped { line, last_byte: 0 });
    }

    /// Goes on skipping a long line; its block once its end is found.
    fn skip(&mut self) -> Option<LineBlock> {
        let end = memchr::memchr(b'\n', self.held());
        let count = end.unwrap_or(self.end - self.begin);
        let last_byte = self.held()[..count].last().copied();
        let skipped = self.skipped.as_mut().expect("called while a line is skipped");
        skipped.line.bytes += count as u64;
        skipped.last_byte = last_byte.unwrap_or(skipped.last_byte);
        self.begin += count;
        end?;
        self.begin += 1;
        self.end_skipping(1)
    }

    /// The block of the line that was skipped, when `ends` line ends (0 or 1) follow it.
    fn end_skipping(&mut self, ends: u32) -> Option<LineBlock> {
        let Skipped { mut line, last_byte } = self.skipped.take()?;
        let (first_byte, first_line) = (self.byte, self.line);
        self.byte += line.bytes + u64::from(ends);
        self.line += u64::from(ends);
        line.bytes -= u64::from(last_byte == b'\r');
        Some(LineBlock {
            first_byte,
            first_line,
            too_long: Some(line),
            end_byte: self.byte,
            end_line: self.line,
            ..LineBlock::default()
        })
    }

    /// The last line, which has no end, if it is to be read.
    fn finish(&mut self) -> Option<LineBlock> {
        if self.skipped.is_none() && trimmed(self.held()).len() > LINE_BYTES_MAX {
            self.start_skipping();
            self.skip();
        }
        match &self.skipped {
            Some(skipped) if self.last_line == LastLine::LeftUnlessComplete => {
                self.leave_unread(skipped.line.bytes);
                None
            }
            Some(_) => self.end_skipping(0),
            None => self.finish_short(),
        }
    }

    fn finish_short(&mut self) -> Option<LineBlock> {
        let held = self.held();
        let length = trimmed(held).len();
        if is_blank(&held[..length]) {
            return None;
        }
        if self.last_line == LastLine::LeftUnlessComplete && !is_json(&held[..length]) {
            self.leave_unread(held.len() as u64);
            return None;
        }
        let end = position(length);
        let scan = Scan {
            lines: vec![BlockLine { start: 0, end, index: 0 }],
            bytes: held.len(),
            ends: 0,
            rest: 0,
            stop: Stop::OutOfData,
        };
        Some(self.give_out(scan))
    }

    fn leave_unread(&mut self, bytes: u64) {
        self.unfinished = Some(Unfinished { line: self.line, byte: self.byte, bytes });
    }
}

/// A line over [`LINE_BYTES_MAX`] whose end was not seen yet.
#[derive(Debug)]
struct Skipped {
    line: LongLine,
    last_byte: u8,
}

/// Why a scan went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    BlockFull,
    OutOfData,
    TooLong,
}

/// The whole lines that some bytes start with, as far as they fit a block.
#[derive(Debug)]
struct Scan {
    lines: Vec<BlockLine>,
    /// The bytes of those lines, ends included.
    bytes: usize,
    /// How many line ends are among them.
    ends: u32,
    /// The bytes after them.
    rest: usize,
    stop: Stop,
}

impl Scan {
    fn of(data: &[u8]) -> Self {
        let mut scan =
            Self { lines: Vec::new(), bytes: 0, ends: 0, rest: 0, stop: Stop::BlockFull };
        let mut ends = memchr::memchr_iter(b'\n', data);
        while scan.ends < BLOCK_LINES_MAX {
            let Some(end) = ends.next() else {
                scan.stop = Stop::OutOfData;
                break;
            };
            let line = trimmed(&data[scan.bytes..end]);
            if line.len() > LINE_BYTES_MAX {
                scan.stop = Stop::TooLong;
                break;
            }
            if scan.ends > 0 && end >= BLOCK_BYTES_MAX {
                break;
            }
            if !is_blank(line) {
                let (start, end) = (position(scan.bytes), position(scan.bytes + line.len()));
                scan.lines.push(BlockLine { start, end, index: scan.ends });
            }
            scan.bytes = end + 1;
            scan.ends += 1;
        }
        scan.rest = data.len() - scan.bytes;
        scan
    }
}

/// `line` without the carriage return that some writers put before the line end.
fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn is_json(line: &[u8]) -> bool {
    std::str::from_utf8(line).is_ok_and(|text| Document::parse(text).is_ok())
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("a block is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line as a test sees it: number, byte, text (of a long line its length).
    type Seen = (u64, u64, Vec<u8>);

    fn seen(block: &LineBlock) -> Vec<Seen> {
        let mut seen: Vec<Seen> = block
            .lines
            .iter()
            .map(|line| {
                let (line_number, byte) = (
                    block.first_line + u64::from(line.index),
                    block.first_byte + u64::from(line.start),
                );
                (line_number, byte, block.bytes[line.start as usize..line.end as usize].to_vec())
            })
            .collect();
        seen.extend(block.too_long.as_ref().map(|long| {
            assert!(long.head.len() == HEAD_BYTES && long.bytes > LINE_BYTES_MAX as u64);
            (long.line, long.byte, format!("<{}>", long.bytes).into_bytes())
        }));
        seen
    }

    fn read_all(reader: &mut LineReader<impl Read>) -> Vec<Seen> {
        let mut all = Vec::new();
        let mut end = (reader.byte, reader.line);
        while let Some(block) = reader.next_block().expect("memory can be read") {
            assert!(block.bytes.len() <= BLOCK_BYTES_MAX + 2 && block.lines.len() <= 4096);
            assert!((block.first_byte, block.first_line) == end || end.0 == 0, "blocks join");
            end = (block.end_byte, block.end_line);
            all.extend(seen(&block));
        }
        all
    }

    /// What it shows, the input, (number, byte, text) of each line.
    type Case = (&'static str, &'static str, &'static [(u64, u64, &'static str)]);

    #[test]
    fn lines_are_given_with_their_numbers_and_bytes() {
        let cases: [Case; 9] = [
            ("nothing has no lines", "", &[]),
            ("two lines", "a\nb\n", &[(1, 0, "a"), (2, 2, "b")]),
            ("a last line needs no end", "a\nb", &[(1, 0, "a"), (2, 2, "b")]),
            ("blank lines are counted", "\n \t\na\n\n", &[(3, 4, "a")]),
            ("a carriage return is no part", "a\r\n\r\nb\r\n", &[(1, 0, "a"), (3, 5, "b")]),
            ("nor at the very end", "a\r", &[(1, 0, "a")]),
            ("but one within is", "a\rb\n", &[(1, 0, "a\rb")]),
            ("a byte order mark is dropped", "\u{feff}a\nb\n", &[(1, 3, "a"), (2, 5, "b")]),
            ("only at the start", "a\n\u{feff}b\n", &[(1, 0, "a"), (2, 2, "\u{feff}b")]),
        ];
        for (name, input, lines) in cases {
            let mut reader = LineReader::new(input.as_bytes(), Pace::Filled, LastLine::Taken);
            let expected: Vec<Seen> = lines
                .iter()
                .map(|(line, byte, text)| (*line, *byte, text.as_bytes().to_vec()))
                .collect();
            assert_eq!(read_all(&mut reader), expected, "{name}");
        }
    }

    #[test]
    fn a_last_line_without_end_is_taken_if_it_is_complete() {
        let long = "x".repeat(LINE_BYTES_MAX + 7);
        // (the last line, is it taken)
        let cases = [
            (r#"{"a":1}"#, true),
            ("[1]\r", true),
            (r#"{"a":1"#, false),
            ("\u{e9}", false),
            ("   ", false),
            (&*long, false),
        ];
        for (last, is_taken) in cases {
            let input = format!("first\n{last}");
            let mut reader =
                LineReader::new(input.as_bytes(), Pace::Filled, LastLine::LeftUnlessComplete);
            assert_eq!(read_all(&mut reader).len(), 1 + usize::from(is_taken), "{last:.20}");
            let left = (!is_taken && !last.trim().is_empty()).then_some(Unfinished {
                line: 2,
                byte: 6,
                bytes: last.len() as u64,
            });
            assert_eq!(reader.unfinished(), left, "{last:.20}");
        }
    }

    #[test]
    fn a_line_is_as_long_as_it_may_be() {
        let text = |length: usize| "x".repeat(length);
        // (length, its end, is it read)
        let cases = [
            (LINE_BYTES_MAX, "\n", true),
            (LINE_BYTES_MAX, "\r\n", true),
            (LINE_BYTES_MAX, "", true),
            (LINE_BYTES_MAX, "\r", true),
            (LINE_BYTES_MAX + 1, "\n", false),
            (LINE_BYTES_MAX + 1, "\r\n", false),
            (LINE_BYTES_MAX + 1, "", false),
            (BUFFER_BYTES, "\n", false),
            (BUFFER_BYTES - 1, "\r\n", false),
            (3 << 20, "\r\n", false),
            (3 << 20, "", false),
        ];
        for (length, end, is_read) in cases {
            let input = format!("a\n{}{end}b\n", text(length));
            let input =
                if end.is_empty() || end == "\r" { &input[..input.len() - 2] } else { &input };
            let mut reader = LineReader::new(input.as_bytes(), Pace::Filled, LastLine::Taken);
            let all = read_all(&mut reader);
            assert_eq!(all[0], (1, 0, b"a".to_vec()));
            let expected = if is_read {
                text(length).into_bytes()
            } else {
                format!("<{length}>").into_bytes()
            };
            assert!(all[1] == (2, 2, expected), "{length} {end:?}");
            if end.ends_with('\n') {
                let byte = (2 + length + end.len()) as u64;
                assert_eq!(all[2..], [(3, byte, b"b".to_vec())], "{length} {end:?}");
            }
        }
    }

    /// Gives what it has in pieces, then fails.
    struct Pieces(Vec<Vec<u8>>, Option<io::ErrorKind>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.first_mut() else {
                return self.1.take().map_or(Ok(0), |kind| Err(kind.into()));
            };
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(count)
        }
    }

    fn pieces(text: &[&str], failure: Option<io::ErrorKind>) -> Pieces {
        Pieces(text.iter().map(|piece| piece.as_bytes().to_vec()).collect(), failure)
    }

    #[test]
    fn a_pipe_is_not_waited_for_while_there_are_lines() {
        let mut reader = LineReader::new(
            pieces(&["a\nb\nc", "c\n", "d"], None),
            Pace::AsItComes,
            LastLine::Taken,
        );
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block().expect("no failure") {
            blocks.push(String::from_utf8(block.bytes).expect("text"));
        }
        assert_eq!(blocks, ["a\nb\n", "cc\n", "d"]);
    }

    #[test]
    fn a_failure_comes_after_the_lines_before_it() {
        let input = pieces(&["a\nb"], Some(io::ErrorKind::UnexpectedEof));
        let mut reader = LineReader::new(input, Pace::Filled, LastLine::Taken);
        let block = reader.next_block().expect("lines first").expect("a block");
        assert_eq!(block.bytes, b"a\n");
        let failure = reader.next_block().expect_err("then the failure");
        assert_eq!(failure.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn many_lines_come_in_blocks_of_a_bounded_size() {
        // (the length of a line, how many)
        for (length, count) in
            [(0, 10_000_u64), (1, 10_000), (280, 9_000), (300_000, 11), (700_000, 5)]
        {
            let line = format!("{}\n", "x".repeat(length));
            let input = line.repeat(usize::try_from(count).unwrap());
            let mut reader = LineReader::new(input.as_bytes(), Pace::Filled, LastLine::Taken);
            let all = read_all(&mut reader);
            let expected = if length == 0 { 0 } else { count };
            assert_eq!(all.len() as u64, expected, "{length}");
            assert_eq!((reader.byte, reader.line), (input.len() as u64, count + 1), "{length}");
        }
    }

    proptest! {
        /// Whatever pieces the input comes in, the lines are those of the whole.
        #[test]
        fn lines_do_not_depend_on_how_the_input_comes(
            parts in prop::collection::vec("[ab\r\n ]{0,9}", 0..30),
            pace in prop_oneof![Just(Pace::Filled), Just(Pace::AsItComes)],
        ) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            let whole = parts.concat();
            let mut expected = Vec::new();
            let mut byte = 0;
            for (number, line) in (1..).zip(whole.split_inclusive('\n')) {
                let text = line.strip_suffix('\n').unwrap_or(line);
                let text = text.strip_suffix('\r').unwrap_or(text);
                if !text.trim().is_empty() {
                    expected.push((number, byte, text.as_bytes().to_vec()));
                }
                byte += line.len() as u64;
            }
            let mut reader = LineReader::new(pieces(&parts, None), pace, LastLine::Taken);
            prop_assert_eq!(read_all(&mut reader), expected);
        }
    }
}
