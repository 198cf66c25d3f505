//! Asks the engine: over the socket if a process holds the data directory, else in this process.
//!
//! A directory that is in use and has nobody listening is either being opened by a process that
//! replays its log, or held for a moment by another command. So opening is tried for
//! [`PATIENCE`] before it is an error.

use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel;
use forebay_engine::clock::{Clock, SystemClock};
use forebay_engine::engine::{Engine, Import, Mode, Options};
use forebay_engine::error::EngineError;
use forebay_engine::views::{ImportSummary, IngestSummary};

use super::protocol::{
    Answer, Question, Reply, Request, VERSION, read_reply, write_frames, write_line,
};
use super::server::Service;
use super::socket;
use crate::configuration::Config;
use crate::exit_code::CliError;
use crate::progress::Bars;

/// How long a directory in use with nobody listening is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Somebody who answers questions about a data directory.
pub(crate) enum Session {
    /// This process: nobody else holds the directory.
    Local(Box<Engine>),
    /// The process that holds it.
    Running(Client),
}

impl Session {
    /// Reaches whoever can answer about `data`, without changing anything there.
    pub(crate) fn inspect(data: &Path) -> Result<Self, CliError> {
        exists(data)?;
        Self::reach(data, Mode::Inspect, || Ok(None))
    }

    /// Reaches whoever can take records for `data`. `config` is loaded only if it is this process.
    pub(crate) fn derive(
        data: &Path,
        config: impl Fn() -> Result<Config, CliError>,
    ) -> Result<Self, CliError> {
        Self::reach(data, Mode::Derive, || config().map(Some))
    }

    fn reach(
        data: &Path,
        mode: Mode,
        config: impl Fn() -> Result<Option<Config>, CliError>,
    ) -> Result<Self, CliError> {
        let reached = reach(data, |clock| {
            let options = Options { data: data.to_owned(), config: config()?, mode, clock };
            let bars = Bars::new();
            let opened = Engine::open(options, &bars);
            bars.clear();
            Ok(opened)
        })?;
        Ok(match reached {
            Reached::Running(client) => Self::Running(client),
            Reached::Local(engine) => Self::Local(Box::new(engine)),
        })
    }

    /// Asks one question.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, CliError> {
        match self {
            Self::Local(engine) => Ok(engine.answer(question)?),
            Self::Running(client) => client.ask(question),
        }
    }

    /// Ends the session.
    pub(crate) fn close(self) -> Result<(), CliError> {
        match self {
            Self::Local(engine) => Ok(engine.close()?),
            Self::Running(_) => Ok(()),
        }
    }
}

/// Who can be asked about a data directory.
pub(crate) enum Reached<T> {
    /// The process that holds it.
    Running(Client),
    /// What this process opened.
    Local(T),
}

/// Reaches the process that holds `data`; if none does, opens it with `open`, which is tried again for
/// a while where the directory is in use.
pub(crate) fn reach<T>(
    data: &Path,
    open: impl Fn(Arc<dyn Clock>) -> Result<Result<T, EngineError>, CliError>,
) -> Result<Reached<T>, CliError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let start = clock.moment();
    loop {
        if let Some(client) = Client::connect(data)? {
            return Ok(Reached::Running(client));
        }
        match open(Arc::clone(&clock))? {
            Ok(opened) => return Ok(Reached::Local(opened)),
            Err(EngineError::InUse(_)) if clock.moment().since(start) < PATIENCE => {
                let waited = channel::after(BETWEEN_TRIES).recv();
                waited.expect("a timer channel fires once");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a session on `data`, asks `question`, and closes it.
pub(crate) fn ask_once(data: &Path, question: &Question) -> Result<Answer, CliError> {
    let mut session = Session::inspect(data)?;
    let answer = session.ask(question)?;
    session.close()?;
    Ok(answer)
}

/// The error for an answer to another question than was asked.
pub(crate) fn confused(answer: &Answer) -> CliError {
    CliError::Failed(format!("the running engine answered another question: {answer:?}"))
}

/// Tells a data directory that was never used from one that can be asked.
pub(super) fn exists(data: &Path) -> Result<(), CliError> {
    match std::fs::read_dir(data) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CliError::Usage(format!(
            "there is no data directory at {}\n\
             `forebay run` and `forebay ingest` make one; --data DIR names another.",
            data.display()
        ))),
        Err(error) => Err(CliError::Failed(format!(
            "cannot read the data directory {}: {error}",
            data.display()
        ))),
    }
}

/// A connection to the process that holds a data directory.
pub(crate) struct Client {
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Client {
    /// Connects; `None` if nobody listens.
    pub(crate) fn connect(data: &Path) -> Result<Option<Self>, CliError> {
        let failed = |error| {
            let path = data.join(socket::FILE);
            CliError::Failed(format!("cannot use the socket {}: {error}", path.display()))
        };
        let Some(to) = socket::connect(data).map_err(failed)? else { return Ok(None) };
        let from = BufReader::new(to.try_clone().map_err(failed)?);
        Ok(Some(Self { from, to }))
    }

    /// Asks one question.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, CliError> {
        // A server that went away may have said why before; the reply tells.
        let sent = self.send(question);
        self.reply(sent)
    }

    /// Sends `input` as records. `sent` hears how many bytes went at each step.
    pub(crate) fn ingest(
        &mut self,
        source: &str,
        input: &mut dyn Read,
        sent: &mut dyn FnMut(u64),
    ) -> Result<IngestSummary, CliError> {
        let question = Question::Ingest { source: source.to_owned() };
        match self.feed(&question, (source, input), sent)? {
            Answer::Ingest(summary) => Ok(summary),
            other => Err(confused(&other)),
        }
    }

    /// Sends `input` as the list of an audience's members. `sent` hears how many bytes went at each
    /// step.
    pub(crate) fn import(
        &mut self,
        import: &Import,
        input: &mut dyn Read,
        sent: &mut dyn FnMut(u64),
    ) -> Result<ImportSummary, CliError> {
        let question = Question::ImportAudience(import.clone());
        match self.feed(&question, (&import.source, input), sent)? {
            Answer::ImportAudience(summary) => Ok(summary),
            other => Err(confused(&other)),
        }
    }

    /// Asks a question that `input` follows as frames.
    fn feed(
        &mut self,
        question: &Question,
        (source, input): (&str, &mut dyn Read),
        sent: &mut dyn FnMut(u64),
    ) -> Result<Answer, CliError> {
        let mut input = Watched { input, failed: None };
        let written =
            self.send(question).and_then(|()| write_frames(&mut self.to, &mut input, sent));
        if let Some(error) = input.failed {
            return Err(CliError::Failed(format!("cannot read {source}: {error}")));
        }
        self.reply(written)
    }

    fn send(&mut self, question: &Question) -> io::Result<()> {
        write_line(&mut self.to, &Request { version: VERSION, question: question.clone() })
    }

    fn reply(&mut self, sent: io::Result<()>) -> Result<Answer, CliError> {
        let why = match read_reply(&mut self.from) {
            Ok(Some(Reply::Answer(answer))) => return Ok(*answer),
            Ok(Some(Reply::Usage(message))) => return Err(CliError::Usage(message)),
            Ok(Some(Reply::Failed(message))) => return Err(CliError::Failed(message)),
            Ok(None) => sent.err().map(|error| format!(": {error}")),
            Err(error) => Some(format!(": {error}")),
        };
        Err(CliError::Failed(format!(
            "the running engine stopped before it answered{}",
            why.unwrap_or_default()
        )))
    }
}

/// Keeps the error of the input apart from one of the socket.
struct Watched<'a> {
    input: &'a mut dyn Read,
    failed: Option<String>,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into);
        if let Err(error) = &read
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.failed = Some(error.to_string());
        }
        read
    }
}
