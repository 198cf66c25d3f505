//! The id of an export: the same on every attempt, and never that of another export anywhere.
//!
//! Random log id, dataflow and sequence, written as unpadded base64url: no dots, which the signature
//! scheme uses as separators, and readable back, so that `explain` needs no table of ids.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Bytes of the log id.
const LOG_ID_LEN: usize = 16;
/// Bytes before the dataflow: log id and sequence.
const HEAD_LEN: usize = LOG_ID_LEN + 8;

/// Which export, of which log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportId {
    /// The log's random id.
    pub log_id: [u8; LOG_ID_LEN],
    /// The dataflow.
    pub dataflow: String,
    /// The export's number in it.
    pub sequence: u64,
}

impl ExportId {
    /// Reads what [`fmt::Display`] writes; `None` if it is nothing of that kind.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (head, dataflow) = bytes.split_at_checked(HEAD_LEN)?;
        let (log_id, sequence) = head.split_at(LOG_ID_LEN);
        Some(Self {
            log_id: log_id.try_into().ok()?,
            dataflow: String::from_utf8(dataflow.to_vec()).ok()?,
            sequence: u64::from_be_bytes(sequence.try_into().ok()?),
        })
    }
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sequence = self.sequence.to_be_bytes();
        let bytes = [&self.log_id[..], &sequence[..], self.dataflow.as_bytes()].concat();
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::ExportId;

    #[test]
    fn ids_are_read_back_and_hold_no_dots() {
        for (dataflow, sequence) in [("a", 1), ("to.the_ware-house", u64::MAX), ("", 0)] {
            let id = ExportId { log_id: [0xff; 16], dataflow: dataflow.to_owned(), sequence };
            let text = id.to_string();
            assert!(!text.contains(['.', '=', '+', '/']), "{text}");
            assert_eq!(ExportId::parse(&text), Some(id), "{text}");
        }
        for text in ["", "abc", "not base64!", "AAAA"] {
            assert_eq!(ExportId::parse(text), None, "{text}");
        }
    }
}
