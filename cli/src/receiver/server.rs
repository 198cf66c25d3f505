//! Listens, and gives each request to a handler before it is answered.

use std::collections::HashMap;
use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::Received;
use super::http::{Connection, read_request};

/// Most connections at once; two dataflows with the largest sensible `max_in_flight` fit.
const CONNECTIONS_MAX: usize = 1_024;
/// One read takes a whole export of usual size.
const BUFFER_BYTES: usize = 16 * 1024;
/// Connection threads parse and hand over; the default of 2 MiB is not needed a thousand times.
const STACK_BYTES: usize = 256 * 1024;

/// How a receiver answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// The status of every answer.
    pub(crate) status: u16,
}

/// What is done with a request. It is answered when this returns.
type Handler = Arc<dyn Fn(Received) + Send + Sync>;

/// A listening receiver and its threads.
pub(crate) struct Receiver {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Receiver {
    /// Starts listening. `handler` is called from many threads at once.
    pub(crate) fn start(
        settings: Settings,
        handler: impl Fn(Received) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor {
            listener,
            stopping: Arc::clone(&stopping),
            answer: answer(settings.status).into(),
            handler: Arc::new(handler),
            open: Arc::default(),
        };
        let acceptor =
            thread::Builder::new().name("receiver".into()).spawn(move || acceptor.run())?;
        Ok(Self { address, stopping, acceptor })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, cuts the connections and joins all threads; the handler is dropped.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // The acceptor is woken by a connection; one to "any address" goes to this machine.
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            match wake {
                SocketAddr::V4(_) => wake.set_ip(Ipv4Addr::LOCALHOST.into()),
                SocketAddr::V6(_) => wake.set_ip(Ipv6Addr::LOCALHOST.into()),
            }
        }
        match TcpStream::connect(wake) {
            Ok(_) if self.acceptor.join().is_err() => tracing::error!("the receiver panicked"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the receiver's thread was not joined"),
        }
    }
}

/// The thread that accepts.
struct Acceptor {
    listener: TcpListener,
    stopping: Arc<AtomicBool>,
    answer: Arc<[u8]>,
    handler: Handler,
    /// Connections that are open, so that they can be cut.
    open: Arc<Mutex<HashMap<u64, TcpStream>>>,
}

impl Acceptor {
    fn run(self) {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        for (number, stream) in (0..).zip(self.listener.incoming()) {
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            threads.retain(|thread| !thread.is_finished());
            if threads.len() >= CONNECTIONS_MAX {
                tracing::warn!("{CONNECTIONS_MAX} connections are open, one more was refused");
                continue;
            }
            match stream.and_then(|stream| self.begin(stream, number)) {
                Ok(thread) => threads.push(thread),
                Err(error) => tracing::warn!(%error, "a connection was not taken"),
            }
        }
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if let Err(error) = stream.shutdown(Shutdown::Both) {
                tracing::debug!(%error, "a connection was gone before it was cut");
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the receiver panicked");
            }
        }
    }

    fn begin(&self, stream: TcpStream, number: u64) -> io::Result<JoinHandle<()>> {
        stream.set_nodelay(true)?;
        let cut = stream.try_clone()?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, cut);
        let (answer, handler) = (Arc::clone(&self.answer), Arc::clone(&self.handler));
        let open = Arc::clone(&self.open);
        let serve = move || {
            if let Err(error) = converse(&stream, &answer, &handler) {
                tracing::debug!(%error, "a connection ended early");
            }
            open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        };
        thread::Builder::new()
            .name(format!("receiver-{number}"))
            .stack_size(STACK_BYTES)
            .spawn(serve)
    }
}

/// Answers requests until the client closes the connection.
fn converse(mut stream: &TcpStream, answer: &[u8], handler: &Handler) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, stream);
    let go_on = || (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    loop {
        let request = match read_request(&mut from, go_on) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return stream.write_all(
                    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
            }
            Err(error) => return Err(error),
        };
        handler(request.received);
        stream.write_all(answer)?;
        if request.connection == Connection::Close {
            return Ok(());
        }
    }
}

/// The answer with `status`, an empty body, and no reason: clients read the number.
fn answer(status: u16) -> Vec<u8> {
    // 204 and 304 have no body and say no length (RFC 9110 §8.6).
    let length = if matches!(status, 204 | 304) { "" } else { "Content-Length: 0\r\n" };
    format!("HTTP/1.1 {status} \r\n{length}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    use crossbeam::channel::bounded;

    use super::{Receiver, Settings};

    fn settings(status: u16) -> Settings {
        Settings { listen: (Ipv4Addr::LOCALHOST, 0).into(), status }
    }

    #[test]
    fn a_connection_takes_many_requests_and_each_is_handled_before_its_answer() {
        let (sender, requests) = bounded(10);
        let receiver = Receiver::start(settings(503), move |received| {
            sender.send(received).expect("the test reads");
        });
        let receiver = receiver.unwrap();
        let mut stream = TcpStream::connect(receiver.address()).unwrap();
        let expected = b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n";
        for sequence in 1..=3_u64 {
            write!(stream, "POST / HTTP/1.1\r\nforebay-sequence: {sequence}\r\n").unwrap();
            write!(stream, "Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n").unwrap();
            let mut answer = vec![0; expected.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, expected);
            let request = requests.try_recv().expect("handled before it was answered");
            assert_eq!(request.sequence, Some(sequence));
            assert_eq!(request.body, b"{}");
        }
        receiver.stop();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "a stop cuts the connections");
        assert!(requests.recv().is_err(), "a stop drops the handler");
    }

    #[test]
    fn garbage_is_answered_with_400_and_the_connection_closed() {
        let receiver = Receiver::start(settings(204), |_| {}).unwrap();
        let mut stream = TcpStream::connect(receiver.address()).unwrap();
        stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        receiver.stop();
    }
}
