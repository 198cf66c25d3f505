//! Log lines: on stderr, warnings and worse unless `FOREBAY_LOG` asks for more.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The variable that holds the filter, for example `debug` or `forebay_engine::deliver=trace`.
const FILTER: &str = "FOREBAY_LOG";

/// Starts logging for this process. A filter that cannot be read is told and replaced by `warn`.
pub(crate) fn start() {
    let wanted = std::env::var(FILTER).unwrap_or_else(|_| "warn".to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|error| {
        tell!("warning: {FILTER}={wanted} is no log filter ({error}); logging warnings only");
        EnvFilter::new("warn")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}
