//! The CDNOW purchases as records: one experience event a row, in the order of time.
//!
//! See `examples/cdnow/README.md` for the source, the licence and the quirks of the data.

use std::io::Read;

use flate2::read::GzDecoder;

/// The file as published, gzipped.
const PACKED: &[u8] = include_bytes!("../../../examples/cdnow/CDNOW_master.txt.gz");

/// One row of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Purchase<'a> {
    /// From 1, the header not counted.
    row: usize,
    /// Five digits.
    customer: &'a str,
    /// YYYYMMDD.
    date: &'a str,
    /// How many CDs.
    cds: &'a str,
    /// Dollars, two decimals.
    amount: &'a str,
}

/// All purchases as NDJSON records, by date and then by row. The same bytes every time.
pub(super) fn records() -> Vec<u8> {
    let mut text = String::new();
    GzDecoder::new(PACKED).read_to_string(&mut text).expect("the bundled file is gzipped text");
    let mut purchases = parse(&text);
    purchases.sort_by_key(|purchase| (purchase.date, purchase.row));
    let mut records = Vec::with_capacity(purchases.len() * 400);
    for purchase in &purchases {
        records.extend_from_slice(record(purchase).as_bytes());
    }
    records
}

fn parse(text: &str) -> Vec<Purchase<'_>> {
    let rows = text.lines().enumerate().skip(1);
    rows.filter_map(|(row, line)| {
        let mut columns = line.split_ascii_whitespace();
        Some(Purchase {
            row,
            customer: columns.next()?,
            date: columns.next()?,
            cds: columns.next()?,
            amount: columns.next()?,
        })
    })
    .collect()
}

/// The record of one purchase, with its line end.
fn record(purchase: &Purchase<'_>) -> String {
    let Purchase { row, customer, date, cds, amount } = purchase;
    let (year, month, day) = (&date[..4], &date[4..6], &date[6..]);
    format!(
        concat!(
            r#"{{"event":{{"_id":"cdnow-{row:06}","timestamp":"{year}-{month}-{day}T00:00:00Z","#,
            r#""eventType":"commerce.purchases","#,
            r#""identityMap":{{"CRMID":[{{"id":"{customer}","primary":true}}]}},"#,
            r#""commerce":{{"order":{{"currencyCode":"USD","priceTotal":{amount}}},"#,
            r#""purchases":{{"value":1}}}},"#,
            r#""productListItems":[{{"quantity":{cds},"priceTotal":{amount}}}]}},"#,
            r#""dataset":"cdnow.purchases"}}"#,
            "\n"
        ),
        row = row,
        year = year,
        month = month,
        day = day,
        customer = customer,
        amount = amount,
        cds = cds
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use forebay_engine::clock::Timestamp;
    use serde_json::Value;

    use super::records;

    #[test]
    fn every_purchase_is_a_record_and_none_is_lost() {
        let records = String::from_utf8(records()).unwrap();
        let (mut ids, mut customers) = (HashSet::new(), HashSet::new());
        let (mut cents, mut cds, mut last) = (0, 0, Timestamp::MIN);
        for line in records.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let event = &record["event"];
            assert_eq!(event["eventType"], "commerce.purchases");
            assert!(ids.insert(event["_id"].as_str().unwrap().to_owned()), "{line}");
            customers.insert(event["identityMap"]["CRMID"][0]["id"].as_str().unwrap().to_owned());
            let amount = event["commerce"]["order"]["priceTotal"].to_string();
            let (dollars, hundredths) = amount.split_once('.').unwrap();
            assert_eq!(hundredths.len().clamp(1, 2), hundredths.len(), "{amount}");
            cents += format!("{dollars}{hundredths:0<2}").parse::<u64>().unwrap();
            cds += event["productListItems"][0]["quantity"].as_u64().unwrap();
            let at = Timestamp::parse(event["timestamp"].as_str().unwrap()).unwrap();
            assert!(at >= last, "time never goes back: {line}");
            last = at;
        }
        assert_eq!(ids.len(), 69_659);
        assert_eq!(customers.len(), 23_570);
        assert_eq!(cents, 250_031_563);
        assert_eq!(cds, 167_881);
        assert_eq!(last.to_seconds_text(), "1998-06-30T00:00:00Z");
    }
}
