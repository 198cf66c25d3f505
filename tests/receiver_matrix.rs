//! Every way in which an endpoint can answer or fail to, and what becomes of the export
//! (`SPEC.md` §8).
//!
//! Each row has a receiver, a destination and a dataflow of its own, and all rows run at once. What
//! TLS adds is in `tls`, what names add is tested beside the resolver, whose clock can be set there.

use std::time::Duration;

use forebay_engine::engine::Engine;
use forebay_engine::views::DataflowView;
use forebay_tests::clock::Deadline;
use forebay_tests::configuration::{EVENT_CLOCK, rule};
use forebay_tests::place::feed;
use forebay_tests::{Exchange, HandClock, Place, RawReceiver, Record, Step};

/// How a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Delivered.
    Delivered,
    /// Two exports of one profile, both delivered.
    BothDelivered,
    /// Given up.
    DeadLetter,
    /// Kept, the destination paused until the next run.
    Paused,
    /// To be sent again at a time that the test does not live to see.
    Waiting,
}
use End::{BothDelivered, DeadLetter, Delivered, Paused, Waiting};

/// One way to answer.
struct Row {
    /// What it shows.
    name: String,
    script: Vec<Exchange>,
    timeout: &'static str,
    end: End,
    /// How often it was the receiver's turn until then.
    turns: usize,
    /// A part of the last error.
    said: &'static str,
}

/// Longer than anything here takes.
const PATIENT: &str = "20s";
/// For receivers that do not answer.
const SHORT: &str = "1500ms";

fn row(name: impl Into<String>, script: Vec<Exchange>, (end, turns): (End, usize)) -> Row {
    Row { name: name.into(), script, timeout: PATIENT, end, turns, said: "" }
}

impl Row {
    fn within(self, timeout: &'static str) -> Self {
        Self { timeout, ..self }
    }

    fn saying(self, said: &'static str) -> Self {
        Self { said, ..self }
    }
}

/// These bytes, and the connection is kept.
fn send(bytes: &str) -> Exchange {
    Exchange::Answer(vec![Step::Send(bytes.as_bytes().to_vec())])
}

/// These bytes and then this.
fn send_and(bytes: &str, step: Step) -> Exchange {
    Exchange::Answer(vec![Step::Send(bytes.as_bytes().to_vec()), step])
}

/// A status with these header lines and no body.
fn status(code: u16, headers: &str) -> Exchange {
    send(&format!("HTTP/1.1 {code} Scripted\r\n{headers}Content-Length: 0\r\n\r\n"))
}

fn statuses() -> Vec<Row> {
    let mut rows = Vec::new();
    for code in [200, 201, 202, 204, 299] {
        rows.push(row(code.to_string(), vec![status(code, "")], (Delivered, 1)));
    }
    for code in [300, 301, 302, 303, 304, 307, 308] {
        let elsewhere = "Location: /elsewhere\r\n";
        let once = vec![status(code, elsewhere)];
        rows.push(row(format!("{code}, not followed"), once, (DeadLetter, 1)).saying("status 3"));
    }
    for code in [400, 401, 402, 404, 405, 406, 411, 413, 414, 415, 418, 422, 428, 431, 451, 499] {
        let once = vec![status(code, "")];
        rows.push(row(code.to_string(), once, (DeadLetter, 1)).saying("status 4"));
    }
    for code in [501, 505, 507, 511, 599] {
        let once = vec![status(code, "")];
        rows.push(row(code.to_string(), once, (DeadLetter, 1)).saying("status 5"));
    }
    for code in [403, 408, 409, 425, 429, 500, 502, 503, 504] {
        let name = format!("{code}, then all is well");
        rows.push(row(name, vec![status(code, "")], (Delivered, 2)));
        let always = vec![status(code, ""); 3];
        rows.push(row(format!("{code} for ever"), always, (DeadLetter, 3)).saying("status"));
    }
    rows.push(row("410", vec![status(410, "")], (Paused, 1)).saying("status 410"));
    let then_gone = vec![status(500, ""), status(410, "")];
    rows.push(row("410 after a failure", then_gone, (Paused, 2)).saying("status 410"));
    rows
}

fn waits() -> Vec<Row> {
    // (what it shows, the header's value, how it ends)
    let cases = [
        ("no seconds", "0", (Delivered, 2)),
        ("two hours, which become one", "7200", (Waiting, 1)),
        ("more than any number", "99999999999999999999999999", (Waiting, 1)),
        ("a date gone by", "Wed, 21 Oct 2015 07:28:00 GMT", (Delivered, 2)),
        ("a date far off", "Fri, 31 Dec 2100 23:59:59 GMT", (Waiting, 1)),
        ("garbage", "soon", (Delivered, 2)),
        ("a negative number", "-3600", (Delivered, 2)),
        ("nothing", "", (Delivered, 2)),
        ("bytes beyond ASCII", "\u{e9}", (Delivered, 2)),
    ];
    let mut rows = Vec::new();
    for (name, value, end) in cases {
        // 409 asks for the one export, the others for the whole dataflow.
        for code in [429, 503, 409] {
            let header = format!("Retry-After: {value}\r\n");
            let name = format!("{code} with Retry-After: {name}");
            rows.push(row(name, vec![status(code, &header)], end));
        }
    }
    let header = "Retry-After: 7200\r\n";
    rows.push(row("400 with Retry-After", vec![status(400, header)], (DeadLetter, 1)));
    rows.push(row("200 with Retry-After", vec![status(200, header)], (Delivered, 1)));
    rows
}

fn connections() -> Vec<Row> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let half_head = "HTTP/1.1 200 OK\r\nContent-Le";
    let half_body = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let unasked = |step| vec![Exchange::Unasked(vec![step])];
    let closed_before = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let quiet = Exchange::Answer(vec![Step::Hang]);
    let three = vec![
        Exchange::Answer(vec![Step::Reset]),
        Exchange::Answer(vec![Step::Close]),
        status(503, ""),
    ];
    vec![
        row("a reset before anything", unasked(Step::Reset), (Delivered, 2)),
        row("an end before anything", unasked(Step::Close), (Delivered, 2)),
        row("a reset for an answer", vec![send_and("", Step::Reset)], (Delivered, 2)),
        row("an end for an answer", vec![send_and("", Step::Close)], (Delivered, 2)),
        row("a reset within the header", vec![send_and(half_head, Step::Reset)], (Delivered, 2)),
        row("an end within the header", vec![send_and(half_head, Step::Close)], (Delivered, 2)),
        row("a reset within the body", vec![send_and(half_body, Step::Reset)], (Delivered, 2)),
        row("half a body", vec![send_and(half_body, Step::Close)], (Delivered, 2)),
        row("half a body, for ever", vec![send_and(half_body, Step::Close); 3], (DeadLetter, 3)),
        row("nothing but failures", three, (DeadLetter, 3)).saying("status 503"),
        row("silence", vec![quiet.clone()], (Delivered, 2)).within(SHORT).saying("timeout"),
        row("silence, for ever", vec![quiet; 3], (DeadLetter, 3)).within(SHORT).saying("timeout"),
        row("a header that stops", vec![send_and(half_head, Step::Hang)], (Delivered, 2))
            .within(SHORT)
            .saying("timeout"),
        row("a body that stops", vec![send_and(half_body, Step::Hang)], (Delivered, 2))
            .within(SHORT)
            .saying("timeout"),
        // One retry goes over the kept connection, so it must not meet its end half-way.
        row(
            "a connection that ends after its answer",
            vec![send_and(ok, Step::Close)],
            (BothDelivered, 2),
        ),
        row("one that is reset after it", vec![send_and(ok, Step::Reset)], (BothDelivered, 2)),
        row("one whose end was announced", vec![send(closed_before)], (BothDelivered, 2)),
        row("one that is kept", vec![send(ok)], (BothDelivered, 2)),
        row(
            "one that is reset when the next request comes, which costs no attempt",
            vec![send(ok), Exchange::Answer(vec![Step::Reset])],
            (BothDelivered, 3),
        ),
    ]
}

fn drips() -> Vec<Row> {
    let drip = |text: &str, ms| Step::Trickle(text.as_bytes().to_vec(), Duration::from_millis(ms));
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nslow!";
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n";
    let answer = |steps: Vec<Step>| vec![Exchange::Answer(steps)];
    let body = Step::Trickle(vec![b'.'; 99_999], Duration::from_millis(20));
    vec![
        row("byte by byte, in time", answer(vec![drip(whole, 2)]), (Delivered, 1)),
        row("a header too slow", answer(vec![drip(&"H".repeat(9_999), 20)]), (Delivered, 2))
            .within(SHORT),
        row(
            "a body too slow",
            answer(vec![Step::Send(long.as_bytes().to_vec()), body]),
            (Delivered, 2),
        )
        .within(SHORT)
        .saying("timeout"),
    ]
}

fn bodies() -> Vec<Row> {
    let answer = |headers: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}");
    let length = |length: &str, body: &str| answer(&format!("Content-Length: {length}\r\n"), body);
    let chunks = |body: &str| answer("Transfer-Encoding: chunked\r\n", body);
    let large = length("200000", &"x".repeat(200_000));
    let many = answer(&format!("X-Long: {}\r\n", "x".repeat(40_000)), "");
    let good = |name, text: String| row(name, vec![send(&text)], (BothDelivered, 2));
    let bad = |name, text: String| row(name, vec![send_and(&text, Step::Close)], (Delivered, 2));
    vec![
        good("204 with a body", "HTTP/1.1 204 No Content\r\n\r\nboo".to_owned()),
        good("a body longer than said", length("2", "{} and more")),
        good("a large body", large),
        good("chunks", chunks("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")),
        row(
            "a body up to the end",
            vec![send_and(&answer("", "text"), Step::Close)],
            (BothDelivered, 2),
        ),
        row(
            "HTTP/1.0",
            vec![send_and("HTTP/1.0 200 OK\r\n\r\ntext", Step::Close)],
            (BothDelivered, 2),
        ),
        bad("a body shorter than said", length("100", "{}")),
        bad("a length that is no number", length("ten", "0123456789")),
        bad("a chunk whose length is no number", chunks("zz\r\nabc\r\n0\r\n\r\n")),
        bad("a chunk that breaks off", chunks("ff\r\nabc")),
        bad("chunks without the last", chunks("3\r\nabc\r\n")),
        bad("a header longer than any", many),
        row("a body shorter than said, open", vec![send(&length("100", "{}"))], (Delivered, 2))
            .within(SHORT)
            .saying("timeout"),
    ]
}

fn protocols() -> Vec<Row> {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let after = |first: &str| vec![send(&format!("{first}\r\n\r\n{ok}"))];
    let garbage =
        |bytes: &[u8]| vec![Exchange::Answer(vec![Step::Send(bytes.to_vec()), Step::Close])];
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing";
    vec![
        row("100 before the answer", after("HTTP/1.1 100 Continue"), (BothDelivered, 2)),
        row("103 before the answer", after("HTTP/1.1 103 Early Hints"), (BothDelivered, 2)),
        row("several of them", after(hints), (BothDelivered, 2)),
        row(
            "100 and no answer",
            vec![send_and("HTTP/1.1 100 Continue\r\n\r\n", Step::Close)],
            (Delivered, 2),
        ),
        row("another protocol", garbage(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), (Delivered, 2)),
        row("a TLS alert", garbage(b"\x15\x03\x01\x00\x02\x02\x46"), (Delivered, 2)),
        row("zeros", garbage(&[0; 512]), (Delivered, 2)),
        row("a status that is no number", garbage(b"HTTP/1.1 OK\r\n\r\n"), (Delivered, 2)),
        row("a page and no header", garbage(b"<html>hello</html>\r\n\r\n"), (Delivered, 2)),
    ]
}

fn matrix() -> Vec<Row> {
    [statuses(), waits(), connections(), drips(), bodies(), protocols()]
        .into_iter()
        .flatten()
        .collect()
}

fn configuration(rows: &[Row], receivers: &[RawReceiver]) -> String {
    let table = |(number, (row, receiver)): (usize, (&Row, &RawReceiver))| {
        // Where two exports are wanted, the second write of `n` makes the second.
        let mapped = if row.end == BothDelivered { "\"n\"" } else { "\"other\"" };
        format!(
            "\n[[destination]]\nid = \"s{number}\"\nendpoint = \"{}/in\"\ntimeout = \"{}\"\n\
             retry = {{ max_retries = 2, backoff = [\"10ms\"] }}\n\
             [[dataflow]]\nid = \"d{number}\"\ndestination = \"s{number}\"\n\
             audiences = [\"any\"]\nattributes = [{mapped}]\n",
            receiver.url(),
            row.timeout,
        )
    };
    let tables: Vec<String> = rows.iter().zip(receivers).enumerate().map(table).collect();
    [EVENT_CLOCK, &rule("any", "n >= 1"), &tables.concat()].concat()
}

/// What has become of a row's exports, as far as it can be told from outside.
fn end(view: &DataflowView) -> Option<End> {
    match (view.delivered, view.dead_letters, view.state.as_str(), view.parked) {
        (1, 0, _, _) => Some(Delivered),
        (2, 0, _, _) => Some(BothDelivered),
        (0, 1, _, _) => Some(DeadLetter),
        (0, 0, "gone", _) => Some(Paused),
        (0, 0, _, 1) => Some(Waiting),
        _ => None,
    }
}

fn views(engine: &Engine, rows: usize) -> Vec<DataflowView> {
    let mut views = engine.dataflows().expect("the engine answers");
    views.sort_by_key(|view| view.id[1..].parse::<usize>().expect("its id holds its number"));
    assert_eq!(views.len(), rows);
    views
}

#[test]
fn each_answer_has_its_consequence() {
    let rows = matrix();
    let receivers: Vec<_> = rows.iter().map(|row| RawReceiver::start(row.script.clone())).collect();
    let place = Place::new(&configuration(&rows, &receivers));
    let engine = place.open();
    let records =
        [1, 2].map(|n| Record::profile("c").at("01T00:00:00").with(&format!("\"n\":{n}")));
    feed(&engine, &forebay_tests::record::ndjson(&records));
    let ended = |views: &[DataflowView]| {
        let mut all = rows.iter().zip(views).zip(&receivers);
        all.all(|((row, view), receiver)| {
            end(view) == Some(row.end) && receiver.exchanges() >= row.turns
        })
    };
    let deadline = Deadline::new();
    let mut seen = views(&engine, rows.len());
    while !ended(&seen) && !deadline.has_passed() {
        std::thread::park_timeout(Duration::from_millis(20));
        seen = views(&engine, rows.len());
    }
    engine.close().unwrap();
    let mut wrong = Vec::new();
    for ((row, view), receiver) in rows.iter().zip(&seen).zip(&receivers) {
        wrong.extend(fault(row, view, receiver.exchanges()));
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// In what `row` came out otherwise than it should have.
fn fault(row: &Row, view: &DataflowView, turns: usize) -> Option<String> {
    // A turn beyond the first of each export is a retry, but for those that cost no attempt.
    let retries = match row.end {
        Delivered | DeadLetter => row.turns - 1,
        BothDelivered | Waiting | Paused => 0,
    };
    let said = view.last_error.as_deref().unwrap_or_default();
    let is_right = end(view) == Some(row.end)
        && turns == row.turns
        && view.retries == retries as u64
        && said.contains(row.said);
    (!is_right).then(|| {
        let got = (end(view), turns, view.retries, said);
        format!("{}: {got:?}, not {:?}", row.name, (row.end, row.turns, retries, row.said))
    })
}

#[test]
fn no_wish_to_wait_is_longer_than_an_hour() {
    let receiver = RawReceiver::start(vec![status(503, "Retry-After: 999999\r\n")]);
    let rows = [row("", Vec::new(), (Delivered, 1))];
    let clock = std::sync::Arc::new(HandClock::at("2026-01-01T00:00:00Z"));
    let text = configuration(&rows, std::slice::from_ref(&receiver));
    let place = Place::with_clock(&text, clock.clone());
    let engine = place.open();
    let record = |customer| Record::profile(customer).at("01T00:00:00").with("\"n\":1").to_string();
    let view = || engine.dataflows().unwrap().remove(0);
    let wait = |what: &str, wanted: &dyn Fn(&DataflowView) -> bool| {
        Deadline::new().until(what, || wanted(&view()));
    };
    feed(&engine, &record("a"));
    wait("the first is parked", &|view| view.parked == 1);
    // Each record wakes the dataflow, which then looks at the clock.
    clock.pass(Duration::from_secs(3590));
    feed(&engine, &record("b"));
    wait("the second is stored", &|view| view.waiting == 2);
    assert_eq!(receiver.exchanges(), 1, "the whole dataflow waits for the hour to pass");
    clock.pass(Duration::from_secs(10));
    feed(&engine, &record("c"));
    wait("all are delivered", &|view| view.delivered == 3);
    engine.close().unwrap();
}
