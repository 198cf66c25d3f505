//! Everything between "exports are durable in the outbox" and "the endpoint answered".
//!
//! One dispatcher a dataflow decides what is sent when: a state machine without
//! threads or clock, fed by a worker thread that has both. Sender threads send what it hands out
//! through a [`transport::Transport`]; how each request ended goes back to the dispatcher. Policies
//! (retry, breaker, rate) are pure and take the time as an argument. The backlog is on
//! disk ([`backlog::Backlog`]); memory holds a window of it.

pub mod auth;
pub mod backlog;
pub mod breaker;
pub mod delivery;
pub mod dispatcher;
pub mod error;
pub mod export_id;
mod failure;
pub mod health;
pub mod heritage;
pub mod jitter;
pub mod metrics;
pub mod open_export;
pub mod outcome;
pub mod queue;
pub mod rate;
mod redaction;
pub mod request;
pub mod retry;
pub mod retry_after;
mod sender;
pub mod settings;
mod signature;
pub mod state;
pub mod tick;
pub mod transport;
pub mod trial;
mod turn;
pub mod window;
pub mod withdrawal;
mod worker;

#[cfg(test)]
pub(crate) mod by_hand;
#[cfg(test)]
pub(crate) mod hand_clock;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod over_http;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod simulation;
