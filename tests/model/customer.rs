//! The customers of the model: what the records that were applied to one say of it.
//!
//! A customer is the list of these records. Attributes, events and identities are read off that list
//! whenever they are needed; only memberships are state, because when they changed is part of them.

use std::collections::{BTreeMap, BTreeSet};

use forebay_engine::clock::Timestamp;
use serde_json::{Map, Value, json};

use super::audiences::{LIST, View};
use super::definitions::Definitions;
use super::naive::{DAY_MS, Dataflow, Policy, RETENTION_DAYS, TTL_DAYS};
use super::random::{Happening, What};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) is_in: bool,
    pub(super) since_ms: i64,
    pub(super) refreshed_ms: i64,
    pub(super) refreshed_by: usize,
}

/// A record that was applied.
#[derive(Clone)]
pub(super) struct Applied {
    pub(super) offset: usize,
    pub(super) at_ms: i64,
    pub(super) record: Happening,
}

#[derive(Clone, Default)]
pub(super) struct Customer {
    /// Whether its identities are linked by records, or it is one primary identity alone.
    pub(super) is_alone: bool,
    pub(super) applied: Vec<Applied>,
    pub(super) memberships: BTreeMap<&'static str, Membership>,
}

/// What stands at each path, and in which layer.
pub(super) type Shown = BTreeMap<&'static str, (usize, String)>;

/// One write.
struct Written<'a> {
    path: &'static str,
    /// By time, then by offset.
    rank: (i64, usize),
    layer: usize,
    value: &'a Option<String>,
}

impl Membership {
    /// Takes the later refresh of two.
    fn refresh(&mut self, other: &Self) {
        self.refreshed_ms = self.refreshed_ms.max(other.refreshed_ms);
        self.refreshed_by = self.refreshed_by.max(other.refreshed_by);
    }

    pub(super) fn told(&self) -> (&'static str, String) {
        let status = if self.is_in { "realized" } else { "exited" };
        (status, Timestamp::from_millis(self.since_ms).to_seconds_text())
    }
}

impl Customer {
    /// One customer out of several: histories by offset, memberships as §3 says.
    pub(super) fn united(parts: Vec<Self>) -> Self {
        let mut united = Self::default();
        for part in parts {
            united.applied.extend(part.applied);
            for (audience, membership) in part.memberships {
                let kept = united.memberships.entry(audience).or_insert(membership);
                if (membership.is_in, membership.since_ms) > (kept.is_in, kept.since_ms) {
                    let replaced = std::mem::replace(kept, membership);
                    if replaced.is_in && membership.is_in {
                        kept.refresh(&replaced);
                    }
                } else if kept.is_in && membership.is_in {
                    kept.refresh(&membership);
                }
            }
        }
        united.applied.sort_by_key(|applied| applied.offset);
        united
    }

    /// Customers out of these records, in no audience.
    pub(super) fn formed<'a>(
        records: impl Iterator<Item = &'a Applied>,
        is_alone: bool,
    ) -> Vec<Self> {
        let mut formed: Vec<Self> = Vec::new();
        for applied in records {
            let is_named = |customer: &Self| customer.is_named_by(&applied.record);
            let (named, others) = formed.into_iter().partition(is_named);
            let mut customer = Self { is_alone, ..Self::united(named) };
            customer.applied.push(applied.clone());
            formed = others;
            formed.push(customer);
        }
        formed.sort_by_key(Self::first);
        formed
    }

    /// Begins with what those were in that had its identities.
    pub(super) fn take_memberships(&mut self, old: &[Self]) {
        let ids = self.identities();
        let had = |part: &&Self| part.identities().iter().any(|id| ids.contains(id));
        let parts: Vec<Self> = old.iter().filter(had).cloned().collect();
        self.memberships = Self::united(parts).memberships;
    }

    /// Alone, it is named by the primary identity, which is the first.
    pub(super) fn is_named_by(&self, record: &Happening) -> bool {
        let named = if self.is_alone { &record.identities[..1] } else { &record.identities };
        named.iter().any(|identity| self.identities().contains(identity))
    }

    pub(super) fn first(&self) -> usize {
        self.applied[0].offset
    }

    pub(super) fn has_one_of(&self, named: &BTreeSet<String>) -> bool {
        self.identities().iter().any(|identity| named.contains(identity))
    }

    /// In the order first seen.
    pub(super) fn identities(&self) -> Vec<String> {
        if self.is_alone {
            return self.applied[0].record.identities[..1].to_vec();
        }
        let mut seen: Vec<String> = Vec::new();
        for identity in self.applied.iter().flat_map(|applied| &applied.record.identities) {
            if !seen.contains(identity) {
                seen.push(identity.clone());
            }
        }
        seen
    }

    pub(super) fn is_in(&self, audience: &str) -> bool {
        self.memberships.get(audience).is_some_and(|membership| membership.is_in)
    }

    /// Whether the event was applied within the last 24 hours.
    pub(super) fn has_applied(&self, record: &Happening, now_ms: i64) -> bool {
        let What::Event { id, .. } = &record.what else { return false };
        self.applied.iter().any(|applied| {
            let is_same =
                matches!(&applied.record.what, What::Event { id: other, .. } if other == id);
            is_same && now_ms - applied.at_ms <= DAY_MS
        })
    }

    /// Every write of a dataset that contributes.
    fn writes(&self, policy: &Policy) -> Vec<Written<'_>> {
        let mut writes = Vec::new();
        for applied in &self.applied {
            let layer = policy.layer(applied.record.dataset);
            if let (What::Writes(of), Some(layer)) = (&applied.record.what, layer) {
                let rank = (applied.record.time_ms, applied.offset);
                writes.extend(of.iter().map(|(path, value)| Written { path, rank, layer, value }));
            }
        }
        writes
    }

    /// In each layer the value at each path that no later write at, above or below it has removed;
    /// of these, those that no earlier layer hides by one at, above or below it.
    pub(super) fn shown(&self, policy: &Policy) -> Shown {
        let writes = self.writes(policy);
        let meets = |a: &str, b: &str| is_within(a, b) || is_within(b, a);
        let live = writes.iter().filter(|write| {
            let mut same_layer = writes.iter().filter(|other| other.layer == write.layer);
            !same_layer.any(|other| other.rank > write.rank && meets(write.path, other.path))
        });
        let live: Vec<_> = live.filter_map(|w| Some((w.path, w.layer, w.value.clone()?))).collect();
        let is_hidden = |(path, layer, _): &&(&str, usize, String)| {
            live.iter().any(|(other, earlier, _)| earlier < layer && meets(path, other))
        };
        let shown = live.iter().filter(|leaf| !is_hidden(leaf));
        shown.map(|(path, layer, value)| (*path, (*layer, value.clone()))).collect()
    }

    /// What the newest record wrote that took part, with whether it shows another value.
    pub(super) fn written(&self, policy: &Policy, before: &Shown) -> Vec<(&'static str, bool)> {
        let newest = self.applied.last().expect("one was just applied");
        let What::Writes(written) = &newest.record.what else { return Vec::new() };
        let Some(layer) = policy.layer(newest.record.dataset) else { return Vec::new() };
        let rank = (newest.record.time_ms, newest.offset);
        let (writes, after) = (self.writes(policy), self.shown(policy));
        let below = |of: &Shown, path: &str| {
            let inside = of.iter().filter(|(at, _)| is_within(at, path));
            inside.map(|(at, (_, value))| (*at, value.clone())).collect::<Vec<_>>()
        };
        let newer: Vec<&str> =
            writes.iter().filter(|w| w.layer == layer && w.rank > rank).map(|w| w.path).collect();
        let mut won = Vec::new();
        for (path, value) in written {
            let is_new = below(before, path) != below(&after, path);
            let at_or_above = newer.iter().any(|other| is_within(path, other));
            let inside = newer.iter().any(|other| is_within(other, path));
            let mut around = before.iter().filter(|(at, _)| is_within(at, path)).peekable();
            let supplies = match value {
                Some(_) => after.get(path).is_some_and(|(of, _)| *of == layer),
                None => around.peek().is_none() || around.any(|(_, (of, _))| *of == layer),
            };
            // A deletion of which newer values inside are all that is left has no part in them.
            if !at_or_above && (is_new || (supplies && !inside)) {
                won.push((*path, is_new));
            }
        }
        won
    }

    /// Every instant at which time alone could change something.
    pub(super) fn instants(&self) -> Vec<i64> {
        let mut instants = Vec::new();
        for applied in &self.applied {
            let time_ms = applied.record.time_ms;
            instants.extend(Definitions::DAYS.map(|days| time_ms + days * DAY_MS));
            instants.push(time_ms + DAY_MS * 3 / 2 + 1);
            instants.push((time_ms.div_euclid(DAY_MS) + 1) * DAY_MS);
        }
        for membership in self.memberships.values() {
            instants.push(membership.since_ms + RETENTION_DAYS * DAY_MS);
            instants.push(membership.refreshed_ms + TTL_DAYS * DAY_MS);
        }
        instants
    }

    /// Brings every membership up to date; those whose status changed.
    pub(super) fn evaluate(
        &mut self,
        (policy, defined): (&Policy, &Definitions),
        now_ms: i64,
        said: Option<&What>,
    ) -> BTreeSet<&'static str> {
        let mut flipped = BTreeSet::new();
        let said = said.and_then(|what| match what {
            What::Listed { policy: id, is_in } if *id == policy.id => Some(*is_in),
            _ => None,
        });
        let listed = match said {
            Some(is_in) => is_in,
            _ => self.memberships.get(LIST).is_some_and(|membership| {
                membership.is_in && now_ms < membership.refreshed_ms + TTL_DAYS * DAY_MS
            }),
        };
        self.set(LIST, listed, now_ms, &mut flipped);
        if let (Some(true), Some(membership)) = (said, self.memberships.get_mut(LIST)) {
            membership.refreshed_ms = now_ms;
        }
        let applied = self.applied.clone();
        let mut events = Vec::new();
        for applied in &applied {
            if let What::Event { kind, value, .. } = &applied.record.what {
                events.push((applied.record.time_ms, *kind, *value));
            }
        }
        let attributes = self.shown(policy);
        let country = attributes.get("country").map(|(_, text)| text.trim_matches('"'));
        for audience in defined.rules() {
            let realized = self.memberships.iter().filter(|(_, membership)| membership.is_in);
            let inside = realized.map(|(id, _)| *id).collect();
            let view = View { defined, now_ms, events: &events, country, inside: &inside };
            let holds = (audience.holds)(&view);
            self.set(audience.id, holds, now_ms, &mut flipped);
        }
        self.memberships.retain(|_, membership| {
            membership.is_in || now_ms < membership.since_ms + RETENTION_DAYS * DAY_MS
        });
        flipped
    }

    fn set(
        &mut self,
        audience: &'static str,
        is_in: bool,
        now_ms: i64,
        flipped: &mut BTreeSet<&'static str>,
    ) {
        if self.is_in(audience) != is_in {
            flipped.insert(audience);
            let membership =
                Membership { is_in, since_ms: now_ms, refreshed_ms: now_ms, refreshed_by: 0 };
            self.memberships.insert(audience, membership);
        }
    }

    pub(super) fn payload(&self, policy: &Policy, flow: &Dataflow, identities: &[String]) -> Value {
        let mut body = Map::new();
        for (path, (_, text)) in self.shown(policy) {
            if flow.attributes.iter().any(|mapped| is_within(path, mapped)) {
                let value: Value = serde_json::from_str(&text).expect("values are JSON");
                match path.split_once('.') {
                    Some((parent, child)) => {
                        body.entry(parent).or_insert(json!({}))[child] = value;
                    }
                    None => drop(body.insert(path.to_owned(), value)),
                }
            }
        }
        let mut groups = json!({});
        for (audience, membership) in &self.memberships {
            if flow.is_strict && !flow.audiences.contains(audience) {
                continue;
            }
            let group = if *audience == LIST { "CustomerAudienceUpload" } else { "ups" };
            let (status, time) = membership.told();
            groups[group][format!("{audience}{}", policy.suffix)] =
                json!({"lastQualificationTime": time, "status": status});
        }
        body.insert("segmentMembership".to_owned(), groups);
        let mut map = json!({});
        for identity in identities {
            let (namespace, id) = identity.split_once(':').expect("it was written so");
            if map[namespace].is_null() {
                map[namespace] = json!([]);
            }
            let ids = map[namespace].as_array_mut().expect("it is a list");
            ids.push(json!({"id": id}));
        }
        body.insert("identityMap".to_owned(), map);
        Value::Object(body)
    }
}

/// Whether `path` is `root` or lies below it.
pub(super) fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
