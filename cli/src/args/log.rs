//! What follows `forebay log`.

use clap::{Subcommand, ValueEnum};
use forebay_engine::engine::LogKind;

use super::{Since, since};

/// `forebay log`
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// How many records there are, and what takes how much of the disk
    Stats,
    /// The entries, one a line: offset, time of the append, kind, the line as it was received
    Cat(Cat),
    /// Remove the bytes of deleted profiles now; the engine does so within 24 h of a delete
    Compact,
}

/// `forebay log cat`: those entries that fit everything given.
#[derive(Debug, clap::Args)]
pub(crate) struct Cat {
    /// From this offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    pub(crate) from: u64,
    /// Through this offset
    #[arg(long, value_name = "OFFSET")]
    pub(crate) to: Option<u64>,
    /// Appended at this time (RFC 3339) or later, or not longer ago than this (30m, 2h, 7d)
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Appended at this time or earlier, or longer ago than this
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    pub(crate) until: Option<Since>,
    /// Of this kind only; several may be given, separated by commas
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<Kind>,
    /// Records that name this identity (its profile may have others)
    #[arg(long, num_args = 2, value_names = ["NAMESPACE", "ID"])]
    pub(crate) identity: Option<Vec<String>>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A profile record
    Profile,
    /// An experience event
    Event,
    /// An upload membership
    Membership,
    /// An erasure
    Delete,
    /// What the engine tells itself: definitions, ticks, imports
    Control,
    /// What is left of an erased record
    Stub,
}

impl From<Kind> for LogKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Profile => Self::Profile,
            Kind::Event => Self::Event,
            Kind::Membership => Self::Membership,
            Kind::Delete => Self::Delete,
            Kind::Control => Self::Control,
            Kind::Stub => Self::Stub,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn entries_are_chosen_by_place_time_kind_and_identity() {
        let cases = [
            ("log cat --from 3 --to 9 --limit 2", true),
            ("log cat --since 2026-01-01T00:00:00Z --until 2h", true),
            ("log cat --kind profile,event --kind stub", true),
            ("log cat --identity CRMID c1", true),
            ("log cat --identity c1", false),
            ("log cat --kind record", false),
            ("log cat --limit 0", false),
            ("log cat --from -1", false),
            ("log cat 7", false),
        ];
        for (typed, is_understood) in cases {
            let words = ["forebay"].into_iter().chain(typed.split(' '));
            let parsed = Args::try_parse_from(words);
            assert_eq!(parsed.is_ok(), is_understood, "{typed}: {parsed:?}");
        }
    }
}
