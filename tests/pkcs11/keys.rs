//! "Key management functions": generated keys have all attributes, and sensitive ones cannot be read. Also the key
//! generation that other chapters use.

use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeInfo, AttributeType, KeyType, ObjectClass, ObjectHandle};
use kms_tests::Stack;
use kms_tests::client::{Client, refused};
use kms_tests::openssl::PublicKey;

/// The named curves, as `CKA_EC_PARAMS`.
pub(crate) const CURVES: [(&str, &[u8]); 3] = [
    ("prime256v1", &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
    ("secp384r1", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22]),
    ("secp521r1", &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23]),
];

/// Generates an AES token key and returns its value too, for comparison (compat rings only).
pub(crate) fn open_aes(client: &Client, bytes: u64) -> (ObjectHandle, Vec<u8>) {
    let template = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(bytes.into()),
    ];
    let key =
        client.session.generate_key(&Mechanism::AesKeyGen, &template).expect("the AES key is generated");
    (key, client.bytes(key, AttributeType::Value))
}

/// Generates an AES token key with the template that most applications use.
pub(crate) fn aes(client: &Client, label: &str) -> ObjectHandle {
    let template = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        Attribute::Label(label.into()),
    ];
    client.session.generate_key(&Mechanism::AesKeyGen, &template).expect("the AES key is generated")
}

/// Generates an RSA pair for signatures and encryption: public key, private key.
pub(crate) fn rsa(client: &Client, bits: u64) -> (ObjectHandle, ObjectHandle) {
    let public = [
        Attribute::Token(true),
        Attribute::Verify(true),
        Attribute::Encrypt(true),
        Attribute::ModulusBits(bits.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Label(b"rsa".to_vec()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Sign(true),
        Attribute::Decrypt(true),
        Attribute::Label(b"rsa".to_vec()),
    ];
    let pair = client.session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private);
    pair.expect("the RSA pair is generated")
}

/// Generates a pair on a curve: public key, private key.
pub(crate) fn ec(client: &Client, params: &[u8]) -> (ObjectHandle, ObjectHandle) {
    let public = [Attribute::Token(true), Attribute::Verify(true), Attribute::EcParams(params.to_vec())];
    let private = [Attribute::Token(true), Attribute::Sign(true)];
    let pair = client.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
    pair.expect("the EC pair is generated")
}

/// Generates a secret for HMAC and returns its value too (compat rings only).
pub(crate) fn open_secret(client: &Client, bytes: u64) -> (ObjectHandle, Vec<u8>) {
    let template = [
        Attribute::Token(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Sign(true),
        Attribute::Verify(true),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(bytes.into()),
    ];
    let key = client
        .session
        .generate_key(&Mechanism::GenericSecretKeyGen, &template)
        .expect("the secret is generated");
    (key, client.bytes(key, AttributeType::Value))
}

/// Asserts that a key has each of these attributes.
#[track_caller]
fn assert_present(client: &Client, key: ObjectHandle, kinds: &[AttributeType]) {
    let infos = client.session.get_attribute_info(key, kinds).expect("attribute info is returned");
    let missing: Vec<_> =
        kinds.iter().zip(infos).filter(|(_, info)| !matches!(info, AttributeInfo::Available(_))).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

/// Asserts that these attributes are sensitive.
#[track_caller]
pub(crate) fn is_sensitive(client: &Client, key: ObjectHandle, kinds: &[AttributeType]) {
    let infos = client.session.get_attribute_info(key, kinds).expect("attribute info is returned");
    let hidden = infos.iter().all(|info| matches!(info, AttributeInfo::Sensitive));
    assert!(hidden, "{kinds:?}: {infos:?}");
}

/// Asserts that a key's attributes have these values.
#[track_caller]
fn assert_values(client: &Client, key: ObjectHandle, expected: &[Attribute]) {
    let kinds: Vec<_> = expected.iter().map(Attribute::attribute_type).collect();
    let found = client.session.get_attributes(key, &kinds).expect("attributes can be read");
    assert_eq!(found, expected);
}

const COMMON_ATTRIBUTES: [AttributeType; 14] = [
    AttributeType::Class,
    AttributeType::Token,
    AttributeType::Private,
    AttributeType::Modifiable,
    AttributeType::Copyable,
    AttributeType::Destroyable,
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::StartDate,
    AttributeType::EndDate,
    AttributeType::Derive,
    AttributeType::Local,
    AttributeType::KeyGenMechanism,
];

#[test]
fn a_secret_key_has_all_attributes() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = aes(&client, "complete");
    assert_present(&client, key, &COMMON_ATTRIBUTES);
    assert_present(
        &client,
        key,
        &[
            AttributeType::Sensitive,
            AttributeType::Encrypt,
            AttributeType::Decrypt,
            AttributeType::Sign,
            AttributeType::Verify,
            AttributeType::Wrap,
            AttributeType::Unwrap,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
            AttributeType::CheckValue,
            AttributeType::WrapWithTrusted,
            AttributeType::Trusted,
            AttributeType::ValueLen,
        ],
    );
    assert_values(
        &client,
        key,
        &[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32.into()),
            Attribute::Label(b"complete".to_vec()),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::AlwaysSensitive(true),
            Attribute::NeverExtractable(true),
            Attribute::Local(true),
            Attribute::KeyGenMechanism(MechanismType::AES_KEY_GEN),
        ],
    );
}

#[test]
fn a_pair_has_all_attributes_and_openssl_reads_the_public_key() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = rsa(&client, 2048);
    for key in [public, private] {
        assert_present(&client, key, &COMMON_ATTRIBUTES);
        assert_present(
            &client,
            key,
            &[AttributeType::Modulus, AttributeType::PublicExponent, AttributeType::PublicKeyInfo],
        );
        assert_present(&client, key, &[AttributeType::Subject]);
    }
    assert_present(
        &client,
        private,
        &[
            AttributeType::Sensitive,
            AttributeType::Decrypt,
            AttributeType::Sign,
            AttributeType::SignRecover,
            AttributeType::Unwrap,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
            AttributeType::AlwaysAuthenticate,
            AttributeType::WrapWithTrusted,
        ],
    );
    assert_present(
        &client,
        public,
        &[
            AttributeType::Encrypt,
            AttributeType::Verify,
            AttributeType::VerifyRecover,
            AttributeType::Wrap,
            AttributeType::Trusted,
            AttributeType::ModulusBits,
        ],
    );
    assert_values(
        &client,
        private,
        &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false)],
    );
    assert_values(&client, public, &[Attribute::Private(false), Attribute::ModulusBits(2048.into())]);
    assert_eq!(client.bytes(public, AttributeType::Id), client.bytes(private, AttributeType::Id));
    assert_eq!(client.bytes(public, AttributeType::Modulus).len(), 256);
    let description = PublicKey::new(&client.public_key_info(public)).describe();
    assert!(description.contains("Public-Key: (2048 bit)") && description.contains("65537"), "{description}");
}

#[test]
fn rsa_pairs_have_the_requested_size() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for bits in [3072, 4096] {
        let (public, _) = rsa(&client, bits);
        let description = PublicKey::new(&client.public_key_info(public)).describe();
        assert!(description.contains(&format!("({bits} bit)")), "{description}");
    }
}

#[test]
fn pairs_are_on_the_requested_curve() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for (name, params) in CURVES {
        let (public, private) = ec(&client, params);
        assert_present(&client, public, &COMMON_ATTRIBUTES);
        assert_present(&client, private, &COMMON_ATTRIBUTES);
        for key in [public, private] {
            assert_eq!(client.bytes(key, AttributeType::EcParams), params);
        }
        let info = client.public_key_info(public);
        let description = PublicKey::new(&info).describe();
        assert!(description.contains(&format!("ASN1 OID: {name}")), "{description}");
        // CKA_EC_POINT is a DER octet string with the uncompressed point; the public key's info ends with the same
        // point.
        let point = client.bytes(public, AttributeType::EcPoint);
        let start = if point[1] == 0x81 { 3 } else { 2 };
        assert_eq!(
            (point[0], point[start]),
            (0x04, 0x04),
            "{name}: an octet string with an uncompressed point"
        );
        assert!(info.ends_with(&point[start..]), "{name}: the point is the key's");
    }
}

#[test]
fn secret_values_cannot_be_read() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = aes(&client, "secret");
    is_sensitive(&client, key, &[AttributeType::Value]);
    let (_, private) = rsa(&client, 2048);
    let kinds = [AttributeType::PrivateExponent, AttributeType::Prime1, AttributeType::Coefficient];
    is_sensitive(&client, private, &kinds);
}

#[test]
fn session_keys_end_with_their_session() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let other = client.pkcs11.open_rw_session(client.slot).expect("a second session");
    let template = [
        Attribute::Token(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(16.into()),
        Attribute::Label(b"session".to_vec()),
    ];
    let key = other.generate_key(&Mechanism::AesKeyGen, &template).expect("the session key is generated");
    // Spec, "Session objects": other sessions of the application may use it.
    let sealed =
        client.session.encrypt(&Mechanism::AesCbcPad([7; 16]), key, b"session data").expect("it encrypts");
    let opened = client.session.decrypt(&Mechanism::AesCbcPad([7; 16]), key, &sealed).expect("it decrypts");
    assert_eq!(opened, b"session data");
    let found = client.session.find_objects(&[Attribute::Label(b"session".to_vec())]).expect("a search");
    assert_eq!(found, [key]);
    other.close().expect("the session closes");
    let found = client.session.find_objects(&[Attribute::Label(b"session".to_vec())]).expect("a search");
    assert_eq!(found, []);
    refused(client.session.encrypt(&Mechanism::AesEcb, key, &[0; 16]), RvError::KeyHandleInvalid);
}

#[test]
fn bad_templates_are_rejected_with_the_code_of_the_specification() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let generate = |template: &[Attribute]| client.session.generate_key(&Mechanism::AesKeyGen, template);
    refused(generate(&[Attribute::Token(true)]), RvError::TemplateIncomplete);
    refused(
        generate(&[Attribute::ValueLen(32.into()), Attribute::KeyType(KeyType::RSA)]),
        RvError::TemplateInconsistent,
    );
    refused(
        generate(&[Attribute::ValueLen(32.into()), Attribute::Class(ObjectClass::PUBLIC_KEY)]),
        RvError::TemplateInconsistent,
    );
    for bytes in [0, 1, 17, 33, u64::from(u32::MAX), u64::MAX] {
        let (code, _) = kms_tests::client::code(generate(&[Attribute::ValueLen(bytes.into())]));
        assert!(
            matches!(code, RvError::KeySizeRange | RvError::AttributeValueInvalid),
            "an AES key of {bytes} bytes: {code:?}"
        );
    }
    let public = [Attribute::ModulusBits(1024.into()), Attribute::PublicExponent(vec![1, 0, 1])];
    let pair = client.session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &[]);
    let (code, _) = kms_tests::client::code(pair);
    assert!(
        matches!(code, RvError::KeySizeRange | RvError::AttributeValueInvalid),
        "RSA of 1024 bits: {code:?}"
    );
    let public = [Attribute::EcParams(vec![6, 3, 1, 2, 3])];
    let (code, _) =
        kms_tests::client::code(client.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &[]));
    let known = [RvError::CurveNotSupported, RvError::DomainParamsInvalid, RvError::AttributeValueInvalid];
    assert!(
        known.iter().any(|known| format!("{known:?}") == format!("{code:?}")),
        "an unknown curve: {code:?}"
    );
}
