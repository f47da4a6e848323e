//! The arguments of `kms backup` and `kms restore`.

use std::path::PathBuf;

use clap::Args;

use super::{Home, Output};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms backup --home /srv/kms --to /backup/kms-2026-11-26.db
  kms backup --home /srv/kms --to /backup/kms.db --json

The daemon can run meanwhile: the copy is a consistent snapshot of the database. File, rows and
audit log of the copy are verified before it gets its name. Only you can read it, and an existing
file is never overwritten. The keys in the copy are wrapped, and the hashes of PINs need a wrapped
key: neither can be opened or guessed without the HSM's token, which must be backed up with the
HSM's own tools. `kms doctor` warns while there are hashes of an earlier version, for which this is
not true. Names, labels, public keys and the audit log are readable.")]
pub(in crate::cli) struct BackupCommand {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) to: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms restore --from /backup/kms-2026-11-26.db --home /srv/kms
  kms restore --from /backup/kms.db --home /srv/kms --yes --json
  kms restore --from /backup/kms.db --home /srv/kms --keep-credential ci@acme.sa.kms.local/default

The home's token must contain the same master key. Nothing is changed before the copy has been
opened with it and verified. The daemon must be stopped. The previous database is kept beside the
restored one, under the name that is printed. Changes since the backup are lost: keys that were
created since, and the end of the audit log.

A restore also takes back what was forbidden since the backup. All logins, session objects and access
tokens end, and so do the static tokens and account keys of the copy that the previous database does
not accept any more. PINs, principals, accounts, roles and keys that come back are listed, and the
restore must be confirmed: at the terminal, or with --yes. Without a previous database to compare
with, all static tokens of the copy end.")]
pub(in crate::cli) struct RestoreCommand {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// A copy that `kms backup` wrote
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) from: PathBuf,
    /// Do not ask, whatever the restore brings back
    #[arg(long)]
    pub(in crate::cli) yes: bool,
    /// Let logins, session objects, access tokens and all credentials of the copy continue
    #[arg(long)]
    pub(in crate::cli) keep_logins: bool,
    /// Let this token or account key of the copy continue, although the previous database does not accept it; may be
    /// repeated
    #[arg(long, value_name = "ACCOUNT/NAME")]
    pub(in crate::cli) keep_credential: Vec<String>,
    /// Overwrite and delete the previous database after the restore
    #[arg(long)]
    pub(in crate::cli) delete_replaced: bool,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
