//! "Object management functions" for imported objects: keys by value, data, certificates, public keys, copies. Also
//! session objects across a restart of the backend.

use cryptoki::error::RvError;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, CertificateType, KeyType, ObjectClass, ObjectHandle};
use kms_tests::client::{Client, refused};
use kms_tests::openssl::{self, PrivateKey};
use kms_tests::{Policy, Stack};

use crate::keys::is_sensitive;

const VALUE: [u8; 32] = [0x42; 32];

/// The template of an AES key with a value.
fn aes(token: bool) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(VALUE.to_vec()),
        Attribute::Token(token),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Label(b"imported".to_vec()),
    ]
}

#[track_caller]
fn encrypts_as_openssl(client: &Client, key: ObjectHandle) {
    let sealed = client.session.encrypt(&Mechanism::AesEcb, key, &[9; 16]).expect("it encrypts");
    assert_eq!(sealed, openssl::encrypt("aes-256-ecb", &["-nopad"], &VALUE, &[], &[9; 16]));
}

#[test]
fn a_strict_ring_rejects_plaintext_token_keys() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    refused(client.session.create_object(&aes(true)), RvError::TemplateInconsistent);
    // A session key is allowed, because it does not become a key of the ring.
    let key = client.session.create_object(&aes(false)).expect("a session key is created");
    encrypts_as_openssl(&client, key);
    refused(client.session.copy_object(key, &[Attribute::Token(true)]), RvError::TemplateInconsistent);
}

#[test]
fn a_compat_ring_accepts_plaintext_token_keys() {
    let mut stack = Stack::compat();
    let client = Client::user(&stack);
    let key = client.session.create_object(&aes(true)).expect("a token key is created");
    let shown = client.session.get_attributes(
        key,
        &[AttributeType::Local, AttributeType::NeverExtractable, AttributeType::AlwaysSensitive],
    );
    let expected =
        [Attribute::Local(false), Attribute::NeverExtractable(false), Attribute::AlwaysSensitive(false)];
    assert_eq!(shown.expect("attributes can be read"), expected);
    is_sensitive(&client, key, &[AttributeType::Value]);
    stack.restart();
    encrypts_as_openssl(&client, key);
    let open = [aes(false), vec![Attribute::Sensitive(false), Attribute::Extractable(true)]].concat();
    let open = client.session.create_object(&open).expect("an open key is created");
    assert_eq!(client.bytes(open, AttributeType::Value), VALUE);
}

#[test]
fn incomplete_and_inconsistent_templates_are_rejected() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let without = |kind: AttributeType| {
        aes(false).into_iter().filter(|attribute| attribute.attribute_type() != kind).collect::<Vec<_>>()
    };
    for kind in [AttributeType::Class, AttributeType::KeyType, AttributeType::Value] {
        refused(client.session.create_object(&without(kind)), RvError::TemplateIncomplete);
    }
    let short = [without(AttributeType::Value), vec![Attribute::Value(vec![1; 15])]].concat();
    refused(client.session.create_object(&short), RvError::AttributeValueInvalid);
    let local = [aes(false), vec![Attribute::Local(true)]].concat();
    refused(client.session.create_object(&local), RvError::AttributeReadOnly);
    let foreign = [aes(false), vec![Attribute::Modulus(vec![1; 256])]].concat();
    refused(client.session.create_object(&foreign), RvError::AttributeTypeInvalid);
}

#[test]
fn copies_are_at_least_as_protected() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let session = &client.session;
    let open = vec![Attribute::Sensitive(false), Attribute::Extractable(true), Attribute::Copyable(true)];
    let key = session.create_object(&[aes(true), open].concat()).expect("a key is created");
    for token in [true, false] {
        let template =
            [Attribute::Token(token), Attribute::Sensitive(true), Attribute::Label(b"copy".to_vec())];
        let copy = session.copy_object(key, &template).expect("it is copied");
        encrypts_as_openssl(&client, copy);
        is_sensitive(&client, copy, &[AttributeType::Value]);
        assert_eq!(client.bytes(copy, AttributeType::Label), b"copy");
        assert_ne!(client.bytes(copy, AttributeType::UniqueId), client.bytes(key, AttributeType::UniqueId));
        refused(session.copy_object(copy, &[Attribute::Sensitive(false)]), RvError::TemplateInconsistent);
    }
    let fixed = session.copy_object(key, &[Attribute::Copyable(false)]).expect("it is copied");
    refused(session.copy_object(fixed, &[]), RvError::ActionProhibited);
}

fn data(label: &[u8], private: bool, token: bool, value: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Label(label.to_vec()),
        Attribute::Application(b"a host".to_vec()),
        Attribute::Value(value.to_vec()),
        Attribute::Private(private),
        Attribute::Token(token),
    ]
}

#[test]
fn data_objects_are_stored() {
    for policy in [Policy::Strict, Policy::Compat] {
        let mut stack = Stack::new(policy);
        let client = Client::user(&stack);
        let session = &client.session;
        // Oracle's labels are longer than the 32 bytes that some tokens allow.
        let long = b"ORACLE.SECURITY.KM.ENCRYPTION.".repeat(8);
        let kept = session.create_object(&data(&long, true, true, b"a secret")).expect("data is created");
        let seen = session.create_object(&data(b"", false, true, b"")).expect("empty data is created");
        session.create_object(&data(b"session", true, false, b"x")).expect("session data is created");
        stack.restart();
        let by_label = session.find_objects(&[Attribute::Label(long.clone())]).expect("a search");
        assert_eq!(by_label, [kept]);
        assert_eq!(client.bytes(kept, AttributeType::Value), b"a secret");
        assert_eq!(client.bytes(seen, AttributeType::Value), b"");
        session.update_attributes(kept, &[Attribute::Label(b"renamed".to_vec())]).expect("it is renamed");
        assert_eq!(client.bytes(kept, AttributeType::Value), b"a secret");
        let all = || session.find_objects(&[Attribute::Class(ObjectClass::DATA)]).expect("a search").len();
        assert_eq!(all(), 3);
        session.destroy_object(kept).expect("it is destroyed");
        assert_eq!(all(), 2);
        session.logout().expect("the user logs out");
        assert_eq!(all(), 1, "only the public object is found");
    }
}

#[test]
fn data_objects_have_size_limits() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let megabyte = vec![0xab; 1 << 20];
    let session_object =
        session.create_object(&data(b"large", true, false, &megabyte)).expect("it is created");
    assert_eq!(client.bytes(session_object, AttributeType::Value), megabyte);
    let beyond = [megabyte.as_slice(), &[0]].concat();
    refused(session.create_object(&data(b"", true, false, &beyond)), RvError::AttributeValueInvalid);
    let kept =
        session.create_object(&data(b"kept", true, true, &megabyte[..16 << 10])).expect("it is created");
    assert_eq!(client.bytes(kept, AttributeType::Value), &megabyte[..16 << 10]);
    let beyond = session.create_object(&data(b"", true, true, &megabyte[..(16 << 10) + 1]));
    refused(beyond, RvError::AttributeValueInvalid);
}

#[test]
fn data_is_encrypted_in_the_database() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let secret = b"this text is in no file";
    client.session.create_object(&data(b"private", true, true, secret)).expect("data is created");
    stack.stop();
    for entry in std::fs::read_dir(stack.home()).expect("the home can be listed") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("a file can be read");
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found, "{} contains it", path.display());
        }
    }
}

#[test]
fn certificates_are_stored() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    for (number, label) in [b"".as_slice(), b"web", &[b'l'; 300]].into_iter().enumerate() {
        let value = vec![u8::try_from(number).expect("small") + 0x30; 1500];
        let template = [
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Subject(vec![0x30, 0]),
            Attribute::Value(value.clone()),
            Attribute::Id(vec![u8::try_from(number).expect("small")]),
            Attribute::Label(label.to_vec()),
            Attribute::Token(true),
        ];
        let certificate = session.create_object(&template).expect("a certificate is created");
        assert_eq!(client.bytes(certificate, AttributeType::Value), value);
    }
    stack.restart();
    session.logout().expect("the user logs out");
    let found = session.find_objects(&[Attribute::Class(ObjectClass::CERTIFICATE)]).expect("a search");
    assert_eq!(found.len(), 3, "certificates are public");
    let found = session.find_objects(&[Attribute::Label(vec![b'l'; 300])]).expect("a search");
    assert_eq!(client.bytes(found[0], AttributeType::Value), [0x32; 1500]);
}

#[test]
fn imported_public_keys_verify() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let digest = openssl::digest("sha256", b"message");
    let rsa = PrivateKey::generate(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let info = rsa.public_key_info();
    // The SubjectPublicKeyInfo of RSA-2048 ends with the modulus and five bytes of exponent.
    let modulus = info[info.len() - 5 - 256..info.len() - 5].to_vec();
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(modulus),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Verify(true),
        Attribute::Token(true),
    ];
    let key = client.session.create_object(&template).expect("a public key is created");
    assert_eq!(client.public_key_info(key), info);
    let signature = rsa.sign(&["-pkeyopt", "digest:sha256"], &digest);
    let mechanism = Mechanism::Sha256RsaPkcs;
    client.session.verify(&mechanism, key, b"message", &signature).expect("it verifies");
    refused(client.session.verify(&mechanism, key, b"another", &signature), RvError::SignatureInvalid);
    for (curve, oid, bytes) in
        [("P-256", crate::keys::CURVES[0].1, 65), ("P-384", crate::keys::CURVES[1].1, 97)]
    {
        let ec =
            PrivateKey::generate(&["-algorithm", "EC", "-pkeyopt", &format!("ec_paramgen_curve:{curve}")]);
        let info = ec.public_key_info();
        let point = [&[0x04, bytes][..], &info[info.len() - usize::from(bytes)..]].concat();
        let template = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(oid.to_vec()),
            Attribute::EcPoint(point),
            Attribute::Verify(true),
            Attribute::Token(true),
        ];
        let key = client.session.create_object(&template).expect("a public key is created");
        assert_eq!(client.public_key_info(key), info, "{curve}");
    }
}

#[test]
fn session_objects_survive_a_backend_restart() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let session = &client.session;
    let key = session.create_object(&aes(false)).expect("a session key is created");
    let note = session.create_object(&data(b"note", true, false, b"noted")).expect("session data is created");
    let template = [Attribute::Token(false), Attribute::ValueLen(32.into()), Attribute::Label(b"m".to_vec())];
    let generated =
        session.generate_key(&Mechanism::AesKeyGen, &template).expect("the session key is generated");
    let sealed = session.encrypt(&Mechanism::AesCbcPad([1; 16]), generated, b"before").expect("it encrypts");
    stack.restart();
    encrypts_as_openssl(&client, key);
    assert_eq!(client.bytes(note, AttributeType::Value), b"noted");
    let opened = session.decrypt(&Mechanism::AesCbcPad([1; 16]), generated, &sealed).expect("it decrypts");
    assert_eq!(opened, b"before");
    session.update_attributes(generated, &[Attribute::Label(b"n".to_vec())]).expect("it is renamed");
    assert_eq!(session.find_objects(&[Attribute::Label(b"n".to_vec())]).expect("a search"), [generated]);
    session.destroy_object(generated).expect("it is destroyed");
    assert_eq!(session.find_objects(&[Attribute::Label(b"n".to_vec())]).expect("a search"), []);
}
