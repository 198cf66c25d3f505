//! What can be typed (`SPEC.md` §10).
//!
//! Commands and options that the contract names and this version does not have are parsed too, so
//! that they are answered with "not built yet" and not with "did you mean".

mod backtest;
mod explain;
mod log;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use forebay_engine::clock::Timestamp;
use forebay_engine::deliver::export_id::ExportId;
use forebay_engine::engine::{AsOf, LastAttempt};

use crate::durations;

pub(crate) use backtest::{Backtest, By};
pub(crate) use explain::Explain;
pub(crate) use log::{Cat, Log};

/// An embedded activation engine: durable customer records in, relevant profile changes out over HTTP.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Start with `forebay demo`, or `forebay init` for a configuration of your own."
)]
pub(crate) struct Args {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// The configuration
    #[arg(long, global = true, value_name = "FILE", env = "FOREBAY_CONFIG")]
    #[arg(default_value = "forebay.toml")]
    pub(crate) config: PathBuf,
    /// The data directory
    #[arg(long, global = true, value_name = "DIR", env = "FOREBAY_DATA")]
    #[arg(default_value = "./forebay-data")]
    pub(crate) data: PathBuf,
    /// How results are printed; json gives one object a line
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Do the whole job on bundled real purchases, in a temporary directory
    Demo(Demo),
    /// Write a commented starter configuration
    Init {
        /// Where; made if it is not there
        #[arg(value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Validate the configuration and print each audience's plan
    Check,
    /// Print the exports that arrive: the endpoint of the starter configuration
    Receiver(Receiver),
    /// Run the engine: read inputs, derive, deliver
    #[command(after_help = "SIGHUP makes it read the configuration again, without stopping.")]
    Run(Run),
    /// Append records and derive, send nothing
    Ingest(Ingest),
    /// Make a CSV file an upload audience's whole membership
    ImportAudience(ImportAudience),
    /// One profile: attributes, identities, memberships
    Profile(Profile),
    /// One screen of health
    Status,
    /// Audiences and their members
    #[command(subcommand)]
    Audience(Audience),
    /// Dataflows: state, rates, latencies
    #[command(subcommand)]
    Dataflow(Dataflow),
    /// Destinations: how they do, and whether they take a sample
    #[command(subcommand)]
    Destination(Destination),
    /// Exports that were given up on
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// The event log: how large it is, what it holds
    #[command(subcommand)]
    Log(Log),
    /// What is behind an export, or why a profile is, or is not, exported
    Explain(Explain),
    /// Alerts
    #[command(hide = true)]
    Alerts(NotBuilt),
    /// Access tokens
    #[command(hide = true)]
    Token(NotBuilt),
    /// Derive everything again from the log and compare; sends nothing
    Verify,
    /// Derive everything again from the log and replace what was derived; sends nothing
    Rebuild,
}

/// Takes whatever follows a command that is not built yet.
#[derive(Debug, clap::Args)]
pub(crate) struct NotBuilt {
    /// Ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

/// `forebay demo`
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// Write what the receiver got, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(crate) exports: Option<PathBuf>,
}

/// `forebay receiver`
#[derive(Debug, clap::Args)]
pub(crate) struct Receiver {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8400")]
    pub(crate) listen: SocketAddr,
    /// The status to answer with
    #[arg(long, value_name = "N", default_value_t = 204)]
    #[arg(value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) status: u16,
}

/// `forebay run`
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// NDJSON to read, gzip if it ends in .gz, - for stdin; several are read one after another
    #[arg(long, value_name = "FILE|-")]
    pub(crate) input: Vec<PathBuf>,
    /// Read the inputs, deliver or dead-letter everything, print a summary, exit
    #[arg(long)]
    pub(crate) drain: bool,
    /// How long --drain waits for a destination that takes nothing
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = durations::parse)]
    pub(crate) drain_timeout: Duration,
    /// Move the event clock to this time (RFC 3339) after the input
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(crate) advance_to: Option<Timestamp>,
    /// Exit with 1 if a record was rejected
    #[arg(long)]
    pub(crate) strict: bool,
    /// Not built yet.
    #[arg(long, hide = true)]
    pub(crate) follow: bool,
    /// Not built yet.
    #[arg(long, hide = true, value_name = "ADDR")]
    pub(crate) listen: Option<OsString>,
}

/// `forebay ingest`
#[derive(Debug, clap::Args)]
pub(crate) struct Ingest {
    /// NDJSON, gzip if it ends in .gz; - for stdin
    #[arg(value_name = "FILE|-")]
    pub(crate) input: PathBuf,
    /// Exit with 1 if a record was rejected
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `forebay import-audience`
#[derive(Debug, clap::Args)]
pub(crate) struct ImportAudience {
    /// The upload audience; who is not in the file leaves it
    #[arg(value_name = "ID")]
    pub(crate) audience: String,
    /// CSV with a header row, gzip if it ends in .gz; - for stdin
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: PathBuf,
    /// The column that holds the members' ids
    #[arg(long, value_name = "COLUMN")]
    pub(crate) identity_column: String,
    /// The namespace of the ids, for example Email
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// Exit with 1 if a row was rejected
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `forebay profile`
#[derive(Debug, clap::Args)]
pub(crate) struct Profile {
    /// An identity's namespace, for example Email
    #[arg(value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    /// The identity's id, exactly as in the records
    pub(crate) id: String,
    /// The merge policy to see it under, if not the default one
    #[arg(long, value_name = "ID")]
    pub(crate) merge_policy: Option<String>,
    /// As it was after the entry at this offset of the log, or at this time (RFC 3339)
    #[arg(long, value_name = "OFFSET|TIME", value_parser = AsOf::parse)]
    pub(crate) as_of: Option<AsOf>,
    /// Show the payload that this dataflow would be sent; json has those of all
    #[arg(long, value_name = "ID")]
    pub(crate) dataflow: Option<String>,
}

/// `forebay audience`
#[derive(Debug, Subcommand)]
pub(crate) enum Audience {
    /// All audiences, with how many are in and how many left
    List,
    /// The profiles in an audience, and those that left it
    Members {
        /// The audience
        id: String,
        /// At most so many; 100 in text and all in json unless given
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// One audience: its rule and plan, how many are in, which dataflows map it
    Show {
        /// The audience
        id: String,
    },
    /// Who would have entered and left, had a rule been there from the beginning
    Backtest(Backtest),
}

/// `forebay dataflow`
#[derive(Debug, Subcommand)]
pub(crate) enum Dataflow {
    /// All dataflows, one line each
    List,
    /// State, rates, lag and latencies of one dataflow, or of all
    Status {
        /// The dataflow
        id: Option<String>,
    },
    /// Past runs
    #[command(hide = true)]
    Runs(NotBuilt),
}

/// `forebay destination`
#[derive(Debug, Subcommand)]
pub(crate) enum Destination {
    /// All destinations: where, how, which dataflows, and whether they are paused
    List,
    /// Send one sample, outside any dataflow, and show what was sent and answered
    #[command(after_help = SAMPLE)]
    Test {
        /// The destination
        id: String,
    },
}

/// What the receiver of a sample should know.
const SAMPLE: &str = "The sample carries the header `forebay-test: true` and a `webhook-id` that \
begins with `forebay-test-`, which no export has; it has no `forebay-dataflow` and no \
`forebay-sequence`. It is sent once, whatever the limits, and nothing is stored. The exit status is 1 \
if the answer is no 2xx.";

/// `forebay dead-letters`
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// What was given up on, with every attempt, in order of dataflow and sequence
    List(Which),
    /// Send them again: by the running engine, or by the next run
    Replay {
        #[command(flatten)]
        which: Which,
        /// What to send: what was to be sent then, under the same id and sequence, or a new export of
        /// the profile as it is now
        #[arg(long, value_enum, default_value_t = Payload::Original)]
        payload: Payload,
    },
    /// Write them as NDJSON, payloads and attempts included
    Export {
        #[command(flatten)]
        which: Which,
        /// A file, which must not be there yet; - for stdout
        #[arg(long, value_name = "FILE|-", default_value = "-")]
        to: PathBuf,
    },
    /// Forget them for good: they can be neither replayed nor exported afterwards
    Purge {
        #[command(flatten)]
        which: Which,
        /// Every dead letter
        #[arg(long, conflicts_with_all = ["export", "dataflow", "since", "status", "limit"])]
        all: bool,
    },
}

/// Which dead letters are meant: those that fit everything given.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// One export, by its id
    #[arg(value_name = "EXPORT_ID")]
    #[arg(conflicts_with_all = ["dataflow", "since", "status", "limit"])]
    // One in 64 logs has ids that begin with a hyphen.
    #[arg(allow_hyphen_values = true, value_parser = export_id)]
    pub(crate) export: Option<String>,
    /// Of one dataflow only
    #[arg(long, value_name = "ID")]
    pub(crate) dataflow: Option<String>,
    /// Given up since this time (RFC 3339), or not longer ago than this (30m, 2h, 7d)
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Whose last attempt was answered with this status, or not at all (error)
    #[arg(long, value_name = "CODE|error", value_parser = last_attempt)]
    pub(crate) status: Option<LastAttempt>,
    /// At most so many, in order of dataflow and sequence
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// A time, given in one of two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Itself.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

/// What a replay sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// The same bytes under the same id.
    Original,
    /// The profile as it is now, as a new export.
    Current,
}

impl Since {
    /// The time that is meant, as of `now`.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.plus_millis(-i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// Takes what may be an export's id; whether there is such an export, the engine knows.
fn export_id(text: &str) -> Result<String, String> {
    if text.starts_with('-') && ExportId::parse(text).is_none() {
        return Err(format!("`{text}` is neither an option of this command nor an export id"));
    }
    Ok(text.to_owned())
}

/// Reads RFC 3339.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| {
        format!("`{text}` is no RFC 3339 time; write for example 2026-01-31T00:00:00Z")
    })
}

/// Reads RFC 3339, or a duration.
fn since(text: &str) -> Result<Since, String> {
    let at = Timestamp::parse(text).map(Since::At);
    at.or_else(|| durations::parse(text).ok().map(Since::Ago)).ok_or_else(|| {
        format!(
            "`{text}` is neither an RFC 3339 time nor a duration; write for example \
             2026-01-31T00:00:00Z or 2h"
        )
    })
}

/// Reads a status, or `error`.
fn last_attempt(text: &str) -> Result<LastAttempt, String> {
    if text == "error" {
        return Ok(LastAttempt::Error);
    }
    let code = text.parse().ok().filter(|code| (100..=999).contains(code));
    code.map(LastAttempt::Status).ok_or_else(|| {
        format!("`{text}` is no status; write a code such as 422, or `error` for those unanswered")
    })
}

impl Args {
    /// The first thing asked for that this version does not have, if any.
    pub(crate) fn not_built(&self) -> Option<&'static str> {
        match &self.command {
            Command::Alerts(_) => Some("`forebay alerts`"),
            Command::Token(_) => Some("`forebay token`"),
            Command::Dataflow(Dataflow::Runs(_)) => Some("`forebay dataflow runs`"),
            Command::Run(run) if run.follow => Some("`run --follow`"),
            Command::Run(run) if run.listen.is_some() => Some("`run --listen`"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Args, Command};

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_is_typed_is_understood() {
        // (what is typed, whether it is understood, what is said to be not built yet)
        let cases = [
            ("demo", true, None),
            ("demo --exports out.ndjson --output json", true, None),
            ("init", true, None),
            ("init some/dir", true, None),
            ("check --config other.toml", true, None),
            ("--config other.toml check", true, None),
            ("receiver --listen 127.0.0.1:0 --status 503", true, None),
            ("receiver --status 99", false, None),
            ("receiver --listen nowhere", false, None),
            ("run", true, None),
            ("run --input a.ndjson --input - --drain --drain-timeout 1s", true, None),
            ("run --drain-timeout soon", false, None),
            ("run --advance-to 2026-01-01T00:00:00Z", true, None),
            ("run --advance-to tomorrow", false, None),
            ("run --follow", true, Some("`run --follow`")),
            ("run --listen 127.0.0.1:80", true, Some("`run --listen`")),
            ("ingest", false, None),
            ("ingest -", true, None),
            ("ingest a.ndjson --strict --data d --output json", true, None),
            ("profile Email", false, None),
            ("profile Email ana@example.com --merge-policy strict", true, None),
            ("profile Email a --as-of 7 --dataflow d", true, None),
            ("profile Email a --as-of 2026-01-01T00:00:00Z", true, None),
            ("profile Email a --as-of yesterday", false, None),
            ("status", true, None),
            ("audience", false, None),
            ("audience list", true, None),
            ("audience members vip --limit 5", true, None),
            ("dataflow list", true, None),
            ("dataflow status", true, None),
            ("dataflow status to_sink", true, None),
            ("dataflow runs to_sink", true, Some("`forebay dataflow runs`")),
            ("dead-letters list --dataflow d", true, None),
            ("dead-letters replay", true, None),
            ("dead-letters replay e1", true, None),
            ("dead-letters replay e1 --dataflow d", false, None),
            ("dead-letters replay --payload current --since 2h --status 422", true, None),
            ("dead-letters replay --payload newest", false, None),
            ("dead-letters list --since 2026-01-31T00:00:00+01:00 --status error", true, None),
            ("dead-letters list --since yesterday", false, None),
            ("dead-letters list --status 42", false, None),
            ("dead-letters list --limit 0", false, None),
            ("dead-letters export --to out.ndjson --limit 5", true, None),
            ("dead-letters purge --all", true, None),
            ("dead-letters purge --all --dataflow d", false, None),
            ("destination list", true, None),
            ("destination test warehouse", true, None),
            ("destination test", false, None),
            ("log stats", true, None),
            ("log compact", true, None),
            ("log cat", true, None),
            ("import-audience vip --csv f --identity-column id --namespace Email", true, None),
            ("import-audience vip --csv f --identity-column id", false, None),
            ("audience show vip", true, None),
            ("audience show", false, None),
            ("alerts list", true, Some("`forebay alerts`")),
            ("token new", true, Some("`forebay token`")),
            ("verify --output json", true, None),
            ("rebuild", true, None),
            ("--output yaml status", false, None),
            ("sttaus", false, None),
        ];
        for (typed, understood, not_built) in cases {
            let parsed = Args::try_parse_from(["forebay"].into_iter().chain(typed.split(' ')));
            assert_eq!(parsed.is_ok(), understood, "{typed}: {parsed:?}");
            assert_eq!(parsed.ok().and_then(|args| args.not_built()), not_built, "{typed}");
        }
    }

    #[test]
    fn an_export_id_may_begin_with_a_hyphen() {
        let id = "-vr6-vr6-vr6-vr6-vr6-gAAAAAAAAAHZA";
        // (what follows `dead-letters`, whether it is understood)
        let cases = [
            (format!("replay {id}"), true),
            (format!("purge {id} --output json"), true),
            ("replay --al".to_owned(), false),
            ("replay -x".to_owned(), false),
        ];
        for (typed, understood) in cases {
            let words = ["forebay", "dead-letters"].into_iter().chain(typed.split(' '));
            let parsed = Args::try_parse_from(words);
            assert_eq!(parsed.is_ok(), understood, "{typed}: {parsed:?}");
        }
    }

    #[test]
    fn drain_waits_a_minute_unless_told() {
        let args = Args::try_parse_from(["forebay", "run"]).expect("it is a command");
        let Command::Run(run) = args.command else { panic!("it is `run`") };
        assert_eq!(run.drain_timeout.as_secs(), 60);
    }
}
