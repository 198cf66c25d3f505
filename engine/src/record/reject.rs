//! A line that is no record, and the line of `rejects.ndjson` that keeps it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::input::LongLine;
use crate::json::quote;

/// A refused line: where it stood, why it was refused, and what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The line's number in its input, from 1.
    pub line: u64,
    /// Where the line starts in its input, in uncompressed bytes from 0.
    pub byte: u64,
    /// What is wrong, where in the line, and what to do about it.
    pub error: String,
    /// The line itself.
    pub input: RejectedInput,
}

/// A refused line, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RejectedInput {
    /// A line that is UTF-8.
    Text(String),
    /// A line that is not.
    Bytes(Vec<u8>),
    /// A line over 1 MiB.
    TooLong {
        /// Its first 64 KiB.
        head: Vec<u8>,
        /// How long the line is.
        bytes: u64,
    },
}

impl Reject {
    /// The reject for a line that was too long to be read.
    pub(super) fn too_long(line: LongLine) -> Self {
        Self {
            line: line.line,
            byte: line.byte,
            error: format!("line: expected at most 1 MiB, found {} bytes", line.bytes),
            input: RejectedInput::TooLong { head: line.head, bytes: line.bytes },
        }
    }

    /// The line of `rejects.ndjson`, line end included.
    pub(super) fn to_line(&self, source: &str) -> String {
        format!(
            "{{\"source\":{},\"line\":{},\"byte\":{},\"error\":{},{}}}\n",
            quote(source),
            self.line,
            self.byte,
            quote(&self.error),
            self.input.to_members()
        )
    }
}

impl RejectedInput {
    fn to_members(&self) -> String {
        match self {
            Self::Text(text) => format!("\"input\":{}", quote(text)),
            Self::Bytes(bytes) => format!("\"input_base64\":\"{}\"", STANDARD.encode(bytes)),
            Self::TooLong { head, bytes } => {
                let members = match until_last_character(head) {
                    Some(text) => format!("\"input\":{}", quote(text)),
                    None => format!("\"input_base64\":\"{}\"", STANDARD.encode(head)),
                };
                format!("{members},\"input_bytes\":{bytes}")
            }
        }
    }
}

/// The text that `head` starts with, if all but a character cut at its end is UTF-8.
fn until_last_character(head: &[u8]) -> Option<&str> {
    match std::str::from_utf8(head) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reject_is_one_line_of_json() {
        let cut = "aé".as_bytes()[..2].to_vec();
        // (what it shows, the input, the members that keep it)
        let cases = [
            ("text", RejectedInput::Text("{\"a\"\t\u{1}".into()), r#""input":"{\"a\"\t\u0001""#),
            ("bytes", RejectedInput::Bytes(b"c\xff3".to_vec()), r#""input_base64":"Y/8z""#),
            (
                "a cut character goes",
                RejectedInput::TooLong { head: cut, bytes: 9 },
                r#""input":"a","input_bytes":9"#,
            ),
            (
                "a long line of bytes",
                RejectedInput::TooLong { head: b"\xff\xfe".to_vec(), bytes: 9 },
                r#""input_base64":"//4=","input_bytes":9"#,
            ),
        ];
        for (name, input, members) in cases {
            let reject = Reject { line: 7, byte: 812, error: "it is \"bad\"".into(), input };
            let expected = format!(
                "{{\"source\":\"r.ndjson\",\"line\":7,\"byte\":812,\"error\":\"it is \\\"bad\\\"\",\
                 {members}}}\n"
            );
            assert_eq!(reject.to_line("r.ndjson"), expected, "{name}");
        }
    }
}
