//! What the operator sees: lines, tables and JSON on standard output; errors on standard error.
//!
//! A reader that has gone (`kms key list | head`) is no failure, so what cannot be written is dropped.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::failure::Failure;

/// One line on standard output, at once.
pub(super) fn line(text: &str) {
    let mut out = io::stdout().lock();
    gone(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// A line on standard error, beside a result that scripts read.
pub(super) fn note(text: &str) {
    gone(writeln!(io::stderr().lock(), "kms: {text}"));
}

/// A JSON value on standard output.
pub(super) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// A JSON value on one line of standard output.
pub(super) fn json_line(value: &Value) {
    line(&value.to_string());
}

/// Rows under a heading, in columns; `nothing` if there are none.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]], nothing: &str) {
    if rows.is_empty() {
        return line(nothing);
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

/// Labels come from applications: what a terminal would obey is replaced.
pub(super) fn printable(text: String) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A failure on standard error: what, and what to do next.
pub(super) fn failure(failure: &Failure) {
    let mut out = io::stderr().lock();
    let what = printable(failure.what.replace('\n', " "));
    gone(writeln!(out, "kms: {what}\n  next: {}", failure.next));
}

/// Help, the version, or what is wrong with what was typed.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    gone(error.print());
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn gone(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::debug!(%error, "the reader of our output has gone");
    }
}

/// A time in seconds since 1970, as RFC 3339 writes it.
pub(super) fn time(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok());
    let written = moment.and_then(|m| m.format(&time::format_description::well_known::Rfc3339).ok());
    written.unwrap_or_else(|| seconds.to_string())
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
    fn a_label_cannot_command_the_terminal() {
        let rows = [["\u{1b}[2Jx".to_owned()]];
        assert_eq!(columns(["LABEL"], &rows), "LABEL\n\u{fffd}[2Jx");
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
