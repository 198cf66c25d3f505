//! Questions, answered from one consistent cut: the deriver answers between two jobs.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::Engine;
use super::deriver::{Deriver, ask};
use super::profile_page::identity_views;
use super::stored_backlog::progress_of;
use crate::clock::Timestamp;
use crate::definitions::AudienceKind;
use crate::deliver::settings::DataflowSettings;
use crate::error::EngineError;
use crate::identity::ProfileId;
use crate::profile::membership::AudienceNo;
use crate::project::projection::{Projection, audience_counts};
use crate::project::view::View;
use crate::views::{
    AudienceView, CheckpointView, DataflowCounts, DataflowView, MemberView, RecordCounts,
    StatusView, Summary,
};

impl Engine {
    /// What this run did, and where it stands.
    pub fn summary(&self) -> Result<Summary, EngineError> {
        let (profiles, audiences, clock, exported) = self.ask(|deriver| {
            let projection = &deriver.derivation.projection;
            (
                projection.view(None).map_or(0, |view| view.graph.len() as u64),
                audience_counts(projection),
                projection.now(),
                deriver.exported.clone(),
            )
        })?;
        Ok(Summary {
            records: self.records(),
            profiles,
            audiences,
            dataflows: self.dataflow_counts(&exported)?,
            clock: clock.to_string(),
            next_offset: self.store.log().next_offset().as_u64(),
            elapsed_ms: u64::try_from(self.clock.moment().since(self.opened).as_millis())
                .unwrap_or(u64::MAX),
        })
    }

    /// One screen of health.
    pub fn status(&self) -> Result<StatusView, EngineError> {
        let summary = self.summary()?;
        let next = self.ask(|deriver| deriver.derivation.projection.next_boundary())?;
        let dataflows = self.dataflows()?;
        Ok(StatusView {
            running: self.delivery.is_some(),
            reloading: self.is_reloading(),
            clock_kind: self.kind.as_str().to_owned(),
            clock: summary.clock,
            records: summary.records,
            profiles: summary.profiles,
            next_boundary: (next != Timestamp::MAX).then(|| next.to_string()),
            log: self.log_view()?,
            checkpoint: self.checkpoint_view()?,
            disk: self.disk()?,
            waiting: dataflows.iter().map(|dataflow| dataflow.waiting).sum(),
            backlog_age_ms: dataflows.iter().filter_map(|d| d.backlog_age_ms).max(),
            dead_letters: self.store.dead_letters().counts_by_dataflow().values().sum(),
            destinations: self.destinations(),
            audiences: self.audiences()?,
            dataflows,
        })
    }

    fn checkpoint_view(&self) -> Result<Option<CheckpointView>, EngineError> {
        let end = self.store.log().next_offset().as_u64();
        let newest = self.store.checkpoints().newest()?;
        Ok(newest.map(|newest| {
            let next_offset = newest.next.as_u64();
            let behind = end.saturating_sub(next_offset);
            CheckpointView { next_offset, bytes: newest.bytes, behind }
        }))
    }

    /// The clock, as the projection has it.
    pub fn now(&self) -> Result<Timestamp, EngineError> {
        self.ask(|deriver| deriver.derivation.projection.now())
    }

    /// All audiences.
    pub fn audiences(&self) -> Result<Vec<AudienceView>, EngineError> {
        self.ask(|deriver| {
            let counts = audience_counts(&deriver.derivation.projection);
            let audiences = &deriver.definitions().audiences;
            let view = |audience: &crate::definitions::Audience| {
                let counted = counts.get(&audience.id).copied().unwrap_or_default();
                let (kind, pql) = match &audience.kind {
                    AudienceKind::Rule { pql } => ("rule", Some(pql.clone())),
                    AudienceKind::Upload { .. } => ("upload", None),
                };
                AudienceView {
                    id: audience.id.clone(),
                    name: audience.name.clone(),
                    kind: kind.to_owned(),
                    merge_policy: audience.merge_policy.clone(),
                    pql,
                    realized: counted.realized,
                    exited: counted.exited,
                }
            };
            audiences.iter().map(view).collect()
        })
    }

    /// Who is, or recently was, in an audience: profiles from `from` on, at most `limit`.
    pub fn members(
        &self,
        audience: &str,
        from: u64,
        limit: usize,
    ) -> Result<Vec<MemberView>, EngineError> {
        let id = audience.to_owned();
        self.ask(move |deriver| {
            let defined =
                deriver.definitions().audience(&id).ok_or_else(|| unknown_audience(&id))?;
            let projection = &deriver.derivation.projection;
            let number = projection.catalog().number(&id).ok_or_else(|| unknown_audience(&id))?;
            let view = projection
                .view(Some(&defined.merge_policy))
                .ok_or_else(|| unknown_audience(&id))?;
            let ids = view.ids().into_iter().filter(|profile| profile.as_u64() >= from);
            Ok(ids.filter_map(|p| member_view(projection, view, p, number)).take(limit).collect())
        })?
    }

    /// All dataflows, as the configuration has them; those of the log without one.
    pub fn dataflows(&self) -> Result<Vec<DataflowView>, EngineError> {
        if let Some(config) = self.shared.configuration() {
            return config.dataflows.iter().map(|flow| self.dataflow_view(flow)).collect();
        }
        let defined = self.ask(|deriver| deriver.definitions().dataflows.clone())?;
        let view = |d: &crate::definitions::Dataflow| {
            self.dataflow_view(&DataflowSettings::new(&d.id, &d.destination))
        };
        defined.iter().map(view).collect()
    }

    /// Exports of a dataflow that are stored and not done, and profiles marked for one.
    pub(super) fn waiting(&self, dataflow: &str) -> u64 {
        let (marked, next) = self.store.outbox().marked_and_next_sequence(dataflow);
        if let Some(state) = self.delivery.as_ref().and_then(|delivery| delivery.state(dataflow)) {
            return marked + state.open + state.unread;
        }
        // Without a row that can be read nothing counts as done.
        let mark = progress_of(&self.store, dataflow).unwrap_or_default();
        let gone = self.store.outbox().withdrawn(dataflow, mark.watermark, next - 1);
        marked + mark.waiting(next - 1, &gone)
    }

    /// The dataflows of the configuration.
    pub(super) fn dataflow_settings(&self) -> Vec<DataflowSettings> {
        self.shared.configuration().map_or_else(Vec::new, |config| config.dataflows.clone())
    }

    /// Puts a question to the deriver, between two jobs.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Deriver) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let answer = self.jobs.as_ref().and_then(|jobs| ask(jobs, &self.shared, question));
        answer.ok_or_else(|| self.stopped())
    }

    fn records(&self) -> RecordCounts {
        self.tallies.lock().expect("no thread panics with this lock").records()
    }

    fn dataflow_counts(
        &self,
        exported: &BTreeMap<String, u64>,
    ) -> Result<BTreeMap<String, DataflowCounts>, EngineError> {
        let mut counts = BTreeMap::new();
        for view in self.dataflows()? {
            let stats = self.delivery.as_ref().and_then(|delivery| delivery.stats(&view.id));
            let stats = stats.unwrap_or_default();
            let counted = DataflowCounts {
                exports: exported.get(&view.id).copied().unwrap_or(0),
                delivered: stats.delivered,
                dead_letters: stats.dead_letters,
                retries: stats.retries,
                waiting: view.waiting,
            };
            counts.insert(view.id, counted);
        }
        Ok(counts)
    }
}

fn unknown_audience(id: &str) -> EngineError {
    EngineError::Usage(format!("no audience {id:?}; `forebay audience list` shows all"))
}

fn member_view(
    projection: &Projection,
    view: &View,
    id: ProfileId,
    audience: AudienceNo,
) -> Option<MemberView> {
    let profile = view.profile(id)?;
    let membership = profile.memberships.get(audience);
    Some(MemberView {
        profile: id.as_u64(),
        status: membership.status?.as_str().to_owned(),
        last_qualification_time: membership.since.to_seconds_text(),
        identities: identity_views(projection, profile),
    })
}

/// JSON text that was rendered here, or stored as a payload.
pub(super) fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("payloads and attributes are JSON")
}
