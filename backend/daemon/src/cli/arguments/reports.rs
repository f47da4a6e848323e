//! What one may type about what there is: export, amounts, usage.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::{Home, Output, audit::moment};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms export --home /srv/kms > kms.json
  kms export --home /srv/kms --project 00000000-0000-0000-0000-000000000000 --to project.json

JSON with all that is needed to build the architecture anew: projects, rings, keys of every kind, versions with their
states and dates, public halves, accounts and their roles. Never key material, PINs or tokens. `format` counts the
changes of its form.")]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// One project alone
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    /// A new file instead of standard output, readable by you alone
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) to: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms amounts --home /srv/kms
  kms amounts --home /srv/kms --project 00000000-0000-0000-0000-000000000000 --json")]
pub(in crate::cli) struct AmountsCommand {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The project [default: the first]
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms usage --home /srv/kms
  kms usage --home /srv/kms --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --json

A key version is available while its material is held and it may be used: not while it is disabled, scheduled for
destruction, or its key scheduled for deletion. In each hour each version that was available at any time counts once:
version-hours are the unit of billing.")]
pub(in crate::cli) struct Usage {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// From this hour on (RFC 3339) [default: 24 hours ago]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) from: Option<u64>,
    /// Before this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) to: Option<u64>,
    /// One project alone
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
