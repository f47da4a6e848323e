//! "Signing and MACing functions" and their verification: each mechanism against openssl, single-part and
//! multi-part.

use cryptoki::error::RvError;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::ObjectHandle;
use cryptoki_sys::{CKA_KEY_TYPE, CKK_GENERIC_SECRET, CKM_SHA256_HMAC_GENERAL};
use kms_protocol::Rv;
use kms_tests::Stack;
use kms_tests::client::{Client, refused};
use kms_tests::openssl::{self, PublicKey};
use kms_tests::raw::{Mechanism as Raw, Module, Template};

use crate::keys;

const MESSAGE: &[u8] = b"The quick brown fox jumps over the lazy dog";

/// Signs single-part and multi-part, verifies both in the module, and returns the first signature.
#[track_caller]
fn sign(client: &Client, mechanism: &Mechanism<'_>, signer: ObjectHandle, verifier: ObjectHandle) -> Vec<u8> {
    let session = &client.session;
    let signature = session.sign(mechanism, signer, MESSAGE).expect("it signs");
    session.verify(mechanism, verifier, MESSAGE, &signature).expect("it verifies");
    session.sign_init(mechanism, signer).expect("C_SignInit succeeds");
    for part in MESSAGE.chunks(7) {
        session.sign_update(part).expect("the part is accepted");
    }
    let multi_part = session.sign_final().expect("signing ends");
    session.verify_init(mechanism, verifier).expect("C_VerifyInit succeeds");
    for part in MESSAGE.chunks(5) {
        session.verify_update(part).expect("the part is accepted");
    }
    session.verify_final(&multi_part).expect("the multi-part signature is valid");
    assert_others_rejected(client, mechanism, verifier, MESSAGE, &signature);
    signature
}

/// Asserts that neither another message nor another signature verifies.
#[track_caller]
fn assert_others_rejected(
    client: &Client,
    mechanism: &Mechanism<'_>,
    verifier: ObjectHandle,
    message: &[u8],
    signature: &[u8],
) {
    let verify =
        |message: &[u8], signature: &[u8]| client.session.verify(mechanism, verifier, message, signature);
    let mut other = message.to_vec();
    other[0] ^= 1;
    refused(verify(&other, signature), RvError::SignatureInvalid);
    let mut changed = signature.to_vec();
    *changed.last_mut().expect("a signature has bytes") ^= 1;
    refused(verify(message, &changed), RvError::SignatureInvalid);
    refused(verify(message, &signature[1..]), RvError::SignatureLenRange);
    refused(verify(message, &[signature, &[0]].concat()), RvError::SignatureLenRange);
}

#[test]
fn rsa_pkcs_with_a_hash() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let openssl = PublicKey::new(&client.public_key_info(public));
    let mechanisms = [
        ("sha1", Mechanism::Sha1RsaPkcs),
        ("sha224", Mechanism::Sha224RsaPkcs),
        ("sha256", Mechanism::Sha256RsaPkcs),
        ("sha384", Mechanism::Sha384RsaPkcs),
        ("sha512", Mechanism::Sha512RsaPkcs),
    ];
    for (name, mechanism) in mechanisms {
        let signature = sign(&client, &mechanism, private, public);
        let digest = openssl::digest(name, MESSAGE);
        assert!(openssl.verifies(&[&format!("digest:{name}")], &digest, &signature), "{name}");
    }
}

#[test]
fn rsa_pkcs_of_any_data() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let openssl = PublicKey::new(&client.public_key_info(public));
    // TLS 1.1 signs 36 bytes that are not a DigestInfo; ssh and openssl send their own DigestInfo.
    for length in [1, 36, 51, 245] {
        let data = vec![0x5a; length];
        let signature = client.session.sign(&Mechanism::RsaPkcs, private, &data).expect("it signs");
        client.session.verify(&Mechanism::RsaPkcs, public, &data, &signature).expect("it verifies");
        assert_eq!(openssl.signed(&signature), data, "{length} bytes");
        assert_others_rejected(&client, &Mechanism::RsaPkcs, public, &data, &signature);
    }
    refused(client.session.sign(&Mechanism::RsaPkcs, private, &[0; 246]), RvError::DataLenRange);
}

#[test]
fn rsa_pss() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let (public, private) = keys::rsa(&client, 2048);
    let openssl = PublicKey::new(&client.public_key_info(public));
    let hashes = [
        ("sha1", MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, 20_u64),
        ("sha256", MechanismType::SHA256, PkcsMgfType::MGF1_SHA256, 32),
        ("sha384", MechanismType::SHA384, PkcsMgfType::MGF1_SHA384, 48),
        ("sha512", MechanismType::SHA512, PkcsMgfType::MGF1_SHA512, 64),
    ];
    for (name, hash_alg, mgf, length) in hashes {
        let digest = openssl::digest(name, MESSAGE);
        for salt in [length, 0, 11] {
            let parameters = PkcsPssParams { hash_alg, mgf, s_len: salt.into() };
            let (saltlen, md) = (format!("rsa_pss_saltlen:{salt}"), format!("digest:{name}"));
            let options = ["rsa_padding_mode:pss", &saltlen, &md];
            let hashed = match name {
                "sha1" => Mechanism::Sha1RsaPkcsPss(parameters),
                "sha256" => Mechanism::Sha256RsaPkcsPss(parameters),
                "sha384" => Mechanism::Sha384RsaPkcsPss(parameters),
                _ => Mechanism::Sha512RsaPkcsPss(parameters),
            };
            let signature = sign(&client, &hashed, private, public);
            assert!(openssl.verifies(&options, &digest, &signature), "{name}, salt {salt}");
            let raw = Mechanism::RsaPkcsPss(parameters);
            let signature = client.session.sign(&raw, private, &digest).expect("it signs a digest");
            client.session.verify(&raw, public, &digest, &signature).expect("it verifies");
            assert!(openssl.verifies(&options, &digest, &signature), "{name}, salt {salt}, of the digest");
            assert_others_rejected(&client, &raw, public, &digest, &signature);
        }
        let parameters = PkcsPssParams { hash_alg, mgf, s_len: length.into() };
        refused(
            client.session.sign(&Mechanism::RsaPkcsPss(parameters), private, &digest[1..]),
            RvError::DataLenRange,
        );
    }
}

#[test]
fn large_rsa_keys_sign() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for bits in [3072, 4096] {
        let (public, private) = keys::rsa(&client, bits);
        let openssl = PublicKey::new(&client.public_key_info(public));
        let signature = sign(&client, &Mechanism::Sha256RsaPkcs, private, public);
        let digest = openssl::digest("sha256", MESSAGE);
        assert!(openssl.verifies(&["digest:sha256"], &digest, &signature), "{bits}");
    }
}

#[test]
fn ecdsa() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let mechanisms = [
        ("sha1", Mechanism::EcdsaSha1),
        ("sha224", Mechanism::EcdsaSha224),
        ("sha256", Mechanism::EcdsaSha256),
        ("sha384", Mechanism::EcdsaSha384),
        ("sha512", Mechanism::EcdsaSha512),
    ];
    for (curve, params) in keys::CURVES {
        let (public, private) = keys::ec(&client, params);
        let openssl = PublicKey::new(&client.public_key_info(public));
        for (name, mechanism) in &mechanisms {
            let digest = openssl::digest(name, MESSAGE);
            let signature = sign(&client, mechanism, private, public);
            assert!(openssl.verifies(&[], &digest, &openssl::ecdsa_der(&signature)), "{curve}, {name}");
            // The same with a digest by the application, of any length.
            let raw = client.session.sign(&Mechanism::Ecdsa, private, &digest).expect("it signs a digest");
            client.session.verify(&Mechanism::Ecdsa, public, &digest, &raw).expect("it verifies");
            assert!(
                openssl.verifies(&[], &digest, &openssl::ecdsa_der(&raw)),
                "{curve}, {name}, of the digest"
            );
            client
                .session
                .verify(mechanism, public, MESSAGE, &raw)
                .expect("the hashing mechanism verifies it");
        }
        assert_others_rejected(&client, &Mechanism::EcdsaSha256, public, MESSAGE, &{
            client.session.sign(&Mechanism::EcdsaSha256, private, MESSAGE).expect("it signs")
        });
    }
}

#[test]
fn hmac() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let mechanisms = [
        ("sha1", Mechanism::Sha1Hmac),
        ("sha224", Mechanism::Sha224Hmac),
        ("sha256", Mechanism::Sha256Hmac),
        ("sha384", Mechanism::Sha384Hmac),
        ("sha512", Mechanism::Sha512Hmac),
    ];
    for bytes in [16, 32, 64, 200] {
        let (key, value) = keys::open_secret(&client, bytes);
        for (name, mechanism) in &mechanisms {
            let mac = sign(&client, mechanism, key, key);
            assert_eq!(mac, openssl::hmac(name, &value, MESSAGE), "{name}, a key of {bytes} bytes");
        }
    }
}

#[test]
fn macs_can_be_truncated() {
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let (_, value) = keys::open_secret(&client, 32);
    // The cryptoki crate lacks the mechanism, so it is called through the C API of a second copy of the module.
    let copy = stack.folder().join("raw.so");
    std::fs::copy(stack.module(), &copy).expect("the module can be copied");
    let module = Module::load(&copy);
    module.initialize(&stack.config()).expect("it initialises");
    let session = module.user(stack.ring());
    let key = session.find(Template::new().ulong(CKA_KEY_TYPE, CKK_GENERIC_SECRET)).expect("a search")[0];
    let full = openssl::hmac("sha256", &value, MESSAGE);
    for bytes in [1_usize, 10, 16, 32] {
        let general = || Raw::general(CKM_SHA256_HMAC_GENERAL, bytes as u64);
        let mac = session.sign(general(), key, MESSAGE).expect("it signs");
        assert_eq!(mac, full[..bytes]);
        session.verify_init(general(), key).expect("C_VerifyInit succeeds");
        session.verify(MESSAGE, &mac).expect("it verifies");
        session.verify_init(general(), key).expect("C_VerifyInit succeeds");
        assert!(session.verify(b"another message", &mac).is_err());
    }
    for bytes in [0, 33, u64::MAX] {
        let result = session.sign_init(Raw::general(CKM_SHA256_HMAC_GENERAL, bytes), key);
        assert_eq!(result, Err(Rv::MECHANISM_PARAM_INVALID), "{bytes} bytes");
    }
}

#[test]
fn keys_work_only_with_mechanisms_of_their_type() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let aes = keys::aes(&client, "aes");
    let (rsa_public, rsa_private) = keys::rsa(&client, 2048);
    let (_, ec_private) = keys::ec(&client, keys::CURVES[0].1);
    let session = &client.session;
    refused(session.sign_init(&Mechanism::EcdsaSha256, rsa_private), RvError::KeyTypeInconsistent);
    refused(session.sign_init(&Mechanism::Sha256RsaPkcs, ec_private), RvError::KeyTypeInconsistent);
    refused(session.encrypt_init(&Mechanism::AesEcb, rsa_public), RvError::KeyTypeInconsistent);
    let (code, _) = kms_tests::client::code(session.sign_init(&Mechanism::Sha256RsaPkcs, aes));
    assert!(matches!(code, RvError::KeyTypeInconsistent | RvError::KeyFunctionNotPermitted), "{code:?}");
    let (code, _) = kms_tests::client::code(session.sign_init(&Mechanism::Sha256RsaPkcs, rsa_public));
    assert!(matches!(code, RvError::KeyTypeInconsistent | RvError::KeyFunctionNotPermitted), "{code:?}");
    refused(session.sign_init(&Mechanism::Sha256, rsa_private), RvError::MechanismInvalid);
    refused(session.sign_init(&Mechanism::AesKeyGen, aes), RvError::MechanismInvalid);
}
