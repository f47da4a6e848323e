//! The table, for the terminal and for `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use kms_tests::program;

use crate::rest;
use crate::row::Row;

/// What was measured in one row, in nanoseconds per operation.
pub(crate) struct Figures {
    pub(crate) row: Row,
    pub(crate) threads: usize,
    pub(crate) ours: Option<f64>,
    pub(crate) theirs: Option<f64>,
    pub(crate) floor: Option<f64>,
}

impl Figures {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours? / self.theirs?)
    }

    /// For the terminal.
    pub(crate) fn line(&self) -> String {
        let (ours, theirs, floor) = (time(self.ours), time(self.theirs), time(self.floor));
        let ratio = self.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        format!("ours {ours}, SoftHSM {theirs}: {ratio} × (at most {} ×); floor {floor}", self.row.target())
    }

    fn markdown(&self) -> String {
        let ratio = self.ratio();
        let met = match ratio {
            Some(ratio) if ratio <= self.row.target() => "yes",
            Some(_) => "no",
            None => "-",
        };
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {met} |\n",
            self.row.name(),
            self.threads,
            time(self.ours),
            time(self.theirs),
            ratio.map_or("-".to_owned(), |ratio| format!("**{ratio:.3}**")),
            self.row.target(),
            time(self.floor),
        )
    }
}

/// All rows.
#[derive(Default)]
pub(crate) struct Report {
    rows: String,
    door: String,
}

impl rest::Row {
    /// For the terminal.
    pub(crate) fn line(&self) -> String {
        let met = if self.met { "met" } else { "NOT met" };
        format!("  {}: {} (wanted: {}; {met})", self.name, self.figure, self.wanted)
    }
}

impl Report {
    pub(crate) fn add(&mut self, figures: Figures) {
        self.rows.push_str(&figures.markdown());
    }

    pub(crate) fn door(&mut self, rows: &[rest::Row]) {
        for row in rows {
            println!("{}", row.line());
            let met = if row.met { "yes" } else { "no" };
            let line = format!("| {} | {} | {} | {met} |\n", row.name, row.figure, row.wanted);
            self.door.push_str(&line);
        }
    }

    /// Writes the page.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut page = String::new();
        page.push_str("# Benchmarks\n\nWritten by `make bench`; do not edit.\n\n");
        let date = program::run(Command::new("date").args(["-u", "+%F"])).ok();
        writeln!(page, "- Date: {}", date.trim())?;
        writeln!(page, "- Machine: {}", machine()?)?;
        writeln!(page, "- Load average of the last minute, this program's own included: {}", load()?)?;
        writeln!(
            page,
            "- SoftHSM {}, in the process of the caller; ours through the provider and a Unix socket",
            softhsm()
        )?;
        page.push_str(
            "\nTime per operation, medians of interleaved rounds, each side in one process through the C API. With four \
             threads, the time of all divided by the operations of all. The floor is a 1 KiB frame over a Unix socket to \
             another process and back, and the bare operation by aws-lc-rs where the row has one; a ring of policy \
             compat.\n\n",
        );
        page.push_str("| | threads | ours | SoftHSM | ratio | at most | floor | met |\n");
        page.push_str("|---|--:|--:|--:|--:|--:|--:|---|\n");
        page.push_str(&self.rows);
        page.push_str(
            "\n## The REST door\n\nPlain HTTP on the same machine, 16 clients that keep their connections, each with one \
             call under way; the load is one thread and shares the cores with the daemon. Medians of three rounds of five \
             seconds.\n\n| | measured | wanted | met |\n|---|---|---|---|\n",
        );
        page.push_str(&self.door);
        std::fs::write(path, page)?;
        println!("written to {}", path.display());
        Ok(())
    }
}

/// Nanoseconds as one reads them.
fn time(nanoseconds: Option<f64>) -> String {
    match nanoseconds {
        None => "-".to_owned(),
        Some(time) if time < 1e3 => format!("{time:.0} ns"),
        Some(time) if time < 1e6 => format!("{:.1} µs", time / 1e3),
        Some(time) => format!("{:.2} ms", time / 1e6),
    }
}

fn machine() -> anyhow::Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<_> = cpus.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("unknown", |model| model.trim_start_matches([':', ' ', '\t']));
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: u64 = memory.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let kernel = program::run(Command::new("uname").args(["-sr"])).ok();
    let virtual_machine = cpus.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let kind = if virtual_machine { "virtual" } else { "bare metal" };
    Ok(format!("{model}, {} cores, {} GiB, {kind}, {}", models.len(), kib >> 20, kernel.trim()))
}

/// A machine that others used at the time shows here: one of its own has a load of about two.
fn load() -> anyhow::Result<String> {
    let loads = std::fs::read_to_string("/proc/loadavg")?;
    Ok(loads.split_whitespace().next().unwrap_or("unknown").to_owned())
}

fn softhsm() -> String {
    let told = program::run(Command::new("softhsm2-util").arg("--version")).text();
    told.trim().to_owned()
}
