//! The circuit breaker of a destination: after so many failures in a row it is paused, and a single
//! export now and then finds out whether it works again (`SPEC.md` §8).
//!
//! Pure: time comes in, decisions go out. [`super::health`] shares one between dataflows.

use std::time::Duration;

use crate::clock::Moment;

/// The longest rest between two probes.
pub const PROBE_INTERVAL_MAX: Duration = Duration::from_mins(1);

/// Counts failures in a row and schedules probes.
#[derive(Clone, Debug)]
pub struct Breaker {
    failures_max: u32,
    probe_interval: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { since: Moment, interval: Duration, probe: Probe },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    At(Moment),
    Out,
}

/// What the breaker allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Anything.
    Send,
    /// One probe.
    Probe,
    /// Nothing before this moment.
    Wait(Moment),
    /// Nothing until the probe that is out has ended.
    Probing,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(failures_max: u32, probe_interval: Duration) -> Self {
        Self { failures_max, probe_interval, state: State::Closed { failures: 0 } }
    }

    /// What is allowed at `now`.
    pub fn permit(&self, now: Moment) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Send,
            State::Open { probe: Probe::Out, .. } => Permit::Probing,
            State::Open { probe: Probe::At(at), .. } if at <= now => Permit::Probe,
            State::Open { probe: Probe::At(at), .. } => Permit::Wait(at),
        }
    }

    /// Since when the destination is paused, if it is.
    pub const fn paused_since(&self) -> Option<Moment> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { since, .. } => Some(since),
        }
    }

    /// A probe goes out.
    pub const fn probe_started(&mut self) {
        if let State::Open { probe, .. } = &mut self.state {
            *probe = Probe::Out;
        }
    }

    /// The probe that was out told nothing; another may go at once.
    pub const fn probe_returned(&mut self, now: Moment) {
        if let State::Open { probe, .. } = &mut self.state {
            *probe = Probe::At(now);
        }
    }

    /// A request showed that the destination works.
    pub const fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// An ordinary request failed. Those that were open when the breaker opened change nothing.
    pub fn failed(&mut self, now: Moment) {
        let State::Closed { failures } = &mut self.state else { return };
        *failures += 1;
        if *failures >= self.failures_max {
            let interval = self.probe_interval.min(PROBE_INTERVAL_MAX);
            let probe = Probe::At(now.plus(interval));
            self.state = State::Open { since: now, interval, probe };
        }
    }

    /// The probe failed: the next one rests twice as long.
    pub fn probe_failed(&mut self, now: Moment) {
        if let State::Open { interval, probe, .. } = &mut self.state {
            *interval = interval.saturating_mul(2).min(PROBE_INTERVAL_MAX);
            *probe = Probe::At(now.plus(*interval));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Breaker, Permit};
    use crate::clock::Moment;

    const fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(2, Duration::from_secs(1));
        breaker.failed(at(10));
        breaker.failed(at(11));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(2, Duration::from_secs(1));
        breaker.failed(at(1));
        assert_eq!(breaker.permit(at(1)), Permit::Send, "one is not enough");
        breaker.succeeded();
        breaker.failed(at(2));
        assert_eq!(breaker.permit(at(2)), Permit::Send, "a success starts the count anew");
        breaker.failed(at(3));
        assert_eq!(breaker.permit(at(3)), Permit::Wait(at(4)), "two in a row");
        assert_eq!(breaker.paused_since(), Some(at(3)));
        breaker.failed(at(4));
        assert_eq!(breaker.permit(at(4)), Permit::Probe, "late failures do not move the probe");
    }

    #[test]
    fn one_probe_goes_out_at_a_time() {
        let mut breaker = opened();
        assert_eq!(breaker.permit(at(12)), Permit::Probe);
        breaker.probe_started();
        assert_eq!(breaker.permit(at(500)), Permit::Probing);
        breaker.probe_returned(at(500));
        assert_eq!(breaker.permit(at(500)), Permit::Probe);
        breaker.probe_started();
        breaker.succeeded();
        assert_eq!(breaker.permit(at(500)), Permit::Send);
        assert_eq!(breaker.paused_since(), None);
    }

    #[test]
    fn failed_probes_double_the_rest_up_to_a_minute() {
        let mut breaker = opened();
        let mut now = at(12);
        let rests: Vec<u64> = (0..9)
            .map(|_| {
                assert_eq!(breaker.permit(now), Permit::Probe);
                breaker.probe_started();
                breaker.probe_failed(now);
                let Permit::Wait(next) = breaker.permit(now) else { panic!("no rest") };
                let rest = next.since(now).as_secs();
                now = next;
                rest
            })
            .collect();
        assert_eq!(rests, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(breaker.paused_since(), Some(at(11)), "still the same pause");
    }
}
