//! The lanes of a projection: who is owed an export because a dataflow came later (`SPEC.md` §6,
//! backfill). They are opened where definitions change ([`super::transition`]).

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Catalog, Causes, DerivedExport, Lane, MarkOf, Projection};
use crate::backfill::{LaneProgress, Purpose};
use crate::identity::ProfileId;

/// Exports taken from the lanes, and how far each lane is taken then.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// In order.
    pub exports: Vec<DerivedExport>,
    /// Lane id and mark.
    pub marks: Vec<(String, u64)>,
}

impl Projection {
    /// Takes at most `limit` exports from the lanes, in the order in which they were opened, of those
    /// whose dataflow `may_take`.
    pub fn take_backfill(
        &mut self,
        limit: usize,
        offset: u64,
        may_take: &dyn Fn(&str) -> bool,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut lanes = std::mem::take(&mut self.lanes);
        for lane in lanes.iter_mut().filter(|lane| may_take(&lane.purpose.dataflow)) {
            let before = lane.remaining();
            let view = self.view(Some(&lane.purpose.policy)).expect("policies of lanes hold");
            while taken.exports.len() < limit {
                let Some(profile) = lane.take(&view.graph) else { break };
                if let Some(export) = self.backfilled(lane, profile, offset) {
                    taken.exports.push(export);
                }
            }
            if lane.remaining() != before {
                taken.marks.extend(lane.mark().map(|mark| (lane.id.clone(), mark)));
            }
        }
        lanes.retain(|lane| lane.remaining() > 0);
        self.lanes = lanes;
        taken
    }

    /// Whether a lane is open.
    pub fn has_lanes(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// How far the open lanes of each dataflow are, together.
    pub fn lane_progress(&self) -> BTreeMap<String, LaneProgress> {
        let mut all: BTreeMap<String, LaneProgress> = BTreeMap::new();
        for lane in &self.lanes {
            let progress = lane.progress();
            let sum = all.entry(lane.purpose.dataflow.clone()).or_default();
            sum.taken += progress.taken;
            sum.owed += progress.owed;
        }
        all
    }

    /// The dataflows with an open lane.
    pub fn lane_dataflows(&self) -> BTreeSet<String> {
        self.lanes.iter().map(|lane| lane.purpose.dataflow.clone()).collect()
    }

    /// Goes on with lanes where another projection of the same log has taken them.
    pub fn skip_lanes(&mut self, mark_of: MarkOf<'_>) {
        for lane in &mut self.lanes {
            if let Some(through) = mark_of(&lane.id) {
                lane.skip_through(through);
            }
        }
        self.lanes.retain(|lane| lane.remaining() > 0);
    }

    fn backfilled(&self, lane: &Lane, profile: ProfileId, offset: u64) -> Option<DerivedExport> {
        let Purpose { dataflow, policy, .. } = &lane.purpose;
        let policy = self.known.catalog.policy_number(policy)?;
        let causes = Causes::BACKFILL;
        self.export_now(&Asked { dataflow, profile, policy, causes }, offset)
    }
}

/// Takes the profiles of these exports out of a lane.
pub(super) fn serve(lane: &mut Lane, exports: &[DerivedExport], catalog: &Catalog) {
    let Some(policy) = catalog.policy_number(&lane.purpose.policy) else { return };
    for export in exports {
        if export.policy == policy && export.dataflow == lane.purpose.dataflow {
            lane.serve(export.profile);
        }
    }
}
