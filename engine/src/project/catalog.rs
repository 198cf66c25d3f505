//! The definitions in effect, and since when (`SPEC.md` §5, §7).
//!
//! Control entries of the log change definitions; nothing else does. The catalog keeps what payloads
//! tell about them (when an audience was created or mapped, in wall time) and gives each audience and
//! each merge policy a number that it keeps for good: the order in which the log first names them.

mod saved;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use saved::SavedCatalog;

use crate::clock::Timestamp;
use crate::definitions::{Audience, AudienceKind, Dataflow, Definitions, MergePolicy};
use crate::profile::membership::AudienceNo;

/// When something was created and last changed: wall time of the control entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The entry that first defined it.
    pub created: Timestamp,
    /// The entry that last changed it.
    pub updated: Timestamp,
}

/// An audience whose members are other profiles from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which audience.
    pub audience: AudienceNo,
    /// The policy that made its profiles so far.
    pub from: MergePolicy,
    /// The policy that makes them from here on: another one, or the same in another way.
    pub to: MergePolicy,
}

/// What a change of the definitions means for profiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Audiences that are new; their flips cause no export (`SPEC.md` §5).
    pub added: Vec<AudienceNo>,
    /// Audiences whose rule, or what it depends on outside the profile, changed; those that moved
    /// are among them.
    pub changed: Vec<AudienceNo>,
    /// Audiences of another merge policy, or of one that makes profiles in another way.
    pub moved: Vec<Moved>,
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
    policies: Vec<String>,
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

    /// The number of a merge policy that is, or once was, defined.
    pub fn policy_number(&self, policy: &str) -> Option<u32> {
        let at = self.policies.iter().position(|known| known == policy)?;
        Some(u32::try_from(at).expect("fewer than 2^32 merge policies"))
    }

    /// The id of a merge policy by its number.
    pub fn policy_id(&self, number: u32) -> Option<&str> {
        self.policies.get(number as usize).map(String::as_str)
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
        self.number_policies(new);
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
        let review = Review::of(old, new);
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
                    let (from, to) = (old.policy_of(before), new.policy_of(audience));
                    let is_moved = !from.makes_same_profiles(to);
                    if is_moved {
                        let (from, to) = (from.clone(), to.clone());
                        difference.moved.push(Moved { audience: number, from, to });
                    }
                    if is_moved || before.kind != audience.kind || review.concerns(audience) {
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

    /// Numbers policies that are new, the default one first, then by id.
    fn number_policies(&mut self, new: &Definitions) {
        let others = new.merge_policies.iter().filter(|policy| !policy.default);
        for policy in new.default_merge_policy().into_iter().chain(others) {
            if !self.policies.contains(&policy.id) {
                self.policies.push(policy.id.clone());
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

/// Which audiences are looked at again although they stayed as they were. Looking is one evaluation
/// a profile, and what does not change does not export, so this need not be exact.
#[derive(Clone, Copy)]
struct Review {
    all: bool,
    rules: bool,
}

impl Review {
    fn of(old: &Definitions, new: &Definitions) -> Self {
        let (before, after) = (&old.settings, &new.settings);
        let kind_changed = new.audiences.iter().any(|audience| {
            let before = old.audience(&audience.id).map(|before| &before.kind);
            before.is_some_and(|kind| is_rule(kind) != is_rule(&audience.kind))
        });
        Self {
            // An exited membership may have to be forgotten earlier than was planned.
            all: before.exited_retention_ms != after.exited_retention_ms,
            // Some rules read a calendar; some name an audience by the group that its kind stands in.
            rules: before.time_zone != after.time_zone || kind_changed,
        }
    }

    fn concerns(self, audience: &Audience) -> bool {
        self.all || (self.rules && is_rule(&audience.kind))
    }
}

fn is_rule(kind: &AudienceKind) -> bool {
    matches!(kind, AudienceKind::Rule { .. })
}

/// What `updatedAt` follows: rule and name (`SPEC.md` §7).
fn rule_or_name(audience: &Audience) -> (&AudienceKind, &str) {
    (&audience.kind, &audience.name)
}
