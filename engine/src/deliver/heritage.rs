//! What a dispatcher leaves to the one that takes its place within a run: another configuration sends the
//! same dataflow otherwise, and neither counts anew nor forgets what the receiver has asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use url::Url;

use super::metrics::Metrics;
use crate::clock::Moment;

/// What is left.
#[derive(Clone, Debug)]
pub struct Heritage {
    /// The numbers, which whoever shows them has too.
    pub metrics: Arc<Metrics>,
    /// Until when nothing starts.
    pub hold: Hold,
}

/// Until when a receiver has asked a dataflow to wait: `Retry-After` of a 429 or 503 (`SPEC.md` §8).
#[derive(Clone, Debug, Default)]
pub struct Hold(Arc<AtomicU64>);

impl Heritage {
    /// Of nobody.
    pub fn new() -> Self {
        Self { metrics: Arc::new(Metrics::new()), hold: Hold::default() }
    }

    /// What of it goes on for who sends to `endpoint`, where it was left by who sent to `before`: another
    /// receiver has asked for nothing yet.
    #[must_use]
    pub fn passed_on(self, before: Option<&Url>, endpoint: &Url) -> Self {
        if before == Some(endpoint) { self } else { Self { hold: Hold::default(), ..self } }
    }
}

impl Default for Heritage {
    fn default() -> Self {
        Self::new()
    }
}

impl Hold {
    /// Until then, at least.
    pub fn extend(&self, to: Moment) {
        self.0.fetch_max(to.as_nanos(), Ordering::Relaxed);
    }

    /// When something may start.
    pub fn ends_at(&self) -> Moment {
        Moment::from_nanos(self.0.load(Ordering::Relaxed))
    }
}
