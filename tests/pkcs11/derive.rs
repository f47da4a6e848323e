//! `C_DeriveKey`: key agreement with keys of the openssl program, published test vectors, and KDFs computed step by
//! step.

use std::num::NonZeroUsize;

use cryptoki::error::RvError;
use cryptoki::mechanism::elliptic_curve::{EcKdf, Ecdh1DeriveParams};
use cryptoki::mechanism::hkdf::{HkdfParams, HkdfSalt};
use cryptoki::mechanism::kbkdf::{
    Endianness, KbkdfCounterFormat, KbkdfDkmLengthFormat, KbkdfDkmLengthMethod, KbkdfFeedbackParams,
    KbkdfParams, PrfDataParam, PrfDataParamType,
};
use cryptoki::mechanism::misc::{ExtractParams, KeyDerivationStringData};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use kms_tests::Stack;
use kms_tests::artefacts::pre_release_curves;
use kms_tests::client::{Client, refused};
use kms_tests::openssl::{self, PrivateKey};

use crate::keys::{self, is_sensitive};

/// The curves of RFC 7748: `CKA_EC_PARAMS`, openssl's name, and the length of the agreed secret.
const MONTGOMERY: [(&[u8], &str, usize); 3] = [
    (&[0x06, 0x03, 0x2b, 0x65, 0x6e], "X25519", 32),
    (&[0x06, 0x03, 0x2b, 0x65, 0x6f], "X448", 56),
    (b"\x13\x08curve448", "X448", 56),
];

/// The template of a session secret whose value can be read.
fn open(bytes: u64) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Token(false),
        Attribute::ValueLen(bytes.into()),
    ]
}

/// Creates a secret with this value, to derive from.
fn base(client: &Client, value: &[u8]) -> ObjectHandle {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        Attribute::Derive(true),
        Attribute::Value(value.to_vec()),
    ];
    client.session.create_object(&template).expect("a secret is created")
}

#[track_caller]
fn derived(client: &Client, mechanism: &Mechanism<'_>, base: ObjectHandle, bytes: u64) -> Vec<u8> {
    let key = client.session.derive_key(mechanism, base, &open(bytes)).expect("it derives");
    client.bytes(key, AttributeType::Value)
}

/// Checks that both sides agree on the same secret with a key of openssl's.
fn agrees(
    client: &Client,
    openssl: &PrivateKey,
    pair: (ObjectHandle, ObjectHandle),
    point_bytes: usize,
    secret_bytes: u64,
) {
    let info = openssl.public_key_info();
    let point = &info[info.len() - point_bytes..];
    let expected = openssl.agree(&client.public_key_info(pair.0));
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), point));
    assert_eq!(derived(client, &mechanism, pair.1, secret_bytes), expected);
    // X9.63: the digest of the secret, a counter and the shared info.
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::sha256(b"shared"), point));
    let hashed = openssl::digest("sha256", &[&expected[..], &[0, 0, 0, 1], b"shared"].concat());
    assert_eq!(derived(client, &mechanism, pair.1, 32), hashed);
    let mechanism = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &point[1..]));
    assert!(client.session.derive_key(&mechanism, pair.1, &open(16)).is_err(), "not a point of the curve");
}

#[test]
fn ecdh_agrees_with_openssl() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for ((_, oid), (name, point, secret)) in
        keys::CURVES.into_iter().zip([("P-256", 65, 32), ("P-384", 97, 48), ("P-521", 133, 66)])
    {
        let public = [Attribute::EcParams(oid.to_vec())];
        let private = [Attribute::Derive(true)];
        let pair = client.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
        let option = format!("ec_paramgen_curve:{name}");
        let openssl_key = PrivateKey::generate(&["-algorithm", "EC", "-pkeyopt", &option]);
        agrees(&client, &openssl_key, pair.expect("the pair is generated"), point, secret);
    }
}

#[test]
fn x25519_and_x448_agree_with_openssl() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let built_in = if pre_release_curves() { &MONTGOMERY[..] } else { &MONTGOMERY[..1] };
    for &(params, name, bytes) in built_in {
        let public = [Attribute::EcParams(params.to_vec())];
        let private = [Attribute::Derive(true)];
        let pair = client.session.generate_key_pair(&Mechanism::EccMontgomeryKeyPairGen, &public, &private);
        let pair = pair.expect("the pair is generated");
        let openssl_key = PrivateKey::generate(&["-algorithm", name]);
        agrees(&client, &openssl_key, pair, bytes, bytes as u64);
        let zeros = vec![0; bytes];
        let zero_point = Mechanism::Ecdh1Derive(Ecdh1DeriveParams::new(EcKdf::null(), &zeros));
        refused(
            client.session.derive_key(&zero_point, pair.1, &open(bytes as u64)),
            RvError::MechanismParamInvalid,
        );
    }
}

/// RFC 5869, appendix A.1, in one call and in its two steps.
#[test]
fn hkdf_matches_rfc_5869() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let salt: Vec<u8> = (0..13).collect();
    let info: Vec<u8> = (0xf0..0xfa).collect();
    let key = base(&client, &[0x0b; 22]);
    let hash = MechanismType::SHA256;
    let both = Mechanism::HkdfDerive(HkdfParams::new(hash, Some(HkdfSalt::Data(&salt)), Some(&info)));
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(openssl::hex(&derived(&client, &both, key, 42)), expected);
    let extract = Mechanism::HkdfDerive(HkdfParams::new(hash, Some(HkdfSalt::Data(&salt)), None));
    let extracted = derived(&client, &extract, key, 32);
    assert_eq!(openssl::hex(&extracted), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
    let expand = Mechanism::HkdfDerive(HkdfParams::new(hash, None, Some(&info)));
    assert_eq!(openssl::hex(&derived(&client, &expand, base(&client, &extracted), 42)), expected);
}

/// SP 800-108: the PRF over counter, label, a zero byte, context and length, computed with openssl's HMAC.
#[test]
fn sp800_108_matches_a_step_by_step_computation() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let value = [0x5c; 32];
    let key = base(&client, &value);
    let bits = NonZeroUsize::new(32).expect("not zero");
    let counter = KbkdfCounterFormat::new(Endianness::Big, bits);
    let length = KbkdfDkmLengthFormat::new(KbkdfDkmLengthMethod::SumOfKeys, Endianness::Big, bits);
    let fixed = [&b"label\0context"[..], &512_u32.to_be_bytes()].concat();
    let tail = [PrfDataParamType::ByteArray(b"label\0context"), PrfDataParamType::DkmLength(&length)]
        .map(PrfDataParam::new);
    let block = |input: &[&[u8]]| openssl::hmac("sha256", &value, &input.concat());

    let first = PrfDataParam::new(PrfDataParamType::IterationVariable(Some(&counter)));
    let data = [&[first][..], &tail].concat();
    let mechanism = Mechanism::KbkdfCounter(KbkdfParams::new(MechanismType::SHA256_HMAC, &data, None));
    let expected = [1_u32, 2].map(|number| block(&[&number.to_be_bytes(), &fixed])).concat();
    assert_eq!(derived(&client, &mechanism, key, 64), expected);

    let iv = [3; 32];
    let first = PrfDataParam::new(PrfDataParamType::IterationVariable(None));
    let second = PrfDataParam::new(PrfDataParamType::Counter(&counter));
    let data = [&[first, second][..], &tail].concat();
    let feedback = KbkdfFeedbackParams::new(MechanismType::SHA256_HMAC, &data, Some(&iv), None);
    let one = block(&[&iv, &1_u32.to_be_bytes(), &fixed]);
    let two = block(&[&one, &2_u32.to_be_bytes(), &fixed]);
    assert_eq!(derived(&client, &Mechanism::KbkdfFeedback(feedback), key, 64), [one, two].concat());
}

/// X25519 with the one-step KDF of SP 800-56C, with OPC UA's published example.
#[test]
fn ecdh_with_the_sp800_56c_kdf_matches_a_published_example() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let hex = |text: &str| -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    let private = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC_MONTGOMERY),
        Attribute::EcParams(MONTGOMERY[0].0.to_vec()),
        Attribute::Value(hex("f00670c5f139e7e6c2511ea04ff507afbbe237ce3c71a89ca59a1c5cf8856562")),
        Attribute::Derive(true),
    ];
    let private = client.session.create_object(&private).expect("a private key is created");
    let public = hex("533b3f09e53b3deed661a13f7a7d9694ab71ce156c728e00dee87a1ee3a14c4a");
    let shared = hex(concat!(
        "0a2b0601040197550105011203010807416e6f6e796d6f75732053656e646572202020",
        "205633a4c5ae4305bc0fe2abb699a8ee54632790a0"
    ));
    let agreement = Ecdh1DeriveParams::new(EcKdf::sha256_sp800(&shared), &public);
    let value = derived(&client, &Mechanism::Ecdh1Derive(agreement), private, 16);
    assert_eq!(openssl::hex(&value), "af8ce51d0139a6d60831a9babab20186");
}

/// XOR with known bytes, and extraction of a part of a key: compat rings only.
#[test]
fn xor_and_extract_derivations_exist_in_compat_rings_only() {
    let value = [0x32, 0x9f, 0x84, 0xa9];
    let data = [0xff, 0, 1, 2];
    let xor = || Mechanism::XorBaseAndData(KeyDerivationStringData::new(&data));
    let extract = || Mechanism::ExtractKeyFromKey(ExtractParams::new(21));
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let key = base(&client, &value);
    assert_eq!(derived(&client, &xor(), key, 4), [0xcd, 0x9f, 0x85, 0xab]);
    // The specification's example.
    assert_eq!(derived(&client, &extract(), key, 2), [0x95, 0x26]);
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let key = base(&client, &[7; 32]);
    for mechanism in [xor(), extract()] {
        refused(client.session.derive_key(&mechanism, key, &open(16)), RvError::MechanismInvalid);
    }
}

#[test]
fn secrets_of_hmac_and_hkdf_types_have_generation_mechanisms() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for (mechanism, kind, signs) in [
        (Mechanism::Sha1KeyGen, KeyType::SHA_1_HMAC, Some(Mechanism::Sha1Hmac)),
        (Mechanism::Sha256KeyGen, KeyType::SHA256_HMAC, Some(Mechanism::Sha256Hmac)),
        (Mechanism::Sha512KeyGen, KeyType::SHA512_HMAC, Some(Mechanism::Sha512Hmac)),
        (Mechanism::HkdfKeyGen, KeyType::HKDF, None),
    ] {
        let generated = client.session.generate_key(&mechanism, &[Attribute::ValueLen(32.into())]);
        let key = generated.expect("the secret is generated");
        let found = client.session.get_attributes(key, &[AttributeType::KeyType]).expect("its type");
        assert_eq!(found, [Attribute::KeyType(kind)]);
        match signs {
            Some(signs) => {
                let other = Mechanism::Sha384Hmac;
                refused(client.session.sign(&other, key, b"message"), RvError::KeyTypeInconsistent);
                let mac = client.session.sign(&signs, key, b"message").expect("it signs");
                client.session.verify(&signs, key, b"message", &mac).expect("and verifies");
            }
            None => {
                let expand = HkdfParams::new(MechanismType::SHA256, None, Some(b"info"));
                let template = [&open(16)[..5], &[Attribute::ValueLen(16.into())]].concat();
                client
                    .session
                    .derive_key(&Mechanism::HkdfDerive(expand), key, &template)
                    .expect("it derives");
            }
        }
    }
}

#[test]
fn a_derived_key_is_no_more_open_than_its_base() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let template = [
        Attribute::Token(true),
        Attribute::Derive(true),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::ValueLen(32.into()),
    ];
    let closed = client.session.generate_key(&Mechanism::GenericSecretKeyGen, &template);
    let closed = closed.expect("the secret is generated");
    let mechanism =
        Mechanism::HkdfDerive(HkdfParams::new(MechanismType::SHA256, Some(HkdfSalt::Null), Some(b"x")));
    let key = client.session.derive_key(&mechanism, closed, &open(32)).expect("it derives");
    is_sensitive(&client, key, &[AttributeType::Value]);
    let short = client.session.derive_key(&mechanism, closed, &open(1));
    refused(short, RvError::AttributeValueInvalid);
    let uses = [Attribute::Token(true), Attribute::ValueLen(32.into()), Attribute::Encrypt(true)];
    let cipher = client.session.generate_key(&Mechanism::AesKeyGen, &uses).expect("the key is generated");
    refused(client.session.derive_key(&mechanism, cipher, &open(32)), RvError::KeyFunctionNotPermitted);
}
