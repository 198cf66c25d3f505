//! The configuration as the commands need it: loaded, with its warnings told.

use std::path::Path;

pub(crate) use forebay_engine::config::Config;

use crate::exit_code::CliError;

/// The text that `forebay init` writes.
pub(crate) fn starter() -> &'static str {
    forebay_engine::config::STARTER
}

/// Loads `path`. Everything wrong with it comes in one error, each place with line and caret.
pub(crate) fn load_config(path: &Path) -> Result<Config, CliError> {
    if let Err(error) = std::fs::metadata(path)
        && error.kind() == std::io::ErrorKind::NotFound
    {
        return Err(CliError::Usage(format!(
            "there is no configuration at {}\n\
             `forebay init` writes a starter one; --config FILE names another.",
            path.display()
        )));
    }
    forebay_engine::check::load(path, &|name| std::env::var(name).ok()).map_err(|diagnostics| {
        CliError::Usage(format!("the configuration has faults\n{diagnostics}"))
    })
}

/// What is odd about a configuration, though not wrong.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

/// Each audience with the lines that describe its plan.
pub(crate) fn audience_plans(config: &Config) -> Vec<(String, Vec<String>)> {
    forebay_engine::check::plans(config)
}

/// Loads `path` and tells its warnings on stderr.
pub(crate) fn load_and_tell(path: &Path) -> Result<Config, CliError> {
    let config = load_config(path)?;
    for warning in warnings(&config) {
        tell!("{warning}");
    }
    Ok(config)
}
