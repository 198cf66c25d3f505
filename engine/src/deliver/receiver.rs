//! A receiver for tests: real sockets, answers written byte by byte as a script says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Header and body.
    pub(crate) text: String,
    /// Reads it took to get it whole.
    pub(crate) reads: usize,
    /// Number of its connection, from 1.
    pub(crate) connection: usize,
    /// Where it came from.
    pub(crate) from: SocketAddr,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.text.split("\r\n").take_while(|line| !line.is_empty());
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn path(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Write this.
    Bytes(&'static str),
    /// Write this.
    Text(String),
    /// Write these with so many milliseconds between.
    Slowly(Vec<&'static str>, u64),
    /// Write this and close.
    Last(&'static str),
    /// Close with a reset.
    Reset,
}

pub(crate) const OK: Reply = Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");

type Script = dyn Fn(usize, &Seen) -> Reply + Send + Sync;

/// Listens until it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    is_stopping: AtomicBool,
}

impl Receiver {
    /// `script` gets the number of the request, from 0, and the request.
    pub(crate) fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let listener = spawn(move || accept(&listener, &accepting));
        Self { address, shared, listener: Some(listener) }
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.listener.take().unwrap().join().unwrap();
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name("receiver".to_owned()).spawn(run).unwrap()
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            break;
        }
        let shared = Arc::clone(shared);
        threads.push(spawn(move || serve(stream, &shared)));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    let connection = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
    while let Some((text, reads)) = read(&mut stream, shared) {
        let from = stream.peer_addr().unwrap();
        let seen = Seen { text, reads, connection, from };
        let number = {
            let mut all = shared.seen.lock().unwrap();
            all.push(seen.clone());
            all.len() - 1
        };
        // A client that has given up is part of many scripts.
        let written = match (shared.script)(number, &seen) {
            Reply::Bytes(text) => stream.write_all(text.as_bytes()),
            Reply::Text(text) => stream.write_all(text.as_bytes()),
            Reply::Slowly(parts, ms) => slowly(&mut stream, &parts, ms),
            Reply::Last(text) => {
                drop(stream.write_all(text.as_bytes()));
                return;
            }
            Reply::Reset => {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

fn slowly(stream: &mut TcpStream, parts: &[&str], ms: u64) -> std::io::Result<()> {
    for part in parts {
        stream.write_all(part.as_bytes())?;
        thread::park_timeout(Duration::from_millis(ms));
    }
    Ok(())
}

/// A whole request, unless the connection ends or the receiver stops.
fn read(stream: &mut TcpStream, shared: &Shared) -> Option<(String, usize)> {
    let (mut bytes, mut reads) = (Vec::new(), 0);
    let mut buffer = vec![0; 65_536];
    while !is_whole(&bytes) {
        match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                reads += 1;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.is_stopping.load(Ordering::SeqCst) {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
    Some((String::from_utf8(bytes).unwrap(), reads))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    bytes.len() - end - 4 >= length.map_or(0, |length| length.trim().parse().unwrap())
}
