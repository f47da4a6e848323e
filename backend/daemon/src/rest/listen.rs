//! The REST listener: address, certificate, limits on connections, and graceful shutdown.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::connection::ConnectionAcceptor;
use super::middleware::ConnectionService;
use super::state::RestState;
use crate::config::RestConfig;
use crate::fairness::{ConnectionLimits, Connections};

/// How long a connection may be idle between two requests, and how long a request's header section may take. hyper has
/// one timer for both.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The timeout for the TLS handshake, and for the first header section after it: clients connect in order to send a
/// request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of a request's header section: four times the longest token.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// The maximum number of headers of one request; clients send about ten.
const HEADERS_MAX: usize = 64;

/// Why the REST listener cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The address is in use, or is not one of this machine.
    #[error(
        "cannot listen on {address}; stop what listens there, or choose another address with --rest-listen or \
         [rest] listen in kms.toml (port 0 picks a free one)"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Plain HTTP is not served to other machines.
    #[error(
        "{0} can be reached from other machines, and tokens and data would cross the network in the clear: set \
         [rest] tls_cert and tls_key in kms.toml, or give --tls-cert and --tls-key, or listen on 127.0.0.1"
    )]
    TlsRequired(SocketAddr),
    /// TLS is required, and there is no certificate.
    #[error(
        "--tls needs a certificate: set [rest] tls_cert and tls_key in kms.toml, or give --tls-cert and --tls-key"
    )]
    NoCertificate,
    /// The certificate or its key cannot be used.
    #[error("{}: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

/// A bound socket, with the certificate and settings that it is served with.
pub struct RestListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    settings: RestConfig,
}

/// The handle of a REST server that runs.
pub(crate) struct RestServerHandle {
    handle: Handle<SocketAddr>,
    tls: Option<RustlsConfig>,
    state: Arc<RestState>,
}

impl RestListener {
    /// Binds the address and loads the certificate.
    ///
    /// # Errors
    /// When the address is in use, plain HTTP would be served to other machines, or the certificate is not valid.
    pub fn open(settings: &RestConfig) -> Result<Self, RestError> {
        let tls = match &settings.tls {
            Some((certificate, key)) => Some(RustlsConfig::from_config(server_config(certificate, key)?)),
            None if settings.listen.ip().to_canonical().is_loopback() => None,
            None => return Err(RestError::TlsRequired(settings.listen)),
        };
        let failed = |source| RestError::Address { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, settings: settings.clone() })
    }

    /// Returns the base URL for clients.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Returns its settings.
    pub(super) fn settings(&self) -> &RestConfig {
        &self.settings
    }

    /// Serves until [`RestServerHandle::stop`] is called and the connections have ended.
    pub(super) fn serve(
        self,
        state: Arc<RestState>,
        router: Router,
    ) -> io::Result<(RestServerHandle, impl Future<Output = io::Result<()>> + Send + 'static)> {
        let handle = RestServerHandle {
            handle: state.handle.clone(),
            tls: self.tls.clone(),
            state: Arc::clone(&state),
        };
        let limit = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let limits = ConnectionLimits {
            max: limit(self.settings.connections_max),
            per_peer: limit(self.settings.connections_per_address),
            kept: 0,
        };
        let open = Connections::new(limits, state.backend.rest_connections());
        let acceptor = ConnectionAcceptor::new(open, self.tls.is_none());
        let connections = tower::service_fn(move |peer: SocketAddr| {
            let service = ConnectionService::new(router.clone(), Arc::clone(&state), peer);
            std::future::ready(Ok::<_, io::Error>(service))
        });
        let server = with_limits(axum_server::from_tcp(self.listener)?).handle(handle.handle.clone());
        let served = async move {
            match self.tls {
                Some(tls) => {
                    let tls =
                        RustlsAcceptor::new(tls).handshake_timeout(FIRST_REQUEST_TIMEOUT).acceptor(acceptor);
                    server.acceptor(tls).serve(connections).await
                }
                None => server.acceptor(acceptor).serve(connections).await,
            }
        };
        Ok((handle, served))
    }
}

impl RestServerHandle {
    /// Stops accepting requests; those in progress may take until the timeout.
    pub(crate) fn stop(&self, timeout: Duration) {
        self.handle.graceful_shutdown(Some(timeout));
    }

    /// Applies the limits and the certificate of a reloaded configuration. Address and numbers of connections do not
    /// change.
    ///
    /// # Errors
    /// When the certificate cannot be used; then nothing has changed.
    pub(crate) fn apply_settings(&self, settings: RestConfig) -> Result<(), RestError> {
        if let (Some(tls), Some((certificate, key))) = (&self.tls, &settings.tls) {
            tls.reload_from_config(server_config(certificate, key)?);
        }
        let before = self.state.settings.load_full();
        let needs_restart = before.listen != settings.listen
            || before.connections_max != settings.connections_max
            || before.connections_per_address != settings.connections_per_address
            || before.enabled != settings.enabled
            || before.tls.is_some() != settings.tls.is_some();
        if needs_restart {
            let keys = "enabled, listen, the numbers of connections, and whether there is a certificate";
            tracing::warn!("SIGHUP: changes in [rest] to {keys} need a restart");
        }
        self.state.apply_settings(settings);
        Ok(())
    }
}

fn with_limits(mut server: Server<SocketAddr>) -> Server<SocketAddr> {
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    server.http1_only().first_request_timeout(FIRST_REQUEST_TIMEOUT).accept_error_handler(|peer, error| {
        tracing::debug!(?peer, %error, "a connection could not be accepted");
    })
}

/// Builds the TLS configuration from a certificate chain and its key: TLS 1.2 and 1.3, HTTP/1.1.
fn server_config(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, RestError> {
    let invalid = |path: &Path, problem: String| RestError::Certificate { path: path.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| invalid(certificate, format!("no certificate chain in PEM can be read: {error}")))?;
    if chain.is_empty() {
        return Err(invalid(certificate, "it has no certificate in PEM".to_owned()));
    }
    check_key_permissions(key).map_err(|problem| invalid(key, problem))?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| invalid(key, format!("no private key in PEM can be read: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| {
            invalid(key, format!("it cannot be used with {}: {error}", certificate.display()))
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Rejects a key file that others than its owner and group can read: with the key they can impersonate the server.
fn check_key_permissions(key: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(key).map_err(|error| error.to_string())?.permissions().mode() & 0o7777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(format!("it can be read or changed by everybody (mode {mode:04o}); `chmod 600` it"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn settings(listen: &str) -> RestConfig {
        RestConfig {
            enabled: true,
            listen: listen.parse().unwrap(),
            tls: None,
            calls_per_hour: 1,
            connections_max: 1,
            connections_per_address: 1,
            trust_forwarded_for: false,
            metrics_public: false,
            sna_networks: Vec::new(),
        }
    }

    fn open_error(settings: &RestConfig) -> String {
        let error = RestListener::open(settings).err().expect("this is rejected");
        kms_core::error_chain(&error)
    }

    #[test]
    fn plain_http_is_served_on_loopback_addresses_only() {
        for listen in ["127.0.0.1:0", "127.7.7.7:0", "[::ffff:127.0.0.1]:0"] {
            let listener = RestListener::open(&settings(listen)).unwrap();
            assert!(listener.url().starts_with("http://") && !listener.url().ends_with(":0"), "{listen}");
        }
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let message = open_error(&settings(listen));
            assert!(message.contains("tls_cert") && message.contains("127.0.0.1"), "{message}");
        }
    }

    #[test]
    fn the_error_for_an_address_in_use_states_the_remedy() {
        let first = RestListener::open(&settings("127.0.0.1:0")).unwrap();
        let message = open_error(&settings(first.url().trim_start_matches("http://")));
        assert!(message.contains("--rest-listen") && message.contains("in use"), "{message}");
    }

    #[test]
    fn the_error_for_an_invalid_certificate_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
        let with = RestConfig { tls: Some((certificate.clone(), key.clone())), ..settings("127.0.0.1:0") };
        assert!(open_error(&with).contains("tls.pem: no certificate chain"));
        fs::write(&certificate, "nonsense").unwrap();
        assert!(open_error(&with).contains("tls.pem: it has no certificate in PEM"));
        // The PEM header is enough to pass for a certificate here; the key is loaded next.
        fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(open_error(&with).contains("tls.key: "));
        fs::write(&key, "nonsense").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open_error(&with).contains("chmod 600"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open_error(&with).contains("tls.key: no private key in PEM"));
    }
}
