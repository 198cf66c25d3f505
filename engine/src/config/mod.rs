//! The configuration, `forebay.toml` (`SPEC.md` §9): read, checked, and given its meaning.
//!
//! Everything that can be wrong is found here and at once, before anything starts: what comes out is
//! a [`Config`] in which every reference leads somewhere, every limit is in range and every secret
//! was found. Each table of the file has a file of its own here, which is the one place that knows
//! its keys. What goes wrong is a value with a place ([`Diagnostic`]), never a panic and never only
//! the first of several.
//!
//! The configuration splits in two. [`crate::definitions`] is the part that decides what records
//! mean; it becomes history. The rest says how exports travel and may change between runs unnoticed.
//!
//! Not here: the audience language, which is handed in as a [`PqlCheck`]; and what only the network
//! can tell, such as the addresses of a name.

mod audience;
mod audience_file;
mod auth;
mod dataflow;
mod destination;
mod diagnostics;
mod endpoint;
mod headers;
mod identifier;
mod load;
mod merge_policy;
mod quantity;
mod query;
mod report;
mod rule_file;
mod rules;
mod secret_reference;
mod settings;
mod source;
mod starter;
mod suggestion;
mod table;

#[cfg(test)]
mod tests;

pub use destination::{DEFAULT_DISK_BUDGET, Destination};
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use load::Config;
pub use rule_file::fault_in;
pub use rules::{KindOf, PqlCheck, PqlFacts, PqlFault};
pub use starter::STARTER;
