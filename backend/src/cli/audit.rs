//! The audit log, as its operator looks at it.

use std::ffi::OsString;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::arguments::{Audit, AuditHead, AuditVerify};
use super::failure::Failure;
use super::home::Home;
use super::progress::Progress;
use super::screen;
use crate::audit::{Broken, Verified};
use crate::service::Backend;

/// `kms audit …`.
pub(super) fn run(arguments: Audit, typed: &[OsString]) -> Result<ExitCode, Failure> {
    match arguments {
        Audit::Verify(verify) => self::verify(verify, typed),
        Audit::Head(head) => self::head(head, typed),
    }
}

fn verify(arguments: AuditVerify, typed: &[OsString]) -> Result<ExitCode, Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let mut progress = Progress::begin("entries");
    let found = backend.verify_audit(arguments.head, |done, total| progress.at(done, total));
    progress.end();
    let found = found?;
    if arguments.output.json {
        screen::json(&verdict(&found));
    } else {
        match &found {
            Ok(whole) => tell(whole),
            Err(broken) => screen::failure(&Failure::new(
                format!("the audit log is not whole: {broken}"),
                "keep the database as it is for who looks into it; restore from a backup that `kms audit verify` finds whole",
            )),
        }
    }
    Ok(if found.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(whole: &Verified) {
    let (anchor, last) = (whole.head.anchor, whole.head.last);
    screen::line(&format!("the audit log is whole: {} entries", whole.entries));
    if anchor.sequence > 0 {
        screen::line(&format!("the {} before them were pruned for their age", anchor.sequence));
    }
    screen::line(&format!("head {last}"));
}

/// What was found, as scripts read it.
pub(super) fn verdict(found: &Result<Verified, Broken>) -> Value {
    match found {
        Ok(whole) => json!({
            "whole": true,
            "entries": whole.entries,
            "pruned": whole.head.anchor.sequence,
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
        screen::json_line(&json!({ "sequence": head.sequence, "head": head.to_string() }));
    } else {
        screen::line(&head.to_string());
    }
    Ok(ExitCode::SUCCESS)
}
