//! Rows of a CSV file (RFC 4180), in bounded memory.
//!
//! Fields are separated by commas, rows by any line end, and a field in double quotes may hold both. The
//! reader holds one buffer and one row, whatever is read: of a row over [`ROW_BYTES_MAX`] (as a quote
//! that is never closed makes one) the rest is skipped as it comes, and its beginning is given out. What a
//! row means is for [`record`](crate::record); here every row is right that can be told from the next.

use std::io::{self, Read};

use csv_core::ReadRecordResult;

/// Longest row that is read, in bytes, without its end: as long as a record (`SPEC.md` §2).
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// What is kept of a row over [`ROW_BYTES_MAX`].
const HEAD_BYTES: usize = 64 << 10;

/// Bytes read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes and fields that there is room for at first.
const ROOM: usize = 256;

/// Cuts what `input` gives into rows.
pub struct RowReader<R> {
    input: R,
    parser: csv_core::Reader,
    buffer: Box<[u8]>,
    /// What was read and not taken yet is `buffer[begin..end]`.
    begin: usize,
    end: usize,
    has_ended: bool,
    /// Where `begin` stands in the input: bytes from 0, lines from 1.
    byte: u64,
    line: u64,
    /// Whether the byte before was a carriage return, whose line feed is no other line end.
    after_return: bool,
    row: Row,
}

/// One row: where it stands, what it is, and its fields.
#[derive(Debug, Default)]
pub struct Row {
    line: u64,
    byte: u64,
    /// As it stands in the input, with its end; no more than [`HEAD_BYTES`] of a row that is too long.
    raw: Vec<u8>,
    /// How long it is, with its end.
    bytes: u64,
    /// The fields without quotes, one after another, and where each ends.
    text: Vec<u8>,
    written: usize,
    ends: Vec<usize>,
    fields: usize,
}

impl<R: Read> RowReader<R> {
    /// A reader of `input`, which stands at its beginning.
    pub fn new(input: R) -> Self {
        Self {
            input,
            parser: csv_core::Reader::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            begin: 0,
            end: 0,
            has_ended: false,
            byte: 0,
            line: 1,
            after_return: false,
            row: Row { text: vec![0; ROOM], ends: vec![0; ROOM], ..Row::default() },
        }
    }

    /// The next row that is not blank; `None` at the end.
    pub fn next_row(&mut self) -> io::Result<Option<&Row>> {
        self.skip_line_ends()?;
        self.row.start(self.line, self.byte);
        loop {
            self.fill()?;
            let (result, read, written, fields) = self.parser.read_record(
                &self.buffer[self.begin..self.end],
                &mut self.row.text[self.row.written..],
                &mut self.row.ends[self.row.fields..],
            );
            self.row.raw(&self.buffer[self.begin..self.begin + read]);
            self.take(read);
            self.row.written += written;
            self.row.fields += fields;
            match result {
                ReadRecordResult::Record => return Ok(Some(&self.row)),
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.row.make_room_for_text(),
                ReadRecordResult::OutputEndsFull => self.row.make_room_for_ends(),
            }
        }
    }

    /// How many bytes were taken so far.
    pub fn byte(&self) -> u64 {
        self.byte
    }

    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            self.fill()?;
            let held = &self.buffer[self.begin..self.end];
            let blank = held.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            let all = blank == held.len();
            self.take(blank);
            if !all || self.has_ended {
                return Ok(());
            }
        }
    }

    /// Counts `count` bytes of the buffer as taken.
    fn take(&mut self, count: usize) {
        let taken = &self.buffer[self.begin..self.begin + count];
        for at in memchr::memchr2_iter(b'\r', b'\n', taken) {
            let after_return = if at == 0 { self.after_return } else { taken[at - 1] == b'\r' };
            self.line += u64::from(taken[at] == b'\r' || !after_return);
        }
        if let Some(last) = taken.last() {
            self.after_return = *last == b'\r';
        }
        self.begin += count;
        self.byte += count as u64;
    }

    /// Fills the buffer if nothing is left in it.
    fn fill(&mut self) -> io::Result<()> {
        if self.begin < self.end || self.has_ended {
            return Ok(());
        }
        (self.begin, self.end) = (0, 0);
        // To the brim: a mark at the beginning of a file is known by its first three bytes together.
        while self.end < self.buffer.len() && !self.has_ended {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Row {
    /// The line that it starts in, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Where it starts in the input, from 0.
    pub fn byte(&self) -> u64 {
        self.byte
    }

    /// Whether it is longer than [`ROW_BYTES_MAX`]; its fields are not known then.
    pub fn is_too_long(&self) -> bool {
        self.bytes > ROW_BYTES_MAX as u64
    }

    /// How long it is in the input, its end included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The row as it stands in the input, without its end; the beginning of one that is too long.
    pub fn as_received(&self) -> &[u8] {
        let end = self.raw.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
        &self.raw[..end.map_or(0, |at| at + 1)]
    }

    /// The fields, without quotes.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.fields).map(|at| self.field(at))
    }

    /// The field at `at`, from 0, which must be below the number of [`Row::fields`].
    pub fn field(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start..self.ends[at]]
    }

    fn start(&mut self, line: u64, byte: u64) {
        (self.line, self.byte, self.bytes) = (line, byte, 0);
        (self.written, self.fields) = (0, 0);
        self.raw.clear();
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.is_too_long() {
            let room = HEAD_BYTES.saturating_sub(self.raw.len()).min(bytes.len());
            self.raw.extend_from_slice(&bytes[..room]);
            self.raw.truncate(HEAD_BYTES);
        } else {
            self.raw.extend_from_slice(bytes);
        }
    }

    fn make_room_for_text(&mut self) {
        if self.is_too_long() {
            self.written = 0;
        } else {
            self.text.resize(self.text.len() * 2, 0);
        }
    }

    fn make_room_for_ends(&mut self) {
        if self.is_too_long() {
            self.fields = 0;
        } else {
            self.ends.resize(self.ends.len() * 2, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes out a few at a time.
    struct Slowly<'a>(&'a [u8], usize);

    impl Read for Slowly<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Each row as `line@byte field|field`.
    fn rows(input: &[u8]) -> Vec<String> {
        let mut reader = RowReader::new(Slowly(input, 3));
        let mut rows = Vec::new();
        while let Some(row) = reader.next_row().expect("memory can be read") {
            let fields: Vec<_> = row.fields().map(String::from_utf8_lossy).collect();
            let end = usize::try_from(row.byte()).unwrap() + row.as_received().len();
            let received = &input[usize::try_from(row.byte()).unwrap()..end];
            assert_eq!(row.as_received(), received);
            rows.push(format!("{}@{} {}", row.line(), row.byte(), fields.join("|")));
        }
        assert_eq!(reader.byte(), input.len() as u64);
        rows
    }

    #[test]
    fn rows_are_told_apart_and_found_again() {
        // (what it shows, the input, the rows)
        let cases: [(&str, &str, &[&str]); 11] = [
            ("nothing", "", &[]),
            ("nothing but line ends", "\r\n\n\r", &[]),
            (
                "rows with ends of all kinds",
                "a,b\nc,d\r\ne\rf\n",
                &["1@0 a|b", "2@4 c|d", "3@9 e", "4@11 f"],
            ),
            ("a last row without end", "a\nb,", &["1@0 a", "2@2 b|"]),
            ("blank lines are no rows", "\n\na\r\n\r\n\nb", &["3@2 a", "6@8 b"]),
            (
                "quotes keep commas, line ends and quotes",
                "\"a,\"\"b\",\"c\r\nd\"\ne",
                &["1@0 a,\"b|c\r\nd", "3@15 e"],
            ),
            ("empty fields are fields", ",\n\"\",\n", &["1@0 |", "2@2 |"]),
            ("spaces stay", " a , \n \n", &["1@0  a | ", "2@6  "]),
            ("a mark at the beginning is none of the row", "\u{feff}a,b\nc", &["1@0 a|b", "2@7 c"]),
            ("a mark alone is nothing", "\u{feff}", &[]),
            ("a quote that is not closed goes on to the end", "a\n\"b\nc", &["1@0 a", "2@2 b\nc"]),
        ];
        for (name, input, expected) in cases {
            assert_eq!(rows(input.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_row_that_is_too_long_is_skipped_in_bounded_memory() {
        let open = format!("\"{}", "x\n".repeat(ROW_BYTES_MAX * 4));
        let commas = ",".repeat(ROW_BYTES_MAX + 1);
        let fits = "y".repeat(ROW_BYTES_MAX - 1);
        // (what it shows, the long row, whether it is too long)
        let cases = [
            ("a field that goes on and on", &format!("{open}\""), true),
            ("fields that go on and on", &commas, true),
            ("one byte less is none", &fits, false),
        ];
        for (name, long, is_too_long) in cases {
            let input = format!("a,b\n{long}\nc,d\n");
            let mut reader = RowReader::new(input.as_bytes());
            reader.next_row().unwrap().expect(name);
            let row = reader.next_row().unwrap().expect(name);
            assert_eq!((row.is_too_long(), row.line(), row.byte()), (is_too_long, 2, 4), "{name}");
            assert!(long.as_bytes().starts_with(row.as_received()), "{name}");
            if is_too_long {
                assert_eq!(row.bytes(), long.len() as u64 + 1, "{name}");
                assert_eq!(row.as_received().len(), HEAD_BYTES, "{name}");
            }
            let row = reader.next_row().unwrap().expect(name);
            assert_eq!(row.fields().collect::<Vec<_>>(), [b"c", b"d"], "{name}");
            let held =
                reader.row.text.len() + reader.row.ends.len() * 8 + reader.row.raw.capacity();
            assert!(held < 32 * ROW_BYTES_MAX, "{name}: {held} bytes are held");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_after_the_rows_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut reader = RowReader::new(Broken);
        assert_eq!(reader.next_row().unwrap_err().to_string(), "broken");
    }

    proptest! {
        /// Whatever fields are written come back, as the rules of RFC 4180 write them.
        #[test]
        fn fields_come_back_as_they_were_written(
            table in prop::collection::vec(prop::collection::vec("[a\",\r\n é]{0,5}", 1..4), 0..8),
            crlf: bool,
        ) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let end = if crlf { "\r\n" } else { "\n" };
            let row = |fields: &Vec<String>| {
                fields.iter().map(quoted).collect::<Vec<_>>().join(",") + end
            };
            let input: String = table.iter().map(row).collect();
            let mut reader = RowReader::new(Slowly(input.as_bytes(), 7));
            for fields in &table {
                let row = reader.next_row()?.expect("a row for each");
                let found: Vec<&[u8]> = row.fields().collect();
                let written: Vec<&[u8]> = fields.iter().map(String::as_bytes).collect();
                prop_assert_eq!(found, written);
            }
            prop_assert!(reader.next_row()?.is_none());
        }
    }
}
