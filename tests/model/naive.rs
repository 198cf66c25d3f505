//! The model: `SPEC.md` §2 to §7 in the most literal way, slow and short.
//!
//! A customer is the list of the records that were applied to it. Attributes, events and identities
//! are read off that list whenever they are needed; only memberships are state, because when they
//! changed is part of them. Time passes instant by instant: every instant at which anything could
//! change by the clock alone is a step of every customer.

use std::collections::{BTreeMap, BTreeSet};

use forebay_engine::clock::Timestamp;
use serde_json::{Map, Value, json};

use super::audiences::{LIST, RULES, View};
use super::random::{Happening, What};

pub(super) const DAY_MS: i64 = 86_400_000;
pub(super) const RETENTION_DAYS: i64 = 5;
pub(super) const TTL_DAYS: i64 = 3;

/// A merge policy. What is called after it is the same for all of them but for the suffix.
pub(super) struct Policy {
    pub(super) id: &'static str,
    pub(super) suffix: &'static str,
    /// Whether identities link; else each primary one is a customer.
    pub(super) is_graph: bool,
    /// The datasets that contribute, first to last; none: all of them, by time.
    pub(super) order: &'static [&'static str],
}

/// The first is the default one.
pub(super) const POLICIES: &[Policy] = &[
    Policy { id: "usual", suffix: "", is_graph: true, order: &[] },
    Policy { id: "single", suffix: "_single", is_graph: false, order: &[] },
    Policy { id: "crm_first", suffix: "_crm", is_graph: true, order: &["crm", "web"] },
];

/// A dataflow. The strict one shows mapped memberships only and ignores the same value again.
pub(super) struct Dataflow {
    pub(super) id: &'static str,
    pub(super) audiences: &'static [&'static str],
    pub(super) attributes: &'static [&'static str],
    pub(super) is_strict: bool,
}

pub(super) const DATAFLOWS: &[Dataflow] = &[
    Dataflow {
        id: "wide",
        audiences: &["spent", "recent", "lately", "french"],
        attributes: &["n", "person"],
        is_strict: false,
    },
    Dataflow {
        id: "strict",
        audiences: &["quiet", "both", LIST, "listed", "viewed"],
        attributes: &["country"],
        is_strict: true,
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
struct Membership {
    is_in: bool,
    since_ms: i64,
    refreshed_ms: i64,
    refreshed_by: usize,
}

/// A record that was applied.
#[derive(Clone)]
struct Applied {
    offset: usize,
    at_ms: i64,
    record: Happening,
}

#[derive(Clone, Default)]
struct Customer {
    applied: Vec<Applied>,
    memberships: BTreeMap<&'static str, Membership>,
}

/// What a dataflow is to be sent.
pub(super) struct Export {
    dataflow: &'static str,
    pub(super) body: Value,
    /// The offset of the customer's first record, as it was then.
    customer: usize,
    /// Whether the customer was erased since: it may have been sent before, or not.
    pub(super) is_withdrawn: bool,
}

/// All there is under one merge policy.
pub(super) struct Model {
    policy: &'static Policy,
    now_ms: i64,
    offset: usize,
    customers: Vec<Customer>,
    exports: Vec<Export>,
    /// Events that came twice.
    pub(super) duplicates: u64,
}

/// What a step did, as far as the causes of exports ask.
#[derive(Default)]
struct Step {
    flipped: BTreeSet<&'static str>,
    /// Paths written by a record that took part, and whether the value is another one.
    written: Vec<(&'static str, bool)>,
    is_linked: bool,
}

impl Model {
    /// Nothing yet.
    pub(super) fn new(policy: &'static Policy) -> Self {
        let (customers, exports) = (Vec::new(), Vec::new());
        Self { policy, now_ms: 0, offset: 0, customers, exports, duplicates: 0 }
    }

    /// Whether a record comes twice, as this policy's customers see it; time passes up to it.
    pub(super) fn is_duplicate(&mut self, record: &Happening) -> bool {
        if matches!(record.what, What::Imported(_)) {
            return false;
        }
        self.advance(record.time_ms);
        let is_named = |customer: &Customer| customer.is_named(&self.policy.named(record));
        self.customers.iter().any(|c| is_named(c) && c.has_applied(record, self.now_ms))
    }

    /// Takes one record, or an import; a delete is for [`erase`].
    pub(super) fn take(&mut self, record: &Happening, is_duplicate: bool) {
        if let What::Imported(ids) = &record.what {
            self.import(ids);
            return;
        }
        self.advance(record.time_ms);
        let offset = self.offset;
        self.offset += 1;
        if is_duplicate {
            self.duplicates += 1;
            return;
        }
        let record = &self.policy.named(record);
        let is_named = |customer: &Customer| customer.is_named(record);
        let (named, others): (Vec<Customer>, Vec<Customer>) =
            std::mem::take(&mut self.customers).into_iter().partition(is_named);
        self.customers = others;
        let known = named.len();
        // The oldest survives; what it had before this record is what a link compares with.
        let before = named.first().map(Customer::identities).unwrap_or_default();
        let mut customer = Customer::united(named);
        let shown_before = customer.shown(self.policy);
        let applied = Applied { offset, at_ms: self.now_ms, record: record.clone() };
        customer.applied.push(applied);
        let mut step =
            Step { is_linked: known > 0 && before != customer.identities(), ..Step::default() };
        step.written = customer.written(self.policy, &shown_before);
        step.flipped = customer.evaluate(self.policy, self.now_ms, Some(&record.what));
        let listed = What::Listed { policy: self.policy.id, is_in: true };
        if let (true, Some(membership)) =
            (record.what == listed, customer.memberships.get_mut(LIST))
        {
            membership.refreshed_by = offset;
        }
        self.export(&customer, &step);
        self.customers.push(customer);
        self.customers.sort_by_key(Customer::first);
    }

    /// Makes `ids` the whole list of the usual policy: each is named now, and then who was not leaves.
    fn import(&mut self, ids: &[String]) {
        let begin = self.offset;
        for id in ids {
            let (time_ms, identities) = (self.now_ms, vec![id.clone()]);
            let what = What::Listed { policy: POLICIES[0].id, is_in: true };
            self.take(&Happening { time_ms, identities, dataset: "list", what }, false);
        }
        if self.policy.id != POLICIES[0].id {
            return;
        }
        let left = What::Listed { policy: self.policy.id, is_in: false };
        let mut customers = std::mem::take(&mut self.customers);
        for customer in &mut customers {
            let listed = customer.memberships.get(LIST).filter(|membership| membership.is_in);
            if listed.is_some_and(|membership| membership.refreshed_by < begin) {
                let flipped = customer.evaluate(self.policy, self.now_ms, Some(&left));
                self.export(customer, &Step { flipped, ..Step::default() });
            }
        }
        self.customers = customers;
    }

    /// Lets time pass, with every instant in between.
    pub(super) fn advance(&mut self, to_ms: i64) {
        let mut instants: Vec<i64> = self.customers.iter().flat_map(Customer::instants).collect();
        while let Some(next_ms) =
            instants.iter().copied().filter(|at| *at > self.now_ms && *at <= to_ms).min()
        {
            self.now_ms = next_ms;
            let mut customers = std::mem::take(&mut self.customers);
            for customer in &mut customers {
                let flipped = customer.evaluate(self.policy, next_ms, None);
                self.export(customer, &Step { flipped, ..Step::default() });
            }
            instants = customers.iter().flat_map(Customer::instants).collect();
            self.customers = customers;
        }
        self.now_ms = self.now_ms.max(to_ms);
    }

    /// The exports to a dataflow, in order: the first has sequence 1.
    pub(super) fn exports_of(&self, dataflow: &str) -> Vec<&Export> {
        self.exports.iter().filter(|export| export.dataflow == dataflow).collect()
    }

    /// A customer is erased with every record it ever had, under whatever name it was exported.
    fn withdraw(&mut self, erased: &[Customer]) {
        let records: BTreeSet<usize> =
            erased.iter().flat_map(|c| c.applied.iter().map(|applied| applied.offset)).collect();
        for export in &mut self.exports {
            export.is_withdrawn |= records.contains(&export.customer);
        }
    }

    /// Members of an audience: its id, identities, status, time.
    pub(super) fn members(&self, audience: &str) -> Vec<String> {
        let line = |customer: &Customer| {
            let membership = customer.memberships.get(audience)?;
            let (status, time) = membership.told();
            let identities = customer.identities().join(" ");
            Some(format!("{audience}{}: {identities} {status} {time}", self.policy.suffix))
        };
        self.customers.iter().filter_map(line).collect()
    }

    fn export(&mut self, customer: &Customer, step: &Step) {
        for flow in DATAFLOWS {
            let is_member = flow.audiences.iter().any(|id| customer.is_in(id));
            let segment = flow.audiences.iter().any(|id| step.flipped.contains(id));
            let attribute = step.written.iter().any(|(path, is_new)| {
                let is_mapped = flow.attributes.iter().any(|mapped| is_within(path, mapped));
                is_mapped && (*is_new || !flow.is_strict)
            });
            if segment || (is_member && (attribute || step.is_linked)) {
                self.exports.push(Export {
                    dataflow: flow.id,
                    body: customer.payload(self.policy, flow),
                    customer: customer.first(),
                    is_withdrawn: false,
                });
            }
        }
    }
}

/// Erases whoever `record`, a delete, names under any policy; who goes names others.
pub(super) fn erase(models: &mut [Model], record: &Happening) {
    for model in models.iter_mut() {
        model.advance(record.time_ms);
        model.offset += 1;
    }
    let mut named: BTreeSet<String> = record.identities.iter().cloned().collect();
    loop {
        let before = named.len();
        for customer in models.iter().flat_map(|model| &model.customers) {
            if customer.has_one_of(&named) {
                named.extend(customer.identities());
            }
        }
        if named.len() == before {
            break;
        }
    }
    for model in models {
        let gone = model.customers.extract_if(.., |customer| customer.has_one_of(&named));
        let erased: Vec<Customer> = gone.collect();
        model.withdraw(&erased);
    }
}

impl Policy {
    /// The record with the identities that count.
    fn named(&self, record: &Happening) -> Happening {
        let mut record = record.clone();
        if !self.is_graph {
            // The primary one is the first.
            record.identities.truncate(1);
        }
        record
    }

    /// The layer of a dataset's attributes.
    fn layer(&self, dataset: &str) -> Option<usize> {
        if self.order.is_empty() { Some(0) } else { self.order.iter().position(|d| *d == dataset) }
    }
}

/// What stands at each path, and in which layer.
type Shown = BTreeMap<&'static str, (usize, String)>;

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

    fn told(&self) -> (&'static str, String) {
        let status = if self.is_in { "realized" } else { "exited" };
        (status, Timestamp::from_millis(self.since_ms).to_seconds_text())
    }
}

impl Customer {
    /// One customer out of several: histories by offset, memberships as §3 says.
    fn united(parts: Vec<Self>) -> Self {
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

    fn first(&self) -> usize {
        self.applied[0].offset
    }

    fn has_one_of(&self, named: &BTreeSet<String>) -> bool {
        self.identities().iter().any(|identity| named.contains(identity))
    }

    /// In the order first seen.
    fn identities(&self) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        for identity in self.applied.iter().flat_map(|applied| &applied.record.identities) {
            if !seen.contains(identity) {
                seen.push(identity.clone());
            }
        }
        seen
    }

    fn is_in(&self, audience: &str) -> bool {
        self.memberships.get(audience).is_some_and(|membership| membership.is_in)
    }

    /// Whether the event was applied within the last 24 hours.
    fn has_applied(&self, record: &Happening, now_ms: i64) -> bool {
        let What::Event { id, .. } = &record.what else { return false };
        self.applied.iter().any(|applied| {
            let is_same =
                matches!(&applied.record.what, What::Event { id: other, .. } if other == id);
            is_same && now_ms - applied.at_ms <= DAY_MS
        })
    }

    fn is_named(&self, record: &Happening) -> bool {
        record.identities.iter().any(|identity| self.identities().contains(identity))
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
    fn shown(&self, policy: &Policy) -> Shown {
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
    fn written(&self, policy: &Policy, before: &Shown) -> Vec<(&'static str, bool)> {
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
    fn instants(&self) -> Vec<i64> {
        let mut instants = Vec::new();
        for applied in &self.applied {
            let time_ms = applied.record.time_ms;
            instants.push(time_ms + 7 * DAY_MS);
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
    fn evaluate(
        &mut self,
        policy: &Policy,
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
        for audience in RULES {
            let realized = self.memberships.iter().filter(|(_, membership)| membership.is_in);
            let inside = realized.map(|(id, _)| *id).collect();
            let holds =
                (audience.holds)(&View { now_ms, events: &events, country, inside: &inside });
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

    fn payload(&self, policy: &Policy, flow: &Dataflow) -> Value {
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
        let mut identities = json!({});
        for identity in self.identities() {
            let (namespace, id) = identity.split_once(':').expect("it was written so");
            if identities[namespace].is_null() {
                identities[namespace] = json!([]);
            }
            let ids = identities[namespace].as_array_mut().expect("it is a list");
            ids.push(json!({"id": id}));
        }
        body.insert("identityMap".to_owned(), identities);
        Value::Object(body)
    }
}

/// Whether `path` is `root` or lies below it.
fn is_within(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
