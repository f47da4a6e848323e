//! nginx and Apache httpd as TLS servers whose key is in the KMS: their forked workers keep serving while the backend is
//! killed and started again.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kms_tests::program::{self, installed};
use kms_tests::{Stack, USER_PIN};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::openssl::{ENGINE, with_engine};
use crate::{command, file, pkcs11_tool, words};

/// Handshakes before the backend is killed, and how many have to follow after it is back.
const HANDSHAKES: usize = 150;

/// The worker processes of each server.
const WORKERS: usize = 2;

/// A connection that takes longer is a worker that hangs.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Apache's modules, where Debian installs them.
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// A server that is stopped on drop.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The master process ends its workers on SIGTERM.
        let _sent = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.process),
            rustix::process::Signal::TERM,
        );
        program::wait(&mut self.process, Duration::from_secs(5));
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Creates a key pair and a certificate for it, signed by itself. Returns the key's URI.
fn key_and_certificate(stack: &Stack) -> String {
    pkcs11_tool(stack, &words("--keypairgen --key-type rsa:2048 --id 01 --label web --usage-sign")).ok();
    let uri = format!("pkcs11:token={};object=web;type=private;pin-value={USER_PIN}", stack.ring());
    let line = "req -engine pkcs11 -keyform engine -new -x509 -days 2 -subj /CN=localhost -out web.pem";
    let mut request = with_engine(stack, &words(line));
    program::run(request.args(["-addext", "subjectAltName=DNS:localhost", "-key", &uri])).ok();
    uri
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("the listener has an address").port()
}

/// Starts a server in the foreground and waits for its port.
#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn start(stack: &Stack, mut command: Command, port: u16) -> Server {
    let log = fs::File::create(stack.folder().join("server.log")).expect("a log can be written");
    command.env("OPENSSL_CONF", stack.folder().join("engine.cnf")).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
    let process = command.spawn().expect("the server starts");
    let server = Server { process, port };
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the server does not listen:\n{}", logs(stack));
        thread::sleep(Duration::from_millis(50));
    }
    server
}

fn nginx(stack: &Stack, uri: &str) -> Server {
    let (port, folder) = (free_port(), stack.folder().display());
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {folder}/{name};\n"))
        .collect();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes {WORKERS};\nssl_engine pkcs11;\nenv KMS_PKCS11_CONFIG;\n\
         pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}\
         server {{\nlisten 127.0.0.1:{port} ssl reuseport;\nssl_certificate {folder}/web.pem;\n\
         ssl_certificate_key \"engine:pkcs11:{uri}\";\nlocation / {{ return 200 \"$pid\\n\"; }}\n}}\n}}\n"
    );
    let config = file(stack, "nginx.conf", text.as_bytes());
    let mut nginx = command(stack, "nginx");
    nginx.arg("-c").arg(config);
    start(stack, nginx, port)
}

fn apache(stack: &Stack, uri: &str) -> Server {
    let (port, folder) = (free_port(), stack.folder().display());
    let modules: String = ["mpm_event", "authz_core", "ssl"]
        .iter()
        .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
        .collect();
    let text = format!(
        "{modules}ServerName localhost\nServerRoot {folder}\nPidFile {folder}/httpd.pid\nErrorLog {folder}/error.log\n\
         DefaultRuntimeDir {folder}\nDocumentRoot {folder}\nListen 127.0.0.1:{port}\nStartServers {WORKERS}\n\
         ServerLimit {WORKERS}\nMinSpareThreads 2\nMaxSpareThreads 50\nThreadsPerChild 25\nMaxRequestWorkers 50\n\
         SSLCryptoDevice pkcs11\nSSLEngine on\nSSLSessionCache none\nSSLCertificateFile {folder}/web.pem\n\
         SSLCertificateKeyFile \"{uri}\"\n"
    );
    let config = file(stack, "httpd.conf", text.as_bytes());
    let mut apache = command(stack, "apache2");
    apache.args(["-D", "FOREGROUND", "-f"]).arg(config);
    start(stack, apache, port)
}

/// A client that trusts the server's certificate and resumes no session: each connection costs a signature.
fn client(stack: &Stack) -> Arc<ClientConfig> {
    let certificate = CertificateDer::from_pem_file(stack.folder().join("web.pem")).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("the certificate can be trusted");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("TLS 1.2 and 1.3").with_root_certificates(roots);
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// One connection: a full handshake and one request. Returns the response.
fn connect(config: &Arc<ClientConfig>, port: u16) -> io::Result<String> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(CONNECTION_TIMEOUT))?;
    socket.set_write_timeout(Some(CONNECTION_TIMEOUT))?;
    let name = ServerName::try_from("localhost").expect("a DNS name");
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        // Some servers end a connection without close_notify after an HTTP/1.0 response.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !response.is_empty() => {}
        other => drop(other?),
    }
    Ok(String::from_utf8_lossy(&response).into_owned())
}

fn logs(stack: &Stack) -> String {
    let read = |name: &str| fs::read_to_string(stack.folder().join(name)).unwrap_or_default();
    format!("{}{}", read("server.log"), read("error.log"))
}

/// Connections one after the other while the backend is killed and started again: none of them may fail.
fn survives(mut stack: Stack, server: &Server) {
    let config = client(&stack);
    let (done, port) = (AtomicUsize::new(0), server.port);
    let failures: Vec<String> = thread::scope(|scope| {
        let connections = scope.spawn(|| {
            let mut failures = Vec::new();
            for _ in 0..2 * HANDSHAKES {
                match connect(&config, port) {
                    Ok(response) if response.starts_with("HTTP/1.") => {}
                    Ok(response) => failures.push(format!("an empty response: {response:?}")),
                    Err(error) => failures.push(error.to_string()),
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        while done.load(Ordering::Relaxed) < HANDSHAKES && !connections.is_finished() {
            thread::sleep(Duration::from_millis(5));
        }
        stack.kill9();
        thread::sleep(Duration::from_millis(100));
        stack.start();
        connections.join().expect("the connections end")
    });
    let total = done.load(Ordering::Relaxed);
    assert!(failures.is_empty(), "{} of {total} failed: {failures:?}\n{}", failures.len(), logs(&stack));
}

#[test]
fn nginx_workers_outlive_a_kill_of_the_backend() {
    if !installed(&["nginx", "openssl", "pkcs11-tool", ENGINE]) {
        return;
    }
    let stack = Stack::strict();
    let uri = key_and_certificate(&stack);
    let server = nginx(&stack, &uri);
    // Each worker has loaded the module and made a signature before the backend is killed.
    let config = client(&stack);
    let mut workers = HashSet::new();
    for _ in 0..200 {
        let response =
            connect(&config, server.port).unwrap_or_else(|error| panic!("{error}\n{}", logs(&stack)));
        workers.extend(response.lines().last().map(str::to_owned));
        if workers.len() == WORKERS {
            break;
        }
    }
    assert_eq!(workers.len(), WORKERS, "{workers:?}");
    survives(stack, &server);
}

#[test]
fn apache_workers_outlive_a_kill_of_the_backend() {
    if !installed(&["apache2", "openssl", "pkcs11-tool", ENGINE]) {
        return;
    }
    assert!(Path::new(APACHE_MODULES).is_dir(), "apache2 has no modules");
    let stack = Stack::strict();
    let uri = key_and_certificate(&stack);
    let server = apache(&stack, &uri);
    let config = client(&stack);
    for _ in 0..50 {
        connect(&config, server.port).unwrap_or_else(|error| panic!("{error}\n{}", logs(&stack)));
    }
    survives(stack, &server);
}
