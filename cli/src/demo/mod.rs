//! `forebay demo`: the whole job on real data, in a temporary directory, with a receiver of its own.
//!
//! Nothing is faked: the configuration is `examples/cdnow/forebay.toml`, the engine is opened,
//! fed, drained and closed as `run --drain` does it, and the exports go over HTTP to a receiver
//! that counts them. The demo fails if one of them is missing or came twice.

mod purchases;
mod report;
mod tally;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_engine::clock::{Clock, SystemClock};
use forebay_engine::engine::{Engine, Mode, Options};
use forebay_engine::views::{AudienceView, DataflowView, Summary};

use crate::args::{self, Format, Global};
use crate::configuration::{Config, load_config};
use crate::exit_code::{CliError, Outcome};
use crate::output;
use crate::progress::Bars;
use crate::receiver::{Receiver, Settings};
use crate::signals::SignalGuard;
use tally::{Tally, Teller};

/// The configuration that is run.
const CONFIGURATION: &str = include_str!("../../../examples/cdnow/forebay.toml");
/// The receiver's address in it.
const RECEIVER: &str = "127.0.0.1:8400";
/// The receiver is this process: what it does not take in this time, it never takes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// What a demo showed.
struct Facts {
    summary: Summary,
    audiences: Vec<AudienceView>,
    dataflows: Vec<DataflowView>,
    tally: Tally,
}

/// Runs the demo and prints what happened.
pub(crate) fn run(args: &args::Demo, global: &Global) -> Result<Outcome, CliError> {
    let directory = tempfile::Builder::new()
        .prefix("forebay-demo-")
        .tempdir()
        .map_err(|error| CliError::Failed(format!("cannot make a temporary directory: {error}")))?;
    let facts = play(directory.path(), args.exports.as_deref(), global.output)?;
    match global.output {
        Format::Json => output::json(&report::json(&facts))?,
        Format::Text => output::text(&report::text(&facts, args.exports.as_deref()))?,
    }
    let mistakes = report::mistakes(&facts);
    for mistake in &mistakes {
        tell!("error: {mistake}");
    }
    Ok(if mistakes.is_empty() { Outcome::Ok } else { Outcome::Failed })
}

fn play(directory: &Path, exports: Option<&Path>, format: Format) -> Result<Facts, CliError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (teller, arrivals) = Teller::start(exports, Arc::clone(&clock)).map_err(|error| {
        let path = exports.unwrap_or(Path::new("the exports")).display();
        CliError::Failed(format!("cannot write {path}: {error}"))
    })?;
    let settings = Settings { listen: (Ipv4Addr::LOCALHOST, 0).into(), status: 204 };
    let receiver = Receiver::start(settings, move |received| {
        if arrivals.send(received).is_err() {
            tracing::error!("an export came after the tally had failed");
        }
    })
    .map_err(|error| CliError::Failed(format!("cannot listen on 127.0.0.1: {error}")))?;
    let bars = Bars::new();
    if format == Format::Text {
        bars.tell("18 months of purchases in a music shop, as fast as they can be read …");
    }
    let activated = activate(directory, receiver.address(), (clock, &bars));
    bars.clear();
    receiver.stop();
    let tally = teller
        .finish()
        .map_err(|error| CliError::Failed(format!("cannot write the exports: {error}")))?;
    let (summary, audiences, dataflows) = activated?;
    Ok(Facts { summary, audiences, dataflows, tally })
}

/// What the engine says at the end.
type Views = (Summary, Vec<AudienceView>, Vec<DataflowView>);

/// Does what `run --input purchases.ndjson --drain` does.
fn activate(
    directory: &Path,
    receiver: SocketAddr,
    (clock, bars): (Arc<dyn Clock>, &Bars),
) -> Result<Views, CliError> {
    let config = Some(configuration(directory, receiver)?);
    let data = directory.join("data");
    // Caught, so that the temporary directory is removed.
    let signals = SignalGuard::install()?;
    let engine = Engine::open(Options { data, config, mode: Mode::Deliver, clock }, bars)?;
    let engine = Arc::new(engine);
    let stopping = Arc::clone(&engine);
    signals.on_first(move || stopping.request_stop());
    let worked = deliver(&engine, directory, bars);
    signals.on_first(|| {});
    Arc::into_inner(engine).expect("the signal handler was the only other owner").close()?;
    if signals.caught() {
        return Err(CliError::Failed("stopped by a signal".to_owned()));
    }
    worked
}

fn deliver(engine: &Engine, directory: &Path, bars: &Bars) -> Result<Views, CliError> {
    let input = directory.join("purchases.ndjson");
    std::fs::write(&input, purchases::records())
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", input.display())))?;
    engine.read_file(&input, bars)?;
    // What destinations keep is in the summary, as `waiting`.
    engine.drain(DRAIN_TIMEOUT, bars)?;
    Ok((engine.summary()?, engine.audiences()?, engine.dataflows()?))
}

/// Writes the demo's configuration with the receiver's address, and loads it as any other.
fn configuration(directory: &Path, receiver: SocketAddr) -> Result<Config, CliError> {
    let path = directory.join("forebay.toml");
    let text = CONFIGURATION.replace(RECEIVER, &receiver.to_string());
    std::fs::write(&path, text)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))?;
    load_config(&path)
}

#[cfg(test)]
mod tests {
    use super::{CONFIGURATION, RECEIVER};

    #[test]
    fn both_destinations_lead_to_the_demos_receiver() {
        assert_eq!(CONFIGURATION.matches("endpoint = ").count(), 2);
        assert_eq!(CONFIGURATION.matches(&format!("\"http://{RECEIVER}/")).count(), 2);
    }
}
