//! The event types of a batch, each kept once.
//!
//! A shop has a dozen of them and a batch thousands of events. Found while a line is parsed, a type
//! costs one look-up; found by whoever folds the event, it would cost a way to its text.

use hashbrown::HashMap;

/// Event types, in the order first seen.
#[derive(Clone, Debug, Default)]
pub(super) struct EventTypes {
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, u32, foldhash::fast::FixedState>,
}

impl EventTypes {
    /// The index of the type called `name`.
    pub(super) fn intern(&mut self, name: &str) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = u32::try_from(self.names.len()).expect("fewer types than bytes");
        self.names.push(name.into());
        self.by_name.insert(name.into(), index);
        index
    }

    /// The type with this index.
    pub(super) fn name(&self, index: u32) -> &str {
        &self.names[index as usize]
    }

    /// All types.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }
}
