//! How a command ends: 0 ok, 1 failed, 2 wrong usage or configuration (`SPEC.md` §10).
//!
//! A [`CliError`] is what a person reads when a command could not do its work: what went wrong and,
//! where there is something to do about it, what to do. It is printed once, here.

use std::process::ExitCode;

use forebay_engine::error::EngineError;

/// A command that did its work may still have something to report by its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything asked for was done.
    Ok,
    /// It was done, and what came out is not what a script should go on with.
    Failed,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// What was typed, or what the configuration says, makes no sense. Exit status 2.
    #[error("{0}")]
    Usage(String),
    /// It made sense and could not be done. Exit status 1.
    #[error("{0}")]
    Failed(String),
    /// Nobody reads our output any more (`| head`); there is nobody to tell either. Exit status 0.
    #[error("the output is not read any more")]
    ReaderGone,
}

impl CliError {
    /// For what this version accepts on the command line only to say so.
    pub(crate) fn not_built(what: &str) -> Self {
        Self::Usage(format!("{what} is not built yet"))
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::InUse(directory) => Self::Failed(format!(
                "the data directory {0} is in use by another forebay process, which does not \
                 answer on {0}/engine.sock\n\
                 It may still be reading its log: try again in a moment. If it hangs, stop it \
                 (SIGTERM), or work on another directory with --data DIR.",
                directory.display()
            )),
            EngineError::Usage(message) => Self::Usage(message),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Prints what went wrong, if anything did, and turns it into the process's exit status.
pub(crate) fn report(result: Result<Outcome, CliError>) -> ExitCode {
    match result {
        Ok(Outcome::Ok) | Err(CliError::ReaderGone) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            tell!("error: {error}");
            ExitCode::from(if matches!(error, CliError::Usage(_)) { 2 } else { 1 })
        }
    }
}
