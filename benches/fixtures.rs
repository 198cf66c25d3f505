//! Data for the benches: customer records as a shop sends them.
//!
//! A tenth of the records are profile records, the rest experience events, a few customers are very
//! active and most are not, and the timestamps rise evenly over 45 days. Everything comes from one
//! seed, so that two runs measure the same work; a test holds the shape.

use std::fmt::Write;

use forebay_engine::clock::Timestamp;

/// The seed of every bench.
pub const SEED: u64 = 0x5EED_F0EB;

/// 2026-01-01T00:00:00Z, when the records start.
const START_MS: i64 = 1_767_225_600_000;

/// How long they go on.
const SPAN_MS: u64 = 45 * 24 * 60 * 60 * 1000;

const COUNTRIES: [&str; 10] = ["US", "GB", "FR", "DE", "JP", "IN", "BR", "CA", "ES", "SE"];
const TIERS: [&str; 4] = ["bronze", "silver", "gold", "platinum"];
const FIRST_NAMES: [&str; 10] =
    ["Ana", "Luc", "Mia", "Noa", "Ivo", "Zoe", "Kai", "Léa", "Max", "Ada"];
const LAST_NAMES: [&str; 8] = ["Silva", "Martin", "Khan", "Sato", "Berg", "Rossi", "Kim", "Diaz"];
const CATEGORIES: [&str; 6] = ["shoes", "books", "garden", "audio", "toys", "kitchen"];

/// What share of the events is of this kind or one before it.
const KINDS: [(Kind, f64); 4] = [
    (Kind::PageView, 0.60),
    (Kind::ProductView, 0.82),
    (Kind::ListAdd, 0.92),
    (Kind::Purchase, 1.00),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    PageView,
    ProductView,
    ListAdd,
    Purchase,
}

impl Kind {
    const fn event_type(self) -> &'static str {
        match self {
            Self::PageView => "web.webpagedetails.pageViews",
            Self::ProductView => "commerce.productViews",
            Self::ListAdd => "commerce.productListAdds",
            Self::Purchase => "commerce.purchases",
        }
    }
}

/// Records of so many customers.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// How many customers there are; the records may not name all of them.
    pub profiles: u32,
    /// How many records.
    pub records: u32,
}

impl Workload {
    /// One record in ten customers' names each: `records` of `records / 10` customers.
    pub const fn of(records: u32) -> Self {
        Self { profiles: records / 10, records }
    }

    /// The records as newline-delimited JSON, some 280 bytes each; the same each time.
    pub fn ndjson(self) -> String {
        let mut random = Random(SEED);
        let skew = Skew::new(self.profiles);
        let mut out = String::with_capacity(self.records as usize * 300);
        for number in 0..self.records {
            let customer = skew.draw(&mut random);
            let at = u64::from(number) * SPAN_MS / u64::from(self.records);
            let at = Timestamp::from_millis(START_MS + i64::try_from(at).expect("45 days fit"));
            if random.unit() < 0.10 {
                write_profile(&mut out, &mut random, customer, at);
            } else {
                write_event(&mut out, &mut random, (customer, number), at);
            }
            out.push('\n');
        }
        out
    }
}

fn write_profile(out: &mut String, random: &mut Random, customer: usize, at: Timestamp) {
    let tier = TIERS[random.below(42, 2).min(39) / 10];
    let country = COUNTRIES[random.below(10, 2)];
    let points = random.below(5_000, 1);
    let (first, last) = (FIRST_NAMES[customer % 10], LAST_NAMES[customer % 8]);
    write!(out, r#"{{"profile":{{"identityMap":{{"CRMID":[{{"id":"c{customer}","primary":true}}]"#)
        .expect(MEMORY);
    if customer.is_multiple_of(3) {
        write!(out, r#","Email":[{{"id":"user{customer}@example.com"}}]"#).expect(MEMORY);
    }
    write!(
        out,
        r#"}},"person":{{"name":{{"firstName":"{first}","lastName":"{last}"}}}},"personalEmail":{{"address":"user{customer}@example.com"}},"homeAddress":{{"countryCode":"{country}"}},"loyalty":{{"tier":"{tier}","points":{points}}}}},"dataset":"crm","timestamp":"{at}"}}"#
    )
    .expect(MEMORY);
}

fn write_event(
    out: &mut String,
    random: &mut Random,
    (customer, number): (usize, u32),
    at: Timestamp,
) {
    let share = random.unit();
    let kind = KINDS.iter().find(|(_, below)| share < *below).map_or(Kind::Purchase, |k| k.0);
    let category = CATEGORIES[random.below(6, 1)];
    let sku = random.below(2_000, 1);
    write!(
        out,
        r#"{{"event":{{"_id":"e{number}","timestamp":"{at}","eventType":"{}","identityMap":{{"CRMID":[{{"id":"c{customer}","primary":true}}]}},"#,
        kind.event_type()
    )
    .expect(MEMORY);
    if kind == Kind::PageView {
        write!(out, r#""web":{{"webPageDetails":{{"name":"/{category}/SKU-{sku}"}}}}"#)
            .expect(MEMORY);
    } else {
        let quantity = 1 + random.below(3, 1);
        let cents = 300 + random.below(30_000, 3);
        let (whole, part) = (cents / 100, cents % 100);
        write!(
            out,
            r#""productListItems":[{{"SKU":"SKU-{sku}","_category":"{category}","quantity":{quantity},"priceTotal":{whole}.{part:02}}}]"#
        )
        .expect(MEMORY);
        if kind == Kind::Purchase {
            write!(
                out,
                r#","commerce":{{"order":{{"purchaseID":"p{number}","priceTotal":{whole}.{part:02}}}}}"#
            )
            .expect(MEMORY);
        }
    }
    let device = if random.unit() < 0.6 { "mobile" } else { "desktop" };
    write!(out, r#","device":{{"type":"{device}"}}}},"dataset":"web"}}"#).expect(MEMORY);
}

const MEMORY: &str = "writing to a string cannot fail";

/// Customer i is drawn with weight 1 / (i + 50)^0.6: the first are some forty times as active as the
/// hundred-thousandth.
struct Skew {
    cumulative: Vec<f64>,
}

impl Skew {
    fn new(profiles: u32) -> Self {
        let weights = (0..profiles).map(|i| (f64::from(i) + 50.0).powf(-0.6));
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        Self { cumulative }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.cumulative.last().expect("there is a customer");
        let at = random.unit() * total;
        self.cumulative.partition_point(|sum| *sum <= at).min(self.cumulative.len() - 1)
    }
}

/// `SplitMix64`: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.next() >> 11) as f64 * STEP
    }

    /// From 0 to below `limit`; the higher `power`, the likelier the low numbers.
    fn below(&mut self, limit: u32, power: i32) -> usize {
        let drawn = self.unit().powi(power) * f64::from(limit);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to below a u32"
        )]
        let drawn = drawn as usize;
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn the_same_workload_is_the_same_bytes() {
        assert_eq!(Workload::of(1_000).ndjson(), Workload::of(1_000).ndjson());
    }

    #[test]
    fn the_workload_has_the_shape_it_promises() {
        let text = Workload { profiles: 1_000, records: 10_000 }.ndjson();
        let share = |needle: &str| text.matches(needle).count();
        // (what it shows, what is counted, at least, at most)
        let cases = [
            ("each line is a record", share("\n"), 10_000, 10_000),
            ("a tenth are profile records", share(r#"{"profile":"#), 900, 1_100),
            ("the others are events", share(r#"{"event":"#), 8_900, 9_100),
            ("8 % of these are purchases", share(r#""commerce.purchases""#), 620, 820),
            ("the first customer is active", share(r#""id":"c0""#), 20, 60),
            ("the last is not", share(r#""id":"c999""#), 1, 15),
            ("a record is some 280 bytes", text.len() / 10_000, 230, 320),
        ];
        for (name, count, least, most) in cases {
            assert!((least..=most).contains(&count), "{name}: {count}");
        }
    }
}
