//! What a dispatcher does, case by case.

use std::time::Duration;

use super::super::backlog::{Backlog, ProgressMark};
use super::super::dispatcher::{Action, Dispatch, Dispatcher, Writing};
use super::super::health::Role;
use super::super::jitter::Jitter;
use super::super::outcome::Outcome;
use super::super::queue::{ANSWER_BYTES_MAX, ATTEMPTS_MAX, OPEN_MAX, PAYLOAD_BYTES_MAX};
use super::super::settings::{AuthSettings, DataflowSettings, OauthClient, Sending, Waiting};
use super::super::withdrawal::Withdrawal;
use super::{Bench, asking, destination, status};
use crate::clock::Moment;
use crate::secret::Secret;

/// Nothing is sent.
const NONE: [u64; 0] = [];

#[test]
fn a_parked_profile_holds_back_only_itself() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2]);
    assert_eq!(bench.sends(), [1, 3]);
    bench.end(1, status(500));
    bench.end(3, status(200));
    assert_eq!(bench.sends(), NONE);
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1], "after the backoff and its jitter");
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn dead_letters_keep_their_attempts_and_free_the_profile() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1]);
    for _ in 0..3 {
        assert_eq!(bench.sends(), [1]);
        bench.end(1, status(503));
        bench.ms += 10_000;
    }
    assert_eq!(bench.sends(), [2], "the next of the profile follows");
    bench.end(2, status(404));
    assert_eq!(bench.dead(), [1, 2]);
    let stored = bench.backlog.stored();
    let attempts: Vec<_> =
        stored.dead[&1].0.attempts.iter().map(|a| (a.at.as_millis(), a.status)).collect();
    assert_eq!(attempts, [(0, Some(503)), (10_000, Some(503)), (20_000, Some(503))]);
    assert_eq!(stored.dead[&2].0.attempts[0].answer, b"no");
    let stats = bench.dispatcher.metrics().stats(Moment::default());
    assert_eq!((stats.dead_letters, stats.retries, stats.delivered), (2, 2, 0));
}

#[test]
fn an_overloaded_destination_holds_the_whole_dataflow() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 3]);
    assert_eq!(bench.sends(), [1, 2, 3]);
    bench.add(&[4]);
    bench.end(1, asking(429, 30));
    assert!(matches!(bench.poll(), Action::WaitUntil(at) if at.as_nanos() == 30_000_000_000));
    bench.ms = 29_999;
    assert_eq!(bench.sends(), NONE);
    bench.ms = 30_000;
    assert_eq!(bench.sends(), [1, 4]);
}

#[test]
fn what_is_not_durable_is_not_sent() {
    let mut bench = Bench::new(destination());
    bench.backlog.add(1);
    bench.backlog.add(2);
    assert_eq!(bench.sends(), NONE);
    bench.dispatcher.durable_through(1);
    assert_eq!(bench.sends(), [1]);
    bench.dispatcher.durable_through(2);
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn a_failing_destination_is_probed_with_one_export_that_keeps_its_attempts() {
    let mut settings = destination();
    (settings.breaker_failures, settings.max_in_flight) = (2, 1);
    settings.retry.backoff = vec![Duration::from_secs(100)];
    let mut bench = Bench::new(settings);
    bench.add(&[1, 2, 3, 4]);
    for sequence in [1, 2] {
        assert_eq!(bench.sends(), [sequence]);
        bench.end(sequence, status(503));
    }
    assert!(matches!(bench.poll(), Action::WaitUntil(at) if at.as_nanos() == 1_000_000_000));
    for (at, outcome) in [(1_000, status(404)), (3_000, Outcome::Timeout), (7_000, status(401))] {
        bench.ms = at;
        assert_eq!(bench.sends(), [3], "the oldest that is not parked, at {at}");
        bench.end(3, outcome);
    }
    assert!(bench.dead().is_empty(), "a failed probe is no attempt");
    bench.ms = 15_000;
    let Action::Send(Dispatch { role: Role::Probe, .. }) = bench.poll() else { panic!("no probe") };
    bench.end(3, status(422));
    assert_eq!(bench.dead(), [3], "one that shows life is");
    assert_eq!(bench.sends(), [4]);
    let stats = bench.dispatcher.metrics().stats(Moment::default());
    assert_eq!((stats.retries, stats.outcomes.probes), (0, 4));
}

#[test]
fn one_probe_serves_all_dataflows_of_a_destination() {
    let mut settings = destination();
    settings.breaker_failures = 1;
    let mut bench = Bench::new(settings.clone());
    let mut other = Bench::new(settings);
    other.dispatcher = Dispatcher::new(
        (&other.flow, &other.settings),
        bench.health.clone(),
        Jitter::new(0),
        ProgressMark::default(),
        other.tick(),
    );
    bench.add(&[1, 2]);
    other.add(&[1]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, Outcome::Timeout);
    (bench.ms, other.ms) = (1_000, 1_000);
    assert_eq!(other.sends(), [1], "the probe");
    assert_eq!(bench.sends(), NONE);
    other.end(1, status(200));
    bench.end(2, status(200));
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn a_destination_that_is_gone_gets_nothing_until_the_next_run() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, status(410));
    bench.end(2, status(200));
    bench.ms = 100_000_000;
    assert_eq!(bench.sends(), NONE);
    assert!(bench.dead().is_empty());
    bench.restart(Writing::Stopping);
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn a_refused_token_is_renewed_once_for_each_attempt() {
    let mut settings = destination();
    settings.auth = AuthSettings::Password {
        client: OauthClient {
            token_url: "http://127.0.0.1/".parse().unwrap(),
            client_id: String::new(),
            client_secret: Secret::new(String::new()),
        },
        username: String::new(),
        password: Secret::new(String::new()),
    };
    let mut bench = Bench::new(settings);
    bench.add(&[1]);
    // (outcome, whether it is sent again at once)
    for (outcome, again) in [(401, true), (500, false), (401, true), (401, false)] {
        bench.ms += 5_000;
        assert_eq!(bench.sends(), [1]);
        bench.end(1, status(outcome));
        if again {
            assert_eq!(bench.sends(), [1]);
            bench.end(1, status(401));
        }
        if outcome == 401 {
            break;
        }
    }
    assert_eq!(bench.dead(), [1], "a 401 after the renewal is final");
    assert_eq!(bench.backlog.stored().dead[&1].0.attempts.len(), 1, "and the first did not count");
}

#[test]
fn a_restart_in_a_backoff_keeps_the_count_and_the_wait() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 3]);
    assert_eq!(bench.sends(), [1, 2, 3]);
    bench.end(1, status(500));
    bench.end(3, status(200));
    bench.restart(Writing::Stopping);
    let mark = bench.backlog.progress("flow").unwrap();
    assert_eq!((mark.watermark, mark.done.clone()), (1, vec![(3, 3)]));
    assert_eq!(bench.sends(), [2], "the one in flight is repeated, the one done is not");
    bench.restart(Writing::Stopping);
    assert_eq!(bench.sends(), [2]);
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(500));
    bench.ms = 4_000;
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(500));
    assert_eq!(bench.dead(), [1], "three attempts in all");
}

#[test]
fn a_replay_goes_before_what_its_profile_has_waiting() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2]);
    assert_eq!(bench.sends(), [1, 3]);
    bench.end(1, status(404));
    assert_eq!(bench.sends(), [2]);
    bench.add(&[1]);
    bench.backlog.stored().dead.get_mut(&1).unwrap().1 = true;
    bench.dispatcher.replay();
    bench.end(2, status(500));
    assert_eq!(bench.sends(), [1], "with its old number");
    bench.end(1, status(200));
    assert!(bench.dead().is_empty(), "delivered, it is no dead letter any more");
    assert_eq!(bench.sends(), NONE, "the one in its backoff still waits");
    bench.ms = 1_200;
    assert_eq!(bench.sends(), [2]);
    bench.end(2, status(200));
    assert_eq!(bench.sends(), [4]);
}

#[test]
fn a_dead_letter_is_no_open_export_after_a_crash() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2]);
    assert_eq!(bench.sends(), [1, 3]);
    bench.end(1, status(404));
    // The dead letter is kept, the progress that counts it is not.
    bench.crash();
    bench.backlog.stored().dead.get_mut(&1).unwrap().1 = true;
    bench.dispatcher.replay();
    assert_eq!(bench.sends(), [1, 3], "once, as a replay, and before the next of its profile");
    bench.end(1, status(500));
    bench.ms = 10_000;
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(200));
    assert!(bench.dead().is_empty());
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn a_replay_waits_for_what_a_crash_has_repeated_before_it() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1]);
    assert_eq!(bench.sends(), [1]);
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [2]);
    bench.end(2, status(404));
    // The dead letter is kept, the progress that counts both is not.
    bench.crash();
    bench.backlog.stored().dead.get_mut(&2).unwrap().1 = true;
    bench.dispatcher.replay();
    assert_eq!(bench.sends(), [1], "what is newest of the profile must leave last");
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn a_replay_that_fails_again_keeps_its_earlier_attempts() {
    let mut bench = Bench::new(destination());
    bench.add(&[1]);
    for code in [404, 422] {
        assert_eq!(bench.sends(), [1]);
        bench.end(1, status(code));
        bench.backlog.stored().dead.get_mut(&1).unwrap().1 = true;
        bench.dispatcher.replay();
    }
    let letter = bench.backlog.stored().dead[&1].0.clone();
    let statuses: Vec<_> = letter.attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [Some(404), Some(422)]);
}

#[test]
fn a_forgotten_replay_is_neither_sent_nor_kept_anew() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 2]);
    assert_eq!(bench.sends(), [1, 2]);
    for sequence in [1, 2] {
        bench.end(sequence, status(404));
        bench.backlog.stored().dead.get_mut(&sequence).unwrap().1 = true;
    }
    bench.dispatcher.replay();
    assert_eq!(bench.sends(), [1, 2]);
    bench.backlog.stored().dead.clear();
    // One in flight, one that would be tried again, and one that was never a dead letter.
    bench.end(2, status(500));
    bench.dispatcher.forget(&[1, 2, 3], Moment::default());
    bench.end(1, status(500));
    bench.ms = 100_000;
    assert_eq!(bench.sends(), [3]);
    assert_eq!(bench.dead(), NONE);
}

#[test]
fn an_erased_profile_is_not_sent_again() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 1, 2, 2, 3]);
    assert_eq!(bench.sends(), [1, 3, 5]);
    bench.end(3, status(500));
    bench.erase(&[1, 2]);
    bench.end(1, status(500));
    bench.end(5, status(200));
    bench.ms = 100_000;
    assert_eq!(bench.sends(), NONE);
    assert!(bench.dead().is_empty());
    assert_eq!(bench.dispatcher.queue().len(), 0);
    bench.add(&[2]);
    assert_eq!(bench.sends(), [6], "a new profile starts anew");
}

#[test]
fn an_erased_profile_has_no_dead_letters_and_none_is_replayed() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 1]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, status(404));
    bench.end(2, status(404));
    assert_eq!(bench.sends(), [3]);
    for (_, marked) in bench.backlog.stored().dead.values_mut() {
        *marked = true;
    }
    bench.dispatcher.replay();
    bench.erase(&[1]);
    bench.end(3, status(404));
    assert_eq!(bench.dead(), [2], "nor does the one that was in flight become one");
    assert_eq!(bench.sends(), [2]);
}

#[test]
fn what_names_an_erased_identity_is_not_sent_whatever_its_profile() {
    let mut bench = Bench::new(destination());
    bench.add(&[1, 2, 2, 1, 3, 4, 4]);
    let about = |id: &str| format!("{{\"identityMap\":{{\"n\":[{{\"id\":\"{id}\"}}]}}}}");
    for (sequence, export) in &mut bench.backlog.stored().exports {
        let id = if [1, 2, 3, 6, 7].contains(sequence) { "gone" } else { "stays" };
        export.payload = about(id).into_bytes().into();
    }
    // One fails for good, one is to be tried again, and one is in flight.
    assert_eq!(bench.sends(), [1, 2, 5, 6]);
    bench.end(1, status(404));
    bench.end(2, status(500));
    assert_eq!(bench.sends(), [4]);
    for (_, marked) in bench.backlog.stored().dead.values_mut() {
        *marked = true;
    }
    bench.dispatcher.replay();
    let mut withdrawal = Withdrawal::default();
    withdrawal.add_identity("n", "gone", 0);
    bench.withdraw(&withdrawal);
    assert_eq!(bench.backlog.stored().exports.keys().copied().collect::<Vec<_>>(), [4, 5]);
    assert_eq!(bench.dead(), NONE);
    bench.end(6, status(500));
    bench.end(5, status(500));
    bench.end(4, status(200));
    bench.ms = 100_000;
    assert_eq!(bench.sends(), [5], "the other is tried again");
    bench.end(5, status(200));
    assert_eq!(bench.dispatcher.queue().len(), 0);
}

#[test]
fn what_was_withdrawn_before_it_was_read_is_passed_over() {
    let mut bench = Bench::new(destination());
    bench.dispatcher.set_sending(Sending::Paused);
    bench.add(&[1, 2, 1, 1]);
    bench.erase(&[1]);
    bench.dispatcher.set_sending(Sending::On);
    assert_eq!(bench.sends(), [2]);
    bench.end(2, status(200));
    assert_eq!(bench.dispatcher.window().unread(), 0);
    bench.restart(Writing::Stopping);
    assert_eq!(bench.backlog.progress("flow").unwrap().watermark, 5, "nothing is left to do");
    assert_eq!(bench.sends(), NONE);
}

fn latest() -> DataflowSettings {
    let mut flow = DataflowSettings::new("flow", "sink");
    flow.waiting = Waiting::Latest;
    flow
}

fn collapsed(bench: &Bench) -> u64 {
    bench.dispatcher.metrics().stats(Moment::default()).collapsed
}

#[test]
fn waiting_exports_collapse_to_the_newest_where_asked() {
    let mut bench = Bench::with_flow(destination(), latest());
    bench.add(&[1]);
    assert_eq!(bench.sends(), [1]);
    bench.add(&[1, 1, 2, 1]);
    assert_eq!(bench.sends(), [4]);
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [5]);
    assert_eq!(collapsed(&bench), 2);
}

#[test]
fn everything_that_waits_collapses_however_far_it_lies_apart() {
    let mut settings = destination();
    settings.max_in_flight = 1;
    let mut bench = Bench::with_flow(settings, latest());
    let all: Vec<u64> = (0..10_000).map(|n| n % 1_000).collect();
    bench.add(&all);
    for n in 0..1_000 {
        let sequence = 9_001 + n;
        assert_eq!(
            bench.sends(),
            [sequence],
            "the newest of each, the profile that waits longest first"
        );
        bench.end(sequence, status(200));
    }
    assert_eq!(bench.sends(), NONE);
    assert_eq!(collapsed(&bench), 9_000);
}

#[test]
fn a_profile_that_changes_all_the_time_keeps_its_place() {
    let mut settings = destination();
    settings.max_in_flight = 1;
    let mut bench = Bench::with_flow(settings, latest());
    bench.add(&[1, 2, 3, 4]);
    assert_eq!(bench.sends(), [1]);
    bench.add(&[2, 3, 2]);
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [7], "profile 2 before 3 and 4");
    bench.end(7, status(200));
    assert_eq!(bench.sends(), [6]);
    bench.end(6, status(200));
    assert_eq!(bench.sends(), [4]);
}

#[test]
fn a_newer_export_takes_over_from_one_that_failed_with_its_wait() {
    let mut bench = Bench::with_flow(destination(), latest());
    bench.add(&[1]);
    assert_eq!(bench.sends(), [1]);
    bench.add(&[1]);
    bench.end(1, asking(500, 30));
    assert_eq!(bench.sends(), NONE, "the receiver asked for a pause");
    bench.add(&[1, 2]);
    assert_eq!(bench.sends(), [4], "others do not wait");
    assert_eq!(bench.dispatcher.queue().parked(), 1);
    bench.ms = 29_999;
    assert_eq!(bench.sends(), NONE);
    bench.ms = 30_000;
    assert_eq!(bench.sends(), [3]);
    assert_eq!(collapsed(&bench), 2);
    bench.end(3, status(200));
    bench.end(4, status(200));
    let mark = bench.dispatcher.progress(bench.tick(), Writing::Stopping);
    assert_eq!((mark.watermark, mark.done), (5, vec![]), "what collapsed is done");
}

#[test]
fn a_restart_collapses_what_waits_and_leaves_dead_letters_alone() {
    let mut bench = Bench::with_flow(destination(), latest());
    bench.add(&[1, 2]);
    assert_eq!(bench.sends(), [1, 2]);
    bench.end(1, status(404));
    assert_eq!(bench.dead(), [1]);
    bench.add(&[1, 2, 1, 2]);
    assert_eq!(bench.sends(), [5], "of profile 1, given up on, the newest");
    bench.restart(Writing::Stopping);
    assert_eq!(bench.sends(), [6, 5], "and of profile 2 not what was in flight any more");
    bench.backlog.stored().dead.get_mut(&1).unwrap().1 = true;
    bench.dispatcher.replay();
    bench.add(&[1]);
    bench.end(5, status(200));
    assert_eq!(bench.sends(), [1], "a replay is sent as it was, and first");
    bench.end(1, status(200));
    assert_eq!(bench.sends(), [7]);
    assert!(bench.dead().is_empty());
}

#[test]
fn a_paused_dataflow_sends_nothing() {
    let mut bench = Bench::new(destination());
    bench.add(&[1]);
    bench.dispatcher.set_sending(Sending::Paused);
    assert_eq!(bench.sends(), NONE);
    bench.dispatcher.set_sending(Sending::On);
    assert_eq!(bench.sends(), [1]);
}

#[test]
fn the_rate_holds_over_a_restart() {
    let mut settings = destination();
    settings.max_requests_per_second = 2;
    for writing in [Writing::Stopping, Writing::Running] {
        let mut bench = Bench::new(settings.clone());
        bench.ms = 5_000;
        bench.add(&[1, 2, 3]);
        assert_eq!(bench.sends(), [1, 2]);
        bench.restart(writing);
        bench.ms = 5_999;
        assert_eq!(bench.sends(), NONE, "{writing:?}");
        bench.ms = 6_200;
        assert_eq!(bench.sends(), [1, 2], "{writing:?}");
    }
}

#[test]
fn a_busy_parked_profile_neither_stops_others_nor_fills_the_memory() {
    let mut bench = Bench::new(destination());
    bench.add(&[7]);
    assert_eq!(bench.sends(), [1]);
    bench.end(1, asking(500, 3_600));
    let busy = vec![7; 20_000];
    bench.add(&busy);
    bench.add(&[8]);
    assert_eq!(bench.sends(), [20_002]);
    assert!(bench.dispatcher.queue().payload_bytes() <= PAYLOAD_BYTES_MAX);
    bench.end(20_002, status(200));
    let mark = bench.dispatcher.progress(bench.tick(), Writing::Running);
    assert_eq!((mark.watermark, mark.done), (1, vec![(20_002, 20_002)]));
}

#[test]
fn a_backlog_much_larger_than_the_window_fills_no_more_than_it() {
    const BACKLOG: u64 = OPEN_MAX as u64 + 30_000;
    let mut settings = destination();
    (settings.breaker_failures, settings.max_requests_per_second) = (u32::MAX, u32::MAX);
    settings.retry.max_retries = 10;
    let mut bench = Bench::new(settings);
    bench.add(&(0..BACKLOG).collect::<Vec<_>>());
    // Everything fails and waits an hour, with an answer of a kilobyte.
    let answer = vec![b'x'; 1_024];
    let retry_after = Some(Duration::from_hours(1));
    loop {
        let sent = bench.sends();
        let queue = bench.dispatcher.queue();
        assert!(queue.payload_bytes() <= PAYLOAD_BYTES_MAX);
        if sent.is_empty() {
            break;
        }
        for sequence in sent {
            bench.end(sequence, Outcome::Status { code: 500, retry_after, answer: answer.clone() });
        }
    }
    let queue = bench.dispatcher.queue();
    // The last piece read may reach over it.
    assert!((OPEN_MAX..OPEN_MAX + 10_000).contains(&queue.len()), "{}", queue.len());
    assert_eq!(queue.parked(), queue.len());
    assert!(bench.dispatcher.window().unread() > 10_000);
    let (attempts, bytes) = queue.attempts_held();
    assert_eq!(attempts, queue.len());
    assert!(attempts <= ATTEMPTS_MAX && bytes <= ANSWER_BYTES_MAX, "{attempts}, {bytes} bytes");
    let mark = bench.dispatcher.progress(bench.tick(), Writing::Running);
    assert_eq!((mark.watermark, mark.done), (1, vec![]));
}

#[test]
fn a_window_full_of_one_profile_goes_on_in_order_once_that_one_does() {
    let mut settings = destination();
    settings.max_requests_per_second = u32::MAX;
    let mut bench = Bench::new(settings);
    bench.add(&[7]);
    assert_eq!(bench.sends(), [1]);
    bench.end(1, asking(500, 3_600));
    bench.add(&vec![7; OPEN_MAX + 20_000]);
    bench.add(&[8]);
    let last = OPEN_MAX as u64 + 20_002;
    assert_eq!(bench.sends(), NONE, "there is nothing else in the window");
    assert!(bench.dispatcher.queue().len() < OPEN_MAX + 10_000);
    assert!(bench.dispatcher.queue().payload_bytes() <= PAYLOAD_BYTES_MAX);
    bench.ms = 3_700_000;
    let mut expected = 1;
    loop {
        let sent = bench.sends();
        assert!(sent.contains(&expected), "{expected} is next of {sent:?}");
        if sent.contains(&last) {
            break;
        }
        bench.end(expected, status(200));
        expected += 1;
        assert!(expected < 25_000, "the other profile is reached when the window moves");
    }
}
