//! The arguments of all commands, with their help texts and examples. Nothing is executed here.

mod accounts;
mod audit;
mod backup;
mod import;
mod projects;
mod reports;
mod roles;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kms_protocol::RingPolicy;
use uuid::Uuid;

pub(super) use accounts::{
    Account, AccountAdd, AccountKey, AccountKeyAdd, AccountKeyCreate, AccountKeyList, AccountKeyRevoke,
    AccountList, AccountRemove, AccountState, Token, TokenCreate, TokenList, TokenRevoke,
};
pub(super) use audit::{Audit, AuditHead, AuditList, AuditRestart, AuditVerify};
pub(super) use backup::{BackupCommand, RestoreCommand};
pub(super) use import::Import;
pub(super) use projects::{Project, ProjectAdd, ProjectList};
pub(super) use reports::{AmountsCommand, Export, Usage};
pub(super) use roles::{Role, RoleArguments, RoleCommand, RoleList};

/// A key management service whose keys an HSM protects, used through PKCS#11 and REST.
#[derive(Parser)]
#[command(name = "kms", version, propagate_version = true, after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  kms init --home kms-home               create a home: master key, database, first ring
  kms serve --home kms-home              serve it until SIGTERM or SIGINT
  kms doctor --home kms-home             check it from the configuration to the PKCS#11 module
  kms init --help                        show the help of one command

The home is --home, else $KMS_HOME, else ./kms-home.
Where a command takes a ring, --ring accepts its name or its id (see `kms ring list --json`).";

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a home: master key, database, first ring, configuration
    Init(Init),
    /// Serve a home on its Unix socket and over REST
    Serve(Serve),
    /// Create and list rings, which applications see as PKCS#11 tokens
    #[command(subcommand)]
    Ring(Ring),
    /// List and rotate keys
    #[command(subcommand)]
    Key(Key),
    /// Manage service accounts, their keys, and the principals of rings
    #[command(subcommand)]
    Account(Account),
    /// Grant, revoke and list the roles of service accounts
    #[command(subcommand)]
    Role(RoleCommand),
    /// Create, list and revoke the static tokens of service accounts
    #[command(subcommand)]
    Token(Token),
    /// Create and list projects, the tenants of the REST API
    #[command(subcommand)]
    Project(Project),
    /// Verify, list and restart the audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Print projects, rings, keys, accounts and roles as JSON, without key material
    Export(Export),
    /// Count key rings, keys and versions
    Amounts(AmountsCommand),
    /// Report how many key versions were available in each hour
    Usage(Usage),
    /// Copy the database while it is in use, and verify the copy
    Backup(BackupCommand),
    /// Replace a home's database by a backup
    Restore(RestoreCommand),
    /// Import a key file: wrap it and upload it over REST as a key's next version
    Import(Import),
    /// Check configuration, HSM, database, socket and PKCS#11 module
    Doctor(Doctor),
    /// Print the OpenAPI description of the REST API
    #[command(name = "openapi")]
    OpenApi(OpenApi),
    /// Load the module in a child process of `kms doctor`, so that a crash of the module does not end the doctor
    #[command(name = "probe", hide = true)]
    ModuleProbe(ModuleProbe),
}

#[derive(Args)]
pub(super) struct Home {
    /// The folder of the KMS [default: $KMS_HOME, else ./kms-home]
    #[arg(long = "home", value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The PINs of a new ring. All users of the machine can see PINs on the command line: prefer files.
#[derive(Args)]
pub(super) struct Pins {
    /// The user's PIN; other users of this machine can see it, prefer --user-pin-file [default: random]
    #[arg(long, value_name = "PIN", conflicts_with = "user_pin_file")]
    pub(super) user_pin: Option<String>,
    /// A file whose first line is the user's PIN
    #[arg(long, value_name = "FILE")]
    pub(super) user_pin_file: Option<PathBuf>,
    /// The security officer's PIN; other users of this machine can see it, prefer --so-pin-file [default: random]
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
  kms init --home /srv/kms --ring payments --user-pin-file user.pin --so-pin-file so.pin
  kms init --home /srv/kms --json
  kms init --home /srv/kms --hsm-module /usr/lib/libCryptoki2.so \\
      --hsm-token kms --hsm-pin-file hsm.pin

PINs that are not given are random. All PINs are written to DIR/credentials, and the
administrator's token for the REST API to DIR/admin.token; only you can read these files. The
folder must be empty or not exist; a folder with files in it is not changed. If the command fails,
it removes the files that it created.")]
pub(super) struct Init {
    #[command(flatten)]
    pub(super) home: Home,
    /// The name of the first ring, which is the label of its PKCS#11 token
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) ring: String,
    /// The policy of the ring
    #[arg(long, value_enum, default_value_t = Policy::Strict)]
    pub(super) policy: Policy,
    #[command(flatten)]
    pub(super) pins: Pins,
    /// The id of the first project, as it appears in paths of the REST API
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil())]
    pub(super) project: Uuid,
    /// The PKCS#11 library of an existing HSM [default: SoftHSM, with a new token in the home]
    #[arg(long, value_name = "PATH", requires = "hsm_token", requires = "hsm_pin_file")]
    pub(super) hsm_module: Option<PathBuf>,
    /// The label of the HSM's token
    #[arg(long, value_name = "LABEL", requires = "hsm_module")]
    pub(super) hsm_token: Option<String>,
    /// A file with the token's user PIN, which only you can read
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

When both listeners accept connections, the daemon prints `kms: REST on http://127.0.0.1:9200`
(with the actual address) and `kms: ready on DIR/kms.sock` to standard output, and notifies
systemd if systemd started it. Logs go to standard error. SIGTERM and SIGINT stop the daemon after
the requests in progress. SIGHUP reloads limits, [log], [audit] and the certificate; if one of
them is invalid, nothing changes. The REST API is served to other machines only with TLS.")]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) home: Home,
    /// The address of the REST API; port 0 selects a free port [default: `[rest] listen` in kms.toml]
    #[arg(long, value_name = "ADDR")]
    pub(super) rest_listen: Option<SocketAddr>,
    /// Require TLS: do not start without a certificate
    #[arg(long)]
    pub(super) tls: bool,
    /// The certificate chain, PEM [default: `[rest] tls_cert` in kms.toml]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Its private key, PEM [default: `[rest] tls_key` in kms.toml]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// The log level, or directives such as `info,kms_hsm=debug` [default: `[log] level` in kms.toml]
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<String>,
    /// The format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

/// Needs no home: the description is part of the program.
#[derive(Args)]
#[command(after_help = "\
Examples:
  kms openapi > openapi.json

A running daemon serves the same description at /openapi.json.")]
pub(super) struct OpenApi {}

#[derive(Subcommand)]
pub(super) enum Ring {
    /// Create a ring; applications see it as another PKCS#11 token
    Create(RingCreate),
    /// List all rings
    List(RingList),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms ring create payments --home /srv/kms
  kms ring create legacy --policy compat --user-pin-file user.pin --so-pin-file so.pin

A running daemon serves the new ring within a second.")]
pub(super) struct RingCreate {
    /// The name of the new ring: 1 to 32 letters, digits, `-` and `_`
    pub(super) name: String,
    #[command(flatten)]
    pub(super) home: Home,
    /// The policy of the ring
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
    /// List the keys of one ring, or of all rings
    List(KeyList),
    /// Create the next version of a key, which takes over its label
    Rotate(KeyRotate),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms key rotate --home /srv/kms --ring payments invoices
  kms key rotate --home /srv/kms --ring payments 3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11 --json

The previous version remains usable, with the label LABEL#NUMBER and its own CKA_ID.")]
pub(super) struct KeyRotate {
    #[command(flatten)]
    pub(super) home: Home,
    /// The key's ring, by name or id
    #[arg(long, value_name = "RING")]
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
    /// List only the keys of this ring, by name or id
    #[arg(long, value_name = "RING")]
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

Each part is reported as `ok`, `FAILED` with the next step, or `-` (not checked). The module is
--module, else libkms_pkcs11.so beside this program, in ../lib, or in the system's library
folders. The PIN is --pin-file, else the ring's PIN in DIR/credentials. The exit code is 0 if all
checks passed, else 1.")]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) home: Home,
    /// The PKCS#11 module that applications load
    #[arg(long, value_name = "PATH")]
    pub(super) module: Option<PathBuf>,
    /// The ring to log in to, by name or id [default: the first]
    #[arg(long, value_name = "RING")]
    pub(super) ring: Option<String>,
    /// A file whose first line is the PIN to log in with
    #[arg(long, value_name = "FILE")]
    pub(super) pin_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args)]
pub(super) struct ModuleProbe {
    /// The module to load.
    #[arg(long)]
    pub(super) module: PathBuf,
    /// The label of the token to use [default: the first].
    #[arg(long)]
    pub(super) ring: Option<String>,
}

/// The policy of a ring, as an argument.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Policy {
    /// Keys are sensitive and not extractable by default; prevents the published attacks on PKCS#11 tokens
    Strict,
    /// Allows what SoftHSM allows, with its defaults; prevents those attacks whose prevention breaks no application
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

/// The format of the log.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line of text for each entry
    Text,
    /// One JSON object for each entry
    Json,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
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
    fn every_command_has_a_one_line_description() {
        fn check(command: &clap::Command) {
            for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
                let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
                assert!((1..=80).contains(&about.len()), "{}: {about:?}", inner.get_name());
                check(inner);
            }
        }
        check(&Arguments::command());
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
