//! What one may type about the audit log.

use clap::{Args, Subcommand};

use super::{Home, Output};
use crate::audit::Link;

#[derive(Subcommand)]
pub(in crate::cli) enum Audit {
    /// Check that nothing in the log was changed, removed or added
    Verify(AuditVerify),
    /// Print where the log ends, to be kept outside this machine
    Head(AuditHead),
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
  kms audit head --home /srv/kms
  kms audit head --home /srv/kms --json >> /mnt/elsewhere/kms-heads

The number of the last entry, a colon, and the MAC that stands for the whole log up to there.")]
pub(in crate::cli) struct AuditHead {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
