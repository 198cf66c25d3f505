//! The members of an upload audience, from a CSV file to membership records (`SPEC.md` §5).
//!
//! Each row becomes the line that a membership record would have been written as, so that the log, and
//! whoever reads it, knows one form only. A row that names nobody is a reject, with its own place and
//! text in the file; the rest goes on.

use std::io::{self, Read};

use super::parse::{ParseRules, ParsedBlock, parse_lines};
use super::reject::{Reject, RejectedInput};
use crate::input::{BlockLine, LINE_BYTES_MAX, LineBlock, Row, RowReader};
use crate::json::quote;

/// Most rows of a block.
const BLOCK_ROWS_MAX: usize = 4096;

/// Bytes of lines and rejects after which a block is full.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Columns that a message names at most.
const COLUMNS_SHOWN: usize = 30;

/// What a membership line ends with, after the id.
const AFTER_ID: &str = "}]},\"status\":\"realized\"}}\n";

/// Whose list it is, and what its rows hold.
#[derive(Clone, Copy, Debug)]
pub struct MemberColumn<'a> {
    /// The audience.
    pub audience: &'a str,
    /// The name of the column with the members' ids.
    pub column: &'a str,
    /// The namespace of the ids.
    pub namespace: &'a str,
}

/// Why a list cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberListError {
    /// The file is not the one that was meant: nothing was read but its header.
    #[error("{0}")]
    Header(String),
    /// The system, or the decompression, failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The memberships may not be written any more.
    #[error("{0}")]
    Refused(String),
}

/// The rows of a list, as blocks of membership records.
pub struct MemberList<R> {
    rows: RowReader<R>,
    columns: usize,
    column: usize,
    name: String,
    before_id: String,
}

impl<R: Read> MemberList<R> {
    /// Reads the header row and finds the column.
    pub fn open(input: R, of: &MemberColumn<'_>) -> Result<Self, MemberListError> {
        if of.namespace.is_empty() {
            let message = "the namespace of the ids is empty; name one such as Email";
            return Err(MemberListError::Header(message.to_owned()));
        }
        let mut rows = RowReader::new(input);
        let header = match rows.next_row()? {
            Some(row) => header(row).map_err(MemberListError::Header)?,
            None => return Err(MemberListError::Header("it has no header row".to_owned())),
        };
        let column = find(&header, of.column).map_err(MemberListError::Header)?;
        let (audience, namespace) = (quote(of.audience), quote(of.namespace));
        let before_id = format!(
            "{{\"membership\":{{\"audience\":{audience},\"identityMap\":{{{namespace}:[{{\"id\":"
        );
        Ok(Self { rows, columns: header.len(), column, name: of.column.to_owned(), before_id })
    }

    /// The next rows: members as membership records, the others as rejects. `None` at the end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or `rules` do not know the audience any more.
    pub fn next_block(
        &mut self,
        rules: &ParseRules,
    ) -> Result<Option<ParsedBlock>, MemberListError> {
        let mut block = LineBlock::default();
        let mut rejects = Vec::new();
        let mut rejected_bytes = 0;
        while block.lines.len() + rejects.len() < BLOCK_ROWS_MAX
            && block.bytes.len() + rejected_bytes < BLOCK_BYTES_MAX
        {
            let Some(row) = self.rows.next_row()? else { break };
            let start = block.bytes.len();
            let added = member(row, (self.columns, self.column), &self.name).and_then(|id| {
                block.bytes.extend_from_slice(self.before_id.as_bytes());
                block.bytes.extend_from_slice(quote(id).as_bytes());
                block.bytes.extend_from_slice(AFTER_ID.as_bytes());
                let length = block.bytes.len() - start - 1;
                if length > LINE_BYTES_MAX {
                    return Err(format!(
                        "column `{}`: expected an id that fits a record of 1 MiB, found one of {} \
                         bytes",
                        self.name,
                        id.len()
                    ));
                }
                Ok(length)
            });
            match added {
                Ok(length) => block.lines.push(line(start, length, block.lines.len())),
                Err(error) => {
                    block.bytes.truncate(start);
                    rejected_bytes += row.as_received().len();
                    rejects.push(reject(row, error));
                }
            }
        }
        if block.lines.is_empty() && rejects.is_empty() {
            return Ok(None);
        }
        let mut parsed = parse_lines(block, rules);
        if let Some(refused) = parsed.rejects.first() {
            return Err(MemberListError::Refused(refused.error.clone()));
        }
        parsed.rejects = rejects;
        Ok(Some(parsed))
    }

    /// How many bytes of the file were read.
    pub fn read(&self) -> u64 {
        self.rows.byte()
    }
}

/// The names of the columns.
fn header(row: &Row) -> Result<Vec<String>, String> {
    if row.is_too_long() {
        return Err("its first row, which should name the columns, is over 1 MiB".to_owned());
    }
    let names = row.fields().map(|field| std::str::from_utf8(field).map(str::to_owned));
    names.collect::<Result<_, _>>().map_err(|_| {
        "its first row, which should name the columns, is not UTF-8; is it packed, or in another \
         encoding?"
            .to_owned()
    })
}

/// The place of the column called `wanted`.
fn find(header: &[String], wanted: &str) -> Result<usize, String> {
    let mut found = header.iter().enumerate().filter(|(_, name)| *name == wanted);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(format!("it has two columns `{wanted}`; give each column a name of its own"))
        }
        (None, _) => {
            let names: Vec<String> =
                header.iter().take(COLUMNS_SHOWN).map(|name| format!("`{name}`")).collect();
            let more = match header.len().saturating_sub(COLUMNS_SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let one = header.len() == 1 && header[0].contains([';', '\t']);
            let hint = if one { "; columns are separated by commas" } else { "" };
            let (are, s) = if header.len() == 1 { ("is", "") } else { ("are", "s") };
            Err(format!(
                "it has no column `{wanted}`; its column{s} {are} {}{more}{hint}",
                names.join(", ")
            ))
        }
    }
}

/// The id of the member that a row names; else what is wrong with it.
fn member<'a>(
    row: &'a Row,
    (columns, column): (usize, usize),
    name: &str,
) -> Result<&'a str, String> {
    if row.is_too_long() {
        return Err(format!(
            "row: expected at most 1 MiB, found {} bytes; a quote that is not closed joins rows",
            row.bytes()
        ));
    }
    if let Err(error) = std::str::from_utf8(row.as_received()) {
        let at = error.valid_up_to() + 1;
        return Err(format!("row: expected UTF-8, found another byte at column {at}"));
    }
    let fields = row.fields().len();
    if fields != columns {
        let s = if columns == 1 { "" } else { "s" };
        return Err(format!("row: expected {columns} field{s} as in the header, found {fields}"));
    }
    let id = std::str::from_utf8(row.field(column));
    let id = id.map_err(|_| format!("column `{name}`: expected UTF-8"))?;
    if id.is_empty() {
        return Err(format!("column `{name}`: expected an id, found nothing"));
    }
    Ok(id)
}

fn line(start: usize, length: usize, index: usize) -> BlockLine {
    let position = |at: usize| u32::try_from(at).expect("a block has a few MiB at most");
    BlockLine { start: position(start), end: position(start + length), index: position(index) }
}

fn reject(row: &Row, error: String) -> Reject {
    let received = row.as_received();
    let input = if row.is_too_long() {
        RejectedInput::TooLong { head: received.to_vec(), bytes: row.bytes() }
    } else {
        match std::str::from_utf8(received) {
            Ok(text) => RejectedInput::Text(text.to_owned()),
            Err(_) => RejectedInput::Bytes(received.to_vec()),
        }
    };
    Reject { line: row.line(), byte: row.byte(), error, input }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ROW_BYTES_MAX;

    const OF: MemberColumn<'_> =
        MemberColumn { audience: "vip", column: "id", namespace: "CRM\"ID" };

    fn rules() -> ParseRules {
        ParseRules { upload_audiences: ["vip".into()].into() }
    }

    /// The lines of the records, and each reject as `line@byte error`.
    fn read(input: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut list = MemberList::open(input, &OF).expect("the header is right");
        let (mut lines, mut rejects) = (Vec::new(), Vec::new());
        while let Some(block) = list.next_block(&rules()).expect("it can be read") {
            lines.extend(block.batch.iter().map(|record| record.raw_line().to_owned()));
            let told =
                |reject: &Reject| format!("{}@{} {}", reject.line, reject.byte, reject.error);
            rejects.extend(block.rejects.iter().map(told));
        }
        assert_eq!(list.read(), input.len() as u64);
        (lines, rejects)
    }

    fn membership(id: &str) -> String {
        format!(
            r#"{{"membership":{{"audience":"vip","identityMap":{{"CRM\"ID":[{{"id":{id}}}]}},"status":"realized"}}}}"#
        )
    }

    #[test]
    fn each_row_is_a_membership_or_a_reject() {
        let input = b"name,id\nAna,1\n\n\"B, \"\"b\"\"\",\"2 \"\"x\"\"\"\nC\nD,4,5\nE,\n\"F\nf\",6\nG\xff,7\nH,\xc3\xa9\\\n";
        let (lines, rejects) = read(input);
        let expected = [
            membership("\"1\""),
            membership(r#""2 \"x\"""#),
            membership("\"6\""),
            membership(r#""é\\""#),
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            rejects,
            [
                "5@36 row: expected 2 fields as in the header, found 1",
                "6@38 row: expected 2 fields as in the header, found 3",
                "7@44 column `id`: expected an id, found nothing",
                "10@55 row: expected UTF-8, found another byte at column 2",
            ]
        );
    }

    #[test]
    fn rows_and_ids_that_are_too_long_are_rejects_and_the_rest_is_read() {
        let open = format!("\"{}\"", "x\n".repeat(ROW_BYTES_MAX));
        // Each of them takes six bytes in JSON.
        let control = "\u{1}".repeat(LINE_BYTES_MAX / 6);
        let (lines, rejects) = read(format!("id\n1\n{open}\n{control}\n2\n").as_bytes());
        assert_eq!(lines, [membership("\"1\""), membership("\"2\"")]);
        assert_eq!(rejects.len(), 2);
        assert!(
            rejects[0].starts_with("3@5 row: expected at most 1 MiB, found 2097155"),
            "{rejects:?}"
        );
        assert!(rejects[1].contains("column `id`: expected an id that fits"), "{rejects:?}");
    }

    #[test]
    fn blocks_keep_the_order_of_the_rows() {
        let ids: Vec<String> = (0..BLOCK_ROWS_MAX * 3 + 5).map(|n| n.to_string()).collect();
        let (lines, rejects) = read(format!("id\n{}", ids.join("\n")).as_bytes());
        assert!(rejects.is_empty());
        let expected: Vec<String> = ids.iter().map(|id| membership(&format!("\"{id}\""))).collect();
        assert!(lines == expected, "{} lines", lines.len());
    }

    #[test]
    fn a_file_that_is_not_meant_is_refused_by_its_header() {
        let many: Vec<String> = (0..33).map(|n| format!("c{n}")).collect();
        let shown: Vec<String> = (0..30).map(|n| format!("`c{n}`")).collect();
        let long =
            format!("it has no column `id`; its columns are {} and 3 more", shown.join(", "));
        // (what it shows, the file, what is said)
        let cases = [
            ("no row", "\n", "it has no header row"),
            (
                "another column",
                "Id, id\n1,2\n",
                "it has no column `id`; its columns are `Id`, ` id`",
            ),
            (
                "another separator",
                "id;name\n",
                "it has no column `id`; its column is `id;name`; columns are separated by commas",
            ),
            ("many columns", &many.join(","), &long),
            (
                "a name twice",
                "id,x,id\n",
                "it has two columns `id`; give each column a name of its own",
            ),
        ];
        for (name, file, expected) in cases {
            let said = MemberList::open(file.as_bytes(), &OF).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), Some(expected), "{name}");
        }
        let packed = MemberList::open(&b"\x1f\x8b\x08,id\n"[..], &OF).err().expect("not UTF-8");
        assert!(packed.to_string().contains("is not UTF-8"), "{packed}");
        let nobody = MemberList::open(&b"id\n"[..], &MemberColumn { namespace: "", ..OF }).err();
        assert!(nobody.expect("no namespace").to_string().contains("namespace"));
    }

    #[test]
    fn an_audience_that_is_gone_ends_the_list() {
        let mut list = MemberList::open(&b"id\n1\n"[..], &OF).expect("the header is right");
        let gone = list.next_block(&ParseRules::default()).expect_err("nobody may be added");
        assert!(gone.to_string().contains("\"vip\" is no upload audience"), "{gone}");
    }
}
