//! One world behind two doors: a key made over REST is used through the C functions and the other way round, and what is
//! disabled, destroyed, restored or rotated over REST is so for applications at once.

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

/// The bytes in front of a ciphertext's nonce: its form and the version (`backend/src/kms/ciphertext.rs`).
const HEADER: usize = 5;

/// The nonce.
const NONCE: usize = 12;

/// One KMS, with both doors open on the same ring.
struct World {
    stack: Stack,
    client: Client,
    rest: Rest,
    ring: String,
}

impl World {
    fn new() -> Self {
        let stack = Stack::strict();
        let (client, rest) = (Client::user(&stack), Rest::of(&stack));
        let rings = rest.read("keyrings").json(200);
        let rings = rings["keyRings"].as_array().expect("a list").clone();
        let ring = rings.iter().find(|ring| ring["displayName"] == stack.ring());
        let ring = ring.expect("the token's ring is listed over REST").text("id");
        Self { stack, client, rest, ring }
    }

    /// A new key; its path, and its version's.
    fn make(&self, name: &str, algorithm: &str) -> (String, String) {
        let key = self.rest.make_key(&self.ring, name, algorithm);
        (key.clone(), format!("{key}/versions/1"))
    }

    /// The objects with this label.
    fn find(&self, label: &str) -> Vec<ObjectHandle> {
        self.client.session.find_objects(&[Attribute::Label(label.into())]).expect("a search")
    }

    /// The one object of a class with this label.
    #[track_caller]
    fn one(&self, label: &str, class: ObjectClass) -> ObjectHandle {
        let template = [Attribute::Label(label.into()), Attribute::Class(class)];
        let found = self.client.session.find_objects(&template).expect("a search");
        assert_eq!(found.len(), 1, "objects labelled {label:?}");
        found[0]
    }

    /// Decrypts what REST encrypted, as `ciphertext.rs` says how.
    fn open(&self, key: ObjectHandle, sealed: &[u8]) -> Result<Vec<u8>, cryptoki::error::Error> {
        let mut nonce = sealed[HEADER..HEADER + NONCE].to_vec();
        let params = GcmParams::new(&mut nonce, &sealed[..HEADER], 128.into()).expect("GCM's parameters");
        self.client.session.decrypt(&Mechanism::AesGcm(params), key, &sealed[HEADER + NONCE..])
    }

    fn encrypt(&self, version: &str, data: &str) -> Vec<u8> {
        let answer = self.rest.post(&format!("{version}/encrypt"), json!({ "data": base64(data) }));
        bytes(&answer.json(200).text("data"))
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
fn an_aes_key_of_rest_decrypts_for_an_application() {
    let world = World::new();
    let (_, version) = world.make("letters", "aes_256_gcm");
    let sealed = world.encrypt(&version, "over REST");
    assert_eq!(sealed[..HEADER], [1, 0, 0, 0, 1]);
    let key = world.one("letters", ObjectClass::SECRET_KEY);
    assert_eq!(world.open(key, &sealed).expect("it decrypts"), b"over REST");
    // And the other way: what an application encrypts in that form, REST decrypts.
    let mut nonce = [9; NONCE];
    let params = GcmParams::new(&mut nonce, &[1, 0, 0, 0, 1], 128.into()).expect("GCM's parameters");
    let session = &world.client.session;
    match session.encrypt(&Mechanism::AesGcm(params), key, b"by an application") {
        Ok(body) => {
            let whole = [[1, 0, 0, 0, 1].as_slice(), &nonce, &body].concat();
            let answer = world.rest.post(&format!("{version}/decrypt"), json!({ "data": base64(whole) }));
            assert_eq!(bytes(&answer.json(200).text("data")), b"by an application");
        }
        Err(error) => panic!("GCM with a nonce of the application's own: {error}"),
    }
}

#[test]
fn hmac_is_the_same_over_both() {
    let world = World::new();
    for (name, algorithm, mechanism) in [
        ("mac-256", "hmac_sha256", Mechanism::Sha256Hmac),
        ("mac-384", "hmac_sha384", Mechanism::Sha384Hmac),
        ("mac-512", "hmac_sha512", Mechanism::Sha512Hmac),
    ] {
        let (_, version) = world.make(name, algorithm);
        let answer = world.rest.post(&format!("{version}/sign"), json!({ "data": base64("message") }));
        let over_rest = bytes(&answer.json(200).text("signature"));
        let key = world.one(name, ObjectClass::SECRET_KEY);
        let here = world.client.session.sign(&mechanism, key, b"message").expect("it signs");
        assert_eq!(here, over_rest, "{algorithm}");
        world.client.session.verify(&mechanism, key, b"message", &over_rest).expect("it verifies");
    }
}

#[test]
fn ecdsa_signatures_hold_over_both() {
    let world = World::new();
    for (name, algorithm, mechanism, digest) in [
        ("p-256", "ecdsa_p256_sha256", Mechanism::EcdsaSha256, "sha256"),
        ("p-384", "ecdsa_p384_sha384", Mechanism::EcdsaSha384, "sha384"),
        ("p-521", "ecdsa_p521_sha512", Mechanism::EcdsaSha512, "sha512"),
    ] {
        let (_, version) = world.make(name, algorithm);
        let private = world.one(name, ObjectClass::PRIVATE_KEY);
        let public = world.one(name, ObjectClass::PUBLIC_KEY);
        let pem = world.rest.read(&version).json(200).text("publicKey");
        assert_eq!(world.client.public_key_info(public), der(&pem), "{algorithm}: one public key");
        let raw = world.client.session.sign(&mechanism, private, b"message").expect("it signs");
        let signature = base64(openssl::ecdsa_der(&raw));
        let body = json!({ "data": base64("message"), "signature": signature });
        let answer = world.rest.post(&format!("{version}/verify"), body);
        assert_eq!(answer.json(200), json!({ "valid": true }), "{algorithm}");
        let answer = world.rest.post(&format!("{version}/sign"), json!({ "data": base64("message") }));
        let signature = bytes(&answer.json(200).text("signature"));
        let digest = openssl::digest(digest, b"message");
        assert!(openssl::PublicKey::new(&der(&pem)).verifies(&[], &digest, &signature), "{algorithm}");
    }
}

#[test]
fn rsa_decrypts_over_both() {
    let world = World::new();
    let (_, version) = world.make("box", "rsa_2048_oaep_sha256");
    let sealed = world.encrypt(&version, "over REST");
    let params =
        || PkcsOaepParams::new(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, PkcsOaepSource::empty());
    let session = &world.client.session;
    let private = world.one("box", ObjectClass::PRIVATE_KEY);
    let opened = session.decrypt(&Mechanism::RsaPkcsOaep(params()), private, &sealed).expect("it decrypts");
    assert_eq!(opened, b"over REST");
    let public = world.one("box", ObjectClass::PUBLIC_KEY);
    let sealed = session.encrypt(&Mechanism::RsaPkcsOaep(params()), public, b"here").expect("it encrypts");
    let answer = world.rest.post(&format!("{version}/decrypt"), json!({ "data": base64(sealed) }));
    assert_eq!(bytes(&answer.json(200).text("data")), b"here");
}

#[test]
fn an_applications_key_is_used_over_rest() {
    let world = World::new();
    let session = &world.client.session;
    let template = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label("by application".into()),
    ];
    let key = session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let path = world.path_of("by_application");
    let seen = world.rest.read(&path).json(200);
    assert_eq!((seen.text("algorithm"), seen.text("state")), ("aes_256_gcm".into(), "active".into()));
    let sealed = world.encrypt(&format!("{path}/versions/1"), "over REST");
    assert_eq!(world.open(key, &sealed).expect("it decrypts"), b"over REST");
    // A shape that REST has no name for is not shown to the vendor's clients: an unknown value breaks them.
    let template =
        [Attribute::Token(true), Attribute::ValueLen(16.into()), Attribute::Label("aes-128".into())];
    session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let keys = world.rest.read(&format!("keyrings/{}/keys", world.ring)).json(200);
    assert!(!keys.to_string().contains("aes-128"), "{keys}");
}

#[test]
fn disabled_destroyed_and_deleted_is_so_for_applications_at_once() {
    let world = World::new();
    let (key, version) = world.make("life", "aes_256_gcm");
    let sealed = world.encrypt(&version, "kept");
    let handle = world.one("life", ObjectClass::SECRET_KEY);
    let ways = [
        (format!("{version}/disable"), format!("{version}/enable")),
        (format!("{version}/destroy"), format!("{version}/restore")),
    ];
    for (away, back) in ways {
        world.rest.act(&away).empty(204);
        assert_eq!(world.find("life"), [], "after {away}");
        world.open(handle, &sealed).expect_err("a handle from before does not help");
        world.rest.act(&back).empty(204);
        let handle = world.one("life", ObjectClass::SECRET_KEY);
        assert_eq!(world.open(handle, &sealed).expect("it decrypts again"), b"kept");
    }
    world.rest.delete(&key).empty(202);
    assert_eq!(world.find("life"), [], "a deleted key is not found");
    world.open(handle, &sealed).expect_err("nor used");
    world.rest.act(&format!("{key}/restore")).empty(204);
    let handle = world.one("life", ObjectClass::SECRET_KEY);
    assert_eq!(world.open(handle, &sealed).expect("it decrypts again"), b"kept");
}

#[test]
fn a_key_rotated_over_rest_is_new_under_its_label() {
    let world = World::new();
    let (key, version) = world.make("turn", "aes_256_gcm");
    let old = world.encrypt(&version, "under one");
    let before = world.one("turn", ObjectClass::SECRET_KEY);
    assert_eq!(world.rest.act(&format!("{key}/rotate")).json(202)["number"], 2);
    let new = world.encrypt(&format!("{key}/versions/2"), "under two");
    let current = world.one("turn", ObjectClass::SECRET_KEY);
    assert_eq!(world.open(current, &new).expect("the label names version 2"), b"under two");
    world.open(current, &old).expect_err("which did not encrypt this");
    let former = world.one("turn#1", ObjectClass::SECRET_KEY);
    assert_eq!(world.open(former, &old).expect("version 1 has a label of its own"), b"under one");
    assert_eq!(world.open(before, &old).expect("and the handle goes on to work"), b"under one");
}

#[test]
fn a_destroyed_object_can_be_restored_over_rest() {
    let world = World::new();
    let (key, version) = world.make("spared", "aes_256_gcm");
    let sealed = world.encrypt(&version, "kept");
    let handle = world.one("spared", ObjectClass::SECRET_KEY);
    world.client.session.destroy_object(handle).expect("the object is destroyed");
    assert_eq!(world.find("spared"), []);
    // `C_DestroyObject` schedules; it never erases at once.
    let seen = world.rest.read(&version).json(200);
    assert_eq!(seen.text("state"), "destroyed");
    assert!(seen["destroyDate"].is_string(), "{seen}");
    world.rest.act(&format!("{version}/restore")).empty(204);
    let handle = world.one("spared", ObjectClass::SECRET_KEY);
    assert_eq!(world.open(handle, &sealed).expect("it decrypts again"), b"kept");
    assert_eq!(world.rest.read(&key).json(200).text("state"), "active");
}

#[test]
fn a_ring_made_over_rest_is_a_token_and_its_key_is_found() {
    let world = World::new();
    let ring = world.rest.make_ring("by-rest");
    let key = world.rest.make_key(&ring, "inside", "aes_256_gcm");
    let sealed = world.encrypt(&format!("{key}/versions/1"), "over REST");
    // An application that starts now: one that runs already keeps the slots it has seen.
    let copy = world.stack.folder().join("later.so");
    std::fs::copy(world.stack.module(), &copy).expect("the module can be copied");
    let pkcs11 = kms_tests::client::load(&copy, &world.stack.config());
    let slot = kms_tests::client::slot(&pkcs11, "by-rest");
    let session = pkcs11.open_rw_session(slot).expect("a session opens");
    session.login(UserType::User, Some(&pin(USER_PIN))).expect_err("the PIN of another ring");
    session
        .login(UserType::User, Some(&pin(&world.stack.admin_token())))
        .expect("the owner's token is a PIN");
    let found = session.find_objects(&[Attribute::Label("inside".into())]).expect("a search");
    assert_eq!(found.len(), 1);
    let mut nonce = sealed[HEADER..HEADER + NONCE].to_vec();
    let params = GcmParams::new(&mut nonce, &sealed[..HEADER], 128.into()).expect("GCM's parameters");
    let opened = session.decrypt(&Mechanism::AesGcm(params), found[0], &sealed[HEADER + NONCE..]);
    assert_eq!(opened.expect("it decrypts"), b"over REST");
}
