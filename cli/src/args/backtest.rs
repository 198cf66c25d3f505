//! What follows `forebay audience backtest`.

use std::path::PathBuf;

use clap::ValueEnum;
use forebay_engine::clock::Timestamp;

use super::timestamp;

/// `forebay audience backtest`
#[derive(Debug, clap::Args)]
pub(crate) struct Backtest {
    /// The rule, in PQL; - for stdin
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// Count from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(crate) from: Timestamp,
    /// Count up to this time, which is not counted any more
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(crate) to: Timestamp,
    /// Count by hour or day; by hour, if the span is three days at most
    #[arg(long, value_enum)]
    pub(crate) by: Option<By>,
    /// The merge policy of the rule, if not the default one
    #[arg(long, value_name = "ID")]
    pub(crate) merge_policy: Option<String>,
    /// Count the requests of a mapping with the attributes and triggers of this dataflow; without it, of
    /// one with no attributes and all triggers
    #[arg(long, value_name = "ID")]
    pub(crate) dataflow: Option<String>,
    /// Tell who entered and left, one by one
    #[arg(long)]
    pub(crate) members: bool,
    /// Tell at most so many of them
    #[arg(long, value_name = "N", requires = "members", default_value_t = 10_000)]
    pub(crate) limit: usize,
}

/// What is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Whole hours.
    Hour,
    /// Days of the configured time zone.
    Day,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn a_backtest_needs_a_rule_and_a_span() {
        let span = "--from 2026-01-01T00:00:00Z --to 2026-02-01T00:00:00Z";
        let cases = [
            (format!("a.pql {span}"), true),
            (format!("- {span} --by hour --members --limit 5"), true),
            (format!("a.pql {span} --merge-policy p --dataflow d"), true),
            (span.to_owned(), false),
            ("a.pql --from 2026-01-01T00:00:00Z".to_owned(), false),
            (format!("a.pql {span} --by week"), false),
            (format!("a.pql {span} --limit 5"), false),
            ("a.pql --from yesterday --to 2026-02-01T00:00:00Z".to_owned(), false),
        ];
        for (typed, understood) in cases {
            let words = ["forebay", "audience", "backtest"].into_iter().chain(typed.split(' '));
            let parsed = Args::try_parse_from(words);
            assert_eq!(parsed.is_ok(), understood, "{typed}: {parsed:?}");
        }
    }
}
