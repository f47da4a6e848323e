//! `kms audit`.

use std::ffi::OsString;
use std::process::ExitCode;

use kms_core::audit::{self, ChainFault, Record, Restart, Verified, timestamp};
use kms_store::{AuditCursor, AuditFilter};
use serde_json::{Value, json};

use super::arguments::{Audit, AuditHead, AuditList, AuditRestart, AuditVerify};
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::progress::Progress;
use crate::service::Backend;

/// Runs a command of `kms audit`.
pub(super) fn run(arguments: Audit, argv: &[OsString]) -> Result<ExitCode, Failure> {
    match arguments {
        Audit::Verify(verify) => self::verify(verify, argv),
        Audit::Head(head) => self::head(head, argv),
        Audit::List(list) => self::list(list, argv),
        Audit::Restart(restart) => self::restart(restart, argv),
    }
}

fn verify(arguments: AuditVerify, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let mut progress = Progress::new("entries");
    let verified = backend.verify_audit(arguments.head, |done, total| progress.update(done, total));
    progress.finish();
    let verified = verified?;
    let restarts = backend.audit_restarts()?;
    if arguments.output.json {
        let mut json = verification_json(&verified);
        json["restarts"] = restarts.iter().map(restart_json).collect();
        output::json(&json);
    } else {
        match &verified {
            Ok(intact) => print_verified(intact, &restarts),
            Err(broken) => output::failure(&Failure::new(
                format!("the audit log is not intact: {broken}"),
                "keep a copy of the database for the investigation; then restore a backup whose log is intact, or \
                 start a new log with `kms audit restart`",
            )),
        }
    }
    Ok(if verified.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_verified(intact: &Verified, restarts: &[Restart]) {
    output::line(&format!("the audit log is intact: {} entries", intact.entries));
    if intact.pruned > 0 {
        output::line(&format!("{} older entries were pruned", intact.pruned));
    }
    for Restart { at, name, problem, entries, after, .. } in restarts {
        let problem = output::printable(problem.clone());
        output::line(&format!(
            "restarted after entry {after} at {} by {name}: {problem}; {entries} entries are set aside",
            timestamp(*at)
        ));
    }
    output::line(&format!("head {}", intact.head.last));
}

fn restart_json(restart: &Restart) -> Value {
    json!({
        "number": restart.number,
        "at": timestamp(restart.at),
        "by": restart.name,
        "problem": restart.problem,
        "head": restart.head,
        "entries": restart.entries,
        "after": restart.after,
    })
}

fn restart(arguments: AuditRestart, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let Some(restart) = backend.restart_audit()? else {
        let next = "no action is needed; `kms audit verify` prints the head of the log";
        return Err(Failure::new("the audit log is intact and was not restarted", next));
    };
    if arguments.output.json {
        output::json(&restart_json(&restart));
    } else {
        let Restart { problem, entries, after, .. } = &restart;
        let problem = output::printable(problem.clone());
        output::line(&format!("a new audit log starts after entry {after}: {problem}"));
        output::line(&format!("the {entries} previous entries are set aside in the database, unchanged"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The result of a verification as JSON.
pub(super) fn verification_json(verified: &Result<Verified, ChainFault>) -> Value {
    match verified {
        Ok(intact) => json!({
            "whole": true,
            "entries": intact.entries,
            "pruned": intact.pruned,
            "head": intact.head.last.to_string(),
        }),
        Err(broken) => json!({
            "whole": false,
            "sequence": broken.sequence,
            "problem": broken.to_string(),
        }),
    }
}

fn head(arguments: AuditHead, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let head = Backend::open(&home.open(argv)?)?.audit_head()?.last;
    if arguments.output.json {
        output::json_line(&json!({ "sequence": head.sequence, "head": head.to_string() }));
    } else {
        output::line(&head.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// The number of entries in one read.
const PAGE: usize = 500;

/// A day, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

fn list(arguments: AuditList, argv: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let until = arguments.until.unwrap_or_else(|| backend.now());
    let from = arguments.since.unwrap_or_else(|| until.saturating_sub(DAY));
    let filter = AuditFilter { project: arguments.project, from, until };
    let (mut left, mut after, mut rows) = (arguments.limit.unwrap_or(usize::MAX), None, Vec::new());
    while left > 0 {
        let page = backend.audit_page(&filter, after, left.min(PAGE))?;
        left -= page.len();
        after = page.last().map(|last| AuditCursor { at: last.at, sequence: last.sequence });
        if arguments.output.json {
            page.iter().for_each(|record| output::json_line(&json!(audit::item(record))));
        } else {
            rows.extend(page.iter().map(row));
        }
        if after.is_none() {
            break;
        }
    }
    if !arguments.output.json {
        output::table(["NUMBER", "TIME", "EVENT", "STATUS", "WHO", "RESOURCE"], &rows, "no entries");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(record: &Record) -> [String; 6] {
    let body = &record.body;
    [
        record.sequence.to_string(),
        output::time(record.at / 1000),
        body.event.clone(),
        body.status.to_string(),
        body.name.clone(),
        body.resource.clone(),
    ]
}
