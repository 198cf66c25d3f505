//! A receiver on loopback that takes every request and answers 204, as cheaply as it can, at once or
//! after a while: what the benches of delivery measure should be delivery.
//!
//! It understands what forebay sends, no more: a `POST` with `Content-Length`, over connections that
//! stay open. One thread a connection.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Counts the requests that arrive. Stops when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: AtomicU64,
    is_stopping: AtomicBool,
    /// How long each answer takes.
    pause: Duration,
    /// The open connections by number, so that stopping can close them.
    connections: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Receiver {
    /// Listens at a free port of 127.0.0.1, and answers at once.
    pub(crate) fn start() -> Self {
        Self::pausing(Duration::ZERO)
    }

    /// Listens at a free port of 127.0.0.1, and answers each request after `pause`.
    pub(crate) fn pausing(pause: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { pause, ..Shared::default() });
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("bench-receiver".to_owned())
            .spawn(move || accept(&listener, &accepting))
            .expect("there is a thread for the receiver");
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has answered.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor; it sees the flag.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            assert!(acceptor.join().is_ok() || thread::panicking(), "the receiver panicked");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.is_stopping.load(Ordering::SeqCst) {
            break;
        }
        let stream = stream.expect("loopback accepts");
        let twin = stream.try_clone().expect("a socket has a second handle");
        shared.connections.lock().expect("no thread panics with this lock").insert(number, twin);
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new()
            .name(format!("bench-receiver-{number}"))
            .spawn(move || {
                // A connection that the client drops ends with an error, which is no news.
                serve(stream, &shared).ok();
                shared.connections.lock().expect("no thread panics with this lock").remove(&number);
            })
            .expect("there is a thread for the connection");
        threads.push(thread);
    }
    for stream in shared.connections.lock().expect("no thread panics with this lock").values() {
        // It may be closed already.
        stream.shutdown(Shutdown::Both).ok();
    }
    for thread in threads {
        assert!(thread.join().is_ok(), "a connection's thread panicked");
    }
}

/// Answers the requests of one connection until it is closed.
fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut requests = BufReader::with_capacity(64 * 1024, stream);
    let mut line = Vec::new();
    let mut body = Vec::new();
    while let Some(length) = head(&mut requests, &mut line)? {
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        if !shared.pause.is_zero() {
            // Woken by nobody; early by chance, which would only be a quicker receiver.
            thread::park_timeout(shared.pause);
        }
        answers.write_all(ANSWER)?;
    }
    Ok(())
}

/// Reads the head of a request; how long its body is, or `None` at the end of the connection.
fn head(requests: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    const LENGTH: &[u8] = b"content-length:";
    let mut length = None;
    loop {
        line.clear();
        if requests.read_until(b'\n', line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            return length.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
        if let Some((name, value)) = text.split_at_checked(LENGTH.len())
            && name.eq_ignore_ascii_case(LENGTH)
        {
            let digits = str::from_utf8(value.trim_ascii()).map_err(io::Error::other)?;
            length = Some(digits.parse().map_err(io::Error::other)?);
        }
    }
}
