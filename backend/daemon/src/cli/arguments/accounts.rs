//! The arguments of `kms account` and `kms token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use kms_store::KeyAlgorithm;

use super::{Home, Output, Role};

#[derive(Subcommand)]
pub(in crate::cli) enum Account {
    /// Add a service account (NAME@DOMAIN) or a principal of one ring (NAME)
    Add(AccountAdd),
    /// List service accounts, and the principals of rings
    List(AccountList),
    /// Remove an account; what it created remains
    Remove(AccountRemove),
    /// Disable a service account; its tokens and logins become invalid at once
    Disable(AccountState),
    /// Enable a disabled service account again
    Enable(AccountState),
    /// Manage the keys with which a service account requests access tokens
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

An address with @ adds a service account. It uses the REST API with a token (`kms token create`)
or a key (`kms account key create`), and PKCS#11 with a token as the PIN. Its roles apply in one
project, in one ring, or everywhere.

A name without @ adds a principal of one ring, which logs in over PKCS#11 with the PIN
`name:secret`. The secret is random if it is not given. The PIN is written to DIR/credentials,
which only you can read.")]
pub(in crate::cli) struct AccountAdd {
    /// An address (NAME@DOMAIN), or a name of 1 to 32 letters, digits, `-` and `_`
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The project in which a service account's role applies, by name or id [default: every project]
    #[arg(long, value_name = "PROJECT")]
    pub(in crate::cli) project: Option<String>,
    /// The ring of a principal [default: default], or in which a service account's role applies [default: all];
    /// by name or id
    #[arg(long, value_name = "RING")]
    pub(in crate::cli) ring: Option<String>,
    /// The role [default: kms.user for a principal, none for a service account]
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
    /// List only the principals of this ring, by name or id
    #[arg(long, value_name = "RING")]
    pub(in crate::cli) ring: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account remove ci@acme.sa.kms.local --home /srv/kms
  kms account remove alice --ring payments --home /srv/kms

The roles, tokens and keys of the account are removed with it, and its logins end. A running
daemon applies this within a second.")]
pub(in crate::cli) struct AccountRemove {
    /// A service account's address or id, or a principal's name
    pub(in crate::cli) name: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The ring of the principal, by name or id [default: default]
    #[arg(long, value_name = "RING")]
    pub(in crate::cli) ring: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account disable ci@acme.sa.kms.local --home /srv/kms
  kms account enable ci@acme.sa.kms.local --home /srv/kms

While an account is disabled, none of its credentials is valid. When it is enabled again, its
static tokens and keys are valid as before; access tokens that were issued for its keys before are
not.")]
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
    /// Generate a key pair and write the key file that clients read
    Create(AccountKeyCreate),
    /// Add the public key of a key pair that you generated
    Add(AccountKeyAdd),
    /// List the keys of service accounts
    List(AccountKeyList),
    /// Revoke a key; access tokens issued for the account's keys become invalid
    Revoke(AccountKeyRevoke),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms account key create ci@acme.sa.kms.local --out ci-key.json --home /srv/kms
  kms account key create ci@acme.sa.kms.local --out ci-key.json \\
      --expires-in 180d --algorithm RSA_4096 --home /srv/kms

The file has the format of the vendor's service account keys and contains the private key. Only
you can read it; the KMS does not store the private key. Clients read the file through
STACKIT_SERVICE_ACCOUNT_KEY_PATH, and request access tokens from the URL in STACKIT_TOKEN_BASEURL,
for example http://127.0.0.1:9200/token.")]
pub(in crate::cli) struct AccountKeyCreate {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The key file to write; it must not exist
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
    /// The algorithm of the key pair
    #[arg(long, value_enum, default_value_t = Algorithm::Rsa2048)]
    pub(in crate::cli) algorithm: Algorithm,
    /// The lifetime, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// The URL for access tokens, written into the key file for clients that read it there
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

With --json, prints the key file without the private key: add that as credentials.privateKey.")]
pub(in crate::cli) struct AccountKeyAdd {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The public key, PEM: RSA of 2048 or 4096 bits
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) public_key: PathBuf,
    /// The lifetime, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// The URL for access tokens, written into the key file for clients that read it there
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
    /// List only the keys of this service account, by address or id
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
pub(in crate::cli) enum Token {
    /// Create a token, which is displayed once
    Create(TokenCreate),
    /// List tokens, without their secret values
    List(TokenList),
    /// Revoke a token
    Revoke(TokenRevoke),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  kms token create ci@acme.sa.kms.local --home /srv/kms
  kms token create ci@acme.sa.kms.local --name deploy --expires-in 90d \\
      --out deploy.token --home /srv/kms
  curl -H \"Authorization: Bearer $(cat deploy.token)\" \\
      http://127.0.0.1:9200/v1/projects/PROJECT/regions/eu01/keyrings

The token is displayed once, or written to a file that only you can read. Over PKCS#11, use it as
the user's PIN.")]
pub(in crate::cli) struct TokenCreate {
    /// The service account's address or id
    pub(in crate::cli) account: String,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    /// The name of the token, unique in its account
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(in crate::cli) name: String,
    /// The lifetime, such as 90d or 12h [default: until revoked]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub(in crate::cli) expires_in: Option<Duration>,
    /// Write the token to this file instead of displaying it; the file must not exist
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
    /// List only the tokens of this service account, by address or id
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

Within a second, requests with the token are rejected and PKCS#11 logins made with it end.")]
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

/// The algorithm of an account key, as an argument. `kms key list` spells RSA algorithms `rsa-2048`: both are accepted.
#[derive(Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Algorithm {
    /// RSA of 2048 bits; also rsa-2048
    #[value(name = "RSA_2048", alias = "rsa-2048")]
    Rsa2048,
    /// RSA of 4096 bits; also rsa-4096
    #[value(name = "RSA_4096", alias = "rsa-4096")]
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

/// The maximum lifetime: ten years, more than any credential should have.
const DAYS_MAX: u64 = 3660;

/// Parses a lifetime such as `90d`, `12h` or `30m`.
fn lifetime(text: &str) -> Result<Duration, String> {
    let invalid = || format!("expected a lifetime such as 90d, 12h or 30m, of at most {DAYS_MAX}d");
    let split = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(split);
    let unit = match unit {
        "d" => 24 * 3600,
        "h" => 3600,
        "m" => 60,
        _ => return Err(invalid()),
    };
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=DAYS_MAX * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_in_days_hours_or_minutes() {
        for (text, seconds) in [("90d", 90 * 86_400), ("12h", 43_200), ("1m", 60), ("3660d", 3660 * 86_400)] {
            assert_eq!(lifetime(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "d", "90", "0d", "-1d", "1w", "3661d", "1.5h", "99999999999999999999d", "9\u{20ac}"]
        {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_algorithm_has_both_spellings() {
        for (name, alias, algorithm) in
            [("RSA_2048", "rsa-2048", KeyAlgorithm::Rsa2048), ("RSA_4096", "rsa-4096", KeyAlgorithm::Rsa4096)]
        {
            for spelling in [name, alias] {
                let parsed = Algorithm::from_str(spelling, false).map(KeyAlgorithm::from);
                assert_eq!(parsed.map(KeyAlgorithm::name), Ok(algorithm.name()));
            }
        }
    }
}
