//! The arguments of `kms audit`.

use clap::{Args, Subcommand};
use kms_core::audit::Link;
use uuid::Uuid;

use super::{Home, Output};

#[derive(Subcommand)]
pub(in crate::cli) enum Audit {
    /// Verify that no entry was changed, removed or added
    Verify(AuditVerify),
    /// List entries, as a table or as one JSON object per line
    List(AuditList),
    /// Print the audit head, to be stored outside this machine
    Head(AuditHead),
    /// Start a new log if the present one is not intact, and set that one aside
    Restart(AuditRestart),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms audit verify --home /srv/kms
  kms audit verify --home /srv/kms --json
  kms audit verify --home /srv/kms --head 4711:5f0c…

The exit code is 0 if the log is intact; else it is 1, and the first wrong entry is named. The
database alone does not show whether it was replaced by an older copy: store the audit head, which
`kms audit head` prints and the daemon logs every hour, on another machine, and pass it with
--head. The daemon can run meanwhile.")]
pub(in crate::cli) struct AuditVerify {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// An audit head that was stored elsewhere, which the log must still contain
    #[arg(long, value_name = "NUMBER:MAC")]
    pub(in crate::cli) head: Option<Link>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms audit restart --home /srv/kms
  kms audit restart --home /srv/kms --json

Use this after the findings of `kms audit verify` have been investigated. A damaged log cannot be
repaired, and if its end is unknown it accepts no entries, so that no key or account can be
changed. Nothing is deleted: the present entries are set aside unchanged, and the first entry of
the new log records what was wrong and who restarted the log. `kms audit verify` reports every
restart, and detects changes to the entries that were set aside. An intact log is not changed.")]
pub(in crate::cli) struct AuditRestart {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms audit head --home /srv/kms
  kms audit head --home /srv/kms --json >> /mnt/elsewhere/kms-heads

The head is the number of the last entry, a colon, and the MAC that authenticates the log up to
that entry.")]
pub(in crate::cli) struct AuditHead {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms audit list --home /srv/kms
  kms audit list --home /srv/kms --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --json
  kms audit list --home /srv/kms --project 00000000-0000-0000-0000-000000000000 --limit 20

With --json, each entry is one line in the format of the Audit Log API. The oldest entry is first.
Without --since, the entries of the last 24 hours are listed.")]
pub(in crate::cli) struct AuditList {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// List entries from this time on (RFC 3339) [default: 24 hours before --until]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(in crate::cli) since: Option<u64>,
    /// List entries before this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(in crate::cli) until: Option<u64>,
    /// List only the entries of this project
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    /// The maximum number of entries
    #[arg(long, value_name = "COUNT")]
    pub(in crate::cli) limit: Option<usize>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

/// Parses a time (RFC 3339); returns milliseconds since 1970.
pub(super) fn timestamp(text: &str) -> Result<u64, String> {
    kms_core::audit::millis(text).ok_or_else(|| "expected a time such as 2026-11-26T08:00:00Z".to_owned())
}
