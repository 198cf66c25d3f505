//! `forebay run`: the engine, from the first input to the last export.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use forebay_engine::clock::SystemClock;
use forebay_engine::engine::{Engine, Mode, Options, Waiting};
use forebay_engine::error::EngineError;
use forebay_engine::views::Summary;

use super::input::{self, STDIN};
use crate::args::{Format, Global, Run};
use crate::configuration::{load_and_tell, load_config, warnings};
use crate::exit_code::{CliError, Outcome};
use crate::interruptible::Interruptible;
use crate::output::{self, counted, summary_text};
use crate::progress::Bars;
use crate::serve::server::Server;
use crate::serve::socket;
use crate::signals::SignalGuard;

/// How often notices of the engine are told.
const NOTICE_INTERVAL: Duration = Duration::from_millis(250);

/// Runs until everything is drained, a signal comes, or the engine fails.
pub(crate) fn run(args: &Run, global: &Global) -> Result<Outcome, CliError> {
    args.input.iter().try_for_each(|path| input::check_readable(path))?;
    let config = load_and_tell(&global.config)?;
    let signals = SignalGuard::install_for_run()?;
    let bars = Arc::new(Bars::new());
    let clock = Arc::new(SystemClock::new());
    let data = global.data.clone();
    let options = Options { data, config: Some(config), mode: Mode::Deliver, clock };
    let engine = Engine::open(options, &*bars).map_err(|error| held(error, &global.data));
    bars.clear();
    let engine = Arc::new(engine?);
    let stopping = Arc::clone(&engine);
    signals.on_first(move || stopping.request_stop());
    let (reloading, path, told) = (Arc::clone(&engine), global.config.clone(), Arc::clone(&bars));
    signals.on_reload(move || reload(&reloading, &path, &told));

    let server = Server::start(&global.data, Arc::clone(&engine)).map_err(|error| {
        let path = global.data.join(socket::FILE);
        CliError::Failed(format!("cannot listen on {}: {error}", path.display()))
    });
    let notices = Notices::start(&engine, &bars)?;
    let worked = server.and_then(|server| {
        let worked = work(&engine, args, (&signals, &bars));
        server.stop();
        worked
    });
    bars.clear();
    notices.stop();
    signals.on_first(|| {});
    signals.on_reload(|| {});
    let engine = Arc::into_inner(engine).expect("every other owner was stopped");
    let summary = engine.summary();
    let closed = engine.close();
    let waiting = worked?;
    closed?;
    end(&summary?, &waiting, (args, global, &signals))
}

/// Reads the configuration again and hands it to the engine, which tells when it has taken it.
fn reload(engine: &Engine, path: &Path, bars: &Bars) {
    let asked = load_config(path).and_then(|config| {
        for warning in warnings(&config) {
            bars.tell(&warning);
        }
        Ok(engine.reload(config)?)
    });
    match asked {
        Ok(()) => bars.tell(&format!("reading {} again", path.display())),
        Err(error) => bars.tell(&format!(
            "{error}\nThe configuration in effect stays; `forebay check` tells whether another one \
             has faults."
        )),
    }
}

/// A directory that another `run` holds will not become free: say who can be asked to let it go.
fn held(error: EngineError, data: &Path) -> CliError {
    match error {
        EngineError::InUse(_) => CliError::Failed(format!(
            "the data directory {0} is in use by another forebay process\n\
             Two engines never write to one directory. `forebay status --data {0}` shows the other \
             one and `forebay ingest` hands it records; stop it (SIGTERM) to run here, or give \
             another directory with --data DIR.",
            data.display()
        )),
        other => other.into(),
    }
}

/// Reads the inputs and delivers. What destinations keep after a drain is returned.
fn work(
    engine: &Engine,
    args: &Run,
    (signals, bars): (&SignalGuard, &Bars),
) -> Result<Vec<Waiting>, CliError> {
    for path in &args.input {
        if signals.caught() {
            return Ok(Vec::new());
        }
        let read = read(engine, path, (signals, bars));
        // A stop makes reading end early, in whatever way; that is no failure.
        if !signals.caught() {
            read?;
        }
    }
    if signals.caught() {
        return Ok(Vec::new());
    }
    if let Some(to) = args.advance_to {
        engine.advance_to(to)?;
    }
    if args.drain {
        return Ok(engine.drain(args.drain_timeout, bars)?);
    }
    bars.clear();
    if std::io::stderr().is_terminal() {
        bars.tell(
            "waiting for window boundaries, retries and `forebay ingest`; Ctrl-C stops, \
             `forebay status` in another terminal shows how it goes",
        );
    }
    engine.run_until_stopped()?;
    Ok(Vec::new())
}

fn read(
    engine: &Engine,
    path: &Path,
    (signals, bars): (&SignalGuard, &Bars),
) -> Result<(), CliError> {
    if path != Path::new(STDIN) {
        engine.read_file(path, bars)?;
        return Ok(());
    }
    if std::io::stdin().is_terminal() {
        bars.tell("reading records from the terminal, one a line; Ctrl-D ends them");
    }
    let mut stdin = Interruptible::new(std::io::stdin(), signals.stopped())
        .map_err(|error| CliError::Failed(format!("cannot read stdin: {error}")))?;
    engine.read_stream(STDIN, &mut stdin, bars)?;
    Ok(())
}

/// Says how the run ended, on stderr what is wrong and on stdout what came out.
fn end(
    summary: &Summary,
    waiting: &[Waiting],
    (args, global, signals): (&Run, &Global, &SignalGuard),
) -> Result<Outcome, CliError> {
    input::tell_rejects(summary.records.rejected, &global.data);
    for kept in waiting {
        tell!(
            "destination {}: {} kept waiting for it; last error: {}\n\
             The next `forebay run` sends them.",
            kept.destination,
            counted(kept.exports, "export"),
            kept.last_error
        );
    }
    let interrupted = args.drain && signals.caught();
    if interrupted {
        tell!("stopped by a signal before everything was drained; the same command goes on");
    }
    match global.output {
        Format::Json => output::json(summary)?,
        Format::Text => output::text(&summary_text(summary))?,
    }
    let rejected = args.strict && summary.records.rejected > 0;
    let failed = interrupted || rejected || !waiting.is_empty();
    Ok(if failed { Outcome::Failed } else { Outcome::Ok })
}

/// The thread that tells what the engine notices while it runs.
struct Notices {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Notices {
    fn start(engine: &Arc<Engine>, bars: &Arc<Bars>) -> Result<Self, CliError> {
        let (stop, stopped) = bounded(0);
        let (engine, bars) = (Arc::clone(engine), Arc::clone(bars));
        let thread = thread::Builder::new()
            .name("notices".into())
            .spawn(move || tell_notices(&engine, &bars, &stopped))
            .map_err(|error| CliError::Failed(format!("cannot start a thread: {error}")))?;
        Ok(Self { stop, thread })
    }

    /// Tells the rest and ends.
    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that tells notices panicked");
        }
    }
}

fn tell_notices(engine: &Engine, bars: &Bars, stopped: &Receiver<()>) {
    loop {
        let running = stopped.recv_timeout(NOTICE_INTERVAL) == Err(RecvTimeoutError::Timeout);
        for notice in engine.notices() {
            bars.tell(&input::notice_text(&notice));
        }
        if !running {
            return;
        }
    }
}
