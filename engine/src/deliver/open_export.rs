//! An open export, as whoever asks what it waits for sees it.

use super::backlog::{Attempt, ProfileKey};
use crate::clock::Timestamp;

/// Which open exports are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// All of a profile.
    Profile(ProfileKey),
    /// One.
    Sequence(u64),
}

/// What a dataflow's dispatcher has open of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// In the order in which they may leave.
    pub open: Vec<OpenExport>,
    /// Sequences below this one were read from the backlog: those that are not open are done.
    pub next: u64,
}

/// An export that was read from the backlog, or is a dead letter that is sent again, and is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenExport {
    /// Its number in the dataflow.
    pub sequence: u64,
    /// What it waits for.
    pub wait: Wait,
    /// Attempts that failed.
    pub failures: u32,
    /// Those of which details are known, oldest first.
    pub attempts: Vec<Attempt>,
}

/// What an open export waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its request to end.
    Answer,
    /// Its turn: nothing of its own holds it back.
    Turn,
    /// An earlier export of its profile.
    Behind(u64),
    /// Its retry, due then.
    Retry(Timestamp),
}
