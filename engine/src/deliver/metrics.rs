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
    /// Exports stored.
    pub stored: u64,
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
    /// Exports stored per second, over the last ten seconds.
    pub exports_per_second: f64,
    /// Requests ended per second, over the last ten seconds.
    pub requests_per_second: f64,
    /// From the request's start to its outcome.
    pub request_latency: Latency,
    /// From the record's acceptance to its export's delivery; replays of dead letters left out.
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
/// Whole seconds that rates are taken over.
const RATE_SECONDS: u64 = 10;

/// The numbers behind [`DataflowStats`].
#[derive(Debug)]
pub struct Metrics(Mutex<Numbers>);

#[derive(Debug)]
struct Numbers {
    counts: DataflowStats,
    request: Histogram<u64>,
    delivery: Histogram<u64>,
    stored: Recent,
    requests: Recent,
}

/// How many there were in each of the last seconds that had any: (second, count).
#[derive(Debug, Default)]
struct Recent(VecDeque<(u64, u64)>);

impl Recent {
    fn add(&mut self, more: u64, now: Moment) {
        let second = second(now);
        match self.0.back_mut() {
            Some((last, count)) if *last == second => *count += more,
            _ => self.0.push_back((second, more)),
        }
        while self.0.front().is_some_and(|&(s, _)| s + RATE_SECONDS < second) {
            self.0.pop_front();
        }
    }

    /// Whole seconds only, unless the engine is younger than one.
    fn per_second(&self, now: Moment) -> f64 {
        let this = second(now);
        let whole = this.clamp(1, RATE_SECONDS);
        let is_recent = |&&(s, _): &&(u64, u64)| this == 0 || s < this && s + whole >= this;
        let sum: u64 = self.0.iter().filter(is_recent).map(|&(_, count)| count).sum();
        sum as f64 / whole as f64
    }
}

fn second(now: Moment) -> u64 {
    now.as_nanos() / 1_000_000_000
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
            stored: Recent::default(),
            requests: Recent::default(),
        }))
    }

    /// A request ended.
    pub fn request(&self, outcome: &Outcome, role: Role, took: Duration, now: Moment) {
        let mut numbers = self.numbers();
        numbers.counts.outcomes.add(outcome, role);
        numbers.request.saturating_record(micros(took));
        numbers.requests.add(1, now);
    }

    /// Exports were stored.
    pub fn stored(&self, count: u64, now: Moment) {
        let mut numbers = self.numbers();
        numbers.counts.stored += count;
        numbers.stored.add(count, now);
    }

    /// An export was delivered at `wall`; its latency counts if `accepted` says since when.
    pub fn delivered(&self, accepted: Option<Timestamp>, wall: Timestamp) {
        let mut numbers = self.numbers();
        numbers.counts.delivered += 1;
        let Some(accepted) = accepted else { return };
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
        stats.exports_per_second = numbers.stored.per_second(now);
        stats.requests_per_second = numbers.requests.per_second(now);
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
        let at = Timestamp::from_millis;
        metrics.delivered(Some(at(1_000)), at(3_500));
        metrics.delivered(Some(at(1_000)), at(900));
        metrics.delivered(None, at(9_000_000));
        metrics.stored(30, second(4));
        let stats = metrics.stats(second(5));
        assert_eq!(stats.outcomes, OutcomeCounts { timeout: 200, ..OutcomeCounts::default() });
        assert!((39.9..40.1).contains(&stats.requests_per_second), "{stats:?}");
        assert_eq!(stats.request_latency.count, 200);
        assert!((1.9..2.1).contains(&stats.request_latency.p50_ms), "{stats:?}");
        assert!((2_480.0..2_520.0).contains(&stats.delivery_latency.max_ms), "{stats:?}");
        assert_eq!(
            (stats.delivered, stats.delivery_latency.count),
            (3, 2),
            "a replay has no latency"
        );
        assert!((5.9..6.1).contains(&stats.exports_per_second), "30 in 5 s: {stats:?}");
        assert!(metrics.stats(second(20)).requests_per_second < 0.1, "none lately");
    }
}
