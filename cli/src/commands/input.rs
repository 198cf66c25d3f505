//! Inputs as they are typed: a file, or `-` for stdin; and what the engine notices about them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use forebay_engine::engine::Notice;

use crate::exit_code::CliError;
use crate::output::{counted, number};

/// What stands for stdin.
pub(crate) const STDIN: &str = "-";

/// A file that is read as a stream, with its length if that is known.
pub(crate) struct Opened {
    /// Its bytes, unpacked.
    pub(crate) bytes: Box<dyn Read + Send>,
    /// Their number, if the input says.
    pub(crate) length: Option<u64>,
}

/// Opens an input that is read from its start to its end: `-`, or a file, unpacked if its name ends
/// in `.gz`.
pub(crate) fn open(path: &Path) -> Result<Opened, CliError> {
    if path == Path::new(STDIN) {
        return Ok(Opened { bytes: Box::new(std::io::stdin()), length: None });
    }
    check_readable(path)?;
    let file = File::open(path).map_err(|error| unreadable(path, &error.to_string()))?;
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz")) {
        let bytes = Box::new(flate2::read::MultiGzDecoder::new(file));
        return Ok(Opened { bytes, length: None });
    }
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
    Ok(Opened { bytes: Box::new(file), length })
}

/// Says now what would go wrong with `path` later: before anything was read, none of several
/// inputs is half done.
pub(crate) fn check_readable(path: &Path) -> Result<(), CliError> {
    if path == Path::new(STDIN) {
        return Ok(());
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error.to_string()))?;
    match file.metadata() {
        Ok(data) if data.is_dir() => Err(unreadable(path, "it is a directory")),
        _ => Ok(()),
    }
}

fn unreadable(path: &Path, why: &str) -> CliError {
    CliError::Usage(format!("cannot read the input {}: {why}", path.display()))
}

/// A notice as a line for stderr.
pub(crate) fn notice_text(notice: &Notice) -> String {
    match notice {
        Notice::Resumed { source, line, byte } => {
            format!("{source}: going on at line {line} (byte {byte}), where it was accepted")
        }
        Notice::OtherBeginning { source } => format!(
            "{source}: begins otherwise than the file that was read under this name; taking all of it"
        ),
        Notice::BehindClock { source, first, clock } => format!(
            "warning: {source} starts at {first}, before the clock ({clock}); its records apply, but \
             no time passes"
        ),
        Notice::PartialLine { source, line } => format!(
            "warning: {source}:{line}: the last line has no end and is no complete JSON; it was \
             left unread, the next run takes it"
        ),
        Notice::Reloaded { changes } if changes.is_empty() => {
            "the configuration was read again; it changes nothing".to_owned()
        }
        Notice::Reloaded { changes } => {
            format!("the configuration is in effect: {}", changes.join(", "))
        }
        Notice::ReloadRefused { reason } => {
            format!("error: the configuration cannot be used: {reason}\nThe one in effect stays.")
        }
        Notice::CheckpointUnused { reason } => {
            format!("the newest checkpoint is not used, and the whole log was read again: {reason}")
        }
        Notice::CheckpointRefused { reason } => format!(
            "warning: no checkpoint can be written: {reason}\n\
             Make room; it is tried again. Records are taken and exports are sent as before, but the next \
             start takes longer."
        ),
        Notice::DiskLow { data, free_bytes, total_bytes } => format!(
            "warning: the disk of {} is nearly full: {} of {} are free\n\
             Make room: a full disk stops the engine. Nothing that was accepted is lost then.",
            data.display(),
            counted(*free_bytes, "byte"),
            number(*total_bytes)
        ),
        Notice::DiskRecovered { free_bytes } => {
            format!("the disk is not nearly full any more: {} free", counted(*free_bytes, "byte"))
        }
        Notice::OldInput { source, first } => format!(
            "hint: {source} starts at {first}, and `now` is the wall clock; \
             `clock = \"event\"` in the configuration makes time pass as the records say"
        ),
    }
}

/// Where rejected lines are, and how many came in this run.
pub(crate) fn tell_rejects(rejected: u64, data: &Path) {
    if rejected > 0 {
        tell!(
            "{}: see {}",
            counted(rejected, "rejected line"),
            data.join("rejects.ndjson").display()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::path::Path;

    use forebay_engine::engine::Notice;

    use super::{check_readable, notice_text, open};

    #[test]
    fn a_notice_names_its_place() {
        let source = "r.ndjson".to_owned();
        // (notice, what it starts with)
        let cases = [
            (
                Notice::Resumed { source: source.clone(), line: 7, byte: 812 },
                "r.ndjson: going on at line 7 (byte 812)",
            ),
            (
                Notice::BehindClock {
                    source: source.clone(),
                    first: "f".to_owned(),
                    clock: "c".to_owned(),
                },
                "warning: r.ndjson starts at f, before the clock (c)",
            ),
            (
                Notice::PartialLine { source: source.clone(), line: 9 },
                "warning: r.ndjson:9: the last line",
            ),
            (
                Notice::Reloaded { changes: vec!["audience x added".to_owned()] },
                "the configuration is in effect: audience x added",
            ),
            (Notice::Reloaded { changes: Vec::new() }, "the configuration was read again"),
            (
                Notice::ReloadRefused { reason: "destination d: no".to_owned() },
                "error: the configuration cannot be used: destination d: no",
            ),
            (
                Notice::CheckpointRefused { reason: "no room for c".to_owned() },
                "warning: no checkpoint can be written: no room for c\nMake room",
            ),
            (Notice::OldInput { source, first: "f".to_owned() }, "hint: r.ndjson starts at f"),
        ];
        for (notice, expected) in cases {
            let text = notice_text(&notice);
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn a_packed_input_is_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.ndjson.gz");
        let mut packed = flate2::GzBuilder::new()
            .write(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(b"{}\n").unwrap();
        packed.finish().unwrap();
        let mut text = String::new();
        open(&path).unwrap().bytes.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{}\n");
    }

    #[test]
    fn what_cannot_be_read_is_said_before_anything_starts() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.ndjson");
        // (path, what is said, if anything)
        let cases = [
            (Path::new("-"), None),
            (missing.as_path(), Some("No such file")),
            (directory.path(), Some("it is a directory")),
        ];
        for (path, expected) in cases {
            let said = check_readable(path).err().map(|error| error.to_string());
            match expected {
                None => assert_eq!(said, None),
                Some(part) => assert!(said.as_ref().is_some_and(|s| s.contains(part)), "{said:?}"),
            }
        }
    }
}
