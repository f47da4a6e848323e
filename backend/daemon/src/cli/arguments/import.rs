//! What `kms import` takes.

use std::path::PathBuf;

use clap::Args;

use super::{Home, Output};

#[derive(Args)]
#[command(after_help = "\
Examples:
  head -c 32 /dev/urandom > data.key
  kms import data.key --key-ring RING --key KEY --home /srv/kms
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sign.pem
  kms import sign.pem --key-ring RING --key KEY --url https://kms.example:9200 --token-file my.token --ca ca.pem

RING and KEY are ids of the REST API. The file holds the bytes of an AES or HMAC key, or an RSA or EC private key in
PKCS#8 (PEM or DER; `openssl pkcs8 -topk8 -nocrypt` makes it of others). It leaves this machine only wrapped under a
wrapping key that is made for this upload and deleted after it.

The service is --url, else where [rest] in the home's kms.toml says; the token is --token-file, else DIR/admin.token.")]
pub(in crate::cli) struct Import {
    /// The file with the key material
    pub(in crate::cli) file: PathBuf,
    /// The id of the key ring
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) key_ring: uuid::Uuid,
    /// The id of the key that gets a new version
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) key: uuid::Uuid,
    /// The project
    #[arg(long, value_name = "UUID", default_value_t = uuid::Uuid::nil())]
    pub(in crate::cli) project: uuid::Uuid,
    /// The region
    #[arg(long, default_value = "eu01")]
    pub(in crate::cli) region: String,
    /// Where the service is
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) url: Option<String>,
    /// A file whose first line is the bearer token
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) token_file: Option<PathBuf>,
    /// Certificates to trust, PEM, where the service's own is not from a public authority
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) ca: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) home: Home,
    #[command(flatten)]
    pub(in crate::cli) output: Output,
}
