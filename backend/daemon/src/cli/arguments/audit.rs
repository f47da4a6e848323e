//! What one may type about the audit log.

use clap::{Args, Subcommand};
use kms_core::audit::Link;
use uuid::Uuid;

use super::{Home, Output};

#[derive(Subcommand)]
pub(in crate::cli) enum Audit {
    /// Check that nothing in the log was changed, removed or added
    Verify(AuditVerify),
    /// Print entries, one JSON object on each line or a table
    List(AuditList),
    /// Print where the log ends, to be kept outside this machine
    Head(AuditHead),
    /// Begin a new log where the one that is there is not whole, and keep that one aside
    Restart(AuditRestart),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms audit verify --home /srv/kms
  kms audit verify --home /srv/kms --json
  kms audit verify --home /srv/kms --head 4711:5f0c…

Ends with 0 when the log is whole, else with 1 and the number of the first entry that is wrong. The database alone
cannot tell that all of it was replaced by an older copy: keep what `kms audit head` prints, or the daemon logs each
hour, on another machine, and give it with --head. The daemon may go on serving meanwhile.")]
pub(in crate::cli) struct AuditVerify {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// A head that was kept elsewhere, which the log must hold still
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

For after somebody has looked into what `kms audit verify` found: a log that is not whole stays so, and one whose end is
not known takes no entry, so that nothing can be changed any more. Nothing is removed: the entries are set aside as they
were found, and the new log begins with an entry that tells what was wrong, and by whom it was begun. `kms audit verify`
tells of it for ever, and finds when what was set aside is changed. A log that is whole is left as it is.")]
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

The number of the last entry, a colon, and the MAC that stands for the whole log up to there.")]
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

With --json each entry is one line, in the form of the Audit Log API. The oldest comes first; without --since, those of
the last 24 hours are shown.")]
pub(in crate::cli) struct AuditList {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Entries from this time on (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) since: Option<u64>,
    /// Entries before this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) until: Option<u64>,
    /// Those of one project
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    /// So many at most
    #[arg(long, value_name = "COUNT")]
    pub(in crate::cli) limit: Option<usize>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

/// A time in milliseconds since 1970.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    kms_core::audit::millis(text).ok_or_else(|| "a time is written as in 2026-11-26T08:00:00Z".to_owned())
}
