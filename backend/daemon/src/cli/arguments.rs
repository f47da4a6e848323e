//! What one may type. The words of `--help` are here, with an example for each command; nothing is done here.

mod accounts;
mod audit;
mod backup;
mod import;
mod reports;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kms_protocol::RingPolicy;
use uuid::Uuid;

pub(super) use accounts::{
    Account, AccountAdd, AccountKey, AccountKeyAdd, AccountKeyCreate, AccountKeyList, AccountKeyRevoke,
    AccountList, AccountRemove, AccountState, Given, Project, ProjectAdd, ProjectList, Role, RoleCommand,
    RoleList, Token, TokenCreate, TokenList, TokenRevoke,
};
pub(super) use audit::{Audit, AuditHead, AuditList, AuditRestart, AuditVerify};
pub(super) use backup::{BackupCommand, RestoreCommand};
pub(super) use import::Import;
pub(super) use reports::{AmountsCommand, Export, Usage};

/// A key management service whose keys an HSM protects, used through PKCS#11.
#[derive(Parser)]
#[command(name = "kms", version, propagate_version = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kms init --home kms-home               make a home: master key, database, a first ring
  kms serve --home kms-home              serve it until told to stop
  kms doctor --home kms-home             check it from end to end, as an application sees it
  kms init --help                        more, for each command

A home is --home, else $KMS_HOME, else ./kms-home.";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a home: SoftHSM token with the master key, database, first ring, configuration
    Init(Init),
    /// Serve a home on its socket and over REST until told to stop
    Serve(Serve),
    /// Make and list rings: each is a token to applications
    #[command(subcommand)]
    Ring(Ring),
    /// List and rotate keys
    #[command(subcommand)]
    Key(Key),
    /// Service accounts, and the principals of rings
    #[command(subcommand)]
    Account(Account),
    /// Who may do what, and where
    #[command(subcommand)]
    Role(RoleCommand),
    /// Static tokens of service accounts
    #[command(subcommand)]
    Token(Token),
    /// Projects: the tenants of the REST API
    #[command(subcommand)]
    Project(Project),
    /// Look at the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Print all that is needed to build the architecture of the keys anew, as JSON
    Export(Export),
    /// Count rings, keys and versions
    Amounts(AmountsCommand),
    /// Tell how many key versions were available in each hour
    Usage(Usage),
    /// Copy the database while it is in use, and verify the copy
    Backup(BackupCommand),
    /// Put a copy in the place of a home's database
    Restore(RestoreCommand),
    /// Bring your own key: wrap a key file and upload it over REST as a key's next version
    Import(Import),
    /// Check configuration, HSM, database, socket, and the module through its C functions
    Doctor(Doctor),
    /// Print the REST API's description (OpenAPI)
    #[command(name = "openapi")]
    OpenApi(OpenApi),
    /// The doctor's child, which loads the module: a crash of the module ends it alone
    #[command(hide = true)]
    Probe(Probe),
}

#[derive(Args)]
pub(super) struct Home {
    /// The KMS's folder [default: $KMS_HOME, else ./kms-home]
    #[arg(long = "home", value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Output {
    /// Print JSON, for scripts
    #[arg(long)]
    pub(super) json: bool,
}

/// The PINs of a new ring. Those on the command line can be seen by all users of the machine: prefer files.
#[derive(Args)]
pub(super) struct Pins {
    /// The user's PIN; other users of this machine may see it [default: random]
    #[arg(long, value_name = "PIN", conflicts_with = "user_pin_file")]
    pub(super) user_pin: Option<String>,
    /// A file whose first line is the user's PIN
    #[arg(long, value_name = "FILE")]
    pub(super) user_pin_file: Option<PathBuf>,
    /// The security officer's PIN; other users of this machine may see it [default: random]
    #[arg(long, value_name = "PIN", conflicts_with = "so_pin_file")]
    pub(super) so_pin: Option<String>,
    /// A file whose first line is the security officer's PIN
    #[arg(long, value_name = "FILE")]
    pub(super) so_pin_file: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms init --home /srv/kms
  kms init --home /srv/kms --ring payments --policy strict --user-pin-file user.pin --so-pin-file so.pin
  kms init --home /srv/kms --json
  kms init --home /srv/kms --hsm-module /usr/lib/libCryptoki2.so --hsm-token kms --hsm-pin-file hsm.pin

PINs that are not given are random. They are written to DIR/credentials, which only you can read. The owner's token for
the REST API is in DIR/admin.token.
A folder that has something in it is left as it is. What a failed attempt made is removed again.")]
pub(super) struct Init {
    #[command(flatten)]
    pub(super) home: Home,
    /// The first ring's name: the label of its token
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) ring: String,
    /// What the ring allows
    #[arg(long, value_enum, default_value_t = Policy::Strict)]
    pub(super) policy: Policy,
    #[command(flatten)]
    pub(super) pins: Pins,
    /// The first project's id, as clients of the REST API name it in paths
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil())]
    pub(super) project: Uuid,
    /// The PKCS#11 library of an HSM that is there already [default: SoftHSM, with a new token in the home]
    #[arg(long, value_name = "PATH", requires = "hsm_token", requires = "hsm_pin_file")]
    pub(super) hsm_module: Option<PathBuf>,
    /// The label of the HSM's token
    #[arg(long, value_name = "LABEL", requires = "hsm_module")]
    pub(super) hsm_token: Option<String>,
    /// A file with the token's user PIN, readable by you alone
    #[arg(long, value_name = "FILE", requires = "hsm_module")]
    pub(super) hsm_pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms serve --home /srv/kms
  kms serve --home /srv/kms --rest-listen 127.0.0.1:0 --log debug --log-format json
  kms serve --home /srv/kms --rest-listen 0.0.0.0:9200 --tls --tls-cert tls.pem --tls-key tls.key

When it listens it prints `kms: REST on http://127.0.0.1:9200`, the address as it really is, and
`kms: ready on DIR/kms.sock` to standard output, and tells systemd if started by it. Logs go to standard error.
SIGTERM or SIGINT stops it after the requests in progress. SIGHUP makes it read limits, [log], [audit] and the
certificate again; what cannot be read leaves all as it was. Other machines can reach the REST API with TLS alone.")]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) home: Home,
    /// Where the REST API listens; port 0 picks a free one [default: `[rest] listen` in kms.toml]
    #[arg(long, value_name = "ADDR")]
    pub(super) rest_listen: Option<SocketAddr>,
    /// Serve the REST API with TLS or not at all
    #[arg(long)]
    pub(super) tls: bool,
    /// The certificate chain, PEM [default: `[rest] tls_cert` in kms.toml]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, PEM [default: `[rest] tls_key` in kms.toml]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// What to log: a level, or directives such as `info,kms_hsm=debug` [default: `[log] level` in kms.toml]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<String>,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

/// Nothing is asked of a home: the description is the program's.
#[derive(Args)]
#[command(after_help = "\
Examples:
  kms openapi > openapi.json

A daemon that runs serves the same at /openapi.json.")]
pub(super) struct OpenApi {}

#[derive(Subcommand)]
pub(super) enum Ring {
    /// Make a ring; applications see a further token
    Create(RingCreate),
    /// List the rings
    List(RingList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms ring create payments --home /srv/kms
  kms ring create legacy --home /srv/kms --policy compat --user-pin-file user.pin --so-pin-file so.pin

A daemon that runs sees the ring within a second.")]
pub(super) struct RingCreate {
    /// Its name: 1 to 32 letters, digits, `-` and `_`
    pub(super) name: String,
    #[command(flatten)]
    pub(super) home: Home,
    /// What it allows
    #[arg(long, value_enum, default_value_t = Policy::Strict)]
    pub(super) policy: Policy,
    #[command(flatten)]
    pub(super) pins: Pins,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms ring list --home /srv/kms
  kms ring list --home /srv/kms --json")]
pub(super) struct RingList {
    #[command(flatten)]
    pub(super) home: Home,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Subcommand)]
pub(super) enum Key {
    /// List the keys of a ring, or of all
    List(KeyList),
    /// Make a key's next version, which takes over its label
    Rotate(KeyRotate),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms key rotate --home /srv/kms --ring payments invoices
  kms key rotate --home /srv/kms --ring payments 3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11 --json

The version before goes on as LABEL#NUMBER and under its own CKA_ID.")]
pub(super) struct KeyRotate {
    #[command(flatten)]
    pub(super) home: Home,
    /// The key's ring
    #[arg(long, value_name = "NAME")]
    pub(super) ring: String,
    /// The key, by label or id
    #[arg(value_name = "KEY")]
    pub(super) key: String,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms key list --home /srv/kms
  kms key list --home /srv/kms --ring payments --json")]
pub(super) struct KeyList {
    #[command(flatten)]
    pub(super) home: Home,
    /// This ring's keys only
    #[arg(long, value_name = "NAME")]
    pub(super) ring: Option<String>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms doctor --home /srv/kms
  kms doctor --home /srv/kms --ring payments --pin-file user.pin --json
  kms doctor --home /srv/kms --module /usr/lib/libkms_pkcs11.so

The module is --module, else libkms_pkcs11.so beside this program, in ../lib, or in the system's library folders.
The PIN is --pin-file, else what DIR/credentials says. Ends with 0 when all is well, else with 1.")]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) home: Home,
    /// The PKCS#11 module that applications load
    #[arg(long, value_name = "PATH")]
    pub(super) module: Option<PathBuf>,
    /// The ring to log in to [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(super) ring: Option<String>,
    /// A file whose first line is the PIN to log in with
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
pub(super) struct Probe {
    /// The module to load.
    #[arg(long)]
    pub(super) module: PathBuf,
    /// The token to use; the first without.
    #[arg(long)]
    pub(super) ring: Option<String>,
}

/// A ring's policy, as typed.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Policy {
    /// Keys are sensitive and cannot be extracted unless asked; none of the published attacks
    Strict,
    /// What SoftHSM allows and defaults to, without the attacks whose prevention breaks nothing
    Compat,
}

impl From<Policy> for RingPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Strict => Self::Strict,
            Policy::Compat => Self::Compat,
        }
    }
}

/// How the daemon logs.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line each, for people
    Text,
    /// One JSON object each, for machines
    Json,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command
                    .get_subcommands()
                    .filter(|inner| !inner.is_hide_set())
                    .for_each(|inner| check(inner, &path));
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains(&path[1..]), "{path}: {help}");
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn an_hsm_needs_its_token_and_pin() {
        assert!(Arguments::try_parse_from(["kms", "init", "--hsm-module", "m.so"]).is_err());
        assert!(Arguments::try_parse_from(["kms", "init", "--hsm-token", "t"]).is_err());
        assert!(
            Arguments::try_parse_from(["kms", "init", "--user-pin", "1", "--user-pin-file", "f"]).is_err()
        );
    }
}
