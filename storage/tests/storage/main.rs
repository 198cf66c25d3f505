//! The storage crate from outside, as the engine uses it: with restarts, faults, kills and power cuts
//! among the operations. One binary, one file a behaviour.

#![expect(clippy::unwrap_used, reason = "all of this is tests, helpers included")]

mod support;

mod erasure;
mod event_log;
mod faults;
mod files;
mod formats;
mod journal_model;
mod kill;
mod log_model;
mod outlines;
mod power_cut;
mod state_model;
mod stored_bytes;
mod writer;
