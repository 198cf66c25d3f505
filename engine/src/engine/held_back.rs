//! What the deriver exports when there is time and room: marked profiles, and backfill lanes.
//!
//! Both show profiles as they are when they are taken. What is taken, its exports and how far the
//! lane is are stored in one batch; what does not fit stays where it is, and the next export done
//! makes the deriver look again. From the lanes only so much is taken that delivery has enough to do
//! ([`super::budget`]).

use std::collections::{BTreeMap, BTreeSet};

use forebay_storage::{ExportRow, FlowMarks, LaneMark, Mark, MarkKey};

use super::budget::{BACKFILL_WAITING_MAX, Room};
use super::deriver::{Commit, Deriver};
use crate::detect::Causes;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::project::projection::Asked;

/// Exports taken from the lanes at a time: enough for one sync to be worth it, few enough that a
/// live record does not wait long.
const BACKFILL_EXPORTS: usize = 256;

/// Marked profiles taken at a time: as many as are worth a sync, as there is no saying that what
/// happened to them can wait longer than what happens now.
const MARKED_EXPORTS: usize = 1024;

/// Turns of a dataflow after which all that it may take from its lanes is taken.
const TURNS_A_DATAFLOW: usize = BACKFILL_WAITING_MAX / BACKFILL_EXPORTS + 1;

impl Deriver {
    /// Whether a marked profile or a lane waits for time or room.
    pub(super) fn is_holding_back(&self) -> bool {
        self.takes_held_back
            && (self.derivation.projection.has_lanes()
                || !self.store.outbox().marked_dataflows().is_empty())
    }

    /// Exports some of what was held back; `false` if there is nothing, or no room for it.
    pub(super) fn take_held_back(&mut self) -> Result<bool, EngineError> {
        Ok(self.takes_held_back && (self.take_marked()? || self.take_backfill()?))
    }

    /// Exports what was held back as far as there is room now; what delivery makes room for meanwhile
    /// waits until nothing else is to do.
    pub(super) fn take_what_fits(&mut self) -> Result<(), EngineError> {
        let mut left = TURNS_A_DATAFLOW * self.definitions().dataflows.len();
        while left > 0 && self.take_held_back()? {
            self.settle()?;
            left -= 1;
        }
        Ok(())
    }

    /// Exports some marked profiles of each dataflow that has room.
    pub(super) fn take_marked(&mut self) -> Result<bool, EngineError> {
        let mut has_taken = false;
        for dataflow in self.store.outbox().marked_dataflows() {
            has_taken |= self.take_marked_of(&dataflow)?;
        }
        Ok(has_taken)
    }

    /// Forgets the marks of dataflows that are not defined any more.
    pub(super) fn forget_removed_dataflows(&mut self) -> Result<(), EngineError> {
        for dataflow in self.store.outbox().marked_dataflows() {
            if self.definitions().dataflows.iter().all(|defined| defined.id != dataflow) {
                self.store.outbox().forget_marked(&dataflow)?;
            }
        }
        Ok(())
    }

    fn take_marked_of(&mut self, dataflow: &str) -> Result<bool, EngineError> {
        let mut room = self.budgets.room(dataflow)?;
        if room.is_used_up() {
            return Ok(false);
        }
        // Each goes on behind the last one, so that profiles marked again and again take turns.
        let after = self.marked_taken.get(dataflow).copied();
        let mut page = self.store.outbox().marked_profiles(dataflow, after, MARKED_EXPORTS)?;
        if page.is_empty() {
            page = self.store.outbox().marked_profiles(dataflow, None, MARKED_EXPORTS)?;
        }
        let (rows, taken) = self.render_marked(dataflow, &page, &mut room)?;
        let Some(last) = page.iter().map(|(key, _)| *key).rfind(|key| taken.contains(key)) else {
            return Ok(false);
        };
        self.marked_taken.insert(dataflow.to_owned(), last);
        let marks = FlowMarks { dataflow: dataflow.to_owned(), taken, ..FlowMarks::default() };
        let exports = if rows.is_empty() { vec![] } else { vec![(dataflow.to_owned(), rows)] };
        self.commit(Commit { exports, marked: vec![marks], ..Commit::default() })?;
        Ok(true)
    }

    /// Exports of marked profiles as they are now, as far as there is room, and the marks that they
    /// stand for. One that was absorbed is exported as the profile that absorbed it, once; one that is
    /// gone is not.
    fn render_marked(
        &self,
        dataflow: &str,
        page: &[(MarkKey, Mark)],
        room: &mut Room,
    ) -> Result<(Vec<ExportRow>, BTreeSet<MarkKey>), EngineError> {
        let mut exported: BTreeMap<MarkKey, ExportRow> = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (key, mark) in page {
            let profile = ProfileId::from_offset(key.profile);
            let causes = Causes::from_bits(mark.causes);
            let asked = Asked { dataflow, profile, policy: key.policy, causes };
            let Some(export) = self.derivation.projection.export_now(&asked, mark.offset) else {
                taken.insert(*key);
                continue;
            };
            let current = MarkKey { profile: export.profile.as_u64(), ..*key };
            if let Some(row) = exported.get_mut(&current) {
                row.causes |= mark.causes;
                taken.insert(*key);
                continue;
            }
            if !room.admits(export.payload.len()) {
                break;
            }
            let own =
                if current == *key { None } else { self.store.outbox().mark(dataflow, current)? };
            taken.extend([*key].into_iter().chain(own.map(|_| current)));
            let row = ExportRow {
                profile: current.profile,
                policy: current.policy,
                causes: mark.causes | own.map_or(0, |own| own.causes),
                offset: mark.offset,
                boundary_ms: mark.boundary_ms,
                rendered_after: Some(self.last_offset()),
                accepted_ms: mark.accepted_ms,
                payload: export.payload.into_bytes(),
            };
            exported.insert(current, row);
        }
        Ok((exported.into_values().collect(), taken))
    }

    fn take_backfill(&mut self) -> Result<bool, EngineError> {
        let mut with_room = BTreeSet::new();
        for dataflow in self.derivation.projection.lane_dataflows() {
            if self.budgets.has_room_for_backfill(&dataflow)? {
                with_room.insert(dataflow);
            }
        }
        if with_room.is_empty() {
            return Ok(false);
        }
        let offset = self.last_offset();
        let may_take = |dataflow: &str| with_room.contains(dataflow);
        let taken = self.derivation.projection.take_backfill(BACKFILL_EXPORTS, offset, &may_take);
        let lanes =
            taken.marks.into_iter().map(|(lane, through)| LaneMark { lane, through }).collect();
        let appended = self.derivation.projection.appended();
        let commit = self.divided(taken.exports, appended)?;
        self.commit(Commit { lanes, ..commit })?;
        Ok(true)
    }
}
