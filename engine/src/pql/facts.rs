//! What a rule reads of one profile.

use crate::clock::Timestamp;
use crate::json;
use crate::profile::path::PathId;

use super::query::QueryId;
use super::state::QueryState;

/// An event as queries see it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When it happened.
    pub timestamp: Timestamp,
    /// Its place in the log, which orders events of one timestamp.
    pub offset: u64,
    /// The event object; bare paths of a filter resolve in it.
    pub body: json::Value<'a>,
    /// Its member `eventType`, if that is a string. Most filters ask for it, and for nothing else.
    pub event_type: Option<&'a str>,
}

/// What stands at an attribute path.
#[derive(Clone, Debug)]
pub enum Attribute<'a> {
    /// Nothing, at the path, below it, or in a leaf above it.
    Missing,
    /// A scalar or an array, as its JSON text.
    Leaf(&'a str),
    /// A leaf above the path: the rest of the path may lie in the objects of its arrays.
    Within {
        /// The JSON text of the leaf.
        leaf: &'a str,
        /// How many segments of the path lead to the leaf.
        depth: usize,
    },
    /// Leaves below the path; [`Facts::tree`] shows them.
    Tree,
}

/// A profile's standing in one audience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipFact {
    /// `realized`, else `exited`.
    pub realized: bool,
    /// The last status change.
    pub since: Timestamp,
    /// When the clock alone ends this standing (an exited one is forgotten, an upload's expires);
    /// [`Timestamp::MAX`] if nothing does, or if whoever evaluates hears of it in another way.
    pub until: Timestamp,
}

/// One profile, as rules read it.
pub trait Facts {
    /// What stands at `path`.
    fn attribute(&self, path: PathId) -> Attribute<'_>;

    /// The attributes at and below `path` as the JSON text of one object. Asked for only where
    /// [`Facts::attribute`] answered [`Attribute::Tree`], and a rule needs more than its presence.
    fn tree(&self, path: PathId) -> String;

    /// Shows each identity as (namespace in lower case, id), in the order first seen.
    fn identities<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a str));

    /// The standing in the audience called `audience`; `None` if it was never in, or is forgotten.
    fn membership(&self, audience: &str) -> Option<MembershipFact>;

    /// What the profile's events left of query `id`; `None` if none has matched yet.
    fn query(&self, id: QueryId) -> Option<&QueryState>;
}
