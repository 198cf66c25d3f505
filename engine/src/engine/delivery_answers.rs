//! How deliveries go: the answers about dataflows and destinations.
//!
//! What a running delivery says of itself comes from it; without one, what is stored still tells how
//! much waits, and since when.

use super::Engine;
use crate::clock::Timestamp;
use crate::config::{Config, Destination};
use crate::deliver::delivery::Delivery;
use crate::deliver::metrics::{Latency, OutcomeCounts};
use crate::deliver::settings::{DataflowSettings, Sending};
use crate::deliver::state::{LastError, Pause};
use crate::deliver::trial::shown_url;
use crate::error::EngineError;
use crate::views::{AttemptCounts, DataflowView, DestinationView, LatencyView};

impl Engine {
    pub(super) fn dataflow_view(
        &self,
        dataflow: &DataflowSettings,
    ) -> Result<DataflowView, EngineError> {
        let delivery = self.delivery.as_ref();
        let state = delivery.and_then(|d| d.state(&dataflow.id)).unwrap_or_default();
        let numbers = delivery.and_then(|d| d.stats(&dataflow.id)).unwrap_or_default();
        let name = match (&state.paused, delivery) {
            (_, None) => "stopped",
            (Some(Pause::Config), _) => "paused",
            (Some(Pause::Breaker { .. }), _) => "holding",
            (Some(Pause::Gone { .. }), _) => "gone",
            (None, _) if state.is_empty() => "idle",
            (None, _) => "sending",
        };
        let waiting = self.waiting(&dataflow.id);
        let oldest =
            if waiting > 0 { self.oldest_waiting(&dataflow.id, state.oldest)? } else { None };
        let age = |since: Timestamp| self.clock.now().as_millis().saturating_sub(since.as_millis());
        let (last_error, last_error_at) = error_and_time(state.last_error);
        Ok(DataflowView {
            id: dataflow.id.clone(),
            destination: dataflow.destination.clone(),
            state: name.to_owned(),
            last_error,
            last_error_at,
            last_sequence: self.store.outbox().next_sequence(&dataflow.id) - 1,
            waiting,
            oldest_waiting: oldest.map(|accepted| accepted.to_string()),
            backlog_age_ms: oldest.map(|accepted| u64::try_from(age(accepted)).unwrap_or(0)),
            in_flight: state.in_flight,
            parked: state.parked,
            marked: self.store.outbox().marked(&dataflow.id),
            backfill: self.shared.lanes.view(&dataflow.id),
            stored_bytes: self.store.outbox().stored_bytes(&dataflow.id),
            dead_letters: self.store.dead_letters().count(&dataflow.id),
            replays: state.replays,
            exports: numbers.stored,
            delivered: numbers.delivered,
            retries: numbers.retries,
            collapsed: numbers.collapsed,
            attempts: attempt_counts(numbers.outcomes),
            exports_per_second: numbers.exports_per_second,
            requests_per_second: numbers.requests_per_second,
            request_ms: latency_view(numbers.request_latency),
            delivery_ms: latency_view(numbers.delivery_latency),
        })
    }

    /// When the record behind the oldest export that is not done was accepted: the one that delivery
    /// names, or the first that the stored progress does not count as done.
    fn oldest_waiting(
        &self,
        dataflow: &str,
        named: Option<u64>,
    ) -> Result<Option<Timestamp>, EngineError> {
        let from = match named {
            Some(sequence) => sequence,
            None => self.store.progress().read(dataflow)?.watermark,
        };
        let rows = self.store.outbox().read(dataflow, from, 1)?;
        Ok(rows.first().map(|(_, row)| Timestamp::from_millis(row.accepted_ms)))
    }

    /// All destinations of the configuration; none without one.
    pub fn destinations(&self) -> Vec<DestinationView> {
        self.shared.configuration().map_or_else(Vec::new, |config| {
            let mut views = destination_views(&config);
            if let Some(delivery) = &self.delivery {
                for view in &mut views {
                    add_state(view, &config, delivery);
                }
            }
            views
        })
    }
}

/// What an answer says of a configured destination before anything is known of how it does.
pub fn destination_views(config: &Config) -> Vec<DestinationView> {
    let ids_of = |destination: &str| {
        let sends = config.dataflows.iter().filter(|flow| flow.destination == destination);
        sends.map(|flow| flow.id.clone()).collect()
    };
    let view = |Destination { settings, name, .. }: &Destination| DestinationView {
        id: settings.id.clone(),
        name: name.clone(),
        endpoint: shown_url(&settings.endpoint),
        auth: settings.auth.kind().to_owned(),
        signed: settings.signing_secret.is_some(),
        max_requests_per_second: settings.max_requests_per_second,
        max_in_flight: settings.max_in_flight as u64,
        timeout_ms: u64::try_from(settings.timeout.as_millis()).unwrap_or(u64::MAX),
        max_retries: settings.retry.max_retries,
        dataflows: ids_of(&settings.id),
        state: "stopped".to_owned(),
        ..DestinationView::default()
    };
    config.destinations.iter().map(view).collect()
}

/// Adds how a destination does.
fn add_state(view: &mut DestinationView, config: &Config, delivery: &Delivery) {
    let is_paused = |id: &String| {
        config.dataflow(id).is_some_and(|dataflow| dataflow.sending == Sending::Paused)
    };
    let name = match delivery.pause(&view.id) {
        Some(Pause::Gone { .. }) => "paused_by_410",
        Some(Pause::Breaker { paused_for, .. }) => {
            view.paused_for_ms = Some(u64::try_from(paused_for.as_millis()).unwrap_or(u64::MAX));
            "paused_by_breaker"
        }
        _ if view.dataflows.is_empty() => "unused",
        _ if view.dataflows.iter().all(is_paused) => "paused",
        _ => "ok",
    };
    name.clone_into(&mut view.state);
    let states = view.dataflows.iter().filter_map(|id| delivery.state(id));
    let newest = states.filter_map(|state| state.last_error).max_by_key(|error| error.at);
    (view.last_error, view.last_error_at) = error_and_time(newest);
}

fn error_and_time(error: Option<LastError>) -> (Option<String>, Option<String>) {
    error.map(|LastError { text, at }| (text, at.to_string())).unzip()
}

fn attempt_counts(outcomes: OutcomeCounts) -> AttemptCounts {
    AttemptCounts {
        success: outcomes.success,
        redirect: outcomes.redirect,
        client_error: outcomes.client_error,
        server_error: outcomes.server_error,
        timeout: outcomes.timeout,
        connection: outcomes.connection,
        probes: outcomes.probes,
    }
}

fn latency_view(latency: Latency) -> LatencyView {
    LatencyView {
        count: latency.count,
        p50: latency.p50_ms,
        p95: latency.p95_ms,
        p99: latency.p99_ms,
        max: latency.max_ms,
    }
}
