//! `[rest]` in `kms.toml`: where the REST door listens, with which certificate, and its limits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _};

use super::file::between_u32;

/// Where the REST door listens unless told otherwise: this machine alone.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9200);

/// Calls per project and hour unless told otherwise: the service certificate's number.
const CALLS_PER_HOUR: u32 = 10_000;

/// Connections at once unless told otherwise. Each may hold a body of the largest size: 256 MiB at the very most.
const CONNECTIONS_MAX: u32 = 1024;

/// The REST door.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificate chain and private key, PEM, in that order; plain HTTP without.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Calls per project and hour.
    pub calls_per_hour: u32,
    /// Connections at once.
    pub connections_max: u32,
    /// Whether the caller's address is what a proxy wrote last into `X-Forwarded-For`.
    pub trust_forwarded_for: bool,
    /// Whether `/metrics` answers others than this machine.
    pub metrics_public: bool,
}

/// The section as it is written.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rest {
    enabled: bool,
    #[serde(deserialize_with = "address")]
    listen: SocketAddr,
    tls_cert: Option<String>,
    tls_key: Option<String>,
    #[serde(deserialize_with = "between_u32::<1, 1_000_000_000, _>")]
    calls_per_hour: u32,
    #[serde(deserialize_with = "between_u32::<1, 65_535, _>")]
    connections_max: u32,
    trust_forwarded_for: bool,
    metrics_public: bool,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: LISTEN,
            tls_cert: None,
            tls_key: None,
            calls_per_hour: CALLS_PER_HOUR,
            connections_max: CONNECTIONS_MAX,
            trust_forwarded_for: false,
            metrics_public: false,
        }
    }
}

impl Rest {
    /// What it says, with its paths in the configuration's folder.
    ///
    /// # Errors
    /// A certificate without its key, or the other way round.
    pub(super) fn in_folder(&self, folder: &Path) -> Result<RestConfig, &'static str> {
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((folder.join(certificate), folder.join(key))),
            (None, None) => None,
            (Some(_), None) => return Err("tls_cert needs tls_key beside it"),
            (None, Some(_)) => return Err("tls_key needs tls_cert beside it"),
        };
        Ok(RestConfig {
            enabled: self.enabled,
            listen: self.listen,
            tls,
            calls_per_hour: self.calls_per_hour,
            connections_max: self.connections_max,
            trust_forwarded_for: self.trust_forwarded_for,
            metrics_public: self.metrics_public,
        })
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format_args!(
            "{text:?} is no address with a port; write \"127.0.0.1:9200\", say, or \"[::1]:9200\""
        ))
    })
}
