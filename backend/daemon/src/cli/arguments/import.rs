//! The arguments of `kms import`.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::{Home, Output};

#[derive(Args)]
#[command(override_usage = "kms import [OPTIONS] --ring <RING> --key <UUID> <FILE>")]
#[command(after_help = "\
Examples:
  head -c 32 /dev/urandom > data.key
  kms import data.key --ring payments --key KEY --home /srv/kms
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.pem
  kms import sign.pem --ring RING --key KEY \\
      --url https://kms.example:9200 --token-file my.token --ca ca.pem

RING is the name (displayName) or the id of a key ring of the REST API, KEY the id of a key. The
file contains the bytes of an AES or HMAC key, or an RSA or EC private key in PKCS#8, PEM or DER
(`openssl pkcs8 -topk8 -nocrypt` converts other formats). The key material leaves this machine
only wrapped, under a wrapping key that is created for this upload and deleted after it.

The service is --url, else the address in [rest] of the home's kms.toml; the token is
--token-file, else DIR/admin.token.")]
pub(in crate::cli) struct Import {
    /// The file with the key material
    pub(in crate::cli) file: PathBuf,
    /// The ring, by name or id
    #[arg(long, value_name = "RING", required_unless_present = "key_ring")]
    pub(in crate::cli) ring: Option<String>,
    /// An alias of --ring that takes an id only
    #[arg(long, value_name = "UUID", hide = true, conflicts_with = "ring")]
    pub(in crate::cli) key_ring: Option<Uuid>,
    /// The id of the key that gets the new version
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) key: Uuid,
    /// The id of the project
    #[arg(long, value_name = "UUID", default_value_t = Uuid::nil())]
    pub(in crate::cli) project: Uuid,
    /// The region
    #[arg(long, default_value = "eu01")]
    pub(in crate::cli) region: String,
    /// The URL of the service [default: the address in kms.toml]
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) url: Option<String>,
    /// A file whose first line is the bearer token [default: DIR/admin.token]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// CA certificates in PEM, if the service's certificate is not from a public CA
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Arguments, Command};
    use super::*;

    const ID: &str = "3f1c9a52-8a0e-4f0c-9d0e-2f1f6c0a7b11";

    fn parse(ring: &[&str]) -> Result<Import, clap::Error> {
        let arguments = [&["kms", "import", "data.key", "--key", ID], ring].concat();
        let Command::Import(import) = Arguments::try_parse_from(arguments)?.command else {
            unreachable!("the command is import")
        };
        Ok(import)
    }

    #[test]
    fn ring_takes_a_name_or_an_id_and_key_ring_an_id() {
        for ring in ["payments", ID] {
            assert_eq!(parse(&["--ring", ring]).unwrap().ring.as_deref(), Some(ring));
        }
        assert_eq!(parse(&["--key-ring", ID]).unwrap().key_ring, Uuid::parse_str(ID).ok());
        for wrong in [&["--key-ring", "payments"] as &[&str], &[], &["--ring", ID, "--key-ring", ID]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
