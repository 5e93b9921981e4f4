//! The command line of groundswell: parses arguments, calls the libraries, owns stdout and the exit code.
//!
//! # Layout
//! - [`args`]: every command and flag
//! - `ci`: labels of a CI server
//! - `client`: the coordinator's HTTP API
//! - `commands`: a file for each command
//! - `live`: what is shown while a run goes on
//! - `output`: stdout, stderr and files; the only place that prints

pub mod args;
mod ci;
mod client;
mod commands;
mod live;
mod output;
mod plan_file;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// How a command ends. The codes are an interface: README.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; for a run: passed.
    Success,
    /// Wrong usage or an invalid plan; nothing was sent.
    Usage,
    /// The run is incomplete.
    Incomplete,
    /// As the coordinator says.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Usage => 2,
            Exit::Incomplete => 3,
            Exit::Code(code) => code,
        })
    }
}

/// An error with the exit code that it means.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
    /// A coordinator says that there is no such thing.
    pub(crate) not_found: bool,
    /// There was no answer from a coordinator.
    pub(crate) unreachable: bool,
}

/// What a command returns.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Failure { exit: Exit::Usage, error: error.into(), not_found: false, unreachable: false }
    }

    pub(crate) fn incomplete(error: impl Into<anyhow::Error>) -> Self {
        Failure { exit: Exit::Incomplete, error: error.into(), not_found: false, unreachable: false }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(cli.verbose);
    let outcome = match cli.command {
        Command::Run(mut args) => {
            ci::add_labels(&mut args);
            commands::run::run(&args)
        }
        Command::Search(mut args) => {
            ci::add_labels(&mut args);
            commands::search::run(&args)
        }
        Command::Serve(args) => commands::serve::run(&args),
        Command::Agent(args) => commands::agent::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Certs(args) => commands::certs::run(&args),
        Command::Tokens(args) => commands::tokens::run(&args),
        Command::Schema => commands::schema::run(),
        Command::Health(args) => commands::health::run(&args),
        Command::DemoTarget(args) => commands::demo_target::run(&args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::error(&failure.error);
            failure.exit.into()
        }
    }
}
