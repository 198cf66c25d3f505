//! Waiting until everything is delivered, or will not be for now (`run --drain`, `SPEC.md` §8).

use std::collections::BTreeMap;
use std::time::Duration;

use super::control::Control;
use super::{Engine, Progress};
use crate::clock::ClockKind;
use crate::deliver::delivery::Delivery;
use crate::deliver::state::DrainState;
use crate::error::EngineError;

/// Longest wait before the states are looked at again although nothing was signalled.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a paused destination keeps after a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The destination.
    pub destination: String,
    /// Exports kept.
    pub exports: u64,
    /// What failed last.
    pub last_error: String,
}

/// What the drain makes of one dataflow.
enum Verdict {
    Done,
    Wait,
    GiveUp { last_error: String },
}

impl Engine {
    /// Waits until everything accepted is derived and delivered or dead-lettered. What destinations
    /// keep that a 410 paused, or that had no success for `timeout`, is returned.
    pub fn drain(
        &self,
        timeout: Duration,
        progress: &dyn Progress,
    ) -> Result<Vec<Waiting>, EngineError> {
        self.barrier()?;
        if self.kind == ClockKind::Wall && self.shared.next_boundary() <= self.clock.now() {
            self.control(Control::Tick {})?;
        }
        let Some(delivery) = &self.delivery else { return Ok(Vec::new()) };
        let mut seen = 0;
        let mut was_reloading = false;
        loop {
            self.shared.check()?;
            self.check_delivery()?;
            let mut kept = BTreeMap::new();
            let is_reloading = self.is_reloading();
            if was_reloading && !is_reloading {
                // It may have opened lanes of backfill.
                self.barrier()?;
            }
            was_reloading = is_reloading;
            let mut is_waiting = is_reloading;
            let dataflows = self.dataflow_settings();
            for dataflow in &dataflows {
                let state = self.drain_state(delivery, &dataflow.id);
                match verdict(state, timeout) {
                    Verdict::Done => {}
                    Verdict::Wait => is_waiting = true,
                    Verdict::GiveUp { last_error } => {
                        let waiting = self.waiting(&dataflow.id);
                        let entry = kept
                            .entry(dataflow.destination.clone())
                            .or_insert_with(|| (0, last_error));
                        entry.0 += waiting;
                    }
                }
            }
            if !is_waiting || self.shared.is_stopping() {
                return Ok(kept
                    .into_iter()
                    .filter(|(_, (exports, _))| *exports > 0)
                    .map(|(destination, (exports, last_error))| Waiting {
                        destination,
                        exports,
                        last_error,
                    })
                    .collect());
            }
            progress.delivering(dataflows.iter().map(|d| self.waiting(&d.id)).sum());
            seen = delivery.wait_for_change(seen, self.clock.moment().plus(LOOK_AGAIN));
        }
    }

    /// What a dataflow has left, marked profiles and backfill lanes included.
    ///
    /// Looked at from back to front: what is taken from the lanes or the marks is counted in the next
    /// place before it is gone from the one before.
    fn drain_state(&self, delivery: &Delivery, dataflow: &str) -> DrainState {
        let has_lane = self.shared.lanes.is_open(dataflow);
        let (marked, next) = self.store.outbox().marked_and_next_sequence(dataflow);
        let is_told = delivery.state(dataflow).is_none_or(|state| state.durable + 1 >= next);
        match delivery.drained(dataflow).unwrap_or(DrainState::Idle) {
            DrainState::Idle if has_lane || marked > 0 || !is_told => DrainState::Working,
            state => state,
        }
    }
}

fn verdict(state: DrainState, timeout: Duration) -> Verdict {
    match state {
        DrainState::Idle | DrainState::PausedByConfig => Verdict::Done,
        DrainState::PausedBy410 { last_error } => Verdict::GiveUp { last_error },
        DrainState::PausedByBreaker { paused_for, last_error } if paused_for >= timeout => {
            Verdict::GiveUp { last_error }
        }
        DrainState::Working | DrainState::PausedByBreaker { .. } => Verdict::Wait,
    }
}
