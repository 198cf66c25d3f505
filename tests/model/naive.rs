//! The model: `SPEC.md` §2 to §7 in the most literal way, slow and short.
//!
//! Time passes instant by instant: every instant at which anything could change by the clock alone is
//! a step of every customer. When definitions change, customers are formed anew out of all records.

use std::collections::BTreeSet;

use serde_json::Value;

use super::audiences::LIST;
use super::customer::{Applied, Customer, is_within};
use super::definitions::Definitions;
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
    defined: Definitions,
    /// Every record that was applied to anybody.
    applied: Vec<Applied>,
    /// The offsets of those that are erased, linked and alone: what would be left of customers if the
    /// others' identities linked, or did not link, from the beginning.
    lost: [BTreeSet<usize>; 2],
    /// Identities in the order first seen, but for those of the erased.
    seen: Vec<String>,
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
        Self {
            policy,
            defined: Definitions::under(policy),
            applied: Vec::new(),
            lost: Default::default(),
            seen: Vec::new(),
            now_ms: 0,
            offset: 0,
            customers: Vec::new(),
            exports: Vec::new(),
            duplicates: 0,
        }
    }

    /// Whether a record comes twice, as this policy's customers see it; time passes up to it.
    fn is_duplicate(&mut self, record: &Happening) -> bool {
        if matches!(record.what, What::Imported(_)) {
            return false;
        }
        self.advance(record.time_ms);
        let is_named = |customer: &Customer| customer.is_named_by(record);
        self.customers.iter().any(|c| is_named(c) && c.has_applied(record, self.now_ms))
    }

    /// Takes one record, or an import; a delete is for [`erase`].
    fn take(&mut self, record: &Happening, is_duplicate: bool) {
        if let What::Imported(ids) = &record.what {
            self.import(ids);
            return;
        }
        self.advance(record.time_ms);
        let offset = self.offset;
        self.offset += 1;
        let is_new = |identity: &&String| !self.seen.contains(identity);
        let new: Vec<String> = record.identities.iter().filter(is_new).cloned().collect();
        self.seen.extend(new);
        if is_duplicate {
            self.duplicates += 1;
            return;
        }
        let is_named = |customer: &Customer| customer.is_named_by(record);
        let (named, others): (Vec<Customer>, Vec<Customer>) =
            std::mem::take(&mut self.customers).into_iter().partition(is_named);
        self.customers = others;
        let known = named.len();
        // The oldest survives; what it had before this record is what a link compares with.
        let before = named.first().map(Customer::identities).unwrap_or_default();
        let is_alone = self.defined.is_alone;
        let mut customer = Customer { is_alone, ..Customer::united(named) };
        let shown_before = customer.shown(self.policy);
        let applied = Applied { offset, at_ms: self.now_ms, record: record.clone() };
        self.applied.push(applied.clone());
        customer.applied.push(applied);
        let mut step =
            Step { is_linked: known > 0 && before != customer.identities(), ..Step::default() };
        step.written = customer.written(self.policy, &shown_before);
        step.flipped = customer.evaluate(self.under(), self.now_ms, Some(&record.what));
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
                let flipped = customer.evaluate(self.under(), self.now_ms, Some(&left));
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
                let flipped = customer.evaluate(self.under(), next_ms, None);
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

    /// Puts other definitions in effect: customers are formed anew out of all records, begin with
    /// what those that had their identities were in, and are evaluated once.
    pub(super) fn redefine(&mut self, defined: &Definitions) {
        let before = std::mem::replace(&mut self.defined, defined.clone());
        let old = std::mem::take(&mut self.customers);
        let mut customers = self.formed(defined.is_alone);
        for customer in &mut customers {
            customer.take_memberships(&old);
        }
        let mut exported = BTreeSet::new();
        for customer in &mut customers {
            customer.memberships.retain(|audience, _| defined.has(audience));
            let mut flipped = customer.evaluate(self.under(), self.now_ms, None);
            flipped.retain(|audience| before.has(audience));
            let count = self.exports.len();
            self.export(customer, &Step { flipped, ..Step::default() });
            let flows =
                self.exports[count..].iter().map(|export| (export.dataflow, customer.first()));
            exported.extend(flows);
        }
        for flow in DATAFLOWS {
            let is_new = |id: &&&str| defined.has(id) && !before.has(id);
            let mapped: Vec<&str> = flow.audiences.iter().filter(is_new).copied().collect();
            let is_owed = |customer: &&Customer| {
                mapped.iter().any(|id| customer.is_in(id))
                    && !exported.contains(&(flow.id, customer.first()))
            };
            for customer in customers.iter().filter(is_owed) {
                self.send(customer, flow);
            }
        }
        self.customers = customers;
    }

    /// Members of an audience: its id, identities, status, time.
    pub(super) fn members(&self, audience: &str) -> Vec<String> {
        let line = |customer: &Customer| {
            let membership = customer.memberships.get(audience)?;
            let (status, time) = membership.told();
            let identities = self.identities(customer).join(" ");
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
                self.send(customer, flow);
            }
        }
    }

    fn send(&mut self, customer: &Customer, flow: &Dataflow) {
        self.exports.push(Export {
            dataflow: flow.id,
            body: customer.payload(self.policy, flow, &self.identities(customer)),
            customer: customer.first(),
            is_withdrawn: false,
        });
    }

    /// The identities of a customer, in the order first seen.
    fn identities(&self, customer: &Customer) -> Vec<String> {
        let of = customer.identities();
        self.seen.iter().filter(|identity| of.contains(identity)).cloned().collect()
    }

    fn under(&self) -> (&'static Policy, &Definitions) {
        (self.policy, &self.defined)
    }

    /// Who would be there, in no audience, had identities linked or not from the beginning.
    fn formed(&self, is_alone: bool) -> Vec<Customer> {
        let lost = &self.lost[usize::from(is_alone)];
        let kept = self.applied.iter().filter(|applied| !lost.contains(&applied.offset));
        Customer::formed(kept, is_alone)
    }

    /// Whoever is named is lost, whether identities link or not.
    fn lose(&mut self, named: &BTreeSet<String>) {
        for is_alone in [false, true] {
            let formed = self.formed(is_alone);
            let gone = formed.iter().filter(|customer| customer.has_one_of(named));
            let offsets = gone.flat_map(|c| c.applied.iter().map(|applied| applied.offset));
            self.lost[usize::from(is_alone)].extend(offsets);
        }
    }
}

/// Takes what happens under every policy; the first is the default one, which knows what comes twice.
pub(super) fn take(models: &mut [Model], happening: &Happening) {
    if happening.what == What::Erased {
        erase(models, happening);
        return;
    }
    let is_duplicate = models[0].is_duplicate(happening);
    for model in models {
        model.take(happening, is_duplicate);
    }
}

/// Erases whoever `record`, a delete, names under any policy; who goes names others.
fn erase(models: &mut [Model], record: &Happening) {
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
    let mut forgotten = BTreeSet::new();
    for model in models.iter_mut() {
        let gone = model.customers.extract_if(.., |customer| customer.has_one_of(&named));
        let erased: Vec<Customer> = gone.collect();
        forgotten.extend(erased.iter().flat_map(Customer::identities));
        model.withdraw(&erased);
        model.lose(&named);
    }
    for model in models {
        model.seen.retain(|identity| !forgotten.contains(identity));
    }
}

impl Policy {
    /// The layer of a dataset's attributes.
    pub(super) fn layer(&self, dataset: &str) -> Option<usize> {
        if self.order.is_empty() { Some(0) } else { self.order.iter().position(|d| *d == dataset) }
    }
}
