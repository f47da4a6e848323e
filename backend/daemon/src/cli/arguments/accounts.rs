//! What one may type about accounts, roles, tokens and projects.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kms_core::api;
use kms_core::object::RingRole;
use kms_store::KeyAlgorithm;
use uuid::Uuid;

use super::{Home, Output};

#[derive(Subcommand)]
pub(in crate::cli) enum Account {
    /// Add a service account (NAME@DOMAIN), or a principal of one ring (a name without @)
    Add(AccountAdd),
    /// List service accounts, and the principals of rings
    List(AccountList),
    /// Remove an account; what it made stays
    Remove(AccountRemove),
    /// Shut a service account out; its tokens and logins end at once
    Disable(AccountState),
    /// Let a service account in again
    Enable(AccountState),
    /// Keys with which a service account signs for access tokens
    #[command(subcommand)]
    Key(AccountKey),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account add ci@acme.sa.kms.local --role kms.user --home /srv/kms
  kms account add billing@acme.sa.kms.local --role kms.editor --project acme --home /srv/kms
  kms account add backup@acme.sa.kms.local --role kms.reader --ring payments --home /srv/kms
  kms account add alice --ring payments --home /srv/kms
  kms account add backup --ring payments --role reader --secret-file backup.secret --home /srv/kms

An address with @ makes a service account. It uses the REST API with a token (`kms token create`) or a key (`kms
account key create`), and PKCS#11 with a token for its PIN. Its roles count in one project, one ring, or everywhere.

A name without @ makes a principal of one ring, who logs in over PKCS#11 with the PIN `name:secret`. A secret that is
not given is random. It is written to DIR/credentials, which only you can read.")]
pub(in crate::cli) struct AccountAdd {
    /// An address (NAME@DOMAIN), or a name of 1 to 32 letters, digits, `-` and `_`
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The project in which a service account's role counts [default: every project]
    #[arg(long, value_name = "PROJECT")]
    pub(in crate::cli) project: Option<String>,
    /// The ring a principal logs in to [default: default], or in which a service account's role counts [default: all]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) ring: Option<String>,
    /// What it may do [default: user for a principal, nothing for a service account]
    #[arg(long, value_enum)]
    pub(in crate::cli) role: Option<Role>,
    /// A file whose first line is a principal's secret [default: random]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) secret_file: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account list --home /srv/kms
  kms account list --ring payments --home /srv/kms --json")]
pub(in crate::cli) struct AccountList {
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Only the principals of this ring
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) ring: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account remove ci@acme.sa.kms.local --home /srv/kms
  kms account remove alice --ring payments --home /srv/kms

Its roles, tokens and keys go with it, and its logins end. A daemon that runs sees it within a second.")]
pub(in crate::cli) struct AccountRemove {
    /// A service account's address or id, or a principal's name
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The ring whose principal it is [default: default]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) ring: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account disable ci@acme.sa.kms.local --home /srv/kms
  kms account enable ci@acme.sa.kms.local --home /srv/kms

While it is shut out nothing of it counts. Let in again, its static tokens and keys count as before; what was got with
its keys before does not.")]
pub(in crate::cli) struct AccountState {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Subcommand)]
pub(in crate::cli) enum AccountKey {
    /// Make a pair and write the key file that clients read
    Create(AccountKeyCreate),
    /// Add the public half of a pair that the account has already
    Add(AccountKeyAdd),
    /// List keys
    List(AccountKeyList),
    /// Revoke a key; all that was got with its account's keys ends
    Revoke(AccountKeyRevoke),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account key create ci@acme.sa.kms.local --out ci-key.json --home /srv/kms
  kms account key create ci@acme.sa.kms.local --out ci-key.json --expires-in 180d --algorithm RSA_4096 --home /srv/kms

The file has the form of the vendor's service account keys, with the private key in it: only you can read it, and
nothing of the private key stays here. Clients read it through STACKIT_SERVICE_ACCOUNT_KEY_PATH and ask the URL in
STACKIT_TOKEN_BASEURL, http://127.0.0.1:9200/token for example, for access tokens.")]
pub(in crate::cli) struct AccountKeyCreate {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Where to write the key file; nothing may have its name
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
    /// What to make
    #[arg(long, value_enum, default_value_t = Algorithm::Rsa2048)]
    pub(in crate::cli) algorithm: Algorithm,
    /// How long it holds, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// The URL that clients ask for access tokens, for clients that read it in the file
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) token_endpoint: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  openssl genrsa -out ci.pem 4096 && openssl rsa -in ci.pem -pubout -out ci.pub
  kms account key add ci@acme.sa.kms.local --public-key ci.pub --home /srv/kms --json

It prints the key file without the private key: put that into credentials.privateKey yourself.")]
pub(in crate::cli) struct AccountKeyAdd {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The public key, PEM: RSA of 2048 or 4096 bits
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) public_key: PathBuf,
    /// How long it holds, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// The URL that clients ask for access tokens, for clients that read it in the file
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) token_endpoint: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account key list --home /srv/kms
  kms account key list ci@acme.sa.kms.local --home /srv/kms --json")]
pub(in crate::cli) struct AccountKeyList {
    /// Only this service account's
    pub(in crate::cli) account: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account key revoke 3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11 --home /srv/kms")]
pub(in crate::cli) struct AccountKeyRevoke {
    /// The key's id
    pub(in crate::cli) key: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Subcommand)]
pub(in crate::cli) enum RoleCommand {
    /// Give a service account a role
    Grant(RoleGrant),
    /// Take a role from a service account
    Revoke(RoleRevoke),
    /// List who has which role
    List(RoleList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms role grant ci@acme.sa.kms.local kms.user --ring payments --home /srv/kms
  kms role grant ops@acme.sa.kms.local kms.admin --project acme --home /srv/kms
  kms role grant audit@acme.sa.kms.local audit-log.reader --home /srv/kms

Roles add up. A role for one ring permits nothing elsewhere.")]
pub(in crate::cli) struct RoleGrant {
    #[command(flatten)]
    pub(in crate::cli) given: Given,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms role revoke ci@acme.sa.kms.local kms.user --ring payments --home /srv/kms

Name project and ring as when it was granted; `kms role list` shows them.")]
pub(in crate::cli) struct RoleRevoke {
    #[command(flatten)]
    pub(in crate::cli) given: Given,
}

/// A role, whose, and where it counts.
#[derive(Args)]
pub(in crate::cli) struct Given {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    /// The role
    #[arg(value_enum)]
    pub(in crate::cli) role: Role,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The project in which it counts, by name or id [default: every project]
    #[arg(long, value_name = "PROJECT")]
    pub(in crate::cli) project: Option<String>,
    /// The ring in which it counts, by name or id [default: all]
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
    /// Only this service account's
    pub(in crate::cli) account: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Subcommand)]
pub(in crate::cli) enum Token {
    /// Make a token, which is shown once
    Create(TokenCreate),
    /// List tokens, never themselves
    List(TokenList),
    /// End a token
    Revoke(TokenRevoke),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms token create ci@acme.sa.kms.local --home /srv/kms
  kms token create ci@acme.sa.kms.local --name deploy --expires-in 90d --out deploy.token --home /srv/kms
  curl -H \"Authorization: Bearer $(cat deploy.token)\" http://127.0.0.1:9200/v1/projects/PROJECT/regions/eu01/keyrings

The token is shown once, or written to a file that only you can read. Over PKCS#11 it is the user's PIN.")]
pub(in crate::cli) struct TokenCreate {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// Its name, for people; each account has each once
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(in crate::cli) name: String,
    /// How long it holds, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = life)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// Write it to this file instead of showing it; nothing may have its name
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms token list --home /srv/kms
  kms token list ci@acme.sa.kms.local --home /srv/kms --json")]
pub(in crate::cli) struct TokenList {
    /// Only this service account's
    pub(in crate::cli) account: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms token revoke ci@acme.sa.kms.local deploy --home /srv/kms

Calls with it, and PKCS#11 logins made with it, end within a second.")]
pub(in crate::cli) struct TokenRevoke {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    /// The token, by name or id
    pub(in crate::cli) token: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Subcommand)]
pub(in crate::cli) enum Project {
    /// Make a project: a tenant of the REST API
    Add(ProjectAdd),
    /// List projects
    List(ProjectList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms project add acme --home /srv/kms
  kms project add acme --id 3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11 --home /srv/kms --json")]
pub(in crate::cli) struct ProjectAdd {
    /// Its name: 1 to 64 letters, digits, `-`, `_` and `.`
    pub(in crate::cli) name: String,
    /// Its id, as clients name it in paths [default: random]
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

/// A role, as typed. A principal of a ring has one of the middle four.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(in crate::cli) enum Role {
    /// Everything, the audit log included; for service accounts
    #[value(name = "owner")]
    Owner,
    /// Make, use, change and destroy keys and rings
    #[value(name = "kms.admin", alias = "admin")]
    Admin,
    /// Use and rotate keys
    #[value(name = "kms.editor", alias = "editor")]
    Editor,
    /// Use keys
    #[value(name = "kms.user", alias = "user")]
    User,
    /// See keys
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
    /// What it is for a principal of a ring, if it is for one.
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

/// A kind of key, as typed.
#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Algorithm {
    /// RSA of 2048 bits
    #[value(name = "RSA_2048")]
    Rsa2048,
    /// RSA of 4096 bits
    #[value(name = "RSA_4096")]
    Rsa4096,
}

impl From<Algorithm> for KeyAlgorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rsa2048 => Self::Rsa2048,
            Algorithm::Rsa4096 => Self::Rsa4096,
        }
    }
}

/// The longest time that may be typed: ten years, which is longer than anything should hold.
const DAYS_MAX: u64 = 3660;

/// A time such as `90d`, `12h` or `30m`.
fn life(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is no time such as 90d, 12h or 30m, of {DAYS_MAX}d at most");
    let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wanted)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "d" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        _ => return Err(wanted()),
    };
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=DAYS_MAX * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_hours_or_minutes() {
        for (text, seconds) in [("90d", 90 * 86_400), ("12h", 43_200), ("1m", 60), ("3660d", 3660 * 86_400)] {
            assert_eq!(life(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "d", "90", "0d", "-1d", "1w", "3661d", "1.5h", "99999999999999999999d", "9\u{20ac}"]
        {
            assert!(life(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_role_goes_by_its_name_in_the_api_and_by_a_short_one() {
        for role in Role::value_variants() {
            let named = api::Role::from(*role).name();
            assert_eq!(Role::from_str(named, false), Ok(*role));
        }
        assert_eq!(Role::from_str("reader", false), Ok(Role::Reader));
    }
}
