//! `kms backup` and `kms restore`.

use std::ffi::OsString;
use std::path::Path;

use kms_store::{CheckReport, StoreError};
use serde_json::{Value, json};

use super::arguments::{BackupCommand, RestoreCommand};
use super::audit::verification_json;
use super::failure::Failure;
use super::home::Home;
use super::output;
use super::progress::Progress;
use super::restore_prompt;
use crate::server::SocketError;
use crate::service::{Backend, RestoreOptions, RestorePlan, ServiceError, erase_database};

/// `kms backup`.
pub(super) fn backup(arguments: BackupCommand, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let to = absolute(&arguments.to)?;
    let mut progress = Progress::new("pages");
    let checked = backend.backup(&to, |done, total| progress.update(done, total));
    progress.finish();
    let checked = checked.map_err(|error| backup_failure(error, &to))?;
    if let Err(broken) = checked.audit {
        let next = "keep the copy for the investigation; verify the database itself with `kms audit verify`, and start a new log \
                    with `kms audit restart`";
        return Err(Failure::new(format!("the audit log in the copy is not intact: {broken}"), next));
    }
    if arguments.output.json {
        output::json(&copy_json(&to, &checked));
    } else {
        output::line(&format!("{} is written and verified: {}", to.display(), summary(&checked)));
    }
    Ok(())
}

/// `kms restore`.
pub(super) fn restore(arguments: RestoreCommand, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let from = absolute(&arguments.from)?;
    let options =
        RestoreOptions { keep_logins: arguments.keep_logins, keep_credentials: arguments.keep_credential };
    let (yes, as_json) = (arguments.yes, arguments.output.json);
    let confirm = |plan: &RestorePlan| yes || restore_prompt::confirmed(plan, as_json);
    let restored = Backend::restore(&home.open(argv)?, &from, &options, confirm);
    let restored = restored.map_err(|error| restore_failure(error, &from))?;
    let (replaced, delete) = (&restored.replaced, arguments.delete_replaced);
    if let Some(replaced) = replaced.as_ref().filter(|_| delete) {
        erase_database(replaced).map_err(|error| {
            let what = format!("the copy is restored, but {} cannot be deleted", replaced.display());
            Failure::because(what, &error, "delete it yourself: it still has what was erased or revoked")
        })?;
    }
    if as_json {
        let mut value = copy_json(&from, &restored.checked);
        value["replaced"] = json!(replaced.as_ref().map(|path| path.display().to_string()));
        value["replacedDeleted"] = json!(delete && replaced.is_some());
        value["plan"] = restored.plan.json();
        output::json(&value);
    } else {
        output::line(&format!("{} is restored: {}", from.display(), summary(&restored.checked)));
        restore_prompt::lines(&restored.plan).iter().for_each(|line| output::line(line));
        match replaced {
            Some(path) if delete => {
                output::line(&format!("the previous database {} is deleted", path.display()))
            }
            Some(path) => output::line(&format!(
                "the previous database is now {}; it still has the wrapped material of keys that are erased later: delete it \
                 with `shred -u` when you no longer need it",
                path.display()
            )),
            None => {}
        }
    }
    Ok(())
}

/// Why the backup failed. An invalid row is in the database itself, not only in the copy.
fn backup_failure(error: ServiceError, to: &Path) -> Failure {
    if let ServiceError::Store(StoreError::Io { source, .. }) = &error {
        let next = "name a new file in an existing folder that you can write to";
        return Failure::because(format!("{} cannot be written", to.display()), source, next);
    }
    if let ServiceError::Store(StoreError::Full(cause)) = &error {
        let next = "free some space, or name a file on another disk";
        return Failure::because(format!("no space left for {}", to.display()), cause, next);
    }
    if let ServiceError::Store(StoreError::RowInvalid { .. }) = &error {
        let next = "keep the existing backups: the row is in the database itself; delete the object that it describes \
                    and create it again, or restore a backup";
        return Failure::because("no backup was written", &error, next);
    }
    error.into()
}

/// Why a restore failed. The database is unchanged.
fn restore_failure(error: ServiceError, from: &Path) -> Failure {
    let copy = from.display();
    let next = "name a copy that `kms backup` wrote; the database of the home is unchanged";
    if let ServiceError::SocketListener(SocketError::NameInUse(_)) = &error {
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
        return Failure::because(copy, &store, "use another copy; this one was changed after the backup");
    }
    if let StoreError::Io { path, source } = &store {
        if path == from {
            return Failure::because(format!("{copy} cannot be read"), source, next);
        }
        return Failure::because(
            format!("{} cannot be written", path.display()),
            source,
            "check the disk, then try again",
        );
    }
    if let StoreError::NotADatabase(_) | StoreError::Foreign(_) = &store {
        return Failure::new(format!("{copy} is not a KMS database"), next);
    }
    if let StoreError::Damaged(cause) = &store {
        return Failure::because(format!("{copy} is damaged"), cause, next);
    }
    ServiceError::Store(store).into()
}

/// An absolute path, which remains valid when the process is executed again with the environment of the home.
fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::because(format!("{:?} is not a valid path", path.display()), &error, "name another file")
    })
}

fn summary(checked: &CheckReport) -> String {
    let entries = checked.audit.map_or(0, |audit| audit.entries);
    let CheckReport { rings, keys, objects, accounts, .. } = checked;
    format!("{rings} rings, {keys} keys, {objects} objects, {accounts} accounts, {entries} audit entries")
}

fn copy_json(file: &Path, checked: &CheckReport) -> Value {
    json!({
        "file": file.to_string_lossy(),
        "rings": checked.rings,
        "principals": checked.principals,
        "keys": checked.keys,
        "versions": checked.versions,
        "objects": checked.objects,
        "accounts": checked.accounts,
        "audit": verification_json(&checked.audit),
    })
}
