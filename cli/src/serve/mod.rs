//! How other commands reach the process that holds the data directory (`SPEC.md` §10).
//!
//! [`protocol`] is what is said, [`socket`] is where, [`server`] answers inside `run` and `ingest`,
//! and [`session`] asks: through the socket if somebody answers there, else by opening the directory.
//! [`past`] asks about the past, for which a directory's log is enough.

pub(crate) mod past;
pub(crate) mod protocol;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod socket;
