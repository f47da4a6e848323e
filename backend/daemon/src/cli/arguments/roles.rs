//! The arguments of `kms role`, and role names.

use clap::{Args, Subcommand, ValueEnum};
use kms_core::api;
use kms_core::object::RingRole;

use super::{Home, Output};

#[derive(Subcommand)]
pub(in crate::cli) enum RoleCommand {
    /// Grant a role to a service account
    Grant(RoleGrant),
    /// Revoke a role of a service account
    Revoke(RoleRevoke),
    /// List the roles of service accounts
    List(RoleList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms role grant ci@acme.sa.kms.local kms.user --ring payments --home /srv/kms
  kms role grant ops@acme.sa.kms.local kms.admin --project acme --home /srv/kms
  kms role grant audit@acme.sa.kms.local audit-log.reader --home /srv/kms

The permissions of several roles add up. A role in one ring permits nothing outside that ring.")]
pub(in crate::cli) struct RoleGrant {
    #[command(flatten)]
    pub(in crate::cli) role: RoleArguments,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms role revoke ci@acme.sa.kms.local kms.user --ring payments --home /srv/kms

Name the same project and ring as in the grant; `kms role list` shows them.")]
pub(in crate::cli) struct RoleRevoke {
    #[command(flatten)]
    pub(in crate::cli) role: RoleArguments,
}

/// An account, a role, and the scope of the role.
#[derive(Args)]
pub(in crate::cli) struct RoleArguments {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    /// The role
    #[arg(value_enum)]
    pub(in crate::cli) role: Role,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The project in which the role applies, by name or id [default: every project]
    #[arg(long, value_name = "PROJECT")]
    pub(in crate::cli) project: Option<String>,
    /// The ring in which the role applies, by name or id [default: all]
    #[arg(long, value_name = "RING")]
    pub(in crate::cli) ring: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms role list --home /srv/kms
  kms role list ci@acme.sa.kms.local --home /srv/kms --json")]
pub(in crate::cli) struct RoleList {
    /// List only the roles of this service account, by address or id
    pub(in crate::cli) account: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

/// A role, as an argument. A principal of a ring has one of the middle four.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum Role {
    /// All permissions, including the audit log; for service accounts
    #[value(name = "owner")]
    Owner,
    /// Create, use, change and destroy keys and rings
    #[value(name = "kms.admin", alias = "admin")]
    Admin,
    /// Use and rotate keys
    #[value(name = "kms.editor", alias = "editor")]
    Editor,
    /// Use keys
    #[value(name = "kms.user", alias = "user")]
    User,
    /// View keys
    #[value(name = "kms.reader", alias = "reader")]
    Reader,
    /// Read the audit log; for service accounts
    #[value(name = "audit-log.reader")]
    AuditReader,
}

impl From<Role> for api::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Admin => Self::Admin,
            Role::Editor => Self::Editor,
            Role::User => Self::User,
            Role::Reader => Self::Reader,
            Role::AuditReader => Self::AuditReader,
        }
    }
}

impl Role {
    /// The role of a principal of a ring; none for a role that only service accounts have.
    pub(in crate::cli) fn ring_role(self) -> Option<RingRole> {
        match self {
            Self::Admin => Some(RingRole::Admin),
            Self::Editor => Some(RingRole::Editor),
            Self::User => Some(RingRole::User),
            Self::Reader => Some(RingRole::Reader),
            Self::Owner | Self::AuditReader => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_its_name_in_the_api_and_a_short_alias() {
        for role in Role::value_variants() {
            let named = api::Role::from(*role).name();
            assert_eq!(Role::from_str(named, false), Ok(*role));
        }
        assert_eq!(Role::from_str("reader", false), Ok(Role::Reader));
    }
}
