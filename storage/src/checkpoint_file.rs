//! The file of a checkpoint: blocks, a table that finds them, and where that table is.
//!
//! ```text
//! format (1) | block | block | … | table | length of the table (4) | its CRC-32 (4)
//! ```
//!
//! Each block has its section, its place and its CRC-32 in the table, so that blocks are read, checked
//! and unpacked on all cores, in any order. The table stands at the end, because the file is written in
//! one pass.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::StorageError;
use crate::checkpoint::PackedBlock;
use crate::codec::{self, Decode, Encode};
use crate::compression::{Packing, unpack};

const WHAT: &str = "a checkpoint";

/// Length and checksum of the table.
const TRAILER_BYTES: usize = 8;

/// Where a block lies, and what it holds.
#[derive(Clone, Debug, Encode, Decode)]
pub struct StoredBlock {
    section: u32,
    packing: Packing,
    body_len: u32,
    at: u64,
    len: u32,
    crc: u32,
}

/// What is in a checkpoint, and where.
#[derive(Debug, Default, Encode, Decode)]
pub(crate) struct TableOfContents {
    /// By section; those of one in the order in which they were written.
    blocks: Vec<StoredBlock>,
}

impl TableOfContents {
    /// The table of a file with these blocks behind its format.
    pub(crate) fn of(blocks: &[PackedBlock]) -> Self {
        let mut at = 1;
        let mut all = Vec::with_capacity(blocks.len());
        for block in blocks {
            let len = u32::try_from(block.bytes.len()).expect("no longer than its body");
            let crc = crc32fast::hash(&block.bytes);
            let (section, packing, body_len) = (block.section, block.packing, block.body_len);
            all.push(StoredBlock { section, packing, body_len, at, len, crc });
            at += u64::from(len);
        }
        all.sort_by_key(|block| block.section);
        Self { blocks: all }
    }

    /// The table and its trailer, as they end the file.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = codec::encode(self);
        let len = u32::try_from(bytes.len()).expect("a table is far below 4 GiB");
        let crc = crc32fast::hash(&bytes);
        bytes.extend(len.to_be_bytes());
        bytes.extend(crc.to_be_bytes());
        bytes
    }
}

/// A checkpoint, open to be read.
pub struct StoredCheckpoint {
    path: PathBuf,
    file: File,
    table: TableOfContents,
}

impl StoredCheckpoint {
    pub(crate) fn open(path: &Path) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(StorageError::io("open", path))?;
        let len = file.metadata().map_err(StorageError::io("inspect", path))?.len();
        let mut open = Self { path: path.to_owned(), file, table: TableOfContents::default() };
        codec::strip_format(WHAT, &open.bytes(0, len.min(1))?)?;
        open.table = open.read_table(len)?;
        Ok(open)
    }

    /// The blocks of a section, in the order in which they were written.
    pub fn section(&self, section: u32) -> &[StoredBlock] {
        let blocks = &self.table.blocks;
        let from = blocks.partition_point(|block| block.section < section);
        let to = blocks.partition_point(|block| block.section <= section);
        &blocks[from..to]
    }

    /// Reads, checks and unpacks a block. May be called by several threads at a time.
    pub fn read(&self, block: &StoredBlock) -> Result<Vec<u8>, StorageError> {
        let packed = self.bytes(block.at, u64::from(block.len))?;
        if crc32fast::hash(&packed) != block.crc {
            return Err(damaged("a block has another checksum"));
        }
        unpack(WHAT, block.packing, (block.body_len as usize, &packed))
    }

    fn read_table(&self, len: u64) -> Result<TableOfContents, StorageError> {
        let cut_off = || damaged("it is cut off");
        let trailer_at = len.checked_sub(TRAILER_BYTES as u64).ok_or_else(cut_off)?;
        let trailer = self.bytes(trailer_at, TRAILER_BYTES as u64)?;
        let (table_len, crc) = trailer.split_at(4);
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        let table_len = u64::from(number(table_len));
        let table_at = trailer_at.checked_sub(table_len).ok_or_else(cut_off)?;
        let table = self.bytes(table_at, table_len)?;
        if crc32fast::hash(&table) != number(crc) {
            return Err(damaged("its table has another checksum"));
        }
        let table: TableOfContents = codec::decode(WHAT, &table)?;
        let end = table.blocks.iter().map(|block| u64::from(block.len)).sum::<u64>() + 1;
        if end == table_at { Ok(table) } else { Err(damaged("its blocks do not fill it")) }
    }

    fn bytes(&self, at: u64, len: u64) -> Result<Vec<u8>, StorageError> {
        let mut bytes = vec![0; usize::try_from(len).expect("addresses have 64 bits")];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(StorageError::io("read", &self.path))?;
        Ok(bytes)
    }
}

fn damaged(detail: &str) -> StorageError {
    StorageError::corrupt(WHAT, detail)
}
