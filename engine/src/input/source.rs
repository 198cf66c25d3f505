//! Opening inputs: a file to go on with, a file to read whole, a stream.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::block::LineBlock;
use super::lines::{LastLine, LineReader, Pace, Unfinished};
use super::position::{Head, Position, Resumed};
use super::progress::Progress;

/// An input that cannot be read, or not from where it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The system, or the decompression, failed.
    #[error("{source_name} cannot be read: {source}")]
    Io {
        /// Which input.
        source_name: String,
        /// What was reported.
        source: io::Error,
    },
    /// The file begins as it did, but ends before the place up to which it was accepted.
    #[error(
        "{source_name} is shorter ({found} bytes) than what was accepted of it ({accepted} bytes): \
         restore it, or give new content another name"
    )]
    Shorter {
        /// Which input.
        source_name: String,
        /// How far it was accepted, in uncompressed bytes.
        accepted: u64,
        /// How long it is now, in uncompressed bytes.
        found: u64,
    },
}

/// An open input: blocks of lines, and where they stand.
pub struct Input {
    name: String,
    reader: LineReader<Box<dyn Read + Send>>,
    /// The start of the file, for an input that can go on another time.
    start: Option<Position>,
    resumed: Resumed,
    progress: Progress,
}

impl Input {
    /// Opens the file at `path` to go on where `known` stands, the last position stored for its
    /// [`canonical_source`]. A name that is no regular file (a pipe, say) is read as a stream.
    pub fn resume(path: &Path, known: Option<&Position>) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let opened = open(path).map_err(|source| failed(&name, source))?;
        if !opened.is_regular {
            return Ok(Self::stream(&name, Box::new(opened.file)));
        }
        let source = canonical_source(path)?;
        let mut file = opened.file;
        let head = Head::read(&mut file).map_err(|source| failed(&name, source))?;
        file.seek(SeekFrom::Start(0)).map_err(|source| failed(&name, source))?;
        let (position, resumed) = match known.filter(|known| known.byte > 0) {
            None => (head.start(source), Resumed::New),
            Some(known) if !head.is_of(known) => (head.start(source), Resumed::OtherBeginning),
            Some(known) => {
                let resumed = Resumed::GoesOn { byte: known.byte, line: known.line };
                (Position { source, ..known.clone() }, resumed)
            }
        };
        let content = Content { name, file, length: opened.length, is_gzip: is_gzip(path) };
        content.input(position, resumed)
    }

    /// Opens the file at `path` to read all of it, whatever was read before.
    pub fn whole(path: &Path) -> Result<Self, InputError> {
        let name = path.display().to_string();
        let opened = open(path).map_err(|source| failed(&name, source))?;
        if !opened.is_regular {
            return Ok(Self::stream(&name, Box::new(opened.file)));
        }
        let progress = Progress::new(Some(opened.length), 0);
        let counted = progress.counting(opened.file);
        let input =
            if is_gzip(path) { unpacked(counted, opened.length) } else { Box::new(counted) };
        let reader = LineReader::new(input, Pace::Filled, LastLine::Taken);
        Ok(Self { name, reader, start: None, resumed: Resumed::New, progress })
    }

    /// An input that comes as it comes, such as standard input; `name` stands in messages.
    pub fn stream(name: &str, input: Box<dyn Read + Send>) -> Self {
        let progress = Progress::new(None, 0);
        let counted: Box<dyn Read + Send> = Box::new(progress.counting(input));
        let reader = LineReader::new(counted, Pace::AsItComes, LastLine::Taken);
        Self { name: name.to_owned(), reader, start: None, resumed: Resumed::New, progress }
    }

    /// The next block of lines; `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<LineBlock>, InputError> {
        self.reader.next_block().map_err(|source| failed(&self.name, source))
    }

    /// The position to store with what was accepted of `block`, once all of it is. `None` for an
    /// input that is always read whole.
    pub fn position_after(&self, block: &LineBlock) -> Option<Position> {
        let start = self.start.as_ref()?;
        Some(Position { byte: block.end_byte, line: block.end_line, ..start.clone() })
    }

    /// How the file was found.
    pub fn resumed(&self) -> Resumed {
        self.resumed
    }

    /// The last line, if it was left unread; known at the end.
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.reader.unfinished()
    }

    /// How much was read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// What the input is called in messages and in `rejects.ndjson`.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The path under which the position of the file at `path` is stored.
pub fn canonical_source(path: &Path) -> Result<String, InputError> {
    let canonical: PathBuf =
        fs::canonicalize(path).map_err(|source| failed(&path.display().to_string(), source))?;
    Ok(canonical.to_string_lossy().into_owned())
}

struct Opened {
    file: File,
    is_regular: bool,
    length: u64,
}

fn open(path: &Path) -> io::Result<Opened> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Opened { file, is_regular: metadata.is_file(), length: metadata.len() })
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// What `file`, of `length` bytes, holds packed. An empty file is no gzip, but holds nothing.
fn unpacked(file: impl Read + Send + 'static, length: u64) -> Box<dyn Read + Send> {
    if length == 0 { Box::new(io::empty()) } else { Box::new(MultiGzDecoder::new(file)) }
}

fn failed(name: &str, source: io::Error) -> InputError {
    InputError::Io { source_name: name.to_owned(), source }
}

/// A regular file that stands at its start.
struct Content {
    name: String,
    file: File,
    length: u64,
    is_gzip: bool,
}

impl Content {
    /// The input that goes on at `position`.
    fn input(self, position: Position, resumed: Resumed) -> Result<Input, InputError> {
        let name = self.name.clone();
        let (input, progress) =
            if self.is_gzip { self.unpacked_at(position.byte)? } else { self.at(position.byte)? };
        let reader = LineReader::new(input, Pace::Filled, LastLine::LeftUnlessComplete)
            .starting_at(position.byte, position.line);
        Ok(Input { name, reader, start: Some(position), resumed, progress })
    }

    fn at(mut self, byte: u64) -> Result<(Box<dyn Read + Send>, Progress), InputError> {
        if byte > self.length {
            return Err(self.shorter(byte, self.length));
        }
        self.file.seek(SeekFrom::Start(byte)).map_err(|source| failed(&self.name, source))?;
        let progress = Progress::new(Some(self.length), byte);
        Ok((Box::new(progress.counting(self.file)), progress))
    }

    /// What was read before is unpacked again: gzip has no other way to a place within it.
    fn unpacked_at(self, byte: u64) -> Result<(Box<dyn Read + Send>, Progress), InputError> {
        let progress = Progress::new(Some(self.length), 0);
        let file = self.file.try_clone().map_err(|source| failed(&self.name, source))?;
        let mut unpacked = unpacked(progress.counting(file), self.length);
        let skipped = io::copy(&mut unpacked.by_ref().take(byte), &mut io::sink())
            .map_err(|source| failed(&self.name, source))?;
        if skipped < byte {
            return Err(self.shorter(byte, skipped));
        }
        Ok((unpacked, progress))
    }

    fn shorter(&self, accepted: u64, found: u64) -> InputError {
        InputError::Shorter { source_name: self.name.clone(), accepted, found }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A file that is read, grows, and is read again; `position` is what the log would hold.
    struct Case {
        directory: tempfile::TempDir,
        name: &'static str,
        position: Option<Position>,
    }

    impl Case {
        fn new(name: &'static str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            Self { directory, name, position: None }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join(self.name)
        }

        fn write(&self, content: &[u8]) {
            fs::write(self.path(), content).expect("written");
        }

        fn append(&self, content: &[u8]) {
            let mut file = File::options().append(true).open(self.path()).expect("there");
            file.write_all(content).expect("written");
        }

        /// Reads on: how the file was found, and the lines with their numbers.
        fn read(&mut self) -> Result<(Resumed, Vec<String>), InputError> {
            let mut input = Input::resume(&self.path(), self.position.as_ref())?;
            let mut lines = Vec::new();
            while let Some(block) = input.next_block()? {
                lines.extend(block.lines.iter().map(|line| {
                    let text = &block.bytes[line.start as usize..line.end as usize];
                    let number = block.first_line + u64::from(line.index);
                    format!("{number}:{}", String::from_utf8_lossy(text))
                }));
                self.position = input.position_after(&block);
            }
            Ok((input.resumed(), lines))
        }
    }

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).expect("memory can be written");
        encoder.finish().expect("memory can be written")
    }

    #[test]
    fn a_file_that_grew_goes_on_where_it_was_left() {
        let as_is: fn(&[u8]) -> Vec<u8> = <[u8]>::to_vec;
        for (name, form) in [("a.ndjson", as_is), ("a.ndjson.gz", packed)] {
            let mut case = Case::new(name);
            case.write(&form(b"[1]\n\n[2]\n"));
            let (found, lines) = case.read().expect("read");
            assert_eq!(
                (found, lines),
                (Resumed::New, vec!["1:[1]".into(), "3:[2]".into()]),
                "{name}"
            );
            let goes_on = |byte, line| Resumed::GoesOn { byte, line };
            assert_eq!(case.read().expect("read"), (goes_on(9, 4), vec![]), "{name}");
            case.append(&form(b"[3]\n[4"));
            assert_eq!(case.read().expect("read"), (goes_on(9, 4), vec!["4:[3]".into()]), "{name}");
            case.append(&form(b"]"));
            assert_eq!(
                case.read().expect("read"),
                (goes_on(13, 5), vec!["5:[4]".into()]),
                "{name}"
            );
            case.append(&form(b"\n[5]\n"));
            assert_eq!(
                case.read().expect("read"),
                (goes_on(16, 5), vec!["6:[5]".into()]),
                "{name}"
            );
        }
    }

    #[test]
    fn another_beginning_is_a_new_file() {
        let mut case = Case::new("a.ndjson");
        case.write(b"[1]\n[2]\n");
        case.read().expect("read");
        for content in [&b"[9]\n[2]\n[3]\n"[..], b"[1]\n"] {
            case.write(content);
            let (found, lines) = case.read().expect("read");
            let first = format!("1:{}", String::from_utf8_lossy(&content[..3]));
            assert_eq!((found, &lines[0]), (Resumed::OtherBeginning, &first));
        }
    }

    #[test]
    fn a_file_cut_after_its_beginning_is_an_error() {
        let content: Vec<u8> = b"[1234567]\n".repeat(1000);
        let mut case = Case::new("a.ndjson");
        case.write(&content);
        case.read().expect("read");
        case.write(&content[..5000]);
        let error = case.read().expect_err("cut");
        assert!(
            matches!(error, InputError::Shorter { accepted: 10_000, found: 5000, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_packed_file_cut_between_its_members_is_an_error() {
        let mut case = Case::new("a.ndjson.GZ");
        // Digits that do not repeat, so that the first member alone is over 4 KiB packed.
        let numbers: Vec<String> = (0_u64..4000).map(|n| (n * n * 7919).to_string()).collect();
        let digits = format!("[{}]\n", numbers.join("]\n["));
        let first = packed(digits.as_bytes());
        assert!(first.len() > 4096);
        case.write(&first);
        case.append(&packed(b"[1]\n"));
        case.read().expect("read");
        case.write(&first);
        let error = case.read().expect_err("cut");
        assert!(matches!(error, InputError::Shorter { .. }), "{error}");
    }

    #[test]
    fn a_packed_file_that_is_damaged_gives_its_lines_and_an_error() {
        let case = Case::new("a.gz");
        let whole = packed("[1]\n".repeat(100_000).as_bytes());
        case.write(&whole[..whole.len() - 4]);
        let mut input = Input::whole(&case.path()).expect("opened");
        let mut lines = 0;
        let error = loop {
            match input.next_block() {
                Ok(Some(block)) => lines += block.lines.len(),
                Ok(None) => panic!("the end is missing"),
                Err(error) => break error,
            }
        };
        assert_eq!(lines, 100_000);
        assert!(error.to_string().contains("a.gz cannot be read"), "{error}");
    }

    #[test]
    fn an_empty_file_has_no_lines() {
        for name in ["a.ndjson", "a.ndjson.gz"] {
            let mut case = Case::new(name);
            case.write(b"");
            assert_eq!(case.read().expect("read"), (Resumed::New, vec![]), "{name}");
            assert_eq!(case.position, None);
        }
    }

    #[test]
    fn a_file_read_whole_is_read_whole_each_time() {
        let case = Case::new("a.ndjson");
        case.write(b"[1]\n{\"half");
        for _ in 0..2 {
            let mut input = Input::whole(&case.path()).expect("opened");
            let block = input.next_block().expect("read").expect("a block");
            assert_eq!(input.position_after(&block), None);
            let last = input.next_block().expect("read").expect("a last line is taken");
            assert_eq!((last.bytes, last.first_line), (b"{\"half".to_vec(), 2));
            let progress = input.progress();
            assert_eq!((progress.read(), progress.total()), (10, Some(10)));
        }
    }

    #[test]
    fn what_is_no_file_is_said_so() {
        let case = Case::new("none.ndjson");
        let error = Input::resume(&case.path(), None).expect_err("there is none");
        assert!(error.to_string().contains("none.ndjson cannot be read"), "{error}");
        let error = Input::whole(case.directory.path()).expect_err("a directory");
        assert!(error.to_string().contains("directory"), "{error}");
    }
}
