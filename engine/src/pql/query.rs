//! The event queries of all rules, each once.

/// An event query in a [`QuerySet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(u32);

impl QueryId {
    /// The id as an index.
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// What is asked of a profile's events: which of them count, when, and what is made of them.
#[derive(Debug)]
pub struct EventQuery {}

impl EventQuery {
    /// The canonical form; two queries with one key are one query, in this process and the next.
    pub fn key(&self) -> &str {
        todo!()
    }

    /// Whether the result can change by the clock alone.
    pub fn is_windowed(&self) -> bool {
        todo!()
    }
}

/// All event queries of all rules; it only grows.
#[derive(Debug, Default)]
pub struct QuerySet {}

impl QuerySet {
    /// A set without queries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many queries there are.
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The query called `id`.
    pub fn get(&self, _id: QueryId) -> &EventQuery {
        todo!()
    }

    /// Puts the queries that an event of this type may match into `out`, which is cleared first,
    /// ascending. The cost does not depend on the queries that only match other types.
    pub fn candidates(&self, _event_type: Option<&str>, _out: &mut Vec<QueryId>) {
        todo!()
    }
}
