//! The door's TLS, its certificate exchanged under way, and how it stops.

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

/// How long a certificate may take to be exchanged.
const EXCHANGED_WITHIN: Duration = Duration::from_secs(20);

/// A home whose door has a certificate.
struct Guarded {
    stack: Stack,
    certificate: String,
}

impl Guarded {
    fn new() -> Self {
        let stack = Stack::stopped(Policy::Strict);
        let mut guarded = Self { stack, certificate: String::new() };
        guarded.certificate = guarded.exchange();
        let (certificate, key) = guarded.files();
        guarded.stack.configure("rest", "tls_cert", &format!("{certificate:?}"));
        guarded.stack.configure("rest", "tls_key", &format!("{key:?}"));
        guarded.stack.start();
        guarded
    }

    fn files(&self) -> (PathBuf, PathBuf) {
        (self.stack.folder().join("door.pem"), self.stack.folder().join("door.key"))
    }

    /// Writes a new certificate and its key; gives the certificate.
    fn exchange(&self) -> String {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let (certificate, key) = self.files();
        let pem = made.cert.pem();
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file can be written");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode can be set");
        std::fs::write(certificate, &pem).expect("a file can be written");
        pem
    }

    fn rest(&self, trusted: &str) -> Rest {
        Rest::new(&self.stack.rest_address(), &[trusted], Some(&self.stack.admin_token()))
    }
}

#[test]
fn the_door_speaks_tls_to_who_trusts_its_certificate() {
    let guarded = Guarded::new();
    assert!(guarded.stack.rest_address().starts_with("https://"), "{}", guarded.stack.rest_address());
    let rest = guarded.rest(&guarded.certificate);
    let ring = rest.make_ring("ring");
    rest.make_key(&ring, "key", "aes_256_gcm");
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let stranger = guarded.rest(&other.cert.pem());
    stranger.try_call("GET", &stranger.path("keyrings"), None, &[]).expect_err("it is not trusted");
    // Plain HTTP is not answered with anything of the API.
    let mut plain = connect(&rest);
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").expect("a socket takes some bytes");
    let mut answered = Vec::new();
    plain.read_to_end(&mut answered).unwrap_or_default();
    assert!(!answered.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answered));
}

#[test]
fn openssl_agrees_on_the_newest_version_and_refuses_the_oldest() {
    let guarded = Guarded::new();
    let address = guarded.stack.rest_address().replace("https://", "");
    let speak = |version: &str| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, version, "-CAfile"]).arg(guarded.files().0);
        command.args(["-verify_return_error", "-brief"]).env("OPENSSL_CONF", "/dev/null");
        program::run(&mut command)
    };
    for version in ["-tls1_2", "-tls1_3"] {
        speak(version).ok();
    }
    speak("-tls1_1").refused();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the exchange is waited for, with a deadline")]
fn a_new_certificate_is_taken_up_on_sighup_and_a_broken_one_is_not() {
    let mut guarded = Guarded::new();
    guarded.rest(&guarded.certificate).read("keyrings").json(200);
    let old = guarded.certificate.clone();
    guarded.certificate = guarded.exchange();
    guarded.stack.daemon().hang_up();
    let deadline = Instant::now() + EXCHANGED_WITHIN;
    loop {
        let rest = guarded.rest(&guarded.certificate);
        if rest.try_call("GET", &rest.path("keyrings"), None, &[]).is_ok_and(|answer| answer.status == 200) {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the new certificate is not served:\n{}",
            read_log(&guarded.stack.log())
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let rest = guarded.rest(&old);
    rest.try_call("GET", &rest.path("keyrings"), None, &[]).expect_err("the old one is no longer served");
    std::fs::write(guarded.files().0, "no certificate").expect("a file can be written");
    let before = read_log(&guarded.stack.log()).len();
    guarded.stack.daemon().hang_up();
    let deadline = Instant::now() + EXCHANGED_WITHIN;
    while !read_log(&guarded.stack.log())[before..].contains("door.pem") {
        assert!(Instant::now() < deadline, "the log names the broken file");
        std::thread::sleep(Duration::from_millis(20));
    }
    guarded.rest(&guarded.certificate).read("keyrings").json(200);
}

#[test]
fn plain_http_stays_on_this_machine() {
    let stack = Stack::stopped(Policy::Strict);
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9200"] {
        stack.configure("rest", "listen", &format!("{address:?}"));
        let mut command = Command::new(&artefacts().kms);
        let ran = program::run(command.arg("serve").arg("--home").arg(stack.home()));
        let said = ran.refused();
        assert!(said.contains("tls_cert") || said.contains("--tls"), "the next step: {said}");
    }
}

#[test]
fn sigterm_lets_a_call_end_and_takes_no_new_one() {
    let mut stack = Stack::strict();
    let rest = Rest::of(&stack);
    let ring = rest.make_ring("ring");
    let body = key("made-at-the-end", "aes_256_gcm").to_string();
    let (early, late) = body.split_at(20);
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{early}",
        rest.path(&format!("keyrings/{ring}/keys")),
        rest.token().unwrap_or_default(),
        body.len()
    );
    let mut under_way = connect(&rest);
    under_way.write_all(head.as_bytes()).expect("a socket takes some bytes");
    // An answered call on another connection: by then the daemon has accepted the first one, too.
    rest.read("keyrings").json(200);
    stack.daemon().terminate();
    std::thread::sleep(Duration::from_millis(300));
    let address = rest.base().trim_start_matches("http://").to_owned();
    TcpStream::connect(&address).expect_err("the door takes nobody in any more");
    assert_eq!(stack.daemon().ended(), None, "the daemon waits for the call");
    under_way.write_all(late.as_bytes()).expect("a socket takes some bytes");
    let mut answered = String::new();
    under_way.read_to_string(&mut answered).expect("the call is answered, and the connection ends");
    assert!(answered.starts_with("HTTP/1.1 202"), "{answered}");
    assert!(stack.daemon().end().success());
    stack.restart_stopped();
    let rest = Rest::of(&stack);
    let keys = rest.read(&format!("keyrings/{ring}/keys")).json(200);
    assert_eq!(keys["keys"][0]["displayName"], json!("made-at-the-end"));
}

fn connect(rest: &Rest) -> TcpStream {
    let (_, address) = rest.base().split_once("://").expect("an address has a scheme");
    let stream = TcpStream::connect(address).expect("the door is open");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has a time-out");
    stream
}
