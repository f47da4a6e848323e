//! Both APIs on the same keys: a key that was created over REST is used over PKCS#11 and vice versa, and disabling,
//! destroying, restoring and rotating over REST takes effect for applications at once.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::MechanismType;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::UserType;
use serde_json::json;

use kms_tests::client::{Client, pin};
use kms_tests::rest::{Field, Rest, base64, bytes, der};
use kms_tests::{Stack, USER_PIN, openssl};

/// The length of a ciphertext's header before the nonce: format and version (`backend/core/src/api/ciphertext.rs`).
const HEADER: usize = 5;

/// The length of the nonce.
const NONCE: usize = 12;

/// A KMS with a PKCS#11 client and a REST client of the same ring.
struct Fixture {
    stack: Stack,
    client: Client,
    rest: Rest,
    ring: String,
}

impl Fixture {
    fn new() -> Self {
        let stack = Stack::strict();
        let (client, rest) = (Client::user(&stack), Rest::of(&stack));
        let rings = rest.read("keyrings").json(200);
        let rings = rings["keyRings"].as_array().expect("a list").clone();
        let ring = rings.iter().find(|ring| ring["displayName"] == stack.ring());
        let ring = ring.expect("the token's ring is listed over REST").text("id");
        Self { stack, client, rest, ring }
    }

    /// Creates a key; returns its path, and that of its first version.
    fn create_key(&self, name: &str, algorithm: &str) -> (String, String) {
        let key = self.rest.create_key(&self.ring, name, algorithm);
        (key.clone(), format!("{key}/versions/1"))
    }

    /// The objects with this label.
    fn find(&self, label: &str) -> Vec<ObjectHandle> {
        self.client.session.find_objects(&[Attribute::Label(label.into())]).expect("a search")
    }

    /// The only object of a class with this label.
    #[track_caller]
    fn object(&self, label: &str, class: ObjectClass) -> ObjectHandle {
        let template = [Attribute::Label(label.into()), Attribute::Class(class)];
        let found = self.client.session.find_objects(&template).expect("a search");
        assert_eq!(found.len(), 1, "objects labelled {label:?}");
        found[0]
    }

    /// Decrypts over PKCS#11 what REST encrypted, according to the format in `ciphertext.rs`.
    fn decrypt(&self, key: ObjectHandle, sealed: &[u8]) -> Result<Vec<u8>, cryptoki::error::Error> {
        let mut nonce = sealed[HEADER..HEADER + NONCE].to_vec();
        let params = GcmParams::new(&mut nonce, &sealed[..HEADER], 128.into()).expect("GCM's parameters");
        self.client.session.decrypt(&Mechanism::AesGcm(params), key, &sealed[HEADER + NONCE..])
    }

    fn encrypt(&self, version: &str, data: &str) -> Vec<u8> {
        let response = self.rest.post(&format!("{version}/encrypt"), json!({ "data": base64(data) }));
        bytes(&response.json(200).text("data"))
    }

    /// The path of the key that has this display name.
    #[track_caller]
    fn path_of(&self, name: &str) -> String {
        let keys = self.rest.read(&format!("keyrings/{}/keys", self.ring)).json(200);
        let keys = keys["keys"].as_array().expect("a list").clone();
        let key = keys.iter().find(|key| key["displayName"] == name);
        let key = key.unwrap_or_else(|| panic!("no key {name:?} over REST in {keys:?}"));
        format!("keyrings/{}/keys/{}", self.ring, key.text("id"))
    }
}

#[test]
fn an_aes_key_created_over_rest_works_over_pkcs11() {
    let fixture = Fixture::new();
    let (_, version) = fixture.create_key("letters", "aes_256_gcm");
    let sealed = fixture.encrypt(&version, "over REST");
    assert_eq!(sealed[..HEADER], [1, 0, 0, 0, 1]);
    let key = fixture.object("letters", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.decrypt(key, &sealed).expect("it decrypts"), b"over REST");
    // The reverse: REST decrypts what an application encrypts in that format.
    let mut nonce = [9; NONCE];
    let params = GcmParams::new(&mut nonce, &[1, 0, 0, 0, 1], 128.into()).expect("GCM's parameters");
    let session = &fixture.client.session;
    match session.encrypt(&Mechanism::AesGcm(params), key, b"by an application") {
        Ok(body) => {
            let whole = [[1, 0, 0, 0, 1].as_slice(), &nonce, &body].concat();
            let response = fixture.rest.post(&format!("{version}/decrypt"), json!({ "data": base64(whole) }));
            assert_eq!(bytes(&response.json(200).text("data")), b"by an application");
        }
        Err(error) => panic!("GCM with a nonce of the application: {error}"),
    }
}

#[test]
fn hmacs_are_the_same_over_both_apis() {
    let fixture = Fixture::new();
    for (name, algorithm, mechanism) in [
        ("mac-256", "hmac_sha256", Mechanism::Sha256Hmac),
        ("mac-384", "hmac_sha384", Mechanism::Sha384Hmac),
        ("mac-512", "hmac_sha512", Mechanism::Sha512Hmac),
    ] {
        let (_, version) = fixture.create_key(name, algorithm);
        let response = fixture.rest.post(&format!("{version}/sign"), json!({ "data": base64("message") }));
        let over_rest = bytes(&response.json(200).text("signature"));
        let key = fixture.object(name, ObjectClass::SECRET_KEY);
        let over_pkcs11 = fixture.client.session.sign(&mechanism, key, b"message").expect("it signs");
        assert_eq!(over_pkcs11, over_rest, "{algorithm}");
        fixture.client.session.verify(&mechanism, key, b"message", &over_rest).expect("it verifies");
    }
}

#[test]
fn ecdsa_signatures_verify_over_both_apis() {
    let fixture = Fixture::new();
    for (name, algorithm, mechanism, digest) in [
        ("p-256", "ecdsa_p256_sha256", Mechanism::EcdsaSha256, "sha256"),
        ("p-384", "ecdsa_p384_sha384", Mechanism::EcdsaSha384, "sha384"),
        ("p-521", "ecdsa_p521_sha512", Mechanism::EcdsaSha512, "sha512"),
    ] {
        let (_, version) = fixture.create_key(name, algorithm);
        let private = fixture.object(name, ObjectClass::PRIVATE_KEY);
        let public = fixture.object(name, ObjectClass::PUBLIC_KEY);
        let pem = fixture.rest.read(&version).json(200).text("publicKey");
        assert_eq!(
            fixture.client.public_key_info(public),
            der(&pem),
            "{algorithm}: the public key is the same"
        );
        let raw = fixture.client.session.sign(&mechanism, private, b"message").expect("it signs");
        let signature = base64(openssl::ecdsa_der(&raw));
        let body = json!({ "data": base64("message"), "signature": signature });
        let response = fixture.rest.post(&format!("{version}/verify"), body);
        assert_eq!(response.json(200), json!({ "valid": true }), "{algorithm}");
        let response = fixture.rest.post(&format!("{version}/sign"), json!({ "data": base64("message") }));
        let signature = bytes(&response.json(200).text("signature"));
        let digest = openssl::digest(digest, b"message");
        assert!(openssl::PublicKey::new(&der(&pem)).verifies(&[], &digest, &signature), "{algorithm}");
    }
}

#[test]
fn rsa_decrypts_over_both_apis() {
    let fixture = Fixture::new();
    let (_, version) = fixture.create_key("box", "rsa_2048_oaep_sha256");
    let sealed = fixture.encrypt(&version, "over REST");
    let params =
        || PkcsOaepParams::new(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, PkcsOaepSource::empty());
    let session = &fixture.client.session;
    let private = fixture.object("box", ObjectClass::PRIVATE_KEY);
    let opened = session.decrypt(&Mechanism::RsaPkcsOaep(params()), private, &sealed).expect("it decrypts");
    assert_eq!(opened, b"over REST");
    let public = fixture.object("box", ObjectClass::PUBLIC_KEY);
    let sealed = session.encrypt(&Mechanism::RsaPkcsOaep(params()), public, b"here").expect("it encrypts");
    let response = fixture.rest.post(&format!("{version}/decrypt"), json!({ "data": base64(sealed) }));
    assert_eq!(bytes(&response.json(200).text("data")), b"here");
}

#[test]
fn a_pkcs11_key_is_used_over_rest() {
    let fixture = Fixture::new();
    let session = &fixture.client.session;
    let template = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label("by application".into()),
    ];
    let key = session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let path = fixture.path_of("by_application");
    let seen = fixture.rest.read(&path).json(200);
    assert_eq!((seen.text("algorithm"), seen.text("state")), ("aes_256_gcm".into(), "active".into()));
    let sealed = fixture.encrypt(&format!("{path}/versions/1"), "over REST");
    assert_eq!(fixture.decrypt(key, &sealed).expect("it decrypts"), b"over REST");
    // A key type that the REST API has no name for is not listed, because unknown values break the vendor's clients.
    let template =
        [Attribute::Token(true), Attribute::ValueLen(16.into()), Attribute::Label("aes-128".into())];
    session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let keys = fixture.rest.read(&format!("keyrings/{}/keys", fixture.ring)).json(200);
    assert!(!keys.to_string().contains("aes-128"), "{keys}");
}

#[test]
fn disabling_destroying_and_deleting_take_effect_over_pkcs11_at_once() {
    let fixture = Fixture::new();
    let (key, version) = fixture.create_key("lifecycle", "aes_256_gcm");
    let sealed = fixture.encrypt(&version, "kept");
    let handle = fixture.object("lifecycle", ObjectClass::SECRET_KEY);
    let actions = [
        (format!("{version}/disable"), format!("{version}/enable")),
        (format!("{version}/destroy"), format!("{version}/restore")),
    ];
    for (action, inverse) in actions {
        fixture.rest.post_empty(&action).empty(204);
        assert_eq!(fixture.find("lifecycle"), [], "after {action}");
        fixture.decrypt(handle, &sealed).expect_err("an old handle does not work");
        fixture.rest.post_empty(&inverse).empty(204);
        let handle = fixture.object("lifecycle", ObjectClass::SECRET_KEY);
        assert_eq!(fixture.decrypt(handle, &sealed).expect("it decrypts again"), b"kept");
    }
    fixture.rest.delete(&key).empty(202);
    assert_eq!(fixture.find("lifecycle"), [], "a deleted key is not found");
    fixture.decrypt(handle, &sealed).expect_err("a deleted key is not used");
    fixture.rest.post_empty(&format!("{key}/restore")).empty(204);
    let handle = fixture.object("lifecycle", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.decrypt(handle, &sealed).expect("it decrypts again"), b"kept");
}

#[test]
fn rotation_over_rest_moves_the_label_to_the_new_version() {
    let fixture = Fixture::new();
    let (key, version) = fixture.create_key("rotated", "aes_256_gcm");
    let old = fixture.encrypt(&version, "under one");
    let before = fixture.object("rotated", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.rest.post_empty(&format!("{key}/rotate")).json(202)["number"], 2);
    let new = fixture.encrypt(&format!("{key}/versions/2"), "under two");
    let current = fixture.object("rotated", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.decrypt(current, &new).expect("the label names version 2"), b"under two");
    fixture.decrypt(current, &old).expect_err("version 2 does not decrypt this");
    let former = fixture.object("rotated#1", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.decrypt(former, &old).expect("version 1 has its own label"), b"under one");
    assert_eq!(fixture.decrypt(before, &old).expect("the old handle still works"), b"under one");
}

#[test]
fn a_destroyed_object_can_be_restored_over_rest() {
    let fixture = Fixture::new();
    let (key, version) = fixture.create_key("restored", "aes_256_gcm");
    let sealed = fixture.encrypt(&version, "kept");
    let handle = fixture.object("restored", ObjectClass::SECRET_KEY);
    fixture.client.session.destroy_object(handle).expect("the object is destroyed");
    assert_eq!(fixture.find("restored"), []);
    // `C_DestroyObject` schedules the destruction; it never erases at once.
    let seen = fixture.rest.read(&version).json(200);
    assert_eq!(seen.text("state"), "destroyed");
    assert!(seen["destroyDate"].is_string(), "{seen}");
    fixture.rest.post_empty(&format!("{version}/restore")).empty(204);
    let handle = fixture.object("restored", ObjectClass::SECRET_KEY);
    assert_eq!(fixture.decrypt(handle, &sealed).expect("it decrypts again"), b"kept");
    assert_eq!(fixture.rest.read(&key).json(200).text("state"), "active");
}

#[test]
fn a_ring_created_over_rest_is_a_token() {
    let fixture = Fixture::new();
    let ring = fixture.rest.create_ring("by-rest");
    let key = fixture.rest.create_key(&ring, "inside", "aes_256_gcm");
    let sealed = fixture.encrypt(&format!("{key}/versions/1"), "over REST");
    // An application that starts now, because a running one keeps its list of slots.
    let copy = fixture.stack.folder().join("second.so");
    std::fs::copy(fixture.stack.module(), &copy).expect("the module can be copied");
    let pkcs11 = kms_tests::client::load(&copy, &fixture.stack.config());
    let slot = kms_tests::client::slot(&pkcs11, "by-rest");
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    session.login(UserType::User, Some(&pin(USER_PIN))).expect_err("the PIN of another ring");
    session
        .login(UserType::User, Some(&pin(&fixture.stack.admin_token())))
        .expect("the administrator's token is a PIN");
    let found = session.find_objects(&[Attribute::Label("inside".into())]).expect("a search");
    assert_eq!(found.len(), 1);
    let mut nonce = sealed[HEADER..HEADER + NONCE].to_vec();
    let params = GcmParams::new(&mut nonce, &sealed[..HEADER], 128.into()).expect("GCM's parameters");
    let opened = session.decrypt(&Mechanism::AesGcm(params), found[0], &sealed[HEADER + NONCE..]);
    assert_eq!(opened.expect("it decrypts"), b"over REST");
}
