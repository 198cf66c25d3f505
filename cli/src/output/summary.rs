//! The summary of a run, for people; for programs it is printed as it is.

use forebay_engine::views::Summary;

use super::table::{Align, counted, number, table};

/// Draws the whole summary.
pub(crate) fn summary_text(summary: &Summary) -> String {
    let records = &summary.records;
    let mut text = format!(
        "{} accepted, {} rejected, {} duplicate; {}; clock {}; {:.1} s\n",
        counted(records.accepted, "record"),
        number(records.rejected),
        number(records.duplicate),
        counted(summary.profiles, "profile"),
        summary.clock,
        summary.elapsed_ms as f64 / 1_000.0,
    );
    if !summary.audiences.is_empty() {
        text.push('\n');
        text.push_str(&audiences(summary));
        text.push('\n');
    }
    if !summary.dataflows.is_empty() {
        text.push('\n');
        text.push_str(&dataflows(summary));
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn audiences(summary: &Summary) -> String {
    let columns = [("audience", Align::Left), ("in", Align::Right), ("left", Align::Right)];
    let rows: Vec<_> = summary
        .audiences
        .iter()
        .map(|(id, counts)| vec![id.clone(), number(counts.realized), number(counts.exited)])
        .collect();
    table(&columns, &rows)
}

fn dataflows(summary: &Summary) -> String {
    let columns = [
        ("dataflow", Align::Left),
        ("exports", Align::Right),
        ("delivered", Align::Right),
        ("retries", Align::Right),
        ("dead letters", Align::Right),
        ("waiting", Align::Right),
    ];
    let rows: Vec<_> = summary
        .dataflows
        .iter()
        .map(|(id, counts)| {
            let numbers = [
                counts.exports,
                counts.delivered,
                counts.retries,
                counts.dead_letters,
                counts.waiting,
            ];
            std::iter::once(id.clone()).chain(numbers.map(number)).collect()
        })
        .collect();
    table(&columns, &rows)
}

#[cfg(test)]
mod tests {
    use forebay_engine::views::{AudienceCounts, DataflowCounts, RecordCounts, Summary};

    use super::summary_text;

    #[test]
    fn a_summary_is_one_line_and_two_tables() {
        let mut summary = Summary {
            records: RecordCounts { accepted: 69_659, rejected: 1, duplicate: 0 },
            profiles: 23_570,
            clock: "1998-06-30T00:00:00.000Z".to_owned(),
            elapsed_ms: 1_300,
            ..Summary::default()
        };
        let counts = AudienceCounts { realized: 734, exited: 0 };
        summary.audiences.insert("big_spenders".to_owned(), counts);
        let counts = DataflowCounts { exports: 10, delivered: 8, waiting: 2, ..Default::default() };
        summary.dataflows.insert("to_crm".to_owned(), counts);
        let expected = "\
69,659 records accepted, 1 rejected, 0 duplicate; 23,570 profiles; clock 1998-06-30T00:00:00.000Z; 1.3 s

 audience       in  left
 big_spenders  734     0

 dataflow  exports  delivered  retries  dead letters  waiting
 to_crm         10          8        0             0        2";
        assert_eq!(summary_text(&summary), expected);
    }
}
