//! A receiver that speaks TLS.

use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use forebay_engine::clock::SystemClock;
use forebay_tests::Request;
use forebay_tests::receiver::read_request;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::authority::{Authority, Identity};

/// What it wants to see of a client.
#[derive(Clone, Copy)]
pub(crate) enum Clients<'a> {
    /// Nothing.
    Any,
    /// A certificate, if there is one.
    Asked(&'a Authority),
    /// A certificate.
    Known(&'a Authority),
}

/// How it ends a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Not at all.
    Kept,
    /// As TLS wants it.
    Announced,
    /// Without a word.
    Cut,
}

/// A request over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) request: Request,
    /// Whether the client showed a certificate.
    pub(crate) is_known: bool,
}

/// Listens until it is dropped.
pub(crate) struct TlsReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    clock: SystemClock,
    config: Arc<ServerConfig>,
    ending: Ending,
    arrivals: Mutex<Vec<Arrival>>,
    connections: Mutex<Vec<TcpStream>>,
    is_stopping: AtomicBool,
}

impl TlsReceiver {
    /// Answers 200; at `/token` with a token.
    pub(crate) fn start(identity: &Identity, clients: Clients<'_>, ending: Ending) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            clock: SystemClock::new(),
            config: Arc::new(config(identity, clients)),
            ending,
            arrivals: Mutex::default(),
            connections: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let acceptor = spawn(move || accept(&listener, &accepting));
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// `https://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals().clone()
    }
}

impl Drop for TlsReceiver {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        for connection in self.shared.connections().iter() {
            // Most are closed already, which is all that is wanted.
            connection.shutdown(Shutdown::Both).ok();
        }
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor does not panic");
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().expect("no thread panics with this lock")
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().expect("no thread panics with this lock")
    }
}

fn config(identity: &Identity, clients: Clients<'_>) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them");
    let verifier = |authority: &Authority, must: bool| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate()).expect("an authority can be trusted");
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if must { builder } else { builder.allow_unauthenticated() };
        builder.build().expect("there is an authority")
    };
    let builder = match clients {
        Clients::Any => builder.with_no_client_auth(),
        Clients::Asked(authority) => builder.with_client_cert_verifier(verifier(authority, false)),
        Clients::Known(authority) => builder.with_client_cert_verifier(verifier(authority, true)),
    };
    let built = builder.with_single_cert(identity.chain.clone(), identity.key());
    built.expect("the key is the certificate's")
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new()
        .name("tls receiver".to_owned())
        .spawn(run)
        .expect("there is room for a thread")
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            break;
        }
        shared.connections().push(stream.try_clone().expect("a socket can be copied"));
        let shared = Arc::clone(shared);
        // That a client refuses the certificate is what most tests are about.
        threads.push(spawn(move || drop(serve(stream, &shared))));
    }
    for thread in threads {
        thread.join().expect("a connection does not panic");
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(&shared.config)).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(request) = read_request(&mut reader, &shared.clock)? {
        let stream = reader.get_mut();
        let is_known = stream.conn.peer_certificates().is_some();
        let body = if request.target == "/token" { "{\"access_token\":\"tok\"}" } else { "" };
        shared.arrivals().push(Arrival { request, is_known });
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
        stream.flush()?;
        match shared.ending {
            Ending::Kept => continue,
            Ending::Announced => {
                stream.conn.send_close_notify();
                stream.flush()?;
            }
            Ending::Cut => {}
        }
        return stream.sock.shutdown(Shutdown::Both);
    }
    Ok(())
}
