//! What the benches configure: eight audiences of which four have windows, and one dataflow.

use std::fmt::Write;

use forebay_engine::check;
use forebay_engine::clock::{ClockKind, Timestamp};
use forebay_engine::config::Config;
use forebay_engine::input::{LastLine, LineReader, Pace};
use forebay_engine::project::projection::Projection;
use forebay_engine::record::{ParseRules, RecordBatch, parse_lines};

/// The audiences, and where their members go. `RECEIVER` is replaced.
const BASE: &str = r#"
clock = "event"

[[audience]]
id = "big_spenders"
pql = 'xEvent[eventType = "commerce.purchases"].sum(commerce.order.priceTotal) > 500'

[[audience]]
id = "us_members"
pql = 'homeAddress.countryCode = "US"'

[[audience]]
id = "gold"
pql = 'loyalty.tier in ["gold", "platinum"]'

[[audience]]
id = "lookers"
pql = '''
xEvent[eventType = "commerce.productViews"].count() >= 5
and xEvent[eventType = "commerce.purchases"].count() = 0'''

[[audience]]
id = "active_today"
pql = 'xEvent[timestamp occurs <= 1 days before now].count() >= 3'

[[audience]]
id = "week_buyers"
pql = 'xEvent[eventType = "commerce.purchases" and timestamp occurs <= 7 days before now].count() >= 1'

[[audience]]
id = "frequent"
pql = 'xEvent[eventType = "commerce.purchases" and timestamp occurs <= 30 days before now].count() >= 3'

[[audience]]
id = "abandoned"
pql = '''
xEvent[eventType = "commerce.productListAdds" and timestamp occurs <= 2 days before now].count() > 0
and xEvent[eventType = "commerce.purchases" and timestamp occurs <= 2 days before now].count() = 0'''

[[destination]]
id = "sink"
endpoint = "http://RECEIVER/in"
max_requests_per_second = 1000000

[[dataflow]]
id = "to_sink"
destination = "sink"
audiences = ["big_spenders", "week_buyers", "gold"]
attributes = ["person.name", "loyalty.tier"]
memberships = "mapped"
triggers = ["segment", "identity"]
"#;

/// The configuration with `receiver` (an address) as its endpoint.
pub(crate) fn delivering_to(receiver: &str) -> Config {
    load(&BASE.replace("RECEIVER", receiver))
}

/// The configuration with the audiences and without the dataflow.
pub(crate) fn mapping_nothing() -> Config {
    let (unmapped, _) = BASE.split_once("[[dataflow]]").expect("there is a dataflow");
    load(&unmapped.replace("RECEIVER", "127.0.0.1:9"))
}

/// The configuration with `unrelated` audiences more, which no record can change.
///
/// They read an attribute that nobody writes, ask for events that nobody sends, with and without a
/// window, in a chain, or by a field that no event has, and combine them.
pub(crate) fn with_unrelated(unrelated: usize) -> Config {
    let mut text = BASE.replace("RECEIVER", "127.0.0.1:9");
    for number in 0..unrelated {
        let kind = format!(r#"eventType = "unrelated.kind{number}""#);
        let rule = match number % 6 {
            0 => format!(r#"unrelated.attribute{number} = "x""#),
            1 => format!("xEvent[{kind}].count() > 3"),
            2 => format!("xEvent[{kind} and timestamp occurs < 7 days before now].count() > 3"),
            3 => format!("chain(xEvent, timestamp, [A: WHAT({kind}) WHEN(today)])"),
            4 => format!(r#"xEvent[unrelated.field{number} = "x"].count() > 3"#),
            _ => format!("person.unrelated{number} and xEvent[{kind}].sum(n) > 3"),
        };
        write!(text, "\n[[audience]]\nid = \"unrelated{number}\"\npql = '{rule}'\n")
            .expect("writing to a string cannot fail");
    }
    load(&text)
}

fn load(text: &str) -> Config {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let path = directory.path().join("forebay.toml");
    std::fs::write(&path, text).expect("the temporary directory takes a file");
    check::load(&path, &|_| None).unwrap_or_else(|faults| panic!("{faults}"))
}

/// A projection in which the definitions of `config` hold and no record was applied.
pub(crate) fn projection(config: &Config) -> Projection {
    let coming = vec![config.definitions.clone()];
    let mut projection = Projection::new(ClockKind::Event, coming).expect("the rules compile");
    projection
        .apply_definitions(&config.definitions, 0, Timestamp::EPOCH, &|_| None)
        .expect("the rules compile");
    projection
}

/// `ndjson` as the blocks that an engine would read, parsed.
pub(crate) fn batches(ndjson: &str) -> Vec<RecordBatch> {
    let mut reader = LineReader::new(ndjson.as_bytes(), Pace::Filled, LastLine::Taken);
    let mut batches = Vec::new();
    while let Some(block) = reader.next_block().expect("memory can be read") {
        let parsed = parse_lines(block, &ParseRules::default());
        assert!(parsed.rejects.is_empty(), "{:?}", parsed.rejects.first());
        batches.push(parsed.batch);
    }
    batches
}

/// Applies `batches` and returns how many exports that gave.
pub(crate) fn fold(projection: &mut Projection, batches: &[RecordBatch]) -> usize {
    // The control entry stands at 0.
    let mut offset = 1;
    let mut exports = 0;
    for batch in batches {
        exports += projection.apply_batch(batch, offset, Timestamp::EPOCH, None).exports.len();
        offset += batch.len() as u64;
    }
    exports
}
