//! The arguments of `kms export`, `kms amounts` and `kms usage`.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::{Home, Output, audit::timestamp};

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms export --home /srv/kms > kms.json
  kms export --home /srv/kms --project 00000000-0000-0000-0000-000000000000 --to project.json

The export contains what is needed to recreate the architecture: projects, rings, keys of every
kind, versions with their states and dates, public keys, accounts and their roles. It never
contains key material, PINs or tokens. The field `format` is the version of the export's format.")]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Export only this project
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    /// Write to this file, which must not exist and only you can read [default: standard output]
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

A key version is available while its material is stored and it can be used: not while it is
disabled or scheduled for destruction, or its key is scheduled for deletion. Each version that was
available at any time of an hour counts once for that hour: version-hours are the unit of billing.")]
pub(in crate::cli) struct Usage {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Report from this hour on (RFC 3339) [default: 24 hours before --to]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(in crate::cli) from: Option<u64>,
    /// Report until before this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(in crate::cli) to: Option<u64>,
    /// Report only this project
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) project: Option<Uuid>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
