//! Bytes before and after compression.
//!
//! Chunks are compressed before the database sees them: appending is then bound by neither the disk
//! nor the database, and a log of JSON takes a tenth of the space.

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};

use crate::codec::{Decode, Encode};
use crate::{Compression, StorageError};

/// The fastest level that is no "negative" one; higher ones cost more time than the disk saves.
const LEVEL: i32 = 1;

/// Longest body there is; a longer length can only be damage.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 30;

/// How a body was packed, as stored in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Packing {
    /// As it is, because nothing else was asked for or it would not get shorter.
    Plain,
    /// One Zstandard frame.
    Zstd,
}

thread_local! {
    // Their tables take longer to allocate than a chunk takes to compress.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Packs `body`, or leaves it as it is where that is shorter.
pub(crate) fn pack(
    compression: Compression,
    body: Vec<u8>,
) -> Result<(Packing, Vec<u8>), StorageError> {
    if body.len() > BODY_BYTES_MAX {
        return Err(StorageError::refused(format!("{} bytes in one chunk", body.len())));
    }
    if compression == Compression::None {
        return Ok((Packing::Plain, body));
    }
    let packed = COMPRESSOR
        .with_borrow_mut(|slot| match slot {
            Some(compressor) => compressor.compress(&body),
            None => slot.insert(Compressor::new(LEVEL)?).compress(&body),
        })
        .map_err(|error| StorageError::refused(format!("cannot compress a chunk: {error}")))?;
    if packed.len() < body.len() { Ok((Packing::Zstd, packed)) } else { Ok((Packing::Plain, body)) }
}

/// Restores the `body_len` bytes of a body.
pub(crate) fn unpack(
    what: &'static str,
    packing: Packing,
    (body_len, packed): (usize, &[u8]),
) -> Result<Vec<u8>, StorageError> {
    if body_len > BODY_BYTES_MAX {
        return Err(StorageError::corrupt(what, format!("a length of {body_len} bytes")));
    }
    let body = match packing {
        Packing::Plain => packed.to_vec(),
        Packing::Zstd => DECOMPRESSOR
            .with_borrow_mut(|slot| match slot {
                Some(decompressor) => decompressor.decompress(packed, body_len),
                None => slot.insert(Decompressor::new()?).decompress(packed, body_len),
            })
            .map_err(|error| StorageError::corrupt(what, error.to_string()))?,
    };
    if body.len() == body_len {
        Ok(body)
    } else {
        Err(StorageError::corrupt(what, format!("{} of {body_len} bytes", body.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::{Packing, pack, unpack};
    use crate::Compression;

    #[test]
    fn what_is_packed_comes_back() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_be_bytes()[0]
        })
        .take(5_000)
        .collect();
        // (what it shows, asked for, body, packing)
        let cases = [
            ("nothing asked for", Compression::None, vec![7; 5_000], Packing::Plain),
            ("repetition shrinks", Compression::Zstd, vec![7; 5_000], Packing::Zstd),
            ("noise stays as it is", Compression::Zstd, noise, Packing::Plain),
            ("empty stays as it is", Compression::Zstd, Vec::new(), Packing::Plain),
        ];
        for (name, compression, body, expected) in cases {
            let (packing, packed) = pack(compression, body.clone()).unwrap();
            assert_eq!(packing, expected, "{name}");
            assert_eq!(unpack("a test", packing, (body.len(), &packed)).unwrap(), body, "{name}");
            assert!(unpack("a test", packing, (body.len() + 1, &packed)).is_err(), "{name}");
        }
    }
}
