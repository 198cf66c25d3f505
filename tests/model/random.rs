//! What happens in a run of the model: drawn at random, written as records.

use forebay_engine::clock::Timestamp;
use forebay_tests::{Record, Seed};

use super::audiences::LIST;
use super::naive::{DAY_MS, POLICIES, Policy};

/// 2026-01-01.
const START_MS: i64 = 1_767_225_600_000;

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Happening {
    /// When it was.
    pub(super) time_ms: i64,
    /// As payloads write them: `crmid:c0`.
    pub(super) identities: Vec<String>,
    /// Where it comes from.
    pub(super) dataset: &'static str,
    /// What it was.
    pub(super) what: What,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Attributes by dotted path; `None` is null.
    Writes(Vec<(&'static str, Option<String>)>),
    /// An event.
    Event { id: String, kind: &'static str, value: Option<i64> },
    /// In the list of a merge policy, or not.
    Listed { policy: &'static str, is_in: bool },
    /// A file becomes the whole list of the usual policy. It has no time of its own, and no
    /// identities.
    Imported(Vec<String>),
    /// Whoever is named is erased.
    Erased,
}

/// `count` records, for the lists of these policies. Time goes on, mostly; some are late, some come
/// twice.
pub(super) fn happenings(seed: &mut Seed, count: usize, policies: &[Policy]) -> Vec<Happening> {
    let mut all: Vec<Happening> = Vec::with_capacity(count);
    let mut now_ms = START_MS;
    while all.len() < count {
        now_ms += pause(seed);
        if !all.is_empty() && seed.chance(8) {
            let mut again = seed.one_of(&all).clone();
            if seed.chance(50) {
                again.time_ms = now_ms;
            }
            all.push(again);
            continue;
        }
        let is_late = seed.chance(15);
        let late_ms = if is_late { signed(seed.within(0..9 * DAY_MS.unsigned_abs())) } else { 0 };
        let time_ms = (now_ms - late_ms).max(START_MS);
        let what = what(seed, all.len(), policies);
        let dataset = *seed.one_of(&["crm", "web", "web", "shop"]);
        all.push(Happening { time_ms, identities: identities(seed), dataset, what });
    }
    all
}

/// How long nothing happens: mostly hours, sometimes nothing, sometimes days to the instant.
fn pause(seed: &mut Seed) -> i64 {
    match seed.within(0..10) {
        0 => 0,
        1 => DAY_MS * signed(seed.within(1..8)),
        2 => signed(seed.within(1..4 * DAY_MS.unsigned_abs())),
        _ => signed(seed.within(1..8 * 3_600_000)),
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("it is far below 2^63")
}

fn identities(seed: &mut Seed) -> Vec<String> {
    let customer = format!("crmid:c{}", seed.within(0..6));
    match seed.within(0..12) {
        0 => vec![customer, format!("email:m{}", seed.within(0..5))],
        1 => vec![customer, format!("crmid:x{}", seed.within(0..5))],
        _ => vec![customer],
    }
}

fn what(seed: &mut Seed, number: usize, policies: &[Policy]) -> What {
    if seed.chance(4) {
        return What::Erased;
    }
    if seed.chance(6) {
        let ids = (0..seed.within(0..5)).map(|_| format!("crmid:c{}", seed.within(0..6)));
        return What::Imported(ids.collect());
    }
    match seed.within(0..10) {
        0..3 => What::Writes(writes(seed)),
        3 => What::Listed { policy: seed.one_of(policies).id, is_in: seed.chance(70) },
        _ => What::Event {
            id: format!("e{number}"),
            kind: seed.one_of::<&str>(&["buy", "view", "other"]),
            value: seed.chance(85).then(|| signed(seed.within(0..12))),
        },
    }
}

fn writes(seed: &mut Seed) -> Vec<(&'static str, Option<String>)> {
    let country = *seed.one_of(&[Some("\"FR\""), Some("\"US\""), None]);
    let number = seed.chance(80).then(|| seed.within(0..4).to_string());
    let mut writes = Vec::new();
    match seed.within(0..5) {
        0 => writes.push(("country", country.map(str::to_owned))),
        1 => writes.push(("n", number)),
        2 => writes.push(("person.name", number)),
        3 => writes.push(("person", None)),
        _ => {
            writes.push(("country", country.map(str::to_owned)));
            writes.push(("person.tier", number));
        }
    }
    writes
}

impl Happening {
    /// The record; of an import, which is none, what it imports.
    pub(super) fn line(&self) -> String {
        let ids: Vec<(&str, &str)> =
            self.identities.iter().filter_map(|identity| identity.split_once(':')).collect();
        let customer = ids[0].1;
        let record = match &self.what {
            What::Writes(writes) => Record::profile(customer).with(&members(writes)),
            What::Event { id, kind, value } => {
                let value = value.map_or("null".to_owned(), |value| value.to_string());
                let members = format!("\"eventType\":\"{kind}\",\"v\":{value}");
                Record::event(customer, id).with(&members)
            }
            What::Listed { policy, is_in } => {
                let policy = POLICIES.iter().find(|p| p.id == *policy).expect("it is one of them");
                let status = if *is_in { "realized" } else { "exited" };
                Record::membership(customer, &format!("{LIST}{}", policy.suffix), status)
            }
            What::Erased => Record::delete(customer),
            What::Imported(ids) => return format!("the list becomes {}", ids.join(" ")),
        };
        let linked = ids[1..].iter().fold(record, |record, (namespace, id)| {
            // Namespaces compare in any letter case.
            let spellings = match *namespace {
                "crmid" => ["CRMID", "crmid", "CrmId"],
                _ => ["Email", "email", "EMAIL"],
            };
            let spelling = self.time_ms.unsigned_abs() % 3;
            record.also(spellings[usize::try_from(spelling).expect("below three")], id)
        });
        linked.dataset(self.dataset).at(&time_text(self.time_ms)).to_string()
    }
}

fn members(writes: &[(&str, Option<String>)]) -> String {
    let member = |(path, value): &(&str, Option<String>)| {
        let value = value.as_deref().unwrap_or("null");
        match path.split_once('.') {
            Some((parent, child)) => format!("\"{parent}\":{{\"{child}\":{value}}}"),
            None => format!("\"{path}\":{value}"),
        }
    };
    writes.iter().map(member).collect::<Vec<_>>().join(",")
}

/// RFC 3339 with milliseconds.
pub(super) fn time_text(ms: i64) -> String {
    Timestamp::from_millis(ms).to_string()
}
