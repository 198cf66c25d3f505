//! The definitions in effect, and since when (`SPEC.md` §5, §7).
//!
//! Control entries of the log change definitions; nothing else does. The catalog keeps what payloads
//! tell about them (when an audience was created or mapped, in wall time) and gives each audience a
//! number that it keeps for good.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::definitions::{Audience, AudienceKind, Dataflow, Definitions};
use crate::profile::membership::AudienceNo;

/// When something was created and last changed: wall time of the control entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The entry that first defined it.
    pub created: Timestamp,
    /// The entry that last changed it.
    pub updated: Timestamp,
}

/// What a change of the definitions means for profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Audiences that are new; their flips cause no export (`SPEC.md` §5).
    pub added: Vec<AudienceNo>,
    /// Audiences whose rule, or what it depends on outside the profile, changed.
    pub changed: Vec<AudienceNo>,
    /// Audiences that are gone.
    pub removed: Vec<AudienceNo>,
    /// Dataflows with audiences that they did not map before.
    pub mapped: BTreeMap<String, Vec<AudienceNo>>,
}

/// The definitions in effect.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    definitions: Definitions,
    ids: Vec<String>,
    numbers: BTreeMap<String, AudienceNo>,
    audiences: BTreeMap<String, Times>,
    mappings: BTreeMap<(String, String), Times>,
}

impl Catalog {
    /// The definitions in effect.
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// The number of an audience that is, or once was, defined.
    pub fn number(&self, audience: &str) -> Option<AudienceNo> {
        self.numbers.get(audience).copied()
    }

    /// The id of an audience.
    pub fn id(&self, audience: AudienceNo) -> &str {
        &self.ids[audience.as_usize()]
    }

    /// How many numbers were given out.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether no audience was ever defined.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Since when an audience is defined.
    pub fn audience_times(&self, audience: &str) -> Option<Times> {
        self.audiences.get(audience).copied()
    }

    /// Since when a dataflow maps an audience.
    pub fn mapping_times(&self, dataflow: &str, audience: &str) -> Option<Times> {
        self.mappings.get(&(dataflow.to_owned(), audience.to_owned())).copied()
    }

    /// Puts `new` in effect at wall time `at`.
    pub fn apply(&mut self, new: &Definitions, at: Timestamp) -> Difference {
        let mut difference = Difference::default();
        let old = std::mem::replace(&mut self.definitions, new.clone());
        self.apply_audiences(&old, new, at, &mut difference);
        self.apply_mappings(&old, new, at, &mut difference);
        difference
    }

    fn apply_audiences(
        &mut self,
        old: &Definitions,
        new: &Definitions,
        at: Timestamp,
        difference: &mut Difference,
    ) {
        let zone_changed = old.settings.time_zone != new.settings.time_zone;
        for audience in &new.audiences {
            let number = self.number_of(&audience.id);
            match old.audiences.iter().find(|before| before.id == audience.id) {
                None => {
                    self.audiences.insert(audience.id.clone(), Times { created: at, updated: at });
                    difference.added.push(number);
                }
                Some(before) => {
                    if rule_or_name(before) != rule_or_name(audience) {
                        self.audience_mut(&audience.id).updated = at;
                    }
                    // Without knowing which rules read a calendar, all are looked at again: it is
                    // one evaluation a profile, and what does not change does not export.
                    let is_rule = matches!(audience.kind, AudienceKind::Rule { .. });
                    if before.kind != audience.kind || (zone_changed && is_rule) {
                        difference.changed.push(number);
                    }
                }
            }
        }
        for gone in &old.audiences {
            if !new.audiences.iter().any(|audience| audience.id == gone.id) {
                self.audiences.remove(&gone.id);
                difference.removed.push(self.numbers[&gone.id]);
            }
        }
    }

    fn apply_mappings(
        &mut self,
        old: &Definitions,
        new: &Definitions,
        at: Timestamp,
        difference: &mut Difference,
    ) {
        let find = |definitions: &Definitions, id: &str| -> Option<Dataflow> {
            definitions.dataflows.iter().find(|dataflow| dataflow.id == id).cloned()
        };
        self.mappings.retain(|(dataflow, audience), _| {
            find(new, dataflow).is_some_and(|d| d.audiences.contains(audience))
        });
        for dataflow in &new.dataflows {
            let before = find(old, &dataflow.id);
            let attributes_changed =
                before.as_ref().is_some_and(|before| before.attributes != dataflow.attributes);
            for audience in &dataflow.audiences {
                let key = (dataflow.id.clone(), audience.clone());
                if let Some(times) = self.mappings.get_mut(&key) {
                    if attributes_changed {
                        times.updated = at;
                    }
                } else {
                    self.mappings.insert(key, Times { created: at, updated: at });
                    let number = self.numbers[audience];
                    difference.mapped.entry(dataflow.id.clone()).or_default().push(number);
                }
            }
        }
    }

    fn number_of(&mut self, id: &str) -> AudienceNo {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = AudienceNo(u32::try_from(self.ids.len()).expect("fewer than 2^32 audiences"));
        self.ids.push(id.to_owned());
        self.numbers.insert(id.to_owned(), number);
        number
    }

    fn audience_mut(&mut self, id: &str) -> &mut Times {
        self.audiences.get_mut(id).expect("a defined audience has times")
    }
}

/// What `updatedAt` follows: rule and name (`SPEC.md` §7).
fn rule_or_name(audience: &Audience) -> (&AudienceKind, &str) {
    (&audience.kind, &audience.name)
}
