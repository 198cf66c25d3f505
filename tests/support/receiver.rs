//! An HTTP receiver on loopback that remembers what came and answers as a script says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay_engine::clock::{Clock, Moment, SystemClock};

use crate::{PATIENCE, Request};

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This status with an empty body.
    Status(u16),
    /// This status, these header lines (each ending in `\r\n`) and this body.
    With(u16, &'static str, &'static str),
    /// This status and this body.
    Text(u16, String),
    /// 200, so much later.
    After(Duration),
    /// 200 once [`Receiver::open_gate`] was called.
    AtGate,
    /// These bytes, whatever they are, and the end of the connection.
    Raw(&'static [u8]),
    /// The end of the connection.
    Drop,
    /// A 200 that comes byte by byte, one a second.
    Trickle,
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// Listens until it is dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    clock: SystemClock,
    script: Mutex<Arc<Script>>,
    seen: Mutex<Seen>,
    changed: Condvar,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    is_gate_open: bool,
    connections: Vec<TcpStream>,
}

impl Receiver {
    /// Answers everything with 200.
    pub fn start() -> Self {
        Self::scripted(|_, _| Answer::Status(200))
    }

    /// Answers as `script` says, which gets the request and its number among those of this
    /// receiver, from 0.
    pub fn scripted(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            script: Mutex::new(Arc::new(script)),
            seen: Mutex::default(),
            changed: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Answers differently from now on. Requests go on being numbered as they were.
    pub fn answer(&self, script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().expect("no script panics") = Arc::new(script);
    }

    /// Lets every request go that waits [at the gate](Answer::AtGate), now and later.
    pub fn open_gate(&self) {
        self.shared.seen().is_gate_open = true;
        self.shared.changed.notify_all();
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The moment on the clock that [`Request::at`] is told by.
    pub fn now(&self) -> Moment {
        self.shared.clock.moment()
    }

    /// Everything that arrived so far, in order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen().requests.clone()
    }

    /// What arrived for one dataflow, in order of arrival.
    pub fn of(&self, dataflow: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.dataflow() == dataflow);
        requests
    }

    /// Waits until what arrived fulfils `condition`.
    ///
    /// # Panics
    ///
    /// Panics if it does not within [`PATIENCE`].
    pub fn wait_until(&self, what: &str, condition: impl Fn(&[Request]) -> bool) {
        let end = self.shared.clock.moment().plus(PATIENCE);
        let mut seen = self.shared.seen();
        while !condition(&seen.requests) {
            let left = end.since(self.shared.clock.moment());
            let arrived = seen.requests.len();
            assert!(!left.is_zero(), "waited in vain until {what}; {arrived} requests arrived");
            seen = self.shared.wait(seen, left);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        self.open_gate();
        for connection in &self.shared.seen().connections {
            // Most are closed already, which is all that is wanted.
            connection.shutdown(Shutdown::Both).ok();
        }
        // A connection wakes the acceptor, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor does not panic");
        }
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no thread panics with this lock")
    }

    fn wait<'a>(&self, seen: MutexGuard<'a, Seen>, longest: Duration) -> MutexGuard<'a, Seen> {
        let waited = self.changed.wait_timeout(seen, longest);
        waited.expect("no thread panics with this lock").0
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Remembers a request; its number.
    fn remember(&self, request: Request) -> usize {
        let mut seen = self.seen();
        seen.requests.push(request);
        self.changed.notify_all();
        seen.requests.len() - 1
    }

    fn answered(&self, number: usize, status: u16) {
        self.seen().requests[number].answered = Some(status);
        self.changed.notify_all();
    }

    fn wait_at_gate(&self) {
        let mut seen = self.seen();
        while !seen.is_gate_open && !self.is_stopping() {
            seen = self.wait(seen, PATIENCE);
        }
    }

    /// Waits without looking at requests, unless the receiver stops.
    fn wait_for(&self, duration: Duration) {
        let end = self.clock.moment().plus(duration);
        let mut left = duration;
        while !left.is_zero() && !self.is_stopping() {
            thread::park_timeout(left.min(Duration::from_millis(20)));
            left = end.since(self.clock.moment());
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name("receiver".to_owned());
    builder.spawn(run).expect("there is room for a thread")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_stopping() {
            break;
        }
        let copy = stream.try_clone().expect("a socket can be copied");
        shared.seen().connections.push(copy);
        let shared = Arc::clone(shared);
        // The client may go at any moment; it is killed in some tests.
        threads.push(spawn(move || drop(serve(stream, &shared))));
    }
    for thread in threads {
        thread.join().expect("a connection does not panic");
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    let mut to = stream;
    while let Some(request) = read_request(&mut from, &shared.clock)? {
        let number = shared.remember(request.clone());
        let script = Arc::clone(&shared.script.lock().expect("no script panics"));
        let (status, headers, body) = match script(&request, number) {
            Answer::Status(status) => (status, "", String::new()),
            Answer::With(status, headers, body) => (status, headers, body.to_owned()),
            Answer::Text(status, body) => (status, "", body),
            Answer::After(delay) => {
                shared.wait_for(delay);
                (200, "", String::new())
            }
            Answer::AtGate => {
                shared.wait_at_gate();
                (200, "", String::new())
            }
            Answer::Raw(bytes) => {
                to.write_all(bytes)?;
                return to.shutdown(Shutdown::Both);
            }
            Answer::Trickle => return trickle(&to, shared),
            Answer::Drop => return to.shutdown(Shutdown::Both),
        };
        // Noted first: a client that has its answer may look at what was noted.
        shared.answered(number, status);
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {length}\r\n\r\n");
        to.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    }
    Ok(())
}

/// Until the client has enough of it.
fn trickle(mut to: &TcpStream, shared: &Shared) -> io::Result<()> {
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
        to.write_all(&[*byte])?;
        shared.wait_for(Duration::from_secs(1));
    }
    Ok(())
}

/// A whole request; `None` if the connection ended before one began.
pub fn read_request(from: &mut impl BufRead, clock: &SystemClock) -> io::Result<Option<Request>> {
    let first = read_line(from)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        method,
        target,
        headers,
        body: Vec::new(),
        at: Moment::default(),
        answered: None,
    };
    let length = request.header("content-length").parse().unwrap_or(0);
    request.body = vec![0; length];
    from.read_exact(&mut request.body)?;
    request.at = clock.moment();
    Ok(Some(request))
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(64 * 1024).read_line(&mut line)?;
    line.truncate(line.trim_end().len());
    Ok(line)
}
