//! How rows become bytes. Only this file names the serialiser.
//!
//! Every stored value begins with [`FORMAT`]. A change of any stored row raises it, and, from the first
//! release on, this file then learns to read the old one; a build that does not know a value's format
//! says so instead of guessing.

pub(crate) use bincode::{Decode, Encode};

use bincode::config::{Configuration, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StorageError;

/// Version of all stored formats, the first byte of every stored value.
pub(crate) const FORMAT: u8 = 2;

/// Variable-length integers: most lengths and differences take one byte.
const CONFIG: Configuration = standard();

/// Encodes `row`.
pub(crate) fn encode(row: &impl Encode) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, row);
    bytes
}

/// Encodes `row` behind what is in `bytes` already.
pub(crate) fn append(bytes: &mut Vec<u8>, row: &impl Encode) {
    bincode::encode_into_std_write(row, bytes, CONFIG)
        .expect("rows are plain data, and memory takes any of it");
}

/// Decodes a row that takes all of `bytes`.
pub(crate) fn decode<T: Decode<()>>(what: &'static str, bytes: &[u8]) -> Result<T, StorageError> {
    match decode_front(what, bytes)? {
        (row, []) => Ok(row),
        (_, rest) => Err(StorageError::corrupt(what, format!("{} bytes too many", rest.len()))),
    }
}

/// Decodes a row at the front of `bytes`; returns the rest as well.
pub(crate) fn decode_front<'a, T: Decode<()>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(T, &'a [u8]), StorageError> {
    let (row, used) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|error| StorageError::corrupt(what, error.to_string()))?;
    Ok((row, &bytes[used..]))
}

/// Appends what the engine keeps in a checkpoint to `bytes`: its fields one after another, without
/// their names, so that whoever reads it must know them.
pub fn write_value<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    bincode::serde::encode_into_std_write(value, bytes, CONFIG)
        .expect("values are plain data, and memory takes any of it");
}

/// Reads what [`write_value`] wrote from the front of `bytes`, and moves `bytes` behind it.
pub fn read_value<T: DeserializeOwned>(
    what: &'static str,
    bytes: &mut &[u8],
) -> Result<T, StorageError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| StorageError::corrupt(what, error.to_string()))?;
    *bytes = &bytes[used..];
    Ok(value)
}

/// Takes the format version off a stored value.
pub(crate) fn strip_format<'a>(
    what: &'static str,
    value: &'a [u8],
) -> Result<&'a [u8], StorageError> {
    match value.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((&found, _)) => Err(StorageError::UnknownFormat { what, found, known: FORMAT }),
        None => Err(StorageError::corrupt(what, "empty value")),
    }
}

#[cfg(test)]
mod tests {
    use super::{FORMAT, decode, encode, strip_format};

    #[test]
    fn an_unknown_format_is_named() {
        let error = strip_format("a chunk", &[FORMAT + 1, 7]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a chunk has storage format 3, this version of forebay reads format 2: \
             use the version that wrote it, or a newer one"
        );
    }

    #[test]
    fn bytes_that_are_no_row_are_damage() {
        // (what it shows, bytes)
        let row = encode(&(7_u64, "abc".to_owned()));
        let long: Vec<u8> = row.iter().copied().chain([0]).collect();
        let cases: [(&str, &[u8]); 3] =
            [("nothing at all", &[]), ("cut off", &row[..row.len() - 1]), ("bytes left", &long)];
        for (name, bytes) in cases {
            assert!(decode::<(u64, String)>("a row", bytes).is_err(), "{name}");
        }
        assert!(decode::<(u64, String)>("a row", &row).is_ok());
        assert!(strip_format("a row", &[]).is_err());
    }
}
