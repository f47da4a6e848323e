//! What there is, for its owner: export, amounts, usage.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;

use kms_store::USAGE_HOURS_MAX;
use serde_json::json;

use super::arguments::{AmountsCommand, Export, Usage};
use super::failure::Failure;
use super::home::Home;
use super::output;
use crate::service::Backend;

/// An hour, in seconds.
const HOUR: u64 = 3600;

/// A day, in seconds.
const DAY: u64 = 24 * HOUR;

/// `kms export`.
pub(super) fn export(arguments: Export, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let Some(path) = arguments.to else {
        return Ok(backend.export(arguments.project, &mut BufWriter::new(io::stdout().lock()))?);
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
        let next = "choose a new name: a file that is there is never overwritten";
        Failure::because(format!("{} cannot be made", path.display()), &error, next)
    })?;
    let written = backend.export(arguments.project, &mut BufWriter::new(&file)).map_err(Failure::from);
    let written = written.and_then(|()| {
        file.sync_all().map_err(|error| {
            Failure::because(format!("{} cannot be written", path.display()), &error, "look at the disk")
        })
    });
    if written.is_err() {
        // Half an export is none, and would be in the way of the next.
        std::fs::remove_file(&path).unwrap_or_default();
    }
    written
}

/// `kms amounts`.
pub(super) fn amounts(arguments: AmountsCommand, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let amounts = Backend::open(&home.open(typed)?)?.amounts(arguments.project)?;
    if arguments.output.json {
        output::json(&json!(amounts));
    } else {
        let rows = [
            ("key rings", amounts.key_rings),
            ("keys", amounts.keys),
            ("versions", amounts.versions),
            ("available versions", amounts.available_versions),
            ("wrapping keys", amounts.wrapping_keys),
        ];
        let rows = rows.map(|(what, count)| [what.to_owned(), count.to_string()]);
        output::table(["WHAT", "COUNT"], &rows, "nothing");
    }
    Ok(())
}

/// `kms usage`.
pub(super) fn usage(arguments: Usage, typed: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(typed)?)?;
    let until = arguments.to.unwrap_or_else(|| backend.now()) / 1000;
    let from = arguments.from.map_or_else(|| until.saturating_sub(DAY), |from| from / 1000);
    if from > until {
        let what = format!("--from {} is after --to {}", output::time(from), output::time(until));
        return Err(Failure::new(what, "let --from be the earlier one"));
    }
    if until - from > USAGE_HOURS_MAX * HOUR {
        let what = format!("from {} to {} are more than 366 days", output::time(from), output::time(until));
        return Err(Failure::new(what, "ask for one year after the other, with --from and --to"));
    }
    let usage = backend.usage(arguments.project, (from, until))?;
    if arguments.output.json {
        let mut told = json!(usage);
        told["from"] = json!(output::time(from));
        told["to"] = json!(output::time(until));
        output::json(&told);
    } else {
        let rows: Vec<_> = (usage.hours.iter())
            .map(|hour| {
                [output::time(hour.hour.0), hour.versions.to_string(), hour.version_seconds.to_string()]
            })
            .collect();
        output::table(["HOUR", "VERSIONS", "SECONDS"], &rows, "no version was available");
        output::line(&format!("{} version-hours", usage.version_hours));
    }
    Ok(())
}
