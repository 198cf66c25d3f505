//! The catalog in a checkpoint.

use serde::{Deserialize, Serialize};

use super::{AudienceNo, Catalog, Times};
use crate::definitions::Definitions;

/// A catalog as it is kept in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedCatalog {
    /// Their JSON text: what the log holds too, with fields that may be absent.
    definitions: String,
    ids: Vec<String>,
    policies: Vec<String>,
    audiences: Vec<(String, Times)>,
    mappings: Vec<(String, String, Times)>,
}

impl Catalog {
    /// The catalog as it is kept in a checkpoint.
    pub fn save(&self) -> SavedCatalog {
        let mappings = self.mappings.iter();
        SavedCatalog {
            definitions: serde_json::to_string(&self.definitions).expect("definitions are JSON"),
            ids: self.ids.clone(),
            policies: self.policies.clone(),
            audiences: self.audiences.iter().map(|(id, times)| (id.clone(), *times)).collect(),
            mappings: mappings
                .map(|((dataflow, audience), times)| (dataflow.clone(), audience.clone(), *times))
                .collect(),
        }
    }

    /// The catalog that was saved.
    pub fn restore(saved: SavedCatalog) -> Result<Self, serde_json::Error> {
        let definitions: Definitions = serde_json::from_str(&saved.definitions)?;
        let numbers = (0..).zip(&saved.ids).map(|(number, id)| (id.clone(), AudienceNo(number)));
        let mappings = saved.mappings.into_iter();
        Ok(Self {
            definitions,
            numbers: numbers.collect(),
            ids: saved.ids,
            policies: saved.policies,
            audiences: saved.audiences.into_iter().collect(),
            mappings: mappings
                .map(|(dataflow, audience, times)| ((dataflow, audience), times))
                .collect(),
        })
    }
}
