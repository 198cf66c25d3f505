//! From lines to records, in parallel.
//!
//! A block is parsed in slices, one task each, and put together in the order of its lines, so that
//! the result does not depend on how many threads there are. Nothing is copied: the bytes that were
//! read become the batch's text.

use std::collections::BTreeSet;
use std::ops::Range;

use rayon::prelude::*;

use super::batch::{LogTextError, Record, RecordBatch, RecordKind, RecordRef};
use super::event_types::EventTypes;
use super::form;
use super::identity_map::{self, Namespaces};
use super::reject::{Reject, RejectedInput};
use crate::input::{BlockLine, LineBlock};
use crate::json::{self, Documents};

/// Lines a task parses. Some 100 microseconds of work, against a few for handing it over.
const SLICE_LINES: usize = 256;

/// What a line is checked against beside its own form.
#[derive(Clone, Debug, Default)]
pub struct ParseRules {
    /// The upload audiences, which alone a membership record may name.
    pub upload_audiences: BTreeSet<Box<str>>,
}

impl ParseRules {
    /// Checks a record that other rules have let through.
    pub fn check_again(&self, record: RecordRef<'_>) -> Result<(), String> {
        match record.membership() {
            Some((audience, _)) if !self.upload_audiences.contains(&*audience) => {
                Err(form::no_upload(&json::quote(&audience)))
            }
            _ => Ok(()),
        }
    }
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
        documents: Vec::with_capacity(slices.len()),
        namespaces: Namespaces::default(),
        event_types: Box::default(),
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
            documents: Vec::with_capacity(slices.len()),
            namespaces: Namespaces::default(),
            event_types: Box::default(),
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
        let types: Vec<u32> =
            slice.event_types.names().iter().map(|name| self.event_types.intern(name)).collect();
        let place = u32::try_from(self.documents.len()).expect("fewer slices than lines");
        for record in &mut slice.records {
            record.slice = place;
            if let RecordKind::Event { event_type: Some(event_type), .. } = &mut record.kind {
                *event_type = types[*event_type as usize];
            }
            for identity in &mut record.identities {
                identity.namespace = indices[identity.namespace as usize];
            }
        }
        self.documents.push(slice.documents);
        self.records.append(&mut slice.records);
    }
}

/// What one task made of its lines.
#[derive(Default)]
struct Slice {
    records: Vec<Record>,
    refused: Vec<(BlockLine, String)>,
    documents: Documents,
    namespaces: Namespaces,
    event_types: EventTypes,
}

impl Slice {
    fn parse(text: &str, lines: &[BlockLine], uploads: Option<&BTreeSet<Box<str>>>) -> Self {
        let bytes = lines.iter().map(|line| (line.end - line.start) as usize).sum();
        let mut slice = Self {
            records: Vec::with_capacity(lines.len()),
            documents: Documents::for_bytes(bytes),
            ..Self::default()
        };
        for line in lines {
            match slice.record(text, line, uploads) {
                Ok(record) => slice.records.push(record),
                Err(error) => slice.refused.push((*line, error)),
            }
        }
        slice
    }

    fn record(
        &mut self,
        text: &str,
        line: &BlockLine,
        uploads: Option<&BTreeSet<Box<str>>>,
    ) -> Result<Record, String> {
        let read = self.documents.read(text, line.start as usize, line.end as usize);
        let root = read.map_err(|error| {
            format!("line: expected one JSON object, found text that is none: {error}")
        })?;
        let form = form::read(self.documents.at(text, root), uploads)?;
        let identities = identity_map::read(form.identity_map, form.path, &mut self.namespaces)?;
        let (mut kind, timestamp, dataset) = (form.kind, form.timestamp, form.dataset);
        if let RecordKind::Event { event_type, .. } = &mut kind {
            let name = form.event_type.and_then(|value| value.as_str());
            *event_type = name.map(|name| self.event_types.intern(&name));
        }
        Ok(Record {
            line: line.start..line.end,
            line_index: line.index,
            slice: 0,
            root,
            kind,
            identities,
            timestamp,
            dataset,
        })
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input::{LastLine, LineReader, Pace};
    use crate::record::{MembershipStatus, RecordRef};

    fn parsed(input: &[u8]) -> ParsedBlock {
        let mut reader = LineReader::new(input, Pace::Filled, LastLine::Taken);
        let block = reader.next_block().expect("memory can be read").expect("a block");
        assert_eq!(reader.next_block().expect("memory can be read"), None, "one block is enough");
        parse_lines(block, &ParseRules { upload_audiences: ["vip_list".into()].into() })
    }

    fn only(line: &str) -> RecordBatch {
        let ParsedBlock { batch, rejects } = parsed(line.as_bytes());
        assert_eq!((batch.len(), rejects), (1, vec![]), "{line}");
        batch
    }

    /// `namespace:id` of each identity, the primary one with a star.
    fn identities(record: RecordRef<'_>) -> String {
        let shown = |identity: crate::record::IdentityRef<'_>| {
            let star = if identity.primary { "*" } else { "" };
            format!("{}:{}{star}", identity.namespace, identity.id)
        };
        record.identities().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_bad_line_is_told_with_its_place_and_the_rest_is_read() {
        let lines: [(&[u8], bool); 9] = [
            (br#"{"event":{"_id":"e1","timestamp":"2026-01-01T10:00:00Z","identityMap":{"A":[{"id":"1"}]}}}"#, true),
            (b"{\"event\":", false),
            (b"[1,2]", false),
            (b"", true),
            (b"{\"profile\":{\"identityMap\":{\"A\":[{\"id\":\"c\xff3\"}]}}}", false),
            ("{\"event\":{\"_id\":\"é\",\"timestamp\":\"soon\"}}".as_bytes(), false),
            (b" \t", true),
            (br#"{"delete":{"identityMap":{"A":[{"id":"2"}]}}}"#, true),
            (b"}", false),
        ];
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for (line, (bytes, is_fine)) in (1..).zip(lines) {
            if !is_fine {
                let kept = match std::str::from_utf8(bytes) {
                    Ok(text) => RejectedInput::Text(text.to_owned()),
                    Err(_) => RejectedInput::Bytes(bytes.to_vec()),
                };
                expected.push((line, input.len() as u64, kept));
            }
            input.extend([bytes, b"\n"].concat());
        }
        let ParsedBlock { batch, rejects } = parsed(&input);
        let got: Vec<_> =
            rejects.into_iter().map(|reject| (reject.line, reject.byte, reject.input)).collect();
        assert_eq!(got, expected);
        assert_eq!(batch.iter().map(identities).collect::<Vec<_>>(), ["a:1*", "a:2*"]);
    }

    #[test]
    fn a_block_of_many_slices_keeps_the_order_of_its_lines() {
        let line = |n: usize| match n % 3 {
            0 => format!(
                "{{\"delete\":{{\"identityMap\":{{\"N{}\":[{{\"id\":\"{n}\"}}]}}}}}}\n",
                n % 7
            ),
            1 => format!("{{\"delete\":{{\"identityMap\":{{\"n0\":[{{\"id\":\"{n}\"}}]}}}}}}\n"),
            _ => "{}\n".to_owned(),
        };
        let count = SLICE_LINES * 5 + 17;
        let input: String = (0..count).map(line).collect();
        let ParsedBlock { batch, rejects } = parsed(input.as_bytes());
        let good: Vec<usize> = (0..count).filter(|n| n % 3 != 2).collect();
        assert_eq!(batch.len(), good.len());
        for (record, n) in batch.iter().zip(good) {
            let identity = record.primary_identity();
            let namespace = if n % 3 == 0 { format!("n{}", n % 7) } else { "n0".to_owned() };
            assert_eq!((identity.namespace, &*identity.id), (&*namespace, &*n.to_string()));
            assert_eq!(&*batch.namespaces()[identity.namespace_index], namespace);
            assert_eq!(record.raw_line(), line(n).trim_end());
        }
        assert_eq!(batch.namespaces().len(), 7);
        let bad: Vec<u64> = (0..count as u64).filter(|n| n % 3 == 2).map(|n| n + 1).collect();
        assert_eq!(rejects.iter().map(|reject| reject.line).collect::<Vec<_>>(), bad);
    }

    #[test]
    fn the_first_primary_identity_is_the_primary_one() {
        // (what it shows, the identity map, the identities)
        let cases = [
            ("the first, if none is marked", r#"{"A":[{"id":"1"},{"id":"2"}]}"#, "a:1* a:2"),
            (
                "one that is marked",
                r#"{"A":[{"id":"1"}],"B":[{"id":"2","primary":true}]}"#,
                "a:1 b:2*",
            ),
            (
                "of two that are marked, the first",
                r#"{"A":[{"id":"1","primary":false},{"id":"2","primary":true}],"B":[{"id":"3","primary":true}]}"#,
                "a:1 a:2* b:3",
            ),
            (
                "spellings are one namespace",
                r#"{"ÉCID":[{"id":"X"}],"écid":[{"id":"x"}]}"#,
                "écid:X* écid:x",
            ),
            ("escapes are read", r#"{"\u0041b":[{"id":"caf\u00e9\n"}]}"#, "ab:café\n*"),
        ];
        for (name, map, expected) in cases {
            let batch = only(&format!("{{\"delete\":{{\"identityMap\":{map}}}}}"));
            assert_eq!(identities(batch.get(0)), expected, "{name}");
        }
    }

    #[test]
    fn each_form_is_read_as_what_it_is() {
        const IDS: &str = r#""identityMap":{"CRMID":[{"id":"c1"}]}"#;
        // (the line, where @ is an identity map; kind, dataset, time in ms)
        let cases = [
            (
                r#"{"profile":{@},"dataset":"crm","timestamp":"1970-01-01T00:00:03.888Z"}"#,
                "profile",
                "crm",
                Some(3888),
            ),
            (r#"{"profile":{@}}"#, "profile", "default", None),
            (
                r#"{"event":{"_id":"e1","timestamp":"1970-01-01T02:00:01+02:00",@},"dataset":"web","timestamp":"1970-01-01T00:00:09Z"}"#,
                "event e1 -",
                "web",
                Some(1000),
            ),
            (
                r#"{"event":{"_id":"\u0065","timestamp":"1970-01-01T00:00:00Z","eventType":"a.b",@}}"#,
                "event e a.b",
                "default",
                Some(0),
            ),
            (
                r#"{"membership":{"audience":"vip_list",@,"status":"exited"},"timestamp":"1970-01-02T00:00:00Z"}"#,
                "vip_list exited",
                "default",
                Some(86_400_000),
            ),
            (r#"{"delete":{@}}"#, "delete", "default", None),
            (
                r#"{"header":{"datasetId":"web"},"body":{"xdmEntity":{"_id":"e2","timestamp":"1970-01-01T00:00:01Z",@}}}"#,
                "event e2 -",
                "web",
                Some(1000),
            ),
            (
                r#"{"header":{"datasetId":"crm"},"body":{"xdmEntity":{"_id":"e2",@}},"timestamp":"1970-01-01T00:00:02Z"}"#,
                "profile",
                "crm",
                Some(2000),
            ),
            (
                r#"{"header":{},"body":{"xdmEntity":{"timestamp":"1970-01-01T00:00:01Z",@}}}"#,
                "profile",
                "default",
                None,
            ),
        ];
        for (line, kind, dataset, time) in cases {
            let batch = only(&line.replace('@', IDS));
            let record = batch.get(0);
            let shown = match record.kind() {
                RecordKind::Profile { .. } => "profile".to_owned(),
                RecordKind::Event { .. } => {
                    let event_type = record.event_type().unwrap_or("-");
                    format!("event {} {event_type}", record.event_id().expect("an event's id"))
                }
                RecordKind::Membership { status, .. } => {
                    let (audience, _) = record.membership().expect("a membership");
                    let word =
                        if status == MembershipStatus::Exited { "exited" } else { "realized" };
                    format!("{audience} {word}")
                }
                RecordKind::Delete => "delete".to_owned(),
                RecordKind::Stub => panic!("no line is a stub"),
            };
            let stamp = record.timestamp().map(crate::clock::Timestamp::as_millis);
            assert_eq!((&*shown, &*record.dataset(), stamp), (kind, dataset, time), "{line}");
        }
    }

    #[test]
    fn values_stay_as_received() {
        let v = r#"{"price":1.10,"big":12345678901234567890,"text":"caf\u00e9 \"q\" \\ \n","list":[1,2.0,null,{"k":3.140}]}"#;
        let line = format!(
            "\r\n{{\"profile\":{{\"identityMap\":{{\"A\":[{{\"id\":\"1\"}}]}},\"v\":{v}}},\"extra\":{{}}}}\r\n"
        );
        let batch = only(&line);
        let record = batch.get(0);
        let attributes = record.attributes().expect("a profile record");
        assert_eq!(attributes.get("v").map(|value| value.raw()), Some(v));
        assert_eq!(record.raw_line(), line.trim());
        assert!(record.event_body().is_none() && record.event_id().is_none());
        assert!(record.root().get("extra").is_some());
    }

    #[test]
    fn the_log_is_read_back_as_it_was_written() {
        let line = |n| format!("{{\"delete\":{{\"identityMap\":{{\"A\":[{{\"id\":\"{n}\"}}]}}}}}}");
        let gone = r#"{"membership":{"audience":"gone","status":"realized","identityMap":{"A":[{"id":"m"}]}}}"#;
        let text = format!("{}\n{gone}\n{}\n", line(1), line(2));
        let ends: Vec<u32> =
            text.match_indices('\n').map(|(at, _)| u32::try_from(at).unwrap()).collect();
        let ranges = [0..ends[0], ends[0] + 1..ends[1], ends[1] + 1..ends[2]];
        let batch = RecordBatch::from_log(text.clone(), &ranges).expect("stored lines are records");
        assert_eq!(batch.iter().map(identities).collect::<Vec<_>>(), ["a:1*", "a:m*", "a:2*"]);

        let damaged = RecordBatch::from_log(text, &[0..ends[0], 5..ends[1]]).expect_err("damaged");
        assert_eq!(damaged.index, 1);
    }

    #[test]
    fn the_appender_can_refuse_records_after_all() {
        let line = |n| format!("{{\"delete\":{{\"identityMap\":{{\"A\":[{{\"id\":\"{n}\"}}]}}}}}}");
        let input = format!("{}\n{{}}\n{}\n\n{}\n{}\n", line(0), line(1), line(2), line(3));
        let ParsedBlock { mut batch, .. } = parsed(input.as_bytes());
        let rejects = batch.refuse(&[(1, "late".to_owned()), (2, "later".to_owned())]);
        assert_eq!(batch.iter().map(identities).collect::<Vec<_>>(), ["a:0*", "a:3*"]);
        let at = |n: usize| input.find(&line(n)).expect("it is there") as u64;
        let told = |reject: &Reject| {
            (reject.line, reject.byte, reject.error.clone(), reject.input.clone())
        };
        assert_eq!(
            rejects.iter().map(told).collect::<Vec<_>>(),
            [
                (3, at(1), "late".to_owned(), RejectedInput::Text(line(1))),
                (5, at(2), "later".to_owned(), RejectedInput::Text(line(2))),
            ]
        );
        assert_eq!(batch.refuse(&[]), []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_records_or_rejects(
            lines in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                "[{}\\[\\]\":,a-z0-9 \\\\]{0,60}".prop_map(String::into_bytes),
                mutated(br#"{"event":{"_id":"e","timestamp":"2026-01-01T00:00:00Z","identityMap":{"A":[{"id":"1","primary":true}]}}}"#),
                mutated(br#"{"header":{"datasetId":"w"},"body":{"xdmEntity":{"identityMap":{"A":[{"id":"1"}]}}}}"#),
            ], 1..40)
        ) {
            let input = lines.join(&b'\n');
            let mut reader = LineReader::new(&*input, Pace::Filled, LastLine::Taken);
            let Some(block) = reader.next_block()? else { return Ok(()) };
            let count = block.lines.len();
            let ParsedBlock { batch, rejects } = parse_lines(block, &ParseRules::default());
            prop_assert_eq!(batch.len() + rejects.len(), count);
            for record in batch.iter() {
                prop_assert_eq!(record.identities().filter(|identity| identity.primary).count(), 1);
                let range = 0..u32::try_from(record.raw_line().len()).unwrap();
                prop_assert!(RecordBatch::from_log(record.raw_line().to_owned(), &[range]).is_ok());
            }
            for reject in rejects {
                let kept = match &reject.input {
                    RejectedInput::Text(text) => text.as_bytes(),
                    RejectedInput::Bytes(bytes) => bytes,
                    RejectedInput::TooLong { head, .. } => head,
                };
                prop_assert!(input[usize::try_from(reject.byte).unwrap()..].starts_with(kept));
            }
        }
    }

    /// `line` with a few of its bytes replaced.
    fn mutated(line: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec((0..line.len(), any::<u8>()), 0..3).prop_map(|changes| {
            let mut line = line.to_vec();
            for (at, byte) in changes {
                line[at] = byte;
            }
            line
        })
    }
}
