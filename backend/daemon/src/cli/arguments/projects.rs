//! The arguments of `kms project`.

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Home, Output};

#[derive(Subcommand)]
pub(in crate::cli) enum Project {
    /// Create a project, a tenant of the REST API
    Add(ProjectAdd),
    /// List all projects
    List(ProjectList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms project add acme --home /srv/kms
  kms project add acme --id 3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11 --home /srv/kms --json")]
pub(in crate::cli) struct ProjectAdd {
    /// The name of the new project: 1 to 64 letters, digits, `-`, `_` and `.`
    pub(in crate::cli) name: String,
    /// Its id, as it appears in paths of the REST API [default: random]
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) id: Option<Uuid>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms project list --home /srv/kms
  kms project list --home /srv/kms --json")]
pub(in crate::cli) struct ProjectList {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
