//! A receiver that does with each connection exactly what a script says, byte by byte.
//!
//! [`Receiver`](crate::Receiver) speaks HTTP as it should be; this one is for everything else: bytes
//! that drip, answers that break off, connections that end when they should not.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay_engine::clock::SystemClock;

use crate::Request;
use crate::receiver::read_request;

/// One thing done with a connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Writes these bytes one at a time, so long apart.
    Trickle(Vec<u8>, Duration),
    /// Does nothing until the client goes.
    Hang,
    /// Ends the connection.
    Close,
    /// Ends the connection with a reset.
    Reset,
}

/// What is done when it is the receiver's turn.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// Reads a request, then this; the connection is kept if no step ends it.
    Answer(Vec<Step>),
    /// This as soon as there is a connection, whatever comes over it; then it ends.
    Unasked(Vec<Step>),
}

/// A request, and the connection it came over.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The request.
    pub request: Request,
    /// Where it came from.
    pub from: SocketAddr,
    /// The number of its connection, from 1.
    pub connection: usize,
}

/// Listens until it is dropped.
pub struct RawReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    clock: SystemClock,
    script: Vec<Exchange>,
    seen: Mutex<Seen>,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Seen {
    exchanges: usize,
    arrivals: Vec<Arrival>,
    /// A handle on each connection, until a reset has to be the end of the last one.
    connections: Vec<Option<TcpStream>>,
}

/// What is answered once the script is at its end.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

impl RawReceiver {
    /// Does what `script` says, in this order over all connections; afterwards all is well.
    pub fn start(script: Vec<Exchange>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            script,
            seen: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often it was the receiver's turn.
    pub fn exchanges(&self) -> usize {
        self.shared.seen().exchanges
    }

    /// The requests that were read.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.seen().arrivals.clone()
    }
}

impl Drop for RawReceiver {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        for connection in self.shared.seen().connections.iter().flatten() {
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

    /// A new connection: its number, and what is done with it unasked, if it is time for that.
    fn greet(&self, copy: TcpStream) -> (usize, Option<Vec<Step>>) {
        let mut seen = self.seen();
        seen.connections.push(Some(copy));
        let number = seen.connections.len();
        let Some(Exchange::Unasked(steps)) = self.script.get(seen.exchanges) else {
            return (number, None);
        };
        seen.exchanges += 1;
        (number, Some(steps.clone()))
    }

    /// A request arrived: what is done with it.
    fn take(&self, arrival: Arrival) -> Vec<Step> {
        let mut seen = self.seen();
        seen.arrivals.push(arrival);
        let exchange = self.script.get(seen.exchanges).cloned();
        seen.exchanges += 1;
        match exchange {
            Some(Exchange::Answer(steps) | Exchange::Unasked(steps)) => steps,
            None => vec![Step::Send(OK.to_vec())],
        }
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name("raw receiver".to_owned());
    builder.spawn(run).expect("there is room for a thread")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((stream, from)) = listener.accept() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            break;
        }
        let copy = stream.try_clone().expect("a socket can be copied");
        let (connection, unasked) = shared.greet(copy);
        let shared = Arc::clone(shared);
        // The client may go at any moment; that it does is what many scripts are about.
        threads.push(spawn(move || {
            let open = Open { stream: &stream, number: connection, shared: &shared };
            match unasked {
                Some(steps) => drop(steps.iter().try_for_each(|step| open.act(step))),
                None => drop(open.serve(from)),
            }
        }));
    }
    for thread in threads {
        thread.join().expect("a connection does not panic");
    }
}

/// A connection.
struct Open<'a> {
    stream: &'a TcpStream,
    number: usize,
    shared: &'a Shared,
}

impl Open<'_> {
    fn serve(&self, from: SocketAddr) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut reader = BufReader::new(self.stream);
        while let Some(request) = read_request(&mut reader, &self.shared.clock)? {
            let arrival = Arrival { request, from, connection: self.number };
            for step in self.shared.take(arrival) {
                self.act(&step)?;
            }
        }
        Ok(())
    }

    /// Does one step; an error is the end of the connection, wanted or not.
    fn act(&self, step: &Step) -> io::Result<()> {
        let mut stream = self.stream;
        match step {
            Step::Send(bytes) => stream.write_all(bytes),
            Step::Trickle(bytes, pause) => bytes.iter().try_for_each(|byte| {
                stream.write_all(&[*byte])?;
                thread::park_timeout(*pause);
                Ok(())
            }),
            Step::Hang => io::copy(&mut stream, &mut io::sink()).and(Err(ended())),
            Step::Close => stream.shutdown(Shutdown::Both).and(Err(ended())),
            Step::Reset => {
                self.shared.seen().connections[self.number - 1] = None;
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
                Err(ended())
            }
        }
    }
}

fn ended() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}
