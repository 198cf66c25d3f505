//! The course of one audience over a span of time: the log, derived from edge to edge.
//!
//! Records come in batches that know nothing of the edges, so a batch that moves the clock past one is cut
//! there. What is due before an edge fires before it is counted, at its own instant, as it would have a
//! moment later anyway; so what stands between two edges has happened between them, to the millisecond.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use super::super::Progress;
use super::super::control::Control;
use super::super::playback::Played;
use super::super::replay::Replay;
use super::History;
use super::deletes::Erased;
use super::moment::Hands;
use crate::clock::{ClockKind, Timestamp};
use crate::definitions::Definitions;
use crate::error::EngineError;
use crate::project::projection::{DerivedExport, Outcome, Projection, audience_counts};
use crate::views::{BacktestView, BucketView, FlipView, IdentityView};

/// The dataflow that hears each change of status.
pub(super) const FLIPS: &str = "flips";

/// The dataflow that hears what a mapping would have requested.
pub(super) const REQUESTS: &str = "requests";

/// The log on its way past the edges.
pub(super) struct Course<'a> {
    history: &'a History,
    projection: Projection,
    audience: &'a str,
    /// Where the first bucket begins, and where each ends.
    edges: Vec<Timestamp>,
    /// How many edges are passed.
    passed: usize,
    erased: Erased,
    view: BacktestView,
    flips_max: usize,
}

impl<'a> Course<'a> {
    /// At the beginning of the log, with `definitions` in effect.
    pub(super) fn new(
        history: &'a History,
        definitions: &Definitions,
        (audience, edges): (&'a str, Vec<Timestamp>),
    ) -> Result<Self, EngineError> {
        let mut projection = Projection::new(history.kind, vec![definitions.clone()])?;
        projection.apply_definitions(definitions, 0, Timestamp::EPOCH, &|_| None)?;
        let starts = &edges[..edges.len() - 1];
        let bucket =
            |start: &Timestamp| BucketView { start: start.to_string(), ..Default::default() };
        let view = BacktestView {
            from: edges[0].to_string(),
            to: edges[edges.len() - 1].to_string(),
            buckets: starts.iter().map(bucket).collect(),
            ..BacktestView::default()
        };
        let erased = Erased::nobody();
        Ok(Self { history, projection, audience, edges, passed: 0, erased, view, flips_max: 0 })
    }

    /// Derives up to the last edge, or to the end of the log.
    pub(super) fn run(
        mut self,
        flips_max: usize,
        progress: &dyn Progress,
    ) -> Result<BacktestView, EngineError> {
        let history = self.history;
        let _turn = history.turn();
        let begun = history.clock.moment();
        self.flips_max = flips_max;
        self.erased = Erased::from(history, 0)?;
        let mut next = 0;
        for played in Replay::new(&history.store, 0..history.end) {
            history.check_goes_on()?;
            let mut played = played?;
            next = end_of(&played);
            self.erased.hide(&mut played);
            self.pass(played);
            if self.is_over() {
                break;
            }
            progress.replay(next, history.end);
        }
        self.end_early()?;
        let elapsed = history.clock.moment().since(begun);
        self.view.entries_derived = next;
        self.view.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Ok(self.view)
    }

    fn is_over(&self) -> bool {
        self.passed == self.edges.len()
    }

    /// Derives what was read, cut at the edges that it passes.
    fn pass(&mut self, played: Played) {
        let mut left = VecDeque::from([played]);
        while let Some(mut played) = left.pop_front() {
            let Some(edge) = self.edges.get(self.passed).copied() else { return };
            let mut hands = Hands { kind: self.history.kind, now: self.projection.now() };
            let Some(cut) = hands.passed(&played, edge.plus_millis(-1)) else {
                self.apply(&played);
                continue;
            };
            if let Played::Records { batch, first_offset, appended } = &mut played
                && cut > *first_offset
            {
                let at = usize::try_from(cut - *first_offset).expect("a place in a batch");
                let batch = batch.split_off(at);
                left.push_front(Played::Records { batch, first_offset: cut, appended: *appended });
                self.apply(&played);
            } else {
                left.push_front(played);
            }
            self.reach_edge(cut);
        }
    }

    fn apply(&mut self, played: &Played) {
        let projection = &mut self.projection;
        let outcome = match played {
            Played::Records { batch, first_offset, appended } => {
                projection.apply_batch(batch, *first_offset, *appended, None)
            }
            Played::Control { control, offset, appended } => match control {
                // The definitions of now hold from the beginning.
                Control::Definitions(_) if self.history.kind == ClockKind::Event => {
                    Outcome::default()
                }
                Control::Definitions(_) | Control::Tick {} => {
                    projection.apply_time(*offset, *appended)
                }
                Control::Advance { to_ms } => {
                    projection.apply_time(*offset, Timestamp::from_millis(*to_ms))
                }
                Control::Read {} => Outcome::default(),
                Control::ImportBegin { audience } => {
                    projection.begin_import(audience, *offset, *appended)
                }
                Control::ImportEnd { audience, begin } => {
                    projection.end_import((audience, *begin), *offset, *appended)
                }
            },
        };
        self.take(outcome);
    }

    /// Fires what is due before the next edge, and ends its bucket.
    fn reach_edge(&mut self, offset: u64) {
        let before = self.edges[self.passed].plus_millis(-1);
        let outcome = self.projection.apply_time(offset, before);
        self.take(outcome);
        let members = self.members();
        match self.passed.checked_sub(1) {
            None => self.view.members_before = members,
            Some(bucket) => self.view.buckets[bucket].members = members,
        }
        self.passed += 1;
    }

    /// The log is at its end before the last edge.
    fn end_early(&mut self) -> Result<(), EngineError> {
        if self.is_over() {
            return Ok(());
        }
        let now = self.projection.now();
        let Some(bucket) = self.passed.checked_sub(1) else {
            let from = self.edges[0];
            return Err(EngineError::Usage(format!(
                "--from {from} is still to come: the clock stands at {now}"
            )));
        };
        self.view.buckets[bucket].members = self.members();
        self.view.buckets.truncate(bucket + 1);
        self.view.log_ends = Some(now.to_string());
        Ok(())
    }

    fn members(&self) -> u64 {
        audience_counts(&self.projection).get(self.audience).map_or(0, |counts| counts.realized)
    }

    /// Counts what happened after the first edge.
    fn take(&mut self, outcome: Outcome) {
        let Some(bucket) = self.passed.checked_sub(1) else { return };
        for export in outcome.exports {
            if export.dataflow == REQUESTS {
                self.view.buckets[bucket].requests += 1;
                self.view.requests += 1;
                continue;
            }
            let flip = self.flip(&export);
            let bucket = &mut self.view.buckets[bucket];
            if flip.status == "realized" {
                (bucket.entries, self.view.entries) = (bucket.entries + 1, self.view.entries + 1);
            } else {
                (bucket.exits, self.view.exits) = (bucket.exits + 1, self.view.exits + 1);
            }
            if self.view.flips.len() < self.flips_max {
                self.view.flips.push(flip);
            }
        }
    }

    /// What a change of status tells of itself.
    fn flip(&self, export: &DerivedExport) -> FlipView {
        let Told { mut segment_membership, identity_map } =
            serde_json::from_str(&export.payload).expect("a payload is JSON of this form");
        let membership = segment_membership.ups.remove(self.audience);
        let membership = membership.expect("the change of a membership tells it");
        let identities = identity_map.into_iter().flat_map(|(namespace, ids)| {
            ids.into_iter().map(move |Id { id }| IdentityView { namespace: namespace.clone(), id })
        });
        FlipView {
            at: membership.last_qualification_time,
            status: membership.status,
            profile: export.profile.as_u64(),
            identities: identities.collect(),
        }
    }
}

fn end_of(played: &Played) -> u64 {
    match played {
        Played::Records { batch, first_offset, .. } => first_offset + batch.len() as u64,
        Played::Control { offset, .. } => offset + 1,
    }
}

/// A payload, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    segment_membership: Groups,
    identity_map: BTreeMap<String, Vec<Id>>,
}

#[derive(Deserialize)]
struct Groups {
    ups: BTreeMap<String, MembershipTold>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MembershipTold {
    last_qualification_time: String,
    status: String,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}
