//! Stubs: what is left of a record whose bytes are erased.
//!
//! A record that goes must not take its place in the log with it: offsets are dense, and the time it
//! carried has moved the clock. So its entry stays, as a [`Stub`], which holds that time and nothing
//! that tells whose record it was.

use crate::codec::{self, Decode, Encode};
use crate::{Offset, StorageError};

const WHAT: &str = "a stub of the log";

/// What a record leaves when it is erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Stub {
    /// The time the record carried, in milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
}

/// A record to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erased {
    /// Where it is.
    pub offset: Offset,
    /// What it leaves.
    pub stub: Stub,
}

impl Stub {
    /// Reads the bytes of an entry of kind [`Stub`](crate::EntryKind::Stub).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StorageError> {
        codec::decode(WHAT, codec::strip_format(WHAT, bytes)?)
    }

    /// The bytes of its entry.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = vec![codec::FORMAT];
        codec::append(&mut bytes, &self);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Stub;

    #[test]
    fn a_stub_keeps_its_time_to_the_millisecond() {
        for timestamp_ms in [None, Some(0), Some(-1), Some(1_767_225_603_888), Some(i64::MAX)] {
            let stub = Stub { timestamp_ms };
            assert_eq!(Stub::from_bytes(&stub.to_bytes()).unwrap(), stub);
        }
        assert!(Stub::from_bytes(b"").is_err());
        assert!(Stub::from_bytes(&[9, 0]).is_err(), "a newer format is not guessed");
    }
}
