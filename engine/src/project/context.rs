//! What a fold reads and does not change.
//!
//! Everything in here is shared by all shards while they fold a batch; nothing in it is behind a
//! lock, because nobody writes to it until the batch is done.

use super::catalog::Catalog;
use super::plan::ViewPlan;
use crate::clock::Timestamp;
use crate::identity::graph::Graph;
use crate::identity::table::IdentityTable;
use crate::pql::{QuerySet, Scope};
use crate::profile::path::PathTable;

/// Whether exports are rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rendering {
    /// Each with its payload.
    #[default]
    Full,
    /// None: it is known that nobody will look at a payload, which stays empty.
    Omitted,
}

/// What the views of a projection share while they fold.
#[derive(Clone, Copy)]
pub struct SharedContext<'a> {
    /// The event queries of all rules.
    pub queries: &'a QuerySet,
    /// All attribute paths.
    pub paths: &'a PathTable,
    /// All identities.
    pub identities: &'a IdentityTable,
    /// The definitions, and since when they hold.
    pub catalog: &'a Catalog,
    /// How long an exited membership is remembered, in milliseconds.
    pub exited_retention_ms: i64,
    /// Whether exports are rendered.
    pub rendering: Rendering,
}

impl<'a> SharedContext<'a> {
    /// The context of one view.
    pub fn with(self, plan: &'a ViewPlan, graph: &'a Graph) -> FoldContext<'a> {
        FoldContext { plan, graph, shared: self }
    }
}

/// What every step of a batch reads and none changes.
#[derive(Clone, Copy)]
pub struct FoldContext<'a> {
    /// The definitions, compiled for this view.
    pub plan: &'a ViewPlan,
    /// Which identities form which profile, the batch's included.
    pub graph: &'a Graph,
    /// What it has in common with the other views.
    pub shared: SharedContext<'a>,
}

impl<'a> FoldContext<'a> {
    /// What rules see besides the profile.
    pub fn scope(&self, now: Timestamp) -> Scope<'a> {
        Scope { now, queries: self.shared.queries }
    }
}
