//! `kms import`: a key file becomes a version with the same key.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use kms_tests::rest::{Field, Rest, base64, bytes, der};
use kms_tests::{Stack, openssl, program};

use crate::{json, refuses};

/// A stack whose `kms.toml` names the port of its REST API.
fn stack() -> (Stack, Rest) {
    let stack = Stack::strict();
    let rest = Rest::of(&stack);
    let address = rest.base().trim_start_matches("http://");
    stack.configure("rest", "listen", &format!("{address:?}"));
    (stack, rest)
}

/// The last part of a key's path: its id.
fn id(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

fn import(stack: &Stack, file: &Path, ring: &str, key: &str, more: &[&str]) -> program::Ran {
    let file = file.to_str().expect("a path");
    let arguments = ["import", file, "--ring", ring, "--key", id(key)];
    stack.kms(&[&arguments, more].concat())
}

#[test]
fn a_key_file_becomes_a_new_version_with_the_same_key() {
    let (stack, rest) = stack();
    let ring = rest.create_ring("brought");
    let mac = rest.create_key(&ring, "mac", "hmac_sha256");
    let secret = b"a secret of thirty-two bytes ...";
    let file = stack.folder().join("mac.key");
    fs::write(&file, secret).expect("a file can be written");
    let text = import(&stack, &file, &ring, &mac, &[]).ok();
    assert!(text.contains(&format!("is version 2 of key {}", id(&mac))), "{text}");
    let version = json(import(&stack, &file, &ring, &mac, &["--json"]));
    assert_eq!((&version["number"], &version["state"]), (&json!(3), &json!("active")), "{version}");
    assert_eq!((version.text("keyId"), version.text("keyRingId")), (id(&mac).to_owned(), ring.clone()));
    // OpenSSL computes the same tag with the file.
    let signed = rest.post(&format!("{mac}/versions/3/sign"), json!({ "data": base64("data") })).json(200);
    assert_eq!(bytes(&signed.text("signature")), openssl::hmac("sha256", secret, b"data"));
    // The ring by its name, and by the alias of --ring.
    import(&stack, &file, "brought", &mac, &[]).ok();
    let (file, key) = (file.to_str().expect("a path"), id(&mac));
    stack.kms(&["import", file, "--key-ring", &ring, "--key", key]).ok();
    assert_eq!(rest.read(&format!("{mac}/versions/5")).json(200)["state"], "active");
    // The wrapping keys that were created for it are deleted.
    let left = rest.read(&format!("keyrings/{ring}/wrappingkeys")).json(200);
    assert_eq!(left["wrappingKeys"], json!([]));
}

#[test]
fn a_private_key_in_pem_or_der_is_taken_by_an_account_that_may() {
    let (stack, rest) = stack();
    let ring = rest.create_ring("brought");
    let key = rest.create_key(&ring, "sign", "ecdsa_p256_sha256");
    let (pem, public) = (stack.folder().join("key.pem"), stack.folder().join("public.pem"));
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"]).arg(&pem);
    program::run(&mut command).ok();
    program::run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&pem).arg("-out").arg(&public))
        .ok();
    let binary = stack.folder().join("key.der");
    let mut command = Command::new("openssl");
    command
        .args(["pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in"])
        .arg(&pem)
        .arg("-out")
        .arg(&binary);
    program::run(&mut command).ok();

    // As on another machine: with an address and a token, without a home.
    let token = stack.folder().join("ci.token");
    stack.kms(&["account", "add", "ci@acme.sa.kms.local", "--role", "kms.admin"]).ok();
    stack.kms(&["token", "create", "ci@acme.sa.kms.local", "--out", token.to_str().expect("a path")]).ok();
    let elsewhere = ["--url", rest.base(), "--token-file", token.to_str().expect("a path")];
    for (file, number) in [(&pem, 2), (&binary, 3)] {
        let mut command = Command::new(&kms_tests::artefacts::artefacts().kms);
        command.arg("import").arg(file).args(["--ring", &ring, "--key", id(&key)]).args(elsewhere);
        program::run(command.env_remove("KMS_HOME")).ok();
        let version = rest.read(&format!("{key}/versions/{number}")).json(200);
        let right = fs::read_to_string(&public).expect("a public key");
        assert_eq!(der(&version.text("publicKey")), der(&right), "version {number}");
    }
    let signed = rest.post(&format!("{key}/versions/3/sign"), json!({ "data": base64("data") })).json(200);
    let public = openssl::PublicKey::new(&der(&fs::read_to_string(&public).expect("a public key")));
    assert!(public.verifies_message(b"data", &bytes(&signed.text("signature"))));
}

#[test]
fn a_failed_import_states_the_next_step() {
    let (mut stack, rest) = stack();
    let ring = rest.create_ring("brought");
    let aes = rest.create_key(&ring, "aes", "aes_256_gcm");
    let ecdsa = rest.create_key(&ring, "sign", "ecdsa_p256_sha256");
    let file = |name: &str, contents: &[u8]| {
        let file = stack.folder().join(name);
        fs::write(&file, contents).expect("a file can be written");
        file
    };
    let (good, short, empty) = (file("good", &[7; 32]), file("short", &[7; 16]), file("empty", b""));
    let sec1 = file("sec1.pem", b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n");
    let stranger = "11111111-1111-1111-1111-111111111111";
    let missing = stack.folder().join("missing");
    refuses(import(&stack, &missing, &ring, &aes, &[]), "cannot read", "name the file");
    refuses(import(&stack, &empty, &ring, &aes, &[]), "0 bytes and is not a key file", "name the file");
    refuses(import(&stack, &short, &ring, &aes, &[]), "returned 400", "correct what the message names");
    refuses(import(&stack, &sec1, &ring, &ecdsa, &[]), "no PKCS#8 private key", "openssl pkcs8 -topk8");
    refuses(import(&stack, &good, stranger, &aes, &[]), "404: there is no such key ring", "--ring");
    refuses(import(&stack, &good, &ring, stranger, &[]), "404: there is no such key", "--key");
    refuses(import(&stack, &good, "nowhere", &aes, &[]), "has the name \"nowhere\"", "--ring");
    let bad = file("bad.token", b"kms_nobody\n");
    let more = ["--token-file", bad.to_str().expect("a path")];
    refuses(import(&stack, &good, &ring, &aes, &more), "returned 401", "`kms role list`");
    let more = ["--token-file", missing.to_str().expect("a path")];
    refuses(import(&stack, &good, &ring, &aes, &more), "cannot read the token", "`kms token create`");
    let more = ["--ca", good.to_str().expect("a path")];
    refuses(import(&stack, &good, &ring, &aes, &more), "contains no certificate", "PEM");
    let usage = stack.kms(&["import", "x", "--key-ring", "payments", "--key", stranger]).refused();
    assert!(usage.contains("--key-ring <UUID>"), "{usage}");
    // None of them created a version or left a wrapping key.
    assert_eq!(rest.read(&format!("{aes}/versions")).json(200)["versions"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest.read(&format!("keyrings/{ring}/wrappingkeys")).json(200)["wrappingKeys"], json!([]));
    stack.stop();
    refuses(import(&stack, &good, &ring, &aes, &[]), "no response", "`kms serve`");
}
