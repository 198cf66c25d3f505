//! Random outcomes, crashes and erasures: whatever happens, every export is done, once and in order.
//!
//! On a failure proptest prints the steps, shrunk, and the seed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::backlog::Backlog;
use super::super::dispatcher::{Action, Writing};
use super::super::memory;
use super::super::outcome::Outcome;
use super::{Bench, asking, destination, status};
use crate::detect::Causes;

/// What happens next in a random run.
#[derive(Clone, Debug)]
enum Step {
    Add(Vec<u64>),
    Backfill(Vec<u64>),
    Poll,
    End { which: prop::sample::Index, outcome: Outcome },
    Pass(u64),
    Write,
    Crash,
    Erase(u64),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => Just(status(200)),
        2 => Just(status(500)),
        1 => (0..3_u64).prop_map(|seconds| asking(429, seconds)),
        1 => Just(status(404)),
        1 => Just(status(422)),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Connect("reset".to_owned())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => prop::collection::vec(0..6_u64, 1..5).prop_map(Step::Add),
        1 => prop::collection::vec(0..6_u64, 1..5).prop_map(Step::Backfill),
        8 => Just(Step::Poll),
        6 => (any::<prop::sample::Index>(), outcome())
            .prop_map(|(which, outcome)| Step::End { which, outcome }),
        2 => (1..5_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Write),
        1 => Just(Step::Crash),
        1 => (0..6_u64).prop_map(Step::Erase),
    ]
}

/// What a run may never do, remembered from outside.
#[derive(Default)]
struct Watch {
    profiles: BTreeMap<u64, u64>,
    in_flight: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    erased: BTreeSet<u64>,
    crashed: bool,
}

impl Watch {
    fn sent(&mut self, sequence: u64, bench: &Bench) {
        let profile = self.profiles[&sequence];
        assert!(self.crashed || !self.delivered.contains(&sequence), "{sequence} is sent again");
        for (&earlier, _) in self.profiles.range(..sequence).filter(|&(_, &p)| p == profile) {
            let is_done = self.delivered.contains(&earlier)
                || self.erased.contains(&earlier)
                || bench.backlog.stored().dead.contains_key(&earlier);
            assert!(is_done, "{sequence} leaves before {earlier}");
            assert!(!self.in_flight.contains(&earlier), "{sequence} leaves beside {earlier}");
        }
        assert!(self.in_flight.insert(sequence), "{sequence} is in flight twice");
        assert!(self.in_flight.len() <= bench.settings.max_in_flight);
    }

    fn is_done(&self, sequence: u64, bench: &Bench) -> bool {
        self.delivered.contains(&sequence)
            || self.erased.contains(&sequence)
            || bench.backlog.stored().dead.contains_key(&sequence)
    }
}

fn apply(bench: &mut Bench, watch: &mut Watch, step: Step) {
    match step {
        Step::Add(profiles) => add(bench, watch, &profiles, Causes::ATTRIBUTE),
        Step::Backfill(profiles) => add(bench, watch, &profiles, Causes::BACKFILL),
        Step::Poll => {
            if let Action::Send(dispatch) = bench.poll() {
                watch.sent(dispatch.export.sequence, bench);
            }
        }
        Step::End { which, outcome } => {
            if watch.in_flight.is_empty() {
                return;
            }
            let sequence = *watch.in_flight.iter().nth(which.index(watch.in_flight.len())).unwrap();
            watch.in_flight.remove(&sequence);
            if outcome.status() == Some(200) {
                watch.delivered.insert(sequence);
            }
            bench.end(sequence, outcome);
        }
        Step::Pass(ms) => bench.ms += ms,
        Step::Write => {
            let mark = bench.dispatcher.progress(bench.tick(), Writing::Running);
            bench.backlog.write_progress("flow", &mark).unwrap();
        }
        Step::Crash => {
            watch.in_flight.clear();
            watch.crashed = true;
            bench.crash();
        }
        Step::Erase(profile) => {
            let of = |&(_, &p): &(&u64, &u64)| p == profile;
            let gone: Vec<u64> = watch.profiles.iter().filter(of).map(|(&s, _)| s).collect();
            bench.erase(&[profile]);
            watch.erased.extend(gone);
        }
    }
}

fn add(bench: &mut Bench, watch: &mut Watch, profiles: &[u64], causes: Causes) {
    for &profile in profiles {
        let sequence = watch.profiles.len() as u64 + 1;
        let mut export = memory::export(sequence, profile);
        export.origin.causes = causes.to_bits();
        bench.backlog.stored().exports.insert(sequence, export);
        bench.dispatcher.durable_through(sequence);
        watch.profiles.insert(sequence, profile);
    }
}

/// Lets everything end well, within a bounded number of steps.
fn settle(bench: &mut Bench, watch: &mut Watch) {
    for _ in 0..5_000 {
        match bench.poll() {
            Action::Send(dispatch) => watch.sent(dispatch.export.sequence, bench),
            Action::WaitUntil(moment) if watch.in_flight.is_empty() => {
                bench.ms = bench.ms.max(moment.as_nanos().div_ceil(1_000_000));
            }
            Action::WaitUntil(_) | Action::Idle => {
                let Some(sequence) = watch.in_flight.pop_first() else { return };
                watch.delivered.insert(sequence);
                bench.end(sequence, status(200));
            }
        }
    }
    panic!("it does not come to an end");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_export_is_done_once_and_in_order(
        steps in prop::collection::vec(step(), 1..150),
        breaker_failures in 1..8_u32,
        max_in_flight in 1..5_usize,
    ) {
        let mut settings = destination();
        (settings.breaker_failures, settings.max_in_flight) = (breaker_failures, max_in_flight);
        let mut bench = Bench::new(settings);
        let mut watch = Watch::default();
        for step in steps {
            apply(&mut bench, &mut watch, step);
        }
        settle(&mut bench, &mut watch);
        for &sequence in watch.profiles.keys() {
            prop_assert!(watch.is_done(sequence, &bench), "{} is lost", sequence);
        }
        prop_assert_eq!(bench.dispatcher.queue().len(), 0);
        let mark = bench.dispatcher.progress(bench.tick(), Writing::Stopping);
        prop_assert_eq!(mark.watermark, watch.profiles.len() as u64 + 1);
        prop_assert!(mark.done.is_empty() && mark.attempted.is_empty());
    }
}
