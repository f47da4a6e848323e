//! OpenSSL with the PKCS #11 engine, and with pkcs11-provider where it is installed.

use std::path::Path;
use std::process::Command;

use kms_tests::Stack;
use kms_tests::program::{self, installed};

use crate::{command, file, pkcs11_tool, words};

/// Debian's paths of the engine and the provider.
pub(crate) const ENGINE: &str = "/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so";
const PROVIDER: &str = "/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so";

/// A command that runs openssl with the engine and a stack's module.
pub(crate) fn with_engine(stack: &Stack, line: &[&str]) -> Command {
    let text = format!(
        "openssl_conf = init\n[init]\nengines = engines\n[engines]\npkcs11 = engine\n[engine]\nengine_id = pkcs11\n\
         dynamic_path = {ENGINE}\nMODULE_PATH = {}\ninit = 0\n\
         [req]\ndistinguished_name = name\n[name]\n",
        stack.module().display()
    );
    let config = file(stack, "engine.cnf", text.as_bytes());
    let mut command = command(stack, "openssl");
    command.env("OPENSSL_CONF", config).args(line);
    command
}

fn generate_keys(stack: &Stack) {
    let tool = |line: &str| pkcs11_tool(stack, &words(line)).ok();
    tool("--keypairgen --key-type rsa:2048 --id 01 --label r1 --usage-sign --usage-decrypt");
    tool("--keypairgen --key-type EC:secp256r1 --id 02 --label e1 --usage-sign");
    for id in ["01", "02"] {
        tool(&format!("--read-object --type pubkey --id {id} -o pub{id}.der"));
    }
    file(stack, "msg", b"a message to sign");
}

#[test]
fn the_engine_signs() {
    if !installed(&["openssl", "pkcs11-tool", ENGINE]) {
        return;
    }
    let stack = Stack::strict();
    generate_keys(&stack);
    for (label, public) in [("r1", "pub01.der"), ("e1", "pub02.der")] {
        let uri = format!("pkcs11:token=test;object={label};type=private;pin-value=1234");
        let line =
            ["dgst", "-engine", "pkcs11", "-keyform", "engine", "-sha256", "-sign", &uri, "-out", "s", "msg"];
        program::run(&mut with_engine(&stack, &line)).ok();
        let mut verify = command(&stack, "openssl");
        verify.args(["dgst", "-sha256", "-keyform", "DER", "-verify", public, "-signature", "s", "msg"]);
        let verified = program::run(&mut verify);
        assert!(verified.text().contains("Verified OK"), "{label}: {verified}");
    }
    // PSS and OAEP with the engine.
    let uri = "pkcs11:token=test;object=r1;type=private;pin-value=1234";
    file(&stack, "digest", &kms_tests::openssl::digest("sha256", b"a message to sign"));
    let mut sign =
        with_engine(&stack, &["pkeyutl", "-engine", "pkcs11", "-keyform", "engine", "-sign", "-inkey", uri]);
    let pss = words("-pkeyopt digest:sha256 -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest");
    program::run(sign.args(["-in", "digest", "-out", "s"]).args(&pss)).ok();
    let mut verify = command(&stack, "openssl");
    verify
        .args(words("pkeyutl -verify -pubin -keyform DER -inkey pub01.der -in digest -sigfile s"))
        .args(&pss);
    program::run(&mut verify).ok();
    let oaep = words("-pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha1");
    let mut encrypt = command(&stack, "openssl");
    encrypt
        .args(words("pkeyutl -encrypt -pubin -keyform DER -inkey pub01.der -in digest -out c"))
        .args(&oaep);
    program::run(&mut encrypt).ok();
    let line = [
        "pkeyutl", "-engine", "pkcs11", "-keyform", "engine", "-decrypt", "-inkey", uri, "-in", "c", "-out",
        "p",
    ];
    program::run(with_engine(&stack, &line).args(&oaep)).ok();
    assert_eq!(read(&stack, "p"), read(&stack, "digest"));
}

#[test]
fn the_engine_issues_certificates() {
    if !installed(&["openssl", "pkcs11-tool", ENGINE]) {
        return;
    }
    let stack = Stack::strict();
    generate_keys(&stack);
    for label in ["r1", "e1"] {
        let uri = format!("pkcs11:token=test;object={label};type=private;pin-value=1234");
        let mut request =
            with_engine(&stack, &words("req -engine pkcs11 -keyform engine -new -x509 -days 30"));
        program::run(request.args(["-subj", "/CN=kms.test", "-key", &uri, "-out", "cert.pem"])).ok();
        let mut verify = command(&stack, "openssl");
        let verified = program::run(verify.args(words("verify -CAfile cert.pem cert.pem"))).ok();
        assert!(verified.contains("cert.pem: OK"), "{label}: {verified}");
        // A leaf certificate, signed by the key in the KMS.
        let mut leaf = command(&stack, "openssl");
        leaf.args(words("req -new -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=leaf -out leaf.csr"));
        program::run(leaf.env("OPENSSL_CONF", "/etc/ssl/openssl.cnf")).ok();
        let line = words("x509 -req -in leaf.csr -CA cert.pem -CAcreateserial -days 10 -out leaf.pem");
        let mut issue = with_engine(&stack, &line);
        program::run(issue.args(["-engine", "pkcs11", "-CAkeyform", "engine", "-CAkey", &uri])).ok();
        let mut verify = command(&stack, "openssl");
        let verified = program::run(verify.args(words("verify -CAfile cert.pem leaf.pem"))).ok();
        assert!(verified.contains("leaf.pem: OK"), "{label}: {verified}");
    }
}

#[test]
fn the_provider_signs_and_generates() {
    // Debian 12 has it in backports only, so it may be missing in CI.
    if !Path::new(PROVIDER).exists() {
        eprintln!("skipped: pkcs11-provider is not installed");
        return;
    }
    let stack = Stack::strict();
    generate_keys(&stack);
    let text = format!(
        "openssl_conf = init\n[init]\nproviders = providers\n[providers]\ndefault = default\npkcs11 = pkcs11\n\
         [default]\nactivate = 1\n[pkcs11]\nmodule = {PROVIDER}\npkcs11-module-path = {}\n\
         pkcs11-module-token-pin = 1234\npkcs11-module-encode-provider-uri-to-pem = true\nactivate = 1\n\
         [req]\ndistinguished_name = name\n[name]\n",
        stack.module().display()
    );
    let config = file(&stack, "provider.cnf", text.as_bytes());
    let openssl = |line: &str| {
        let mut command = command(&stack, "openssl");
        program::run(command.env("OPENSSL_CONF", &config).args(words(line))).ok()
    };
    for (label, public) in [("r1", "pub01.der"), ("e1", "pub02.der")] {
        openssl(&format!("dgst -sha256 -sign pkcs11:object={label};type=private -out s msg"));
        let mut verify = command(&stack, "openssl");
        verify.args(["dgst", "-sha256", "-keyform", "DER", "-verify", public, "-signature", "s", "msg"]);
        assert!(program::run(&mut verify).text().contains("Verified OK"), "{label}");
        openssl(&format!(
            "req -new -x509 -key pkcs11:object={label};type=private -subj /CN=p -days 30 -out ca.pem"
        ));
        assert!(openssl("verify -CAfile ca.pem ca.pem").contains("OK"));
    }
    let options = "-pkeyopt rsa_keygen_bits:2048 -pkeyopt pkcs11_uri:pkcs11:object=pr1;id=%61;token=test";
    openssl(&format!("genpkey -propquery provider=pkcs11 -algorithm RSA {options} -out g.pem"));
    openssl("dgst -sha256 -sign pkcs11:object=pr1;type=private -out s msg");
}

#[test]
fn the_engine_works_after_a_restart_of_the_backend() {
    if !installed(&["openssl", "pkcs11-tool", ENGINE]) {
        return;
    }
    let mut stack = Stack::strict();
    generate_keys(&stack);
    let uri = "pkcs11:token=test;object=r1;type=private;pin-value=1234";
    for _ in 0..2 {
        let line =
            ["dgst", "-engine", "pkcs11", "-keyform", "engine", "-sha256", "-sign", uri, "-out", "s", "msg"];
        program::run(&mut with_engine(&stack, &line)).ok();
        stack.restart();
    }
}

fn read(stack: &Stack, name: &str) -> Vec<u8> {
    std::fs::read(stack.folder().join(name)).expect("a file can be read")
}
