//! Where the door listens: address, certificate, bounds on connections; and how it stops.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::middleware::Connection;
use super::state::RestState;
use crate::config::RestConfig;

/// How long a connection may be silent between two calls, and how long a call's head may take. hyper measures both
/// with one clock.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// How long the first head may take, and before it the TLS handshake: whoever connects has something to say.
const FIRST_WITHIN: Duration = Duration::from_secs(10);

/// The longest head of a call: four times the longest token there is.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The most headers of one call; clients send about ten.
const HEADERS_MAX: usize = 64;

/// How long a client may leave an answer lying before its connection is cut.
const TAKEN_WITHIN_MILLISECONDS: u32 = 30_000;

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The address is somebody else's, or not this machine's.
    #[error(
        "cannot listen on {address}; stop what listens there, or choose another address with --rest-listen or \
         [rest] listen in kms.toml (port 0 picks a free one)"
    )]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Plain HTTP to other machines.
    #[error(
        "{0} can be reached from other machines, and tokens and data would cross the network in the clear: set \
         [rest] tls_cert and tls_key in kms.toml, or give --tls-cert and --tls-key, or listen on 127.0.0.1"
    )]
    InTheClear(SocketAddr),
    /// TLS is wanted, and there is no certificate.
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

/// An address that is ours, and what it is served with.
pub struct RestListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
    settings: RestConfig,
}

/// The door while it is served.
pub(crate) struct Serving {
    handle: Handle<SocketAddr>,
    tls: Option<RustlsConfig>,
    state: Arc<RestState>,
}

impl RestListener {
    /// Listens, and reads the certificate.
    ///
    /// # Errors
    /// When the address is taken, would carry secrets in the clear, or the certificate is none.
    pub fn open(settings: &RestConfig) -> Result<Self, RestError> {
        let tls = match &settings.tls {
            Some((certificate, key)) => Some(RustlsConfig::from_config(server_config(certificate, key)?)),
            None if settings.listen.ip().to_canonical().is_loopback() => None,
            None => return Err(RestError::InTheClear(settings.listen)),
        };
        let failed = |source| RestError::Address { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, settings: settings.clone() })
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Its settings.
    pub(super) fn settings(&self) -> &RestConfig {
        &self.settings
    }

    /// Serves until [`Serving::stop`] is called and the connections are done.
    pub(super) fn serve(
        self,
        state: Arc<RestState>,
        router: Router,
    ) -> io::Result<(Serving, impl Future<Output = io::Result<()>> + Send + 'static)> {
        let serving =
            Serving { handle: state.handle.clone(), tls: self.tls.clone(), state: Arc::clone(&state) };
        let places = Arc::new(Semaphore::new(
            usize::try_from(self.settings.connections_max).unwrap_or(usize::MAX >> 4),
        ));
        // Awaited between two connections: when all places are taken, those who come wait in the kernel's queue.
        let connections = tower::service_fn(move |peer: SocketAddr| {
            let (router, state, places) = (router.clone(), Arc::clone(&state), Arc::clone(&places));
            async move {
                let place = places.acquire_owned().await.ok();
                Ok::<_, io::Error>(Connection::new(router, state, peer, place))
            }
        });
        let server = bounded(axum_server::from_tcp(self.listener)?).handle(serving.handle.clone());
        let served = async move {
            match self.tls {
                Some(tls) => {
                    let acceptor = RustlsAcceptor::new(tls).handshake_timeout(FIRST_WITHIN).acceptor(Tuned);
                    server.acceptor(acceptor).serve(connections).await
                }
                None => server.acceptor(Tuned).serve(connections).await,
            }
        };
        Ok((serving, served))
    }
}

impl Serving {
    /// No further call is taken; those in progress may take so long.
    pub(crate) fn stop(&self, patience: Duration) {
        self.handle.graceful_shutdown(Some(patience));
    }

    /// Takes over limits and certificate of a configuration that was read again. Address and number of connections stay.
    ///
    /// # Errors
    /// When the certificate cannot be used; everything is as before then.
    pub(crate) fn adopt(&self, settings: RestConfig) -> Result<(), RestError> {
        if let (Some(tls), Some((certificate, key))) = (&self.tls, &settings.tls) {
            tls.reload_from_config(server_config(certificate, key)?);
        }
        let before = self.state.settings.load_full();
        let stays = before.listen != settings.listen
            || before.connections_max != settings.connections_max
            || before.enabled != settings.enabled
            || before.tls.is_some() != settings.tls.is_some();
        if stays {
            let keys = "enabled, listen, connections_max, and whether there is a certificate";
            tracing::warn!("SIGHUP: a restart is needed for what [rest] says anew of {keys}");
        }
        self.state.adopt(settings);
        Ok(())
    }
}

fn bounded(mut server: Server<SocketAddr>) -> Server<SocketAddr> {
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(true);
    server.http1_only().first_request_timeout(FIRST_WITHIN).accept_error_handler(|peer, error| {
        tracing::debug!(?peer, %error, "a connection could not be taken");
    })
}

/// Reads a certificate chain and its key. TLS 1.2 and 1.3, HTTP/1.1.
fn server_config(certificate: &Path, key: &Path) -> Result<Arc<rustls::ServerConfig>, RestError> {
    let wrong = |path: &Path, problem: String| RestError::Certificate { path: path.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong(certificate, format!("no certificate chain in PEM can be read: {error}")))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "it has no certificate in PEM".to_owned()));
    }
    private(key).map_err(|problem| wrong(key, problem))?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong(key, format!("no private key in PEM can be read: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| wrong(key, format!("it cannot be used with {}: {error}", certificate.display())))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Whoever may read the key can be us: a group may, everybody must not.
fn private(key: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(key).map_err(|error| error.to_string())?.permissions().mode() & 0o7777;
    if mode & 0o007 == 0 {
        return Ok(());
    }
    Err(format!("it can be read or changed by everybody (mode {mode:04o}); `chmod 600` it"))
}

/// Settings of each connection: answers go out at once, and are not kept for who does not take them.
#[derive(Clone, Copy, Debug)]
struct Tuned;

impl<S> Accept<TcpStream, S> for Tuned {
    type Stream = TcpStream;
    type Service = S;
    type Future = std::future::Ready<io::Result<(TcpStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let set = stream.set_nodelay(true).and_then(|()| {
            rustix::net::sockopt::set_tcp_user_timeout(&stream, TAKEN_WITHIN_MILLISECONDS)
                .map_err(io::Error::from)
        });
        std::future::ready(set.map(|()| (stream, service)))
    }
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
            trust_forwarded_for: false,
            metrics_public: false,
        }
    }

    fn refused(settings: &RestConfig) -> String {
        let error = RestListener::open(settings).err().expect("this is refused");
        kms_core::error_chain(&error)
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for listen in ["127.0.0.1:0", "127.7.7.7:0", "[::ffff:127.0.0.1]:0"] {
            let listener = RestListener::open(&settings(listen)).unwrap();
            assert!(listener.url().starts_with("http://") && !listener.url().ends_with(":0"), "{listen}");
        }
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let sentence = refused(&settings(listen));
            assert!(sentence.contains("tls_cert") && sentence.contains("127.0.0.1"), "{sentence}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_told_with_what_to_do() {
        let first = RestListener::open(&settings("127.0.0.1:0")).unwrap();
        let sentence = refused(&settings(first.url().trim_start_matches("http://")));
        assert!(sentence.contains("--rest-listen") && sentence.contains("in use"), "{sentence}");
    }

    #[test]
    fn certificates_that_are_none_are_told_by_file() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.pem"), folder.path().join("tls.key"));
        let with = RestConfig { tls: Some((certificate.clone(), key.clone())), ..settings("127.0.0.1:0") };
        assert!(refused(&with).contains("tls.pem: no certificate chain"));
        fs::write(&certificate, "nonsense").unwrap();
        assert!(refused(&with).contains("tls.pem: it has no certificate in PEM"));
        // The header is enough to be taken for one here; the key is looked at next.
        fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(refused(&with).contains("tls.key: "));
        fs::write(&key, "nonsense").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused(&with).contains("chmod 600"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(refused(&with).contains("tls.key: no private key in PEM"));
    }
}
