//! TLS of the REST listener, replacing its certificate at run time, and shutdown.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use kms_tests::artefacts::artefacts;
use kms_tests::daemon::read_log;
use kms_tests::rest::{Rest, key};
use kms_tests::{Policy, Stack, program};

/// How long the daemon may take to load a new certificate.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// A KMS whose REST listener has a certificate.
struct TlsFixture {
    stack: Stack,
    certificate: String,
}

impl TlsFixture {
    fn new() -> Self {
        let stack = Stack::stopped(Policy::Strict);
        let mut fixture = Self { stack, certificate: String::new() };
        fixture.certificate = fixture.write_certificate();
        let (certificate, key) = fixture.files();
        fixture.stack.configure("rest", "tls_cert", &format!("{certificate:?}"));
        fixture.stack.configure("rest", "tls_key", &format!("{key:?}"));
        fixture.stack.start();
        fixture
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        (self.stack.folder().join("rest.pem"), self.stack.folder().join("rest.key"))
    }

    /// Writes a new certificate and its key; returns the certificate.
    fn write_certificate(&self) -> String {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let generated = rcgen::generate_simple_self_signed(names).expect("a certificate can be generated");
        let (certificate, key) = self.files();
        let pem = generated.cert.pem();
        std::fs::write(&key, generated.signing_key.serialize_pem()).expect("a file can be written");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode can be set");
        std::fs::write(certificate, &pem).expect("a file can be written");
        pem
    }

    fn rest(&self, trusted: &str) -> Rest {
        Rest::new(&self.stack.rest_address(), &[trusted], Some(&self.stack.admin_token()))
    }
}

#[test]
fn the_listener_serves_tls_to_clients_that_trust_its_certificate() {
    let fixture = TlsFixture::new();
    assert!(fixture.stack.rest_address().starts_with("https://"), "{}", fixture.stack.rest_address());
    let rest = fixture.rest(&fixture.certificate);
    let ring = rest.create_ring("ring");
    rest.create_key(&ring, "key", "aes_256_gcm");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let distrusting = fixture.rest(&other.cert.pem());
    distrusting
        .try_call("GET", &distrusting.path("keyrings"), None, &[])
        .expect_err("the certificate is not trusted");
    // A plain HTTP request gets no response of the API.
    let mut plain = connect(&rest);
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("a socket takes some bytes");
    let mut response = Vec::new();
    plain.read_to_end(&mut response).unwrap_or_default();
    assert!(!response.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&response));
}

#[test]
fn tls_1_2_and_1_3_are_accepted_and_tls_1_1_is_rejected() {
    let fixture = TlsFixture::new();
    let address = fixture.stack.rest_address().replace("https://", "");
    let connect_with = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, version, "-CAfile"]).arg(fixture.files().0);
        command.args(["-verify_return_error", "-brief"]).env("OPENSSL_CONF", "/dev/null");
        program::run(&mut command)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        connect_with(version).ok();
    }
    connect_with("-tls1_1").refused();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a timeout")]
fn sighup_loads_a_new_certificate_and_keeps_it_when_the_next_is_broken() {
    let mut fixture = TlsFixture::new();
    fixture.rest(&fixture.certificate).read("keyrings").json(200);
    let old = fixture.certificate.clone();
    fixture.certificate = fixture.write_certificate();
    fixture.stack.daemon().hang_up();
    let deadline = Instant::now() + RELOAD_TIMEOUT;
    loop {
        let rest = fixture.rest(&fixture.certificate);
        if rest
            .try_call("GET", &rest.path("keyrings"), None, &[])
            .is_ok_and(|response| response.status == 200)
        {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the new certificate is not served:\n{}",
            read_log(&fixture.stack.log())
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let rest = fixture.rest(&old);
    rest.try_call("GET", &rest.path("keyrings"), None, &[]).expect_err("the old one is no longer served");
    std::fs::write(fixture.files().0, "no certificate").expect("a file can be written");
    let before = read_log(&fixture.stack.log()).len();
    fixture.stack.daemon().hang_up();
    let deadline = Instant::now() + RELOAD_TIMEOUT;
    while !read_log(&fixture.stack.log())[before..].contains("rest.pem") {
        assert!(Instant::now() < deadline, "the log names the broken file");
        std::thread::sleep(Duration::from_millis(20));
    }
    fixture.rest(&fixture.certificate).read("keyrings").json(200);
}

#[test]
fn plain_http_is_allowed_on_loopback_only() {
    let stack = Stack::stopped(Policy::Strict);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9200"] {
        stack.configure("rest", "listen", &format!("{address:?}"));
        let mut command = Command::new(&artefacts().kms);
        let ran = program::run(command.arg("serve").arg("--home").arg(stack.home()));
        let message = ran.refused();
        assert!(message.contains("tls_cert") || message.contains("--tls"), "names the next step: {message}");
    }
}

#[test]
fn sigterm_completes_running_calls_and_accepts_no_new_ones() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.create_ring("ring");
    let body = key("created-at-shutdown", "aes_256_gcm").to_string();
    let (early, late) = body.split_at(20);
    let header = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{early}",
        rest.path(&format!("keyrings/{ring}/keys")),
        rest.token().unwrap_or_default(),
        body.len()
    );
    let mut running = connect(&rest);
    running.write_all(header.as_bytes()).expect("a socket takes some bytes");
    // After a response on a later connection the daemon has accepted the first connection too.
    rest.read("keyrings").json(200);
    stack.daemon().terminate();
    std::thread::sleep(Duration::from_millis(300));
    let address = rest.base().trim_start_matches("http://").to_owned();
    TcpStream::connect(&address).expect_err("the listener accepts no connections any more");
    assert_eq!(stack.daemon().ended(), None, "the daemon waits for the running call");
    running.write_all(late.as_bytes()).expect("a socket takes some bytes");
    let mut response = String::new();
    running.read_to_string(&mut response).expect("the call completes and the connection ends");
    assert!(response.starts_with("HTTP/1.1 202"), "{response}");
    assert!(stack.daemon().end().success());
    stack.restart_stopped();
    let rest = Rest::of(&stack);
    let keys = rest.read(&format!("keyrings/{ring}/keys")).json(200);
    assert_eq!(keys["keys"][0]["displayName"], json!("created-at-shutdown"));
}

fn connect(rest: &Rest) -> TcpStream {
    let (_, address) = rest.base().split_once("://").expect("an address has a scheme");
    let stream = TcpStream::connect(address).expect("the listener accepts connections");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has a time-out");
    stream
}
