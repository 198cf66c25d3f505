//! The transport against endpoints that misbehave, over real sockets.

mod names;

use std::sync::Arc;
use std::time::Duration;

use super::{HttpTransport, Transport};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::deliver::memory::export;
use crate::deliver::outcome::Outcome;
use crate::deliver::receiver::{OK, Receiver, Reply};
use crate::deliver::request::{Request, RequestTemplate};
use crate::deliver::settings::{DestinationSettings, HeaderText};
use crate::secret::Secret;

const TIMEOUT: Duration = Duration::from_millis(300);

fn settings(url: url::Url) -> DestinationSettings {
    DestinationSettings { timeout: TIMEOUT, ..DestinationSettings::new("sink", url) }
}

fn transport(settings: &DestinationSettings) -> HttpTransport {
    HttpTransport::new(settings, Arc::new(SystemClock::new())).unwrap()
}

fn request(settings: &DestinationSettings) -> Request {
    let template = RequestTemplate::new(settings, "flow", [0; 16]).unwrap();
    template.request(&export(1, 1), Timestamp::EPOCH)
}

/// What came of one request.
fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Status { code, retry_after: None, answer } => {
            format!("{code} {}", String::from_utf8_lossy(answer))
        }
        Outcome::Status { code, retry_after: Some(wait), .. } => {
            format!("{code} wait {}", wait.as_secs())
        }
        Outcome::Timeout => "timeout".to_owned(),
        Outcome::Connect(_) => "connect".to_owned(),
        Outcome::Refused(_) => "refused".to_owned(),
    }
}

/// (what it shows, what the endpoint does, outcome)
fn answers() -> Vec<(&'static str, Reply, &'static str)> {
    use Reply::{Bytes, Last};
    vec![
        ("an answer", OK, "200 {}"),
        ("no body", Bytes("HTTP/1.1 204 No Content\r\n\r\n"), "204 "),
        ("a body where none may be", Bytes("HTTP/1.1 204 No Content\r\n\r\nboo"), "204 "),
        (
            "a body in chunks",
            Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            "200 abc",
        ),
        ("a body to the end", Last("HTTP/1.1 422 No\r\n\r\nwhy"), "422 why"),
        ("an old answer", Last("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx"), "200 x"),
        (
            "a hint before the answer",
            Bytes(
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
            ),
            "201 ",
        ),
        (
            "a redirect, which is not followed",
            Bytes("HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n"),
            "302 ",
        ),
        (
            "a redirect without a place",
            Bytes("HTTP/1.1 307 Moved\r\nContent-Length: 0\r\n\r\n"),
            "307 ",
        ),
        (
            "a wish to wait",
            Bytes("HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"),
            "429 wait 7",
        ),
        (
            "an unreadable wish",
            Bytes("HTTP/1.1 503 Busy\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n"),
            "503 ",
        ),
    ]
}

/// (what it shows, what the endpoint does, outcome)
fn failures() -> Vec<(&'static str, Reply, &'static str)> {
    use Reply::{Bytes, Last, Reset, Slowly};
    vec![
        ("no HTTP", Bytes("SSH-2.0-OpenSSH_9.6\r\n\r\n"), "connect"),
        ("half a header", Last("HTTP/1.1 200 OK\r\nContent-"), "connect"),
        ("half a body", Last("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "connect"),
        (
            "a chunk that is no number",
            Bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"),
            "connect",
        ),
        (
            "a length that is no number",
            Bytes("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
            "connect",
        ),
        ("nothing at all", Last(""), "connect"),
        ("a reset", Reset, "connect"),
        ("silence", Bytes(""), "timeout"),
        (
            "a body that never ends",
            Bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"),
            "timeout",
        ),
        (
            "a header that drips",
            Slowly(vec!["HTTP/1.1 ", "200 ", "OK\r\n", "A: b\r\n", "C: d\r\n", "\r\n"], 80),
            "timeout",
        ),
        (
            "slow, but in time",
            Slowly(vec!["HTTP/1.1 200 OK\r\n", "Content-Length: 1\r\n\r\n", "x"], 40),
            "200 x",
        ),
    ]
}

#[test]
fn each_answer_has_its_outcome() {
    for (name, reply, expected) in answers().into_iter().chain(failures()) {
        let receiver = Receiver::start(move |_, _| reply.clone());
        let settings = settings(receiver.url("/in"));
        let clock = SystemClock::new();
        let outcome = transport(&settings).send(&request(&settings));
        assert_eq!(short(&outcome), expected, "{name}: {outcome:?}");
        let took = clock.moment().since(crate::clock::Moment::default());
        assert!(took < TIMEOUT * 2, "{name} took {took:?}");
        assert_eq!(receiver.seen().len(), 1, "{name}");
    }
}

#[test]
fn a_request_is_one_write_and_connections_are_kept() {
    let receiver = Receiver::start(|_, _| OK);
    let settings = settings(receiver.url("/in?a=1"));
    let (transport, request) = (transport(&settings), request(&settings));
    for _ in 0..20 {
        assert_eq!(short(&transport.send(&request)), "200 {}");
    }
    let seen = receiver.seen();
    assert!(seen.iter().all(|seen| seen.reads == 1 && seen.connection == 1), "{seen:?}");
    assert_eq!(seen[0].path(), "/in?a=1");
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("accept"), None);
    assert_eq!(seen[0].body().as_bytes(), &*request.body);
}

#[test]
fn a_large_body_and_a_large_answer_pass() {
    let long = format!("HTTP/1.1 400 No\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(200_000));
    let receiver = Receiver::start(move |_, _| Reply::Text(long.clone()));
    let mut settings = settings(receiver.url("/in"));
    settings.timeout = Duration::from_secs(10);
    let transport = transport(&settings);
    let body = Arc::from(vec![b'a'; 3_000_000]);
    let request = Request { body, ..request(&settings) };
    for _ in 0..2 {
        let Outcome::Status { code: 400, answer, .. } = transport.send(&request) else {
            panic!("no answer");
        };
        assert_eq!(answer.len(), 1_024, "of the answer the first KiB is kept");
    }
    let seen = receiver.seen();
    assert_eq!(seen[1].body().len(), 3_000_000);
    assert_eq!(seen[1].connection, 2, "an answer that long costs the connection");
}

#[test]
fn a_connection_that_was_closed_is_not_used_again() {
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::Last("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        1 => Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nunasked"),
        _ => OK,
    });
    let settings = settings(receiver.url("/in"));
    let (transport, request) = (transport(&settings), request(&settings));
    for _ in 0..3 {
        assert!(short(&transport.send(&request)).starts_with("200"));
        // The end of the connection may take a moment to come.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let connections: Vec<usize> = receiver.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [1, 2, 3]);
}

#[test]
fn a_request_that_meets_a_closing_connection_goes_over_a_new_one() {
    // A reset tells that the request was not taken in; a mere end may come after it was read.
    // (how the endpoint ends the connection at its second request, what becomes of that)
    for (second, expected) in [(Reply::Reset, "200 {}"), (Reply::Last(""), "connect")] {
        let receiver =
            Receiver::start(move |number, _| if number == 1 { second.clone() } else { OK });
        let settings = settings(receiver.url("/in"));
        let (transport, request) = (transport(&settings), request(&settings));
        assert_eq!(short(&transport.send(&request)), "200 {}");
        assert_eq!(short(&transport.send(&request)), expected);
    }
}

#[test]
fn secrets_that_an_endpoint_repeats_are_not_kept() {
    let receiver = Receiver::start(|_, seen| {
        let said = format!("who is {}?", seen.header("x-key").unwrap());
        let length = said.len();
        Reply::Text(format!("HTTP/1.1 401 No\r\nContent-Length: {length}\r\n\r\n{said}"))
    });
    let mut settings = settings(receiver.url("/in"));
    let key = HeaderText::Secret(Secret::new("hunter2".to_owned()));
    settings.headers = vec![("X-Key".to_owned(), key)];
    assert_eq!(short(&transport(&settings).send(&request(&settings))), "401 who is [secret]?");
}

#[test]
fn an_early_refusal_is_read_though_the_body_was_not() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let refuse = move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 512];
        let read = std::io::Read::read(&mut stream, &mut head).unwrap();
        assert!(read > 0);
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n";
        std::io::Write::write_all(&mut stream, answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // The rest is taken in, as a careful server does, so that no reset overtakes the answer.
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    };
    let server = std::thread::Builder::new().name("refuser".into()).spawn(refuse).unwrap();
    let settings = settings(url);
    let body = Arc::from(vec![b'a'; 4_000_000]);
    let request = Request { body, ..request(&settings) };
    assert_eq!(short(&transport(&settings).send(&request)), "413 ");
    server.join().unwrap();
}

#[test]
fn internal_addresses_and_plain_http_need_leave() {
    let receiver = Receiver::start(|_, _| OK);
    let localhost = format!("http://localhost:{}/in", receiver.port());
    let clock = || Arc::new(SystemClock::new());
    let mut named = settings(localhost.parse().unwrap());
    assert!(HttpTransport::new(&named, clock()).unwrap_err().contains("allow_insecure"));
    named.reach.allow_insecure = true;
    assert_eq!(short(&transport(&named).send(&request(&named))), "refused");
    assert!(receiver.seen().is_empty());
    named.reach.allow_private = true;
    assert_eq!(short(&transport(&named).send(&request(&named))), "200 {}");
    let private = settings("https://10.0.0.1/".parse().unwrap());
    assert_eq!(short(&transport(&private).send(&request(&private))), "refused");
    let ftp = settings("ftp://127.0.0.1/".parse().unwrap());
    assert!(HttpTransport::new(&ftp, clock()).is_err());
}

#[test]
fn requests_leave_from_the_source_address() {
    let receiver = Receiver::start(|_, _| OK);
    let mut settings = settings(receiver.url("/in"));
    settings.source_address = Some("127.0.0.9".parse().unwrap());
    assert_eq!(short(&transport(&settings).send(&request(&settings))), "200 {}");
    assert_eq!(receiver.seen()[0].from.ip().to_string(), "127.0.0.9");
    settings.source_address = Some("::1".parse().unwrap());
    assert_eq!(short(&transport(&settings).send(&request(&settings))), "connect");
}

#[test]
fn nobody_listening_is_a_connection_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let settings = settings(url);
    assert_eq!(short(&transport(&settings).send(&request(&settings))), "connect");
}

#[test]
fn an_abort_ends_open_requests() {
    let receiver = Receiver::start(|_, _| Reply::Bytes(""));
    let mut settings = settings(receiver.url("/in"));
    settings.timeout = Duration::from_secs(20);
    let transport = Arc::new(transport(&settings));
    let (sending, request) = (Arc::clone(&transport), request(&settings));
    let send = move || sending.send(&request);
    let thread = std::thread::Builder::new().name("sender".into()).spawn(send).unwrap();
    for _ in 0..500 {
        if !receiver.seen().is_empty() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    transport.abort();
    assert_eq!(short(&thread.join().unwrap()), "connect");
}

#[test]
fn certificates_are_checked_where_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for path in [empty, dir.path().join("missing.pem")] {
        let mut settings = settings("https://example.com/".parse().unwrap());
        settings.ca_file = Some(path.clone());
        let error = HttpTransport::new(&settings, Arc::new(SystemClock::new())).unwrap_err();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
