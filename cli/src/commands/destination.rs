//! `forebay destination`: where exports go, how it does, and whether it takes a sample.
//!
//! The list comes from the running engine, which has the configuration it was started with and knows
//! the states; without one from the configuration alone. The sample needs the configuration only, and
//! is sent by this process: the engine and its data are not touched.

use std::sync::Arc;

use forebay_engine::clock::{Clock, SystemClock};
use forebay_engine::deliver::trial;
use forebay_engine::engine::destination_views;
use forebay_engine::views::DestinationView;

use super::suggestion::check_known;
use crate::args::{Destination, Format, Global};
use crate::configuration::load_config;
use crate::exit_code::{CliError, Outcome};
use crate::output::{self, destination_entry, trial_text};
use crate::serve::protocol::{Answer, Question};
use crate::serve::session::{Client, confused};

/// Does `forebay destination …`.
pub(crate) fn run(command: &Destination, global: &Global) -> Result<Outcome, CliError> {
    match command {
        Destination::List => list(global),
        Destination::Test { id } => test(id, global),
    }
}

fn list(global: &Global) -> Result<Outcome, CliError> {
    let views = views(global)?;
    match global.output {
        Format::Json => output::json_lines(&views)?,
        Format::Text if views.is_empty() => output::text("no destinations are configured")?,
        Format::Text => {
            let entries: Vec<String> = views.iter().map(destination_entry).collect();
            output::text(&entries.join("\n\n"))?;
        }
    }
    Ok(Outcome::Ok)
}

fn views(global: &Global) -> Result<Vec<DestinationView>, CliError> {
    let Some(mut engine) = Client::connect(&global.data)? else {
        return Ok(destination_views(&load_config(&global.config)?));
    };
    match engine.ask(&Question::Destinations)? {
        Answer::Destinations(views) => Ok(views),
        other => Err(confused(&other)),
    }
}

fn test(id: &str, global: &Global) -> Result<Outcome, CliError> {
    let config = load_config(&global.config)?;
    let known: Vec<String> = config.destinations.iter().map(|d| d.settings.id.clone()).collect();
    check_known("destination", id, &known)?;
    let destination = config.destination(id).expect("it is known");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let trial = trial::try_out(&destination.settings, &clock)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    match global.output {
        Format::Json => output::json(&trial)?,
        Format::Text => output::text(&trial_text(&trial))?,
    }
    Ok(if trial.ok { Outcome::Ok } else { Outcome::Failed })
}
