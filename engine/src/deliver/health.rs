//! Whether a destination takes requests: one breaker, and one 410, for all its dataflows.
//!
//! A destination that fails, fails for every dataflow that sends to it. So the dispatchers share
//! this handle. The lock is held for a few instructions and never across I/O. When a pause ends or
//! the probe comes back, the other dataflows' bells are rung, or they would sleep on.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::breaker::{Breaker, Permit};
use super::outcome::Outcome;
use super::retry;
use super::settings::DestinationSettings;
use super::state::Pause;
use crate::clock::Moment;

/// Wakes a dataflow's worker.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// A shared handle on a destination's health.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    bells: Mutex<Vec<Bell>>,
}

struct State {
    breaker: Breaker,
    gone: Option<String>,
    last_error: String,
}

/// What a request was to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One among others.
    Ordinary,
    /// The one that finds out whether a paused destination works again.
    Probe,
}

/// What a destination allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// What the breaker allows.
    Breaker(Permit),
    /// Nothing until the next run.
    Gone,
}

impl Health {
    /// A destination that nothing is known against.
    pub fn new(settings: &DestinationSettings) -> Self {
        let breaker = Breaker::new(settings.breaker_failures, settings.probe_interval);
        let state = State { breaker, gone: None, last_error: String::new() };
        Self(Arc::new(Shared { state: Mutex::new(state), bells: Mutex::default() }))
    }

    /// Rings `bell` whenever more may be allowed than before.
    pub fn listen(&self, bell: Bell) {
        self.0.bells.lock().expect("no holder of the bells panics").push(bell);
    }

    /// What is allowed at `now`.
    pub fn leave(&self, now: Moment) -> Leave {
        let state = self.state();
        if state.gone.is_some() { Leave::Gone } else { Leave::Breaker(state.breaker.permit(now)) }
    }

    /// Claims what [`Self::leave`] allowed; `None` if another dataflow was faster.
    pub fn claim(&self, now: Moment) -> Option<Role> {
        let mut state = self.state();
        if state.gone.is_some() {
            return None;
        }
        match state.breaker.permit(now) {
            Permit::Send => Some(Role::Ordinary),
            Permit::Probe => {
                state.breaker.probe_started();
                Some(Role::Probe)
            }
            Permit::Wait(_) | Permit::Probing => None,
        }
    }

    /// Counts the end of a request.
    pub fn ended(&self, now: Moment, role: Role, outcome: &Outcome) {
        let mut state = self.state();
        let paused = state.breaker.paused_since().is_some();
        if retry::is_sign_of_life(outcome) {
            state.breaker.succeeded();
        } else {
            state.last_error = outcome.to_string();
            match role {
                Role::Ordinary => state.breaker.failed(now),
                Role::Probe => state.breaker.probe_failed(now),
            }
        }
        if matches!(outcome, Outcome::Status { code: 410, .. }) {
            state.gone = Some(outcome.to_string());
        }
        drop(state);
        if paused {
            self.ring();
        }
    }

    /// Gives a probe back that told nothing.
    pub fn probe_returned(&self, now: Moment) {
        self.state().breaker.probe_returned(now);
        self.ring();
    }

    /// Why nothing is sent, if nothing is.
    pub fn pause(&self, now: Moment) -> Option<Pause> {
        let state = self.state();
        if let Some(answer) = &state.gone {
            return Some(Pause::Gone { last_error: answer.clone() });
        }
        let paused_for: Duration = now.since(state.breaker.paused_since()?);
        Some(Pause::Breaker { paused_for, last_error: state.last_error.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of the health panics")
    }

    fn ring(&self) {
        for bell in self.0.bells.lock().expect("no holder of the bells panics").iter() {
            bell();
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Health").finish_non_exhaustive()
    }
}
