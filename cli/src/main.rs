//! The `forebay` command: what was typed goes in, what the engine answers comes out.
//!
//! There is no logic here. [`args`] says what was asked for, [`commands`] asks the engine (or, over
//! the socket of [`serve`], the process that holds the data directory), and [`output`] prints.
//! Results go to stdout, everything else to stderr, and [`exit_code`] holds the three ways to end
//! (`SPEC.md` §10).

// Before the others, which use its `tell!`.
#[macro_use]
mod output;

mod args;
mod commands;
mod configuration;
mod demo;
mod durations;
mod exit_code;
mod interruptible;
mod logging;
mod progress;
mod receiver;
mod serve;
mod signals;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let args = args::Args::parse();
    logging::start();
    exit_code::report(commands::dispatch(args))
}
