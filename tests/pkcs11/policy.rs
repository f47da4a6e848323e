//! What a strict ring rejects and a compat ring allows.

use cryptoki::error::RvError;
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType};
use kms_tests::client::{Client, code};
use kms_tests::{Policy, Stack};

use crate::keys;

fn session(policy: Policy) -> (Stack, Client) {
    let stack = Stack::new(policy);
    let client = Client::user(&stack);
    (stack, client)
}

fn flags(client: &Client, template: &[Attribute], kinds: &[AttributeType]) -> Vec<Attribute> {
    let key = client.session.generate_key(&Mechanism::AesKeyGen, template).expect("the key is generated");
    client.session.get_attributes(key, kinds).expect("attributes can be read")
}

#[test]
fn strict_keys_are_sensitive_and_unextractable_by_default() {
    let (_stack, client) = session(Policy::Strict);
    let kinds = [AttributeType::Sensitive, AttributeType::Extractable, AttributeType::Private];
    let unextractable = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Private(true)];
    assert_eq!(
        flags(&client, &[Attribute::Token(true), Attribute::ValueLen(32.into())], &kinds),
        unextractable
    );
    let template = [Attribute::Token(true), Attribute::ValueLen(32.into()), Attribute::Extractable(true)];
    let extractable = [Attribute::Sensitive(true), Attribute::Extractable(true), Attribute::Private(true)];
    assert_eq!(flags(&client, &template, &kinds), extractable);
}

#[test]
fn strict_token_keys_are_always_sensitive() {
    let (_stack, client) = session(Policy::Strict);
    let template = [
        Attribute::Token(true),
        Attribute::ValueLen(32.into()),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    // The key is created as sensitive instead of being rejected, so that applications with this template work
    // (decision 0009).
    let key = client.session.generate_key(&Mechanism::AesKeyGen, &template).expect("the key is generated");
    let found =
        client.session.get_attributes(key, &[AttributeType::Sensitive]).expect("attributes can be read");
    assert_eq!(found, [Attribute::Sensitive(true)]);
    keys::is_sensitive(&client, key, &[AttributeType::Value]);
}

#[test]
fn a_strict_key_does_not_gain_both_wrap_and_decrypt() {
    // A key that is generated for both has a wrapping subkey: see `attacks::wrap_then_decrypt`.
    let (_stack, client) = session(Policy::Strict);
    let key = keys::aes(&client, "decrypts");
    let changed = client.session.update_attributes(key, &[Attribute::Wrap(true)]);
    assert!(changed.is_err(), "a key that decrypts gains CKA_WRAP");
    let plain = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let kinds = [AttributeType::Wrap, AttributeType::Decrypt, AttributeType::Unwrap, AttributeType::Encrypt];
    let defaults = flags(&client, &plain, &kinds);
    assert!(
        !(defaults[0] == Attribute::Wrap(true) && defaults[1] == Attribute::Decrypt(true)),
        "{defaults:?}"
    );
    assert!(
        !(defaults[2] == Attribute::Unwrap(true) && defaults[3] == Attribute::Encrypt(true)),
        "{defaults:?}"
    );
}

#[test]
fn strict_rings_neither_list_nor_allow_pkcs1_decryption() {
    let (_stack, client) = session(Policy::Strict);
    let (public, private) = keys::rsa(&client, 2048);
    let info =
        client.pkcs11.get_mechanism_info(client.slot, MechanismType::RSA_PKCS).expect("info is returned");
    assert!(info.sign() && info.verify() && !info.encrypt() && !info.decrypt());
    for rejection in [
        code(client.session.decrypt(&Mechanism::RsaPkcs, private, &[1; 256])).0,
        code(client.session.encrypt(&Mechanism::RsaPkcs, public, b"secret")).0,
    ] {
        assert!(
            matches!(rejection, RvError::MechanismInvalid | RvError::KeyFunctionNotPermitted),
            "{rejection:?}"
        );
    }
}

#[test]
fn compat_keys_are_readable_on_request() {
    let (_stack, client) = session(Policy::Compat);
    let (key, value) = keys::open_aes(&client, 32);
    assert_eq!(value.len(), 32);
    let kinds = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
    let history = [Attribute::AlwaysSensitive(false), Attribute::NeverExtractable(false)];
    assert_eq!(client.session.get_attributes(key, &kinds).expect("attributes can be read"), history);
}

#[test]
fn compat_keys_encrypt_and_decrypt_by_default() {
    let (_stack, client) = session(Policy::Compat);
    let plain = [Attribute::Token(true), Attribute::ValueLen(32.into())];
    let kinds = [AttributeType::Encrypt, AttributeType::Decrypt];
    assert_eq!(flags(&client, &plain, &kinds), [Attribute::Encrypt(true), Attribute::Decrypt(true)]);
}

#[test]
fn users_cannot_set_trusted() {
    for policy in [Policy::Strict, Policy::Compat] {
        let (_stack, client) = session(policy);
        let key = keys::aes(&client, "trusted?");
        let changed = client.session.update_attributes(key, &[Attribute::Trusted(true)]);
        assert!(changed.is_err(), "a user may not set CKA_TRUSTED ({policy:?})");
        let template = [Attribute::Token(true), Attribute::ValueLen(32.into()), Attribute::Trusted(true)];
        let generated = client.session.generate_key(&Mechanism::AesKeyGen, &template);
        assert!(generated.is_err(), "a user may not generate a trusted key ({policy:?})");
    }
}
