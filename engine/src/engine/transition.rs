//! Other definitions on their way through the threads of a running engine: from whoever reloads, past
//! the appender, which gives them their place in the log, to the deriver, where they take effect.

use crossbeam::channel::Sender;

use super::derivation::Derivation;
use crate::definitions::{Change, Definitions};

/// Other definitions, on their way to the log and to the deriver.
pub(super) struct Transition {
    /// What changes.
    pub change: Change,
    /// What holds then.
    pub definitions: Definitions,
    /// A projection that has seen what the present one has not.
    pub successor: Option<Box<Derivation>>,
    /// Told when they hold; with the projection that was replaced, for the asker to drop.
    pub told: Sender<Option<Box<Derivation>>>,
}
