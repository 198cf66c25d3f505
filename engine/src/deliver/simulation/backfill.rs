//! Backfill leaves when nothing more urgent may (`SPEC.md` §6).

use super::super::dispatcher::Writing;
use super::super::memory;
use super::super::settings::{DataflowSettings, Waiting};
use super::{Bench, asking, destination, status};
use crate::detect::Causes;

/// A dispatcher that sends one after another.
fn one_at_a_time(waiting: Waiting) -> Bench {
    let mut settings = destination();
    (settings.max_in_flight, settings.max_requests_per_second) = (1, u32::MAX);
    let mut flow = DataflowSettings::new("flow", "sink");
    flow.waiting = waiting;
    Bench::with_flow(settings, flow)
}

fn add(bench: &mut Bench, profiles: impl IntoIterator<Item = u64>, causes: Causes) {
    for profile in profiles {
        let last = bench.backlog.stored().exports.keys().next_back().copied();
        let mut export = memory::export(last.unwrap_or(0) + 1, profile);
        export.origin.causes = causes.to_bits();
        bench.dispatcher.durable_through(export.sequence);
        bench.backlog.stored().exports.insert(export.sequence, export);
    }
}

/// What leaves, one after another, all of it delivered.
fn delivered(bench: &mut Bench) -> Vec<u64> {
    let mut all = Vec::new();
    while let [sequence] = bench.sends()[..] {
        bench.end(sequence, status(200));
        all.push(sequence);
    }
    all
}

#[test]
fn a_live_export_leaves_before_all_backfill_that_waits() {
    let mut bench = one_at_a_time(Waiting::All);
    add(&mut bench, 0..5_000, Causes::BACKFILL);
    assert_eq!(bench.sends(), [1]);
    add(&mut bench, [9_000, 9_001], Causes::ATTRIBUTE);
    add(&mut bench, [9_002], Causes::BACKFILL.with(Causes::SEGMENT));
    bench.end(1, status(200));
    let order = delivered(&mut bench);
    assert_eq!(order[..5], [5_001, 5_002, 5_003, 2, 3]);
    assert_eq!(order.len(), 5_002);
    bench.restart(Writing::Stopping);
    assert_eq!(delivered(&mut bench), [0_u64; 0], "everything is done");
}

#[test]
fn what_a_live_export_waits_for_is_as_urgent() {
    // (what it shows, kind of backlog, profiles of the backfill, the order)
    let cases = [
        ("the earlier one of the profile first", Waiting::All, vec![1, 2, 2], vec![2, 3, 4, 1]),
        ("or in its place", Waiting::Latest, vec![1, 2, 2], vec![4, 1]),
        ("no other profile", Waiting::All, vec![1, 3], vec![3, 1, 2]),
    ];
    for (name, waiting, profiles, expected) in cases {
        let mut bench = one_at_a_time(waiting);
        add(&mut bench, profiles, Causes::BACKFILL);
        add(&mut bench, [2], Causes::ATTRIBUTE);
        assert_eq!(delivered(&mut bench), expected, "{name}");
    }
}

#[test]
fn backfill_goes_on_while_live_exports_wait_for_their_retry() {
    let mut bench = one_at_a_time(Waiting::All);
    add(&mut bench, [1, 2, 3], Causes::BACKFILL);
    add(&mut bench, [4], Causes::SEGMENT);
    assert_eq!(bench.sends(), [4]);
    bench.end(4, status(500));
    assert_eq!(bench.sends(), [1]);
    bench.ms = 10_000;
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [4], "it is due");
    bench.end(4, status(200));
    assert_eq!(delivered(&mut bench), [2, 3]);
}

#[test]
fn backfill_leaves_a_part_of_the_rate_to_what_happens_now() {
    let mut bench = one_at_a_time(Waiting::All);
    bench.settings.max_requests_per_second = 32;
    bench.crash();
    add(&mut bench, 0..100, Causes::BACKFILL);
    assert_eq!(delivered(&mut bench), (1..=30).collect::<Vec<u64>>(), "but for a sixteenth");
    bench.ms = 500;
    add(&mut bench, [200, 201, 202], Causes::ATTRIBUTE);
    assert_eq!(delivered(&mut bench), [101, 102], "at once, up to the limit");
    bench.ms = 1_000;
    let next = delivered(&mut bench);
    assert_eq!((next[0], next.len()), (103, 28), "with the two before that makes thirty again");
}

#[test]
fn backfill_that_failed_waits_for_its_turn_again() {
    let mut bench = one_at_a_time(Waiting::All);
    add(&mut bench, [1], Causes::BACKFILL);
    assert_eq!(bench.sends(), [1]);
    bench.end(1, asking(500, 5));
    add(&mut bench, [2], Causes::IDENTITY);
    bench.ms = 5_000;
    assert_eq!(delivered(&mut bench), [2, 1]);
}
