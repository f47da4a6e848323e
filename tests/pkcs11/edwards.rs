//! The curves of RFC 8032 and RFC 7748, with both names that `CKA_EC_PARAMS` allows: signatures that openssl makes and
//! verifies, and keys that are exchanged with openssl.

use cryptoki::error::RvError;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme as Scheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use kms_tests::Stack;
use kms_tests::artefacts::pre_release_curves;
use kms_tests::client::{Client, refused};
use kms_tests::openssl::{PrivateKey, PublicKey};

use crate::keys::is_sensitive;

const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const ED448: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x71];
const X448: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x6f];

fn eddsa(scheme: Scheme<'_>) -> Mechanism<'_> {
    Mechanism::Eddsa(EddsaParams::new(scheme))
}

/// The pure scheme of a curve: Ed25519, or Ed448 with an empty context.
fn pure(params: &[u8]) -> Mechanism<'static> {
    eddsa(if params == ED448 { Scheme::Ed448(b"") } else { Scheme::Pure })
}

/// Whether the artefacts have no keys on a curve: curve 448 needs the feature `pre-release-curves`.
fn left_out(params: &[u8]) -> bool {
    params != ED25519 && !pre_release_curves()
}

/// Generates a token key pair: public key, private key.
fn pair(client: &Client, params: &[u8], label: &str) -> (ObjectHandle, ObjectHandle) {
    let label = Attribute::Label(label.into());
    let public = [
        Attribute::Token(true),
        Attribute::EcParams(params.to_vec()),
        Attribute::Verify(true),
        label.clone(),
    ];
    let private = [Attribute::Token(true), Attribute::Sign(true), label];
    let pair = client.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
    pair.expect("the pair is generated")
}

#[test]
fn openssl_verifies_signatures() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    for (name, params, bytes) in [
        (&b"\x13\x0cedwards25519"[..], ED25519, 64),
        (ED25519, ED25519, 64),
        (b"\x13\x0aedwards448", ED448, 114),
        (ED448, ED448, 114),
    ] {
        if left_out(params) {
            continue;
        }
        let (public, private) = pair(&client, name, "signs");
        for key in [public, private] {
            assert_eq!(client.bytes(key, AttributeType::EcParams), params);
        }
        let signature = client.session.sign(&pure(params), private, b"message").expect("it signs");
        assert_eq!(signature.len(), bytes);
        client.session.verify(&pure(params), public, b"message", &signature).expect("it verifies");
        refused(
            client.session.verify(&pure(params), public, b"another", &signature),
            RvError::SignatureInvalid,
        );
        let short = &signature[..bytes - 1];
        refused(client.session.verify(&pure(params), public, b"message", short), RvError::SignatureLenRange);
        let openssl = PublicKey::new(&client.public_key_info(public));
        assert!(openssl.verifies_message(b"message", &signature));
        assert!(!openssl.verifies_message(b"another", &signature));
    }
}

#[test]
fn each_scheme_verifies_only_its_own_signatures() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let of_25519: &[Scheme<'_>] =
        &[Scheme::Ed25519ph(b""), Scheme::Ed25519ph(b"x"), Scheme::Ed25519ctx(b"x")];
    let of_448: &[Scheme<'_>] = &[Scheme::Ed448ph(b""), Scheme::Ed448ph(b"x"), Scheme::Ed448(b"x")];
    for (params, schemes) in [(ED25519, of_25519), (ED448, of_448)] {
        if left_out(params) {
            continue;
        }
        let (public, private) = pair(&client, params, "schemes");
        let own = if params == ED448 { Scheme::Ed448(b"") } else { Scheme::Pure };
        let schemes = [schemes, &[own]].concat();
        for (signed, signer) in schemes.iter().enumerate() {
            let signature = client.session.sign(&eddsa(*signer), private, b"message").expect("it signs");
            for (at, scheme) in schemes.iter().enumerate() {
                let verified = client.session.verify(&eddsa(*scheme), public, b"message", &signature);
                if at == signed {
                    verified.expect("it verifies");
                } else {
                    refused(verified, RvError::SignatureInvalid);
                }
            }
        }
    }
    // Each scheme needs the parameter that the specification defines: Ed448 without one, and Ed25519ctx without a
    // context, are rejected.
    if !left_out(ED448) {
        let (_, private) = pair(&client, ED448, "empty");
        let signed = client.session.sign(&eddsa(Scheme::Pure), private, b"message");
        refused(signed, RvError::MechanismParamInvalid);
    }
    let (_, private) = pair(&client, ED25519, "empty");
    refused(
        client.session.sign(&eddsa(Scheme::Ed25519ctx(b"")), private, b"message"),
        RvError::MechanismParamInvalid,
    );
}

#[test]
fn key_sizes_are_those_of_the_fields() {
    let stack = Stack::strict();
    let client = Client::user(&stack);
    let slot = client.slot;
    for kind in [MechanismType::ECC_EDWARDS_KEY_PAIR_GEN, MechanismType::EDDSA] {
        let info = client.pkcs11.get_mechanism_info(slot, kind).expect("it is offered");
        let largest = if left_out(ED448) { 255 } else { 448 };
        assert_eq!((info.min_key_size(), info.max_key_size()), (255, largest));
    }
}

/// Without the feature `pre-release-curves`, curve 448 is an unknown curve: for generated, created and public keys.
#[test]
fn curve_448_is_unknown_without_its_feature() {
    if pre_release_curves() {
        return; // The other tests of this file use the curve.
    }
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let session = &client.session;
    for (params, printed, generate, kind, bytes) in [
        (ED448, &b"\x13\x0aedwards448"[..], Mechanism::EccEdwardsKeyPairGen, KeyType::EC_EDWARDS, 57),
        (X448, b"\x13\x08curve448", Mechanism::EccMontgomeryKeyPairGen, KeyType::EC_MONTGOMERY, 56),
    ] {
        for name in [params, printed] {
            let curve = Attribute::EcParams(name.to_vec());
            let generated = session.generate_key_pair(&generate, std::slice::from_ref(&curve), &[]);
            refused(generated, RvError::CurveNotSupported);
            let template = |class| vec![Attribute::Class(class), Attribute::KeyType(kind), curve.clone()];
            let mut private = template(ObjectClass::PRIVATE_KEY);
            private.push(Attribute::Value(vec![9; bytes]));
            refused(session.create_object(&private), RvError::CurveNotSupported);
            let mut public = template(ObjectClass::PUBLIC_KEY);
            public.push(Attribute::EcPoint(vec![9; bytes]));
            refused(session.create_object(&public), RvError::CurveNotSupported);
        }
    }
}

/// Creates a public key from the last bytes of its `SubjectPublicKeyInfo`.
fn public_of(
    client: &Client,
    openssl: &PrivateKey,
    name: &[u8],
    kind: KeyType,
    bytes: usize,
) -> ObjectHandle {
    let info = openssl.public_key_info();
    let template = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(kind),
        Attribute::EcParams(name.to_vec()),
        Attribute::EcPoint(info[info.len() - bytes..].to_vec()),
        Attribute::Verify(kind == KeyType::EC_EDWARDS),
    ];
    let key = client.session.create_object(&template).expect("a public key is created");
    assert_eq!(client.public_key_info(key), info);
    key
}

#[test]
fn openssl_keys_are_imported_and_exported_unchanged() {
    if left_out(ED448) {
        return; // `curve_448_is_unknown_without_its_feature`
    }
    let stack = Stack::compat();
    let client = Client::user(&stack);
    let session = &client.session;
    let template = [Attribute::ValueLen(32.into()), Attribute::Wrap(true), Attribute::Unwrap(true)];
    let template = [&template[..], &[Attribute::Encrypt(true), Attribute::Decrypt(true)]].concat();
    let aes = session.generate_key(&Mechanism::AesKeyGen, &template).expect("the AES key is generated");
    let cbc = Mechanism::AesCbcPad([5; 16]);
    for (name, params, printed, kind, bytes) in [
        ("ED448", ED448, &b"\x13\x0aedwards448"[..], KeyType::EC_EDWARDS, 57),
        ("X448", X448, b"\x13\x08curve448", KeyType::EC_MONTGOMERY, 56),
    ] {
        let openssl_key = PrivateKey::generate(&["-algorithm", name]);
        let info = openssl_key.private_key_info();
        let wrapped = session.encrypt(&cbc, aes, &info).expect("it encrypts");
        let signs = kind == KeyType::EC_EDWARDS;
        let mut template = vec![
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(kind),
            if signs { Attribute::Sign(true) } else { Attribute::Derive(true) },
        ];
        let sealed = [Attribute::Token(true), Attribute::Sensitive(true), Attribute::Extractable(true)];
        let unwrapped = [template.clone(), sealed.to_vec()].concat();
        let unwrapped = session.unwrap_key(&cbc, aes, &wrapped, &unwrapped).expect("it is unwrapped");
        is_sensitive(&client, unwrapped, &[AttributeType::Value]);
        assert_eq!(client.bytes(unwrapped, AttributeType::EcParams), params);
        assert_eq!(client.public_key_info(unwrapped), openssl_key.public_key_info());
        assert_eq!(session.wrap_key(&cbc, aes, unwrapped).expect("it is wrapped"), wrapped);
        // The same key, created by value as an open key, and a sensitive copy of it.
        let value = info[info.len() - bytes..].to_vec();
        template.extend([Attribute::EcParams(printed.to_vec()), Attribute::Value(value.clone())]);
        template.extend([Attribute::Sensitive(false), Attribute::Extractable(true)]);
        let created = session.create_object(&template).expect("a private key is created");
        assert_eq!(client.bytes(created, AttributeType::Value), value);
        let public = public_of(&client, &openssl_key, printed, kind, bytes);
        for key in [created, public] {
            assert_eq!(client.bytes(key, AttributeType::EcParams), params);
        }
        let copy = session.copy_object(created, &[Attribute::Sensitive(true)]).expect("it is copied");
        is_sensitive(&client, copy, &[AttributeType::Value]);
        if signs {
            let expected = openssl_key.sign(&["-rawin"], b"message");
            for private in [unwrapped, created, copy] {
                assert_eq!(session.sign(&pure(params), private, b"message").expect("it signs"), expected);
            }
            session.verify(&pure(params), public, b"message", &expected).expect("it verifies");
        }
    }
}

#[test]
fn rotation_keeps_the_curve() {
    let mut stack = Stack::strict();
    let client = Client::user(&stack);
    let (params, name) = if left_out(ED448) { (ED25519, "ed25519") } else { (ED448, "ed448") };
    let (_, private) = pair(&client, params, "curve");
    let signature = client.session.sign(&pure(params), private, b"message").expect("it signs");
    stack.stop();
    stack.kms(&["key", "rotate", "--ring", "test", "curve"]).ok();
    let listed = stack.kms(&["key", "list"]).ok();
    assert!(listed.contains(name), "{listed}");
    stack.start();
    for (label, valid) in [("curve#1", true), ("curve", false)] {
        let public = [Attribute::Label(label.into()), Attribute::Verify(true)];
        let [public] = client.session.find_objects(&public).expect("a search")[..] else { panic!("{label}") };
        assert_eq!(client.bytes(public, AttributeType::EcParams), params);
        assert_eq!(
            client.session.verify(&pure(params), public, b"message", &signature).is_ok(),
            valid,
            "{label}"
        );
    }
}
