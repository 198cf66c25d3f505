//! Small named values: what a data directory is, rather than what is in it.
//!
//! The log id is a part of every export id, so that a receiver never sees one twice. It lies with the
//! sequence counters, because it must not outlive them: state that starts again from sequence 1 gets
//! a new id.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sled::Batch;

use crate::state::State;
use crate::{StorageError, WriteOp, keys, parts};

const WHAT: &str = "a named value";
const LOG_ID: &str = "log_id";
const RANDOM: &str = "/dev/urandom";

/// Named values, and the random id of the log.
pub struct Meta {
    state: Arc<State>,
    log_id: [u8; 16],
}

impl Meta {
    /// Reads the log id, or draws it; durable on return.
    pub(crate) fn open(state: &Arc<State>) -> Result<Self, StorageError> {
        let mut meta = Self { state: Arc::clone(state), log_id: [0; 16] };
        if let Some(stored) = meta.get(LOG_ID)? {
            meta.log_id = stored
                .try_into()
                .map_err(|_| StorageError::corrupt("the log id", "it is not 16 bytes long"))?;
        } else {
            meta.log_id = random()?;
            meta.write(LOG_ID, &meta.log_id)?;
            state.sync()?;
        }
        Ok(meta)
    }

    /// The random id of this log, drawn when the data directory was first used.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// The value of this name, if it was ever put.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
        let trees = self.state.trees()?;
        let value = parts::get(WHAT, &trees.meta, &keys::plain(name)?)?;
        Ok(value.map(|value| value.bytes().to_vec()))
    }

    /// Puts a value under a name; visible on return, durable after a sync of the state.
    ///
    /// The name `log_id` is taken: what it names never changes.
    pub fn put(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        if name == LOG_ID {
            return Err(StorageError::refused("the log id never changes"));
        }
        self.write(name, value)
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        let trees = self.state.trees()?;
        let mut batch = Batch::default();
        parts::replace(&trees.meta, &mut batch, &keys::plain(name)?, value)?;
        trees.apply(WriteOp::Meta, &trees.meta, batch)?;
        self.state.wrote(value.len() as u64);
        Ok(())
    }
}

fn random() -> Result<[u8; 16], StorageError> {
    let mut bytes = [0; 16];
    File::open(RANDOM)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(StorageError::io("read", Path::new(RANDOM)))?;
    Ok(bytes)
}
