//! The operator's command line: what one types, turned into calls of `service`, and their outcome into words.
//!
//! Each command opens the home by itself, whether or not the daemon runs (docs/decisions/0008). Results go to standard
//! output, as text or with `--json`; errors and logs go to standard error. No PIN is ever printed: it is written into
//! the home's `credentials`, which only its owner can read.

mod accounts;
mod arguments;
mod audit;
mod backup;
mod credentials;
mod doctor;
mod environment;
mod failure;
mod home;
mod host_checks;
mod import;
mod init;
mod module_probe;
mod output;
mod pins;
mod progress;
mod projects;
mod report;
mod reports;
mod rings;
mod serve;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, Key, Ring};
use failure::Failure;

/// Runs the command that `arguments` (with the program's name first) say, and tells how it ended: 0 when it did what
/// was asked, 1 when not.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return output::usage(&error),
    };
    match command(parsed.command, &arguments) {
        Ok(outcome) => outcome,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command, arguments: &[OsString]) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(init) => init::run(init, arguments)?,
        Command::Serve(serve) => serve::run(serve, arguments)?,
        Command::Ring(Ring::Create(create)) => rings::create(create, arguments)?,
        Command::Ring(Ring::List(list)) => rings::list(list, arguments)?,
        Command::Key(Key::List(list)) => rings::keys(list, arguments)?,
        Command::Key(Key::Rotate(rotate)) => rings::rotate(rotate, arguments)?,
        Command::Account(account) => accounts::run(account, arguments)?,
        Command::Role(role) => accounts::roles(role, arguments)?,
        Command::Token(token) => credentials::tokens(token, arguments)?,
        Command::Project(project) => projects::run(project, arguments)?,
        Command::Audit(audit) => return audit::run(audit, arguments),
        Command::Import(import) => import::run(&import)?,
        Command::Amounts(amounts) => reports::amounts(amounts, arguments)?,
        Command::Export(export) => reports::export(export, arguments)?,
        Command::Usage(usage) => reports::usage(usage, arguments)?,
        Command::Backup(to) => backup::backup(to, arguments)?,
        Command::Restore(from) => backup::restore(from, arguments)?,
        Command::Doctor(doctor) => return doctor::run(doctor, arguments),
        Command::OpenApi(arguments::OpenApi {}) => output::line(crate::rest::openapi()),
        Command::Probe(probe) => return Ok(module_probe::run(&probe)),
    }
    Ok(ExitCode::SUCCESS)
}
