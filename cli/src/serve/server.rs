//! Answers the other commands while this process holds the data directory.
//!
//! One thread accepts, and each connection has a thread of its own, at most [`CONNECTIONS_MAX`] of
//! them; all are joined by [`Server::stop`], which cuts what is still open. Questions are answered
//! by the engine as it runs, so nothing here holds a lock while it does.

use std::collections::HashMap;
use std::io::{self, BufReader, BufWriter, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use forebay_engine::engine::{Engine, Import, Progress};
use forebay_engine::error::EngineError;
use forebay_engine::views::{ImportSummary, IngestSummary};

use super::protocol::{
    Answer, FRAME_BYTES_MAX, Frames, PastQuestion, Question, Reply, read_request, write_line,
};
use super::{past, socket};

/// Most connections answered at once; a person types one command at a time, scripts a few.
const CONNECTIONS_MAX: usize = 64;

/// How long a connection may stay silent between questions.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// What is served. The engine; in tests a double.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers anything but an ingest or an import.
    fn answer(&self, question: &Question) -> Result<Answer, EngineError>;
    /// Takes records until `input` ends.
    fn ingest(&self, source: &str, input: &mut dyn Read) -> Result<IngestSummary, EngineError>;
    /// Takes the members of an audience until `input` ends.
    fn import(&self, import: &Import, input: &mut dyn Read) -> Result<ImportSummary, EngineError>;
}

impl Service for Engine {
    fn answer(&self, question: &Question) -> Result<Answer, EngineError> {
        Ok(match question {
            Question::Status => Answer::Status(self.status()?),
            Question::Profile(asked) => Answer::Profile(self.profile_page(asked)?),
            Question::Past(PastQuestion::Export { export }) => {
                Answer::Export(Box::new(self.explain_export(export, &Quiet)?))
            }
            Question::Past(asked) => past::answer(&self.history()?, asked, &Quiet)?,
            Question::Audiences => Answer::Audiences(self.audiences()?),
            Question::Members { audience, from, limit } => {
                Answer::Members(self.members(audience, *from, *limit)?)
            }
            Question::Dataflows => Answer::Dataflows(self.dataflows()?),
            Question::Destinations => Answer::Destinations(self.destinations()),
            Question::DeadLetterCounts => Answer::DeadLetterCounts(self.dead_letter_counts()?),
            Question::DeadLetters { selection, after, limit } => {
                Answer::DeadLetters(self.dead_letter_page(selection, after.clone(), *limit)?)
            }
            Question::ReplayDeadLetters { selection, limit, payload } => {
                Answer::ReplayDeadLetters(self.replay_dead_letters(selection, *limit, *payload)?)
            }
            Question::PurgeDeadLetters { selection, limit } => {
                Answer::PurgeDeadLetters(self.purge_dead_letters(selection, *limit)?)
            }
            Question::LogStats => Answer::LogStats(self.log_stats()?),
            Question::Verify => Answer::Verify(self.verify(&Quiet)?),
            Question::Rebuild => Answer::Rebuild(self.rebuild(&Quiet)?),
            Question::Compact => Answer::Compact(self.compact()?),
            Question::Audience { id } => Answer::Audience(self.audience_page(id)?),
            Question::ExplainStanding(question) => {
                Answer::ExplainStanding(self.explain_standing(question)?)
            }
            Question::Ingest { .. } | Question::ImportAudience(_) => {
                let message = "an ingest or import needs its records with it";
                return Err(EngineError::Usage(message.to_owned()));
            }
        })
    }

    fn ingest(&self, source: &str, input: &mut dyn Read) -> Result<IngestSummary, EngineError> {
        self.read_stream(source, input, &Quiet)
    }

    fn import(&self, import: &Import, input: &mut dyn Read) -> Result<ImportSummary, EngineError> {
        self.import_audience(import, input, &Quiet)
    }
}

/// Progress is shown by the client, who knows how much there is.
struct Quiet;

impl Progress for Quiet {
    fn replay(&self, _done: u64, _total: u64) {}
    fn input(&self, _name: &str, _read: u64, _total: Option<u64>, _records: u64) {}
    fn delivering(&self, _waiting: u64) {}
}

/// A listening socket and the threads behind it.
pub(crate) struct Server {
    data: PathBuf,
    /// The listening socket itself, to shut it down: a socket is a socket to `shutdown`.
    listening: UnixStream,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Starts answering on the socket of `data`, whose lock the caller holds.
    pub(crate) fn start<S: Service>(data: &Path, service: Arc<S>) -> io::Result<Self> {
        let listener = socket::bind(data)?;
        let listening = UnixStream::from(OwnedFd::from(listener.try_clone()?));
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let accept = move || accept(&listener, &service, &seen);
        let acceptor = thread::Builder::new().name("socket".into()).spawn(accept)?;
        Ok(Self { data: data.to_owned(), listening, stopping, acceptor })
    }

    /// Stops listening, cuts open connections, joins all threads and removes the socket. The caller
    /// still holds the directory's lock, so that no successor's socket is removed.
    pub(crate) fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // Linux wakes the acceptor when its socket is shut down; elsewhere a connection does.
        let shut = self.listening.shutdown(Shutdown::Both);
        let connected = socket::connect(&self.data);
        if let (Err(shut), Err(connected)) = (shut, connected) {
            tracing::warn!(%shut, %connected, "the socket's thread may not have been woken");
        }
        if self.acceptor.join().is_err() {
            tracing::error!("the thread that accepts on the socket panicked");
        }
        if let Err(error) = std::fs::remove_file(self.data.join(socket::FILE)) {
            tracing::debug!(%error, "the socket file is gone already");
        }
    }
}

/// Connections that are open, so that they can be cut.
type Open = Arc<Mutex<HashMap<u64, UnixStream>>>;

fn accept<S: Service>(listener: &UnixListener, service: &Arc<S>, stopping: &AtomicBool) {
    let open: Open = Arc::default();
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for (number, stream) in (0..).zip(listener.incoming()) {
        if stopping.load(Ordering::Acquire) {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        let started =
            stream.and_then(|stream| begin(stream, number, service, (&open, threads.len())));
        match started {
            Ok(thread) => threads.extend(thread),
            Err(error) => tracing::warn!(%error, "a connection to the socket was not answered"),
        }
    }
    for stream in open.lock().unwrap_or_else(PoisonError::into_inner).values() {
        if let Err(error) = stream.shutdown(Shutdown::Both) {
            tracing::debug!(%error, "a connection was gone before it was cut");
        }
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the socket panicked");
        }
    }
}

/// Gives `stream` a thread, or a refusal if there are too many.
fn begin<S: Service>(
    mut stream: UnixStream,
    number: u64,
    service: &Arc<S>,
    (open, running): (&Open, usize),
) -> io::Result<Option<JoinHandle<()>>> {
    if running >= CONNECTIONS_MAX {
        let refusal = format!("the engine answers {CONNECTIONS_MAX} commands already; try again");
        write_line(&mut stream, &Reply::Failed(refusal))?;
        return Ok(None);
    }
    let cut = stream.try_clone()?;
    open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, cut);
    let (service, open) = (Arc::clone(service), Arc::clone(open));
    let serve = move || {
        if let Err(error) = converse(&stream, &*service) {
            tracing::debug!(%error, "a connection to the socket ended early");
        }
        open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    };
    thread::Builder::new().name(format!("socket-{number}")).spawn(serve).map(Some)
}

/// Answers questions until the client has no more.
fn converse<S: Service>(stream: &UnixStream, service: &S) -> io::Result<()> {
    let mut from = BufReader::with_capacity(FRAME_BYTES_MAX, stream);
    let mut to = BufWriter::new(stream);
    stream.set_read_timeout(Some(IDLE_MAX))?;
    while let Some(request) = read_request(&mut from)? {
        let question = match request {
            Ok(question) => question,
            Err(other) => return write_line(&mut to, &Reply::from(other)),
        };
        if !matches!(question, Question::Ingest { .. } | Question::ImportAudience(_)) {
            write_line(&mut to, &Reply::from(service.answer(&question)))?;
            continue;
        }
        // Records may come as slowly as they are made.
        stream.set_read_timeout(None)?;
        let mut frames = Frames::new(&mut from);
        let taken = match &question {
            Question::Ingest { source } => service.ingest(source, &mut frames).map(Answer::Ingest),
            Question::ImportAudience(import) => {
                service.import(import, &mut frames).map(Answer::ImportAudience)
            }
            other => service.answer(other),
        };
        // What is left of the frames after a failure is no request: one ingest a connection.
        return write_line(&mut to, &Reply::from(taken));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::sync::Arc;

    use forebay_engine::engine::Import;
    use forebay_engine::error::EngineError;
    use forebay_engine::views::{ImportSummary, IngestSummary, LogView};

    use super::super::protocol::{Answer, Question};
    use super::super::session::Client;
    use super::{Server, Service};

    /// Counts lines, knows a log of 7 records, and has no audiences.
    struct Double;

    impl Service for Double {
        fn answer(&self, question: &Question) -> Result<Answer, EngineError> {
            match question {
                Question::LogStats => {
                    Ok(Answer::LogStats(LogView { records: 7, ..LogView::default() }))
                }
                other => Err(EngineError::Usage(format!("unexpected {other:?}"))),
            }
        }

        fn ingest(&self, _: &str, input: &mut dyn Read) -> Result<IngestSummary, EngineError> {
            let lines = BufReader::new(input).lines().try_fold(0, |n, line| line.map(|_| n + 1));
            let accepted = lines.map_err(|error| EngineError::Stopped(error.to_string()))?;
            Ok(IngestSummary { accepted, ..IngestSummary::default() })
        }

        fn import(&self, _: &Import, _: &mut dyn Read) -> Result<ImportSummary, EngineError> {
            Err(EngineError::Usage("there is no such column".to_owned()))
        }
    }

    #[test]
    fn questions_and_records_reach_the_service_over_one_directory() {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), Arc::new(Double)).unwrap();
        let mut client = Client::connect(data.path()).unwrap().expect("it listens");
        for _ in 0..2 {
            let answer = client.ask(&Question::LogStats).unwrap();
            assert!(matches!(answer, Answer::LogStats(LogView { records: 7, .. })), "{answer:?}");
        }
        let refused = client.ask(&Question::Status).unwrap_err();
        assert!(refused.to_string().contains("unexpected Status"), "{refused}");
        let records = "x\n".repeat(1_000_000);
        let mut input = records.as_bytes();
        let summary = client.ingest("test", &mut input, &mut |_| {}).unwrap();
        assert_eq!(summary.accepted, 1_000_000);
        server.stop();
        assert!(Client::connect(data.path()).unwrap().is_none(), "nobody listens any more");
    }

    #[test]
    fn a_refusal_reaches_a_client_that_is_still_sending() {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), Arc::new(Double)).unwrap();
        let import = Import {
            audience: "a".to_owned(),
            column: "c".to_owned(),
            namespace: "n".to_owned(),
            source: "s".to_owned(),
        };
        for length in [10, 10_000_000] {
            let mut client = Client::connect(data.path()).unwrap().expect("it listens");
            let file = vec![b'x'; length];
            let refused = client.import(&import, &mut &*file, &mut |_| {}).unwrap_err();
            assert_eq!(refused.to_string(), "there is no such column");
        }
        server.stop();
    }

    #[test]
    fn a_stop_needs_no_socket_file() {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), Arc::new(Double)).unwrap();
        std::fs::remove_file(data.path().join(super::socket::FILE)).unwrap();
        server.stop();
    }

    #[test]
    fn a_stop_does_not_wait_for_clients_that_say_nothing() {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), Arc::new(Double)).unwrap();
        let mut silent = Client::connect(data.path()).unwrap().expect("it listens");
        silent.ask(&Question::LogStats).unwrap();
        server.stop();
        let gone = silent.ask(&Question::LogStats).unwrap_err();
        assert!(gone.to_string().contains("stopped before it answered"), "{gone}");
    }
}
