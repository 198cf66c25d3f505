//! Counters and latencies of one dataflow.
//!
//! The dispatcher's thread writes, anyone reads: one lock, held for an addition or a copy.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::health::Role;
use super::outcome::Outcome;
use crate::clock::{Moment, Timestamp};

/// A dataflow's numbers since the engine started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataflowStats {
    /// Exports done by a 2xx.
    pub delivered: u64,
    /// Exports given up on.
    pub dead_letters: u64,
    /// Attempts after an export's first, probes and token renewals aside.
    pub retries: u64,
    /// Requests that ended, by how.
    pub outcomes: OutcomeCounts,
    /// Exports that a newer one of their profile replaced.
    pub collapsed: u64,
    /// Requests ended per second, over the last ten seconds.
    pub requests_per_second: f64,
    /// From the request's start to its outcome.
    pub request_latency: Latency,
    /// From the record's acceptance to its export's delivery.
    pub delivery_latency: Latency,
}

/// Requests that ended, by how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeCounts {
    /// 2xx.
    pub success: u64,
    /// 3xx, which are not followed.
    pub redirect: u64,
    /// 4xx.
    pub client_error: u64,
    /// 5xx and statuses that do not exist.
    pub server_error: u64,
    /// No whole answer in time.
    pub timeout: u64,
    /// No answer for another reason.
    pub connection: u64,
    /// Of all these, requests that were probes.
    pub probes: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Values recorded.
    pub count: u64,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 95 of 100 are at most this.
    pub p95_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The longest latency told apart, in microseconds: a day. Anything longer counts as this.
const LATENCY_MAX_US: u64 = 24 * 60 * 60 * 1_000_000;
/// Latencies are kept to this many decimal digits.
const LATENCY_DIGITS: u8 = 2;
/// Whole seconds that the request rate is taken over.
const RATE_SECONDS: u64 = 10;

/// The numbers behind [`DataflowStats`].
#[derive(Debug)]
pub struct Metrics(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    counts: DataflowStats,
    request: Histogram<u64>,
    delivery: Histogram<u64>,
    /// Requests ended in each of the last seconds that had any: (second, count).
    seconds: VecDeque<(u64, u64)>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_US, LATENCY_DIGITS)
                .expect("the bounds of the histogram are in order")
        };
        Self(Mutex::new(Numbers {
            counts: DataflowStats::default(),
            request: histogram(),
            delivery: histogram(),
            seconds: VecDeque::new(),
        }))
    }

    /// A request ended.
    pub fn request(&self, outcome: &Outcome, role: Role, took: Duration, now: Moment) {
        let mut numbers = self.numbers();
        numbers.counts.outcomes.add(outcome, role);
        numbers.request.saturating_record(micros(took));
        let second = now.as_nanos() / 1_000_000_000;
        match numbers.seconds.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => numbers.seconds.push_back((second, 1)),
        }
        while numbers.seconds.front().is_some_and(|&(s, _)| s + RATE_SECONDS < second) {
            numbers.seconds.pop_front();
        }
    }

    /// An export accepted at `accepted` was delivered at `wall`.
    pub fn delivered(&self, accepted: Timestamp, wall: Timestamp) {
        let mut numbers = self.numbers();
        numbers.counts.delivered += 1;
        let ms = wall.as_millis().saturating_sub(accepted.as_millis());
        let ms = u64::try_from(ms).unwrap_or(0);
        numbers.delivery.saturating_record(ms.saturating_mul(1_000));
    }

    /// An attempt after an export's first was counted.
    pub fn retried(&self) {
        self.numbers().counts.retries += 1;
    }

    /// An export was given up on.
    pub fn dead_letter(&self) {
        self.numbers().counts.dead_letters += 1;
    }

    /// Exports were replaced by newer ones.
    pub fn collapsed(&self, count: u64) {
        self.numbers().counts.collapsed += count;
    }

    /// The numbers at `now`.
    pub fn stats(&self, now: Moment) -> DataflowStats {
        let numbers = self.numbers();
        let mut stats = numbers.counts.clone();
        stats.request_latency = Latency::of(&numbers.request);
        stats.delivery_latency = Latency::of(&numbers.delivery);
        let this = now.as_nanos() / 1_000_000_000;
        // Whole seconds only, unless the engine is younger.
        let whole = this.clamp(1, RATE_SECONDS);
        let recent = |&&(s, _): &&(u64, u64)| this == 0 || s < this && s + whole >= this;
        let ended: u64 = numbers.seconds.iter().filter(recent).map(|&(_, count)| count).sum();
        stats.requests_per_second = ended as f64 / whole as f64;
        stats
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().expect("no holder of the numbers panics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl OutcomeCounts {
    fn add(&mut self, outcome: &Outcome, role: Role) {
        let count = match outcome {
            Outcome::Status { code: 200..=299, .. } => &mut self.success,
            Outcome::Status { code: 300..=399, .. } => &mut self.redirect,
            Outcome::Status { code: 400..=499, .. } => &mut self.client_error,
            Outcome::Status { .. } => &mut self.server_error,
            Outcome::Timeout => &mut self.timeout,
            Outcome::Connect(_) | Outcome::Refused(_) => &mut self.connection,
        };
        *count += 1;
        self.probes += u64::from(role == Role::Probe);
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |us: u64| us as f64 / 1_000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: ms(histogram.max()),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Metrics, OutcomeCounts};
    use crate::clock::{Moment, Timestamp};
    use crate::deliver::health::Role;
    use crate::deliver::outcome::Outcome;

    #[test]
    fn what_is_recorded_is_shown() {
        let metrics = Metrics::new();
        let second = |s: u64| Moment::from_nanos(s * 1_000_000_000);
        for s in 1..=4 {
            for _ in 0..50 {
                metrics.request(
                    &Outcome::Timeout,
                    Role::Ordinary,
                    Duration::from_millis(s),
                    second(s),
                );
            }
        }
        metrics.delivered(Timestamp::from_millis(1_000), Timestamp::from_millis(3_500));
        metrics.delivered(Timestamp::from_millis(1_000), Timestamp::from_millis(900));
        let stats = metrics.stats(second(5));
        assert_eq!(stats.outcomes, OutcomeCounts { timeout: 200, ..OutcomeCounts::default() });
        assert!((39.9..40.1).contains(&stats.requests_per_second), "{stats:?}");
        assert_eq!(stats.request_latency.count, 200);
        assert!((1.9..2.1).contains(&stats.request_latency.p50_ms), "{stats:?}");
        assert!((2_480.0..2_520.0).contains(&stats.delivery_latency.max_ms), "{stats:?}");
        assert_eq!(stats.delivered, 2);
    }
}
