//! One file a command: ask, print, say how it went.

mod audience;
mod backtest;
mod check;
mod dataflow;
mod dead_letters;
mod derived;
mod destination;
mod explain;
mod import_audience;
mod ingest;
mod init;
mod input;
mod log;
mod profile;
mod receiver;
mod run;
mod status;
mod suggestion;

use crate::args::{Args, Command};
use crate::demo;
use crate::exit_code::{CliError, Outcome};

/// Does what was typed.
pub(crate) fn dispatch(args: Args) -> Result<Outcome, CliError> {
    if let Some(what) = args.not_built() {
        return Err(CliError::not_built(what));
    }
    let global = &args.global;
    match args.command {
        Command::Demo(demo) => demo::run(&demo, global),
        Command::Init { dir } => init::run(&dir),
        Command::Check => check::run(global),
        Command::Receiver(receiver) => receiver::run(&receiver, global),
        Command::Run(run) => run::run(&run, global),
        Command::Ingest(ingest) => ingest::run(&ingest, global),
        Command::ImportAudience(import) => import_audience::run(&import, global),
        Command::Profile(profile) => profile::run(&profile, global),
        Command::Status => status::run(global),
        Command::Audience(audience) => audience::run(&audience, global),
        Command::Dataflow(dataflow) => dataflow::run(&dataflow, global),
        Command::Destination(destination) => destination::run(&destination, global),
        Command::DeadLetters(letters) => dead_letters::run(&letters, global),
        Command::Log(log) => log::run(&log, global),
        Command::Explain(explain) => explain::run(&explain, global),
        Command::Verify => derived::verify(global),
        Command::Rebuild => derived::rebuild(global),
        Command::Alerts(_) | Command::Token(_) => Err(CliError::not_built("this command")),
    }
}
