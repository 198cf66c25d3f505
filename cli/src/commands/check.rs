//! `forebay check`: is the configuration right, and what will each audience read?

use serde_json::json;

use crate::args::{Format, Global};
use crate::configuration;
use crate::exit_code::{CliError, Outcome};
use crate::output;

/// Validates the configuration and prints the plans of its audiences.
pub(crate) fn run(global: &Global) -> Result<Outcome, CliError> {
    let config = configuration::load_config(&global.config)?;
    let warnings = configuration::warnings(&config);
    let plans = configuration::audience_plans(&config);
    if global.output == Format::Json {
        let audiences: serde_json::Map<_, _> =
            plans.into_iter().map(|(id, lines)| (id, json!(lines))).collect();
        output::json(&json!({ "warnings": warnings, "audiences": audiences }))?;
        return Ok(Outcome::Ok);
    }
    for warning in &warnings {
        tell!("{warning}");
    }
    for (id, lines) in &plans {
        output::text(&format!("audience {id}"))?;
        for line in lines {
            output::text(&format!("  {line}"))?;
        }
    }
    output::text(&format!("{} is in order", global.config.display()))?;
    Ok(Outcome::Ok)
}
