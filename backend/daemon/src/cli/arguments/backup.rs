//! What one may type about backups.

use std::path::PathBuf;

use clap::Args;

use super::{Home, Output};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms backup --home /srv/kms --to /backup/kms-2026-11-26.db
  kms backup --home /srv/kms --to /backup/kms.db --json

The daemon may go on serving meanwhile: the copy is the database as it is at one moment. It is verified before it gets
its name (file, rows, audit log), only you can read it, and a file that is there is never overwritten. The keys in it
are wrapped: it is worth nothing without the HSM's token, which must be backed up by the HSM's own means.")]
pub(in crate::cli) struct BackupCommand {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The new file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) to: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms restore --from /backup/kms-2026-11-26.db --home /srv/kms
  kms restore --from /backup/kms.db --home /srv/kms --json

The home must have the token with the same master key. Nothing is touched before the copy has been opened with it and
found whole. The daemon must be stopped. The database that is there is kept beside, under the name that is printed.
What happened after the copy was taken is lost: keys made since, and the end of the audit log.")]
pub(in crate::cli) struct RestoreCommand {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// A copy that `kms backup` made
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) from: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
