//! Backup and restore, as their operator sees them.

use std::ffi::OsString;
use std::path::Path;

use kms_store::{Checked, StoreError};
use serde_json::{Value, json};

use super::arguments::{BackupCommand, RestoreCommand};
use super::audit::verdict;
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::progress::Progress;
use crate::server::SocketError;
use crate::service::{Backend, ServiceError};

/// `kms backup`.
pub(super) fn backup(arguments: BackupCommand, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let to = absolute(&arguments.to)?;
    let mut progress = Progress::begin("pages");
    let checked = backend.backup(&to, |done, total| progress.at(done, total));
    progress.end();
    let checked = checked.map_err(|error| not_made(error, &to))?;
    if let Err(broken) = checked.audit {
        let next = "the copy is kept for who looks into it; `kms audit verify` tells of the database itself, and \
                    `kms audit restart` begins a new log";
        return Err(Failure::new(format!("the audit log in the copy is not whole: {broken}"), next));
    }
    if arguments.output.json {
        output::json(&told(&to, &checked));
    } else {
        output::line(&format!("{} is whole: {}", to.display(), counted(&checked)));
    }
    Ok(())
}

/// `kms restore`.
pub(super) fn restore(arguments: RestoreCommand, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let from = absolute(&arguments.from)?;
    let restored = Backend::restore(&home.open(typed)?, &from);
    let restored = restored.map_err(|error| not_taken(error, &from))?;
    let replaced = restored.replaced.as_ref().map(|path| path.display().to_string());
    if arguments.output.json {
        let mut value = told(&from, &restored.checked);
        value["replaced"] = json!(replaced);
        output::json(&value);
    } else {
        output::line(&format!("{} is restored: {}", from.display(), counted(&restored.checked)));
        if let Some(replaced) = replaced {
            output::line(&format!("the database that was there is {replaced}"));
        }
    }
    Ok(())
}

/// Why there is no backup. A row that was changed is in the database itself: the copy is as good as that.
fn not_made(error: ServiceError, to: &Path) -> Failure {
    if let ServiceError::Store(StoreError::Io { source, .. }) = &error {
        let next = "name a new file in a folder that is there and that you may write to";
        return Failure::because(format!("{} cannot be written", to.display()), source, next);
    }
    if let ServiceError::Store(StoreError::Full(cause)) = &error {
        let next = "make room there, or name a file on another disk";
        return Failure::because(format!("there is no room for {}", to.display()), cause, next);
    }
    if let ServiceError::Store(StoreError::RowInvalid { .. }) = &error {
        let next = "keep the backups that you have: the row is in the database itself; remove what it tells of \
                    and make it anew, or restore";
        return Failure::because("no backup was made", &error, next);
    }
    error.into()
}

/// Why a copy does not become the database, which is as it was.
fn not_taken(error: ServiceError, from: &Path) -> Failure {
    let copy = from.display();
    let next = "name a copy that `kms backup` made; the database of the home is as it was";
    if let ServiceError::SocketListener(SocketError::Taken(_)) = &error {
        return Failure::because(
            "nothing was restored",
            &error,
            "stop the daemon, restore, and start it again",
        );
    }
    if let ServiceError::Mismatch { .. } = &error {
        let next = "restore it into the home whose token wraps its keys, or restore that token first";
        return Failure::new(format!("the master key in the token does not open the keys of {copy}"), next);
    }
    let ServiceError::Store(store) = error else { return error.into() };
    if let StoreError::RowInvalid { .. } = &store {
        return Failure::because(copy, &store, "use another copy; this one was changed since it was taken");
    }
    if let StoreError::Io { path, source } = &store {
        if path == from {
            return Failure::because(format!("{copy} cannot be read"), source, next);
        }
        return Failure::because(format!("{} cannot be written", path.display()), source, "look at the disk");
    }
    if let StoreError::NotADatabase(_) | StoreError::Foreign(_) = &store {
        return Failure::new(format!("{copy} is no database of this program"), next);
    }
    if let StoreError::Damaged(cause) = &store {
        return Failure::because(format!("{copy} is damaged"), cause, next);
    }
    ServiceError::Store(store).into()
}

/// A home may need the process to start anew, from the same folder; a name must mean the same then.
fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::because(format!("{:?} is no file's name", path.display()), &error, "give another name")
    })
}

fn counted(checked: &Checked) -> String {
    let entries = checked.audit.map_or(0, |audit| audit.entries);
    let Checked { rings, keys, objects, accounts, .. } = checked;
    format!("{rings} rings, {keys} keys, {objects} objects, {accounts} accounts, {entries} audit entries")
}

fn told(file: &Path, checked: &Checked) -> Value {
    json!({
        "file": file.to_string_lossy(),
        "rings": checked.rings,
        "principals": checked.principals,
        "keys": checked.keys,
        "versions": checked.versions,
        "objects": checked.objects,
        "accounts": checked.accounts,
        "audit": verdict(&checked.audit),
    })
}
