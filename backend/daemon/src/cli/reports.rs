//! `kms export`, `kms amounts` and `kms usage`.

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
pub(super) fn export(arguments: Export, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let Some(path) = arguments.to else {
        return Ok(backend.export(arguments.project, &mut BufWriter::new(io::stdout().lock()))?);
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(|error| {
        let next = "name a new file: an existing file is never overwritten";
        Failure::because(format!("cannot create {}", path.display()), &error, next)
    })?;
    let written = backend.export(arguments.project, &mut BufWriter::new(&file)).map_err(Failure::from);
    let written = written.and_then(|()| {
        file.sync_all().map_err(|error| {
            Failure::because(
                format!("cannot write {}", path.display()),
                &error,
                "check the disk, then try again",
            )
        })
    });
    if written.is_err() {
        // An incomplete export is useless, and would prevent the next one.
        std::fs::remove_file(&path).unwrap_or_default();
    }
    written
}

/// `kms amounts`.
pub(super) fn amounts(arguments: AmountsCommand, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let amounts = Backend::open(&home.open(argv)?)?.amounts(arguments.project)?;
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
        output::table(["WHAT", "COUNT"], &rows, "nothing to count");
    }
    Ok(())
}

/// `kms usage`.
pub(super) fn usage(arguments: Usage, argv: &[OsString]) -> Result<(), Failure> {
    let home = Home::of(arguments.home)?;
    let backend = Backend::open(&home.open(argv)?)?;
    let until = arguments.to.unwrap_or_else(|| backend.now()) / 1000;
    let from = arguments.from.map_or_else(|| until.saturating_sub(DAY), |from| from / 1000);
    if from > until {
        let what = format!("--from {} is after --to {}", output::time(from), output::time(until));
        return Err(Failure::new(what, "use an earlier --from or a later --to"));
    }
    if until - from > USAGE_HOURS_MAX * HOUR {
        let what = format!(
            "the range from {} to {} is longer than 366 days",
            output::time(from),
            output::time(until)
        );
        return Err(Failure::new(what, "request one year at a time with --from and --to"));
    }
    let usage = backend.usage(arguments.project, (from, until))?;
    if arguments.output.json {
        let mut json = json!(usage);
        json["from"] = json!(output::time(from));
        json["to"] = json!(output::time(until));
        output::json(&json);
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
