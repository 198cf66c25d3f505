//! `[[merge_policy]]`: which identities form one profile, and which dataset wins.

use super::identifier::Identifiers;
use super::source::Place;
use super::table::{Located, Table};
use crate::definitions::{AttributeMerge, IdentityGraph, MergePolicy};

const GRAPHS: &[(&str, IdentityGraph)] =
    &[("pdg", IdentityGraph::Pdg), ("none", IdentityGraph::None)];

#[derive(Clone, Copy)]
enum Merge {
    Timestamp,
    Precedence,
}

const MERGES: &[(&str, Merge)] =
    &[("timestampOrdered", Merge::Timestamp), ("dataSetPrecedence", Merge::Precedence)];

/// The merge policies of a configuration.
pub(super) struct MergePolicies {
    /// As configured, or the implicit one.
    pub(super) policies: Vec<MergePolicy>,
    /// Their ids, those of faulty ones too.
    pub(super) ids: Identifiers,
}

impl MergePolicies {
    /// The id of the policy used where none is named.
    pub(super) fn default_id(&self) -> String {
        let default = self.policies.iter().find(|policy| policy.default);
        default.map_or_else(String::new, |policy| policy.id.clone())
    }
}

/// Reads all merge policies; exactly one is the default.
pub(super) fn merge_policies(top: &mut Table<'_>) -> MergePolicies {
    let mut ids = Identifiers::of("merge policy");
    let mut policies = Vec::new();
    let mut first: Option<Place> = None;
    for mut table in top.tables("merge_policy", "`[[merge_policy]]`") {
        first.get_or_insert_with(|| table.place.clone());
        let id = ids.define(&mut table).map_or_else(String::new, |id| id.value);
        let default = table.flag("default").unwrap_or(false);
        if default && policies.iter().any(|policy: &MergePolicy| policy.default) {
            let place = table.key_place("default").unwrap_or_else(|| table.place.clone());
            table.report().error(&place, "another merge policy is the default already");
        }
        let identity_graph = table.choice("identity_graph", GRAPHS).unwrap_or(IdentityGraph::Pdg);
        let attribute_merge = attribute_merge(&mut table);
        policies.push(MergePolicy { id, default, identity_graph, attribute_merge });
        table.finish();
    }
    match first {
        Some(place) if !policies.iter().any(|policy| policy.default) => {
            let help = Some("write `default = true` in the one that audiences use".to_owned());
            top.report().error_with_help(&place, "no merge policy is the default", help);
        }
        Some(_) => {}
        None => {
            let policy = MergePolicy::implicit();
            let id = Located { value: policy.id.clone(), place: top.place.clone() };
            ids.add(&id, top.report());
            policies.push(policy);
        }
    }
    MergePolicies { policies, ids }
}

fn attribute_merge(table: &mut Table<'_>) -> AttributeMerge {
    let merge = table.choice("attribute_merge", MERGES).unwrap_or(Merge::Timestamp);
    let order = match merge {
        Merge::Timestamp => table.distinct_texts("order"),
        Merge::Precedence => table.required("order", Table::distinct_texts),
    };
    let place = table.key_place("order");
    match (merge, order, place) {
        (Merge::Timestamp, _, Some(place)) => {
            let help = Some("write `attribute_merge = \"dataSetPrecedence\"`".to_owned());
            let message = "`order` belongs to `dataSetPrecedence`, not to `timestampOrdered`";
            table.report().error_with_help(&place, message, help);
            AttributeMerge::TimestampOrdered
        }
        (Merge::Precedence, Some(order), Some(place)) => {
            if order.is_empty() {
                table.report().error(&place, "`order` names at least one dataset");
            }
            let order = order.into_iter().map(|dataset| dataset.value).collect();
            AttributeMerge::DataSetPrecedence { order }
        }
        _ => AttributeMerge::TimestampOrdered,
    }
}
