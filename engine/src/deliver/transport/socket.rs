//! A TCP connection as the client's transport: few system calls, one deadline, one write.
//!
//! What the client hands over piece by piece (header, then body) is collected and leaves in one
//! write when it first waits for the answer. Socket timeouts are set when the connection is made and
//! again only when the deadline has come notably nearer or farther.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use ureq::unversioned::transport::time::{Duration as Left, Instant};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};

/// Bytes of each buffer of a connection. An answer's header must fit in.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;

/// Socket timeouts this near to what is left of the deadline stay as they are.
const SLACK: Duration = Duration::from_millis(10);

/// Makes connections from a fixed local address, if one is given.
#[derive(Debug)]
pub(super) struct TcpConnector {
    pub(super) source_address: Option<IpAddr>,
    /// How long a connection is used.
    pub(super) age_max: Duration,
}

/// The connection that was reused had been closed by the other side before it took the request in:
/// that was not processed, and may be sent again without being an attempt.
#[derive(Debug)]
pub(super) struct Stale;

impl Connector for TcpConnector {
    type Out = TcpConnection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<TcpConnection>, ureq::Error> {
        let deadline = Deadline::new(details);
        let none = "the endpoint has no address of the family of source_address";
        let mut last = io::Error::new(ErrorKind::AddrNotAvailable, none);
        let usable = |address: &&SocketAddr| {
            self.source_address.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
        };
        let addresses: Vec<SocketAddr> = details.addrs.iter().filter(usable).copied().collect();
        for (tried, address) in addresses.iter().enumerate() {
            let left = deadline.left(details.timeout)?;
            // Half of what is left for each but the last, so that one dead address is survived.
            let share = if tried + 1 == addresses.len() { left } else { left / 2 };
            match connect(*address, self.source_address, share) {
                Ok(stream) => {
                    let connection = TcpConnection::new(stream, deadline, self.age_max);
                    let handle: Weak<dyn ShutdownHandle> = {
                        let stream: Arc<dyn ShutdownHandle> = connection.stream.clone();
                        Arc::downgrade(&stream)
                    };
                    (details.register_shutdown)(handle)?;
                    return Ok(Some(connection));
                }
                Err(error) => last = at(*address, &error),
            }
        }
        match last.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                Err(ureq::Error::Timeout(details.timeout.reason))
            }
            _ => Err(last.into()),
        }
    }
}

/// The error with the address that it is about; its kind decides what becomes of the attempt.
fn at(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot connect to {address}: {error}"))
}

fn connect(to: SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.map_err(|error| {
            io::Error::new(error.kind(), format!("source_address {source}: {error}"))
        })?;
    }
    socket.connect_timeout(&to.into(), timeout)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// What is left of a time span that the client measured at an instant.
#[derive(Clone)]
struct Deadline {
    measured: Instant,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl Deadline {
    fn new(details: &ConnectionDetails<'_>) -> Self {
        Self { measured: details.now, clock: Arc::clone(&details.current_time) }
    }

    /// Starts measuring anew: the client's next timeout counts from here.
    fn restart(&mut self) {
        self.measured = (self.clock)();
    }

    /// What is left of `timeout`, which the client measured at the last restart.
    fn left(&self, timeout: NextTimeout) -> Result<Duration, ureq::Error> {
        let passed = passed(self.measured, (self.clock)());
        match timeout.after {
            Left::NotHappening => Ok(Duration::MAX),
            Left::Exact(after) => match after.checked_sub(passed) {
                Some(left) if !left.is_zero() => Ok(left),
                _ => Err(ureq::Error::Timeout(timeout.reason)),
            },
        }
    }
}

fn passed(then: Instant, now: Instant) -> Duration {
    match (now, then) {
        (Instant::Exact(now), Instant::Exact(then)) => now.saturating_duration_since(then),
        _ => Duration::ZERO,
    }
}

/// One connection.
pub(super) struct TcpConnection {
    stream: Arc<TcpStream>,
    buffers: LazyBuffers,
    deadline: Deadline,
    read_timeout: Duration,
    write_timeout: Duration,
    /// What was handed over and is not written.
    pending: Vec<u8>,
    /// Whether an answer has come over this connection before.
    is_reused: bool,
    /// Whether bytes of this answer have come.
    is_answering: bool,
    opened: Instant,
    age_max: Duration,
}

impl TcpConnection {
    fn new(stream: TcpStream, deadline: Deadline, age_max: Duration) -> Self {
        Self {
            opened: deadline.measured,
            age_max,
            stream: Arc::new(stream),
            buffers: LazyBuffers::new(BUFFER_BYTES, BUFFER_BYTES),
            deadline,
            read_timeout: Duration::ZERO,
            write_timeout: Duration::ZERO,
            pending: Vec::new(),
            is_reused: false,
            is_answering: false,
        }
    }

    /// Writes what is pending. A failed write is no end: the answer may be there already, as when
    /// an endpoint refuses a body before it has read it.
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut written = 0;
        while written < self.pending.len() {
            let left = self.deadline.left(timeout)?;
            if needs_setting(&mut self.write_timeout, left) {
                self.stream.set_write_timeout(Some(self.write_timeout))?;
            }
            match (&*self.stream).write(&self.pending[written..]) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(ureq::Error::Timeout(timeout.reason));
                }
                Err(_) if written == 0 && self.is_reused => {
                    return Err(ureq::Error::Other(Box::new(Stale)));
                }
                Err(error) => return self.answer_or(error),
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// `Ok` if there is something to read, though writing failed with `error`.
    fn answer_or(&mut self, error: io::Error) -> Result<(), ureq::Error> {
        self.pending.clear();
        if self.peek().is_ok_and(|count| count > 0) { Ok(()) } else { Err(error.into()) }
    }

    fn read(&mut self, timeout: NextTimeout) -> Result<usize, ureq::Error> {
        loop {
            let left = self.deadline.left(timeout)?;
            if needs_setting(&mut self.read_timeout, left) {
                self.stream.set_read_timeout(Some(self.read_timeout))?;
            }
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(ureq::Error::Timeout(timeout.reason));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether `error` says that the other side had closed before it took the request in. An end
    /// without a reset says nothing: it may come after the request was read.
    fn is_stale(&self, error: &ureq::Error) -> bool {
        let is_reset =
            matches!(error, ureq::Error::Io(error) if error.kind() == ErrorKind::ConnectionReset);
        is_reset && self.is_reused && !self.is_answering
    }

    /// Whether it may be used once more, as of when the last answer was awaited.
    fn is_young(&self) -> bool {
        passed(self.opened, self.deadline.measured) < self.age_max
    }

    /// How many bytes are there to read, without waiting and without taking them: 0 at the end.
    fn peek(&self) -> io::Result<usize> {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        SockRef::from(&*self.stream).recv_with_flags(&mut byte, flags)
    }
}

/// Whether the socket's timeout has to become `left`; then `set` already is.
fn needs_setting(set: &mut Duration, left: Duration) -> bool {
    let is_near = set.abs_diff(left) <= SLACK && !set.is_zero();
    if !is_near {
        // The system takes a zero for "no timeout".
        *set = left.max(Duration::from_millis(1));
    }
    !is_near
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Transport for TcpConnection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        self.is_answering = false;
        self.pending.extend_from_slice(&self.buffers.output()[..amount]);
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.deadline.restart();
        self.flush(timeout)?;
        let count = match self.read(timeout) {
            Err(error) if self.is_stale(&error) => {
                return Err(ureq::Error::Other(Box::new(Stale)));
            }
            read => read?,
        };
        self.buffers.input_appended(count);
        self.is_answering |= count > 0;
        Ok(count > 0)
    }

    /// Asked when the connection is put aside, and again when it is to be used: only the second
    /// answer matters, and only it costs a system call.
    fn is_open(&mut self) -> bool {
        if self.is_answering {
            self.is_answering = false;
            self.is_reused = true;
            return self.is_young();
        }
        matches!(self.peek(), Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for TcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnection").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was closed before it took the request in")
    }
}

impl std::error::Error for Stale {}
