//! The audit log, as its operator looks at it.

use std::ffi::OsString;
use std::process::ExitCode;

use kms_core::audit::{self, Broken, Record, Restart, Verified, timestamp};
use kms_store::{AuditFilter, AuditPlace};
use serde_json::{Value, json};

use super::arguments::{Audit, AuditHead, AuditList, AuditRestart, AuditVerify};
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::progress::Progress;
use crate::service::Backend;

/// `kms audit …`.
pub(super) fn run(arguments: Audit, typed: &[OsString]) -> Result<ExitCode, Failure> {
    match arguments {
        Audit::Verify(verify) => self::verify(verify, typed),
        Audit::Head(head) => self::head(head, typed),
        Audit::List(list) => self::list(list, typed),
        Audit::Restart(restart) => self::restart(restart, typed),
    }
}

fn verify(arguments: AuditVerify, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let mut progress = Progress::begin("entries");
    let found = backend.verify_audit(arguments.head, |done, total| progress.at(done, total));
    progress.end();
    let found = found?;
    let restarts = backend.audit_restarts()?;
    if arguments.output.json {
        let mut told = verdict(&found);
        told["restarts"] = restarts.iter().map(restarted).collect();
        output::json(&told);
    } else {
        match &found {
            Ok(whole) => tell(whole, &restarts),
            Err(broken) => output::failure(&Failure::new(
                format!("the audit log is not whole: {broken}"),
                "keep a copy of the database for who looks into it; restore from a backup that `kms audit verify` finds whole, or \
                 begin a new log with `kms audit restart`",
            )),
        }
    }
    Ok(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(whole: &Verified, restarts: &[Restart]) {
    output::line(&format!("the audit log is whole: {} entries", whole.entries));
    if whole.pruned > 0 {
        output::line(&format!("the {} before them were pruned for their age", whole.pruned));
    }
    for Restart { at, name, problem, entries, after, .. } in restarts {
        let problem = output::printable(problem.clone());
        output::line(&format!(
            "begun anew after entry {after} at {} by {name}, for {problem}; {entries} entries are set aside",
            timestamp(*at)
        ));
    }
    output::line(&format!("head {}", whole.head.last));
}

fn restarted(restart: &Restart) -> Value {
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

fn restart(arguments: AuditRestart, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let Some(restart) = backend.restart_audit()? else {
        let next = "nothing is to be done; `kms audit verify` tells where it ends";
        return Err(Failure::new("the audit log is whole, and is left as it is", next));
    };
    if arguments.output.json {
        output::json(&restarted(&restart));
    } else {
        let Restart { problem, entries, after, .. } = &restart;
        let problem = output::printable(problem.clone());
        output::line(&format!("a new audit log begins after entry {after}: {problem}"));
        output::line(&format!(
            "the {entries} entries that were there are set aside in the database, as they were found"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was found, as scripts read it.
pub(super) fn verdict(found: &Result<Verified, Broken>) -> Value {
    match found {
        Ok(whole) => json!({
            "whole": true,
            "entries": whole.entries,
            "pruned": whole.pruned,
            "head": whole.head.last.to_string(),
        }),
        Err(broken) => json!({
            "whole": false,
            "sequence": broken.sequence,
            "problem": broken.to_string(),
        }),
    }
}

fn head(arguments: AuditHead, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let head = Backend::open(&home.open(typed)?)?.audit_head()?.last;
    if arguments.output.json {
        output::json_line(&json!({ "sequence": head.sequence, "head": head.to_string() }));
    } else {
        output::line(&head.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

/// Entries read at once.
const PAGE: usize = 500;

/// A day, in milliseconds.
const DAY: u64 = 24 * 3600 * 1000;

fn list(arguments: AuditList, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let until = arguments.until.unwrap_or_else(|| backend.now());
    let from = arguments.since.unwrap_or_else(|| until.saturating_sub(DAY));
    let filter = AuditFilter { project: arguments.project, from, until };
    let (mut left, mut after, mut rows) = (arguments.limit.unwrap_or(usize::MAX), None, Vec::new());
    while left > 0 {
        let page = backend.audit_page(&filter, after, left.min(PAGE))?;
        left -= page.len();
        after = page.last().map(|last| AuditPlace { at: last.at, sequence: last.sequence });
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
