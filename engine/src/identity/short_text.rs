//! Ids as they are kept by the million: most are short, and lie where they are looked for.

use smallvec::SmallVec;

/// Bytes that need no room elsewhere: numbers, most customer numbers and mail addresses.
const INLINE_BYTES: usize = 24;

/// A text that seldom needs memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShortText(SmallVec<[u8; INLINE_BYTES]>);

impl ShortText {
    /// The text.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was made of a text")
    }

    /// Whether it has no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its bytes, for whoever compares or hashes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        Self(SmallVec::from_slice(text.as_bytes()))
    }
}
