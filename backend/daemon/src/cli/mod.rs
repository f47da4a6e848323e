//! The operator's command line: parses arguments, calls `service`, and prints the results.
//!
//! Each command opens the home itself, whether or not the daemon runs (docs/decisions/0008). Results go to standard
//! output, as text or with `--json`; errors and logs go to standard error. PINs are never printed: they are written
//! into the home's `credentials`, which only its owner can read.

mod accounts;
mod arguments;
mod audit;
mod backup;
mod credential_checks;
mod credentials;
mod doctor;
mod environment;
mod failure;
mod hardening;
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
mod restore_prompt;
mod rings;
mod serve;
mod softhsm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, Key, Ring};
use failure::Failure;

/// Runs the command in `arguments` (with the program's name first). The exit code is 0 if it succeeded, else 1.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&argv) {
        Ok(parsed) => parsed,
        Err(error) => return output::usage(&error),
    };
    if opens_home(&parsed.command) {
        for problem in hardening::apply() {
            output::note(&format!("kms: warning: {problem}"));
        }
    }
    match command(parsed.command, &argv) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure);
            ExitCode::FAILURE
        }
    }
}

/// Whether a command opens a home, and so has keys and PINs in memory. The module probe is an application's process.
fn opens_home(command: &Command) -> bool {
    !matches!(command, Command::Import(_) | Command::OpenApi(_) | Command::ModuleProbe(_))
}

fn command(command: Command, argv: &[OsString]) -> Result<ExitCode, Failure> {
    match command {
        Command::Init(init) => init::run(init, argv)?,
        Command::Serve(serve) => serve::run(serve, argv)?,
        Command::Ring(Ring::Create(create)) => rings::create(create, argv)?,
        Command::Ring(Ring::List(list)) => rings::list(list, argv)?,
        Command::Key(Key::List(list)) => rings::keys(list, argv)?,
        Command::Key(Key::Rotate(rotate)) => rings::rotate(rotate, argv)?,
        Command::Account(account) => accounts::run(account, argv)?,
        Command::Role(role) => accounts::roles(role, argv)?,
        Command::Token(token) => credentials::tokens(token, argv)?,
        Command::Project(project) => projects::run(project, argv)?,
        Command::Audit(audit) => return audit::run(audit, argv),
        Command::Import(import) => import::run(&import)?,
        Command::Amounts(amounts) => reports::amounts(amounts, argv)?,
        Command::Export(export) => reports::export(export, argv)?,
        Command::Usage(usage) => reports::usage(usage, argv)?,
        Command::Backup(to) => backup::backup(to, argv)?,
        Command::Restore(from) => backup::restore(from, argv)?,
        Command::Doctor(doctor) => return doctor::run(doctor, argv),
        Command::OpenApi(arguments::OpenApi {}) => output::line(crate::rest::openapi()),
        Command::ModuleProbe(probe) => return Ok(module_probe::run(&probe)),
    }
    Ok(ExitCode::SUCCESS)
}
