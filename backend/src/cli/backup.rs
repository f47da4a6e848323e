//! Backup and restore, as their operator sees them.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};

use super::arguments::{BackupCommand, RestoreCommand};
use super::audit::verdict;
use super::failure::Failure;
use super::home::Home;
use super::progress::Progress;
use super::screen;
use crate::service::Backend;
use crate::store::Checked;

/// `kms backup`.
pub(super) fn backup(arguments: BackupCommand, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let to = absolute(&arguments.to)?;
    let mut progress = Progress::begin("pages");
    let checked = backend.backup(&to, |done, total| progress.at(done, total));
    progress.end();
    let checked = checked?;
    if let Err(broken) = checked.audit {
        let next = "the copy is kept for who looks into it; `kms audit verify` tells of the database itself";
        return Err(Failure::new(format!("the audit log in the copy is not whole: {broken}"), next));
    }
    if arguments.output.json {
        screen::json(&told(&to, &checked));
    } else {
        screen::line(&format!("{} is whole: {}", to.display(), counted(&checked)));
    }
    Ok(())
}

/// `kms restore`.
pub(super) fn restore(arguments: RestoreCommand, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let from = absolute(&arguments.from)?;
    let restored = Backend::restore(&home.open(typed)?, &from)?;
    let replaced = restored.replaced.as_ref().map(|path| path.display().to_string());
    if arguments.output.json {
        let mut value = told(&from, &restored.checked);
        value["replaced"] = json!(replaced);
        screen::json(&value);
    } else {
        screen::line(&format!("{} is restored: {}", from.display(), counted(&restored.checked)));
        if let Some(replaced) = replaced {
            screen::line(&format!("the database that was there is {replaced}"));
        }
    }
    Ok(())
}

/// A home may need the process to start anew, from the same folder; a name must mean the same then.
fn absolute(path: &Path) -> Result<std::path::PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::because(format!("{:?} is no file's name", path.display()), &error, "give another name")
    })
}

fn counted(checked: &Checked) -> String {
    let entries = checked.audit.map_or(0, |audit| audit.entries);
    let Checked { rings, keys, objects, .. } = checked;
    format!("{rings} rings, {keys} keys, {objects} objects, {entries} audit entries")
}

fn told(file: &Path, checked: &Checked) -> Value {
    json!({
        "file": file.to_string_lossy(),
        "rings": checked.rings,
        "keys": checked.keys,
        "objects": checked.objects,
        "audit": verdict(&checked.audit),
    })
}
