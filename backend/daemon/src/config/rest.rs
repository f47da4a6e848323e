//! `[rest]` in `kms.toml`: address, certificate and limits of the REST API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error as _};

use super::file::between_u32;

/// The default address: loopback, so that only this machine can connect.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9200);

/// The default quota of calls per project and hour: the number in the vendor's service certificate.
const CALLS_PER_HOUR: u32 = 10_000;

/// The default maximum of connections. Each may hold a body of the maximum size: 256 MiB in total.
const CONNECTIONS_MAX: u32 = 1024;

/// The settings of the REST API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RestConfig {
    /// Whether the REST API is served.
    pub enabled: bool,
    /// The address to listen on. With port 0 the system picks a free port.
    pub listen: SocketAddr,
    /// Certificate chain and private key, both PEM, in that order. Without them plain HTTP is served.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Calls per project and hour.
    pub calls_per_hour: u32,
    /// The maximum number of connections.
    pub connections_max: u32,
    /// The maximum number of connections of one address; with IPv6, of one network of 64 bits.
    pub connections_per_address: u32,
    /// Whether the client's address is the last one in `X-Forwarded-For`, as a proxy writes it.
    pub trust_forwarded_for: bool,
    /// Whether `/metrics` is served to other machines than this one.
    pub metrics_public: bool,
    /// The networks from which keys with `access_scope: SNA` may be used. Without any, no key can have that scope.
    pub sna_networks: Vec<IpNet>,
}

/// The section in the file.
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
    /// 0: a quarter of `connections_max`.
    #[serde(deserialize_with = "between_u32::<0, 65_535, _>")]
    connections_per_address: u32,
    trust_forwarded_for: bool,
    metrics_public: bool,
    #[serde(deserialize_with = "networks")]
    sna_networks: Vec<IpNet>,
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
            connections_per_address: 0,
            trust_forwarded_for: false,
            metrics_public: false,
            sna_networks: Vec::new(),
        }
    }
}

impl Rest {
    /// Returns the settings, with paths resolved relative to the configuration's folder.
    ///
    /// # Errors
    /// When there is a certificate without its key, or a key without its certificate.
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
            connections_per_address: match self.connections_per_address {
                0 => (self.connections_max / 4).max(1),
                number => number,
            },
            trust_forwarded_for: self.trust_forwarded_for,
            metrics_public: self.metrics_public,
            sna_networks: self.sna_networks.clone(),
        })
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format_args!(
            "{text:?} is no address with a port; write for example \"127.0.0.1:9200\" or \"[::1]:9200\""
        ))
    })
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let read = |text: &String| match text.parse::<IpNet>() {
        // An address with bits behind the prefix is more often a mistake than a network.
        Ok(network) if network.addr() == network.network() => Ok(network),
        Ok(network) => Err(D::Error::custom(format_args!(
            "{text:?} is in the network \"{}\"; write that",
            network.trunc()
        ))),
        Err(_) => Err(D::Error::custom(format_args!(
            "{text:?} is no network; write for example \"10.0.0.0/8\" or \"fd00::/8\""
        ))),
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(read).collect()
}
