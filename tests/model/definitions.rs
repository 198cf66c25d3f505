//! What is defined in the model, and may be defined otherwise on the way.

use std::collections::BTreeSet;

use forebay_tests::Seed;
use forebay_tests::configuration::{
    EVENT_CLOCK, SINK, dataflow, dataflow_with, policy, rule, upload,
};

use super::audiences::{Audience, LIST, RULES};
use super::naive::{DATAFLOWS, Policy, RETENTION_DAYS, TTL_DAYS};

/// Audiences that no other one names, so that they may come and go.
const LEAVES: [&str; 5] = ["lately", "viewed", "french", "quiet", "listed"];

/// One state of the definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definitions {
    /// Whether each primary identity is a profile of its own.
    pub(super) is_alone: bool,
    /// What a customer of `spent` has spent at least.
    pub(super) over: i64,
    /// How long a customer of `recent` is one.
    pub(super) days: i64,
    absent: BTreeSet<&'static str>,
}

impl Default for Definitions {
    fn default() -> Self {
        Self { is_alone: false, over: 20, days: 7, absent: BTreeSet::new() }
    }
}

impl Definitions {
    /// Every number of days that `recent` may ask for.
    pub(super) const DAYS: [i64; 2] = [3, 7];

    /// Everything, under a policy of this kind.
    pub(super) fn under(policy: &Policy) -> Self {
        Self { is_alone: !policy.is_graph, ..Self::default() }
    }

    /// Others, somewhat like these.
    pub(super) fn changed(&self, seed: &mut Seed) -> Self {
        let mut changed = self.clone();
        if seed.chance(40) {
            changed.is_alone = !self.is_alone;
        }
        if seed.chance(40) {
            changed.over = *seed.one_of(&[5, 12, 20]);
        }
        if seed.chance(40) {
            changed.days = *seed.one_of(&Self::DAYS);
        }
        for audience in LEAVES {
            if seed.chance(25) && !changed.absent.remove(audience) {
                changed.absent.insert(audience);
            }
        }
        changed
    }

    /// Whether there is this audience.
    pub(super) fn has(&self, audience: &str) -> bool {
        !self.absent.contains(audience)
    }

    /// The rules, in an order in which each names only those before it.
    pub(super) fn rules(&self) -> impl Iterator<Item = &'static Audience> {
        RULES.iter().filter(|audience| self.has(audience.id))
    }

    /// The rule of an audience.
    pub(super) fn pql(&self, audience: &Audience) -> String {
        let (over, days) = (self.over.to_string(), self.days.to_string());
        audience.pql.replace("{over}", &over).replace("{days}", &days)
    }

    /// As a file, under one merge policy.
    pub(super) fn configuration(&self) -> String {
        let mut text = format!("{EVENT_CLOCK}exited_retention = \"{RETENTION_DAYS}d\"\n");
        let graph = if self.is_alone { "none" } else { "pdg" };
        text += &policy("p", &format!("default = true\nidentity_graph = \"{graph}\""));
        for audience in self.rules() {
            text += &rule(audience.id, &self.pql(audience));
        }
        text += &upload(LIST, &format!("{TTL_DAYS}d"));
        text += SINK;
        for flow in DATAFLOWS {
            let audiences: Vec<&str> =
                flow.audiences.iter().copied().filter(|id| self.has(id)).collect();
            text += &if flow.is_strict {
                let keys = "memberships = \"mapped\"\nsame_value_writes = \"ignore\"";
                dataflow_with(flow.id, &audiences, flow.attributes, keys)
            } else {
                dataflow(flow.id, &audiences, flow.attributes)
            };
        }
        text
    }
}
