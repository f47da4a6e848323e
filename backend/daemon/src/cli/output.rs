//! Output of commands: lines, tables and JSON on standard output; errors on standard error.
//!
//! A closed pipe (`kms key list | head`) is not a failure, so write errors are ignored.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::failure::Failure;

/// Writes one line to standard output and flushes it.
pub(super) fn line(text: &str) {
    let mut out = io::stdout().lock();
    ignore_error(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// Writes a line to standard error, in addition to a result on standard output.
pub(super) fn note(text: &str) {
    ignore_error(writeln!(io::stderr().lock(), "kms: {text}"));
}

/// Writes a JSON value to standard output.
pub(super) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// Writes a JSON value to standard output, on one line.
pub(super) fn json_line(value: &Value) {
    line(&value.to_string());
}

/// Writes a result as JSON or as a line of text.
pub(super) fn result(as_json: bool, value: &Value, text: &str) {
    if as_json { json(value) } else { line(text) }
}

/// Writes rows under a heading, in columns; `if_empty` if there are none.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]], if_empty: &str) {
    if rows.is_empty() {
        return line(if_empty);
    }
    line(&columns(heading, rows));
}

fn columns<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = std::iter::once(heading.map(str::to_owned))
        .chain(rows.iter().map(|row| row.clone().map(printable)))
        .collect();
    let width: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(width).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces control characters: labels come from applications and must not control the terminal.
pub(super) fn printable(text: String) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Writes a failure to standard error: what is wrong, and the next step.
pub(super) fn failure(failure: &Failure) {
    let mut out = io::stderr().lock();
    let what = printable(failure.what.replace('\n', " "));
    ignore_error(writeln!(out, "kms: {what}\n  next: {}", failure.next));
}

/// Writes the help, the version, or a usage error.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    ignore_error(error.print());
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn ignore_error(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::debug!(%error, "cannot write output");
    }
}

/// Formats a time in seconds since 1970 (RFC 3339).
pub(super) fn time(seconds: u64) -> String {
    let date_time =
        i64::try_from(seconds).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let text = date_time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "2".to_owned()]];
        assert_eq!(columns(["NAME", "N"], &rows), "NAME    N\na       1\nlonger  2");
    }

    #[test]
    fn a_label_cannot_control_the_terminal() {
        let rows = [["\u{1b}[2Jx".to_owned()]];
        assert_eq!(columns(["LABEL"], &rows), "LABEL\n\u{fffd}[2Jx");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
