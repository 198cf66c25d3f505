//! From lines to records, in parallel.
//!
//! A block is parsed in slices, one task each, and put together in the order of its lines, so that
//! the result does not depend on how many threads there are. Nothing is copied: the bytes that were
//! read become the batch's text.

use std::collections::BTreeSet;
use std::ops::Range;

use rayon::prelude::*;

use super::batch::{LogTextError, Record, RecordBatch};
use super::form;
use super::identity_map::{self, Namespaces};
use super::reject::{Reject, RejectedInput};
use crate::input::{BlockLine, LineBlock};
use crate::json::Document;

/// Lines a task parses. Some 100 microseconds of work, against a few for handing it over.
const SLICE_LINES: usize = 256;

/// What a line is checked against beside its own form.
#[derive(Clone, Debug, Default)]
pub struct ParseRules {
    /// The upload audiences, which alone a membership record may name.
    pub upload_audiences: BTreeSet<Box<str>>,
}

/// A block of lines, each either a record or a reject.
#[derive(Debug)]
pub struct ParsedBlock {
    /// The records, in the order of their lines.
    pub batch: RecordBatch,
    /// The refused lines, in order.
    pub rejects: Vec<Reject>,
}

/// Parses and checks the lines of `block`. Time is not checked here; see
/// [`checked_at`](super::checked_at).
pub fn parse_lines(block: LineBlock, rules: &ParseRules) -> ParsedBlock {
    let LineBlock { bytes, mut lines, too_long, first_byte, first_line, .. } = block;
    let origin = Origin { first_byte, first_line };
    let (text, mut rejects) = origin.into_text(bytes, &mut lines);
    let slices: Vec<Slice> = lines
        .par_chunks(SLICE_LINES)
        .map(|lines| Slice::parse(&text, lines, Some(&rules.upload_audiences)))
        .collect();
    let mut batch = RecordBatch {
        text,
        records: Vec::with_capacity(lines.len()),
        namespaces: Namespaces::default(),
        first_byte,
        first_line,
    };
    for slice in slices {
        rejects.extend(slice.refused.iter().map(|(line, error)| {
            let input = batch.text[line.start as usize..line.end as usize].to_owned();
            origin.reject(line, error, RejectedInput::Text(input))
        }));
        batch.take(slice);
    }
    rejects.sort_by_key(|reject| reject.line);
    rejects.extend(too_long.map(Reject::too_long));
    ParsedBlock { batch, rejects }
}

impl RecordBatch {
    /// Reads records back from the log: the lines at `ranges` of `text`, which were found right
    /// before they were stored. Audiences are not checked, as the configuration of then may be gone.
    pub fn from_log(text: String, ranges: &[Range<u32>]) -> Result<Self, LogTextError> {
        let lines: Vec<BlockLine> = (0_u32..)
            .zip(ranges)
            .map(|(index, range)| BlockLine { start: range.start, end: range.end, index })
            .collect();
        let slices: Vec<Slice> =
            lines.par_chunks(SLICE_LINES).map(|lines| Slice::parse(&text, lines, None)).collect();
        let mut batch = Self {
            text,
            records: Vec::with_capacity(lines.len()),
            namespaces: Namespaces::default(),
            first_byte: 0,
            first_line: 1,
        };
        for slice in slices {
            if let Some((line, reason)) = slice.refused.first() {
                let (index, reason) = (line.index as usize, reason.clone());
                return Err(LogTextError { index, reason });
            }
            batch.take(slice);
        }
        Ok(batch)
    }

    /// Appends the records of the slice that follows.
    fn take(&mut self, mut slice: Slice) {
        let indices: Vec<u32> =
            slice.namespaces.names().iter().map(|name| self.namespaces.intern(name)).collect();
        for identity in slice.records.iter_mut().flat_map(|record| &mut record.identities) {
            identity.namespace = indices[identity.namespace as usize];
        }
        self.records.append(&mut slice.records);
    }
}

/// What one task made of its lines.
#[derive(Default)]
struct Slice {
    records: Vec<Record>,
    refused: Vec<(BlockLine, String)>,
    namespaces: Namespaces,
}

impl Slice {
    fn parse(text: &str, lines: &[BlockLine], uploads: Option<&BTreeSet<Box<str>>>) -> Self {
        let mut slice = Self { records: Vec::with_capacity(lines.len()), ..Self::default() };
        for line in lines {
            match record(text, line, uploads, &mut slice.namespaces) {
                Ok(record) => slice.records.push(record),
                Err(error) => slice.refused.push((*line, error)),
            }
        }
        slice
    }
}

fn record(
    text: &str,
    line: &BlockLine,
    uploads: Option<&BTreeSet<Box<str>>>,
    namespaces: &mut Namespaces,
) -> Result<Record, String> {
    let document =
        Document::parse_at(text, line.start as usize, line.end as usize).map_err(|error| {
            format!("line: expected one JSON object, found text that is none: {error}")
        })?;
    let form = form::read(document.root(text), uploads)?;
    let identities = identity_map::read(form.owner, form.path, namespaces)?;
    let (kind, timestamp, dataset) = (form.kind, form.timestamp, form.dataset);
    Ok(Record {
        line: line.start..line.end,
        line_index: line.index,
        document,
        kind,
        identities,
        timestamp,
        dataset,
    })
}

/// Where a block stands in its input.
#[derive(Clone, Copy)]
struct Origin {
    first_byte: u64,
    first_line: u64,
}

impl Origin {
    fn reject(self, line: &BlockLine, error: &str, input: RejectedInput) -> Reject {
        Reject {
            line: self.first_line + u64::from(line.index),
            byte: self.first_byte + u64::from(line.start),
            error: error.to_owned(),
            input,
        }
    }

    /// Makes text of `bytes`. Lines that are not UTF-8 leave `lines` as rejects, and spaces take
    /// their place, so that every other position stays.
    fn into_text(self, bytes: Vec<u8>, lines: &mut Vec<BlockLine>) -> (String, Vec<Reject>) {
        let mut bytes = match String::from_utf8(bytes) {
            Ok(text) => return (text, Vec::new()),
            Err(error) => error.into_bytes(),
        };
        let mut rejects = Vec::new();
        lines.retain(|line| {
            let raw = &mut bytes[line.start as usize..line.end as usize];
            let Err(error) = std::str::from_utf8(raw) else { return true };
            let column = error.valid_up_to() + 1;
            let reason = format!("line: expected UTF-8, found another byte at column {column}");
            rejects.push(self.reject(line, &reason, RejectedInput::Bytes(raw.to_vec())));
            raw.fill(b' ');
            false
        });
        let text = String::from_utf8(bytes).expect("only lines hold bytes that are not ASCII");
        (text, rejects)
    }
}
