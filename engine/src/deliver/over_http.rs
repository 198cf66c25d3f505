//! All of delivery against a real receiver: threads, sockets, tokens, and what it says of itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::backlog::{Backlog, ProfileKey};
use super::delivery::{Delivery, DeliverySetup};
use super::error::DeliveryError;
use super::export_id::ExportId;
use super::memory::MemoryBacklog;
use super::outcome::Outcome;
use super::receiver::{OK, Receiver, Reply};
use super::request::Request;
use super::settings::{
    AuthSettings, CredentialsStyle, DataflowSettings, DestinationSettings, OauthClient, Sending,
};
use super::state::DrainState;
use super::transport::Transport;
use super::withdrawal::Withdrawal;
use crate::clock::{Clock, Moment, SystemClock};
use crate::secret::Secret;

const NO: Reply = Reply::Bytes("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
const UNAUTHORIZED: Reply = Reply::Bytes("HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n");

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn destination(receiver: &Receiver) -> DestinationSettings {
    let mut settings = DestinationSettings::new("sink", receiver.url("/in"));
    settings.retry.backoff = vec![Duration::from_millis(30)];
    settings
}

fn setup(settings: DestinationSettings, backlog: &Arc<MemoryBacklog>) -> DeliverySetup {
    DeliverySetup {
        log_id: [7; 16],
        destinations: vec![settings],
        dataflows: vec![DataflowSettings::new("flow", "sink")],
        backlog: Arc::clone(backlog) as Arc<dyn Backlog>,
        clock: Arc::new(SystemClock::new()),
        seed: 1,
    }
}

/// Waits until the dataflow's state is one that `wanted` takes.
fn wait(delivery: &Delivery, wanted: impl Fn(&DrainState) -> bool) -> DrainState {
    let clock = SystemClock::new();
    let mut seen = 0;
    loop {
        let state = delivery.drained("flow").unwrap();
        if wanted(&state) {
            return state;
        }
        assert!(clock.moment().as_nanos() < 20_000_000_000, "still {state:?}");
        // Short, because the state may change in ways that are no change of kind.
        let deadline = clock.moment().plus(Duration::from_millis(50));
        seen = delivery.wait_for_change(seen, deadline);
    }
}

fn add(delivery: &Delivery, backlog: &MemoryBacklog, profiles: impl IntoIterator<Item = u64>) {
    for profile in profiles {
        delivery.notify("flow", backlog.add(profile));
    }
}

fn client(receiver: &Receiver) -> OauthClient {
    OauthClient {
        token_url: receiver.url("/token"),
        client_id: "id".to_owned(),
        client_secret: Secret::new("s3cret".to_owned()),
    }
}

fn token(name: &str, more: &str) -> Reply {
    let body = format!("{{\"access_token\":\"{name}\",\"token_type\":\"Bearer\"{more}}}");
    Reply::Text(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn exports_arrive_in_order_and_are_done() {
    let receiver = Receiver::start(|number, _| if number == 0 { NO } else { OK });
    let backlog = Arc::new(MemoryBacklog::default());
    let delivery = Delivery::start(setup(destination(&receiver), &backlog)).unwrap();
    add(&delivery, &backlog, (0..300).map(|n| n % 10));
    wait(&delivery, |state| *state == DrainState::Idle);
    let stats = delivery.stats("flow").unwrap();
    delivery.stop().unwrap();
    assert_eq!((stats.delivered, stats.retries, stats.dead_letters), (300, 1, 0));
    assert_eq!(stats.request_latency.count, 301);
    assert_eq!(backlog.stored().progress.watermark, 301);
    let mut last = [0; 10];
    for seen in receiver.seen() {
        let sequence: u64 = seen.header("forebay-sequence").unwrap().parse().unwrap();
        let profile = usize::try_from((sequence - 1) % 10).unwrap();
        assert!(sequence >= last[profile], "{sequence} came after {}", last[profile]);
        last[profile] = sequence;
        let id = ExportId::parse(seen.header("webhook-id").unwrap()).unwrap();
        assert_eq!((id.sequence, id.dataflow.as_str(), id.log_id), (sequence, "flow", [7; 16]));
        assert_eq!(seen.header("forebay-dataflow"), Some("flow"));
    }
}

#[test]
fn a_destination_that_only_refuses_is_paused_and_gets_all_in_the_next_run() {
    let busy = || Reply::Bytes("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let receiver = Receiver::start(move |_, _| busy());
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    (settings.max_in_flight, settings.breaker_failures) = (1, 2);
    settings.probe_interval = Duration::from_millis(50);
    settings.retry.max_retries = 5;
    let delivery = Delivery::start(setup(settings.clone(), &backlog)).unwrap();
    add(&delivery, &backlog, 1..=4);
    let paused = wait(&delivery, |state| {
        let long = Duration::from_millis(400);
        matches!(state, DrainState::PausedByBreaker { paused_for, .. } if *paused_for > long)
    });
    assert!(
        matches!(paused, DrainState::PausedByBreaker { last_error, .. } if last_error == "status 503")
    );
    let numbers = delivery.stats("flow").unwrap();
    assert_eq!((numbers.delivered, numbers.retries, numbers.dead_letters), (0, 0, 0));
    let state = delivery.state("flow").unwrap();
    assert_eq!((state.open + state.unread, state.durable), (4, 4));
    delivery.stop().unwrap();

    let receiver = Receiver::start(|_, _| OK);
    settings.endpoint = receiver.url("/in");
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    delivery.notify("flow", 4);
    wait(&delivery, |state| *state == DrainState::Idle);
    assert_eq!(delivery.stats("flow").unwrap().delivered, 4);
    delivery.stop().unwrap();
}

#[test]
fn a_destination_that_is_gone_is_said_to_be() {
    let gone = || Reply::Bytes("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n");
    let receiver = Receiver::start(move |_, _| gone());
    let backlog = Arc::new(MemoryBacklog::default());
    let delivery = Delivery::start(setup(destination(&receiver), &backlog)).unwrap();
    add(&delivery, &backlog, [1, 1]);
    let state = wait(&delivery, |state| matches!(state, DrainState::PausedBy410 { .. }));
    assert_eq!(state, DrainState::PausedBy410 { last_error: "status 410".to_owned() });
    delivery.stop().unwrap();
    assert_eq!(receiver.seen().len(), 1);
    assert_eq!(backlog.stored().progress.watermark, 1);
}

#[test]
fn a_paused_dataflow_stores_until_it_is_unpaused() {
    let receiver = Receiver::start(|_, _| OK);
    let backlog = Arc::new(MemoryBacklog::default());
    let mut setup = setup(destination(&receiver), &backlog);
    setup.dataflows[0].sending = Sending::Paused;
    let destinations = setup.destinations.clone();
    let delivery = Delivery::start(setup).unwrap();
    add(&delivery, &backlog, [1, 2]);
    wait(&delivery, |state| *state == DrainState::PausedByConfig);
    assert_eq!(delivery.state("flow").unwrap().unread, 2);
    let prepared = delivery.prepare(destinations, vec![DataflowSettings::new("flow", "sink")]);
    delivery.change(prepared.unwrap()).unwrap();
    wait(&delivery, |state| *state == DrainState::Idle);
    delivery.stop().unwrap();
    assert_eq!(receiver.seen().len(), 2);
}

#[test]
fn what_a_receiver_asked_to_wait_outlives_another_rate() {
    const BUSY: Reply =
        Reply::Bytes("HTTP/1.1 429 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    let clock = SystemClock::new();
    let times: Arc<Mutex<Vec<Moment>>> = Arc::default();
    let seen = Arc::clone(&times);
    let receiver = Receiver::start(move |request, _| {
        seen.lock().unwrap().push(clock.moment());
        if request == 0 { BUSY } else { OK }
    });
    let backlog = Arc::new(MemoryBacklog::default());
    let setup = setup(destination(&receiver), &backlog);
    let mut slower = setup.destinations.clone();
    slower[0].max_requests_per_second = 10;
    let delivery = Delivery::start(setup).unwrap();
    add(&delivery, &backlog, [1]);
    wait(&delivery, |_| delivery.state("flow").is_some_and(|state| state.parked == 1));
    let prepared = delivery.prepare(slower, vec![DataflowSettings::new("flow", "sink")]);
    delivery.change(prepared.unwrap()).unwrap();
    delivery.notify("flow", 1);
    add(&delivery, &backlog, [2]);
    wait(&delivery, |state| *state == DrainState::Idle);
    delivery.stop().unwrap();
    let times = times.lock().unwrap();
    let rested = times[1].since(times[0]);
    assert!(rested >= Duration::from_secs(1), "{rested:?}");
    assert_eq!(times.len(), 3);
}

#[test]
fn one_token_serves_all_senders() {
    let receiver = Receiver::start(|_, seen| match seen.path() {
        "/token" => token("tok-1", ",\"expires_in\":3600"),
        _ if seen.header("authorization") == Some("Bearer tok-1") => OK,
        _ => UNAUTHORIZED,
    });
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    let style = CredentialsStyle::BasicAuthorization;
    settings.auth = AuthSettings::ClientCredentials { client: client(&receiver), style };
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    add(&delivery, &backlog, 1..=50);
    wait(&delivery, |state| *state == DrainState::Idle);
    delivery.stop().unwrap();
    let seen = receiver.seen();
    let tokens: Vec<_> = seen.iter().filter(|seen| seen.path() == "/token").collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].body(), "grant_type=client_credentials");
    assert_eq!(tokens[0].header("authorization"), Some("Basic aWQ6czNjcmV0"));
    assert_eq!(tokens[0].header("webhook-id"), None);
    assert_eq!(seen.len(), 51);
}

#[test]
fn a_refused_token_is_renewed_outside_the_count() {
    let tokens = std::sync::atomic::AtomicUsize::new(0);
    let receiver = Receiver::start(move |_, seen| match (seen.path(), seen.body()) {
        ("/token", body) => {
            let number = tokens.fetch_add(1, Ordering::SeqCst);
            let expected = ["grant_type=password", "grant_type=refresh_token&refresh_token=r0"];
            assert!(body.starts_with(expected[number]), "{body}");
            token(&format!("tok-{number}"), &format!(",\"refresh_token\":\"r{number}\""))
        }
        _ if seen.header("authorization") == Some("Bearer tok-1") => OK,
        _ => UNAUTHORIZED,
    });
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    settings.retry.max_retries = 0;
    settings.auth = AuthSettings::Password {
        client: client(&receiver),
        username: "ann".to_owned(),
        password: Secret::new("pw".to_owned()),
    };
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    add(&delivery, &backlog, [1, 1]);
    wait(&delivery, |state| *state == DrainState::Idle);
    let stats = delivery.stats("flow").unwrap();
    delivery.stop().unwrap();
    assert_eq!((stats.delivered, stats.retries, stats.dead_letters), (2, 0, 0));
    assert_eq!(receiver.seen().len(), 5, "token, refused, token, first, second");
}

#[test]
fn a_failing_token_endpoint_is_a_connection_error() {
    let no = Reply::Bytes("HTTP/1.1 400 No\r\nContent-Length: 6\r\n\r\ns3cret");
    let receiver = Receiver::start(move |_, seen| match seen.path() {
        "/token" => no.clone(),
        _ => OK,
    });
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    let style = CredentialsStyle::BodyFormEncoded;
    settings.auth = AuthSettings::ClientCredentials { client: client(&receiver), style };
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    add(&delivery, &backlog, [1]);
    wait(&delivery, |state| *state == DrainState::Idle);
    assert_eq!(delivery.stats("flow").unwrap().outcomes.connection, 3);
    delivery.stop().unwrap();
    let letter = backlog.stored().dead[&1].0.clone();
    assert_eq!(letter.attempts.len(), 3, "retried as often as any");
    assert_eq!(letter.attempts[0].error, "token endpoint: status 400");
    assert!(receiver.seen().iter().all(|seen| seen.path() == "/token"));
}

#[test]
fn dead_letters_are_replayed_while_it_runs() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let receiver = Receiver::start(move |_, _| {
        let no = Reply::Bytes("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
        if well.load(Ordering::SeqCst) { OK } else { no }
    });
    let backlog = Arc::new(MemoryBacklog::default());
    let delivery = Delivery::start(setup(destination(&receiver), &backlog)).unwrap();
    add(&delivery, &backlog, [1]);
    wait(&delivery, |state| *state == DrainState::Idle);
    is_well.store(true, Ordering::SeqCst);
    backlog.stored().dead.get_mut(&1).unwrap().1 = true;
    delivery.replay("flow");
    for _ in 0..500 {
        if backlog.stored().dead.is_empty() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    delivery.stop().unwrap();
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[0].body(), seen[1].body());
}

#[test]
fn erased_profiles_are_withdrawn_before_it_says_so() {
    let receiver = Receiver::start(|_, _| NO);
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    settings.retry.backoff = vec![LONG];
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    add(&delivery, &backlog, [1, 1, 1]);
    wait(&delivery, |_| delivery.state("flow").unwrap().parked == 1);
    let mut erased = Withdrawal::default();
    erased.add_profile(ProfileKey { policy: 0, profile: 1 });
    assert_eq!(delivery.withdraw(&Arc::new(erased)), ["flow".to_owned()].into());
    assert!(backlog.stored().exports.is_empty(), "nor is it stored");
    assert_eq!(delivery.drained("flow"), Some(DrainState::Idle));
    delivery.stop().unwrap();
}

#[test]
fn a_stop_cuts_off_what_hangs_and_keeps_it() {
    let receiver = Receiver::start(|_, _| Reply::Bytes(""));
    let backlog = Arc::new(MemoryBacklog::default());
    let mut settings = destination(&receiver);
    settings.timeout = LONG * 3;
    let delivery = Delivery::start(setup(settings, &backlog)).unwrap();
    add(&delivery, &backlog, [1]);
    wait(&delivery, |_| delivery.state("flow").unwrap().in_flight == 1);
    let clock = SystemClock::new();
    delivery.stop().unwrap();
    assert!(clock.moment().as_nanos() < 8_000_000_000);
    let progress = backlog.stored().progress.clone();
    assert_eq!((progress.watermark, progress.attempted), (1, vec![]), "no attempt was counted");
}

#[test]
fn a_broken_store_stops_delivery() {
    let receiver = Receiver::start(|_, _| OK);
    let backlog = Arc::new(MemoryBacklog::default());
    let delivery = Delivery::start(setup(destination(&receiver), &backlog)).unwrap();
    backlog.stored().is_broken = true;
    add(&delivery, &backlog, [1]);
    let (clock, mut seen) = (SystemClock::new(), 0);
    while delivery.failure().is_none() {
        assert!(clock.moment().as_nanos() < 20_000_000_000, "nothing was reported");
        seen = delivery.wait_for_change(seen, clock.moment().plus(Duration::from_millis(200)));
    }
    let error = delivery.stop().unwrap_err();
    assert!(matches!(*error, DeliveryError::Backlog(_)), "{error}");
}

#[test]
fn a_panic_in_a_sender_stops_delivery() {
    struct Panicking;
    impl Transport for Panicking {
        fn send(&self, _: &Request) -> Outcome {
            panic!("on purpose");
        }
    }
    let backlog = Arc::new(MemoryBacklog::default());
    let settings = DestinationSettings::new("sink", "http://127.0.0.1/".parse().unwrap());
    let delivery =
        Delivery::start_with(setup(settings, &backlog), |_| Ok(Arc::new(Panicking))).unwrap();
    add(&delivery, &backlog, [1]);
    let (clock, mut seen) = (SystemClock::new(), 0);
    while delivery.failure().is_none() {
        assert!(clock.moment().as_nanos() < 20_000_000_000, "nothing was reported");
        seen = delivery.wait_for_change(seen, clock.moment().plus(Duration::from_millis(200)));
    }
    let error = delivery.stop().unwrap_err();
    let DeliveryError::Panicked { thread } = &*error else { panic!("{error}") };
    assert!(thread.starts_with("forebay-send-flow"), "{thread}");
}

#[test]
fn settings_that_cannot_work_are_refused_at_start() {
    let backlog = Arc::new(MemoryBacklog::default());
    let settings = DestinationSettings::new("sink", "http://example.com/".parse().unwrap());
    let error = Delivery::start(setup(settings.clone(), &backlog)).err().unwrap();
    assert_eq!(error.to_string(), "destination sink: http:// needs allow_insecure = true");
    let mut setup = setup(settings, &backlog);
    setup.destinations.clear();
    let error = Delivery::start(setup).err().unwrap();
    assert_eq!(error.to_string(), "dataflow flow names no known destination");
}
